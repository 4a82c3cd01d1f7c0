"""One client's socket, driven through the exchange within its time and its bytes.

Promises: who is slow, silent or too large ends its own connection alone; nothing is buffered beyond the
budget. No descriptor that came with a message outlives what was done about it.
"""

import array
import ctypes
import functools
import signal
import socket
import struct
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final

from rootwrap_daemon.daemon.request import Wish
from rootwrap_daemon.daemon.run.instance import Turn
from rootwrap_daemon.daemon.run.stdio import is_pipe, let_go
from rootwrap_daemon.errors import Busy, Error, LocalProtocolError, RemoteProtocolError
from rootwrap_daemon.protocol import messages
from rootwrap_daemon.protocol.exchange import DaemonExchange

_TIMEVAL = struct.Struct("ll")
#: Calls that keep the interpreter's lock.
_quick = ctypes.PyDLL(None)
_quick.send.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int)
_quick.close.argtypes = (ctypes.c_int,)
_quick.shutdown.argtypes = (ctypes.c_int, ctypes.c_int)
_quick.ioctl.argtypes = (ctypes.c_int, ctypes.c_ulong, ctypes.c_void_p)
#: Bytes to read at once: a request with its argv; more only while a large one comes in.
_CHUNK: Final = 16 * 1024
_LARGE_CHUNK: Final = 1024 * 1024
#: A request beyond this size, and what a command writes beyond it, counts against what the daemon may buffer.
_FREE_SIZE: Final = 64 * 1024
#: Bytes a second that a client must at least read of a large answer.
_SLOWEST_READER: Final = 1024 * 1024
#: Bytes to take of what a client says during its command until the deadline is looked at again: hundreds of
#: messages, where a client has one to say.
_TALK: Final = 4096
#: Seconds that the main thread may sleep while it turns a client away: what it costs to accept two.
_NAP: Final = 0.00005
#: Room for the descriptors of one message. Not CMSG_SPACE, whose padding has room for one more.
_ROOM: Final = socket.CMSG_LEN(messages.MAX_DESCRIPTORS * array.array("i").itemsize)


#: Flags as numbers: those of `socket` are added and looked at in Python.
_AT_ONCE: Final = int(socket.MSG_NOSIGNAL | socket.MSG_DONTWAIT)
_TRUNCATED: Final = int(socket.MSG_CTRUNC)


class Closed(Exception):
    """The connection is over, and there is nothing to say."""


@dataclass(frozen=True, slots=True)
class Share:
    """The share of one user in the bytes that the daemon buffers."""

    take: Callable[[int], bool]
    give: Callable[[int], None]


class Connection:
    """A client's socket.

    `request_timeout`: seconds to say hello, to complete a request, to read an answer.
    """

    def __init__(self, sock: socket.socket, share: Share, turn: Turn, request_timeout: float) -> None:
        self.sock = sock
        #: This session has it whenever it does not wait for the client.
        self.turn = turn
        #: What is wrong with what the client said while its command ran.
        self.fault: RemoteProtocolError | None = None
        # What it has not taken of what was said meanwhile.
        self._unsent = b""
        self._share = share
        self._request_timeout = request_timeout
        #: Seconds that a client may be silent between requests; 0: for ever.
        self.idle_timeout = request_timeout
        self._exchange = DaemonExchange()
        self._held = 0
        self._descriptors: list[int] = []

    def start(self) -> None:
        """Set the timeouts of the socket. Raises OSError."""
        # A byte beside the others would be readable for ever, and never read: it is one of them.
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
        self._set_timeout(socket.SO_SNDTIMEO, self._request_timeout)
        self._set_timeout(socket.SO_RCVTIMEO, self._request_timeout)

    @property
    def descriptor(self) -> int:
        return self.sock.fileno()

    @property
    def partial(self) -> bool:
        """True while bytes are held that are no complete request yet, or one not looked at."""
        return self._exchange.partial

    def end_input(self) -> None:
        """Read no more than what the client has sent already: its next write fails (EPIPE)."""
        self._shut(socket.SHUT_RD)

    def abort(self) -> None:
        """End the connection, whatever its client still waits for."""
        self._shut(socket.SHUT_RDWR)

    def _shut(self, how: int) -> None:
        # The client may be faster.
        with suppress(OSError):
            self.sock.shutdown(how)

    def turn_away(self, error: Error) -> None:
        """Say why it is over before it began; it is not waited until the client hears it."""
        # It may not listen, or have left.
        with suppress(OSError):
            self.sock.send(_farewell(error.code, error.message), _AT_ONCE)

    def close(self) -> None:
        """Close the socket and give back what was held, with the turn."""
        self.turn.give()
        self.sock.close()
        let_go(self.take_descriptors())
        self._give_back()
        # Its traceback holds this connection.
        self.fault = None

    def take_descriptors(self) -> list[int]:
        """The descriptors that came with a Start: the caller's from now on."""
        taken, self._descriptors = self._descriptors, []
        return taken

    def hold(self, count: int) -> bool:
        """Take bytes of the user's share, until the next `receive` or `close`."""
        taken = self._share.take(count)
        self._held += count if taken else 0
        return taken

    def output_holder(self) -> Callable[[int], bool]:
        """Takes what a command writes out of the share; a command of little output always gets its bytes."""
        free = _FREE_SIZE

        def hold(count: int) -> bool:
            nonlocal free
            free -= count
            return free >= 0 or self.hold(count)

        return hold

    def _give_back(self) -> None:
        held, self._held = self._held, 0
        self._share.give(held)

    def _set_timeout(self, option: int, seconds: float) -> None:
        whole = int(seconds)
        value = _TIMEVAL.pack(whole, int((seconds - whole) * 1_000_000))
        self.sock.setsockopt(socket.SOL_SOCKET, option, value)

    def await_next(self) -> None:
        """From now on the client may be silent for `idle_timeout`."""
        self._set_timeout(socket.SO_RCVTIMEO, self.idle_timeout)

    def receive(self) -> messages.Request:
        """The next request. Raises Closed, RemoteProtocolError or OSError."""
        deadline: float | None = None
        self._give_back()
        while (message := self._exchange.next_message()) is None:
            if self._exchange.partial and deadline is None:
                deadline = time.monotonic() + self._request_timeout
                self._set_timeout(socket.SO_RCVTIMEO, self._request_timeout)
            if deadline is not None and time.monotonic() > deadline:
                raise Closed
            try:
                self._read()
            except BlockingIOError:
                if deadline is not None:
                    raise Closed from None
                # Silent for too long. What came in this very moment is still read, or it would be lost;
                # whatever the client writes from here on it sees fail.
                self.end_input()
        if deadline is not None:
            self.await_next()
        self._check_descriptors(message)
        return message

    def _check_descriptors(self, message: messages.Request) -> None:
        """Refuse descriptors that came with another message than a Start, or not as it says.

        Raises RemoteProtocolError.
        """
        # The kernel may give a Hello and the Start behind it in one read.
        if isinstance(message, messages.Hello) and self._exchange.partial:
            return
        expected = message.slots.bit_count() if isinstance(message, messages.Start) else 0
        if len(self._descriptors) != expected:
            raise RemoteProtocolError(f"{len(self._descriptors)} descriptors where {expected} should be")

    def _read(self) -> None:
        """Take what the client sent. Raises Closed at the end of its input, RemoteProtocolError, OSError."""
        missing = self._exchange.missing
        count = _CHUNK if missing <= _CHUNK else min(missing, _LARGE_CHUNK)
        if missing > _FREE_SIZE and not self._held and not self.hold(missing):
            self.answer(messages.Failure("", Busy.code, "the daemon holds as many bytes as it may"))
            raise Closed
        self.turn.give()
        try:
            data, ancillary, result, _ = self.sock.recvmsg(count, _ROOM, socket.MSG_CMSG_CLOEXEC)
            came = ancillary or result & _TRUNCATED
            kept = not came or self._keep_descriptors(ancillary, bool(result & _TRUNCATED))
        finally:
            self.turn.take()
        if not kept:
            self.answer(messages.Failure("", Busy.code, "the daemon has no descriptor left"))
            raise Closed
        if not data:
            raise Closed
        self._exchange.feed(data)

    def _read_plain(self) -> bool:
        """Take what is there, without waiting. False, and nothing taken, where descriptors came with it.

        They are only looked at: closing them may wait as long as the client chose (SO_LINGER), and the
        command's deadline must not. Raises as `_read`, and BlockingIOError.
        """
        data, _, result, _ = self.sock.recvmsg(_TALK, 0, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        if result & _TRUNCATED:
            return False
        if not data:
            raise Closed
        # No more than was looked at: what came meanwhile may bring some.
        self._exchange.feed(self.sock.recv(len(data), socket.MSG_DONTWAIT))
        return True

    def _keep_descriptors(self, ancillary: list[tuple[int, int, bytes]], truncated: bool) -> bool:
        """Own what came, to be closed in any case. False: no room for it. Raises RemoteProtocolError."""
        # They lie at the start of a write; where that is not the start of a message, they are nobody's.
        misplaced = self._exchange.partial or bool(self._descriptors)
        for level, kind, data in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                whole = len(data) - len(data) % array.array("i").itemsize
                self._descriptors += array.array("i", data[:whole])
        foreign = not all(map(is_pipe, self._descriptors))
        # There was room for more in the message, so there was none in the process.
        full = truncated and len(self._descriptors) < messages.MAX_DESCRIPTORS
        if not (misplaced or truncated or foreign):
            return True
        # At once, before a turn or a word: whatever another session starts meanwhile has them too, and closes
        # them, which takes as long as their file system likes.
        let_go(self.take_descriptors())
        if full:
            return False
        if misplaced or truncated:
            raise RemoteProtocolError("more descriptors than may be, or not where they may be")
        raise RemoteProtocolError("a descriptor is no anonymous pipe: pass one that this user made")

    def listen(self, on_signal: Callable[[int], None]) -> Wish:
        """Return what the client says while its command runs, without waiting.

        A little at a time: one that never stops talking must not keep its command from its end.
        """
        wish = Wish.NOTHING
        try:
            wish = self._said(on_signal)
            if not self._read_plain():
                return Wish.GONE
            # What was read is heard now: nothing would wake us for it again.
            if self._said(on_signal) is Wish.CANCEL:
                wish = Wish.CANCEL
        except BlockingIOError:
            pass
        except Closed:
            return Wish.CANCEL if wish is Wish.CANCEL else Wish.SILENT
        except RemoteProtocolError as error:
            # A second request in the middle of the first, or no request at all: nobody to go on working for.
            self.fault = error
            return Wish.GONE
        except OSError:
            return Wish.GONE
        return wish

    def _said(self, on_signal: Callable[[int], None]) -> Wish:
        """Return what the messages that are held say. Raises RemoteProtocolError."""
        wish = Wish.NOTHING
        while (message := self._exchange.next_message()) is not None:
            if isinstance(message, messages.Cancel):
                wish = Wish.CANCEL
            elif isinstance(message, messages.Signal):
                on_signal(message.number)
        return wish

    def encoded(self, message: messages.Answer) -> list[bytes]:
        """An answer as it goes to the client, in parts. Raises Closed."""
        try:
            return self._exchange.send_in_parts(message)
        except LocalProtocolError:
            # The client has said what may not be said meanwhile; there is no one answer to that.
            raise Closed from None

    def say(self, message: messages.Answer) -> None:
        """Have a message sent by `flush`, while a command runs."""
        try:
            self._unsent += b"".join(self.encoded(message))
        except Closed:
            # The client has broken the protocol meanwhile; `listen` will say so.
            pass

    def flush(self) -> bool:
        """Write what is left to be sent as far as the client takes it now; True if it was all.

        Raises OSError.
        """
        try:
            while self._unsent:
                self._unsent = self._unsent[self.sock.send(self._unsent, _AT_ONCE) :]
        except BlockingIOError:
            return False
        return True

    def answer(self, message: messages.Answer) -> None:
        """Encode and send. Raises Closed or OSError."""
        self.send(self.encoded(message))

    def send(self, parts: list[bytes]) -> None:
        """Write an encoded answer, to a client that takes it in time. Raises OSError."""
        if self._unsent:
            parts, self._unsent = [self._unsent, *parts], b""
        try:
            sent = self.sock.send(parts[0], _AT_ONCE)
        except BlockingIOError:
            sent = 0
        if sent == len(parts[0]) and len(parts) == 1:
            return
        deadline = time.monotonic() + self._request_timeout + sum(map(len, parts)) / _SLOWEST_READER
        with self.turn.given():
            for part in parts:
                rest, sent = memoryview(part)[sent:], 0
                while rest:
                    rest = rest[self.sock.send(rest, socket.MSG_NOSIGNAL) :]
                    if rest and time.monotonic() > deadline:
                        raise TimeoutError


@functools.lru_cache(maxsize=64)
def _farewell(code: str, message: str) -> bytes:
    """Encode an error for the wire: a few for all, one for each stranger's number."""
    return DaemonExchange().send(messages.Failure("", code, message))


def turn_away(sock: socket.socket, error: Error) -> None:
    """Say why, without waiting, and close; for the main thread.

    It keeps the interpreter's lock: each time that it lets go, every busy thread may come before it.
    """
    text, descriptor, count = _farewell(error.code, error.message), sock.detach(), ctypes.c_int()
    _quick.send(descriptor, text, len(text), _AT_ONCE)
    # From here on nothing comes to it any more. What has come may hold descriptors.
    _quick.shutdown(descriptor, socket.SHUT_RDWR)
    if _quick.ioctl(descriptor, termios.FIONREAD, ctypes.byref(count)) == 0 and not count.value:
        _quick.close(descriptor)
    else:
        with without_waiting():
            _quick.close(descriptor)


@contextmanager
def without_waiting() -> Iterator[None]:
    """Interrupt whatever sleeps in here, again and again: for the main thread, to close clients' sockets.

    Descriptors that were sent and not read are closed with it, and the close(2) of a socket with SO_LINGER
    waits for as long as its sender chose (socket(7)).
    """
    signal.signal(signal.SIGALRM, lambda number, frame: None)
    signal.setitimer(signal.ITIMER_REAL, _NAP, _NAP)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
