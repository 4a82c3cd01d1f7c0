"""The audit log is the truth: every execve(2) below a daemon, told by strace(1), is one of its records.

A hostile client asks meanwhile: legal and illegal requests, cancels, connections that end anywhere. Each run
has a word of its own, so that records and executions are paired one to one. EXEC_SECONDS says for how long
(`-rP` shows the figures); what a command does itself, once it runs, is no request and has no record.
"""

import contextlib
import os
import random
import re
import shutil
import socket
import threading
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final

import pytest

from rootwrap_daemon.daemon.run import shim
from rootwrap_daemon.errors import ProtocolError
from rootwrap_daemon.protocol.codec import encode
from rootwrap_daemon.protocol.messages import STDERR, STDOUT, Cancel, Check, Request, Run, Signal, Start
from tests.real_daemon import Daemon, NewDaemon, wait_for
from tests.wire import Wire

SECONDS: Final = float(os.environ.get("EXEC_SECONDS", "4"))
THREADS: Final = 4

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace"),
    pytest.mark.timeout(300 + 4 * SECONDS),
]

FILTERS: Final = """\
[Filters]
true: CommandFilter, true, root
id: CommandFilter, id, nobody
echo: CommandFilter, echo, root
sleep: RegExpFilter, sleep, root, sleep, [0-9.]+
sleep_twice: RegExpFilter, sleep, root, sleep, [0-9.]+, [0-9.]+
sh: CommandFilter, sh, root
env: EnvFilter, env, root, WORD=, true
nice: ChainingRegExpFilter, nice, root, nice, -n, [0-9]+
ls: CommandFilter, ls, nobody
broken: CommandFilter, {directory}/broken, root
hostname: ReadFileFilter, /etc/hostname

[echo]
limits = nofile=64

[ls]
no_new_privs = yes
"""

#: Programs whose word comes last and does not matter to them.
PLAIN: Final = ("true", "id", "echo", "ls", "broken", "nope", "reboot", "")
#: Those that a shim becomes.
SHIMMED: Final = (b"id", b"ls", b"echo")
SHIMS: Final = ("become", "setpriv", "prlimit")


@dataclass
class Execution:
    """One execve(2) that succeeded. `time`: seconds since the epoch."""

    time: float
    words: tuple[bytes, ...]

    @property
    def program(self) -> str:
        return os.path.basename(os.fsdecode(self.words[0])) if self.words else ""


@dataclass
class Told:
    """What strace(1) told: who is whose child, and what each process executed, in order.

    A number that the system has used again is another process, and has a larger number here.
    """

    parents: dict[int, int] = field(default_factory=dict)
    threads: dict[int, int] = field(default_factory=dict)
    executions: dict[int, list[Execution]] = field(default_factory=lambda: defaultdict(list))

    #: How often the system gave a number to another process, and the numbers here of those that have ended.
    again: Counter[int] = field(default_factory=Counter)
    ended: set[int] = field(default_factory=set)

    def known(self, pid: int) -> int:
        """The number here of the process that has this one of the system's now."""
        return pid + self.again[pid] * _NUMBERS

    def new(self, pid: int, since: float) -> int:
        """The same for a process whose creation, begun at this time, is told now."""
        number = self.known(pid)
        # Not only where its end was told: of what is killed strace does not tell each.
        if number in self.parents or number in self.threads:
            self.again[pid] += 1
            # vfork(2) returns after the execve(2) of the child, which was told as one of its forerunner.
            told = self.executions.pop(number, [])
            self.executions[number] = [one for one in told if one.time < since]
            self.executions[self.known(pid)] = [one for one in told if one.time >= since]
        return self.known(pid)

    def seen(self, pid: int) -> int:
        """The same for a process that does something: one whose creation is told later, if it had ended."""
        if self.known(pid) in self.ended:
            self.again[pid] += 1
        return self.known(pid)

    def process(self, task: int) -> int:
        """The process that a thread belongs to."""
        while task in self.threads:
            task = self.threads[task]
        return task

    def children(self, pid: int) -> list[int]:
        return [child for child, parent in self.parents.items() if self.process(parent) == pid]


#: More than the number of any process (pid_max, proc(5)).
_NUMBERS: Final = 1 << 22
_LINE: Final = re.compile(r"(\d+)\s+(\d+\.\d+) (.*)")
_BYTE: Final = re.compile(r"\\x([0-9a-f]{2})")
_STRING: Final = re.compile(r'"((?:\\x[0-9a-f]{2})*)"(\.\.\.)?')


def read_trace(path: Path) -> Told:
    """Parse what `strace -f -ttt -xx` wrote; a line that is not understood is an error."""
    told = Told()
    begun: dict[int, tuple[float, str]] = {}
    for line in path.read_text().splitlines():
        match = _LINE.fullmatch(line)
        assert match, line
        number = int(match[1])
        task, when, text = told.seen(number), float(match[2]), match[3]
        if text.startswith("+++"):
            told.ended.add(task)
            continue
        if text.endswith("<unfinished ...>"):
            # By the system's number: that it is another process may be told only before the rest of the call.
            begun[number] = when, text.removesuffix("<unfinished ...>")
            continue
        if resumed := re.match(r"<\.\.\. (\w+) resumed>", text):
            when, first = begun.pop(number)
            text = first + text[resumed.end() :]
        call, _, code = text.rpartition(" = ")
        name = call.partition("(")[0]
        assert name in ("execve", "execveat", "clone", "clone3", "fork", "vfork"), line
        if not re.fullmatch(r"\d+", code):
            # An error, or a thread that another one's execve ended.
            assert code.startswith(("-1 ", "?")), line
        elif name.startswith("exec"):
            words = _STRING.findall(call.partition("[")[2].partition("]")[0])
            assert words and not any(cut for _, cut in words), line
            plain = tuple(bytes.fromhex("".join(_BYTE.findall(word))) for word, _ in words)
            told.executions[task].append(Execution(when, plain))
        else:
            child = told.new(int(code), when)
            (told.threads if "CLONE_THREAD" in call else told.parents)[child] = task
    return told


class Hostile:
    """One thread of a taken-over client. `asked`: words of the runs that it asked for, once each."""

    def __init__(self, daemon: Daemon, number: int) -> None:
        self.daemon = daemon
        self.random = random.Random(f"execs {number}")
        self.number = number
        self.asked = 0

    def run(self, until: float) -> None:
        while time.monotonic() < until:
            with contextlib.suppress(OSError, ProtocolError), Wire(self.daemon.socket) as wire:
                wire.sock.settimeout(10)
                self.connection(wire)

    def word(self) -> bytes:
        self.asked += 1
        noise = bytes(self.random.randrange(1, 256) for _ in range(self.random.randrange(4)))
        return b"0.0%02d%06d" % (self.number, self.asked) + (noise if self.random.random() < 0.3 else b"")

    def argv(self) -> tuple[bytes, ...]:
        choose, word = self.random.choice, self.word()
        digits = word[:11]
        return choose(
            [
                *((choose(PLAIN).encode(), word) for _ in range(6)),
                (b"sleep", digits),
                (b"sleep", digits, choose((b"0", b"0.1", b"60"))),
                (b"env", b"WORD=" + word, b"true"),
                (b"nice", b"-n", digits[-6:], b"true", word),
                (
                    b"sh",
                    b"-c",
                    choose((b"true; ls / >/dev/null; :", b"kill $$", b"exec true", b"true & wait")),
                    word,
                ),
                (b"cat", b"/etc/hostname"),
            ]
        )

    def request(self) -> Request:
        kind = self.random.randrange(10)
        argv = self.argv()
        # The one word that is empty is no command's name, and the message could not be built.
        argv = argv if argv[0] else (b"/", *argv[1:])
        timeout = self.random.choice((None, None, 1, 50))
        if kind == 0:
            return Check(argv)
        return Run(argv, (), self.random.choice((None, b"", bytes(100_000))), timeout)

    def connection(self, wire: Wire) -> None:
        if self.random.random() < 0.1:
            wire.say(self.random.randbytes(self.random.randrange(300)))
            return
        wire.greet()
        for _ in range(self.random.randrange(1, 6)):
            if self.random.random() < 0.2:
                self.start(wire)
            else:
                wire.say(encode(self.request()))
            end = self.random.randrange(8)
            if end == 0:
                return
            if end == 1:
                wire.say(encode(Cancel()) * self.random.choice((1, 1, 3)))
            elif end == 2:
                wire.say(self.random.randbytes(self.random.randrange(1, 20)))
                return
            elif end == 3:
                wire.sock.shutdown(self.random.choice((socket.SHUT_RD, socket.SHUT_WR)))
            if wire.answer() is None:
                return

    def start(self, wire: Wire) -> None:
        """A command on pipes, nobody at the other end of one of them, and a signal or two."""
        reader, writer = os.pipe()
        try:
            argv = self.argv()
            message = Start(argv if argv[0] else (b"/",), (), STDOUT | STDERR)
            wire.say(encode(message), (writer, writer))
            if self.random.random() < 0.5:
                wire.answer()
                wire.say(encode(Signal(self.random.choice((15, 9, 1)))))
        finally:
            os.close(reader)
            os.close(writer)


@pytest.fixture
def traced(new_daemon: NewDaemon) -> tuple[Daemon, Path]:
    """A daemon that strace has watched since its first instruction."""
    daemon = new_daemon("", start=False, command_timeout="2", kill_grace="0.2", drain_timeout="5")
    (daemon.directory / "broken").write_bytes(b"\x7fno program")
    (daemon.directory / "broken").chmod(0o755)
    daemon.configure(FILTERS.format(directory=daemon.directory))
    trace = daemon.directory / "trace"
    # -D: the daemon is our own child, and strace nobody's.
    calls = "trace=execve,execveat,clone,clone3,fork,vfork"
    daemon.inside = ["strace", "-D", "-f", "-ttt", "-xx", "-s", "1000000", "-e", calls, "-e", "signal=none"]
    daemon.inside += ["-o", str(trace)]
    daemon.start()
    return daemon, trace


def play(daemon: Daemon) -> int:
    """The clients for a while, with a reload now and then. Returns how many words were asked for."""
    until = time.monotonic() + SECONDS
    clients = [Hostile(daemon, number) for number in range(THREADS)]
    threads = [threading.Thread(target=one.run, args=(until,)) for one in clients]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        # Where others have the processors, what reads may take longer than the daemon waits for it.
        assert daemon.reload() or "not within" in daemon.log[-1000:], daemon.log[-1000:]
        for thread in threads:
            thread.join(1 / THREADS)
    return sum(one.asked for one in clients)


def recorded(daemon: Daemon) -> dict[str, tuple[float, tuple[bytes, ...]]]:
    """Runs of the log, by their id: when, and the words."""
    found = {}
    for record in daemon.audit():
        if record["event"] == "run":
            assert "argv_bytes" not in record
            words = tuple(word.encode("utf-8", "surrogateescape") for word in record["argv"])
            assert record["id"] not in found
            found[record["id"]] = datetime.fromisoformat(record["time"]).timestamp(), words
    return found


def executed(told: Told, pid: int) -> tuple[list[Execution], Counter[str]]:
    """What the daemon's children executed first, but for a shim; and how often what else was, by its name.

    By time: a vfork(2) may return later than one that began after it.
    """
    first: list[Execution] = []
    others: Counter[str] = Counter()
    for child in told.children(pid):
        executions, has_shim = told.executions.get(child, []), False
        while executions and executions[0].program in SHIMS:
            others[f"shim {executions.pop(0).program}"] += 1
            has_shim = True
        if executions:
            first.append(executions[0])
            others["exec by a command"] += len(executions) - 1
        else:
            others["only a shim" if has_shim else "nothing"] += 1
    return sorted(first, key=lambda one: one.time), others


def rest(words: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """What the execution of these words has after its program's, but for directories: to find it by."""
    return tuple(map(os.path.basename, words[3 if words[0] == b"env" else 1 :]))


def matches(words: tuple[bytes, ...], done: Execution) -> bool:
    """Programs are executed by their whole path, all other words as they were asked for."""
    if words[0] == b"env":
        # What EnvFilter means: the variable is set, and the program executed.
        return [os.path.basename(done.words[0]), *done.words[1:]] == list(words[2:])
    if len(words) != len(done.words):
        return False
    pairs = list(zip(words, done.words, strict=True))
    return all(asked in (got, os.path.basename(got)) for asked, got in pairs)


def test_records_are_what_was_executed(traced: tuple[Daemon, Path]) -> None:
    daemon, trace = traced
    asked = play(daemon)
    wait_for(lambda: daemon.children() == [])
    pid = daemon.pid
    daemon.stop()
    wait_for(lambda: f"{pid} " in trace.read_text().splitlines()[-1] and "+++" in trace.read_text()[-60:])
    told = read_trace(trace)
    records = daemon.audit()
    runs = recorded(daemon)
    codes = {record["id"]: record["code"] for record in records if record["event"] == "end"}
    assert codes.keys() == runs.keys(), "each run has its end"
    # What reads the configuration anew is a child, too, and so no command of anybody's.
    first, others = executed(told, pid)
    readers = [one for one in first if b"rootwrap_daemon.daemon.start.read" in one.words]
    commands = [one for one in first if one not in readers]
    # The daemon's own: the test's, and from the start to what serves.
    assert [one.program[:6] for one in told.executions[pid]] == ["python", "python"]

    wanted = {one: words for one, (_, words) in runs.items() if words[0] not in (b"cat",)}
    not_started = {one for one in wanted if codes[one] in ("executable_not_found", "internal", "too_large")}
    left = dict(wanted)
    alike: dict[tuple[bytes, ...], dict[str, tuple[bytes, ...]]] = defaultdict(dict)
    for one, words in wanted.items():
        alike[rest(words)][one] = words
    for done in commands:
        near = alike[tuple(map(os.path.basename, done.words[1:]))]
        found = [one for one, words in near.items() if matches(words, done)]
        assert found, f"executed, and not recorded: {done}"
        chosen = next((one for one in found if one not in not_started), found[0])
        assert runs[chosen][0] <= done.time + 0.001, f"executed before it was recorded: {done}"
        del left[chosen], near[chosen]
    missing = {one: left[one] for one in left.keys() - not_started}
    # A cancel, or a lost client, may end the shim before it becomes the command.
    early = {
        one: words
        for one, words in missing.items()
        if codes[one] in ("client_gone", "ok", "cancelled", "timeout")
    }
    print(
        f"{asked} asked in {SECONDS:g} s; {len(records)} records, {len(runs)} runs; {len(commands)} "
        f"executions of commands, {len(readers)} of the reader, {dict(others)}; "
        f"{len(not_started)} not executable; {len(early)} ended in their shim; {Counter(codes.values())}"
    )
    assert missing == early
    # On a busy machine a deadline of a millisecond ends a process before its very first exec.
    unborn = others["nothing"] - len(not_started)
    assert unborn >= 0
    assert others["only a shim"] + unborn == len(early)
    assert sum(words[0] not in SHIMMED for words in early.values()) <= unborn, early
    assert commands
    assert {"become", "setpriv"} & {one.removeprefix("shim ") for one in others} or shim.native() is None


def test_an_execution_more_would_be_noticed(tmp_path: Path) -> None:
    """What strace says of a shell that is no request's is not understood as one."""
    trace = tmp_path / "trace"
    shell = "".join(f"\\x{byte:02x}" for byte in b"/bin/sh")
    trace.write_text(
        "1 1.0 vfork( <unfinished ...>\n"
        f'2 1.1 execve("{shell}", ["{shell}"], 0x1 /* 1 var */) = 0\n'
        "1 1.2 <... vfork resumed>) = 2\n"
        "1 1.3 clone3({flags=CLONE_VM|CLONE_THREAD}, 88) = 3\n"
        f'3 1.4 execve("{shell}", ["{shell}"], 0x1 /* 1 var */) = -1 ENOENT (No such file or directory)\n'
        "2 1.5 +++ exited with 0 +++\n"
    )
    told = read_trace(trace)
    first, _ = executed(told, 1)
    assert [one.words for one in first] == [(b"/bin/sh",)]
    assert told.process(3) == 1
    assert not matches((b"true",), first[0])


def test_executions_are_in_the_order_of_their_times(tmp_path: Path) -> None:
    """Those of the same words are paired with their records by it."""
    trace = tmp_path / "trace"
    execve = '{0} {1} execve("\\x61", ["\\x61"], 0x1) = 0\n'
    trace.write_text(
        "1 1.0 vfork( <unfinished ...>\n"
        + execve.format(2, 1.1)
        + "3 1.2 vfork( <unfinished ...>\n"
        + execve.format(4, 1.3)
        + "3 1.4 <... vfork resumed>) = 4\n"
        + "1 1.5 <... vfork resumed>) = 2\n"
    )
    told = read_trace(trace)
    told.threads[3] = 1
    assert [one.time for one in executed(told, 1)[0]] == [1.1, 1.3]


def test_a_number_that_is_used_again_is_another_process(tmp_path: Path) -> None:
    """Also where strace tells what it did, and its end, before its creation."""
    shell = "".join(f"\\x{byte:02x}" for byte in b"/bin/sh")
    trace = tmp_path / "trace"
    begun, resumed = "1 {0}.0 vfork( <unfinished ...>\n", "1 {0}.5 <... vfork resumed>) = 2\n"
    created = "1 {0}.0 vfork() = 2\n"
    executed = f'2 {{0}}.1 execve("{shell}", ["{shell}"], 0x1) = 0\n'
    again = executed.replace(".1", ".7")
    ended = "2 {0}.8 +++ exited with 0 +++\n"
    half = f'2 {{0}}.1 execve("{shell}", ["{shell}"], 0x1 <unfinished ...>\n'
    other_half = "2 {0}.6 <... execve resumed>) = 0\n"

    def executions(*lives: str) -> list[int]:
        trace.write_text("".join(life.format(second) for second, life in enumerate(lives, 1)))
        told = read_trace(trace)
        return [len(told.executions[child]) for child in told.children(1)]

    early = begun + executed + ended + resumed
    assert executions(created + executed + ended, created + executed + ended, early, early) == [1] * 4
    # Of what is killed the end may not be told.
    assert executions(created + executed, created + executed) == [1, 1]
    assert executions(created + executed, begun + executed + resumed + again) == [1, 2]
    assert executions(created + executed, early, begun + executed + resumed + again) == [1, 1, 2]
    # It may have begun a call before its creation is told, and ends it after that.
    assert executions(created + executed, begun + half + resumed + other_half) == [1, 1]
