"""filters/effort.py: the bound holds for a matcher that tries every way; hostile syntax gets none."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given, reject, settings
from hypothesis import strategies as st

from rootwrap_daemon.filters import effort
from rootwrap_daemon.filters.finding import Fault
from rootwrap_daemon.filters.patterns import Pattern

# How `re` itself reads a pattern: what our reader is judged by. Where it is gone, the test is skipped.
parser = pytest.importorskip("re._parser")


class Count:
    """Matches as the engine of `re` does, trying one way after the other, and counts every step."""

    def __init__(self, text: str, word: str) -> None:
        self.word = word
        self.steps = 0
        self.matched = self._sequence(list(parser.parse(text, re.ASCII)), 0, 0, self._end)

    def _end(self, position: int) -> bool:
        self.steps += 1
        return position == len(self.word)

    def _sequence(self, items: list[Any], index: int, position: int, then: Callable[[int], bool]) -> bool:
        if index == len(items):
            return then(position)
        return self._item(
            items[index], position, lambda reached: self._sequence(items, index + 1, reached, then)
        )

    def _item(self, item: Any, position: int, then: Callable[[int], bool]) -> bool:
        self.steps += 1
        code, value = str(item[0]), item[1]
        if code == "SUBPATTERN":
            return self._sequence(list(value[3]), 0, position, then)
        if code in ("ASSERT", "ASSERT_NOT"):
            found = self._sequence(list(value[1]), 0, position, lambda _: True)
            return found == (code == "ASSERT") and then(position)
        if code == "BRANCH":
            return any(self._sequence(list(branch), 0, position, then) for branch in value[1])
        if code in ("MAX_REPEAT", "MIN_REPEAT"):
            least, most, inner = value
            if len(inner) == 1 and str(inner[0][0]) in ("LITERAL", "NOT_LITERAL", "ANY", "IN"):
                return self._run(inner[0], least, most, position, then)
            return self._repeat(value, 0, position, then, lazy=code == "MIN_REPEAT")
        return self._takes(item, position) and then(position if code == "AT" else position + 1)

    def _takes(self, item: Any, position: int) -> bool:
        code, value = str(item[0]), item[1]
        if code == "AT":
            ends = (len(self.word), len(self.word) - self.word.endswith("\n"))
            if "BOUNDARY" in str(value):
                around = (
                    self.word[position - 1 : position] if position else "",
                    self.word[position : position + 1],
                )
                inside = [re.fullmatch(r"\w", one, re.ASCII) is not None for one in around]
                return (inside[0] != inside[1]) == (str(value) == "AT_BOUNDARY")
            return position == 0 if "BEGINNING" in str(value) else position in ends
        if position >= len(self.word):
            return False
        character = self.word[position]
        if code == "ANY":
            return character != "\n"
        if code in ("LITERAL", "NOT_LITERAL"):
            return bool((ord(character) == value) == (code == "LITERAL"))
        assert code == "IN"
        negated = str(value[0][0]) == "NEGATE"
        return any(self._is_in(one, character) for one in value[negated:]) != negated

    def _is_in(self, one: Any, character: str) -> bool:
        code, value = str(one[0]), one[1]
        if code == "LITERAL":
            return bool(ord(character) == value)
        if code == "RANGE":
            return bool(value[0] <= ord(character) <= value[1])
        letter = str(value).removeprefix("CATEGORY_").replace("NOT_", "^")
        known = {"DIGIT": r"\d", "SPACE": r"\s", "WORD": r"\w"}[letter.removeprefix("^")]
        return (re.fullmatch(known, character, re.ASCII) is not None) != letter.startswith("^")

    def _run(self, item: Any, least: int, most: int, position: int, then: Callable[[int], bool]) -> bool:
        end = position
        while end - position < most and self._takes(item, end):
            self.steps += 1
            end += 1
        return any(then(reached) for reached in range(end, position + least - 1, -1))

    def _repeat(
        self, value: Any, count: int, position: int, then: Callable[[int], bool], *, lazy: bool
    ) -> bool:
        least, most, inner = value

        def again() -> bool:
            self.steps += 1
            return count < most and self._sequence(
                list(inner),
                0,
                position,
                lambda reached: self._repeat(value, count + 1, reached, then, lazy=lazy),
            )

        if count < least:
            return again()
        return then(position) or again() if lazy else again() or then(position)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "(?:a{1,99}){1,16}b?" * 4,
            "a?" * 20 + "a" * 20,
            "(?:a|a){14}",
            "(a|aa){16}b",
            "(?:(?:a|aa){4}){4}",
        ),
        *("(?P<n>a*)(?P=n)", "(?<=a)b", "(?<!a)b", "(?>a+)", "(a)(?(1)b|c)", "(?!(a+)+)b", "(?=(a|aa)*)b"),
        *(
            "a++",
            "a*+",
            "a?+",
            "a{2}+",
            "a{1,2}+",
            "(a+)++",
            "(?i)a",
            "(?s).",
            "(?i:a)",
            "(?-i:a)",
            "(?P<n>a)",
        ),
        *(
            r"\u0061",
            r"\N{DIGIT ONE}",
            r"\e",
            r"\b?a",
            r"\B*a",
            r"\100",
            "\\",
            "[a",
            "(a",
            "a)",
            "a{",
            "(?=a)?",
        ),
        *("a{}", "a{x}", "*", "a**", "^*", "$+", "(" * 40 + "a" + ")" * 40),
        "*".join("abcdefghijklmnopqr") + "*",
    ],
)
def test_no_bound(text: str) -> None:
    assert effort.bounded(text) is None


ANY = r"[\s\S]*"


@pytest.mark.parametrize(
    ("text", "loose"),
    [
        *((text, ANY) for text in ("(a+)+", "(a|aa)+", "(a*)*", "(?:a+)+", "((a)+)+", "(?:(?:a)*)*", "(a)+")),
        *((text, ANY) for text in ("(a+){2,}", "(a+){,99}", "(?:a{1,99}){1,99}", "(a?){30}", "(.|\n)*")),
        *((text, ANY) for text in ("(?:(a+)+b)+", "(?:x(a+)*y(b|c)+z)*?", "(x(?:a)*){17}")),
        ("(a+)*b", f"{ANY}b"),
        ("x(a+)*y(b|c)+z", f"x{ANY}y{ANY}z"),
        ("x|(?:y(a+)+){2}|z", f"x|(?:y{ANY}){{2}}|z"),
        (r"(a*)x\1", f"(a*)x{ANY}"),
        (r"(a)\1*b\1{2}", f"(a){ANY}b{ANY}"),
        (r"(?!-)(a)+[(+]\(", rf"(?!-){ANY}[(+]\("),
    ],
)
def test_what_has_no_bound_may_be_anything(text: str, loose: str) -> None:
    found = effort.bounded(text)
    assert found is not None
    assert (found.text, found.exact) == (loose, False)


@pytest.mark.parametrize(
    ("text", "least"),
    [
        *(
            (text, effort.MAX_STEPS)
            for text in ("", "a", "^a$", "add|del", "(a|b)?c", r"\x41\.", "[]a]", "[^]a]")
        ),
        *(
            (text, 1000)
            for text in (r"\d+", "a*", ".*", "[^/]+", "a{3,}", "a{1000}", "/var/lib/[a-z]+/x", "a+?")
        ),
        *((text, 1000) for text in (r"(\d{1,3}\.){3}\d{1,3}", "([0-9a-f]{2}:){5}[0-9a-f]{2}", "(?:a|b){3}c")),
        *(
            (text, 1000)
            for text in (r"(?!\.\.)[a-z.]+", r"(?=.*b)[abc]+", r"\A\ba+\b\Z", "(?!(?:a|b)x)[ab]+")
        ),
        *((text, 40) for text in (".*foo.*", "/dev/.*-part.*", r"[a-z]+[0-9]+")),
        ("(a|b).*(c|d).*", 24),
        ("a*a*a*b", 8),
    ],
)
def test_bound(text: str, least: int) -> None:
    found = effort.bounded(text)
    assert found is not None
    assert (found.text, found.exact) == (text, True)
    assert found.longest >= least


ATOMS = st.sampled_from(
    ["a", "b", ".", r"\w", r"\.", "[ab]", "[^b]", "[]a]", r"[\]b]", "^", "$", "", r"\x61"]
)
TIMES = st.sampled_from(
    ["?", "*", "+", "{2}", "{0}", "{1,2}", "{,2}", "{2,}", "{3,20}", "??", "*?", "{1,3}?", "?+", "{2}?"]
)
PATTERNS = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner).map("|".join),
        st.tuples(inner, TIMES).map("".join),
        st.tuples(st.sampled_from(["(", "(?:", "(?=", "(?!"]), inner).map(
            lambda parts: f"{parts[0]}{parts[1]})"
        ),
    ),
    max_leaves=8,
)
#: Text of any kind that looks like a pattern.
NOISE = st.text(st.sampled_from("ab.^$|()[]*+?{}12,\\:=!<>-Pwdx"), max_size=12)
WORDS = st.one_of(
    st.text(st.sampled_from("ab.]\n"), max_size=9),
    st.integers(0, 9).map(lambda count: "a" * count + "!"),
    st.integers(0, 10).map(lambda count: "a" * count),
)


@settings(max_examples=600)
@given(st.one_of(PATTERNS, NOISE), st.lists(WORDS, min_size=1, max_size=6))
@example("a*a*b", ["a" * 9])
@example("(?:a?a?b|aab|.){3}b", ["aaaaaaaa!"])
@example("a{3,20}[^b]{3,20}b", ["a" * 10])
@example("((a|b)|(a|b))(a|aa){4}", ["a" * 9 + "!"])
def test_no_word_takes_more_steps(text: str, words: list[str]) -> None:
    try:
        Pattern(text)
    except Fault:
        reject()
    found = effort.bounded(text)
    for word in words:
        if found is not None and len(word) <= found.longest:
            counted = Count(found.text, word)
            assert counted.steps <= effort.value(found.steps, len(word)) <= effort.MAX_STEPS, word
            # The count is of the right thing: it finds what `re` finds.
            assert counted.matched == (re.fullmatch(found.text, word, re.ASCII) is not None), word
            wanted = re.fullmatch(text, word, re.ASCII) is not None
            assert counted.matched == wanted if found.exact else counted.matched >= wanted, word


def test_bounds_grow_with_the_word() -> None:
    found = effort.bounded(".*a.*")
    assert found is not None
    values = [effort.value(found.steps, length) for length in range(100)]
    assert values == sorted(set(values))
    assert values[found.longest] <= effort.MAX_STEPS < values[found.longest + 1]
