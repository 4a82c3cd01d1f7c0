"""The native `rootwrap-exec` does what the one in Python does, by the same tests; no answer does it harm."""

import contextlib
import os
import random
import shutil
import socket
import subprocess
import threading
from pathlib import Path

import pytest

from rootwrap_daemon.protocol.codec import encode
from rootwrap_daemon.protocol.messages import Answer, Failure, Hello, Report, Result, Started, Verdict
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
FLAGS = ["-std=c17", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-fsanitize=address,undefined"]
ANSWERS: tuple[Answer, ...] = (
    Result("r-1", 0, b"out", b"err"),
    Result("r-1", -9, b"", b""),
    Failure("r-1", "denied", "no"),
    Started("r-1", 77, 0xFFFF),
    Verdict("r-1", True, "f"),
    Report("r-1", b"{}"),
)


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


def mutated(data: bytes, source: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(source.randrange(5)):
        at = source.randrange(len(changed)) if changed else 0
        match source.randrange(4):
            case 0:
                changed[at : at + 1] = source.randbytes(1)
            case 1:
                del changed[at : at + 1]
            case 2:
                changed[at:at] = source.randbytes(source.randrange(8))
            case _:
                changed[:4] = source.choice(
                    [b"\0\0\0\1", b"\xff\xff\xff\xff", b"\0\0\0\0", b"\7\xff\xff\xff"]
                )
    return bytes(changed)


def test_answers_of_a_daemon_that_lies(tmp_path: Path) -> None:
    """Under the address and undefined behaviour sanitizers: frames cut, changed and out of turn."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler")
    checked = tmp_path / "checked"
    subprocess.run([compiler, *FLAGS, "-o", checked, *(NATIVE / "exec").glob("*.c")], check=True)
    source = random.Random(20)
    hello = encode(Hello(1, 1 << 20, 5000))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()

        parts: list[bytes] = []

        def serve() -> None:
            # A request that nobody took is sent once more, over another connection.
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with connection, contextlib.suppress(OSError):
                        connection.recv(4096)
                        connection.sendall(b"".join(parts))

        serving = threading.Thread(target=serve, daemon=True)
        serving.start()
        for _ in range(150):
            parts[:] = [mutated(hello, source) if source.random() < 0.2 else hello]
            parts += [mutated(encode(source.choice(ANSWERS)), source) for _ in range(source.randrange(4))]
            words = [str(checked), "--socket", str(tmp_path / "s"), "true"]
            done = subprocess.run(
                words, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=60
            )
            assert b"Sanitizer" not in done.stderr and b"runtime error" not in done.stderr, (
                parts,
                done.stderr,
            )
        # Closing alone does not wake who waits in accept.
        listener.shutdown(socket.SHUT_RDWR)
        serving.join(60)
