"""The client for native threads, and for greenthreads of a process that eventlet has monkey-patched.

Promises: safe to share between threads; an abandoned call closes its connection, which ends the command.
Imports the standard library, core and the protocol, and looks its primitives up at each use: they may be
patched later than this module was imported.
"""

import os
import socket
import threading
import time
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Literal, Protocol, Self, overload

from rootwrap_daemon.client import core
from rootwrap_daemon.client.core import CompletedCommand, Decision, Environ, Word
from rootwrap_daemon.client.pool import Pool, Turn
from rootwrap_daemon.errors import BadRequest, LocalProtocolError
from rootwrap_daemon.protocol.exchange import ClientExchange
from rootwrap_daemon.protocol.messages import Check, Run

#: Seconds after which a caller that waits for a connection looks for itself: at first, and at most. It is
#: woken as a rule, but not out of another hub, and not by `close`. Doubled each time, this costs little,
#: and nobody waits twice as long as needed.
_LOOK_FIRST: Final = 0.02
_LOOK_SECONDS: Final = 1.0


class Lock(Protocol):
    """A lock that another than its holder may release."""

    def acquire(self, blocking: bool = True, timeout: float = -1, /) -> object:
        """Take it; wait at most `timeout` seconds for that."""

    def release(self) -> object:
        """Let another take it."""


class _Gate:
    """What one caller waits at until another opens it, once."""

    def __init__(self, lock: Lock) -> None:
        lock.acquire()
        self._lock = lock
        # A lock of eventlet's must not be released out of another native thread (eventlet.tpool): that would
        # switch to a greenthread of a foreign hub, which fails.
        native = type(lock).__module__ == "_thread"
        self._only_in = None if native else threading.get_native_id()

    def wait(self, seconds: float) -> None:
        self._lock.acquire(True, seconds)

    def open(self) -> None:
        if self._only_in in (None, threading.get_native_id()):
            self._lock.release()


@dataclass(slots=True, eq=False)
class _Connection:
    sock: socket.socket
    exchange: ClientExchange


class Client:
    """Runs commands through the daemon that listens on `path`.

    At most `max_connections` commands at once, each on a connection of its own; further callers wait for one.
    Connections are made when needed and kept. A child made by fork begins without any.
    """

    def __init__(self, path: str | bytes | os.PathLike[str], max_connections: int = 128) -> None:
        if type(max_connections) is not int or max_connections < 1:
            raise BadRequest("max_connections must be a whole number of at least 1")
        self._path = os.fspath(path)
        self._limit = max_connections
        self._pool: Pool[_Connection] = Pool(max_connections)
        #: Every socket that is not closed yet, for the child of a fork.
        self._sockets: set[socket.socket] = set()
        _CLIENTS.add(self)

    @overload
    def run(
        self,
        argv: Sequence[Word],
        *,
        input: bytes | str | None = None,
        env: Environ | None = None,
        timeout: float | None = None,
        check: bool = False,
        text: Literal[False] = False,
    ) -> CompletedCommand[bytes]: ...

    @overload
    def run(
        self,
        argv: Sequence[Word],
        *,
        input: bytes | str | None = None,
        env: Environ | None = None,
        timeout: float | None = None,
        check: bool = False,
        text: Literal[True],
    ) -> CompletedCommand[str]: ...

    @overload
    def run(
        self,
        argv: Sequence[Word],
        *,
        input: bytes | str | None = None,
        env: Environ | None = None,
        timeout: float | None = None,
        check: bool = False,
        text: bool = False,
    ) -> CompletedCommand[bytes] | CompletedCommand[str]: ...

    def run(
        self,
        argv: Sequence[Word],
        *,
        input: bytes | str | None = None,
        env: Environ | None = None,
        timeout: float | None = None,
        check: bool = False,
        text: bool = False,
    ) -> CompletedCommand[bytes] | CompletedCommand[str]:
        """Run a command to its end, as `subprocess.run(argv, capture_output=True, ...)` does.

        Words, variables and `input` are bytes, or text that becomes UTF-8 (with surrogateescape).
        `timeout`: seconds from when a connection is free; the daemon enforces it. None: its own limit alone.
        `check`: raise CommandFailed if the return code is not 0.
        `text`: decode the output as UTF-8 (surrogateescape, so it never fails); line ends stay as they are.

        Raises an Error of `rootwrap_daemon.errors`. After any of them but OutcomeUnknown, CommandTimeout,
        OutputLimit, CommandFailed and InternalError the command did not run.
        """
        request = core.run_request(argv, input, env, timeout)
        answer = self._ask(request, timeout)
        return core.completed(argv, answer, timeout=timeout, check=check, text=text)

    def check(self, argv: Sequence[Word], env: Environ | None = None) -> Decision:
        """Would this command be allowed? Runs nothing. Raises an Error of `rootwrap_daemon.errors`."""
        return core.decided(argv, self._ask(core.check_request(argv, env), None))

    def close(self) -> None:
        """Close what is idle and begin nothing more. Commands that run end as they would have."""
        for connection in self._pool.close():
            self._close(connection.sock)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _socket_class(self) -> type[socket.socket]:
        return socket.socket

    def _new_lock(self) -> Lock:
        return threading.Lock()

    def _sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def _ask(self, request: Run | Check, timeout: float | None) -> core.Answer:
        # One and the same to the end: after a fork the child has another.
        pool = self._pool
        gate = _Gate(self._new_lock())
        turn: Turn[_Connection] = Turn(gate.open)
        look = _LOOK_FIRST
        keep = False
        try:
            pool.enter(turn)
            while not (turn.granted or pool.closed):
                gate.wait(look)
                look = min(2 * look, _LOOK_SECONDS)
            if pool.closed:
                raise LocalProtocolError("this client is closed")
            connection = turn.connection
            if connection is None or not self._usable(connection.sock):
                connection = self._connect(turn)
            last = False
            while True:
                attempt = core.Attempt(connection.exchange, request, timeout, last=last, now=time.monotonic())
                try:
                    answer = _converse(attempt, connection.sock)
                except core.TryAgain:
                    # A last attempt raises no TryAgain.
                    last = True
                else:
                    keep = attempt.reusable(answer)
                    return answer
                connection = self._connect(turn)
        finally:
            if not keep:
                self._discard(turn)
            pool.leave(turn)
            if pool.closed:
                self.close()

    def _connect(self, turn: Turn[_Connection]) -> _Connection:
        """Make a fresh connection for this turn, instead of the one it holds. Raises DaemonUnavailable."""
        self._discard(turn)
        deadline = time.monotonic() + core.CONNECT_SECONDS
        try:
            sock = self._socket_class()(socket.AF_UNIX, socket.SOCK_STREAM)
            connection = _Connection(sock, ClientExchange())
            self._sockets.add(sock)
            turn.hold(connection)
            # A full listen queue is EAGAIN then. Blocking, the kernel would wait, and eventlet would spin.
            sock.settimeout(0.0)
            while True:
                try:
                    sock.connect(self._path)
                    return connection
                except BlockingIOError:
                    if time.monotonic() >= deadline:
                        raise
                self._sleep(core.CONNECT_PAUSE)
        except OSError as error:
            raise core.unreachable(self._path, error) from error

    def _usable(self, sock: socket.socket) -> bool:
        """False if an idle connection has had its day."""
        # Made before eventlet patched the class: it would stop the whole hub.
        if type(sock) is not self._socket_class():
            return False
        sock.settimeout(0.0)
        try:
            # Whatever can be read was said unasked: the daemon's end of it, mostly.
            sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            pass
        return False

    def _discard(self, turn: Turn[_Connection]) -> None:
        connection = turn.connection
        if connection is not None:
            turn.hold(None)
            self._close(connection.sock)

    def _close(self, sock: socket.socket) -> None:
        self._sockets.discard(sock)
        sock.close()

    def _begin_anew(self) -> None:
        """In a child just made by fork: let go of what is the parent's. Closing alone ends nothing there."""
        for sock in self._sockets:
            sock.close()
        self._sockets = set()
        closed = self._pool.closed
        self._pool = Pool(self._limit)
        self._pool.closed = closed


def _converse(attempt: core.Attempt, sock: socket.socket) -> core.Answer:
    while attempt.unwritten:
        sock.settimeout(attempt.patience(time.monotonic()))
        try:
            attempt.wrote(sock.send(attempt.unwritten, socket.MSG_NOSIGNAL))
        except TimeoutError:
            # Patience says so.
            continue
        except OSError:
            attempt.write_failed(time.monotonic())
    while True:
        sock.settimeout(attempt.patience(time.monotonic()))
        try:
            data = sock.recv(attempt.want)
        except TimeoutError:
            continue
        except (OSError, EOFError):
            # EOFError is eventlet's, for a descriptor that somebody else closed.
            data = b""
        answer = attempt.received(data)
        if answer is not None:
            return answer


_CLIENTS: Final[weakref.WeakSet[Client]] = weakref.WeakSet()


def _begin_all_anew() -> None:
    for client in _CLIENTS:
        client._begin_anew()


os.register_at_fork(after_in_child=_begin_all_anew)
