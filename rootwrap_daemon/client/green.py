"""Run commands for greenthreads of eventlet in a process that is not monkey-patched.

Promises: what `threads.Client` does, with greenthreads waiting in their hub instead of native threads. No
other module of the client but `hub` imports eventlet.
"""

from collections.abc import Sequence

from eventlet.semaphore import Semaphore

from rootwrap_daemon.client import hub, threads
from rootwrap_daemon.client.pipes import Lock


class Client(threads.Client):
    """Runs commands through the daemon that listens on `path`; other greenthreads go on meanwhile.

    One client may be shared by native threads that each have a hub of their own. Who waits there for a
    connection that another thread gives back notices it up to a second later.
    """

    def _new_lock(self) -> Lock:
        lock: Lock = Semaphore()
        return lock

    def _wait(self, readable: Sequence[int], writable: Sequence[int], timeout: float | None) -> Sequence[int]:
        return hub.wait(readable, writable, timeout)
