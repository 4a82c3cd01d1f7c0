"""`rootwrapctl test`: files of tests, run by the command."""

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.prepared import CTL

ROOT = Path(__file__).parents[2]
FILTERS = """\
[Filters]
netns: ArgvFilter, ip, root, netns, {=add|delete}, {netns}
chown: PathFilter, chown, root, nova, /var/lib/nova/images
mkfs: ArgvFilter, mkfs.made-up, root, {path=/var/lib/nova/images}
gone: CommandFilter, /nonexistent/program, root
[netns]
timeout = 5
env = LANG={name}
"""
HEAD = "filters: [x.filters]\ntests:\n"


def _test(directory: Path, text: str, *options: str) -> "subprocess.CompletedProcess[str]":
    (directory / "x.filters").write_text(FILTERS)
    (directory / "t.yaml").write_text(text)
    directory.chmod(0o755)
    return CTL.run("test", *options, directory / "t.yaml", cwd=ROOT)


def test_the_shipped_filters_pass_without_a_gap() -> None:
    words = [sys.executable, "-m", "rootwrap_daemon.cli.ctl", "test", "--fail-on-gap"]
    done = subprocess.run(
        [*words, "tests/policy/netns-agent.yaml"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^0 failed, [0-9]+ passed$", done.stdout, re.MULTILINE)


@pytest.mark.parametrize(
    ("test", "failure"),
    [
        ("{argv: [ip, netns, add, a], expect: allow}", None),
        ("{argv: [ip, netns, add, a], expect: allow, filter: netns}", None),
        ("{argv: [ip, netns, add, a], expect: allow, filter: chown}", "expected the filter chown, got netns"),
        ("{argv: [ip, netns, add, a], expect: deny}", "expected deny, got allow by netns"),
        ("{argv: [ip, netns, add, -a], expect: allow}", "expected allow, got denied: no filter allows"),
        # A number of YAML is a word.
        ("{argv: [/nonexistent/program, 5], expect: match}", None),
        ("{argv: [ip, netns, add, a], env: {LANG: C}, expect: allow, plan: {env: {LANG: C}}}", None),
        ("{argv: [ip, netns, add, a], env: {X: y}, expect: environment_denied}", None),
        (
            "{argv: [ip, netns, add, a], env: {X: y}, expect: denied}",
            "expected denied, got environment_denied",
        ),
        ("{argv: [ip, netns, add, a], expect: allow, plan: {argv: [ip, netns, add, a], user: root}}", None),
        ("{argv: [ip, netns, add, a], expect: allow, plan: {argv: [ip, netns, add, b]}}", "expected argv"),
        (
            "{argv: [ip, netns, add, a], expect: allow, plan: {user: nova}}",
            "expected user 'nova', got 'root'",
        ),
        ("{argv: [/nonexistent/program], expect: allow}", None),
        ("{argv: [/nonexistent/program], expect: deny}", "expected deny, got executable_not_found"),
        ("{argv: [/nonexistent/program], expect: match, filter: gone}", None),
        ("{argv: [/nonexistent/program], expect: allow, plan: {user: root}}", "not on this host"),
        ("{argv: [''], expect: bad_request}", None),
        (
            "{argv: [chown, nova, /var/lib/nova/images/made-up/x], expect: allow}",
            "`expect: match` does without",
        ),
        ("{argv: [chown, nova, /var/lib/nova/images/made-up/x], expect: match}", None),
    ],
)
def test_verdicts(tmp_path: Path, test: str, failure: str | None) -> None:
    done = _test(tmp_path, f"{HEAD}  - {test}\n", "--format=json")
    found = json.loads(done.stdout)
    (result,) = found["tests"]
    assert done.returncode == (0 if failure is None else 1)
    assert (result["failure"] is None) == (failure is None), result["failure"]
    assert (failure or "") in (result["failure"] or "")


def test_files_stand_in_a_scratch_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = """\
filters: [x.filters]
scratch: [/var/lib/nova]
setup:
  - {file: /var/lib/nova/images/a, text: x, mode: 0644}
  - {link: /var/lib/nova/images/b, to: /etc/passwd}
  - {directory: /var/lib/nova/images/c}
tests:
  - argv: [chown, nova, /var/lib/nova/images/a]
    expect: allow
    plan: {argv: [chown, nova, /var/lib/nova/images/a]}
  # Where the service can make links the command meets ELOOP, whatever the link says.
  - {argv: [chown, nova, /var/lib/nova/images/b], expect: allow}
  - {argv: [chown, nova, /var/lib/nova/images/../../../../etc/passwd], expect: deny}
  - {argv: [mkfs.made-up, /var/lib/nova/images/a], expect: allow, plan: {user: root}}
  - {argv: [mkfs.made-up, /etc/passwd], expect: deny}
"""
    # A directory of this test's own: others run the same command at the same time. Root gives itself up
    # before it makes the files, so anybody may write there.
    with tempfile.TemporaryDirectory() as temporary:
        os.chmod(temporary, 0o1777)
        monkeypatch.setenv("TMPDIR", temporary)
        done = _test(tmp_path, text)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "0 failed, 5 passed" in done.stdout
        assert os.listdir(temporary) == []


def test_a_failure_is_explained(tmp_path: Path) -> None:
    done = _test(tmp_path, HEAD + "  - {name: a group, argv: [ip, netns, put, a], expect: allow}\n")
    assert done.returncode == 1
    assert "FAIL" in done.stdout
    assert "t.yaml:3  a group" in done.stdout
    assert re.search(r"NO +2  put +(add or delete|delete or add)", done.stdout)
    assert done.stdout.rstrip().endswith("1 failed, 0 passed")


def test_coverage_names_the_gaps(tmp_path: Path) -> None:
    text = HEAD + "  - {argv: [ip, netns, add, a], expect: allow}\n  - {argv: [chown, x, y], expect: deny}\n"
    done = _test(tmp_path, text, "--coverage", "--format=json")
    gaps = [(gap["filter"], gap["what"], gap["line"]) for gap in json.loads(done.stdout)["gaps"]]
    assert sorted(gaps) == [
        ("chown", "no test allows it", 3),
        ("gone", "no test allows it", 5),
        ("gone", "no test denies it", 5),
        ("mkfs", "no test allows it", 4),
        ("mkfs", "no test denies it", 4),
        ("netns", "no test denies it", 2),
    ]
    assert done.returncode == 0
    assert _test(tmp_path, text, "--fail-on-gap").returncode == 1


def test_only_the_nearest_filter_was_put_to_the_test(tmp_path: Path) -> None:
    text = HEAD.replace("x.filters", "two.filters") + "  - {argv: [ip, netns, del, x], expect: deny}\n"
    lines = "near: ArgvFilter, ip, root, netns, add, {netns}\nfar: ArgvFilter, ip, root, link, show\n"
    (tmp_path / "two.filters").write_text(f"[Filters]\n{lines}")
    gaps = json.loads(_test(tmp_path, text, "--coverage", "--format=json").stdout)["gaps"]
    assert [gap["filter"] for gap in gaps if gap["what"] == "no test denies it"] == ["far"]


def test_annotations_are_workflow_commands(tmp_path: Path) -> None:
    done = _test(tmp_path, HEAD + '  - {name: "50%, a:b", argv: [ip, x], expect: allow}\n', "--format=github")
    line = done.stdout.splitlines()[0]
    found = re.fullmatch(r"::error file=([^,]+),line=(\d+),col=(\d+),title=([^,:]+)::(.*)", line)
    assert found, line
    assert found[1] == str(tmp_path / "t.yaml")
    assert (found[2], found[3]) == ("3", "5")
    assert found[4] == "policy test%3A 50%25%2C a%3Ab"


def test_no_test_is_no_success(tmp_path: Path) -> None:
    done = _test(tmp_path, HEAD.replace("tests:", "tests: []"))
    assert done.returncode == 2
    assert done.stderr.endswith("t.yaml: no test: write some below `tests:`\n")


def test_objects_are_never_made_of_tags(tmp_path: Path) -> None:
    done = _test(tmp_path, HEAD + "  - !!python/object/apply:os.system [touch /tmp/x]\n")
    assert done.returncode == 2
    assert "not a mapping" in done.stderr


@pytest.mark.root
def test_a_configuration_is_judged_as_on_this_host(tmp_path: Path) -> None:
    (tmp_path / "filters.d").mkdir(mode=0o755)
    (tmp_path / "filters.d" / "x.filters").write_text(
        FILTERS.replace("chown: PathFilter", "id: CommandFilter, id, root\n#")
    )
    (tmp_path / "daemon.conf").write_text(f"[DEFAULT]\nfilters_path = {tmp_path}/filters.d\n")
    text = """\
config: daemon.conf
tests:
  - {argv: [id], expect: allow, plan: {user: root}}
  - {argv: [/nonexistent/program], expect: executable_not_found}
  - {argv: [/nonexistent/program], expect: allow}
"""
    done = _test(tmp_path, text, "--format=json")
    assert done.returncode == 1, done.stderr
    assert [test["failure"] is None for test in json.loads(done.stdout)["tests"]] == [True, True, False]
