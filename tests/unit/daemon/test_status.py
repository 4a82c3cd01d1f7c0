"""daemon/serve/status.py and the counters of record/audit.py: who may see what, and nothing is lost."""

import json
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from rootwrap_daemon.daemon.record.audit import Audit, Counters
from rootwrap_daemon.daemon.request import Peer
from rootwrap_daemon.daemon.run.instance import Instance, Reload
from rootwrap_daemon.daemon.serve import status
from rootwrap_daemon.filters.finding import Finding, Location, Severity
from rootwrap_daemon.policy import host
from rootwrap_daemon.policy.policy import Policy
from rootwrap_daemon.policy.read.policy import load
from tests.audit_records import try_record, write_record
from tests.processes import together
from tests.unit.policy import things


def instance(policy: Policy) -> Instance:
    made = Instance(policy, Audit("", required=False, owners=host.base_owners()))
    made.started -= 100
    for uid in range(3):
        assert made.connections.take(uid, 1, 10, 10)
    return made


def test_report(tmp_path: Path) -> None:
    policy = replace(
        things.policy(tmp_path, "a: CommandFilter, true, root"),
        generation=7,
        loaded=86400.0,
        findings=tuple(
            Finding(Location("f", 1, 1), severity, "file", "x", "y")
            for severity in (Severity.ERROR, Severity.WARNING, Severity.ERROR)
        ),
    )
    served = instance(policy)
    ticket = served.registry.begin("dhcp", 1000, leave=True)
    ticket.started(4711)
    served.registry.begin("other", 1001, leave=False)
    served.audit.counters.add("end", "ok")
    found = json.loads(json.dumps(status.report(served)))
    assert found["policy"] == {
        "generation": 7,
        "loaded": "1970-01-02T00:00:00+00:00",
        "filters": 1,
        "findings_skipped": 2,
        "warnings": 1,
    }
    assert 100 <= found["uptime_seconds"] < 200
    assert found["connections"] == {"now": 3, "most": 1024}
    assert found["running"] == {"now": 2, "most": 360}
    ages = [one.pop("age_seconds") for one in found["commands"]]
    assert all(0 <= age < 60 for age in ages)
    assert found["commands"] == [
        {"filter": "dhcp", "uid": 1000, "pid": 4711, "on_stop": "leave"},
        {"filter": "other", "uid": 1001, "pid": None, "on_stop": "end"},
    ]
    assert found["counters"] == {"end": {"ok": 1}}


def test_the_last_reload(tmp_path: Path) -> None:
    served = instance(things.policy(tmp_path))
    assert status.report(served)["last_reload"] is None
    served.reload = Reload(86400.0)
    assert status.report(served)["last_reload"] == {
        "time": "1970-01-02T00:00:00+00:00",
        "ok": True,
        "finding": None,
    }
    served.reload = Reload(86400.0, "x.filters:1:1: error")
    found = json.loads(json.dumps(status.report(served)))["last_reload"]
    assert (found["ok"], found["finding"]) == (False, "x.filters:1:1: error")


def test_report_is_bounded(tmp_path: Path) -> None:
    served = instance(things.policy(tmp_path))
    for number in range(status.MAX_LISTED + 10):
        served.registry.begin("f", number, leave=False)
    found = status.report(served)
    assert found["running"] == {"now": status.MAX_LISTED + 10, "most": 360}
    assert isinstance(found["commands"], list)
    assert [one["uid"] for one in found["commands"]] == list(range(status.MAX_LISTED))


@pytest.mark.parametrize(
    ("uid", "groups", "may"),
    [(0, (), True), (5, (), False), (5, (40,), True), (5, (1, 40), True), (5, (41,), False)],
)
def test_who_may_ask(tmp_path: Path, uid: int, groups: tuple[int, ...], may: bool) -> None:
    policy = replace(things.policy(tmp_path), status_gid=40)
    assert policy.may_see_status(Peer(1, uid, 5, groups)) is may
    assert policy.may_see_status(Peer(1, 5, 40, ()))


def test_without_a_group_root_alone_may_ask(tmp_path: Path) -> None:
    policy = things.policy(tmp_path)
    assert policy.may_see_status(Peer(1, 0, 0, ()))
    assert not policy.may_see_status(Peer(1, 5, 0, (0,)))


@pytest.mark.root
def test_the_group_is_looked_up(tmp_path: Path) -> None:
    settings = things.settings(
        tmp_path / "daemon.conf", filters_path=str(tmp_path), status_group="root", trusted_owners="0"
    )
    before = time.time()
    policy = load(settings, 1)
    assert policy.status_gid == 0
    assert before <= policy.loaded <= time.time()


def test_no_count_is_lost() -> None:
    counters = Counters()

    def add() -> None:
        for number in range(5000):
            counters.add("end", ("ok", "timeout")[number % 2])
            counters.add("run")

    together(threading.Thread(target=add) for _ in range(4))
    assert counters.snapshot() == {"end": {"ok": 10000, "timeout": 10000}, "run": {"run": 20000}}


def test_what_the_audit_counts(tmp_path: Path) -> None:
    """Each once, written or not."""
    audit = Audit("/dev/full", required=False, owners=host.base_owners())
    write_record(audit, "run")
    try_record(audit, "end", code="timeout")
    for _ in range(300):
        audit.denied("denied", 5, code="environment_denied")
    audit.denied("unauthorized", 5)
    audit.close()
    found = audit.counters.snapshot()
    assert found.pop("audit")["not_written"] > 100
    assert found == {
        "run": {"run": 1},
        "end": {"timeout": 1},
        "denied": {"environment_denied": 300},
        "unauthorized": {"unauthorized": 1},
    }
