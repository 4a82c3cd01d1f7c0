"""What the daemon answers becomes a result or the error of its code."""

import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from rootwrap_daemon import client as api
from rootwrap_daemon.client import Client, CommandFailed, CommandTimeout, CompletedCommand, Decision, core
from rootwrap_daemon.errors import BY_CODE, Error
from rootwrap_daemon.protocol.messages import Failure, Result
from tests.unit.client.fake_daemon import FakeDaemon, Peer


def test_a_result(daemon: FakeDaemon, client: Client) -> None:
    assert client.run(["echo", "a", "b"]) == CompletedCommand(["echo", "a", "b"], 0, b"a b", b"")
    assert client.run(("cat",), input=b"\0\xff") == CompletedCommand(("cat",), 0, b"\0\xff", b"")
    assert client.run(["env"], env={"A": "b"}).stdout == b"A=b"


@pytest.mark.parametrize("code", [0, 1, 255, -9])
def test_a_return_code(daemon: FakeDaemon, client: Client, code: int) -> None:
    assert client.run([str(code)]).returncode == code


@pytest.mark.parametrize("data", [b"", b"a\r\nb\rc\n", "ä\u2028".encode(), b"\xff\xc3(\xed\xa0\x80\0"])
def test_text_never_fails_and_keeps_every_byte(daemon: FakeDaemon, client: Client, data: bytes) -> None:
    text = client.run(["cat"], input=data, text=True).stdout
    assert text.encode("utf-8", "surrogateescape") == data
    # So that a name that was read can be given to the next command.
    assert client.run(["cat"], input=text).stdout == data
    if data.isascii():
        assert text == data.decode()


@pytest.mark.parametrize(("code", "told"), [(3, "returned 3"), (-15, "signal 15")])
def test_check_raises_for_a_return_code(daemon: FakeDaemon, client: Client, code: int, told: str) -> None:
    with pytest.raises(subprocess.CalledProcessError, match=told) as caught:
        client.run([str(code)], check=True)
    error = caught.value
    assert isinstance(error, CommandFailed)
    assert (error.cmd, error.returncode) == ([str(code)], code)
    assert (error.stdout, error.stderr) == (b"out \xff", b"err \xff")
    assert error.request_id == "r-1"
    with pytest.raises(CommandFailed) as caught:
        client.run([str(code)], check=True, text=True)
    assert (caught.value.stdout, caught.value.stderr) == ("out \udcff", "err \udcff")
    assert client.run(["0"], check=True).returncode == 0


def test_a_decision(daemon: FakeDaemon, client: Client) -> None:
    assert client.allows(["echo"]) == Decision(True, "echo")
    assert client.allows(["rm"]) == Decision(False, "")
    assert Decision(True, "echo") and not Decision(False, "")


@pytest.mark.parametrize("code", BY_CODE)
def test_each_code_has_its_class(start_daemon: Callable[..., FakeDaemon], client: Client, code: str) -> None:
    def fail(peer: Peer) -> None:
        while peer.read() is not None:
            peer.say(Failure("r-7", code, "no"))

    daemon = start_daemon(fail)
    calls: list[Callable[[], object]] = [lambda: client.run(["x"], timeout=2.5), lambda: client.allows(["x"])]
    for number, call in enumerate(calls, 1):
        with pytest.raises(Error, match=r"^x: no \(request r-7\)$") as caught:
            call()
        assert type(caught.value) is BY_CODE[code]
        assert caught.value.request_id == "r-7"
        assert caught.value.cmd == ["x"]
        assert getattr(api, type(caught.value).__name__) is BY_CODE[code]
        # Never sent a second time, and never on a connection that may have ended with this.
        goes_on = code in ("denied", "environment_denied", "process_gone", "executable_not_found") or (
            code in ("timeout", "output_limit")
        )
        assert (daemon.ran, daemon.connections) == (number, 1 if goes_on else number)


def test_a_failure_without_a_request() -> None:
    with pytest.raises(Error) as caught:
        core.completed(["x"], Failure("", "busy", "no"), check=False, text=False)
    assert caught.value.request_id is None
    assert str(caught.value) == "no"


@pytest.mark.parametrize("timeout", [2.5, None])
def test_a_timeout_is_that_of_subprocess_too(
    start_daemon: Callable[..., FakeDaemon], client: Client, timeout: float | None
) -> None:
    def late(peer: Peer) -> None:
        peer.read()
        peer.say(Failure("r-1", "timeout", "too late"))

    start_daemon(late)
    argv = ["sleep", "9"]
    with pytest.raises(subprocess.TimeoutExpired) as caught:
        client.run(argv, timeout=timeout)
    assert isinstance(caught.value, CommandTimeout)
    assert isinstance(caught.value, TimeoutError)
    assert caught.value.cmd is argv
    assert caught.value.timeout == (timeout or 0.0)
    assert caught.value.output is None


def test_an_answer_of_the_wrong_kind() -> None:
    wrong: Any = Result("r-1", 0, b"", b"")
    with pytest.raises(Error):
        core.decided(wrong)


def test_a_large_answer(daemon: FakeDaemon, client: Client) -> None:
    data = bytes(range(256)) * 4 * 1024 * 8
    assert client.run(["cat"], input=data, timeout=60).stdout == data
