"""What a file of policy tests may hold, and where it says what it may not."""

from pathlib import Path

import pytest

from rootwrap_daemon.analysis.testing import suite_file
from rootwrap_daemon.analysis.testing.suite_file import Malformed

HEAD = "filters: [x.filters]\ntests:\n"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", ":1:1: an empty file"),
        ("filters: [a\n", ":2:1: no YAML"),
        ("--- a\n--- b\n", "no YAML"),
        ("filters: [a]\n", ":1:1: no `tests:`"),
        ("tests: []\n", ":1:1: write `filters:` or `config:`"),
        ("filters: [a]\nconfig: x\ntests: []\n", ":1:1: write `filters:` or `config:`"),
        (HEAD + "  - {argv: [a], expect: deny, exepct: deny}\n", ":3:31: 'exepct' is not known here"),
        (HEAD + "  - {argv: [a], expect: no}\n", ":3:25: 'no' is no verdict"),
        (HEAD + "  - {argv: a, expect: deny}\n", ":3:12: not a list"),
        (HEAD + "  - {argv: [], expect: deny}\n", ":3:12: no words"),
        (HEAD + "  - {argv: [a, [b]], expect: deny}\n", ":3:16: not a text"),
        (HEAD + "  - {argv: [a, ~], expect: deny}\n", ":3:16: nothing"),
        (HEAD + "  - {argv: [a], expect: deny, stdin: 1}\n", ":3:38: neither true nor false"),
        (HEAD + "  - {argv: [a], expect: deny, expect: deny}\n", ":3:31: 'expect' a second time"),
        (HEAD + "  - {argv: [a], expect: deny, filter: x}\n", ":3:39: `filter:` is for what is allowed"),
        (HEAD + "  - {argv: [a], expect: allow, plan: {uid: 0}}\n", ":3:39: 'uid' is not known here"),
        (HEAD + "  - {argv: [a]}\n", ":3:5: a test without `expect:`"),
        (HEAD + "  - {argv: [a], expect: allow, env: [a]}\n", ":3:37: not a mapping"),
        ("filters: [a]\nscratch: [x]\ntests: []\n", ":2:10: 'x' is not a plain absolute path"),
        ("filters: [a]\nsetup: [{file: /etc/x}]\ntests: []\n", ":2:16: '/etc/x' is not beneath"),
        ("filters: [a]\nscratch: [/x]\nsetup: [{link: /x/y}]\ntests: []\n", ":3:9: a link needs `to:`"),
        ("filters: [a]\nscratch: [/x]\nsetup: [{file: /x/y, mode: 9}]\ntests: []\n", "no octal mode"),
    ],
)
def test_what_is_not_understood_has_its_place(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "t.yaml"
    path.write_text(text)
    with pytest.raises(Malformed) as found:
        suite_file.read(str(path))
    problems = found.value.message.splitlines()
    assert any(problem in one for one in problems), problems
    assert all(one.startswith(str(path)) for one in problems)


def test_words_are_what_is_written(tmp_path: Path) -> None:
    path = tmp_path / "t.yaml"
    path.write_text(HEAD + "  - {argv: [0644, 1.10, yes, 1_0, '', \"a\\n\"], expect: deny}\n")
    (test,) = suite_file.read(str(path)).tests
    assert test.argv == ("0644", "1.10", "yes", "1_0", "", "a\n")
