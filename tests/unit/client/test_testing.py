"""What agents test with: a client and a daemon that answer by a script."""

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rootwrap_daemon import errors
from rootwrap_daemon.client import PIPE, Client
from rootwrap_daemon.client.aio import AsyncClient
from rootwrap_daemon.testing import Asked, FakeClient, FakeDaemon, Reply

PAGE = Path(__file__).parents[3] / "doc/source/user/clients.rst"


def test_a_client_without_a_socket() -> None:
    client = FakeClient()
    client.on(["ip", "link", ...], stdout="lo\n")
    client.on(["ip", "link", "add"], returncode=2, stderr=b"no")
    client.on(["vacuumdb"], user="postgres")
    assert client.run(["ip", "link", "show"], text=True).stdout == "lo\n"
    with pytest.raises(errors.CommandFailed, match="ip returned 2: no"):
        client.run(["ip", "link", "add"], check=True)
    with pytest.raises(errors.Denied, match="no filter allows this command"):
        client.run(["ip", "addr"])
    with pytest.raises(errors.Denied, match=r"^vacuumdb: no filter"):
        client.run(["vacuumdb"])
    with pytest.raises(errors.Denied, match=r"^vacuumdb as nobody: no filter") as caught:
        client.run(["vacuumdb"], user="nobody")
    assert repr(caught.value) == f"Denied({str(caught.value)!r})"
    assert client.run([b"vacuumdb"], user="postgres", input=b"in", env={"A": "b"}, timeout=3).returncode == 0
    assert client.allows(["ip", "link"]).allowed
    assert not client.allows(["id"]).allowed
    assert client.asked[5] == Asked("run", ("vacuumdb",), {"A": "b"}, b"in", "postgres", 3)


def test_its_arguments_are_checked_as_by_the_real_one() -> None:
    client = FakeClient()
    client.on(["id", ...])
    for argv in ("id", [], ["id", "\0"], [""]):
        with pytest.raises(errors.BadRequest):
            client.run(argv)
    with pytest.raises(errors.BadRequest):
        client.run(["id"], user="0")
    with pytest.raises(errors.CommandTimeout):
        client.run(["id"], timeout=0)
    with pytest.raises(errors.BadRequest, match="capture must be"):
        client.run(["id"], capture="x")  # type: ignore[call-overload]
    with pytest.raises(TypeError, match=r"run\(\) has no argument 'cwd'"):
        client.run(["id"], cwd="/")  # type: ignore[call-overload]
    assert not client.asked
    client.run(["id"], capture="pipe", input="x")
    assert client.asked == [Asked("popen", ("id",), {}, b"x")]
    with pytest.raises(NotImplementedError, match="FakeDaemon"):
        client.popen(["id"])
    assert client.status() == {}
    client.close()
    with pytest.raises(errors.LocalProtocolError, match="closed"):
        client.run(["id"])


@pytest.mark.parametrize("argv", ["ls -l", b"ls", [], [..., "ls"], ["ls", 1], ["l\0s", ...], [""]])
def test_a_command_that_nobody_can_ask_is_not_scripted(argv: Any) -> None:
    with pytest.raises(errors.BadRequest):
        FakeClient().on(argv)


def test_a_script_for_all_commands() -> None:
    client = FakeClient()
    client.on([...], returncode=3)
    assert client.run(["id", "-u"]).returncode == 3


def test_what_is_no_reply_is_said_in_the_test() -> None:
    client = FakeClient()
    client.on(["id"], call=lambda asked: b"out")  # type: ignore[arg-type,return-value]
    with pytest.raises(TypeError, match=r"must return a testing\.Reply, not bytes"):
        client.run(["id"])
    with pytest.raises(TypeError, match="not NoneType"), FakeDaemon() as daemon:
        daemon.on(["id"], call=lambda asked: None)  # type: ignore[arg-type,return-value]
        with Client(daemon.path) as real, pytest.raises(errors.InternalError, match="must return a testing"):
            real.run(["id"])


def test_a_daemon_that_is_started_again(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with Client(path) as client:
        for code in (1, 2):
            with FakeDaemon(path) as daemon:
                daemon.on(["id"], returncode=code)
                assert client.run(["id"]).returncode == code
            assert not Path(path).exists()
        with pytest.raises(errors.DaemonUnavailable):
            client.run(["id"])


def test_errors_of_the_daemon() -> None:
    client = FakeClient()
    client.on(["slow"], error=errors.CommandTimeout)
    client.on(["lost"], error=errors.OutcomeUnknown)
    with pytest.raises(errors.CommandTimeout, match="slow: as the test says"):
        client.run(["slow"])
    with pytest.raises(errors.OutcomeUnknown):
        client.run(["lost"])
    with pytest.raises(ValueError, match="none that a daemon says"):
        client.on(["x"], error=errors.LocalProtocolError)


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
            with pytest.raises(errors.Denied):
                client.popen(["id"])
            assert client.allows(["cat"]).allowed
            assert client.status() == {}

        daemon.on(["long"], stdout="x" * 100_000 + "\n")

        async def ask() -> None:
            async with AsyncClient(daemon.path) as client:
                assert (await client.run(["both"])).stdout == b"out"
                async with await client.popen(["long"], stdout=PIPE) as process:
                    assert process.stdout is not None
                    with pytest.raises(ValueError, match="Separator is"):
                        await process.stdout.readline()
                async with await client.popen(["long"], stdout=PIPE, limit=200_000) as process:
                    assert process.stdout is not None
                    assert len(await process.stdout.readline()) == 100_001
                async with await client.popen(["both"], stderr=PIPE) as process:
                    assert await process.communicate() == (None, b"err")

        asyncio.run(ask())
    assert [one.kind for one in daemon.asked] == [
        "run",
        "popen",
        "popen",
        "popen",
        "check",
        "run",
        *["popen"] * 3,
    ]
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
