"""Any bytes give messages or RemoteProtocolError, however they are cut."""

import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rootwrap_daemon.errors import BadRequest, RemoteProtocolError, TooLarge
from rootwrap_daemon.protocol.client_side import ClientDecoder, decode_answer
from rootwrap_daemon.protocol.codec import HEADER, Decoder, decode, decode_plainly, encode, encode_in_parts
from rootwrap_daemon.protocol.messages import (
    ANSWERS,
    MAX_ANSWER_FRAME,
    MAX_HELLO_FRAME,
    MAX_REQUEST_FRAME,
    MAX_WORDS,
    REQUESTS,
    Answer,
    Cancel,
    Check,
    Failure,
    Hello,
    Message,
    Request,
    Result,
)
from tests.unit.protocol.strategies import HELLO, ONE_ANSWER, ONE_REQUEST, answers, read, requests

#: Each kind of message, with the table it is looked up in.
EACH: list[tuple[Message, Any]] = [
    *((message, REQUESTS) for message in ONE_REQUEST.values()),
    *((message, ANSWERS) for message in ONE_ANSWER.values()),
]
each = pytest.mark.parametrize(("message", "kinds"), EACH, ids=lambda value: type(value).__name__)


def frame(*values: Any) -> bytes:
    """Any values as a frame of msgpack."""
    body: bytes = msgpack.packb(values)
    return HEADER.pack(len(body)) + body


def drain(decoder: Decoder[Any]) -> list[Message]:
    """All messages that are complete."""
    messages = []
    while (message := decoder.next_message()) is not None:
        messages.append(message)
    return messages


@each
def test_whole(message: Message, kinds: Any) -> None:
    decoder = Decoder(kinds, MAX_REQUEST_FRAME)
    decoder.feed(encode(message))
    assert drain(decoder) == [message]
    assert not decoder.partial


@each
def test_byte_by_byte(message: Message, kinds: Any) -> None:
    decoder = Decoder(kinds, MAX_REQUEST_FRAME)
    data = encode(message)
    assert not decoder.partial
    for index in range(len(data) - 1):
        decoder.feed(data[index : index + 1])
        assert decoder.next_message() is None
        assert decoder.partial
    decoder.feed(data[-1:])
    assert drain(decoder) == [message]
    assert not decoder.partial


@each
def test_as_much_as_is_missing(message: Message, kinds: Any) -> None:
    """`missing` never asks for more than the message has, and brings it in two steps."""
    decoder = Decoder(kinds, MAX_REQUEST_FRAME)
    data = encode(message)
    steps = []
    while (got := decoder.next_message()) is None:
        steps.append(decoder.missing)
        assert 1 <= decoder.missing <= len(data)
        piece, data = data[: decoder.missing], data[decoder.missing :]
        decoder.feed(piece)
    assert (got, data) == (message, b"")
    assert len(steps) == 2
    assert steps[0] == HEADER.size


@each
def test_with_trailing_bytes(message: Message, kinds: Any) -> None:
    decoder = Decoder(kinds, MAX_REQUEST_FRAME)
    decoder.feed(encode(message) + b"\0\0")
    assert drain(decoder) == [message]
    assert decoder.partial
    assert decoder.missing == 2


@each
def test_with_bytes_inside_the_frame(message: Message, kinds: Any) -> None:
    """What follows the array within its frame belongs to no message."""
    body = encode(message)[HEADER.size :] + b"\xc0"
    with pytest.raises(RemoteProtocolError):
        read(body, kinds)


@each
def test_cut_short(message: Message, kinds: Any) -> None:
    body = encode(message)[HEADER.size :]
    for end in range(len(body)):
        with pytest.raises(RemoteProtocolError):
            read(body[:end], kinds)


def test_pipelined() -> None:
    decoder = Decoder(REQUESTS, MAX_REQUEST_FRAME)
    decoder.feed(b"".join(encode(message) for message in ONE_REQUEST.values()) * 2)
    assert drain(decoder) == [*ONE_REQUEST.values()] * 2


@each
def test_one_field_more_or_less(message: Message, kinds: Any) -> None:
    values = msgpack.unpackb(encode(message)[HEADER.size :], use_list=False)
    with pytest.raises(RemoteProtocolError):
        read(msgpack.packb(values[:-1]), kinds)
    if message.GROWN:
        # Without the field that came later, as an older client says it; nil says the same.
        assert len(values) == len(message.NAMES)
        values = (*values, None)
        assert read(msgpack.packb(values), kinds) == message
    longer = msgpack.packb((*values, None))
    if isinstance(message, Hello):
        # A later version may say more in it, of any type.
        assert read(longer, kinds) == message
        assert read(msgpack.packb((*values, *[["x", {}]] * (16 - len(values) + 1))), kinds) == message
        with pytest.raises(RemoteProtocolError):
            read(msgpack.packb((*values, *[0] * (16 - len(values) + 2))), kinds)
    else:
        with pytest.raises(RemoteProtocolError):
            read(longer, kinds)


@pytest.mark.parametrize("kind", ["Run", "Start", "Check"])
@pytest.mark.parametrize("plainly", [False, True])
def test_a_user_is_the_last_field(kind: str, plainly: bool) -> None:
    plain = ONE_REQUEST[kind]
    make: Any = type(plain)
    named: Message = make(*plain[:-1], "postgres")
    body = encode(named)[HEADER.size :]
    without = msgpack.unpackb(encode(plain)[HEADER.size :], use_list=False)
    assert msgpack.unpackb(body, use_list=False) == (*without, "postgres")
    assert (decode_plainly(body, REQUESTS) if plainly else read(body, REQUESTS)) == named


@pytest.mark.parametrize("kind", ["Run", "Start", "Check"])
@pytest.mark.parametrize(
    "user",
    [
        *("", "0", "#0", "0root", "root\0", "\0", "a b", "%a", "a|b", "-a", ".a", "a/b", "$", "\u00e4"),
        *("a" * 2000, 0, b"root", True, ["root"], 1.5),
    ],
)
def test_users_that_are_none(kind: str, user: Any) -> None:
    values = msgpack.unpackb(encode(ONE_REQUEST[kind])[HEADER.size :], use_list=False)
    for reader in (read, decode_plainly):
        with pytest.raises(RemoteProtocolError):
            reader(msgpack.packb((*values, user)), REQUESTS)


def test_each_side_has_its_messages() -> None:
    for message, kinds in EACH:
        other: Any = ANSWERS if kinds is REQUESTS else REQUESTS
        if not isinstance(message, Hello):
            with pytest.raises(RemoteProtocolError, match="unknown type"):
                read(encode(message)[HEADER.size :], other)


def nested(depth: int) -> bytes:
    return b"\x91" * depth + b"\xc0"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xc1",
        b"\x90",
        b"\x03",
        b"\xc0",
        b"\x80",
        b"\x91\xc3",
        b"\x91\xff",
        b"\x91\x07",
        b"\x91\xa13",
        b"\x81\0\x03",
        b"\xdd\xff\xff\xff\xff",
        b"\xdc\xff\xff\x03",
        b"\xdf\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\xdb\xff\xff\xff\xff",
        b"\xc9\xff\xff\xff\xff\x01",
        b"\x91\xd6\xff\0\0\0\0",
        b"\x91\xc7\0\xff",
        b"\x91\xcf\xff\xff\xff\xff\xff\xff\xff\xff",
        nested(500),
        nested(5000),
        nested(200_000),
        msgpack.packb((1, {"a": 1}, (), None, None)),
        msgpack.packb((1, (b"x",), {b"A": b"b"}, None, None)),
        msgpack.packb((1, (b"x",), ((b"A", b"1"), (b"A", b"2")), None, None)),
        msgpack.packb((1, ("x",), (), None, None)),
        msgpack.packb((1, (b"x",), (), "in", None)),
        msgpack.packb((1, (b"x",), (), None, 1.5)),
        msgpack.packb((1, (b"x",), (), None, float("nan"))),
        msgpack.packb((1, (b"x",), (), None, True)),
        msgpack.packb((1, (msgpack.ExtType(1, b""),), (), None, None)),
        msgpack.packb((1, (b"x",), (msgpack.ExtType(1, b""),), None, None)),
        msgpack.packb((0, 1, 2**64 - 1, 0)),
        msgpack.packb((5, "r", (), "")),
        msgpack.packb((5, "r", msgpack.ExtType(1, b""), "")),
        # A type that only equals that of a Cancel or a Run.
        b"\x91\xcb\x40\x08\0\0\0\0\0\0",
        msgpack.packb((True, (b"x",), (), None, None)),
        msgpack.packb((1.0, (b"x",), (), None, None)),
        # A variable of three, whose third would do for the stdin that is missing.
        b"\x95\x01\x91\xc4\x01x\x91\x93\xc4\x01A\xc4\x01b\xc0\xc0",
        b"\x94\x05\xa1r\xa6denied\xa1\xff",
        b"\x94\x05\xa1r\xa6denied\xa3\xed\xa0\x80",
    ],
    ids=lambda body: f"{body[:24].hex()}-{len(body)}",
)
@pytest.mark.parametrize("kinds", [REQUESTS, ANSWERS], ids=["request", "answer"])
def test_hostile_bodies(body: bytes, kinds: Any) -> None:
    decoder = Decoder(kinds, MAX_REQUEST_FRAME)
    decoder.feed(HEADER.pack(len(body)) + body)
    with pytest.raises(RemoteProtocolError):
        decoder.next_message()


@pytest.mark.parametrize("limit", [MAX_HELLO_FRAME, MAX_REQUEST_FRAME, MAX_ANSWER_FRAME])
def test_a_frame_at_the_limit_and_one_past_it(limit: int) -> None:
    decoder = Decoder(REQUESTS, limit)
    decoder.feed(HEADER.pack(limit))
    assert decoder.next_message() is None
    assert decoder.missing == limit
    decoder = Decoder(REQUESTS, limit)
    decoder.feed(HEADER.pack(limit + 1))
    with pytest.raises(RemoteProtocolError) as caught:
        decoder.next_message()
    # The daemon answers `too_large` to that, not `bad_request`.
    assert isinstance(caught.value.__cause__, TooLarge)


def test_an_array_at_the_limit_and_one_past_it() -> None:
    words = (b"x", *[b""] * (MAX_WORDS - 1))
    assert read(msgpack.packb((2, words, ())), REQUESTS) == Check(words)
    with pytest.raises(RemoteProtocolError) as caught:
        read(msgpack.packb((2, (*words, b"x"), ())), REQUESTS)
    assert isinstance(caught.value.__cause__, TooLarge)


@pytest.mark.parametrize("kinds", [REQUESTS, ANSWERS], ids=["request", "answer"])
@pytest.mark.parametrize("data", [b"\xff\xff\xff\xff", b"\xff\xff\xff\xff\x91\x03"])
def test_a_header_of_4_gib_buffers_nothing(kinds: Any, data: bytes) -> None:
    decoder = Decoder(kinds, MAX_REQUEST_FRAME)
    tracemalloc.start()
    try:
        decoder.feed(data)
        with pytest.raises(RemoteProtocolError):
            decoder.next_message()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 64 * 1024


@pytest.mark.parametrize(
    "opening", [b"\xdd\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\xdd\x00\x00\x10\x00" * 40]
)
def test_an_array_that_is_announced_only_costs_nothing(opening: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(RemoteProtocolError):
            read(opening, REQUESTS)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # The buffer that msgpack makes for any message.
    assert peak < 2 * 1024 * 1024


@pytest.mark.parametrize(
    "body",
    [
        # As argv: words that are arrays. As one word, as a number, as environment, as one variable.
        b"\x93\x02\xdc\x0f\xff" + (b"\xdc\x0f\xff" + b"\x90" * 0xFFF) * 0x100,
        b"\x93\x02\x91" + b"\xdd\x00\x10\x00\x00" + b"\x90" * 0x100000,
        b"\x95\x01\x91\xc4\x01x\x90\xc0\xdd\x00\x10\x00\x00" + b"\x90" * 0x100000,
        b"\x93\x02\x91\xc4\x01x\xdd\x00\x10\x00\x00" + b"\x90" * 0x100000,
        b"\x93\x02\x91\xc4\x01x\x91\xdd\x00\x10\x00\x00" + b"\x90" * 0x100000,
    ],
    ids=["words", "word", "number", "environment", "variable"],
)
def test_nested_arrays_are_not_built(body: bytes) -> None:
    """A frame of a mebibyte costs less than pointers to the million arrays in it."""
    view = memoryview(body)
    tracemalloc.start()
    try:
        with pytest.raises(RemoteProtocolError):
            decode(view, REQUESTS)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 5 * len(body)


@pytest.mark.parametrize("value", [{"a": 1}, msgpack.ExtType(1, b"x"), msgpack.Timestamp(1), [b"x"]])
def test_what_no_message_has_is_refused_by_its_header(value: Any) -> None:
    """Not built first, for the message to refuse."""
    with pytest.raises(RemoteProtocolError) as caught:
        read(msgpack.packb((2, (value,), ())), REQUESTS)
    assert not isinstance(caught.value.__cause__, BadRequest)


def test_what_a_message_refuses_is_told() -> None:
    with pytest.raises(RemoteProtocolError, match=r"the command, argv\[0\], is empty"):
        read(msgpack.packb((2, (b"",), ())), REQUESTS)


def test_the_limit_can_change_between_messages() -> None:
    decoder = Decoder(REQUESTS, MAX_HELLO_FRAME)
    large = Check((b"x" * 1000,))
    decoder.feed(encode(HELLO) + encode(large))
    assert decoder.next_message() == HELLO
    decoder.limit = MAX_REQUEST_FRAME
    assert decoder.next_message() == large


@given(requests)
def test_every_request_comes_back(message: Request) -> None:
    assert read(encode(message)[HEADER.size :], REQUESTS) == message


@given(answers)
def test_every_answer_comes_back(message: Answer) -> None:
    assert read(encode(message)[HEADER.size :], ANSWERS) == message


@given(st.lists(requests, max_size=4), st.data())
def test_however_it_is_cut(messages: list[Request], data: st.DataObject) -> None:
    stream = b"".join(map(encode, messages))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    decoder = Decoder(REQUESTS, MAX_REQUEST_FRAME)
    got: list[Message] = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        decoder.feed(stream[start:end])
        got += drain(decoder)
    assert got == messages
    assert not decoder.partial


tables = st.sampled_from([REQUESTS, ANSWERS])


@given(st.binary(max_size=300), tables)
def test_any_bytes(data: bytes, kinds: Any) -> None:
    decoder = Decoder(kinds, 1000)
    decoder.feed(data)
    try:
        messages = drain(decoder)
    except RemoteProtocolError:
        return
    assert all(type(message) in kinds.values() for message in messages)


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.binary(max_size=8)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
    | st.builds(msgpack.ExtType, st.integers(0, 127), st.binary(max_size=2)),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text("ab", max_size=2), inner, max_size=2),
    max_leaves=12,
)


@pytest.mark.parametrize(
    ("stdout", "stderr"), [(70_000, 0), (0, 70_000), (70_000, 70_000), (65_535, 9), (65_536, 0), (3, 4)]
)
def test_large_output_is_a_part_as_it_is(stdout: int, stderr: int) -> None:
    message = Result("r-1", 3, b"x" * stdout, bytearray(b"y") * stderr, "cancelled")  # type: ignore[arg-type]
    parts = encode_in_parts(message)
    for output in (message.stdout, message.stderr):
        assert any(part is output for part in parts) == (len(output) >= 2**16)
    body = msgpack.packb((message.TYPE, *message))
    assert b"".join(parts) == encode(message) == HEADER.pack(len(body)) + body


@given(st.integers(0, 6), st.lists(values, max_size=5), tables)
def test_any_values(number: int, fields: list[Any], kinds: Any) -> None:
    """Arbitrary bytes are seldom msgpack; this is always."""
    try:
        message = read(msgpack.packb([number, *fields]), kinds)
    except RemoteProtocolError:
        return
    # What was taken is valid, and says the same when it is sent on.
    assert read(encode(message)[HEADER.size :], kinds) == message


@given(st.one_of(requests, answers), st.data())
def test_a_mutated_frame(message: Message, data: st.DataObject) -> None:
    kinds: Any = REQUESTS if message.TYPE in REQUESTS else ANSWERS
    stream = bytearray(encode(message))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(stream) - 1))
        match data.draw(st.sampled_from(["set", "cut", "insert"])):
            case "set":
                stream[at] = data.draw(st.integers(0, 255))
            case "cut" if len(stream) > 1:
                del stream[at]
            case _:
                stream.insert(at, data.draw(st.integers(0, 255)))
    decoder = Decoder(kinds, MAX_REQUEST_FRAME)
    decoder.feed(bytes(stream))
    try:
        messages = drain(decoder)
    except RemoteProtocolError:
        return
    assert all(type(message) in kinds.values() for message in messages)


@pytest.mark.parametrize("head", [b"\xc4\2", b"\xc5\0\2", b"\xc6\0\0\0\2", b"\xa2"])
def test_bytes_that_are_the_numbers_of_a_message(head: bytes) -> None:
    """Of Signal and its field; a sequence of integers, too, in the eyes of Python."""
    for read_one in (decode, decode_plainly):
        with pytest.raises(RemoteProtocolError):
            read_one(head + b"\x08\x0f", REQUESTS)


def test_cancel_is_two_bytes() -> None:
    """The wire format, once by hand."""
    assert encode(Cancel()) == b"\0\0\0\2\x91\3"


def verdict(way: Any, body: bytes, kinds: Any) -> object:
    """The message, or the text of the refusal."""
    try:
        return way(memoryview(body), kinds)
    except RemoteProtocolError as error:
        return str(error), type(error.__cause__)


def mutated(data: st.DataObject, body: bytes) -> bytes:
    """The same with some bytes changed, inserted or cut out."""
    changed = bytearray(body)
    for _ in range(data.draw(st.integers(0, 3), "mutations")):
        at = data.draw(st.integers(0, min(len(changed), 80)), "at")
        until = data.draw(st.integers(at, min(len(changed), at + 6)), "until")
        changed[at:until] = data.draw(st.binary(max_size=6), "bytes")
    return bytes(changed)


@given(st.data(), st.sampled_from([REQUESTS, ANSWERS]), requests | answers)
@settings(max_examples=1000)
def test_a_small_frame_is_judged_as_the_plain_way_does(
    data: st.DataObject, kinds: Any, message: Message
) -> None:
    body = mutated(data, encode(message)[HEADER.size :])
    assert verdict(decode_answer, body, kinds) == verdict(decode_plainly, body, kinds)


@given(
    st.data(),
    st.sampled_from([REQUESTS, ANSWERS]),
    st.integers(0, 2),
    st.sampled_from(["r-1", "\u20ac" * 1024]),
)
@settings(max_examples=200)
def test_a_large_frame_is_judged_as_the_plain_way_does(
    data: st.DataObject, kinds: Any, where: int, request_id: str
) -> None:
    large = bytes(70_000)
    values = [
        Result(request_id, 3, large, b"x" * 300),
        Result(request_id, -9, b"", large),
        ONE_REQUEST["Run"],
    ]
    body = mutated(data, encode(values[where])[HEADER.size :])
    assert verdict(decode_answer, body, kinds) == verdict(decode_plainly, body, kinds)


@pytest.mark.parametrize("cause", ["", "stopping"])
@pytest.mark.parametrize(
    ("out", "err"), [(bytes(8_000_000), b"e"), (b"", bytes(8_000_000)), (bytes(8_000_000), bytes(300))]
)
def test_large_output_is_copied_once(out: bytes, err: bytes, cause: str) -> None:
    message = Result("r-1", 0, out, err, cause)
    body = bytearray(encode(message)[HEADER.size :])
    tracemalloc.start()
    try:
        assert decode_answer(memoryview(body), ANSWERS) == message
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1.5 * len(body)


def test_a_large_frame_that_is_no_result() -> None:
    """Each has the form of one, up to the number of its type or the bytes behind it."""
    fields = ("r-1", 0, bytes(70_000), b"")
    # As long as the bytes that are unpacked for it.
    cause = "\U0001f600" * 1023 + "x"
    assert read(msgpack.packb((Result.TYPE, *fields, cause)), ANSWERS) == Result(*fields, cause)
    with pytest.raises(RemoteProtocolError, match="bytes after the message"):
        read(msgpack.packb((Result.TYPE, *fields, cause)) + b"\0", ANSWERS)
    with pytest.raises(RemoteProtocolError, match="a message of an unknown type"):
        read(msgpack.packb((99, *fields, "")), ANSWERS)
    with pytest.raises(RemoteProtocolError):
        read(msgpack.packb((Hello.TYPE, *fields, "")), ANSWERS)


def test_bytes_after_room_was_made_for_them() -> None:
    """`room` is not filled where the next read is another one."""
    message = Result("r-1", 0, bytes(range(256)) * 1000, b"err")
    data, decoder = encode(message), ClientDecoder(ANSWERS, MAX_ANSWER_FRAME)
    decoder.feed(data[:1000])
    assert decoder.next_message() is None
    room = decoder.room()
    assert room is not None and len(room) == len(data) - 1000
    del room
    decoder.feed(data[1000:] + b"\0")
    assert drain(decoder) == [message]
    assert decoder.missing == HEADER.size - 1


@pytest.mark.parametrize("step", [1, 5000, 70_000, 200_000])
@pytest.mark.parametrize("before", [b"", encode(HELLO)])
def test_read_into_one_buffer(step: int, before: bytes) -> None:
    """What is read to `room` is what `feed` would have taken."""
    message = Result("r-1", 0, bytes(range(256)) * 1000, b"err")
    data, decoder = memoryview(before + encode(message) + b"\0\0\0"), ClientDecoder(ANSWERS, MAX_ANSWER_FRAME)
    found = []
    while data:
        room = decoder.room()
        count = step if room is None else min(step, len(room))
        if room is None:
            decoder.feed(bytes(data[:count]))
        else:
            room[: len(data[:count])] = data[:count]
            decoder.filled(len(data[:count]))
        del room
        data = data[count:]
        found += drain(decoder)
    assert found == [*([HELLO] if before else []), message]
    assert decoder.partial
    assert decoder.missing == 1


@pytest.mark.parametrize("kind", [bytes, bytearray])
@pytest.mark.parametrize(
    ("out", "err"), [(65535, 0), (65535, 1), (65536, 255), (0, 65536), (70_000, 70_000), (1 << 20, 3)]
)
def test_a_large_frame_is_encoded_as_the_plain_way_does(kind: type[bytes], out: int, err: int) -> None:
    for cause in ("", "cancelled"):
        result = Result("abc-1", -9, kind(out), kind(err), cause)
        body = msgpack.packb((Result.TYPE, *result))
        assert encode(result) == HEADER.pack(len(body)) + body


def test_an_older_msgpack_packs_the_same() -> None:
    """Debian 12 and 13 have 1.0.3, whose Packer takes no size of its buffer."""
    program = """
import msgpack
newer = msgpack.Packer
def older(**options):
    assert "buf_size" not in options
    return newer(**options)
msgpack.Packer, msgpack.version = older, (1, 0, 3)
from rootwrap_daemon.protocol import codec, messages
print(codec.encode(messages.Failure("a-1", "denied", "no")).hex())
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[3],
    )
    assert done.stdout.strip() == encode(Failure("a-1", "denied", "no")).hex(), done.stderr
