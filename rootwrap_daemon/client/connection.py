"""One connection to the daemon, for a front end whose sockets wait in a way of its own.

Promises: what is written and read is what `core` says; nothing is tried again here.
Imports the standard library, core and the protocol.
"""

import os
import socket
import time
from collections.abc import Callable

from rootwrap_daemon.client import core
from rootwrap_daemon.client.attempt import Attempt
from rootwrap_daemon.errors import BadRequest
from rootwrap_daemon.protocol.exchange import ClientExchange


class Connection:
    """A socket that waits as the front end does, and what was said over it."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.exchange = ClientExchange()

    def connect(self, path: str | bytes, sleep: Callable[[float], None]) -> None:
        """Raises OSError."""
        deadline = time.monotonic() + core.CONNECT_SECONDS
        # A full listen queue is EAGAIN then. Blocking, the kernel would wait, and eventlet would spin.
        self.sock.settimeout(0.0)
        while True:
            try:
                self.sock.connect(path)
                return
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise
            sleep(core.CONNECT_PAUSE)

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
            try:
                attempt.wrote(self._send(attempt))
            except (TimeoutError, BlockingIOError):
                # Patience says so.
                continue
            except OSError as error:
                _check_descriptors(attempt, error)
                attempt.write_failed(time.monotonic())
        while True:
            self.sock.settimeout(attempt.patience(time.monotonic()))
            try:
                data = self.sock.recv(attempt.want)
            except TimeoutError:
                continue
            except (OSError, EOFError):
                # EOFError is eventlet's, for a descriptor that somebody else closed.
                data = b""
            answer = attempt.received(data)
            if answer is not None:
                return answer

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
