"""What callers give becomes a request, or BadRequest before anything is sent."""

import math
import os
import re
from collections import UserList
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootwrap_daemon.client import BadRequest, Client, CommandTimeout, TooLarge, core
from rootwrap_daemon.protocol.messages import MAX_INPUT_BYTES, MAX_TIMEOUT, MAX_WORD_BYTES, Check, Run
from tests.unit.client.fake_daemon import FakeDaemon


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["ip", "link"], (b"ip", b"link")),
        ((b"ip", b"link"), (b"ip", b"link")),
        (UserList(["ip"]), (b"ip",)),
        ([PurePosixPath("/bin/ip"), "ä"], (b"/bin/ip", "ä".encode())),
        (["ip", "\udcff\udc80"], (b"ip", b"\xff\x80")),
        (["ip", os.fsdecode(b"\xc3(")], (b"ip", b"\xc3(")),
        (["ip", ""], (b"ip", b"")),
    ],
)
def test_words(argv: Any, words: tuple[bytes, ...]) -> None:
    assert core.run_request(argv, None, None, None).argv == words
    assert core.check_request(argv, None) == Check(words)


BAD_ARGV = [
    "ip",
    b"ip",
    bytearray(b"ip"),
    memoryview(b"ip"),
    None,
    1,
    {"ip": "link"},
    {"ip"},
    iter(["ip"]),
    PurePosixPath("/bin/ip"),
    [],
    [""],
    ["ip", 1],
    ["ip", None],
    ["ip", True],
    ["ip", bytearray(b"link")],
    ["ip", b"link"],
    [b"ip", PurePosixPath("link")],
    ["ip", ["link"]],
    ["ip", "\ud800"],
    ["ip", "\udc00"],
    ["ip", "\udfff"],
    ["ip", "a\0b"],
]
BAD_ENV = [
    "A=b",
    ["A=b"],
    [("A", "b")],
    {"A": 1},
    {"A": None},
    {1: "a"},
    {"": "a"},
    {"A=": "b"},
    {"A": "\0"},
    {"A": "\ud800"},
    {"A": "1", b"A": "2"},
]
BAD_TIMEOUT = [math.nan, math.inf, True, "1", 10**400, MAX_TIMEOUT + 1, b"1"]


@pytest.mark.parametrize("argv", BAD_ARGV, ids=lambda argv: re.sub(" at 0x.*", "", repr(argv)))
def test_bad_argv(argv: Any) -> None:
    with pytest.raises(BadRequest):
        core.run_request(argv, None, None, None)
    with pytest.raises(BadRequest):
        core.check_request(argv, None)


@pytest.mark.parametrize("env", BAD_ENV, ids=repr)
def test_bad_env(env: Any) -> None:
    with pytest.raises(BadRequest):
        core.run_request(["env"], None, env, None)
    with pytest.raises(BadRequest):
        core.check_request(["env"], env)


@pytest.mark.parametrize("timeout", BAD_TIMEOUT, ids=lambda value: repr(value)[:20])
def test_bad_timeout(timeout: Any) -> None:
    with pytest.raises(BadRequest):
        core.run_request(["true"], None, None, timeout)


@pytest.mark.parametrize(
    "timeout", [0, 0.0, -1, -0.5, -math.inf, -(10**400)], ids=lambda value: repr(value)[:20]
)
def test_no_time_is_left(timeout: float, daemon: FakeDaemon, client: Client) -> None:
    """A caller whose deadline has passed gets what it would get a moment later."""
    for capture in ("daemon", "pipe"):
        with pytest.raises(CommandTimeout, match=r"^true: no time is left") as caught:
            client.run(["true"], timeout=timeout, capture=capture)
        assert (caught.value.cmd, caught.value.timeout) == (["true"], timeout)
    assert daemon.connections == 0


@pytest.mark.parametrize("data", [1, bytearray(b"x"), ["x"], "\ud800"], ids=repr)
def test_bad_input(data: Any) -> None:
    with pytest.raises(BadRequest):
        core.run_request(["cat"], data, None, None)


def test_too_large() -> None:
    with pytest.raises(TooLarge):
        core.run_request(["echo", "x" * (MAX_WORD_BYTES + 1)], None, None, None)
    with pytest.raises(TooLarge):
        core.run_request(["cat"], b"x" * (MAX_INPUT_BYTES + 1), None, None)


@pytest.mark.parametrize(
    ("timeout", "milliseconds"),
    [(None, None), (1, 1000), (0.5, 500), (1e-9, 1), (0.0011, 2), (MAX_TIMEOUT, MAX_TIMEOUT * 1000)],
)
def test_timeout_is_rounded_up(timeout: float | None, milliseconds: int | None) -> None:
    assert core.run_request(["true"], None, None, timeout).timeout_ms == milliseconds


@pytest.mark.parametrize(
    ("data", "stdin"),
    [(None, None), (b"", b""), ("", b""), ("ä\udcff", b"\xc3\xa4\xff"), (b"\0\xff", b"\0\xff")],
)
def test_input(data: bytes | str | None, stdin: bytes | None) -> None:
    assert core.run_request(["cat"], data, None, None).stdin == stdin


def test_env() -> None:
    env: Any = {"A": b"1", b"B": "ä", "C": PurePosixPath("/c")}
    pairs = ((b"A", b"1"), (b"B", "ä".encode()), (b"C", b"/c"))
    assert core.run_request(["env"], None, env, None).env == pairs
    assert core.check_request(["env"], env).env == pairs
    assert core.run_request(["env"], None, {}, None).env == ()


@given(st.binary().filter(lambda word: b"\0" not in word))
def test_what_fsdecode_gave_comes_back(word: bytes) -> None:
    assert (
        core.run_request(["echo", word.decode("utf-8", "surrogateescape")], None, None, None).argv[1] == word
    )


def test_nothing_is_sent_of_a_bad_request(daemon: FakeDaemon, client: Client) -> None:
    bad: Any = ["ip", None]
    for call in (lambda: client.run(bad), lambda: client.allows(bad)):
        with pytest.raises(BadRequest):
            call()
    assert daemon.connections == 0


def test_everything_arrives(daemon: FakeDaemon, client: Client) -> None:
    client.run([b"echo", b"\xff"], input="in", env={"A": "b"}, timeout=1.5)
    client.allows(["echo"], env={"A": "b"})
    assert [request for _, request in daemon.requests] == [
        Run((b"echo", b"\xff"), ((b"A", b"b"),), b"in", 1500),
        Check((b"echo",), ((b"A", b"b"),)),
    ]


@pytest.mark.parametrize("limit", [0, -1, 1.5, None, True, "8"])
def test_a_limit_that_is_none(limit: Any, path: Path) -> None:
    with pytest.raises(BadRequest):
        Client(path, limit)


def test_arguments_that_run_does_not_have() -> None:
    """They are refused before a connection is made."""
    with Client("/nonexistent") as client:
        with pytest.raises(BadRequest, match=r"^id: capture must be 'daemon' or 'pipe', not 'x'$"):
            client.run(["id"], capture="x")  # type: ignore[call-overload]
        with pytest.raises(TypeError, match=r"^run\(\) has no argument 'cwd'$"):
            client.run(["id"], cwd="/")  # type: ignore[call-overload]
        with pytest.raises(BadRequest, match=r"^argv must have at least one word$"):
            client.run([])
