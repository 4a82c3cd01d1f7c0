"""Who may say what when: the whole table, from both sides."""

from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootwrap_daemon.errors import LocalProtocolError, RemoteProtocolError, TooLarge
from rootwrap_daemon.protocol import messages
from rootwrap_daemon.protocol.client_side import ClientExchange
from rootwrap_daemon.protocol.codec import HEADER, encode
from rootwrap_daemon.protocol.exchange import DaemonExchange, State
from tests.unit.protocol.strategies import HELLO, ONE_ANSWER, ONE_REQUEST, answers, requests

READY: Final = "Run Start Check Status"
#: After the answer to a command, which a Cancel or a Signal may have crossed.
ANSWERED: Final = "Run Start Check Status Cancel"
ENDED: Final = "Run Start Check Status Cancel Signal"
#: What was said before, by "c"lient and "d"aemon; the state that both are in then; what each may say next.
SITUATIONS: Final = {
    "nothing": ("", State.NEW, "Hello", "Hello Failure"),
    "d:Hello": ("d:Hello", State.NEW, "Hello", "Failure"),
    "c:Hello": ("c:Hello", State.READY, READY, "Hello Failure"),
    "both:Hello": ("c:Hello d:Hello", State.READY, READY, "Failure"),
    "the other way round": ("d:Hello c:Hello", State.READY, READY, "Failure"),
    "late cancel": ("c:Hello d:Hello c:Run d:Result c:Cancel", State.READY, READY, "Failure"),
    "run": ("c:Hello c:Run", State.RUNNING, "Cancel", "Hello Failure"),
    "run, greeted": ("c:Hello c:Run d:Hello", State.RUNNING, "Cancel", "Result Failure"),
    "greeted, run": ("d:Hello c:Hello c:Run", State.RUNNING, "Cancel", "Result Failure"),
    "run, cancelled": ("c:Hello d:Hello c:Run c:Cancel", State.RUNNING, "Cancel", "Result Failure"),
    "late signal": (
        "c:Hello d:Hello c:Start d:Started d:Result" + " c:Signal" * 15,
        State.READY,
        ENDED,
        "Failure",
    ),
    "more late signals": (
        "c:Hello d:Hello c:Start d:Started d:Result" + " c:Signal" * 16,
        State.READY,
        ANSWERED,
        "Failure",
    ),
    "long ago": ("c:Hello d:Hello c:Run d:Result c:Check d:Verdict", State.READY, READY, "Failure"),
    "start": ("c:Hello c:Start", State.STARTING, "Cancel", "Hello Failure"),
    "start, greeted": ("c:Hello d:Hello c:Start", State.STARTING, "Cancel", "Started Result Failure"),
    "start, cancelled": (
        "d:Hello c:Hello c:Start c:Cancel",
        State.STARTING,
        "Cancel",
        "Started Result Failure",
    ),
    "started": ("c:Hello d:Hello c:Start d:Started", State.STARTED, "Cancel Signal", "Result Failure"),
    "signalled": (
        "c:Hello d:Hello c:Start d:Started c:Signal c:Cancel c:Signal",
        State.STARTED,
        "Cancel Signal",
        "Result Failure",
    ),
    "started, ended": ("c:Hello d:Hello c:Start d:Started d:Result", State.READY, ENDED, "Failure"),
    "started, failed": ("c:Hello d:Hello c:Start d:Started d:Failure", State.READY, ENDED, "Failure"),
    "nothing to start": ("c:Hello d:Hello c:Start d:Result", State.READY, ANSWERED, "Failure"),
    "status": ("c:Hello d:Hello c:Status", State.ASKING, "", "Report Failure"),
    "status, not greeted": ("c:Hello c:Status", State.ASKING, "", "Hello Failure"),
    "reported": ("c:Hello d:Hello c:Status d:Report", State.READY, READY, "Failure"),
    "check": ("c:Hello c:Check", State.CHECKING, "", "Hello Failure"),
    "check, greeted": ("c:Hello d:Hello c:Check", State.CHECKING, "", "Verdict Failure"),
    "ran": ("c:Hello d:Hello c:Run d:Result", State.READY, ANSWERED, "Failure"),
    "failed": ("c:Hello d:Hello c:Run d:Failure", State.READY, ANSWERED, "Failure"),
    "failed, not greeted": ("c:Hello c:Run d:Failure", State.READY, ANSWERED, "Hello Failure"),
    "checked": ("c:Hello d:Hello c:Check d:Verdict", State.READY, READY, "Failure"),
    "check failed": ("c:Hello d:Hello c:Check d:Failure", State.READY, READY, "Failure"),
    "refused at once": ("d:Failure", State.ENDED, "", ""),
    "refused when idle": ("c:Hello d:Hello d:Failure", State.ENDED, "", ""),
}
situations = pytest.mark.parametrize("name", SITUATIONS)


def both_in(name: str) -> tuple[ClientExchange, DaemonExchange]:
    """Both sides after what was said; each message crossed the wire."""
    client, daemon = ClientExchange(), DaemonExchange()
    said, state, _, _ = SITUATIONS[name]
    for step in said.split():
        who, _, what = step.partition(":")
        if who == "c":
            daemon.feed(client.send(ONE_REQUEST[what]))
            assert daemon.next_message() == ONE_REQUEST[what]
        else:
            client.feed(daemon.send(ONE_ANSWER[what]))
            assert client.next_message() == ONE_ANSWER[what]
    assert client.state is daemon.state is state
    return client, daemon


@situations
@pytest.mark.parametrize("what", ONE_REQUEST)
def test_the_client_says(name: str, what: str) -> None:
    message = ONE_REQUEST[what]
    client, daemon = both_in(name)
    before = client.state
    if what in SITUATIONS[name][2].split():
        data = client.send(message)
        daemon.feed(data)
        assert daemon.next_message() == message
        assert client.state is daemon.state
        return
    with pytest.raises(LocalProtocolError, match=f"{what} in state {before.name}"):
        client.send(message)
    # Not said, and so nothing has changed.
    assert client.state is before
    daemon.feed(encode(message))
    with pytest.raises(RemoteProtocolError):
        daemon.next_message()
    assert daemon.state is State.BROKEN


@situations
@pytest.mark.parametrize("what", ONE_ANSWER)
def test_the_daemon_says(name: str, what: str) -> None:
    message = ONE_ANSWER[what]
    client, daemon = both_in(name)
    before = daemon.state
    if what in SITUATIONS[name][3].split():
        data = daemon.send(message)
        client.feed(data)
        assert client.next_message() == message
        assert client.state is daemon.state
        return
    with pytest.raises(LocalProtocolError, match=f"{what} in state {before.name}"):
        daemon.send(message)
    assert daemon.state is before
    client.feed(encode(message))
    with pytest.raises(RemoteProtocolError):
        client.next_message()
    assert client.state is State.BROKEN


@situations
def test_what_was_not_said_leaves_the_way_open(name: str) -> None:
    """After a LocalProtocolError everything that may be said still may."""
    _, _, requests_, answers_ = SITUATIONS[name]
    for what in requests_.split():
        client, _ = both_in(name)
        for wrong in set(ONE_REQUEST) - set(requests_.split()):
            with pytest.raises(LocalProtocolError):
                client.send(ONE_REQUEST[wrong])
        client.send(ONE_REQUEST[what])
    for what in answers_.split():
        _, daemon = both_in(name)
        for wrong in set(ONE_ANSWER) - set(answers_.split()):
            with pytest.raises(LocalProtocolError):
                daemon.send(ONE_ANSWER[wrong])
        daemon.send(ONE_ANSWER[what])


@situations
@pytest.mark.parametrize("junk", [b"\xff\xff\xff\xff", b"\0\0\0\1\xc1"], ids=["length", "body"])
def test_after_junk_only_the_last_word_is_left(name: str, junk: bytes) -> None:
    client, daemon = both_in(name)
    daemon.feed(junk)
    with pytest.raises(RemoteProtocolError):
        daemon.next_message()
    for what in ("Hello", "Result", "Verdict"):
        with pytest.raises(LocalProtocolError, match="BROKEN"):
            daemon.send(ONE_ANSWER[what])
    daemon.send(ONE_ANSWER["Failure"])
    assert daemon.state is State.ENDED
    for message in ONE_ANSWER.values():
        with pytest.raises(LocalProtocolError):
            daemon.send(message)

    client.feed(junk)
    with pytest.raises(RemoteProtocolError):
        client.next_message()
    assert client.state is State.BROKEN
    for request in ONE_REQUEST.values():
        with pytest.raises(LocalProtocolError):
            client.send(request)


def test_a_broken_side_stays_broken() -> None:
    """Good messages behind a bad one are not taken as if nothing had been."""
    _, daemon = both_in("both:Hello")
    daemon.feed(encode(HELLO) + encode(ONE_REQUEST["Run"]))
    for _ in range(2):
        with pytest.raises(RemoteProtocolError):
            daemon.next_message()
    assert daemon.state is State.BROKEN


def test_hello_and_request_in_one_write() -> None:
    client, daemon = ClientExchange(), DaemonExchange()
    daemon.feed(client.send(HELLO) + client.send(ONE_REQUEST["Run"]))
    assert [daemon.next_message() for _ in range(3)] == [HELLO, ONE_REQUEST["Run"], None]
    client.feed(daemon.send(ONE_ANSWER["Hello"]) + daemon.send(ONE_ANSWER["Result"]))
    assert client.hello is None
    assert [client.next_message() for _ in range(3)] == [HELLO, ONE_ANSWER["Result"], None]
    assert client.hello == HELLO
    assert client.state is daemon.state is State.READY


def test_a_request_before_the_hello_is_read_again_when_complete() -> None:
    """Cut anywhere, hello and request arrive, and `partial` says that more is to come."""
    client = ClientExchange()
    data = client.send(HELLO) + client.send(ONE_REQUEST["Run"])
    daemon = DaemonExchange()
    got = []
    for index in range(len(data)):
        daemon.feed(data[index : index + 1])
        while (message := daemon.next_message()) is not None:
            got.append(message)
        assert daemon.partial is (index + 1 not in (len(encode(HELLO)), len(data)))
    assert got == [HELLO, ONE_REQUEST["Run"]]


def test_what_follows_an_answer_shows() -> None:
    client, daemon = both_in("greeted, run")
    data = daemon.send(ONE_ANSWER["Result"])
    for more in (b"", b"\0", b"\0\0\0\5\x90", data):
        client, daemon = both_in("greeted, run")
        client.feed(data + more)
        assert client.next_message() == ONE_ANSWER["Result"]
        assert client.partial is bool(more)


def test_before_the_hello_only_a_hello_fits() -> None:
    """Anybody who can connect makes the daemon buffer this much, and no more."""
    client, daemon = ClientExchange(), DaemonExchange()
    daemon.feed(HEADER.pack(messages.MAX_HELLO_FRAME))
    assert daemon.next_message() is None
    daemon = DaemonExchange()
    daemon.feed(HEADER.pack(messages.MAX_HELLO_FRAME + 1))
    with pytest.raises(RemoteProtocolError) as caught:
        daemon.next_message()
    assert isinstance(caught.value.__cause__, TooLarge)

    daemon = DaemonExchange()
    daemon.feed(client.send(HELLO))
    assert daemon.next_message() == HELLO
    daemon.feed(HEADER.pack(messages.MAX_REQUEST_FRAME))
    assert daemon.next_message() is None
    assert daemon.missing == messages.MAX_REQUEST_FRAME

    daemon = both_in("both:Hello")[1]
    daemon.feed(HEADER.pack(messages.MAX_REQUEST_FRAME + 1))
    with pytest.raises(RemoteProtocolError):
        daemon.next_message()


def test_while_it_works_only_a_cancel_fits() -> None:
    """Nor may a client that has been heard make it buffer more than it can be saying."""
    for name in ("run", "run, greeted", "check", "check, greeted"):
        daemon = both_in(name)[1]
        daemon.feed(HEADER.pack(messages.MAX_HELLO_FRAME + 1))
        with pytest.raises(RemoteProtocolError):
            daemon.next_message()
    for name in ("ran", "failed", "checked"):
        daemon = both_in(name)[1]
        daemon.feed(HEADER.pack(messages.MAX_REQUEST_FRAME))
        assert daemon.next_message() is None


def test_the_largest_input() -> None:
    client, daemon = both_in("both:Hello")
    run = messages.Run((b"cat",), (), b"x" * messages.MAX_INPUT_BYTES)
    daemon.feed(client.send(run))
    assert daemon.next_message() == run


def test_the_client_bounds_answers_too() -> None:
    client = ClientExchange(1000)
    client.feed(HEADER.pack(1000))
    assert client.next_message() is None
    assert client.missing == 1000
    client = ClientExchange(1000)
    client.feed(HEADER.pack(1001))
    with pytest.raises(RemoteProtocolError):
        client.next_message()


def test_another_version_is_told_and_not_judged() -> None:
    """What to do about it is for the two sides to say, each in its own words."""
    client, daemon = ClientExchange(), DaemonExchange()
    other = messages.Hello(messages.VERSION + 1, messages.MAX_REQUEST_FRAME)
    daemon.feed(client.send(other))
    assert daemon.next_message() == other
    client.feed(daemon.send(other))
    assert client.next_message() == other
    assert client.hello == other


def allowed_by_hand(
    state: State, greeted: bool, message: messages.Message, of_client: bool, late: dict[str, int]
) -> bool:
    """The rules once more, in other words than the table's."""
    name = type(message).__name__
    if of_client:
        return {
            State.NEW: name == "Hello",
            State.READY: late.get(name, 0) > 0 if name in ("Cancel", "Signal") else name != "Hello",
            State.RUNNING: name == "Cancel",
            State.STARTING: name == "Cancel",
            State.STARTED: name in ("Cancel", "Signal"),
        }.get(state, False)
    if name == "Failure":
        return state is not State.ENDED
    if name == "Hello":
        return not greeted and state not in (State.ENDED, State.BROKEN)
    if name == "Result":
        return greeted and state in (State.RUNNING, State.STARTING, State.STARTED)
    return greeted and (state, name) in (
        (State.STARTING, "Started"),
        (State.CHECKING, "Verdict"),
        (State.ASKING, "Report"),
    )


@given(st.lists(st.tuples(st.booleans(), requests, answers), max_size=30))
def test_any_conversation(steps: list[tuple[bool, messages.Message, messages.Message]]) -> None:
    """Both sides agree with each other, and with the rules, whatever is tried in whatever order."""
    client, daemon = ClientExchange(), DaemonExchange()
    greeted = False
    late: dict[str, int] = {}
    for of_client, request, answer in steps:
        message = request if of_client else answer
        may = allowed_by_hand(client.state, greeted, message, of_client, late)
        before = client.state
        try:
            if of_client:
                assert type(message) in messages.REQUESTS.values()
                data = client.send(message)  # type: ignore[arg-type]
                daemon.feed(data)
                assert daemon.next_message() == message
            else:
                assert type(message) in messages.ANSWERS.values()
                data = daemon.send(message)  # type: ignore[arg-type]
                client.feed(data)
                assert client.next_message() == message
                greeted = greeted or isinstance(message, messages.Hello)
        except LocalProtocolError:
            assert not may
        else:
            assert may
            if of_client and before is State.READY:
                late[type(message).__name__] = late.get(type(message).__name__, 0) - 1
            elif not of_client and before is not State.READY and client.state is State.READY:
                command = before in (State.RUNNING, State.STARTING, State.STARTED)
                late = {"Cancel": int(command), "Signal": 16 * (before is State.STARTED)}
        assert client.state is daemon.state


@given(st.lists(st.binary(max_size=60) | requests.map(encode) | answers.map(encode), max_size=8))
def test_any_bytes_to_either_side(pieces: list[bytes]) -> None:
    for exchange in (ClientExchange(), DaemonExchange()):
        for piece in pieces:
            exchange.feed(piece)
            try:
                while exchange.next_message() is not None:
                    pass
            except RemoteProtocolError:
                assert exchange.state is State.BROKEN
                break
