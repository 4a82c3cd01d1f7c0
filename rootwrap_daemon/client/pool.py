"""Who has a connection, which are idle, who waits for one.

Promises: no lock, clock or I/O; right between native threads, greenthreads, and both in one process.
"""

from collections import deque
from collections.abc import Callable
from typing import Final, Generic, TypeVar

C = TypeVar("C")


class _Left:
    """Stands in a turn's place when nobody waits there any more."""


_LEFT: Final = _Left()


class Turn(Generic[C]):
    """One caller's place in a Pool: waiting, then granted with an idle connection or with leave to make one.

    `wake` is called once, by whoever grants it, maybe from another thread.
    """

    __slots__ = ("_place", "wake")

    def __init__(self, wake: Callable[[], object]) -> None:
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
    """Who has a connection, which are idle, who waits for one; never more than `limit` at once.

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

    def enter(self, turn: Turn[C]) -> None:
        """Queue up."""
        self._queue.append(turn)
        self._serve()

    def leave(self, turn: Turn[C]) -> None:
        """Give back what the turn holds, if it was granted; else stop waiting. Exactly once."""
        connection = turn._place.setdefault(0, _LEFT)
        if not isinstance(connection, _Left):
            self._put_back(connection)
            self._serve()

    def close(self) -> list[C]:
        """Take out the idle connections for good. To be called again after each `leave` of a closed pool."""
        self.closed = True
        idle = []
        try:
            while True:
                connection = self._free.pop()
                if connection is not None:
                    idle.append(connection)
        except IndexError:
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
