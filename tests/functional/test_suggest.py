"""What `rootwrapctl suggest` proposes for a real run lets the same run pass, and denies what was denied."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rootwrap_daemon.errors import Denied
from tests.functional.test_neutron import AGENT, CORPUS, as_user, neutron
from tests.prepared import CTL
from tests.real_daemon import Daemon, NewDaemon, is_alive, wait_for

ROOT = Path(__file__).parents[2]
DEMO = Path(__file__).with_name("recorded_demo.py")

pytestmark = [pytest.mark.root, pytest.mark.timeout(600)]


def _needs_dnsmasq() -> None:
    if shutil.which("dnsmasq") is None:
        if os.environ.get("REQUIRE_ROOT") == "1":
            pytest.fail("dnsmasq is required here")
        pytest.skip("needs dnsmasq (Debian: dnsmasq-base)")


def _suggested(*words: str) -> str:
    done = CTL.run("suggest", *words, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _demo(*words: str) -> "subprocess.CompletedProcess[str]":
    """One run, whose processes have the same numbers each time: the demo's names are made of its own."""
    command = 'shift; "$@"; exit $?'
    return subprocess.run(
        [
            "unshare",
            "--pid",
            "--fork",
            "--mount-proc",
            "sh",
            "-c",
            command,
            "sh",
            "",
            sys.executable,
            DEMO,
            *words,
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_demo_passes_and_its_attacks_are_denied(tmp_path: Path) -> None:
    """The demo's own table says both: what the service does, and what becomes of each attack."""
    log, proposed = tmp_path / "audit.jsonl", tmp_path / "proposed.filters"
    first = _demo(str(log))
    assert first.returncode == 0, first.stdout + first.stderr
    text = _suggested("--all", "--filters", "etc/rootwrap-daemon/filters.d", str(log))
    print(text)
    assert "# not covered" not in text
    live = [line for line in text.splitlines() if line and not line.startswith(("#", "["))]
    # Nothing of the old policy is left but what a typed line cannot say better.
    assert not [line for line in live if ": RegExpFilter" in line or ": CommandFilter" in line]
    assert len([line for line in live if ": ArgvFilter" in line]) > 10
    proposed.write_text(text)
    second = _demo(str(tmp_path / "second.jsonl"), str(proposed))
    assert second.returncode == 0, second.stdout + second.stderr
    assert "Every row is as expected." in second.stdout
    attacks = [line for line in second.stdout.splitlines() if " denied " in line]
    assert len(attacks) > 20


def _work(daemon: Daemon, namespace: str, pid_file: Path) -> Any:
    """What a DHCP agent does, as the user of one; what it was denied."""
    inside, outside = f"rwd{os.getpid()}i", f"rwd{os.getpid()}o"
    dnsmasq = (
        f"env PROCESS_TAG=dhcp dnsmasq --conf-file=/dev/null --no-hosts --no-resolv --port=0 --user=root "
        f"--interface={inside} --bind-interfaces --dhcp-range=192.0.2.10,192.0.2.20 --leasefile-ro "
        f"--pid-file={pid_file}"
    ).split()

    def agent() -> Any:
        with daemon.client() as client:
            for words in (
                f"netns add {namespace}",
                f"link add {outside} type veth peer name {inside} netns {namespace}",
                f"-n {namespace} addr add 192.0.2.1/24 dev {inside}",
                f"-n {namespace} link set {inside} up",
                f"-n {namespace} link set lo up",
                f"link set {outside} up",
            ):
                client.run(["ip", *words.split()], check=True)
            client.run(["ip", "netns", "exec", namespace, *dnsmasq], check=True, timeout=60)
            return "done"

    def end(pid: int) -> Any:
        with daemon.client() as client:
            return client.run(["kill", "-9", str(pid)]).returncode

    try:
        done = as_user(AGENT, agent)
        if done != "done":
            return done
        wait_for(lambda: pid_file.exists() and pid_file.read_text())
        pid = int(pid_file.read_text())
        done = as_user(AGENT, lambda: end(pid))
        wait_for(lambda: not is_alive(pid))
        return done
    finally:
        subprocess.run(["ip", "netns", "del", namespace], check=False)
        subprocess.run(["ip", "link", "del", outside], check=False, capture_output=True)
        pid_file.unlink(missing_ok=True)


#: Names of namespaces and links are the whole host's.
NAMESPACE = f"rwd-{os.getpid()}"
ATTACKS = (
    ["sh", "-c", "id"],
    ["ip", "netns", "exec", NAMESPACE, "sh", "-c", "id"],
    ["ip", "link", "delete", "dev", "eth0"],
    ["ip", "route", "flush", "table", "main"],
    ["ip", "netns", "exec", NAMESPACE, "env", "PROCESS_TAG=dhcp", "dnsmasq", "--dhcp-script=/tmp/x"],
    ["env", "PROCESS_TAG=x", "dnsmasq", "--conf-file=/tmp/x"],
    ["dnsmasq", "--conf-file=/tmp/x"],
)


@pytest.mark.skipif(not CORPUS.exists(), reason="../shared/corpus is not here: it comes with the project")
def test_neutron_passes_with_what_is_proposed_for_it(new_daemon: NewDaemon) -> None:
    _needs_dnsmasq()
    with neutron(new_daemon) as daemon:
        pid_file = daemon.directory / "pid" / "dnsmasq.pid"
        pid_file.parent.mkdir()
        assert _work(daemon, NAMESPACE, pid_file) == 0
        broad = [argv for argv in ATTACKS if _allowed(daemon, argv)]
        assert len(broad) > 2, "neutron's own filters are broad"
        # Its own log: without the questions above, which were allowed too.
        log = daemon.directory / "audit.jsonl"
        kept = [line for line in log.read_text().splitlines() if '"event": "run"' in line]
        log.write_text("\n".join([*kept, ""]))
        text = _suggested("--config-file", str(daemon.config), str(log))
        print(text)
        assert "# not covered" not in text
        for file in (daemon.directory / "filters.d").iterdir():
            file.unlink()
        (daemon.directory / "filters.d" / "proposed.filters").write_text(text)
        assert daemon.reload()
        assert _work(daemon, NAMESPACE, pid_file) == 0
        assert not [argv for argv in ATTACKS if _allowed(daemon, argv)]


def _allowed(daemon: Daemon, argv: list[str]) -> bool:
    def ask() -> bool:
        with daemon.client() as client:
            try:
                return client.allows(argv).allowed
            except Denied:
                return False

    return as_user(AGENT, ask) is True
