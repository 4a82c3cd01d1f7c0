"""Turn what callers give into requests, and answers into what callers get, alike for all front ends.

Promises: no lock, clock or I/O.
"""

import errno
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any, AnyStr, Final, Generic, Literal, TypedDict

from rootwrap_daemon import errors
from rootwrap_daemon.protocol.messages import (
    MAX_TIMEOUT,
    STDERR,
    STDIN,
    STDOUT,
    Check,
    Failure,
    Fields,
    Report,
    Result,
    Run,
    Start,
    Started,
    Status,
    Verdict,
)

#: Characters of a program's name, and of a command's error output, in a message.
_MAX_NAME: Final = 80
_MAX_LINE: Final = 200
_TEXT: Final = {str}
_BYTES: Final = {bytes}

Word = str | bytes | os.PathLike[str] | os.PathLike[bytes]
Environ = Mapping[str, Word] | Mapping[bytes, Word]
Capture = Literal["daemon", "pipe"]
Request = Run | Start | Check | Status
Answer = Result | Started | Verdict | Report | Failure


class RunOptions(TypedDict, total=False):
    """The arguments of `run` beside `argv` and `text`; `threads.Client.run` describes them."""

    input: bytes | str | None
    env: Environ | None
    timeout: float | None
    check: bool
    user: str | None
    capture: Capture


_OPTIONS: Final = frozenset(RunOptions.__annotations__)


class CompletedCommand(Fields, Generic[AnyStr]):
    """The result of a command, shaped like `subprocess.CompletedProcess`.

    `args`: the argv as it was given to `run`. `returncode`: minus the signal's number if a signal ended it.
    `cause`: "stopping" if the daemon ended the command because it stops itself, "out_of_memory" if the limit
    of its filter did; else empty.
    """

    __slots__ = ()
    args: Sequence[Word]
    returncode: int
    stdout: AnyStr
    stderr: AnyStr
    cause: str = ""


class Decision(Fields):
    """The verdict on a command, and the name of the filter that allows it (empty if none does).

    As a condition it is `allowed`.
    """

    __slots__ = ()
    allowed: bool
    filter: str

    def __bool__(self) -> bool:
        return self.allowed


def check_options(options: RunOptions) -> None:
    """Raise TypeError for an argument that `run` does not have, BadRequest for a `capture` of no kind."""
    if not _OPTIONS.issuperset(options):
        raise TypeError(f"run() has no argument {min(options.keys() - _OPTIONS)!r}")
    if (capture := options.get("capture", "daemon")) not in ("daemon", "pipe"):
        raise errors.BadRequest(f"capture must be 'daemon' or 'pipe', not {capture!r}")


def run_request(
    argv: Sequence[Word],
    stdin: bytes | str | None,
    env: Environ | None,
    timeout: float | None,
    user: str | None = None,
) -> Run:
    """The request for these arguments of `run`. Raises BadRequest, TooLarge or CommandTimeout."""
    return Run(_words(argv), _variables(env), input_bytes(stdin), _milliseconds(timeout), user)


def input_bytes(stdin: bytes | str | None) -> bytes | None:
    """The `input` of `run`, of any size. Raises BadRequest."""
    if stdin is None:
        return None
    if not isinstance(stdin, bytes | str):
        raise errors.BadRequest(f"input must be bytes or str, not {type(stdin).__name__}")
    return _to_bytes(stdin, "input")


def start_request(
    argv: Sequence[Word],
    env: Environ | None,
    timeout: float | None,
    stdio: Sequence[int | None],
    user: str | None = None,
) -> Start:
    """The request for these arguments of `popen`; `stdio`: descriptors for stdin, stdout, stderr, if any.

    Raises BadRequest, TooLarge or CommandTimeout.
    """
    slots = sum(slot for slot, end in zip((STDIN, STDOUT, STDERR), stdio, strict=True) if end is not None)
    return Start(_words(argv), _variables(env), slots, _milliseconds(timeout), user)


def check_request(argv: Sequence[Word], env: Environ | None, user: str | None = None) -> Check:
    """The request for these arguments of `allows`. Raises BadRequest or TooLarge."""
    return Check(_words(argv), _variables(env), user)


def _words(argv: Sequence[Word]) -> tuple[bytes, ...]:
    if type(argv) is list or type(argv) is tuple:
        kinds = set(map(type, argv))
        if kinds == _BYTES:
            return tuple(argv)
        if kinds == _TEXT:
            try:
                return tuple([word.encode("utf-8", "surrogateescape") for word in argv])
            except UnicodeEncodeError:
                # Below it is said of which word.
                pass
    # A str or bytes is a sequence too: of its characters.
    if isinstance(argv, str | bytes | bytearray | memoryview) or not isinstance(argv, Sequence):
        raise errors.BadRequest(f"argv must be a sequence of words, not {type(argv).__name__}")
    plain = [os.fspath(word) if isinstance(word, os.PathLike) else word for word in argv]
    if len({isinstance(word, bytes) for word in plain}) > 1:
        # A caller that mixes them compares them somewhere, too, and then b"x" is not "x".
        raise errors.BadRequest("argv mixes types: write all words as str, or all as bytes")
    return tuple([_to_bytes(word, f"argv[{index}]") for index, word in enumerate(plain)])


def _variables(env: Environ | None) -> tuple[tuple[bytes, bytes], ...]:
    if env is None:
        return ()
    if not isinstance(env, Mapping):
        raise errors.BadRequest(f"env must be a mapping of names to values, not {type(env).__name__}")
    name, value = "a variable's name", "a variable's value"
    return tuple([(_to_bytes(key, name), _to_bytes(item, value)) for key, item in env.items()])


def _to_bytes(value: object, what: str) -> bytes:
    """Bytes stay; text is UTF-8, with the bytes that `os.fsdecode` could not decode given back."""
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if isinstance(value, str):
        try:
            return value.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError as error:
            raise errors.BadRequest(f"{what} holds a surrogate that stands for no byte") from error
    if isinstance(value, bytes):
        return bytes(value)
    raise errors.BadRequest(f"{what} must be str or bytes, not {type(value).__name__}")


def _milliseconds(timeout: float | None) -> int | None:
    if timeout is None:
        return None
    # The comparison refuses NaN as well.
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not timeout <= MAX_TIMEOUT:
        raise errors.BadRequest(f"timeout must be a number of seconds, at most {MAX_TIMEOUT}")
    if timeout <= 0:
        raise errors.CommandTimeout("no time is left for it: the timeout is not more than 0, and nothing ran")
    return math.ceil(timeout * 1000)


def _to_text(data: bytes) -> str:
    # Not "backslashreplace": that makes another name of a file name that is not UTF-8, while this one
    # comes back as the same bytes when it is given to the next command.
    return data.decode("utf-8", "surrogateescape")


def completed(
    argv: Sequence[Word], answer: Answer, *, check: bool, text: bool
) -> CompletedCommand[bytes] | CompletedCommand[str]:
    """Return what `run` returns for this answer, or the error of `errors` that it raises."""
    if type(answer) is not Result:
        raise failure(answer)
    _, code, stdout, stderr, cause = answer
    if check and code != 0:
        raise _command_failed(argv, answer, text=text)
    # Of one length with its fields, so that no default is looked up.
    done: CompletedCommand[bytes] | CompletedCommand[str]
    if text:
        done = CompletedCommand(argv, code, _to_text(stdout), _to_text(stderr), cause)
    else:
        done = CompletedCommand(argv, code, stdout, stderr, cause)
    return done


def _command_failed(argv: Sequence[Word], result: Result, *, text: bool) -> errors.CommandFailed:
    code = result.returncode
    why = f"returned {code}" if code > 0 else f"was ended by signal {-code}"
    if result.cause:
        why += ", because the daemon is stopping" if result.cause == "stopping" else f" ({result.cause})"
    if line := _printable(_to_text(result.stderr[: 4 * _MAX_LINE].strip().partition(b"\n")[0]), _MAX_LINE):
        why += f": {line}"
    return errors.CommandFailed(
        f"{program(argv)} {why}",
        request_id=result.request_id or None,
        returncode=code,
        cmd=argv,
        output=_to_text(result.stdout) if text else result.stdout,
        stderr=_to_text(result.stderr) if text else result.stderr,
    )


def decided(answer: Answer) -> Decision:
    """Return what `allows` returns for this answer, or the error of `errors` that it raises."""
    if not isinstance(answer, Verdict):
        raise failure(answer)
    return Decision(answer.allowed, answer.filter)


def reported(answer: Answer) -> dict[str, Any]:
    """Return what `status` returns for this answer, or the error of `errors` that it raises."""
    if not isinstance(answer, Report):
        raise failure(answer)
    import json

    try:
        found = json.loads(answer.report)
    except ValueError as error:
        raise errors.RemoteProtocolError("the daemon's report is no JSON") from error
    if not isinstance(found, dict):
        raise errors.RemoteProtocolError("the daemon's report is no JSON object")
    return found


def failure(answer: Answer) -> errors.Error:
    """The error for an answer that is not the one wanted."""
    if not isinstance(answer, Failure):
        # Cannot be: the exchange lets a Result follow a Run alone, and a Verdict a Check.
        return errors.RemoteProtocolError(f"the daemon answered with {type(answer).__name__}")
    return errors.BY_CODE[answer.code](answer.message, request_id=answer.request_id or None)


def about(
    error: errors.Error, argv: Sequence[Word], timeout: float | None, user: str | None = None
) -> errors.Error:
    """The same error, which names the command that it is about: `cmd`, and before the message the program.

    A Denied names the user too, if one was asked for.
    """
    if isinstance(error, errors.CommandTimeout):
        # Without a timeout of the caller's it was the daemon's own, which the client does not know.
        error.timeout = timeout or 0.0
    if error.cmd is None:
        error.cmd = argv
        error.subject = program(argv)
        if error.subject and isinstance(error, errors.Denied):
            error.subject += f" as {user}" if user else ""
    return error


def program(argv: Sequence[Word]) -> str:
    """argv[0], printable and of bounded length; empty where there is none."""
    if isinstance(argv, str | bytes):
        return ""
    try:
        return _printable(os.fsdecode(argv[0]), _MAX_NAME)
    except (IndexError, KeyError, TypeError):
        return ""


def _printable(text: str, most: int) -> str:
    shown = "".join([char if char.isprintable() else ascii(char)[1:-1] for char in text[: most + 1]])
    return shown if len(shown) <= most else f"{shown[: most - 3]}..."


def unreachable(path: str | bytes, error: OSError) -> errors.DaemonUnavailable:
    """The error for a connection that could not be made."""
    cause = {
        errno.ENOENT: "no such socket: is the daemon running?",
        errno.ECONNREFUSED: "nobody listens on it: is the daemon running?",
        errno.EACCES: "permission denied: is this user in the socket's group?",
        errno.EAGAIN: "its queue of new connections stayed full",
    }.get(error.errno or 0, error.strerror or str(error))
    return errors.DaemonUnavailable(f"{os.fsdecode(path)}: {cause}")
