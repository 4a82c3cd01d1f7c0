"""Many requests of every kind from many clients: one answer each, each command once, nothing left or grown.

Run it with `.venv/bin/python -m tests.bench.soak`; the environment variable SOAK says how many requests,
SOAK_SECONDS after which time no more are made, and SOAK_SVG where to draw what the daemon used. It fails,
with exit code 1, where an answer is wrong or missing, a command ran twice or not at all, or the daemon has
more memory, descriptors, threads or processes after it.

A deadline may end a command before its first line: a command that was answered with CommandTimeout, and with
nothing else, may leave no trace, and such are counted apart.

Memory is compared between two tenths of the requests, in the middle and at the end, and what it grew between
them is doubled: what leaks grows as long as requests come. What is seen at one moment depends on the requests
of that moment: as many as there are threads, each with up to 200,000 bytes; and on the pages between these,
which the daemon gives back each ten seconds. So single looks differ by 5 % and more, and the medians of the
looks of a tenth by less: those are compared. In the first half the interpreter may still take an arena for
small objects, of 1 MiB at once, which is 3 % and comes once; the growth since the first tenth is printed.
"""

import contextlib
import json
import multiprocessing
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Final

from rootwrap_daemon.client import PIPE, Client
from rootwrap_daemon.errors import CommandTimeout, Denied, Error
from tests.bench.curve import curves

REQUESTS: Final = int(os.environ.get("SOAK", "20000"))
SECONDS: Final = float(os.environ.get("SOAK_SECONDS", "inf"))
PROCESSES: Final = 4
THREADS: Final = 8
#: Looks at the daemon in all.
LOOKS: Final = 1000
#: Growth of the daemon's memory that is still none.
GROWTH: Final = 0.02

FILTERS: Final = """\
[Filters]
sh: CommandFilter, sh, root
sleep: RegExpFilter, sleep, root, sleep, 30
"""


@dataclass
class Caller:
    """One client and what it asks for. `ledger`: where its commands write that they ran."""

    client: Client
    ledger: Path
    random: random.Random
    asked: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    #: Numbers of the commands that must have run, once.
    due: list[int] = field(default_factory=list)
    #: Those of them that a deadline ended, by their answer, perhaps before their first line.
    ended: set[int] = field(default_factory=set)
    #: How many of these did not come to it.
    without_trace: int = 0

    def note(self, then: str) -> list[str]:
        """A command that writes down that it ran, once, and then does something."""
        self.due.append(len(self.due))
        return ["sh", "-c", f"echo {self.due[-1]} >> '{self.ledger}'; {then}"]

    def allowed(self) -> bool:
        return self.client.run(self.note("echo done")).stdout == b"done\n"

    def failing(self) -> bool:
        return self.client.run(self.note("exit 3")).returncode == 3

    def killed(self) -> bool:
        return self.client.run(self.note("kill -9 $$")).returncode == -9

    def denied(self) -> bool:
        with contextlib.suppress(Denied):
            self.client.run(["nothing-like-this"])
            return False
        return True

    def timed_out(self) -> bool:
        argv = self.note("exec sleep 30")
        try:
            self.client.run(argv, timeout=0.2)
        except CommandTimeout:
            self.ended.add(self.due[-1])
            return True
        return False

    def cancelled(self) -> bool:
        with self.client.popen(["sleep", "30"]) as process:
            process.cancel()
            return process.wait() == -15

    def signalled(self) -> bool:
        with self.client.popen(["sleep", "30"]) as process:
            process.kill()
            return process.wait() == -9

    def left(self) -> bool:
        self.client.popen(["sleep", "30"], stdout=PIPE).close()
        return True

    def passed(self) -> bool:
        data = self.random.randbytes(self.random.choice((10, 1000, 200_000)))
        with self.client.popen(self.note("exec cat"), stdin=PIPE, stdout=PIPE) as process:
            return process.communicate(data) == (data, None) and process.wait() == 0

    def captured(self) -> bool:
        data = self.random.randbytes(self.random.choice((10, 1000, 200_000)))
        return self.client.run(self.note("exec cat"), input=data).stdout == data

    def ask(self) -> None:
        """One request, chosen by lot."""
        (kind,) = self.random.choices(list(MIX), list(MIX.values()))
        self.asked[kind.__name__] += 1
        try:
            if not kind(self):
                self.wrong.append(kind.__name__)
        except (Error, OSError, subprocess.TimeoutExpired) as error:
            self.wrong.append(f"{kind.__name__}: {error!r}")

    def check(self) -> None:
        """Compare what ran with what should have."""
        ran = Counter(map(int, self.ledger.read_text().split())) if self.ledger.exists() else Counter()
        for number in self.due:
            times = ran.pop(number, 0)
            if times == 0 and number in self.ended:
                self.without_trace += 1
            elif times != 1:
                self.wrong.append(f"command {number} ran {times} times, not once")
        self.wrong += [f"command {number} ran unasked" for number in ran]


#: What is asked for, and how often out of a hundred.
MIX: Final[dict[Callable[[Caller], bool], int]] = {
    Caller.allowed: 30,
    Caller.failing: 10,
    Caller.killed: 3,
    Caller.denied: 22,
    Caller.timed_out: 3,
    Caller.cancelled: 5,
    Caller.signalled: 3,
    Caller.left: 4,
    Caller.passed: 10,
    Caller.captured: 10,
}

#: How often each kind was asked, what is wrong, and how many that a deadline ended left no trace.
Outcome = tuple[Counter[str], list[str], int]


def work(
    number: int, directory: Path, done: "Synchronized[int]", results: "multiprocessing.Queue[Outcome]"
) -> None:
    """One process of clients."""
    end = time.monotonic() + SECONDS
    with contextlib.ExitStack() as stack:
        callers = [
            Caller(
                stack.enter_context(Client(str(directory / "socket"))),
                directory / f"ledger-{number}-{index}",
                random.Random(f"{number} {index}"),
            )
            for index in range(THREADS)
        ]

        def loop(caller: Caller) -> None:
            while True:
                with done.get_lock():
                    if done.value >= REQUESTS or time.monotonic() > end:
                        return
                    done.value += 1
                caller.ask()

        threads = [threading.Thread(target=loop, args=(caller,)) for caller in callers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for caller in callers:
            caller.check()
        asked = sum((caller.asked for caller in callers), Counter[str]())
        wrong = [one for caller in callers for one in caller.wrong]
        results.put((asked, wrong, sum(caller.without_trace for caller in callers)))


@dataclass(frozen=True, slots=True)
class Look:
    """What the daemon uses. `memory` in KiB."""

    done: int
    memory: int
    descriptors: int
    threads: int
    children: int

    @classmethod
    def at(cls, pid: int, done: int) -> "Look":
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        status = dict(line.split(":\t", 1) for line in lines)
        children = sum(
            len(Path(f"/proc/{pid}/task/{task}/children").read_text().split())
            for task in os.listdir(f"/proc/{pid}/task")
            if os.path.exists(f"/proc/{pid}/task/{task}/children")
        )
        return cls(
            done,
            int(status["VmRSS"].split()[0]),
            len(os.listdir(f"/proc/{pid}/fd")),
            int(status["Threads"]),
            children,
        )


def watch(pid: int, done: "Synchronized[int]", processes: list[multiprocessing.Process]) -> list[Look]:
    """Looks at the daemon, about one each thousandth of the way."""
    looks: list[Look] = []
    due = time.monotonic()
    while any(process.is_alive() for process in processes):
        if not looks or done.value - looks[-1].done >= REQUESTS // LOOKS or time.monotonic() > due:
            due = time.monotonic() + SECONDS / LOOKS
            with contextlib.suppress(OSError):
                looks.append(Look.at(pid, done.value))
        time.sleep(0.02)
    return looks


def unanswered(audit: Path) -> list[str]:
    """Requests whose records are not one beginning and one end."""
    begun: Counter[str] = Counter()
    ended: Counter[str] = Counter()
    with audit.open() as lines:
        for line in lines:
            record = json.loads(line)
            if record["event"] in ("run", "end"):
                (begun if record["event"] == "run" else ended)[record["id"]] += 1
    odd = [one for one in begun.keys() | ended.keys() if begun[one] != 1 or ended[one] != 1]
    return [f"request {one} has {begun[one]} beginnings and {ended[one]} ends" for one in odd]


def settled(pid: int, calm: Look, done: int) -> Look:
    """The daemon once nobody is connected, or after half a minute."""
    end = time.monotonic() + 30
    while True:
        now = Look.at(pid, done)
        same = (now.descriptors, now.threads, now.children) == (calm.descriptors, calm.threads, 0)
        if same or time.monotonic() > end:
            return now
        time.sleep(0.1)


def soak(directory: Path) -> list[str]:
    """Run it, and print what was seen. Returns what is wrong."""
    directory.chmod(0o755)
    (directory / "filters.d").mkdir(mode=0o755)
    (directory / "filters.d" / "soak.filters").write_text(FILTERS)
    config = directory / "daemon.conf"
    config.write_text(
        f"[DEFAULT]\nfilters_path = {directory}/filters.d\nsocket_path = {directory}/socket\n"
        f"allowed_users = {os.geteuid()}\naudit_file = {directory}/audit.jsonl\nsyslog_log_level = WARNING\n"
    )
    daemon = subprocess.Popen(
        [sys.executable, "-I", "-m", "rootwrap_daemon.daemon.main", "--config-file", str(config)]
    )
    try:
        while not (directory / "socket").exists():
            if daemon.poll() is not None:
                raise SystemExit("the daemon did not start")
            time.sleep(0.01)
        with Client(str(directory / "socket")) as client:
            client.run(["sh", "-c", "true"])
        time.sleep(0.5)
        calm = Look.at(daemon.pid, 0)
        context = multiprocessing.get_context("fork")
        done = context.Value("q", 0)
        results: multiprocessing.Queue[Outcome] = context.Queue()
        processes = [
            context.Process(target=work, args=(number, directory, done, results))
            for number in range(PROCESSES)
        ]
        start = time.monotonic()
        for process in processes:
            process.start()
        looks = watch(daemon.pid, done, processes)  # type: ignore[arg-type]
        spent = time.monotonic() - start
        outcomes = [results.get(timeout=10) for process in processes if process.exitcode == 0]
        after = settled(daemon.pid, calm, done.value)
        wrong = [one for _, several, _ in outcomes for one in several]
        wrong += unanswered(directory / "audit.jsonl")
        if len(outcomes) < PROCESSES:
            wrong.append(f"{PROCESSES - len(outcomes)} processes of clients failed")
        asked = sum((one for one, _, _ in outcomes), Counter[str]())
        if asked.total() != done.value:
            wrong.append(f"{asked.total()} requests were answered, not {done.value}")
        wrong += report(looks, calm, after, asked, spent)
        print(f"  {sum(none for _, _, none in outcomes)} that a deadline ended left no trace")
        return wrong
    finally:
        daemon.terminate()
        daemon.wait()


def report(looks: list[Look], calm: Look, after: Look, asked: Counter[str], spent: float) -> list[str]:
    """Print the figures. Returns what is wrong with them."""
    print(f"{asked.total()} requests from {PROCESSES * THREADS} clients in {spent:.0f} s")
    print("  " + ", ".join(f"{count} {kind}" for kind, count in asked.most_common()))
    print("  requests   RSS KiB   descriptors   threads   children")
    for look in [calm, *looks[:: max(1, len(looks) // 20)], after]:
        print(
            f"  {look.done:8}  {look.memory:8}   {look.descriptors:11}   {look.threads:7}   {look.children:8}"
        )
    if path := os.environ.get("SOAK_SVG"):
        values = {
            "RSS, KiB": [look.memory for look in looks],
            "descriptors": [look.descriptors for look in looks],
            "threads": [look.threads for look in looks],
        }
        title = f"A daemon during {asked.total()} requests from {PROCESSES * THREADS} clients"
        Path(path).write_text(curves(title, [look.done for look in looks], values))
    total = asked.total()
    first, middle, last = (
        [look.memory for look in looks if start <= look.done / total <= start + 0.1]
        for start in (0.1, 0.45, 0.9)
    )
    wrong = []
    if not (first and middle and last):
        wrong.append("the daemon's memory was not seen")
    else:
        at_end = statistics.median(last)
        growth = 2 * (at_end / statistics.median(middle) - 1)
        print(f"  RSS after the first tenth: {at_end / statistics.median(first) - 1:+.1%}")
        print(f"  RSS after the first half, times two: {growth:+.1%}")
        if growth > GROWTH:
            wrong.append(f"the daemon's memory grew by {growth:.1%}")
    if (after.descriptors, after.threads, after.children) != (calm.descriptors, calm.threads, 0):
        wrong.append(f"left behind: {after}, at the start {calm}")
    return wrong


def main() -> int:
    """Run it in a directory of its own."""
    with tempfile.TemporaryDirectory(prefix="rootwrap-soak-") as directory:
        wrong = soak(Path(directory))
    for line in wrong[:20]:
        print(f"WRONG: {line}")
    print(f"{len(wrong)} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
