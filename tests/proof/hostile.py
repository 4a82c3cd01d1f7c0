"""Measure what an honest client waits while another user does all that a taken-over agent can.

Run it as root with `.venv/bin/python -m tests.proof.hostile [mixed] [idle] [bound]`. Quiet periods and others
alternate, so that what else a machine does weighs on both.

`mixed`: every kind of frame, whole, broken or poured, reconnects, commands that are cancelled, abandoned or
hold out, and descriptors of every kind. `idle`: connections that say hello and nothing more, HOSTILE_IDLE of
them (10,000, or what the hard limit of open files has room for), let in by the daemon's bounds. `bound`: as
many, and the bounds that a daemon has by default.

A user that uses the processors delays every program, with a daemon or without. So the same command is started
without one each time, by `subprocess.run`: what becomes of its p99 is the machine's part.

HOSTILE_SECONDS (600) says how long a user is hostile in all, HOSTILE_ROUNDS (20) in how many periods. It
fails, with exit code 1, where an honest answer is wrong, its p99 is more than `MOST` times the quiet one and
has grown more than `APART` times as much as without a daemon, or the daemon keeps descriptors, threads,
commands, objects or memory. Its RSS varies by megabytes, with how much was in use at once and where; what
lives in it does not (`tests.proof.alive`).
"""

import contextlib
import multiprocessing.sharedctypes
import os
import random
import resource
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from ctypes import Array, c_int
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from rootwrap_daemon.client import Client
from rootwrap_daemon.errors import Error
from rootwrap_daemon.protocol.codec import encode
from rootwrap_daemon.protocol.messages import STDERR, STDIN, STDOUT, Cancel, Run, Signal, Start
from tests.processes import wait_for
from tests.proof.alive import Alive, alive, grown, start, stays
from tests.proof.fuzz import mutated
from tests.real_daemon import HELLO, Daemon, NewDaemon, daemons
from tests.security.test_hostile_descriptors import HOSTILE
from tests.security.test_turns import AGENT, FLOODS, agents

SECONDS: Final = float(os.environ.get("HOSTILE_SECONDS", "600"))
ROUNDS: Final = int(os.environ.get("HOSTILE_ROUNDS", "20"))
#: Descriptors that a daemon sets aside for one connection, and for itself, its commands and a few others.
_EACH, _OTHERS = 4, 4400
_HARD: Final = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
IDLE: Final = min(int(os.environ.get("HOSTILE_IDLE", "10000")), (_HARD - _OTHERS) // _EACH)
#: How many times its quiet value the p99 of an honest request may be.
MOST: Final = {"mixed": 5.0, "idle": 2.0, "bound": 2.0}
#: How many times as much as that of a program without a daemon it may grow where that grows, too.
APART: Final = 2.0
#: Growth of the daemon's RSS, from the second quarter of the periods to the last, that is still none.
GROWTH: Final = 0.1
#: Connections of the hostile client, each busy with something else.
PLACES: Final = 64

_POURED: Final = [encode(Run((b"sh", b"-c", b"cat; head -c 100000 /dev/zero"), (), bytes(10_000)))]
#: Commands that are to be ended: the second one by force. What they leave in the background is soon over.
_STUCK: Final = (b"exec sleep 60", b"trap '' TERM; while :; do sleep 1; done")


def things(where: Path) -> list[int]:
    """One descriptor of each kind that fits no slot of a command, and before them a pipe's two, which fit.

    `where`: a directory that this user can write.
    """
    found = [*os.pipe()]
    with contextlib.suppress(FileExistsError):
        os.mkfifo(where / "own.fifo")
    for name in ("own.file", "pipe:[1]"):
        (where / name).touch()
    for make in HOSTILE.values():
        # Some are root's, some this kernel does not have. What skips a test is no Exception.
        with contextlib.suppress(BaseException):
            found.append(make(where))
    return found


class Place:
    """One connection of the hostile client's, and what it does there, a little at each turn."""

    def __init__(self, path: str, source: random.Random, descriptors: list[int]) -> None:
        self.path = path
        self.random = source
        self.descriptors = descriptors
        self.sock: socket.socket | None = None
        self.act = ""
        self.left = 0

    def turn(self) -> str:
        """Do a little of what is done here. Returns the name of it."""
        if self.sock is None or not self.left:
            self.end()
            self.act = self.random.choice(ACTS)
            self.left = self.random.randrange(1, 200)
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.setblocking(False)
            self.sock.connect(self.path)
            self.begin(self.sock)
        self.left -= 1
        self.go_on(self.sock)
        return self.act

    def end(self) -> None:
        if self.sock is not None:
            self.sock.close()
            self.sock = None

    def begin(self, sock: socket.socket) -> None:
        if self.act == "no hello":
            return
        sock.send(HELLO)
        script = self.random.choice(_STUCK)
        if self.act == "stuck" or FLOODS.get(self.act, ([], False))[1]:
            sock.send(encode(Run((b"sh", b"-c", script), (), None, self.random.choice((None, 1)))))
        elif self.act == "on a pipe":
            start = Start((b"sh", b"-c", script), (), STDIN | STDOUT)
            socket.send_fds(sock, [encode(start)], self.descriptors[:2])

    def go_on(self, sock: socket.socket) -> None:
        one = self.random
        if self.act in FLOODS:
            for piece in FLOODS[self.act][0]:
                sock.send(piece)
        elif self.act == "malformed":
            pieces, _ = FLOODS[one.choice(list(FLOODS))]
            sock.send(mutated(one, one.choice(pieces)) or b"x")
        elif self.act == "cancelled":
            sock.send(encode(Run((b"sleep", b"60"))) + encode(Cancel()))
        elif self.act == "on a pipe" and not one.randrange(50):
            sock.send(encode(Signal(one.choice((9, 15)))))
        elif self.act == "descriptors":
            several = one.choices(self.descriptors, k=one.randrange(1, 6))
            slots = one.choice((STDIN, STDOUT, STDIN | STDOUT | STDERR))
            # One that the kernel does not pass on is an error of this call alone.
            socket.send_fds(sock, [encode(Start((b"cat",), (), slots))], several)
        elif self.act == "output that nobody reads":
            sock.send(_POURED[0])
            return
        elif self.act == "reconnect":
            self.left = 0
        with contextlib.suppress(BlockingIOError):
            sock.recv(1 << 16)


ACTS: Final = (
    *FLOODS,
    *("malformed", "cancelled", "stuck", "on a pipe", "descriptors", "output that nobody reads"),
    *("reconnect", "no hello"),
)


def rage(path: str, where: Path, done: "Array[c_int]", seed: str) -> None:
    """All of it at once, for ever. `done`: how often of each."""
    source = random.Random(seed)
    descriptors = things(where)
    places = [Place(path, source, descriptors) for _ in range(PLACES)]
    while True:
        for place in places:
            try:
                done[ACTS.index(place.turn())] += 1
            except BlockingIOError:
                # The daemon reads no more here for now.
                pass
            except OSError:
                place.end()


def hold(path: str, count: int, held: c_int) -> None:
    """Say hello on so many connections and nothing more, for ever."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (_HARD, _HARD))
    connections = []
    for _ in range(count):
        connections.append(socket.socket(socket.AF_UNIX))
        connections[-1].connect(path)
        connections[-1].send(HELLO)
        # An end of it before the answer is one of those that the bounds turn away.
        with contextlib.suppress(ConnectionError):
            connections[-1].recv(100)
        held.value += 1
    time.sleep(1 << 20)


@contextlib.contextmanager
def hostile(daemon: Daemon, kind: str, seed: str, count: int = IDLE) -> Iterator["Array[c_int]"]:
    """Another user is, meanwhile. Yields how often it did what; `count`: how many connections are idle."""
    done = multiprocessing.sharedctypes.RawArray(c_int, len(ACTS))
    if kind == "mixed":
        where = daemon.directory / "things"
        where.mkdir(exist_ok=True)
        where.chmod(0o777)
        with agents(rage, daemon.socket, where, done, seed):
            yield done
        return
    held = multiprocessing.sharedctypes.RawValue(c_int, 0)
    with agents(hold, daemon.socket, count, held):
        wait_for(lambda: held.value == count, 300)
        yield done


@dataclass
class Times:
    """Milliseconds of each command: of the honest client, and without a daemon."""

    client: list[float] = field(default_factory=list)
    local: list[float] = field(default_factory=list)

    def add(self, other: "Times") -> None:
        self.client += other.client
        self.local += other.local


def asked(client: Client, seconds: float) -> Times:
    """Run commands one after another, with a daemon and without. Raises on a wrong answer."""
    times = Times()
    until = time.monotonic() + seconds
    while time.monotonic() < until or not times.client:
        argv = ["sh", "-c", f"echo {len(times.client)}; exit 3"]
        start = time.perf_counter()
        done = client.run(argv, timeout=60)
        between = time.perf_counter()
        subprocess.run(argv, capture_output=True, check=False)
        times.local.append((time.perf_counter() - between) * 1000)
        times.client.append((between - start) * 1000)
        if (done.returncode, done.stdout) != (3, f"{len(times.client) - 1}\n".encode()):
            raise Error(f"a wrong answer: {done}")
    return times


def made(new: NewDaemon, kind: str, count: int = IDLE) -> Daemon:
    """A daemon that serves both users; for `idle`, with bounds that let so many in."""
    options = {"allowed_users": f"root, {AGENT}", "signals": "TERM, USR1", "socket_mode": "0666"}
    if kind == "idle":
        options["max_connections"] = str(count + 64)
        options["max_connections_per_user"] = str(count)
        options["rlimit_nofile"] = str(count * _EACH + _OTHERS)
    return start(new(start=False, **options))


def memory(daemon: Daemon) -> int:
    """KiB that it has now."""
    status = Path(f"/proc/{daemon.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])


def threads_of(daemon: Daemon) -> int:
    return len(os.listdir(f"/proc/{daemon.pid}/task"))


def calm(daemon: Daemon, first: tuple[int, int] | None = None) -> tuple[int, int]:
    """Descriptors and threads once no command runs and, if told, they are what they were first."""
    wait_for(lambda: not daemon.children(), 120)
    if first is not None:
        wait_for(lambda: daemon.figures() == first, 120)
    return daemon.figures()


def p99(times: list[float]) -> float:
    return statistics.quantiles(times, n=100)[98]


def measure(new: NewDaemon, kind: str) -> list[str]:
    """Run it, and print what was seen. Returns what is wrong."""
    daemon = made(new, kind)
    quiet, beside = Times(), Times()
    did = [0] * len(ACTS)
    sizes: list[int] = []
    counts: list[Alive] = []
    with daemon.client() as client:
        asked(client, 0)
        first, before, size = calm(daemon), alive(daemon), memory(daemon)
        most = 0
        for number in range(ROUNDS):
            quiet.add(asked(client, SECONDS / ROUNDS / 2))
            with hostile(daemon, kind, str(number)) as done:
                beside.add(asked(client, SECONDS / ROUNDS))
                most = max(most, threads_of(daemon))
            did = [sum(pair) for pair in zip(did, done, strict=True)]
            calm(daemon, first)
            sizes.append(memory(daemon))
            counts.append(alive(daemon))
    ratio, machine = (p99(getattr(beside, name)) / p99(getattr(quiet, name)) for name in ("client", "local"))
    print(
        f"{kind}: {len(quiet.client)} quiet requests, {len(beside.client)} beside, in {ROUNDS} rounds; "
        "all answered right"
    )
    for name, times in (("quiet", quiet), (kind, beside)):
        for what, one in (("", times.client), (", no daemon", times.local)):
            print(f"  {name + what:18} p50 {statistics.median(one):8.2f} ms   p99 {p99(one):8.2f} ms")
    print(
        f"  p99 {ratio:.2f} times, of which at most {MOST[kind]:g} are allowed; without a daemon "
        f"{machine:.2f} times: the daemon's part is {ratio / machine:.2f}, at most {APART:g} where both grow"
    )
    print(f"  RSS KiB {size} at the start, after the rounds {sizes}")
    for name in Alive._fields:
        each = [getattr(one, name) for one in counts]
        print(f"  {name} {getattr(before, name)} at the start, after the rounds {each}")
    print(f"  descriptors and threads after each round {first}, as before; at most {most} threads meanwhile")
    if kind == "mixed":
        print("  " + ", ".join(f"{count} {name}" for name, count in zip(ACTS, did, strict=True)))
    wrong = [
        f"nothing of: {name}" for name, count in zip(ACTS, did, strict=True) if kind == "mixed" and not count
    ]
    if ratio > max(MOST[kind], APART * machine):
        wrong.append(f"p99 is {ratio:.2f} times the quiet one")
    wrong += stays(counts)
    if grown(sizes) > GROWTH * statistics.median(sizes):
        wrong.append(f"the RSS grew by {grown(sizes):g} KiB: {sizes}")
    if "Traceback" in daemon.log:
        wrong.append(daemon.log)
    return wrong


def main(kinds: list[str]) -> int:
    """Measure all kinds, or those named."""
    os.umask(0o022)
    wrong = []
    for kind in kinds or MOST:
        with daemons() as new:
            wrong += measure(new, kind)
    for line in wrong:
        print(f"WRONG: {line}")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
