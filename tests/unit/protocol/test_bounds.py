"""Bounds of messages, at the last value that they take and at the first that they do not."""

import struct

import msgpack
import pytest

from rootwrap_daemon.errors import BadRequest, LocalProtocolError, RemoteProtocolError, TooLarge
from rootwrap_daemon.protocol import messages
from rootwrap_daemon.protocol.client_side import ClientDecoder, ClientExchange
from rootwrap_daemon.protocol.codec import HEADER, Decoder, decode, decode_plainly, encode
from rootwrap_daemon.protocol.exchange import DaemonExchange

#: From here on a frame gets a buffer of its own.
LARGE = 64 * 1024


@pytest.mark.parametrize(
    ("name", "value"),
    {
        "VERSION": 1,
        "MAX_VARIABLES": 64,
        "MAX_INPUT_BYTES": 2**24,
        "MAX_OUTPUT_BYTES": 2**30,
        "MAX_TIMEOUT": 604_800,
        "MAX_TEXT": 1024,
        "MAX_SIGNAL": 64,
        "MAX_REPORT_BYTES": 2**24,
        "MAX_DESCRIPTORS": 3,
        "MAX_HELLO_FRAME": 256,
        "MAX_ANSWER_FRAME": 2**30 + 2**16,
    }.items(),
)
def test_a_bound_that_peers_of_other_versions_count_on(name: str, value: int) -> None:
    assert getattr(messages, name) == value


def test_a_report_of_the_most_bytes() -> None:
    assert messages.Report("r", bytes(messages.MAX_REPORT_BYTES))
    with pytest.raises(TooLarge, match="the report is longer"):
        messages.Report("r", bytes(messages.MAX_REPORT_BYTES + 1))
    with pytest.raises(BadRequest, match="the report must be bytes"):
        messages.Report("r", "text")  # type: ignore[arg-type]


def test_a_user_of_the_most_characters() -> None:
    assert messages.Run((b"x",), user="u" * messages.MAX_TEXT).user == "u" * messages.MAX_TEXT
    for user in ("u" * (messages.MAX_TEXT + 1), "", "0", "u$$", 5, b"u", True):
        with pytest.raises(BadRequest, match="a user's name"):
            messages.Run((b"x",), user=user)  # type: ignore[arg-type]


def test_a_cause_of_the_most_characters() -> None:
    assert messages.Result("r", 0, b"", b"", "c" * messages.MAX_TEXT)
    with pytest.raises(BadRequest, match="cause must be text"):
        messages.Result("r", 0, b"", b"", "c" * (messages.MAX_TEXT + 1))


def test_the_most_words() -> None:
    with pytest.raises(TooLarge, match="argv has more than"):
        messages.Run((b"",) * (messages.MAX_WORDS + 1))
    # The header of the array is enough: none of so many words is there.
    for count, said in (
        (messages.MAX_WORDS + 1, "more than 225735 words"),
        (messages.MAX_WORDS, "not a message in msgpack"),
    ):
        with pytest.raises(RemoteProtocolError, match=said):
            decode(
                b"\x96" + bytes((messages.Run.TYPE,)) + b"\xdd" + struct.pack(">I", count), messages.REQUESTS
            )


def test_the_most_variables() -> None:
    variables = tuple((b"V%d" % number, b"") for number in range(messages.MAX_VARIABLES))
    message = messages.Run((b"x",), variables)
    assert decode_plainly(encode(message)[HEADER.size :], messages.REQUESTS) == message
    # The header of the array is enough: none of so many values is there.
    body = msgpack.packb((messages.Run.TYPE, (b"x",)))
    body = b"\x95" + body[1:] + b"\xdd" + struct.pack(">I", messages.MAX_VARIABLES + 1)
    with pytest.raises(RemoteProtocolError, match="more than 64 variables"):
        decode(body, messages.REQUESTS)


def test_a_message_is_true_and_equal_to_itself_alone() -> None:
    # A tuple without elements is false.
    assert messages.Cancel() and bool(messages.Cancel()) is True
    assert (messages.Cancel() != messages.Cancel()) is False
    assert messages.Cancel() != messages.Status() and messages.Signal(1) != messages.Signal(2)
    with pytest.raises(TypeError, match="Signal has the fields number"):
        messages.Signal(1, 2)  # type: ignore[call-arg]
    assert repr(messages.Signal(1)) == "Signal(number=1)"


def _header(size: int) -> bytes:
    return HEADER.pack(size)


def test_room_for_the_rest_of_a_large_frame() -> None:
    decoder = ClientDecoder(messages.ANSWERS, messages.MAX_ANSWER_FRAME)
    assert decoder.room() is None
    decoder.feed(_header(LARGE - 1))
    assert decoder.next_message() is None
    assert decoder.room() is None

    message = messages.Report("r", bytes(range(256)) * 1000)
    frame = encode(message)
    for before in (HEADER.size, 1000):
        exchange = ClientExchange()
        exchange.send(messages.Hello(messages.VERSION, messages.MAX_ANSWER_FRAME))
        exchange.feed(encode(messages.Hello(messages.VERSION, messages.MAX_ANSWER_FRAME, 1)))
        assert exchange.next_message()
        exchange.send(messages.Status())
        exchange.feed(frame[:before])
        assert exchange.next_message() is None
        room = exchange.room()
        assert room is not None and len(room) == len(frame) - before
        room[:] = frame[before:]
        exchange.filled(len(room))
        assert exchange.next_message() == message


def test_room_at_its_bound() -> None:
    for missing, given in ((LARGE, True), (LARGE - 1, False)):
        decoder = ClientDecoder(messages.ANSWERS, messages.MAX_ANSWER_FRAME)
        decoder.feed(_header(LARGE + 10) + bytes(LARGE + 10 - missing))
        assert (decoder.room() is not None) is given


def test_room_is_made_once() -> None:
    """Each read of a large frame goes to the same bytes."""
    decoder = ClientDecoder(messages.ANSWERS, messages.MAX_ANSWER_FRAME)
    decoder.feed(_header(3 * LARGE))
    room = decoder.room()
    assert room is not None
    decoder.filled(1000)
    again = decoder.room()
    assert again is not None and again.obj is room.obj and len(again) == len(room) - 1000


def _at_work(asked: messages.Start | messages.Run) -> tuple[ClientExchange, DaemonExchange]:
    client, daemon = ClientExchange(), DaemonExchange()
    daemon.feed(client.send(messages.Hello(messages.VERSION, messages.MAX_ANSWER_FRAME)))
    daemon.next_message()
    client.feed(
        b"".join(daemon.send_in_parts(messages.Hello(messages.VERSION, messages.MAX_ANSWER_FRAME, 1)))
    )
    client.next_message()
    daemon.feed(client.send(asked))
    daemon.next_message()
    return client, daemon


def test_parts_are_sent_in_turn_only() -> None:
    client, daemon = _at_work(messages.Run((b"x",)))
    result = messages.Result("r", 0, bytes(LARGE), b"")
    client.feed(b"".join(daemon.send_in_parts(result)))
    assert client.next_message() == result
    with pytest.raises(LocalProtocolError, match="Result in state READY"):
        daemon.send_in_parts(result)


def _late(exchange: DaemonExchange, message: messages.Cancel | messages.Signal, most: int) -> None:
    for _ in range(most):
        exchange.feed(encode(message))
        assert exchange.next_message() == message
    exchange.feed(encode(message))
    with pytest.raises(RemoteProtocolError, match="in state READY"):
        exchange.next_message()


@pytest.mark.parametrize(("message", "most"), [(messages.Cancel(), 1), (messages.Signal(1), 16)])
def test_how_many_may_cross_the_answer_of_a_start(
    message: messages.Cancel | messages.Signal, most: int
) -> None:
    _, daemon = _at_work(messages.Start((b"x",), (), 0))
    daemon.send(messages.Started("r", 1, 1))
    daemon.send(messages.Result("r", 0, b"", b""))
    _late(daemon, message, most)


@pytest.mark.parametrize("asked", [messages.Run((b"x",)), messages.Start((b"x",), (), 0)])
@pytest.mark.parametrize(("message", "most"), [(messages.Cancel(), 1), (messages.Signal(1), 0)])
def test_how_many_may_cross_the_answer_of_what_never_started(
    asked: messages.Run | messages.Start, message: messages.Cancel | messages.Signal, most: int
) -> None:
    _, daemon = _at_work(asked)
    daemon.send(messages.Result("r", 0, b"", b""))
    _late(daemon, message, most)


def test_nothing_may_cross_the_answer_of_a_check() -> None:
    client, daemon = ClientExchange(), DaemonExchange()
    daemon.feed(
        client.send(messages.Hello(messages.VERSION, messages.MAX_ANSWER_FRAME))
        + client.send(messages.Check((b"x",)))
    )
    daemon.next_message()
    daemon.send(messages.Hello(messages.VERSION, messages.MAX_ANSWER_FRAME, 1))
    daemon.next_message()
    daemon.send(messages.Verdict("r", True, "f"))
    _late(daemon, messages.Cancel(), 0)


def test_how_many_bytes_are_missing() -> None:
    frame = encode(messages.Cancel())
    decoder = Decoder(messages.REQUESTS, 100)
    assert decoder.missing == HEADER.size
    decoder.feed(frame[:1])
    assert decoder.missing == HEADER.size - 1
    decoder.feed(frame[1 : HEADER.size])
    assert decoder.missing == len(frame) - HEADER.size
    decoder.feed(frame[HEADER.size :])
    # Nothing; and whoever reads no byte has met the end.
    assert decoder.missing == 1
    assert decoder.next_message() == messages.Cancel()
