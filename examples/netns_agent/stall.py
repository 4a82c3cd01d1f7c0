"""How long the hub was kept from its work: the measure of whether a green service may call this or that.

Imports eventlet and the standard library.
"""

import time

import eventlet

#: Seconds that the watcher sleeps each time.
PERIOD = 0.01


class StallWatch:
    """A green thread that sleeps and looks how late it is woken, for ever. `largest`: seconds."""

    def __init__(self) -> None:
        self.largest = 0.0
        eventlet.spawn(self._watch)

    def _watch(self) -> None:
        while True:
            due = time.monotonic() + PERIOD
            eventlet.sleep(PERIOD)
            self.largest = max(self.largest, time.monotonic() - due)
