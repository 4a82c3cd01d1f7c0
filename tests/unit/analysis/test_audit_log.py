"""Audit records are read back as what was asked, byte for byte, or not at all."""

import bz2
import gzip
import json
import lzma
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rootwrap_daemon.analysis import audit_log
from rootwrap_daemon.daemon.record.lines import MAX_RECORD, line
from rootwrap_daemon.daemon.record.secrets import mask_words
from rootwrap_daemon.errors import Unreadable

_FIELDS = {"event": "run", "filter": "x", "run_as": "root", "env": ["A"]}


def _written(path: Path, *records: dict[str, object]) -> audit_log.Log:
    path.write_bytes(b"".join(line(record) for record in records))
    return audit_log.read([audit_log.Source(str(path))])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.binary(max_size=20).filter(lambda word: b"\0" not in word), min_size=1, max_size=8))
def test_words_come_back_byte_for_byte(tmp_path: Path, words: list[bytes]) -> None:
    argv = tuple(word.decode("utf-8", "surrogateescape") for word in words)
    log = _written(tmp_path / "log", {**_FIELDS, "argv": argv})
    if mask_words(argv, MAX_RECORD) != list(argv) or any("***" in word for word in argv):
        assert not log.records
        return
    (record,) = log.records
    assert [word.encode("utf-8", "surrogateescape") for word in record.argv] == words


@pytest.mark.parametrize("word", ["\U0001f600", "\udcf0\udc9f", "\u202e", "a\nb", '"\\', "\x7f", "é\udcff"])
def test_odd_words(tmp_path: Path, word: str) -> None:
    log = _written(tmp_path / "log", {**_FIELDS, "argv": ("x", word)})
    assert log.records[0].argv == ("x", word)


def test_what_is_not_whole_is_counted_and_not_used(tmp_path: Path) -> None:
    log = _written(
        tmp_path / "log",
        {**_FIELDS, "argv": ("x", "--password", "secret")},
        {**_FIELDS, "argv": ("x", "a" * 5000)},
        {"event": "repeated", "uid": 1, "count": 7, "seconds": 10},
        {"event": "end", "id": "1", "code": "ok"},
        {**_FIELDS, "argv": ("x", "kept")},
    )
    assert [record.argv for record in log.records] == [("x", "kept")]
    assert log.left_out == {
        "records with a secret taken out": 1,
        "records whose words were cut": 1,
        "denials that were only counted": 7,
    }


def test_events_and_codes(tmp_path: Path) -> None:
    log = _written(
        tmp_path / "log",
        {**_FIELDS, "argv": ("a",)},
        {**_FIELDS, "event": "check", "code": "allowed", "argv": ("b",)},
        {**_FIELDS, "event": "check", "code": "denied", "filter": None, "argv": ("c",)},
        {**_FIELDS, "event": "denied", "code": "environment_denied", "argv": ("d",)},
    )
    assert [(record.argv[0], record.allowed) for record in log.records] == [
        ("a", True),
        ("b", True),
        ("c", False),
        ("d", False),
    ]
    assert log.records[0].env == ("A",)


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        "5",
        '{"event": "run"}',
        '{"event": "run", "argv": "x"}',
        '{"event": "run", "argv": []}',
        '{"event": "run", "argv": [1]}',
        '{"event": "denied", "argv": ["x"]}',
        "\xff",
        "[" * 100000,
    ],
)
def test_a_line_that_is_no_record_stops_nothing(tmp_path: Path, line: str) -> None:
    good = json.dumps({**_FIELDS, "argv": ["x"]})
    (tmp_path / "log").write_text(f"{line}\n\n{good}\n", encoding="latin-1")
    log = audit_log.read([audit_log.Source(str(tmp_path / "log"))])
    assert len(log.records) == 1
    assert log.left_out == {"lines that are no record": 1}


def test_a_denial_without_a_command_is_a_record(tmp_path: Path) -> None:
    """Who may not ask for the status, or does not speak the protocol."""
    good = json.dumps({**_FIELDS, "argv": ["x"]})
    denied = '{"event": "denied", "uid": 5, "detail": "the status was asked for"}'
    (tmp_path / "log").write_text(f"{denied}\n{good}\n")
    log = audit_log.read([audit_log.Source(str(tmp_path / "log"))])
    assert log.left_out == {"denials of what is no command": 1}


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match="nothing"):
        audit_log.read([audit_log.Source(str(tmp_path / "nothing"))])


LINES = b"".join(
    json.dumps({**_FIELDS, "id": f"a-{number}", "argv": ["x", str(number)]}).encode() + b"\n"
    for number in range(50)
)


def as_journal(record: dict[str, object], **fields: object) -> bytes:
    """As `journalctl -o json` shows a record of the journal sink."""
    shown = {
        f"ROOTWRAP_{name.upper()}": value if isinstance(value, str) else json.dumps(value)
        for name, value in record.items()
    }
    return (
        json.dumps({"__REALTIME_TIMESTAMP": "1767225600000000", "_UID": "0", **shown, **fields}).encode()
        + b"\n"
    )


def on_stderr(record: dict[str, object]) -> bytes:
    """As `journalctl -o json` shows a record that a service wrote to standard error."""
    fields = {"__REALTIME_TIMESTAMP": "1767225600000000", "_UID": "0", "MESSAGE": json.dumps(record)}
    return json.dumps(fields).encode() + b"\n"


RECORDS = [json.loads(line) for line in LINES.splitlines()]
FORMS: dict[str, bytes] = {
    "plain": LINES,
    "gzip": gzip.compress(LINES),
    "xz": lzma.compress(LINES),
    "bzip2": bz2.compress(LINES),
    "two gzip members": gzip.compress(LINES[:1000]) + gzip.compress(LINES[1000:]),
    "journalctl -o json": b"".join(map(as_journal, RECORDS)),
    "compressed journalctl -o json": gzip.compress(b"".join(map(as_journal, RECORDS))),
    "standard error of a service": b"".join(map(on_stderr, RECORDS)),
    "file and journal": LINES[: len(LINES) // 2] + b"\n" + b"".join(map(as_journal, RECORDS[25:])),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_says_the_same(tmp_path: Path, form: str) -> None:
    (tmp_path / "log").write_bytes(FORMS[form])
    source = audit_log.Source(str(tmp_path / "log"))
    log = audit_log.read([source])
    assert {record.argv for record in log.records} >= {("x", str(number)) for number in (0, 1, 30, 49)}
    assert log.records[0] == audit_log.Record(("x", "0"), "allowed", "x", "root", ("A",))
    assert audit_log.used_filters([source]) == {"x"}


@pytest.mark.parametrize(
    "data", [gzip.compress(LINES)[:-40], lzma.compress(LINES)[:-40], b"\x28\xb5\x2f\xfdx"]
)
def test_a_compressed_file_that_is_not_whole(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "log").write_bytes(data)
    with pytest.raises(Unreadable, match="log: "):
        audit_log.read([audit_log.Source(str(tmp_path / "log"))])


def test_what_another_user_wrote_to_the_journal_is_no_record() -> None:
    record = RECORDS[0]
    assert audit_log.parse(as_journal(record)) is not None
    for uid in ("1000", "65534"):
        assert audit_log.parse(as_journal(record, _UID=uid)) is None


@pytest.mark.parametrize("data", [b"", b"\n", b"not one record\n", as_journal(RECORDS[0], _UID="1000")])
def test_a_log_without_a_record_is_an_error(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "log").write_bytes(data)
    sources = [audit_log.Source(str(tmp_path / "log"))]
    for read in (audit_log.read, audit_log.used_filters):
        with pytest.raises(Unreadable, match="no audit record"):
            read(sources)


def test_an_empty_file_beside_a_full_one_is_none(tmp_path: Path) -> None:
    """logrotate(8) has just made it."""
    (tmp_path / "log").touch()
    (tmp_path / "log.1").write_bytes(LINES)
    names = [audit_log.Source(str(tmp_path / name)) for name in ("log.1", "log")]
    assert len(audit_log.read(names).records) == 50


def test_rotated_files_the_oldest_first(tmp_path: Path) -> None:
    for age, name in enumerate(
        ("a.log", "a.log.1", "a.log-20260101.xz", "a.log.3.gz", "a.log.new", "b.log.1")
    ):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (1e9 - age, 1e9 - age))
    found = [os.path.basename(name) for name in audit_log.rotated(str(tmp_path / "a.log"))]
    assert found == ["a.log.3.gz", "a.log-20260101.xz", "a.log.1", "a.log"]
