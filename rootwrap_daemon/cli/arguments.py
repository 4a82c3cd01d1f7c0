"""The arguments that say which policy, and the way from root to a user who can change nothing."""

import argparse
import logging
import os

from rootwrap_daemon.analysis import load
from rootwrap_daemon.analysis.load import Source
from rootwrap_daemon.policy import host

DEFAULT_CONFIG = "/etc/rootwrap-daemon/rootwrap-daemon.conf"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """--config-file and --filters, one or the other."""
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--config-file",
        metavar="FILE",
        help=f"the daemon's configuration, which names its filters (default: {DEFAULT_CONFIG})",
    )
    which.add_argument(
        "--filters",
        metavar="PATH",
        action="append",
        help="a filter file, or a directory of them, without any configuration; may be repeated",
    )


def chosen(args: argparse.Namespace) -> Source:
    """The policy that the arguments name. Raises ConfigurationError or Unreadable."""
    if args.filters:
        return named(*args.filters)
    path: str = args.config_file or DEFAULT_CONFIG
    _quiet()
    return load.from_config(path)


def named(*paths: str) -> Source:
    """The policy of a configuration file, or of filter files and directories. Raises as `chosen`."""
    _quiet()
    if len(paths) == 1 and paths[0].endswith(".conf") and not os.path.isdir(paths[0]):
        return load.from_config(paths[0])
    return load.from_files(paths)


def _quiet() -> None:
    # What the loader would write to the daemon's log stands in the policy's findings.
    logging.getLogger("rootwrap_daemon").addHandler(logging.NullHandler())


def drop_privileges(found: Source | None) -> str:
    """Become a user who can change nothing, if this is root; what is to be said of it, empty if nothing.

    That user is the first one whom the configuration allows, else nobody. Irrevocable: setresuid(2) from root
    takes all capabilities along (capabilities(7)).
    """
    if os.geteuid() != 0:
        return f"looked at this host as uid {os.geteuid()}, the daemon does as root"
    allowed = sorted(found.policy.allowed_uids) if found else []
    who = next((uid for uid in allowed if uid), host.overflow_uid())
    try:
        os.setgroups([])
        os.setresgid(who, who, who)
        os.setresuid(who, who, who)
    except OSError as error:
        # A user namespace with a single user: its root can change what that user can.
        return f"still root: no other user can be become here ({error.strerror})"
    if 0 in (*os.getresuid(), *os.getresgid()):
        raise PermissionError("the privileges of root did not go")
    return f"looked at this host as uid {who}, the daemon does as root"
