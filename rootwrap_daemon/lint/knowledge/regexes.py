"""Tell which words a regular expression can match, by reading it, not by running it.

Promises: time is bounded by the length of the pattern; nothing here decides whether a word matches: that the
daemon's own Pattern does. Reads the tree of `re`, whose shape 3.11 to 3.13 share.
"""

import importlib
import re
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Any, Final

from rootwrap_daemon.filters.patterns import Clock, OutOfTime, Pattern
from rootwrap_daemon.filters.read.fault import Fault
from rootwrap_daemon.filters.read.patterns import compile_pattern

_parser: Any = importlib.import_module("re._parser")

#: A set of characters as bits: one for each of ASCII, and one for all others.
_ALL: Final = (1 << 129) - 1
_CLASSES: Final = {"DIGIT": r"\d", "SPACE": r"\s", "WORD": r"\w"}
#: What stands for a set in a sample, the most telling first.
_SHOWN: Final = "a0xA1-_/.:=" + "".join(map(chr, range(32, 127))) + "\n"
#: Samples of one pattern; a pattern of a real filter has a few places that can vary.
_SAMPLES: Final = 64
#: Repetitions that are written out; more count as any number.
_WRITTEN_OUT: Final = 64
#: Places of a repetition that are compared with each other, pair by pair.
_COMPARED: Final = 80


@dataclass(frozen=True, slots=True)
class Char:
    """One character of a set."""

    mask: int


@dataclass(frozen=True, slots=True)
class Sequence:
    """One after the other; none is the empty word."""

    parts: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """One of these."""

    parts: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class Loop:
    """Again and again; `most` is None without a bound."""

    body: "Node"
    least: int
    most: int | None


Node = Char | Sequence | Choice | Loop


@lru_cache(maxsize=4096)
def tree(text: str) -> Node | None:
    """The pattern as a tree, without what looks around; None if it is no pattern."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            parsed = _parser.parse(text, re.ASCII)
            return _sequence(parsed, parsed.state.flags)
        except (re.error, ValueError, OverflowError, RecursionError):
            return None


def _sequence(items: Any, flags: int) -> Node:
    parts = tuple(node for node in (_node(str(op), value, flags) for op, value in items) if node is not None)
    return parts[0] if len(parts) == 1 else Sequence(parts)


def _node(op: str, value: Any, flags: int) -> Node | None:
    if op in ("LITERAL", "NOT_LITERAL", "IN", "ANY"):
        return Char(_mask(op, value, flags))
    if op == "SUBPATTERN":
        _, add, remove, items = value
        return _sequence(items, (flags | add) & ~remove)
    if op == "BRANCH":
        parts = tuple(_sequence(items, flags) for items in value[1])
        if all(isinstance(part, Char) for part in parts):
            mask = 0
            for part in parts:
                mask |= part.mask if isinstance(part, Char) else 0
            # Where two have a character in common, there are two ways to match it.
            if sum(part.mask.bit_count() for part in parts if isinstance(part, Char)) == mask.bit_count():
                return Char(mask)
        return Choice(parts)
    if op in ("MAX_REPEAT", "MIN_REPEAT"):
        least, most, items = value
        return Loop(_sequence(items, flags), int(least), None if most is _parser.MAXREPEAT else int(most))
    if op in ("POSSESSIVE_REPEAT", "ATOMIC_GROUP"):
        # Nobody comes back into it: to what follows it is one piece.
        body = _sequence(value[2] if op == "POSSESSIVE_REPEAT" else value, flags)
        return body if isinstance(body, Char) else next(_chars(body), None)
    # What takes no character: ^, $, \b, and what looks ahead or back. A reference to a group takes some,
    # which no filter file known has.
    return None


def _chars(node: Node) -> Iterator[Char]:
    if isinstance(node, Char):
        yield node
    elif isinstance(node, Loop):
        yield from _chars(node.body)
    else:
        for part in node.parts:
            yield from _chars(part)


def _mask(op: str, value: Any, flags: int) -> int:
    if op == "ANY":
        return _ALL if flags & re.DOTALL else _ALL & ~(1 << ord("\n"))
    if op == "LITERAL":
        return _bits(value, value, flags)
    if op == "NOT_LITERAL":
        return _ALL & ~_bits(value, value, flags)
    mask, negated = 0, False
    for kind, item in value:
        name = str(kind)
        if name == "NEGATE":
            negated = True
        elif name == "LITERAL":
            mask |= _bits(item, item, flags)
        elif name == "RANGE":
            mask |= _bits(item[0], item[1], flags)
        else:  # CATEGORY
            category = str(item).removeprefix("CATEGORY_")
            pattern = _CLASSES[category.removeprefix("NOT_")]
            found = sum(1 << code for code in range(128) if re.match(pattern, chr(code), re.ASCII))
            mask |= _ALL & ~found if category.startswith("NOT_") else found
    return _ALL & ~mask if negated else mask


def _bits(low: int, high: int, flags: int) -> int:
    mask = sum(1 << code for code in range(low, min(high, 127) + 1))
    if flags & re.IGNORECASE:
        letters = [chr(code) for code in range(128) if mask >> code & 1]
        mask |= sum(1 << ord(char.swapcase()) for char in letters if not mask >> ord(char.swapcase()) & 1)
    return mask | (1 << 128 if high > 127 else 0)


def ranges(text: str) -> Iterator[tuple[int, int]]:
    """The ranges in brackets of a pattern, by the codes of their ends."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield from _ranges(_parser.parse(text, re.ASCII))
        except (re.error, ValueError, OverflowError, RecursionError):
            return


def _ranges(item: Any) -> Iterator[tuple[int, int]]:
    if isinstance(item, tuple) and len(item) == 2 and str(item[0]) == "RANGE":
        yield item[1]
    elif isinstance(item, (tuple, list, _parser.SubPattern)):
        for part in item:
            yield from _ranges(part)


def _has(mask: int, text: str) -> bool:
    return all(mask >> min(ord(char), 128) & 1 for char in text)


def shortest(node: Node) -> str | None:
    """A short word that the tree describes; None if there is none."""
    if isinstance(node, Char):
        return next((char for char in _SHOWN if _has(node.mask, char)), "\u00e9" if node.mask else None)
    if isinstance(node, Loop):
        one = shortest(node.body)
        return "" if not node.least else None if one is None else one * min(node.least, _WRITTEN_OUT)
    found = [shortest(part) for part in node.parts]
    if isinstance(node, Choice):
        return next((word for word in found if word is not None), None)
    return None if None in found else "".join(word for word in found if word is not None)


def _filled(node: Node, fill: str) -> Iterator[str]:
    """Words with `fill` at one of the places that can hold it."""
    if isinstance(node, Char):
        # A literal sign is there anyway; only what varies can be filled.
        if len(fill) == 1 and node.mask.bit_count() > 1 and _has(node.mask, fill):
            yield fill
    elif isinstance(node, Loop):
        if isinstance(node.body, Char):
            if _has(node.body.mask, fill) and (node.most is None or len(fill) <= node.most):
                yield fill + (shortest(node.body) or "") * max(0, min(node.least, _WRITTEN_OUT) - len(fill))
        else:
            rest = (shortest(node.body) or "") * max(0, min(node.least, _WRITTEN_OUT) - 1)
            for word in _filled(node.body, fill):
                yield word + rest
    elif isinstance(node, Choice):
        for part in node.parts:
            yield from _filled(part, fill)
    else:
        words = [shortest(part) for part in node.parts]
        if None in words:
            return
        known = [word for word in words if word is not None]
        for place, part in enumerate(node.parts):
            for word in _filled(part, fill):
                yield "".join((*known[:place], word, *known[place + 1 :]))


@lru_cache(maxsize=4096)
def compiled(text: str) -> Pattern | None:
    """The daemon's own pattern; None if it refuses the text."""
    try:
        return compile_pattern(text)
    except Fault:
        return None


def admits(text: str, word: str) -> bool:
    """True if the daemon's pattern matches this word, and in no long time."""
    pattern = compiled(text)
    try:
        return pattern is not None and pattern.matches(word, Clock())
    except OutOfTime:
        return False


@lru_cache(maxsize=16384)
def witness(text: str, *fills: str, shape: str = "(?s).*") -> str | None:
    """A word that the daemon's pattern does match, has one of `fills` in it and is of this shape."""
    node = tree(text)
    pattern = compiled(text)
    if node is None or pattern is None or pattern.literal is not None:
        return None
    for fill in fills:
        for word in islice(_filled(node, fill), _SAMPLES):
            if re.fullmatch(shape, word) and admits(text, word):
                return word
    return None


@lru_cache(maxsize=4096)
def is_exponential(text: str) -> bool:
    """True if a word can match some repetition in more than one way each time round.

    Then a word that almost matches takes twice the time with each character more. The places of the
    repetition as an automaton (Glushkov 1961), with the number of ways from place to place; exponential is
    what can come back to a place in two ways with one word (Weber and Seidl 1991). Missed are alternatives of
    one same character, `(a|a)*`: the parser of `re` makes them one.
    """
    node = tree(text)
    return node is not None and any(_is_ambiguous(loop) for loop in _loops(node))


def _loops(node: Node) -> Iterator[Loop]:
    if isinstance(node, Loop):
        if node.most is None or node.most > _WRITTEN_OUT:
            yield node
        yield from _loops(node.body)
    elif not isinstance(node, Char):
        for part in node.parts:
            yield from _loops(part)


@dataclass(slots=True)
class _Places:
    """`masks`: the set of each place. `ways`: from one place to another, in how many ways."""

    masks: list[int]
    ways: Counter[tuple[int, int]]

    def link(self, before: Counter[int], after: Counter[int]) -> None:
        for one, count in before.items():
            for other, more in after.items():
                self.ways[one, other] += count * more

    def add(self, node: Node) -> tuple[Counter[int], Counter[int], int]:
        """First places, last places, and in how many ways it can be left out."""
        if isinstance(node, Char):
            self.masks.append(node.mask)
            here = Counter({len(self.masks) - 1: 1})
            return here, Counter(here), 0
        if isinstance(node, Choice):
            parts = [self.add(part) for part in node.parts]
            return (
                sum((part[0] for part in parts), Counter()),
                sum((part[1] for part in parts), Counter()),
                min(1, sum(part[2] for part in parts)),
            )
        if isinstance(node, Sequence):
            return self._sequence(node.parts)
        if node.most is not None and node.most <= _WRITTEN_OUT and len(self.masks) < _COMPARED:
            optional = Loop(node.body, 0, 1)
            if node.most == 1 and not node.least:
                first, last, _ = self.add(node.body)
                return first, last, 1
            return self._sequence((node.body,) * node.least + (optional,) * (node.most - node.least))
        first, last, empty = self.add(node.body)
        self.link(last, first)
        return first, last, 1 if not node.least else empty

    def _sequence(self, parts: tuple[Node, ...]) -> tuple[Counter[int], Counter[int], int]:
        first: Counter[int] = Counter()
        last: Counter[int] = Counter()
        empty = 1
        for part in parts:
            next_first, next_last, next_empty = self.add(part)
            self.link(last, next_first)
            first = first + next_first if empty else first
            last = next_last + last if next_empty else next_last
            empty = empty and next_empty
        return first, last, empty


def _is_ambiguous(loop: Loop) -> bool:
    places = _Places([], Counter())
    places.add(Loop(loop.body, 0, None))
    follow: dict[int, list[int]] = {}
    for (one, other), count in places.ways.items():
        # All of it is inside one repetition: every way from place to place is on a circle.
        if count > 1 and places.masks[other]:
            return True
        follow.setdefault(one, []).append(other)
    if len(places.masks) > _COMPARED:
        return False
    return _two_ways_round(places.masks, follow)


def _two_ways_round(masks: list[int], follow: dict[int, list[int]]) -> bool:
    """True if two different ways leave one place with one word, and meet in it again."""
    steps: dict[tuple[int, int], list[tuple[int, int]]] = {}
    back: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for one in range(len(masks)):
        for other in range(len(masks)):
            for first in follow.get(one, ()):
                for second in follow.get(other, ()):
                    if masks[first] & masks[second]:
                        steps.setdefault((one, other), []).append((first, second))
                        back.setdefault((first, second), []).append((one, other))
    for place in range(len(masks)):
        ahead, behind = _reach(steps, (place, place)), _reach(back, (place, place))
        if any(one != other for one, other in ahead & behind):
            return True
    return False


def _reach(
    steps: dict[tuple[int, int], list[tuple[int, int]]], start: tuple[int, int]
) -> set[tuple[int, int]]:
    found: set[tuple[int, int]] = set()
    pending = [start]
    while pending:
        for pair in steps.get(pending.pop(), ()):
            if pair not in found:
                found.add(pair)
                pending.append(pair)
    return found


def has_open_bar(text: str) -> bool:
    """True if a `|` stands in no group: `a|b`, of which a `^` or `$` beside it binds one side alone."""
    depth, inside, index = 0, False, 0
    while index < len(text):
        char = text[index]
        if char == "\\":
            index += 1
        elif inside:
            inside = char != "]"
        elif char == "[":
            inside = True
            # `]` right after `[` or `[^` is itself.
            index += len(text[index + 1 :]) - len(text[index + 1 :].removeprefix("^").removeprefix("]"))
        elif char == "|" and not depth:
            return True
        else:
            depth += (char == "(") - (char == ")")
        index += 1
    return False
