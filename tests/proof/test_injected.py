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

from rootwrap_daemon.client import PIPE
from rootwrap_daemon.errors import Error
from tests.real_daemon import FILTERS, Daemon, NewDaemon, settle, wait_for

MOST: Final = int(os.environ.get("INJECT_MOST", "1"))

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace"),
    pytest.mark.timeout(300 + 60 * MOST),
]

#: System calls -> errors that they may have. Of those in one row the machine and its C library choose.
CALLS: Final = {
    "accept4": "EMFILE ECONNABORTED ENOMEM",
    "recvmsg": "ECONNRESET ENOMEM EINTR",
    "sendto": "EPIPE ENOBUFS EINTR",
    "poll ppoll": "EINTR ENOMEM",
    "pipe2": "EMFILE ENFILE",
    "clone3 clone vfork": "EAGAIN ENOMEM",
    "pidfd_open": "EMFILE ENOMEM",
    "wait4": "EINTR",
    "waitid": "EINTR",
    "read": "EIO EINTR",
    "pread64": "EIO",
    "write": "ENOSPC EIO EINTR",
    "openat": "EMFILE ENOMEM EINTR",
    "newfstatat fstat": "ENOMEM EIO",
    "readlink readlinkat": "ENOMEM EIO",
    "keyctl": "EDQUOT ENOMEM",
    "getsockopt": "ENOBUFS",
    "setsockopt": "ENOMEM",
    "mmap": "ENOMEM",
    "ioctl": "ENOMEM",
    # In the child, before it executes what it was created for.
    "setsid": "EPERM",
    "dup2 dup3": "EBUSY EINTR",
    "chdir": "EIO ENOMEM",
    "close_range": "ENOMEM",
    "execve": "EAGAIN ENOMEM",
}
#: A user of no program, whose directory the place of a filter is.
AGENT: Final = 61111
#: Calls whose later ones are other than the first: the stack of a thread, and then what it runs on.
FIRST: Final = {"mmap": 2}
#: What a request may come to, for which something failed on the way.
GOOD: Final = {"ok", "internal", "busy", "unavailable", "outcome_unknown", "timeout", "unexpected end"}


@contextlib.contextmanager
def injected(daemon: Daemon, call: str, error: str, number: int, log: Path) -> Iterator[None]:
    """Let the call of this number fail, in each thread and in each process until it executes a program."""
    # One that this machine does not have is no error.
    calls = ",".join(f"?{one}" for one in call.split())
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
                f"trace={calls}",
                "-e",
                "signal=none",
            ),
            *("-e", f"inject={calls}:error={error}:when={number}"),
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
    place = daemon.directory / "place"
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
        client = stack.enter_context(daemon.client())

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
        note("in a place", lambda: client.run(["chmod", "600", f"{place}/file"], check=True, timeout=15))
        note("too long", lambda: client.run(["sleep", "60"], timeout=0.2))
        note("denied", lambda: client.run(["reboot"], timeout=15))
    return found


def balanced(daemon: Daemon) -> bool:
    """True once each run has its end."""
    seen: Counter[str] = Counter()
    for record in daemon.audit():
        if record["event"] in ("run", "end"):
            seen[record["id"]] += 1 if record["event"] == "run" else 100
    return set(seen.values()) <= {101}


#: What comes of the requests where nothing fails.
USUAL: Final = {
    **dict.fromkeys(("run", "piped", "as another", "read", "in a place"), "ok"),
    "too long": "timeout",
    "denied": "denied",
}


@pytest.mark.parametrize("call", CALLS)
def test_a_call_that_fails(new_daemon: NewDaemon, call: str, tmp_path: Path) -> None:
    daemon = new_daemon(start=False, command_timeout="10", request_timeout="5", audit="required")
    place = daemon.directory / "place"
    place.mkdir()
    (place / "file").touch()
    os.chown(place, AGENT, AGENT)
    as_nobody = FILTERS.replace("id: CommandFilter, id, root", "id: CommandFilter, id, nobody")
    line = f"chmod: ArgvFilter, chmod, root, 600, {{path={place}}}\n"
    daemon.configure(as_nobody.replace("[sh]", f"{line}[sh]"))
    daemon.start()
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
            assert found.keys() == USUAL.keys()
            for name, code in found.items():
                seen[code] += 1
                wanted = GOOD - {"ok"} | {"denied"} if name == "denied" else GOOD
                assert code in wanted, f"{call} number {number} with {error}: {name} is {code}"
            if not hit:
                # There are no more of them; and one at least, else nothing was tried.
                assert number > 1, f"no {call} is made"
                assert found == USUAL
                break
            assert outcomes(daemon) == USUAL
    wait_for(lambda: daemon.children() == [])
    wait_for(lambda: balanced(daemon))
    assert (daemon.pid, daemon.process and daemon.process.poll()) == (pid, None)
    wait_for(lambda: settle(daemon)[0] <= before[0])
    assert "Traceback" not in daemon.log
    os.kill(daemon.pid, signal.SIGTERM)
    print(f"{call}: {times} calls failed; {dict(seen)}")
