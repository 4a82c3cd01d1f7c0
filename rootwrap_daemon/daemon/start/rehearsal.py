"""Do the rest of a start for `--check`: try what it opens, and leave nothing of it.

Promises: what is refused here is refused by a start, with the same option named.
"""

import os
import stat
from dataclasses import replace

from rootwrap_daemon.counted import counted
from rootwrap_daemon.daemon.handover import Configured
from rootwrap_daemon.daemon.record import audit, log
from rootwrap_daemon.daemon.start import surroundings
from rootwrap_daemon.errors import ConfigurationError
from rootwrap_daemon.policy import host
from rootwrap_daemon.policy.read import owned


def rehearse(configured: Configured) -> str:
    """Try the audit log, the log and the state directory; return what the policy comes to, in words.

    Raises ConfigurationError.
    """
    policy = configured.policy
    settings, owners = policy.settings, policy.owners
    # To standard error, wherever log lines go otherwise.
    logs = log.Log(replace(configured.log, stderr=True, file="", syslog="", journal=False))
    try:
        logs.write(configured.lines)
        if settings.audit_file == audit.JOURNAL:
            audit.Audit(settings.audit_file, required=False, owners=owners).close()
        elif settings.audit_file:
            _file("audit_file", settings.audit_file, owners)
        if configured.log.file:
            _file("log_file", configured.log.file, None)
        log.Formatter(configured.log)
        for handler in log.handlers_of(replace(configured.log, file="")):
            handler.close()
        if settings.state_dir:
            _directory("state_dir", settings.state_dir, owners)
    finally:
        logs.close(None)
    return (
        f"{counted(len(policy.filters), 'filter')}, {counted(len(policy.findings), 'finding')}{policy.nobody}"
    )


def _file(option: str, path: str, owners: frozenset[int] | None) -> None:
    """A file to append to, which need not be there; `owners` of its directories, None for whoever."""
    try:
        directory = os.path.dirname(path) if owners is None else owned.directory_of(path, owners)
        name = os.path.join(directory, os.path.basename(path))
        flags = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
        try:
            os.close(os.open(name, flags | (0 if owners is None else os.O_NOFOLLOW)))
        except FileNotFoundError:
            surroundings.can_be_made(directory)
    except (OSError, host.UntrustedPath) as error:
        raise ConfigurationError(f"{option}: {path} cannot be opened: {error}") from error


def _directory(option: str, path: str, owners: frozenset[int]) -> None:
    """A directory of this daemon alone, which need not be there."""
    try:
        parent = owned.directory_of(path, owners)
        try:
            found = host.resolve_owned(path, owners)
        except FileNotFoundError:
            surroundings.can_be_made(parent)
            return
        if found.status is None or not stat.S_ISDIR(found.status.st_mode):
            raise NotADirectoryError(f"{path} is no directory")
        running = f"{found.path}/running"
        try:
            os.close(os.open(running, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK))
        except FileNotFoundError:
            surroundings.can_be_made(found.path)
    except (OSError, host.UntrustedPath) as error:
        raise ConfigurationError(
            f"{option}: {path}: {error}: it must be a directory that only root can write"
        ) from error
