"""What every client does alike: what it is given becomes a request, an answer becomes what it returns.

Promises: no lock, clock or I/O.
Imports the protocol and errors alone.
"""

import errno
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import AnyStr, Final, Generic

from rootwrap_daemon.errors import (
    BY_CODE,
    BadRequest,
    CommandFailed,
    CommandTimeout,
    DaemonUnavailable,
    Error,
    RemoteProtocolError,
)
from rootwrap_daemon.protocol.messages import (
    MAX_TIMEOUT,
    STDERR,
    STDIN,
    STDOUT,
    Check,
    Failure,
    Report,
    Result,
    Run,
    Start,
    Started,
    Status,
    Verdict,
)

#: Seconds that a connection may take to be made.
CONNECT_SECONDS: Final = 10.0
#: Seconds between two tries while the daemon's listen queue is full.
CONNECT_PAUSE: Final = 0.01

Word = str | bytes | os.PathLike[str] | os.PathLike[bytes]
Environ = Mapping[str, Word] | Mapping[bytes, Word]
Request = Run | Start | Check | Status
Answer = Result | Started | Verdict | Report | Failure


@dataclass(frozen=True, slots=True)
class CompletedCommand(Generic[AnyStr]):
    """What a command left, shaped like `subprocess.CompletedProcess`.

    `args`: the argv as it was given to `run`. `returncode`: minus the signal's number if a signal ended it.
    """

    args: Sequence[Word]
    returncode: int
    stdout: AnyStr
    stderr: AnyStr


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a command would be allowed, and the name of the filter that allows it (empty if none does)."""

    allowed: bool
    filter: str


def run_request(
    argv: Sequence[Word], stdin: bytes | str | None, env: Environ | None, timeout: float | None
) -> Run:
    """The request for these arguments of `run`. Raises BadRequest or TooLarge."""
    return Run(
        _words(argv),
        _variables(env),
        input_bytes(stdin),
        None if timeout is None else _milliseconds(timeout),
    )


def input_bytes(stdin: bytes | str | None) -> bytes | None:
    """The `input` of `run`, of any size. Raises BadRequest."""
    if stdin is not None and not isinstance(stdin, bytes | str):
        raise BadRequest(f"input must be bytes or str, not {type(stdin).__name__}")
    return None if stdin is None else _to_bytes(stdin, "input")


def start_request(
    argv: Sequence[Word], env: Environ | None, timeout: float | None, stdio: Sequence[int | None]
) -> Start:
    """The request for these arguments of `popen`; `stdio`: descriptors for stdin, stdout, stderr, if any.

    Raises BadRequest or TooLarge.
    """
    slots = sum(slot for slot, end in zip((STDIN, STDOUT, STDERR), stdio, strict=True) if end is not None)
    return Start(_words(argv), _variables(env), slots, None if timeout is None else _milliseconds(timeout))


def check_request(argv: Sequence[Word], env: Environ | None) -> Check:
    """The request for these arguments of `check`. Raises BadRequest or TooLarge."""
    return Check(_words(argv), _variables(env))


def _words(argv: Sequence[Word]) -> tuple[bytes, ...]:
    # A str or bytes is a sequence too: of its characters.
    if isinstance(argv, str | bytes | bytearray | memoryview) or not isinstance(argv, Sequence):
        raise BadRequest(f"argv must be a sequence of words, not {type(argv).__name__}")
    plain = [os.fspath(word) if isinstance(word, os.PathLike) else word for word in argv]
    if len({isinstance(word, bytes) for word in plain}) > 1:
        # Whoever mixes them compares them somewhere, too, and then b"x" is not "x".
        raise BadRequest("argv mixes types: write all words as str, or all as bytes")
    return tuple([_to_bytes(word, f"argv[{index}]") for index, word in enumerate(plain)])


def _variables(env: Environ | None) -> tuple[tuple[bytes, bytes], ...]:
    if env is None:
        return ()
    if not isinstance(env, Mapping):
        raise BadRequest(f"env must be a mapping of names to values, not {type(env).__name__}")
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
            raise BadRequest(f"{what} holds a surrogate that stands for no byte") from error
    if isinstance(value, bytes):
        return bytes(value)
    raise BadRequest(f"{what} must be str or bytes, not {type(value).__name__}")


def _milliseconds(timeout: float) -> int:
    # The comparison refuses NaN as well.
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 < timeout <= MAX_TIMEOUT:
        raise BadRequest(f"timeout must be more than 0 and at most {MAX_TIMEOUT} seconds")
    return math.ceil(timeout * 1000)


def _to_text(data: bytes) -> str:
    # Not "backslashreplace": that makes another name of a file name that is not UTF-8, while this one
    # comes back as the same bytes when it is given to the next command.
    return data.decode("utf-8", "surrogateescape")


def completed(
    argv: Sequence[Word], answer: Answer, *, timeout: float | None, check: bool, text: bool
) -> CompletedCommand[bytes] | CompletedCommand[str]:
    """What `run` returns for this answer, or the error of `errors` that it raises."""
    if not isinstance(answer, Result):
        raise failure(answer, argv, timeout)
    code = answer.returncode
    done: CompletedCommand[bytes] | CompletedCommand[str]
    if text:
        done = CompletedCommand(argv, code, _to_text(answer.stdout), _to_text(answer.stderr))
    else:
        done = CompletedCommand(argv, code, answer.stdout, answer.stderr)
    if check and code != 0:
        raise CommandFailed(
            f"the command returned {code}" if code > 0 else f"the command was ended by signal {-code}",
            request_id=answer.request_id or None,
            returncode=code,
            cmd=argv,
            output=done.stdout,
            stderr=done.stderr,
        )
    return done


def decided(argv: Sequence[Word], answer: Answer) -> Decision:
    """What `check` returns for this answer, or the error of `errors` that it raises."""
    if not isinstance(answer, Verdict):
        raise failure(answer, argv, None)
    return Decision(answer.allowed, answer.filter)


def failure(answer: Answer, argv: Sequence[Word], timeout: float | None) -> Error:
    """What to raise for an answer that is not the one wanted."""
    if not isinstance(answer, Failure):
        # Cannot be: the exchange lets a Result follow a Run alone, and a Verdict a Check.
        return RemoteProtocolError(f"the daemon answered with {type(answer).__name__}")
    kind, request_id = BY_CODE[answer.code], answer.request_id or None
    if kind is CommandTimeout:
        # Without a timeout of the caller's it was the daemon's own, which the client does not know.
        return CommandTimeout(answer.message, request_id=request_id, cmd=argv, timeout=timeout or 0.0)
    return kind(answer.message, request_id=request_id)


def unreachable(path: str | bytes, error: OSError) -> DaemonUnavailable:
    """The error for a connection that could not be made."""
    cause = {
        errno.ENOENT: "no such socket: is the daemon running?",
        errno.ECONNREFUSED: "nobody listens on it: is the daemon running?",
        errno.EACCES: "permission denied: is this user in the socket's group?",
        errno.EAGAIN: f"its queue of new connections stayed full for {CONNECT_SECONDS:.0f} s",
    }.get(error.errno or 0, error.strerror or str(error))
    return DaemonUnavailable(f"{os.fsdecode(path)}: {cause}")
