"""What is known of dangerous programs: complete, and its advice loads and is not dangerous itself."""

from pathlib import Path

import pytest

from rootwrap_daemon.lint.check import judge
from rootwrap_daemon.lint.finding import Severity
from rootwrap_daemon.lint.knowledge import programs
from rootwrap_daemon.lint.subject import Subject, read_filters

TABLE = Path(__file__).parents[4] / "shared" / "dangerous.tsv"
ADVICE = sorted({one.safer for one in programs.PROGRAMS.values() if one.safer and "," in one.safer})


@pytest.mark.skipif(
    not TABLE.is_file(), reason="../shared/dangerous.tsv is not here: it comes with the project"
)
def test_every_program_of_the_collection_is_known() -> None:
    rows = [row.split("\t") for row in TABLE.read_text().splitlines()[1:]]
    assert len(rows) > 200
    assert not [name for name, *_ in rows if programs.look_up(name) is None]
    # What runs or writes as root there gives root away here.
    mild = [
        name
        for name, route, *_ in rows
        if "[exec]" in route and (known := programs.look_up(name)) and not known.gives_root
    ]
    assert not mild


def test_every_route_is_explained() -> None:
    for one in programs.PROGRAMS.values():
        assert one.routes
        assert set(one.routes) <= set(programs.ROUTES)
        assert one.how


@pytest.mark.parametrize("advice", ADVICE)
def test_advice_loads_and_is_safe(advice: str) -> None:
    read = read_filters(f"[Filters]\nx: {advice}\nleaf: RegExpFilter, ls, root, ls\n", "x.filters")
    assert len(read.filters) == 2, read.findings
    assert [one for one in judge(Subject((read,))) if one.severity is not Severity.INFO] == []


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("python3.11", "python"),
        ("python3", "python"),
        ("mkfs.xfs", "mkfs"),
        ("lvs", "lvs"),
        ("perl5.36", "perl"),
    ],
)
def test_names_of_a_family(name: str, known: str) -> None:
    found = programs.look_up(name)
    assert found is not None
    assert found.name == known


def test_an_unknown_program_is_not_known() -> None:
    assert programs.look_up("frobnicate") is None


def test_nothing_is_both_harmless_and_dangerous() -> None:
    assert not [name for name in programs.HARMLESS if programs.look_up(name)]


@pytest.mark.parametrize("program", ["hostname", "domainname", "sync", "test", "[", "getconf", "uptime"])
def test_what_looks_at_a_file_is_no_command_for_any_words(program: str) -> None:
    read = read_filters(f"[Filters]\nx: CommandFilter, {program}, root\n", "x.filters")
    assert "RW301" in {one.rule for one in judge(Subject((read,)))}
