"""Start the daemon: check itself, read the configuration, take the socket, drop privileges, go on to serve.

Promises: it starts whole or not at all, and says in one line why not. What it goes on as, in the same
process, is daemon/serve/main.py, which is given values and descriptors and inherits nothing else.
"""

import os
import sys

from rootwrap_daemon.daemon.start import bootstrap

if __name__ == "__main__":
    bootstrap.forget(os.environ)

import argparse
import logging
import signal
import stat
from collections.abc import Sequence
from importlib import metadata
from typing import Final, NoReturn

from rootwrap_daemon.daemon import handover, self_check
from rootwrap_daemon.daemon.handover import Configured, Door, Handover
from rootwrap_daemon.daemon.record.log import prefixed, write
from rootwrap_daemon.daemon.start import (
    client_started,
    read,
    rehearsal,
    sockets,
    surroundings,
    systemd,
)
from rootwrap_daemon.daemon.start.log_lines import Collected
from rootwrap_daemon.errors import ConfigurationError, Error, SelfCheckError
from rootwrap_daemon.policy import host
from rootwrap_daemon.policy.read import apart, users
from rootwrap_daemon.settings import Settings
from rootwrap_daemon.usage import Parser

LOG = logging.getLogger(bootstrap.MODULE)  # not `__main__`

_SERVE: Final = "rootwrap_daemon.daemon.serve.main"


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


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Start the daemon; what comes of it is the exit code of this process."""
    argv = sys.argv[1:] if argv is None else argv
    arguments = _arguments(argv)
    surroundings.fill_standard_descriptors()
    in_journal = systemd.is_journal(os.environ)
    try:
        _go_on(_start(arguments, in_journal=in_journal), argv)
    except Error as error:
        text = f"rootwrap-daemon: {error}"
        write(prefixed(text, logging.ERROR) if in_journal else text)
        sys.exit(error.exit_code)


def _start(arguments: argparse.Namespace, *, in_journal: bool) -> Handover:
    """All that can go wrong before the filters are read. Raises Error."""
    control = _control(arguments)
    # A client's own manager is told nothing by its daemon.
    said = systemd.said(os.environ) if control is None else systemd.Said()
    maker = control.peer.uid if control and control.peer and arguments.peer_uid is None else None
    by_another = client_started.by_another(os.environ, maker)
    if not sys.flags.isolated:
        raise SelfCheckError(f"not in isolated mode: start with `python3 -I -m {bootstrap.MODULE}`")
    surroundings.check_interpreter()
    try:
        config_file = os.path.abspath(arguments.config_file)
        socket_path = None if arguments.socket is None else os.path.abspath(arguments.socket)
    except FileNotFoundError:
        raise ConfigurationError("the current directory is gone: start in one that is there") from None
    owners = host.base_owners()
    self_check.check_code(owners)
    with Collected() as collected:
        if bootstrap.DROPPED:
            LOG.info("dropped from the environment: %s", ", ".join(bootstrap.DROPPED))
        settings, log = read.read(config_file, owners, socket_path, terse=by_another, prefixed=in_journal)
        if not settings.audit_file and settings.audit == "required":
            _keeps_records(by_another=by_another, in_journal=in_journal, check=arguments.check)
        surroundings.settle(settings.rlimit_nofile, by_another=by_another)
        hidden = by_another and not read.is_for_all(config_file, settings)
        with read.told(config_file, hidden=hidden):
            apart.check(settings, log.file, config_file)
            door = control or _door(said, settings, check=arguments.check)
            if settings.capabilities is not None:
                surroundings.keep_capabilities(settings.capabilities)
            policy = read.policy(settings, 1)
    # A check writes them to standard error, wherever they go otherwise.
    lines = () if hidden and (log.stderr or arguments.check) else tuple(collected.lines)
    configured = Configured(policy=policy, log=log, lines=lines)
    with read.told(config_file, hidden=hidden):
        if arguments.check or door is None:
            sys.stdout.write(f"{config_file}: {rehearsal.rehearse(configured)}\n")
            sys.exit(0)
        rehearsal.try_out(settings, log, policy.owners)
    return Handover(
        configured=configured,
        read_again=(
            "hide" if by_another and log.stderr else "tell",
            config_file,
            *(() if socket_path is None else (socket_path,)),
        ),
        version=metadata.version("rootwrap-daemon"),
        door=door,
        notify=said.address,
        watchdog=said.watchdog,
    )


def _keeps_records(*, by_another: bool, in_journal: bool, check: bool) -> None:
    """Raise ConfigurationError if standard error is no place for records that are required."""
    if by_another:
        whose = "of the user who started this daemon"
    elif in_journal:
        whose = "that is the journal's, which drops some"
    elif stat.S_ISCHR(os.fstat(2).st_mode) and not os.isatty(2) and not check:
        # A service may have another than whoever checks.
        whose = "that is a device which keeps none"
    else:
        return
    raise ConfigurationError(
        f"audit_file: the records would go to the standard error {whose}: "
        "name a file, or write `audit = best_effort`"
    )


def _control(arguments: argparse.Namespace) -> Door | None:
    """The socket of a client that starts this daemon. Raises ConfigurationError."""
    control = client_started.control_socket()
    if control is not None:
        peer = client_started.the_peer(control, os.environ, arguments.peer_uid)
        return Door(kind="client", descriptor=control.detach(), place="descriptor 0", peer=peer)
    if arguments.peer_uid is not None:
        raise ConfigurationError("--peer-uid is for a daemon that its client starts: leave it out")
    return None


def _door(said: systemd.Said, settings: Settings, *, check: bool) -> Door | None:
    """Return where connections will come from; nothing is made for a check. Raises ConfigurationError."""
    owners = users.owners(settings)
    if said.listening is not None:
        return sockets.handed(said.listening, settings, owners)
    if check:
        sockets.check(settings, owners)
        return None
    return sockets.bound(settings, owners)


def _go_on(given: Handover, argv: Sequence[str]) -> NoReturn:
    """Become the program that serves. Raises SelfCheckError."""
    words = [sys.executable, "-I", "-B", "-X", "utf8", "-m", _SERVE]
    try:
        memfd = handover.new()
        handover.give(given, memfd)
        kept = {0, 1, 2, memfd, *(given.door.descriptors)}
        for number in map(int, os.listdir("/proc/self/fd")):
            # Whatever the starter left open, too.
            if number not in kept:
                os.closerange(number, number + 1)
        for number in kept:
            os.set_inheritable(number, True)
        # One that comes meanwhile waits until the other program can heed it.
        signal.pthread_sigmask(signal.SIG_BLOCK, handover.SIGNALS)
        # For whoever looks at the list of processes, the arguments go along.
        os.execve(sys.executable, [*words, str(memfd), *argv], {})
    except OSError as error:
        raise SelfCheckError(f"the program that serves cannot be started: {error}") from error


if __name__ == "__main__":
    main()
