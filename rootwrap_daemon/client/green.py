"""Run commands for greenthreads of eventlet in a process that is not monkey-patched.

Promises: what `threads.Client` does, with greenthreads waiting in their hub instead of native threads. The
only module of the client that imports eventlet.
"""

from collections.abc import Sequence

import eventlet
from eventlet.hubs import get_hub
from eventlet.semaphore import Semaphore

from rootwrap_daemon.client import threads
from rootwrap_daemon.client.threads import Lock


class Client(threads.Client):
    """Runs commands through the daemon that listens on `path`; other greenthreads go on meanwhile.

    One client may be shared by native threads that each have a hub of their own. Who waits there for a
    connection that another thread gives back notices it up to a second later.
    """

    def _new_lock(self) -> Lock:
        lock: Lock = Semaphore()
        return lock

    def _wait(self, readable: Sequence[int], writable: Sequence[int], timeout: float | None) -> Sequence[int]:
        return wait(readable, writable, timeout)


def wait(readable: Sequence[int], writable: Sequence[int], timeout: float | None) -> Sequence[int]:
    """One of the descriptors that can be read or written, after `timeout` seconds maybe none.

    Not by `eventlet.green.select`: where several descriptors are ready in one round of the hub, that wakes
    this greenthread once more for each, wherever it may be waiting by then.
    """
    hub, current = get_hub(), eventlet.getcurrent()
    if hub.greenlet is current:
        raise RuntimeError("the hub's own greenlet cannot wait")
    over = False

    def wake(descriptor: int | None = None) -> None:
        nonlocal over
        if not over:
            over = True
            current.switch(descriptor)

    def time_is_up() -> None:
        # The hub has to look at the descriptors at least once.
        hub.schedule_call_global(0, wake)

    listeners = []
    timer = None if timeout is None else hub.schedule_call_global(timeout, time_is_up)
    try:
        for kind, descriptors in ((hub.READ, readable), (hub.WRITE, writable)):
            for one in descriptors:
                listeners.append(hub.add(kind, one, wake, current.throw, lambda: None))
        found = hub.switch()
    finally:
        over = True
        for listener in listeners:
            hub.remove(listener)
        if timer is not None:
            timer.cancel()
    return [] if found is None else [found]
