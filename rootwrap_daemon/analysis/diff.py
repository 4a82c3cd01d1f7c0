"""Compare two policies: what changes per filter, and for given requests in both directions.

Promises: requests are compared by the daemon's own match, and by their words alone: what the host says of a
path or a process is the same for both.
"""

import enum
import math
import signal
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from typing import Final

from rootwrap_daemon.analysis.load import Source, definition
from rootwrap_daemon.escape import printable
from rootwrap_daemon.filters.argv import ArgvFilter
from rootwrap_daemon.filters.base import Filter
from rootwrap_daemon.filters.plan import (
    Beneath,
    ExecPlan,
    FixedPath,
    ProcessOf,
    Program,
    ReadPlan,
    SignalPlan,
)
from rootwrap_daemon.filters.values import Match, Options, Request

_FACTS: Final = (
    *("kind", "program", "arguments", "run_as", "pid", "signal", "path", "sets"),
    *(part.name for part in fields(Options)),
)
_KINDS: Final[dict[type, str]] = {
    ExecPlan: "runs a program",
    SignalPlan: "sends a signal",
    ReadPlan: "reads a file",
}


class Kind(enum.Enum):
    """The differences of one filter."""

    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"
    RENAMED = "renamed"


@dataclass(frozen=True, slots=True)
class Change:
    """One filter that differs; of an added one there is no old, of a removed one no new text."""

    kind: Kind
    name: str
    old: tuple[str, ...]
    new: tuple[str, ...]
    place: str


class Direction(enum.Enum):
    """The two answers to a request, by its words alone: what the host refuses is denied by both."""

    ALLOWED = "now allowed"
    DENIED = "now denied"
    OTHERWISE = "matched otherwise"


@dataclass(frozen=True, slots=True)
class Shift:
    """A request that the two policies answer differently. `old`, `new`: what each says, in short."""

    direction: Direction
    argv: tuple[str, ...]
    old: str
    new: str


def changes(old: Source, new: Source) -> list[Change]:
    """Every filter that is in one only, or differs in its definition or options."""
    before, after = _named(old), _named(new)
    found = []
    gone = {key: one for key, one in before.items() if key not in after}
    came = {key: one for key, one in after.items() if key not in before}
    for one in came.values():
        text = _text(new, one)
        twin = next((other for other in gone if _text(old, gone[other]) == text), None)
        if twin is not None:
            other = gone.pop(twin)
            names = f"{other.name} -> {one.name}"
            found.append(Change(Kind.RENAMED, names, _text(old, other), text, str(one.location)))
        else:
            found.append(Change(Kind.ADDED, one.name, (), text, str(one.location)))
    for one in gone.values():
        found.append(Change(Kind.REMOVED, one.name, _text(old, one), (), str(one.location)))
    for key, one in after.items():
        if key in before and (was := _text(old, before[key])) != (text := _text(new, one)):
            found.append(Change(Kind.CHANGED, one.name, was, text, str(one.location)))
    return found


def _named(source: Source) -> dict[tuple[str, int], Filter]:
    """The filters by their names, folded, and how often the name came before: files may share one."""
    seen: Counter[str] = Counter()
    found = {}
    for one in source.policy.ruleset.filters:
        name = one.name.lower()
        found[name, seen[name]] = one
        seen[name] += 1
    return found


def _text(source: Source, one: Filter) -> tuple[str, ...]:
    """The definition and the options, a line each, without what means nothing."""
    entry = source.entry(one)
    # A backslash makes a comma a part of a word there: fields are not what lies between commas.
    text = definition(entry) if isinstance(one, ArgvFilter) else ", ".join(entry.texts)
    options = sorted(f"{option.key} = {', '.join(option.texts)}" for option in source.options(one))
    return (text, *options)


def shifts(old: Source, new: Source, requests: Iterable[Request]) -> Iterator[Shift]:
    """Every request that the two do not answer the same; each once."""
    for request in dict.fromkeys(requests):
        was, now = (
            source.policy.ruleset.match(request._replace(asker=request.asker or source.policy.ruleset.users))
            for source in (old, new)
        )
        if isinstance(was, Match) and isinstance(now, Match):
            if differing := [name for name, value in _facts(was).items() if value != _facts(now)[name]]:
                shown = (
                    ", ".join(f"{name} {_said(name, _facts(one)[name])}" for name in differing)
                    for one in (was, now)
                )
                yield Shift(Direction.OTHERWISE, request.argv, *shown)
        elif isinstance(now, Match):
            yield Shift(Direction.ALLOWED, request.argv, "denied", _short(now))
        elif isinstance(was, Match):
            yield Shift(Direction.DENIED, request.argv, _short(was), f"denied: {now.reason.value}")


def _facts(match: Match) -> dict[str, object]:
    """All that decides how a command runs, but for the name of the filter."""
    plan, options = match.plan, match.options
    facts = {name: getattr(plan, name, getattr(options, name, None)) for name in _FACTS}
    # The checks of values are functions, made anew at each load; the definitions show how they differ.
    own = {"kind": _KINDS[type(plan)], "env": sorted(options.env), "sets": getattr(plan, "env", ())}
    return facts | own


def _said(name: str, value: object) -> str:
    """A value in words."""
    if value is None:
        return "as the daemon has it"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, enum.Enum):
        return str(value.value)
    if name in ("umask", "create") and isinstance(value, int):
        return f"{value:04o}"
    if name in ("signal", "signals") and isinstance(value, int):
        return signal.Signals(value).name if value in set(signal.Signals) else str(value)
    if isinstance(value, float):
        return "without limit" if math.isinf(value) else f"{value:g}"
    if isinstance(value, Beneath):
        return f"{value.path} beneath {value.base}"
    if isinstance(value, ProcessOf):
        return f"process {value.pid} of {value.program}"
    if isinstance(value, Program):
        return value.name
    if isinstance(value, FixedPath):
        return value.path
    if isinstance(value, frozenset):
        return ", ".join(_said(name, one) for one in sorted(value)) or "none"
    if isinstance(value, tuple | list):
        return " ".join(_said(name, one) for one in value) or "none"
    return printable(str(value))


def _short(match: Match) -> str:
    run_as = getattr(match.plan, "run_as", "root")
    return f"{match.name}, as {run_as}"
