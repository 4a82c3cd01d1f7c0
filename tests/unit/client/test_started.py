"""Commands on pipes, where what the daemon says and what the pipes hold come in any order."""

import asyncio
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import eventlet
import pytest

from rootwrap_daemon.client import PIPE, Client, CommandTimeout, green
from rootwrap_daemon.client.aio import AsyncClient
from rootwrap_daemon.protocol.messages import Failure, Result, Run, Start, Started
from tests.unit.client.fake_daemon import PATIENCE, FakeDaemon, Peer

StartDaemon = Callable[..., FakeDaemon]


class Commands:
    """A daemon whose commands write `out` and `err`, and have ended when that is read.

    It says that one has ended with the same write as that it has started, or after `between`.
    """

    def __init__(
        self,
        *,
        end: Callable[[str], Result | Failure] = lambda name: Result(name, 3, b"", b""),
        between: Callable[[], object] | None = None,
        after: Callable[[], object] = lambda: None,
    ) -> None:
        self.end = end
        self.between = between
        self.after = after

    def __call__(self, peer: Peer) -> None:
        while (request := self.read(peer)) is not None:
            _, descriptors = request
            name = f"r-{peer.number}"
            said = peer.exchange.send(Started(name, 4711, 0))
            if self.between is not None:
                peer.sock.sendall(said)
                said = b""
                self.between()
            for descriptor, data in zip(descriptors[-2:], (b"out", b"err"), strict=True):
                os.write(descriptor, data)
            peer.sock.sendall(said + peer.exchange.send(self.end(name)))
            for descriptor in descriptors:
                os.close(descriptor)
            self.after()

    def read(self, peer: Peer) -> tuple[Start, list[int]] | None:
        """The next Start with its descriptors."""
        found: list[int] = []
        while True:
            message = peer.exchange.next_message()
            if isinstance(message, Start):
                return message, found
            assert not isinstance(message, Run)
            if message is None:
                data, descriptors, _, _ = socket.recv_fds(peer.sock, 65536, 3)
                found += descriptors
                if not data:
                    return None
                peer.exchange.feed(data)
            else:
                peer.say(peer.daemon.hello)


@pytest.mark.parametrize("input", [None, b"", b"in"])
def test_captured_on_pipes_over_one_connection(
    start_daemon: StartDaemon, client: Client, input: bytes | None
) -> None:
    daemon = start_daemon(Commands())
    for _ in range(5):
        done = client.run(["x"], input=input, capture="pipe")
        assert (done.returncode, done.stdout, done.stderr) == (3, b"out", b"err")
    assert daemon.connections == 1


def test_a_failure_on_pipes(start_daemon: StartDaemon, client: Client) -> None:
    """One about the command alone leaves the connection good."""
    daemon = start_daemon(Commands(end=lambda name: Failure(name, "timeout", "too late")))
    for number in (1, 2):
        with pytest.raises(CommandTimeout, match=r"^x: too late"):
            client.run(["x"], capture="pipe", timeout=2.5)
        assert daemon.connections == number


def test_the_end_comes_with_the_start(start_daemon: StartDaemon, client: Client, path: Path) -> None:
    start_daemon(Commands(end=lambda name: Result(name, 3, b"", b"", "stopping")))
    with client.popen(["x"], stdout=PIPE, stderr=PIPE) as process:
        assert process.pid == 4711
        assert process.communicate() == (b"out", b"err")
        assert (process.wait(), process.cause) == (3, "stopping")

    async def play() -> None:
        process = await AsyncClient(path).popen(["x"], stdout=PIPE, stderr=PIPE)
        async with process:
            assert process.pid == 4711
            assert await process.communicate() == (b"out", b"err")
            assert await process.wait() == 3
        done = await AsyncClient(path).run(["x"], capture="pipe")
        assert (done.returncode, done.stdout, done.stderr) == (3, b"out", b"err")

    asyncio.run(play())


def test_a_greenthread_is_woken_once(start_daemon: StartDaemon, path: Path) -> None:
    """Of three descriptors that are ready at once none wakes it where it waits for something else by then."""
    go, done = threading.Event(), threading.Event()
    start_daemon(Commands(between=lambda: go.wait(60), after=done.set))

    def stop_the_hub() -> None:
        go.set()
        assert done.wait(60)

    with green.Client(path) as client:
        for _ in range(5):
            go.clear()
            done.clear()
            eventlet.spawn_after(0.05, stop_the_hub)
            client.run(["x"], capture="pipe")
            queue: eventlet.Queue = eventlet.Queue()
            eventlet.spawn_after(0.01, queue.put, "mine")
            assert queue.get() == "mine"


def test_native_waiters_of_a_closed_client_are_woken(daemon: FakeDaemon, path: Path) -> None:
    client = Client(path, 1)
    running = threading.Thread(target=client.run, args=(["wait"],), daemon=True)
    running.start()
    assert daemon.began.acquire(timeout=PATIENCE)
    failed: list[BaseException] = []

    def waits() -> None:
        try:
            client.run(["echo"])
        except BaseException as error:
            failed.append(error)

    waiting = threading.Thread(target=waits)
    waiting.start()
    client.close()
    waiting.join(60)
    daemon.go_on()
    running.join(60)
    assert [str(error) for error in failed] == ["echo: this client is closed"]
