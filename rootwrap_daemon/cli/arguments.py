"""Define the arguments that name an instance, a policy or a log, once for every command.

Promises: without one, the only instance that is installed is meant. Root becomes a user who can change
nothing before it looks at the words of others.
"""

import argparse
import logging
import os
from collections.abc import Iterable
from dataclasses import dataclass

from rootwrap_daemon import DEFAULT_SOCKET
from rootwrap_daemon.analysis import audit_log, load
from rootwrap_daemon.analysis.load import Source
from rootwrap_daemon.errors import Unreadable, Usage
from rootwrap_daemon.openstack import SOCKET_VARIABLE
from rootwrap_daemon.policy import host
from rootwrap_daemon.settings import Settings
from rootwrap_daemon.usage import did_you_mean

#: Where the configurations of instances are, each NAME.conf.
CONFIG_DIR = "/etc/rootwrap-daemon"
#: What can stand for a log, in help texts.
LOGS = "audit files (also compressed, or what journalctl -o json wrote), `journal`, or - for standard input"


@dataclass(frozen=True, slots=True)
class Instance:
    """A configured daemon of this host."""

    name: str
    config_file: str

    @property
    def unit(self) -> str:
        """Its service."""
        return f"rootwrap-daemon@{self.name}.service"

    def settings(self) -> Settings:
        """Return what its configuration says. Raises ConfigurationError or Unreadable."""
        return load.configuration(self.config_file).required()

    def logs(self) -> list[audit_log.Source]:
        """Its audit log, with the rotated files. Raises as `settings`."""
        file = self.settings().audit_file
        if file in ("", audit_log.JOURNAL):
            return [audit_log.Source(audit_log.JOURNAL, self.unit)]
        return [audit_log.Source(name) for name in audit_log.rotated(file)]


def instances() -> list[Instance]:
    """The installed instances by name."""
    try:
        names = sorted(os.listdir(CONFIG_DIR))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise Unreadable(f"{CONFIG_DIR}: {error.strerror}") from error
    return [
        Instance(name.removesuffix(".conf"), f"{CONFIG_DIR}/{name}")
        for name in names
        if name.endswith(".conf") and not name.startswith(".")
    ]


def instance(name: str | None) -> Instance:
    """The instance of that name; without one, that of ROOTWRAP_DAEMON_SOCKET, or the only one.

    Raises Unreadable or Usage.
    """
    found = instances()
    if name is not None:
        for one in found:
            if one.name == name:
                return one
        hint = did_you_mean(name, (one.name for one in found))
        raise Unreadable(f"no instance {name} is installed in {CONFIG_DIR}{hint}")
    if path := os.environ.get(SOCKET_VARIABLE):
        for one in found:
            if one.settings().socket_path == path:
                return one
    if len(found) == 1:
        return found[0]
    if not found:
        raise Unreadable(f"no instance is installed in {CONFIG_DIR}: name a configuration or filter files")
    raise Usage(f"say which one with --instance: {', '.join(one.name for one in found)}")


def add_list(parser: argparse.ArgumentParser, option: str, metavar: str, text: str) -> None:
    """Add an option that may be given more than once: a list, empty without."""
    parser.add_argument(option, metavar=metavar, action="append", default=[], help=text)


def assignment(text: str, form: str, before: str = "") -> tuple[str, str]:
    """Name and value of `NAME=VALUE`. `form`: how it is to be written, `before`: its option. Raises Usage."""
    name, equals, value = text.partition("=")
    if not equals:
        raise Usage(f"{before}{text}: write {form}")
    return name, value


def add_instance(parser: "argparse.ArgumentParser | argparse._MutuallyExclusiveGroup") -> None:
    """--instance."""
    parser.add_argument("--instance", metavar="NAME", help="an installed instance (default: the only one)")


def add_policy(parser: argparse.ArgumentParser, before: str = "") -> None:
    """--instance, --config-file or --filters. `before`: text in front of their help."""
    which = parser.add_mutually_exclusive_group()
    add_instance(which)
    which.add_argument(
        "--config-file", metavar="FILE", help=f"{before}a daemon's configuration, which names its filters"
    )
    which.add_argument(
        "--filters",
        metavar="PATH",
        action="append",
        help=f"{before}a filter file, or a directory of them; may be repeated",
    )


def add_daemon(parser: argparse.ArgumentParser) -> None:
    """--instance or --socket."""
    which = parser.add_mutually_exclusive_group()
    add_instance(which)
    which.add_argument(
        "--socket",
        metavar="PATH",
        help=f"where the daemon listens (default: ${SOCKET_VARIABLE}, or the instance's)",
    )


def socket_path(args: argparse.Namespace) -> str:
    """Return where the daemon listens that the arguments of `add_daemon` mean. Raises as `instance`."""
    if args.socket:
        return str(args.socket)
    if not args.instance:
        if path := os.environ.get(SOCKET_VARIABLE, ""):
            return path
        if not instances():
            return DEFAULT_SOCKET
    return instance(args.instance).settings().socket_path


def is_named(args: argparse.Namespace) -> bool:
    """Do the arguments of `add_policy` name a policy?"""
    return bool(args.filters or args.config_file or args.instance)


def policy(args: argparse.Namespace) -> Source:
    """The policy that the arguments of `add_policy` mean. Raises ConfigurationError, Unreadable or Usage."""
    if args.filters:
        return named(*args.filters)
    quiet()
    return load.from_config(args.config_file or instance(args.instance).config_file)


def named(*paths: str) -> Source:
    """The policy of a configuration file, or of filter files and directories. Raises as `policy`."""
    quiet()
    if len(paths) == 1 and paths[0].endswith(".conf") and not os.path.isdir(paths[0]):
        return load.from_config(paths[0])
    return load.from_files(paths)


def logs(names: Iterable[str], of_instance: str | None = None) -> list[audit_log.Source]:
    """The logs that a command line names; of the journal, only that of an instance where one is named."""
    unit = instance(of_instance).unit if of_instance else None
    return [audit_log.Source(name, unit) for name in names]


def quiet() -> None:
    """Log nothing of what the loader would: it stands in the policy's findings."""
    logging.getLogger("rootwrap_daemon").addHandler(logging.NullHandler())


def drop_privileges(found: Source | None) -> str:
    """Become a user who can change nothing, if this is root; return a note about who looked at this host.

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
