"""Define the errors that a caller sees, as one tree: wire code, exit code, message.

A message holds only what the caller may know; detail belongs in the audit record of the same request id.
"""

import subprocess
from typing import ClassVar


class Error(Exception):
    """Base of every error that this package raises on purpose.

    `code` is stable and travels on the wire; `exit_code` is what a command-line tool ends with;
    `request_id` names the audit record of the request, or is None where no daemon saw one; `cmd`: the argv of
    the request, as the caller gave it to a client, else None.
    """

    code: ClassVar[str] = "internal"
    exit_code: ClassVar[int] = 70  # EX_SOFTWARE of sysexits.h

    def __init__(self, message: str, *, request_id: str | None = None) -> None:
        # Not super(): beside this class some have one of subprocess as their base, which takes more.
        Exception.__init__(self, message)
        self.message = message
        self.request_id = request_id
        self.cmd: object = None
        #: What stands before the message: the program of the request, where a client has named it.
        self.subject = ""

    def __str__(self) -> str:
        subject = f"{self.subject}: " if self.subject else ""
        request = f" (request {self.request_id})" if self.request_id else ""
        return f"{subject}{self.message}{request}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"


class Denied(Error):
    """No filter allows these words, or they name a thing that the filter does not give."""

    code = "denied"
    exit_code = 99  # as oslo.rootwrap: RC_UNAUTHORIZED


class EnvironmentDenied(Denied):
    """A filter allows the words, but not a variable that was asked for with them."""

    code = "environment_denied"


class ProcessGone(Denied):
    """A filter allows this signal, and the process that it is for has ended: nothing was sent.

    Told from Denied, which also is what a process of that number gets that the filter is not about.
    """

    code = "process_gone"


class ExecutableNotFound(Error):
    """Every word matched a filter, and none of the programs it may run can be run here."""

    code = "executable_not_found"
    exit_code = 96  # as oslo.rootwrap: RC_NOEXECFOUND


class BadRequest(Error):
    """The request is not one that could be asked of any daemon: an empty argv, a NUL, a wrong type."""

    code = "bad_request"
    exit_code = 64  # EX_USAGE


class TooLarge(BadRequest):
    """The request is past a limit of the protocol, of this daemon, or of execve(2)."""

    code = "too_large"


class CommandTimeout(Error, subprocess.TimeoutExpired, TimeoutError):
    """The deadline passed and the command's process group was ended.

    Also a `TimeoutError`, and a `subprocess.TimeoutExpired`: `cmd`, `timeout` (seconds), `output` and
    `stderr` (always None).
    """

    code = "timeout"
    exit_code = 124  # as timeout(1)

    def __init__(self, message: str, *, request_id: str | None = None) -> None:
        Error.__init__(self, message, request_id=request_id)
        self.timeout, self.output, self.stderr = 0.0, None, None


class OutputLimit(Error):
    """The command wrote more than may be captured and was ended; nothing is returned in part."""

    code = "output_limit"
    exit_code = 75  # EX_TEMPFAIL


class Busy(Error):
    """A bound on what this user, or everybody, may have at once is reached. Nothing ran."""

    code = "busy"
    exit_code = 75


class Stopping(Error):
    """The daemon is about to end and takes no new command. Nothing ran."""

    code = "stopping"
    exit_code = 75


class DaemonUnavailable(Error):
    """No daemon could be reached, or it speaks another version. Nothing ran."""

    code = "unavailable"
    exit_code = 69  # EX_UNAVAILABLE


class OutcomeUnknown(Error):
    """The request was written and its answer never came: the command may have run, once, or not at all."""

    code = "outcome_unknown"
    exit_code = 75


class Unauthorized(Error):
    """This user may not talk to this daemon at all."""

    code = "unauthorized"
    exit_code = 77  # EX_NOPERM


class InternalError(Error):
    """The daemon failed at this request, and only at this one."""

    code = "internal"


class CommandFailed(Error, subprocess.CalledProcessError):
    """`check=True` and the command's return code was not 0. Made by the client; never on the wire.

    Also a `subprocess.CalledProcessError`: `returncode`, `cmd`, `stdout` (= `output`), `stderr`.
    """

    code = "command_failed"
    exit_code = 1

    def __init__(
        self,
        message: str,
        *,
        request_id: str | None = None,
        returncode: int = 1,
        cmd: object = (),
        output: bytes | str | None = None,
        stderr: bytes | str | None = None,
    ) -> None:
        Error.__init__(self, message, request_id=request_id)
        self.returncode, self.cmd, self.output, self.stderr = returncode, cmd, output, stderr


class ProtocolError(Error):
    """The two sides do not agree on what may be said."""

    exit_code = 76  # EX_PROTOCOL


class LocalProtocolError(ProtocolError):
    """Our own side tried to say what may not be said now: a client was used after its `close`, or a bug."""


class RemoteProtocolError(ProtocolError):
    """The other side sent what no correct peer sends. The only error that received bytes can cause."""


class ConfigurationError(Error):
    """Configuration or filters cannot be used; the message says what, where and what to do."""

    exit_code = 78  # EX_CONFIG


class Usage(Error):
    """The command line makes no sense; the message says what to write."""

    exit_code = 64  # EX_USAGE


class Unreadable(Error):
    """A file that was named cannot be read, or nothing in it could be judged: there is no verdict."""

    exit_code = 2


class SelfCheckError(ConfigurationError):
    """The daemon's own code, interpreter or surroundings are not safe to run with privilege."""


#: Wire code -> the class that a client raises for it: each with a code, but for those that never travel.
BY_CODE: dict[str, type[Error]] = {
    cls.code: cls
    for cls in tuple(globals().values())
    if isinstance(cls, type) and issubclass(cls, Error) and "code" in cls.__dict__
    if cls not in (Error, CommandFailed)
}
