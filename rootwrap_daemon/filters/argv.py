"""ArgvFilter: one typed pattern a word, so that a policy can be read instead of guessed.

Promises: each word of a request is looked at once, and one place of the pattern at most can take it; where
that would not be so, the definition is refused. The language is in doc/source/reference/argv.rst.
"""

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Final, NamedTuple

from rootwrap_daemon.filters.argv_types import Choice, Matcher, Typed, TypeProblem, typed
from rootwrap_daemon.filters.base import Filter, FilterError, Warn, basename, program_of, run_as_of
from rootwrap_daemon.filters.ini import Entry, Field
from rootwrap_daemon.filters.patterns import Clock
from rootwrap_daemon.filters.values import ExecPlan, Location, Options, Plan, Program, Request, Word

#: Fields in a definition, groups counted too. Bounds how deep groups nest, and how much a definition takes to
#: compile; the longest command in the filter files of OpenStack has some forty words.
MAX_FIELDS: Final = 128

_BLANKS: Final = frozenset(" \t\n")
_SYNTAX: Final = "{}[],|"
_ESCAPED: Final = frozenset(_SYNTAX + "\\ #;")
#: Only at the end of a field; anywhere else dots belong to the word.
_REPEAT = re.compile(r"\.\.\.(?=[ \t\n]*(?:[,\]]|\Z))")


class _After(NamedTuple):
    """What may follow a place: words that say which place they are for, and a type for all others.

    `type`: its name, empty for none.
    """

    words: dict[str, int]
    takes: Callable[[str], bool]
    place: int
    type: str = ""


def _nothing(word: str) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Pattern:
    """A compiled pattern: for the beginning (0) and each place, what may follow it.

    `makes`: what the plan has in the place of a word, for the places where that is not the word itself.
    """

    after: tuple[_After, ...]
    ends: frozenset[int]
    makes: dict[int, Callable[[str], Word]]

    def match(self, words: tuple[str, ...]) -> tuple[Word, ...] | None:
        """The words as the plan has them, None if they do not match."""
        here = 0
        places = []
        for word in words:
            known, takes, other, _ = self.after[here]
            here = known.get(word) or (other if takes(word) else 0)
            if not here:
                return None
            places.append(here)
        if here not in self.ends:
            return None
        pairs = zip(places, words, strict=True)
        return tuple(self.makes[place](word) if place in self.makes else word for place, word in pairs)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where one word can stand, and the places that the next one can have."""

    matcher: Matcher
    location: Location
    follow: set[int] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class _Piece:
    """A part of a pattern as an automaton of its places, after Glushkov.

    `first` and `last`: places a word of it can begin and end with; `empty`: it may be left out.
    """

    first: tuple[int, ...]
    last: tuple[int, ...]
    empty: bool


def _link(places: list[_Place], before: tuple[int, ...], after: tuple[int, ...]) -> None:
    for place in before:
        places[place].follow.update(after)


def _sequence(places: list[_Place], pieces: list[_Piece]) -> _Piece:
    whole = _Piece((), (), empty=True)
    for piece in pieces:
        _link(places, whole.last, piece.first)
        whole = _Piece(
            whole.first + piece.first if whole.empty else whole.first,
            whole.last + piece.last if piece.empty else piece.last,
            whole.empty and piece.empty,
        )
    return whole


def _after(places: list[_Place], follow: list[int]) -> _After:
    """Raises FilterError where one word could have two places. Two types always count as such."""
    words: dict[str, int] = {}
    takes: Callable[[str], bool] = _nothing
    other = 0
    name = ""
    for place in follow:
        matcher = places[place].matcher
        if isinstance(matcher, Typed):
            earlier = other or next((words[word] for word in words if matcher.takes(word)), 0)
            takes, other, name = matcher.takes, place, matcher.name
        else:
            earlier = next((words[word] for word in matcher.words if word in words), 0)
            earlier = earlier or (other if any(map(takes, matcher.words)) else 0)
            words.update(dict.fromkeys(matcher.words, place))
        if earlier:
            first = places[earlier].location
            raise FilterError(
                places[place].location,
                f"one word could belong here and to line {first.line}, column {first.column}",
                "put a word of its own before one of the two, or write two filters",
            )
    return _After(words, takes, other, name)


class _Parser:
    """Reads `field, field, ...`; knows where each character stands in the file."""

    def __init__(self, text: str, locations: list[Location], start: int, warn: Warn) -> None:
        """`text` from `start` on; each character has its location, and so has the end."""
        self.text = text
        self.locations = locations
        self.index = start
        self.warn = warn
        self.count = 0
        # Place 0 is the beginning, which takes no word.
        self.places = [_Place(Choice(frozenset()), self._here)]

    def pattern(self) -> Pattern:
        """Raises FilterError."""
        whole = _sequence(self.places, [_Piece((0,), (0,), empty=False), self._fields("")])
        after = tuple(_after(self.places, sorted(place.follow)) for place in self.places)
        makes = {
            number: place.matcher.make
            for number, place in enumerate(self.places)
            if isinstance(place.matcher, Typed) and place.matcher.make is not None
        }
        return Pattern(after, frozenset(whole.last), makes)

    @property
    def _here(self) -> Location:
        return self.locations[self.index]

    @property
    def _next(self) -> str:
        """The next character, empty at the end."""
        return self.text[self.index : self.index + 1]

    def _skip(self) -> None:
        while self._next in _BLANKS:
            self.index += 1

    def _fields(self, closing: str) -> _Piece:
        pieces = [self._field()]
        while self._next == ",":
            self.index += 1
            pieces.append(self._field())
        if self._next != closing:
            what = f"{self._next!r} cannot stand here" if self._next else f"no {closing} for a group"
            mend = "put a comma between fields; a backslash before it makes it a part of the word"
            if self._next == "{":
                mend += "; a type is a whole word, for a part of one use a RegExpFilter"
            raise FilterError(self._here, what, mend)
        return _sequence(self.places, pieces)

    def _field(self) -> _Piece:
        self._skip()
        start = self._here
        self.count += 1
        if self.count > MAX_FIELDS:
            raise FilterError(start, f"more than {MAX_FIELDS} fields", "write several filters")
        if self._next == "[":
            self.index += 1
            inner = self._fields("]")
            self.index += 1
            if inner.empty:
                raise FilterError(
                    start, "all in this group is optional by itself", "take one pair of brackets out"
                )
            piece = _Piece(inner.first, inner.last, empty=True)
        else:
            self.places.append(_Place(self._braces() if self._next == "{" else self._literal(), start))
            here = len(self.places) - 1
            piece = _Piece((here,), (here,), empty=False)
        self._skip()
        if _REPEAT.match(self.text, self.index):
            self.index += 3
            self._skip()
            _link(self.places, piece.last, piece.first)
        return piece

    def _literal(self) -> Matcher:
        part = self._word(_SYNTAX)
        if part.text[-1:] in ("", ".") and _REPEAT.match(self.text, self.index):
            raise FilterError(
                part.location, "dots that repeat nothing", "write {=...} for a word that ends in dots"
            )
        if not part.text and self._next in ("", ",", "]"):
            raise FilterError(part.location, "an empty field", "take the comma out")
        return Choice(frozenset((part.text,)))

    def _braces(self) -> Matcher:
        start = self._here
        self.index += 1
        name = self._word(_SYNTAX + "=")
        parts: list[Field] = []
        while self._next == ("|" if parts else "="):
            self.index += 1
            parts.append(self._word(_SYNTAX))
        if self._next != "}":
            mend = r"write {type}, {type=parameter} or {=word|word}; \ before , | [ ] { } that are meant"
            raise FilterError(start, "braces that cannot be read", mend)
        self.index += 1
        if name.text or not parts:
            if any("|" in part.text for part in parts):
                raise FilterError(parts[0].location, "an escaped | in a parameter", "take it out")
            try:
                return typed(name.text, "|".join(part.text for part in parts) if parts else None)
            except TypeProblem as problem:
                raise FilterError(parts[0].location if parts else start, *problem.args) from problem
        for part in parts:
            if not part.text:
                raise FilterError(part.location, "an empty word", "write {=word|word}")
        return Choice(frozenset(part.text for part in parts))

    def _word(self, stops: str) -> Field:
        """The characters up to one of `stops` or a repetition, without the blanks around them."""
        self._skip()
        start = self._here
        word = blanks = ""
        warned = False
        while self._next and self._next not in stops and not _REPEAT.match(self.text, self.index):
            if self._next in _BLANKS:
                blanks += self._next
                self.index += 1
                continue
            if self._next in "#;" and (blanks or not word):
                mend = f"give it a line of its own, or write \\{self._next} where a word begins so"
                raise FilterError(self._here, "a comment after a definition", mend)
            if "\n" in blanks:
                raise FilterError(
                    self._here, "a line break inside a word", "put a comma before or after the break"
                )
            if blanks and not warned:
                warned = True
                mend = r"put a comma between two words, or write `\ ` in one"
                self.warn(start, "one word with a blank in it", mend)
            word, blanks = word + blanks + self._character(), ""
        if not word.isprintable():
            raise FilterError(start, f"{word!a} is not printable", "take that character out")
        return Field(word, start)

    def _character(self) -> str:
        start = self._here
        escaped = self._next == "\\"
        self.index += escaped
        character = self._next
        self.index += 1
        if escaped and character not in _ESCAPED:
            raise FilterError(start, "a backslash before nothing special", r"write \\ for a backslash")
        return character


@dataclass(frozen=True, slots=True)
class ArgvFilter(Filter):
    """This program, with words as the pattern says; without a pattern, with none."""

    pattern: Pattern
    FORM: ClassVar[str] = "name: ArgvFilter, program, run_as, word, {type}, {=a|b}, [optional, ...], ..."

    @classmethod
    def parse(cls, entry: Entry, options: Options, warn: Warn) -> "ArgvFilter":
        if len(entry.fields) < 3:
            raise FilterError(entry.location, "no program or no user", f"write `{cls.FORM}`")
        program, run_as = program_of(entry.fields[1]), run_as_of(entry.fields[2])
        if set(program) & set("{}[]|\\"):
            raise FilterError(entry.fields[1].location, f"{program!r} is no program", f"write `{cls.FORM}`")
        text, locations = _characters(entry)
        head = text.split(",", 3)
        if len(head) == 3:
            pattern = Pattern((_After({}, _nothing, 0),), frozenset((0,)), {})
        else:
            parser = _Parser(text, locations, len(text) - len(head[3]), warn)
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


def _warn_of_words(program: str, places: list[_Place], warn: Warn) -> None:
    for place, found in enumerate(places):
        if not isinstance(found.matcher, Typed):
            continue
        if found.matcher.name == "any":
            warn(found.location, "this word may be anything but an option", "give it a type")
        if (
            program in _READ_KEYWORDS
            and found.matcher.name in _FREE
            and any(
                verb & _VERBS and kind - _WITHOUT_KEYWORDS
                for before, verb in _literals_before(places, place)
                for _, kind in _literals_before(places, before)
            )
        ):
            mend = "write the keyword that takes the value, as in `dev, {ifname}`"
            warn(found.location, f"{program} could read this word as one of its keywords", mend)


def _literals_before(places: list[_Place], place: int) -> Iterator[tuple[int, frozenset[str]]]:
    for before, found in enumerate(places):
        if place in found.follow and isinstance(found.matcher, Choice):
            yield before, found.matcher.words
