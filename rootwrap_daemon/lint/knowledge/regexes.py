"""Tell which words a regular expression can match, by reading it, not by running it.

Promises: time is bounded by the length of the pattern; nothing here decides whether a word matches: that the
daemon's own Pattern does.
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Any, Final

from rootwrap_daemon.filters.patterns import Clock, OutOfTime, Pattern
from rootwrap_daemon.filters.read.fault import Fault
from rootwrap_daemon.filters.read.patterns import compile_pattern
from rootwrap_daemon.filters.read.tree import Char, Choice, Loop, Node, Sequence, parse, tree

#: What stands for a set in a sample, the most telling first.
_SHOWN: Final = "a0xA1-_/.:=" + "".join(map(chr, range(32, 127))) + "\n"
#: Samples of one pattern; a pattern of a real filter has a few places that can vary.
_SAMPLES: Final = 64
#: Repetitions that are written out; more count as any number.
_WRITTEN_OUT: Final = 64
#: Places of a repetition that are compared with each other, pair by pair.
_COMPARED: Final = 80


def ranges(text: str) -> Iterator[tuple[int, int]]:
    """The ranges in brackets of a pattern, by the codes of their ends."""
    yield from _ranges(parse(text))


def _ranges(item: Any) -> Iterator[tuple[int, int]]:
    if isinstance(item, tuple) and len(item) == 2 and str(item[0]) == "RANGE":
        yield item[1]
    elif hasattr(item, "__getitem__"):
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
