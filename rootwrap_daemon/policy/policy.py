"""The immutable Policy that a session takes once per request, and the one way to judge a request by it.

Promises: check, explain and run all judge here; a policy that cannot be loaded whole is no policy.
"""

import logging
import os
import stat
import time
from dataclasses import dataclass
from typing import Protocol

from rootwrap_daemon.errors import (
    ConfigurationError,
    Denied,
    EnvironmentDenied,
    Error,
    ExecutableNotFound,
    InternalError,
    ProcessGone,
    TooLarge,
)
from rootwrap_daemon.filters.base import Filter
from rootwrap_daemon.filters.finding import Finding, Location, Severity
from rootwrap_daemon.filters.options import CAPABILITIES
from rootwrap_daemon.filters.ruleset import RuleSet
from rootwrap_daemon.filters.values import (
    ALL_SHOWN,
    Match,
    Options,
    Reason,
    Request,
    Shown,
    shown_to_all,
)
from rootwrap_daemon.policy import executables, files, host, users
from rootwrap_daemon.policy.bind import NotBound, bind
from rootwrap_daemon.policy.bound import Bound
from rootwrap_daemon.settings import Settings

LOG = logging.getLogger(__name__)


class Credentials(Protocol):
    """Who asks, as the kernel says."""

    @property
    def uid(self) -> int: ...
    @property
    def gid(self) -> int: ...
    @property
    def groups(self) -> tuple[int, ...]: ...


@dataclass(frozen=True, slots=True)
class Policy:
    """Everything that decides about a request; a reload makes a new one of the next generation.

    `exec_dirs`: those of the settings that exist and are trusted. `owners`: uids that may own programs and
    filters. `no_places`: why no command may have a path in which others can change something. `loaded`: when,
    in seconds since the epoch. `status_gid`: whose members may see the status. `late`: who else may ask, by
    names that are looked up when somebody comes (users.py).
    """

    settings: Settings
    ruleset: RuleSet
    generation: int
    exec_dirs: tuple[str, ...]
    owners: frozenset[int]
    identities: dict[tuple[str, str | None], host.Identity]
    allowed_uids: frozenset[int]
    allowed_gids: frozenset[int]
    findings: tuple[Finding, ...]
    no_places: str | None = None
    loaded: float = 0.0
    status_gid: int | None = None
    late: frozenset[tuple[str, str]] = frozenset()

    def admits(self, peer: Credentials) -> bool:
        """May a peer with these credentials send requests at all?"""
        return peer.uid in self.allowed_uids or not self.allowed_gids.isdisjoint((peer.gid, *peer.groups))

    def may_see_status(self, peer: Credentials) -> bool:
        """May a peer with these credentials ask for the status? It runs nothing."""
        return peer.uid == 0 or (self.status_gid is not None and self.status_gid in (peer.gid, *peer.groups))


@dataclass(frozen=True, slots=True)
class Allowed:
    """The request may run. `bound` must be closed. `shown`: which words a record may show."""

    filter: str
    options: Options
    bound: Bound
    shown: Shown = ALL_SHOWN


@dataclass(frozen=True, slots=True)
class Refused:
    """The request may not run. `error` and `message` are for the client, `detail` for the audit record."""

    error: type[Error]
    message: str
    detail: str
    filter: str | None = None
    shown: Shown = ALL_SHOWN


_MESSAGES = {
    Denied: "no filter allows this command",
    EnvironmentDenied: "no filter allows this command with these variables",
    ExecutableNotFound: "the program is not available on this host",
    InternalError: "this host could not be looked at; try again",
    ProcessGone: "the process has ended",
    TooLarge: "more words that are processes than one command can have",
}


def judge(policy: Policy, request: Request) -> Allowed | Refused:
    """Match and bind. A match that cannot be bound goes on to the next filter.

    Where the host did not answer, no other filter decides instead: that is refused as InternalError.
    """
    unbound: tuple[Match, NotBound] | None = None
    seen = host.Seen()
    # Their options hold for the record, though none of them can be used.
    matched: list[Match] = []
    matches = policy.ruleset.matches(request)
    for match in matches:
        if not isinstance(match, Match):
            matched += match.matches
            if unbound is not None:
                break
            error = EnvironmentDenied if match.reason is Reason.ENVIRONMENT else Denied
            name = match.matches[0].name if match.matches else None
            shown = shown_to_all(matched) if matched else policy.ruleset.shown(request.argv)
            return Refused(error, _MESSAGES[error], match.reason.value, name, shown)
        try:
            shown = shown_to_all((*matched, match)) if matched else match.shown
            return Allowed(match.name, match.options, bind(match, policy, seen=seen), shown)
        except NotBound as error:
            matched.append(match)
            if error.error is InternalError:
                unbound = (match, error)
                matched += (one for one in matches if isinstance(one, Match))
                break
            # "Not available" is said only if that is all that stands in the way of every filter.
            if unbound is None or unbound[1].error is ExecutableNotFound:
                unbound = (match, error)
    if unbound is None:  # cannot be: a Denied comes last
        return Refused(Denied, _MESSAGES[Denied], Reason.WORDS.value)
    match, reason = unbound
    return Refused(reason.error, _MESSAGES[reason.error], str(reason), match.name, shown_to_all(matched))


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
    executables.forget()
    status_gid = (
        None
        if settings.status_group is None
        else users.number("status_group", settings.status_group, host.group_number)
    )
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
        rules(loaded.filters, exec_dirs, owners),
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
    )


def rules(filters: list[Filter], exec_dirs: tuple[str, ...], owners: frozenset[int]) -> RuleSet:
    """The rules of these filters on this host: a program that one names by a path is the same by another."""
    paths = {one.program for one in filters if one.program.startswith("/")}
    return RuleSet(filters, {path: executables.other_paths(path, exec_dirs, owners) for path in paths})


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
                    "give it to root alone, or take it out",
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
