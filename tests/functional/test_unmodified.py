"""Programs of Debian that have sudo written into them, as they are, with `rootwrap-sudo` in its place.

All run as another user under no_new_privs, where sudo does not work. Skipped where it is not installed:
apt-get install --no-install-recommends zabbix-agent collectd-core smartmontools lvm2 ansible-core \
monitoring-plugins-contrib multipath-tools dmraid
"""

import contextlib
import os
import re
import shutil
import socket
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes import PATIENCE
from tests.real_daemon import Daemon, NewDaemon, wait_for

pytestmark = pytest.mark.root

NATIVE = Path(__file__).parents[2] / "native" / "rootwrap-exec"
AGENT = ["setpriv", "--no-new-privs", "--reuid=65534", "--regid=65534", "--clear-groups"]
COLLECTD = Path("/usr/share/doc/collectd-core/examples/exec-smartctl")
PLUGINS = Path("/usr/lib/nagios/plugins")
#: What `BindReadOnlyPaths=` of a unit does, for programs that have the path of sudo written into them.
BOUND = ["unshare", "--mount", "sh", "-c", 'mount --bind "$0/sudo" /usr/bin/sudo && exec "$@"']


def needs(*programs: str | Path) -> None:
    """Skip where one of these is not installed, or the program in C is not built."""
    for program in (*programs, NATIVE):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not here")


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory with a program called sudo, which everybody can execute."""
    place = Path("/tmp") / f"rootwrap-unmodified-{os.getpid()}"
    place.mkdir(mode=0o755)
    with contextlib.suppress(FileNotFoundError):
        shutil.copy(NATIVE, place / "sudo")
    yield place
    shutil.rmtree(place)


def served(new_daemon: NewDaemon, filters: str) -> Daemon:
    return new_daemon(f"[Filters]\n{filters}\n", socket_mode="0666", allowed_users="nobody")


def environment(place: Path, daemon: Daemon) -> dict[str, str]:
    return {
        "PATH": f"{place}:/usr/sbin:/usr/bin:/sbin:/bin",
        "ROOTWRAP_DAEMON_SOCKET": daemon.socket,
        "HOME": str(place),
        "USER": "nobody",
    }


def runs(daemon: Daemon) -> list[list[str]]:
    return [one["argv"] for one in daemon.audit() if one["event"] == "run"]


def test_user_parameters_of_zabbix(new_daemon: NewDaemon, place: Path) -> None:
    needs("zabbix_agentd", "lvs")
    daemon = served(new_daemon, "lvs: ArgvFilter, lvs, root, --version")
    # It takes none above 32767, where the system's own choices lie.
    port = next(one for one in range(20000 + os.getpid() % 10000, 32767) if not listens(one))
    config = place / "agentd.conf"
    config.write_text(
        "LogType=console\nServer=127.0.0.1\nListenIP=127.0.0.1\n"
        f"ListenPort={port}\nPidFile=/tmp/rootwrap-unmodified-zabbix-{os.getpid()}.pid\n"
        "UserParameter=lvm.version,sudo -n lvs --version | head -n 1\n"
        "UserParameter=shadow,sudo -n cat /etc/shadow; echo code $?\n"
    )
    agent = subprocess.Popen(
        [*AGENT, "zabbix_agentd", "-f", "-c", config],
        env=environment(place, daemon),
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_for(lambda: listens(port) or agent.poll() is not None)
        assert "LVM version" in ask(port, "lvm.version")
        said = ask(port, "shadow")
        assert "Sorry, user nobody is not allowed to execute 'cat /etc/shadow' as root on " in said
        assert said.endswith("code 1")
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(agent.pid, 15)
        agent.wait(60)
    assert ["lvs", "--version"] in runs(daemon)


def listens(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def ask(port: int, key: str) -> str:
    """A passive check: a header, the length of the key, the key; so the answer."""
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as sock:
        sock.sendall(b"ZBXD\1" + struct.pack("<Q", len(key)) + key.encode())
        data = b""
        while part := sock.recv(4096):
            data += part
    return data[13:].decode()


def test_smartctl_for_collectd(new_daemon: NewDaemon, place: Path) -> None:
    """The script for the exec plugin that comes with collectd."""
    needs("smartctl")
    if not COLLECTD.exists():
        pytest.skip("collectd-core is not here")
    daemon = served(
        new_daemon,
        "ware: ArgvFilter, smartctl, root, -d, {=3ware\\,0|3ware\\,1}, -A, /dev/twe0\n"
        "ata: ArgvFilter, smartctl, root, -d, ata, -A, /dev/sda",
    )
    env = environment(place, daemon) | {"COLLECTD_HOSTNAME": "host", "COLLECTD_INTERVAL": "0.1"}
    script = subprocess.Popen(
        [*AGENT, "bash", COLLECTD], env=env, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        assert script.stdout is not None
        lines = [script.stdout.readline() for _ in range(3)]
    finally:
        os.killpg(script.pid, 9)
        script.communicate()
    assert [line.split()[:2] for line in lines] == [
        ["PUTVAL", f"host/exec-smart/temperature-{name}"] for name in ("3ware_0", "3ware_1", "sata_0")
    ]
    assert ["smartctl", "-d", "3ware,1", "-A", "/dev/twe0"] in runs(daemon)
    assert ["smartctl", "-d", "ata", "-A", "/dev/sda"] in runs(daemon)


@pytest.mark.parametrize("allowed", [True, False])
def test_a_plugin_for_nagios(new_daemon: NewDaemon, place: Path, allowed: bool) -> None:
    """It has /usr/bin/sudo written into it."""
    needs("multipath", "/usr/bin/sudo", PLUGINS / "check_multipath")
    daemon = served(
        new_daemon, f"m: ArgvFilter, {shutil.which('multipath')}, root, {'-l' if allowed else '-x'}"
    )
    done = bound(place, daemon, PLUGINS / "check_multipath")
    assert (
        [[os.path.basename(one[0]), *one[1:]] for one in runs(daemon)] == [["multipath", "-l"]]
    ) == allowed
    # A kernel without device mapper lets multipath fail, and the plugin says so.
    assert allowed or "'sudo' not configured for command" in done.stdout


@pytest.mark.parametrize("allowed", [True, False])
def test_the_raid_check(new_daemon: NewDaemon, place: Path, allowed: bool) -> None:
    """It looks for sudo in /bin before its own PATH, and takes options that `sudo -h` prints."""
    needs("dmraid", "/usr/bin/sudo", PLUGINS / "check_raid")
    daemon = served(new_daemon, f"r: ArgvFilter, /sbin/dmraid, root, {'-r' if allowed else '-s'}")
    done = bound(
        place, daemon, PLUGINS / "check_raid", "--plugin=dmraid", "--plugin-option=dmraid-enabled", "--debug"
    )
    assert re.search(r"DEBUG EXEC: /bin/sudo( -[nA])+ /sbin/dmraid -r ", done.stderr)
    assert runs(daemon) == [["/sbin/dmraid", "-r"]] * allowed
    denied = re.search(
        "Sorry, user nobody is not allowed to execute '/sbin/dmraid -r' as root on ", done.stderr
    )
    assert (denied is None) == allowed


def bound(place: Path, daemon: Daemon, *argv: str | Path) -> "subprocess.CompletedProcess[str]":
    """Run this as the agent, where /usr/bin/sudo is `rootwrap-sudo`."""
    return subprocess.run(
        [*BOUND, place, *AGENT, *argv],
        env=environment(place, daemon),
        capture_output=True,
        text=True,
        check=False,
    )


def test_become_of_ansible(new_daemon: NewDaemon, place: Path) -> None:
    """One command by the module raw: what ansible puts around it stands in the filter."""
    needs("ansible")
    daemon = served(
        new_daemon,
        "a: RegExpFilter, /bin/sh, root, /bin/sh, -c, echo BECOME-SUCCESS-[a-z]{32} ; /usr/bin/id -u",
    )
    words = [
        "-i",
        "localhost,",
        "-c",
        "local",
        "-m",
        "raw",
        "-b",
        "--become-method",
        "sudo",
        "localhost",
        "-a",
    ]
    place.chmod(0o777)

    def ansible(command: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [*AGENT, "ansible", *words, command],
            env=environment(place, daemon) | {"LC_ALL": "C.UTF-8", "ANSIBLE_LOCAL_TEMP": f"{place}/local"},
            capture_output=True,
            text=True,
            check=False,
            cwd=place,
            timeout=110,
        )

    done = ansible("/usr/bin/id -u")
    assert "CHANGED | rc=0 >>\n0\n" in done.stdout, done.stdout + done.stderr
    done = ansible("/usr/bin/id -u; id")
    assert "FAILED" in done.stdout
    assert len(runs(daemon)) == 1
