"""A system call of the daemon fails: each that a few requests make, each once, with errors that it can have.

strace(1) puts the error in place of the call. Whatever fails: each request gets its answer, or an error that
says nothing wrong (never `denied` for what is allowed), what runs has its two records, nothing is left, and
the next request is answered. INJECT_MOST says how many calls of each kind fail, from the first on; `-rP`
shows what came of them.
"""

import contextlib
import os
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from rootwrap_daemon.client import PIPE, Client
from rootwrap_daemon.errors import Error
from tests.real_daemon import FILTERS, Daemon, NewDaemon, settle, wait_for

MOST: Final = int(os.environ.get("INJECT_MOST", "1"))

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace"),
    pytest.mark.timeout(300 + 60 * MOST),
]

#: System call -> errors that it may have.
CALLS: Final = {
    "accept4": "EMFILE ECONNABORTED ENOMEM",
    "recvmsg": "ECONNRESET ENOMEM EINTR",
    "recvfrom": "ECONNRESET ENOMEM EINTR",
    "sendto": "EPIPE ENOBUFS EINTR",
    "poll": "EINTR ENOMEM",
    "pipe2": "EMFILE ENFILE",
    "vfork": "EAGAIN ENOMEM",
    "clone3": "EAGAIN ENOMEM",
    "clone": "EAGAIN ENOMEM",
    "pidfd_open": "EMFILE ENOMEM",
    "wait4": "EINTR",
    "waitid": "EINTR",
    "read": "EIO EINTR",
    "write": "ENOSPC EIO EINTR",
    "openat": "EMFILE ENOMEM EINTR",
    "openat2": "EAGAIN ENOMEM ENOSYS",
    "newfstatat": "ENOMEM EIO",
    "fstat": "ENOMEM",
    "readlink": "ENOMEM EIO",
    "keyctl": "EDQUOT ENOMEM",
    "getsockopt": "ENOBUFS",
    "setsockopt": "ENOMEM",
    "mmap": "ENOMEM",
    "ioctl": "ENOMEM",
    "dup": "EMFILE",
    "fsync": "EIO ENOSPC",
    "fdatasync": "EIO ENOSPC",
}
#: Calls whose later ones are other than the first: the stack of a thread, and then what it runs on.
FIRST: Final = {"mmap": 2}
#: What a request may come to, for which something failed on the way.
GOOD: Final = {"ok", "internal", "busy", "unavailable", "outcome_unknown", "timeout", "unexpected end"}


@contextlib.contextmanager
def injected(daemon: Daemon, call: str, error: str, number: int, log: Path) -> Iterator[None]:
    """Let the call of this number fail, in each thread."""
    process = subprocess.Popen(
        [
            *(
                "strace",
                "-f",
                "-p",
                str(daemon.pid),
                "-o",
                str(log),
                "-e",
                f"trace={call}",
                "-e",
                "signal=none",
            ),
            *("-e", f"inject={call}:error={error}:when={number}"),
            # Commands are not the daemon.
            "--detach-on=execve",
        ],
        stderr=subprocess.PIPE,
    )
    try:
        assert process.stderr is not None
        said = process.stderr.readline()
        assert b"attached" in said, said
        # Every thread is.
        wait_for(lambda: _tracers(daemon.pid) == {process.pid})
        yield
    finally:
        process.terminate()
        process.communicate()


def _tracers(pid: int) -> set[int]:
    found = set()
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):
            status = (task / "status").read_text()
            found.add(int(status.partition("TracerPid:")[2].split()[0]))
    return found


def outcomes(daemon: Daemon) -> dict[str, str]:
    """Some requests of a client, and the code of what came of each."""
    found: dict[str, str] = {}

    def note(name: str, call: object) -> None:
        try:
            call()  # type: ignore[operator]
        except Error as error:
            found[name] = error.code
        except OSError as error:
            found[name] = f"{type(error).__name__}"
        else:
            found[name] = "ok"

    with contextlib.ExitStack() as stack:
        client = stack.enter_context(Client(daemon.socket))

        def run() -> None:
            done = client.run(["sh", "-c", "echo x; cat"], input=b"y", timeout=15)
            assert (done.returncode, done.stdout) == (0, b"x\ny")

        def piped() -> None:
            with client.popen(["cat"], stdin=PIPE, stdout=PIPE, timeout=15) as process:
                out, _ = process.communicate(b"z")
                assert (process.wait(), out) == (0, b"z")

        note("run", run)
        note("piped", piped)
        note("as another", lambda: client.run(["id"], check=True, timeout=15))
        note("read", lambda: client.run(["cat", "/etc/hostname"], check=True, timeout=15))
        note("denied", lambda: client.run(["reboot"], timeout=15))
    return found


def balanced(daemon: Daemon) -> bool:
    """True once each run has its end."""
    seen: Counter[str] = Counter()
    for record in daemon.audit():
        if record["event"] in ("run", "end"):
            seen[record["id"]] += 1 if record["event"] == "run" else 100
    return set(seen.values()) <= {101}


@pytest.mark.parametrize("call", CALLS)
def test_a_call_that_fails(new_daemon: NewDaemon, call: str, tmp_path: Path) -> None:
    daemon = new_daemon(
        FILTERS.replace("id: CommandFilter, id, root", "id: CommandFilter, id, nobody"),
        command_timeout="10",
        request_timeout="5",
        audit="required",
    )
    before = settle(daemon)
    pid = daemon.pid
    seen: Counter[str] = Counter()
    times = 0
    for error in CALLS[call].split():
        for number in range(1, max(MOST, FIRST.get(call, 1)) + 1):
            log = tmp_path / f"{error}{number}"
            with injected(daemon, call, error, number, log):
                found = outcomes(daemon)
            hit = log.read_text().count("(INJECTED)")
            times += hit
            for name, code in found.items():
                seen[code] += 1
                wanted = {"denied"} if name == "denied" else set()
                assert code in GOOD | wanted, f"{call} number {number} with {error}: {name} is {code}"
                assert (name, code) != ("denied", "ok")
            if not hit:
                # There are no more of them.
                assert set(found.values()) <= {"ok", "denied"}, found
                break
            assert outcomes(daemon) == {**dict.fromkeys(found, "ok"), "denied": "denied"}
    wait_for(lambda: daemon.children() == [])
    wait_for(lambda: balanced(daemon))
    assert (daemon.pid, daemon.process and daemon.process.poll()) == (pid, None)
    if call != "close":
        wait_for(lambda: settle(daemon)[0] <= before[0])
    assert "Traceback" not in daemon.log
    os.kill(daemon.pid, signal.SIGTERM)
    print(f"{call}: {times} calls failed; {dict(seen)}")
