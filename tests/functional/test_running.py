"""What runs: noted, shown, ended after a crash, left alone where a filter says so."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rootwrap_daemon.errors import CommandTimeout, Denied, OutcomeUnknown
from tests.real_daemon import Daemon, NewDaemon, is_alive, wait_for

FILTERS = """\
[Filters]
true: CommandFilter, true, root
sh: CommandFilter, sh, root
stay: CommandFilter, dash, root

[stay]
on_stop = leave
"""
#: A pid, then for ever; it ignores what a client that is gone would do to its output.
WAITS = "echo $$ > {file}; exec sleep 1000"


@pytest.fixture
def daemon(new_daemon: NewDaemon) -> Daemon:
    daemon = new_daemon(FILTERS, start=False, drain_timeout="1")
    daemon.configure(state_dir=str(daemon.directory / "state"))
    daemon.start()
    return daemon


@pytest.fixture
def running(daemon: Daemon) -> Iterator["Running"]:
    one = Running(daemon)
    yield one
    for pid in one.pids:
        # One in the background leads no group.
        for kill in (os.killpg, os.kill):
            with contextlib.suppress(ProcessLookupError):
                kill(pid, signal.SIGKILL)


def start_again(daemon: Daemon) -> None:
    """Once it says anew that it listens."""
    (daemon.directory / "log").write_text("")
    daemon.start()


class Running:
    """Commands that were started, each by a thread of its own, and how their calls ended."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon
        self.pids: list[int] = []
        self.outcomes: list[object] = []
        self.threads: list[threading.Thread] = []

    def start(self, shell: str = "sh", text: str = WAITS) -> int:
        file = self.daemon.directory / f"pid{len(self.pids)}"
        self.threads.append(
            threading.Thread(target=self._call, args=([shell, "-c", text.format(file=file)],))
        )
        self.threads[-1].start()
        wait_for(lambda: file.exists() and file.read_text().endswith("\n"))
        self.pids.append(int(file.read_text()))
        return self.pids[-1]

    def _call(self, argv: list[str]) -> None:
        with self.daemon.client() as client:
            try:
                self.outcomes.append(client.run(argv).returncode)
            except Exception as error:
                self.outcomes.append(type(error))

    def join(self) -> list[object]:
        for thread in self.threads:
            thread.join(60)
        return self.outcomes


def test_after_a_crash(daemon: Daemon, running: Running) -> None:
    """Ended before the first answer: who asks finds them gone."""
    ends, stays = running.start(), running.start("dash")
    background = running.start(text="sleep 1000 & echo $! > {file}")
    wait_for(lambda: 0 in running.outcomes)
    stubborn = running.start(text="trap '' TERM; echo $$ > {file}; while :; do sleep 0.1; done")
    daemon.stop(signal.SIGKILL)
    assert [is_alive(pid) for pid in running.pids] == [True, True, True, True]
    start_again(daemon)
    with daemon.client() as client:
        assert client.run(["true"]).returncode == 0
        assert [is_alive(pid) for pid in (ends, stubborn, stays, background)] == [False, False, True, True]
    assert "left running by the daemon before" in daemon.log
    assert running.join().count(OutcomeUnknown) == 3


@pytest.mark.root
def test_killed_under_load(daemon: Daemon) -> None:
    """Wherever in a command's start the daemon is killed, the next one finds the command."""
    mark = f"1000.{os.getpid()}"

    def alive() -> list[int]:
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    words = (entry / "cmdline").read_bytes().split(b"\0")
                except OSError:
                    continue
                if words[:2] == [b"sleep", mark.encode()] and is_alive(int(entry.name)):
                    found.append(int(entry.name))
        return found

    started = 0
    for turn in range(15):

        def call(seconds: float) -> None:
            with daemon.client() as client:
                while True:
                    try:
                        client.run(["sh", "-c", f"exec sleep {mark}"], timeout=seconds)
                    except CommandTimeout:
                        # An OSError, as every TimeoutError; the load goes on.
                        continue
                    except Exception:
                        return

        # At last, it is killed while one runs for sure.
        last = turn == 14
        arguments = (60.0 if last else 0.02,)
        threads = [threading.Thread(target=call, args=arguments, daemon=True) for _ in range(6)]
        for thread in threads:
            thread.start()
        time.sleep(0.1 + turn * 0.007)
        if last:
            wait_for(alive)
        daemon.stop(signal.SIGKILL)
        for thread in threads:
            thread.join(60)
        started += len(alive())
        start_again(daemon)
        with daemon.client() as client:
            client.run(["true"])
        assert alive() == []
    assert started > 0


def test_at_the_drains_end(daemon: Daemon, running: Running) -> None:
    daemon.configure(kill_grace="60")
    assert daemon.reload()
    ends, stays = running.start(), running.start("dash")
    assert daemon.stop() == 0
    assert [is_alive(pid) for pid in (ends, stays)] == [False, True]
    outcomes = running.join()
    assert OutcomeUnknown in outcomes and -signal.SIGTERM in outcomes
    codes = {record.get("code") for record in daemon.audit() if record["event"] == "end"}
    assert codes == {"stopping", "outcome_unknown"}
    start_again(daemon)
    assert is_alive(stays)
    assert "left running" not in daemon.log


def test_the_drain_does_not_wait_for_what_stays(new_daemon: NewDaemon) -> None:
    daemon = new_daemon(FILTERS, drain_timeout="3600")
    running = Running(daemon)
    stays = running.start("dash")
    assert daemon.stop() == 0
    assert is_alive(stays)
    os.killpg(stays, signal.SIGKILL)
    assert running.join() == [OutcomeUnknown]


def test_what_stays_keeps_the_pipes_that_a_client_passed(daemon: Daemon) -> None:
    with daemon.client() as client:
        process = client.popen(
            ["dash", "-c", "echo $$; read line; echo $line"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert process.stdin is not None and process.stdout is not None
        assert is_alive(int(process.stdout.readline()))
        daemon.stop()
        process.stdin.write(b"still here\n")
        process.stdin.close()
        assert process.stdout.readline() == b"still here\n"
        with pytest.raises(OutcomeUnknown):
            process.wait()


def test_ends_under_a_state_that_cannot_be_had(new_daemon: NewDaemon) -> None:
    from tests.functional.test_lifecycle import attempt

    daemon = new_daemon(FILTERS, start=False)
    daemon.configure(state_dir=str(daemon.directory / "no" / "such"))
    done = attempt(daemon)
    assert (done.returncode, "state_dir" in done.stderr) == (78, True)


def test_two_daemons_on_one_state(daemon: Daemon, new_daemon: NewDaemon, running: Running) -> None:
    """The second must not end what the first runs."""
    from tests.functional.test_lifecycle import attempt

    pid = running.start()
    second = new_daemon(FILTERS, start=False, state_dir=str(daemon.directory / "state"))
    done = attempt(second)
    assert (done.returncode, "another daemon" in done.stderr) == (78, True)
    assert is_alive(pid)
    daemon.stop()


# Status


def test_status(daemon: Daemon, running: Running) -> None:
    pid = running.start("dash")
    with daemon.client() as client:
        client.run(["true"])
        with pytest.raises(Denied):
            client.run(["uname"])
    assert daemon.reload()
    found = daemon.client().status()
    assert found["pid"] == daemon.pid
    assert (found["policy"]["generation"], found["policy"]["filters"]) == (2, 3)
    assert found["running"]["now"] == 1
    (command,) = found["commands"]
    assert 0 <= command.pop("age_seconds") < 100
    uid = int(daemon.audit()[0]["uid"])
    assert command == {"filter": "stay", "uid": uid, "pid": pid, "on_stop": "leave"}
    assert found["counters"]["denied"] == {"denied": 1}
    assert found["counters"]["run"] == {"run": 2}
    assert found["counters"]["end"] == {"ok": 1}
    os.killpg(pid, signal.SIGKILL)
    running.join()
    wait_for(lambda: daemon.client().status()["running"]["now"] == 0)


AS_USER = """
import json, os, sys
os.setgroups([int(word) for word in sys.argv[3:]])
os.setgid(61112)
os.setuid(int(sys.argv[2]))
from rootwrap_daemon.client import Client
from rootwrap_daemon.errors import Error
said = []
client = Client(sys.argv[1], connect_timeout=60)
for what in (lambda: client.status()["pid"], lambda: client.run(["true"]).returncode):
    try:
        said.append(what())
    except Error as error:
        said.append(error.code)
print(json.dumps(said))
"""


def as_user(daemon: Daemon, uid: int, *groups: int) -> Any:
    words = [daemon.socket, str(uid), *map(str, groups)]
    done = subprocess.run(
        [sys.executable, "-c", AS_USER, *words], stdout=subprocess.PIPE, check=True, timeout=60
    )
    return json.loads(done.stdout)


@pytest.mark.root
def test_who_may_ask(new_daemon: NewDaemon) -> None:
    daemon = new_daemon(FILTERS, socket_mode="0666", status_group="61000", allowed_users="61001")
    assert as_user(daemon, 61002, 61000) == [daemon.pid, "unauthorized"]
    assert as_user(daemon, 61001) == ["denied", 0]
    assert as_user(daemon, 61001, 61000) == [daemon.pid, 0]
    assert as_user(daemon, 61003) == ["unauthorized", "unauthorized"]
    assert as_user(daemon, 0) == [daemon.pid, "unauthorized"]
    daemon.configure(status_group="61009")
    assert daemon.reload()
    assert as_user(daemon, 61002, 61000) == ["unauthorized", "unauthorized"]
