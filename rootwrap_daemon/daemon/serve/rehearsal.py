"""Try what a start opens, for `--check`: nothing is left of it.

Promises: what is refused here is refused by a start, with the same option named.
"""

import os
import stat

from rootwrap_daemon.daemon import self_check
from rootwrap_daemon.daemon.handover import LogSettings
from rootwrap_daemon.daemon.record import audit, log
from rootwrap_daemon.errors import ConfigurationError
from rootwrap_daemon.policy import host
from rootwrap_daemon.settings import Settings


def rehearse(settings: Settings, logs: LogSettings, owners: frozenset[int]) -> None:
    """Try the audit log, the log and the state directory. Raises ConfigurationError."""
    if settings.audit_file == audit.JOURNAL:
        audit.Audit(settings.audit_file, required=False, owners=owners).close()
    elif settings.audit_file:
        _file("audit_file", settings.audit_file, owners)
    if logs.file:
        _file("log_file", logs.file, None)
    log.check(logs)
    if settings.state_dir:
        _directory("state_dir", settings.state_dir, owners)


def _file(option: str, path: str, owners: frozenset[int] | None) -> None:
    """A file to append to, which need not be there; `owners` of its directories, None for whoever."""
    try:
        parent = os.path.dirname(path)
        directory = parent if owners is None else host.resolve_owned(parent, owners).path
        name = os.path.join(directory, os.path.basename(path))
        flags = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
        try:
            os.close(os.open(name, flags | (0 if owners is None else os.O_NOFOLLOW)))
        except FileNotFoundError:
            self_check.can_be_made(directory)
    except (OSError, host.UntrustedPath) as error:
        raise ConfigurationError(f"{option}: {path} cannot be opened: {error}") from error


def _directory(option: str, path: str, owners: frozenset[int]) -> None:
    """A directory of this daemon alone, which need not be there."""
    try:
        parent = host.resolve_owned(os.path.dirname(path), owners).path
        if not stat.S_ISDIR(os.stat(parent).st_mode):
            raise NotADirectoryError(f"{parent} is no directory")
        try:
            found = host.resolve_owned(path, owners)
        except FileNotFoundError:
            self_check.can_be_made(parent)
            return
        if found.status is None or not stat.S_ISDIR(found.status.st_mode):
            raise NotADirectoryError(f"{path} is no directory")
        running = f"{found.path}/running"
        try:
            os.close(os.open(running, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK))
        except FileNotFoundError:
            self_check.can_be_made(found.path)
    except (OSError, host.UntrustedPath) as error:
        raise ConfigurationError(
            f"{option}: {path}: {error}: it must be a directory that only root can write"
        ) from error
