"""What every client does alike: requests, results, when to try again.

Promises: no lock, clock or I/O; a request that may have run is never sent again.
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
    Denied,
    EnvironmentDenied,
    Error,
    ExecutableNotFound,
    OutcomeUnknown,
    OutputLimit,
    RemoteProtocolError,
    Stopping,
)
from rootwrap_daemon.protocol.exchange import ClientExchange, State
from rootwrap_daemon.protocol.messages import (
    MAX_ANSWER_FRAME,
    MAX_TIMEOUT,
    VERSION,
    Check,
    Failure,
    Hello,
    Result,
    Run,
    Verdict,
)

#: Seconds that a connection may take to be made.
CONNECT_SECONDS: Final = 10.0
#: Seconds between two tries while the daemon's listen queue is full.
CONNECT_PAUSE: Final = 0.01
#: Seconds past a command's deadline and grace period after which its answer is no longer waited for.
SLACK: Final = 10.0
#: Bytes to read at once: as much as is missing, between a page of small answers and what a socket ever holds.
_MIN_READ: Final = 64 * 1024
_MAX_READ: Final = 1024 * 1024

#: The failures that are about the command alone; after any other the daemon may close the connection.
_GOES_ON: Final = frozenset(
    kind.code for kind in (Denied, EnvironmentDenied, ExecutableNotFound, CommandTimeout, OutputLimit)
)

Word = str | bytes | os.PathLike[str] | os.PathLike[bytes]
Environ = Mapping[str, Word] | Mapping[bytes, Word]
Answer = Result | Verdict | Failure


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
    if stdin is not None and not isinstance(stdin, bytes | str):
        raise BadRequest(f"input must be bytes or str, not {type(stdin).__name__}")
    return Run(
        _words(argv),
        _variables(env),
        None if stdin is None else _to_bytes(stdin, "input"),
        None if timeout is None else _milliseconds(timeout),
    )


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
        raise _failure(answer, argv, timeout)
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
        raise _failure(answer, argv, None)
    return Decision(answer.allowed, answer.filter)


def _failure(answer: Answer, argv: Sequence[Word], timeout: float | None) -> Error:
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


class TryAgain(Exception):
    """Nothing ran, and the request may be sent once more, on a fresh connection. Never leaves the client."""


class Attempt:
    """One request on its way over one connection, and what its end means.

    A front end writes `unwritten` and tells `wrote`, or `write_failed` and goes on to read all the same;
    then it reads up to `want` bytes into `received` until that gives the answer. No write or read takes
    longer than `patience`.

    `last`: no further attempt may follow. `now`: seconds of any clock that never goes back, here and below.
    """

    def __init__(
        self, exchange: ClientExchange, request: Run | Check, timeout: float | None, *, last: bool, now: float
    ) -> None:
        self._exchange = exchange
        self._runs = isinstance(request, Run)
        self._last = last
        self._reused = exchange.state is not State.NEW
        # One write, so that the hello costs no round trip.
        hello = b"" if self._reused else exchange.send(Hello(VERSION, MAX_ANSWER_FRAME))
        self._unwritten = memoryview(hello + exchange.send(request))
        self._deadline = None if timeout is None else now + timeout + SLACK
        self._broken = False

    @property
    def unwritten(self) -> memoryview:
        """What is still to be written; empty once no more can be."""
        return self._unwritten[:0] if self._broken else self._unwritten

    def wrote(self, count: int) -> None:
        """So many bytes of `unwritten` are on their way."""
        self._unwritten = self._unwritten[count:]

    def write_failed(self, now: float) -> None:
        """The daemon takes no more. Its reason may be there to be read, and that decides."""
        self._broken = True
        self._deadline = now + SLACK

    def patience(self, now: float) -> float | None:
        """Seconds that the next write or read may take, None for ever. Raises when there are none left."""
        if self._deadline is None:
            return None
        hello = self._exchange.hello
        left = self._deadline + (hello.grace_ms / 1000 if hello and not self._broken else 0.0) - now
        if left <= 0:
            raise self._lost("the daemon did not answer in time")
        return left

    @property
    def want(self) -> int:
        """Bytes to read at once."""
        return max(_MIN_READ, min(self._exchange.missing, _MAX_READ))

    def received(self, data: bytes) -> Answer | None:
        """Take what was read, b"" for the end of the connection. The answer, once it is complete.

        Raises TryAgain, OutcomeUnknown or DaemonUnavailable.
        """
        if not data:
            raise self._lost("the daemon closed the connection")
        self._exchange.feed(data)
        try:
            while (message := self._exchange.next_message()) is not None:
                if not isinstance(message, Hello):
                    return self._judged(message)
                if message.version != VERSION:
                    raise DaemonUnavailable(
                        f"the daemon speaks version {message.version} of the protocol, this client {VERSION}"
                    )
        except RemoteProtocolError as error:
            # Whoever talks like this is not asked again, even if nothing ran.
            self._last = True
            raise self._lost("what answered does not speak the protocol") from error
        return None

    def reusable(self, answer: Answer) -> bool:
        """True if the connection can take another request after this answer.

        Not after a Failure that may be the daemon's last word: what is sent before the end shows is lost.
        """
        last_word = isinstance(answer, Failure) and answer.code not in _GOES_ON
        return not (last_word or self._unwritten or self._exchange.partial)

    def _judged(self, answer: Answer) -> Answer:
        # What was idle was meant: a daemon that was restarted between two calls is not the caller's business.
        stopping = isinstance(answer, Failure) and answer.code == Stopping.code
        if stopping and self._reused and not self._last:
            raise TryAgain
        return answer

    def _lost(self, why: str) -> Exception:
        """What it means that no answer comes any more."""
        if not self._unwritten:
            if self._runs:
                return OutcomeUnknown(f"{why}: the command may have run")
        # An incomplete frame can never run.
        elif self._broken and not self._last:
            return TryAgain()
        return DaemonUnavailable(f"{why}: nothing ran")
