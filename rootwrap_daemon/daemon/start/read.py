"""Read configuration and filters for the program that serves, which parses no text; a reload runs this file.

Promises: what is given is all that the files say, or nothing; errors go to standard error, with the exit code
of their kind.
"""

import os
import sys

from rootwrap_daemon.daemon.start import bootstrap

if __name__ == "__main__":
    bootstrap.forget(os.environ)

import contextlib
import logging
import resource
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

from rootwrap_daemon import config
from rootwrap_daemon.daemon import handover, self_check
from rootwrap_daemon.daemon.handover import Configured, LogSettings
from rootwrap_daemon.daemon.start import surroundings
from rootwrap_daemon.daemon.start.log_lines import Collected
from rootwrap_daemon.errors import ConfigurationError, Error
from rootwrap_daemon.filters.finding import Severity
from rootwrap_daemon.policy import host
from rootwrap_daemon.policy.bind import MAX_PROCESSES
from rootwrap_daemon.policy.policy import Policy
from rootwrap_daemon.policy.read import apart, owned
from rootwrap_daemon.policy.read.policy import load
from rootwrap_daemon.protocol.messages import MAX_DESCRIPTORS
from rootwrap_daemon.settings import Settings

LOG = logging.getLogger("rootwrap_daemon.daemon.start.read")  # not `__main__`

#: Options of oslo.log that the daemon cannot do, by the value with which they do nothing.
_NOT_DONE: Final = {"use_json": False, "log_rotation_type": "none"}


def read(
    config_file: str,
    owners: frozenset[int],
    socket_path: str | None,
    *,
    terse: bool = False,
    prefixed: bool = False,
) -> tuple[Settings, LogSettings]:
    """Read `config_file`, an absolute path, and its drop-ins.

    `owners`: who may own them. `socket_path` takes the place of the option. `terse`: errors name places, and
    no word of a file. `prefixed`: standard error leads to the journal. Raises ConfigurationError.
    """
    settings, conf = config.load(config_file, owners, socket_path=socket_path, terse=terse)
    return settings, _log_settings(conf, prefixed)


#: Descriptors of one connection (with those that a client may have passed), of one running command (three
#: pipes, a pidfd, those of processes that it names, and four more while it is spawned), and of the daemon.
_PER_CONNECTION: Final = 1 + MAX_DESCRIPTORS
_PER_COMMAND: Final = 8 + MAX_PROCESSES
_OWN: Final = 64


def fit(settings: Settings, nofile: int) -> Settings:
    """The settings with connections and commands so bounded that `nofile` descriptors are enough."""
    room = nofile - _OWN
    wanted = settings.max_connections * _PER_CONNECTION + settings.max_commands * _PER_COMMAND
    if wanted <= room:
        return settings
    share = max(room, 0) / wanted
    return replace(
        settings,
        max_connections=max(1, int(settings.max_connections * share)),
        max_connections_per_user=max(1, int(settings.max_connections_per_user * share)),
        max_commands=max(1, int(settings.max_commands * share)),
        max_commands_per_user=max(1, int(settings.max_commands_per_user * share)),
    )


def policy(settings: Settings, generation: int) -> Policy:
    """Load the policy of these settings, with limits that fit to this process. Raises ConfigurationError."""
    nofile, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    fitted = fit(settings, nofile)
    if fitted != settings:
        LOG.warning(
            "open files are limited to fewer than the limits need: %d connections and %d commands at once",
            fitted.max_connections,
            fitted.max_commands,
        )
    return load(fitted, generation, capabilities=surroundings.capabilities())


#: The beginning of oslo.log's own formats: the journal has time and process of each line by itself.
_HEAD: Final = "%(asctime)s.%(msecs)03d %(process)d "


def _log_settings(conf: Any, prefixed: bool) -> LogSettings:
    file = conf.log_file or ("rootwrap-daemon.log" if conf.log_dir else "")
    elsewhere = conf.use_syslog or conf.use_journal or file
    for name, value in _NOT_DONE.items():
        if conf[name] != value:
            LOG.warning("%s has no effect here: take it out", name)
    line, exception = conf.logging_default_format_string, conf.logging_exception_prefix or ""
    if prefixed and not file:
        line, exception = line.removeprefix(_HEAD), exception.removeprefix(_HEAD)
    return LogSettings(
        level=logging.DEBUG if conf.debug else logging.getLevelName(conf.syslog_log_level.upper()),
        levels=tuple(_level(pair) for pair in conf.default_log_levels if pair.startswith("rootwrap_daemon")),
        stderr=conf.use_stderr or not elsewhere,
        prefixed=prefixed,
        file=file and os.path.join(conf.log_dir or "", file),
        syslog=conf.syslog_log_facility if conf.use_syslog else "",
        journal=conf.use_journal,
        format=line,
        debug_suffix=conf.logging_debug_format_suffix or "",
        exception_prefix=exception,
        date_format=conf.log_date_format,
    )


def _level(pair: str) -> tuple[str, str]:
    logger, _, level = pair.partition("=")
    if not isinstance(logging.getLevelName(level), int):
        raise ConfigurationError(f"default_log_levels: {pair!r}: write e.g. rootwrap_daemon=INFO")
    return logger, level


def _leaves_some(found: Policy) -> None:
    """Raise ConfigurationError if `on_finding = skip` would leave no rule at all."""
    errors = [one for one in found.findings if one.severity is Severity.ERROR]
    if errors and not found.filters:
        raise ConfigurationError("\n".join((*map(str, errors), "nothing is left: correct these, or stop it")))


def is_for_all(config_file: str, settings: Settings) -> bool:
    """True if every user may read all that was read."""
    return all(map(owned.all_may_read, (config_file, f"{config_file}.d", *settings.filters_path)))


@contextlib.contextmanager
def told(config_file: str, *, hidden: bool) -> Iterator[None]:
    """Say nothing of what is wrong in here, if `hidden` from who sees standard error. Raises Error."""
    try:
        yield
    except Error:
        if not hidden:
            raise
        what = "the daemon cannot go on with this, and you may not read all of it: as root, --check says why"
        raise ConfigurationError(f"{config_file}: {what}") from None


def main(words: list[str]) -> int:
    """Read into a memfd: its number, the policy's generation, "hide" or "tell", FILE, a socket's path if any.

    "hide": say nothing of files that not everybody may read: whoever started the daemon would see it.
    """
    descriptor, generation, saying, config_file, *socket_path = words
    terse = saying == "hide"
    try:
        owners = host.base_owners()
        self_check.check_code(owners)
        with Collected() as collected:
            socket = socket_path[0] if socket_path else None
            settings, log = read(config_file, owners, socket, terse=terse)
            hidden = terse and not is_for_all(config_file, settings)
            with told(config_file, hidden=hidden):
                apart.check(settings, log.file, config_file)
                found = policy(settings, int(generation))
                _leaves_some(found)
        lines = () if hidden else tuple(collected.lines)
        handover.give(Configured(policy=found, log=log, lines=lines), int(descriptor))
    except Error as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
