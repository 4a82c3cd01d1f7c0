"""An agent without any privilege builds a network through the daemon, both under systemd, both hardened."""

from collections.abc import Iterator

import pytest

from tests.real_daemon import wait_for
from tests.systemd.conftest import Install
from tests.systemd.machine import CHECKOUT, INSIDE, PYTHON, Machine

AGENT = "netns-agent.service"
WANTED = """\
prefix: na-
namespaces: [na-left, na-right]
veths:
  - - {namespace: na-left, link: right0, addresses: [10.0.0.1/24]}
    - {namespace: na-right, link: left0, addresses: [10.0.0.2/24]}
  - - {link: na-up, addresses: [198.18.77.1/30]}
    - {namespace: na-left, link: up0, addresses: [198.18.77.2/30]}
helpers:
  - namespace: na-left
    argv: [dnsmasq, --keep-in-foreground, --conf-file=/dev/null, --pid-file=, --no-resolv, --no-hosts,
           --bind-dynamic, --user=dnsmasq, --listen-address=198.18.77.2]
"""
ANSWERS = "import socket; socket.create_connection(('198.18.77.2', 53), 2)"


@pytest.fixture
def agent(machine: Machine, install: Install) -> Iterator[str]:
    """The agent's unit, not started; the daemon's socket is."""
    install(
        "netagent",
        (CHECKOUT / "etc/rootwrap-daemon/filters.d/netns-agent.filters").read_text(),
        "--network-agent",
    )
    machine.write("/etc/netns-agent.yaml", WANTED)
    unit = (CHECKOUT / "etc/systemd/example-agent.service").read_text()
    unit = unit.replace("/usr/bin/python3", PYTHON).replace("/opt/rootwrap-daemon\n", f"{INSIDE}\n")
    machine.write(f"/run/systemd/system/{AGENT}", unit)
    machine.systemctl("daemon-reload")
    yield AGENT
    machine.systemctl("stop", AGENT)
    machine.run("rm", f"/run/systemd/system/{AGENT}")


def is_built(machine: Machine) -> bool:
    if machine.systemctl("is-active", AGENT, check=False) == "failed":
        pytest.fail("\n".join(machine.journal(AGENT)))
    done = machine.run(PYTHON, "-c", ANSWERS, check=False)
    names = machine.run("ip", "netns", "list", check=False).stdout
    return done.returncode == 0 and "na-left" in names and "na-right" in names


def test_builds_what_it_wants(machine: Machine, agent: str) -> None:
    service = "rootwrap-daemon@netagent.service"
    assert machine.show(service, "ActiveState") == "inactive"
    machine.systemctl("start", agent)
    wait_for(lambda: is_built(machine), 60)
    assert machine.show(service, "ActiveState") == "active"
    for unit, expected in ((service, "1"), (agent, "1")):
        status = machine.run("cat", f"/proc/{machine.show(unit, 'MainPID')}/status").stdout
        assert f"NoNewPrivs:\t{expected}" in status
    # The agent itself sees namespaces, and not the files that they are mounted on.
    pid = machine.show(agent, "MainPID")
    kinds = ["stat", "-f", "-c", "%T", "/run/netns/na-left", "/run/netns/na-right"]
    as_agent = ["nsenter", "-t", pid, "-m", "setpriv", "--reuid=61001", "--clear-groups"]
    assert machine.run(*as_agent, *kinds).stdout.split() == ["nsfs", "nsfs"]
    assert machine.run(*as_agent, "head", "-c0", "/run/netns/na-left").returncode == 0
    # And it can do nothing by itself.
    status = machine.run("cat", f"/proc/{pid}/status").stdout
    assert all(f"{name}:\t0000000000000000" in status for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb"))
    # Nothing is wanted any more.
    machine.write("/etc/netns-agent.yaml", "prefix: na-\nnamespaces: []\n")
    machine.systemctl("reload", agent)
    wait_for(lambda: not machine.run("ip", "netns", "list").stdout.split())
