"""What is read from a pattern: which words it can hold, and whether it takes exponential time."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootwrap_daemon.filters.patterns import Clock, OutOfTime
from rootwrap_daemon.filters.read.patterns import compile_pattern
from rootwrap_daemon.filters.read.tree import tree
from rootwrap_daemon.lint.knowledge.regexes import (
    admits,
    has_open_bar,
    is_exponential,
    ranges,
    shortest,
    witness,
)

EXPONENTIAL = [
    r"(a+)+",
    r"(a*)*",
    r"(a|ab|b)*",
    r"(a+b?)*",
    r"([^/\0]+(/+)?)*",
    r"^[/]*([^/\0]+(/+)?)*$",
    r"(\w+\s?)*",
    r"(.*a)+x",
    r"(\d+|[0-9a-f]+)+",
    r"((ab)*(ab)*)*",
    r"(a?a?)+",
    r"(?i)(ab|AB)*",
    r"([a-z]+-?)+x",
]
HARMLESS = [
    r"a+",
    r".*",
    r"(.|\n)*",
    r"(a+b)*",
    r"([a-z]+\.)*[a-z]+",
    r"(/[^/]+)*",
    r"([^/\0]+/)*[^/\0]*",
    r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}",
    r"([0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}",
    r"(\d{2})+",
    r"(ab|ac)*",
    r"(a|b)*",
    r"(?:(?>a+))+b",
    r"(\d{1,3}\.){3}\d{1,3}",
    r"(?!.*\.\.)[a-z./]+",
    r"(add|del)",
    r"([a-z]+=[0-9]+;)*",
]


@pytest.mark.parametrize("text", EXPONENTIAL)
def test_exponential(text: str) -> None:
    assert is_exponential(text)


@pytest.mark.parametrize("text", HARMLESS)
def test_not_exponential(text: str) -> None:
    assert not is_exponential(text)


@pytest.mark.parametrize("text", HARMLESS)
def test_what_is_called_harmless_ends(text: str) -> None:
    """The claim against the engine: a long word that almost matches is decided on time."""
    for word in ("a" * 60, "ab" * 30, "1" * 60, "/a" * 30, "a." * 30):
        try:
            compile_pattern(text).matches(f"{word}\x01", Clock(2.0))
        except OutOfTime:
            pytest.fail(f"{text} takes long on {word}")


def test_a_hostile_pattern_is_read_to_its_end() -> None:
    """The test's own timeout is what would notice."""
    for text in (
        "(" * 9 + "a+" + ")+" * 9,
        "(a|b|c|d|e)*" * 200,
        "(" + "[a-z]?" * 500 + ")*",
        "(a{64}){64}" * 9,
    ):
        is_exponential(text)
        witness(text, "-x", "../x")


@pytest.mark.parametrize(
    ("text", "fill", "word"),
    [
        ("/tmp/.*", "../x", "/tmp/../x"),
        ("[a-z-]+", "-x", "-x"),
        ("[^/]+", "\n", "\n"),
        ("echo '((.|\\n)*)'", "\n", "echo '\n'"),
        ("x(a|[b-z]+)y", "cd", "xcdy"),
        ("[a-z]{3}", "ab", "aba"),
    ],
)
def test_witness(text: str, fill: str, word: str) -> None:
    assert witness(text, fill) == word
    assert re.fullmatch(text, word)


@pytest.mark.parametrize(
    ("text", "fill"),
    [
        ("/dev/(?!.*\\.\\.).*", "../x"),
        ("[a-z]+", "-x"),
        (".*", "\n"),
        ("(add|del)", "-x"),
        ("&", "&"),
        ("\\(x\\)", "("),
        ("[", "x"),
        ("plain", "x"),
    ],
)
def test_no_witness(text: str, fill: str) -> None:
    assert witness(text, fill) is None


def test_a_witness_has_the_shape_that_was_asked_for() -> None:
    assert witness("/x-[a-z./-]+", "../y", "/../y", shape="/x-/[.][.]/y") == "/x-/../y"
    assert witness("/x-[a-z./-]+", "../y", shape="nothing like it") is None


@given(
    st.text(st.sampled_from("ab0-./()[]|*+?^$\\"), max_size=24), st.sampled_from(["-x", "../x", "\n", "ab"])
)
def test_whatever_the_pattern_a_witness_matches(text: str, fill: str) -> None:
    is_exponential(text)
    has_open_bar(text)
    node = tree(text)
    if node is not None:
        shortest(node)
    word = witness(text, fill)
    assert word is None or admits(text, word)


@pytest.mark.parametrize("text", ["a|b", "add|del", "^a|b$", "(a)|b", "[]|]|x", "[^]|]|x", r"\(a|b\)"])
def test_open_bar(text: str) -> None:
    assert has_open_bar(text)


@pytest.mark.parametrize("text", ["(a|b)", "[a|b]", "[]|]", "[^]|]", r"a\|b", r"[\]|]", "a"])
def test_no_open_bar(text: str) -> None:
    assert not has_open_bar(text)


def test_ranges() -> None:
    assert list(ranges(r"http://([0-9a-z:./-\[]+|x)")) == [(48, 57), (97, 122), (47, 91)]
    assert list(ranges("[a-")) == []
