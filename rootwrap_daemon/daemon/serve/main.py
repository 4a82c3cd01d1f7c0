"""Serve: let the socket appear, answer until a signal says to stop.

Promises: what the start program handed over is all that is taken; a reload that fails changes nothing; no
oslo library is loaded here.
"""

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

from rootwrap_daemon.daemon import handover, self_check
from rootwrap_daemon.daemon.handover import Handover
from rootwrap_daemon.daemon.record.audit import Audit
from rootwrap_daemon.daemon.record.log import Log, prefixed, write
from rootwrap_daemon.daemon.run import cgroups, spawn
from rootwrap_daemon.daemon.run.instance import Instance, Reload
from rootwrap_daemon.daemon.run.registry import Notes, Registry
from rootwrap_daemon.daemon.serve import reload
from rootwrap_daemon.daemon.serve.manager import Heart, Manager
from rootwrap_daemon.daemon.serve.server import Server
from rootwrap_daemon.daemon.serve.source import source
from rootwrap_daemon.errors import Error
from rootwrap_daemon.filters.finding import Severity
from rootwrap_daemon.policy import executables, host
from rootwrap_daemon.policy.policy import Policy
from rootwrap_daemon.settings import AT_START, Settings

LOG = logging.getLogger("rootwrap_daemon.daemon.serve.main")  # not `__main__`, which it is when started

#: Characters of the finding that the status repeats.
_MAX_FINDING: Final = 400
_STOPPING: Final = frozenset((signal.SIGTERM, signal.SIGINT, signal.SIGQUIT))


def main(words: Sequence[str]) -> int:
    """Serve with what the descriptor holds that the first word names. Returns the exit code.

    The other words are for whoever looks at the list of processes.
    """
    given = handover.take(Handover, int(words[0]))
    os.close(int(words[0]))
    log: Log | None = None
    try:
        self_check.check_code(host.base_owners())
        # Before the first thread, which would keep what is given up here; the log has one.
        spawn.prepare()
        log = Log(given.configured.log)
        log.write(given.configured.lines)
        return _serve(given)
    except Error as error:
        text = f"rootwrap-daemon: {error}"
        if log is not None:
            log.close()
        write(prefixed(text, logging.ERROR) if given.configured.log.prefixed else text)
        return error.exit_code
    finally:
        if log is not None:
            log.close(0.5)


def _serve(given: Handover) -> int:
    signals = _Signals()
    policy = given.configured.policy
    settings = policy.settings
    audit = Audit(settings.audit_file, required=settings.audit == "required", owners=policy.owners)
    instance = Instance(policy, audit, _registry(settings, policy.owners), given.version)
    server = Server(source(given.door), instance)
    manager = Manager(given.notify)

    def renewed() -> Policy:
        audit.reopen()
        new = reload.read(given.read_again, instance.policy.generation + 1)
        for line in new.lines:
            logging.getLogger(line.logger).log(line.level, "%s", line.message)
        changed = [name for name in AT_START if getattr(settings, name) != getattr(new.policy.settings, name)]
        if changed:
            LOG.warning("changed, and in force after the next start only: %s", ", ".join(changed))
        executables.forget()
        return new.policy

    LOG.info("%d filters; listening on %s%s", len(policy.filters), given.door.place, policy.nobody)
    manager.notify(READY=1, STATUS=_in_force(instance))
    reaction = _Reaction(signals, instance, renewed, manager)
    server.serve(signals.descriptor, reaction.on_signal, Heart(manager, given.watchdog).beat)
    LOG.info("stopping")
    manager.notify(STOPPING=1, STATUS="Stopping: no new commands; waiting for those that run")
    server.stop()
    audit.close()
    return 0


def _registry(settings: Settings, owners: frozenset[int]) -> Registry:
    groups, why_not = None, ""
    try:
        groups = cgroups.find(settings.cgroups)
    except cgroups.Unavailable as error:
        why_not = str(error)
        LOG.info("commands have no control groups of their own: %s", why_not)
    notes = Notes(settings.state_dir, owners) if settings.state_dir else None
    if notes is not None:
        # Before anything is served: it may be the very thing that a client asks for now.
        notes.recover(settings.kill_grace, groups)
    return Registry(notes, groups, why_not)


def _in_force(instance: Instance) -> str:
    policy, why = instance.policy, instance.registry.why_no_limit
    for one in policy.filters:
        if found := why(one.options.group_limits):
            LOG.warning("the filter %s runs nothing, for its limits cannot be kept: %s", one.name, found)
    skipped = sum(finding.severity is Severity.ERROR for finding in policy.findings)
    left_out = f"; {skipped} finding{'s' * (skipped != 1)}: what is at fault is left out" if skipped else ""
    filters = f"{len(policy.filters)} filter{'s' * (len(policy.filters) != 1)}"
    return f"Serving: {filters} of generation {policy.generation}{left_out}"


class _Signals:
    """Signals as bytes on a descriptor that poll(2) can wait for; none of them ends the process any more."""

    def __init__(self) -> None:
        self.descriptor, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        for number in handover.SIGNALS:
            # Its number comes through the descriptor; the handler only keeps the default action away.
            signal.signal(number, lambda number, frame: None)
        # The start has blocked them.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, handover.SIGNALS)


class _Reaction:
    """Act on them: _STOPPING stop; SIGHUP reloads in a thread, for all that come until its turn."""

    def __init__(
        self, signals: _Signals, instance: Instance, renewed: Callable[[], Policy], manager: Manager
    ) -> None:
        self._signals = signals
        self._instance = instance
        self._renewed = renewed
        self._manager = manager
        self._reloading, self._waits = threading.Lock(), False

    def on_signal(self) -> bool:
        """True if the daemon shall stop."""
        numbers = os.read(self._signals.descriptor, 4096)
        if not _STOPPING.isdisjoint(numbers):
            return True
        if signal.SIGHUP in numbers and not self._waits:
            self._waits = True
            try:
                threading.Thread(target=self._load, daemon=True).start()
            except (RuntimeError, MemoryError) as error:
                self._waits = False
                self._keep(str(error))
        return False

    def _load(self) -> None:
        with self._reloading:
            self._waits = False
            microseconds = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
            self._manager.notify(RELOADING=1, MONOTONIC_USEC=microseconds, STATUS="Reloading")
            # Whatever comes of it, the manager must hear READY again.
            status = ""
            try:
                policy = self._renewed()
                self._instance.policy = policy
                self._instance.reload = Reload(time.time())
                LOG.info("reloaded: generation %d, %d filters", policy.generation, len(policy.filters))
                status = _in_force(self._instance)
            except Error as error:
                status = self._keep(str(error))
            except Exception:
                LOG.exception("a reload failed")
                status = self._keep("a fault of the daemon, see its log")
            finally:
                self._manager.notify(READY=1, STATUS=status)

    def _keep(self, why: str) -> str:
        """Say that the rules stay as they are; what the manager shall be told of it."""
        generation = self._instance.policy.generation
        LOG.error("not reloaded, the rules of generation %d stay: %s", generation, why)
        self._instance.reload = Reload(time.time(), why.partition("\n")[0][:_MAX_FINDING])
        return f"NOT reloaded, the rules of generation {generation} stay in force: {why}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
