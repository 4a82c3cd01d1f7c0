"""Take the options of an existing rootwrap.conf over into the configuration of an instance.

Promises: what is taken over is valid; whatever is not is named, with what to do.
"""

import configparser
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from rootwrap_daemon import config
from rootwrap_daemon.cli import arguments
from rootwrap_daemon.config_options import LOG_OPTS, OPTS
from rootwrap_daemon.errors import ConfigurationError
from rootwrap_daemon.filters.finding import Severity
from rootwrap_daemon.policy import host
from rootwrap_daemon.policy.read import owned
from rootwrap_daemon.policy.read.policy import load

#: Set by the installation itself.
_OWN: Final = frozenset(("socket_path", "socket_mode", "socket_group", "allowed_users", "allowed_groups"))
#: What would do harm or nothing here, and why.
_LEFT: Final = {
    "use_syslog": "the daemon writes to the journal",
    "syslog_log_facility": "the journal has fields instead",
    # ERROR in every file that OpenStack ships: it would mute a daemon that is new here.
    "syslog_log_level": "the log of a new daemon is worth reading; set it again when it runs well",
}


@dataclass(frozen=True, slots=True)
class Taken:
    """Lines for the new configuration, and what could not be taken over, a line each."""

    lines: tuple[str, ...]
    missed: tuple[str, ...]


def take_over(path: str, own_filters: str) -> Taken:
    """Read a rootwrap.conf. `own_filters`: a directory to read after its own. Raises ConfigurationError."""
    parser = configparser.RawConfigParser(strict=False)
    try:
        with open(owned.open_owned(path, host.base_owners()), encoding="utf-8") as file:
            parser.read_file(file)
    except (OSError, host.UntrustedPath, UnicodeDecodeError, configparser.Error) as error:
        what = "it must be a rootwrap.conf that only root can write"
        raise ConfigurationError(f"{path}: {error}: {what}") from error
    known = {option.dest for option in (*OPTS, *LOG_OPTS)} - _OWN - _LEFT.keys()
    lines, missed = [], []
    given = {name: " ".join(value.split()) for name, value in parser.defaults().items()}
    # Filters that are written for the daemon stand beside what is taken over.
    # A blank beside a comma would be a part of a name to oslo.rootwrap (RW206).
    paths = [one.strip() for one in given.get("filters_path", "").split(",")]
    given["filters_path"] = ",".join(filter(None, (*paths, own_filters)))
    for name, value in given.items():
        if name in known:
            lines.append(f"{name} = {value}")
        else:
            reason = "set by the installation" if name in _OWN else "not an option of rootwrap-daemon"
            missed.append(f"{name}: {_LEFT.get(name, reason)}")
    missed += [f"[{section}]: the daemon uses [DEFAULT] alone" for section in parser.sections()]
    if not any(line.startswith("on_finding ") for line in lines):
        # Filters that are not safe are left out, and the rest works: as this is for.
        lines.append("on_finding = skip")
    return Taken(tuple(lines), tuple(missed))


def judge(text: str, own_filters: str, say: Callable[[str], None]) -> int:
    """Load a configuration's text with its filters; say each finding. The number of filters in force.

    `own_filters` may not be there yet. Raises ConfigurationError.
    """
    # What the daemon would log is said here.
    arguments.quiet()
    policy = load(config.look_at(text, "the new configuration").required(), generation=1)
    for finding in policy.findings:
        if finding.location.file == own_filters and not os.path.exists(own_filters):
            continue
        what = "left out" if finding.severity is Severity.ERROR else "note"
        say(f"{what}: {finding}")
    return len(policy.ruleset.filters)
