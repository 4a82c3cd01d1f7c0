"""The connections that one client holds: a pool of them, and every socket that may not be closed yet.

Promises: a child made by fork holds none of its parent's.
Imports the standard library and its neighbours; waits nowhere.
"""

import os
import socket
import weakref
from typing import Final

from rootwrap_daemon.client.connection import Connection
from rootwrap_daemon.client.pool import Pool, Turn
from rootwrap_daemon.errors import BadRequest


class Held:
    """At most `limit` connections in `pool`, and any number beside it.

    `sockets`: all that may be open.
    """

    def __init__(self, limit: int) -> None:
        """Raises BadRequest."""
        if type(limit) is not int or limit < 1:
            raise BadRequest("max_connections must be a whole number of at least 1")
        self._limit = limit
        self.pool: Pool[Connection] = Pool(limit)
        self.sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        _ALL.add(self)

    def hold(self, turn: Turn[Connection], connection: Connection) -> None:
        """Let this turn hold it; the turn holds no other."""
        self.sockets.add(connection.sock)
        turn.hold(connection)

    def discard(self, turn: Turn[Connection]) -> None:
        """Close the connection that this turn holds, if it does."""
        connection = turn.connection
        if connection is not None:
            turn.hold(None)
            self._close(connection.sock)

    def close(self) -> None:
        """Close what is idle. To be called again after each `leave` of a closed pool."""
        for connection in self.pool.close():
            self._close(connection.sock)

    def _close(self, sock: socket.socket) -> None:
        self.sockets.discard(sock)
        sock.close()

    def begin_anew(self) -> None:
        """In a child just made by fork: let go of what is the parent's. Closing alone ends nothing there."""
        for sock in self.sockets:
            sock.close()
        self.sockets = weakref.WeakSet()
        closed = self.pool.closed
        self.pool = Pool(self._limit)
        self.pool.closed = closed


_ALL: Final[weakref.WeakSet[Held]] = weakref.WeakSet()


def _begin_all_anew() -> None:
    for held in _ALL:
        held.begin_anew()


os.register_at_fork(after_in_child=_begin_all_anew)
