"""One client's socket: what arrives at the last moment is served, what comes late is not."""

import contextlib
import os
import socket
from collections.abc import Callable, Iterator

import pytest

from rootwrap_daemon.daemon.request import Wish
from rootwrap_daemon.daemon.run.instance import Turns
from rootwrap_daemon.daemon.serve.connection import Closed, Connection, Share
from rootwrap_daemon.errors import RemoteProtocolError
from rootwrap_daemon.protocol.client_side import ClientExchange
from rootwrap_daemon.protocol.messages import (
    MAX_ANSWER_FRAME,
    STDIN,
    STDOUT,
    VERSION,
    Cancel,
    Check,
    Hello,
    Request,
    Run,
    Signal,
    Start,
    Started,
)
from tests.processes import our_descriptors

FREE = Share(lambda count: True, lambda count: None)


class Ends:
    """Both ends of a connection; the daemon's has a short patience."""

    def __init__(self, share: Share = FREE) -> None:
        ours, self.client = socket.socketpair()
        self.connection = Connection(ours, share, Turns(4).of(0), 0.05)
        self.connection.start()
        self.exchange = ClientExchange()

    def say(self, *messages: Request) -> None:
        self.client.sendall(b"".join(map(self.exchange.send, messages)))


@pytest.fixture
def ends() -> Iterator[Ends]:
    made = Ends()
    yield made
    made.connection.close()
    made.client.close()


HELLO = Hello(VERSION, MAX_ANSWER_FRAME)


def test_silence_ends_it(ends: Ends) -> None:
    with pytest.raises(Closed):
        ends.connection.receive()
    with pytest.raises(BrokenPipeError):
        ends.say(HELLO)


def test_request_that_arrives_as_patience_ends_is_served(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    # The timeout fires, and before anything is done about it the request arrives.
    real = ends.connection._read
    calls = iter([True])

    def read() -> None:
        if next(calls, False):
            ends.say(HELLO, Check((b"true",)))
            raise BlockingIOError
        real()

    monkeypatch.setattr(ends.connection, "_read", read)
    assert ends.connection.receive() == HELLO
    assert ends.connection.receive() == Check((b"true",))
    with pytest.raises(OSError, match="Broken pipe"):
        ends.client.send(b"x")


def test_half_a_request_is_not_waited_for(ends: Ends) -> None:
    ends.client.sendall(b"\0\0")
    with pytest.raises(Closed):
        ends.connection.receive()


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    made = os.pipe()
    yield made
    for end in made:
        os.close(end)


START = Start((b"cat",), (), STDIN + STDOUT)
#: Writes, each with so many descriptors.
MISPLACED: dict[str, list[tuple[Request, int]]] = {
    "with a hello": [(HELLO, 1)],
    "with a run": [(HELLO, 0), (Run((b"cat",)), 1)],
    "with a check": [(HELLO, 0), (Check((b"cat",)), 3)],
    "none": [(HELLO, 0), (START, 0)],
    "too few": [(HELLO, 0), (START, 1)],
    "too many": [(HELLO, 0), (START, 3)],
    "more than there is room for": [(HELLO, 0), (START, 4)],
    "as many as can be": [(HELLO, 0), (START, 253)],
    "with both": [(HELLO, 2), (START, 2)],
}


@pytest.mark.parametrize("name", MISPLACED)
@pytest.mark.parametrize("at_once", [True, False])
def test_descriptors_where_none_may_be(ends: Ends, name: str, at_once: bool) -> None:
    before = our_descriptors()
    writes = MISPLACED[name]
    # Each is read as soon as it is written, or all at the end.
    with pytest.raises(RemoteProtocolError):
        for message, count in writes:
            socket.send_fds(ends.client, [ends.exchange.send(message)], [0] * count)
            if not at_once:
                ends.connection.receive()
        for _ in writes:
            ends.connection.receive()
    ends.connection.close()
    assert our_descriptors() == before - 1


def test_descriptors_in_the_middle_of_a_message(ends: Ends) -> None:
    before = our_descriptors()
    ends.say(HELLO)
    assert ends.connection.receive() == HELLO
    frame = ends.exchange.send(START)
    ends.client.sendall(frame[:-1])
    ends.connection._read()
    socket.send_fds(ends.client, [frame[-1:]], [0, 0])
    with pytest.raises(RemoteProtocolError):
        ends.connection.receive()
    ends.connection.close()
    assert our_descriptors() == before - 1


def test_descriptors_during_a_run(ends: Ends) -> None:
    ends.say(HELLO, Run((b"sleep",)))
    ends.connection.receive()
    ends.connection.receive()
    socket.send_fds(ends.client, [ends.exchange.send(Cancel())], [0])
    assert ends.connection.listen(print) is Wish.GONE


@pytest.mark.parametrize("at_once", [True, False])
def test_descriptors_of_a_start(ends: Ends, pipe: tuple[int, int], at_once: bool) -> None:
    ends.say(HELLO)
    if not at_once:
        assert ends.connection.receive() == HELLO
    socket.send_fds(ends.client, [ends.exchange.send(START)], pipe)
    if at_once:
        assert ends.connection.receive() == HELLO
    assert ends.connection.receive() == START
    taken = ends.connection.take_descriptors()
    assert [os.fstat(one).st_ino for one in taken] == [os.fstat(one).st_ino for one in pipe]
    assert not any(os.get_inheritable(one) for one in taken)
    for one in taken:
        os.close(one)


def test_signals_are_heard(ends: Ends, pipe: tuple[int, int]) -> None:
    heard: list[int] = []
    ends.say(HELLO)
    socket.send_fds(ends.client, [ends.exchange.send(START)], pipe)
    for _ in range(2):
        ends.connection.receive()
    for one in ends.connection.take_descriptors():
        os.close(one)
    for answer in (HELLO, Started("r", 1, 2**15)):
        ends.connection.answer(answer)
        ends.exchange.feed(ends.client.recv(4096))
        ends.exchange.next_message()
    ends.say(Signal(15), Signal(1))
    assert ends.connection.listen(heard.append) is Wish.NOTHING
    assert heard == [15, 1]


@pytest.mark.parametrize(
    ("said", "wish"), [([], Wish.NOTHING), ([Cancel()], Wish.CANCEL), ([Cancel()] * 5000, Wish.CANCEL)]
)
def test_what_is_heard_during_a_run(ends: Ends, said: list[Cancel], wish: Wish) -> None:
    ends.say(HELLO, Run((b"sleep",)), *said)
    ends.connection.receive()
    ends.connection.receive()
    # A little at each look, and in the end all of it.
    heard = [ends.connection.listen(print) for _ in range(len(said) * 6 // 4096 + 2)]
    assert set(heard) == {wish, Wish.NOTHING}
    assert heard[-1] is Wish.NOTHING


@pytest.mark.timeout(60)
def test_a_client_that_never_stops_talking_is_not_listened_to_for_ever(ends: Ends) -> None:
    ends.say(HELLO, Run((b"sleep",)))
    ends.connection.receive()
    ends.connection.receive()
    words = ends.exchange.send(Cancel()) * 5000

    def read(real: Callable[[], bool] = ends.connection._read_plain) -> bool:
        # There is always more, as from a client that writes faster than it is read.
        with contextlib.suppress(BlockingIOError):
            ends.client.send(words, socket.MSG_DONTWAIT)
        return real()

    ends.connection._read_plain = read  # type: ignore[method-assign]
    assert ends.connection.listen(print) is Wish.CANCEL
    # Of what was read nothing waits to be heard.
    assert ends.connection._exchange.next_message() is None


def test_end_of_what_a_client_writes_is_not_its_end(ends: Ends) -> None:
    ends.say(HELLO, Run((b"sleep",)))
    ends.client.shutdown(socket.SHUT_WR)
    ends.connection.receive()
    ends.connection.receive()
    assert ends.connection.listen(print) is Wish.SILENT


def test_what_is_held_is_given_back() -> None:
    held: list[int] = []
    ends = Ends(Share(lambda count: held.append(count) or True, lambda count: held.append(-count)))  # type: ignore[func-returns-value]
    assert ends.connection.hold(7)
    hold = ends.connection.output_holder()
    assert hold(64 * 1024)
    assert hold(5)
    ends.connection.close()
    ends.client.close()
    assert held == [7, 5, -12]
