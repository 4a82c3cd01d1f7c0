"""What a killed daemon left running, and nothing else, is ended: daemon/run/registry.py and recovery.py.

The daemon is a process of its own here, which notes, starts a command as spawn.py does, and is killed.
"""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from rootwrap_daemon.daemon.run import recovery
from rootwrap_daemon.daemon.run.registry import SLOT, Notes, Registry
from rootwrap_daemon.errors import ConfigurationError
from rootwrap_daemon.policy import host
from tests.processes import together
from tests.real_daemon import is_alive, our_descriptors, wait_for

OWNERS = host.base_owners()

#: Arguments: the state directory, `leave` or `end`, when to die (`intended` or `noted`), the command.
DAEMON = """
import os, signal, subprocess, sys
from rootwrap_daemon.daemon.run.registry import Notes, Registry
from rootwrap_daemon.policy import host

notes = Notes(sys.argv[1], host.base_owners())
notes.recover(1, None)
ticket = Registry(notes).begin("f", 0, leave=sys.argv[2] == "leave")
out, out_writer = os.pipe()
err, err_writer = os.pipe()
ticket.intend(out_writer, err_writer)
process = subprocess.Popen(sys.argv[4:], stdout=out_writer, stderr=err_writer, start_new_session=True)
os.read(out, 1)
if sys.argv[3] == "noted":
    ticket.started(process.pid)
print(process.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""

#: Each says that it is ready; what follows is what would be left.
WAITS = ("sh", "-c", "echo; exec sleep 1000")
STUBBORN = ("sh", "-c", "trap '' TERM; echo; while :; do sleep 0.1; done")
STOPPED = ("sh", "-c", "echo; kill -STOP $$")


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def pids() -> Iterator[list[int]]:
    """What to be rid of at the end, whatever becomes of it."""
    found: list[int] = []
    yield found
    for pid in found:
        try:
            os.killpg(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


def crash(state: Path, pids: list[int], *command: str, leave: bool = False, when: str = "noted") -> int:
    """Run a daemon until it is killed; the command that it left running."""
    fate = "leave" if leave else "end"
    done = subprocess.run(
        [sys.executable, "-c", DAEMON, str(state), fate, when, *command],
        stdout=subprocess.PIPE,
        check=False,
        timeout=60,
    )
    assert done.returncode == -signal.SIGKILL
    pids.append(int(done.stdout))
    return pids[-1]


def recover(state: Path, grace: float = 60) -> None:
    notes = Notes(str(state), OWNERS)
    notes.recover(grace, None)
    notes.close()


def edit(state: Path, old: bytes, new: bytes) -> None:
    path = state / "running"
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new))


@pytest.mark.parametrize("when", ["noted", "intended"])
@pytest.mark.parametrize("command", [WAITS, STOPPED], ids=["waits", "stopped"])
def test_left_running(state: Path, pids: list[int], when: str, command: tuple[str, ...]) -> None:
    pid = crash(state, pids, *command, when=when)
    assert is_alive(pid)
    recover(state)
    assert not is_alive(pid)
    assert [line for line in (state / "running").read_text().split("\n")[1:] if line.strip()] == []


@pytest.mark.parametrize("when", ["noted", "intended"])
def test_may_stay(state: Path, pids: list[int], when: str) -> None:
    pid = crash(state, pids, *WAITS, leave=True, when=when)
    recover(state)
    assert is_alive(pid)


def test_ignores_sigterm(state: Path, pids: list[int]) -> None:
    pid = crash(state, pids, *STUBBORN)
    recover(state, grace=0.3)
    assert not is_alive(pid)


def test_its_group_goes_with_it(state: Path, pids: list[int]) -> None:
    """A child that ignores SIGTERM, while the leader does not."""
    program = "(trap '' TERM; while :; do sleep 0.1; done) & echo $! > \"$0\"; echo; wait"
    file = state.with_name("child")
    pid = crash(state, pids, "sh", "-c", program, str(file))
    child = int(file.read_text())
    assert is_alive(child)
    recover(state)
    assert not is_alive(pid)
    wait_for(lambda: not is_alive(child))


def test_what_an_ended_command_left_in_the_background_lives_on(state: Path, pids: list[int]) -> None:
    file = state.with_name("child")
    pid = crash(state, pids, "sh", "-c", 'sleep 1000 & echo $! > "$0"; echo', str(file))
    wait_for(lambda: not is_alive(pid))
    recover(state)
    assert is_alive(int(file.read_text()))


@pytest.mark.parametrize("later", [False, True])
def test_a_number_that_was_given_again(
    state: Path, pids: list[int], caplog: pytest.LogCaptureFixture, later: bool
) -> None:
    """The same number with another start time is somebody else."""
    pid = crash(state, pids, *WAITS)
    start = recovery.start_time(pid)
    assert start is not None
    words = re.findall(rb"(?m)^%d (\d+) (\d+) end" % pid, (state / "running").read_bytes())
    ((after, before),) = words
    assert int(after) <= start <= int(before)
    shift = b"%d %d %d" % (pid, start + 1, start + 9) if later else b"%d %d %d" % (pid, start - 9, start - 1)
    edit(state, b"%d %s %s" % (pid, after, before), shift)
    recover(state)
    assert is_alive(pid)
    assert not caplog.records


def test_the_start_time_is_looked_at_when_the_pidfd_is_open(
    state: Path, pids: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other way round, the number could be given again in between."""
    pid = crash(state, pids, *WAITS)
    order = []
    real_open, real_start = os.pidfd_open, recovery.start_time

    def pidfd_open(number: int) -> int:
        order.append("pidfd")
        return real_open(number)

    def start_time(number: int) -> int | None:
        order.append("start")
        return real_start(number)

    monkeypatch.setattr(os, "pidfd_open", pidfd_open)
    monkeypatch.setattr(recovery, "start_time", start_time)
    recover(state)
    assert not is_alive(pid)
    assert order[:2] == ["pidfd", "start"]


def test_notes_of_another_boot(state: Path, pids: list[int]) -> None:
    pid = crash(state, pids, *WAITS)
    boot = recovery.boot().encode()
    edit(state, boot, b"x" + boot[1:])
    recover(state)
    assert is_alive(pid)
    recover(state)
    assert is_alive(pid), "the notes were not begun anew"


@pytest.mark.parametrize(
    "line",
    [
        *("1", "-1 5 6 end", "1 2 3 4", "x y z end", "? 1 2 end", "\u0660 1 1 end", "1 1 1 stop"),
        *("0 1 1 end", "99999999999 1 1 end", "5 1 end", "5 1 -1 end"),
    ],
)
def test_a_note_that_cannot_be_read(
    state: Path, pids: list[int], caplog: pytest.LogCaptureFixture, line: str
) -> None:
    pid = crash(state, pids, *WAITS)
    with (state / "running").open("ab") as file:
        file.write(line.encode().ljust(SLOT - 1) + b"\n")
    recover(state)
    assert not is_alive(pid)
    assert "cannot be read" in caplog.text


def test_intended_and_others_with_its_pipes(state: Path, pids: list[int]) -> None:
    """Who was there before, who leads no session, and who has other pipes, is not the one."""
    notes = Notes(str(state), OWNERS)
    notes.recover(1, None)
    out, writer = os.pipe()
    other, other_writer = os.pipe()
    start = {"stdout": writer, "stderr": writer}
    processes = [
        subprocess.Popen(["sleep", "1000"], start_new_session=True, **start)  # type: ignore[call-overload]
    ]
    try:
        time.sleep(0.1)
        Registry(notes).begin("f", 0, leave=False).intend(writer, writer)
        processes += [
            subprocess.Popen(
                ["sleep", "1000"], stdout=other_writer, stderr=other_writer, start_new_session=True
            ),
            subprocess.Popen(["sleep", "1000"], process_group=0, **start),  # type: ignore[call-overload]
        ]
        mine = subprocess.Popen(["sleep", "1000"], start_new_session=True, **start)  # type: ignore[call-overload]
        processes.append(mine)
        notes.close()
        recover(state)
        assert [process.poll() for process in processes] == [None, None, None, -signal.SIGTERM]
    finally:
        for process in processes:
            process.kill()
            process.wait()
        for descriptor in (out, writer, other, other_writer):
            os.close(descriptor)


def test_an_intention_without_pipes_is_nobody(state: Path, pids: list[int]) -> None:
    with open("/dev/null", "rb") as null:
        notes = Notes(str(state), OWNERS)
        notes.recover(1, None)
        Registry(notes).begin("f", 0, leave=False).intend(null.fileno(), null.fileno())
        process = subprocess.Popen(["sleep", "1000"], start_new_session=True)
        notes.close()
        try:
            recover(state)
            assert process.poll() is None
        finally:
            process.kill()
            process.wait()


# The notes of one that lives


def test_lines_are_used_again(state: Path) -> None:
    notes = Notes(str(state), OWNERS)
    notes.recover(1, None)
    registry = Registry(notes)
    reader, writer = os.pipe()

    def work() -> None:
        for _ in range(200):
            ticket = registry.begin("f", 5, leave=False)
            ticket.intend(reader, writer)
            ticket.started(os.getpid())
            registry.snapshot()
            registry.end(ticket)

    together(threading.Thread(target=work) for _ in range(8))
    os.close(reader)
    os.close(writer)
    assert registry.snapshot() == []
    assert (state / "running").stat().st_size <= 9 * SLOT
    lines = (state / "running").read_text().split("\n")
    assert lines[0].strip() == recovery.boot()
    assert not any(line.strip() for line in lines[1:])
    notes.close()


def test_what_runs(state: Path) -> None:
    registry = Registry()
    first = registry.begin("a", 5, leave=False)
    first.intend(0, 1)
    first.started(77)
    second = registry.begin("b", 6, leave=True)
    assert [(one.filter, one.uid, one.pid, one.leave) for one in registry.snapshot()] == [
        ("a", 5, 77, False),
        ("b", 6, 0, True),
    ]
    registry.end(first)
    assert registry.snapshot() == [second]


def test_who_is_left_keeps_its_note(state: Path) -> None:
    notes = Notes(str(state), OWNERS)
    notes.recover(1, None)
    registry = Registry(notes)
    ticket = registry.begin("a", 5, leave=True)
    reader, writer = os.pipe()
    ticket.intend(reader, writer)
    ticket.started(os.getpid())
    ticket.left = True
    registry.end(ticket)
    notes.close()
    os.close(reader)
    os.close(writer)
    assert re.search(rf"(?m)^{os.getpid()} \d+ \d+ leave *$", (state / "running").read_text())


def test_one_directory_is_one_daemons(state: Path) -> None:
    notes = Notes(str(state), OWNERS)
    assert state.stat().st_mode & 0o777 == 0o700
    with pytest.raises(ConfigurationError, match="another daemon"):
        Notes(str(state), OWNERS)
    notes.close()
    Notes(str(state), OWNERS).close()


@pytest.mark.parametrize("what", ["writable", "link", "file", "no parent", "running is a link"])
def test_a_directory_refused(state: Path, what: str) -> None:
    if what == "writable":
        state.mkdir()
        state.chmod(0o777)
    elif what == "link":
        state.with_name("elsewhere").mkdir()
        state.with_name("elsewhere").chmod(0o777)
        state.symlink_to("elsewhere")
    elif what == "file":
        state.touch()
    elif what == "running is a link":
        state.mkdir()
        (state / "running").symlink_to("x")
    else:
        state = state / "deeper"
    before = our_descriptors()
    with pytest.raises(ConfigurationError, match="state_dir"):
        Notes(str(state), OWNERS)
    assert our_descriptors() <= before


def test_notes_are_not_inherited(state: Path) -> None:
    notes = Notes(str(state), OWNERS)
    assert not os.get_inheritable(notes._descriptor)
    notes.close()
