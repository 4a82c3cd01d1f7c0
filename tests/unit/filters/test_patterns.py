"""filters/patterns.py: whole words, ASCII, a bound on time, and nothing that `re` would read otherwise."""

import contextlib
import re
import threading
import time
import warnings

import pytest
import regex
from hypothesis import given, reject
from hypothesis import strategies as st

from rootwrap_daemon.filters.patterns import MAX_SUBJECT, Clock, OutOfTime
from rootwrap_daemon.filters.read.fault import Fault
from rootwrap_daemon.filters.read.patterns import compile_pattern

EVIL = "(a|aa)+"
EVIL_WORD = "a" * 80 + "!"


def matches(pattern: str, word: str) -> bool:
    return compile_pattern(pattern).matches(word, Clock(60.0))


@pytest.mark.parametrize(
    ("pattern", "allowed", "refused"),
    [
        pytest.param(r"\d+", ["10"], ["10\n", "10\r", "10 ", " 10", "", "1e9", "-1", "10\n\n"], id="whole"),
        pytest.param("", [""], ["a", "\n"], id="empty"),
        pytest.param(
            "add|del", ["add", "del"], ["add --evil", "xdel", "addel", "add\ndel"], id="alternation"
        ),
        pytest.param("^(add|del)$", ["add"], ["add\n", "\nadd", "addx"], id="own anchors"),
        pytest.param("a$", ["a"], ["a\n"], id="dollar before a newline"),
        pytest.param(".*", ["", "x", "\udcff", "\r", "\u2028"], ["a\n", "\n", "a\nb"], id="dot"),
        pytest.param("(?s).*", ["a\nb\n"], [], id="dot all"),
        pytest.param("(?m)abc", ["abc"], ["abc\nEVIL", "EVIL\nabc"], id="multi-line"),
        pytest.param("(?m)^abc$", ["abc"], ["abc\nEVIL", "EVIL\nabc"], id="multi-line anchors"),
        pytest.param(r"\d", ["1"], ["\u0661", "\uff11", "\U0001d7d9", "\u00b2"], id="digits"),
        pytest.param(r"\w", ["a", "_", "0"], ["é", "\u0661", "ß"], id="word characters"),
        pytest.param(r"\s", [" ", "\t"], ["\xa0", "\u2003", "\x85"], id="blanks"),
        pytest.param(r"\W", ["é", " "], ["a"], id="not a word character"),
        pytest.param("(?i)k", ["k", "K"], ["\u212a"], id="no Kelvin sign"),
        pytest.param("(?i)[a-z]", ["S"], ["\u017f", "\u0130", "\u0131"], id="no long s"),
        pytest.param("(?i:ss)", ["SS", "sS"], ["ß", "\u1e9e"], id="no sharp s"),
        pytest.param("(?a)é", ["é"], ["É"], id="a literal beyond ASCII"),
        pytest.param("(?i)é", ["é"], ["É"], id="case is ASCII's"),
        pytest.param(r"a\{1\}", ["a{1}"], ["a"], id="escaped braces"),
        pytest.param("[{]1}", ["{1}"], [""], id="brace in a class"),
        pytest.param(r"a\x2c{2}", ["a,,"], ["a,"], id="comma as an escape"),
        pytest.param("a{2}", ["aa"], ["a", "aaa"], id="repetition"),
        pytest.param("a{2,}", ["aa", "aaa"], ["a"], id="open repetition"),
        pytest.param("a{,2}", ["", "aa"], ["aaa"], id="repetition from nothing"),
        pytest.param("a{1,2}?", ["a", "aa"], ["", "aaa"], id="lazy repetition"),
        pytest.param("[]a]+", ["]a"], ["[", ""], id="bracket first in a class"),
        pytest.param("[^]a]", ["b"], ["]", "a"], id="bracket first in a negated class"),
        pytest.param(r"[\]{]", ["]", "{"], ["\\"], id="escaped bracket in a class"),
        pytest.param(r"(?P<u>a)(?P=u)", ["aa"], ["a", "ab"], id="a group named like a flag"),
        pytest.param(r"(a|b)\1", ["aa", "bb"], ["ab"], id="back reference"),
        pytest.param("a(?=b)b", ["ab"], ["a", "ac"], id="look ahead"),
        pytest.param(r"(?!\.\.)[a-z.]+", ["a.."], ["..a"], id="look ahead, negative"),
        pytest.param(r"[0-9a-z:./-\[\]\%]+", ["1a:./[]%"], ["-a b"], id="an accidental range"),
        pytest.param("a[.]b", ["a.b"], ["axb"], id="dot in a class"),
        pytest.param("[:0-9a-f]+", ["fe80::1"], ["g"], id="colon first in a class"),
        pytest.param("[^:.]+", ["a"], [":", "."], id="colon first in a negated class"),
        pytest.param("[.=:]*[=]", ["=", ".:="], ["a="], id="signs of POSIX classes"),
        pytest.param("[a[:x]", ["a", "[", ":", "x"], ["]"], id="bracket and colon in a class"),
        pytest.param("[a[.x.]+", ["a[.x"], ["]"], id="bracket and dots in a class"),
        pytest.param("[a[=x=]+", ["a[=x"], ["]"], id="bracket and equals signs in a class"),
        pytest.param("[:alpha:]+", ["alph:"], ["b"], id="a class that only looks like a POSIX one"),
        pytest.param(r"[a\[:alpha:]", ["[", ":"], ["b"], id="an escaped bracket before a colon"),
        pytest.param(r"\[:[a]:\]", ["[:a:]"], ["a"], id="an escaped bracket outside"),
        pytest.param(r"echo '((.|\n)*)' > /.*", ["echo 'a\nb' > /x"], ["echo 'a' > /x\n"], id="(.|\\n)*"),
    ],
)
def test_words(pattern: str, allowed: list[str], refused: list[str]) -> None:
    compiled = compile_pattern(pattern)
    assert compiled.text == pattern
    assert [word for word in allowed if not compiled.matches(word, Clock(60.0))] == []
    assert [word for word in refused if compiled.matches(word, Clock(60.0))] == []


@pytest.mark.parametrize(
    ("pattern", "what"),
    [
        pytest.param("[", "bad regular expression", id="open class"),
        pytest.param("(a", "bad regular expression", id="open group"),
        pytest.param("*a", "bad regular expression", id="nothing to repeat"),
        pytest.param("abc\\", "bad regular expression", id="trailing backslash"),
        pytest.param("a{3,2}", "bad regular expression", id="empty repetition"),
        pytest.param(r"\p{L}", "bad regular expression", id="property"),
        pytest.param(r"\m", "bad regular expression", id="start of a word"),
        pytest.param(r"\L<a>", "bad regular expression", id="named list"),
        pytest.param("(?r)a", "bad regular expression", id="backwards"),
        pytest.param("(?V1)a", "bad regular expression", id="version"),
        pytest.param("(?|a|b)", "bad regular expression", id="branch reset"),
        pytest.param("(?R)?", "bad regular expression", id="recursion"),
        pytest.param("(*FAIL)", "bad regular expression", id="verb"),
        pytest.param("[[:alpha:]]", "bad regular expression", id="POSIX class"),
        pytest.param("[[a]", "bad regular expression", id="nested set"),
        pytest.param("[a&&b]", "bad regular expression", id="intersection"),
        pytest.param("[a--b]", "bad regular expression", id="difference"),
        pytest.param("[a||b]", "bad regular expression", id="union"),
        pytest.param("[a~~b]", "bad regular expression", id="symmetric difference"),
        pytest.param("a(?i)b", "bad regular expression", id="a flag in the middle"),
        pytest.param("(?u)a", "ASCII and UNICODE", id="Unicode"),
        pytest.param("(?iu)a", "ASCII and UNICODE", id="Unicode among others"),
        pytest.param("(?L)a", "bad regular expression", id="locale"),
        pytest.param(r"(?u:\w)", "flags", id="Unicode, scoped"),
        pytest.param(r"a(b(?iu:\w))", "flags", id="Unicode, scoped, deep"),
        pytest.param("(?x)safe # c", "flags", id="verbose"),
        pytest.param("a(?ix:b)", "flags", id="verbose, scoped"),
        pytest.param("a(?#[)(?:b){e}", "comment", id="a comment that hides the rest"),
        pytest.param("[a[:alpha:]]", "[:", id="POSIX class behind another member"),
        pytest.param("[^a[:alpha:]]", "[:", id="POSIX class, negated"),
        pytest.param("[]a[:^digit:]]", "[:", id="negated POSIX class"),
        pytest.param("[ab[:alpha:]+", "[:", id="POSIX class that ends the class for one"),
        pytest.param(r"\B", "empty word", id="not a boundary"),
        pytest.param(r"a|(?:b*\B)", "empty word", id="not a boundary, deep"),
        pytest.param(r"a*|(?!\B)", "empty word", id="not a boundary, whatever the engine"),
        pytest.param("a{4200}", "repetitions", id="longer than a word"),
        pytest.param("[ab]{4294967290}", "repetitions", id="longer than the memory"),
        pytest.param("(?:(?:x{90}y){90}z){90}", "repetitions", id="repetitions of repetitions"),
        pytest.param("(?:" * 40 + "a" + ")+" * 40, "repetitions", id="loops in loops"),
        pytest.param("a|(?:x{5000})?", "repetitions", id="a long way of two"),
        pytest.param("(?=x{5000})x*", "repetitions", id="a long look ahead"),
        pytest.param("(?:x?){30000000}", "repetitions", id="perhaps nothing, often"),
        pytest.param("(?:){30000000}", "repetitions", id="nothing, often"),
        pytest.param("(?>x{5000})", "repetitions", id="a long atomic group"),
        pytest.param("(?:xy){5000}+", "repetitions", id="a long possessive repetition"),
        pytest.param("(x)?(?(1)y{5000}|z)", "repetitions", id="a long way of a condition"),
        pytest.param("a{", "splits the repetition", id="a brace at the end"),
        pytest.param("a{1", "splits the repetition", id="first half of {1,3}"),
        pytest.param(r"a\x2c{2\x2c3}", "in a repetition", id="an escaped comma in a repetition"),
        pytest.param("a{x}", "a literal {", id="literal brace"),
        pytest.param("a{}", "a literal {", id="empty braces"),
        pytest.param("a{,}", "a literal {", id="braces around a comma"),
        pytest.param("a{ 1}", "a literal {", id="blank in braces"),
        pytest.param("(?:foo){e}", "a literal {", id="fuzzy"),
        pytest.param("(?:foo){i<=1}", "a literal {", id="fuzzy, bounded"),
        pytest.param("(?:foo){1i+2d<3}", "a literal {", id="fuzzy, with costs"),
        pytest.param("[a]]{e}", "a literal {", id="behind a class"),
        pytest.param("[]]{e}", "a literal {", id="behind a class with a bracket first"),
        pytest.param("[^]]{e}", "a literal {", id="behind a negated one"),
        pytest.param(r"[\]]{e}", "a literal {", id="behind a class with an escape"),
        pytest.param(r"\[a{e}", "a literal {", id="behind an escaped bracket"),
    ],
)
def test_refused_at_load(pattern: str, what: str) -> None:
    with pytest.raises(Fault) as caught:
        compile_pattern(pattern)
    assert what in caught.value.what
    assert caught.value.remedy


def test_a_long_word_matches_nothing() -> None:
    assert matches(".*", "x" * MAX_SUBJECT)
    assert not matches(".*", "x" * (MAX_SUBJECT + 1))


@pytest.mark.parametrize(
    ("opening", "closing"), [("(", ")"), ("(?:a|", ")"), ("(?=", ")"), ("(?:", ")*"), ("(?:b*|(?:", "))+")]
)
def test_groups_of_any_depth_are_read_or_refused(opening: str, closing: str) -> None:
    for depth in range(50, 700, 25):
        with contextlib.suppress(Fault):
            compile_pattern(opening * depth + "a" + closing * depth)


def test_an_evil_pattern_runs_out_of_time() -> None:
    with pytest.raises(OutOfTime):
        compile_pattern(EVIL).matches(EVIL_WORD, Clock())


def test_all_patterns_of_a_request_share_a_clock() -> None:
    clock = Clock(0.5)
    clock.spend(0.4)
    assert compile_pattern("[a]").matches("a", clock)
    with pytest.raises(OutOfTime):
        clock.spend(0.2)
    with pytest.raises(OutOfTime):
        compile_pattern("[a]").matches("a", clock)


def test_a_pattern_spends_time() -> None:
    clock = Clock(0.0001)
    with pytest.raises(OutOfTime):
        # Some 10,000 steps: too few for the engine to give up.
        compile_pattern(EVIL).matches("a" * 20 + "!", clock)


def test_waiting_is_not_spent() -> None:
    clock = Clock(0.05)
    time.sleep(0.1)
    assert compile_pattern("[a]").matches("a", clock)


def test_a_spent_clock_lets_nothing_match() -> None:
    with pytest.raises(OutOfTime):
        compile_pattern("[a]").matches("a", Clock(0.0))


def test_other_threads_go_on_meanwhile() -> None:
    entered, ended = threading.Event(), threading.Event()
    raised: list[bool] = []

    def match() -> None:
        entered.set()
        try:
            compile_pattern(EVIL).matches(EVIL_WORD, Clock(0.5))
        except OutOfTime:
            raised.append(True)
        ended.set()

    thread = threading.Thread(target=match)
    thread.start()
    entered.wait()
    turns = 0
    while not ended.is_set():
        # Each turn gives the interpreter lock away and needs it back.
        time.sleep(0.001)
        turns += 1
    thread.join()
    assert raised
    assert turns >= 10


# A small grammar of patterns: what filters use, and every construct that the two engines share.
ATOMS = st.sampled_from(
    [
        *("a", "b", "A", "1", "_", " ", "-", "/", r"\.", r"\-", r"\/", r"\\", r"\x41", r"\n", "."),
        *(r"\d", r"\D", r"\w", r"\W", r"\s", r"\S", r"\b", r"\B", "^", "$", r"\A", r"\Z"),
        *("[:a]", "[.]", "[=.:]", "[a[:]", "[^.:]", "[a[.b.]"),
        *("[ab]", "[^ab]", "[a-z0-9._-]", r"[^\d/]", r"[\w.]", "[]a]", "[^]a]", r"[\]a]", "[-a]", "[a-]"),
    ]
)
REPEATS = st.sampled_from(
    ["?", "*", "+", "{2}", "{1,2}", "{,2}", "{1,}", "??", "*?", "+?", "{1,2}?", "?+", "*+"]
)
patterns = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner).map("|".join),
        st.tuples(inner, REPEATS).map("".join),
        st.tuples(
            st.sampled_from(["(", "(?:", "(?i:", "(?s:", "(?-i:", "(?=", "(?!", "(?<=", "(?<!", "(?>"]), inner
        ).map(lambda parts: f"{parts[0]}{parts[1]})"),
        inner.map(lambda pattern: rf"({pattern})\1"),
    ),
    max_leaves=6,
)
flags = st.sampled_from(["", "", "", "(?i)", "(?s)", "(?m)"])


@given(
    st.tuples(flags, patterns).map("".join),
    st.lists(st.text(st.sampled_from("abAB12_ -./\\\n[]:="), max_size=6), min_size=1, max_size=8),
)
def test_both_engines_agree(pattern: str, words: list[str]) -> None:
    try:
        ours = compile_pattern(pattern)
    except Fault:
        reject()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        theirs = re.compile(pattern, re.ASCII)
    for word in words:
        assert ours.matches(word, Clock(60.0)) == (theirs.fullmatch(word) is not None), word


def test_a_pattern_that_one_engine_alone_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    def refusing(text: str, flags: int) -> None:
        raise RecursionError("deep")

    compile_pattern("[ab]+")
    monkeypatch.setattr(regex, "compile", refusing)
    with pytest.raises(Fault) as caught:
        compile_pattern("[ab]+")
    assert caught.value.what == "bad regular expression: deep"
