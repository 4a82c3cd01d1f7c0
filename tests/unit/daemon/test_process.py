"""daemon/run/process.py: what a command is said to have come to where the daemon itself was held up."""

import os
import select
import time
from pathlib import Path
from typing import Any

import pytest

from rootwrap_daemon.daemon.record.audit import Audit
from rootwrap_daemon.daemon.request import Peer, Wish
from rootwrap_daemon.daemon.run import process
from rootwrap_daemon.daemon.run.command import Caller, Command
from rootwrap_daemon.daemon.run.instance import Instance
from rootwrap_daemon.daemon.run.process import Client
from rootwrap_daemon.protocol.messages import Result, Run
from tests.proof.scheduler import Module
from tests.unit.policy import things


def test_a_command_that_ended_in_time_is_no_timeout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its thread gets to look at it only long after the deadline, for something else than its end."""
    audit = Audit(str(tmp_path / "audit"), required=True, owners=things.OWNERS)
    instance = Instance(things.policy(tmp_path, "true: CommandFilter, true, root"), audit)
    later = 0.0

    class Poll:
        def __init__(self) -> None:
            self.real = select.poll()
            self.register, self.unregister = self.real.register, self.real.unregister
            self.modify = self.real.modify
            self.pidfd = -1

        def poll(self, milliseconds: float) -> list[Any]:
            nonlocal later
            if not later:
                (child,) = [one.pid for one in instance.registry.snapshot()]
                os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
                later = 1e6
                return []
            return self.real.poll(milliseconds)

    monkeypatch.setattr(process, "select", Module(select, poll=Poll))
    monkeypatch.setattr(process, "time", Module(time, monotonic=lambda: time.monotonic() + later))
    turn = instance.turns.of(0)
    turn.take()
    client = Client(instance.stop_reader, lambda on_signal: Wish.NOTHING, lambda: True, turn)
    caller = Caller(Peer(1, 4711, 1, ()), 10**6, client, lambda count: True, lambda answer: None)
    monkeypatch.setattr(process._Run, "_flush", lambda self: None)
    answer = Command(instance, caller, Run((b"true",)), None).answer(instance.policy)
    assert isinstance(answer, Result)
    assert (answer.returncode, answer.cause) == (0, "")
    audit.close()
    os.close(instance.stop_reader)
    os.close(instance._stop_writer)
