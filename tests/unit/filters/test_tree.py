"""The tree of a pattern means what `re` matches, and what is blanked stands where it stood."""

import itertools
import re
import warnings

import pytest

from rootwrap_daemon.filters.read.tree import Char, Choice, Loop, Node, Sequence, parse, split, tree

#: Patterns of one character. `re` says which; what is beyond ASCII is one bit.
CLASSES = [
    "a", "\\n", "\\.", ".", "(?s:.)", "(?s).", "(.)", "(a)", "é", "[é]", "[^é]", "[a-c]", "[^a-c]",
    "[a-cx-z-]", "(?i)[aA]", "(?i)[A-z]", "[]a]", "[^]a]", r"\d", r"\D", r"\s", r"\S", r"\w", r"\W",
    r"[\d_]", r"[^\d_]", r"[^\D]", r"[\W5]", "[a-é]", "[^a-é]", "(?i:k)", "(?i)k", "(?i)[a-c]",
    "(?i:[^k])", "(?i)(?-i:k)", "(?i:(?-i:[k-m]))", "(?i)(k)", "(?i)[1-c]", "a|b", "[ab]|c", r"\d|x",
    "(a|b)", "(?:(a)|b|[cd])", "[\\x00]", "[\\x7f]", "[\\x00-\\x7f]", "(?i)[@-\\x7f]",
]  # fmt: skip


#: Which the tree has more of: what is left out of all others is not looked at.
MORE = {r"[^\D]"}


@pytest.mark.parametrize("pattern", CLASSES)
def test_characters(pattern: str) -> None:
    node = tree(pattern)
    assert isinstance(node, Char)
    for code in range(128):
        found = re.fullmatch(pattern, chr(code), re.ASCII) is not None
        assert bool(node.mask >> code & 1) == found, chr(code)
    # All others have one bit, set where one of them matches.
    others = any(re.fullmatch(pattern, chr(code), re.ASCII) for code in (128, 233, 255, 8364, 0x10FFFF))
    assert node.mask >> 128 == (others or pattern in MORE)


def rests(node: Node, text: str) -> set[str]:
    """What may be left of a text behind a match at its beginning."""
    if isinstance(node, Char):
        return {text[1:]} if text and node.mask >> min(ord(text[0]), 128) & 1 else set()
    if isinstance(node, Sequence):
        found = {text}
        for part in node.parts:
            found = set().union(*(rests(part, one) for one in found))
        return found
    if isinstance(node, Choice):
        return set().union(*(rests(part, text) for part in node.parts))
    reached, now, turns = set(), {text}, 0
    while now and (node.most is None or turns <= node.most) and turns <= len(text) + node.least:
        reached |= now if turns >= node.least else set()
        now, turns = set().union(*(rests(node.body, one) for one in now)), turns + 1
    return reached


@pytest.mark.parametrize(
    "pattern",
    [
        "", "ab", "a|b", "ab|ba", "a|ab|", "(ab|a)b?", "a*", "a+", "a?b", "a{2}", "a{1,2}b", "a{2,}",
        "(a|b)*b", "(ab)+", "(a*)b", "(a|ab)(c|bc)", "a*?b", "a+?", "(?:a{0,2}b){2}", "^a$", "a$",
        r"\bab\b", "(?i)aB", "(?i:a)b", "(a)(b)c", "a.c", "a.?", "[ab]c|a", "a|a", "[ab]|[bc]",
        "(a|b)|c", "a{0}b", "(|a)b", "((a)|(b|c))*", "a{3,3}",
    ],
)  # fmt: skip
def test_words(pattern: str) -> None:
    node = tree(pattern)
    assert node is not None
    for length in range(5):
        for letters in itertools.product("abBc\n", repeat=length):
            word = "".join(letters)
            # The tree leaves out what looks around: `$` before a last line feed.
            wanted = re.fullmatch(pattern, word, re.ASCII) is not None
            assert ("" in rests(node, word)) == wanted, word


def test_what_re_warns_of_is_read_in_silence() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert parse("[[a]") is not None


def test_shapes() -> None:
    a, b = (Char(1 << ord(char)) for char in "ab")
    assert tree("") == Sequence(())
    assert tree("ab") == Sequence((a, b))
    assert tree("(a)") == a
    assert tree("a{2,3}") == Loop(a, 2, 3) == tree("a{2,3}?")
    assert tree("a*") == Loop(a, 0, None) == tree("a*?")
    assert tree("a|b") == Char(a.mask | b.mask)
    # Two ways to match the same are a choice that a machine may come back to.
    assert tree("(a)|([ab])") == Choice((a, Char(a.mask | b.mask)))
    assert tree("(a)|([bc])") == Char(a.mask | b.mask | b.mask << 1)
    assert tree("a|bb") == Choice((a, Sequence((b, b))))
    assert tree("^a$") == a
    assert tree("(a)b") == Sequence((a, b))


def test_what_nobody_comes_back_into_is_one_piece() -> None:
    a = Char(1 << ord("a"))
    assert tree("(?>a)") == a == tree("(?>ab)") == tree("(?>a*)") == tree("(?>(a|bb)c)")
    assert tree("a++") == a == tree("(ab)*+")
    assert tree("(?>)") is None or tree("(?>)") == Sequence(())


@pytest.mark.parametrize("pattern", ["(", "[a", "a{2,1}", "*", "(?P<a", "(" * 5000 + ")" * 5000])
def test_what_is_no_pattern_has_none(pattern: str) -> None:
    assert parse(pattern) is None
    assert tree(pattern) is None


@pytest.mark.parametrize(
    ("pattern", "blanked", "classes"),
    [
        ("", "", []),
        ("abc", "abc", []),
        (r"a\|b", "a__b", []),
        ("a[bc]d", "a[__]d", ["bc]"]),
        ("[|]|[()]", "[_]|[__]", ["|]", "()]"]),
        ("[]a]b", "[__]b", ["]a]"]),
        ("[^]a]b", "[___]b", ["^]a]"]),
        ("[^a]]", "[__]]", ["^a]"]),
        (r"[\]a](x)", "[___](x)", ["__a]"]),
        (r"[a\]]", "[___]", ["a__]"]),
        (r"\[a]", "__a]", []),
        ("[[a]]", "[__]]", ["[a]"]),
        ("a[bc", "a[__", []),
        ("a\\", "a__", []),
    ],
)
def test_split(pattern: str, blanked: str, classes: list[str]) -> None:
    assert split(pattern) == (blanked, classes)
