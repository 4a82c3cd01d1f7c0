"""A command in a control group of its own: whatever it starts ends with it, unless it may stay."""

import contextlib
import itertools
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from rootwrap_daemon.client import Client
from rootwrap_daemon.daemon.run import shim
from rootwrap_daemon.errors import CommandTimeout, Error, InternalError
from rootwrap_daemon.protocol.messages import Cancel, Result, Run
from tests.real_daemon import Daemon, NewDaemon, is_alive, wait_for
from tests.wire import Wire

pytestmark = pytest.mark.root

MEMORY = 40 << 20
FILTERS = """\
[Filters]
sh: CommandFilter, sh, root
user: CommandFilter, dash, nobody
stay: CommandFilter, bash, root
[stay]
on_stop = leave
"""
#: A child that no signal to the command's process group reaches, then the command's own work.
AWAY = 'setsid sh -c "trap \\"\\" TERM HUP; echo \\$\\$ > {0}; exec sleep 1000" & sleep 1000'
_NUMBERS = itertools.count()


@pytest.fixture
def group() -> Iterator[Path]:
    """A control group as the service manager delegates one."""
    mounts = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    found = [Path(fields[4]) for fields in mounts if "cgroup2" in fields]
    if shim.native() is None or not found:
        pytest.skip("there is no cgroup v2 here, or no native shim")
    made = found[0] / f"rootwrap-test-{os.getpid()}-{next(_NUMBERS)}"
    try:
        made.mkdir()
        os.setxattr(made, "trusted.delegate", b"1")
    except OSError as error:
        pytest.skip(f"no group can be made here: {error}")
    yield made
    (made / "cgroup.kill").write_text("1")
    wait_for(lambda: "populated 0" in (made / "cgroup.events").read_text())
    for directory, _, _ in os.walk(made, topdown=False):
        os.rmdir(directory)


@pytest.fixture
def daemon(new_daemon: NewDaemon, group: Path) -> Daemon:
    daemon = new_daemon(FILTERS, start=False, drain_timeout="1", kill_grace="1")
    daemon.configure(state_dir=str(daemon.directory / "state"))
    daemon.inside = ["sh", "-c", 'echo $$ > "$0"/cgroup.procs && exec "$@"', str(group)]
    daemon.start()
    (daemon.directory / "pids").mkdir(mode=0o777)
    (daemon.directory / "pids").chmod(0o777)
    return daemon


def late(client: Client, shell: str, file: Path) -> None:
    """A deadline ends a command whose child has noted its number by then: the longer on a busy machine."""
    for seconds in (1, 10, 60):
        with pytest.raises(CommandTimeout):
            client.run([shell, "-c", AWAY.format(file)], timeout=seconds)
        if file.exists() and file.read_text().strip():
            return


def noted(path: Path) -> int:
    """The number that a process wrote there."""
    wait_for(lambda: path.exists() and path.read_text().strip())
    return int(path.read_text())


def groups(group: Path) -> list[str]:
    return [path.name for path in group.iterdir() if path.is_dir()]


@pytest.mark.parametrize("shell", ["sh", "dash"])
def test_a_deadline_ends_all(daemon: Daemon, group: Path, shell: str) -> None:
    file = daemon.directory / "pids" / "away"
    with daemon.client() as client:
        late(client, shell, file)
        wait_for(lambda: not is_alive(noted(file)))
        wait_for(lambda: groups(group) == [])
        assert client.run([shell, "-c", "exit 3"]).returncode == 3
    wait_for(lambda: groups(group) == [])


def test_a_client_that_leaves_and_a_cancel_end_all(daemon: Daemon, group: Path) -> None:
    for name in ("leaves", "cancels"):
        file = daemon.directory / "pids" / name
        with Wire(daemon.socket) as wire:
            wire.greet(Run((b"bash", b"-c", AWAY.format(file).encode())))
            away = noted(file)
            if name == "cancels":
                wire.send(Cancel())
                assert isinstance(wire.answer(), Result)
        wait_for(partial(is_dead, away))
    wait_for(lambda: groups(group) == [])


def is_dead(pid: int) -> bool:
    return not is_alive(pid)


def test_those_who_make_others_all_the_while_end(daemon: Daemon, group: Path) -> None:
    """No process that is being made slips through."""
    file = daemon.directory / "pids" / "many"
    file.touch()
    storm = f'f() {{ while :; do setsid sh -c "echo \\$\\$ >> {file}; exec sleep 1000" & done; }}; f & f'
    with daemon.client() as client, pytest.raises(Error):
        client.run(["sh", "-c", f"ulimit -u 4000; {storm}"], timeout=1)
    wait_for(lambda: not any(is_alive(int(pid)) for pid in file.read_text().split()))
    wait_for(lambda: groups(group) == [])


def test_what_ends_by_itself_leaves_what_it_started(daemon: Daemon, group: Path) -> None:
    file = daemon.directory / "pids" / "left"
    with daemon.client() as client:
        assert client.run(["sh", "-c", f"setsid sleep 1000 & echo $! > {file}"]).returncode == 0
        left = noted(file)
        assert len(groups(group)) == 1
        assert client.run(["sh", "-c", "true"]).returncode == 0
    assert is_alive(left)
    os.kill(left, signal.SIGKILL)
    wait_for(lambda: groups(group) == [])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_stop_ends_all_but_what_may_stay(daemon: Daemon, group: Path, number: int) -> None:
    """By the daemon that stops, or by the next where it was killed."""
    ends, stays = (daemon.directory / "pids" / name for name in ("ends", "stays"))

    def ask(shell: str, file: Path) -> None:
        with daemon.client() as client, contextlib.suppress(Error):
            client.run([shell, "-c", AWAY.format(file)])

    threads = [threading.Thread(target=ask, args=one) for one in (("sh", ends), ("bash", stays))]
    for thread in threads:
        thread.start()
    pids = [noted(ends), noted(stays)]
    daemon.restart(number)
    for thread in threads:
        thread.join()
    wait_for(lambda: not is_alive(pids[0]))
    wait_for(lambda: len(groups(group)) == 1)
    assert is_alive(pids[1])


def test_status_and_records_say_it(daemon: Daemon) -> None:
    with daemon.client() as client:
        client.run(["sh", "-c", "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done"])
        assert client.status()["cgroups"] == {"used": True, "why_not": None, "limits": []}
    (end,) = [record for record in daemon.audit() if record["event"] == "end"]
    assert 1 < end["cpu_milliseconds"] <= 2 * end["milliseconds"]


@pytest.mark.parametrize("why", ["delegates", "off", "another"])
def test_without_it_is_as_elsewhere(daemon: Daemon, group: Path, why: str) -> None:
    """Where the service manager delegates nothing, or the configuration says so; and status says why."""
    daemon.stop()
    (daemon.directory / "log").write_text("")
    if why == "delegates":
        os.removexattr(group, "trusted.delegate")
    if why == "off":
        daemon.configure(cgroups="off")
    holder = None
    if why == "another":
        holder = subprocess.Popen(["flock", "--no-fork", str(group), "sleep", "1000"])
        wait_for(lambda: subprocess.run(["flock", "-n", str(group), "true"], check=False).returncode)
    try:
        daemon.start()
        file = daemon.directory / "pids" / "away"
        with daemon.client() as client:
            late(client, "sh", file)
            told = client.status()["cgroups"]
            assert not told["used"]
            assert why in told["why_not"]
        os.kill(noted(file), signal.SIGKILL)
        assert groups(group) == []
        assert "cpu_milliseconds" not in daemon.audit()[-1]
    finally:
        if holder is not None:
            holder.kill()
            holder.wait()


LIMITED = f"""\
[Filters]
sh: CommandFilter, sh, root
memory: CommandFilter, bash, root
processes: CommandFilter, dash, root
[memory]
max_memory = {MEMORY}
[processes]
max_processes = 5
"""


@pytest.fixture
def below(new_daemon: NewDaemon, group: Path) -> Iterator[Daemon]:
    """A daemon that the manager has put into a group below the delegated one (DelegateSubgroup=)."""
    own = group / "daemon"
    own.mkdir()
    daemon = new_daemon(LIMITED, start=False)
    daemon.inside = ["sh", "-c", 'echo $$ > "$0"/cgroup.procs && exec "$@"', str(own)]
    daemon.start()
    yield daemon
    daemon.stop()


def test_groups_beside_that_of_the_daemon(below: Daemon, group: Path) -> None:
    with below.client() as client:
        done = client.run(["sh", "-c", "cat /proc/self/cgroup"], text=True)
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("0::")]
    name = line.rpartition("/")[2]
    assert name.startswith("rw.") and line.endswith(f"/{group.name}/{name}")
    assert groups(group) == ["daemon"]


def test_a_limit_that_cannot_be_kept_runs_nothing(daemon: Daemon) -> None:
    """A process in the delegated group itself: controllers cannot be enabled below it."""
    daemon.configure(LIMITED)
    daemon.reload()
    mark = daemon.directory / "pids" / "ran"
    for shell in ("bash", "dash"):
        with daemon.client() as client, pytest.raises(InternalError, match="filter cannot be kept") as found:
            client.run([shell, "-c", f"touch {mark}"])
        assert "controller" not in str(found.value)
        end = daemon.audit()[-1]
        assert (end["event"], end["code"]) == ("end", "internal")
        assert end["detail"] == "no controller for it below the daemon's control group"
    assert not mark.exists()
    wait_for(lambda: "filter memory runs nothing, for its limits cannot be kept: no controller" in daemon.log)


def test_what_is_refused_holds_no_descriptor(new_daemon: NewDaemon) -> None:
    """Also the descriptor of a process that was looked at."""
    filters = "[Filters]\nlook: ArgvFilter, echo, root, {pid=sleep}\n[look]\nmax_processes = 5\n"
    daemon = new_daemon(filters)
    # It may be logged after the line that the start waits for.
    wait_for(lambda: "the filter look runs nothing, for its limits cannot be kept: " in daemon.log)
    with subprocess.Popen(["sleep", "1000"]) as process, daemon.client() as client:
        try:
            words = ["echo", str(process.pid)]
            with pytest.raises(InternalError, match="filter cannot be kept"):
                client.run(words)
            before, _ = daemon.figures()
            for _ in range(20):
                with pytest.raises(InternalError, match="filter cannot be kept"):
                    client.run(words)
            # Each of these answers ends its connection, which may count for a moment.
            wait_for(lambda: daemon.figures()[0] <= before)
        finally:
            process.kill()


def test_a_group_that_others_are_in_is_not_left(new_daemon: NewDaemon, group: Path) -> None:
    """The daemon of some other service, which was given the group around: that is not for us to divide."""
    own = group / "service"
    own.mkdir()
    daemon = new_daemon(LIMITED, start=False)
    enter = 'echo $$ > "$0"/cgroup.procs; sleep 1000 & exec "$@"'
    daemon.inside = ["sh", "-c", enter, str(own)]
    daemon.start()
    with daemon.client() as client:
        assert client.status()["cgroups"]["why_not"].startswith("the service manager delegates none")
    assert groups(group) == ["service"]
    daemon.stop()


def test_limits_are_kept(below: Daemon, group: Path) -> None:
    have = (group / "cgroup.controllers").read_text().split()
    if not {"memory", "pids"} <= set(have):
        pytest.skip(f"cgroup v2 has no memory and pids here, but {have}: the others are in v1")
    with below.client() as client:
        assert client.status()["cgroups"]["limits"] == ["memory", "pids"]
        for _ in range(2):
            done = client.run(["bash", "-c", "x=$(head -c 100M /dev/zero | tr '\\0' x); echo $?"])
            assert (done.returncode, done.cause) == (-signal.SIGKILL, "out_of_memory")
        end = below.audit()[-1]
        assert end["code"] == "out_of_memory" and MEMORY * 0.9 < end["memory_peak_bytes"] <= MEMORY
        done = client.run(["bash", "-c", "echo done"])
        assert (done.stdout, done.cause) == (b"done\n", "")
        many = "for i in 1 2 3 4 5 6 7 8 9; do sleep 5 & done; echo started"
        done = client.run(["dash", "-c", many])
        assert done.returncode == 2 and b"fork" in done.stderr
        # One that is not limited has no part in it.
        assert client.run(["sh", "-c", "for i in 1 2 3 4 5 6 7 8 9; do true & done; wait"]).returncode == 0
