"""A caller that goes away takes its command with it, and leaves the pool as it was."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import eventlet
import greenlet
import pytest

from rootwrap_daemon.client import Client, green
from tests.unit.client.fake_daemon import PATIENCE, FakeDaemon


@pytest.fixture(params=["run", "check"])
def again(request: pytest.FixtureRequest, daemon: FakeDaemon) -> Callable[[Client], None]:
    """Uses the one connection there may be."""

    def use(client: Client) -> None:
        if request.param == "run":
            assert client.run(["echo", "x"]).stdout == b"x"
        else:
            assert client.allows(["echo"]).allowed

    return use


def eventually(condition: Callable[[], bool]) -> None:
    """Let the hub go round until this holds."""
    with eventlet.Timeout(PATIENCE):
        while not condition():
            eventlet.sleep(0.01)


@pytest.fixture
def one(path: Path) -> Iterator[green.Client]:
    """A client of a single connection: if that is lost, the next caller hangs."""
    with green.Client(path, 1, connect_timeout=PATIENCE) as client:
        yield client


def test_a_greenthread_is_killed(
    daemon: FakeDaemon, one: green.Client, again: Callable[[Client], None]
) -> None:
    thread = eventlet.spawn(one.run, ["wait"])
    eventually(lambda: daemon.running == 1)
    thread.kill()
    with pytest.raises(greenlet.GreenletExit):
        thread.wait()
    assert daemon.went.acquire(timeout=PATIENCE)
    assert not one._calls.connections.open
    again(one)


def test_a_greenthread_times_out(daemon: FakeDaemon, one: green.Client) -> None:
    thread = eventlet.spawn(one.run, ["wait"])
    eventually(lambda: daemon.running == 1)
    thread.kill(eventlet.Timeout())
    with pytest.raises(eventlet.Timeout):
        thread.wait()
    assert daemon.went.acquire(timeout=PATIENCE)
    one.run(["echo"])


def test_a_greenthread_is_killed_while_it_waits_for_a_connection(
    daemon: FakeDaemon, one: green.Client
) -> None:
    first = eventlet.spawn(one.run, ["wait", "first"])
    eventually(lambda: daemon.running == 1)
    second = eventlet.spawn(one.run, ["echo", "second"])
    third = eventlet.spawn(one.run, ["echo", "third"])
    eventlet.sleep(0.05)
    second.kill()
    daemon.go_on()
    assert first.wait().stdout == b"first"
    assert third.wait().stdout == b"third"
    assert daemon.ran == 2


def test_a_greenthread_is_killed_when_it_was_just_granted(daemon: FakeDaemon, one: green.Client) -> None:
    """It has been given the connection, and has not come to run since: the connection is not lost."""

    def call() -> bytes:
        done = one.run(["wait", "first"]).stdout
        second.kill()
        return done

    first = eventlet.spawn(call)
    eventually(lambda: daemon.running == 1)
    second = eventlet.spawn(one.run, ["echo", "second"])
    third = eventlet.spawn(one.run, ["echo", "third"])
    eventlet.sleep(0.05)
    daemon.go_on()
    assert first.wait() == b"first"
    assert third.wait().stdout == b"third"
    assert daemon.ran == 2


@pytest.fixture
def interrupt() -> Iterator[int]:
    """A signal that raises KeyboardInterrupt in the main thread, the first time that it is handled."""
    handled = False

    def handler(_signum: int, _frame: FrameType | None) -> None:
        nonlocal handled
        if not handled:
            handled = True
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGUSR1, handler)
    yield signal.SIGUSR1
    signal.signal(signal.SIGUSR1, before)


def test_ctrl_c(daemon: FakeDaemon, path: Path, interrupt: int, again: Callable[[Client], None]) -> None:
    over = threading.Event()

    def press() -> None:
        assert daemon.began.acquire(timeout=PATIENCE)
        # Again: one that comes just before the interpreter waits in the kernel does not wake it.
        while not over.is_set():
            os.kill(os.getpid(), interrupt)
            over.wait(0.1)

    with Client(path, 1, connect_timeout=PATIENCE) as client:
        thread = threading.Thread(target=press, daemon=True)
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            client.run(["wait"])
        over.set()
        thread.join()
        assert daemon.went.acquire(timeout=PATIENCE)
        assert not client._calls.connections.open
        again(client)
