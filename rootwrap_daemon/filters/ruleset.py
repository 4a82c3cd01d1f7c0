"""Filter files -> RuleSet; RuleSet.matches(request) -> the filters that allow it, in their order.

Promises: deciding costs what the filters of one command cost, however many others there are.
Order is that of the files given, then of their lines.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from operator import itemgetter
from typing import Final

from rootwrap_daemon.filters import kinds
from rootwrap_daemon.filters import options as option_reader
from rootwrap_daemon.filters.argv import ArgvFilter
from rootwrap_daemon.filters.base import Filter, FilterError
from rootwrap_daemon.filters.chains import ChainingFilter
from rootwrap_daemon.filters.ini import FILTERS, Document, Entry, Section, parse
from rootwrap_daemon.filters.options import Complaint, chained
from rootwrap_daemon.filters.patterns import Clock, OutOfTime
from rootwrap_daemon.filters.values import (
    Beneath,
    Denied,
    ExecPlan,
    Finding,
    Location,
    Match,
    Options,
    Pin,
    Reason,
    Request,
    Severity,
    SignalPlan,
)

#: Kind as written in a filter file -> what it makes of its definition.
KINDS: Final[dict[str, type[Filter]]] = {**kinds.KINDS, ArgvFilter.__name__: ArgvFilter}


#: The options that only some kinds look at.
_ONLY_FOR: Final = {
    "target_user": ("KillFilter",),
    "started_by": ("KillFilter",),
    "pin": ("PathFilter", "ArgvFilter"),
    "create": ("PathFilter", "ArgvFilter"),
}


@dataclass(frozen=True, slots=True)
class FilterFile:
    """One file: the filters that can be used, and every finding."""

    filters: tuple[Filter, ...]
    findings: tuple[Finding, ...]


# What Ansible, Kolla (Jinja) and Puppet (ERB) put in a file that is still to be made.
_TEMPLATE = re.compile(r"\{\{.*\}\}|\{%.*%\}|\{#.*#\}|<%.*%>")


def read(text: str, file: str) -> FilterFile:
    """Read one filter file's text; a filter with an ERROR is left out."""
    found = _Reader(parse(text, file)).read()
    lines = text.split("\n")
    return replace(found, findings=tuple(_of_template(one, lines) for one in found.findings))


def _of_template(finding: Finding, lines: list[str]) -> Finding:
    """The finding, or a better one where somebody else should have filled in what is wrong."""
    if finding.severity is not Severity.ERROR or not _TEMPLATE.search(lines[finding.location.line - 1]):
        return finding
    mend = "give the file that is made from this template, not the template"
    return replace(finding, what=f"a template that was not rendered: {finding.what}", mend=mend)


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
            if _is_same(first, entry):
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
            found = kind.parse(entry, options, warn)
        except FilterError as error:
            self._add(Severity.ERROR, error.location, error.what, error.mend, entry.key)
            return None
        for part in entry.fields:
            if _TEMPLATE.search(part.text):
                warn(
                    part.location,
                    "this may be a template that was not rendered",
                    "write the word that is meant",
                )
        return found

    def _options(self, entries: dict[str, Entry]) -> dict[str, Options]:
        found: dict[str, Options] = {}
        seen: dict[tuple[str, str], Entry] = {}
        for section in self.document.sections:
            if section.name == FILTERS or section.name.upper() == "DEFAULT":
                # The second has its finding already.
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
            kind = entries[key].fields[0].text
            for entry in section.entries:
                if kind in KINDS and kind not in _ONLY_FOR.get(entry.key, KINDS):
                    # Whoever wrote it believes that it keeps something out.
                    mend = f"take it out; it is for {' and '.join(_ONLY_FOR[entry.key])}"
                    self._add(
                        Severity.ERROR, entry.location, f"{entry.name} does nothing in a {kind}", mend, key
                    )
                if seen.setdefault((key, entry.key), entry) is not entry:
                    self._add(
                        Severity.ERROR, entry.location, f"{entry.name} a second time", "write it once", key
                    )
                options = option_reader.read(options, entry, partial(self._complain, key))
            found[key] = options
        return found

    def _complain(self, key: str, complaint: Complaint) -> None:
        severity = Severity.ERROR if complaint.fatal else Severity.WARNING
        names = (key,) if complaint.fatal else ()
        self._add(severity, complaint.location, complaint.what, complaint.mend, *names)


def _is_same(one: Entry, other: Entry) -> bool:
    if one.texts != other.texts:
        return False
    # An ArgvFilter's fields are not what lies between commas: a backslash makes one part of a word.
    lines = [[text for _, _, text in entry.lines] for entry in (one, other)]
    return one.fields[0].text != ArgvFilter.__name__ or lines[0] == lines[1]


class _ByWord:
    """The filters of one command, found by a word that each of them must have at some place."""

    def __init__(self, filters: list[Filter]) -> None:
        self._all = filters
        literals = [one.literals for one in filters]
        # The place that tells the most filters apart.
        variety: dict[int, set[str]] = {}
        for places in literals:
            for place, words in places.items():
                variety.setdefault(place, set()).update(words)
        self._others: list[tuple[int, Filter]] = []
        self._at: dict[int, dict[str, list[tuple[int, Filter]]]] = {}
        for order, (one, places) in enumerate(zip(filters, literals, strict=True)):
            if not places:
                self._others.append((order, one))
                continue
            best = max(places, key=lambda place: len(variety[place]))
            for word in places[best]:
                self._at.setdefault(best, {}).setdefault(word, []).append((order, one))

    def of(self, argv: tuple[str, ...]) -> list[Filter]:
        """Those that can match these words at all, in their order."""
        if not self._at:
            return self._all
        found = list(self._others)
        for place, words in self._at.items():
            if place < len(argv):
                found += words.get(argv[place], ())
        found.sort(key=itemgetter(0))
        return [one for _, one in found]


class RuleSet:
    """All filters of an instance, found by the first word of a request and one more."""

    def __init__(self, filters: Iterable[Filter]) -> None:
        self.filters = tuple(filters)
        index: dict[str, list[Filter]] = {}
        for one in self.filters:
            for command in one.commands:
                index.setdefault(command, []).append(one)
        self._index = {command: _ByWord(found) for command, found in index.items()}

    def match(self, request: Request) -> Match | Denied:
        """The first filter that allows these words, or why none does."""
        return next(self.matches(request))

    def matches(self, request: Request) -> Iterator[Match | Denied]:
        """Every filter that allows these words, in order; last, always, the Denied if none can be used."""
        clock = Clock()
        reason = Reason.WORDS
        try:
            for match in self._matches(request.argv, clock, chains=True):
                refused = _refusal(match.options, request)
                if refused is None:
                    yield _complete(match, request.env)
                else:
                    reason = refused
        except OutOfTime:
            reason = Reason.TIME
        yield Denied(reason)

    def _matches(self, argv: tuple[str, ...], clock: Clock, *, chains: bool) -> Iterator[Match]:
        request = Request(argv)
        for one in self._candidates(argv):
            if not isinstance(one, ChainingFilter):
                plan = one.match(request, clock)
                if plan is not None:
                    yield Match(one.name, one.location, plan, one.options)
            elif chains:
                yield from self._chained(one, argv, clock)

    def _candidates(self, argv: tuple[str, ...]) -> Iterable[Filter]:
        found = self._index.get(argv[0])
        return () if found is None else found.of(argv)

    def _chained(self, outer: ChainingFilter, argv: tuple[str, ...], clock: Clock) -> Iterator[Match]:
        count = outer.prefix(argv, clock)
        if count is None or len(argv) <= count:
            return
        # One level: a chain inside a chain is nobody's command.
        for leaf in self._matches(argv[count:], clock, chains=False):
            plan = outer.chain(argv[:count], leaf.plan)
            if plan is not None:
                options = chained(outer.options, leaf.options)
                if options is not None:
                    yield Match(outer.name, outer.location, plan, options, leaf.filter)


def _refusal(options: Options, request: Request) -> Reason | None:
    """Why the options of a filter that allows the words do not allow the rest of the request."""
    if request.stdin and not options.stdin:
        return Reason.STDIN
    # A variable needs its name in the filter, and a value as the filter says.
    if not all(name in options.env and options.env[name](value) for name, value in request.env):
        return Reason.ENVIRONMENT
    return None


def _complete(match: Match, env: tuple[tuple[str, str], ...]) -> Match:
    """The match with what the options add to its plan."""
    plan, options = match.plan, match.options
    if isinstance(plan, SignalPlan) and (options.target_user or options.started_by_us):
        which = replace(plan, target_user=options.target_user, started_by_us=options.started_by_us)
        return replace(match, plan=which)
    if not isinstance(plan, ExecPlan):
        return match
    if not env and not options.set_env and options.pin is Pin.AUTO and options.create is None:
        return match
    # What an EnvFilter took from the words stands, and what the filter sets stands above all.
    merged = {**dict(env), **dict(plan.env), **dict(options.set_env)}
    words = tuple(
        replace(word, pin=options.pin, create=options.create) if isinstance(word, Beneath) else word
        for word in plan.arguments
    )
    return replace(match, plan=replace(plan, arguments=words, env=tuple(merged.items())))
