"""Speak the protocol to a daemon over a raw socket: any bytes, any descriptors, and whole answers.

A read of a stream socket gives what lies there: half a frame, or three. Whoever expects one message reads
with `Wire.answer`.
"""

import contextlib
import fcntl
import os
import socket
import struct
import termios
from collections.abc import Sequence
from typing import Self

from rootwrap_daemon.protocol.client_side import ClientExchange
from rootwrap_daemon.protocol.messages import MAX_ANSWER_FRAME, VERSION, Hello, Request

#: Seconds after which a read that finds nothing fails: for a daemon that hangs, not for one that is slow.
PATIENCE = 60


class Wire:
    """A connection to `path` on which the client has said nothing yet."""

    def __init__(self, path: str) -> None:
        """Raises OSError."""
        self.exchange = ClientExchange()
        self.sock = socket.socket(socket.AF_UNIX)
        try:
            self.sock.settimeout(PATIENCE)
            self.sock.connect(path)
        except OSError:
            self.sock.close()
            raise

    def say(self, data: bytes, descriptors: Sequence[int] = ()) -> None:
        """Send these bytes; a daemon that takes no more of them is no error."""
        with contextlib.suppress(ConnectionError):
            socket.send_fds(self.sock, [data], list(descriptors))

    def greet(self, *messages: Request) -> None:
        """Say hello and these, at once."""
        self.sock.sendall(b"".join(map(self.exchange.send, (Hello(VERSION, MAX_ANSWER_FRAME), *messages))))

    def send(self, message: Request, descriptors: Sequence[int] = ()) -> None:
        self.say(self.exchange.send(message), descriptors)

    def answer(self) -> object:
        """The next message other than the hello; None at the end of the connection."""
        while True:
            message = self.exchange.next_message()
            if message is None:
                data = self.sock.recv(65536)
                if not data:
                    return None
                self.exchange.feed(data)
            elif not isinstance(message, Hello):
                return message

    def rest(self) -> bytes:
        """All the bytes that the daemon still says, until it ends the connection."""
        answers = b""
        with contextlib.suppress(ConnectionError):
            while chunk := self.sock.recv(65536):
                answers += chunk
        return answers

    def is_read(self) -> bool:
        """True once the daemon has read all that was said (SIOCOUTQ, unix(7))."""
        return not _unread(self.sock)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()


def _unread(sock: socket.socket) -> int:
    """Bytes that its other end has not read."""
    (unread,) = struct.unpack("i", fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4)))
    return int(unread)


def lies_unread(path: str) -> bool:
    """True if a connection of this process to `path` holds bytes that the daemon has not read (unix(7)).

    The daemon binds its socket by another name of the same directory.
    """
    directory = os.path.dirname(path)
    for name in os.listdir("/proc/self/fd"):
        # Another thread may close it meanwhile.
        with contextlib.suppress(OSError):
            if not os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
                continue
            with socket.socket(fileno=os.dup(int(name))) as sock:
                if sock.family != socket.AF_UNIX or os.path.dirname(sock.getpeername()) != directory:
                    continue
                if _unread(sock):
                    return True
    return False
