"""The service: look, compare, make it so; every few seconds, and at once when told to read the file again.

Promises: one failing command stops a pass, never the service. Imports eventlet, the client and this package.
"""

import os
import shlex
import signal
from pathlib import Path

import eventlet
import eventlet.hubs
import eventlet.queue
from oslo_log import log

from rootwrap_daemon.client.green import Client
from rootwrap_daemon.errors import Error

from .helpers import Helpers
from .observed import LIST, Command, Link, Observed, Place, parse_links, parse_namespaces, show
from .reconcile import plan
from .wanted import Wanted, WantedError, load

LOG = log.getLogger(__name__)

#: Commands asked for at once. The daemon bounds a user's share; helpers count too.
_POOL = 16


class Service:
    """Keeps what is as the file wants it, until told to stop."""

    def __init__(self, client: Client, config: Path, wanted: Wanted, interval: float) -> None:
        self._client = client
        self._config = config
        self._wanted = wanted
        self._interval = interval
        self._helpers = Helpers(client)
        self._pool = eventlet.GreenPool(_POOL)
        self._signals: eventlet.queue.LightQueue = eventlet.queue.LightQueue()

    def run(self) -> None:
        """Work until SIGTERM or SIGINT; SIGHUP reads the file again."""
        # Python writes a signal's number to this pipe: the one way in that wakes a hub asleep in epoll.
        reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(writer)
        for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)
        eventlet.spawn(self._take_signals, reader)
        while True:
            self._pass()
            try:
                number = self._signals.get(timeout=self._interval)
            except eventlet.queue.Empty:
                continue
            if number != signal.SIGHUP:
                LOG.info("Stopping at %s", signal.Signals(number).name)
                self._helpers.stop_all_but(frozenset())
                return
            self._reload()

    def _take_signals(self, reader: int) -> None:
        while True:
            eventlet.hubs.trampoline(reader, read=True)
            for number in os.read(reader, 64):
                self._signals.put(number)

    def _reload(self) -> None:
        try:
            self._wanted = load(self._config)
        except WantedError:
            LOG.warning("Keeping to what was wanted before")

    def _pass(self) -> None:
        wanted = self._wanted
        try:
            stages = plan(wanted, self._observe(wanted.prefix))
        # ValueError: an `ip` too old to speak JSON.
        except (Error, ValueError):
            LOG.warning("Cannot see what is there")
            return
        # A process would stay in a namespace that is removed, or that was and is made again.
        changing = {words[3] for stage in stages for words in stage if words[1] == "netns"}
        self._helpers.stop_all_but({helper for helper in wanted.helpers if helper.namespace not in changing})
        for stage in stages:
            # What follows builds on this stage; it waits for the next pass.
            if not all(list(self._pool.imap(self._do, stage))):
                return
        self._helpers.start(wanted.helpers)

    def _observe(self, prefix: str) -> Observed:
        def ask(place: Place) -> dict[str, Link]:
            return parse_links(self._client.run(show(place), check=True).stdout)

        listed = parse_namespaces(self._client.run(LIST, check=True).stdout)
        places: list[Place] = [None, *(name for name in listed if name.startswith(prefix))]
        return dict(zip(places, self._pool.imap(ask, places), strict=True))

    def _do(self, command: Command) -> bool:
        try:
            self._client.run(command, check=True, text=True)
        except Error as error:
            LOG.warning("Not done: %s %s", shlex.join(command), str(getattr(error, "stderr", "")).strip())
            return False
        LOG.info("Done: %s", shlex.join(command))
        return True
