"""Say one request over one connection, and judge what its end means; follow what a Start has started.

Promises: nothing here waits but by what the front end gives it to wait with; a request that may have run is
never sent again.
"""

import errno
import math
import os
import socket
import time
from array import array
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Final

from rootwrap_daemon import errors
from rootwrap_daemon.client import core
from rootwrap_daemon.client.core import Answer, Request, Word
from rootwrap_daemon.protocol.client_side import ClientExchange
from rootwrap_daemon.protocol.exchange import State
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
#: Bytes to read at once: more than a socket holds of small answers. A large one has a buffer of its own.
_CHUNK: Final = 64 * 1024
#: The failures that are about the command alone; after any other the daemon may close the connection.
_GOES_ON: Final = frozenset(
    kind.code
    for kind in (
        errors.Denied,
        errors.EnvironmentDenied,
        errors.ProcessGone,
        errors.ExecutableNotFound,
        errors.CommandTimeout,
        errors.OutputLimit,
    )
)

Wait = Callable[[Sequence[int], Sequence[int], float | None], Awaitable[Sequence[int]]]


class TryAgain(Exception):
    """Nothing ran, and the request may be sent once more, on a fresh connection. Never leaves the client."""


class Connection:
    """A socket that never blocks, and what was said over it. `greeted_by`: when the hello must be here."""

    __slots__ = ("__weakref__", "exchange", "greeted_by", "sock")

    def __init__(self, greeted_by: float, descriptor: int | None = None) -> None:
        # The type below `socket.socket`, which eventlet does not exchange: nothing here waits but `Wait`.
        self.sock = socket.SocketType(socket.AF_UNIX, socket.SOCK_STREAM, 0, descriptor)
        self.sock.setblocking(False)
        self.exchange = ClientExchange()
        self.greeted_by = greeted_by

    def close(self) -> None:
        """Close it: a command that runs on it is ended."""
        self.sock.close()

    def is_idle(self) -> bool:
        """False if the daemon has ended it, or said anything, since its last answer."""
        try:
            self.sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            pass
        return False

    def hear(self, running: "Running") -> None:
        """Take what the daemon says of a started command, if there is anything."""
        try:
            data = self.sock.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        running.received(data)

    def say(self, data: bytes) -> None:
        """Say something about a started command."""
        if data:
            # So few bytes always fit; a caller whose bytes do not go hears at the next look that it is over.
            with suppress(OSError):
                self.sock.send(data, socket.MSG_NOSIGNAL)

    def hang_up(self) -> None:
        """End it under whoever waits for it: closed alone, it would live on until that one came back."""
        with suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)


class Attempt:
    """One request on its way over one connection, and what its end means.

    `last`: no further attempt may follow. `descriptors`: those that go with a Start.
    """

    def __init__(
        self,
        connection: Connection,
        request: Request,
        timeout: float | None,
        descriptors: Sequence[int] = (),
        *,
        last: bool = False,
    ) -> None:
        self._sock = connection.sock
        self._exchange = exchange = connection.exchange
        self._greeted_by = connection.greeted_by
        self._runs = isinstance(request, Run | Start)
        self._last = last
        self._reused = exchange.state is not State.NEW
        #: What is to be written, with the descriptors that lie on its first byte.
        self._unwritten: list[tuple[bytes | memoryview, Sequence[int]]]
        hello = b"" if self._reused else exchange.send(Hello(VERSION, MAX_ANSWER_FRAME, 0))
        data = exchange.send(request)
        if hello and descriptors:
            self._unwritten = [(hello, ()), (data, descriptors)]
        else:
            # One write, so that the hello costs no round trip.
            self._unwritten = [(hello + data, descriptors)]
        self._deadline = None if timeout is None else time.monotonic() + timeout + SLACK
        self._broken = False
        #: A read has brought something, and not the whole answer, which may be a large one.
        self._read_before = False

    async def answer(self, wait: Wait) -> Answer:
        """Write the request and wait for its answer.

        Raises TryAgain, OutcomeUnknown, DaemonUnavailable, or BadRequest for the descriptors.
        """
        descriptor = [self._sock.fileno()]
        while True:
            if self._unwritten and not self._broken:
                self._write()
            # What is said before all is written decides, too: a refusal, mostly.
            to_write = descriptor if self._unwritten and not self._broken else ()
            await wait(descriptor, to_write, self._patience())
            if (answer := self._read()) is not None:
                return answer

    def reusable(self, answer: Answer) -> bool:
        """True if the connection can take another request after this answer.

        Not after a Failure that may be the daemon's last word: what is sent before the end shows is lost.
        """
        last_word = type(answer) is Failure and answer.code not in _GOES_ON
        return not (last_word or self._unwritten or self._exchange.partial)

    def _write(self) -> None:
        """Write what goes without waiting. Raises BadRequest."""
        try:
            while self._unwritten:
                data, descriptors = self._unwritten[0]
                if descriptors:
                    rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", descriptors))
                    sent = self._sock.sendmsg([data], [rights], socket.MSG_NOSIGNAL)
                else:
                    sent = self._sock.send(data, socket.MSG_NOSIGNAL)
                if sent == len(data):
                    del self._unwritten[0]
                else:
                    self._unwritten[0] = (memoryview(data)[sent:], ())
        except BlockingIOError:
            pass
        except OSError as error:
            _check_descriptors(self._unwritten[0][1], error)
            # The daemon takes no more. Its reason may be there to be read, and that decides.
            self._broken = True
            self._deadline = time.monotonic() + SLACK

    def _patience(self) -> float | None:
        """Seconds that the next wait may take, None for ever. Raises when there are none left."""
        deadline, hello = self._deadline, self._exchange.hello
        if hello is None:
            deadline = self._greeted_by if deadline is None else min(deadline, self._greeted_by)
        elif deadline is None:
            return None
        elif not self._broken:
            deadline += hello.grace_ms / 1000
        left = deadline - time.monotonic()
        if left <= 0:
            raise self._lost(f"the daemon did not {'answer' if hello else 'say hello'} in time")
        return left

    def _read(self) -> Answer | None:
        """Take what can be read: the answer, once it is complete. Raises as `answer`."""
        exchange = self._exchange
        try:
            if self._read_before and (room := exchange.room()) is not None:
                ended = not (count := self._sock.recv_into(room))
                exchange.filled(count)
            else:
                ended = not (data := self._sock.recv(_CHUNK))
                exchange.feed(data)
        except BlockingIOError:
            return None
        except OSError:
            ended = True
        if ended:
            # What is not written yet never will be.
            self._broken = True
            raise self._lost("the daemon closed the connection")
        self._read_before = True
        try:
            while (message := exchange.next_message()) is not None:
                if not isinstance(message, Hello):
                    return self._judged(message)
                if message.version != VERSION:
                    what = f"the daemon speaks version {message.version} of the protocol"
                    raise errors.DaemonUnavailable(f"{what}, this client {VERSION}")
        except errors.RemoteProtocolError as error:
            # Whoever talks like this is not asked again, even if nothing ran.
            self._last = True
            raise self._lost("what answered does not speak the protocol") from error
        return None

    def _judged(self, answer: Answer) -> Answer:
        # What was idle was meant: a daemon that was restarted between two calls is not the caller's business.
        stopping = type(answer) is Failure and answer.code == errors.Stopping.code
        if stopping and self._reused and not self._last:
            raise TryAgain
        return answer

    def _lost(self, why: str) -> Exception:
        """Return what it means that no answer comes any more."""
        if not self._unwritten:
            if self._runs and self._greeted():
                return errors.OutcomeUnknown(f"{why}: the command may have run")
        # An incomplete frame can never run.
        elif self._broken and not self._last:
            return TryAgain()
        return errors.DaemonUnavailable(f"{why}: nothing ran")

    def _greeted(self) -> bool:
        """True if the daemon has said its hello: it runs nothing before, and nothing where that fails."""
        if self._reused or self._read_before:
            return True
        # From here on its hello fails (EPIPE); what is there by now has been said.
        with suppress(OSError):
            self._sock.shutdown(socket.SHUT_RD)
            return bool(self._sock.recv(1, socket.MSG_PEEK))
        return False


def _check_descriptors(descriptors: Sequence[int], error: OSError) -> None:
    """Raise BadRequest or Busy where the caller's descriptors are at fault, not the connection."""
    if error.errno == errno.ETOOMANYREFS:
        # unix(7): what all processes of this user have sent and nobody has received is over RLIMIT_NOFILE.
        raise errors.Busy("too many descriptors of this user are under way") from error
    for descriptor in descriptors:
        try:
            os.fstat(descriptor)
        except OSError:
            raise errors.BadRequest(f"descriptor {descriptor} is not open") from error


class Running:
    """A command that was started: what may be said about it, and how it ends.

    `answer`: the last word, None while it runs. `is_lost`: True where the daemon is gone and did not say it.
    `pid`: of the main process, None where the daemon did all itself: then `output` has what it gave. A front
    end writes what `signal` and `cancel` return, and reads into `received` until there is an answer.
    """

    def __init__(
        self, exchange: ClientExchange, argv: Sequence[Word], first: Answer, timeout: float | None
    ) -> None:
        """Raises an Error where it was not started."""
        if not isinstance(first, Started | Result):
            raise core.failure(first)
        self._exchange = exchange
        self._signals = first.signals if isinstance(first, Started) else 0
        self._request_id = first.request_id
        grace = exchange.hello.grace_ms / 1000 if exchange.hello else 0.0
        self._deadline = math.inf if timeout is None else time.monotonic() + timeout + grace + SLACK
        self._timeout = timeout
        self.argv = argv
        self.pid = first.pid if isinstance(first, Started) else None
        self.output = first if isinstance(first, Result) else None
        self.answer: Result | Failure | None = self.output
        self.is_lost = False
        self._take()

    def signal(self, number: int) -> bytes:
        """The bytes that ask for this signal; none if the command has ended. Raises BadRequest or Denied."""
        # A member of `signal.Signals` is no plain int.
        try:
            message = Signal(int(number))
            if self.answer is not None:
                return b""
            if not self._signals >> number - 1 & 1:
                raise errors.Denied(f"signal {number} may not be sent to it", request_id=self._request_id)
        except errors.Error as error:
            raise core.about(error, self.argv, self._timeout) from None
        return self._exchange.send(message)

    def cancel(self) -> bytes:
        """The bytes that ask for the end of the whole process group; none if the command has ended."""
        return b"" if self.answer is not None else self._exchange.send(Cancel())

    def patience(self) -> float:
        """Seconds that the answer may still take, at most."""
        return max(0.0, self._deadline - time.monotonic())

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
            self.is_lost = True
            what = f"{why}: the command may have ended"
            self.answer = Failure(self._request_id, errors.OutcomeUnknown.code, what)

    def _take(self) -> None:
        try:
            message = self._exchange.next_message() if self.answer is None else None
        except errors.RemoteProtocolError:
            self.lost("what answered does not speak the protocol")
            return
        if isinstance(message, Result | Failure):
            self.answer = message

    def returncode(self) -> int | None:
        """The command's, None while it runs. Raises an Error where it has none."""
        self.check()
        return self.answer.returncode if isinstance(self.answer, Result) else None

    def check(self) -> None:
        """Raise the reason why it has no return code and never will, if there is one."""
        # In no variable: what is raised has this frame, and the two would keep the connection.
        if isinstance(self.answer, Failure):
            raise core.about(core.failure(self.answer), self.argv, self._timeout)

    def error(self) -> errors.Error | None:
        """The reason why it has no return code and never will, if there is one."""
        if not isinstance(self.answer, Failure):
            return None
        return core.about(core.failure(self.answer), self.argv, self._timeout)
