"""Load a policy: read its filters, and resolve the names in them and in the settings.

Promises: a policy that cannot be loaded whole is no policy.
"""

import logging
import os
import stat
import time
from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from rootwrap_daemon.errors import ConfigurationError
from rootwrap_daemon.filters.base import Filter
from rootwrap_daemon.filters.finding import Finding, Location, Severity
from rootwrap_daemon.filters.kinds import AnyFilter, EnvFilter
from rootwrap_daemon.filters.read.fault import Fault
from rootwrap_daemon.filters.values import CAPABILITIES
from rootwrap_daemon.policy import host
from rootwrap_daemon.policy.policy import Policy
from rootwrap_daemon.policy.read import files, users
from rootwrap_daemon.settings import Settings

LOG = logging.getLogger(__name__)

#: The directories of the system's programs; of some, one is a link to another.
_OF_PROGRAMS: Final = ("/usr/bin", "/bin", "/usr/sbin", "/sbin")


def load(
    settings: Settings,
    generation: int,
    *,
    as_root: bool | None = None,
    capabilities: frozenset[int] | None = None,
) -> Policy:
    """Read the filters and resolve every name. Raises ConfigurationError with all that is wrong.

    `as_root`: as root would, whoever loads it and will run nothing; by default as this user. `capabilities`:
    numbers of those that this process has, None if it will run nothing: filters that need others are warned
    of.
    """
    owners = users.owners(settings)
    allowed = users.allowed(settings, owners)
    status_gid = None
    if settings.status_group is not None:
        status_gid = users.number("status_group", settings.status_group, host.group_number)
        try:
            users.check_mapped("status_group", settings.status_group, status_gid, is_group=True)
        except Fault as fault:
            raise ConfigurationError(str(fault)) from None
    kept = None if settings.capabilities is None else frozenset(settings.capabilities)
    if unknown := sorted((kept or frozenset()).difference(CAPABILITIES)):
        raise ConfigurationError(f"capabilities: there is no {unknown[0]!r}: write e.g. CAP_NET_ADMIN")
    has = (
        None
        if capabilities is None
        else frozenset(name for number, name in enumerate(CAPABILITIES) if number in capabilities)
    )
    loaded = files.load(settings.filters_path, owners, kept, as_root=as_root, has=has)
    exec_dirs = _exec_dirs(settings, owners, loaded.findings)
    _report(settings, loaded.findings)
    return Policy(
        settings,
        with_paths(loaded.filters, exec_dirs, owners),
        generation,
        exec_dirs,
        owners,
        loaded.identities,
        allowed.uids,
        allowed.gids,
        tuple(loaded.findings),
        loaded=time.time(),
        no_places=loaded.no_places,
        status_gid=status_gid,
        late=allowed.late,
        same=same_programs(loaded.filters, exec_dirs, owners),
        users=loaded.users,
    )


def same_programs(
    filters: Iterable[Filter], exec_dirs: tuple[str, ...], owners: frozenset[int]
) -> dict[str, frozenset[str]]:
    """The other paths, on this host, of programs that filters name by a path."""
    paths = {one.program for one in filters if one.program.startswith("/")}
    return {path: other_paths(path, exec_dirs, owners) for path in sorted(paths)}


def with_paths(
    filters: Iterable[AnyFilter], exec_dirs: tuple[str, ...], owners: frozenset[int]
) -> tuple[AnyFilter, ...]:
    """The filters, and an EnvFilter that names its program by a path with the other paths of that."""
    return tuple(
        replace(one, same=other_paths(one.inner, exec_dirs, owners))
        if isinstance(one, EnvFilter) and one.inner.startswith("/")
        else one
        for one in filters
    )


def other_paths(path: str, directories: Iterable[str], owners: frozenset[int]) -> frozenset[str]:
    """The paths in `directories`, and in those of the system, that are the same file under the same name."""
    name = path.rpartition("/")[2]
    try:
        real = host.resolve_owned(path, owners).path
    except (OSError, host.UntrustedPath):
        return frozenset()
    found = set()
    for other in {real, *(f"{directory}/{name}" for directory in (*directories, *_OF_PROGRAMS))} - {path}:
        try:
            if other.endswith(f"/{name}") and host.resolve_owned(other, owners).path == real:
                found.add(other)
        except (OSError, host.UntrustedPath):
            continue
    return frozenset(found)


def _exec_dirs(settings: Settings, owners: frozenset[int], findings: list[Finding]) -> tuple[str, ...]:
    """Those that are there and trusted: they are the PATH of every command too."""
    found = []
    for directory in settings.exec_dirs:
        try:
            status = host.resolve_owned(directory, owners).status
            if status is not None and stat.S_ISDIR(status.st_mode):
                found.append(directory.rstrip("/") or "/")
        except OSError as error:
            LOG.info("exec_dirs: %s is left out: %s", directory, os.strerror(error.errno or 0))
        except host.UntrustedPath as error:
            findings.append(
                Finding(
                    Location(directory, 1, 1),
                    Severity.ERROR,
                    "file",
                    f"in exec_dirs, and {error}",
                    "give it to root or one of trusted_owners alone, or take it out",
                )
            )
    return tuple(found)


def _report(settings: Settings, findings: list[Finding]) -> None:
    errors = [finding for finding in findings if finding.severity is Severity.ERROR]
    if errors and settings.on_finding != "skip":
        raise ConfigurationError("\n".join(map(str, errors)))
    for finding in findings:
        if finding.severity is Severity.ERROR:
            LOG.error("left out: %s", finding)
        else:
            LOG.warning("%s", finding)
    if errors:
        LOG.error("findings: %d; what they are about is left out, as on_finding = skip says", len(errors))
