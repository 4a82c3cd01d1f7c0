"""daemon/record/sinks.py: a file reopened while threads write; standard error that nobody reads."""

import contextlib
import errno
import fcntl
import json
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from rootwrap_daemon.daemon.record.audit import Audit
from rootwrap_daemon.daemon.record.sinks import File, StandardError
from rootwrap_daemon.errors import InternalError
from rootwrap_daemon.policy import host
from tests.audit_records import try_record, write_record
from tests.processes import our_descriptors, together

OWNERS = host.base_owners()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.log"


# A file that is rotated


def test_reopened_records_go_to_the_new_file(path: Path) -> None:
    audit = Audit(str(path), required=True, owners=OWNERS)
    write_record(audit, "one")
    old = path.rename(path.with_suffix(".1"))
    audit.reopen()
    write_record(audit, "two")
    audit.close()
    assert [json.loads(line)["event"] for line in old.read_text().splitlines()] == ["one"]
    assert [json.loads(line)["event"] for line in path.read_text().splitlines()] == ["two"]
    assert path.stat().st_mode & 0o777 == 0o600


def test_reopened_while_threads_write(path: Path) -> None:
    """Each record once, in a file of the log: none lost, none in a file that got the old one's number."""
    audit = Audit(str(path), required=True, owners=OWNERS)
    stop = threading.Event()
    written = [0] * 4

    def write(number: int) -> None:
        while not stop.is_set():
            write_record(audit, "run", id=f"{number}-{written[number]}")
            written[number] += 1

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    stray = path.with_suffix(".stray")
    for turn in range(200):
        path.rename(path.with_suffix(f".{turn}"))
        audit.reopen()
        # Takes every number that was closed meanwhile.
        with stray.open("ab"), stray.open("ab"):
            pass
    stop.set()
    for thread in threads:
        thread.join()
    audit.close()
    assert stray.stat().st_size == 0
    found = [
        json.loads(line)["id"] for file in path.parent.iterdir() for line in file.read_text().splitlines()
    ]
    assert sum(written) > 200
    assert sorted(found) == sorted(f"{number}-{one}" for number in range(4) for one in range(written[number]))


@pytest.mark.parametrize("in_the_way", ["directory", "link", "writable parent"])
def test_a_new_file_that_cannot_be_opened(
    path: Path, caplog: pytest.LogCaptureFixture, in_the_way: str
) -> None:
    audit = Audit(str(path), required=True, owners=OWNERS)
    old = path.rename(path.with_suffix(".1"))
    if in_the_way == "directory":
        path.mkdir()
    elif in_the_way == "link":
        path.symlink_to("elsewhere")
    else:
        path.parent.chmod(0o777)
    before = our_descriptors()
    audit.reopen()
    assert our_descriptors() <= before
    write_record(audit, "still")
    audit.close()
    assert json.loads(old.read_text())["event"] == "still"
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "where they went before" in caplog.text


def test_reopened_files_stay_ours_alone(path: Path) -> None:
    """A command must not inherit it: dup2(2) without O_CLOEXEC would hand it on."""
    sink = File(str(path), OWNERS, regular=True)
    sink.reopen()
    assert not os.get_inheritable(sink._descriptor)
    sink.close()


# Standard error


@contextlib.contextmanager
def unread_pipe() -> Iterator[int]:
    """Our descriptor 2 is a full pipe; the end that would be read. Not a fixture: pytest changes 2 after."""
    kept = os.dup(2)
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    os.dup2(writer, 2)
    os.close(writer)
    os.write(2, b"x" * 4096)
    try:
        yield reader
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(reader)


def test_a_pipe_that_nobody_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many threads at once: between poll(2) and write(2) of one, another may have filled the pipe."""
    monkeypatch.setattr("rootwrap_daemon.daemon.record.audit._PATIENCE", 0.05)
    with unread_pipe() as unread:
        audit = Audit("", required=True, owners=OWNERS)
        outcomes: list[str] = []

        def write() -> None:
            for _ in range(20):
                try:
                    write_record(audit, "run", id="x" * 2000)
                    outcomes.append("written")
                except InternalError:
                    outcomes.append("refused")

        together(threading.Thread(target=write, daemon=True) for _ in range(8))
        assert outcomes == ["refused"] * 160
        assert os.get_blocking(2), "what others share was changed"
        assert os.read(unread, 65536) == b"x" * 4096
        write_record(audit, "run", id="again")
        assert json.loads(os.read(unread, 65536))["id"] == "again"
        audit.close()


def test_standard_error_is_a_socket() -> None:
    """What systemd gives a service; such one cannot be opened anew."""
    kept = os.dup(2)
    ours, theirs = socket.socketpair()
    try:
        os.dup2(theirs.fileno(), 2)
        sink = StandardError()
        sink.put(b"one\n", 0)
        assert ours.recv(100) == b"one\n"
        with pytest.raises(TimeoutError):
            for _ in range(100_000):
                sink.put(b"x" * 4096, 0)
        assert os.get_blocking(2)
        sink.close()
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        ours.close()
        theirs.close()


def test_a_pipe_that_cannot_be_opened_anew() -> None:
    def refuse(*arguments: object) -> int:
        raise PermissionError(errno.EACCES, "no")

    with unread_pipe():
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "open", refuse)
            sink = StandardError()
        with pytest.raises(TimeoutError):
            sink.put(b"one\n", 0)
        sink.close()


# A file that somebody does something about


def events(path: Path) -> list[str]:
    return [json.loads(line)["event"] for line in path.read_text().splitlines()]


def test_a_torn_record_is_alone_on_its_line_after_a_restart(path: Path) -> None:
    path.write_bytes(b'{"event": "whole"}\n{"event": "to')
    for event in ("one", "two"):
        audit = Audit(str(path), required=True, owners=OWNERS)
        write_record(audit, event)
        audit.close()
    lines = path.read_bytes().splitlines()
    assert lines[:2] == [b'{"event": "whole"}', b'{"event": "to']
    assert [json.loads(line)["event"] for line in lines[2:]] == ["one", "two"]


def test_a_torn_record_is_alone_on_its_line_after_a_reload(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    audit = Audit(str(path), required=True, owners=OWNERS)
    write = os.write
    with monkeypatch.context() as full:
        full.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:9]))
        with pytest.raises(InternalError):
            write_record(audit, "lost")
    audit.reopen()
    write_record(audit, "one")
    audit.close()
    first, second = path.read_bytes().splitlines()
    assert len(first) == 9
    assert json.loads(second)["event"] == "one"


@pytest.mark.parametrize("style", ["deleted", "renamed", "replaced", "copied and truncated", "moved onto"])
def test_any_style_of_rotation_without_a_signal(path: Path, style: str) -> None:
    audit = Audit(str(path), required=True, owners=OWNERS)
    write_record(audit, "one")
    old = path.with_suffix(".1")
    if style == "deleted":
        path.unlink()
    elif style == "renamed":
        path.rename(old)
    elif style == "replaced":
        path.rename(old)
        path.touch(0o600)
    elif style == "moved onto":
        path.with_suffix(".new").touch(0o600)
        path.with_suffix(".new").rename(path)
    else:
        old.write_bytes(path.read_bytes())
        os.truncate(path, 0)
    write_record(audit, "two")
    audit.close()
    assert events(path) == ["two"]
    if old.exists():
        assert events(old) == ["one"]


def test_a_deleted_file_that_cannot_be_made_anew(path: Path) -> None:
    """A record would go where nobody can ever read it: that counts as not written."""
    path.parent.chmod(0o755)
    audit = Audit(str(path), required=True, owners=OWNERS)
    path.unlink()
    path.mkdir()
    with pytest.raises(InternalError):
        write_record(audit, "run")
    path.rmdir()
    write_record(audit, "run")
    audit.close()
    assert events(path) == ["run"]


def test_every_record_while_the_file_is_deleted_and_renamed(path: Path) -> None:
    """Without a signal: nothing is lost but what is deleted, and that is deleted after it was written."""
    audit = Audit(str(path), required=True, owners=OWNERS)
    stop = threading.Event()
    written = [0] * 3

    def write(number: int) -> None:
        while not stop.is_set():
            write_record(audit, "run", id=f"{number}-{written[number]}")
            written[number] += 1

    threads = [threading.Thread(target=write, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for turn in range(200):
        with contextlib.suppress(FileNotFoundError):
            path.rename(path.with_suffix(f".{turn}"))
    stop.set()
    for thread in threads:
        thread.join()
    audit.close()
    found = [
        json.loads(line)["id"] for file in path.parent.iterdir() for line in file.read_text().splitlines()
    ]
    assert sorted(found) == sorted(f"{number}-{one}" for number in range(3) for one in range(written[number]))


def test_a_full_disk_that_empties_again_loses_no_end(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    audit = Audit(str(path), required=True, owners=OWNERS)
    write_record(audit, "run", id="a")
    with monkeypatch.context() as full:

        def no_space(descriptor: int, data: bytes) -> int:
            raise OSError(errno.ENOSPC, "full")

        full.setattr(os, "write", no_space)
        try_record(audit, "end", id="a")
        with pytest.raises(InternalError):
            write_record(audit, "run", id="b")
        audit.flush()
    audit.flush()
    write_record(audit, "run", id="c")
    audit.close()
    found = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(record["event"], record["id"]) for record in found] == [("run", "a"), ("end", "a"), ("run", "c")]
