"""ArgvFilter: one typed pattern a word, so that a policy can be read instead of guessed.

Promises: matching is linear in the words, and each word is taken by exactly one place of the pattern; a
pattern for which that would not be so is refused at load. The grammar is in the reference
(doc/source/reference/argv.rst).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

from rootwrap_daemon.filters.definition import Filter, FilterError, Warn, program_of, run_as_of
from rootwrap_daemon.filters.model import ExecPlan, Location, Options, Plan, Program, Request, Word
from rootwrap_daemon.filters.patterns import Clock
from rootwrap_daemon.filters.syntax import Entry, Field
from rootwrap_daemon.filters.words import Choice, Matcher, Typed, TypeProblem, overlap, typed

_SPECIAL = frozenset("{}[],|\\ ")


@dataclass(frozen=True, slots=True)
class _Piece:
    """A part of a pattern as an automaton of its places, after Glushkov.

    `first` and `last`: places a word of it can begin and end with; `empty`: it may be left out.
    """

    first: tuple[int, ...]
    last: tuple[int, ...]
    empty: bool


@dataclass(slots=True)
class _Builder:
    """Places in the order of the pattern, and which may follow which."""

    matchers: list[Matcher] = field(default_factory=list)
    locations: list[Location] = field(default_factory=list)
    follow: list[set[int]] = field(default_factory=list)

    def place(self, matcher: Matcher, location: Location) -> _Piece:
        self.matchers.append(matcher)
        self.locations.append(location)
        self.follow.append(set())
        here = len(self.matchers) - 1
        return _Piece((here,), (here,), empty=False)

    def sequence(self, pieces: list[_Piece]) -> _Piece:
        whole = _Piece((), (), empty=True)
        for piece in pieces:
            self._link(whole.last, piece.first)
            whole = _Piece(
                whole.first + piece.first if whole.empty else whole.first,
                whole.last + piece.last if piece.empty else piece.last,
                whole.empty and piece.empty,
            )
        return whole

    def repeated(self, piece: _Piece) -> _Piece:
        self._link(piece.last, piece.first)
        return piece

    def _link(self, before: tuple[int, ...], after: tuple[int, ...]) -> None:
        for place in before:
            self.follow[place].update(after)


@dataclass(frozen=True, slots=True)
class Pattern:
    """A compiled pattern. Place -1 is the beginning."""

    matchers: tuple[Matcher, ...]
    follow: dict[int, tuple[int, ...]]
    ends: frozenset[int]

    def match(self, words: tuple[str, ...]) -> tuple[Word, ...] | None:
        """The words as the plan has them, None if they do not match."""
        here = -1
        planned: list[Word] = []
        for word in words:
            for place in self.follow[here]:
                if self.matchers[place].takes(word):
                    here = place
                    planned.append(self.matchers[place].plan(word))
                    break
            else:
                return None
        return tuple(planned) if here in self.ends else None


class _Parser:
    """Reads `field, field, ...` with brackets; knows where each character stands in the file."""

    def __init__(self, characters: list[tuple[str, Location]], end: Location) -> None:
        self.characters = characters
        self.end = end
        self.index = 0
        self.builder = _Builder()

    def pattern(self) -> Pattern:
        whole = self._fields(closing="")
        builder = self.builder
        follow = {place: tuple(sorted(after)) for place, after in enumerate(builder.follow)}
        follow[-1] = whole.first
        for after in follow.values():
            self._check_distinct(after)
        ends = set(whole.last) | ({-1} if whole.empty else set())
        return Pattern(tuple(builder.matchers), follow, frozenset(ends))

    def _check_distinct(self, places: tuple[int, ...]) -> None:
        for index, one in enumerate(places):
            for other in places[index + 1 :]:
                if overlap(self.builder.matchers[one], self.builder.matchers[other]):
                    raise FilterError(
                        self.builder.locations[other],
                        f"the same word could belong here and at column {self.builder.locations[one].column}",
                        "put a literal word before one of the two",
                    )

    @property
    def _here(self) -> Location:
        return self.characters[self.index][1] if self.index < len(self.characters) else self.end

    def _peek(self) -> str:
        return self.characters[self.index][0] if self.index < len(self.characters) else ""

    def _next(self) -> str:
        character = self._peek()
        self.index += 1
        return character

    def _skip(self) -> None:
        while self._peek() in (" ", "\t", "\n") and self._peek():
            self.index += 1

    def _fields(self, closing: str) -> _Piece:
        pieces = []
        while True:
            self._skip()
            pieces.append(self._field())
            self._skip()
            if self._peek() != ",":
                break
            self._next()
        if self._peek() != closing:
            what = f"{self._peek()!r} in the middle of a field" if self._peek() else f"no {closing!r} here"
            raise FilterError(self._here, what, "write a backslash before it if it is a word's own character")
        return self.builder.sequence(pieces)

    def _field(self) -> _Piece:
        start = self._here
        if self._peek() == "[":
            self._next()
            inner = self._fields(closing="]")
            self._next()
            if inner.empty:
                raise FilterError(
                    start, "all of an optional group is optional", "take the outer or inner out"
                )
            piece = _Piece(inner.first, inner.last, empty=True)
        elif self._peek() == "{":
            piece = self.builder.place(self._braces(start), start)
        else:
            piece = self.builder.place(self._literal(start), start)
        self._skip()
        return self.builder.repeated(piece) if self._dots() else piece

    def _dots(self) -> bool:
        if [character for character, _ in self.characters[self.index : self.index + 3]] != [".", ".", "."]:
            return False
        self.index += 3
        return True

    def _literal(self, start: Location) -> Matcher:
        text = ""
        blanks = ""
        while self._peek() and self._peek() not in ",[]{}|" and not self._at_dots():
            if self._peek() in (" ", "\t", "\n"):
                blanks += self._next()
            else:
                text, blanks = text + blanks + self._character(), ""
        if "\n" in text:
            raise FilterError(start, "a line break inside a field", "put a comma before or after the break")
        if not text:
            raise FilterError(start, "an empty field", "take the comma out")
        return Choice(frozenset((text,)))

    def _at_dots(self) -> bool:
        """True where `...` ends the field: it is a repetition, not part of the word."""
        if [character for character, _ in self.characters[self.index : self.index + 3]] != [".", ".", "."]:
            return False
        rest = self.characters[self.index + 3 :]
        for character, _ in rest:
            if character not in (" ", "\t", "\n"):
                return character in ",]"
        return True

    def _character(self) -> str:
        character = self._next()
        if character != "\\":
            return character
        if self._peek() not in _SPECIAL or not self._peek():
            raise FilterError(self._here, "a backslash before nothing special", r"write \\ for a backslash")
        return self._next()

    def _braces(self, start: Location) -> Matcher:
        self._next()
        parts = [""]
        name: str | None = None
        while self._peek() != "}":
            if not self._peek():
                raise FilterError(start, "no } for this {", "close it")
            if self._peek() == "=" and name is None:
                self._next()
                name, parts = parts[0], [""]
            elif self._peek() == "|" and name is not None:
                self._next()
                parts.append("")
            elif self._peek() in "{[":
                raise FilterError(
                    self._here, f"{self._peek()!r} inside braces", "write a backslash before it"
                )
            else:
                parts[-1] += self._character()
        self._next()
        if name == "":
            if not all(parts):
                raise FilterError(start, "an empty word among the choices", "name each: {=a|b}")
            return Choice(frozenset(parts))
        try:
            return typed(parts[0], None) if name is None else typed(name, "|".join(parts))
        except TypeProblem as problem:
            raise FilterError(start, *problem.args) from problem


@dataclass(frozen=True, slots=True)
class ArgvFilter(Filter):
    """This program, with words as the pattern says."""

    pattern: Pattern
    FORM: ClassVar[str] = "name: ArgvFilter, program, run_as, word, {type}, {=a|b}, [optional, ...], ..."

    @classmethod
    def parse(cls, entry: Entry, options: Options, warn: Warn) -> "ArgvFilter":
        characters = list(_characters(entry))
        head, rest = _split(characters, 3)
        if len(head) < 3:
            raise FilterError(entry.location, "no program or no user", f"write `{cls.FORM}`")
        program, run_as = program_of(head[1]), run_as_of(head[2])
        end = characters[-1][1]
        if rest is None:
            pattern = Pattern((), {-1: ()}, frozenset((-1,)))
        else:
            pattern = _Parser(rest, end).pattern()
        for place, matcher in enumerate(pattern.matchers):
            if isinstance(matcher, Typed) and matcher.name == "any":
                warn(entry.location, f"word {place + 1} may be anything but an option", "give it a type")
        return cls(entry.name, entry.location, program, run_as, options, pattern)

    def match(self, request: Request, clock: Clock) -> Plan | None:
        words = self.pattern.match(request.argv[1:])
        return None if words is None else ExecPlan(Program(self.program), words, self.run_as)


def _characters(entry: Entry) -> Iterator[tuple[str, Location]]:
    """Every character of the definition's value, a line break for each new line."""
    for index, (line, column, text) in enumerate(entry.lines):
        if index:
            yield "\n", Location(entry.location.file, line, column)
        for offset, character in enumerate(text):
            yield character, Location(entry.location.file, line, column + offset)


def _split(
    characters: list[tuple[str, Location]], count: int
) -> tuple[list[Field], list[tuple[str, Location]] | None]:
    """The first `count` plain fields, and what follows the comma after them (None if nothing does)."""
    fields: list[Field] = []
    start = 0
    for index, (character, _) in enumerate([*characters, (",", characters[-1][1])]):
        if character != ",":
            continue
        part = characters[start:index]
        text = "".join(one for one, _ in part)
        stripped = text.strip()
        location = (
            part[text.index(stripped)][1] if stripped else characters[min(start, len(characters) - 1)][1]
        )
        fields.append(Field(stripped, location))
        start = index + 1
        if len(fields) == count:
            return fields, characters[start:] if start <= len(characters) else None
    return fields, None
