"""What it means when no connection can be made, and that a full queue is waited for."""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from rootwrap_daemon.client import Client, DaemonUnavailable, OutcomeUnknown, calls, request
from rootwrap_daemon.protocol.codec import encode
from tests.unit.client.fake_daemon import HELLO, FakeDaemon

ROOT = Path(__file__).parents[3]


def test_no_socket(client: Client, path: Path) -> None:
    with pytest.raises(DaemonUnavailable, match="no such socket: is the daemon running") as caught:
        client.run(["echo"])
    assert str(path) in str(caught.value)
    with pytest.raises(DaemonUnavailable):
        client.allows(["echo"])


def test_nobody_listens(client: Client, path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(path))
    with pytest.raises(DaemonUnavailable, match="nobody listens"):
        client.run(["echo"])


def test_no_socket_but_a_file(client: Client, path: Path) -> None:
    path.touch()
    with pytest.raises(DaemonUnavailable, match="nobody listens"):
        client.run(["echo"])


def test_another_reason(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DaemonUnavailable, match="Not a directory"):
        Client(tmp_path / "file" / "socket").run(["echo"])
    with pytest.raises(DaemonUnavailable, match="too long"):
        Client(tmp_path / ("x" * 200)).run(["echo"])


def test_permission_denied(daemon: FakeDaemon, path: Path) -> None:
    program = """if True:
        import os, sys
        from rootwrap_daemon.client import Client, DaemonUnavailable
        client = Client(sys.argv[1])
        if os.geteuid() == 0:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
        try:
            client.run(["echo"])
        except DaemonUnavailable as error:
            print(error)
    """
    path.chmod(0)
    done = subprocess.run(
        [sys.executable, "-c", program, path], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "permission denied: is this user in the socket's group?" in done.stdout
    assert daemon.connections == 0


@pytest.mark.parametrize("kind", [str, os.fsencode, Path])
def test_a_path_of_each_type(daemon: FakeDaemon, path: Path, kind: type[str]) -> None:
    with Client(kind(path)) as client:
        assert client.run(["echo", "x"]).stdout == b"x"


@pytest.fixture
def listener(path: Path) -> Iterator[socket.socket]:
    """A daemon that listens, does not accept, and has as many waiting as it can."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(str(path))
        listener.listen(0)
        while True:
            waiting = stack.enter_context(socket.socket(socket.AF_UNIX))
            waiting.setblocking(False)
            try:
                waiting.connect(str(path))
            except BlockingIOError:
                break
        yield listener


def test_a_full_queue_that_empties(
    listener: socket.socket, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = threading.Event()
    # Kept, and so open.
    accepted: list[socket.socket] = []
    pauses = 0

    wait = client._wait

    def waits(readable: Sequence[int], writable: Sequence[int], timeout: float | None) -> Sequence[int]:
        nonlocal pauses
        if not readable:
            pauses += 1
            tried.set()
        return wait(readable, writable, timeout)

    monkeypatch.setattr(client, "_wait", waits)

    def accept() -> None:
        tried.wait()
        accepted.extend(listener.accept()[0] for _ in range(2))

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    # However late the other thread comes to accept.
    monkeypatch.setattr(calls, "_CONNECT_LEAST", 60.0)
    monkeypatch.setattr(client._calls, "_connect_timeout", 60.0)
    # The connection is made, and that this listener never answers is another matter.
    monkeypatch.setattr(request, "SLACK", 0.2)
    with pytest.raises(DaemonUnavailable, match="nothing ran"):
        client.run(["echo"], timeout=0.1)
    thread.join()
    for connection in accepted:
        connection.close()
    assert pauses > 0


@pytest.mark.usefixtures("listener")
def test_a_full_queue_that_stays_full(client: Client, path: Path) -> None:
    with (
        type(client)(path, connect_timeout=0.3) as hasty,
        pytest.raises(DaemonUnavailable, match=r"^echo: .* queue of new connections stayed full"),
    ):
        hasty.run(["echo"])
    assert not hasty._calls.connections.open


@pytest.mark.parametrize("capture", ["daemon", "pipe"])
def test_a_daemon_that_never_says_hello(path: Path, client: Client, capture: Any) -> None:
    """Its socket listens, and nobody serves it: a caller without a timeout comes back, too."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(8)
        with type(client)(path, connect_timeout=0.2) as hasty:
            with pytest.raises(
                DaemonUnavailable, match=r"^echo: the daemon did not say hello in time: nothing ran"
            ):
                hasty.run(["echo"], capture=capture)
            # And nothing can: whoever comes to serve it cannot say the hello that stands before a run.
            late, _ = listener.accept()
            with late, pytest.raises(BrokenPipeError):
                late.send(encode(HELLO))
            with pytest.raises(DaemonUnavailable, match=r"^echo: .*nothing ran"):
                hasty.allows(["echo"])
            with pytest.raises(DaemonUnavailable):
                hasty.status()
            # Half of a request can never run.
            with pytest.raises(DaemonUnavailable, match="nothing ran"):
                hasty.run(["cat"], input=bytes(8_000_000))
        assert not hasty._calls.connections.open


def test_a_hello_at_the_last_moment(path: Path, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes between the last look and the end of the client's patience: the command may have run."""
    with socket.socket(socket.AF_UNIX) as listener, ExitStack() as later:
        listener.bind(str(path))
        listener.listen(8)
        patience = request.Attempt._patience

        def greeted_meanwhile(attempt: request.Attempt) -> float | None:
            later.enter_context(listener.accept()[0]).send(encode(HELLO))
            attempt._greeted_by = 0.0
            return patience(attempt)

        monkeypatch.setattr(request.Attempt, "_patience", greeted_meanwhile)
        with pytest.raises(OutcomeUnknown, match="may have run"):
            client.run(["echo"])


def test_a_short_timeout_bounds_the_hello(
    path: Path, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "_CONNECT_LEAST", 0.2)
    monkeypatch.setattr(client._calls, "_connect_timeout", 3600.0)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(8)
        with pytest.raises(DaemonUnavailable, match="hello"):
            client.run(["echo"], timeout=0.1)
