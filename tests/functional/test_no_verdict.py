"""A bad command line is exit code 64 in every program, and what could not be judged is 2 in every command."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from rootwrap_daemon.cli import ctl
from tests.prepared import CTL

ROOT = Path(__file__).parents[2]
_CTL = [sys.executable, "-m", CTL.module]
PROGRAMS = {
    "rootwrap-daemon": [sys.executable, "-I", "-m", "rootwrap_daemon.daemon.main"],
    "rootwrap-bridge": [sys.executable, "-c", "from rootwrap_daemon.openstack.bridge import main; main()"],
    **{f"rootwrapctl {name}": [*_CTL, name] for name in ctl.COMMANDS},
}
GOOD = "[Filters]\nls: RegExpFilter, ls, root, ls\n"

each_program = pytest.mark.parametrize("command", PROGRAMS.values(), ids=PROGRAMS)


def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return CTL.run(*words, cwd=ROOT)


@each_program
def test_an_option_that_does_not_exist(command: list[str]) -> None:
    done = run(command[-1], "--hepl") if CTL.module in command else real([*command, "--hepl"])
    assert (done.returncode, done.stdout) == (64, "")


def real(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@each_program
def test_the_version(command: list[str]) -> None:
    done = real([*command, "--version"])
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("rootwrap")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["chek"], "there is no command chek: did you mean check?"),
        (["check", "--stric", "x"], "--stric is not known here: did you mean --strict?"),
        (["check", "--format=xml", "x"], "invalid choice"),
        (["explain", "--env", "X", "--filters", "/", "true"], "write NAME=VALUE"),
        (["rules", "RW999"], "there is no rule RW999"),
        (["audit", "--since", "no time", "x"], "no time"),
        (["install", "--instance", "../x", "--user", "root"], "../x"),
    ],
)
def test_bad_words_are_usage(words: list[str], told: str) -> None:
    done = run(*words)
    assert (done.returncode, done.stdout) == (64, "")
    assert told in done.stderr


def directory(path: Path, text: str | None = None) -> Path:
    path.mkdir(parents=True)
    if text is not None:
        (path / "x.filters").write_text(text)
    return path


def config(path: Path, *directories: Path) -> Path:
    path.write_text(f"[DEFAULT]\nfilters_path = {','.join(map(str, directories))}\n")
    return path


#: Policies in which there is nothing to judge by, each made below a directory: its path, and what is said.
NOTHING: dict[str, Callable[[Path], tuple[Path, str]]] = {
    "empty directory": lambda tmp: (directory(tmp / "e"), "holds no file whose name ends in .filters"),
    "one level too high": lambda tmp: (directory(tmp / "up/rootwrap.d", GOOD).parent, "name "),
    "no directory": lambda tmp: (tmp / "nothing", "nothing"),
    "no filter in the file": lambda tmp: (directory(tmp / "n", "[Filters]\n"), "no filter to judge by"),
    "only filters with errors": lambda tmp: (directory(tmp / "b", "[Filters]\nx: No, y\n"), "KillFilter"),
    "configuration with an empty directory": lambda tmp: (
        config(tmp / "a.conf", directory(tmp / "e")),
        str(tmp / "e"),
    ),
    "configuration with a missing directory": lambda tmp: (
        config(tmp / "a.conf", tmp / "nothing"),
        str(tmp / "nothing"),
    ),
    "configuration with a directory that others can write": lambda tmp: (
        config(tmp / "a.conf", opened(directory(tmp / "o", GOOD))),
        "can be written",
    ),
    "no configuration": lambda tmp: (tmp / "nothing.conf", "nothing.conf"),
}


def opened(path: Path) -> Path:
    path.chmod(0o777)
    return path


@pytest.mark.parametrize("name", NOTHING)
@pytest.mark.parametrize("command", ["explain", "list", "suggest", "diff", "diff the other way"])
def test_nothing_to_judge_by(tmp_path: Path, name: str, command: str) -> None:
    path, told = NOTHING[name](tmp_path)
    good = directory(tmp_path / "good", GOOD)
    which = ["--config-file" if path.name.endswith(".conf") else "--filters", path]
    log = tmp_path / "log"
    log.write_text(json.dumps({"event": "run", "id": "1", "argv": ["ls"], "filter": "ls"}) + "\n")
    words: dict[str, list[str | Path]] = {
        "explain": ["explain", *which, "--", "ls"],
        "list": ["list", *which],
        "suggest": ["suggest", *which, log],
        "diff": ["diff", path, good],
        "diff the other way": ["diff", good, path],
    }
    done = run(*words[command])
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert told in done.stderr


#: An error is found there, so there is a verdict: 1.
FOUND = ("configuration with a missing directory", "configuration with a directory that others can write")


@pytest.mark.parametrize("name", FOUND)
def test_check_of_a_directory_that_is_none(tmp_path: Path, name: str) -> None:
    path, told = NOTHING[name](tmp_path)
    done = run("check", "--config-file", path)
    assert done.returncode == 1, done.stdout
    assert told in done.stdout


@pytest.mark.parametrize(
    "name", [name for name in NOTHING if name not in FOUND and "that others" not in name]
)
def test_check_of_nothing(tmp_path: Path, name: str) -> None:
    path, told = NOTHING[name](tmp_path)
    if name in ("no filter in the file", "only filters with errors"):
        pytest.skip("there is a text to judge")
    which = ["--config-file", path] if path.name.endswith(".conf") else [path]
    done = run("check", *which)
    assert done.returncode == 2, done.stdout
    assert told in done.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_what_this_user_may_not_read(tmp_path: Path) -> None:
    path = directory(tmp_path / "private", GOOD)
    path.chmod(0)
    assert run("explain", "--filters", path, "--", "ls").returncode == 2


def test_one_of_several_directories_may_be_missing(tmp_path: Path) -> None:
    """As in most rootwrap.conf files: the distribution's directory, and the administrator's."""
    path = config(tmp_path / "a.conf", directory(tmp_path / "good", GOOD), tmp_path / "nothing")
    done = run("explain", "--config-file", path, "--", "ls")
    assert done.returncode == 0
    assert f"note: {tmp_path}/nothing: no such directory" in done.stdout
    assert run("diff", path, tmp_path / "good").returncode == 0
