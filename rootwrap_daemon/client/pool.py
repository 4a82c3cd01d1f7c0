"""Keep a client's connections: which are idle, who waits for one, and which must be closed after a fork.

Promises: no clock or I/O but closing; right between native threads, greenthreads, and both in one process. A
child made by fork keeps no connection of its parent.
"""

import os
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Generic, Protocol, TypeVar

from rootwrap_daemon.errors import BadRequest


class Closable(Protocol):
    """A connection."""

    def close(self) -> None:
        """Close it."""


C = TypeVar("C")
L = TypeVar("L", bound=Closable)


class _Left:
    """Stands in a turn's place when nobody waits there any more."""


_LEFT: Final = _Left()


class Turn(Generic[C]):
    """One caller's place in a Pool: waiting, then granted with an idle connection or with leave to make one.

    `wake` is called by whoever grants it, maybe from another thread, and when the pool is closed.
    """

    __slots__ = ("_place", "wake")

    def __init__(self, wake: Callable[[], object] = lambda: None) -> None:
        self.wake = wake
        # Empty while waiting. Who sets it first, the one that grants or the one that leaves, has decided.
        self._place: dict[int, C | _Left | None] = {}

    @property
    def granted(self) -> bool:
        """True once this caller may use one connection."""
        return bool(self._place)

    @property
    def connection(self) -> C | None:
        """The connection held, None where there is none (yet)."""
        connection = self._place.get(0)
        return None if isinstance(connection, _Left) else connection

    def hold(self, connection: C | None) -> None:
        """Hold this connection, or none, instead. Only where `granted`."""
        self._place[0] = connection


class Pool(Generic[C]):
    """Connections in use, idle ones, and callers that wait for one; never more than `limit` at once.

    First come first served; of the idle ones the one that was used last. Needs no lock: each step is one
    append, pop or setdefault of a deque or dict, which are atomic. So it is right between native threads,
    between greenthreads, and between both in one process, where no one kind of lock would be.
    """

    def __init__(self, limit: int) -> None:
        # None is leave to make a connection. Idle connections lie on the right.
        self._free: deque[C | None] = deque([None] * limit)
        self._queue: deque[Turn[C]] = deque()
        #: Set by `close`: nobody is to begin any more.
        self.closed = False

    def enter_at_once(self, turn: Turn[C]) -> bool:
        """Grant this turn what is free, if nobody waits for it; else return False, with nothing done."""
        if self._queue:
            return False
        try:
            turn.hold(self._free.pop())
        except IndexError:
            return False
        return True

    def enter(self, turn: Turn[C]) -> None:
        """Queue up."""
        self._queue.append(turn)
        self._serve()

    def leave(self, turn: Turn[C]) -> None:
        """Give back what the turn holds, if it was granted; else stop waiting. Exactly once."""
        connection = turn._place.setdefault(0, _LEFT)
        if not isinstance(connection, _Left):
            self._put_back(connection)
            if self._queue:
                self._serve()

    def close(self) -> list[C]:
        """Take out the idle connections for good, and wake whoever waits.

        To be called again after each `leave` of a closed pool.
        """
        self.closed = True
        idle = []
        try:
            while True:
                connection = self._free.pop()
                if connection is not None:
                    idle.append(connection)
        except IndexError:
            pass
        for turn in self._queue.copy():
            turn.wake()
        return idle

    def _put_back(self, connection: C | None) -> None:
        if connection is None:
            self._free.appendleft(None)
        else:
            self._free.append(connection)

    def _serve(self) -> None:
        """Bring together who waits and what is free.

        Whoever adds to either side calls this afterwards, and it ends only when it saw one side empty: so
        none is left waiting beside a free connection, however calls of this in several threads interleave.
        """
        while self._free and self._queue:
            try:
                connection = self._free.pop()
            except IndexError:
                # Taken by another thread since; that one serves.
                return
            try:
                turn = self._queue.popleft()
            except IndexError:
                self._put_back(connection)
                continue
            if turn._place.setdefault(0, connection) is connection:
                turn.wake()
            else:
                self._put_back(connection)


class Connections(Generic[L]):
    """At most `limit` connections in `pool`, and any number beside it.

    `open`: all that may be open.
    """

    def __init__(self, limit: int) -> None:
        """Raises BadRequest."""
        if type(limit) is not int or limit < 1:
            raise BadRequest("max_connections must be a whole number of at least 1")
        self._limit = limit
        self.pool: Pool[L] = Pool(limit)
        self.open: weakref.WeakSet[L] = weakref.WeakSet()
        _ALL.add(self)

    def hold(self, turn: Turn[L], connection: L) -> None:
        """Let this turn hold it; the turn holds no other."""
        self.open.add(connection)
        turn.hold(connection)

    def discard(self, turn: Turn[L]) -> None:
        """Close the connection that this turn holds, if it does."""
        connection = turn.connection
        if connection is not None:
            turn.hold(None)
            self._close(connection)

    def close(self) -> None:
        """Close what is idle. To be called again after each `leave` of a closed pool."""
        for connection in self.pool.close():
            self._close(connection)

    def _close(self, connection: L) -> None:
        self.open.discard(connection)
        connection.close()

    def begin_anew(self) -> None:
        """In a child just made by fork: let go of what is the parent's. Closing alone ends nothing there."""
        for connection in self.open:
            connection.close()
        self.open = weakref.WeakSet()
        closed = self.pool.closed
        self.pool = Pool(self._limit)
        self.pool.closed = closed


_ALL: Final[weakref.WeakSet[Any]] = weakref.WeakSet()


os.register_at_fork(after_in_child=lambda: [connections.begin_anew() for connections in _ALL])
