"""daemon/record/journal.py: what a journal receives.

A socket of our own stands for it: what travels is the protocol, and only so can a journal be full, be gone,
or come back at a chosen moment. That the real one understands it is shown where a real systemd runs.
"""

import json
import os
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootwrap_daemon.daemon.record import audit as audit_module
from rootwrap_daemon.daemon.record import journal as module
from rootwrap_daemon.daemon.record.audit import Audit
from rootwrap_daemon.daemon.record.journal import Journal, encode
from rootwrap_daemon.daemon.record.lines import MAX_RECORD, line
from rootwrap_daemon.errors import ConfigurationError, InternalError
from rootwrap_daemon.policy import host
from tests.audit_records import write_record
from tests.processes import together

OWNERS = host.base_owners()


def decode(data: bytes) -> dict[str, bytes]:
    """The fields of a datagram, as the protocol's document says; refuses what it does not allow."""
    fields: dict[str, bytes] = {}
    while data:
        line, end, rest = data.partition(b"\n")
        assert end
        name, sign, value = line.partition(b"=")
        if not sign:
            (size,) = struct.unpack_from("<Q", rest)
            value, data = rest[8 : 8 + size], rest[8 + size + 1 :]
            assert rest[8 + size : 8 + size + 1] == b"\n"
        else:
            data = rest
        text = name.decode("ascii")
        assert text.isidentifier() and text == text.upper() and not text.startswith("_") and len(text) <= 64
        assert text not in fields
        fields[text] = value
    return fields


def bind(path: str) -> socket.socket:
    one = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    one.bind(path)
    one.settimeout(60)
    return one


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "socket")


@pytest.fixture
def journal(path: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A listening journal, at the place where audit.py looks for one."""
    listening = bind(path)
    monkeypatch.setattr(audit_module, "Journal", lambda owners: Journal(owners, path))
    yield listening
    listening.close()


def new_audit(*, required: bool = True) -> Audit:
    return Audit("journal", required=required, owners=OWNERS)


def test_fields(journal: socket.socket) -> None:
    audit = new_audit()
    write_record(audit, "run", id="ab-1", uid=5, filter=None, argv=("ip", "link", "set", "x y"), env=["A"])
    audit.close()
    assert decode(journal.recv(65536)) == {
        "MESSAGE": b'run: ip link set "x y" (user 5, id ab-1)',
        "PRIORITY": b"6",
        "SYSLOG_IDENTIFIER": b"rootwrap-daemon",
        "ROOTWRAP_EVENT": b"run",
        "ROOTWRAP_ID": b"ab-1",
        "ROOTWRAP_UID": b"5",
        "ROOTWRAP_ARGV": b'["ip", "link", "set", "x y"]',
        "ROOTWRAP_ENV": b'["A"]',
    }


@pytest.mark.parametrize(
    ("event", "values", "priority"),
    [
        ("end", {"code": "timeout"}, b"6"),
        ("check", {"code": "allowed"}, b"6"),
        ("check", {"code": "denied"}, b"5"),
        ("denied", {}, b"5"),
        ("unauthorized", {}, b"5"),
    ],
)
def test_priorities(event: str, values: dict[str, object], priority: bytes) -> None:
    assert decode(encode({"event": event, **values}))["PRIORITY"] == priority


@given(st.lists(st.text(max_size=40), max_size=5).map(tuple), st.text(max_size=300), st.text(max_size=50))
def test_nobody_forges_a_field(argv: tuple[str, ...], detail: str, name: str) -> None:
    """Whatever a client says is inside one value, and MESSAGE is one printable line."""
    argv = (*argv, "x\nROOTWRAP_UID=0\n")
    record = json.loads(line({"event": "denied", "uid": 7, "argv": argv, "detail": detail, "filter": name}))
    fields = decode(encode(record))
    assert fields["ROOTWRAP_UID"] == b"7"
    assert json.loads(fields["ROOTWRAP_ARGV"]) == record["argv"]
    assert fields["ROOTWRAP_DETAIL"].decode() == detail.encode("utf-8", "backslashreplace").decode()
    assert all(0x20 <= byte < 0x7F for byte in fields["MESSAGE"])


def test_no_record_needs_more_than_a_datagram(journal: socket.socket) -> None:
    audit = new_audit()
    write_record(audit, "run", id="x", argv=("\udcff" * 131071,) * 3, detail="\x01" * 400)
    audit.close()
    data = journal.recv(1 << 20)
    assert len(data) < 4 * MAX_RECORD
    assert decode(data)["ROOTWRAP_ARGV_WORDS"] == b"3"


@pytest.mark.parametrize("required", [True, False])
def test_a_journal_that_takes_nothing(
    journal: socket.socket, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, required: bool
) -> None:
    """Its queue is full: whoever must have a record is refused, many threads at once, and none hangs."""
    monkeypatch.setattr(audit_module, "_PATIENCE", 0.05)
    audit = new_audit(required=required)
    most = 100_000
    while not caplog.records and most:
        audit.denied("denied", most)
        most -= 1
    assert most, "the queue never was full"
    outcomes: list[str] = []

    def write() -> None:
        try:
            write_record(audit, "run", id="one")
            outcomes.append("went on")
        except InternalError:
            outcomes.append("refused")

    together(threading.Thread(target=write, daemon=True) for _ in range(8))
    assert outcomes == ["refused" if required else "went on"] * 8
    # What was refused a record before comes first.
    for _ in range(4):
        journal.recv(65536)
    write_record(audit, "run", id="two")
    audit.close()


def test_a_busy_journal_is_waited_for(journal: socket.socket, caplog: pytest.LogCaptureFixture) -> None:
    audit = new_audit()
    reader = threading.Thread(target=lambda: [journal.recv(65536) for _ in range(2000)])
    reader.start()
    for number in range(2000):
        write_record(audit, "run", id=str(number))
    reader.join(60)
    audit.close()
    assert not caplog.records


def test_a_journal_that_is_gone_and_comes_back(journal: socket.socket, path: str) -> None:
    audit = new_audit()
    write_record(audit, "run", id="one")
    journal.close()
    with pytest.raises(InternalError):
        write_record(audit, "run", id="two")
    os.unlink(path)
    with pytest.raises(InternalError):
        write_record(audit, "run", id="three")
    again = bind(path)
    write_record(audit, "run", id="four")
    assert decode(again.recv(65536))["ROOTWRAP_ID"] == b"four"
    audit.reopen()
    write_record(audit, "run", id="five")
    assert decode(again.recv(65536))["ROOTWRAP_ID"] == b"five"
    again.close()
    audit.close()


def test_no_journal(path: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="audit_file = journal"):
        Journal(OWNERS, path)
    one = bind(path)
    tmp_path.chmod(0o777)
    with pytest.raises(ConfigurationError, match="can be written"):
        Journal(OWNERS, path)
    one.close()


def test_the_place_is_systemds() -> None:
    assert module.SOCKET == "/run/systemd/journal/socket"
