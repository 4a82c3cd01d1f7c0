"""One request on its way over one connection, what its end means, and what follows a Started.

Promises: no lock, clock or I/O; a request that may have run is never sent again.
Imports core, the protocol and errors alone.
"""

import math
from collections.abc import Sequence
from typing import Final

from rootwrap_daemon.client.core import Answer, Request, Word, failure
from rootwrap_daemon.errors import (
    CommandTimeout,
    DaemonUnavailable,
    Denied,
    EnvironmentDenied,
    ExecutableNotFound,
    OutcomeUnknown,
    OutputLimit,
    RemoteProtocolError,
    Stopping,
)
from rootwrap_daemon.protocol.exchange import ClientExchange, State
from rootwrap_daemon.protocol.messages import (
    MAX_ANSWER_FRAME,
    VERSION,
    Cancel,
    Failure,
    Hello,
    Result,
    Run,
    Signal,
    Start,
    Started,
)

#: Seconds past a command's deadline and grace period after which its answer is no longer waited for.
SLACK: Final = 10.0
#: Bytes to read at once: as much as is missing, between a page of small answers and what a socket ever holds.
_MIN_READ: Final = 64 * 1024
_MAX_READ: Final = 1024 * 1024
#: The failures that are about the command alone; after any other the daemon may close the connection.
_GOES_ON: Final = frozenset(
    kind.code for kind in (Denied, EnvironmentDenied, ExecutableNotFound, CommandTimeout, OutputLimit)
)


class TryAgain(Exception):
    """Nothing ran, and the request may be sent once more, on a fresh connection. Never leaves the client."""


class Attempt:
    """One request on its way over one connection, and what its end means.

    A front end writes `unwritten` and tells `wrote`, or `write_failed` and goes on to read all the same;
    then it reads up to `want` bytes into `received` until that gives the answer. No write or read takes
    longer than `patience`.

    `last`: no further attempt may follow. `now`: seconds of any clock that never goes back, here and below.
    `descriptors`: those that go with a Start.
    """

    def __init__(
        self,
        exchange: ClientExchange,
        request: Request,
        timeout: float | None,
        *,
        last: bool,
        now: float,
        descriptors: Sequence[int] = (),
    ) -> None:
        self._exchange = exchange
        self._runs = isinstance(request, Run | Start)
        self._last = last
        self._reused = exchange.state is not State.NEW
        # One write, so that the hello costs no round trip.
        hello = b"" if self._reused else exchange.send(Hello(VERSION, MAX_ANSWER_FRAME))
        self._unwritten = memoryview(hello + exchange.send(request))
        self._descriptors = tuple(descriptors)
        # Descriptors lie on the first byte of a write, and they belong on the first of their message.
        self._before_descriptors = len(hello) if descriptors else 0
        self._deadline = None if timeout is None else now + timeout + SLACK
        self._broken = False

    @property
    def unwritten(self) -> memoryview:
        """What is to be written next; empty once no more can be."""
        if self._broken:
            return self._unwritten[:0]
        return self._unwritten[: self._before_descriptors or len(self._unwritten)]

    @property
    def descriptors(self) -> tuple[int, ...]:
        """What goes with the first byte of `unwritten`."""
        return () if self._before_descriptors else self._descriptors

    def wrote(self, count: int) -> None:
        """So many bytes of `unwritten` are on their way, and `descriptors`."""
        self._unwritten = self._unwritten[count:]
        if self._before_descriptors:
            self._before_descriptors -= count
        else:
            self._descriptors = ()

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


class Running:
    """A command that was started: what may be said about it, and how it ends.

    `answer`: the last word, None while it runs. `pid`: of the main process, None where the daemon did all
    itself. `timeout`: seconds that were asked for. A front end writes what `signal` and `cancel` return, and
    reads into `received` until there is an answer.
    """

    def __init__(
        self, exchange: ClientExchange, first: Started | Result, timeout: float | None, now: float
    ) -> None:
        self._exchange = exchange
        self._signals = first.signals if isinstance(first, Started) else 0
        self._request_id = first.request_id
        grace = exchange.hello.grace_ms / 1000 if exchange.hello else 0.0
        self._deadline = math.inf if timeout is None else now + timeout + grace + SLACK
        self.pid = first.pid if isinstance(first, Started) else None
        self.answer: Result | Failure | None = first if isinstance(first, Result) else None
        self._take()

    def signal(self, number: int) -> bytes:
        """What asks for this signal; nothing if the command has ended. Raises BadRequest or Denied."""
        # What `signal` names is no plain int.
        message = Signal(int(number))
        if self.answer is not None:
            return b""
        if not self._signals >> number - 1 & 1:
            raise Denied(f"signal {number} may not be sent to this command", request_id=self._request_id)
        return self._exchange.send(message)

    def cancel(self) -> bytes:
        """What asks for the end of the whole process group; nothing if the command has ended."""
        return b"" if self.answer is not None else self._exchange.send(Cancel())

    def patience(self, now: float) -> float:
        """Seconds that the answer may still take, at most."""
        return max(0.0, self._deadline - now)

    def received(self, data: bytes) -> None:
        """Take what was read, b"" for the end of the connection."""
        if not data:
            self.lost("the daemon closed the connection")
            return
        self._exchange.feed(data)
        self._take()

    def lost(self, why: str) -> None:
        """No answer will come any more."""
        if self.answer is None:
            self.answer = Failure(self._request_id, OutcomeUnknown.code, f"{why}: the command may have ended")

    def _take(self) -> None:
        try:
            message = self._exchange.next_message() if self.answer is None else None
        except RemoteProtocolError:
            self.lost("what answered does not speak the protocol")
            return
        if isinstance(message, Result | Failure):
            self.answer = message

    def returncode(self, argv: Sequence[Word], timeout: float | None) -> int | None:
        """The command's, None while it runs. Raises an Error where it has none."""
        if self.answer is None:
            return None
        if isinstance(self.answer, Failure):
            raise failure(self.answer, argv, timeout)
        return self.answer.returncode


def started(
    exchange: ClientExchange, argv: Sequence[Word], answer: Answer, timeout: float | None, now: float
) -> Running:
    """What `popen` goes on with after this answer, or the error of `errors` that it raises."""
    if not isinstance(answer, Started | Result):
        raise failure(answer, argv, timeout)
    return Running(exchange, answer, timeout, now)
