"""The daemon's `--check`, every tool as root and every tool as nobody say the same of one configuration."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.functional.test_lifecycle import attempt
from tests.prepared import CTL
from tests.real_daemon import Daemon, NewDaemon

ROOT = Path(__file__).parents[2]
WIDE = "[Filters]\nsh: CommandFilter, sh, root\n"


def ctl(*words: str | Path, nobody: bool = False) -> subprocess.CompletedProcess[str]:
    return CTL.run(*words, cwd=ROOT, uid=65534 if nobody else None)


def found(done: subprocess.CompletedProcess[str]) -> list[tuple[str, str, int, str]]:
    return [
        (one["rule"], one["severity"], one["line"], one["what"])
        for one in json.loads(done.stdout)["findings"]
    ]


def drop_in(daemon: Daemon, text: str) -> Path:
    directory = Path(f"{daemon.config}.d")
    directory.mkdir(exist_ok=True)
    path = directory / "10-more.conf"
    path.write_text(text)
    path.chmod(0o644)
    return path


def more_filters(daemon: Daemon) -> Path:
    """A directory of filters that only a drop-in names."""
    directory = daemon.directory / "more.filters.d"
    directory.mkdir()
    (directory / "x.filters").write_text(WIDE)
    drop_in(daemon, f"[DEFAULT]\nfilters_path = {directory}\n")
    return directory


def test_every_command_reads_the_drop_ins(new_daemon: NewDaemon, tmp_path: Path) -> None:
    daemon = new_daemon("[Filters]\ntrue: RegExpFilter, true, root, true\n", start=False)
    directory = more_filters(daemon)
    which: list[str | Path] = ["--config-file", daemon.config]
    assert ctl("explain", *which, "--", "sh", "-c", "id").returncode == 0
    assert ctl("explain", *which, "--", "true").returncode == 1
    assert [one["name"] for one in json.loads(ctl("list", "--json", *which).stdout)["filters"]] == ["sh"]
    assert "RW301" in ctl("check", "--strict", *which).stdout
    assert ctl("diff", daemon.config, directory).returncode == 0
    log = tmp_path / "log"
    log.write_text(json.dumps({"event": "run", "id": "a-1", "argv": ["sh", "-c", "id"], "filter": "sh"}))
    assert "no such filter" not in ctl("suggest", *which, "--filter", "sh", log).stderr
    suite = tmp_path / "suite.yaml"
    suite.write_text(f"config: {daemon.config}\ntests:\n- argv: [sh, -c, id]\n  expect: allow\n")
    done = ctl("test", suite)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.root
@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("capabilites = CAP_NET_ADMIN\n", "there is no option capabilites in [DEFAULT]"),
        ("max_output = many\n", "max_output: "),
        ("socket_mode = 0999\n", "socket_mode: '0999' is not an octal mode"),
        ("log_config_append = /etc/x\n", "log_config_append names code, and is not read"),
        ("max_output = 7\nmax_output = 7\n", "max_output a second time"),
    ],
)
@pytest.mark.parametrize("place", ["main file", "drop-in"])
def test_a_bad_option_is_told_by_all(new_daemon: NewDaemon, text: str, what: str, place: str) -> None:
    daemon = new_daemon(start=False)
    path = daemon.config
    if place == "main file":
        path.write_text(f"{path.read_text()}{text}")
    else:
        path = drop_in(daemon, f"[DEFAULT]\n{text}")
    line = len(path.read_text().splitlines())
    done = attempt(daemon, "--check")
    assert done.returncode == 78
    assert f"{path}:{line}:1: error: {what}" in done.stderr
    as_root = ctl("check", "--format", "json", "--config-file", daemon.config)
    as_nobody = ctl("check", "--format", "json", "--config-file", daemon.config, nobody=True)
    for one in (as_root, as_nobody):
        assert one.returncode == 1, one.stderr
        assert any(told[:3] == ("RW207", "error", line) and told[3].startswith(what) for told in found(one))
    explained = ctl("explain", "--config-file", daemon.config, "--", "true")
    assert explained.returncode == 78
    assert f"{path}:{line}:1: error: {what}" in explained.stderr


@pytest.mark.root
@pytest.mark.parametrize("which", ["file", "drop-in", "directory", "owner", "filters", "none"])
def test_owners_and_modes_are_judged_alike(new_daemon: NewDaemon, which: str) -> None:
    daemon = new_daemon("[Filters]\nls: RegExpFilter, ls, root, ls\n", start=False)
    path = drop_in(daemon, "[DEFAULT]\n")
    filters = daemon.directory / "filters.d"
    if which == "owner":
        os.chown(daemon.config, 65534, -1)
    elif which != "none":
        changed = {"file": daemon.config, "drop-in": path, "directory": path.parent, "filters": filters}[
            which
        ]
        changed.chmod(changed.stat().st_mode | 0o022)
    wrong = which != "none"
    assert attempt(daemon, "--check").returncode == (78 if wrong else 0)
    told = [
        ctl("check", *strict, "--format", "json", "--config-file", daemon.config, nobody=nobody)
        for nobody in (False, True)
        for strict in ([], ["--strict"])
    ]
    assert [one.returncode for one in told] == [int(wrong)] * 4, told
    assert found(told[0]) == found(told[2])
    assert found(told[1]) == found(told[3])
    assert not wrong or {one[0] for one in found(told[0])} <= {"RW205", "RW207"}
    explained = ctl("explain", "--config-file", daemon.config, "--", "ls")
    if which == "filters":
        assert (explained.returncode, "no filter to judge by" in explained.stderr) == (2, True)
    else:
        assert ("the daemon would not start" in explained.stdout) == wrong


@pytest.mark.root
def test_what_this_user_may_not_read_is_no_verdict(new_daemon: NewDaemon) -> None:
    daemon = new_daemon(start=False)
    for path in (drop_in(daemon, "[DEFAULT]\n"), daemon.config):
        path.chmod(0o600)
        assert attempt(daemon, "--check").returncode == 0
        done = ctl("check", "--config-file", daemon.config, nobody=True)
        assert (done.returncode, str(path) in done.stderr) == (2, True), done
        path.chmod(0o644)
