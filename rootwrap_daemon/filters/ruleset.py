"""Filter files -> RuleSet; RuleSet.matches(request) -> the filters that allow it, in their order.

Promises: deciding costs what the filters of one command cost, however many others there are.
Order is that of the files given, then of their lines.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from rootwrap_daemon.filters import kinds
from rootwrap_daemon.filters.argv import ArgvFilter
from rootwrap_daemon.filters.chains import ChainingFilter
from rootwrap_daemon.filters.definition import Filter, FilterError
from rootwrap_daemon.filters.model import (
    Denied,
    ExecPlan,
    Finding,
    Location,
    Match,
    Options,
    Plan,
    Reason,
    Request,
    Severity,
    is_dangerous_variable,
)
from rootwrap_daemon.filters.patterns import Clock, OutOfTime
from rootwrap_daemon.filters.syntax import FILTERS, Document, Entry, Section, parse

#: Kind as written in a filter file -> what it makes of its definition.
KINDS: Final[dict[str, type[Filter]]] = {**kinds.KINDS, ArgvFilter.__name__: ArgvFilter}


@dataclass(frozen=True, slots=True)
class FilterFile:
    """One file: the filters that can be used, and every finding."""

    filters: tuple[Filter, ...]
    findings: tuple[Finding, ...]


def read(text: str, file: str) -> FilterFile:
    """Read one filter file's text; a filter with an ERROR is left out."""
    return _Reader(parse(text, file)).read()


class _Reader:
    def __init__(self, document: Document) -> None:
        self.document = document
        self.findings = list(document.findings)

    def _add(self, severity: Severity, location: Location, what: str, mend: str, *names: str) -> None:
        self.findings.append(Finding(location, severity, what, mend, frozenset(names)))

    def read(self) -> FilterFile:
        entries: dict[str, Entry] = {}
        for section in self.document.sections:
            if section.name == FILTERS:
                entries = self._unique(section)
        options = self._options(entries)
        filters = [
            found
            for entry in entries.values()
            if (found := self._filter(entry, options.get(entry.key, Options()))) is not None
        ]
        refused = {name for f in self.findings if f.severity is Severity.ERROR for name in f.filters}
        usable = tuple(f for f in filters if f.name.lower() not in refused)
        return FilterFile(usable, tuple(sorted(self.findings, key=lambda finding: finding.location)))

    def _unique(self, section: Section) -> dict[str, Entry]:
        entries: dict[str, Entry] = {}
        for entry in section.entries:
            first = entries.setdefault(entry.key, entry)
            if first is entry:
                continue
            if first.texts == entry.texts:
                self._add(
                    Severity.WARNING, entry.location, f"{entry.name} a second time, the same", "take one out"
                )
            else:
                self._add(
                    Severity.ERROR,
                    entry.location,
                    f"{entry.name} a second time, defined otherwise at line {first.location.line}",
                    "give each its own name",
                    entry.key,
                )
        return entries

    def _filter(self, entry: Entry, options: Options) -> Filter | None:
        if entry.key in ("default", FILTERS.lower()):
            self._add(
                Severity.ERROR, entry.location, f"a filter named {entry.name}", "name it otherwise", entry.key
            )
            return None
        kind = KINDS.get(entry.fields[0].text)
        if kind is None:
            known = ", ".join(KINDS)
            self._add(
                Severity.ERROR,
                entry.fields[0].location,
                f"{entry.fields[0].text!r} is no kind of filter",
                f"use one of {known}",
                entry.key,
            )
            return None

        def warn(location: Location, what: str, mend: str) -> None:
            self._add(Severity.WARNING, location, what, mend)

        try:
            return kind.parse(entry, options, warn)
        except FilterError as error:
            self._add(Severity.ERROR, error.location, error.what, error.mend, entry.key)
            return None

    def _options(self, entries: dict[str, Entry]) -> dict[str, Options]:
        found: dict[str, Options] = {}
        for section in self.document.sections:
            if section.name == FILTERS:
                continue
            key = section.name.lower()
            if key not in entries:
                self._add(
                    Severity.ERROR,
                    section.location,
                    f"[{section.name}] is the name of no filter in this file",
                    f"options need their filter above, in [{FILTERS}]",
                )
                continue
            options = found.get(key, Options())
            for entry in section.entries:
                options = self._option(options, entry, key)
            found[key] = options
        return found

    def _option(self, options: Options, entry: Entry, key: str) -> Options:
        text = ", ".join(entry.texts)
        if entry.key == "env":
            names = [part.text for part in entry.fields]
            if all(name.isidentifier() and name.isascii() for name in names):
                for part in filter(lambda part: is_dangerous_variable(part.text), entry.fields):
                    what = f"any value of {part.text} can run other code"
                    self._add(Severity.WARNING, part.location, what, "leave it out")
                return replace(options, env=options.env | frozenset(names))
            self._bad(entry, "names of variables, separated by commas", key)
        elif entry.key == "timeout":
            if text.isascii() and text.isdigit() and int(text) > 0:
                return replace(options, timeout=float(text))
            self._bad(entry, "a whole number of seconds", key)
        elif entry.key == "max_output":
            if text.isascii() and text.isdigit() and int(text) > 0:
                return replace(options, max_output=int(text))
            self._bad(entry, "a whole number of bytes", key)
        else:
            self._add(
                Severity.ERROR,
                entry.location,
                f"{entry.name} is no option of a filter",
                "use env, timeout or max_output",
                key,
            )
        return options

    def _bad(self, entry: Entry, wanted: str, key: str) -> None:
        self._add(
            Severity.ERROR, entry.fields[0].location, f"{entry.name} is not set so", f"write {wanted}", key
        )


class RuleSet:
    """All filters of an instance, found by the first word of a request."""

    def __init__(self, filters: Iterable[Filter]) -> None:
        self.filters = tuple(filters)
        index: dict[str, list[Filter]] = {}
        for one in self.filters:
            for command in one.commands:
                index.setdefault(command, []).append(one)
        self._index = {command: tuple(found) for command, found in index.items()}

    def match(self, request: Request) -> Match | Denied:
        """The first filter that allows these words, or why none does."""
        return next(self.matches(request))

    def matches(self, request: Request) -> Iterator[Match | Denied]:
        """Every filter that allows these words, in order; last, always, the Denied if none can be used."""
        clock = Clock()
        reason = Reason.WORDS
        try:
            for match in self._matches(request.argv, clock, chains=True):
                if _admits(match.options, request.env):
                    yield _with_environment(match, request.env)
                else:
                    reason = Reason.ENVIRONMENT
        except OutOfTime:
            reason = Reason.TIME
        yield Denied(reason)

    def _matches(self, argv: tuple[str, ...], clock: Clock, *, chains: bool) -> Iterator[Match]:
        for one in self._index.get(argv[0], ()):
            if not isinstance(one, ChainingFilter):
                plan = one.match(Request(argv), clock)
                if plan is not None:
                    yield Match(one.name, one.location, plan, one.options)
            elif chains:
                yield from self._chained(one, argv, clock)

    def _chained(self, outer: ChainingFilter, argv: tuple[str, ...], clock: Clock) -> Iterator[Match]:
        count = outer.prefix(argv, clock)
        if count is None or len(argv) <= count:
            return
        # One level: a chain inside a chain is nobody's command.
        for leaf in self._matches(argv[count:], clock, chains=False):
            plan = outer.chain(argv[:count], leaf.plan)
            if plan is not None:
                options = _both(outer.options, leaf.options)
                yield Match(outer.name, outer.location, plan, options, leaf.filter)


def _admits(options: Options, env: tuple[tuple[str, str], ...]) -> bool:
    """A variable needs its name in the filter, and a value of printable ASCII."""
    return all(name in options.env and value.isascii() and value.isprintable() for name, value in env)


def _with_environment(match: Match, env: tuple[tuple[str, str], ...]) -> Match:
    plan: Plan = match.plan
    if env and isinstance(plan, ExecPlan):
        # What an EnvFilter took from the words stands: it is what the filter's own line names.
        merged = {**dict(env), **dict(plan.env)}
        return replace(match, plan=replace(plan, env=tuple(merged.items())))
    return match


def _both(outer: Options, leaf: Options) -> Options:
    """The leaf's variables and the smaller of each limit."""
    return Options(
        env=leaf.env,
        timeout=min((t for t in (outer.timeout, leaf.timeout) if t is not None), default=None),
        max_output=min((m for m in (outer.max_output, leaf.max_output) if m is not None), default=None),
    )
