"""What can be seen of the service: its records in the real journal, its status, and what a crash leaves."""

import json
import subprocess
from collections.abc import Iterator

import pytest

from tests.real_daemon import wait_for
from tests.systemd.conftest import FILTERS, Install
from tests.systemd.machine import INSIDE, PYTHON, Machine

pytestmark = pytest.mark.timeout(300)

DROP_INS = "/etc/rootwrap-daemon/netagent.conf.d"
SOCKET = "/run/rootwrap-daemon/netagent.sock"
STAYS = "monitor: RegExpFilter, ip, root, ip, monitor, link\n\n[monitor]\non_stop = leave\n"


@pytest.fixture
def service(machine: Machine, install: Install) -> Iterator[str]:
    """An instance that writes to the journal, and notes what runs."""
    service = install(filters=FILTERS + STAYS)
    lines = "[DEFAULT]\naudit_file = journal\nstate_dir = /run/rootwrap-daemon/netagent\ndrain_timeout = 1\n"
    machine.write(f"{DROP_INS}/test.conf", lines)
    yield service
    machine.run("rm", "-r", DROP_INS)


def records(machine: Machine, service: str, *matches: str) -> list[dict[str, str]]:
    machine.run("journalctl", "--sync")
    out = machine.run("journalctl", "-o", "json", "--no-pager", "-u", service, *matches).stdout
    return [found for found in map(json.loads, out.splitlines()) if "ROOTWRAP_EVENT" in found]


def test_records_are_fields_of_the_journal(machine: Machine, service: str) -> None:
    machine.ask("netagent", "id", "-u")
    machine.ask("netagent", "cat", "/etc/shadow", "two\nlines", "\u202e")
    found = {record["ROOTWRAP_EVENT"]: record for record in records(machine, service)}
    assert {"run", "end", "denied"} <= set(found)
    run, denied = found["run"], found["denied"]
    assert (run["ROOTWRAP_UID"], run["ROOTWRAP_FILTER"], run["_UID"]) == ("61001", "id", "0")
    assert json.loads(run["ROOTWRAP_ARGV"]) == ["id", "-u"]
    assert json.loads(denied["ROOTWRAP_ARGV"]) == ["cat", "/etc/shadow", "two\nlines", "\u202e"]
    assert denied["MESSAGE"].startswith(
        r'denied: cat /etc/shadow "two\nlines" "\u202e" (user 61001, code denied'
    )
    assert denied["PRIORITY"] == "5"
    assert len(records(machine, service, "ROOTWRAP_EVENT=denied")) >= 1
    shown = machine.ctl("audit", "--journal", "--unit", f"{service}", "--since", "1h").stdout
    assert r'netagent   cat /etc/shadow "two\nlines" "\u202e" (' in shown
    assert "denied: cat /etc/shadow: cat /etc/shadow" in " ".join(shown.split())


def test_somebody_elses_records_are_not_shown(machine: Machine, service: str) -> None:
    """Everybody may write to the journal, under any identifier."""
    machine.ask("netagent", "id", "-u")
    forged = "SYSLOG_IDENTIFIER=rootwrap-daemon\nROOTWRAP_EVENT=run\nROOTWRAP_ID=forged\nMESSAGE=x\n"
    machine.run("logger", "--journald", user="netagent", stdin=forged)
    machine.run("journalctl", "--sync")
    assert "ROOTWRAP_ID=forged" in machine.run("journalctl", "-o", "export", "--no-pager").stdout
    shown = machine.ctl("audit", "--journal").stdout
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


def start(machine: Machine, *argv: str) -> "subprocess.Popen[str]":
    script = f"{INSIDE}/tests/systemd/ask.py"
    process = subprocess.Popen(
        machine.command(PYTHON, script, "netagent", "1000", *argv, user="netagent"),
        stdout=subprocess.PIPE,
        text=True,
        cwd="/",
    )
    wait_for(lambda: machine.pids(*argv))
    return process


@pytest.mark.parametrize("how", ["crash", "restart"])
def test_what_runs_is_ended_but_what_may_stay(machine: Machine, service: str, how: str) -> None:
    calls = [start(machine, "sleep", "4321"), start(machine, "ip", "monitor", "link")]
    (stays,) = machine.pids("ip", "monitor", "link")
    if how == "crash":
        machine.systemctl("kill", "--kill-whom=main", "--signal=KILL", service)
    else:
        machine.systemctl("restart", service)
    # Whoever asks next finds it done.
    assert machine.ask("netagent", "id", "-u")["returncode"] == 0
    assert machine.pids("sleep", "4321") == []
    assert machine.pids("ip", "monitor", "link") == [stays]
    for call in calls:
        call.communicate(timeout=60)
