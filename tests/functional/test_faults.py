"""A table of faults, each again and again: one right answer, nothing left, and the next request answered.

FAULT_ROUNDS says how often each is tried (`-rP` shows what came of it); every row is tried with output that
the daemon captures and with pipes of the client's.
"""

import contextlib
import ctypes
import os
import platform
import signal
import socket
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from rootwrap_daemon.client import PIPE, Client
from rootwrap_daemon.errors import Error
from rootwrap_daemon.protocol.client_side import ClientExchange
from rootwrap_daemon.protocol.messages import MAX_ANSWER_FRAME, STDOUT, VERSION, Hello, Run, Start
from tests.real_daemon import FILTERS, Daemon, NewDaemon, is_alive, settle, states_of, wait_for, with_words
from tests.wire import lies_unread

ROUNDS = int(os.environ.get("FAULT_ROUNDS", "3"))
#: How long the processes of this run sleep, so that none of another is taken for them.
NAP = f"1000.{os.getpid()}"
LARGE = bytes(8_000_000)
#: tgkill(2) on x86-64 and AArch64: to one thread.
_TGKILL = {"x86_64": 234, "aarch64": 131}.get(platform.machine(), 0)

pytestmark = pytest.mark.parametrize("passed", [False, True], ids=["captured", "passed"])


@pytest.fixture
def daemon(new_daemon: NewDaemon) -> Daemon:
    return new_daemon(
        FILTERS.replace("id: CommandFilter, id, root", "id: CommandFilter, id, nobody"),
        kill_grace="0.1",
        max_output="1000000",
        request_timeout="60",
    )


def outcome(
    client: Client, passed: bool, script: str, *, data: bytes | None = None, timeout: float = 20
) -> str:
    """What a caller gets: a return code with the output, or the code of an error."""
    argv = ["sh", "-c", script]
    try:
        if not passed:
            done = client.run(argv, input=data, timeout=timeout)
            return f"{done.returncode} {done.stdout[:20]!r}"
        with client.popen(
            argv, stdin=None if data is None else PIPE, stdout=PIPE, stderr=PIPE, timeout=timeout
        ) as process:
            out, _ = process.communicate(data)
            return f"{process.wait()} {(out or b'')[:20]!r}"
    except Error as error:
        return error.code


def sleeping() -> list[int]:
    """Processes of this run that sleep."""
    return with_words(f"sleep {NAP}")


@contextlib.contextmanager
def rounds(daemon: Daemon, name: str, expected: set[str]) -> Iterator[tuple[Client, Counter[str]]]:
    """Counts what the body adds for each round, and compares what is left at the end with the beginning."""
    before = settle(daemon)
    seen: Counter[str] = Counter()
    with daemon.client() as client:
        yield client, seen
    print(f"{name}: {dict(seen)}")
    assert seen.total() == ROUNDS
    assert set(seen) <= expected
    wait_for(lambda: sleeping() == [])
    wait_for(lambda: daemon.children() == [])
    wait_for(lambda: settle(daemon) == before)


def next_is_answered(client: Client) -> None:
    assert client.run(["true"], timeout=60).returncode == 0
    assert client.popen(["true"], timeout=60).wait() == 0


# Commands.

#: What a command does; what its caller gets, captured and on pipes.
COMMANDS: dict[str, tuple[str, bytes | None, str, str]] = {
    "ignores TERM": (f"trap '' TERM; sleep {NAP}; sleep {NAP}", None, "timeout", "timeout"),
    "closes its stdout and sleeps": (f"exec >&- 2>&-; sleep {NAP}", None, "timeout", "timeout"),
    "reads stdin for ever": ("while :; do cat; sleep 0.01; done", b"x", "timeout", "timeout"),
    "exits before it reads a large stdin": ("exit 4", LARGE, "4 b''", "4 b''"),
    "stops itself": ("kill -STOP $$", None, "timeout", "timeout"),
    "stops its group": (f"sleep {NAP} & kill -STOP 0", None, "timeout", "timeout"),
    "writes for ever": ("while :; do echo yyyyyyyyyyyyyyyyyyyyyyyy; done", None, "output_limit", "timeout"),
    "writes for ever at its end": (
        "trap 'while :; do echo y; done' TERM; sleep 1000 & wait",
        None,
        "timeout",
        "timeout",
    ),
    "kills itself": ("kill -9 $$", None, "-9 b''", "-9 b''"),
    "kills its group": (f"sleep {NAP} & kill -9 0", None, "-9 b''", "-9 b''"),
    "forks and exits": ("(exit 3) & (exit 4) & exit 5", None, "5 b''", "5 b''"),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_command(daemon: Daemon, passed: bool, name: str) -> None:
    script, data, captured, on_pipes = COMMANDS[name]
    expected = on_pipes if passed else captured
    with rounds(daemon, name, {expected}) as (client, seen):
        for _ in range(ROUNDS):
            timeout = 0.3 if expected == "timeout" else 60
            seen[outcome(client, passed, script, data=data, timeout=timeout)] += 1
            next_is_answered(client)


def test_background_child_that_holds_stdout(daemon: Daemon, passed: bool) -> None:
    """It lives on, as under sudo, and holds nothing of the daemon's."""
    script = f"sleep {NAP} & echo $!"
    with rounds(daemon, "background child", {"0"}) as (client, seen):
        for _ in range(ROUNDS):
            code, _, out = outcome(client, passed, script).partition(" ")
            seen[code] += 1
            next_is_answered(client)
            pid = int(out[2:-3])
            assert is_alive(pid)
            os.kill(pid, signal.SIGKILL)


# Clients.


def request(passed: bool, script: str) -> bytes:
    """A hello and the request, as one client says it."""
    exchange = ClientExchange()
    argv = (b"sh", b"-c", script.encode())
    message = Start(argv, (), STDOUT) if passed else Run(argv)
    return exchange.send(Hello(VERSION, MAX_ANSWER_FRAME)) + exchange.send(message)


HELLO = len(ClientExchange().send(Hello(VERSION, MAX_ANSWER_FRAME)))
SLEEP = f"sleep {NAP}"
FILL = "head -c 900000 /dev/zero"


def ends(daemon: Daemon) -> int:
    return [record["event"] for record in daemon.audit()].count("end")


def ran(daemon: Daemon, count: int) -> bool:
    return ends(daemon) > count


#: How much of hello and request is written, what the command is, and what is waited for before the kill.
STAGES: dict[str, tuple[Callable[[int], int], str, Callable[[Daemon, int], object]]] = {
    "before its hello": (lambda size: 0, SLEEP, lambda daemon, count: True),
    "in its hello": (lambda size: 3, SLEEP, lambda daemon, count: True),
    "after its hello": (lambda size: HELLO, SLEEP, lambda daemon, count: True),
    "in its request": (lambda size: size - 5, SLEEP, lambda daemon, count: True),
    "after its request": (lambda size: size, SLEEP, lambda daemon, count: True),
    "while its command runs": (lambda size: size, SLEEP, lambda daemon, count: daemon.children()),
    "while its command writes": (
        lambda size: size,
        "while :; do echo y; sleep 0.01; done",
        lambda daemon, count: daemon.children(),
    ),
    "while its answer is written": (
        lambda size: size,
        FILL,
        lambda daemon, count: ran(daemon, count) or daemon.children(),
    ),
    "before it reads its answer": (lambda size: size, "exit 3", ran),
}


def killed_client(daemon: Daemon, data: bytes, passed: bool, until: Callable[[], object]) -> None:
    """A process says this, and is killed once `until` holds."""
    told, tell = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            _, writer = os.pipe()
            with socket.socket(socket.AF_UNIX) as sock:
                sock.connect(daemon.socket)
                sock.sendall(data[:HELLO])
                if data[HELLO:]:
                    socket.send_fds(sock, [data[HELLO:]], [writer] if passed else [])
                os.close(writer)
                os.write(tell, b"x")
                signal.pause()
        finally:
            os._exit(1)
    os.close(tell)
    assert os.read(told, 1) == b"x"
    os.close(told)
    try:
        wait_for(until)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


@pytest.mark.parametrize("stage", STAGES)
def test_client_is_killed(daemon: Daemon, passed: bool, stage: str) -> None:
    cut, script, until = STAGES[stage]
    data = request(passed, script)
    with rounds(daemon, f"client killed {stage}", {"gone"}) as (client, seen):
        for _ in range(ROUNDS):
            count = ends(daemon)
            killed_client(daemon, data[: cut(len(data))], passed, partial(until, daemon, count))
            wait_for(lambda: daemon.children() == [])
            seen["gone"] += 1
            next_is_answered(client)

        def ended() -> bool:
            begun = Counter(record["event"] for record in daemon.audit())
            return begun["run"] == begun["end"]

        wait_for(ended)


# The daemon.


def killed_daemon(daemon: Daemon, client: Client, passed: bool, stage: str, marker: Path) -> str:
    """What a caller gets whose daemon dies, and is there again at once."""
    script = f"echo x >> '{marker}'; echo done"
    if stage == "between requests":
        daemon.restart(signal.SIGKILL)
        return outcome(client, passed, script)
    answers: list[str] = []
    if stage == "before it reads":
        os.kill(daemon.pid, signal.SIGSTOP)
        wait_for(lambda: states_of(daemon.pid) == {"T"})
    else:
        script = f"echo x >> '{marker}'; sleep {NAP}"
    thread = threading.Thread(target=lambda: answers.append(outcome(client, passed, script)))
    thread.start()
    if stage == "before it reads":
        wait_for(lambda: lies_unread(daemon.socket))
    else:
        wait_for(lambda: marker.exists() and sleeping())
    daemon.restart(signal.SIGKILL)
    thread.join(60)
    for pid in sleeping():
        os.kill(pid, signal.SIGKILL)
    return answers[0]


@pytest.mark.parametrize("stage", ["between requests", "before it reads", "while the command runs"])
def test_daemon_is_killed(daemon: Daemon, passed: bool, stage: str, tmp_path: Path) -> None:
    """Whatever the client is told, nothing runs twice; what was running is nobody's now, and runs on."""
    expected = {
        "between requests": {"0 b'done\\n'"},
        # It says its hello before it reads: on a connection of its own, as passed, none has come.
        "before it reads": {"unavailable" if passed else "outcome_unknown"},
        "while the command runs": {"outcome_unknown"},
    }[stage]
    seen: Counter[str] = Counter()
    with daemon.client() as client:
        for number in range(ROUNDS):
            marker = tmp_path / f"ran{number}"
            next_is_answered(client)
            seen[killed_daemon(daemon, client, passed, stage, marker)] += 1
            times = marker.read_text().count("x") if marker.exists() else 0
            assert times == (stage != "before it reads")
            next_is_answered(client)
    print(f"daemon killed {stage}: {dict(seen)}")
    assert seen.total() == ROUNDS
    assert set(seen) <= expected


# The system.


@pytest.mark.root
def test_audit_disk_is_full(daemon: Daemon, passed: bool) -> None:
    directory = daemon.directory / "log.d"
    directory.mkdir(mode=0o755)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k,mode=0755", "none", str(directory)], check=True)
    try:
        daemon.configure(audit_file=str(directory / "audit.jsonl"))
        daemon.restart()
        marker = daemon.directory / "ran"
        with rounds(daemon, "audit disk full", {"internal"}) as (client, seen):
            for _ in range(ROUNDS):
                next_is_answered(client)
                with (directory / "filler").open("wb", 0) as filler, contextlib.suppress(OSError):
                    while True:
                        filler.write(bytes(4096))
                # The last page of the log itself has some room left.
                while (said := outcome(client, passed, "echo x")) != "internal":
                    assert said == "0 b'x\\n'"
                seen[outcome(client, passed, f"echo x > '{marker}'")] += 1
                (directory / "filler").unlink()
                (directory / "audit.jsonl").write_bytes(b"")
        assert not marker.exists()
        daemon.stop()
    finally:
        subprocess.run(["umount", "-l", str(directory)], check=True)


@pytest.mark.root
def test_audit_file_turns_read_only(daemon: Daemon, passed: bool) -> None:
    path = daemon.directory / "audit.jsonl"
    marker = daemon.directory / "ran"
    with rounds(daemon, "audit file read-only", {"internal"}) as (client, seen):
        for _ in range(ROUNDS):
            next_is_answered(client)
            made = subprocess.run(["chattr", "+i", str(path)], capture_output=True, check=False)
            if made.returncode:
                pytest.skip(f"chattr: {made.stderr!r}")
            try:
                seen[outcome(client, passed, f"echo x > '{marker}'")] += 1
            finally:
                subprocess.run(["chattr", "-i", str(path)], check=True)
        next_is_answered(client)
    assert not marker.exists()


@contextlib.contextmanager
def limited(daemon: Daemon, name: str, value: int) -> Iterator[None]:
    """The daemon under this soft limit."""
    limit = subprocess.run(
        ["prlimit", f"--pid={daemon.pid}", f"--{name}", "--noheadings", "--raw", "--output=SOFT,HARD"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    subprocess.run(["prlimit", f"--pid={daemon.pid}", f"--{name}={value}:{limit[1]}"], check=True)
    try:
        yield
    finally:
        subprocess.run(["prlimit", f"--pid={daemon.pid}", f"--{name}={':'.join(limit)}"], check=True)


@pytest.mark.root
def test_no_process_is_left_for_the_user(daemon: Daemon, passed: bool) -> None:
    """Root itself has no such limit; who becomes another user has it at exec (RLIMIT_NPROC, execve(2))."""
    other = subprocess.Popen(["sleep", "71"], user=65534, group=65534, extra_groups=[])
    try:
        no_process(daemon, passed)
    finally:
        other.kill()
        other.wait()


def no_process(daemon: Daemon, passed: bool) -> None:
    # setpriv(1) says 126 for what it could not execute.
    with rounds(daemon, "RLIMIT_NPROC", {"internal", "126"}) as (client, seen):
        for _ in range(ROUNDS):
            with limited(daemon, "nproc", 0):
                try:
                    code = client.popen(["id"]).wait() if passed else client.run(["id"]).returncode
                    seen[str(code)] += 1
                except Error as error:
                    seen[error.code] += 1
            next_is_answered(client)
            assert client.run(["id", "-u"]).stdout == b"65534\n"


def test_descriptors_are_used_up(daemon: Daemon, passed: bool) -> None:
    """The connection exists already; the command needs more."""
    # "busy" where it is the descriptors of the client's that there is no room for, or a new connection.
    with rounds(daemon, "descriptors used up", {"internal", "busy"} if passed else {"internal"}) as (
        client,
        seen,
    ):
        for number in range(ROUNDS):
            next_is_answered(client)
            # From none at all to some, but not enough for pipes, pidfd and the pipe of the fork.
            with limited(daemon, "nofile", daemon.descriptors() + number % 5):
                seen[outcome(client, passed, "echo x")] += 1
            next_is_answered(client)


def test_memory_is_used_up(daemon: Daemon, passed: bool) -> None:
    """A request that the daemon has no memory for fails alone."""
    daemon.configure(max_output=str(512 * 1024 * 1024), max_buffered=str(2 * 1024 * 1024 * 1024))
    daemon.restart()
    with rounds(daemon, "memory used up", {"internal", "0 b'x\\n'"}) as (client, seen):
        for _ in range(ROUNDS):
            next_is_answered(client)
            lines = Path(f"/proc/{daemon.pid}/status").read_text().splitlines()
            (size,) = (int(line.split()[1]) for line in lines if line.startswith("VmSize:"))
            with limited(daemon, "as", size * 1024 + 4_000_000):
                script = "echo x" if passed else "head -c 300000000 /dev/zero"
                seen[outcome(client, passed, script)] += 1
            next_is_answered(client)


def test_signals_without_end(daemon: Daemon, passed: bool) -> None:
    """To every thread of the daemon, so that system calls are interrupted wherever they wait (EINTR)."""
    libc, over = ctypes.CDLL(None, use_errno=True), threading.Event()

    def storm() -> None:
        while not over.is_set():
            for thread in Path(f"/proc/{daemon.pid}/task").iterdir():
                libc.syscall(_TGKILL, daemon.pid, int(thread.name), int(signal.SIGHUP))

    with rounds(daemon, "signals", {"0 b'xx'"}) as (client, seen):
        sender = threading.Thread(target=storm)
        sender.start()
        try:
            wait_for(lambda: "reloaded: generation" in daemon.log)
            for _ in range(ROUNDS):
                seen[outcome(client, passed, "head -c 1; sleep 0.2; cat", data=b"xx")] += 1
                next_is_answered(client)
        finally:
            over.set()
            sender.join()
        # Signals that came while one waited have one reload: `rounds` finds no thread for each of thousands.
        next_is_answered(client)
