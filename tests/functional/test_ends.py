"""How commands end, and what is left when somebody dies: one outcome, and no process."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from rootwrap_daemon import errors
from rootwrap_daemon.client import Client
from rootwrap_daemon.protocol.client_side import ClientExchange
from rootwrap_daemon.protocol.messages import MAX_ANSWER_FRAME, VERSION, Cancel, Hello, Result, Run
from tests.processes import together
from tests.real_daemon import Daemon, NewDaemon, is_alive, settle, wait_for, with_words
from tests.wire import Wire

CLIENT = "import sys; from rootwrap_daemon.client import Client; "
CLIENT += "Client(sys.argv[1], connect_timeout=60).run(sys.argv[2:])"


def start_client(daemon: Daemon, *argv: str) -> "subprocess.Popen[bytes]":
    """Another process that asks for a command."""
    return subprocess.Popen([sys.executable, "-c", CLIENT, daemon.socket, *argv], stderr=subprocess.DEVNULL)


def running(daemon: Daemon) -> Callable[[], bool]:
    return lambda: len(daemon.children()) == 1


def test_client_killed_while_its_command_runs(daemon: Daemon) -> None:
    client = start_client(daemon, "sleep", "1000")
    wait_for(running(daemon))
    (pid,) = daemon.children()
    client.kill()
    client.wait()
    wait_for(lambda: not is_alive(pid))
    wait_for(lambda: daemon.children() == [])
    wait_for(lambda: daemon.audit()[-1].get("code") == "client_gone")


def test_orphans_that_live_cost_nothing(daemon: Daemon) -> None:
    """Hundreds of them: none is looked at before it ends, and then each is reaped."""

    def reads() -> int:
        lines = Path(f"/proc/{daemon.pid}/io").read_text().splitlines()
        return int(dict(line.split(": ") for line in lines)["syscr"])

    with daemon.client() as client:
        script = "for i in $(seq 300); do sleep 1000 >/dev/null 2>&1 & done; echo $$"
        group = int(client.run(["sh", "-c", script]).stdout)
        try:
            wait_for(lambda: len(daemon.children()) == 300)
            before = reads()
            # The main thread looks after two seconds at the latest.
            time.sleep(4.5)
            assert reads() - before < 100
        finally:
            os.killpg(group, signal.SIGKILL)
        wait_for(lambda: daemon.children() == [])


def test_daemon_killed_while_a_command_runs(daemon: Daemon, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    failures: list[BaseException] = []

    def work() -> None:
        try:
            with daemon.client() as client:
                client.run(["sh", "-c", f"echo x >> '{marker}'; sleep 1000"])
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    wait_for(marker.exists)
    (left,) = daemon.children()
    daemon.stop(signal.SIGKILL)
    daemon.start()
    thread.join(60)
    assert [type(failure) for failure in failures] == [errors.OutcomeUnknown]
    assert marker.read_text() == "x\n"
    os.killpg(left, signal.SIGKILL)


def test_daemon_restarted_between_two_calls_is_invisible(daemon: Daemon) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        with daemon.client() as client:
            assert client.run(["true"]).returncode == 0
            daemon.restart(number)
            assert client.run(["true"]).returncode == 0


def test_idle_connection_closed_by_the_daemon_is_invisible(new_daemon: NewDaemon) -> None:
    daemon = new_daemon(daemon_timeout="1")
    before = settle(daemon)
    with daemon.client() as client:
        assert client.run(["true"]).returncode == 0
        wait_for(lambda: settle(daemon) == before)
        assert client.run(["true"]).returncode == 0


def test_absent_daemon_is_said_with_its_path(daemon: Daemon) -> None:
    daemon.stop()
    with daemon.client() as client, pytest.raises(errors.DaemonUnavailable) as caught:
        client.run(["true"])
    assert daemon.socket in str(caught.value)


@pytest.mark.parametrize(
    "script",
    [
        pytest.param("trap '' TERM; sleep NAP; sleep NAP", id="ignores TERM"),
        pytest.param("kill -STOP $$; sleep NAP", id="stops itself"),
        pytest.param("exec >&- 2>&-; sleep NAP", id="closes its output"),
        pytest.param("sleep NAP & sleep NAP", id="has a child"),
        pytest.param("cat /dev/zero > /dev/null", id="is busy"),
        pytest.param("trap 'cat /dev/zero' TERM; sleep NAP", id="writes for ever at its end"),
        pytest.param("sleep NAP | cat", id="is a pipeline"),
    ],
)
def test_deadline_ends_the_whole_group(daemon: Daemon, client: Client, script: str) -> None:
    nap = f"1000.{os.getpid()}"
    with pytest.raises(errors.CommandTimeout):
        client.run(["sh", "-c", script.replace("NAP", nap)], timeout=0.3)
    wait_for(lambda: daemon.children() == [])
    # What is left of the group is not our child; nothing of it may be left.
    group = daemon.audit()[-1]
    assert group["code"] == "timeout"
    wait_for(lambda: with_words(f"sleep {nap}") == [])


def test_background_writer_does_not_hold_or_fill_the_call(client: Client) -> None:
    done = client.run(["sh", "-c", "cat /dev/zero & echo $!"], timeout=60)
    pid = int(done.stdout.lstrip(b"\0").split(b"\n")[0])
    # Its pipe is closed now: like under sudo, writing on ends it.
    wait_for(lambda: not is_alive(pid))


def talk(daemon: Daemon, *messages: Run | Cancel) -> Wire:
    """A connection that has said hello and these."""
    wire = Wire(daemon.socket)
    wire.greet(*messages)
    return wire


def test_cancel_is_answered_with_what_became_of_the_command(new_daemon: NewDaemon, tmp_path: Path) -> None:
    # So that SIGTERM ends it, however long it waits for a processor.
    daemon = new_daemon(kill_grace="60")
    marker = tmp_path / "begun"
    script = f"echo begun; : > '{marker}'; sleep 1000".encode()
    with talk(daemon, Run((b"sh", b"-c", script))) as wire:
        wait_for(marker.exists)
        wire.send(Cancel())
        result = wire.answer()
        assert isinstance(result, Result)
        assert (result.returncode, result.stdout) == (-signal.SIGTERM, b"begun\n")
        # The connection is as good as before; a late cancel is none.
        wire.say(wire.exchange.send(Cancel()) + wire.exchange.send(Run((b"true",))))
        assert isinstance(wire.answer(), Result)


def test_client_that_only_stops_writing_gets_its_answer(daemon: Daemon) -> None:
    with talk(daemon, Run((b"sh", b"-c", b"sleep 0.5; echo done"))) as wire:
        wire.sock.shutdown(socket.SHUT_WR)
        result = wire.answer()
        assert isinstance(result, Result)
        assert result.stdout == b"done\n"


def test_second_request_during_a_run_ends_both(daemon: Daemon) -> None:
    with talk(daemon, Run((b"sleep", b"1000"))) as wire:
        wait_for(running(daemon))
        other = ClientExchange()
        other.send(Hello(VERSION, MAX_ANSWER_FRAME))
        wire.say(other.send(Run((b"true",))))
        wait_for(lambda: daemon.children() == [])


def test_client_that_never_reads_its_answer(new_daemon: NewDaemon) -> None:
    daemon = new_daemon(request_timeout="3")
    before = settle(daemon)
    with contextlib.ExitStack() as held:
        for _ in range(5):
            held.enter_context(talk(daemon, Run((b"sh", b"-c", b"head -c 8000000 /dev/zero"))))
        wait_for(lambda: settle(daemon) == before, 60)


@pytest.mark.parametrize("sent", [0, 1, 4, 5, 10, 20, 40])
def test_client_that_dies_in_the_middle_of_a_request(daemon: Daemon, sent: int) -> None:
    before = settle(daemon)
    exchange = ClientExchange()
    data = exchange.send(Hello(VERSION, MAX_ANSWER_FRAME)) + exchange.send(Run((b"sh", b"-c", b"sleep 0.1")))
    for _ in range(20):
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.connect(daemon.socket)
        connection.sendall(data[:sent])
        connection.close()
    wait_for(lambda: settle(daemon) == before)
    wait_for(lambda: daemon.children() == [])


def test_half_a_request_is_not_waited_for_for_ever(new_daemon: NewDaemon) -> None:
    daemon = new_daemon(request_timeout="3")
    _, before = settle(daemon)
    with talk(daemon) as wire:
        data = wire.exchange.send(Run((b"true", b"x" * 1000)))
        sent = 0
        # A byte now and then does not put the end off.
        with pytest.raises(OSError, match=r"Broken pipe|reset"):
            while sent < len(data) - 1:
                wire.sock.sendall(data[sent : sent + 1])
                sent += 1
                time.sleep(0.05)
        wait_for(lambda: daemon.threads() == before)


def test_stop_lets_commands_end_and_takes_no_new_ones(daemon: Daemon, tmp_path: Path) -> None:
    may_end = tmp_path / "may_end"
    idle = daemon.client()
    idle.run(["true"])
    results: list[object] = []

    def work(script: str) -> None:
        try:
            with daemon.client() as client:
                results.append(client.run(["sh", "-c", script]).stdout)
        except errors.Error as error:
            results.append(error)

    script = f"until [ -e '{may_end}' ]; do sleep 0.02; done; echo finished"
    thread = threading.Thread(target=work, args=(script,))
    thread.start()
    wait_for(running(daemon))
    assert daemon.process is not None
    daemon.process.terminate()
    wait_for(lambda: not os.path.exists(daemon.socket))

    def is_refused() -> bool:
        # The name of the socket goes first, and the connection is served until its turn comes.
        try:
            idle.run(["true"])
        except (errors.Stopping, errors.DaemonUnavailable):
            return True
        return False

    wait_for(is_refused)
    assert results == []
    may_end.touch()
    thread.join(60)
    assert results == [b"finished\n"]
    assert daemon.process.wait(60) == 0
    assert not os.path.exists(daemon.socket)


def test_stop_ends_what_does_not_end(new_daemon: NewDaemon, tmp_path: Path) -> None:
    daemon = new_daemon(drain_timeout="0.5")
    marker = tmp_path / "pid"
    codes: list[int] = []

    def work() -> None:
        with daemon.client() as client:
            # On a connection that was used before: what ran must not be taken for idle, and run again.
            client.run(["true"])
            note = f"echo $$ > '{marker}.new'; mv '{marker}.new' '{marker}'"
            script = f"trap '' TERM; {note}; sleep 1000; sleep 1000"
            codes.append(client.run(["sh", "-c", script]).returncode)

    thread = threading.Thread(target=work)
    thread.start()
    wait_for(marker.exists)
    pid = int(marker.read_text())
    assert daemon.stop() == 0
    thread.join(60)
    assert codes == [-signal.SIGKILL]
    assert not is_alive(pid)
    assert [
        (record["code"], record["returncode"]) for record in daemon.audit() if record["event"] == "end"
    ] == [("ok", 0), ("stopping", -signal.SIGKILL)]


def test_many_at_once_each_get_their_own(client: Client) -> None:
    results: dict[int, bytes] = {}

    def work(index: int) -> None:
        for _ in range(5):
            done = client.run(["sh", "-c", f"echo {index}; cat"], input=str(index).encode())
            results[index] = done.stdout

    together(threading.Thread(target=work, args=(index,)) for index in range(32))
    assert results == {index: b"%d\n%d" % (index, index) for index in range(32)}


def test_mixed_load_leaves_nothing(daemon: Daemon) -> None:
    with daemon.client() as client:
        client.run(["true"])
    before = settle(daemon)

    def work(seed: int) -> None:
        with daemon.client() as client:
            for step in range(15):
                try:
                    match (seed + step) % 6:
                        case 0:
                            client.run(["true"])
                        case 1:
                            client.run(["nope"])
                        case 2:
                            client.run(["sleep", "1000"], timeout=0.05)
                        case 3:
                            client.run(["false"], check=True)
                        case 4:
                            client.run(["sh", "-c", "cat /dev/zero"], timeout=60)
                        case _:
                            client.allows(["cat"])
                except (errors.Error, errors.OutputLimit):
                    pass

    together(threading.Thread(target=work, args=(index,)) for index in range(16))
    wait_for(lambda: settle(daemon) == before)
    wait_for(lambda: daemon.children() == [])
    runs = [record["id"] for record in daemon.audit() if record["event"] == "run"]
    ends = [record["id"] for record in daemon.audit() if record["event"] == "end"]
    assert sorted(runs) == sorted(ends)
    assert len(set(runs)) == len(runs)
