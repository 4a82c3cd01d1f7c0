"""daemon/run/spawn.py: what nobody waits for any more is reaped, once."""

import os
import signal
import subprocess

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
