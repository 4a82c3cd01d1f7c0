"""Propose the narrowest filters that cover what an audit log shows, for a person to decide on.

Promises: what was allowed in the log is covered, unless it stands in `problems`; no proposal for it takes
words that the log shows as denied, unless its notes say so.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from rootwrap_daemon.analysis.audit_log import Record
from rootwrap_daemon.analysis.load import Source, definition
from rootwrap_daemon.analysis.suggest import generalise
from rootwrap_daemon.analysis.suggest.generalise import Shape, Words
from rootwrap_daemon.errors import Denied
from rootwrap_daemon.filters import kinds
from rootwrap_daemon.filters.base import Filter
from rootwrap_daemon.filters.chains import ChainingFilter, ChainingRegExpFilter
from rootwrap_daemon.filters.paths import basename
from rootwrap_daemon.filters.patterns import Clock, OutOfTime, Pattern
from rootwrap_daemon.filters.read import filter_file
from rootwrap_daemon.filters.read.dangers import danger_of
from rootwrap_daemon.filters.ruleset import RuleSet
from rootwrap_daemon.filters.values import Match, Request
from rootwrap_daemon.filters.variables import is_dangerous_variable

#: Words that a pattern for one thing does not take both of.
_PROBES: Final = ("--some-option=value", "../../etc/shadow")


@dataclass(frozen=True, slots=True)
class Line:
    """A proposed filter. `examples`: what it covers. `options`: lines of its section. `notes`: what to know.

    `instead_of`: the filter that allowed the examples, None if it is not known.
    """

    name: str
    definition: str
    examples: tuple[Words, ...] = ()
    options: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    instead_of: str | None = None

    @property
    def text(self) -> str:
        """As it stands below [Filters]."""
        return f"{self.name}: {self.definition}"


@dataclass(slots=True)
class Proposal:
    """`kept`: filters that stay as they are. `denied`: for what was denied, each to be judged."""

    lines: list[Line] = field(default_factory=list)
    kept: list[Line] = field(default_factory=list)
    denied: list[Line] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Group:
    """Requests that one kind of line can cover. `variables`: of env(1), before the program."""

    program: str
    run_as: str
    old: Filter | None
    variables: tuple[str, ...]
    allowed: bool
    requests: list[Words] = field(default_factory=list)
    given: list[Words] = field(default_factory=list)
    env: set[str] = field(default_factory=set)


def is_broad(one: Filter) -> bool:
    """True for a filter that lets a caller choose words freely."""
    if isinstance(one, kinds.CommandFilter | kinds.IpFilter):
        return True
    if isinstance(one, kinds.EnvFilter):
        return not one.patterns or any(map(_takes_anything, one.patterns))
    return isinstance(one, kinds.RegExpFilter | ChainingRegExpFilter) and any(
        map(_takes_anything, one.patterns)
    )


def _takes_anything(pattern: Pattern) -> bool:
    try:
        return all(pattern.matches(probe, Clock()) for probe in _PROBES)
    except OutOfTime:
        return True


class Suggester:
    """One run over the records of a log."""

    def __init__(
        self, source: Source | None, *, everything: bool, only: frozenset[str] = frozenset()
    ) -> None:
        """`everything`: propose for narrow filters too. `only`: for what these allowed, and nothing else."""
        self.source = source
        self.everything = everything
        self.only = only
        filters = source.policy.ruleset.filters if source else ()
        self.by_name: dict[str, Filter] = {}
        for one in filters:
            self.by_name.setdefault(one.name, one)
        self.netns_exec = filter_file.read(
            "[Filters]\nip_netns_exec: IpNetnsExecFilter, ip, root\n", ""
        ).filters[0]
        self.proposal = Proposal()
        self.kept: dict[str, Filter] = {}
        self.names: set[str] = set()
        #: Whom the filters run as, by the names of the log: a check does not say so itself.
        self.users: dict[str, str] = {}

    def propose(self, records: Iterable[Record]) -> Proposal:
        """The proposal for these records."""
        records = list(records)
        for record in records:
            if record.filter and record.run_as:
                self.users.setdefault(record.filter, record.run_as)
        groups: dict[tuple[object, ...], _Group] = {}
        refused: dict[tuple[object, ...], _Group] = {}
        allowed, negative = set(), []
        for record in records:
            if record.allowed:
                allowed.add(record.argv)
                self._sort_in(groups, record)
            elif record.code == Denied.code and record.filter is None:
                # With a filter named, its words were good, and the host had the last word.
                negative.append(record)
        for record in negative:
            if record.argv not in allowed and not self.only:
                self._sort_in(refused, record)
        self._keep()
        denied = tuple(dict.fromkeys(one.argv for one in negative if one.argv not in allowed))
        for group in groups.values():
            for shape in generalise.shapes(group.program, group.requests):
                narrow, notes = self._narrowed(group, shape, denied)
                for one in narrow:
                    self.proposal.lines += self._lines(group, [one], notes)
        for group in refused.values():
            self.proposal.denied += self._lines(group, generalise.shapes(group.program, group.requests))
        return self.proposal

    def _sort_in(self, groups: dict[tuple[object, ...], _Group], record: Record) -> None:
        """Put a request where its line will come from; what an old filter does well keeps that."""
        names = (record.filter or "").split("+")
        if self.only and not self.only & set(names):
            return
        old = self.by_name.get(names[-1])
        if not all(self.by_name[name].options.audit_argv for name in names if name in self.by_name):
            self._problem(f"{record.filter}: its records do not show the words")
            return
        words = self._inner(record, names)
        if words is None:
            return
        if old is not None and not self._is_to_replace(old):
            self.kept[old.name] = old
            return
        if basename(words[0]) == "kill":
            if not record.allowed:
                return
            self._problem(f"{' '.join(words)}: write a kinds.KillFilter that names the program")
            return
        program = old.inner if isinstance(old, kinds.EnvFilter) else old.program if old else words[0]
        given = words
        variables: tuple[str, ...] = ()
        if basename(words[0]) == "env":
            count = next((place for place, word in enumerate(words[1:], 1) if "=" not in word), len(words))
            variables, words = words[1:count], words[count:]
            if not words:
                return
            program = program if isinstance(old, kinds.EnvFilter) else words[0]
        run_as = "|".join(old.run_as) if old else record.run_as or self.users.get(record.filter or "", "root")
        key = (program, run_as, old and old.name, tuple(sorted(map(_variable, variables))))
        group = groups.setdefault(key, _Group(program, run_as, old, variables, record.allowed))
        group.requests.append(words[1:])
        group.given.append(given)
        group.env |= set(record.env)

    def _problem(self, text: str) -> None:
        if text not in self.proposal.problems:
            self.proposal.problems.append(text)

    def _inner(self, record: Record, names: list[str]) -> Words | None:
        """The words without those of a chain before them, whose filter is kept."""
        argv = record.argv
        outer = self.by_name.get(names[0]) if len(names) == 2 else None
        if (
            outer is None
            and isinstance(self.netns_exec, ChainingFilter)
            and argv[0] in self.netns_exec.commands
        ):
            count = self.netns_exec.prefix(argv, Clock())
            if count is None or not record.allowed:
                # What was denied is proposed as it was asked for.
                return argv if count is None else None
            if self.source is None:
                self.kept[self.netns_exec.name] = self.netns_exec
                return argv[count:]
        if not isinstance(outer, ChainingFilter):
            return argv
        try:
            count = outer.prefix(argv, Clock())
        except OutOfTime:
            count = None
        if count is None or len(argv) <= count:
            self._problem(f"{' '.join(argv)}: {outer.name} of this policy does not take it")
            return None
        if not self.only:
            self.kept[outer.name] = outer
        return argv[count:]

    def _is_to_replace(self, old: Filter) -> bool:
        if isinstance(old, kinds.KillFilter | kinds.ReadFileFilter | ChainingFilter):
            return False
        return old.name in self.only or self.everything or is_broad(old)

    def _keep(self) -> None:
        for one in self.kept.values():
            self.names.add(one.name.lower())
            line = Line(one.name, "IpNetnsExecFilter, ip, root")
            if self.source is not None and one.location.file in self.source.documents:
                notes = ("broad: narrow its patterns by hand",) if is_broad(one) else ()
                text = definition(self.source.entry(one))
                line = Line(one.name, text, options=self._options(one), notes=notes)
            self.proposal.kept.append(line)

    def _options(self, one: Filter | None) -> tuple[str, ...]:
        if one is None or self.source is None:
            return ()
        return tuple(f"{entry.name} = {definition(entry)}" for entry in self.source.options(one))

    def _narrowed(
        self, group: _Group, shape: Shape, denied: tuple[Words, ...]
    ) -> tuple[list[Shape], tuple[str, ...]]:
        """Shapes for what was allowed that take nothing that was denied, and what to know of them."""
        notes: list[str] = []
        while hit := self._first_taken(group, shape, denied):
            # The last place whose words the log never showed is the one that lets it through.
            inner = hit[-len(shape.places) :] if shape.places else ()
            wrong = [
                place
                for place, word in enumerate(inner)
                if shape.places[place].type and word not in shape.places[place].seen
            ]
            if not wrong:
                exact = [
                    Shape(tuple(generalise.Place("", frozenset((word,))) for word in one), (one,))
                    for one in shape.examples
                ]
                if any(self._first_taken(group, one, denied) for one in exact):
                    notes.append(f"takes what was denied too: {' '.join(hit)}")
                    return [shape], tuple(notes)
                return exact, ("written out: a shape would take what was denied",)
            kind = shape.places[wrong[-1]].type
            notes.append(f"written out, because {{{kind}}} would take what was denied: {' '.join(hit)}")
            shape = generalise.fixed(shape, wrong[-1])
        return [shape], tuple(notes)

    def _first_taken(self, group: _Group, shape: Shape, denied: tuple[Words, ...]) -> Words | None:
        text = _definition(group, shape)
        if text is None:
            return None
        kept = [f"{line.name}: {line.definition}" for line in self.proposal.kept]
        rules = _rules([*kept, f"proposed__: {text}"])
        for argv in denied:
            for match in rules.matches(Request(argv, asker=rules.users)):
                if isinstance(match, Match) and "proposed__" in (match.filter, match.leaf):
                    return argv
        return None

    def _lines(self, group: _Group, found: Iterable[Shape], notes: tuple[str, ...] = ()) -> Iterator[Line]:
        given = dict(zip(group.requests, group.given, strict=True))
        for shape in found:
            examples = tuple(given[example] for example in shape.examples)
            text = _definition(group, shape)
            rules = _rules([f"x: {text}"]) if text is not None else None
            if rules is None or not all(_takes(rules, example) for example in examples):
                if group.allowed:
                    texts = (
                        f"{' '.join(generalise.shown(example))!a}: no filter can be written for it"
                        for example in examples
                    )
                    self.proposal.problems += texts
                continue
            options = self._options(group.old)
            if group.env and not options:
                free = sorted(name for name in group.env if not is_dangerous_variable(name))
                options = (f"env = {', '.join(free)}",) if free else ()
                for name in sorted(group.env.difference(free)):
                    what = (
                        f"any value {danger_of(name)}, and records have none: write `env = {name}={{=value}}`"
                    )
                    self._problem(f"{name} of {group.program}: {what}")
            yield Line(
                self._name(group, shape),
                text or "",
                tuple(map(generalise.shown, examples)),
                options,
                notes,
                group.old.name if group.old else None,
            )

    def _name(self, group: _Group, shape: Shape) -> str:
        words = [basename(group.program), *generalise.literals(shape)][:4]
        stem = re.sub("[^a-z0-9]+", "_", "_".join(words).lower()).strip("_")[:40].strip("_") or "filter"
        name, number = stem, 2
        while name in self.names:
            name, number = f"{stem}_{number}", number + 1
        self.names.add(name)
        return name


def _variable(word: str, fixed: Mapping[str, str] = MappingProxyType({})) -> str:
    """Return NAME=value for a filter: with the value of `fixed`, or one that can do harm; else any."""
    name, _, value = word.partition("=")
    return f"{name}={fixed.get(name) or (value if is_dangerous_variable(name) else '')}"


def _definition(group: _Group, shape: Shape) -> str | None:
    """The definition for a shape; None if its words cannot be written in a filter."""
    if group.variables:
        fixed = dict(group.old.variables) if isinstance(group.old, kinds.EnvFilter) else {}
        variables = [_variable(word, fixed) for word in group.variables]
        patterns = [generalise.as_pattern(place) for place in shape.places]
        # A value that is empty, or has a comma, cannot be written: any would be allowed.
        free = any(
            is_dangerous_variable(name) and (not value or "," in value)
            for name, _, value in (variable.partition("=") for variable in variables)
        )
        if free or not patterns:
            return None
        return _joined("EnvFilter, env", group.run_as, [*variables, group.program, *patterns])
    (place, *more) = shape.places or (None,)
    if (
        basename(group.program) == "cat"
        and place
        and not more
        and len(place.seen) == 1
        and place.type == "path"
    ):
        return f"ReadFileFilter, {next(iter(place.seen))}"
    return _joined(
        f"ArgvFilter, {group.program}", group.run_as, [generalise.as_argv(place) for place in shape.places]
    )


def _joined(head: str, run_as: str, fields: list[str | None] | list[str]) -> str | None:
    known = [one for one in fields if one is not None]
    return ", ".join((head, run_as, *known)) if len(known) == len(fields) else None


def _rules(lines: list[str]) -> RuleSet:
    return RuleSet(filter_file.read("\n".join(("[Filters]", *lines, "")), "").filters)


def _takes(rules: RuleSet, argv: Words) -> bool:
    return isinstance(rules.match(Request(argv, asker=rules.users)), Match)
