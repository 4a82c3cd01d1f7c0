"""The lock that a front end waits with, and what one caller waits at.

Promises: right for native threads, greenthreads, and both in one process.
"""

import threading
from typing import Protocol


class Lock(Protocol):
    """A lock that another than its holder may release."""

    def acquire(self, blocking: bool = True, timeout: float = -1, /) -> object:
        """Take it; wait at most `timeout` seconds for that."""

    def release(self) -> object:
        """Let another take it."""


class Gate:
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
