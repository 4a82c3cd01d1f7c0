"""Hold what the sessions of one daemon share: its policy, records, running commands, limits, and its stop.

Promises: nothing here knows a socket, a session or the server; `policy` is replaced whole.
"""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Final
from weakref import WeakValueDictionary

from rootwrap_daemon.daemon.record.audit import Audit
from rootwrap_daemon.daemon.run.registry import Registry
from rootwrap_daemon.policy.policy import Policy

#: Threads of one user that use the interpreter at once.
_AT_ONCE: Final = 4


class Quota:
    """A counting limit over all users and for each of them: of connections, commands, bytes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users: dict[int, int] = {}
        #: How many are taken.
        self.used = 0

    def take(self, uid: int, count: int, most: int, most_of_user: int) -> bool:
        """Take `count` for this user, if neither limit is exceeded then."""
        with self._lock:
            of_user = self._users.get(uid, 0) + count
            if of_user > most_of_user or self.used + count > most:
                return False
            self._users[uid] = of_user
            self.used += count
            return True

    def give(self, uid: int, count: int) -> None:
        """Give `count` back."""
        if not count:
            return
        with self._lock:
            self.used -= count
            self._users[uid] -= count
            if not self._users[uid]:
                del self._users[uid]


class Turn:
    """The right of one thread to use the interpreter for its user; a few threads of each have it at once.

    A session has it whenever it does not wait, so that its user pays for all that it makes the daemon do.
    """

    def __init__(self, free: "SimpleQueue[None]") -> None:
        self._free = free
        self._held = False

    def take(self, patience: float | None = None) -> bool:
        """Wait for it, at most `patience` seconds. False if it did not come."""
        if not self._held:
            try:
                self._free.get(timeout=patience)
            except Empty:
                return False
            self._held = True
        return True

    def give(self) -> None:
        """Let another thread of this user have it: this one is about to wait."""
        if self._held:
            self._held = False
            self._free.put(None)

    @contextmanager
    def given(self) -> Iterator[None]:
        """Wait in here."""
        self.give()
        try:
            yield
        finally:
            self.take()


class Turns:
    """The turns of all users, so that one's many threads leave the processor to others."""

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        # Each is there while a turn of its user is.
        self._users: WeakValueDictionary[int, SimpleQueue[None]] = WeakValueDictionary()

    def of(self, uid: int) -> Turn:
        """Return a turn for a thread that works for this user; for one thread, the one that accepts."""
        if (free := self._users.get(uid)) is None:
            self._users[uid] = free = SimpleQueue()
            for _ in range(self._at_once):
                free.put(None)
        return Turn(free)


@dataclass(frozen=True, slots=True)
class Reload:
    """The outcome of a reload. `time`: seconds since the epoch; `finding`: why the rules did not change."""

    time: float
    finding: str | None = None


class Instance:
    """One configured daemon while it runs.

    `policy` is replaced by a reload; a session takes it once per request. `started`: monotonic seconds.
    `stop_reader`: a descriptor that is readable once every command must end. `version`: of this program.
    """

    def __init__(
        self, policy: Policy, audit: Audit, registry: Registry | None = None, version: str = ""
    ) -> None:
        self.policy = policy
        self.audit = audit
        self.registry = Registry() if registry is None else registry
        self.version = version
        #: The last one, None before the first.
        self.reload: Reload | None = None
        self.started = time.monotonic()
        self.connections = Quota()
        self.commands = Quota()
        #: Bytes of requests and output.
        self.buffered = Quota()
        self.turns = Turns(_AT_ONCE)
        #: No request is read any more.
        self.stopping = False
        #: No command may start any more: the drain deadline has passed.
        self.drained = False
        self.stop_reader, self._stop_writer = os.pipe2(os.O_CLOEXEC)

    def buffer(self, uid: int, count: int) -> bool:
        """Take bytes of what the daemon may hold for its clients: for one user half of that at most."""
        most = self.policy.settings.max_buffered
        return self.buffered.take(uid, count, most, most // 2)

    def end_commands(self) -> None:
        """Start no command any more, and let those that run be ended."""
        self.drained = True
        os.write(self._stop_writer, b"x")
