"""Every option with every kind: it is read, or refused with its place; and the reference page says which."""

import re
from pathlib import Path

import pytest

from rootwrap_daemon.filters.read.kinds import KINDS
from rootwrap_daemon.filters.read.options import CHAINS, COMMANDS, OPTIONS
from rootwrap_daemon.filters.values import Options
from tests.unit.filters.lines import errors, read

PAGE = Path(__file__).parents[3] / "doc" / "source" / "reference" / "filters.rst"
#: A filter of each kind for which every option of the kind does something.
FILTERS = {
    "CommandFilter": "x: CommandFilter, ls, root",
    "RegExpFilter": "x: RegExpFilter, ls, root, ls, [a-z]+",
    "PathFilter": "x: PathFilter, rm, root, /srv",
    "KillFilter": "x: KillFilter, root, sleep",
    "ReadFileFilter": "x: ReadFileFilter, /etc/x",
    "IpFilter": "x: IpFilter, ip, root",
    "EnvFilter": "x: EnvFilter, env, root, A=, ls, [a-z]+",
    "ChainingFilter": "x: ChainingFilter, nice, root",
    "IpNetnsExecFilter": "x: IpNetnsExecFilter, ip, root",
    "ChainingRegExpFilter": "x: ChainingRegExpFilter, nice, root, nice, [a-z]+",
    "ArgvFilter": "x: ArgvFilter, kill, root, {path=/srv}, {pid=sleep}",
}
#: A value of each option that is not its default.
VALUES = {
    "env": "X",
    "set_env": "X=1",
    "max_word": "3",
    "timeout": "3",
    "max_output": "3",
    "stdin": "no",
    "cwd": "/srv",
    "umask": "077",
    "group": "root",
    "capabilities": "none",
    "ambient": "none",
    "no_new_privs": "yes",
    "limits": "core=0",
    "max_memory": "1000000",
    "max_processes": "5",
    "opens_paths": "yes",
    "sanitize": "secrets",
    "audit": "no-argv",
    "secret": "1",
    "target_user": "nobody",
    "started_by": "self",
    "namespaces": "any",
    "users": "nobody, %games",
    "signals": "none",
    "on_stop": "leave",
}
#: Filters of a kind that takes the option, whose words it does nothing for.
USELESS = [
    ("x: EnvFilter, env, root, A=, ls", "max_word"),
    ("x: EnvFilter, ls, root, A=", "max_word"),
    ("x: EnvFilter, env, root, A=, ls", "opens_paths"),
    ("x: ArgvFilter, rm, root", "opens_paths"),
    ("x: ArgvFilter, rm, root, {path=/srv}", "target_user"),
    ("x: ArgvFilter, kill, root, {int}", "started_by"),
    ("x: ArgvFilter, kill, root", "namespaces"),
    ("x: RegExpFilter, true, root, true", "secret"),
]


def test_the_page_says_what_each_option_is() -> None:
    """In the table before that of the kinds."""
    table = PAGE.read_text().partition("\nOptions\n=======\n")[2].partition("\nIn a chain")[0]
    assert set(OPTIONS) <= set(re.findall(r"``(\w+)``", table))


def test_nothing_is_missing_here() -> None:
    assert set(FILTERS) == set(KINDS)
    assert set(VALUES) == set(OPTIONS)


@pytest.mark.parametrize("kind", FILTERS)
@pytest.mark.parametrize("option", VALUES)
def test_each_pair(option: str, kind: str) -> None:
    found = read(FILTERS[kind], "ok: CommandFilter, true, root", "[x]", f"{option} = {VALUES[option]}")
    if kind in OPTIONS[option].kinds:
        assert not errors(found)
        assert {one.name: one.options for one in found.filters}["x"] != Options()
        return
    (error,) = errors(found)
    assert error.what == f"{option} does nothing in a {kind}"
    assert (error.location.line, error.location.column) == (5, 1)
    assert all(one in error.remedy for one in OPTIONS[option].kinds)
    assert [one.name for one in found.filters] == ["ok"]


@pytest.mark.parametrize(("line", "option"), USELESS)
def test_useless_for_these_words(line: str, option: str) -> None:
    found = read(line, "[x]", f"{option} = {VALUES[option]}")
    (error,) = errors(found)
    assert error.what == f"{option} does nothing in this filter"
    assert error.location.line == 4
    assert not found.filters


def test_the_page_has_the_table() -> None:
    """Each row of the page: option, kinds (or groups of them) with what they need, when."""
    rows = re.findall(r"^``(\w+)``  +(\S.*?)  +(match|bind|run|record)$", PAGE.read_text(), re.MULTILINE)
    groups = {"commands": COMMANDS, "chains": CHAINS}
    assert {name: when for name, _, when in rows} == {row.name: row.when for row in OPTIONS.values()}
    for name, kinds, _ in rows:
        said: set[str] = set()
        for kind in kinds.split(", "):
            said |= groups.get(kind.split()[0], frozenset((kind.split()[0],)))
        assert said == OPTIONS[name].kinds, name
    meanings = re.findall(r"^``(\w+)`` {2,16}\S", PAGE.read_text(), re.MULTILINE)
    assert set(OPTIONS) <= set(meanings)
    assert len(rows) == len(OPTIONS)


# What restricts never vanishes: an error about no one filter takes out the file.


@pytest.mark.parametrize(
    ("lines", "what"),
    [
        (["[grep] capabilities = none"], "text behind a section header"),
        (["[grep]capabilities = none"], "text behind a section header"),
        (["[grep] x"], "text behind a section header"),
        (["[grepp]", "capabilities = none"], "[grepp] is not the name of a filter"),
        (["[ grep ]", "capabilities = none"], "[ grep ] is not the name of a filter"),
        (["[grep ]", "capabilities = none"], "[grep ] is not the name of a filter"),
        (["[grep", "capabilities = none"], "a section header without its ]"),
        (["[grep: x", "capabilities = none"], "a section header without its ]"),
        (["[]", "capabilities = none"], "a section header without its ]"),
        (["[ls]", "stdin = no", "[grep", "capabilities = none"], "a section header without its ]"),
        (["[DEFAULT]", "capabilities = none"], "capabilities in [DEFAULT]"),
        (["[default]", "capabilities = none"], "a [default] section"),
        (["[filters]", "capabilities = none"], "[filters] is not the name of a filter"),
        (["capabilities none"], "not a definition"),
        (["capabilities = none"], "capabilities in [Filters] looks like an option"),
        (["#[grep]", "users = nobody, daemon"], "users in [Filters] looks like an option"),
        (["capabilites = CAP_NET_ADMIN, CAP_CHOWN"], "capabilites in [Filters] looks like an option"),
        (["# x\rcapabilities = none"], "a carriage return"),
        (["[grep]\u200b", "capabilities = none"], "the character"),
    ],
)
def test_a_restriction_that_cannot_be_read_takes_out_the_file(lines: list[str], what: str) -> None:
    found = read("grep: CommandFilter, grep, root", "ls: CommandFilter, ls, root", *lines)
    assert what in errors(found)[0].what
    assert not errors(found)[0].filters
    assert not found.filters
    # `check` still judges each.
    assert {one.name for one in found.parsed} >= {"grep"}


def test_the_section_of_filters_in_small_letters() -> None:
    assert "did you mean [Filters]?" in errors(read("[filters]", "grep: CommandFilter, grep, root"))[0].remedy


@pytest.mark.parametrize("header", ["[grep]", "[GREP]", "[grep]  ", "[grep] # why", "[grep]\t; why"])
def test_a_header_that_is_one(header: str) -> None:
    found = read("grep: CommandFilter, grep, root", header, "capabilities = none")
    assert not found.findings
    assert found.filters[0].options.capabilities == frozenset()


@pytest.mark.parametrize(
    ("lines", "meant"),
    [
        (["[x]", "capabilites = none"], "capabilities"),
        (["[x]", "time_out = 3"], "timeout"),
        (["[x]", "Umaks = 077"], "umask"),
        (["[abcc]", "timeout = 3"], "[abc]"),
        (["y: ComandFilter, ls, root"], "CommandFilter"),
        (["y: commandfilter, ls, root"], "CommandFilter"),
        (["y: ArgvFliter, ls, root"], "ArgvFilter"),
        (["y: ArgvFilter, ls, root, {nmae}"], "name"),
        (["y: ArgvFilter, ls, root, {IPV4}"], "ipv4"),
    ],
)
def test_the_nearest_word_is_proposed(lines: list[str], meant: str) -> None:
    found = read("x: CommandFilter, ls, root", "abc: CommandFilter, ls, root", *lines)
    assert errors(found)[0].remedy.startswith(f"did you mean {meant}?")


@pytest.mark.parametrize("line", ["users: OtherFilter, ls, root", "list: nofilter, ls, root"])
def test_a_filter_of_another_kind_takes_out_itself_alone(line: str) -> None:
    found = read("grep: CommandFilter, grep, root", line)
    assert len(errors(found)) == 1
    assert [one.name for one in found.filters] == ["grep"]


def test_a_definition_behind_a_section_is_told_its_place() -> None:
    """Appended to the file, as it is done in a hurry."""
    found = read("x: CommandFilter, ls, root", "[x]", "timeout = 3", "y: ArgvFilter, ls, root")
    assert errors(found)[0].remedy == "a definition belongs to [Filters], above this section"


def test_what_stands_in_default_has_another_place() -> None:
    found = errors(read("[DEFAULT]", "stdin = no", "cat: ArgvFilter, cat, root"))
    assert [one.remedy for one in found] == [
        "move it to the section of each filter that it is for",
        "move it to [Filters]",
    ]
