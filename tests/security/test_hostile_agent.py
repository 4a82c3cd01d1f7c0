"""What a taken-over agent did to this daemon once, and can do no more."""

import os
import signal
import socket
import struct
import subprocess
import threading
import time
from pathlib import Path

import pytest

from rootwrap_daemon.client import Client
from rootwrap_daemon.errors import Busy, Denied, Error
from rootwrap_daemon.protocol.codec import HEADER
from rootwrap_daemon.protocol.messages import Cancel, Failure, Result, Run
from tests.real_daemon import HELLO, Daemon, NewDaemon, frame, is_alive, raw, wait_for
from tests.wire import Wire

RUN_SLEEP = frame([1, [b"sleep", b"1000"], [], None, None])
CANCEL = frame([3])


def resident(daemon: Daemon) -> int:
    """Bytes of memory, the most that it ever had."""
    for line in Path(f"/proc/{daemon.pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise LookupError


def connect(daemon: Daemon, data: bytes = b"") -> socket.socket:
    connection = Wire(daemon.socket).sock
    connection.sendall(data)
    return connection


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"\x91" * 16_000_000, id="deep"),
        pytest.param(b"\x95\x01\x91" + b"\x91\x91\xc0" * 5_000_000, id="nested words"),
        pytest.param(b"\x95\x01\xdd\xff\xff\xff\xff" + b"\xc0" * 16_000_000, id="endless array"),
        pytest.param(b"\x95\x01\xdc\x10\x00" + b"\xdc\x10\x00" * 5_000_000, id="arrays of arrays"),
        pytest.param(
            b"\x95\x01\x91\xc4\x01x\xdc\x00\x40" + b"\x92\x91\xc0\x91\xc0" * 3_000_000, id="nested pairs"
        ),
    ],
)
def test_frame_that_would_unfold_is_refused_before_it_does(daemon: Daemon, body: bytes) -> None:
    before = resident(daemon)
    answers = raw(daemon, HELLO + HEADER.pack(len(body)) + body)
    assert b"bad_request" in answers or b"too_large" in answers
    # The frame itself, and a copy of it while it is decoded; not a Python object for every byte.
    assert resident(daemon) - before < 3 * len(body)


def test_words_without_end_take_memory_in_proportion(new_daemon: NewDaemon) -> None:
    """Behind a program that executes another, where each word could be one more, with all words behind it."""
    daemon = new_daemon(
        "[Filters]\nchain: ChainingRegExpFilter, timeout, root, timeout, [0-9]+\n"
        "true: CommandFilter, true, root\nfind: ArgvFilter, find, root, {any}...\n"
    )
    with daemon.client() as client:
        client.run(["timeout", "9", "true"], check=True)
        before = resident(daemon)
        assert client.run(["timeout", "9", "true", *["x"] * 12_000]).returncode == 0
        with pytest.raises(Denied):
            client.run(["find", *["-exec", "x"] * 6_000])
    assert resident(daemon) - before < 100 << 20


def test_half_a_request_during_a_run_holds_nothing(new_daemon: NewDaemon) -> None:
    daemon = new_daemon(max_buffered="40000000")
    for _ in range(10):
        connection = connect(daemon, HELLO + RUN_SLEEP)
        wait_for(lambda: daemon.children() != [])
        connection.sendall(HEADER.pack(17 * 1024 * 1024) + bytes(10))
        wait_for(lambda: daemon.children() == [])
        connection.close()
    with daemon.client() as client:
        assert len(client.run(["sh", "-c", "head -c 15000000 /dev/zero"]).stdout) == 15_000_000


def test_input_of_running_commands_is_counted(new_daemon: NewDaemon) -> None:
    daemon = new_daemon(max_buffered="40000000")
    large = frame([1, [b"sleep", b"1000"], [], bytes(15_000_000), None])
    first = connect(daemon, HELLO + large)
    wait_for(lambda: daemon.children() != [])
    assert b"busy" in raw(daemon, HELLO + large)
    first.close()
    wait_for(lambda: daemon.children() == [])
    # What it held is given back behind the end of its command, and of its connection.
    with daemon.client() as client:
        wait_for(lambda: has_room(client, bytes(15_000_000)))


def has_place(client: Client) -> bool:
    """True if a command may run; False while there are too many."""
    try:
        return client.run(["sleep", "0"]).returncode == 0
    except Busy:
        return False


def has_room(client: Client, data: bytes) -> bool:
    """True if the daemon takes it; False while it says that it holds too much."""
    try:
        return client.run(["sh", "-c", "cat > /dev/null"], input=data).returncode == 0
    except Busy:
        return False


def test_answers_that_nobody_reads_are_counted(new_daemon: NewDaemon) -> None:
    daemon = new_daemon(max_buffered="40000000", request_timeout="60")
    fill = frame([1, [b"sh", b"-c", b"head -c 15000000 /dev/zero"], [], None, None])
    first = connect(daemon, frame([0, 1, 1 << 30, 0]) + fill)
    wait_for(lambda: any(record["event"] == "end" for record in daemon.audit()))
    with daemon.client() as client:
        with pytest.raises(Error) as caught:
            client.run(["sh", "-c", "head -c 15000000 /dev/zero"])
        assert caught.value.code == "output_limit"
        # A little is free for everybody.
        assert client.run(["sh", "-c", "echo hi"]).stdout == b"hi\n"
    first.close()


def test_flood_of_cancels_is_read_away(daemon: Daemon) -> None:
    before = resident(daemon)
    connection = connect(daemon, HELLO + frame([1, [b"sh", b"-c", b"trap '' TERM; sleep 3"], [], None, None]))
    wait_for(lambda: daemon.children() != [])
    end = time.monotonic() + 1.0
    while time.monotonic() < end:
        try:
            connection.sendall(CANCEL * 10_000)
        except OSError:
            break
    connection.close()
    assert resident(daemon) - before < 30_000_000


def test_cancel_in_the_same_breath_as_the_run(new_daemon: NewDaemon) -> None:
    daemon = new_daemon(kill_grace="60")
    with Wire(daemon.socket) as wire:
        wire.greet(Run((b"sleep", b"1000")), Cancel())
        answer = wire.answer()
        assert isinstance(answer, Result)
        assert (answer.returncode, answer.stdout, answer.stderr) == (-signal.SIGTERM, b"", b"")
    wait_for(lambda: daemon.children() == [])


def test_command_of_a_stopped_daemon_does_not_run_twice(new_daemon: NewDaemon, tmp_path: Path) -> None:
    daemon = new_daemon(drain_timeout="0.3", kill_grace="60")
    marker = tmp_path / "ran"
    outcomes: list[object] = []

    def work() -> None:
        with daemon.client() as client:
            client.run(["true"])
            try:
                outcomes.append(client.run(["sh", "-c", f"echo x >> '{marker}'; sleep 1000"]).returncode)
            except Error as error:
                outcomes.append(error.code)

    thread = threading.Thread(target=work)
    thread.start()
    wait_for(marker.exists)
    daemon.restart()
    thread.join(60)
    assert outcomes == [-signal.SIGTERM]
    assert marker.read_text() == "x\n"


def test_many_judged_at_once_leave_the_processor_to_others(daemon: Daemon) -> None:
    stop = threading.Event()

    def pour() -> None:
        connection = connect(daemon, HELLO)
        connection.settimeout(0.5)
        checks = frame([2, [b"nope"], []])
        while not stop.is_set():
            try:
                connection.sendall(checks)
                connection.recv(4096)
            except OSError:
                break
        connection.close()

    threads = [threading.Thread(target=pour) for _ in range(50)]
    for thread in threads:
        thread.start()
    try:
        with daemon.client() as client:
            for _ in range(10):
                assert client.run(["true"], timeout=60).returncode == 0
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_connections_that_do_not_read_make_room_all_the_same(new_daemon: NewDaemon) -> None:
    daemon = new_daemon(max_connections_per_user="10", max_connections="20")
    checks = frame([2, [b"true"], []]) * 2000
    held = []
    for _ in range(30):
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.setblocking(False)
        connection.connect(daemon.socket)
        try:
            connection.send(HELLO + checks)
        except OSError:
            pass
        held.append(connection)
    wait_for(lambda: daemon.threads() <= 11)
    for connection in held:
        connection.close()
    wait_for(lambda: daemon.threads() == 1)


def test_audit_into_a_pipe_that_nobody_reads(new_daemon: NewDaemon) -> None:
    """Its standard error: a file of records that are required is none."""
    daemon = new_daemon(start=False)
    pipe = daemon.directory / "pipe"
    os.mkfifo(pipe, 0o600)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    daemon.configure(audit_file="", log_file=str(daemon.directory / "log"))
    daemon.inside = ["sh", "-c", 'exec "$@" 2>"$0"', str(pipe)]
    daemon.start()
    with daemon.client() as client:
        codes: set[int | str] = set()
        for _ in range(200):
            try:
                codes.add(client.run(["true"], timeout=60).returncode)
            except Error as error:
                codes.add(error.code)
                break
        # Full: nothing runs unrecorded, and nothing hangs.
        assert codes == {0, "internal"}
        os.read(reader, 1 << 20)
        assert client.run(["true"], timeout=60).returncode == 0
        for _ in range(300):
            with pytest.raises(Denied):
                client.run(["nope"])
    assert daemon.stop() == 0
    os.close(reader)


def test_standard_descriptors_closed_at_the_start(new_daemon: NewDaemon) -> None:
    daemon = new_daemon(start=False)
    log = daemon.directory / "log"
    daemon.configure(log_file=str(log))
    daemon.inside = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh"]
    daemon.start()
    targets = {os.readlink(f"/proc/{daemon.pid}/fd/{number}") for number in range(3)}
    assert targets == {"/dev/null"}
    with daemon.client() as client:
        assert client.run(["true"]).returncode == 0


@pytest.mark.root
def test_command_that_cannot_be_killed_is_said_so(new_daemon: NewDaemon) -> None:
    daemon = new_daemon(
        "[Filters]\nsetpriv: CommandFilter, setpriv, root\n",
        capabilities="CAP_SETUID, CAP_SETGID",
        kill_grace="0.2",
    )
    with Wire(daemon.socket) as wire:
        wire.greet(Run((b"setpriv", b"--reuid=61111", b"sleep", b"100")))
        wait_for(lambda: [os.stat(f"/proc/{pid}").st_uid for pid in daemon.children()] == [61111])
        wire.send(Cancel())
        answer = wire.answer()
        assert isinstance(answer, Failure)
        assert answer.code == "internal"
    assert daemon.audit()[-1]["event"] == "end"
    for pid in daemon.children():
        os.kill(pid, signal.SIGKILL)


#: PTRACE_SEIZE, and then nothing: the tracer keeps what it traces from being reaped.
TRACER = """
import ctypes, os, sys, time
libc = ctypes.CDLL(None, use_errno=True)
if libc.ptrace(0x4206, int(sys.argv[1]), 0, 0) != 0: sys.exit(os.strerror(ctypes.get_errno()))
print("seized", flush=True)
time.sleep(60)
"""


@pytest.mark.root
def test_command_in_the_hands_of_a_tracer_does_not_hold_its_call(new_daemon: NewDaemon) -> None:
    """It counts, though, until it is gone: nobody can have more of them than commands at once."""
    daemon = new_daemon(
        "[Filters]\nsleep: CommandFilter, sleep, nobody\n", kill_grace="0.2", max_commands_per_user="1"
    )
    wire = Wire(daemon.socket)
    wire.greet(Run((b"sleep", b"1000")))
    wait_for(lambda: daemon.children() != [])
    (pid,) = daemon.children()
    wait_for(lambda: os.readlink(f"/proc/{pid}/exe").endswith("sleep"))
    tracer = subprocess.Popen(
        ["/usr/bin/python3", "-c", TRACER, str(pid)], user=65534, group=65534, stdout=subprocess.PIPE
    )
    try:
        if tracer.stdout is None or tracer.stdout.readline() != b"seized\n":
            pytest.skip("this system does not let a user trace its own processes")
        wire.send(Cancel())
        answer = wire.answer()
        assert isinstance(answer, Failure)
        assert answer.code == "internal"
        assert not is_alive(pid)
        with daemon.client() as client, pytest.raises(Busy):
            client.run(["sleep", "0"])
    finally:
        wire.sock.close()
        tracer.kill()
        tracer.wait()
    with daemon.client() as client:
        # Its place is given back behind its end.
        wait_for(lambda: has_place(client))


def test_client_that_leaves_with_unread_input_of_its_own(daemon: Daemon, client: Client) -> None:
    # SO_LINGER 0 ends a connection with an error instead of an end.
    connection = connect(daemon, HELLO + RUN_SLEEP)
    wait_for(lambda: daemon.children() != [])
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
    wait_for(lambda: daemon.children() == [])
    assert client.run(["true"]).returncode == 0
