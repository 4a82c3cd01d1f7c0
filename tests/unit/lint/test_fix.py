"""--fix mends what changes no verdict, and nothing else."""

import os
import stat
from pathlib import Path

import pytest

from rootwrap_daemon.filters.ruleset import RuleSet
from rootwrap_daemon.filters.values import Match, Request
from rootwrap_daemon.lint.check import judge
from rootwrap_daemon.lint.finding import Finding
from rootwrap_daemon.lint.fix import corrected, diff, fix
from rootwrap_daemon.lint.subject import Subject, read_config, read_filters

TEXT = """# A comment stays.
[Filters]
ip: RegExpFilter, ip, root, ip, netns, add|del
sleep: RegExpFilter, sleep, root, sleep, ^[0-9]+$
two: RegExpFilter, ls, root, ls,
  ^-l$, /etc|/usr
ls: CommandFilter, ls, root
ls: CommandFilter, ls, root
"""
MENDED = """# A comment stays.
[Filters]
ip: RegExpFilter, ip, root, ip, netns, (add|del)
sleep: RegExpFilter, sleep, root, sleep, [0-9]+
two: RegExpFilter, ls, root, ls,
  -l, (/etc|/usr)
ls: CommandFilter, ls, root
"""
WORDS = [
    "ip netns add",
    "ip netns del",
    "ip netns add|del",
    "ip netns addx",
    "sleep 10",
    "sleep ^10$",
    "sleep x",
    "ls -l /etc",
    "ls -l /usr",
    "ls -l /etc/x",
    "ls",
]


def judged(text: str, name: str = "x.filters") -> list[Finding]:
    return judge(Subject((read_filters(text, name),)))


def verdicts(text: str) -> list[str | None]:
    ruleset = RuleSet(read_filters(text, "x.filters").filters)
    answers = [ruleset.match(Request(tuple(words.split()))) for words in WORDS]
    return [answer.filter if isinstance(answer, Match) else None for answer in answers]


def test_mended() -> None:
    text, count = corrected(TEXT, judged(TEXT))
    assert text == MENDED
    assert count == 5
    assert not any(finding.problem.edits for finding in judged(text))


def test_no_verdict_changes() -> None:
    assert verdicts(TEXT) == verdicts(MENDED)
    assert None in verdicts(TEXT)


def test_line_ends_stay() -> None:
    text = TEXT.replace("\n", "\r\n")
    assert corrected(text, judged(text))[0] == MENDED.replace("\n", "\r\n")


def test_a_file_that_changed_meanwhile_is_left_alone() -> None:
    other = TEXT.replace("add|del", "set")
    assert "set" in corrected(other, [one for one in judged(TEXT) if one.rule == "RW306"])[0]
    assert "(" not in corrected(other, [one for one in judged(TEXT) if one.location.line == 3])[0]


def test_a_file_keeps_its_mode_and_others_are_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "x.filters"
    path.write_text(TEXT)
    path.chmod(0o640)
    link = tmp_path / "link.filters"
    link.symlink_to(path)
    assert fix(judged(TEXT, str(link))) == {str(link): 5}
    assert path.read_text() == MENDED
    assert link.is_symlink()
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert sorted(os.listdir(tmp_path)) == ["link.filters", "x.filters"]


def test_padding_in_a_configuration() -> None:
    text = "[DEFAULT]\nfilters_path=/a,  /b\nexec_dirs = /sbin,/bin\n"
    found = judge(Subject((), (read_config(text, "rootwrap.conf"),)))
    assert corrected(text, found) == (text.replace(",  ", ","), 1)


@pytest.mark.parametrize(
    "line",
    [
        "dd: CommandFilter, dd, root",
        "x: RegExpFilter, x, root, x, /tmp/.*",
        "x: RegExpFilter, x, root, x, a\\$",
        "ls: CommandFilter, ls, root, -l",
    ],
)
def test_what_would_change_a_verdict_is_not_mended(line: str) -> None:
    text = f"[Filters]\n{line}\n"
    assert corrected(text, judged(text)) == (text, 0)


def test_a_diff_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "x.filters"
    path.write_text(TEXT)
    found = judge(Subject((read_filters(TEXT, str(path)),)))
    lines = list(diff(found, {}))
    assert path.read_text() == TEXT
    assert lines[:2] == [f"--- {path}\n", f"+++ {path}\n"]
    changed = [line[1:] for line in lines[2:] if line[0] == "+"]
    assert changed and all(line in MENDED.splitlines(keepends=True) for line in changed)
    assert list(diff(found, {str(path): MENDED})) == []
