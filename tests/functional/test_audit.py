"""The audit log of a real daemon: rotated under load, into a journal, and when nobody takes it."""

import collections
import fcntl
import json
import os
import select
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from rootwrap_daemon.errors import Denied, InternalError
from tests.processes import together
from tests.real_daemon import ROOT, START, Daemon, NewDaemon, wait_for


def test_rotation_under_load(daemon: Daemon) -> None:
    """Rename, then SIGHUP, as logrotate does: each run has its two records, in one of the files."""
    path = daemon.directory / "audit.jsonl"
    stop = threading.Event()
    ran: list[int] = []

    def run() -> None:
        with daemon.client() as client:
            count = 0
            while not stop.is_set():
                client.run(["true"])
                count += 1
            ran.append(count)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for turn in range(8):
        path.rename(daemon.directory / f"audit.{turn}")
        assert daemon.reload()
        wait_for(path.exists)
    stop.set()
    for thread in threads:
        thread.join()
    last = path.rename(daemon.directory / "audit.last")
    assert daemon.reload()
    before = last.read_bytes()
    with daemon.client() as client:
        client.run(["true"])
    assert last.read_bytes() == before
    found = collections.Counter(
        (record["event"], record["id"])
        for file in daemon.directory.glob("audit.*")
        for record in map(json.loads, file.read_text().splitlines())
    )
    assert set(found.values()) == {1}
    events = collections.Counter(event for event, _ in found)
    assert events == {"run": sum(ran) + 1, "end": sum(ran) + 1}
    assert len(ran) == 4


def test_rotation_that_fails_is_said(daemon: Daemon) -> None:
    path = daemon.directory / "audit.jsonl"
    old = path.rename(daemon.directory / "audit.old")
    path.mkdir()
    assert daemon.reload()
    assert "the audit log is not reopened" in daemon.log
    with daemon.client() as client:
        assert client.run(["true"]).returncode == 0
    assert len(old.read_text().splitlines()) == 2


# A journal of our own, at the journal's place: a real one is asked where a real systemd runs.


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[socket.socket]:
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listening.bind(str(tmp_path / "socket"))
    listening.settimeout(60)
    yield listening
    listening.close()


IN_ITS_PLACE = (
    "mount -t tmpfs -o mode=0755 none /run && mkdir -p /run/systemd/journal && "
    'mount --bind "$0" /run/systemd/journal && exec "$@"'
)


def with_journal(new_daemon: NewDaemon, journal: socket.socket) -> Daemon:
    directory = os.path.dirname(journal.getsockname())
    daemon = new_daemon(start=False, audit_file="journal", audit="best_effort", kill_grace="1")
    daemon.inside = ["unshare", "--mount", "sh", "-c", IN_ITS_PLACE, directory]
    daemon.start()
    return daemon


def test_records_in_a_journal(new_daemon: NewDaemon, journal: socket.socket) -> None:
    daemon = with_journal(new_daemon, journal)
    with daemon.client() as client:
        client.run(["sh", "-c", "true\n"], env={"GREETING": "a value"}, input=b"some input")
        with pytest.raises(Denied):
            client.run(["uname"])
    run, end, denied = (journal.recv(65536) for _ in range(3))
    assert b"ROOTWRAP_EVENT=run\n" in run and b'ROOTWRAP_ARGV=["sh", "-c", "true\\n"]\n' in run
    assert b"ROOTWRAP_EVENT=end\n" in end and b"ROOTWRAP_CODE=ok\n" in end
    assert b"ROOTWRAP_EVENT=denied\n" in denied and b"PRIORITY=5\n" in denied
    for datagram in (run, end, denied):
        assert b"a value" not in datagram and b"some input" not in datagram


def test_a_journal_that_takes_nothing(new_daemon: NewDaemon, journal: socket.socket) -> None:
    """It promises nothing: commands run without their records there, none waits for long."""
    daemon = with_journal(new_daemon, journal)
    with daemon.client() as client:
        while "cannot be written" not in daemon.log:
            assert client.run(["true"]).returncode == 0
        journal.setblocking(False)
        with pytest.raises(BlockingIOError):
            while True:
                journal.recv(65536)
        assert client.run(["true"]).returncode == 0


# Standard error that nobody reads


def start_on_a_pipe(daemon: Daemon) -> int:
    """Start it with a small pipe as standard error, read until it listens; the end to read."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    daemon.process = subprocess.Popen(
        [
            *([] if ROOT else ["unshare", "--user", "--map-root-user"]),
            *START,
            "--config-file",
            str(daemon.config),
        ],
        stdin=subprocess.DEVNULL,
        stderr=writer,
        env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"},
    )
    daemon.pid = daemon.process.pid
    os.close(writer)
    said = b""
    while b"listening on" not in said:
        assert select.select([reader], [], [], 60)[0], said
        said += os.read(reader, 65536)
    return reader


def test_log_lines_that_nobody_reads(new_daemon: NewDaemon) -> None:
    """Each record that cannot be written is logged: more than a pipe holds. All is answered."""
    daemon = new_daemon(start=False, audit_file="/dev/full", audit="best_effort")
    reader = start_on_a_pipe(daemon)
    with daemon.client() as client:
        for _ in range(1500):
            assert client.allows(["true"]).allowed
        os.kill(daemon.pid, signal.SIGHUP)
        assert client.run(["true"]).returncode == 0
    said = b""
    # What waited is still written, one line a fault; the newest come last.
    while b"reloaded: generation 2" not in said:
        assert select.select([reader], [], [], 60)[0], said
        said += os.read(reader, 65536)
    assert said.startswith(b"2")
    assert daemon.stop() == 0
    os.close(reader)


def test_records_on_standard_error_that_nobody_reads(new_daemon: NewDaemon) -> None:
    """With `required` nothing runs without its record; who asks is told; the daemon can be stopped."""
    daemon = new_daemon(start=False, audit_file="")
    reader = start_on_a_pipe(daemon)
    marker = daemon.directory / "marker"
    refused = []

    def run() -> None:
        with daemon.client() as client:
            for _ in range(20):
                try:
                    client.run(["true"])
                except InternalError:
                    refused.append(1)
                    return

    together(threading.Thread(target=run, daemon=True) for _ in range(8))
    assert len(refused) == 8
    with daemon.client() as client:
        with pytest.raises(InternalError):
            client.run(["sh", "-c", f"touch {marker}"])
        assert not marker.exists()
        os.read(reader, 65536)
        assert client.run(["true"]).returncode == 0
    assert daemon.stop() == 0
    os.close(reader)
