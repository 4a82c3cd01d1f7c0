"""Compile the text of an ArgvFilter's pattern into an automaton of its words.

Promises: each word of a request is looked at once, and one place of the pattern at most can take it; where
that would not be so, the definition is refused. The language is in doc/source/reference/argv.rst.
"""

import re
from dataclasses import dataclass, field
from typing import Final

from rootwrap_daemon.filters.argv import After, Pattern
from rootwrap_daemon.filters.argv_types import Choice, Matcher, Typed
from rootwrap_daemon.filters.finding import Location
from rootwrap_daemon.filters.read.fault import Fault
from rootwrap_daemon.filters.read.fields import Warn
from rootwrap_daemon.filters.read.ini import Field
from rootwrap_daemon.filters.read.types import typed

#: Fields in a definition, groups counted too. Bounds how deep groups nest, and how much a definition takes to
#: compile; the longest command in the filter files of OpenStack has some forty words.
MAX_FIELDS: Final = 128

_BLANKS: Final = frozenset(" \t\n")
_SYNTAX: Final = "{}[],|"
_ESCAPED: Final = frozenset(_SYNTAX + "\\ #;")
#: Only at the end of a field; anywhere else dots belong to the word.
_REPEAT = re.compile(r"\.\.\.(?=[ \t\n]*(?:[,\]]|\Z))")
#: What a shell would read, but for the `?` of a URL's query.
_SIGN = re.compile(
    r"\*|\?(?!.*=)|\A\^(?=.*\$\Z)|\A~(?=/|\Z)|\$(?=[A-Za-z0-9_{(])|`|\A\d?>>?(?=[/&]|\Z)"
    r"|\A<(?=/|[\w -]+>\Z|\Z)|(?:\A|(?<=\w))&&?\Z",
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Place:
    """A place for one word, and the places that the next one can have."""

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


def _link(places: list[Place], before: tuple[int, ...], after: tuple[int, ...]) -> None:
    for place in before:
        places[place].follow.update(after)


def _sequence(places: list[Place], pieces: list[_Piece]) -> _Piece:
    whole = _Piece((), (), empty=True)
    for piece in pieces:
        _link(places, whole.last, piece.first)
        whole = _Piece(
            whole.first + piece.first if whole.empty else whole.first,
            whole.last + piece.last if piece.empty else piece.last,
            whole.empty and piece.empty,
        )
    return whole


def _after(places: list[Place], follow: list[int]) -> After:
    """Raises Fault where one word could have two places. Two types always count as such."""
    words: dict[str, int] = {}
    typed: Typed | None = None
    other = 0
    for place in follow:
        matcher = places[place].matcher
        if isinstance(matcher, Typed):
            earlier = other or next((words[word] for word in words if matcher.takes(word)), 0)
            typed, other = matcher, place
        else:
            earlier = next((words[word] for word in matcher.words if word in words), 0)
            earlier = earlier or (other if typed and any(map(typed.takes, matcher.words)) else 0)
            words.update(dict.fromkeys(matcher.words, place))
        if earlier:
            first = places[earlier].location
            raise Fault(
                "ambiguous",
                f"one word could belong here and to line {first.line}, column {first.column}",
                "put a word of its own before one of the two, or write two filters",
                places[place].location,
            )
    return After(words, typed, other)


class Parser:
    """Read `field, field, ...` and know where each character stands in the file."""

    def __init__(self, text: str, locations: list[Location], start: int, warn: Warn) -> None:
        """`text` from `start` on; each character has its location, and so has the end."""
        self.text = text
        self.locations = locations
        self.index = start
        self.warn = warn
        self.count = 0
        # Place 0 is the beginning, which takes no word.
        self.places = [Place(Choice(frozenset()), self._here)]

    def pattern(self) -> Pattern:
        """Raises Fault."""
        whole = _sequence(self.places, [_Piece((), (0,), empty=False), self._fields("")])
        after = tuple(_after(self.places, sorted(place.follow)) for place in self.places)
        return Pattern(after, frozenset(whole.last))

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
            remedy = "put a comma between fields; a backslash before it makes it a part of the word"
            if self._next == "{":
                remedy += "; a type is a whole word, for a part of one use a RegExpFilter"
            raise Fault("pattern", what, remedy, self._here)
        return _sequence(self.places, pieces)

    def _field(self) -> _Piece:
        self._skip()
        start = self._here
        self.count += 1
        if self.count > MAX_FIELDS:
            raise Fault("fields", f"more than {MAX_FIELDS} fields", "write several filters", start)
        if self._next == "[":
            self.index += 1
            inner = self._fields("]")
            self.index += 1
            if inner.empty:
                what = "all in this group is optional by itself"
                raise Fault("pattern", what, "take one pair of brackets out", start)
            piece = _Piece(inner.first, inner.last, empty=True)
        else:
            self.places.append(Place(self._braces() if self._next == "{" else self._literal(), start))
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
            remedy = "write {=...} for a word that ends in dots"
            raise Fault("pattern", "dots that repeat nothing", remedy, part.location)
        if not part.text and self._next in ("", ",", "]"):
            raise Fault("fields", "an empty field", "take the comma out", part.location)
        if sign := _SIGN.search(part.text):
            why = f"{sign[0]} is not a pattern here" if sign[0] in "*?^" else f"no shell reads {sign[0]} here"
            what = f"{part.text} is compared as it stands: {why}"
            remedy = f"use a type or a RegExpFilter, or write {{={part.text}}} if the sign is meant"
            self.warn(Fault("literal", what, remedy, part.location))
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
            remedy = r"write {type}, {type=parameter} or {=word|word}; \ before , | [ ] { } that are meant"
            raise Fault("pattern", "braces that cannot be read", remedy, start)
        self.index += 1
        if name.text or not parts:
            if any("|" in part.text for part in parts):
                raise Fault("pattern", "an escaped | in a parameter", "take it out", parts[0].location)
            try:
                return typed(name.text, "|".join(part.text for part in parts) if parts else None)
            except Fault as fault:
                raise fault.at(parts[0].location if parts else start) from None
        for part in parts:
            if not part.text:
                raise Fault("pattern", "an empty word", "write {=word|word}", part.location)
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
                remedy = f"give it a line of its own, or write \\{self._next} where a word begins so"
                raise Fault("comment", "a comment after a definition", remedy, self._here)
            if "\n" in blanks:
                remedy = "put a comma before or after the break"
                raise Fault("line", "a line break inside a word", remedy, self._here)
            if blanks and not warned:
                warned = True
                remedy = r"put a comma between two words, or write `\ ` in one"
                self.warn(Fault("line", "one word with a blank in it", remedy, start))
            word, blanks = word + blanks + self._character(), ""
        if not word.isprintable():
            raise Fault("character", f"{word!a} is not printable", "take that character out", start)
        return Field(word, start)

    def _character(self) -> str:
        start = self._here
        escaped = self._next == "\\"
        self.index += escaped
        character = self._next
        self.index += 1
        if escaped and character not in _ESCAPED:
            what = "a backslash before a character that has no special meaning"
            raise Fault("pattern", what, r"write \\ for a backslash", start)
        return character
