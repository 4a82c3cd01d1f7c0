"""daemon/run/command.py: an exception anywhere in the judge is a refusal with a record, and no more."""

import json
import os
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from rootwrap_daemon.daemon.record.audit import Audit
from rootwrap_daemon.daemon.request import Peer, Wish
from rootwrap_daemon.daemon.run import command
from rootwrap_daemon.daemon.run.command import Caller, Command
from rootwrap_daemon.daemon.run.instance import Instance
from rootwrap_daemon.daemon.run.process import Client
from rootwrap_daemon.errors import InternalError
from rootwrap_daemon.filters.values import Request
from rootwrap_daemon.policy.policy import Allowed, Policy, judge
from rootwrap_daemon.protocol.messages import Failure, Run
from tests.processes import our_descriptors
from tests.unit.policy import things

LINES = (
    "cat: PathFilter, cat, root, /etc",
    "argv: ArgvFilter, ls, root, {path=/etc}, [{int} ...]",
    "regexp: RegExpFilter, echo, root, echo, (a|b)+x*",
    "gone: CommandFilter, no-such-program, root",
    "nice: ChainingRegExpFilter, nice, root, nice, -n, [0-9]+",
    "read: ReadFileFilter, /etc/hostname",
    "kill: KillFilter, root, /usr/bin/sleep, -9",
)
REQUESTS = (
    ("cat", "/etc/hostname"),
    ("ls", "/etc/hostname", "1", "2"),
    ("echo", "abax"),
    ("no-such-program", "hunter2"),
    ("nice", "-n", "5", "cat", "/etc/hostname"),
    ("kill", "-9", "1"),
    ("unknown", "hunter2"),
)


class Injected(Exception):
    """With a word of the request in its text."""


def calls(policy: Policy, request: Request, fail_at: int | None) -> int:
    """Judge; fail at the call of this number within. How many calls of our own there were."""
    count = 0

    def trace(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal count
        if event == "call" and "/rootwrap_daemon/" in frame.f_code.co_filename:
            if "__del__" in frame.f_code.co_name:
                return
            count += 1
            if count == fail_at:
                raise Injected("hunter2")

    sys.settrace(trace)
    try:
        judged = judge(policy, request)
    finally:
        sys.settrace(None)
    if isinstance(judged, Allowed):
        judged.bound.close()
    return count


# What it raises in a generator that is being closed goes no further.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("argv", REQUESTS, ids=lambda argv: argv[0])
def test_an_exception_at_any_call_is_a_typed_refusal(
    tmp_path: Path, argv: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    policy = things.policy(tmp_path, *LINES)
    total = calls(policy, Request(argv), None)
    assert total > 3
    path = tmp_path / "audit"
    monkeypatch.setattr("rootwrap_daemon.daemon.record.audit._BURST", 10**6)
    audit = Audit(str(path), required=True, owners=things.OWNERS)
    instance = Instance(policy, audit)
    client = Client(-1, lambda on_signal: Wish.NOTHING, lambda: True, instance.turns.of(0))
    caller = Caller(Peer(1, 4711, 1, ()), 10**6, client, lambda count: True, lambda answer: None)
    before = our_descriptors()
    failed = 0
    for number in range(1, total + 1):

        def failing(policy: Policy, request: Request, number: int = number) -> Any:
            calls(policy, request, number)
            raise AssertionError("nothing failed")

        monkeypatch.setattr(command, "judge", failing)
        message = Run(tuple(word.encode() for word in argv))
        answer = Command(instance, caller, message, None).answer(policy)
        # Some are caught where they are expected to come from, and become a verdict; none goes further.
        assert isinstance(answer, Failure)
        assert answer.code == InternalError.code
        failed += 1
    assert our_descriptors() <= before
    audit.close()
    found = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(record["event"], record["code"]) for record in found] == [("denied", "internal")] * failed
    assert "hunter2" not in path.read_text()
    assert "hunter2" not in caplog.text
    os.close(instance.stop_reader)
