"""Whoever floods the daemon takes nothing from others, and it comes back as it was."""

import contextlib
import os
import platform
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from rootwrap_daemon.client import Client
from rootwrap_daemon.errors import Busy, Denied, Error, OutputLimit, TooLarge, Unauthorized
from rootwrap_daemon.protocol.codec import HEADER
from tests.load import calls_go_on, flood, is_idle
from tests.processes import together
from tests.real_daemon import HELLO, Daemon, NewDaemon, frame, raw, settle, wait_for


@pytest.mark.root
def test_idle_flood_of_a_user_who_is_not_allowed(new_daemon: NewDaemon) -> None:
    daemon = new_daemon(socket_mode="0666")
    before = settle(daemon)
    with daemon.client() as client:
        with flood(daemon, 1500, uid=61111):
            calls_go_on(daemon, client, 20)
        calls_go_on(daemon, client)
    wait_for(lambda: settle(daemon) == before)


def test_idle_flood_of_the_allowed_user(daemon: Daemon) -> None:
    before = settle(daemon)
    with daemon.client() as client:
        assert client.run(["true"]).returncode == 0
        with flood(daemon, 1500):
            calls_go_on(daemon, client, 20)
            # Those that make room for others end a moment later.
            wait_for(lambda: daemon.threads() <= 520)
        calls_go_on(daemon, client)
    wait_for(lambda: settle(daemon) == before)
    wait_for(lambda: is_idle(daemon))


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="musl has no malloc_trim(3)")
def test_memory_of_a_burst_is_given_back(daemon: Daemon) -> None:
    """With an arena for each few threads, and what lies between what is in use, it keeps some 5 MiB."""

    def memory() -> int:
        status = Path(f"/proc/{daemon.pid}/status").read_text()
        return int(status.partition("RssAnon:")[2].split()[0])

    def ask() -> None:
        with daemon.client() as client:
            for size in (1000, 200_000) * 10:
                assert len(client.run(["sh", "-c", "cat"], input=bytes(size)).stdout) == size

    with daemon.client() as client:
        client.run(["sh", "-c", "true"])
    before = memory()
    together(threading.Thread(target=ask) for _ in range(32))
    wait_for(lambda: memory() < before + 2600, 60)


def test_denials_leave_no_trace_but_counts(daemon: Daemon) -> None:
    with daemon.client() as client:
        client.run(["true"])
        before = daemon.pid, *daemon.figures()
        for _ in range(10_000):
            with pytest.raises(Denied):
                client.run(["nope"])
        wait_for(lambda: (daemon.pid, *daemon.figures()) == before)
    daemon.stop()
    denied = [record for record in daemon.audit() if record["event"] == "denied"]
    repeated = [record["count"] for record in daemon.audit() if record["event"] == "repeated"]
    assert len(denied) < 1000
    assert len(denied) + sum(repeated) == 10_000


#: Connects as each of so many users in turn, and waits until the daemon has let go.
MANY_USERS = """
import os, socket, sys
path, first, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
os.setgroups([])
os.setegid(61000)
for uid in range(first, first + count):
    os.seteuid(uid)
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):
            pass
    os.seteuid(0)
"""


@pytest.mark.root
def test_nothing_is_kept_of_users_who_are_gone(new_daemon: NewDaemon) -> None:
    """An agent may have thousands of users, by subuid(5), in a group that may ask."""
    daemon = new_daemon(socket_mode="0666", allowed_groups="61000")

    def connect(first: int, count: int) -> None:
        subprocess.run(
            [sys.executable, "-c", MANY_USERS, daemon.socket, str(first), str(count)], timeout=300, check=True
        )

    def memory() -> int:
        status = Path(f"/proc/{daemon.pid}/status").read_text()
        return int(status.partition("RssAnon:")[2].split()[0])

    connect(20000, 500)
    before = memory()
    connect(21000, 3000)
    # Each left 2.7 KiB.
    wait_for(lambda: memory() < before + 3000, 60)


def test_checks_hide_no_refusal(daemon: Daemon) -> None:
    """What costs nothing is recorded apart from what was to run."""
    with daemon.client() as client:
        for _ in range(200):
            assert not client.allows(["nope"])
        with pytest.raises(Denied):
            client.run(["nope", "at last"])
    daemon.stop()
    records = daemon.audit()
    assert [record["argv"] for record in records if record["event"] == "denied"] == [["nope", "at last"]]
    counts = [(record["of"], record["count"]) for record in records if record["event"] == "repeated"]
    assert {of for of, _ in counts} == {"check"}
    checks = sum(record["event"] == "check" for record in records)
    assert checks + sum(count for _, count in counts) == 200


@pytest.mark.root
def test_user_who_is_not_allowed_is_told_so(new_daemon: NewDaemon) -> None:
    daemon = new_daemon(socket_mode="0666", allowed_users="61112")
    with daemon.client() as client, pytest.raises(Unauthorized):
        client.run(["true"])
    assert daemon.audit()[0]["event"] == "unauthorized"


@pytest.mark.root
def test_group_of_the_peer_is_enough(new_daemon: NewDaemon) -> None:
    daemon = new_daemon(socket_mode="0666", allowed_users="61112", allowed_groups="61113")
    code = (
        "import sys, socket; s = socket.socket(socket.AF_UNIX); s.settimeout(60); s.connect(sys.argv[1])\n"
        "try: s.sendall(bytes.fromhex(sys.argv[2])); s.shutdown(socket.SHUT_WR)\n"
        "except OSError: pass\n"
        # What it had not read when it closed is ECONNRESET here, behind all that it said.
        "try:\n"
        " while data := s.recv(1000): print(data.hex(), end='')\n"
        "except ConnectionError: pass"
    )
    for groups, welcome in (([61113], True), ([61114], False)):
        done = subprocess.run(
            ["/usr/bin/python3", "-c", code, daemon.socket, HELLO.hex()],
            user=61115,
            group=61115,
            extra_groups=groups,
            capture_output=True,
            text=True,
            check=True,
        )
        assert (b"unauthorized".hex() in done.stdout) is not welcome


@contextlib.contextmanager
def running(client: Client, count: int, directory: Path) -> Iterator[None]:
    """So many commands run, until the end."""
    go_on = directory / "go-on"
    script = f"echo >> '{directory}/began'; until [ -e '{go_on}' ]; do sleep 0.02; done"
    threads = [threading.Thread(target=client.run, args=(["sh", "-c", script],)) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        wait_for(lambda: (directory / "began").exists() and (directory / "began").stat().st_size == count)
        yield
    finally:
        go_on.touch()
        for thread in threads:
            thread.join()


def test_commands_at_once_are_bounded_with_an_immediate_answer(new_daemon: NewDaemon, tmp_path: Path) -> None:
    daemon = new_daemon(max_commands_per_user="3")
    with daemon.client() as client:
        with running(client, 3, tmp_path), pytest.raises(Busy):
            client.run(["true"])
        assert client.run(["true"]).returncode == 0


def test_connections_in_use_are_not_ended_for_new_ones(new_daemon: NewDaemon, tmp_path: Path) -> None:
    daemon = new_daemon(max_connections_per_user="2", max_connections="4")
    with (
        daemon.client() as client,
        running(client, 2, tmp_path),
        daemon.client() as other,
        pytest.raises(Busy),
    ):
        other.run(["true"])


def test_limits_shrink_to_the_descriptors_there_are(new_daemon: NewDaemon) -> None:
    daemon = new_daemon(start=False)
    daemon.inside = ["prlimit", "--nofile=512:512"]
    daemon.start()
    assert "fewer than the limits need" in daemon.log
    with flood(daemon, 300), daemon.client() as client:
        calls_go_on(daemon, client)
    settle(daemon)


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.0\r\n\r\n",
        HEADER.pack(2**32 - 1),
        frame({"a": 1}),
        frame([1, [b"true"], [], None, None]),
        frame([0, 1, 1 << 20]),
        HELLO + frame([1, ["true"], [], None, None]),
        HELLO + frame([1, [b"true", 1], [], None, None]),
        HELLO + frame([1, [], [], None, None]),
        HELLO + frame([1, [b"true\0"], [], None, None]),
        HELLO + frame([1, {b"0": b"true"}, [], None, None]),
        HELLO + frame([1, [b"true"], {b"A": b"b"}, None, None]),
        HELLO + frame([1, [b"true"], [[b"A", b"1"], [b"A", b"2"]], None, None]),
        HELLO + frame([1, [b"true"], [], None, -5]),
        HELLO + frame([1, [b"true"], [], None, True]),
        HELLO + frame([4, "id", 0, b"", b""]),
        HELLO + HELLO,
        HELLO + b"\xff" * 100,
    ],
)
def test_what_is_not_the_protocol_is_answered_once_and_closed(daemon: Daemon, data: bytes) -> None:
    before = settle(daemon)
    answers = raw(daemon, data)
    assert answers.count(b"bad_request") + answers.count(b"too_large") == 1
    wait_for(lambda: settle(daemon) == before)


def test_other_version_is_told_which_is_spoken(daemon: Daemon) -> None:
    answers = raw(daemon, frame([0, 7, 1 << 20, 0, "something new"]))
    assert b"protocol version 7 is not spoken here, 1 is" in answers


def test_descriptors_are_never_taken(daemon: Daemon) -> None:
    before = settle(daemon)
    for count in (1, 2, 100, 253):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(60)
            connection.connect(daemon.socket)
            reader, writer = os.pipe()
            # Its own connection among them: a cycle is how such descriptors leak (CVE-2014-3637).
            passed = [connection.fileno()] + [reader] * (count - 1)
            socket.send_fds(connection, [HELLO + frame([1, [b"true"], [], None, None])], passed)
            answers = b""
            while chunk := connection.recv(65536):
                answers += chunk
            os.close(reader)
            os.close(writer)
            assert b"bad_request" in answers
    wait_for(lambda: settle(daemon) == before)
    assert [record["event"] for record in daemon.audit()] == ["bad_request"] * 4


def test_names_of_client_sockets_mean_nothing(daemon: Daemon, tmp_path: Path) -> None:
    # Abstract names are the whole host's.
    for name in (f"{tmp_path}/;uid=0;", f"\0{tmp_path};uid=0;pid=1", f"{tmp_path}/a\nb"):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.bind(name)
            connection.connect(daemon.socket)
            connection.sendall(HELLO + frame([2, [b"true"], []]))
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(1000):
                pass
    assert len(daemon.audit()) == 3
    assert {record["uid"] for record in daemon.audit()} == {0}


def test_request_past_the_limit_is_refused_by_both_sides(daemon: Daemon, client: Client) -> None:
    with pytest.raises(TooLarge):
        client.run(["cat"], input=bytes(17 * 1024 * 1024))
    assert b"too_large" in raw(daemon, HELLO + HEADER.pack(18 * 1024 * 1024 + 70000))


def test_bytes_held_in_all_are_bounded(new_daemon: NewDaemon) -> None:
    daemon = new_daemon(max_buffered="2000000", max_output="8000000")
    with daemon.client() as client:
        # One user has half of it. A command that began is never said not to have run.
        with pytest.raises(OutputLimit):
            client.run(["sh", "-c", "head -c 1500000 /dev/zero"])
        with pytest.raises(Busy):
            client.run(["cat"], input=bytes(1_500_000))
        # What was held is given back.
        for _ in range(5):
            assert len(client.run(["sh", "-c", "head -c 900000 /dev/zero"]).stdout) == 900_000


def test_daemon_out_of_processes_fails_that_request_alone(daemon: Daemon) -> None:
    with daemon.client() as client:
        client.run(["true"])
        subprocess.run(["prlimit", f"--pid={daemon.pid}", "--nofile=12:4096"], check=True)
        outcomes = set()
        for _ in range(5):
            try:
                client.run(["true"])
                outcomes.add("ok")
            except Error as error:
                outcomes.add(error.code)
        # "busy" where the connection itself could not be had.
        assert outcomes <= {"internal", "busy"}
        assert outcomes
        subprocess.run(["prlimit", f"--pid={daemon.pid}", "--nofile=4096:4096"], check=True)
        assert client.run(["true"]).returncode == 0
