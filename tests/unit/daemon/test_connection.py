"""One client's socket: what arrives at the last moment is served, what comes late is not."""

import socket
from collections.abc import Iterator

import pytest

from rootwrap_daemon.daemon.connection import Closed, Connection, Share
from rootwrap_daemon.daemon.executor import Wish
from rootwrap_daemon.errors import RemoteProtocolError
from rootwrap_daemon.protocol.exchange import ClientExchange
from rootwrap_daemon.protocol.messages import MAX_ANSWER_FRAME, VERSION, Cancel, Check, Hello, Run

FREE = Share(lambda count: True, lambda count: None)


class Ends:
    """Both ends of a connection; the daemon's has a short patience."""

    def __init__(self, share: Share = FREE) -> None:
        ours, self.client = socket.socketpair()
        self.connection = Connection(ours, share, 0.05)
        self.connection.start()
        self.exchange = ClientExchange()

    def say(self, *messages: Hello | Run | Check | Cancel) -> None:
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

    def read(flags: int = 0) -> None:
        if next(calls, False):
            ends.say(HELLO, Check((b"true",)))
            raise BlockingIOError
        real(flags)

    monkeypatch.setattr(ends.connection, "_read", read)
    assert ends.connection.receive() == HELLO
    assert ends.connection.receive() == Check((b"true",))
    with pytest.raises(OSError, match="Broken pipe"):
        ends.client.send(b"x")


def test_half_a_request_is_not_waited_for(ends: Ends) -> None:
    ends.client.sendall(b"\0\0")
    with pytest.raises(Closed):
        ends.connection.receive()


def test_descriptors_are_refused(ends: Ends) -> None:
    socket.send_fds(ends.client, [b"x"], [0])
    with pytest.raises(RemoteProtocolError):
        ends.connection.receive()


@pytest.mark.parametrize(
    ("said", "wish"), [([], Wish.NOTHING), ([Cancel()], Wish.CANCEL), ([Cancel()] * 5000, Wish.CANCEL)]
)
def test_what_is_heard_during_a_run(ends: Ends, said: list[Cancel], wish: Wish) -> None:
    ends.say(HELLO, Run((b"sleep",)), *said)
    ends.connection.receive()
    ends.connection.receive()
    assert ends.connection.listen() is wish
    # All of it was taken.
    assert ends.connection.listen() is Wish.NOTHING


def test_end_of_what_a_client_writes_is_not_its_end(ends: Ends) -> None:
    ends.say(HELLO, Run((b"sleep",)))
    ends.client.shutdown(socket.SHUT_WR)
    ends.connection.receive()
    ends.connection.receive()
    assert ends.connection.listen() is Wish.SILENT


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
