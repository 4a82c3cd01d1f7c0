"""What is tried again, and what never is."""

import math
import socket
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from rootwrap_daemon.client import (
    Busy,
    Client,
    CommandTimeout,
    DaemonUnavailable,
    OutcomeUnknown,
    Stopping,
    TooLarge,
    core,
    request,
    threads,
)
from rootwrap_daemon.client.request import Attempt
from rootwrap_daemon.errors import RemoteProtocolError
from rootwrap_daemon.protocol.codec import encode
from rootwrap_daemon.protocol.messages import VERSION, Failure, Hello, Result
from tests.processes import wait_for
from tests.unit.client.fake_daemon import HELLO, PATIENCE, FakeDaemon, Peer

StartDaemon = Callable[..., FakeDaemon]
Script = Callable[[Peer], None]

#: More than a socket holds: a write of it ends only when the daemon reads.
LARGE = b"x" * (8 * 1024 * 1024)


def after(first: Script) -> Script:
    """`first` for the first connection, a good daemon for the others."""
    return lambda peer: first(peer) if peer.number == 1 else peer.serve()


def one_answer(peer: Peer) -> None:
    """Serve one request; the connection stays open."""
    peer.read()
    peer.say(Result("r", 0, b"one", b""))


def closing_soon(peer: Peer) -> None:
    """Close without a word, a moment later: the client has to wait for it."""
    threading.Event().wait(0.2)
    peer.sock.close()


def test_idle_and_closed(start_daemon: StartDaemon, client: Client) -> None:
    closed = threading.Event()

    def script(peer: Peer) -> None:
        one_answer(peer)
        peer.sock.close()
        closed.set()

    daemon = start_daemon(after(script))
    client.run(["echo"])
    closed.wait()
    assert client.run(["echo", "two"]).stdout == b"two"
    assert (daemon.connections, daemon.ran) == (2, 2)


@pytest.mark.parametrize("code", ["stopping", "busy", "unauthorized"])
def test_idle_and_told_something(start_daemon: StartDaemon, client: Client, code: str) -> None:
    idle, told = threading.Event(), threading.Event()

    def script(peer: Peer) -> None:
        one_answer(peer)
        idle.wait()
        peer.say(Failure("", code, "unasked"))
        told.set()
        peer.wait_for_end()

    daemon = start_daemon(after(script))
    client.run(["echo"])
    idle.set()
    told.wait()
    assert client.run(["echo", "two"]).stdout == b"two"
    assert (daemon.connections, daemon.ran) == (2, 2)


@pytest.mark.parametrize("data", [LARGE, b""], ids=["large", "small"])
def test_idle_and_taking_no_more(start_daemon: StartDaemon, client: Client, data: bytes) -> None:
    """The client sees no end yet; its write fails, nothing comes, and nothing was written."""
    ending = threading.Event()

    def script(peer: Peer) -> None:
        one_answer(peer)
        peer.takes_no_more()
        ending.set()
        closing_soon(peer)

    daemon = start_daemon(after(script))
    client.run(["echo"])
    ending.wait()
    assert client.run(["cat"], input=data).stdout == data
    assert (daemon.connections, daemon.ran) == (2, 2)


def test_idle_and_the_reason_crosses_the_request(start_daemon: StartDaemon, client: Client) -> None:
    """The write fails, but a reason comes; it decides, and this one allows another try."""
    ending = threading.Event()

    def script(peer: Peer) -> None:
        one_answer(peer)
        peer.takes_no_more()
        ending.set()
        threading.Event().wait(0.2)
        peer.say(Failure("", "stopping", "bye"))

    daemon = start_daemon(after(script))
    client.run(["echo"])
    ending.wait()
    assert client.run(["echo", "two"]).stdout == b"two"
    assert (daemon.connections, daemon.ran) == (2, 2)


def test_the_daemon_was_restarted(daemon: FakeDaemon, client: Client, path: Path) -> None:
    assert client.run(["echo", "one"]).stdout == b"one"
    daemon.stop()
    with pytest.raises(DaemonUnavailable):
        client.run(["echo"])
    with FakeDaemon(path):
        assert client.run(["echo", "two"]).stdout == b"two"


def test_stopping_when_reused(start_daemon: StartDaemon, client: Client) -> None:
    def script(peer: Peer) -> None:
        one_answer(peer)
        peer.read()
        peer.say(Failure("", "stopping", "bye"))

    daemon = start_daemon(after(script))
    client.run(["echo"])
    assert client.run(["echo", "two"]).stdout == b"two"
    assert (daemon.connections, daemon.ran) == (2, 3)


def test_stopping_when_reused_and_again(start_daemon: StartDaemon, client: Client) -> None:
    def script(peer: Peer) -> None:
        if peer.number == 1:
            one_answer(peer)
        peer.read()
        peer.say(Failure("", "stopping", "bye"))

    daemon = start_daemon(script)
    client.run(["echo"])
    with pytest.raises(Stopping):
        client.run(["echo"])
    assert (daemon.connections, daemon.ran) == (2, 3)


def test_stopping_when_fresh(start_daemon: StartDaemon, client: Client) -> None:
    def script(peer: Peer) -> None:
        peer.read()
        peer.say(Failure("", "stopping", "bye"))

    daemon = start_daemon(script)
    with pytest.raises(Stopping):
        client.run(["echo"])
    assert (daemon.connections, daemon.ran) == (1, 1)


def test_busy_when_reused(start_daemon: StartDaemon, client: Client) -> None:
    def script(peer: Peer) -> None:
        one_answer(peer)
        peer.read()
        peer.say(Failure("", "busy", "no"))

    daemon = start_daemon(after(script))
    client.run(["echo"])
    with pytest.raises(Busy):
        client.run(["echo"])
    assert (daemon.connections, daemon.ran) == (1, 2)


def test_a_last_attempt_is_the_last() -> None:
    """Whatever a front end does, an attempt that it calls the last asks for no other."""
    run = core.run_request(["x"], None, None, None)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        connection = request.Connection(math.inf, ours.detach())
        connection.exchange.send(HELLO)
        answer = Failure("r-1", "stopping", "bye")
        theirs.sendall(encode(answer))
        assert threads.now(Attempt(connection, run, None, last=True).answer(wait)) == answer
        connection.close()
    ours, theirs = socket.socketpair()
    with ours:
        connection = request.Connection(math.inf, ours.detach())
        theirs.close()
        with pytest.raises(DaemonUnavailable):
            threads.now(Attempt(connection, run, None, last=True).answer(wait))
        connection.close()


async def wait(readable: Sequence[int], writable: Sequence[int], timeout: float | None) -> Sequence[int]:
    """As a native thread does."""
    return threads.wait(readable, writable, timeout)


def refuse_hello(peer: Peer) -> None:
    """Take what comes with the hello, and end."""
    peer.sock.recv(8)
    peer.takes_no_more()
    closing_soon(peer)


def test_an_incomplete_request_is_tried_again(start_daemon: StartDaemon, client: Client) -> None:
    daemon = start_daemon(after(refuse_hello))
    assert client.run(["cat"], input=LARGE).stdout == LARGE
    assert (daemon.connections, daemon.ran) == (2, 1)


def test_the_end_comes_before_a_write_fails(start_daemon: StartDaemon, client: Client) -> None:
    """The client waits for the socket to take more, and it is the end that it sees first."""

    def script(peer: Peer) -> None:
        threading.Event().wait(0.2)
        peer.sock.close()

    daemon = start_daemon(after(script))
    assert client.run(["cat"], input=LARGE).stdout == LARGE
    assert (daemon.connections, daemon.ran) == (2, 1)


def test_but_once_only(start_daemon: StartDaemon, client: Client) -> None:
    daemon = start_daemon(refuse_hello)
    with pytest.raises(DaemonUnavailable, match="nothing ran"):
        client.run(["cat"], input=LARGE)
    assert (daemon.connections, daemon.ran) == (2, 0)


@pytest.mark.parametrize("closed", [True, False], ids=["closed", "shut"])
def test_a_refusal_while_writing(start_daemon: StartDaemon, client: Client, closed: bool) -> None:
    """The write fails; what the daemon said meanwhile decides."""

    def script(peer: Peer) -> None:
        peer.sock.recv(8)
        peer.say_anyway(HELLO, Failure("r-1", "too_large", "too much"))
        if closed:
            peer.sock.close()
        else:
            peer.takes_no_more()
            peer.wait_for_end()

    daemon = start_daemon(script)
    with pytest.raises(TooLarge, match="too much"):
        client.run(["cat"], input=LARGE)
    assert daemon.connections == 1


def test_a_result_while_writing(start_daemon: StartDaemon, client: Client) -> None:
    def script(peer: Peer) -> None:
        peer.sock.recv(8)
        peer.say_anyway(HELLO, Result("r-1", 0, b"early", b""))
        peer.takes_no_more()
        peer.wait_for_end()

    daemon = start_daemon(after(script))
    assert client.run(["cat"], input=LARGE).stdout == b"early"
    # Half a request lies on that connection: it is of no use any more.
    assert not client._calls.connections.open
    assert client.run(["echo", "two"]).stdout == b"two"
    assert daemon.connections == 2


def lost(peer: Peer) -> None:
    """Take the request, and end without an answer."""
    peer.read()


def lost_unread(peer: Peer) -> None:
    """End with the request unread: the client gets ECONNRESET."""
    # Hello and request come at once.
    peer.sock.recv(1, socket.MSG_PEEK)
    peer.sock.close()


def lost_in_the_middle(peer: Peer) -> None:
    """End within the answer."""
    peer.read()
    peer.sock.sendall(encode(Result("r-1", 0, b"x" * 100000, b""))[:-1])


@pytest.mark.parametrize("script", [lost, lost_in_the_middle])
def test_a_complete_request_is_never_sent_again(
    start_daemon: StartDaemon, client: Client, script: Script
) -> None:
    daemon = start_daemon(script)
    with pytest.raises(OutcomeUnknown, match="may have run"):
        client.run(["echo"])
    assert daemon.connections == 1
    assert daemon.ran <= 1


def test_an_end_before_the_hello_ran_nothing(start_daemon: StartDaemon, client: Client) -> None:
    daemon = start_daemon(lost_unread)
    with pytest.raises(DaemonUnavailable, match="the daemon closed the connection: nothing ran"):
        client.run(["echo"])
    assert (daemon.connections, daemon.ran) == (1, 0)


@pytest.mark.parametrize("script", [lost, lost_in_the_middle])
def test_nor_on_a_reused_connection(start_daemon: StartDaemon, client: Client, script: Script) -> None:
    def first_one(peer: Peer) -> None:
        one_answer(peer)
        script(peer)

    daemon = start_daemon(first_one)
    client.run(["echo"])
    with pytest.raises(OutcomeUnknown):
        client.run(["echo"])
    assert (daemon.connections, daemon.ran) == (1, 2)


def test_a_lost_check_ran_nothing(start_daemon: StartDaemon, client: Client) -> None:
    daemon = start_daemon(lost)
    with pytest.raises(DaemonUnavailable, match="nothing ran"):
        client.allows(["echo"])
    assert daemon.connections == 1


@pytest.mark.parametrize(
    "junk",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\xff\xff\xff\xff",
        b"\0\0\0\1\xc1",
        encode(HELLO) + encode(HELLO),
        encode(Result("r", 0, b"", b"")),
        encode(HELLO) + b"\0\0\0\2\x91\x63",
    ],
    ids=["http", "length", "msgpack", "two hellos", "no hello", "type"],
)
def test_junk_after_a_complete_request(start_daemon: StartDaemon, client: Client, junk: bytes) -> None:
    def script(peer: Peer) -> None:
        while not peer.exchange.next_message():
            peer.exchange.feed(peer.sock.recv(65536))
        peer.sock.sendall(junk)
        peer.wait_for_end()

    daemon = start_daemon(after(script))
    with pytest.raises(OutcomeUnknown) as caught:
        client.run(["echo"])
    assert isinstance(caught.value.__cause__, RemoteProtocolError)
    assert client.run(["echo", "two"]).stdout == b"two"
    assert daemon.connections == 2


def test_junk_instead_of_taking_the_request(start_daemon: StartDaemon, client: Client) -> None:
    def script(peer: Peer) -> None:
        peer.sock.recv(8)
        peer.sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        peer.takes_no_more()
        peer.wait_for_end()

    daemon = start_daemon(script)
    with pytest.raises(DaemonUnavailable, match="nothing ran") as caught:
        client.run(["cat"], input=LARGE)
    assert isinstance(caught.value.__cause__, RemoteProtocolError)
    assert daemon.connections == 1


def test_another_version(start_daemon: StartDaemon, client: Client) -> None:
    def script(peer: Peer) -> None:
        peer.sock.recv(8)
        # A later version may say more in its hello, and something else after it.
        peer.sock.sendall(b"\0\0\0\x0a\x95\0\7\xce\0\1\0\0\0\xc0" + b"\0\0\0\2\x91\x2a")
        peer.wait_for_end()

    daemon = start_daemon(script)
    with pytest.raises(DaemonUnavailable, match=f"version 7 .* {VERSION}"):
        client.run(["echo"])
    assert daemon.connections == 1


def test_more_than_the_answer(start_daemon: StartDaemon, client: Client) -> None:
    """What follows an answer is not taken for the next one."""

    def script(peer: Peer) -> None:
        peer.read()
        peer.say_anyway(Result("r", 0, b"one", b""), Result("r", 0, b"false", b""))
        peer.wait_for_end()

    daemon = start_daemon(after(script))
    assert client.run(["echo", "one"]).stdout == b"one"
    assert client.run(["echo", "two"]).stdout == b"two"
    assert daemon.connections == 2


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client guards itself after 0.3 s instead of 10."""
    monkeypatch.setattr(request, "SLACK", 0.3)


@pytest.mark.usefixtures("impatient")
def test_no_answer_long_after_the_deadline(start_daemon: StartDaemon, client: Client) -> None:
    def script(peer: Peer) -> None:
        # From now on it is known that what is written may run, however late it is read.
        one_answer(peer)
        peer.read()
        asked.set()
        peer.wait_for_end()

    asked = threading.Event()
    daemon = start_daemon(script)
    client.run(["echo"])
    with pytest.raises(OutcomeUnknown, match="in time"):
        client.run(["sleep", "9"], timeout=0.1)
    asked.wait()
    assert (daemon.connections, daemon.ran) == (1, 2)


@pytest.mark.usefixtures("impatient")
def test_the_grace_period_is_waited_for(start_daemon: StartDaemon, client: Client) -> None:
    def script(peer: Peer) -> None:
        one_answer(peer)
        peer.read()
        threading.Event().wait(0.8)
        peer.say(Failure("r-1", "timeout", "too late"))

    start_daemon(script, hello=Hello(VERSION, HELLO.max_frame, 60_000))
    client.run(["echo"])
    with pytest.raises(CommandTimeout):
        client.run(["sleep", "9"], timeout=0.1)


@pytest.mark.usefixtures("impatient")
def test_a_request_that_is_not_taken_in_time(start_daemon: StartDaemon, client: Client) -> None:
    over = threading.Event()
    daemon = start_daemon(lambda peer: bool(over.wait(PATIENCE)))
    with pytest.raises(DaemonUnavailable, match="nothing ran"):
        client.run(["cat"], input=LARGE, timeout=0.1)
    over.set()
    # The daemon accepts when it comes to it: behind one more, all there were are counted.
    with socket.socket(socket.AF_UNIX) as last:
        last.connect(str(daemon.path))
        wait_for(lambda: daemon.connections > 1)
    assert daemon.connections == 2


@pytest.mark.usefixtures("impatient")
def test_silence_after_a_failed_write(start_daemon: StartDaemon, client: Client) -> None:
    """A daemon that takes no more and does not end either is not waited for without end."""

    def script(peer: Peer) -> None:
        one_answer(peer)
        peer.takes_no_more()
        ending.set()
        over.wait()

    ending, over = threading.Event(), threading.Event()
    daemon = start_daemon(after(script))
    client.run(["echo"])
    ending.wait()
    assert client.run(["echo", "two"]).stdout == b"two"
    over.set()
    assert (daemon.connections, daemon.ran) == (2, 2)
