"""The life of the Debian packages under a real systemd: install, work, upgrade, remove, purge.

Skipped but for packaging/try_debian, which makes what two variables name: a bare Debian, and a directory
of packages with a later version of the same in later/.
"""

import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.real_daemon import wait_for
from tests.systemd.machine import Machine, booted

SYSTEM, PACKAGES = os.environ.get("DEBIAN_SYSTEM"), os.environ.get("DEBIAN_PACKAGES")
pytestmark = [
    pytest.mark.skipif(not (SYSTEM and PACKAGES), reason="run it by packaging/try_debian"),
    pytest.mark.timeout(600),
]
SOCKET = "/run/rootwrap-daemon/netagent.sock"
#: What dpkg, apt, ldconfig and Python write for themselves, whatever the package.
OTHERS = (
    r"^/(var/(cache|lib/(dpkg|apt|systemd|ucf))|var/log|etc/ld\.so\.cache|run|proc|sys|dev|tmp|var/tmp)(/|$)"
)


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    with booted(Path(str(SYSTEM))) as machine:
        yield machine


def apt(machine: Machine, *arguments: str) -> str:
    """Run apt-get without a network: what the packages depend on lies in its cache."""
    done = subprocess.run(
        machine.command("env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-y", "-q", *arguments),
        capture_output=True,
        text=True,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"},
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def packages(machine: Machine, directory: str) -> list[str]:
    return machine.run("sh", "-c", f"ls {directory}/*.deb | grep -v dbgsym").stdout.split()


def files(machine: Machine) -> set[str]:
    text = machine.run("sh", "-c", f"find / -xdev | grep -Ev '{OTHERS}|__pycache__'").stdout
    return set(text.splitlines())


def ask(machine: Machine, *argv: str) -> "subprocess.CompletedProcess[str]":
    return machine.run("rootwrap-exec", "--socket", SOCKET, *argv, user="netagent", check=False)


def main_pid(machine: Machine) -> str:
    return machine.show("rootwrap-daemon@netagent.service", "MainPID")


def test_a_life(machine: Machine) -> None:
    """One test: each step needs the one before."""
    depends = (
        "python3-msgpack python3-oslo.config python3-oslo.log python3-oslo.privsep python3-regex python3-rich"
    )
    apt(machine, "install", "--no-install-recommends", *depends.split(), "python3-yaml", "logrotate")
    before = files(machine)

    # Three commands from a bare system to an instance that answers.
    apt(machine, "install", "--no-install-recommends", *packages(machine, "/packages"))
    said = machine.run("rootwrapctl", "install", "--instance", "netagent", "--user", "netagent").stdout
    assert "/etc/systemd/system/rootwrap-daemon@.service" not in said, (
        "the package's unit is hidden by a copy"
    )
    machine.systemctl("enable", "--now", "rootwrap-daemon@netagent.socket")
    denied = ask(machine, "id", "-u")
    log = machine.run("journalctl", "--no-pager", "-u", "rootwrap-daemon@netagent").stdout
    assert denied.returncode == 99, denied.stderr + log
    filters = "/etc/rootwrap-daemon/netagent.filters.d/id.filters"
    machine.write(filters, "[Filters]\nid: ArgvFilter, id, nobody, -u\n")
    machine.systemctl("reload", "rootwrap-daemon@netagent.service")
    # The daemon loads them in its own time.
    wait_for(lambda: ask(machine, "id", "-u").returncode != 99)
    allowed = ask(machine, "id", "-u")
    # As nobody: by the shim of the package.
    assert allowed.stdout == "65534\n", allowed.stderr
    program = f"from rootwrap_daemon.client import Client; print(Client('{SOCKET}').run(['id', '-u']).stdout)"
    assert machine.run("python3", "-c", program, user="netagent").stdout == "b'65534\\n'\n"
    assert machine.run("rootwrapctl", "--version").stdout.startswith("rootwrap")
    machine.run("rootwrapctl", "status", "--instance", "netagent")

    # An upgrade restarts the daemon, and no call fails meanwhile.
    pid, failed, over = main_pid(machine), [], threading.Event()

    def call() -> None:
        while not over.is_set():
            done = ask(machine, "id", "-u")
            if done.stdout != "65534\n":
                failed.append(done)

    calls = threading.Thread(target=call)
    calls.start()
    try:
        apt(machine, "install", "--no-install-recommends", *packages(machine, "/packages/later"))
    finally:
        over.set()
        calls.join()
    assert failed == []
    assert main_pid(machine) not in (pid, "0")

    # What the administrator has stopped is not started by an upgrade.
    units = ("rootwrap-daemon@netagent.socket", "rootwrap-daemon@netagent.service")
    machine.systemctl("stop", *units)
    apt(machine, "install", "--reinstall", *packages(machine, "/packages/later"))
    assert machine.systemctl("is-active", units[0], check=False) != "active"
    machine.systemctl("start", units[0])
    assert ask(machine, "id", "-u").stdout == "65534\n"

    # An instance whose files have an error keeps its daemon and rules, and the upgrade does not fail of it.
    pid, typo = main_pid(machine), "/etc/rootwrap-daemon/netagent.filters.d/typo.filters"
    machine.write(typo, "[Filters]\nid: ArgvFiler, id, nobody, -u\n")
    said = apt(machine, "install", "--reinstall", *packages(machine, "/packages/later"))
    assert "typo.filters:2:" in said
    assert "rootwrap-daemon@netagent.service still runs the old version" in said
    assert main_pid(machine) == pid
    assert ask(machine, "id", "-u").stdout == "65534\n"
    machine.run("rm", typo)

    # Removed, what the administrator has written stays; installed again, it is in force.
    apt(machine, "remove", "rootwrap-daemon", "rootwrap-exec", "python3-rootwrap-client")
    assert machine.systemctl("is-active", "rootwrap-daemon@netagent.socket", check=False) != "active"
    machine.run("test", "-e", filters)
    machine.run("test", "!", "-e", SOCKET)
    apt(machine, "install", "--no-install-recommends", *packages(machine, "/packages/later"))
    assert ask(machine, "id", "-u").stdout == "65534\n"

    # Purged, nothing is left.
    apt(
        machine, "purge", "rootwrap-daemon", "rootwrap-exec", "python3-rootwrap-client", "rootwrap-daemon-doc"
    )
    apt(machine, "autoremove", "--purge")
    left = files(machine) - before
    assert left == set()
    machine.run("test", "!", "-e", "/run/rootwrap-daemon")
