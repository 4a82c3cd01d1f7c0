"""filters/read/ini.py: every form of a filter file, where its faults are, and configparser as judge."""

import configparser
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rootwrap_daemon.filters.finding import Severity
from rootwrap_daemon.filters.read import filter_file, ini

CORPUS = Path(__file__).resolve().parents[3].parent / "shared/corpus"
FILTERS = "[Filters]\n"
CAT = {"cat": ("CommandFilter", "cat", "root")}

Entries = dict[str, tuple[str, ...]]


def entries(document: ini.Document, section: str = "Filters") -> Entries:
    """Name -> fields; of one name twice the last."""
    return {
        entry.name: entry.texts for one in document.sections if one.name == section for entry in one.entries
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("", {}, id="empty"),
        pytest.param("# a\n; b\n\n", {}, id="comments only"),
        pytest.param("[Filters]", {}, id="nothing in it"),
        pytest.param("[Filters]\ncat: CommandFilter, cat, root\n", CAT, id="plain"),
        pytest.param("[Filters]\ncat: CommandFilter, cat, root", CAT, id="no newline at the end"),
        pytest.param("[Filters]\r\ncat: CommandFilter, cat, root\r\n", CAT, id="CRLF"),
        pytest.param("[Filters]\r\ncat: CommandFilter,\r\n cat, root\r\n", CAT, id="CRLF, continued"),
        pytest.param("[Filters]\ncat:CommandFilter,cat,root\n", CAT, id="no space"),
        pytest.param("[Filters]\ncat = CommandFilter, cat, root\n", CAT, id="equals"),
        pytest.param("[Filters]\ncat=CommandFilter, cat, root\n", CAT, id="equals, no space"),
        pytest.param("[Filters]\ncat \t:\t CommandFilter,\tcat\t,  root \t\n", CAT, id="tabs"),
        pytest.param("[Filters]\n  cat: CommandFilter, cat, root\n", CAT, id="indented"),
        pytest.param("  [Filters]\ncat: CommandFilter, cat, root\n", CAT, id="indented header"),
        pytest.param("[Filters] # these\ncat: CommandFilter, cat, root\n", CAT, id="text after a header"),
        pytest.param("[Filters]\ncat: CommandFilter,\n  cat,\n  root\n", CAT, id="continued"),
        pytest.param("[Filters]\ncat: CommandFilter\n  , cat\n  , root\n", CAT, id="continued, comma first"),
        pytest.param("[Filters]\ncat:\n  CommandFilter, cat, root\n", CAT, id="all in the continuation"),
        pytest.param("[Filters]\ncat: CommandFilter,\n\n  cat, root\n", CAT, id="blank line in a value"),
        pytest.param("[Filters]\ncat: CommandFilter,\n   \t\n  cat, root\n", CAT, id="blanks in a value"),
        pytest.param("[Filters]\ncat: CommandFilter,\n# no\n  cat, root\n", CAT, id="comment in a value"),
        pytest.param("[Filters]\ncat: CommandFilter,\n  ; no\n  cat, root\n", CAT, id="indented comment"),
        pytest.param(
            "[Filters]\ncat: CommandFilter, cat, root\n\n[cat]\n[Filters]\nls: CommandFilter, ls, root",
            {**CAT, "ls": ("CommandFilter", "ls", "root")},
            id="a section goes on",
        ),
        pytest.param(
            "[Filters]\n cat: CommandFilter, cat, root\n ls: CommandFilter, ls, root\n",
            {**CAT, "ls": ("CommandFilter", "ls", "root")},
            id="equally indented is the next one",
        ),
        pytest.param(
            "[Filters]\n  cat: CommandFilter, cat, root\n ls: CommandFilter, ls, root\n",
            {**CAT, "ls": ("CommandFilter", "ls", "root")},
            id="less indented is the next one",
        ),
        pytest.param(
            "[Filters]\nCat_2: CommandFilter, cat, root\n", {"Cat_2": CAT["cat"]}, id="upper case in a name"
        ),
        pytest.param("[Filters]\na.b-c d: X, y\n", {"a.b-c d": ("X", "y")}, id="dot and blank in a name"),
        pytest.param("[Filters]\na: X, %s %(x)s %%\n", {"a": ("X", "%s %(x)s %%")}, id="percent"),
        pytest.param("[Filters]\na: X, \"y\", 'z'\n", {"a": ("X", '"y"', "'z'")}, id="quotes"),
        pytest.param("[Filters]\na: X, k=v:w\n", {"a": ("X", "k=v:w")}, id="delimiters in a value"),
        pytest.param("[Filters]\na: X, b # c, d ; e\n", {"a": ("X", "b # c", "d ; e")}, id="inline comment"),
        pytest.param("[Filters]\na: X,\n", {"a": ("X", "")}, id="trailing comma"),
        pytest.param("[Filters]\na: X, , y\n", {"a": ("X", "", "y")}, id="empty field"),
        pytest.param("[Filters]\na: ,X\n", {"a": ("", "X")}, id="leading comma"),
        pytest.param("[Filters]\na: X,\n , y\n", {"a": ("X", "", "y")}, id="empty field over two lines"),
        pytest.param("[Filters]\na: X, \\\n", {"a": ("X", "\\")}, id="backslash"),
        pytest.param("[Filters]\na: X, {{ y }}\n", {"a": ("X", "{{ y }}")}, id="template markup"),
        pytest.param("[Filters]\na: X, ä\n", {"a": ("X", "ä")}, id="UTF-8"),
        pytest.param("[filters]\na: X, y\n", {}, id="a section of another case"),
    ],
)
def test_forms(text: str, expected: Entries) -> None:
    document = ini.parse(text, "f")
    assert not document.findings
    assert entries(document) == expected


def test_other_sections() -> None:
    document = ini.parse("[Filters]\n[a]\nenv: X, Y\n[b c]\n[a]\ntimeout = 3", "f")
    assert [section.name for section in document.sections] == ["Filters", "a", "b c"]
    assert entries(document, "a") == {"env": ("X", "Y"), "timeout": ("3",)}
    assert [section.location.line for section in document.sections] == [1, 2, 4]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("a: X, y", [(2, 1), (2, 4), (2, 7)], id="one line"),
        pytest.param("  a\t=X ,  y", [(2, 3), (2, 6), (2, 11)], id="blanks"),
        pytest.param("a: X,\n  y\n    , z", [(2, 1), (2, 4), (3, 3), (4, 7)], id="continued"),
        pytest.param("a:\n  X,y", [(2, 1), (3, 3), (3, 5)], id="begun below"),
        pytest.param("a: X,\n\n# c\n\ty", [(2, 1), (2, 4), (5, 2)], id="over a comment"),
        pytest.param(
            "a: X,\n  y, ,z,\n ,u", [(2, 1), (2, 4), (3, 3), (3, 5), (3, 7), (3, 9), (4, 3)], id="empty"
        ),
        pytest.param("ä: ß, y", [(2, 1), (2, 4), (2, 7)], id="characters, not bytes"),
    ],
)
def test_locations(text: str, expected: list[tuple[int, int]]) -> None:
    (entry,) = ini.parse(FILTERS + text, "f").sections[0].entries
    places = [entry.location, *(field.location for field in entry.fields)]
    assert [(place.line, place.column) for place in places] == expected
    assert {place.file for place in places} == {"f"}


@pytest.mark.parametrize(
    ("text", "places", "filters"),
    [
        pytest.param(
            "a: X, y\n[Filters]\n", ["f:1:1: error: a line before any section"], set(), id="no section"
        ),
        pytest.param(" a\n", ["f:1:2: error: a line before any section"], set(), id="no section, indented"),
        pytest.param("\ufeff[Filters]\n", ["f:1:1: error: the character"], set(), id="BOM"),
        pytest.param("{% if x %}\n[Filters]\n", ["f:1:1: error: a line before"], set(), id="template markup"),
        pytest.param(
            "[DEFAULT]\na: X,\u2028\n", ["f:2:6: error: the character \\u2028"], set(), id="DEFAULT"
        ),
        pytest.param("[default]\n", ["f:1:1: error: a [default] section"], set(), id="default"),
        pytest.param(FILTERS + "  what\n", ["f:2:3: error: not a definition"], set(), id="no delimiter"),
        pytest.param(FILTERS + ": X, y\n", ["f:2:1: error: not a definition"], set(), id="no name"),
        pytest.param(FILTERS + "A:\n", ["f:2:1: error: A has no value"], {"a"}, id="no value"),
        pytest.param(FILTERS + "A: , ,\n", ["f:2:1: error: A has no value"], {"a"}, id="only commas"),
        pytest.param(
            FILTERS + "A: X, y\n   z\n", ["f:3:4: error: a line break inside a field"], {"a"}, id="break"
        ),
        pytest.param(
            FILTERS + "a: X, y\n\n  z, u\n  v\n",
            ["f:4:3: error: a line break inside a field", "f:5:3: error: a line break inside a field"],
            {"a"},
            id="two breaks",
        ),
        pytest.param(FILTERS + "a: X, y\x00\n", ["f:2:8: error: the character \\x00"], {"a"}, id="NUL"),
        pytest.param(FILTERS + "a: X, \x0by\n", ["f:2:7: error: the character \\x0b"], {"a"}, id="VT"),
        pytest.param(FILTERS + "a: X, \x7f\n", ["f:2:7: error: the character \\x7f"], {"a"}, id="DEL"),
        pytest.param(FILTERS + "a: X, \x85\n", ["f:2:7: error: the character \\x85"], {"a"}, id="NEL"),
        pytest.param(FILTERS + "a: X,\xa0y\n", ["f:2:6: error: the character \\xa0"], {"a"}, id="NBSP"),
        pytest.param(FILTERS + "a: X, \u2028\n", ["f:2:7: error: the character \\u2028"], {"a"}, id="LS"),
        pytest.param(FILTERS + "a: X, \u2029\n", ["f:2:7: error: the character \\u2029"], {"a"}, id="PS"),
        pytest.param(
            FILTERS + "a: X,\n  y\x1b\nb: X, y\n",
            ["f:3:4: error: the character \\x1b"],
            {"a"},
            id="ESC below",
        ),
        pytest.param(
            FILTERS + "a: X, y\nB: X, \x01\n",
            ["f:3:7: error: the character \\x01"],
            {"b"},
            id="not the one above",
        ),
        pytest.param("[Fil\x01ters]\n", ["f:1:5: error: the character \\x01"], set(), id="in a header"),
    ],
)
def test_findings(text: str, places: list[str], filters: set[str]) -> None:
    findings = ini.parse(text, "f").findings
    assert len(findings) == len(places)
    for finding, place in zip(findings, places, strict=True):
        assert str(finding).startswith(place)
        assert finding.severity is Severity.ERROR
        assert finding.filters == filters
        assert finding.remedy


@pytest.mark.parametrize(
    ("text", "place"),
    [
        pytest.param(FILTERS + "a: X, y\rz\n", "f:2:8", id="in a definition"),
        pytest.param(FILTERS + "a: X, y\r\r\n", "f:2:8", id="CR CR LF"),
        pytest.param("# Mac\r[Filters]\ra: X, y\r", "f:1:6", id="in a comment"),
        pytest.param("[Filters]\ra: X, y", "f:1:10", id="behind the header"),
    ],
)
def test_a_carriage_return_is_no_end_of_a_line(text: str, place: str) -> None:
    document = ini.parse(text, "f")
    (finding,) = document.findings
    assert str(finding).startswith(f"{place}: error: ")
    assert "carriage return" in finding.what
    assert entries(document) == {}


@pytest.mark.parametrize("text", ["# \x00\x0b\u2028\n", "; \x1b[31m", "[Filters]\n#\x85"])
def test_comments_may_hold_anything(text: str) -> None:
    assert not ini.parse(text, "f").findings


def test_a_definition_after_a_refused_line_is_read() -> None:
    document = ini.parse(FILTERS + "a: X, \x01\nb: X, y\nwhat\nc: X, y\n", "f")
    assert list(entries(document)) == ["b", "c"]


# Pieces of lines that mean something, so that random files are not all noise.
PIECES = [
    *("[", "]", "[Filters]", "[a]", "[DEFAULT]", "[default]", "Filters", "a", "B", "cat"),
    *(":", "=", " : ", ",", ", ", " ", "\t", "  ", "#", ";", "CommandFilter", "RegExpFilter", "root", "$"),
    *("\\", "\ufeff", "ä", '"', "%", "{1"),
]
REFUSED = ["\r", "\x00", "\x0b", "\x1c", "\x7f", "\x85", "\xa0", "\u2028", "\u3000"]


def file_texts(pieces: list[str]) -> st.SearchStrategy[str]:
    """Files of these pieces. Most have the header, else every line is one before any section."""
    return st.tuples(
        st.sampled_from(["", FILTERS, FILTERS, FILTERS]),
        st.lists(st.lists(st.sampled_from(pieces), max_size=8).map("".join)),
        st.sampled_from(["\n", "\r\n"]),
    ).map(lambda parts: parts[0] + parts[2].join(parts[1]))


@given(st.one_of(st.text(), file_texts(PIECES + REFUSED)))
def test_no_text_raises(text: str) -> None:
    document = ini.parse(text, "f")
    lines = text.split("\n")
    places = [
        *(finding.location for finding in document.findings),
        *(section.location for section in document.sections),
        *(entry.location for section in document.sections for entry in section.entries),
        *(field.location for one in document.sections for entry in one.entries for field in entry.fields),
    ]
    for place in places:
        assert 1 <= place.line <= len(lines)
        assert 1 <= place.column <= len(lines[place.line - 1]) + 1
    filter_file.read(text, "f")


def _as_oslo_reads(text: str) -> dict[str, Entries] | None:
    """What configparser makes of it, None if it refuses it: sections, names folded, fields stripped."""
    parser = configparser.RawConfigParser(strict=False, default_section="\0")
    try:
        parser.read_string(text)
    except configparser.Error:
        return None
    return {
        section: {
            name: tuple(re.sub(r"\n+", "\n", part.strip()) for part in value.split(","))
            for name, value in parser.items(section)
            if value.replace(",", "").strip()
        }
        for section in parser.sections()
    }


def _as_we_read(document: ini.Document) -> dict[str, Entries]:
    return {
        section.name: {entry.key: entry.texts for entry in section.entries} for section in document.sections
    }


def _compare(text: str) -> None:
    document = ini.parse(text, "f")
    expected = _as_oslo_reads(text)
    if expected is None:
        assert document.findings
    elif any("the character" in one.what or one.code == "section" for one in document.findings):
        # What is refused here is read there: as part of a word, and as an option whose name begins with [.
        return
    else:
        assert _as_we_read(document) == expected


@given(file_texts(PIECES))
@example("[a]\nb: c\n  d")
@example("[a]\n[:[")
@example("[a]\nb:\n\n c,\n#\n  d,\n\n[a]\nB = e")
def test_as_configparser(text: str) -> None:
    _compare(text)


def corpus_files() -> list[Path]:
    found = [path for path in sorted(CORPUS.glob("*/*")) if path.is_file()]
    if not found:
        pytest.skip("../shared/corpus is not here")
    return found


def _for_each(check: Callable[[str], None]) -> None:
    for path in corpus_files():
        try:
            check(path.read_text(encoding="utf-8"))
        except AssertionError as error:
            raise AssertionError(f"{path.name}: {error}") from error


def test_corpus_as_configparser() -> None:
    _for_each(_compare)


def test_corpus_is_read_without_an_exception() -> None:
    kept = 0
    for path in corpus_files():
        read = filter_file.read(path.read_text(encoding="utf-8"), path.name)
        kept += len(read.filters)
        for finding in read.findings:
            assert finding.location.file == path.name
    assert kept > 2000


@pytest.mark.parametrize("strange", ["\x0b", "\x85", "\u2028"])
def test_nothing_below_a_header_with_a_strange_character_is_used(strange: str) -> None:
    text = f"{FILTERS}a: CommandFilter, true, root\n[b{strange}c]\nd: CommandFilter, id, root\n"
    found = filter_file.read(text, "x")
    assert found.filters == ()
    assert [finding.location.line for finding in found.findings] == [3, 4]
