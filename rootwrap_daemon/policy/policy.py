"""The immutable Policy that a session takes once per request, and the one way to judge a request by it.

Promises: check, explain and run all judge here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from rootwrap_daemon import errors
from rootwrap_daemon.filters import values
from rootwrap_daemon.filters.finding import Finding
from rootwrap_daemon.filters.kinds import AnyFilter
from rootwrap_daemon.filters.ruleset import RuleSet
from rootwrap_daemon.policy import host
from rootwrap_daemon.policy.bind import bind
from rootwrap_daemon.policy.bound import Bound, NotBound
from rootwrap_daemon.settings import Settings


class Credentials(Protocol):
    """The peer's credentials, as the kernel has them."""

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
    names that are looked up when somebody comes (late.py). `same`: the other paths of programs that filters
    name by a path. `users`: whom the words of `users` options mean, is it a group and its number.
    """

    settings: Settings
    filters: tuple[AnyFilter, ...]
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
    same: Mapping[str, frozenset[str]] = field(default_factory=dict)
    users: Mapping[str, tuple[bool, int]] = field(default_factory=dict)
    ruleset: RuleSet = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "ruleset", RuleSet(self.filters, self.same))

    @property
    def nobody(self) -> str:
        """A note for whoever starts it if root alone is allowed, the default: the agent would be refused."""
        if self.late or self.allowed_gids or self.allowed_uids != {0}:
            return ""
        return "; nobody but root may ask: allowed_users or allowed_groups must name the agent's user"

    def admits(self, peer: Credentials) -> bool:
        """May a peer with these credentials send requests at all?"""
        return peer.uid in self.allowed_uids or not self.allowed_gids.isdisjoint((peer.gid, *peer.groups))

    def names_of(self, peer: Credentials) -> frozenset[str]:
        """The words of `users` options that mean a peer with these credentials."""
        groups = (peer.gid, *peer.groups)
        return frozenset(
            [
                word
                for word, (is_group, number) in self.users.items()
                if (number in groups if is_group else number == peer.uid)
            ]
        )

    def may_see_status(self, peer: Credentials) -> bool:
        """May a peer with these credentials ask for the status? It runs nothing."""
        return peer.uid == 0 or (self.status_gid is not None and self.status_gid in (peer.gid, *peer.groups))


class Allowed(NamedTuple):
    """The request may run. `bound` must be closed. `shown`: which words a record may show."""

    filter: str
    options: values.Options
    bound: Bound
    shown: values.Shown = values.ALL_SHOWN


@dataclass(frozen=True, slots=True)
class Refused:
    """The request may not run. `error` and `message` are for the client, `detail` for the audit record."""

    error: type[errors.Error]
    message: str
    detail: str
    filter: str | None = None
    shown: values.Shown = values.ALL_SHOWN


_MESSAGES = {
    errors.Denied: "no filter allows this command",
    errors.EnvironmentDenied: "no filter allows this command with these variables",
    errors.ExecutableNotFound: "the program is not available on this host",
    errors.InternalError: "this host could not be looked at; try again",
    errors.ProcessGone: "the process has ended",
    errors.TooLarge: "more words that are processes than one command can have",
}


def judge(policy: Policy, request: values.Request) -> Allowed | Refused:
    """Match and bind. A match that cannot be bound goes on to the next filter.

    Where the host did not answer, no other filter decides instead: that is refused as InternalError.
    """
    # No exception: its traceback has this frame, and the two would wait for the collector.
    unbound: tuple[values.Match, type[errors.Error], str] | None = None
    seen = host.Seen()
    # Their options hold for the record, though none of them can be used.
    matched: list[values.Match] = []
    matches = policy.ruleset.matches(request)
    for match in matches:
        if not isinstance(match, values.Match):
            matched += match.matches
            if unbound is not None:
                break
            error, message, detail = errors.Denied, _MESSAGES[errors.Denied], match.reason.value
            if match.reason is values.Reason.STDIN:
                message += " with input; < /dev/null is none"
            elif match.reason is values.Reason.ENVIRONMENT:
                ways = [one.options for one in match.matches]
                left = [pair for pair in request.env if not any(way.takes(*pair) for way in ways)]
                names = ", ".join(values.shown_names(left or request.env))
                error, message = errors.EnvironmentDenied, f"{_MESSAGES[errors.EnvironmentDenied]}: {names}"
                detail += f": {names}"
            name = match.matches[0].name if match.matches else None
            shown = values.shown_to_all(matched) if matched else policy.ruleset.shown(request.argv)
            return Refused(error, message, detail, name, shown)
        try:
            shown = values.shown_to_all((*matched, match))
            return Allowed(match.name, match.options, bind(match, policy, seen=seen), shown)
        except NotBound as error:
            matched.append(match)
            if error.error is errors.InternalError:
                unbound = (match, error.error, str(error))
                matched += (one for one in matches if isinstance(one, values.Match))
                break
            # "Not available" is said only if that is all that stands in the way of every filter.
            if unbound is None or unbound[1] is errors.ExecutableNotFound:
                unbound = (match, error.error, str(error))
    if unbound is None:  # cannot be: a Denied comes last
        return Refused(errors.Denied, _MESSAGES[errors.Denied], values.Reason.WORDS.value)
    match, kind, detail = unbound
    return Refused(kind, _MESSAGES[kind], detail, match.name, values.shown_to_all(matched))
