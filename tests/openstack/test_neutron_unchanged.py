"""neutron from its package, unmodified, works as an unprivileged user that nothing can make privileged.

`tox -e openstack` installs it. Its own filter file, and ours for its privileged contexts.
"""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest

from tests.real_daemon import Daemon, NewDaemon, wait_for

pytest.importorskip("neutron", reason="neutron is not installed: tox -e openstack does that")

AGENT = 61111
#: Where the package's files and programs are.
PREFIX = Path(sys.prefix)
SCRIPTS = Path(sysconfig.get_path("scripts"))
ETC = PREFIX / "etc" / "neutron"

#: What an administrator adds: the helper with the one configuration file and the contexts that there are. Who
#: starts it so runs whatever it wants with it: this takes away the setuid program, not the privilege.
PRIVSEP_FILTERS = """\
[Filters]
privsep: ArgvFilter, {scripts}/privsep-helper, root, --config-file, {conf}, --privsep_context,
    {{=neutron.privileged.default|neutron.privileged.namespace_cmd|neutron.privileged.link_cmd}},
    --privsep_sock_path, {{path={temporary}}}
# For AsyncProcess.
monitor: ArgvFilter, ip, root, -o, monitor, link

[monitor]
timeout = none
signals = KILL, TERM
"""

pytestmark = pytest.mark.root

AS_AGENT = ["setpriv", f"--reuid={AGENT}", f"--regid={AGENT}", "--clear-groups", "--no-new-privs"]


@pytest.fixture(autouse=True)
def _interpreter_is_for_all() -> None:
    # Twice: setpriv(1) itself may still do what the user may not.
    if subprocess.run([*AS_AGENT, "sh", "-c", f"{sys.executable} -c pass"], check=False).returncode:
        pytest.fail(
            f"{sys.executable} is not for every user; another: tox -e openstack --discover /usr/bin/python3"
        )


def neutron(new_daemon: NewDaemon, **options: str) -> Daemon:
    """A daemon with neutron's files, and what had to be configured."""
    daemon = new_daemon("[Filters]\n", start=False)
    filters = daemon.directory / "filters.d"
    shutil.copy(ETC / "rootwrap.d" / "rootwrap.filters", filters)
    (daemon.directory / "tmp").mkdir()
    shutil.chown(daemon.directory / "tmp", AGENT, AGENT)
    ours = PRIVSEP_FILTERS.format(
        scripts=SCRIPTS, conf=daemon.directory / "neutron.conf", temporary=daemon.directory / "tmp"
    )
    # Before neutron's own, whose IpFilter has no options: the first that allows a command decides.
    (filters / "00-agent.filters").write_text(ours)
    daemon.configure(on_finding="skip", socket_mode="0666", allowed_users=str(AGENT), **options)
    daemon.start()
    return daemon


def serve(daemon: Daemon, tag: str, **agent_options: str) -> dict[str, Any]:
    """What the service saw, run with these options in neutron.conf's [AGENT]."""
    conf = daemon.directory / "neutron.conf"
    exec_ = f"{SCRIPTS}/rootwrap-exec --socket {daemon.socket}"
    lines = [
        "[DEFAULT]",
        f"state_path = {daemon.directory}/tmp",
        "[AGENT]",
        f"root_helper = {exec_}",
        *(f"{name} = {value}" for name, value in agent_options.items()),
    ]
    # Each context has a section of its own.
    for section in ("privsep", "privsep_namespace", "privsep_link"):
        lines += [f"[{section}]", f"helper_command = {exec_} privsep-helper --config-file {conf}"]
    conf.write_text("\n".join([*lines, ""]))
    home = str(daemon.directory / "tmp")
    namespace, device = f"{tag}-{os.getpid()}", f"d{os.getpid()}"[:15]
    try:
        done = subprocess.run(
            [
                *AS_AGENT,
                *(sys.executable, "-W", "ignore", str(Path(__file__).with_name("service.py"))),
                *(str(conf), namespace, device),
            ],
            capture_output=True,
            text=True,
            check=False,
            timeout=250,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "TMPDIR": home, "HOME": home, "LC_ALL": "C.UTF-8"},
            cwd="/",
        )
        print(done.stderr[-6000:])
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:] + daemon.log[-3000:]
        seen: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        print(json.dumps(seen, indent=1))
        return seen
    finally:
        subprocess.run(["ip", "netns", "del", namespace], check=False, capture_output=True)


# Five interpreters start, each with all of neutron.
@pytest.mark.timeout(300)
@pytest.mark.parametrize("way", ["root_helper", "root_helper_daemon"])
def test_an_agents_work(new_daemon: NewDaemon, way: str) -> None:
    daemon = neutron(new_daemon)
    skipped = [line for line in daemon.log.splitlines() if "left out:" in line]
    print(*skipped, sep="\n")
    assert len(skipped) == 1
    assert "PathFilter" in skipped[0]
    bridge = {"root_helper_daemon": f"{SCRIPTS}/rootwrap-bridge --socket {daemon.socket}"}
    seen = serve(daemon, way[-6:], **(bridge if way == "root_helper_daemon" else {}))
    assert (seen["uid"], seen["no_new_privs"], seen["capabilities"]) == ([AGENT] * 3, "1", 0)
    loopback = seen["root_helper"].pop("links")
    assert [link["ifname"] for link in loopback] == ["lo"]
    assert seen["root_helper"] == {"listed": True, "denied": 99, "failed": 1, "deleted": True}
    device = f"d{os.getpid()}"[:15]
    assert seen["privsep"] == {
        "listed": True,
        "addresses": ["192.0.2.1/24"],
        "gateway": "192.0.2.254",
        "devices": [device, f"{device}p"],
        "executed": True,
        "left": [],
        "deleted": True,
    }
    assert seen["async"] == {
        "active": True,
        "pid is not ours": True,
        "active in the namespace": True,
        "stopped in the namespace": -15,
        "read": True,
        "stopped": -9,
        "inactive": True,
    }
    # What it left in the background, its privileged helpers, ended with it.
    wait_for(lambda: not daemon.children())
