"""Read the configuration for the program that serves, which loads no oslo library; a reload runs this file.

Promises: what is given is all that the files say, or nothing; errors go to standard error, with the exit code
of their kind.
"""

import os
import sys

from rootwrap_daemon.daemon.start import bootstrap

if __name__ == "__main__":
    bootstrap.forget(os.environ)

import logging
from typing import Any, Final

from rootwrap_daemon import config
from rootwrap_daemon.daemon import handover, self_check
from rootwrap_daemon.daemon.handover import Configured, LogSettings
from rootwrap_daemon.daemon.record.log import Collected
from rootwrap_daemon.errors import ConfigurationError, Error
from rootwrap_daemon.policy import host

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
) -> Configured:
    """Read `config_file`, an absolute path, and its drop-ins.

    `owners`: who may own them. `socket_path` takes the place of the option. `terse`: errors name places, and
    no word of a file. `prefixed`: standard error leads to the journal. Raises ConfigurationError.
    """
    with Collected() as collected:
        settings, conf = config.load(config_file, owners, socket_path=socket_path, terse=terse)
        log = _log_settings(conf, prefixed)
    return Configured(settings=settings, log=log, lines=tuple(collected.lines))


def _log_settings(conf: Any, prefixed: bool) -> LogSettings:
    file = conf.log_file or ("rootwrap-daemon.log" if conf.log_dir else "")
    elsewhere = conf.use_syslog or conf.use_journal or file
    for name, value in _NOT_DONE.items():
        if conf[name] != value:
            LOG.warning("%s has no effect here: take it out", name)
    return LogSettings(
        level=logging.DEBUG if conf.debug else logging.getLevelName(conf.syslog_log_level.upper()),
        levels=tuple(_level(pair) for pair in conf.default_log_levels if pair.startswith("rootwrap_daemon")),
        stderr=conf.use_stderr or not elsewhere,
        prefixed=prefixed,
        file=file and os.path.join(conf.log_dir or "", file),
        syslog=conf.syslog_log_facility if conf.use_syslog else "",
        journal=conf.use_journal,
        format=conf.logging_default_format_string,
        debug_suffix=conf.logging_debug_format_suffix or "",
        exception_prefix=conf.logging_exception_prefix or "",
        date_format=conf.log_date_format,
    )


def _level(pair: str) -> tuple[str, str]:
    logger, _, level = pair.partition("=")
    if not isinstance(logging.getLevelName(level), int):
        raise ConfigurationError(f"default_log_levels: {pair!r}: write e.g. rootwrap_daemon=INFO")
    return logger, level


def main(words: list[str]) -> int:
    """Read the configuration into a memfd: its number, FILE, and a socket's path if one is given."""
    descriptor, config_file, *socket_path = words
    try:
        owners = host.base_owners()
        self_check.check_code(owners)
        configured = read(config_file, owners, socket_path[0] if socket_path else None)
        handover.give(configured, int(descriptor))
    except Error as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
