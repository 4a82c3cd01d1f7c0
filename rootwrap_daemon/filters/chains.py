"""The kinds of filters that run the rest of their words as a command, which another filter must allow.

Promises: the inner command's first word becomes the program of the filter that allowed it.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from rootwrap_daemon.filters import ip
from rootwrap_daemon.filters.base import Filter, all_match, literals_of
from rootwrap_daemon.filters.patterns import Clock, Pattern
from rootwrap_daemon.filters.plan import ExecPlan, FixedPath, Plan, Program, ReadPlan, Word
from rootwrap_daemon.filters.values import Options, Request


@dataclass(frozen=True, slots=True)
class ChainingFilter(Filter):
    """A program that runs the rest of its words as a command. By itself it allows nothing."""

    def prefix(self, argv: tuple[str, ...], clock: Clock) -> int | None:
        """Count the words before the inner command; None if they are not allowed. Raises OutOfTime."""
        return None

    def match(self, request: Request, clock: Clock) -> Plan | None:
        return None

    def chain(self, request: Request, count: int, inner: Plan) -> Plan | None:
        """The plan for this program with so many words of the request, and then what `inner` would run."""
        words, user = request.argv[1:count], self.user(request)
        if isinstance(inner, ExecPlan) and inner.run_as == user:
            # The inner word becomes the leaf's own program: a path that only ends like it never runs.
            arguments: tuple[Word, ...] = (*words, inner.program, *inner.arguments)
            return ExecPlan(Program(self.program), arguments, user, inner.env, inner.free)
        if isinstance(inner, ReadPlan) and user == "root":
            return ExecPlan(Program(self.program), (*words, Program("cat"), FixedPath(inner.path)), user)
        # A signal needs no other program; another user's command would run as this one.
        return None


@dataclass(frozen=True, slots=True)
class ChainingRegExpFilter(ChainingFilter):
    """This program with words that match the patterns, then a command that another filter allows."""

    patterns: tuple[Pattern, ...]

    @property
    def literals(self) -> Mapping[int, Collection[str]]:
        return literals_of(self.patterns)

    def prefix(self, argv: tuple[str, ...], clock: Clock) -> int | None:
        count = len(self.patterns)
        return count if all_match(self.patterns, argv[:count], clock, self.options) else None


@dataclass(frozen=True, slots=True)
class IpNetnsExecFilter(ChainingFilter):
    """`ip netns exec NAMESPACE`, then a command that another filter allows."""

    def prefix(self, argv: tuple[str, ...], clock: Clock) -> int | None:
        # No option may stand before: -all would make the inner command the namespace's place.
        if len(argv) < 5 or not ip.is_netns(argv[1]) or not ip.is_namespace(argv[3]):
            return None
        return 4 if argv[2] and ip.could_mean(argv[2], "exec") else None


Number = TypeVar("Number", int, float)

#: What must be the same for both filters of a chain: one process has one of each.
_SAME: Final = ("group", "capabilities", "ambient", "cwd", "umask", "no_new_privs")


def chained(outer: Options, leaf: Options) -> Options | None:
    """Return what holds for a leaf's command inside a chain, None if the two contradict each other.

    The variables are the leaf's. Of each limit the smaller holds, and what one forbids is forbidden; a limit,
    or signals, that only one sets hold for both.
    """
    if any(getattr(outer, name) != getattr(leaf, name) for name in _SAME):
        return None
    limits = dict(outer.limits)
    signals = [one.signals for one in (outer, leaf) if one.signals is not None]
    for name, number in leaf.limits:
        limits[name] = min(number, limits.get(name, number))
    return replace(
        leaf,
        timeout=_smaller(outer.timeout, leaf.timeout),
        max_output=_smaller(outer.max_output, leaf.max_output),
        max_memory=_smaller(outer.max_memory, leaf.max_memory),
        max_processes=_smaller(outer.max_processes, leaf.max_processes),
        stdin=outer.stdin and leaf.stdin,
        limits=tuple(sorted(limits.items())),
        sanitize=outer.sanitize or leaf.sanitize,
        audit_argv=outer.audit_argv and leaf.audit_argv,
        audit_runs=outer.audit_runs or leaf.audit_runs,
        signals=frozenset.intersection(*signals) if signals else None,
        on_stop_leave=outer.on_stop_leave and leaf.on_stop_leave,
    )


def _smaller(one: Number | None, other: Number | None) -> Number | None:
    return min((number for number in (one, other) if number is not None), default=None)
