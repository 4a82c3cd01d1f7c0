"""rootwrapctl status, metrics and audit, asked of a real daemon."""

import json
import os
import re
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from rootwrap_daemon.cli import ctl
from rootwrap_daemon.errors import Denied
from tests.real_daemon import FILTERS, Daemon, NewDaemon, wait_for


def rootwrapctl(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    assert ctl.main(words) == code
    return capsys.readouterr().out


@pytest.fixture
def daemon(new_daemon: NewDaemon) -> Daemon:
    """One whose counts are those of the test alone: nobody had it before, or gets it after."""
    found = new_daemon(drain_timeout="29")
    found.touched = True
    return found


@pytest.fixture
def used(daemon: Daemon) -> Daemon:
    """A daemon that has run, and denied."""
    with daemon.client() as client:
        for _ in range(3):
            client.run(["true"])
        with pytest.raises(Denied):
            client.run(["rm", "-rf", "/x"])
    return daemon


def test_status_for_people(used: Daemon, capsys: pytest.CaptureFixture[str]) -> None:
    process = used.client().popen(["sleep", "1000"])
    wait_for(lambda: "sleep" in rootwrapctl(capsys, "status", "--socket", used.socket))
    lines = [
        " ".join(line.split()) for line in rootwrapctl(capsys, "status", "--socket", used.socket).split("\n")
    ]
    assert lines[0].startswith(f"rootwrap-daemon 0.1.0, pid {used.pid}, up ")
    assert lines[1].startswith("policy generation 1, loaded 20")
    assert lines[1].endswith(": 10 filters, 0 findings skipped, 0 warnings")
    assert lines[3] == "commands 1 of 360"
    assert lines[5].endswith(f"{process.pid} end sleep")
    assert {"denied 1", "end ok 3", "run 4"} <= set(lines)
    process.kill()
    process.wait()


def test_status_as_json(used: Daemon, capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(rootwrapctl(capsys, "status", "--json", "--socket", used.socket))
    assert found["counters"]["end"] == {"ok": 3}


def test_a_failed_reload_is_seen(daemon: Daemon, capsys: pytest.CaptureFixture[str]) -> None:
    """By whoever looks at the status, in words and as JSON, and at the metrics."""

    def seen() -> tuple[object, str, dict[str, float]]:
        found = json.loads(rootwrapctl(capsys, "status", "--json", "--socket", daemon.socket))["last_reload"]
        shown = rootwrapctl(capsys, "status", "--socket", daemon.socket)
        text = rootwrapctl(capsys, "metrics", "--socket", daemon.socket)
        samples = [one for family in text_string_to_metric_families(text) for one in family.samples]
        return found, shown, {one.name: one.value for one in samples if "reload" in one.name}

    assert seen()[0] is None
    daemon.configure("[Filters]\nx: What, x, root\ny: What, x, root\n")
    assert not daemon.reload()
    # It is logged first.
    wait_for(lambda: seen()[0] is not None)
    found, shown, metrics = seen()
    assert isinstance(found, dict)
    assert found["ok"] is False
    assert "test.filters:2:4: error: 'What' is not a kind" in found["finding"]
    assert "\n" not in found["finding"]
    assert "FAILED, the rules stay as they were: " in shown
    assert metrics["rootwrap_daemon_last_reload_successful"] == 0
    daemon.configure("[Filters]\ntrue: CommandFilter, true, root\n")
    assert daemon.reload()
    wait_for(lambda: seen()[2]["rootwrap_daemon_last_reload_successful"] == 1)
    found, shown, metrics = seen()
    assert isinstance(found, dict)
    assert (found["ok"], found["finding"]) == (True, None)
    assert ": worked" in shown
    assert time.time() - 600 < metrics["rootwrap_daemon_last_reload_timestamp_seconds"] <= time.time() + 1


@pytest.mark.parametrize("what", ["all", "some"])
def test_a_reload_that_leaves_out(
    new_daemon: NewDaemon, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    """With `skip`: a filter is left out, and that is seen; all are, and that is no reload."""
    daemon = new_daemon(on_finding="skip")
    if what == "all":
        (daemon.directory / "filters.d").chmod(0o777)
    else:
        daemon.configure("[Filters]\ntrue: CommandFilter, true, root\nx: What, x, root\n")
    assert daemon.reload() is (what == "some")

    def seen() -> dict[str, object]:
        found: dict[str, object] = json.loads(
            rootwrapctl(capsys, "status", "--json", "--socket", daemon.socket)
        )
        return found

    # It is logged first.
    wait_for(lambda: seen()["last_reload"] is not None)
    shown = rootwrapctl(capsys, "status", "--socket", daemon.socket)
    metrics = families(rootwrapctl(capsys, "metrics", "--socket", daemon.socket))
    figures = [
        metrics[f"rootwrap_daemon_{name}"][()]
        for name in (
            "last_reload_successful",
            "policy_findings_skipped",
            "policy_filters",
            "policy_generation",
        )
    ]
    if what == "all":
        assert "filters.d can be written by its group or by others" in daemon.log
        assert re.search(r"FAILED, the rules stay as they were: .*/filters\.d:1:1: error: ", shown)
        assert figures == [0, 0, 10, 1]
    else:
        assert ": worked, 1 finding skipped\n" in shown
        assert figures == [1, 1, 1, 2]
    with daemon.client() as client:
        assert client.run(["true"]).returncode == 0


def test_status_goes_on_over_a_restart(daemon: Daemon) -> None:
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "rootwrap_daemon.cli.ctl"),
            *("status", "--json", "--watch", "0.1", "--socket", daemon.socket),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        first = json.loads(process.stdout.readline())
        assert first["pid"] == daemon.pid
        daemon.stop()
        while "error" not in json.loads(process.stdout.readline()):
            pass
        (daemon.directory / "log").write_text("")
        daemon.start()
        while "error" in (found := json.loads(process.stdout.readline())):
            pass
        assert found["pid"] == daemon.pid != first["pid"]
        process.send_signal(signal.SIGINT)
        process.stdout.read()
        assert process.wait(60) == 130
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("command", ["status", "metrics"])
def test_nobody_answers(tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str) -> None:
    assert ctl.main([command, "--socket", str(tmp_path / "x.sock")]) == 69
    assert "no such socket: is the daemon running?" in capsys.readouterr().err


def families(text: str) -> dict[str, dict[tuple[str, ...], float]]:
    return {
        family.name: {
            tuple(value for name, value in sorted(sample.labels.items()) if name != "daemon"): sample.value
            for sample in family.samples
        }
        for family in text_string_to_metric_families(text)
    }


def test_metrics(new_daemon: NewDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    daemon = new_daemon(f"{FILTERS}[false]\nno_such_option = 1\n", on_finding="skip")
    with daemon.client() as client:
        client.run(["true"])
        process = client.popen(["sleep", "1000"])
        found = families(rootwrapctl(capsys, "metrics", "--socket", daemon.socket))
        process.kill()
        process.wait()
    assert found["rootwrap_daemon_up"] == {(): 1.0}
    assert found["rootwrap_daemon_info"] == {("0.1.0",): 1.0}
    assert found["rootwrap_daemon_policy_findings_skipped"] == {(): 1.0}
    assert found["rootwrap_daemon_policy_filters"] == {(): 9.0}
    assert found["rootwrap_daemon_commands_running"] == {(): 1.0}
    assert found["rootwrap_daemon_commands_running_by_filter"] == {("sleep",): 1.0}
    assert found["rootwrap_daemon_events"] == {("ok", "end"): 1.0, ("run", "run"): 2.0}


def test_metrics_into_a_file(used: Daemon, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whole at every moment, for the node exporter's user, and up is 0 once nobody answers."""
    directory = tmp_path / "textfile"
    directory.mkdir()
    file = directory / "x.prom"
    words = ("metrics", "--socket", used.socket, "--output", str(file))
    umask = os.umask(0o077)
    try:
        assert rootwrapctl(capsys, *words) == ""
    finally:
        os.umask(umask)
    assert stat.S_IMODE(file.stat().st_mode) == 0o644
    assert families(file.read_text())["rootwrap_daemon_up"] == {(): 1.0}
    with file.open() as held:
        inode = file.stat().st_ino
        used.stop()
        rootwrapctl(capsys, *words, code=69)
        assert file.stat().st_ino != inode, "written in place, and so in parts"
        assert families(held.read())["rootwrap_daemon_up"] == {(): 1.0}
    assert families(file.read_text()) == {"rootwrap_daemon_up": {(): 0.0}}
    assert os.listdir(directory) == ["x.prom"]


def test_metrics_by_a_wrong_name(used: Daemon, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rootwrapctl(capsys, "metrics", "--socket", used.socket, "--output", str(tmp_path / "x"), code=64)


def test_metrics_without_its_library(
    used: Daemon, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    assert ctl.main(["metrics", "--socket", used.socket]) == 78
    assert "install prometheus-client beside it by pip" in capsys.readouterr().err


def test_audit(used: Daemon, capsys: pytest.CaptureFixture[str]) -> None:
    out = rootwrapctl(capsys, "audit", str(used.directory / "audit.jsonl"))
    words = " ".join(out.split())
    assert "records: denied 1, end 3, run 3" in words
    assert "denied: rm -rf: rm -rf /x" in words
    assert out.splitlines()[-1].split()[0] == "3" and out.splitlines()[-1].split()[-1] == "true"


def test_watching_shows_rates(daemon: Daemon) -> None:
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "rootwrap_daemon.cli.ctl"),
            *("status", "--watch", "0.1", "--socket", daemon.socket),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        # Two looks at least before it, so that the next one has something to compare with.
        seen = 0
        while seen < 2:
            seen += process.stdout.readline().startswith("rootwrap-daemon ")
        with daemon.client() as client:
            for _ in range(3):
                client.run(["true"])
        while not re.fullmatch(r"run +[0-9]+  \([0-9]+\.[0-9]/s\)\n", line := process.stdout.readline()):
            assert line, "it ended"
    finally:
        process.kill()
        process.wait()
