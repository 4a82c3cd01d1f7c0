"""Helper processes: each a foreground command, held by a green thread that waits in `Client.run`.

Promises: one that ends, at a deadline too, is started again; one that is let go is ended by the daemon.
Imports eventlet, oslo.log and the client.
"""

import time
from collections.abc import Set

import eventlet
from oslo_log import log

from rootwrap_daemon.client.green import Client
from rootwrap_daemon.errors import Error

from .wanted import Helper

LOG = log.getLogger(__name__)

#: Seconds before an ended helper is started again: at first, and at most; doubled each time.
_FIRST, _LONGEST = 0.5, 30.0
#: Seconds that a helper must have run for its next start to be a first one.
_STEADY = 10.0


class Helpers:
    """The green threads, by the helper that each of them keeps running."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._threads: dict[Helper, eventlet.greenthread.GreenThread] = {}

    def start(self, wanted: Set[Helper]) -> None:
        """Start those that do not run."""
        for helper in wanted - self._threads.keys():
            self._threads[helper] = eventlet.spawn(self._run, helper)

    def stop_all_but(self, wanted: Set[Helper]) -> None:
        """Let go of the others. They may still be about to end when this returns."""
        for helper in self._threads.keys() - wanted:
            LOG.info("Stopping %s", _name(helper))
            # Ends the call, so its connection is closed, so the daemon ends the command's process group.
            self._threads.pop(helper).kill()

    def _run(self, helper: Helper) -> None:
        delay = _FIRST
        while True:
            LOG.info("Starting %s", _name(helper))
            started = time.monotonic()
            try:
                done = self._client.run(("ip", "netns", "exec", helper.namespace, *helper.argv), text=True)
            except Error:
                # Here and elsewhere: to a warning in a handler oslo.log adds the error.
                LOG.warning("%s does not run", _name(helper))
            else:
                LOG.warning("%s ended with %d: %s", _name(helper), done.returncode, done.stderr.strip())
            if time.monotonic() - started >= _STEADY:
                delay = _FIRST
            eventlet.sleep(delay)
            delay = min(2 * delay, _LONGEST)


def _name(helper: Helper) -> str:
    return f"{helper.argv[0]} in {helper.namespace}"
