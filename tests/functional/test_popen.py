"""A command on pipes of the client's, through a real daemon."""

import gc
import io
import os
import signal
import subprocess
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest

from rootwrap_daemon.client import PIPE, STDOUT, Client
from rootwrap_daemon.errors import BadRequest, CommandTimeout, Denied, ExecutableNotFound, OutcomeUnknown
from tests.real_daemon import FILTERS, ROOT, Daemon, NewDaemon, is_alive, our_descriptors, settle, wait_for

MORE = FILTERS.replace(
    "[sh]",
    """\
secret: CommandFilter, printenv, root
quiet: CommandFilter, head, root
stubborn: CommandFilter, bash, root
yes: CommandFilter, yes, root
wc: CommandFilter, wc, root

[secret]
sanitize = secrets

[quiet]
stdin = no

[stubborn]
signals = KILL

[sh]
""",
)


@pytest.fixture
def started(new_daemon: NewDaemon) -> Daemon:
    return new_daemon(filters=MORE, kill_grace="0.2")


@pytest.fixture
def agent(started: Daemon) -> Iterator[Client]:
    with started.client() as client:
        yield client


def test_both_ways(agent: Client) -> None:
    with agent.popen(["cat"], stdin=PIPE, stdout=PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is None
        for line in (b"one\n", b"two\n"):
            process.stdin.write(line)
            process.stdin.flush()
            assert process.stdout.readline() == line
        assert process.poll() is None
        assert process.pid is not None
        process.stdin.close()
        assert process.wait() == process.returncode == 0


def test_what_has_no_pipe_is_null(agent: Client) -> None:
    script = "readlink /proc/$$/fd/0 /proc/$$/fd/2"
    with agent.popen(["sh", "-c", script], stdout=PIPE) as process:
        assert process.communicate() == (b"/dev/null\n/dev/null\n", None)


def test_the_command_has_the_pipes_and_nothing_else(agent: Client) -> None:
    with agent.popen(
        ["sh", "-c", "echo /proc/self/fd/*; exec cat"], stdin=PIPE, stdout=PIPE, stderr=STDOUT
    ) as one:
        assert one.stdout is not None
        assert one.stdin is not None
        shown = one.stdout.readline()
        assert shown.split() == [b"/proc/self/fd/%d" % n for n in (0, 1, 2, 3)], "3 is the directory itself"
        directory = f"/proc/{one.pid}/fd"
        if ROOT:
            wait_for(lambda: len(os.listdir(directory)) == 3)
            ends = [os.readlink(f"{directory}/{n}") for n in range(3)]
            assert ends[1] == ends[2] == os.readlink(f"/proc/self/fd/{one.stdout.fileno()}")
            assert ends[0] == os.readlink(f"/proc/self/fd/{one.stdin.fileno()}")


def test_communicate(agent: Client) -> None:
    process = agent.popen(["sh", "-c", "cat; echo err >&2; exit 3"], stdin=PIPE, stdout=PIPE, stderr=PIPE)
    data = os.urandom(1_000_000)
    assert process.communicate(data) == (data, b"err\n")
    assert process.wait() == 3
    assert process.communicate() == (data, b"err\n"), "asked again"
    process.close()


def test_communicate_after_somebody_has_read(agent: Client) -> None:
    with agent.popen(["sh", "-c", "echo one; echo two; sleep 0.1; echo three"], stdout=PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"one\n"
        assert process.communicate() == (b"two\nthree\n", None)


def test_communicate_can_be_continued(agent: Client, tmp_path: Path) -> None:
    marker = tmp_path / "go on"
    script = f"echo one; until [ -e '{marker}' ]; do sleep 0.02; done; cat"
    with agent.popen(["sh", "-c", script], stdin=PIPE, stdout=PIPE) as process:
        with pytest.raises(subprocess.TimeoutExpired):
            process.communicate(b"two\n", timeout=0.1)
        marker.touch()
        assert process.communicate() == (b"one\ntwo\n", None)


def test_a_background_child_does_not_hold_the_call(agent: Client) -> None:
    script = "sleep 1000 & echo $!; exec true"
    out, _ = agent.popen(["sh", "-c", script], stdout=PIPE).communicate()
    assert out is not None
    pid = int(out)
    # Until its exec it is a shell still, which the KillFilter does not name.
    wait_for(lambda: os.readlink(f"/proc/{pid}/exe").endswith("/sleep"))
    assert agent.run(["kill", "-9", str(pid)]).returncode == 0


def test_input_that_is_not_read(agent: Client) -> None:
    process = agent.popen(["true"], stdin=PIPE, stdout=PIPE)
    assert process.communicate(b"x" * 1_000_000) == (b"", None)
    process.close()


def test_input_without_a_pipe(agent: Client) -> None:
    with agent.popen(["true"]) as process, pytest.raises(BadRequest, match="stdin=PIPE"):
        process.communicate(b"x")


def test_descriptors_of_the_callers(agent: Client) -> None:
    read, write = os.pipe()
    with agent.popen(["sh", "-c", "echo out; echo err >&2"], stdout=write, stderr=STDOUT) as process:
        assert process.wait() == 0
    os.write(write, b"still ours\n")
    os.close(write)
    with open(read, "rb") as file:
        assert file.read() == b"out\nerr\nstill ours\n"


def test_one_command_reads_what_another_writes(agent: Client) -> None:
    read, write = os.pipe()
    with agent.popen(["wc", "-c"], stdin=read, stdout=PIPE) as last:
        with agent.popen(["sh", "-c", "head -c 1000000 /dev/zero"], stdout=write) as first:
            os.close(read)
            os.close(write)
            assert first.wait() == 0
        assert last.communicate() == (b"1000000\n", None)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGHUP, signal.SIGUSR1])
def test_signals(agent: Client, number: int) -> None:
    with agent.popen(["sleep", "1000"]) as process:
        process.send_signal(number)
        assert process.wait() == -number
        process.send_signal(number)


def test_a_signal_goes_to_the_main_process_alone(agent: Client) -> None:
    script = "trap 'echo got; exit 7' TERM; sleep 1000 & echo $!; wait"
    with agent.popen(["sh", "-c", script], stdout=PIPE) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        process.terminate()
        assert process.stdout.readline() == b"got\n"
        assert process.wait() == 7
    wait_for(lambda: os.readlink(f"/proc/{child}/exe").endswith("/sleep"))
    assert agent.run(["kill", "-9", str(child)]).returncode == 0


def test_signals_that_are_not_given(agent: Client) -> None:
    with agent.popen(["bash", "-c", "read x"], stdin=PIPE) as process:
        with pytest.raises(Denied, match="signal 15"):
            process.terminate()
        with pytest.raises(BadRequest):
            process.send_signal(65)
        assert process.poll() is None
        process.kill()
        assert process.wait() == -9
    with agent.popen(["sleep", "1000"]) as process:
        with pytest.raises(Denied, match="signal 3"):
            process.send_signal(signal.SIGQUIT)
        process.kill()


def test_the_daemon_itself_refuses_signals(agent: Client) -> None:
    """A client that does not ask its own library."""
    with agent.popen(
        ["bash", "-c", "trap 'echo TERM' TERM; while read x; do echo $x; done"], stdin=PIPE, stdout=PIPE
    ) as one:
        assert one.stdin is not None
        assert one.stdout is not None
        one.stdin.write(b"ready\n")
        one.stdin.flush()
        assert one.stdout.readline() == b"ready\n"
        one._running._signals = 2**64 - 1
        for number in range(1, 65):
            if number != signal.SIGKILL:
                one.send_signal(number)
        time.sleep(0.1)
        assert one.communicate(b"alive\n")[0] == b"alive\n"


def test_cancel_ends_the_group(new_daemon: NewDaemon) -> None:
    # With its own grace, so that SIGTERM ends it, however long it waits for a processor.
    agent = new_daemon(kill_grace="60").client()
    with agent, agent.popen(["sh", "-c", "sleep 1000 & echo $!; wait"], stdout=PIPE) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        process.cancel()
        assert process.wait() == -15
        process.cancel()
    wait_for(lambda: not is_alive(child))


def test_a_handle_that_is_dropped_ends_the_command(agent: Client) -> None:
    process = agent.popen(["sh", "-c", "sleep 1000 & echo $!; wait"], stdout=PIPE)
    assert process.stdout is not None
    child = int(process.stdout.readline())
    process.close()
    wait_for(lambda: not is_alive(child))
    with pytest.raises(OutcomeUnknown):
        process.wait()


@pytest.mark.parametrize("stream", [False, True], ids=["waited for", "read"])
def test_a_handle_of_a_command_that_is_lost_is_no_circle(new_daemon: NewDaemon, stream: bool) -> None:
    """Its connection is closed when nobody has it any more, not when the collector comes by."""
    daemon = new_daemon()
    gc.collect()
    gc.disable()
    try:
        with daemon.client() as client:
            process = client.popen(["sh", "-c", "sleep 5"], stdout=PIPE)
            lost = weakref.ref(process)
            daemon.stop(signal.SIGKILL)
            try:
                assert process.stdout is not None
                process.stdout.read() if stream else process.wait()
            except OutcomeUnknown:
                pass
            del process
            assert lost() is None
    finally:
        gc.enable()


def test_deadline(agent: Client) -> None:
    with pytest.raises(CommandTimeout), agent.popen(["sleep", "1000"], timeout=0.2) as process:
        process.wait()
    assert process.returncode is None


def test_wait_gives_up(agent: Client) -> None:
    with agent.popen(["sleep", "1000"]) as process:
        with pytest.raises(subprocess.TimeoutExpired) as caught:
            process.wait(0.1)
        assert not isinstance(caught.value, CommandTimeout)
        assert process.poll() is None
        process.kill()


def test_refusals_raise_at_once(agent: Client, started: Daemon) -> None:
    before = settle(started)
    ours = our_descriptors()
    with pytest.raises(Denied):
        agent.popen(["rm", "x"], stdin=PIPE, stdout=PIPE)
    with pytest.raises(Denied, match="captured"):
        agent.popen(["printenv"], stdout=PIPE)
    with pytest.raises(Denied):
        agent.popen(["head"], stdin=PIPE)
    assert agent.popen(["printenv"]).wait() == 0
    assert our_descriptors() <= ours + 1, "the one connection"
    agent.close()
    wait_for(lambda: settle(started) == before)


def test_a_file_that_is_read_has_ended_already(new_daemon: NewDaemon) -> None:
    agent = new_daemon(filters="[Filters]\nhostname: ReadFileFilter, /etc/hostname\n").client()
    with open("/etc/hostname", "rb") as file:
        name = file.read()
    process = agent.popen(["cat", "/etc/hostname"], stdout=PIPE, stderr=PIPE)
    assert isinstance(process.stdout, io.BytesIO)
    assert (process.pid, process.returncode) == (None, 0)
    assert process.communicate() == (name, b"")
    read, write = os.pipe()
    agent.popen(["cat", "/etc/hostname"], stdout=write).close()
    os.close(write)
    with open(read, "rb") as file:
        assert file.read() == name


def test_a_kill_has_ended_already(agent: Client) -> None:
    with agent.popen(["sleep", "1000"]) as victim:
        # Started, it may be the shim for a moment.
        wait_for(lambda: os.readlink(f"/proc/{victim.pid}/exe").endswith("/sleep"))
        with agent.popen(["kill", "-9", str(victim.pid)]) as process:
            assert (process.pid, process.returncode, process.poll(), process.wait()) == (None, 0, 0, 0)
        assert victim.wait() == -9


def test_one_waits_and_another_signals(agent: Client) -> None:
    codes: list[int] = []
    with agent.popen(["sleep", "1000"]) as process:
        waiters = [threading.Thread(target=lambda: codes.append(process.wait())) for _ in range(3)]
        for waiter in waiters:
            waiter.start()
        time.sleep(0.05)
        process.terminate()
        for waiter in waiters:
            waiter.join()
    assert codes == [-15] * 3


def test_one_waits_and_another_communicates(agent: Client) -> None:
    with agent.popen(["sh", "-c", "head -c 1000000 /dev/zero"], stdout=PIPE) as process:
        waiter = threading.Thread(target=process.wait)
        waiter.start()
        out, _ = process.communicate()
        waiter.join()
    assert out == bytes(1_000_000)


def test_the_daemon_goes_away(agent: Client, started: Daemon) -> None:
    process = agent.popen(["sleep", "1000"], stdout=PIPE)
    started.stop(signal.SIGKILL)
    with pytest.raises(OutcomeUnknown):
        process.communicate()
    with pytest.raises(OutcomeUnknown):
        process.poll()
    process.close()
    if process.pid is not None and ROOT:
        os.kill(process.pid, signal.SIGKILL)


def test_run_with_pipes(agent: Client) -> None:
    done = agent.run(["sh", "-c", "cat; echo err >&2; exit 3"], input="in\n", capture="pipe", text=True)
    assert (done.returncode, done.stdout, done.stderr) == (3, "in\n", "err\n")
    with pytest.raises(CommandTimeout):
        agent.run(["sleep", "1000"], capture="pipe", timeout=0.2)
    with pytest.raises(Denied):
        agent.run(["rm"], capture="pipe")
    size = 50_000_000
    assert agent.run(["head", "-c", str(size), "/dev/zero"], capture="pipe").stdout == bytes(size)
    assert agent.run(["wc", "-c"], input=bytes(size), capture="pipe").stdout == b"%d\n" % size


def test_a_program_that_cannot_be_run(new_daemon: NewDaemon) -> None:
    daemon = new_daemon(filters="[Filters]\nnone: CommandFilter, no-such-program, root\n")
    with daemon.client() as client, pytest.raises(ExecutableNotFound):
        client.popen(["no-such-program"])


def test_nothing_is_left(agent: Client, started: Daemon) -> None:
    before = settle(started)
    ours = our_descriptors()
    for _ in range(20):
        assert agent.popen(["cat"], stdin=PIPE, stdout=PIPE, stderr=PIPE).communicate(b"x")[0] == b"x"
    assert our_descriptors() <= ours + 1, "the one connection"
    agent.close()
    wait_for(lambda: settle(started) == before)
    assert our_descriptors() <= ours


def test_records(agent: Client, started: Daemon) -> None:
    with agent.popen(["cat"], stdin=PIPE, stdout=PIPE) as process:
        process.communicate(b"secret")
    run, end = started.audit()[-2:]
    assert (run["event"], end["event"], end["code"]) == ("run", "end", "ok")
    assert run["id"] == end["id"]
    assert "secret" not in started.log
