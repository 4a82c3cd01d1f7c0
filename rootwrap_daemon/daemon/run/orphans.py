"""What commands leave behind stays a descendant of this daemon, and is reaped when it ends.

Promises: a process that a session waits for is never reaped here. It is how a KillFilter with
`started_by = self` knows what was started here: PR_SET_CHILD_SUBREAPER (prctl(2)).
"""

import ctypes
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_PR_SET_CHILD_SUBREAPER: Final = 36
_libc = ctypes.CDLL(None, use_errno=True)


def adopt() -> None:
    """From now on, whoever loses its parent among our descendants becomes our child. Raises OSError."""
    if _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "PR_SET_CHILD_SUBREAPER")


class _Reaper:
    """Tells the zombies that a session will wait for from those that nobody will."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._awaited: set[int] = set()
        #: When each spawn that is under way began: its process may exist already, and not be awaited yet.
        self._beginning: dict[int, float] = {}
        #: When the last look was, and the zombies that nobody seemed to wait for.
        self._looked = 0.0
        self._suspects: frozenset[int] = frozenset()

    @contextmanager
    def spawning(self) -> Iterator[None]:
        """While a process is created that will be awaited."""
        key = threading.get_ident()
        with self._lock:
            self._beginning[key] = time.monotonic()
        try:
            yield
        finally:
            with self._lock:
                del self._beginning[key]

    def awaits(self, pid: int) -> None:
        """Somebody will wait for this process. To be said inside `spawning`."""
        with self._lock:
            self._awaited.add(pid)

    def forgets(self, pid: int) -> None:
        """It has been waited for, or nobody will any more."""
        with self._lock:
            self._awaited.discard(pid)

    def reap(self) -> bool:
        """Reap the orphans that have ended; for the main thread. True to be asked again soon."""
        with self._lock:
            # Suspected twice, and no spawn from before the first time is left under way: it is nobody's.
            settled = all(begun > self._looked for begun in self._beginning.values())
            orphans = frozenset(_zombies() - self._awaited)
            ended = orphans & self._suspects if settled else frozenset()
            self._looked, self._suspects = time.monotonic(), orphans - ended
            for pid in ended:
                try:
                    os.waitpid(pid, os.WNOHANG)
                except ChildProcessError:
                    # `subprocess` takes care of what a session gave up.
                    continue
            return bool(self._suspects)


REAPER: Final = _Reaper()


def _zombies() -> set[int]:
    """Children of the main thread that have ended: orphans become its own, as those of threads that ended."""
    found: set[int] = set()
    try:
        with open(f"/proc/self/task/{os.getpid()}/children", encoding="ascii") as file:
            children = [int(word) for word in file.read().split()]
    except OSError:
        # A kernel without CONFIG_PROC_CHILDREN: zombies of orphans stay until this process ends.
        return found
    for pid in children:
        try:
            with open(f"/proc/{pid}/stat", "rb") as stat:
                if stat.read().rpartition(b")")[2].split()[0] == b"Z":
                    found.add(pid)
        except OSError:
            # Reaped since.
            continue
    return found
