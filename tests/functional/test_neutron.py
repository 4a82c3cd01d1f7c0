"""Real input: neutron's own configuration and filters serve a client that does a DHCP agent's work."""

import contextlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rootwrap_daemon.errors import Denied
from tests.real_daemon import Daemon, NewDaemon, is_alive, wait_for

CORPUS = Path(__file__).parents[3] / "shared" / "corpus" / "openstack__neutron"
CONF = "etc__neutron__rootwrap.conf@2131d26f73"
# The newest file, and the last that has the filter to end a dnsmasq: newer ones leave that to oslo.privsep.
FILTERS = {
    "rootwrap.filters": "etc__neutron__rootwrap.d__rootwrap.filters@2131d26f73",
    "dhcp.filters": "etc__neutron__rootwrap.d__dhcp.filters@2614bc6498",
}
AGENT = 61111

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not CORPUS.exists(), reason="../shared/corpus is not here: it comes with the project"),
]


def as_user(uid: int, work: Callable[[], Any]) -> Any:
    """What `work` returns, or the text of what it raises, in a child process that is this user."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            answer = work()
        except BaseException as error:
            answer = repr(error)
        os.write(writer, json.dumps(answer).encode())
        os._exit(0)
    os.close(writer)
    with open(reader, "rb") as file:
        data = file.read()
    os.waitpid(child, 0)
    return json.loads(data)


@contextlib.contextmanager
def neutron(new_daemon: NewDaemon) -> Iterator[Daemon]:
    """A daemon with neutron's files; its paths are ours, the rest is as neutron has it."""
    daemon = new_daemon("[Filters]\n", start=False)
    for name, source in FILTERS.items():
        shutil.copy(CORPUS / source, daemon.directory / "filters.d" / name)
        (daemon.directory / "filters.d" / name).chmod(0o644)
    text = (CORPUS / CONF).read_text()
    text = re.sub(
        r"(?m)^filters_path=.*", f"filters_path={daemon.directory / 'filters.d'}, /nonexistent", text
    )
    # What an administrator adds to move over.
    text += (
        f"\non_finding = skip\nsocket_path = {daemon.socket}\nsocket_mode = 0666\nallowed_users = {AGENT}\n"
        f"audit_file = {daemon.directory}/audit.jsonl\nkill_grace = 1\n"
    )
    daemon.config.write_text(text.replace("syslog_log_level=ERROR", "syslog_log_level=INFO"))
    daemon.config.chmod(0o644)
    daemon.start()
    yield daemon


def test_namespace_links_addresses_and_dnsmasq(new_daemon: NewDaemon) -> None:
    if shutil.which("dnsmasq") is None:
        if os.environ.get("REQUIRE_ROOT") == "1":
            pytest.fail("dnsmasq is required here")
        pytest.skip("needs dnsmasq (Debian: dnsmasq-base)")
    namespace = f"qdhcp-{os.getpid()}"
    inside, outside = f"ns{os.getpid()}"[:15], f"tap{os.getpid()}"[:15]
    with neutron(new_daemon) as daemon:
        skipped = [line for line in daemon.log.splitlines() if "left out" in line]
        print(*skipped, sep="\n")
        assert len([line for line in skipped if "PathFilter" in line]) == 1
        pid_file = daemon.directory / "pid" / "dnsmasq.pid"
        pid_file.parent.mkdir()

        dnsmasq = (
            f"env PROCESS_TAG=dhcp dnsmasq --conf-file=/dev/null --no-hosts --no-resolv --port=0 --user=root "
            f"--interface={inside} --bind-interfaces --dhcp-range=192.0.2.10,192.0.2.20 --leasefile-ro "
            f"--pid-file={pid_file}"
        ).split()

        def agent() -> Any:
            with daemon.client() as client:

                def ip(*words: str) -> str:
                    return client.run(["ip", *words], check=True, text=True).stdout

                ip("netns", "add", namespace)
                ip("link", "add", outside, "type", "veth", "peer", "name", inside, "netns", namespace)
                ip("-n", namespace, "addr", "add", "192.0.2.1/24", "dev", inside)
                for word in (inside, "lo"):
                    ip("-n", namespace, "link", "set", word, "up")
                ip("link", "set", outside, "up")
                client.run(["ip", "netns", "exec", namespace, *dnsmasq], check=True, timeout=60)
                links = json.loads(ip("-n", namespace, "-j", "addr"))
                with contextlib.suppress(Denied):
                    client.run(["ip", "netns", "exec", namespace, "sh", "-c", "id"])
                    return "a shell ran"
                return links

        try:
            links = as_user(AGENT, agent)
            assert isinstance(links, list), links
            found = {link["ifname"]: [one["local"] for one in link["addr_info"]] for link in links}
            print(found)
            assert "192.0.2.1" in found[inside]
            wait_for(lambda: pid_file.exists() and pid_file.read_text())
            pid = int(pid_file.read_text())
            assert "PROCESS_TAG=dhcp" in Path(f"/proc/{pid}/environ").read_text().split("\0")
            namespaces = [os.stat(path).st_ino for path in (f"/proc/{pid}/ns/net", f"/run/netns/{namespace}")]
            assert namespaces[0] == namespaces[1]

            def end() -> Any:
                with daemon.client() as client:
                    return client.run(["kill", "-9", str(pid)]).returncode

            assert as_user(AGENT, end) == 0
            wait_for(lambda: not is_alive(pid))
        finally:
            subprocess.run(["ip", "netns", "del", namespace], check=False)
            subprocess.run(["ip", "link", "del", outside], check=False, capture_output=True)
