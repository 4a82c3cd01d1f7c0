"""Offer `execute`, `create_process`, `kill_process` and the like as OpenStack agents already call them.

Promises: argv lists alone, no shell; variables from a list; nothing stops a hub, patched or not; messages
hold no input and no environment.
"""

import logging
import os
import signal as signals
import subprocess
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar

from rootwrap_daemon.errors import Denied, Error
from rootwrap_daemon.filters.variables import is_dangerous_variable, is_printable_ascii
from rootwrap_daemon.openstack import hub, socket_path

if TYPE_CHECKING:
    _Base = RuntimeError
else:
    try:
        from neutron_lib.exceptions import ProcessExecutionError as _Base
    except ImportError:
        _Base = RuntimeError

P = ParamSpec("P")
T = TypeVar("T")

LOG = logging.getLogger(__name__)

#: What neutron's own code passes: the mark by which it finds a process again, and the one of its DHCP agent.
ALLOWED_ENV: Final = frozenset({"LC_ALL", "NEUTRON_NETWORK_ID", "PROCESS_TAG"})


class ProcessExecutionError(_Base):
    """A command did not end well, or did not run. Where neutron-lib is there, also its error of that name.

    `returncode`: the command's; where it did not run, 99 (denied), 96 (no such program) or another of
    `rootwrap_daemon.errors`, whose error is the `__cause__`.
    """

    def __init__(self, message: str, returncode: int) -> None:
        RuntimeError.__init__(self, message)
        self.returncode = returncode


class ProcessGone(ProcessExecutionError):
    """The process had ended before the signal came."""


class SignalNotPermitted(ProcessExecutionError):
    """The process is there, and this user, or the daemon's filters, may not send it this signal."""


class SignalFailed(ProcessExecutionError):
    """The signal was not sent, and neither the process's end nor a lack of permission is why."""


@dataclass(slots=True)
class _Configuration:
    clients: hub.Clients = field(default_factory=lambda: hub.Clients(socket_path()))
    allowed_env: frozenset[str] = ALLOWED_ENV


_configuration = _Configuration()


def configure(socket: str | None = None, allowed_env: Collection[str] | None = None) -> None:
    """Set what differs from the defaults, for the whole process.

    `socket`: the daemon's, instead of what ROOTWRAP_DAEMON_SOCKET names.
    `allowed_env`: names that `addl_env` may hold, instead of ALLOWED_ENV. Raises ValueError for a name that
    makes programs load other code.
    """
    if allowed_env is not None:
        for name in allowed_env:
            _refuse_dangerous(name)
        _configuration.allowed_env = frozenset(allowed_env)
    if socket is not None:
        _configuration.clients = hub.Clients(socket)


def execute(
    cmd: list[str],
    process_input: str | bytes | None = None,
    addl_env: Mapping[str, str] | None = None,
    check_exit_code: bool = True,
    return_stderr: bool = False,
    log_fail_as_error: bool = True,
    extra_ok_codes: Collection[int] | None = None,
    run_as_root: bool = False,
    privsep_exec: bool = False,
    do_decode: bool = True,
) -> Any:
    """Run a command to its end: its output, or (output, error output) with `return_stderr`.

    `run_as_root`: through the daemon. `privsep_exec` is accepted: there is one way to run with privilege.
    `do_decode`: output as str (UTF-8, surrogateescape) instead of bytes.
    Raises ProcessExecutionError if the command returned another code than 0 and `extra_ok_codes`, unless
    `check_exit_code` is False; and if it could not be run through the daemon, in any case.
    Raises TypeError or ValueError for a `cmd` or `addl_env` that is not of the kind that may be run.
    """
    data = (
        process_input.encode("utf-8", "surrogateescape") if isinstance(process_input, str) else process_input
    )
    if run_as_root:
        code, out, err = _run_privileged(_privileged_argv(cmd, addl_env), data)
    else:
        code, out, err = _run_locally(_argv(cmd), _environment(addl_env), data)
    if code and code not in (extra_ok_codes or ()):
        # Not the input, which may be a key: who has the command's arguments and output, has what was wrong.
        shown = [text.decode("utf-8", "backslashreplace") for text in (out, err)]
        message = f"Exit code: {code}; Cmd: {cmd}; Stdout: {shown[0]}; Stderr: {shown[1]}"
        if log_fail_as_error:
            LOG.error("%s", message)
        if check_exit_code:
            raise ProcessExecutionError(message, code)
    if not do_decode:
        return (out, err) if return_stderr else out
    text = [part.decode("utf-8", "surrogateescape") for part in (out, err)]
    return (text[0], text[1]) if return_stderr else text[0]


def create_process(
    cmd: list[str],
    run_as_root: bool = False,
    addl_env: Mapping[str, str] | None = None,
    tpool_proxy: bool = True,
) -> tuple[Any, list[str]]:
    """Start a command: (process shaped like subprocess.Popen with three pipes, argv).

    `run_as_root`: through the daemon. `tpool_proxy` is accepted: no process of these stops a hub.
    Raises as `execute` does.
    """
    if run_as_root:
        argv = _privileged_argv(cmd, addl_env)
        try:
            pipe, client = subprocess.PIPE, _configuration.clients.get()
            return client.popen(argv, stdin=pipe, stdout=pipe, stderr=pipe), argv
        except Error as error:
            raise _not_run(argv, error) from error
    argv = _argv(cmd)
    return hub.start(argv, _environment(addl_env)), argv


def kill_process(pid: int | str, signal: int, run_as_root: bool = False, *, missing_ok: bool = True) -> None:
    """Send a signal to a process. One that is gone already is what was wanted, unless `missing_ok` is False.

    Raises ProcessGone (only then), SignalNotPermitted or SignalFailed; ValueError if `pid` is no number of a
    process: 0 and less are groups of them (kill(2)).
    Which of these is true is decided on a pidfd, so that no other process that got the number confuses it.
    """
    number, pid = int(signal), _pid(pid)
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError as error:
        if missing_ok:
            return
        raise ProcessGone(f"process {pid} is gone", 1) from error
    except OSError as error:
        raise SignalFailed(f"process {pid}: {error.strerror}", 1) from error
    try:
        if not _is_alive(pid, pidfd):
            # A zombie: kill(2) takes it for a process.
            raise ProcessGone(f"process {pid} is gone", 1)
        if run_as_root:
            _signal_privileged(pid, pidfd, number)
        else:
            _signal(pid, pidfd, number)
    except ProcessGone:
        if not missing_ok:
            raise
    finally:
        os.close(pidfd)


def process_is_running(pid: int | str | None) -> bool:
    """True for a process that has not ended. A zombie has."""
    if not pid:
        return False
    pid = _pid(pid)
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        # Also the number of a thread, which is no process.
        return False
    try:
        return _is_alive(pid, pidfd)
    finally:
        os.close(pidfd)


def avoid_blocking_call(f: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Return or raise what `f` does; in a native thread of its own where a hub would be stopped meanwhile.

    So too for a call from the main greenlet: other greenthreads are waiting for that one as well.
    """
    return hub.aside(lambda: f(*args, **kwargs))


def _argv(cmd: object) -> list[str]:
    if not isinstance(cmd, list | tuple):
        raise TypeError(f"cmd must be a list of strings, not {type(cmd).__name__}: no shell takes it apart")
    for index, word in enumerate(cmd):
        if not isinstance(word, str):
            raise TypeError(f"cmd[{index}] must be a str, not {type(word).__name__}")
        if "\0" in word:
            raise ValueError(f"cmd[{index}] holds a NUL")
    if not cmd or not cmd[0]:
        raise ValueError("cmd is empty")
    return list(cmd)


def _privileged_argv(cmd: object, addl_env: Mapping[str, str] | None) -> list[str]:
    """Variables go as words of env, as the EnvFilter lines of existing filter files have them."""
    variables = [f"{name}={value}" for name, value in _checked(addl_env).items()]
    return [*(["env", *variables] if variables else []), *_argv(cmd)]


def _environment(addl_env: Mapping[str, str] | None) -> dict[str, str]:
    return {**os.environ, **_checked(addl_env)}


def _checked(addl_env: Mapping[str, str] | None) -> dict[str, str]:
    for name, value in (addl_env or {}).items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise TypeError("addl_env must map strings to strings")
        _refuse_dangerous(name)
        if name not in _configuration.allowed_env:
            names = "the names given to configure(allowed_env=...)"
            raise ValueError(f"addl_env: {name!r} is not one of {names}")
        if "\0" in value:
            raise ValueError(f"addl_env: the value of {name} holds a NUL")
    return dict(addl_env or {})


def _refuse_dangerous(name: str) -> None:
    if not name or "=" in name or not is_printable_ascii(name):
        raise ValueError(f"{name!r} is no name of a variable")
    if is_dangerous_variable(name):
        raise ValueError(f"{name} makes programs load other code or read other files, and is never passed on")


def _run_locally(argv: list[str], env: dict[str, str], data: bytes | None) -> tuple[int, bytes, bytes]:
    process = hub.start(argv, env)
    try:
        out, err = process.communicate(data)
    except BaseException:
        # Abandoned, by an eventlet.Timeout for instance: as subprocess.run does.
        process.kill()
        raise
    return process.returncode, out, err


def _run_privileged(argv: list[str], data: bytes | None) -> tuple[int, bytes, bytes]:
    try:
        done = _configuration.clients.get().run(argv, input=data)
    except Error as error:
        raise _not_run(argv, error) from error
    return done.returncode, done.stdout, done.stderr


def _not_run(argv: list[str], error: Error) -> ProcessExecutionError:
    message = f"Exit code: {error.exit_code}; Cmd: {argv}; {error.code}: {error}"
    return ProcessExecutionError(message, error.exit_code)


def _pid(pid: object) -> int:
    if isinstance(pid, str) and pid.isascii() and pid.isdecimal():
        pid = int(pid)
    if type(pid) is not int or pid <= 0:
        raise ValueError(f"{pid!r} is no process's number")
    return pid


def _signal(pid: int, pidfd: int, number: int) -> None:
    try:
        signals.pidfd_send_signal(pidfd, number)
    except ProcessLookupError as error:
        raise ProcessGone(f"process {pid} is gone", 1) from error
    except PermissionError as error:
        raise SignalNotPermitted(f"not permitted to send signal {number} to process {pid}", 1) from error
    except OSError as error:
        raise SignalFailed(f"signal {number} to process {pid}: {error.strerror}", 1) from error


def _signal_privileged(pid: int, pidfd: int, number: int) -> None:
    try:
        done = _configuration.clients.get().run(["kill", f"-{number}", str(pid)])
    except Error as error:
        if not _is_alive(pid, pidfd):
            raise ProcessGone(f"process {pid} is gone", 1) from error
        if isinstance(error, Denied):
            what = f"no filter allows signal {number} to process {pid}"
            raise SignalNotPermitted(what, error.exit_code) from error
        raise SignalFailed(f"signal {number} to process {pid}: {error.code}", error.exit_code) from error
    if done.returncode:
        if not _is_alive(pid, pidfd):
            raise ProcessGone(f"process {pid} is gone", done.returncode)
        what = f"signal {number} to process {pid}: kill returned {done.returncode}"
        raise SignalFailed(what, done.returncode)


def _is_alive(pid: int, pidfd: int) -> bool:
    """True if the process of this pidfd has not ended: without poll(2), which is not there once patched."""
    state = b""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # A process chooses its name, which stands in parentheses.
            state = file.read().rpartition(b")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        # Or hidden: proc(5), hidepid.
        pass
    # Afterwards: if the number is still this process's now, it was when its state was read.
    with open(f"/proc/self/fdinfo/{pidfd}", "rb") as file:
        return f"Pid:\t{pid}\n".encode() in file.read() and state not in (b"Z", b"X")
