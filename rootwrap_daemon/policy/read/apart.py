"""Refuse a configuration in which one name is two things of those that the daemon makes and reads.

Promises: it looks at names and links alone, and makes nothing.
"""

import os

from rootwrap_daemon.errors import ConfigurationError
from rootwrap_daemon.settings import Settings


def check(settings: Settings, log_file: str, config_file: str) -> None:
    """Compare the real paths; `log_file` is empty without one.

    Raises ConfigurationError that names both options.
    """
    made = [(settings.socket_path + end, "socket_path") for end in ("", ".new", ".lock")]
    if settings.audit_file not in ("", "journal"):
        made.append((settings.audit_file, "audit_file"))
    if log_file:
        made.append((log_file, "log_file"))
    if settings.state_dir:
        made += [(settings.state_dir, "state_dir"), (f"{settings.state_dir}/running", "state_dir")]
    found: dict[str, str] = {}
    for path, option in made:
        other = found.setdefault(os.path.realpath(path), option)
        # Two may have their lines thrown away.
        if other != option and path != os.devnull:
            raise ConfigurationError(f"{option}: {path} is of {other}, too: name another path")
    read = {os.path.realpath(directory): ".filters" for directory in settings.filters_path}
    read[os.path.realpath(f"{config_file}.d")] = ".conf"
    for path, option in found.items():
        # It would be read with the next start.
        end = read.get(os.path.dirname(path))
        if path == os.path.realpath(config_file) or (end is not None and path.endswith(end)):
            raise ConfigurationError(f"{option}: {path} is a file that the daemon reads: name another path")
