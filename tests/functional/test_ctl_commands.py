"""`rootwrapctl diff`, `list` and `completion`, as commands."""

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from rootwrap_daemon.cli import ctl
from tests.prepared import CTL

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "etc" / "rootwrap-daemon" / "filters.d"


def _run(*words: str | Path) -> "subprocess.CompletedProcess[str]":
    return CTL.run(*words, cwd=ROOT)


def test_no_difference() -> None:
    done = _run("diff", SHIPPED, SHIPPED, "--tests", "tests/policy/netns-agent.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("0 filters and 0 of ")


def test_differences_over_a_log_and_tests(tmp_path: Path) -> None:
    new = tmp_path / "new"
    shutil.copytree(SHIPPED, new)
    text = (new / "netns-agent.filters").read_text()
    old_line = "netns: RegExpFilter, ip, root, ip, netns, (add|delete), na-[a-z0-9-]+"
    assert old_line in text
    (new / "netns-agent.filters").write_text(
        text.replace(old_line, "netns: ArgvFilter, ip, root, netns, delete, {netns}")
    )
    log = tmp_path / "log"
    records: list[dict[str, object]] = [
        {"event": "run", "argv": ["ip", "netns", "add", "na-9"], "filter": "netns"},
        {"event": "denied", "argv": ["ip", "netns", "delete", "mine"], "code": "denied", "filter": None},
    ]
    log.write_text("".join(json.dumps(record) + "\n" for record in records))
    done = _run(
        "diff", SHIPPED, new, "--audit-log", log, "--tests", "tests/policy/netns-agent.yaml", "--json"
    )
    assert done.returncode == 1, done.stderr
    found = json.loads(done.stdout)
    assert [(one["kind"], one["name"]) for one in found["filters"]] == [("changed", "netns")]
    shifts = {" ".join(one["argv"]): one["direction"] for one in found["requests"]}
    assert shifts == {
        "ip netns add na-9": "now denied",
        "ip netns add na-1": "now denied",
        "ip netns delete mine": "now allowed",
        "ip netns delete other": "now allowed",
    }
    text = _run("diff", SHIPPED, new, "--audit-log", log).stdout
    assert "changed netns" in text
    assert "now denied: ip netns add na-9" in text
    assert text.rstrip().endswith("1 filter and 2 of 2 requests differ")


def test_suggest_from_tests_before_any_daemon_has_run(tmp_path: Path) -> None:
    old, tests, new = (tmp_path / name for name in ("old.filters", "tests.yaml", "new.filters"))
    old.write_text("[Filters]\nradvd: CommandFilter, radvd, root\nls: RegExpFilter, ls, root, ls, -l\n")
    tests.write_text(
        "filters: [new.filters]\n"
        "tests:\n"
        "  - {argv: [radvd, -C, /etc/a.conf], expect: allow}\n"
        "  - {argv: [radvd, -C, /tmp/b.conf], expect: deny}\n"
        "  - {argv: [ls, -l], expect: match}\n"
    )
    done = _run("suggest", "--filters", old, "--tests", tests)
    assert done.returncode == 0, done.stderr
    assert "# instead of radvd\n" in done.stdout
    assert "# kept\nls: RegExpFilter, ls, root, ls, -l\n" in done.stdout
    new.write_text(done.stdout)
    passed = _run("test", tests)
    assert passed.returncode == 0, done.stdout + passed.stdout


def test_suggest_wants_something_to_read() -> None:
    done = _run("suggest")
    assert done.returncode == 64
    assert done.stderr.startswith("rootwrapctl: give an audit log, --tests FILE, or --instance NAME")


def test_list_shows_commands(tmp_path: Path) -> None:
    done = _run("list", "--filters", SHIPPED, "--json")
    assert done.returncode == 0, done.stderr
    items = {item["name"]: item for item in json.loads(done.stdout)["filters"]}
    assert items["netns"]["command"] == "ip netns (add|delete) na-[a-z0-9-]+"
    assert items["netns"]["path"].endswith("/ip")
    assert items["dnsmasq_hup"]["command"] == "kill -HUP PID OF dnsmasq"
    assert items["passwd"]["command"] == "cat /etc/passwd"
    assert items["dnsmasq"]["options"] == ["timeout = 604800"]
    assert (
        "ip netns exec na-[a-z0-9-]+ COMMAND OF ANOTHER FILTER" in _run("list", "--filters", SHIPPED).stdout
    )


def test_list_shows_words_as_a_command_has_them(tmp_path: Path) -> None:
    line = r"lvs: ArgvFilter, lvs, root, [--noheadings, -o, lv_name\,lv_size], {=b|\{x}, {int=1-9}..."
    (tmp_path / "x.filters").write_text(f"[Filters]\n{line}\n")
    (item,) = json.loads(_run("list", "--filters", tmp_path, "--json").stdout)["filters"]
    assert item["command"] == "lvs [--noheadings -o lv_name,lv_size] {=b|{x} {int=1-9}..."


@pytest.mark.root
def test_list_for_root_says_for_whom_to_ask(config: Path) -> None:
    done = _run("list", "--config-file", config)
    assert done.returncode == 1
    assert "root (uid 0) may not use this daemon" in done.stdout
    assert "try --user daemon\n" in done.stdout


@pytest.mark.root
def test_without_proc_it_is_proc_that_is_missed() -> None:
    script = 'mount -t tmpfs tmpfs /proc; exec "$@"'
    words = ["unshare", "--mount", "sh", "-c", script, "sh", sys.executable]
    words += ["-m", "rootwrap_daemon.cli.ctl", "recipe", "restic"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 78
    assert (
        done.stderr == "rootwrapctl: /proc/self/uid_map: No such file or directory: is /proc mounted here?\n"
    )


def test_list_says_which_program_is_missing(tmp_path: Path) -> None:
    (tmp_path / "x.filters").write_text("[Filters]\nx: CommandFilter, made-up-program, root\n")
    (item,) = json.loads(_run("list", "--filters", tmp_path, "--json").stdout)["filters"]
    assert (item["path"], item["problem"]) == ("", "made-up-program is not installed")


@pytest.fixture
def config() -> Iterator[Path]:
    """A configuration in a directory that everybody can enter, as pytest's own are not."""
    directory = Path(tempfile.mkdtemp(prefix="rootwrap-test-"))
    directory.chmod(0o755)
    filters = directory / "filters.d"
    filters.mkdir(mode=0o755)
    (filters / "x.filters").write_text("[Filters]\nls: CommandFilter, ls, root\n")
    path = directory / "daemon.conf"
    path.write_text(f"[DEFAULT]\nfilters_path = {filters}\nallowed_users = daemon\n")
    path.chmod(0o644)
    yield path
    shutil.rmtree(directory)


@pytest.mark.root
def test_list_for_users(config: Path) -> None:
    done = _run("list", "--config-file", config, "--user", "daemon")
    assert done.returncode == 0, done.stderr
    assert "daemon (uid 1) may run:" in done.stdout
    assert "ls ANYTHING" in done.stdout
    done = _run("list", "--config-file", config, "--user", "bin")
    assert done.returncode == 1
    assert "bin (uid 2) may not use this daemon" in done.stdout
    assert "ls" not in done.stdout.split()


@pytest.mark.root
@pytest.mark.parametrize("closed", ["filters.d", "filters.d/x.filters", "daemon.conf"])
def test_list_says_what_may_not_be_read(config: Path, closed: str) -> None:
    # In a child that keeps what is imported: the checkout may be root's alone.
    path = config.parent / closed
    path.chmod(0o700 if path.is_dir() else 0o600)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.setgroups([])
        os.setresgid(1, 1, 1)
        os.setresuid(1, 1, 1)
        with contextlib.redirect_stderr(io.StringIO()) as said:
            code = ctl.main(["list", "--config-file", str(config)])
        os.write(writer, said.getvalue().encode())
        os._exit(code)
    os.close(writer)
    with open(reader) as file:
        text = file.read()
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 2
    assert f"{path} may not be read by this user" in text
    assert "as root: rootwrapctl list --user daemon" in text


def _completed(*words: str) -> list[str]:
    """What bash offers for the last word."""
    script = _run("completion", "bash").stdout
    program = f"""{script}
complete -p rootwrapctl >/dev/null || exit 3
COMP_WORDS=(rootwrapctl "$@"); COMP_CWORD=$#
_rootwrapctl rootwrapctl "${{COMP_WORDS[COMP_CWORD]}}" "${{COMP_WORDS[COMP_CWORD-1]}}"
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    done = subprocess.run(
        ["bash", "-c", program, "bash", *words], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "syntax" not in done.stderr
    return done.stdout.split("\n")[:-1]


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["expl"], ["explain"]),
        (["test", "--cov"], ["--coverage"]),
        (["test", "--format", ""], ["text", "json", "github"]),
        (["test", "--format", "g"], ["github"]),
        (["test", "--format", "=", "g"], ["github"]),
        (["test", "--format", "="], ["text", "json", "github"]),
        (["test", "READ"], ["README.rst"]),
        (["explain", "--config-file", "setup"], ["setup.cfg"]),
        (["explain", "--env", ""], [""]),
        (["explain", "--", "READ"], [""]),
        (["completion", ""], ["bash", "zsh"]),
        (["diff", "--tests", "tox"], ["tox.ini"]),
    ],
)
def test_bash_offers(words: list[str], offered: list[str]) -> None:
    assert _completed(*words) == offered


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_offers_all_commands() -> None:
    assert set(ctl.COMMANDS) < set(_completed(""))


def test_zsh_has_every_option_once() -> None:
    done = _run("completion", "zsh")
    assert done.returncode == 0
    assert done.stdout.startswith("#compdef rootwrapctl\n")
    for block in done.stdout.split("_arguments -S")[1:]:
        rest = [line for line in block.splitlines() if line.strip().startswith("'*:")]
        assert len(rest) <= 1
    if shutil.which("zsh"):
        checked = subprocess.run(
            ["zsh", "-n"], input=done.stdout, text=True, capture_output=True, check=False
        )
        assert checked.returncode == 0, checked.stderr
