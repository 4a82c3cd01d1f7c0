"""`rootwrap-exec` writes and reads by hand what the protocol's own code does."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootwrap_daemon import errors
from rootwrap_daemon.cli.exec import wire
from rootwrap_daemon.errors import BY_CODE, DaemonUnavailable, RemoteProtocolError
from rootwrap_daemon.protocol import messages
from rootwrap_daemon.protocol.codec import HEADER, decode, encode
from tests.unit.protocol.strategies import answers, argvs, environs

KINDS = (messages.Hello, messages.Result, messages.Failure, messages.Verdict, messages.Started)


def read(frame: bytes) -> object:
    assert len(frame) == HEADER.size + HEADER.unpack_from(frame)[0]
    return decode(frame[HEADER.size :], messages.REQUESTS)


def test_hello() -> None:
    assert read(wire.hello()) == messages.Hello(messages.VERSION, messages.MAX_ANSWER_FRAME, 0)


@given(argvs, environs, st.integers(0, 7), st.none() | st.floats(1e-6, messages.MAX_TIMEOUT))
def test_requests(
    argv: tuple[bytes, ...], env: tuple[tuple[bytes, bytes], ...], slots: int, seconds: float | None
) -> None:
    start: Any = read(wire.start(list(argv), list(env), slots, seconds))
    assert start == messages.Start(argv, env, slots, start.timeout_ms)
    if seconds is None:
        assert start.timeout_ms is None
    else:
        assert start.timeout_ms / 1000 >= seconds > start.timeout_ms / 1000 - 0.0011
    assert read(wire.check(list(argv), list(env))) == messages.Check(argv, env)


@pytest.mark.parametrize("number", [1, 15, 64])
def test_what_is_said_of_a_command(number: int) -> None:
    assert read(wire.signal(number)) == messages.Signal(number)
    assert read(wire.cancel()) == messages.Cancel()


@given(answers.filter(lambda one: isinstance(one, KINDS)), st.integers(0, 9))
def test_answers(answer: Any, more: int) -> None:
    data = encode(answer)
    buffer = bytearray(data + b"x" * more)
    assert wire.cut(buffer) == [answer.TYPE, *answer]
    assert buffer == b"x" * more
    for end in (0, 3, 4, len(data) - 1):
        part = bytearray(data[:end])
        assert wire.cut(part) is None
        assert part == data[:end]


@given(st.binary(max_size=60) | answers.map(lambda answer: encode(answer)[HEADER.size :]), st.data())
def test_any_bytes(body: bytes, data: st.DataObject) -> None:
    """They are a message, the same that the protocol's code makes of them, or a ValueError."""
    changed = bytearray(body)
    for _ in range(data.draw(st.integers(0, 2))):
        at = data.draw(st.integers(0, len(changed)))
        changed[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    try:
        fields = wire.cut(bytearray(HEADER.pack(len(changed)) + changed))
    except ValueError:
        return
    if not changed:
        assert fields is None
        return
    assert fields is not None
    try:
        message: Any = decode(bytes(changed), messages.ANSWERS)
    except RemoteProtocolError:
        # Of the values it checks their types alone.
        assert fields[0] in messages.ANSWERS
        return
    assert fields[: 1 + len(message)] == [message.TYPE, *message]


def test_a_frame_that_is_too_long() -> None:
    with pytest.raises(ValueError, match="too long"):
        wire.cut(bytearray(b"\xff\xff\xff\xff"))


def test_numbers_and_codes() -> None:
    for message in (*KINDS, messages.Check):
        assert getattr(wire, message.__name__.upper()) == message.TYPE
    assert wire.VERSION == messages.VERSION
    for code, kind in BY_CODE.items():
        # What it was told to use is not there: as good as a configuration that cannot be read.
        exit_code = 97 if kind is DaemonUnavailable else kind.exit_code
        assert wire.EXIT_CODES.get(code, errors.InternalError.exit_code) == exit_code, code
