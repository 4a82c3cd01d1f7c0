"""Wait for descriptors in the hub of eventlet, while other greenthreads go on.

Promises: one wait wakes its greenthread once.
"""

from collections.abc import Sequence

import eventlet
from eventlet.hubs import get_hub


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

    listeners = []
    # Again at the end: the hub has to look at the descriptors at least once.
    again = (hub.schedule_call_global, 0, wake)
    timer = None if timeout is None else hub.schedule_call_global(timeout, *again)
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
