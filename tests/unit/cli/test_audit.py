"""Records of files and journal, read back as lines and sums for people."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootwrap_daemon.analysis import audit_log
from rootwrap_daemon.cli import ctl
from rootwrap_daemon.cli.audit_tables import Command, Summary
from rootwrap_daemon.daemon.record.audit import Audit
from rootwrap_daemon.daemon.record.journal import encode
from rootwrap_daemon.policy import host
from tests.audit_records import try_record, write_record
from tests.unit.daemon.test_journal import decode


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """What a daemon wrote."""
    path = tmp_path / "audit.log"
    audit = Audit(str(path), required=True, owners=host.base_owners())
    for number in range(10):
        write_record(
            audit, "run", id=f"a-{number}", uid=0, argv=("ip", "link", "show"), filter="ip", run_as="root"
        )
        try_record(audit, "end", id=f"a-{number}", uid=0, milliseconds=number + 0.5, code="ok", returncode=0)
    write_record(audit, "run", id="b", uid=0, argv=("sleep", "9"), filter="sleep", run_as="root")
    try_record(audit, "end", id="b", uid=0, milliseconds=5000.0, code="timeout", returncode=-15)
    for number in range(3):
        audit.denied(
            "denied", 0, id=f"c-{number}", argv=("rm", "-rf", f"/x{number}"), code="denied", detail="words"
        )
    audit.denied("unauthorized", 4294967294, pid=5)
    audit.close()
    return path


def ctl_audit(capsys: pytest.CaptureFixture[str], *words: str | Path, code: int = 0) -> str:
    assert ctl.main(["audit", *map(str, words)]) == code
    return capsys.readouterr().out


def test_lines_and_summary(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = ctl_audit(capsys, log).splitlines()
    ran = " run      root       ip link show (0.5 ms, filter ip, run_as root, code ok, returncode 0, id a-0)"
    assert ran in lines[0]
    assert " denied   root       rm -rf /x0 (code denied, detail words, id c-0)" in lines[11]
    assert lines[16] == "records: denied 3, end 11, run 11, unauthorized 1"
    rest = [" ".join(line.split()) for line in lines[17:]]
    assert "3 root denied: rm -rf: rm -rf /x2" in rest
    assert "1 4294967294 unauthorized: (unauthorized)" in rest
    at = rest.index("1 5000.0 5000.0 5000.0 sleep")
    assert rest[at + 1] == "10 5.0 9.5 9.5 ip", "the filter that took the most time comes first"


def test_only_denied(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ctl_audit(capsys, "--denied", log)
    assert "ip link" not in out and "sleep" not in out
    assert "records: denied 3, unauthorized 1" in out


def test_only_the_summary(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ctl_audit(capsys, "--summary", log)
    assert out.splitlines()[1].startswith("records:")


@pytest.mark.parametrize(
    "stamp", ["0001-01-01T00:00:00+14:00", "0001-01-01T00:00:00", "9999-12-31T23:59:59-14:00", "9999-12-31"]
)
@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Tokyo"])
def test_a_time_at_the_end_of_all_times(
    tmp_path: Path, stamp: str, zone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    file = tmp_path / "log"
    file.write_text(json.dumps({"event": "run", "time": stamp}))
    try:
        assert ctl.main(["audit", str(file)]) == 0
        assert ctl.main(["audit", "--since", "2h", str(file)]) == 0
    finally:
        monkeypatch.undo()
        time.tzset()


def test_since(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = {"time": "2020-01-01T12:00:00.000+00:00", "event": "denied", "uid": 0, "argv": ["old"]}
    log.write_text(json.dumps(old) + "\n" + log.read_text())
    assert "denied 4" in ctl_audit(capsys, log)
    for text in ("1h", "3600s", "60min", "1d", "5m ago", "-1h 30min", "2020-01-01T13:00+00:00", "2021-01-01"):
        assert "denied 3" in ctl_audit(capsys, "--since", text, log)
    assert "denied 4" in ctl_audit(capsys, "--since", "2020-01-01T11:59:59+00:00", log)
    assert "records: none" in ctl_audit(capsys, "--since", "0s", log)


@pytest.mark.parametrize("text", ["last week", "2", "h", "", "25:00", "5 parsecs", "99999999y"])
def test_since_when(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        ctl.main(["audit", f"--since={text}", "x"])
    assert "is no time" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--journal", "file"], ["--instance", "x", "file"]])
def test_files_or_the_journal(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert ctl.main(["audit", *words]) == 64
    assert "name audit files, or the journal, or an instance" in capsys.readouterr().err


def test_a_log_without_a_record(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "log").write_text("no record\n")
    assert ctl.main(["audit", str(tmp_path / "log")]) == 2
    assert "no audit record" in capsys.readouterr().err


def test_one_request_one_user_one_filter(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def shown(*words: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in ctl_audit(capsys, "--json", *words, log).splitlines()]

    (one,) = shown("--id", "b")
    assert (one["argv"], one["code"], one["returncode"], one["event"]) == (
        ["sleep", "9"],
        "timeout",
        -15,
        "run",
    )
    assert {entry["event"] for entry in shown("--user", "root")} == {"run", "denied"}
    assert [entry["uid"] for entry in shown("--user", "4294967294")] == [4294967294]
    assert {entry["filter"] for entry in shown("--filter", "ip")} == {"ip"}
    assert len(shown("--filter", "ip")) == 10
    assert shown("--filter", "no such filter") == []


def test_a_filter_that_no_record_names(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, told in (("slep", "no record names a filter 'slep': did you mean sleep?\n"), ("sleep", "")):
        assert ctl.main(["audit", "--filter", name, str(log)]) == 0
        assert capsys.readouterr().err == told


def test_refusals_are_told_by_more_than_an_option(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "log"
    argv = ["systemctl", "--no-pager", "restart", "a.service"]
    log.write_text(json.dumps({"event": "denied", "uid": 0, "argv": argv, "code": "denied"}) + "\n")
    assert "denied: systemctl restart: systemctl --no-pager" in ctl_audit(capsys, log)


def test_refusals_over_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "log"
    minutes = [0, 0, 0, 0, 1, 5]
    log.write_text(
        "".join(
            json.dumps({"time": f"2026-01-01T12:0{minute}:30+00:00", "event": "denied", "uid": 0}) + "\n"
            for minute in minutes
        )
    )
    assert "4 at most: █▂   ▂" in ctl_audit(capsys, "--summary", log)


def test_a_command_that_has_not_ended(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "log"
    log.write_text(json.dumps({"event": "run", "uid": 0, "id": "a", "argv": ["sleep", "9"]}) + "\n")
    assert "sleep 9 (no end yet, id a)" in ctl_audit(capsys, log)


def test_no_such_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ctl.main(["audit", str(tmp_path / "x")]) == 2
    assert "No such file" in capsys.readouterr().err


def test_repeated_denials_count(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "log"
    log.write_text('{"event": "repeated", "uid": 0, "count": 40, "seconds": 10}\n')
    out = ctl_audit(capsys, log)
    assert "records: repeated 40" in out
    assert "40 root repeated: (repeated)" in " ".join(out.split())


def test_what_cannot_be_read_is_counted(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with log.open("ab") as file:
        file.write(b'\n\xff\n{"event": 5}\n[]\n{}\n{"event": "run"\n' + b"[" * 100000 + b"\n")
    assert "not read: lines that are no record: 6" in ctl_audit(capsys, log)


any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
names = st.sampled_from(
    "time event id uid argv code filter count milliseconds detail argv_sha256 returncode".split()
)


@given(st.dictionaries(names, any_json))
def test_no_record_breaks_anything(values: dict[str, Any]) -> None:
    """Whatever somebody wrote there: it is shown on one printable line, and summed."""
    entry = audit_log.parse(json.dumps({"event": "denied", **values}).encode())
    if entry is None:
        return
    command = Command(entry)
    assert command.line().isprintable()
    assert json.loads(command.json())["event"] == entry.event
    summary = Summary()
    summary.add(command)
    assert all(line.isprintable() for line in summary.lines(Counter(), denied_only=False))


@given(st.binary(max_size=200))
def test_no_line_breaks_anything(line: bytes) -> None:
    audit_log.parse(line)


def as_journalctl(record: dict[str, Any]) -> bytes:
    """What journalctl --output=json shows of a record that went to the journal."""
    shown: dict[str, object] = {"__REALTIME_TIMESTAMP": "1767225600000000", "_UID": "0"}
    for name, value in decode(encode(record)).items():
        text = value.decode()
        shown[name] = text if text.isprintable() else list(value)
    return json.dumps(shown).encode()


@given(
    st.fixed_dictionaries(
        {"event": st.sampled_from(["run", "end", "denied"]), "argv": st.lists(st.text(max_size=20))},
        optional={
            "id": st.text(max_size=9),
            "uid": st.integers(0, 2**32 - 1),
            "detail": st.text(max_size=40).map(lambda text: text.encode("utf-8", "replace").decode()),
            "filter": st.sampled_from(["5", "null", "a b"]),
            "milliseconds": st.floats(0, 1e9),
        },
    )
)
def test_the_journal_says_what_the_file_says(record: dict[str, Any]) -> None:
    record = json.loads(json.dumps(record))
    found = audit_log.parse(as_journalctl(record))
    assert found is not None
    assert found.time == datetime(2026, 1, 1, tzinfo=UTC)
    assert {"event": found.event, **found.values} == record


JOURNALCTL = """\
#!/bin/sh
printf '%s\\n' "$@" > {arguments}
cat {lines}
"""


def test_asks_the_journal_for_what_root_wrote(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A journalctl of our own, that tells how it was asked; the real one is asked where systemd runs."""
    lines, arguments = tmp_path / "lines", tmp_path / "arguments"
    lines.write_bytes(as_journalctl({"event": "denied", "uid": 0, "argv": ["rm", "x\n"]}) + b"\n")
    program = tmp_path / "journalctl"
    program.write_text(JOURNALCTL.format(arguments=arguments, lines=lines))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    out = ctl_audit(capsys, "--journal", "--unit", "rootwrap-daemon@x", "--since", "2026-01-01T00:00+00:00")
    assert 'denied   root       rm "x\\n"' in out
    asked = arguments.read_text().splitlines()
    assert "_UID=0" in asked and "--all" in asked and "--since=@1767225600" in asked
    assert "_SYSTEMD_UNIT=rootwrap-daemon@x.service" in asked


def test_follow_over_a_rotation(tmp_path: Path) -> None:
    log = tmp_path / "log"

    def line(number: int) -> str:
        return json.dumps({"event": "denied", "uid": 0, "id": f"n{number}"}) + "\n"

    log.write_text(line(0) + line(1)[:10])
    process = subprocess.Popen(
        [sys.executable, "-m", "rootwrap_daemon.cli.ctl", "audit", "--follow", str(log)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        assert "id n0" in process.stdout.readline()
        with log.open("a") as file:
            file.write(line(1)[10:])
        assert "id n1" in process.stdout.readline()
        old = log.rename(tmp_path / "log.1")
        with old.open("a") as file:
            file.write(line(2))
        log.write_text(line(3))
        assert "id n2" in process.stdout.readline()
        assert "id n3" in process.stdout.readline()
        with log.open("a") as file:
            file.write(line(4))
        assert "id n4" in process.stdout.readline()
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        assert "records: denied 5" in process.stdout.read()
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
