"""filters/read/steps.py: what is proven of a pattern holds for every word, and changes no verdict."""

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from rootwrap_daemon.filters import patterns as module
from rootwrap_daemon.filters.patterns import Clock, OutOfTime, Pattern
from rootwrap_daemon.filters.read.patterns import compile_pattern
from rootwrap_daemon.filters.read.steps import bound


@dataclass(frozen=True)
class Char:
    """One of these characters, as `text` says it."""

    text: str
    chars: str


@dataclass(frozen=True)
class Group:
    """One of these sequences of parts."""

    ways: tuple[tuple["Part", ...], ...]


@dataclass(frozen=True)
class Repeated:
    """A part so many times; lazy: as few as possible first. `most` is None without a bound."""

    part: "Char | Group"
    least: int
    most: int | None
    lazy: bool


Part = Char | Group | Repeated

CHARS = [Char("a", "a"), Char("b", "b"), Char("[ab]", "ab"), Char("[^b]", "ac-"), Char(".", "abc-")]
TIMES = {
    "": (1, 1),
    "?": (0, 1),
    "*": (0, None),
    "+": (1, None),
    "{2}": (2, 2),
    "{1,3}": (1, 3),
    "{,20}": (0, 20),
}
chars = st.sampled_from([*CHARS, Char("-", "-"), Char("c", "c")])


def repeated(part: st.SearchStrategy[Char | Group]) -> st.SearchStrategy[Part]:
    return st.builds(
        lambda one, times, lazy: one if times == (1, 1) else Repeated(one, times[0], times[1], lazy),
        part,
        st.sampled_from([*TIMES.values()]),
        st.booleans(),
    )


parts = st.recursive(
    repeated(chars),
    lambda inner: repeated(
        st.lists(st.lists(inner, max_size=3).map(tuple), min_size=1, max_size=3).map(tuple).map(Group)
    ),
    max_leaves=8,
)
sequences = st.lists(parts, max_size=6).map(tuple)
words = st.one_of(
    st.text("abc-", max_size=30),
    st.builds(
        lambda one, count, end: one * count + end,
        st.sampled_from(["a", "ab", "aab"]),
        st.integers(0, 40),
        st.text("bc-", max_size=2),
    ),
)


def written(sequence: tuple[Part, ...]) -> str:
    """The pattern of these parts."""
    return "".join(map(_written, sequence))


def _written(part: Part) -> str:
    if isinstance(part, Char):
        return part.text
    if isinstance(part, Group):
        return f"(?:{'|'.join(map(written, part.ways))})"
    times = next(text for text, times in TIMES.items() if times == (part.least, part.most))
    return _written(part.part) + times + ("?" if part.lazy else "")


class Engine:
    """One that tries one way after the other, forgets what it has tried, and counts its steps."""

    def __init__(self, word: str) -> None:
        self.word = word
        self.steps = 0

    def matches(self, sequence: tuple[Part, ...]) -> bool:
        for end in self._ends(sequence, 0):
            self.steps += 1
            if end == len(self.word):
                return True
        return False

    def _ends(self, sequence: tuple[Part, ...], start: int) -> Iterator[int]:
        if not sequence:
            yield start
            return
        for end in self._one(sequence[0], start):
            yield from self._ends(sequence[1:], end)

    def _one(self, part: Part, start: int) -> Iterator[int]:
        if isinstance(part, Char):
            self.steps += 1
            if start < len(self.word) and self.word[start] in part.chars:
                yield start + 1
        elif isinstance(part, Group):
            for way in part.ways:
                yield from self._ends(way, start)
        else:
            yield from self._times(part, start, 0)

    def _times(self, part: Repeated, start: int, count: int) -> Iterator[int]:
        if part.lazy and count >= part.least:
            yield start
        if part.most is None or count < part.most:
            for end in self._one(part.part, start):
                if end > start or count < part.least:
                    yield from self._times(part, end, count + 1)
        if not part.lazy and count >= part.least:
            yield start


def check(sequence: tuple[Part, ...], word: str) -> None:
    found = bound(written(sequence))
    if found is not None:
        each, once = found
        engine = Engine(word)
        assert engine.matches(sequence) == (re.fullmatch(written(sequence), word) is not None)
        assert engine.steps <= each * len(word) + once


@given(sequences, words)
def test_no_word_takes_more_steps(sequence: tuple[Part, ...], word: str) -> None:
    check(sequence, word)


FEW: list[Part] = [
    *(
        Char("a", "a"),
        Char("[ab]", "ab"),
        Repeated(CHARS[0], 0, None, False),
        Repeated(CHARS[2], 1, None, True),
    ),
    *(Repeated(CHARS[1], 0, None, True), Repeated(CHARS[2], 0, 20, False), Repeated(CHARS[4], 0, 1, False)),
    *(Group(((CHARS[0],), (CHARS[0],))), Repeated(Group(((CHARS[0], CHARS[1]),)), 0, 1, True)),
]


@pytest.mark.parametrize("first", FEW)
def test_no_word_takes_more_steps_whatever_comes_together(first: Part) -> None:
    for rest in itertools.product((None, *FEW), repeat=2):
        sequence: tuple[Part, ...] = (first, *(one for one in rest if one is not None))
        for word in (
            "a" * 25,
            "a" * 25 + "-",
            "b" * 25 + "-",
            "ab" * 12 + "-",
            "a" * 12 + "b" * 12 + "-",
            "a-",
        ):
            check(sequence, word)


#: Steps for each character and for any word, counted by hand: one to look at a character, two at the end. One
#: more way doubles both; a loop looks once more than it takes, and its rest is tried at each end that it can
#: have.
COUNTED = {
    "": (0, 2),
    "a": (0, 3),
    "ab": (0, 4),
    "a{3}": (0, 6),
    "a|b": (0, 6),
    "ab|cd": (0, 8),
    "(|a)b": (0, 8),
    "(ab)?c": (0, 10),
    "a*": (3, 3),
    "a+": (3, 3),
    "a*b": (2, 4),
    "a*a": (4, 4),
    "[ab]*b": (4, 4),
    "a*?b": (2, 4),
    "a*b*": (7, 4),
    "a*b*c": (5, 5),
    "a?a": (0, 8),
    "[ab]{0,3}b": (0, 16),
    "[ab]{1,3}b": (0, 13),
    "[ab]{0,3}[ab]{0,3}c": (8, 20),
    "a{1,3}a{1,3}": (9, 13),
    "a{0,15}a": (0, 64),
    "a{0,16}a": (4, 4),
    "a*(b|c)d*": (10, 10),
    "(a*|b)c": (4, 8),
    "[^/]+/[^/]+": (5, 5),
    "(x[ab]*)?b": (8, 10),
}


@pytest.mark.parametrize("text", COUNTED)
def test_what_is_counted(text: str) -> None:
    assert bound(text) == COUNTED[text]


@given(sequences, words)
def test_the_same_verdict(sequence: tuple[Part, ...], word: str) -> None:
    found = compile_pattern(written(sequence))
    # What has no bound may take exponential time.
    word = word if found.steps else word[:6]
    plain = regex.fullmatch(found.text, word, flags=regex.V0 | regex.ASCII, timeout=60)
    assert found.matches(word, Clock(60.0)) == (plain is not None)
    assert word.startswith(found.prefix) or plain is None


@pytest.mark.parametrize(
    "text",
    [
        *(
            r"[a-z]+",
            r".*",
            r"[a-z]+[0-9]+",
            r"[^/]+/[^/]+",
            r"\d+",
            r"[0-9a-f.:]+/[0-9]+",
            r"/etc/netns/qdhcp-[0-9a-z./-]+/resolv.conf",
        ),
        *(r"^(add|del)$", r"(--getsize64|--flushbufs)", r"(/var|/usr)?/tmp/[^/]+/x", r"[a-z]+-[0-9a-f-]+"),
        *(r"198\.18\.[0-9]+\.[0-9]+/(2[4-9]|3[0-2])", r".*?x", r"[a-z][a-z0-9_-]{,14}", r"(?P<a>ab?)c"),
    ],
)
def test_a_bound_of_what_filters_use(text: str) -> None:
    assert compile_pattern(text).steps > 0


@pytest.mark.parametrize(
    "text",
    [
        # More than linear.
        # Characters beyond ASCII are one to the proof: a class that leaves out one of them has others.
        *("[^\u00e9x]*\u00e4+x", "[^\u00e9]*\u00e4+\u00e9"),
        *(
            r".*a.*b",
            r"[\D]*[a-z]+",
            r"[a-z]+[a-z0-9]+x",
            r"a*a*",
            r"(.*/x|.*/y/[a-z]+)",
            r".*[ab]+c",
            r"a+.*?b",
        ),
        # Repeated groups; `re` reads the second as one character, in which `regex` may see two ways.
        *(r"(a|aa)+", r"(?:a|a)+", r"([a-z]+,)*", r"(ab){2}", r"(?:a|[ab])*c", r"(a+)+"),
        # Ways that `re` does not show, and too many of them.
        *("(?:a|a)" * 5, "(ab)?" * 5, "a|b|c|d|e|f"),
        # What the tree does not have, or has otherwise.
        *(
            r"(a)\1",
            r"(?!x)a",
            r"a(?=b)b",
            r"(?<=a)b",
            r"(?>a+)b",
            r"a++b",
            r"a\b.",
            r"a^b",
            r"(?i)a",
            r"(?i:a)b",
        ),
        # Too many steps.
        *(r"[0-9a-f]{1000}", ".*" + "a" * 600),
    ],
)
def test_nothing_is_proven(text: str) -> None:
    assert compile_pattern(text).steps == 0


@pytest.mark.parametrize(
    ("text", "prefix"),
    [
        *((r"/tmp/.*", "/tmp/"), (r"^/tmp/.*", "/tmp/"), (r"\.\.a+", ".."), (r"ab|ac", "a"), (r"ab?", "a")),
        *((r"/etc/(?!\.\.).*", "/etc/"), (r"(ab)c", ""), (r"a*b", ""), (r"(?i)ab", ""), (r"(?i:a)b", "")),
        *((r"é.", "é"), (r"(?:ab)?c", ""), (r"x(?i:a)", "x"), (r"a{3}b", ""), (r"add|del", "")),
    ],
)
def test_how_words_begin(text: str, prefix: str) -> None:
    assert compile_pattern(text).prefix == prefix


def test_steps_are_taken_from_what_a_request_has() -> None:
    pattern, word = compile_pattern(".*x"), "a" * 4000
    price = pattern.steps * (len(word) + 1) * module._STEP_SECONDS
    clock = Clock(price * 3.5)
    for _ in range(3):
        assert not pattern.matches(word, clock)
    with pytest.raises(OutOfTime):
        pattern.matches(word, clock)


def test_a_match_of_many_steps_is_timed() -> None:
    # By its steps it would take ten seconds.
    assert not Pattern(".*x", steps=10**9).matches("a", Clock(5.0))


def test_where_a_repetition_takes_nothing_costs_one_step() -> None:
    """Behind `a*` each place is one where `b+` may be tried, and takes nothing at once."""
    assert bound("a*b+") == (5, 4)
    assert bound("a*b*") == (7, 4)
