"""One machine for all tests that need a systemd; each test takes away what it installed."""

import contextlib
import time
from collections.abc import Callable, Iterator

import pytest

from tests.systemd.machine import Machine, booted

FILTERS = """\
[Filters]
true: RegExpFilter, true, root, true
id: RegExpFilter, id, root, id, -u
sleep: RegExpFilter, sleep, root, sleep, [0-9]+
append: RegExpFilter, tee, root, tee, -a, /run/[a-z]+
dnsmasq: RegExpFilter, dnsmasq, root,
    dnsmasq, --conf-file=/dev/null, --pid-file=, --no-resolv, --no-hosts, --port=[0-9]+,
    --listen-address=127\\.0\\.0\\.1
monitor: RegExpFilter, ip, root, ip, monitor, link
sleeping: RegExpFilter, pgrep, root, pgrep, --runstates, DRST, -x, sleep

[monitor]
on_stop = leave
"""


def with_filter(line: str) -> str:
    """FILTERS and one more."""
    return FILTERS.replace("[Filters]\n", f"[Filters]\n{line}\n")


Install = Callable[..., str]


@pytest.fixture(scope="session")
def machine() -> Iterator[Machine]:
    """A booted systemd."""
    with booted() as machine:
        yield machine


@pytest.fixture
def install(machine: Machine) -> Iterator[Install]:
    """Installs instances: `install("netagent", filters, "--network-agent")` gives the service's name.

    Only the socket is started.
    """
    machine.since = time.time()
    made: list[str] = []

    def make(instance: str = "netagent", filters: str = FILTERS, *more: str) -> str:
        made.append(instance)
        machine.ctl("install", "--instance", instance, "--user", instance, *more)
        machine.write(f"/etc/rootwrap-daemon/{instance}.filters.d/test.filters", filters)
        # For tests to read; this machine's journal drops nothing.
        drop_in = f"/etc/rootwrap-daemon/{instance}.conf.d/journal.conf"
        machine.write(drop_in, "[DEFAULT]\naudit_file = journal\naudit = best_effort\n")
        machine.run("sh", "-c", "systemd-sysusers && systemctl daemon-reload")
        machine.systemctl("enable", "--quiet", "--now", f"rootwrap-daemon@{instance}.socket")
        return f"rootwrap-daemon@{instance}.service"

    yield make
    for instance in made:
        unit = f"rootwrap-daemon@{instance}"
        with contextlib.suppress(pytest.fail.Exception):
            machine.systemctl("disable", "--quiet", "--now", f"{unit}.socket", f"{unit}.service")
        # What a test left in the background, as it may.
        machine.run("systemctl", "kill", "--kill-whom=all", "--signal=KILL", f"{unit}.service", check=False)
        etc = "/etc/rootwrap-daemon"
        machine.run("rm", "-f", f"{etc}/{instance}.filters.d/test.filters", f"{etc}/{instance}.conf")
        machine.run("rm", "-rf", f"{etc}/{instance}.conf.d")
        machine.run("systemctl", "reset-failed", check=False)
        machine.ctl("uninstall", "--instance", instance)
    machine.systemctl("daemon-reload")
