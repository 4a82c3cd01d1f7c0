"""A real daemon for each test that asks for one.

A daemon that a test left as it was is kept for the next test that asks for the same: starting one takes
0.15 s of a processor, and twice that with a command around it or variables of its own. A test that gives it a
signal, a look inside (its `pid`), another configuration or a file of its own gets rid of it; nothing of one
test is left for the next but the daemon's own memory.

As root it is the real thing; as a plain user it runs in a user namespace of its own, where this user is
root: the kernel then shows this process to it as uid 0 as well.
"""

import contextlib
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

from rootwrap_daemon.client import Client, calls
from rootwrap_daemon.protocol.codec import HEADER
from tests.prepared import Prepared, Process
from tests.processes import (
    PATIENCE,
    children_of,
    is_alive,
    links_of,
    our_descriptors,
    states_of,
    wait_for,
    with_words,
)

__all__ = [
    "ENVIRON",
    "FILTERS",
    "HELLO",
    "OVERFLOW",
    "PREPARED_START",
    "ROOT",
    "SHIM",
    "START",
    "Daemon",
    "NewDaemon",
    "accepted",
    "children_of",
    "client",
    "daemon",
    "daemons",
    "frame",
    "is_alive",
    "links_of",
    "new_daemon",
    "our_descriptors",
    "raw",
    "settle",
    "states_of",
    "wait_for",
    "with_words",
    "without_shim",
]

ROOT = os.geteuid() == 0
OVERFLOW = Path("/proc/sys/kernel/overflowuid").read_text().strip()
# A short `timeout` of a call would be one of its hello, too, which a busy machine delays for longer.
vars(calls)["_CONNECT_LEAST"] = PATIENCE

#: What `make native` builds.
SHIM = Path(sys.modules["rootwrap_daemon"].__path__[0], "daemon/run/become")
START = [sys.executable, "-I", "-m", "rootwrap_daemon.daemon.main"]
ENVIRON = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}
#: What an interpreter does that began as START says, in such an environment.
PREPARED_START = Prepared("rootwrap_daemon.daemon.main", options=["-I"], environ=ENVIRON)
_MEASURED = "DAEMONS_END_BY" in os.environ

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


def without_shim(propagation: str = "private") -> list[str]:
    """The words that start a daemon with no native shim: what is no regular file is none."""
    hide = ["sh", "-c", 'mount --bind /dev/null "$0" && exec "$@"', str(SHIM)] if SHIM.exists() else []
    return ["unshare", "--mount", "--propagation", propagation, *hide]


@dataclass
class Daemon:
    """A running daemon and all that it wrote."""

    directory: Path
    options: dict[str, str]
    environ: dict[str, str] = field(default_factory=dict)
    #: A command to start it with, which becomes it; with `env`, its start inherits from this process.
    inside: list[str] = field(default_factory=list)
    #: Not to be kept: somebody did, or may have done, more than asking it.
    touched: bool = False
    #: Refusals recorded so far, under the limit of records a minute.
    refusals: int = 0
    _process: "subprocess.Popen[bytes] | Process | None" = None
    _pid: int = 0
    _first: "_Traces | None" = None

    @property
    def process(self) -> "subprocess.Popen[bytes] | Process | None":
        self.touched = True
        return self._process

    @process.setter
    def process(self, process: "subprocess.Popen[bytes] | Process | None") -> None:
        self.touched = True
        self._process = process

    @property
    def pid(self) -> int:
        """Of the daemon itself, not of the unshare(1) around it."""
        self.touched = True
        return self._pid

    @pid.setter
    def pid(self, pid: int) -> None:
        self.touched = True
        self._pid = pid

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
        self.touched = True
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
        inside = [*([] if ROOT else ["unshare", "--user", "--map-root-user"]), *self.inside]
        words = ["--config-file", str(self.config)]
        with (self.directory / "log").open("ab") as log, open(os.devnull) as null:
            # What an earlier one said says nothing of this one, nor does the socket that it may have left.
            said = len(self.log)
            if inside or self.environ or _MEASURED:
                self.process = subprocess.Popen(
                    [*inside, *START, *words], stdin=null, stderr=log, env={**ENVIRON, **self.environ}
                )
            else:
                self.process = PREPARED_START.start(words, [null.fileno(), 1, log.fileno()], ENVIRON)
        # unshare(1) without --fork becomes the daemon.
        self.pid = self.process.pid
        wait_for(lambda: self._listens(said) or self.process is None or self.process.poll() is not None)
        if self.process.poll() is not None:
            pytest.fail(f"the daemon did not start:\n{self.log}")

    def _listens(self, said: int) -> bool:
        return "listening on" in self.log[said:] and os.path.exists(self.socket)

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
        # Longer than the daemon itself waits for what reads.
        wait_for(lambda: "reloaded" in self.log[before:], 90)
        return "not reloaded" not in self.log[before:]

    def client(self, connect_timeout: float = PATIENCE, **options: Any) -> Client:
        """One that waits for the hello as long as anything here is waited for."""
        return Client(self.socket, connect_timeout=connect_timeout, **options)

    def audit(self) -> list[dict[str, Any]]:
        """All records so far, but one that is being written."""
        text = (self.directory / "audit.jsonl").read_text()
        return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self._pid}/fd"))

    def threads(self) -> int:
        """How many there are, but the one that writes the log."""
        return len(os.listdir(f"/proc/{self._pid}/task")) - 1

    def figures(self) -> tuple[int, int]:
        """Descriptors and threads of this moment: a connection that its client has closed may still count."""
        return self.descriptors(), self.threads()

    def children(self) -> list[int]:
        """Processes whose parent it is, zombies too."""
        return children_of(self._pid)

    def cpu_seconds(self) -> float:
        """User and system time so far."""
        fields = Path(f"/proc/{self._pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def peak(self) -> int:
        """KiB of memory, the most that it ever had (VmHWM, proc_pid_status(5))."""
        status = Path(f"/proc/{self._pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0])

    def keep(self) -> None:
        """Note how it is now, just started: see `as_it_was`."""
        self.touched = False
        self._first = _Traces.of(self)

    def as_it_was(self) -> bool:
        """True if it is as it was when it started, with what the tests left in its directory removed."""
        if self.touched or self._first is None or self._process is None or self._process.poll() is not None:
            return False
        # What a test has connected and left may still wait to be accepted: it would be the next test's.
        try:
            accepted(self)
        except OSError:
            return False
        end = time.monotonic() + 1
        while self.threads() > 1 or self.children():
            if time.monotonic() > end:
                return False
            time.sleep(0.002)
        self.refusals += sum(record["event"] not in ("run", "end", "check") for record in self.audit())
        if self.refusals > _MANY_REFUSALS or self.peak() > self._first.peak + _LITTLE:
            return False
        for name in set(os.listdir(self.directory)) - self._first.files.keys():
            path = self.directory / name
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        os.truncate(self.directory / "audit.jsonl", 0)
        os.truncate(self.directory / "log", self._first.logged)
        now = _Traces.of(self)
        return (now.descriptors, now.files) == (self._first.descriptors, self._first.files)


#: A daemon records so many refusals of a user at once, and counts the others.
_MANY_REFUSALS = 50
#: KiB that its memory may have grown by: tests compare what it takes at most.
_LITTLE = 2048


@dataclass
class _Traces:
    """What can be seen of a daemon from outside."""

    descriptors: int
    peak: int
    logged: int
    #: Mode and owner of each file; of what an administrator writes the time of change, too.
    files: dict[str, tuple[int, ...]]

    @classmethod
    def of(cls, daemon: Daemon) -> "_Traces":
        files: dict[str, tuple[int, ...]] = {}
        for path in (daemon.directory, *daemon.directory.rglob("*")):
            stat = path.lstat()
            given = path.suffix in (".conf", ".filters")
            files[str(path.relative_to(daemon.directory))] = (
                stat.st_mode,
                stat.st_uid,
                stat.st_gid,
                stat.st_mtime_ns if given else 0,
            )
        logged = (daemon.directory / "log").stat().st_size
        return cls(daemon.figures()[0], daemon.peak(), logged, files)


class _Kept:
    """Daemons for the next test, by what they were asked for with: a few, the oldest ends first."""

    def __init__(self) -> None:
        self._daemons: dict[object, Daemon] = {}

    def take(self, wanted: object) -> Daemon | None:
        return self._daemons.pop(wanted, None)

    def put(self, wanted: object, daemon: Daemon) -> None:
        if len(self._daemons) == 4:
            _end(self._daemons.pop(next(iter(self._daemons))))
        self._daemons[wanted] = daemon

    def directories(self) -> set[str]:
        """Their names."""
        return {daemon.directory.name for daemon in self._daemons.values()}

    def end(self) -> None:
        while self._daemons:
            _end(self._daemons.popitem()[1])


KEPT = _Kept()


def accepted(daemon: Daemon) -> None:
    """Wait until all who have connected by now are accepted: one who comes last has had its end."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(PATIENCE)
        connection.connect(daemon.socket)
        connection.shutdown(socket.SHUT_WR)
        # One that is not allowed hears so.
        with contextlib.suppress(ConnectionError):
            while connection.recv(65536):
                pass


def settle(daemon: Daemon) -> tuple[int, int]:
    """Descriptors and threads once nobody is connected."""
    wait_for(lambda: daemon.threads() == 1)
    return daemon.figures()


class NewDaemon(Protocol):
    def __call__(self, filters: str = FILTERS, *, start: bool = True, **options: str) -> Daemon: ...


def raw(daemon: Daemon, data: bytes) -> bytes:
    """Everything that the daemon says to these bytes."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(PATIENCE)
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
        tried = subprocess.run(
            ["unshare", "--user", "--map-root-user", "true"], capture_output=True, check=False
        )
        if tried.returncode:
            pytest.skip("needs root, or user namespaces for plain users")
    made: list[tuple[object, Daemon]] = []

    def make(filters: str = FILTERS, *, start: bool = True, **options: str) -> Daemon:
        wanted = (filters, *sorted(options.items()))
        if start and (kept := KEPT.take(wanted)):
            made.append((wanted, kept))
            return kept
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
        made.append((wanted, daemon))
        daemon.configure(filters, **options)
        if start:
            daemon.start()
            daemon.keep()
        return daemon

    try:
        yield make
    finally:
        for wanted, daemon in made:
            if daemon.as_it_was():
                KEPT.put(wanted, daemon)
            else:
                _end(daemon)


#: What ends a daemon that no test needs any more. `make coverage` says SIGTERM: the other leaves no figures.
_LAST = signal.Signals[os.environ.get("DAEMONS_END_BY", "SIGKILL")]


def _end(daemon: Daemon) -> None:
    left = daemon.children() if daemon.process is not None else []
    if daemon.process is not None and daemon.pid != daemon.process.pid:
        # What started it would take the signal that ends it, and leave it: sudo(8).
        with contextlib.suppress(ProcessLookupError):
            os.kill(daemon.pid, _LAST)
    daemon.stop(_LAST)
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
