"""Look up users whom the policy knows by name alone, when one comes: users of a directory, DynamicUser=.

Promises: whoever asks a directory waits in a thread of its own, and no one else does; a stranger costs one
look-up a second, and has a place in the queue only while others have theirs.
"""

import logging
import os
import queue
import socket
import threading
from collections import Counter, deque
from collections.abc import Iterator
from time import monotonic
from typing import Final

from rootwrap_daemon.daemon.request import Peer
from rootwrap_daemon.policy import late
from rootwrap_daemon.policy.policy import Policy

LOG = logging.getLogger(__name__)

#: Connections that may wait for the directory, and of one user.
_WAITING: Final = 64
_WAITING_OF_ONE: Final = 8
#: Seconds for which nobody looks again for a user who was not found, and how many such are remembered.
_NOT_AGAIN: Final = 1.0
_REMEMBERED: Final = 1024

#: Who was found: the option and the name that admit, or None.
Found = tuple[str, str] | None


class Latecomers:
    """The queue of connections whose user is looked for.

    `descriptor` is readable while `looked_up` has some. All methods are for one thread, and never wait.
    """

    def __init__(self) -> None:
        self.descriptor = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._queue: queue.SimpleQueue[tuple[socket.socket, Peer, Policy]] = queue.SimpleQueue()
        self._done: deque[tuple[socket.socket, Peer, Found]] = deque()
        self._waiting: Counter[int] = Counter()
        self._unknown: dict[int, float] = {}
        self._attended = False

    def look(self, connection: socket.socket, peer: Peer, policy: Policy) -> bool:
        """Queue a connection. False if it is to be refused at once."""
        if (
            not policy.late
            or self._unknown.get(peer.uid, 0.0) > monotonic()
            or self._waiting[peer.uid] >= _WAITING_OF_ONE
            or self._waiting.total() >= _WAITING
        ):
            return False
        if not self._attended:
            try:
                threading.Thread(target=self._run, daemon=True).start()
            except RuntimeError:
                return False
            self._attended = True
        self._waiting[peer.uid] += 1
        self._queue.put((connection, peer, policy))
        return True

    def looked_up(self) -> Iterator[tuple[socket.socket, Peer, Found]]:
        """Yield those whose user was looked for, each with what was found."""
        os.eventfd_read(self.descriptor)
        while self._done:
            connection, peer, found = self._done.popleft()
            self._waiting[peer.uid] -= 1
            # Of those who are gone nothing is kept.
            self._waiting += Counter()
            if found is None:
                if len(self._unknown) >= _REMEMBERED:
                    self._unknown.clear()
                self._unknown[peer.uid] = monotonic() + _NOT_AGAIN
            yield connection, peer, found

    def _run(self) -> None:
        while True:
            connection, peer, policy = self._queue.get()
            groups = frozenset((peer.gid, *peer.groups))
            try:
                found = late.find(policy.late, policy.owners, peer.uid, groups)
            except OSError as error:
                LOG.error("cannot look for users who come late: %s", error)
                found = None
            self._done.append((connection, peer, found))
            os.eventfd_write(self.descriptor, 1)
