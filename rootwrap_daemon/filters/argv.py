"""ArgvFilter: allow a program with words that a typed pattern describes, one pattern a word.

Promises: what it warns of at load depends on the text alone. The language is in
doc/source/reference/argv.rst.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar, Final

from rootwrap_daemon.filters.argv_syntax import NO_WORDS, Parser, Pattern, Place
from rootwrap_daemon.filters.argv_types import Choice, Typed
from rootwrap_daemon.filters.base import Filter, Warn, basename, program_of, run_as_of, warn_of_argv0
from rootwrap_daemon.filters.finding import Fault, Location
from rootwrap_daemon.filters.ini import Entry
from rootwrap_daemon.filters.patterns import Clock
from rootwrap_daemon.filters.values import ExecPlan, Options, Plan, ProcessOf, Program, Request


@dataclass(frozen=True, slots=True)
class ArgvFilter(Filter):
    """This program, with words as the pattern says; without a pattern, with none."""

    pattern: Pattern
    FORM: ClassVar[str] = "name: ArgvFilter, program, run_as, word, {type}, {=a|b}, [optional, ...], ..."

    @classmethod
    def parse(cls, entry: Entry, options: Options, warn: Warn) -> "ArgvFilter":
        if len(entry.fields) < 3:
            raise Fault("fields", "no program or no user", f"write `{cls.FORM}`", entry.location)
        program, run_as = program_of(entry.fields[1]), run_as_of(entry.fields[2])
        if set(program) & set("{}[]|\\"):
            what = f"{program!r} is not a program"
            raise Fault("field", what, f"write `{cls.FORM}`", entry.fields[1].location)
        text, locations = _characters(entry)
        warn_of_argv0(program, entry.fields[3:4], warn)
        head = text.split(",", 3)
        if len(head) == 3:
            pattern = NO_WORDS
        else:
            parser = Parser(text, locations, len(text) - len(head[3]), warn)
            pattern = parser.pattern()
            _warn_of_words(basename(program), parser.places, warn)
        return cls(entry.name, entry.location, program, run_as, options, pattern)

    @property
    def literals(self) -> Mapping[int, Collection[str]]:
        found: dict[int, Collection[str]] = {}
        here = {0}
        # A way through the pattern that takes as many words as there are places comes round again.
        for place in range(1, len(self.pattern.after)):
            if here & self.pattern.ends:
                break
            following = [self.pattern.after[one] for one in here]
            if not any(one.place for one in following):
                # No word of a type can stand here, in no request that matches.
                found[place] = {word for one in following for word in one.words}
            here = {number for one in following for number in (*one.words.values(), one.place) if number}
        return found

    def uses(self, option: str) -> bool:
        if option in ("target_user", "started_by", "namespaces"):
            # Any number shows what is made of it.
            made = [make("1") for make in self.pattern.makes.values()]
            return any(isinstance(word, ProcessOf) for word in made)
        return option != "opens_paths" or len(self.pattern.after) > 1

    @property
    def has_secrets(self) -> bool:
        return bool(self.pattern.secrets or self.options.secret)

    def secret(self, argv: tuple[str, ...]) -> frozenset[int]:
        return self.options.secret | {index + 1 for index in self.pattern.secret(argv[1:])}

    def match(self, request: Request, clock: Clock) -> Plan | None:
        words = self.pattern.match(request.argv[1:])
        return None if words is None else ExecPlan(Program(self.program), words, self.run_as)


def _characters(entry: Entry) -> tuple[str, list[Location]]:
    """The definition's value, its lines joined, and where each character and the end stand."""
    file = entry.location.file
    locations = []
    for line, column, text in entry.lines:
        locations += [Location(file, line, column + offset) for offset in range(len(text) + 1)]
    return "\n".join(text for _, _, text in entry.lines), locations


# Programs that read a word where a value may stand for a keyword first, and what they want done.
_READ_KEYWORDS: Final = frozenset(("ip", "tc", "bridge"))
_VERBS: Final = frozenset(
    "add append change del delete flush get list lst ls prepend replace set show".split()
)
_FREE: Final = frozenset(("any", "ifname", "name", "netns"))
# Objects of ip whose verbs take a name, and no keyword instead of it.
_WITHOUT_KEYWORDS: Final = frozenset(("netns", "vrf"))
# Types of which ip takes some words behind `netns` for the id of a process: {netns} has no numbers.
_NUMBERS_TOO: Final = frozenset(("any", "ifname", "int", "name"))


def _warn_of_words(program: str, places: list[Place], warn: Warn) -> None:
    for place, found in enumerate(places):
        if not isinstance(found.matcher, Typed):
            continue
        if found.matcher.name == "any":
            what = "this word may be anything but an option"
            warn(Fault("any_word", what, "give it a type", found.location))
        if (
            program == "ip"
            and found.matcher.name in _NUMBERS_TOO
            and any("netns" in words for _, words in _literals_before(places, place))
        ):
            what = "ip reads a number here as the id of a process, and takes the namespace of that"
            warn(Fault("keyword", what, "write {netns}, or {pid=PROGRAM}", found.location))
        elif (
            program in _READ_KEYWORDS
            and found.matcher.name in _FREE
            and any(
                verb & _VERBS and kind - _WITHOUT_KEYWORDS
                for before, verb in _literals_before(places, place)
                for _, kind in _literals_before(places, before)
            )
        ):
            remedy = "write the keyword that takes the value, as in `dev, {ifname}`"
            what = f"{program} could read this word as one of its keywords"
            warn(Fault("keyword", what, remedy, found.location))


def _literals_before(places: list[Place], place: int) -> Iterator[tuple[int, frozenset[str]]]:
    for before, found in enumerate(places):
        if place in found.follow and isinstance(found.matcher, Choice):
            yield before, found.matcher.words
