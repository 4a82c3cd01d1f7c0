"""One connection to the daemon, for a front end whose sockets wait in a way of its own.

Promises: what is written and read is what `core` says; nothing is tried again here.
Imports the standard library, core and the protocol.
"""

import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from rootwrap_daemon.client import core
from rootwrap_daemon.client.request import Attempt, Running
from rootwrap_daemon.errors import BadRequest
from rootwrap_daemon.protocol.exchange import ClientExchange

#: Bytes to read at once of what is said about a started command: more than it ever is.
_CHUNK: Final = 4096


class Connection:
    """A socket that waits as the front end does, and what was said over it."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.exchange = ClientExchange()

    def connect(self, path: str | bytes, sleep: Callable[[float], None]) -> None:
        """Raises OSError."""
        deadline = time.monotonic() + core.CONNECT_SECONDS
        while not self.try_to_connect(path, last=time.monotonic() >= deadline):
            sleep(core.CONNECT_PAUSE)

    def try_to_connect(self, path: str | bytes, *, last: bool) -> bool:
        """False if the daemon's listen queue is full, and there is to be another try. Raises OSError."""
        # A full listen queue is EAGAIN then. Blocking, the kernel would wait, and eventlet would spin.
        self.sock.settimeout(0.0)
        try:
            self.sock.connect(path)
        except BlockingIOError:
            if last:
                raise
            return False
        return True

    def usable(self, socket_class: type[socket.socket]) -> bool:
        """False if an idle connection has had its day."""
        # Made before eventlet patched the class: it would stop the whole hub.
        if type(self.sock) is not socket_class:
            return False
        self.sock.settimeout(0.0)
        try:
            # Whatever can be read was said unasked: the daemon's end of it, mostly.
            self.sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            pass
        return False

    def converse(self, attempt: Attempt) -> core.Answer:
        """Say it, and wait for the answer. Raises what `attempt` raises."""
        while attempt.unwritten:
            self.sock.settimeout(attempt.patience(time.monotonic()))
            self.write(attempt)
        answer = None
        while answer is None:
            self.sock.settimeout(attempt.patience(time.monotonic()))
            # Patience says when that is too long.
            with suppress(TimeoutError, BlockingIOError):
                answer = self.read(attempt)
        return answer

    def write(self, attempt: Attempt) -> bool:
        """Write what goes, once; False if the socket takes nothing now. Raises BadRequest."""
        try:
            attempt.wrote(self._send(attempt))
        except (TimeoutError, BlockingIOError):
            return False
        except OSError as error:
            _check_descriptors(attempt, error)
            attempt.write_failed(time.monotonic())
        return True

    def read(self, attempt: Attempt) -> core.Answer | None:
        """Read what is there, once. Raises TimeoutError, BlockingIOError and what `attempt` raises."""
        try:
            data = self.sock.recv(attempt.want)
        except (TimeoutError, BlockingIOError):
            raise
        except (OSError, EOFError):
            # EOFError is eventlet's, for a descriptor that somebody else closed.
            data = b""
        return attempt.received(data)

    def hear(self, running: Running) -> None:
        """Take what the daemon says of a started command, if there is anything, without waiting."""
        self.sock.settimeout(0.0)
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
            # So few bytes always fit; who cannot send them hears at the next look that it is over.
            with suppress(OSError):
                self.sock.send(data, socket.MSG_NOSIGNAL)

    def hang_up(self) -> None:
        """End it under whoever waits for it: closed alone, it would live on until that one came back."""
        with suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)

    def _send(self, attempt: Attempt) -> int:
        if attempt.descriptors:
            return socket.send_fds(
                self.sock, [attempt.unwritten], list(attempt.descriptors), socket.MSG_NOSIGNAL
            )
        return self.sock.send(attempt.unwritten, socket.MSG_NOSIGNAL)


def _check_descriptors(attempt: Attempt, error: OSError) -> None:
    """Raise BadRequest where the caller's descriptors are at fault, not the connection."""
    for descriptor in attempt.descriptors:
        try:
            os.fstat(descriptor)
        except OSError:
            raise BadRequest(f"descriptor {descriptor} is not open") from error
