"""daemon/record/audit.py: bounded, escaped, masked records, and what happens when one cannot be written."""

import hashlib
import json
import os
import resource
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootwrap_daemon.daemon.record import audit as module
from rootwrap_daemon.daemon.record import lines
from rootwrap_daemon.daemon.record.audit import Audit
from rootwrap_daemon.daemon.record.lines import MAX_RECORD
from rootwrap_daemon.daemon.record.secrets import mask_words
from rootwrap_daemon.errors import ConfigurationError, InternalError
from rootwrap_daemon.policy import host
from tests.audit_records import try_record, write_record
from tests.processes import our_descriptors, together

OWNERS = host.base_owners()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.log"


@pytest.fixture
def audit(path: Path) -> Iterator[Audit]:
    one = Audit(str(path), required=True, owners=OWNERS)
    yield one
    one.close()


def records(path: Path) -> list[dict[str, Any]]:
    """Each line as what it says; none may be longer than the bound or hold more than printable ASCII."""
    found = []
    for line in path.read_bytes().splitlines(keepends=True):
        assert len(line) <= MAX_RECORD
        assert line.endswith(b"\n")
        assert all(0x20 <= byte < 0x7F for byte in line[:-1])
        found.append(json.loads(line))
    return found


# Records


def test_a_record(audit: Audit, path: Path) -> None:
    write_record(audit, "run", id="abc", uid=5, argv=("ip", "link"), filter=None)
    (record,) = records(path)
    assert list(record) == ["time", "event", "id", "uid", "argv", "filter"]
    assert record["time"].endswith("+00:00")
    del record["time"]
    assert record == {"event": "run", "id": "abc", "uid": 5, "argv": ["ip", "link"], "filter": None}


@pytest.mark.parametrize(
    "word",
    [
        *(
            "\n",
            "\r\n",
            "\t",
            "\x00",
            "\x1b[2J",
            "\x7f",
            "\x85",
            "\xa0",
            "\u2028\u2029",
            "\u202e\u2066",
            "\ufeff",
        ),
        *("é", "\U0001f600", "\udcff\udc80", "\ud800", '"\\', '"}\n{"event": "run"', ""),
    ],
    ids=ascii,
)
def test_escapes(audit: Audit, path: Path, word: str) -> None:
    write_record(audit, "run", argv=("x", word), detail=word)
    (record,) = records(path)
    assert record["argv"] == ["x", word]
    assert record["detail"] == word


@pytest.mark.parametrize(
    ("argv", "least"),
    [
        pytest.param(("x" * 5000,), 3000, id="a long word"),
        pytest.param(("tool", "x" * 131071), 3000, id="the longest word"),
        pytest.param(("x",) * 4096, 700, id="many words"),
        pytest.param(("",) * 4096, 0, id="many empty words"),
        pytest.param(("\x00",) * 4096, 300, id="many short words with escapes"),
        pytest.param(('"' * 5000,), 1500, id="quotes"),
        pytest.param(("\x7f" * 3000, "x" * 3000), 300, id="DEL"),
        pytest.param(("\x7f" * 1500,) * 3, 300, id="DEL in several"),
        pytest.param(("\u2028" * 600,) * 3, 600, id="separators"),
        pytest.param(("\udcff" * 5000,), 300, id="bytes"),
        pytest.param(("\U0001f600" * 2000,), 200, id="of two surrogates"),
        pytest.param(("\U0001f600" * 300,) * 3, 300, id="of two surrogates, in several"),
        pytest.param(("x" * 3900, "y" * 300), 3800, id="the last does not fit"),
    ],
)
def test_a_long_argv_is_cut(audit: Audit, path: Path, argv: tuple[str, ...], least: int) -> None:
    write_record(audit, "run", id="abc", argv=argv)
    (record,) = records(path)
    whole = "\0".join(argv).encode("utf-8", "surrogateescape")
    assert record["id"] == "abc"
    assert (record["argv_words"], record["argv_bytes"]) == (len(argv), len(whole))
    assert record["argv_sha256"] == hashlib.sha256(whole).hexdigest()
    kept = tuple(record["argv"])
    # A beginning, and as much of it as is of use.
    assert kept != argv
    assert kept[:-1] == argv[: len(kept) - 1]
    assert argv[len(kept) - 1].startswith(kept[-1])
    assert sum(map(len, kept)) >= least


# What a client's bytes become: every character but the surrogates that stand for no byte.
words = st.builds(
    str.__mul__,
    st.text(
        st.characters(exclude_categories=["Cs"]) | st.characters(min_codepoint=0xDC80, max_codepoint=0xDCFF)
    ),
    st.integers(0, 900),
)


@given(st.lists(words, max_size=8).map(tuple))
def test_any_argv_fits(argv: tuple[str, ...]) -> None:
    record = lines.line({"time": "2026-01-01T00:00:00.000+00:00", "event": "run", "id": "abc", "argv": argv})
    assert len(record) <= MAX_RECORD
    found = json.loads(record)
    assert found["argv"] == mask_words(argv, MAX_RECORD) or found["argv_words"] == len(argv)


def test_a_word_that_just_fits_is_whole(audit: Audit, path: Path) -> None:
    write_record(audit, "run", argv=("x" * 4000,))
    (record,) = records(path)
    assert record["argv"] == ["x" * 4000]
    assert "argv_sha256" not in record


def test_threads_do_not_mix_records(audit: Audit, path: Path) -> None:
    def write(number: int) -> None:
        for _ in range(50):
            write_record(audit, "run", uid=number, argv=(str(number) * 1000,))

    together(threading.Thread(target=write, args=(number,)) for number in range(1, 7))
    found = records(path)
    assert len(found) == 300
    assert all(record["argv"] == [str(record["uid"]) * 1000] for record in found)


# Secrets


@pytest.mark.parametrize(
    ("argv", "masked"),
    [
        (("ip", "link", "show"), None),
        (("x", "--password", "hunter2"), ("x", "--password", "***")),
        (("x", "--password", "hunter2", "y"), ("x", "--password", "***", "y")),
        (("x", "-password", "hunter2"), ("x", "-password", "***")),
        (("x", "--os-password", "hunter2"), ("x", "--os-password", "***")),
        (("x", "--PASSWD", "hunter2"), ("x", "--PASSWD", "***")),
        (("x", "--api-key", "hunter2"), ("x", "--api-key", "***")),
        (("x", "--auth_key", "hunter2"), ("x", "--auth_key", "***")),
        (("x", "--token", "hunter2"), ("x", "--token", "***")),
        (("x", "--secret", ""), ("x", "--secret", "***")),
        (("x", "--password=hunter2"), ("x", "--password=***")),
        (("x", "--password=a=b c"), ("x", "--password=***")),
        (("x", "password=hunter2"), ("x", "password=***")),
        (("x", "Password: hunter2"), ("x", "Password: ***")),
        (("x", "my_secret_name = hunter2"), ("x", "my_secret_name = ***")),
        (("x", "OS_TOKEN=hunter2"), ("x", "OS_TOKEN=***")),
        (("x", "user=a,password=hunter2"), ("x", "user=a,password=***")),
        (("x", "password=two\nlines"), ("x", "password=***")),
        (("x", "http://user:hunter2@host/"), ("x", "http://user:***@host/")),
        (("x", "-u=ftp://:hunter2@host"), ("x", "-u=ftp://:***@host")),
        (("x", "--password", "--verbose"), ("x", "--password", "***")),
        (("x", "--password-file", "/etc/x"), None),
        (("x", "password"), None),
        (("x", "token="), None),
        (("x", "http://host:80/a@b"), None),
        (("x", "http://token@host"), ("x", "http://***@host")),
        (("passwd", "root"), None),
        (("x", "\udcff"), None),
    ],
)
def test_mask(argv: tuple[str, ...], masked: tuple[str, ...] | None) -> None:
    assert tuple(mask_words(argv, MAX_RECORD)) == (masked or argv)


def test_a_record_is_masked(audit: Audit, path: Path) -> None:
    write_record(audit, "run", argv=("x", "--password", "hunter2"))
    write_record(audit, "run", argv=("x", "password=hunter2", "x" * 5000))
    assert b"hunter2" not in path.read_bytes()


def test_mask_takes_what_a_record_can_hold() -> None:
    assert mask_words((), MAX_RECORD) == []
    for argv in (("x",) * 4096, ("x" * 131071,), ("x" * 3000,) * 100):
        found = mask_words(argv, MAX_RECORD)
        assert sum(map(len, found)) <= MAX_RECORD
        assert all(word.startswith(shown) for word, shown in zip(argv, found, strict=False))


@pytest.mark.parametrize(
    "word",
    [
        pytest.param("a" * 4096, id="no secret"),
        pytest.param("pwd" * 1365, id="names"),
        pytest.param("password" * 512, id="long names"),
        pytest.param("pwd " * 1024, id="names and blanks"),
        pytest.param("pwd" + " " * 4000, id="blanks"),
        pytest.param("pwd=" + " " * 4000, id="blanks after the sign"),
        pytest.param("-" * 4090 + "pwd", id="dashes"),
        pytest.param("-" + "pwd-" * 1023, id="an option of names"),
        pytest.param("://" * 1365, id="no host"),
        pytest.param("://:" * 1024, id="no password"),
        pytest.param("://:" + "a" * 4000, id="no @"),
        pytest.param("a" * 4000 + "://", id="a long scheme"),
    ],
)
def test_mask_is_not_slowed_by_any_word(word: str) -> None:
    """It holds the interpreter lock. Where a pattern goes back and forth this takes minutes."""
    for _ in range(100):
        mask_words((word,), MAX_RECORD)


# Failures


class _Device:
    """A file that takes as many bytes of a write as it is told; -1: all."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.takes = -1
        self._write = os.write
        monkeypatch.setattr(os, "write", self.write)

    def write(self, descriptor: int, data: bytes) -> int:
        return self._write(descriptor, data if self.takes < 0 else data[: self.takes])


def test_a_file_that_takes_no_more(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    audit = Audit(str(path), required=True, owners=OWNERS)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
    try:
        with pytest.raises(InternalError, match="the audit log cannot be written"):
            write_record(audit, "run", id="abc")
        try_record(audit, "end", id="abc")
        audit.denied("denied", 5, id="abc")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        audit.close()
    assert [record.levelname for record in caplog.records] == ["ERROR"] * 3
    assert all("abc" in record.getMessage() for record in caplog.records)


def test_a_full_device_and_best_effort(caplog: pytest.LogCaptureFixture) -> None:
    """/dev/full says ENOSPC to every write (full(4))."""
    audit = Audit("/dev/full", required=False, owners=OWNERS)
    write_record(audit, "run", id="abc")
    audit.close()
    assert [record.levelname for record in caplog.records] == ["ERROR"]


@pytest.mark.parametrize("name", ["/dev/null", "/dev/zero", "/proc/self/coredump_filter", "fifo"])
def test_what_keeps_no_record(tmp_path: Path, name: str) -> None:
    """What takes a record and keeps it nowhere is refused where records are required, then and later."""
    path = str(tmp_path / name)
    if name == "fifo":
        os.mkfifo(path)
    # Of a FIFO, a reader.
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    before = our_descriptors()
    with pytest.raises(ConfigurationError, match=r"audit_file: .* keeps no record"):
        Audit(path, required=True, owners=OWNERS)
    assert our_descriptors() == before
    Audit(path, required=False, owners=OWNERS).close()
    if name == "fifo":
        audit = Audit(str(tmp_path / "audit"), required=True, owners=OWNERS)
        os.rename(path, tmp_path / "audit")
        with pytest.raises(InternalError):
            write_record(audit, "one")
        assert os.read(reader, 1) == b""
        audit.close()
    os.close(reader)


@pytest.mark.parametrize("required", [True, False])
def test_a_short_write(path: Path, monkeypatch: pytest.MonkeyPatch, required: bool) -> None:
    device = _Device(monkeypatch)
    audit = Audit(str(path), required=required, owners=OWNERS)
    write_record(audit, "one")
    device.takes = 10
    if required:
        with pytest.raises(InternalError):
            write_record(audit, "two")
    else:
        write_record(audit, "two")
    device.takes = -1
    write_record(audit, "three")
    write_record(audit, "four")
    audit.close()
    lines = path.read_bytes().splitlines()
    assert len(lines) == 4
    assert len(lines[1]) == 10
    assert [json.loads(lines[index])["event"] for index in (0, 2, 3)] == ["one", "three", "four"]


def test_one_write_for_a_record(audit: Audit, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[bytes] = []
    monkeypatch.setattr(os, "write", lambda descriptor, data: (calls.append(data), len(data))[1])  # type: ignore[func-returns-value]
    write_record(audit, "run", argv=("x" * 100000,))
    assert len(calls) == 1
    assert calls[0].endswith(b"\n")


def test_it_recovers(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    audit = Audit(str(path), required=True, owners=OWNERS)
    device = _Device(monkeypatch)
    device.takes = 0
    for _ in range(2):
        with pytest.raises(InternalError):
            write_record(audit, "lost")
    device.takes = -1
    write_record(audit, "run")
    audit.close()
    assert json.loads(path.read_bytes().splitlines()[-1])["event"] == "run"


# Repeated denials


def test_denials_of_one_user_beyond_a_rate_are_counted(path: Path) -> None:
    audit = Audit(str(path), required=True, owners=OWNERS)
    for number in range(module._BURST + 25):
        audit.denied("denied", 5, id=str(number))
    audit.denied("denied", 6, id="other")
    write_record(audit, "run", uid=5)
    found = records(path)
    assert [record["event"] for record in found] == ["denied"] * (module._BURST + 1) + ["run"]
    assert [record["id"] for record in found[: module._BURST]] == [
        str(number) for number in range(module._BURST)
    ]
    assert (found[module._BURST]["uid"], found[module._BURST]["id"]) == (6, "other")
    audit.close()
    last = records(path)[-1]
    assert (last["event"], last["uid"], last["count"]) == ("repeated", 5, 25)
    assert len(records(path)) == len(found) + 1


def test_the_count_is_written_when_the_window_is_over(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    audit = Audit(str(path), required=True, owners=OWNERS)
    for _ in range(module._BURST + 3):
        audit.denied("denied", 5)
    audit.flush()
    assert len(records(path)) == module._BURST
    monkeypatch.setattr(module, "_WINDOW", -1.0)  # from now on it always is
    audit.flush()
    assert [(record["event"], record.get("count")) for record in records(path)[module._BURST :]] == [
        ("repeated", 3)
    ]
    audit.flush()
    audit.close()
    assert len(records(path)) == module._BURST + 1


def test_a_new_window_begins_with_a_record(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    audit = Audit(str(path), required=True, owners=OWNERS)
    for _ in range(module._BURST + 3):
        audit.denied("denied", 5)
    monkeypatch.setattr(module, "_WINDOW", -1.0)
    audit.denied("denied", 5, id="new")
    audit.close()
    assert [
        (record["event"], record.get("count"), record.get("id")) for record in records(path)[module._BURST :]
    ] == [("repeated", 3, None), ("denied", None, "new")]


# The file


def test_it_appends(path: Path) -> None:
    for event in ("one", "two"):
        audit = Audit(str(path), required=True, owners=OWNERS)
        write_record(audit, event)
        audit.close()
    assert [record["event"] for record in records(path)] == ["one", "two"]
    assert path.stat().st_mode & 0o777 == 0o600


def test_standard_error_without_a_file(capfd: pytest.CaptureFixture[str]) -> None:
    audit = Audit("", required=True, owners=OWNERS)
    write_record(audit, "run", id="abc")
    audit.close()
    assert json.loads(capfd.readouterr().err)["id"] == "abc"
    os.fstat(2)


@pytest.mark.parametrize("name", ["missing/x", "link", "dangling", "open/x", "directory", "file/x"])
def test_a_file_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "directory").mkdir()
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "dangling").symlink_to("new")
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    before = our_descriptors()
    with pytest.raises(ConfigurationError, match="audit_file"):
        Audit(str(tmp_path / name), required=True, owners=OWNERS)
    assert our_descriptors() <= before
    assert not (tmp_path / "new").exists()


def test_checks_beyond_a_rate_are_counted_apart_from_what_was_to_run(path: Path) -> None:
    audit = Audit(str(path), required=True, owners=OWNERS)
    within = [audit.within_rate(5, "check") for _ in range(module._BURST + 7)]
    assert within == [True] * module._BURST + [False] * 7
    cheap = ("check", "bad_request", "busy", "unauthorized")
    for event in cheap:
        for _ in range(module._BURST + 1):
            audit.denied(event, 5)
    for _ in range(module._BURST + 1):
        audit.denied("denied", 5, of="status", detail="the status was asked for")
    audit.denied("denied", 5, id="run")
    audit.close()
    found = records(path)
    assert [record["id"] for record in found if "id" in record] == ["run"]
    counts = {record["of"]: record["count"] for record in found if record["event"] == "repeated"}
    assert counts == {**dict.fromkeys((*cheap, "status"), 1), "check": 7 + module._BURST + 1}


def test_commands_that_are_only_counted(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    audit = Audit(str(path), required=True, owners=OWNERS)
    for code in ("ok", "timeout", "ok"):
        audit.count(5, "ip", code)
    audit.count(5, "other", "ok")
    assert not records(path)
    monkeypatch.setattr(module, "_WINDOW", -1.0)
    audit.flush()
    assert [(record["filter"], record["count"], record["failed"]) for record in records(path)] == [
        ("ip", 3, 1),
        ("other", 1, 0),
    ]
    audit.close()
