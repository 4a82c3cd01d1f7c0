"""A real daemon for each test that asks for one.

As root it is the real thing; as a plain user it runs in a user namespace of its own, where this user is
root: the kernel then shows this process to it as uid 0 as well.
"""

import contextlib
import gc
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import msgpack
import pytest

from rootwrap_daemon.client import Client
from rootwrap_daemon.protocol.codec import HEADER

ROOT = os.geteuid() == 0
OVERFLOW = Path("/proc/sys/kernel/overflowuid").read_text().strip()
START = [sys.executable, "-I", "-m", "rootwrap_daemon.daemon.main"]

FILTERS = """\
[Filters]
true: CommandFilter, true, root
false: CommandFilter, false, root
sh: CommandFilter, sh, root
cat: CommandFilter, cat, root
id: CommandFilter, id, root
ls: CommandFilter, ls, root
env: EnvFilter, env, root, FOO=, env
sleep: RegExpFilter, sleep, root, sleep, [0-9.]+
kill_sleep: KillFilter, root, sleep, -9, -15
hostname: ReadFileFilter, /etc/hostname

[sh]
env = GREETING
"""


@dataclass
class Daemon:
    """A running daemon and all that it wrote."""

    directory: Path
    options: dict[str, str]
    environ: dict[str, str] = field(default_factory=dict)
    #: A command to start it with, which becomes it.
    inside: list[str] = field(default_factory=list)
    process: "subprocess.Popen[bytes] | None" = None
    #: The daemon itself, not the unshare(1) around it.
    pid: int = 0

    @property
    def socket(self) -> str:
        return str(self.directory / "socket")

    @property
    def config(self) -> Path:
        return self.directory / "daemon.conf"

    @property
    def log(self) -> str:
        return (self.directory / "log").read_text()

    def configure(self, filters: str | None = None, **options: str) -> None:
        """Write configuration and filters as an administrator would."""
        self.options |= options
        lines = [f"{name} = {value}\n" for name, value in self.options.items()]
        self.config.write_text("[DEFAULT]\n" + "".join(lines))
        self.config.chmod(0o644)
        if filters is not None:
            path = self.directory / "filters.d" / "test.filters"
            path.write_bytes(filters.encode("utf-8", "surrogateescape"))
            path.chmod(0o644)

    def start(self) -> None:
        """Start it and wait until it accepts; fails with its log."""
        inside = [] if ROOT else ["unshare", "--user", "--map-root-user"]
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*inside, *self.inside, *START, "--config-file", str(self.config)],
                stdin=subprocess.DEVNULL,
                stderr=log,
                env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", **self.environ},
            )
        # unshare(1) without --fork becomes the daemon.
        self.pid = self.process.pid
        wait_for(lambda: self._listens() or self.process is None or self.process.poll() is not None)
        if self.process.poll() is not None:
            pytest.fail(f"the daemon did not start:\n{self.log}")

    def _listens(self) -> bool:
        return "listening on" in self.log and os.path.exists(self.socket)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Stop it; its exit code."""
        if self.process is None:
            return 0
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)
        code = self.process.wait(60)
        self.process = None
        return code

    def restart(self, number: int = signal.SIGTERM) -> None:
        self.stop(number)
        (self.directory / "log").write_text("")
        self.start()

    def reload(self) -> bool:
        """SIGHUP, and wait for what comes of it: True if the new policy is in force."""
        before = len(self.log)
        os.kill(self.pid, signal.SIGHUP)
        wait_for(lambda: "reloaded" in self.log[before:])
        return "not reloaded" not in self.log[before:]

    def client(self, **options: Any) -> Client:
        return Client(self.socket, **options)

    def audit(self) -> list[dict[str, Any]]:
        """All records so far."""
        return [json.loads(line) for line in (self.directory / "audit.jsonl").read_text().splitlines()]

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def threads(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/task"))

    def figures(self) -> tuple[int, int]:
        """Descriptors and threads. The main thread opens a file now and then: the least of several looks."""
        return min(self.descriptors() for _ in range(20)), self.threads()

    def children(self) -> list[int]:
        """Processes whose parent it is, zombies too."""
        return children_of(self.pid)

    def cpu_seconds(self) -> float:
        """User and system time so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def children_of(pid: int) -> list[int]:
    """Processes whose parent is `pid`, zombies too."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                if int(Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()[1]) == pid:
                    found.append(int(entry))
    return found


def states_of(pid: int) -> set[str]:
    """The states of its threads, as one letter each (proc_pid_stat(5))."""
    paths = Path(f"/proc/{pid}/task").glob("*/stat")
    return {path.read_text().rpartition(")")[2].split()[0] for path in paths}


def is_alive(pid: int) -> bool:
    """True for a process that runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


class Condition(Protocol):
    def __call__(self) -> object: ...


def wait_for(condition: Condition, seconds: float = 30.0) -> None:
    """Wait until it holds; fail after so long."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            pytest.fail(f"not within {seconds} s: {condition}")
        time.sleep(0.01)


def settle(daemon: Daemon) -> tuple[int, int]:
    """Descriptors and threads once nobody is connected."""
    wait_for(lambda: daemon.threads() == 1)
    return daemon.figures()


def our_descriptors() -> int:
    """How many this process has open, without those of objects that nobody can reach any more."""
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


def with_words(words: str) -> list[int]:
    """Processes that run and have these words, a pattern of pgrep(1), in their command line."""
    found = subprocess.run(["pgrep", "-f", words], capture_output=True, check=False).stdout.split()
    return [int(pid) for pid in found if is_alive(int(pid))]


class NewDaemon(Protocol):
    def __call__(self, filters: str = FILTERS, *, start: bool = True, **options: str) -> Daemon: ...


def raw(daemon: Daemon, data: bytes) -> bytes:
    """Everything that the daemon says to these bytes."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(20)
        connection.connect(daemon.socket)
        # What it says before it closes can be read after a write has failed.
        with contextlib.suppress(ConnectionError):
            connection.sendall(data)
        answers = b""
        with contextlib.suppress(ConnectionError):
            while chunk := connection.recv(65536):
                answers += chunk
        return answers


def frame(value: object) -> bytes:
    body: bytes = msgpack.packb(value)
    return HEADER.pack(len(body)) + body


HELLO = frame([0, 1, 1 << 20, 0])


@contextlib.contextmanager
def daemons() -> Iterator[NewDaemon]:
    """Makes daemons and ends them: `new(filters, option="value", ...)`."""
    if not ROOT:
        made = subprocess.run(
            ["unshare", "--user", "--map-root-user", "true"], capture_output=True, check=False
        )
        if made.returncode:
            pytest.skip("needs root, or user namespaces for plain users")
    made_daemons: list[Daemon] = []

    def make(filters: str = FILTERS, *, start: bool = True, **options: str) -> Daemon:
        # Not pytest's tmp_path: its parents are only for this user, and a client may be another.
        directory = Path(tempfile.mkdtemp(prefix="rootwrap-test-"))
        directory.chmod(0o755)
        (directory / "filters.d").mkdir(mode=0o755)
        daemon = Daemon(
            directory,
            {
                "filters_path": str(directory / "filters.d"),
                "socket_path": str(directory / "socket"),
                "audit_file": str(directory / "audit.jsonl"),
                "trusted_owners": "0" if ROOT else f"0, {OVERFLOW}",
                "kill_grace": "1",
            },
        )
        made_daemons.append(daemon)
        daemon.configure(filters, **options)
        if start:
            daemon.start()
        return daemon

    try:
        yield make
    finally:
        _end(made_daemons)


def _end(daemons: list[Daemon]) -> None:
    for daemon in daemons:
        left = daemon.children() if daemon.process is not None else []
        daemon.stop(signal.SIGKILL)
        for pid in left:
            # What a test that failed left running: each leads a group of its own.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
        shutil.rmtree(daemon.directory, ignore_errors=True)


@pytest.fixture
def new_daemon() -> Iterator[NewDaemon]:
    """Makes daemons: `new_daemon(filters, option="value", ...)`."""
    with daemons() as new:
        yield new


@pytest.fixture
def daemon(new_daemon: NewDaemon) -> Daemon:
    """A daemon with FILTERS."""
    return new_daemon()


@pytest.fixture
def client(daemon: Daemon) -> Iterator[Client]:
    with daemon.client() as client:
        yield client
