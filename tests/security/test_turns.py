"""One user's flood of any message leaves the daemon to others: who makes it work pays with its own turn."""

import json
import multiprocessing.sharedctypes
import os
import resource
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from ctypes import c_int
from functools import partial

import pytest

from rootwrap_daemon.client import Client
from rootwrap_daemon.protocol.codec import encode
from rootwrap_daemon.protocol.messages import STDIN, Cancel, Check, Run, Signal, Start, Status
from tests.real_daemon import HELLO, Daemon, NewDaemon, frame, wait_for

#: A user of its own: what a flood has under way counts for all processes of its user, on the whole host
#: (ETOOMANYREFS), and other tests pass descriptors as `nobody`.
AGENT = 61113

pytestmark = pytest.mark.root

#: What is poured, each as often as the daemon takes it; whether a command of the client's runs meanwhile.
FLOODS = {
    "check": ([encode(Check((b"true",), ()))], False),
    "check, denied": ([encode(Check((b"no-such",), ()))], False),
    "run": ([encode(Run((b"true",)))], False),
    "run, denied": ([encode(Run((b"no-such",)))], False),
    "a large run": ([encode(Run((b"true", b"x" * 100_000)))], False),
    "a run of many words": ([encode(Run((b"true", *[b"--key=x"] * 2000)))], False),
    "status": ([encode(Status())], False),
    "cancel": ([encode(Cancel()) * 500], False),
    "signal": ([encode(Signal(15)) * 500], False),
    "hello again": ([HELLO], False),
    "no message": ([frame([99])], False),
    "a frame byte by byte": ([bytes((byte,)) for byte in encode(Check((b"true",), ()))], False),
    "cancels of a command": ([encode(Cancel()) * 500], True),
    "signals of a command": ([encode(Signal(10)) * 500], True),
    "signals that may not be sent": ([encode(Signal(19)) * 500], True),
}


#: How a Started begins: an array of four, its type.
_STARTED = b"\x94\x0a"


def connect(daemon: Daemon, running: bool) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(60)
    connection.connect(daemon.socket)
    connection.send(HELLO)
    if running:
        ends = os.pipe()
        script = b"trap '' USR1; exec sleep 1000"
        socket.send_fds(connection, [encode(Start((b"sh", b"-c", script), (), STDIN))], [ends[0]])
        for end in ends:
            os.close(end)
        answers = b""
        while _STARTED not in answers:
            answers += connection.recv(65536)
    connection.setblocking(False)
    return connection


def pour(daemon: Daemon, kind: str, count: int, taken: c_int) -> None:
    """On connections of the agent's, made again when the daemon ends them; for ever."""
    pieces, running = FLOODS[kind]
    connections: list[socket.socket | None] = [None] * count
    while True:
        for place, one in enumerate(connections):
            connection = one
            try:
                if connection is None:
                    connections[place] = connection = connect(daemon, running)
                for piece in pieces:
                    connection.send(piece)
                    taken.value += 1
                connection.recv(1 << 16)
            except BlockingIOError:
                pass
            except OSError:
                if connection is not None:
                    connection.close()
                connections[place] = None


def connected(path: str) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(path)
    return connection


def reconnect(path: str) -> None:
    """Connect, say hello, leave; for ever."""
    while True:
        with suppress(OSError), connected(path) as connection:
            connection.send(HELLO)
            connection.recv(100)


def many(path: str, then: Callable[[socket.socket], object] = lambda connection: None) -> None:
    """Open 1,500 connections, do something with each, and leave them; for ever."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (20_000, 20_000))
    while True:
        held = []
        for _ in range(1500):
            with suppress(OSError):
                held.append(connected(path))
                then(held[-1])
        for one in held:
            one.close()


ARRIVALS: dict[str, Callable[[str], None]] = {"reconnect": reconnect, "many": many}


@contextmanager
def agents(work: Callable[..., None], *arguments: object) -> Iterator[None]:
    """The agent does this in a process of its own: it takes nothing from who measures but the processor."""

    def as_agent() -> None:
        os.setgroups([])
        os.setgid(AGENT)
        os.setuid(AGENT)
        work(*arguments)

    process = multiprocessing.get_context("fork").Process(target=as_agent)
    process.start()
    try:
        yield
        assert process.is_alive()
    finally:
        process.kill()
        process.join()


@contextmanager
def flood(daemon: Daemon, kind: str, connections: int) -> Iterator[c_int]:
    """The number of writes that the daemon took: that there is a flood at all."""
    # Without a lock, which a process that is killed could take with it.
    taken = multiprocessing.sharedctypes.RawValue(c_int, 0)
    with agents(pour, daemon, kind, connections, taken):
        yield taken


@contextmanager
def other_user(daemon: Daemon) -> Iterator[Client]:
    with daemon.client() as client:
        client.run(["true"])
        yield client


def work(daemon: Daemon, seconds: float) -> None:
    """Wait until it has worked so long: by then it is in the flood."""
    until = daemon.cpu_seconds() + seconds
    wait_for(lambda: daemon.cpu_seconds() >= until)


def served(daemon: Daemon, call: Callable[[], None], enough: int, seconds: float) -> int:
    """How many calls of another user, up to `enough`, are served before the daemon has worked so long.

    Whatever else this machine is busy with takes nothing of that.
    """
    work(daemon, 0.2)
    count, until = 0, daemon.cpu_seconds() + seconds
    while count < enough and daemon.cpu_seconds() < until:
        call()
        count += 1
    return count


def run(client: Client) -> None:
    assert client.run(["true"], timeout=60).returncode == 0


@pytest.fixture
def daemon(new_daemon: NewDaemon) -> Daemon:
    return new_daemon(
        allowed_users=f"root, {AGENT}",
        max_connections_per_user="600",
        signals="TERM, USR1",
        socket_mode="0666",
    )


@pytest.mark.parametrize("kind", FLOODS)
def test_a_flood_of_one_user_leaves_others_served(daemon: Daemon, kind: str) -> None:
    """Shown by counts: while one pours, the other's commands go on, none refused or ended."""
    with other_user(daemon) as client, flood(daemon, kind, 100) as taken:
        times = served(daemon, partial(run, client), enough=20, seconds=8)
    assert taken.value
    # Without turns it is one command in seconds.
    assert times == 20
    assert "Traceback" not in daemon.log


@pytest.mark.parametrize("kind", ARRIVALS)
def test_connections_of_one_user_leave_the_door_open_to_others(daemon: Daemon, kind: str) -> None:
    """Shown by counts: while one comes and goes, another's new connections are served, each at once."""

    def call() -> None:
        with daemon.client() as client:
            run(client)

    with agents(ARRIVALS[kind], daemon.socket), agents(ARRIVALS[kind], daemon.socket):
        times = served(daemon, call, enough=8, seconds=6)
    # Where a thread waits at the door for each of the first user's, it is two or three.
    assert times == 8
    assert "Traceback" not in daemon.log


def test_what_may_not_be_said_is_recorded_within_bounds(daemon: Daemon) -> None:
    with flood(daemon, "cancel", 40):
        work(daemon, 0.5)
    daemon.stop()
    lines = (daemon.directory / "audit.jsonl").read_text().splitlines()
    found = [record for line in lines if (record := json.loads(line))["event"] == "bad_request"]
    assert found
    assert {record["uid"] for record in found} == {AGENT}
    assert "Cancel" in found[0]["detail"]
    assert len(lines) < 400
