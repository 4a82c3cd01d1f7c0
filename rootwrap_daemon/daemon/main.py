"""The daemon, top to bottom: self-check -> config -> policy -> listen -> drop -> serve.

Promises: it starts whole or not at all, and says in one line why not; a reload that fails changes nothing.
"""

import os
import sys

from rootwrap_daemon.daemon.start import bootstrap

if __name__ == "__main__":
    bootstrap.forget(os.environ)
    # Under a limit of the starter's on the size of files it would be cut, for all who start after.
    sys.dont_write_bytecode = True

import argparse
import logging
import signal
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final, NoReturn

from oslo_config import cfg
from oslo_log import log

from rootwrap_daemon import config
from rootwrap_daemon.daemon.record import sinks
from rootwrap_daemon.daemon.record.audit import Audit
from rootwrap_daemon.daemon.run import spawn
from rootwrap_daemon.daemon.run.instance import Instance
from rootwrap_daemon.daemon.run.registry import Notes, Registry
from rootwrap_daemon.daemon.serve.server import Server, Source
from rootwrap_daemon.daemon.start import client_started, surroundings, systemd
from rootwrap_daemon.daemon.start.client_started import Launched
from rootwrap_daemon.daemon.start.sockets import HandedListener, Listener
from rootwrap_daemon.errors import ConfigurationError, Error, SelfCheckError
from rootwrap_daemon.filters.finding import Severity
from rootwrap_daemon.policy import host
from rootwrap_daemon.policy.policy import Policy, load
from rootwrap_daemon.settings import Settings, fit
from rootwrap_daemon.usage import Parser

LOG = logging.getLogger("rootwrap_daemon.daemon.main")  # not `__main__`, which it is when started

_STOPPING: Final = frozenset((signal.SIGTERM, signal.SIGINT, signal.SIGQUIT))


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = Parser("rootwrap-daemon", "Run the commands that filter files allow, for unprivileged clients.")
    parser.add_argument(
        "--config-file", required=True, metavar="FILE", help="the only source of configuration"
    )
    parser.add_argument("--socket", metavar="PATH", help="listen there instead of at socket_path")
    parser.add_argument(
        "--peer-uid",
        type=int,
        metavar="UID",
        help="the user that the client will be which starts this daemon as root",
    )
    parser.add_argument(
        "--check", action="store_true", help="load configuration and filters, say what is wrong"
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the daemon until it is told to stop. Returns the exit code."""
    arguments = _arguments(sys.argv[1:] if argv is None else argv)
    try:
        return _main(arguments)
    except Error as error:
        _die(error)


def _die(error: Error) -> NoReturn:
    print(f"rootwrap-daemon: {error}", file=sys.stderr)
    sys.exit(error.exit_code)


def _main(arguments: argparse.Namespace) -> int:
    surroundings.fill_standard_descriptors()
    launcher = _launcher(arguments)
    # A client's own manager is told nothing by its daemon.
    manager = systemd.manager(os.environ) if launcher is None else systemd.Manager()
    maker = launcher.peer.uid if launcher is not None and arguments.peer_uid is None else None
    by_another = client_started.by_another(os.environ, maker)
    if not sys.flags.isolated:
        raise SelfCheckError(f"not in isolated mode: start with `python3 -I -m {bootstrap.MODULE}`")
    surroundings.check_interpreter()
    try:
        config_file = os.path.abspath(arguments.config_file)
    except FileNotFoundError:
        raise ConfigurationError("the current directory is gone: start in one that is there") from None
    owners = host.base_owners()
    surroundings.check_code(owners)
    socket_path = None if arguments.socket is None else os.path.abspath(arguments.socket)
    settings, conf = config.load(config_file, owners, socket_path=socket_path, terse=by_another)
    nofile = surroundings.settle(settings.rlimit_nofile, by_another=by_another)
    if not arguments.check:
        sinks.unblock_log()
    _start_logging(conf)
    policy = load(fit(settings, nofile), generation=1)
    if arguments.check:
        counted = f"{len(policy.ruleset.filters)} filters, {len(policy.findings)} findings"
        print(f"{config_file}: {counted}{_whom(policy)}")
        return 0
    signals = _Signals()
    audit = Audit(settings.audit_file, required=settings.audit == "required", owners=policy.owners)
    registry = Registry(_notes(settings, policy.owners))
    listener = launcher or _listen(manager, settings, policy.owners)
    if settings.capabilities is not None:
        surroundings.keep_capabilities(settings.capabilities)
    spawn.prepare()
    instance = Instance(policy, audit, registry)
    server = Server(listener, instance)

    def reload() -> Policy:
        audit.reopen()
        new, _ = config.load(config_file, owners, socket_path=socket_path)
        config.report_changes(settings, new)
        return load(fit(new, nofile), instance.policy.generation + 1)

    _log_start(policy, settings, listener.place)
    manager.notify(READY=1, STATUS=_in_force(policy))
    reaction = _Reaction(signals, instance, reload, manager)
    server.serve(signals.descriptor, reaction.on_signal, systemd.Heart(manager, server.prove).beat)
    LOG.info("stopping")
    manager.notify(STOPPING=1, STATUS="Stopping: no new commands; waiting for those that run")
    server.stop()
    audit.close()
    return 0


def _notes(settings: Settings, owners: frozenset[int]) -> Notes | None:
    if not settings.state_dir:
        return None
    notes = Notes(settings.state_dir, owners)
    # Before anything is served: it may be the very thing that a client asks for now.
    notes.recover(settings.kill_grace)
    return notes


def _start_logging(conf: cfg.ConfigOpts) -> None:
    if not (conf.use_syslog or conf.use_journal or conf.log_file or conf.log_dir):
        conf.set_override("use_stderr", True)
    # Without fix_eventlet=False oslo.log looks for eventlet, and patches itself for it.
    log.setup(conf, "rootwrap-daemon", fix_eventlet=False)
    if not conf.debug:
        logging.getLogger().setLevel(conf.syslog_log_level.upper())


def _launcher(arguments: argparse.Namespace) -> Launched | None:
    control = client_started.control_socket()
    if control is not None:
        return Launched(control, client_started.the_peer(control, os.environ, arguments.peer_uid))
    if arguments.peer_uid is not None:
        raise ConfigurationError("--peer-uid is for a daemon that its client starts: leave it out")
    return None


def _listen(manager: systemd.Manager, settings: Settings, owners: frozenset[int]) -> Source:
    if manager.listening is not None:
        # Mode and owner are those of the .socket unit.
        return HandedListener(manager.listening, settings.socket_path, owners=owners)
    return Listener(
        settings.socket_path, mode=settings.socket_mode, group=_socket_group(settings), owners=owners
    )


def _socket_group(settings: Settings) -> int | None:
    if settings.socket_group is None:
        return None
    try:
        return host.group_number(settings.socket_group)
    except KeyError:
        raise ConfigurationError(
            f"socket_group: there is no {settings.socket_group!r} here: name one"
        ) from None


def _log_start(policy: Policy, settings: Settings, place: str) -> None:
    if policy.settings.max_connections < settings.max_connections:
        LOG.warning(
            "open files are limited to fewer than the limits need: %d connections and %d commands at once",
            policy.settings.max_connections,
            policy.settings.max_commands,
        )
    LOG.info("%d filters; listening on %s%s", len(policy.ruleset.filters), place, _whom(policy))


def _whom(policy: Policy) -> str:
    """The default, told: the agent to be served is somebody else, and would only hear `unauthorized`."""
    if policy.allowed_gids or policy.allowed_uids != {0}:
        return ""
    return "; nobody but root may ask: allowed_users or allowed_groups must name the agent's user"


def _in_force(policy: Policy) -> str:
    skipped = sum(finding.severity is Severity.ERROR for finding in policy.findings)
    left_out = f"; {skipped} findings, what they are about is left out" if skipped else ""
    return f"Serving: {len(policy.ruleset.filters)} filters of generation {policy.generation}{left_out}"


class _Signals:
    """Signals as bytes on a descriptor that poll(2) can wait for; none of them ends the process any more."""

    def __init__(self) -> None:
        self.descriptor, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        # A terminal sends SIGQUIT and SIGTSTP, too, for a user who may not: no command must lose its limits.
        for number in (*_STOPPING, signal.SIGHUP, signal.SIGTSTP):
            # The number arrives through the wake-up descriptor; the handler only keeps the default action
            # away.
            signal.signal(number, lambda number, frame: None)

    def read(self) -> bytes:
        """The numbers of the signals that came."""
        return os.read(self.descriptor, 4096)


class _Reaction:
    """What the main thread does about them: _STOPPING stop; SIGHUP reloads in a thread of its own."""

    def __init__(
        self, signals: _Signals, instance: Instance, reload: Callable[[], Policy], manager: systemd.Manager
    ) -> None:
        self._signals = signals
        self._instance = instance
        self._reload = reload
        self._manager = manager
        self._reloading = threading.Lock()

    def on_signal(self) -> bool:
        """True if the daemon shall stop."""
        numbers = self._signals.read()
        if not _STOPPING.isdisjoint(numbers):
            return True
        if signal.SIGHUP in numbers:
            try:
                threading.Thread(target=self._load, daemon=True).start()
            except RuntimeError as error:
                self._keep(str(error))
        return False

    def _load(self) -> None:
        # One at a time, each reading the files after its signal came.
        with self._reloading:
            microseconds = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
            self._manager.notify(RELOADING=1, MONOTONIC_USEC=microseconds, STATUS="Reloading")
            # Whatever comes of it, the manager must hear READY again.
            status = ""
            try:
                policy = self._reload()
                self._instance.policy = policy
                LOG.info(
                    "reloaded: generation %d, %d filters", policy.generation, len(policy.ruleset.filters)
                )
                status = _in_force(policy)
            except Error as error:
                status = self._keep(str(error))
            finally:
                self._manager.notify(
                    READY=1, STATUS=status or "Not reloaded: a fault of the daemon, see its log"
                )

    def _keep(self, why: str) -> str:
        """Say that the rules stay as they are; what the manager shall be told of it."""
        generation = self._instance.policy.generation
        LOG.error("not reloaded, the rules of generation %d stay: %s", generation, why)
        return f"NOT reloaded, the rules of generation {generation} stay in force: {why}"


if __name__ == "__main__":
    sys.exit(main())
