"""Audit records are read back as what was asked, byte for byte, or not at all."""

import json
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
    return audit_log.read([str(path)])


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
    log = audit_log.read([str(tmp_path / "log")])
    assert len(log.records) == 1
    assert log.left_out == {"lines that are no record": 1}


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match="nothing"):
        audit_log.read([str(tmp_path / "nothing")])
