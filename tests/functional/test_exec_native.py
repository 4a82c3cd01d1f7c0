"""The native `rootwrap-exec` does what the one in Python does, by the same tests."""

import os
import socket
import subprocess
from pathlib import Path

import pytest

from tests.functional import test_exec
from tests.functional.test_exec import (
    TestADaemonThatDoesNotAnswer,
    TestCopies,
    TestItsEnd,
    TestOptions,
    TestSignals,
    TestStandIn,
    TestStreams,
    daemon,
    test_a_stopping_daemon_says_so,
)

__all__ = [
    "TestADaemonThatDoesNotAnswer",
    "TestCopies",
    "TestItsEnd",
    "TestOptions",
    "TestSignals",
    "TestStandIn",
    "TestStreams",
    "daemon",
    "test_a_stopping_daemon_says_so",
]

NATIVE = Path(__file__).parents[2] / "native"
PROGRAM = NATIVE / "rootwrap-exec"


@pytest.fixture(autouse=True)
def program(monkeypatch: pytest.MonkeyPatch) -> None:
    if not PROGRAM.exists():
        if os.environ.get("REQUIRE_NATIVE") == "1":
            pytest.fail("make native has not built it, and REQUIRE_NATIVE=1", pytrace=False)
        pytest.skip("make native has not built it: there is no C compiler")
    monkeypatch.setattr(test_exec, "PROGRAM", [str(PROGRAM)])


def test_signals_end_it_at_once_before_the_daemon_answers(tmp_path: Path) -> None:
    """A socket that listens and is not served."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        for number in (1, 2, 15, 10):
            with subprocess.Popen([PROGRAM, "--socket", tmp_path / "s", "true"]) as process:
                connection, _ = listener.accept()
                assert connection.recv(1)
                process.send_signal(number)
                assert process.wait(60) == -number
                connection.close()
