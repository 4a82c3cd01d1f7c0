"""filters/argv.py: the language exactly, one place for each word, and no more work than one look at each.

A pattern is checked against a reference that tries everything, written here from the description of the
language alone.
"""

import re
import shlex
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from rootwrap_daemon.filters import ruleset
from rootwrap_daemon.filters.argv import ArgvFilter
from rootwrap_daemon.filters.finding import Severity
from rootwrap_daemon.filters.plan import Beneath, ExecPlan, ProcessOf, Program, Word
from rootwrap_daemon.filters.read import filter_file
from rootwrap_daemon.filters.read.argv_syntax import MAX_FIELDS
from tests.unit.filters.lines import errors, match, plan, read, rules
from tests.unit.filters.test_argv_types import NASTY, ORACLES, WORDS

# --- tables ---------------------------------------------------------------------------------------------

UUID = "01234567-89ab-cdef-0123-456789abcdef"
#: Definition after the user: what is allowed, what is not (as one would write them in a shell).
MEANING: dict[str, tuple[list[str], list[str]]] = {
    "netns, add, {netns}": (
        ["netns add ns1", "netns add add"],
        [
            "",
            "netns add",
            "netns add ns1 ns2",
            "netns add -x",
            "netns del ns1",
            "netns add ../x",
            "add netns x",
        ],
    ),
    "-n, {netns}, link, set, dev, {ifname}, {=up|down}": (
        ["-n ns link set dev eth0 up", "-n dev link set dev dev down"],
        ["-n ns link set dev eth0", "-n ns link set dev eth0 'up|down'", "-n ns link set eth0 up"],
    ),
    "route, replace, {cidr}, via, {ip}, [dev, {ifname}]": (
        ["route replace 10.0.0.0/8 via 10.0.0.1", "route replace ::/0 via fe80::1 dev dev"],
        ["route replace 10.0.0.0/8 via 10.0.0.1 dev", "route replace 10.0.0.0/8 via 10.0.0.1 eth0"],
    ),
    "{ip}, [dev, {ifname}]": (["1.2.3.4", "1.2.3.4 dev x"], ["dev x", "1.2.3.4 dev", "1.2.3.4 dev x dev y"]),
    "[a, b]...": (["", "a b", "a b a b a b"], ["a", "b", "a b a", "a a b", "b a"]),
    "[a...]": (["", "a", "a a a"], ["b", "a b"]),
    "[a...]...": (["", "a", "a a a"], ["b", "a b"]),
    "[a]...": (["", "a", "a a a"], ["b"]),
    "a...": (["a", "a a"], ["", "a...", "b"]),
    "{int}...": (["1", "1 2 3"], ["", "1 x 3"]),
    "{=a|b}..., c": (["a c", "b b a c"], ["c", "a b", "a c c"]),
    "[a, [b, [c]]], d": (["d", "a d", "a b d", "a b c d"], ["b d", "a c d", "a b c", "a b c c d"]),
    "[a, [b]...]..., c": (["c", "a c", "a b b a a b c"], ["b c", "a b"]),
    "a, [b]": (["a", "a b"], ["b", "", "a b b"]),
    "[a]": (["", "a"], ["a a"]),
    "-x, {=-4|-6}": (["-x -4", "-x -6"], ["-x -5", "-4"]),
    # What belongs to a word.
    "a b": (["'a b'"], ["a b", "ab"]),
    r"a\ b": (["'a b'"], ["a b", r"'a\ b'"]),
    "a  b": (["'a  b'"], ["'a b'"]),
    r"\ a, {=b\ }": (["' a' 'b '"], ["a b", "' a' b", r"'\ a' 'b '"]),
    "  a  ,\t{ = b |  c d } , { int = 1-2 } ... , [ d ] ... ": (["a b 1 2", "a 'c d' 2 d d"], ["a ' b ' 1"]),
    r"\{\}\[\]\,\|\\\#\;": ([r"'{}[],|\#;'"], [r"'\{\}'"]),
    r"{=\{\}\[\]\,\|\\\ |x}": ([r"'{}[],|\ '", "x"], ["y"]),
    r"a\,b, c": (["a,b c"], ["a b c"]),
    r"{=a\|b|c}": (["'a|b'", "c"], ["a", "b"]),
    "a#b;c, x=#": (["'a#b;c' 'x=#'"], []),
    r"\#a, \;": (["'#a' ';'"], [r"'\#a' ';'"]),
    r"b\ #": (["'b #'"], []),
    "a.b, .., ..a, a...b, .": (["a.b .. ..a a...b ."], []),
    "{=...}, {=a...|b}...": (["... a...", "... b a... b"], ["...", "a..."]),
    r"a...\,": (["'a...,'"], ["a"]),
    "a ...": (["a", "a a"], ["'a ...'", "a ..."]),
    "a..b...": (["a..b", "a..b a..b"], ["a..b..."]),
    "{==x|y=z}, --a=b": (["=x --a=b", "y=z --a=b"], []),
    "\"a b\", 'c'": ([r"""'"a b"' "'c'" """], ["'a b' c"]),
    ".*, $x, (a)?": (["'.*' '$x' '(a)?'"], ["b x a"]),
    "é": (["é"], ["e"]),
    "{int=-5--1}": (["-5", "-1"], ["-6", "0", "-"]),
    "{user=nova|cinder}, {user=root}": (["nova root", "cinder root"], ["root root", "'nova|cinder' root"]),
    "{uuid}, [{mac}]": ([UUID, f"{UUID} 00:11:22:33:44:55"], [f"{UUID} {UUID}"]),
}


def _rules(definition: str) -> ruleset.RuleSet:
    return rules(f"x: ArgvFilter, /usr/bin/prog, nova, {definition}")


@pytest.mark.parametrize("definition", MEANING)
def test_meaning(definition: str) -> None:
    found = _rules(definition)
    allowed, denied = MEANING[definition]
    for line in allowed:
        words = tuple(shlex.split(line))
        assert plan(found, "prog", *words) == ExecPlan(Program("/usr/bin/prog"), words, "nova"), line
    for line in denied:
        assert plan(found, "prog", *shlex.split(line)) is None, line


def test_no_pattern_is_no_words() -> None:
    found = rules("x: ArgvFilter, prog, root")
    assert plan(found, "prog") == ExecPlan(Program("prog"), (), "root")
    assert plan(found, "prog", "") is None
    assert plan(found, "other") is None


def test_an_empty_word_is_never_taken() -> None:
    for name, parameter in ORACLES:
        kind = name if parameter is None else f"{name}={parameter}"
        assert plan(_rules(f"a, {{{kind}}}"), "prog", "a", "") is None


def test_what_only_the_host_can_judge() -> None:
    found = _rules("{user=nova|cinder}, {path=/srv/x/}..., -p, {pid=dnsmasq}")
    words = ("nova", Beneath("/srv/x", "/srv/x/y"), Beneath("/srv/x", "/etc"), "-p", ProcessOf("dnsmasq", 12))
    expected = ExecPlan(Program("/usr/bin/prog"), words, "nova")
    assert plan(found, "prog", "nova", "/srv/x/y", "/etc", "-p", "12") == expected


@pytest.mark.parametrize(
    ("definition", "words"),
    [
        ("-T, {path=/a}, {path=/b}", {"-T"}),
        ("{=-T}...", {"-T"}),
        ("[-T], x", {"-T", "x"}),
        ("[-T]", None),
        ("{=-T|-f}, x", {"-T", "-f"}),
        ("{name}, -T", None),
        ("[{ip}], -T", None),
    ],
)
def test_words_that_can_come_first(definition: str, words: set[str] | None) -> None:
    found = _rules(definition).filters[0].literals.get(1)
    assert (None if found is None else set(found)) == words


def test_lines_blanks_and_comments_between_fields() -> None:
    found = rules(
        "x:",
        "    ArgvFilter,prog ,",
        "# not a field",
        "    root , -n, {netns}",
        "",
        "    ,[a,",
        "        b",
        "        ,  ",
        "    ; nor this",
        "        {=c|d} ] ...",
        "y: CommandFilter, y, root",
    )
    assert plan(found, "prog", "-n", "ns") is not None
    assert plan(found, "prog", "-n", "ns", "a", "b", "c", "a", "b", "d") is not None
    assert plan(found, "prog", "-n", "ns", "a", "b") is None


FIRST = 2  # the line that `read` gives the first definition
#: Definition, where the finding stands, what it says.
ERRORS: list[tuple[str, int, int, str]] = [
    ("x: ArgvFilter", 2, 1, "no program or no user"),
    ("x: ArgvFilter, ip", 2, 1, "no program or no user"),
    ("x: ArgvFilter, , root", 2, 15, "'' is not a program"),
    ("x: ArgvFilter, {=ip}, root", 2, 16, "'{=ip}' is not a program"),
    (r"x: ArgvFilter, i\p, root", 2, 16, r"'i\\p' is not a program"),
    (r"x: ArgvFilter, ip\,, root", 2, 20, "'' is not the name of a user"),
    ("x: ArgvFilter, ip, {netns}", 2, 20, "'{netns}' is not the name of a user"),
    ("x: ArgvFilter, ip, root # why", 2, 20, "a comment after a definition"),
    ("x: ArgvFilter, ip, root,", 2, 25, "an empty field"),
    ("x: ArgvFilter, ip, root, , a", 2, 26, "an empty field"),
    ("x: ArgvFilter, ip, root, a,", 2, 28, "an empty field"),
    ("x: ArgvFilter, ip, root, []", 2, 27, "an empty field"),
    ("x: ArgvFilter, ip, root, [a, ]", 2, 30, "an empty field"),
    ("x: ArgvFilter, ip, root, ...", 2, 26, "dots that repeat nothing"),
    ("x: ArgvFilter, ip, root, a....", 2, 26, "dots that repeat nothing"),
    ("x: ArgvFilter, ip, root, a... ...", 2, 26, "dots that repeat nothing"),
    ("x: ArgvFilter, ip, root, {int}....", 2, 31, "'.' cannot stand here"),
    ("x: ArgvFilter, ip, root, {int}......", 2, 31, "'.' cannot stand here"),
    ("x: ArgvFilter, ip, root, {int}... x", 2, 31, "'.' cannot stand here"),
    ("x: ArgvFilter, ip, root, a, b]", 2, 30, "']' cannot stand here"),
    ("x: ArgvFilter, ip, root, a}", 2, 27, "'}' cannot stand here"),
    ("x: ArgvFilter, ip, root, a|b", 2, 27, "'|' cannot stand here"),
    ("x: ArgvFilter, ip, root, |", 2, 26, "'|' cannot stand here"),
    ("x: ArgvFilter, ip, root, a{int}", 2, 27, "'{' cannot stand here"),
    ("x: ArgvFilter, ip, root, {int}a", 2, 31, "'a' cannot stand here"),
    ("x: ArgvFilter, ip, root, {int}{int}", 2, 31, "'{' cannot stand here"),
    ("x: ArgvFilter, ip, root, a[b]", 2, 27, "'[' cannot stand here"),
    ("x: ArgvFilter, ip, root, [a]b", 2, 29, "'b' cannot stand here"),
    ("x: ArgvFilter, ip, root, {int} # why", 2, 32, "'#' cannot stand here"),
    ("x: ArgvFilter, ip, root, [a", 2, 28, "no ] for a group"),
    ("x: ArgvFilter, ip, root, [a, {int}", 2, 35, "no ] for a group"),
    ("x: ArgvFilter, ip, root, [[a], [b]]", 2, 26, "all in this group is optional"),
    ("x: ArgvFilter, ip, root, a, [[b]...]", 2, 29, "all in this group is optional"),
    ("x: ArgvFilter, ip, root, {", 2, 26, "braces that cannot be read"),
    ("x: ArgvFilter, ip, root, a, {=a|b", 2, 29, "braces that cannot be read"),
    ("x: ArgvFilter, ip, root, {a|b}", 2, 26, "braces that cannot be read"),
    ("x: ArgvFilter, ip, root, {=a,b}", 2, 26, "braces that cannot be read"),
    ("x: ArgvFilter, ip, root, {=a[b}", 2, 26, "braces that cannot be read"),
    ("x: ArgvFilter, ip, root, {={int}}", 2, 26, "braces that cannot be read"),
    ("x: ArgvFilter, ip, root, {}", 2, 26, "there is no type ''"),
    ("x: ArgvFilter, ip, root, {Ip}", 2, 26, "there is no type 'Ip'"),
    ("x: ArgvFilter, ip, root, {=}", 2, 28, "an empty word"),
    ("x: ArgvFilter, ip, root, {=a||b}", 2, 30, "an empty word"),
    ("x: ArgvFilter, ip, root, {=a| }", 2, 31, "an empty word"),
    ("x: ArgvFilter, ip, root, {ip=1.2.3.4}", 2, 30, "ip takes no parameter"),
    ("x: ArgvFilter, ip, root, {path}", 2, 26, "path needs a parameter"),
    ("x: ArgvFilter, ip, root, {path=/a|/b}", 2, 32, "'/a|/b' is not a plain absolute path"),
    (r"x: ArgvFilter, ip, root, {user=a\|b}", 2, 32, "an escaped | in a parameter"),
    ("x: ArgvFilter, ip, root, {int=5-1}", 2, 31, "'5-1' is not a range"),
    (r"x: ArgvFilter, ip, root, a\b", 2, 27, "a backslash before a character that has no special"),
    ("x: ArgvFilter, ip, root, a\\", 2, 27, "a backslash before a character that has no special"),
    ("x: ArgvFilter, ip, root, a\\ ", 2, 27, "a backslash before a character that has no special"),
    ("x: ArgvFilter, ip, root, {=a\\", 2, 29, "a backslash before a character that has no special"),
    ("x: ArgvFilter, ip, root, a # why", 2, 28, "a comment after a definition"),
    ("x: ArgvFilter, ip, root, a, # why", 2, 29, "a comment after a definition"),
    ("x: ArgvFilter, ip, root, a ; why", 2, 28, "a comment after a definition"),
    ("x: ArgvFilter, ip, root, {=a|#b}", 2, 30, "a comment after a definition"),
    ("x: ArgvFilter, ip, root, a\tb", 2, 26, r"'a\tb' is not printable"),
    ("x: ArgvFilter, ip, root, {=a|b\xadc}", 2, 30, r"'b\xadc' is not printable"),
    ("x: ArgvFilter, ip, root, \ue000a, b", 2, 26, r"'\ue000a' is not printable"),
    ("x: ArgvFilter, ip, root, a,\n  b, {nothing}", 3, 6, "there is no type 'nothing'"),
    ("x: ArgvFilter,\n  ip, root,\n\n# c\n\t[a,\n   {=b|\tc,", 7, 4, "braces that cannot be read"),
    ("x:\n  ArgvFilter, ip,\n  {int}", 4, 3, "'{int}' is not the name of a user"),
    ("x: ArgvFilter, ip, root, a\\,\n   b", 3, 4, "a line break inside a word"),
    ("x: ArgvFilter, ip, root, {=a\\,\n   b}", 3, 4, "a line break inside a word"),
    # One word, two places: the later one, and where the first is.
    ("x: ArgvFilter, ip, root, [a], a", 2, 31, "here and to line 2, column 27"),
    ("x: ArgvFilter, ip, root, [a],\n  {=b|a}", 3, 3, "here and to line 2, column 27"),
    ("x: ArgvFilter, ip, root, a..., a", 2, 32, "here and to line 2, column 26"),
    ("x: ArgvFilter, ip, root, [{ip}], {name}", 2, 34, "here and to line 2, column 27"),
    ("x: ArgvFilter, ip, root, {path=/a}..., {path=/b}", 2, 40, "here and to line 2, column 26"),
    ("x: ArgvFilter, ip, root, [{ifname}], dev", 2, 38, "here and to line 2, column 27"),
    ("x: ArgvFilter, ip, root, [dev], {ifname}", 2, 33, "here and to line 2, column 27"),
    ("x: ArgvFilter, ip, root, [x, {int}...]..., [1]", 2, 45, "here and to line 2, column 30"),
    ("x: ArgvFilter, ip, root, [a, [b]]..., [c], a", 2, 44, "here and to line 2, column 27"),
    (f"x: ArgvFilter, ip, root, {'[' * 5000}a", 2, 26 + MAX_FIELDS, "more than 128 fields"),
]  # fmt: skip


@pytest.mark.parametrize(("lines", "line", "column", "what"), ERRORS, ids=[f"{e[0]:.60}" for e in ERRORS])
def test_a_definition_that_cannot_be_used(lines: str, line: int, column: int, what: str) -> None:
    found = read(lines)
    assert not found.filters
    (finding,) = errors(found)
    assert what in finding.what
    assert (finding.location.line, finding.location.column) == (line, column), finding
    assert finding.filters == {"x"}
    assert finding.remedy


def test_a_part_of_a_word_has_no_type() -> None:
    (finding,) = errors(read("x: ArgvFilter, ip, root, table={int}"))
    assert "for a part of one use a RegExpFilter" in finding.remedy


def test_a_word_with_blanks_is_told_of_once() -> None:
    found = read("x: ArgvFilter, ip, root, a b c d")
    assert [finding.what for finding in found.findings] == ["one word with a blank in it"]


@pytest.mark.parametrize("lines", ["a\n   b", "[dev\n   , {ifname}\n   ]", "{=a|\n   b}", "{int}\n   ..."])
def test_a_line_break_not_beside_a_comma(lines: str) -> None:
    found = read(f"x: ArgvFilter, ip, root, {lines}")
    assert not found.filters
    assert any("a line break inside a field" in finding.what for finding in errors(found))


def test_as_many_fields_as_there_may_be() -> None:
    words = [f"a{number}" for number in range(MAX_FIELDS)]
    found = _rules(", ".join(words))
    assert plan(found, "prog", *words) is not None
    assert errors(read(f"x: ArgvFilter, prog, root, {', '.join(words)}, b"))
    deep = MAX_FIELDS - 1
    nested = _rules("".join(f"[a{number}, " for number in range(deep // 2)) + "b" + "]" * (deep // 2))
    assert plan(nested, "prog", *words[: deep // 2], "b") is not None


def _warnings(definition: str) -> list[tuple[int, str]]:
    found = read(definition)
    assert not errors(found)
    return [(finding.location.column, finding.what) for finding in found.findings]


KEYWORD = "could read this word as one of its keywords"
ANY = "this word may be anything but an option"


@pytest.mark.parametrize(
    ("pattern", "columns"),
    [
        ("link, set, {ifname}, up", [12]),
        ("link, set, dev, {ifname}, up", []),
        ("link, {=show|set}, {name}", [20]),
        ("-n, {netns}, link, delete, {ifname}", [28]),
        ("link, show, [{ifname}]", [14]),
        ("link, show, [dev, {ifname}]", []),
        ("link, add, [1, 2]..., {ip}, [x, {name}]", []),
        ("link, add, [:, 2]..., {ifname}...", [23]),
        ("link, add, {netns}", [12]),
        ("address, add, {cidr}, dev, {ifname}", []),
        ("route, replace, {ip}", []),
        ("netns, add, {netns}", []),
        ("netns, {=add|delete}, {name}", []),
        ("vrf, show, {name}", []),
        ("{=netns|link}, show, {name}", [22]),
        ("add, {ifname}", []),
        ("link, set, {int}", []),
    ],
)
def test_where_ip_would_read_a_keyword(pattern: str, columns: list[int]) -> None:
    for program in ("ip", "/sbin/ip", "tc", "bridge"):
        before = f"x: ArgvFilter, {program}, root, "
        expected = [(len(before) + column, f"{program.rpartition('/')[2]} {KEYWORD}") for column in columns]
        assert _warnings(before + pattern) == expected
    assert _warnings(f"x: ArgvFilter, ipset, root, {pattern}") == []


@pytest.mark.parametrize("kind", ["name", "any", "int", "int=1-9", "ifname"])
def test_where_ip_would_read_the_id_of_a_process(kind: str) -> None:
    line = f"x: ArgvFilter, ip, root, link, set, dev, {{ifname}}, netns, {{{kind}}}"
    assert "ip reads a number here as the id of a process" in [text[:45] for _, text in _warnings(line)]
    assert _warnings(line.replace(f"{{{kind}}}", "{netns}")) == []
    assert _warnings(line.replace(f"{{{kind}}}", "{pid=dnsmasq}")) == []
    assert _warnings(line.replace(f"{{{kind}}}", "ns1")) == []


@pytest.mark.parametrize(
    ("line", "column"),
    [
        ("x: ArgvFilter, ip, root, ip, link", 26),
        ("x: ArgvFilter, /usr/sbin/ip, root, ip", 36),
        ("x: ArgvFilter, /usr/sbin/ip, root, /usr/sbin/ip, [link]", 36),
        ("x: ArgvFilter, ip, root, /sbin/ip, link", 26),
        ("x: PathFilter, /bin/cat, root, /usr/bin/cat, /etc/x", 32),
        ("x: ArgvFilter, systemctl, root, restart, nginx-?.service", 42),
        ("x: ArgvFilter, ls, root, ~/x", 26),
        ("x: ArgvFilter, ls, root, [$HOME]", 27),
        ("x: ArgvFilter, systemctl, root, restart, <unit>", 42),
        *(
            (f"x: ArgvFilter, cat, root, /x, {sign}", 31)
            for sign in "> >> 2> >/y >&2 2>&1 < </y && &".split()
        ),
        ("x: PathFilter, cat, root, cat, /etc/x", 27),
        ("x: ArgvFilter, systemctl, root, restart, *.service", 42),
        ("x: ArgvFilter, ls, root, [.*]", 27),
        ("x: ArgvFilter, ls, root, a*b", 26),
        ('x: CommandFilter, "ip", root', 19),
        ('x: ArgvFilter, ls, root, "-l"', 26),
        ('x: RegExpFilter, ls, root, ls, "a b"', 32),
        ('x: PathFilter, ls, root, "pass"', 26),
    ],
)
def test_a_word_that_looks_as_if_it_were_not_compared(line: str, column: int) -> None:
    found = read(line)
    assert {one.code for one in found.findings} <= {"literal", "line", "field"}
    assert [one.location.column for one in found.findings if one.code == "literal"] == [column]


@pytest.mark.parametrize(
    ("word", "why"),
    [
        ("*.txt", "* is not a pattern here"),
        ("a?", "? is not a pattern here"),
        ("~/a", "no shell reads ~ here"),
        ("$HOME", "no shell reads $ here"),
        ("$1", "no shell reads $ here"),
        ("`id`", "no shell reads ` here"),
        ("-l&", "no shell reads & here"),
        ("^link$", "^ is not a pattern here"),
    ],
)
def test_why_a_word_is_no_pattern(word: str, why: str) -> None:
    (found,) = read(f"x: ArgvFilter, tool, root, {word}").findings
    assert found.what == f"{word} is compared as it stands: {why}"


@pytest.mark.parametrize(
    "line",
    [
        "x: ArgvFilter, ip, root, link, ip",
        "x: ArgvFilter, systemctl, root, restart, {=*.service}",
        "x: ArgvFilter, cp, root, /srv/cp, a~, 5$, https://h/?a=b",
        "x: ArgvFilter, test, root, 1, >=, <=, ->, <a, a>b, a&b, 22>, {=>}",
        'x: ArgvFilter, ls, root, "',
        "x: ArgvFilter, ls, root, \"ab, cd', 'e, f\"",
        "x: RegExpFilter, ls, root, ls, .*",
        "x: PathFilter, cat, root, concat",
    ],
)
def test_a_word_that_is_compared(line: str) -> None:
    assert [one for one in read(line.replace("\\", "")).findings if one.code == "literal"] == []


def test_other_warnings() -> None:
    assert _warnings("x: ArgvFilter, rm, root, -f, {any}") == [(30, ANY)]
    assert _warnings("x: ArgvFilter, rm, root, [{any}]...") == [(27, ANY)]
    assert _warnings("x: ArgvFilter, ip, root, link, set, {any}") == [(37, ANY), (37, f"ip {KEYWORD}")]
    assert _warnings("x: ArgvFilter, rm, root, {=any}, any") == []
    assert _warnings("x: ArgvFilter, ip, root, link set, a") == [(26, "one word with a blank in it")]
    assert _warnings("x: ArgvFilter, ip, root, {=a|b c}") == [(30, "one word with a blank in it")]
    assert _warnings(r"x: ArgvFilter, ip, root, link\ set, { = a | b }, [ c ]") == []


# --- the reference: tries everything --------------------------------------------------------------------


@dataclass(frozen=True)
class Leaf:
    """One word: of the type `kind`, or one of `words` (which a type that only lists words has too).

    `number` tells it from all others.
    """

    number: int
    words: frozenset[str]
    kind: tuple[str, str | None] | None

    def takes(self, word: str) -> bool:
        return ORACLES[self.kind](word) if self.kind else word in self.words

    def plans(self, word: str) -> Word:
        if self.kind and self.kind[0] == "path":
            return Beneath(str(self.kind[1]), word)
        return ProcessOf(str(self.kind[1]), int(word)) if self.kind and self.kind[0] == "pid" else word


@dataclass(frozen=True)
class Group:
    items: "tuple[Node, ...]"


@dataclass(frozen=True)
class Repeat:
    item: "Leaf | Group"


Node = Leaf | Group | Repeat
Rest = tuple[Node, ...]


def _may_end(rest: Rest) -> bool:
    return all(
        isinstance(node, Group) or (isinstance(node, Repeat) and isinstance(node.item, Group))
        for node in rest
    )


def _nexts(rest: Rest) -> Iterator[tuple[Leaf, Rest]]:
    """What can take the next word, and what remains then."""
    if not rest:
        return
    node, tail = rest[0], rest[1:]
    if isinstance(node, Leaf):
        yield node, tail
    elif isinstance(node, Group):
        yield from _nexts(node.items + tail)
        yield from _nexts(tail)
    elif isinstance(node.item, Leaf):
        yield node.item, (Group((node,)), *tail)
    else:
        yield from _nexts((*node.item.items, node, *tail))
        yield from _nexts(tail)


def _ways(pattern: Rest, words: tuple[str, ...]) -> set[tuple[Leaf, ...]]:
    """Every sequence of leaves that takes these words."""
    states: set[tuple[tuple[Leaf, ...], Rest]] = {((), pattern)}
    for word in words:
        states = {
            ((*path, leaf), after)
            for path, rest in states
            for leaf, after in _nexts(rest)
            if leaf.takes(word)
        }
    return {path for path, rest in states if _may_end(rest)}


def _overlap(one: Leaf, other: Leaf) -> bool:
    if not one.words and not other.words:
        return True
    return any(map(other.takes, one.words)) or any(map(one.takes, other.words))


def _groups(rest: Rest) -> Iterator[Group]:
    for node in rest:
        group = node.item if isinstance(node, Repeat) else node
        if isinstance(group, Group):
            yield group
            yield from _groups(group.items)


def _is_usable(pattern: Rest) -> bool:
    """True if wherever one can stand in this pattern, no two leaves take the same word."""
    if any(_may_end(group.items) for group in _groups(pattern)):
        return False
    seen: set[Rest] = set()
    todo = {pattern}
    while todo:
        rest = todo.pop()
        seen.add(rest)
        found = set(_nexts(rest))
        leaves = {leaf for leaf, _ in found}
        if any(one != other and _overlap(one, other) for one in leaves for other in leaves):
            return False
        todo |= {after for _, after in found} - seen
    return True


# --- patterns at random, as text and as what they mean --------------------------------------------------

LITERALS = (
    *"a b c dev up link -n --x add 1 10.0.0.1 nova /srv .. a.b x...y = a=b # ; #c a;b é $x * ( ~ '".split(),
    *"{ } [ ] , | \\ {int} [a] a,b a|b \\{ ... a... ....".split(),
    *("x y", " a", "b ", "  ", "a # b", "a ; b", "link set"),
)
_types = st.sampled_from(tuple(ORACLES))
_literals = st.sampled_from(LITERALS)
_blanks = st.sampled_from(("", "", " ", "  ", "\t"))
#: Beside a comma a line may end, and lines that are no part of the definition may stand.
_breaks = st.sampled_from(("", "", " ", " ", "\n    ", "\n\t", "\n\n# , [ {\n    ", "\n; a comment\n "))


@st.composite
def _patterns(draw: st.DrawFn) -> Rest:
    numbers = count()

    def leaf() -> Leaf:
        if draw(st.booleans()):
            kind = draw(_types)
            return Leaf(
                next(numbers), frozenset(kind[1].split("|") if kind[0] == "user" and kind[1] else ()), kind
            )
        return Leaf(next(numbers), draw(st.frozensets(_literals, min_size=1, max_size=2)), None)

    def node(depth: int) -> Node:
        if draw(st.integers(0, 2)) or depth == 3:
            item: Leaf | Group = leaf()
        else:
            item = Group(nodes(depth + 1, 3))
        return Repeat(item) if draw(st.integers(0, 3)) == 0 else item

    def nodes(depth: int, most: int) -> Rest:
        return tuple(node(depth) for _ in range(draw(st.integers(1, most))))

    return nodes(0, 5)


def _print_word(draw: st.DrawFn, word: str) -> str:
    text = ""
    raw_blank = True  # nothing or a blank of the text stands before
    for at, letter in enumerate(word):
        at_an_end = not word[:at].strip() or not word[at:].strip()
        must = letter in "{}[],|\\" or (letter in "#;" and raw_blank) or (letter == " " and at_an_end)
        escaped = must or (letter in "#; " and draw(st.booleans()))
        text += "\\" * escaped + letter
        raw_blank = letter == " " and not escaped
    return text


def _print(draw: st.DrawFn, rest: Rest) -> str:
    """The pattern as somebody could write it."""
    fields = []
    for node in rest:
        item = node.item if isinstance(node, Repeat) else node
        if isinstance(item, Group):
            text = f"[{_print(draw, item.items)}]"
        elif item.kind:
            name, parameter = item.kind
            inner = [name] if parameter is None else [name, "=", parameter]
            text = "{" + draw(_blanks) + draw(_blanks).join(inner) + draw(_blanks) + "}"
        else:
            words = draw(st.permutations(sorted(item.words)))
            # The end of a line swallows a blank, and dots at the end of a field mean a repetition.
            dots = "." if isinstance(node, Repeat) else "..."
            if len(words) == 1 and not words[0].endswith((" ", dots)) and draw(st.booleans()):
                text = _print_word(draw, words[0])
            else:
                choices = (draw(_blanks) + _print_word(draw, word) + draw(_blanks) for word in words)
                text = "{" + draw(_blanks) + "=" + "|".join(choices) + "}"
        if isinstance(node, Repeat):
            text += draw(_blanks) + "..."
        fields.append(text)
    printed = fields[0]
    for text in fields[1:]:
        printed += draw(_breaks) + "," + draw(_breaks) + text
    return printed


@st.composite
def _printed(draw: st.DrawFn) -> tuple[Rest, str]:
    pattern = draw(_patterns())
    return pattern, _print(draw, pattern)


@st.composite
def _argv(draw: st.DrawFn, pattern: Rest) -> tuple[str, ...]:
    """Words that match."""
    words: list[str] = []
    rest = pattern
    while not _may_end(rest) or (len(words) < 6 and draw(st.booleans())):
        found = list(_nexts(rest))
        if not found:
            break
        leaf, rest = draw(st.sampled_from(found))
        words.append(draw(WORDS[leaf.kind] if leaf.kind else st.sampled_from(sorted(leaf.words))))
        assume(len(words) < 16)
    return tuple(words)


@st.composite
def _changed(draw: st.DrawFn, words: tuple[str, ...]) -> tuple[str, ...]:
    """Words that need not match any more."""
    changed = list(words)
    for _ in range(draw(st.integers(1, 2))):
        at = draw(st.integers(0, len(changed)))
        new = draw(
            _literals | st.one_of(*WORDS.values()) | st.sampled_from(NASTY) | st.sampled_from(words or ("x",))
        )
        changed[at : at + draw(st.integers(0, 1))] = draw(st.sampled_from(([new], [new], [])))
    return tuple(changed)


def test_random_patterns_against_the_reference() -> None:
    """What loads means what the reference says, in one way; what does not load could be read in two."""
    verdicts: dict[str, int] = {"usable": 0, "refused": 0, "allowed": 0, "denied": 0}

    @settings(max_examples=400)
    @given(_printed(), st.data())
    def check(printed: tuple[Rest, str], data: st.DataObject) -> None:
        pattern, text = printed
        found = read(f"x: ArgvFilter, prog, root, {text}")
        if not _is_usable(pattern):
            verdicts["refused"] += 1
            assert not found.filters
            assert any(
                "one word could belong here" in error.what or "all in this group" in error.what
                for error in errors(found)
            )
            return
        verdicts["usable"] += 1
        assert not errors(found), [str(finding) for finding in errors(found)]
        (one,) = found.filters
        assert isinstance(one, ArgvFilter)
        rules = ruleset.RuleSet(found.filters)
        matching = data.draw(_argv(pattern))
        assert _ways(pattern, matching), "the test's own words are wrong"
        for words in (matching, *(data.draw(_changed(matching)) for _ in range(4))):
            ways = _ways(pattern, words)
            assert len(ways) <= 1
            expected = None
            if ways:
                (way,) = ways
                expected = ExecPlan(
                    Program("prog"),
                    tuple(leaf.plans(word) for leaf, word in zip(way, words, strict=True)),
                    "root",
                )
            assert plan(rules, "prog", *words) == expected
            verdicts["allowed" if ways else "denied"] += 1

    check()
    assert all(number > 50 for number in verdicts.values()), verdicts


@settings(max_examples=300)
@given(
    st.text(st.sampled_from("{}[],|\\ .=#;\n\tabint-x1/:é\u202e\udcff\x00")),
    st.lists(st.text("ab-1/", max_size=3)),
)
@example("[" * 10000, [])
@example("{=" + "a|" * 10000 + "a}", ["a"])
@example("[a]," * 64 + "b", ["b"])
def test_no_text_raises(text: str, words: list[str]) -> None:
    whole = f"x: ArgvFilter, prog, root, {text}"
    found = read(whole)
    lines = ["[Filters]", *whole.split("\n"), ""]
    for finding in found.findings:
        assert 1 <= finding.location.line <= len(lines)
        assert 1 <= finding.location.column <= len(lines[finding.location.line - 1]) + 1
    assert found.filters or errors(found)
    match(ruleset.RuleSet(found.filters), "prog", *words)


# --- how much work --------------------------------------------------------------------------------------


class _Counted(dict[str, int]):
    """Counts how often it is asked."""

    asked = 0

    def get(self, key: str, default: int | None = None) -> int | None:  # type: ignore[override]
        _Counted.asked += 1
        return super().get(key) if default is None else super().get(key, default)

    def __getitem__(self, key: str) -> int:
        _Counted.asked += 1
        return super().__getitem__(key)

    def __contains__(self, key: object) -> bool:
        _Counted.asked += 1
        return super().__contains__(key)


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("{name}...", ["x"]),
        ("[:, [+, [{name}]...]...]..., =", [":", "+", "x", "y"]),
        ("[a..., b]..., c", ["a", "a", "a", "b"]),
        ("[a, [{int}]...]..., c", ["a", "1", "2"]),
        (", ".join(f"[a{number}]..." for number in range(60)), ["a0", "a59"]),
    ],
)
def test_each_word_is_looked_at_once(pattern: str, words: list[str]) -> None:
    (one,) = read(f"x: ArgvFilter, prog, root, {pattern}").filters
    assert isinstance(one, ArgvFilter)
    judged = 0

    def counted(takes: Callable[[str], bool]) -> Callable[[str], bool]:
        def judge(word: str) -> bool:
            nonlocal judged
            judged += 1
            return takes(word)

        return judge

    compiled = replace(one.pattern)
    steps = tuple((_Counted(words), counted(takes), place) for words, takes, place in compiled._steps)
    object.__setattr__(compiled, "_steps", steps)
    for length in (100, 1000, 4000):
        many = tuple((words * length)[:length]) if len(words) != 2 or words[0] != "a0" else ("a0",) * length
        for argv in (many, (*many[:-1], "-nothing")):
            judged = _Counted.asked = 0
            compiled.match(argv)
            assert judged <= length
            assert 0 < _Counted.asked <= length


# --- the reference's own examples -----------------------------------------------------------------------

PAGE = Path(__file__).parents[3] / "doc/source/reference/argv.rst"


def _blocks() -> list[list[str]]:
    """The literal blocks of the page."""
    found = re.findall(r"::\n\n((?:(?: {4}.*)?\n)+)", PAGE.read_text(encoding="utf-8"))
    return [textwrap.dedent(block).strip("\n").split("\n") for block in found]


def _examples() -> dict[str, list[str]]:
    """Those with definitions, by the name of the first."""
    names = [(re.search(r"(?m)^(\w+): +ArgvFilter,", "\n".join(lines)), lines) for lines in _blocks()]
    return {found[1]: lines for found, lines in names if found}


@pytest.mark.parametrize("name", _examples())
def test_an_example_of_the_page(name: str) -> None:
    lines = _examples()[name]
    if name == "typo":
        (findings,) = (block for block in _blocks() if ": error: " in block[0])
        file = filter_file.read("\n".join(lines), "agent.filters")
        assert findings == [str(finding) for finding in file.findings]
        return
    found = read(*lines)
    assert not errors(found), [str(finding) for finding in errors(found)]
    warned = any(finding.severity is Severity.WARNING for finding in found.findings)
    assert warned == any(line.startswith("# warning: ") for line in lines)
    rules = ruleset.RuleSet(found.filters)
    verdicts = [re.fullmatch("# (allowed|denied): +(.*)", line) for line in lines]
    commands = [(verdict[1], verdict[2]) for verdict in verdicts if verdict]
    assert {verdict for verdict, _ in commands} == {"allowed", "denied"}
    for verdict, command in commands:
        assert (plan(rules, *shlex.split(command)) is not None) == (verdict == "allowed"), command


def test_the_page_has_an_example_of_each_type() -> None:
    text = "\n".join(line for lines in _examples().values() for line in lines)
    assert [name for name, _ in ORACLES if not re.search(rf"\{{{name}[=}}]", text)] == []
