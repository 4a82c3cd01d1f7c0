"""What can be seen of the service: its records in the real journal, and its status."""

import json

import pytest

from tests.systemd.conftest import Install
from tests.systemd.machine import PYTHON, Machine

pytestmark = pytest.mark.timeout(300)

SOCKET = "/run/rootwrap-daemon/netagent.sock"


@pytest.fixture
def service(install: Install) -> str:
    """An instance, which writes to the journal."""
    return install()


def since(machine: Machine) -> str:
    """What journalctl and rootwrapctl take for the beginning of this test."""
    return f"--since=@{machine.since:.6f}"


def test_records_are_fields_of_the_journal(machine: Machine, service: str) -> None:
    machine.ask("netagent", "id", "-u")
    machine.ask("netagent", "cat", "/etc/shadow", "two\nlines", "\u202e")
    found = {record["ROOTWRAP_EVENT"]: record for record in machine.records(service)}
    assert {"run", "end", "denied"} <= set(found)
    run, denied = found["run"], found["denied"]
    assert (run["ROOTWRAP_UID"], run["ROOTWRAP_FILTER"], run["_UID"]) == ("61001", "id", "0")
    assert json.loads(run["ROOTWRAP_ARGV"]) == ["id", "-u"]
    assert json.loads(denied["ROOTWRAP_ARGV"]) == ["cat", "/etc/shadow", "two\nlines", "\u202e"]
    assert denied["MESSAGE"].startswith(
        r'denied: cat /etc/shadow "two\nlines" "\u202e" (user 61001, code denied'
    )
    assert denied["PRIORITY"] == "5"
    matches = ["-o", "json", "--no-pager", since(machine), "ROOTWRAP_EVENT=denied"]
    (line,) = machine.run("journalctl", *matches).stdout.splitlines()
    assert json.loads(line)["_SYSTEMD_UNIT"] == service
    shown = machine.ctl("audit", "--journal", "--unit", service, since(machine)).stdout
    assert r'netagent   cat /etc/shadow "two\nlines" "\u202e" (' in shown
    assert "denied: cat /etc/shadow: cat /etc/shadow" in " ".join(shown.split())


def test_somebody_elses_records_are_not_shown(machine: Machine, service: str) -> None:
    """Everybody may write to the journal, under any identifier."""
    machine.ask("netagent", "id", "-u")
    forged = "SYSLOG_IDENTIFIER=rootwrap-daemon\nROOTWRAP_EVENT=run\nROOTWRAP_ID=forged\nMESSAGE=x\n"
    machine.run("logger", "--journald", user="netagent", stdin=forged)
    machine.run("journalctl", "--sync")
    assert "ROOTWRAP_ID=forged" in machine.run("journalctl", "-o", "export", since(machine)).stdout
    shown = machine.ctl("audit", "--journal", since(machine)).stdout
    assert "run" in shown and "forged" not in shown


def test_status(machine: Machine, service: str) -> None:
    machine.ask("netagent", "id", "-u")
    found = json.loads(machine.ctl("status", "--json", "--socket", SOCKET).stdout)
    assert str(found["pid"]) == machine.show(service, "MainPID")
    assert found["counters"]["end"] == {"ok": 1}
    done = machine.run(
        *(PYTHON, "-m", "rootwrap_daemon.cli.ctl", "status", "--socket", SOCKET), user="netagent", check=False
    )
    assert "only root and members of status_group may ask" in done.stderr
