"""How many steps a backtracking matcher can need for a pattern, where that can be proved from its text.

Promises: a bound for the plainest syntax alone, none for whatever else there is; `re` never takes more steps.
Knows nothing of words but their length. No I/O.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

#: Steps that may be taken without a clock, by a matcher that lets no other thread run: some 0.1 ms.
MAX_STEPS: Final = 8192
#: More repetitions of a group are not looked at, nor groups deeper in each other, nor higher degrees: a bound
#: that holds for a few characters helps nobody.
_MOST: Final = 16

#: Steps to begin a group, each time.
_ROUND: Final = 2

#: The steps for a word of n characters, as the coefficients of 1, n, n^2, ...
Polynomial = tuple[int, ...]
#: What the steps after a part of a pattern are -> what they are with that part before them.
_Part = Callable[[Polynomial], Polynomial]

_QUANTIFIER = re.compile(r"(?:([*+?])|\{(?=,?\d)(\d*)(,)?(\d*)\})\??", re.ASCII)
# A class, which may have `]` as its first member.
_CLASS = re.compile(r"\[\^?(?:\\.|[^\\])(?:\\.|[^\]\\])*\]", re.DOTALL)
# What stands for one character. Other letters behind a backslash are positions, references, or unknown here.
_ONE = re.compile(r"\\(?:[dDwWsSntr]|x[0-9A-Fa-f]{2}|[^A-Za-z0-9])|[^\\^$*+?{}()\[\]|]", re.ASCII | re.DOTALL)
# What stands between characters; `re` repeats none of these but \b and \B, and that is not read here.
_POSITION = re.compile(r"(?:[\^$]|\\[bBAZ])(?![*+?{])", re.ASCII)
_REFERENCE = re.compile(r"\\[1-9][0-9]?(?![0-9])", re.ASCII)
_ANYTHING: Final = r"[\s\S]*"


class _TooMuch(Exception):
    """There is no bound that would be of use."""


@dataclass(frozen=True, slots=True)
class _Times:
    """How often a part stands; `most` is None without an end."""

    least: int
    most: int | None


@dataclass(frozen=True, slots=True)
class Bounded:
    """A pattern that `re` matches in MAX_STEPS steps with words of up to `longest` characters.

    It matches every word that the given one does, and no others if it is `exact`. `steps`: at most, by the
    length of the word.
    """

    text: str
    exact: bool
    steps: Polynomial
    longest: int


def bounded(text: str) -> Bounded | None:
    """The pattern with that promise for one that `re` compiles, None if there is none.

    What can take any number of ways through a word is replaced by what matches anything.
    """
    reader = _Reader(text)
    try:
        steps = reader.steps()
    except _TooMuch:
        return None
    low, high = -1, MAX_STEPS
    while low < high:
        middle = (low + high + 1) // 2
        if value(steps, middle) <= MAX_STEPS:
            low = middle
        else:
            high = middle - 1
    return Bounded(reader.loose(), not reader.cuts, steps, low)


def value(steps: Polynomial, length: int) -> int:
    """How many they are for a word of this length."""
    total = 0
    for coefficient in reversed(steps):
        total = total * length + coefficient
    return total


def _sum(one: Polynomial, other: Polynomial) -> Polynomial:
    longer, shorter = (one, other) if len(one) >= len(other) else (other, one)
    total = tuple(a + b for a, b in zip(longer, shorter, strict=False)) + longer[len(shorter) :]
    if total[0] > MAX_STEPS or len(total) > _MOST:
        raise _TooMuch
    return total


def _sequence(parts: Sequence[_Part]) -> _Part:
    def before(after: Polynomial) -> Polynomial:
        # Each way through a part is one more time that all after it is tried.
        for part in reversed(parts):
            after = part(after)
        return after

    return before


def _either(branches: Sequence[_Part]) -> _Part:
    def before(after: Polynomial) -> Polynomial:
        total: Polynomial = (1 + len(branches),)
        for branch in branches:
            total = _sum(total, branch(after))
        return total

    return before


def _one(after: Polynomial) -> Polynomial:
    return _sum((1,), after)


def _run(times: _Times) -> _Part:
    """One character so many times: they are counted once, then all after is tried at each end."""

    def before(after: Polynomial) -> Polynomial:
        if times.most is None or times.most > _MOST:
            # At most the whole word; at each of its n + 1 ends.
            return _sum((1, 1), _sum(after, (0, *after)))
        ends = times.most - times.least + 1
        return _sum((1 + times.most,), tuple(ends * coefficient for coefficient in after))

    return before


def _repeated(group: _Part, least: int, most: int) -> _Part:
    """A group so many times, written out: what is in it can end in several places each time."""

    def before(after: Polynomial) -> Polynomial:
        steps = after = _sum((1,), after)
        for _ in range(most - least):
            steps = _sum(_sum((_ROUND,), after), group(steps))
        for _ in range(least):
            steps = _sum((_ROUND,), group(steps))
        return _sum((_ROUND,), steps)

    return before


class _Reader:
    """Reads the syntax that it knows, and gives up at anything else."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.index = 0
        self.looking = 0
        #: Where the text stands that has no bound.
        self.cuts: list[tuple[int, int]] = []

    def steps(self) -> Polynomial:
        """Raises _TooMuch."""
        whole = self._branches(0)
        if self.index < len(self.text):
            raise _TooMuch
        return whole((1,))

    def loose(self) -> str:
        """The text with what has no bound replaced."""
        kept, end = [], 0
        for start, after in self.cuts:
            kept += [self.text[end:start], _ANYTHING]
            end = after
        return "".join(kept) + self.text[end:]

    def _cut(self, start: int) -> _Part:
        # What matches more makes a negative look-ahead match less.
        if self.looking:
            raise _TooMuch
        self.cuts = [cut for cut in self.cuts if cut[1] <= start]
        self.cuts.append((start, self.index))
        return _run(_Times(0, None))

    def _take(self, expected: str) -> bool:
        found = self.text.startswith(expected, self.index)
        self.index += len(expected) if found else 0
        return found

    def _branches(self, depth: int) -> _Part:
        if depth > _MOST:
            raise _TooMuch
        found = [self._branch(depth)]
        while self._take("|"):
            found.append(self._branch(depth))
        return found[0] if len(found) == 1 else _either(found)

    def _branch(self, depth: int) -> _Part:
        parts: list[_Part] = []
        while self.index < len(self.text) and self.text[self.index] not in "|)":
            parts.append(self._part(depth))
        return _sequence(parts)

    def _part(self, depth: int) -> _Part:
        start = self.index
        if self._take("("):
            return self._group(start, depth)
        if position := _POSITION.match(self.text, start):
            self.index = position.end()
            return _one
        if reference := _REFERENCE.match(self.text, start):
            self.index = reference.end()
            self._times()
            return self._cut(start)
        found = _CLASS.match(self.text, start) or _ONE.match(self.text, start)
        if found is None:
            raise _TooMuch
        self.index = found.end()
        times = self._times()
        return _one if times is None else _run(times)

    def _group(self, start: int, depth: int) -> _Part:
        looks = self._take("?=") or self._take("?!")
        if not looks and not self._take("?:") and self._take("?"):
            raise _TooMuch
        self.looking += looks
        group = self._branches(depth + 1)
        self.looking -= looks
        if not self._take(")"):
            raise _TooMuch
        times = self._times()
        if looks:
            if times is not None:
                raise _TooMuch
            # Once it has matched it is not tried otherwise: it multiplies nothing.
            return lambda after: _sum(group((_ROUND,)), after)
        if times is None:
            return _repeated(group, 1, 1)
        if times.most is None or times.most > _MOST:
            return self._cut(start)
        return _repeated(group, times.least, times.most)

    def _times(self) -> _Times | None:
        found = _QUANTIFIER.match(self.text, self.index)
        if found is None:
            return None
        # A second one behind it (a++, a{2}+) is possessive: no character that stands for itself comes next.
        self.index = found.end()
        sign, least, comma, most = found.groups()
        if sign:
            return _Times(1 if sign == "+" else 0, 1 if sign == "?" else None)
        low = int(least or 0)
        return _Times(low, int(most) if most else None if comma else low)
