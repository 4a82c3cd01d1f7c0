"""daemon/run/spawn.py: what nobody waits for any more is reaped, once."""

import os
import signal
import subprocess
from collections import deque
from collections.abc import Callable
from typing import Any

import pytest

from rootwrap_daemon.daemon.run import spawn
from rootwrap_daemon.daemon.run.spawn import Child


def test_an_abandoned_process_that_ends_while_orphans_are_reaped(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not waited for a second time: its number may be that of a command by then."""
    process = subprocess.Popen(["sleep", "1000"])
    process.returncode = 0
    child = Child(process.pid, os.pidfd_open(process.pid), None)
    child.release()
    real = os.waitpid

    def waitpid(pid: int, options: int) -> tuple[int, int]:
        found = real(pid, options)
        if pid == process.pid:
            # A tracer lets go of it now, for instance.
            os.kill(pid, signal.SIGKILL)
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        return found

    monkeypatch.setattr(os, "waitpid", waitpid)
    spawn.reap_orphans()
    calls: list[int] = []

    def counted(pid: int, options: int) -> tuple[int, int]:
        calls.append(pid)
        return real(pid, options)

    monkeypatch.setattr(os, "waitpid", counted)
    spawn.reap_orphans()
    assert calls == [-1]


def test_a_process_that_is_reaped_while_somebody_asks_for_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is to be done then is done once, and nothing is kept of the number, which may be given again."""
    process = subprocess.Popen(["sleep", "1000"])
    process.returncode = 0
    Child(process.pid, os.pidfd_open(process.pid), None).release()

    class Reaped(dict[int, deque[Callable[[], None]]]):
        def get(self, pid: int, default: Any = None) -> Any:
            found = super().get(pid, default)
            if pid == process.pid and found is not None:
                os.kill(pid, signal.SIGKILL)
                os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
                spawn.reap_orphans()
            return found

    monkeypatch.setattr(spawn, "_abandoned", Reaped(spawn._abandoned))
    done: list[int] = []
    spawn.when_gone(process.pid, lambda: done.append(1))
    spawn.reap_orphans()
    assert done == [1]
    assert process.pid not in spawn._abandoned


def test_what_is_to_be_done_once_a_process_is_gone() -> None:
    done: list[str] = []
    spawn.when_gone(0, lambda: done.append("at once"))
    process = subprocess.Popen(["sleep", "1000"])
    process.returncode = 0
    Child(process.pid, os.pidfd_open(process.pid), None).release()
    spawn.when_gone(process.pid, lambda: done.append("later"))
    spawn.reap_orphans()
    assert done == ["at once"]
    os.kill(process.pid, signal.SIGKILL)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    spawn.reap_orphans()
    assert done == ["at once", "later"]
