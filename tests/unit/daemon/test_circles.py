"""No request leaves objects that hold each other, whose memory the collector would free at its time."""

import gc
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from rootwrap_daemon.client import Client
from rootwrap_daemon.daemon.serve.connection import turn_away
from rootwrap_daemon.daemon.serve.session import STRANGER, Session
from rootwrap_daemon.errors import Error, Unauthorized
from rootwrap_daemon.protocol.codec import encode
from rootwrap_daemon.protocol.messages import STDIN, Run, Signal, Start
from tests.bench.bytecodes import Served
from tests.real_daemon import HELLO, frame

LINES = (
    "theirs: CommandFilter, {0}/theirs, root",
    "broken: CommandFilter, {0}/broken, root",
    "missing: CommandFilter, no-such-program, root",
    "sh: CommandFilter, sh, root",
    "kill: KillFilter, root, sleep, -9",
    "ls: ArgvFilter, ls, root, {{path={0}}}",
    "id: RegExpFilter, id, root, id, (a|b)+",
)
NOTHING = MappingProxyType[str, Any]({})
REQUESTS: list[tuple[list[str], MappingProxyType[str, Any]]] = [
    (["true"], NOTHING),
    (["no-filter"], NOTHING),
    (["{0}/theirs"], NOTHING),
    (["{0}/broken"], NOTHING),
    (["no-such-program"], NOTHING),
    (["kill", "-9", "999999999"], NOTHING),
    (["ls", "{0}/.."], NOTHING),
    (["id", "c"], NOTHING),
    (["true"], MappingProxyType({"env": {"LD_PRELOAD": "x"}})),
    (["sh", "-c", "sleep 9"], MappingProxyType({"timeout": 0.01})),
    (["sh", "-c", "head -c 30000000 /dev/zero"], NOTHING),
]
#: Requests of one connection; what that leaves at its end is less than one object each.
COUNT = 20


def left_by(served: Served, call: Callable[[Client], object]) -> int:
    """Objects that the collector finds after COUNT calls."""

    def work(client: Client) -> None:
        for number in range(2 * COUNT):
            if number == COUNT:
                gc.collect()
            try:
                call(client)
            except Error:
                pass

    gc.disable()
    try:
        served.call(work, Session.serve)
        return gc.collect()
    finally:
        gc.enable()


@pytest.mark.parametrize(("argv", "options"), REQUESTS, ids=lambda one: str(one)[:40])
def test_of_requests(tmp_path: Path, argv: list[str], options: dict[str, Any]) -> None:
    # The first may be written by anybody, the second cannot be executed.
    for name, text, mode in (("theirs", "#!/bin/sh\n", 0o757), ("broken", "#!/no/such/interpreter\n", 0o755)):
        path = tmp_path / name
        path.write_text(text)
        path.chmod(mode)
    served = Served(tmp_path, *(line.format(tmp_path) for line in LINES))
    words = [word.format(tmp_path) for word in argv]
    assert left_by(served, lambda client: client.run(words, **options)) < 3 * COUNT


#: How a Failure begins: an array of four, its type.
FAILURE = b"\x94\x05"
RUNNING = HELLO + encode(Run((b"sh", b"-c", b"sleep 60")))
START = encode(Start((b"sh", b"-c", b"sleep 60"), (), STDIN))
#: What a client writes at once, and of what it passes descriptors with it.
CONVERSATIONS: dict[str, tuple[bytes, list[str]]] = {
    "another request": (RUNNING + encode(Run((b"true",))), []),
    "a large one": (RUNNING + encode(Run((b"true", b"x" * 1000))), []),
    "no message": (RUNNING + frame([99]), []),
    "no hello": (encode(Signal(15)), []),
    "a large hello": (frame(bytes(1000)), []),
    "descriptors of a file": (HELLO + START, ["/dev/null"]),
    "descriptors too many": (HELLO + START, ["pipe"] * 5),
    "descriptors of nothing": (HELLO, ["pipe"]),
    "a pipe": (HELLO + START + START, ["pipe"]),
}


def converse(served: Served, text: bytes, things: list[str]) -> bytes:
    """Serve a client that writes this and reads nothing until it is over; all that it is told."""
    ends: list[int] = []
    for thing in things:
        ends += os.pipe() if thing == "pipe" else [os.open(thing, os.O_RDONLY)]
    ours, theirs = socket.socketpair()
    with ours:
        socket.send_fds(ours, [text], ends[: len(things)])
        ours.shutdown(socket.SHUT_WR)
        for end in ends:
            os.close(end)
        session = served.session(theirs)
        session.serve()
        session.close()
        return ours.recv(1 << 16)


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_of_clients_that_break_the_protocol(tmp_path: Path, name: str) -> None:
    served = Served(tmp_path, "sh: CommandFilter, sh, root")
    assert converse(served, *CONVERSATIONS[name]).count(FAILURE) == 1
    gc.collect()
    gc.disable()
    try:
        for _ in range(COUNT):
            converse(served, *CONVERSATIONS[name])
        assert gc.collect() < 3 * COUNT
    finally:
        gc.enable()


def refuse(count: int) -> None:
    for _ in range(count):
        ours, theirs = socket.socketpair()
        turn_away(theirs, Unauthorized(STRANGER % 1234))
        assert b"unauthorized" in ours.recv(1 << 16)
        ours.close()


def test_of_strangers_nothing_stays() -> None:
    refuse(10)
    gc.collect()
    before = sys.getallocatedblocks()
    refuse(1000)
    gc.collect()
    assert sys.getallocatedblocks() - before < 1000
