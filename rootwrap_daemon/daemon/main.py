"""The daemon, top to bottom: self-check -> config -> policy -> listen -> drop -> serve.

Promises: it starts whole or not at all, and says in one line why not; a reload that fails changes nothing.
"""

import argparse
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Final, NoReturn

from oslo_config import cfg
from oslo_log import log

from rootwrap_daemon import config
from rootwrap_daemon.daemon import configuration, orphans, privileges, sinks
from rootwrap_daemon.daemon.audit import Audit
from rootwrap_daemon.daemon.listener import Listener
from rootwrap_daemon.daemon.running import Notes, Registry
from rootwrap_daemon.daemon.server import Server
from rootwrap_daemon.errors import ConfigurationError, Error, SelfCheckError
from rootwrap_daemon.policy import host
from rootwrap_daemon.policy.policy import Policy, load

LOG = logging.getLogger("rootwrap_daemon.daemon.main")  # not `__main__`, which it is when started

_MODULE: Final = "rootwrap_daemon.daemon.main"


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="rootwrap-daemon",
        description="Run the commands that filter files allow, for unprivileged clients.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--config-file", required=True, metavar="FILE", help="the only source of configuration"
    )
    parser.add_argument("--socket", metavar="PATH", help="listen there instead of at socket_path")
    parser.add_argument(
        "--check", action="store_true", help="load configuration and filters, say what is wrong"
    )
    return parser.parse_args(argv)


def console() -> NoReturn:
    """The console script: starts the daemon again in isolated mode, which the environment cannot reach."""
    if foreign := sorted(name for name in os.environ if name.startswith("PYTHON")):
        # By now sitecustomize, or whatever they name, has run in this process.
        _die(SelfCheckError(f"{', '.join(foreign)} set: start without, or with `python3 -I -m {_MODULE}`"))
    os.execv(sys.executable, [sys.executable, "-I", "-m", _MODULE, *sys.argv[1:]])


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
    privileges.fill_standard_descriptors()
    if not sys.flags.isolated:
        raise SelfCheckError(f"not in isolated mode: start with `python3 -I -m {_MODULE}`")
    privileges.check_interpreter()
    try:
        config_file = os.path.abspath(arguments.config_file)
    except FileNotFoundError:
        raise ConfigurationError("the current directory is gone: start in one that is there") from None
    owners = host.base_owners()
    privileges.check_code(owners)
    conf = configuration.read(config_file, owners)
    settings = _settings(conf, arguments.socket)
    nofile = privileges.settle(settings.rlimit_nofile)
    if not arguments.check:
        sinks.unblock_log()
    _start_logging(conf)
    policy = load(config.fit(settings, nofile), generation=1)
    if arguments.check:
        print(f"{config_file}: {len(policy.ruleset.filters)} filters, {len(policy.findings)} findings")
        return 0
    signals = _Signals()
    audit = Audit(settings.audit_file, required=settings.audit == "required", owners=policy.owners)
    listener = Listener(
        settings.socket_path,
        mode=settings.socket_mode,
        group=_socket_group(settings),
        owners=policy.owners,
    )
    running = Registry(_notes(settings, policy.owners))
    if settings.capabilities is not None:
        privileges.keep_capabilities(settings.capabilities)
    orphans.adopt()
    server = Server(listener, policy, audit, running)

    def reload() -> Policy:
        audit.reopen()
        new = _settings(configuration.read(config_file, owners), arguments.socket)
        return load(config.fit(new, nofile), server.policy.generation + 1)

    _log_start(policy, settings)
    server.serve(signals.descriptor, _Reaction(signals, server, reload).on_signal)
    LOG.info("stopping")
    server.stop()
    audit.close()
    return 0


def _settings(conf: cfg.ConfigOpts, socket_path: str | None) -> config.Settings:
    if socket_path is not None:
        conf.set_override("socket_path", os.path.abspath(socket_path))
    return config.read_settings(conf)


def _notes(settings: config.Settings, owners: frozenset[int]) -> Notes | None:
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


def _socket_group(settings: config.Settings) -> int | None:
    if settings.socket_group is None:
        return None
    try:
        return host.group_number(settings.socket_group)
    except KeyError:
        raise ConfigurationError(
            f"socket_group: there is no {settings.socket_group!r} here: name one"
        ) from None


def _log_start(policy: Policy, settings: config.Settings) -> None:
    if policy.settings.max_connections < settings.max_connections:
        LOG.warning(
            "open files are limited to fewer than the limits need: %d connections and %d commands at once",
            policy.settings.max_connections,
            policy.settings.max_commands,
        )
    LOG.info("%d filters; listening on %s", len(policy.ruleset.filters), settings.socket_path)


class _Signals:
    """Signals as bytes on a descriptor that poll(2) can wait for; none of them ends the process any more."""

    def __init__(self) -> None:
        self.descriptor, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            # The number arrives through the wake-up descriptor; the handler only keeps the default action
            # away.
            signal.signal(number, lambda number, frame: None)

    def read(self) -> bytes:
        """The numbers of the signals that came."""
        return os.read(self.descriptor, 4096)


class _Reaction:
    """What the main thread does about them: SIGTERM, SIGINT stop; SIGHUP reloads in a thread of its own."""

    def __init__(self, signals: _Signals, server: Server, reload: Callable[[], Policy]) -> None:
        self._signals = signals
        self._server = server
        self._reload = reload
        self._reloading = threading.Lock()

    def on_signal(self) -> bool:
        """True if the daemon shall stop."""
        numbers = self._signals.read()
        if signal.SIGTERM in numbers or signal.SIGINT in numbers:
            return True
        if signal.SIGHUP in numbers:
            try:
                threading.Thread(target=self._load, daemon=True).start()
            except RuntimeError as error:
                LOG.error("not reloaded: %s", error)
        return False

    def _load(self) -> None:
        # One at a time, each reading the files after its signal came.
        with self._reloading:
            try:
                policy = self._reload()
            except Error as error:
                LOG.error(
                    "not reloaded, the rules of generation %d stay: %s", self._server.policy.generation, error
                )
                return
            self._server.policy = policy
            LOG.info("reloaded: generation %d, %d filters", policy.generation, len(policy.ruleset.filters))


if __name__ == "__main__":
    sys.exit(main())
