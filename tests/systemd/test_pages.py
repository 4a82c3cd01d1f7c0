"""The commands that README and pages show for a host with systemd; the rest is in tests/functional."""

import re
from collections.abc import Iterator

import pytest

from tests.functional.test_pages import ALL, JUDGES, NOT_RUN, of_systemd, reason
from tests.pages import ROOT, Block
from tests.systemd.conftest import FILTERS
from tests.systemd.machine import INSIDE, PYTHON, Machine

pytestmark = pytest.mark.timeout(300)

#: What a machine for tests has already, or goes on to need.
HERE = {
    "useradd --system netagent": "the machine has this user",
    "rm -r /opt/rootwrap-daemon": "other tests need it",
    "/opt/rootwrap-daemon.new/bin/": "of a package that is not here",
    "install -D": "of what `make native` makes",
    "make ": "needs a compiler",
}
PAGES = sorted({block.page for block in ALL if block.commands and of_systemd(block)})


@pytest.fixture
def host(machine: Machine) -> Iterator[Machine]:
    """A host as the pages take it for granted: rootwrapctl in the PATH, users, filters to copy, sudoers."""
    for path in ("/opt/rootwrap-daemon/bin/rootwrapctl", "/usr/local/bin/rootwrapctl"):
        machine.write(path, f'#!/bin/sh\nexec {PYTHON} -m rootwrap_daemon.cli.ctl "$@"\n')
        machine.run("chmod", "755", path)
    client = "import sys; from rootwrap_daemon.cli.exec.main import main; sys.exit(main())"
    machine.write("/usr/local/bin/rootwrap-exec", f"#!/bin/sh\nexec {PYTHON} -c '{client}' \"$@\"\n")
    machine.run("chmod", "755", "/usr/local/bin/rootwrap-exec")
    for user in ("neutron", "zabbix"):
        machine.run("sh", "-c", f"id {user} || useradd --system --user-group {user}")
    # As service.rst has made it by then, and a package does; pages come in any order.
    machine.run("groupadd", "--system", "--force", "rootwrap-daemon")
    machine.run("sh", "-c", f"rm -rf /root/work; cp -r {INSIDE}/etc /root/work-etc; mkdir /root/work")
    machine.run("mv", "/root/work-etc", "/root/work/etc")
    for name in ("my", "zabbix"):
        machine.write(f"/root/work/{name}.filters", FILTERS)
    machine.write("/etc/sudoers.d/zabbix", "zabbix ALL=(root) NOPASSWD: /usr/bin/id -u\n")
    record = '{"time": "2026-11-01T00:00:00+00:00", "event": "run", "id": "a", "argv": ["ip", "link"]}'
    machine.write("/root/work/audit.jsonl", f"{record}\n")
    yield machine
    for name in ("neutron", "netagent", "zabbix"):
        unit = f"rootwrap-daemon@{name}"
        machine.systemctl("disable", "--now", f"{unit}.socket", f"{unit}.service", check=False)
        machine.run("sh", "-c", f"rm -f /etc/rootwrap-daemon/{name}.filters.d/*")
        machine.ctl("uninstall", "--instance", name, check=False)
    machine.run("rm", "-r", "/root/work")


def file_of(block: Block) -> str | None:
    """The file that a page says is to be written, in the lines before a block."""
    lines = (ROOT / block.page).read_text().splitlines()
    found = re.search(r"Write ``(/etc/\S+)``", "\n".join(lines[max(0, block.line - 4) : block.line]))
    return found[1] if found else None


@pytest.mark.parametrize("page", PAGES)
def test_commands(host: Machine, page: str) -> None:
    every = [one for one in ALL if one.page == page]
    ran = 0
    if page.endswith("upgrade.rst"):
        # An instance to upgrade.
        host.ctl("install", "--instance", "neutron", "--user", "neutron")
    for block in every:
        if (path := file_of(block)) is not None:
            host.write(path, f"{block.text}\n")
        for command in block.commands if of_systemd(block) else ():
            if reason(command, {**NOT_RUN, **HERE}):
                continue
            done = host.run("sh", "-c", f"cd /root/work; PATH=/usr/local/bin:$PATH\n{command}", check=False)
            good = (0, 1) if JUDGES.match(command) else (0,)
            assert done.returncode in good, (command, done)
            ran += 1
            installed = re.match(r"\S*rootwrapctl install --instance (\w+)", command)
            if installed and not any(map(file_of, every)):
                # What the page leaves to the reader.
                host.write(f"/etc/rootwrap-daemon/{installed[1]}.filters.d/own.filters", FILTERS)
    assert ran >= 2
