"""Try what a start opens, and leave nothing of it; do the rest of a start for `--check`.

Promises: a start makes the same tries before it goes on, so what is refused here is refused by it.
"""

import os
import stat
from dataclasses import replace

from rootwrap_daemon.counted import counted
from rootwrap_daemon.daemon import handover
from rootwrap_daemon.daemon.handover import Configured, LogSettings
from rootwrap_daemon.daemon.record import audit, log, sinks
from rootwrap_daemon.daemon.start import surroundings
from rootwrap_daemon.errors import ConfigurationError
from rootwrap_daemon.policy import host
from rootwrap_daemon.policy.read import owned
from rootwrap_daemon.settings import Settings


def rehearse(configured: Configured) -> str:
    """Try the audit log, the log and the state directory; return what the policy comes to, in words.

    Log lines go to standard error.

    Raises ConfigurationError.
    """
    policy = configured.policy
    logs = log.Log(replace(configured.log, stderr=True, file="", syslog="", journal=False))
    try:
        logs.write(configured.lines)
        try_out(policy.settings, configured.log, policy.owners)
        _hand_over(configured)
        if policy.settings.audit_file == audit.JOURNAL:
            audit.Audit(audit.JOURNAL, required=False, owners=policy.owners).close()
        log.Formatter(configured.log)
        for handler in log.handlers_of(replace(configured.log, file="")):
            handler.close()
    finally:
        logs.close(None)
    return (
        f"{counted(len(policy.filters), 'filter')}, {counted(len(policy.findings), 'finding')}{policy.nobody}"
    )


def _hand_over(configured: Configured) -> None:
    """Give the values as a start does: there may be too many. Raises ConfigurationError."""
    memfd = handover.new()
    try:
        handover.give(configured, memfd)
    finally:
        os.close(memfd)


def try_out(settings: Settings, log_settings: LogSettings, owners: frozenset[int]) -> None:
    """Open the files that the daemon writes, or see that they can be made. Raises ConfigurationError."""
    if settings.audit_file not in ("", audit.JOURNAL):
        _audit_file(settings.audit_file, owners, required=settings.audit == "required")
    if log_settings.file:
        _log_file(log_settings.file)
    if settings.state_dir:
        _state_dir(settings.state_dir, owners)


def _audit_file(path: str, owners: frozenset[int], *, required: bool) -> None:
    try:
        try:
            os.close(sinks.opened(path, owners, regular=required, create=0)[1])
        except FileNotFoundError:
            surroundings.can_be_made(owned.directory_of(path, owners))
    except (OSError, host.UntrustedPath) as error:
        raise ConfigurationError(f"audit_file: {path} cannot be opened: {error}") from error


def _log_file(path: str) -> None:
    """A file to append to, whoever owns it, behind links that need not lead to anything yet."""
    real = os.path.realpath(path)
    try:
        try:
            # Without a reader, a FIFO would hold up the start.
            flags = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
            os.close(os.open(real, flags))
        except FileNotFoundError:
            surroundings.can_be_made(os.path.dirname(real))
    except OSError as error:
        raise ConfigurationError(f"log_file: {path} cannot be opened: {error}") from error


def _state_dir(path: str, owners: frozenset[int]) -> None:
    """A directory of this daemon alone, which need not be there."""
    try:
        parent = owned.directory_of(path, owners)
        try:
            # What is no directory is in the way, and so is a link that leads nowhere.
            os.lstat(f"{parent}/{os.path.basename(path)}")
        except FileNotFoundError:
            surroundings.can_be_made(parent)
            return
        found = host.resolve_owned(path, owners)
        if found.status is None or not stat.S_ISDIR(found.status.st_mode):
            raise NotADirectoryError(f"{path} is no directory")
        running = f"{found.path}/running"
        try:
            descriptor = os.open(running, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError:
            surroundings.can_be_made(found.path)
            return
        is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)
        os.close(descriptor)
        if not is_file:
            raise FileExistsError(f"{running} is no regular file")
    except (OSError, host.UntrustedPath) as error:
        raise ConfigurationError(
            f"state_dir: {path}: {error}: it must be a directory that only root can write"
        ) from error
