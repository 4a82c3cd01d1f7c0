"""Every command that was recorded to run has its end recorded, whatever its client says or does not read."""

import collections
import contextlib
import json
import os
import random
import signal
import socket
import threading
import time

import pytest

from rootwrap_daemon.protocol.client_side import ClientExchange
from rootwrap_daemon.protocol.codec import encode
from rootwrap_daemon.protocol.messages import (
    MAX_ANSWER_FRAME,
    STDIN,
    STDOUT,
    VERSION,
    Cancel,
    Check,
    Hello,
    Report,
    Run,
    Signal,
    Start,
    Status,
)
from tests.processes import together
from tests.real_daemon import HELLO, Daemon, NewDaemon, frame, states_of, wait_for


def connect(daemon: Daemon) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(60)
    connection.connect(daemon.socket)
    return connection


def counts(daemon: Daemon) -> collections.Counter[str]:
    return collections.Counter(record["event"] for record in daemon.audit())


def ended(daemon: Daemon) -> bool:
    found = counts(daemon)
    return found["run"] == found["end"]


@pytest.mark.parametrize(
    "more",
    [
        pytest.param(b"", id="gone"),
        pytest.param(b"\0", id="a byte"),
        pytest.param(b"\0\0\0\2\x91\x05", id="a message of another type"),
        pytest.param(encode(Cancel()) + b"\xff" * 9, id="a cancel and a frame too long"),
        pytest.param(encode(Run((b"true",))), id="a second request"),
        pytest.param(encode(Signal(15)), id="a signal too early"),
        pytest.param(encode(Cancel()) * 50, id="cancels"),
        pytest.param(HELLO, id="a second hello"),
    ],
)
@pytest.mark.parametrize("read", [True, False])
def test_what_comes_behind_a_start(new_daemon: NewDaemon, more: bytes, read: bool) -> None:
    """And the command is given its grace: it wrote what it wanted to write when it was told to end."""
    daemon = new_daemon(kill_grace="60")
    for turn in range(5):
        mark = daemon.directory / f"mark{turn}"
        script = f"trap 'touch {mark}; exit 0' TERM; touch {mark}.up; while :; do sleep 0.01; done".encode()
        ends = [*os.pipe(), *os.pipe()]
        with connect(daemon) as connection:
            connection.sendall(HELLO)
            if read:
                connection.recv(65536)
            start = encode(Start((b"sh", b"-c", script), (), STDIN | STDOUT))
            socket.send_fds(connection, [start], [ends[0], ends[3]])
            wait_for(mark.with_suffix(".up").exists)
            connection.sendall(more)
        for end in ends:
            os.close(end)
        wait_for(lambda: ended(daemon))
        wait_for(mark.exists)
    assert counts(daemon)["run"] == 5
    assert "Traceback" not in daemon.log


@pytest.mark.parametrize("more", [b"", b"\0", encode(Cancel()), encode(Cancel()) + b"\0", encode(Signal(15))])
def test_what_comes_with_a_start_from_a_client_that_leaves(daemon: Daemon, more: bytes) -> None:
    ends = os.pipe()
    for _ in range(20):
        with connect(daemon) as connection:
            connection.sendall(HELLO)
            connection.recv(65536)
            socket.send_fds(connection, [encode(Start((b"sleep", b"1000"), (), STDIN)) + more], [ends[0]])
    for end in ends:
        os.close(end)
    wait_for(lambda: counts(daemon)["run"] == 20 and ended(daemon))
    assert "Traceback" not in daemon.log


def checks(daemon: Daemon) -> int:
    """How many checks were answered so far, or are about to be."""
    with connect(daemon) as connection:
        connection.sendall(HELLO + encode(Status()))
        exchange = ClientExchange()
        exchange.send(Hello(VERSION, MAX_ANSWER_FRAME))
        exchange.send(Status())
        while True:
            exchange.feed(connection.recv(65536))
            while (message := exchange.next_message()) is not None:
                if isinstance(message, Report):
                    found: int = json.loads(message.report)["counters"].get("check", {}).get("allowed", 0)
                    return found


def test_answers_that_are_not_read_hold_no_deadline(new_daemon: NewDaemon) -> None:
    """The socket is full: what is said about a command must not be waited for while it runs."""
    daemon = new_daemon(
        "[Filters]\nsleep: CommandFilter, sleep, root\ntrue: CommandFilter, true, root\n"
        "[sleep]\ntimeout = 1\n",
        request_timeout="600",
    )
    check = encode(Check((b"true",), ()))
    start = encode(Start((b"sleep", b"1000"), (), STDIN))
    ends = os.pipe()
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(connect(daemon))
        first.sendall(HELLO + check * 1000)
        # How many answers a socket takes that nobody reads.
        looks: list[int] = []
        while len(looks) < 10 or len(set(looks[-10:])) > 1:
            time.sleep(0.1)
            # Unless one of its threads has not had its turn.
            is_idle = states_of(daemon.pid) == {"S"}
            looks = [*looks, checks(daemon)] if is_idle else []
        fit = looks[-1]
        assert 10 < fit < 1000
        for less in range(5):
            connection = stack.enter_context(connect(daemon))
            connection.sendall(HELLO + check * (fit - less))
            wait_for(lambda less=less: checks(daemon) >= fit * (less + 2) - less * (less + 1) // 2)
            socket.send_fds(connection, [start], [ends[0]])
        wait_for(lambda: counts(daemon)["run"] >= 3)
        wait_for(lambda: ended(daemon))
    for end in ends:
        os.close(end)
    found = [record for record in daemon.audit() if record["event"] == "end"]
    assert {record["code"] for record in found} == {"timeout"}
    # It was 1 s, and as much as a busy machine takes; not the 600 s that a client may take to read.
    assert max(record["milliseconds"] for record in found) < 300_000


def play(daemon: Daemon, choose: random.Random, seconds: float) -> None:
    """A client that says anything in any order, cut anywhere, with or without reading."""
    until = time.monotonic() + seconds
    requests = [
        encode(Run((b"true",))),
        encode(Run((b"sh", b"-c", b"exit 3"), (), b"x" * 3000)),
        encode(Run((b"sleep", b"0.05"), (), None, 20)),
        encode(Run((b"no-such-command",))),
        encode(Check((b"true",), ())),
        encode(Cancel()),
        encode(Signal(15)),
        encode(Status()),
        frame([9, 9]),
        b"\0\0",
        HELLO,
    ]
    while time.monotonic() < until:
        ends = os.pipe()
        try:
            with connect(daemon) as connection:
                connection.settimeout(choose.choice((0.01, 2)))
                if choose.random() < 0.9:
                    connection.sendall(HELLO)
                for _ in range(choose.randint(1, 6)):
                    if choose.random() < 0.3:
                        argv = (b"sh", b"-c", choose.choice((b"exec sleep 0.1", b"exit 1")))
                        more = choose.choice((b"", b"", b"\0", encode(Cancel()), encode(Signal(1))))
                        socket.send_fds(connection, [encode(Start(argv, (), STDIN)) + more], [ends[0]])
                        if choose.random() < 0.3:
                            break
                    else:
                        data = choose.choice(requests)
                        connection.sendall(data[: choose.choice((len(data), choose.randint(1, len(data))))])
                    if choose.random() < 0.5:
                        connection.recv(65536)
                    if choose.random() < 0.2:
                        connection.shutdown(choose.choice((socket.SHUT_WR, socket.SHUT_RD)))
        except OSError:
            pass
        finally:
            for end in ends:
                os.close(end)


def test_random_clients(new_daemon: NewDaemon) -> None:
    daemon = new_daemon(request_timeout="1")
    seconds = float(os.environ.get("ROOTWRAP_TEST_SECONDS", "3"))
    together(
        threading.Thread(target=play, args=(daemon, random.Random(number), seconds)) for number in range(10)
    )
    wait_for(lambda: ended(daemon))
    found: dict[str, list[str]] = {}
    for record in daemon.audit():
        if record["event"] in ("run", "end"):
            found.setdefault(record["id"], []).append(record["event"])
    assert found
    assert all(events == ["run", "end"] for events in found.values())
    assert "Traceback" not in daemon.log
    assert "failed" not in daemon.log
    wait_for(lambda: not daemon.children())
    daemon.stop(signal.SIGTERM)
