"""`# rw: ignore`: which lines it is about, and when it is a finding itself."""

import pytest

from rootwrap_daemon.lint.check import judge
from rootwrap_daemon.lint.subject import Subject, read_filters

DD = "dd: CommandFilter, dd, root"
WHY = "only the backup host has this file"


def rules(text: str) -> list[str]:
    return [one.rule for one in judge(Subject((read_filters(f"[Filters]\n{text}\n", "x.filters"),)))]


def test_without_it_there_is_a_finding() -> None:
    assert rules(DD) == ["RW301"]


@pytest.mark.parametrize(
    "above",
    [
        f"# rw: ignore RW301 {WHY}",
        f"; rw: ignore RW301 {WHY}",
        f"#rw:ignore RW301 {WHY}",
        f"# rw: ignore RW390, RW301 {WHY}",
        f"# rw: ignore RW301 {WHY}\n# another comment",
    ],
)
def test_it_takes_the_finding_back(above: str) -> None:
    assert rules(f"{above}\n{DD}") == []


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (f"# rw: ignore RW301\n{DD}", ["RW116", "RW301"]),
        (f"# rw: ignore {WHY}\n{DD}", ["RW116", "RW301"]),
        (f"# rw: ignore RW999 {WHY}\n{DD}", ["RW116", "RW406", "RW301"]),
        (f"# rw: ignore RW302 {WHY}\n{DD}", ["RW406", "RW301"]),
        (f"# rw: ignore RW301 {WHY}\n\n{DD}", ["RW406", "RW301"]),
        (f"{DD}\n# rw: ignore RW301 {WHY}", ["RW301", "RW406"]),
    ],
)
def test_what_does_not_take_it_back(text: str, left: list[str]) -> None:
    assert rules(text) == left


def test_it_is_about_one_definition() -> None:
    assert rules(f"# rw: ignore RW301 {WHY}\n{DD}\ncp: CommandFilter, cp, root") == ["RW301"]


def test_it_is_about_all_lines_of_a_definition() -> None:
    text = f"# rw: ignore RW302,RW352 {WHY}\nhaproxy: RegExpFilter, haproxy, root,\n  haproxy,\n  -f, .*"
    assert rules(text) == []


def test_behind_a_definition_it_is_a_part_of_it() -> None:
    assert "RW111" in rules(f"ls: RegExpFilter, ls, root, ls, -l # rw: ignore RW301 {WHY}")


def test_it_cannot_take_back_a_finding_about_itself() -> None:
    assert rules(f"# rw: ignore RW406,RW302 {WHY}\nls: RegExpFilter, ls, root, ls") == ["RW406"]
