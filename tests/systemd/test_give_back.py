"""What the unit takes from commands: told beforehand, and given back by a drop-in. In a real systemd."""

import pytest

from rootwrap_daemon.lint.knowledge import confinement
from tests.systemd.conftest import FILTERS, Install, with_filter
from tests.systemd.machine import Machine

pytestmark = pytest.mark.timeout(300)

#: Drop-in -> a command that works with it. Others need what systemd-nspawn itself takes away.
COMMANDS = {
    "setuid-files": "chmod u+s /run/flags",
    "personality": "setarch --addr-no-randomize true",
    "user-namespaces": "unshare -U true",
    "debug": "strace -o /dev/null true",
    "realtime": "chrt -f 1 true",
    "priority": "ionice -c1 true",
}
#: A system call of each group, and what else the manager itself says of a unit.
CALLS = {
    "@clock": "clock_settime",
    "@debug": "ptrace",
    "@module": "init_module",
    "@raw-io": "iopl",
    "@reboot": "kexec_load",
    "@resources": "sched_setscheduler",
    "@swap": "swapon",
}
SWITCHES = {
    "suid": ("RestrictSUIDSGID", "yes"),
    "realtime": ("RestrictRealtime", "yes"),
    "personality": ("LockPersonality", "yes"),
    "hostname": ("ProtectHostname", "yes"),
    "devices": ("DevicePolicy", "closed"),
}


def taken_by_systemd(machine: Machine, service: str) -> set[str]:
    """What systemd says that it takes."""
    kept = machine.show(service, "CapabilityBoundingSet").upper().split()
    # An inverted list: what is refused.
    refused = machine.show(service, "SystemCallFilter")
    assert refused.startswith("~")
    calls = refused.removeprefix("~").split()
    found = {
        one
        for need in confinement.NEEDS.values()
        for one in need.takings
        if (one.startswith("CAP_") and one not in kept) or CALLS.get(one) in calls
    }
    found |= {name for name, (key, value) in SWITCHES.items() if machine.show(service, key) == value}
    namespaces = machine.show(service, "RestrictNamespaces")
    return found if namespaces == "no" or "user" in namespaces.split() else found | {"userns"}


def unit_texts(machine: Machine, service: str) -> list[str]:
    paths = [machine.show(service, "FragmentPath"), *machine.show(service, "DropInPaths").split()]
    return [machine.run("cat", path).stdout for path in paths]


@pytest.mark.parametrize("more", [(), ("--network-agent",)])
def test_units_are_read_as_systemd_reads_them(
    machine: Machine, install: Install, more: tuple[str, ...]
) -> None:
    service = install("netagent", FILTERS, *more)
    before = set(confinement.taken(unit_texts(machine, service)))
    assert before == taken_by_systemd(machine, service)
    for name, need in confinement.NEEDS.items():
        machine.ctl("install", "--instance", "netagent", "--user", "netagent", "--with", name, *more)
        machine.systemctl("daemon-reload")
        after = taken_by_systemd(machine, service)
        assert after == before - need.takings, name
        assert after == set(confinement.taken(unit_texts(machine, service))), name
        machine.run("rm", f"/etc/systemd/system/{service}.d/60-{name}.conf")


def test_what_is_taken_is_told_and_can_be_had_back(machine: Machine, install: Install) -> None:
    filters = "\n".join(
        f"{name}: ArgvFilter, {words.split()[0]}, root, {', '.join(words.split()[1:])}"
        for name, words in COMMANDS.items()
    )
    service = install("netagent", with_filter(filters), "--network-agent")
    machine.run("touch", "/run/flags")
    found = machine.ctl("check", "--instance", "netagent", "--select", "RW210", "--format", "concise").stdout
    for name, words in COMMANDS.items():
        assert machine.ask("netagent", *words.split()).get("returncode") != 0, words
        explained = machine.ctl("explain", "--instance", "netagent", *words.split()).stdout
        assert "it may fail with EPERM: the unit takes away" in explained
        assert f"--with {name}`" in explained
        assert f"takes away {confinement.NEEDS[name].what} (" in found
    machine.ctl(
        *("install", "--instance", "netagent", "--user", "netagent", "--network-agent"),
        *(word for name in COMMANDS for word in ("--with", name)),
    )
    machine.systemctl("daemon-reload")
    machine.systemctl("restart", service)
    for words in COMMANDS.values():
        answer = machine.ask("netagent", *words.split())
        assert answer.get("returncode") == 0, (words, answer)
        assert "EPERM" not in machine.ctl("explain", "--instance", "netagent", *words.split()).stdout
