"""Descriptors that an agent passes to take something from the daemon, its other users or root."""

import array
import contextlib
import ctypes
import errno
import fcntl
import os
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from rootwrap_daemon.protocol import messages
from rootwrap_daemon.protocol.codec import encode
from tests.real_daemon import (
    FILTERS,
    Daemon,
    NewDaemon,
    frame,
    is_alive,
    links_of,
    settle,
    states_of,
    wait_for,
)
from tests.security.slow_files import SlowFiles, slow_files
from tests.wire import Wire

pytestmark = pytest.mark.root

#: The user that the agent runs as, and another who may use the daemon as well.
AGENT, OTHER = 65534, 61112
ALL = messages.STDIN | messages.STDOUT | messages.STDERR
HELLO = frame([0, messages.VERSION, messages.MAX_ANSWER_FRAME, 0])
_libc = ctypes.CDLL(None, use_errno=True)
_IO_URING_SETUP = 425
_F_SETSIG = 10


@contextlib.contextmanager
def being(uid: int) -> Iterator[None]:
    """All that is opened, made or connected in here is this user's: without any capability."""
    os.setresgid(uid, uid, 0)
    os.setresuid(uid, uid, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)
        os.setresgid(0, 0, 0)


@pytest.fixture
def daemon(new_daemon: NewDaemon) -> Daemon:
    return new_daemon(
        FILTERS + "[Filters]\nhead: CommandFilter, head, root\n",
        socket_mode="0666",
        allowed_users=f"root, {AGENT}, {OTHER}",
        kill_grace="0.2",
        request_timeout="60",
    )


class Agent(Wire):
    """A taken-over agent: a connection over which anything may be said."""

    def __init__(self, daemon: Daemon, uid: int = AGENT) -> None:
        with being(uid):
            super().__init__(daemon.socket)

    def start(
        self, descriptors: Sequence[int], slots: int, argv: Sequence[bytes] = (b"cat",), **options: Any
    ) -> None:
        self.send(messages.Hello(messages.VERSION, messages.MAX_ANSWER_FRAME))
        self.send(messages.Start(tuple(argv), (), slots, **options), descriptors)


def pipe_of(uid: int, flags: int = 0) -> tuple[int, int]:
    with being(uid):
        return os.pipe2(flags | os.O_CLOEXEC)


def reopened(descriptor: int, flags: int) -> int:
    return os.open(f"/proc/self/fd/{descriptor}", flags)


@pytest.fixture
def where(daemon: Daemon) -> Path:
    """A directory with a fifo and a file of root's, and a fifo and files of the agent's."""
    directory = daemon.directory / "things"
    directory.mkdir()
    os.mkfifo(directory / "root.fifo", 0o600)
    os.mkfifo(directory / "own.fifo", 0o600)
    for name in ("root.file", "own.file", "pipe:[1]"):
        (directory / name).write_bytes(b"a secret\n")
        (directory / name).chmod(0o600)
    for name in ("own.fifo", "own.file", "pipe:[1]"):
        os.chown(directory / name, AGENT, AGENT)
    directory.chmod(0o777)
    return directory


def _new(name: str, *arguments: object) -> int:
    """A descriptor of a system call that Python does not know."""
    descriptor = int(getattr(_libc, name)(*arguments))
    if descriptor < 0:
        pytest.skip(f"{name}: {os.strerror(ctypes.get_errno())}")
    return descriptor


#: Each opens, as the agent, what fits no slot.
HOSTILE: dict[str, Callable[[Path], int]] = {
    "O_PATH of root's fifo": lambda where: os.open(where / "root.fifo", os.O_PATH),
    "O_PATH of root's file": lambda where: os.open(where / "root.file", os.O_PATH),
    "O_PATH of its own pipe": lambda where: reopened(os.pipe()[0], os.O_PATH),
    "its own fifo": lambda where: os.open(where / "own.fifo", os.O_RDONLY | os.O_NONBLOCK),
    "its own fifo, both ways": lambda where: os.open(where / "own.fifo", os.O_RDWR),
    "its own pipe, both ways": lambda where: reopened(os.pipe()[0], os.O_RDWR),
    "a socket": lambda where: socket.socketpair()[0].detach(),
    "a datagram socket": lambda where: socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)[0].detach(),
    "a listening socket": lambda where: socket.create_server(("127.0.0.1", 0)).detach(),
    "a netlink socket": lambda where: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0).detach(),
    "memory": lambda where: os.memfd_create("pipe:[1]"),
    "a file": lambda where: os.open(where / "own.file", os.O_RDWR),
    "a file named like a pipe": lambda where: os.open(where / "pipe:[1]", os.O_RDONLY),
    "a file without a name": lambda where: os.open(where, os.O_TMPFILE | os.O_RDWR, 0o600),
    "a file of tmpfs": lambda where: os.open("/dev/shm", os.O_TMPFILE | os.O_RDWR, 0o600),
    "a directory": lambda where: os.open(where, os.O_RDONLY | os.O_DIRECTORY),
    "a terminal": lambda where: os.openpty()[1],
    "a terminal's other end": lambda where: os.openpty()[0],
    "/dev/null": lambda where: os.open("/dev/null", os.O_RDONLY),
    "/dev/full": lambda where: os.open("/dev/full", os.O_WRONLY),
    "epoll": lambda where: _new("epoll_create1", 0),
    "eventfd": lambda where: os.eventfd(1),
    "timerfd": lambda where: _new("timerfd_create", 1, 0),
    "inotify": lambda where: _new("inotify_init1", 0),
    "pidfd": lambda where: os.pidfd_open(os.getpid()),
    "io_uring": lambda where: _new("syscall", _IO_URING_SETUP, 2, ctypes.create_string_buffer(120)),
    "its own status": lambda where: os.open("/proc/thread-self/status", os.O_RDONLY),
    "a namespace": lambda where: os.open("/proc/self/ns/net", os.O_RDONLY),
}


@contextlib.contextmanager
def opened(make: Callable[[Path], int], where: Path) -> Iterator[int]:
    """What `make` opens as the agent, which is closed with all else that it left open."""
    before = set(os.listdir("/proc/self/fd"))
    try:
        with being(AGENT):
            descriptor = make(where)
        one, other = socket.socketpair()
        with one, other:
            try:
                socket.send_fds(one, [b"x"], [descriptor])
            except OSError as error:
                pytest.skip(f"the kernel itself does not pass it on: {error}")
        yield descriptor
    finally:
        for name in set(os.listdir("/proc/self/fd")) - before:
            with contextlib.suppress(OSError):
                os.close(int(name))


def assert_refused(daemon: Daemon, answers: bytes, before: tuple[int, int], count: int = 1) -> None:
    """Said so, recorded, and nothing of it left."""
    assert answers.count(b"bad_request") == 1, answers
    wait_for(lambda: settle(daemon) == before)
    refused = [record for record in daemon.audit() if record["event"] == "bad_request"]
    assert len(refused) == count
    assert {record["uid"] for record in refused} == {AGENT}
    assert not [record for record in daemon.audit() if record["event"] == "run"]
    wait_for(lambda: daemon.children() == [])


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_no_pipe_of_the_agents_own_is_refused(daemon: Daemon, where: Path, name: str) -> None:
    """In each slot, and among good ones."""
    before = settle(daemon)
    reader, writer = pipe_of(AGENT)
    with opened(HOSTILE[name], where) as hostile:
        for count, (descriptors, slots) in enumerate(
            (
                ([hostile], messages.STDIN),
                ([hostile], messages.STDOUT),
                ([hostile], messages.STDERR),
                ([hostile] * 3, ALL),
                ([reader, writer, hostile], ALL),
            ),
            start=1,
        ):
            with Agent(daemon) as agent:
                agent.start(descriptors, slots)
                assert_refused(daemon, agent.rest(), before, count)
    os.close(reader)
    os.close(writer)


@pytest.mark.parametrize("owner", [0, OTHER])
def test_pipe_of_another_user_is_refused(daemon: Daemon, owner: int) -> None:
    before = settle(daemon)
    reader, writer = pipe_of(owner)
    mine = pipe_of(AGENT)
    for count, (descriptors, slots) in enumerate(
        (([reader], messages.STDIN), ([writer], messages.STDOUT), ([mine[0], mine[1], writer], ALL)), start=1
    ):
        with Agent(daemon) as agent:
            agent.start(descriptors, slots)
            assert_refused(daemon, agent.rest(), before, count)
    for end in (reader, writer, *mine):
        os.close(end)


def test_wrong_end_of_a_pipe_is_refused(daemon: Daemon) -> None:
    before = settle(daemon)
    reader, writer = pipe_of(AGENT)
    for count, (descriptors, slots) in enumerate(
        (
            ([writer], messages.STDIN),
            ([reader], messages.STDOUT),
            ([reader], messages.STDERR),
            ([writer, reader, writer], ALL),
        ),
        start=1,
    ):
        with Agent(daemon) as agent:
            agent.start(descriptors, slots)
            assert_refused(daemon, agent.rest(), before, count)
    os.close(reader)
    os.close(writer)


def test_connection_itself_is_refused(daemon: Daemon) -> None:
    """A socket in flight over itself is how connections were never closed (CVE-2014-3637)."""
    before = settle(daemon)
    for count, slots in enumerate((messages.STDIN, messages.STDOUT, ALL), start=1):
        with Agent(daemon) as agent:
            agent.start([agent.sock.fileno()] * slots.bit_count(), slots)
            assert_refused(daemon, agent.rest(), before, count)


def test_connections_in_flight_over_each_other(daemon: Daemon) -> None:
    """Nobody reads them any more: the daemon's end is in the other's queue, and the other way round."""
    before = settle(daemon)
    for _ in range(20):
        with Agent(daemon) as one, Agent(daemon) as other:
            for agent, passed in ((one, other), (other, one)):
                agent.say(HELLO)
                agent.say(frame([1, [b"sleep", b"1000"], [], None, 300]))
                for _ in range(10):
                    agent.say(frame([3]), [passed.sock.fileno(), agent.sock.fileno()])
    wait_for(lambda: settle(daemon) == before)
    wait_for(lambda: daemon.children() == [])


@pytest.mark.parametrize("count", [0, 1, 2, 4, 5, 253])
def test_number_that_the_message_does_not_say(daemon: Daemon, count: int) -> None:
    before = settle(daemon)
    reader, writer = pipe_of(AGENT)
    with Agent(daemon) as agent:
        agent.start([reader] * count, ALL)
        assert_refused(daemon, agent.rest(), before)
    with Agent(daemon) as agent:
        agent.start([reader] * (count or 3), 0, [b"true"])
        assert_refused(daemon, agent.rest(), before, 2)
    os.close(reader)
    os.close(writer)


OTHERS: list[messages.Request] = [
    messages.Hello(messages.VERSION, messages.MAX_ANSWER_FRAME),
    messages.Run((b"true",)),
    messages.Check((b"true",)),
    messages.Cancel(),
    messages.Signal(15),
    messages.Status(),
]


@pytest.mark.parametrize("message", OTHERS, ids=lambda message: type(message).__name__)
@pytest.mark.parametrize("count", [1, 3, 253])
def test_no_other_message_brings_descriptors(daemon: Daemon, message: messages.Request, count: int) -> None:
    before = settle(daemon)
    reader, writer = pipe_of(AGENT)
    with Agent(daemon) as agent:
        hello = agent.exchange.send(messages.Hello(messages.VERSION, messages.MAX_ANSWER_FRAME))
        if isinstance(message, messages.Hello):
            agent.say(hello, [reader] * count)
        else:
            agent.say(hello)
            # The daemon has read it: or the kernel would give both in one read.
            agent.sock.recv(65536)
            agent.say(encode(message), [reader] * count)
        assert_refused(daemon, agent.rest(), before)
    os.close(reader)
    os.close(writer)


def test_descriptors_where_no_message_begins(daemon: Daemon) -> None:
    before = settle(daemon)
    data = frame([7, [b"cat"], [], messages.STDIN, None])
    reader, writer = pipe_of(AGENT)
    for count, cut in enumerate((1, 4, 5, 12), start=1):
        with Agent(daemon) as agent:
            agent.say(HELLO)
            agent.sock.recv(65536)
            agent.say(data[:cut])
            wait_for(agent.is_read)
            agent.say(data[cut:], [reader])
            assert_refused(daemon, agent.rest(), before, count)
    # Twice for one message.
    with Agent(daemon) as agent:
        agent.say(HELLO)
        agent.sock.recv(65536)
        agent.say(data[:5], [reader])
        wait_for(agent.is_read)
        agent.say(data[5:], [writer])
        assert_refused(daemon, agent.rest(), before, 5)
    os.close(reader)
    os.close(writer)


def test_control_data_that_does_not_fit(daemon: Daemon) -> None:
    """What is too much is closed by the kernel; two pieces in one sendmsg are one, or none."""
    before = settle(daemon)
    reader, writer = pipe_of(AGENT)
    rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [reader, writer]).tobytes())
    with Agent(daemon) as agent:
        agent.say(HELLO)
        agent.sock.recv(65536)
        try:
            agent.sock.sendmsg(
                [frame([7, [b"cat"], [], messages.STDIN | messages.STDOUT, None])], [rights, rights]
            )
        except OSError:
            # The kernel itself refuses them.
            agent.sock.close()
            wait_for(lambda: settle(daemon) == before)
        else:
            assert_refused(daemon, agent.rest(), before)
    os.close(reader)
    os.close(writer)


@pytest.mark.parametrize("passed", [False, True], ids=["captured", "passed"])
@pytest.mark.parametrize("count", [1, 3, 4, 253])
def test_descriptors_while_a_command_runs_end_it(daemon: Daemon, passed: bool, count: int) -> None:
    before = settle(daemon)
    reader, writer = pipe_of(AGENT)
    with Agent(daemon) as agent:
        if passed:
            agent.start([], 0, [b"sleep", b"1000"])
            assert isinstance(agent.answer(), messages.Started)
        else:
            agent.say(HELLO + frame([1, [b"sleep", b"1000"], [], None, None]))
            wait_for(lambda: daemon.children() != [])
        agent.say(frame([3]), [reader] * count)
        agent.rest()
        wait_for(lambda: settle(daemon) == before)
    wait_for(lambda: daemon.children() == [])
    assert daemon.audit()[-1]["code"] == "client_gone"
    os.close(reader)
    os.close(writer)


# Closing what was sent takes as long as its sender likes.


@contextlib.contextmanager
def lingering(seconds: int = 100) -> Iterator[int]:
    """A socket whose last close(2) waits so long: its peer takes nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        peer = socket.create_connection(server.getsockname())
        sock, _ = server.accept()
    with peer:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, seconds))
        sock.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                sock.send(bytes(65536))
        yield sock.detach()


def let_go(last: int) -> None:
    """Close it without waiting, should the daemon not have it."""
    threading.Thread(target=os.close, args=(last,), daemon=True).start()


def calls_go_on(daemon: Daemon) -> None:
    with being(OTHER):
        client = daemon.client()
        with client:
            for _ in range(3):
                assert client.run(["true"], timeout=60).returncode == 0
    for _ in range(3):
        with being(OTHER), daemon.client() as client:
            assert client.run(["true"], timeout=60).returncode == 0


def test_close_that_waits_does_not_hold_the_deadline(daemon: Daemon) -> None:
    marker = daemon.directory / "marker"
    script = f"trap '' HUP; sleep 1000; echo late > {marker}; sleep 1000".encode()
    for slots in (None, 0):
        with Agent(daemon) as agent, lingering() as last:
            if slots is None:
                agent.say(HELLO + frame([1, [b"sh", b"-c", script], [], None, 500]))
                wait_for(lambda: daemon.children() != [])
            else:
                agent.start([], 0, [b"sh", b"-c", script], timeout_ms=500)
                assert isinstance(agent.answer(), messages.Started)
            null = os.open("/dev/null", os.O_RDONLY)
            # The last is beyond what the daemon has room for: the kernel itself closes it.
            agent.say(frame([3]), [null] * 4 + [last])
            let_go(last)
            os.close(null)
            wait_for(lambda: daemon.children() == [])
        wait_for(lambda: daemon.threads() == 1)
    assert not marker.exists()


def test_a_byte_out_of_band_is_one_of_the_others(daemon: Daemon) -> None:
    """It is readable for ever, where nobody reads it: the session would look at it all the while."""
    with Agent(daemon) as agent:
        agent.start([], 0, [b"sleep", b"1000"])
        assert isinstance(agent.answer(), messages.Started)
        cancel = agent.exchange.send(messages.Cancel())
        agent.say(cancel[:-1])
        agent.sock.send(cancel[-1:], socket.MSG_OOB)
        answer = agent.answer()
    assert isinstance(answer, messages.Result)
    assert answer.cause == "cancelled"


def test_close_that_waits_is_of_that_user_alone(daemon: Daemon) -> None:
    """Its connections stay counted until all that came with them is closed; as many again make room."""
    daemon.configure(max_connections_per_user="5")
    daemon.restart()
    before = settle(daemon)
    sent: set[str] = set()
    with contextlib.ExitStack() as held:
        for _ in range(20):
            last = held.enter_context(lingering())
            sent.add(f"socket:[{os.fstat(last).st_ino}]")
            agent = held.enter_context(Agent(daemon))
            agent.say(HELLO + frame([2, [b"true"], []]), [last])
            let_go(last)
        # A command that is started between the receipt of one and its close(2) has it, too.
        # So wait until it does nothing more: a thread that closes one only sleeps.
        wait_for(lambda: states_of(daemon.pid) == {"S"} and sent.isdisjoint(links_of(daemon.pid).values()))
        calls_go_on(daemon)
        # The last of those calls may just be ending.
        wait_for(lambda: daemon.threads() <= 13)
    wait_for(lambda: settle(daemon) == before)


@contextlib.contextmanager
def stopped(daemon: Daemon) -> Iterator[None]:
    """It takes nothing meanwhile."""
    os.kill(daemon.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(daemon.pid, signal.SIGCONT)


def test_close_that_waits_does_not_hold_the_door(daemon: Daemon) -> None:
    """Who may not even ask: what it sent is closed, unread, by the thread that accepts."""
    before = settle(daemon)
    with contextlib.ExitStack() as held:
        with stopped(daemon):
            for _ in range(20):
                last = held.enter_context(lingering())
                agent = held.enter_context(Agent(daemon, uid=61111))
                agent.say(HELLO, [last])
                let_go(last)
        calls_go_on(daemon)
        wait_for(lambda: settle(daemon) == before)


def test_close_that_waits_does_not_hold_the_end(daemon: Daemon) -> None:
    """Nor does what nobody has accepted yet."""
    daemon.configure(drain_timeout="1")
    daemon.restart()
    with contextlib.ExitStack() as held:
        with stopped(daemon):
            for uid in (61111, AGENT):
                last = held.enter_context(lingering())
                agent = held.enter_context(Agent(daemon, uid=uid))
                agent.say(HELLO, [last])
                let_go(last)
            os.kill(daemon.pid, signal.SIGTERM)
        # Fails after a minute.
        assert daemon.stop() == 0


# What the daemon and its other users are left with.

HOLDER_SECONDS = 3.0


def test_half_sent_messages_with_descriptors_take_nothing_from_others(daemon: Daemon) -> None:
    """As many as it may hold, each with as many descriptors as a message can bring."""
    daemon.inside = ["prlimit", "--nofile=512:512"]
    daemon.restart()
    before = settle(daemon)
    end = time.monotonic() + HOLDER_SECONDS
    reader, writer = pipe_of(AGENT)
    with contextlib.ExitStack() as held:
        most = 0
        while time.monotonic() < end or most <= 100:
            agent = held.enter_context(Agent(daemon))
            agent.say(HELLO + frame([7, [b"cat"], [], ALL, None])[:-1], [reader, writer, writer])
            most = max(most, daemon.descriptors())
            if most > 100:
                calls_go_on(daemon)
        assert "cannot accept" not in daemon.log
    wait_for(lambda: settle(daemon) == before)
    os.close(reader)
    os.close(writer)


def test_client_that_never_reads(daemon: Daemon) -> None:
    """What it started ends all the same, and so does its connection."""
    before = settle(daemon)
    with contextlib.ExitStack() as held:
        for _ in range(10):
            agent = held.enter_context(Agent(daemon))
            agent.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
            agent.start([], 0, [b"sleep", b"1000"], timeout_ms=500)
            for _ in range(1000):
                agent.say(frame([8, 10]))
        calls_go_on(daemon)
        wait_for(lambda: daemon.children() == [])
    wait_for(lambda: settle(daemon) == before)


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.0\r\n\r\n",
        b"\xff" * 4096,
        frame([7, [b"true"], [], 0, None]),
        frame([1, [b"true"], [], None, None]),
        frame([8, 0]),
        frame([8, 65]),
        frame([8, -1]),
        frame([8, True]),
        frame([8, 15, 15]),
        frame([10, "id", 1, 0]),
    ],
)
@pytest.mark.parametrize("at_once", [True, False])
def test_garbage_behind_a_start_ends_the_command(daemon: Daemon, garbage: bytes, at_once: bool) -> None:
    before = settle(daemon)
    reader, writer = pipe_of(AGENT)
    with Agent(daemon) as agent:
        agent.say(HELLO)
        data = frame([7, [b"sh", b"-c", b"sleep 1000; echo late; sleep 1000"], [], messages.STDOUT, None])
        agent.say(data + (garbage if at_once else b""), [writer])
        os.close(writer)
        if not at_once:
            wait_for(lambda: daemon.children() != [])
            agent.say(garbage)
        agent.rest()
        wait_for(lambda: daemon.children() == [])
    assert os.read(reader, 100) == b""
    os.close(reader)
    wait_for(lambda: settle(daemon) == before)


# What a command of root's can do with what it got.

_LOOK = r"""
for n in 0 1 2; do
    readlink /proc/self/fd/$n
done
ls /proc/self/fd | tr '\n' ' '; echo
grep -H flags /proc/self/fdinfo/[012]
for n in 0 1 2; do
    for way in '<' '>' '<>'; do
        eval "(exec 7$way/proc/self/fd/$n) 2>/dev/null" && echo "$n $way"
    done
done
"""


def test_child_can_open_again_what_its_client_could_and_nothing_else(daemon: Daemon) -> None:
    """From inside: three ends of pipes that are the agent's own; so are their other ends."""
    inputs, outputs, errors = (pipe_of(AGENT) for _ in range(3))
    with Agent(daemon) as agent:
        agent.start([inputs[0], outputs[1], errors[1]], ALL, [b"sh", b"-c", _LOOK.encode()])
        for end in (inputs[0], outputs[1], errors[1]):
            os.set_inheritable(end, False)
        assert isinstance(agent.answer(), messages.Started)
        result = agent.answer()
        assert isinstance(result, messages.Result)
        said = os.read(outputs[0], 65536).decode()
    lines = said.splitlines()
    # One each, and the very ones: st_ino of the client's.
    assert lines[:3] == [f"pipe:[{os.fstat(one).st_ino}]" for one in (inputs[0], outputs[0], errors[0])]
    # 3 is the directory that ls reads.
    assert lines[3].split() == ["0", "1", "2", "3"]
    # What it opened again, the agent itself can open just so, by the same names in its own /proc.
    for line in lines[7:]:
        number, way = line.split()
        flags = {"<": os.O_RDONLY, ">": os.O_WRONLY, "<>": os.O_RDWR}[way]
        with being(AGENT):
            os.close(reopened((inputs[0], outputs[1], errors[1])[int(number)], flags | os.O_NONBLOCK))
    assert len(lines) == 7 + 9, said
    for pair in (inputs, outputs, errors):
        for end in pair:
            os.close(end)


def run_with(daemon: Daemon, ends: Sequence[int], slots: int, script: str) -> int:
    with Agent(daemon) as agent:
        agent.start(ends, slots, [b"sh", b"-c", script.encode()])
        first = agent.answer()
        assert isinstance(first, messages.Started), first
        result = agent.answer()
        assert isinstance(result, messages.Result), result
        return result.returncode


def test_odd_pipes_of_its_own(daemon: Daemon) -> None:
    """Small, large, in packets, not blocking: that is between the agent and the command."""
    before = settle(daemon)
    for flags, size in ((0, 4096), (0, 1 << 20), (os.O_DIRECT, 0), (os.O_NONBLOCK, 0)):
        reader, writer = pipe_of(AGENT, flags)
        if size:
            with being(AGENT):
                fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, size)
        assert run_with(daemon, [writer], messages.STDOUT, "echo packet; echo another") == 0
        assert os.read(reader, 7) == b"packet\n"
        os.close(reader)
        os.close(writer)
    # Full, and nobody reads: the deadline ends it.
    reader, writer = pipe_of(AGENT)
    with Agent(daemon) as agent:
        agent.start([writer], messages.STDOUT, [b"sh", b"-c", b"while :; do echo y; done"], timeout_ms=500)
        assert isinstance(agent.answer(), messages.Started)
        failure = agent.answer()
        assert isinstance(failure, messages.Failure)
        assert failure.code == "timeout"
    os.close(reader)
    os.close(writer)
    wait_for(lambda: settle(daemon) == before)
    wait_for(lambda: daemon.children() == [])


def test_signals_of_a_pipe_go_where_its_agent_could_send_them(daemon: Daemon) -> None:
    """O_ASYNC belongs to the open file, which agent and command share (fcntl(2), F_SETOWN)."""
    reader, writer = pipe_of(AGENT)
    with Agent(daemon) as agent:
        agent.start([reader], messages.STDIN, [b"sleep", b"1000"])
        started = agent.answer()
        assert isinstance(started, messages.Started)
        with being(AGENT):
            for owner in (started.pid, -started.pid, daemon.pid):
                fcntl.fcntl(reader, fcntl.F_SETOWN, owner)
                fcntl.fcntl(reader, _F_SETSIG, signal.SIGKILL)
                fcntl.fcntl(reader, fcntl.F_SETFL, os.O_ASYNC)
                os.write(writer, b"x")
        time.sleep(0.2)
        assert is_alive(started.pid)
        assert is_alive(daemon.pid)
    wait_for(lambda: daemon.children() == [])
    os.close(reader)
    os.close(writer)


# Files of a file system that the agent itself serves.


@pytest.fixture
def files(daemon: Daemon) -> Iterator[SlowFiles]:
    directory = daemon.directory / "slow"
    directory.mkdir()
    with slow_files(directory) as files:
        yield files


@contextlib.contextmanager
def slow_file(daemon: Daemon, files: SlowFiles) -> Iterator[int]:
    descriptor = os.open(daemon.directory / "slow" / "file", os.O_RDONLY)
    try:
        yield descriptor
    finally:
        files.answer()
        os.close(descriptor)


def test_close_that_fails_leaves_nothing(daemon: Daemon, files: SlowFiles) -> None:
    before = settle(daemon)
    with slow_file(daemon, files) as slow:
        files.error = errno.EIO
        for descriptors, slots in (([slow] * 3, ALL), ([slow] * 3, messages.STDIN), ([slow] * 253, ALL)):
            for data in (frame([7, [b"cat"], [], slots, None]), frame([2, [b"true"], []]), b"\0"):
                with Agent(daemon) as agent:
                    agent.say(HELLO)
                    agent.sock.recv(65536)
                    agent.say(data, descriptors)
                    agent.rest()
        wait_for(lambda: settle(daemon) == before)
        assert "a session failed" not in daemon.log
    calls_go_on(daemon)


@pytest.mark.parametrize("whole", [True, False])
def test_slow_file_holds_up_nobody_else(daemon: Daemon, files: SlowFiles, whole: bool) -> None:
    """Neither its close, nor its being there while others start commands, who would inherit and close it."""
    before = settle(daemon)
    with slow_file(daemon, files) as slow, contextlib.ExitStack() as held:
        data = frame([7, [b"cat"], [], messages.STDIN, None])
        files.error = None
        for _ in range(3):
            agent = held.enter_context(Agent(daemon))
            agent.say(HELLO)
            agent.sock.recv(65536)
            agent.say(data if whole else data[:-1], [slow])
        # The daemon has them by then, and closes them.
        wait_for(lambda: files.waiting == 3)
        calls_go_on(daemon)
        assert files.waiting == 3
        files.answer()
        wait_for(lambda: settle(daemon) == before)
