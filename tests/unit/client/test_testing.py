"""What agents test with: a client and a daemon that answer by a script."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from rootwrap_daemon.client import PIPE, Client
from rootwrap_daemon.client.aio import AsyncClient
from rootwrap_daemon.errors import (
    BadRequest,
    CommandFailed,
    CommandTimeout,
    Denied,
    LocalProtocolError,
    OutcomeUnknown,
)
from rootwrap_daemon.testing import Asked, FakeClient, FakeDaemon, Reply

PAGE = Path(__file__).parents[3] / "doc/source/user/clients.rst"


def test_a_client_without_a_socket() -> None:
    client = FakeClient()
    client.on(["ip", "link", ...], stdout="lo\n")
    client.on(["ip", "link", "add"], returncode=2, stderr=b"no")
    client.on(["vacuumdb"], user="postgres")
    assert client.run(["ip", "link", "show"], text=True).stdout == "lo\n"
    with pytest.raises(CommandFailed, match="ip returned 2: no"):
        client.run(["ip", "link", "add"], check=True)
    with pytest.raises(Denied, match="no filter allows this command"):
        client.run(["ip", "addr"])
    with pytest.raises(Denied):
        client.run(["vacuumdb"])
    assert client.run([b"vacuumdb"], user="postgres", input=b"in", env={"A": "b"}, timeout=3).returncode == 0
    assert client.allows(["ip", "link"]).allowed
    assert not client.allows(["id"]).allowed
    assert client.asked[4] == Asked("run", ("vacuumdb",), {"A": "b"}, b"in", "postgres", 3)


def test_its_arguments_are_checked_as_by_the_real_one() -> None:
    client = FakeClient()
    client.on(["id", ...])
    for argv in ("id", [], ["id", "\0"], [""]):
        with pytest.raises(BadRequest):
            client.run(argv)
    with pytest.raises(BadRequest):
        client.run(["id"], user="0")
    with pytest.raises(CommandTimeout):
        client.run(["id"], timeout=0)
    assert not client.asked


def test_errors_of_the_daemon() -> None:
    client = FakeClient()
    client.on(["slow"], error=CommandTimeout)
    client.on(["lost"], error=OutcomeUnknown)
    with pytest.raises(CommandTimeout, match="slow: as the test says"):
        client.run(["slow"])
    with pytest.raises(OutcomeUnknown):
        client.run(["lost"])
    with pytest.raises(ValueError, match="none that a daemon says"):
        client.on(["x"], error=LocalProtocolError)


def test_a_daemon_for_every_front_end() -> None:
    with FakeDaemon() as daemon:
        daemon.on(["cat"], call=lambda asked: Reply(stdout=asked.stdin or b""))
        daemon.on(["both"], returncode=3, stdout="out", stderr="err")
        with Client(daemon.path) as client:
            assert client.run(["cat"], input="in", text=True).stdout == "in"
            done = client.run(["both"], capture="pipe")
            assert (done.returncode, done.stdout, done.stderr) == (3, b"out", b"err")
            with client.popen(["cat"], stdin=PIPE, stdout=PIPE) as process:
                assert process.communicate(b"much" * 100_000) == (b"much" * 100_000, None)
            with pytest.raises(Denied):
                client.popen(["id"])
            assert client.allows(["cat"]).allowed
            assert client.status() == {}

        async def ask() -> None:
            async with AsyncClient(daemon.path) as client:
                assert (await client.run(["both"])).stdout == b"out"
                async with await client.popen(["both"], stderr=PIPE) as process:
                    assert await process.communicate() == (None, b"err")

        asyncio.run(ask())
    assert [one.kind for one in daemon.asked] == ["run", "popen", "popen", "popen", "check", "run", "popen"]
    assert not Path(daemon.path).parent.exists()


def test_a_client_that_speaks_otherwise_ends_alone() -> None:
    import socket

    with FakeDaemon() as daemon:
        daemon.on(["id"])
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(daemon.path)
            sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
            assert sock.recv(100) == b""
        with Client(daemon.path) as client:
            assert client.run(["id"]).returncode == 0


def test_the_page_shows_what_works(tmp_path: Path) -> None:
    """The block of the page about tests is a test file that passes."""
    _, _, rest = PAGE.read_text().partition("In an agent's own tests\n")
    _, _, code = rest.partition(".. code-block:: python\n\n")
    lines = []
    for line in code.split("\n"):
        if line and not line.startswith("    "):
            break
        lines.append(line[4:])
    (tmp_path / "test_agent.py").write_text("\n".join(lines))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_agent.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "2 passed" in done.stdout, done.stdout
