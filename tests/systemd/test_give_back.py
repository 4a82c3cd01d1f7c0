"""What the unit takes from commands: told beforehand, and given back by a drop-in. In a real systemd."""

import re

import pytest

from rootwrap_daemon.lint.knowledge import confinement
from tests.systemd.conftest import FILTERS, Install, with_filter
from tests.systemd.machine import Machine

pytestmark = pytest.mark.timeout(300)

#: Drop-in -> a command that works with it. Others need what systemd-nspawn itself takes away.
COMMANDS = {
    "chmod u+s /run/flags": "setuid-files",
    "mkdir -m 2775 /run/shared": "setuid-files",
    "setarch --addr-no-randomize true": "personality",
    "unshare -U true": "user-namespaces",
    "strace -o /dev/null true": "debug",
    "chrt -f 1 true": "realtime",
    "ionice -c1 true": "priority",
    "taskset 1 true": "priority",
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


def what_systemd_says(machine: Machine, service: str) -> tuple[set[str], list[str]]:
    """What it says that it takes, and the texts of the unit and its drop-ins."""
    names = "FragmentPath DropInPaths CapabilityBoundingSet SystemCallFilter RestrictNamespaces".split()
    names.append("RestrictAddressFamilies")
    names += [key for key, _ in SWITCHES.values()]
    lines = machine.systemctl("show", service, *(f"--property={name}" for name in names)).splitlines()
    shown = {name: value for name, _, value in (line.partition("=") for line in lines)}
    kept = shown["CapabilityBoundingSet"].upper().split()
    # An inverted list: what is refused.
    refused = shown["SystemCallFilter"]
    assert refused.startswith("~")
    calls = refused.removeprefix("~").split()
    found = {
        one
        for need in confinement.NEEDS.values()
        for one in need.takings
        if (one.startswith("CAP_") and one not in kept) or CALLS.get(one) in calls
    }
    families = shown["RestrictAddressFamilies"].split()
    found |= {
        one
        for need in confinement.NEEDS.values()
        for one in need.takings
        if one.startswith("AF_") and one not in families
    }
    found |= {name for name, (key, value) in SWITCHES.items() if shown[key] == value}
    if (namespaces := shown["RestrictNamespaces"]) != "no" and "user" not in namespaces.split():
        found.add("userns")
    paths = [shown["FragmentPath"], *shown["DropInPaths"].split()]
    # With a line in front of each that has its name.
    text = machine.run("tail", "-v", "-n", "+1", *paths).stdout
    texts = re.split(r"^==> .* <==\n", text, flags=re.MULTILINE)[1:]
    assert len(texts) == len(paths)
    return found, texts


@pytest.mark.parametrize("more", [(), ("--network-agent",)])
def test_units_are_read_as_systemd_reads_them(
    machine: Machine, install: Install, more: tuple[str, ...]
) -> None:
    service = install("netagent", FILTERS, *more)
    before, texts = what_systemd_says(machine, service)
    assert before == set(confinement.taken(texts))
    every = [word for name in confinement.NEEDS for word in ("--with", name)]
    machine.ctl("install", "--instance", "netagent", "--user", "netagent", *every, *more)
    drop_ins, away = f"/etc/systemd/system/{service}.d", "/run/give-back"
    machine.run("sh", "-c", f"mkdir -p {away} && mv {drop_ins}/60-*.conf {away}")
    for name, need in confinement.NEEDS.items():
        one = f"60-{name}.conf"
        machine.run("sh", "-c", f"cp {away}/{one} {drop_ins}/{one} && systemctl daemon-reload")
        after, texts = what_systemd_says(machine, service)
        assert after == before - need.takings, name
        assert after == set(confinement.taken(texts)), name
        machine.run("rm", f"{drop_ins}/{one}")


def test_what_is_taken_is_told_and_can_be_had_back(machine: Machine, install: Install) -> None:
    filters = "\n".join(
        f"x{number}: ArgvFilter, {words.split()[0]}, root, {', '.join(words.split()[1:])}"
        for number, words in enumerate(COMMANDS)
    )
    service = install("netagent", with_filter(filters), "--network-agent")
    machine.run("touch", "/run/flags")
    found = machine.ctl("check", "--instance", "netagent", "--select", "RW210", "--format", "concise").stdout
    for words, name in COMMANDS.items():
        assert machine.ask("netagent", *words.split()).get("returncode") != 0, words
        explained = machine.ctl("explain", "--instance", "netagent", *words.split()).stdout
        assert "it may fail with EPERM: the unit takes away" in explained
        assert f"--with {name}`" in explained
        assert f"takes away {confinement.NEEDS[name].what} (" in found
    machine.ctl(
        *("install", "--instance", "netagent", "--user", "netagent", "--network-agent"),
        *(word for name in sorted(set(COMMANDS.values())) for word in ("--with", name)),
    )
    machine.systemctl("daemon-reload")
    machine.systemctl("restart", service)
    for words in COMMANDS:
        answer = machine.ask("netagent", *words.split())
        assert answer.get("returncode") == 0, (words, answer)
        assert "EPERM" not in machine.ctl("explain", "--instance", "netagent", *words.split()).stdout
