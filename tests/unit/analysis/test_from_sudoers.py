"""What sudoers gives becomes filters that give no more, for one file of each kind of service."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from rootwrap_daemon.analysis.sudoers import read, write
from rootwrap_daemon.filters.read import filter_file
from rootwrap_daemon.filters.ruleset import RuleSet
from rootwrap_daemon.filters.values import Match, Request

CTL = [sys.executable, "-m", "rootwrap_daemon.cli.ctl"]

#: Service -> `user`, `sudoers`, commands that it `runs`, words that must be `denied`.
SERVICES = yaml.safe_load(Path(__file__).with_name("sudoers.yaml").read_text())


def rules_of(text: str, user: str) -> RuleSet:
    sudoers = read.read("sudoers", text)
    written = write.text(write.translate(sudoers, [user]), write.lost_settings(sudoers, [user]))
    loaded = filter_file.read(written, "x.filters")
    assert not [one for one in loaded.findings if one.severity.value == "error"], written
    return RuleSet(loaded.filters)


def allows(rules: RuleSet, command: str) -> bool:
    return any(isinstance(one, Match) for one in rules.matches(Request(tuple(command.split(" ")))))


@pytest.mark.parametrize("service", SERVICES)
def test_services(service: str) -> None:
    one = SERVICES[service]
    rules = rules_of(one["sudoers"], one["user"])
    assert len(one["denied"]) == 5
    assert [command for command in one["runs"] if not allows(rules, command)] == []
    assert [command for command in one["denied"] if allows(rules, command)] == []


@pytest.mark.parametrize("service", SERVICES)
def test_policy_tests_hold(service: str) -> None:
    """Each filter's own example is allowed, and denied with more words."""
    user, text = SERVICES[service]["user"], SERVICES[service]["sudoers"]
    rules = rules_of(text, user)
    cases = write.tests(write.translate(read.read("sudoers", text), [user]), "x")["tests"]
    assert isinstance(cases, list)
    for case in cases:
        assert allows(rules, " ".join(case["argv"])) == (case["expect"] == "allow"), case


def test_what_is_lost_is_said() -> None:
    text = "Defaults secure_path=/x\na h1=(ALL:dba) SETENV:NOEXEC: sha256:abcd /bin/ls -l *, "
    text += "sudoedit /etc/x, /b/* -x\n"
    sudoers = read.read("s", text)
    (listing, edit, pattern) = write.translate(sudoers, ["a"])
    shown = write.text([listing, edit, pattern], write.lost_settings(sudoers, ["a"]))
    for word in (
        "secure_path",
        "only on h1",
        "the digest",
        "SETENV",
        "NOEXEC",
        "as root; sudoers",
        "no program",
    ):
        assert word in shown, word
    assert (edit.definition, pattern.definition) == (None, None)
    assert "group = dba" in shown


@pytest.mark.parametrize(
    "text",
    [
        "a b c ALL=/bin/ls",
        "a ALL",
        "User_Alias x = a",
        "a ALL=",
        "A ALL=/bin/x : h2=/bin/y",
        "a ALL=(root) NOPASSWD:",
    ],
)
def test_a_line_that_is_not_understood_has_its_place(text: str) -> None:
    with pytest.raises(read.NotRead, match=r"^s:3: "):
        read.read("s", f"# c\n\n{text}\n")


def test_aliases_in_a_circle() -> None:
    with pytest.raises(read.NotRead, match="circle"):
        read.read("s", "Cmnd_Alias A = B\nCmnd_Alias B = A\nu ALL=A\n")


def test_included_files(tmp_path: Path) -> None:
    directory = tmp_path / "sudoers.d"
    directory.mkdir()
    (directory / "one").write_text("a ALL=/bin/one\n")
    (directory / "two.bak").write_text("a ALL=/bin/two\n")
    path = tmp_path / "sudoers"
    found = read.read(str(path), "@includedir sudoers.d\na ALL=/bin/three\n")
    assert [(rule.file, rule.command.path) for rule in found.rules] == [
        (str(directory / "one"), "/bin/one"),
        (str(path), "/bin/three"),
    ]


def test_the_command(tmp_path: Path) -> None:
    """The program as it is called: the file loads, its policy tests pass, findings name the route."""
    path = tmp_path / "sudoers"
    path.write_text("a ALL=NOPASSWD: /usr/bin/env -0, /usr/bin/find\n")
    tests = tmp_path / "t.yaml"
    words = ["from-sudoers", str(path), "--tests", str(tests), "--name", "x.filters"]
    done = subprocess.run([*CTL, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "RW301" in done.stderr
    (tmp_path / "x.filters").write_text(done.stdout)
    tried = subprocess.run([*CTL, "test", str(tests)], capture_output=True, text=True, check=False)
    assert tried.returncode == 0, tried.stdout + tried.stderr


@pytest.mark.skipif(shutil.which("cvtsudoers") is None, reason="sudo's cvtsudoers is not installed")
def test_sudo_reads_the_same(tmp_path: Path) -> None:
    for service, one in SERVICES.items():
        path = tmp_path / "sudoers"
        path.write_text(one["sudoers"])
        done = subprocess.run(
            [*CTL, "from-sudoers", str(path), "--user", one["user"]],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{service}: {done.stderr}"


def test_a_program_in_the_root_directory() -> None:
    rules = rules_of("a ALL=/x b*\n", "a")
    assert allows(rules, "/x b1")
    assert allows(rules, "x b1")


@pytest.mark.parametrize("words", ["/bin/x é*", "/bin/x é? a", "/bin/x a\\é*", "/bin/x a*é", "/é/x a*"])
def test_a_part_that_no_pattern_can_have_is_not_left_out(words: str) -> None:
    """The filter would take words that the rule does not."""
    (one,) = write.translate(read.read("s", f"a ALL={words}\n"), ["a"])
    assert one.definition is None
    assert "no filter can say" in " ".join(one.notes)


@pytest.mark.parametrize(
    ("target", "run_as"),
    [
        ("(postgres)", "postgres"),
        ("(postgres, root)", "root|postgres"),
        ("(postgres, backup)", "postgres|backup"),
        ("(ALL)", "root"),
        ("(ALL, !root)", None),
        ("(postgres, !postgres)", None),
        ("(postgres, backup, !postgres)", "backup"),
        ("(postgres, !%dba)", None),
        ("(postgres, %dba)", "postgres"),
        ("(%dba)", None),
    ],
)
def test_targets(target: str, run_as: str | None) -> None:
    """Each of the users, root first: without -u, sudo means root. None that an exclusion may take away."""
    (one,) = write.translate(read.read("s", f"a ALL={target} NOPASSWD: /bin/ls -l\n"), ["a"])
    assert one.definition == (None if run_as is None else f"ArgvFilter, /bin/ls, {run_as}, -l")
    assert one.notes or run_as is not None


@pytest.mark.parametrize("user", ["zabbix", "%backup"])
def test_for_that_user_alone(tmp_path: Path, user: str) -> None:
    (tmp_path / "s").write_text(f"{user} ALL=(root) NOPASSWD: /bin/ls -l\n")
    done = subprocess.run(
        [*CTL, "from-sudoers", str(tmp_path / "s")], capture_output=True, text=True, check=True
    )
    rules = RuleSet(filter_file.read(done.stdout, "x.filters").filters)
    assert rules.users == {user}
    assert isinstance(rules.match(Request(("/bin/ls", "-l"), asker=frozenset((user,)))), Match)
    assert not isinstance(rules.match(Request(("/bin/ls", "-l"))), Match)
