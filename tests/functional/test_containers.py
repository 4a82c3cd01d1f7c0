"""Daemons and agents in containers, as the page about them says, with what containers are made of."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.real_daemon import NewDaemon, wait_for

pytestmark = pytest.mark.root

ROOT = Path(__file__).parents[2]
CONTAINERS = ROOT / "examples/containers"
SOCKET = "/run/rootwrap-daemon/sidecar.sock"
POD = yaml.safe_load((CONTAINERS / "kubernetes.yaml").read_text())
AGENT, SIDECAR = POD["spec"]["containers"]
(FIRST,) = POD["spec"]["initContainers"]
EXEC = ROOT / "native/rootwrap-exec"
#: What an image and a pod have: a root of their own, a volume of mode 0777, no host's network.
FURNISH = """
set -e
mount --make-rprivate /
mount -t tmpfs -o mode=0755 tmpfs /mnt && mkdir /mnt/upper /mnt/work
mount -t overlay overlay -o lowerdir=/etc,upperdir=/mnt/upper,workdir=/mnt/work /etc
mkdir -p /etc/rootwrap-daemon/sidecar.filters.d
cp "$FILES/sidecar.conf" /etc/rootwrap-daemon/
cp "$FILES/sidecar.filters" /etc/rootwrap-daemon/sidecar.filters.d/
mount -t tmpfs -o mode=0755 tmpfs /opt && mkdir /opt/rootwrap-daemon
mount --bind "$VENV" /opt/rootwrap-daemon
mount -t tmpfs -o mode=0755 tmpfs /run && mkdir /run/rootwrap-daemon && chmod 0777 /run/rootwrap-daemon
cp "$FILES/start" /run/start
exec "$@"
"""


def words_of(context: dict[str, Any]) -> list[str]:
    """What makes a process have what a security context of the manifest says."""
    allowed = [f"+{name.lower()}" for name in context["capabilities"].get("add", ())]
    assert context["capabilities"]["drop"] == ["ALL"]
    assert context["allowPrivilegeEscalation"] is False
    user = str(context["runAsUser"])
    group = str(context["runAsGroup"])
    return [
        *("setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups", "--no-new-privs"),
        *(f"--bounding-set={','.join(['-all', *allowed])}", "--inh-caps=-all", "--"),
    ]


@pytest.fixture
def sidecar() -> Iterator[int]:
    """The pid of a sidecar that serves, as seen from here."""
    if str(ROOT).startswith("/opt/"):
        pytest.skip("this checkout lies where the image has its own")
    environ = {**os.environ, "FILES": str(CONTAINERS), "VENV": sys.prefix}
    inside = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
    process = subprocess.Popen(
        [*inside, "sh", "-c", FURNISH, "sh", *words_of(SIDECAR["securityContext"]), "/run/start"],
        env=environ,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        said = []
        for line in process.stderr:
            said.append(line)
            if "listening on" in line:
                break
        else:
            pytest.fail("".join(said))
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        wait_for(lambda: children.read_text().strip() != "")
        yield int(children.read_text().split()[0])
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def ask(pid: int, *argv: str, user: int | None = None) -> "subprocess.CompletedProcess[str]":
    """Ask as the agent of the pod does: its network and files, but a process namespace of its own."""
    context = dict(AGENT["securityContext"])
    context["runAsUser"] = context["runAsUser"] if user is None else user
    entered = ["nsenter", "-t", str(pid), "--mount", "--net", "--"]
    script = "import sys; from rootwrap_daemon.cli.exec.main import main; sys.exit(main())"
    return subprocess.run(
        [*entered, *words_of(context), "/opt/rootwrap-daemon/bin/python", "-c", script, *argv],
        env={one["name"]: one["value"] for one in AGENT["env"]},
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_a_sidecar_with_one_capability(sidecar: int) -> None:
    assert SIDECAR["securityContext"]["capabilities"]["add"] == ["NET_ADMIN"]
    done = ask(sidecar, "ip", "link", "set", "dev", "lo", "mtu", "1400")
    assert (done.returncode, done.stderr) == (0, "")
    (lo, *_) = json.loads(ask(sidecar, "ip", "-j", "link", "show").stdout)
    assert (lo["ifname"], lo["mtu"]) == ("lo", 1400)
    for attack in (
        ["ip", "link", "delete", "dev", "lo"],
        ["ip", "link", "set", "dev", "lo", "mtu", "70000"],
        ["ip", "netns", "exec", "x", "sh"],
        ["sh"],
    ):
        assert "no filter allows" in ask(sidecar, *attack).stderr
    # The agent of another pod's user is a stranger.
    assert "may not use this daemon" in ask(sidecar, "ip", "-j", "link", "show", user=10002).stderr
    # The capability is all that there is: no file of another user, no signal.
    status = Path(f"/proc/{sidecar}/status").read_text()
    assert "CapBnd:\t0000000000001000" in status and "NoNewPrivs:\t1" in status


def test_nobody_can_put_up_another_socket(sidecar: int) -> None:
    """The directory comes with mode 0777; the daemon would not listen in such a one."""
    directory = Path(f"/proc/{sidecar}/root/run/rootwrap-daemon")
    assert directory.stat().st_mode & 0o7777 == 0o755
    assert AGENT["volumeMounts"] == [
        {"name": "socket", "mountPath": os.path.dirname(SOCKET), "readOnly": True}
    ]


def test_the_manifest_and_the_image_agree() -> None:
    image = (CONTAINERS / "Containerfile").read_text()
    for name in ("sidecar.conf", "sidecar.filters", "start"):
        assert f"examples/containers/{name} " in image
    assert POD["kind"] == "Pod" and POD["apiVersion"] == "v1"
    volumes = {one["name"] for one in POD["spec"]["volumes"]}
    # Who mounts the volume first owns it under podman, and its mode is 0777 under Kubernetes.
    assert FIRST["command"] == ["chmod", "0755", os.path.dirname(SOCKET)]
    assert FIRST["securityContext"]["runAsUser"] == SIDECAR["securityContext"]["runAsUser"] == 0
    for container in (FIRST, AGENT, SIDECAR):
        assert {one["name"] for one in container["volumeMounts"]} <= volumes
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert AGENT["securityContext"]["runAsNonRoot"] is True
    conf = (CONTAINERS / "sidecar.conf").read_text()
    assert f"allowed_users = {AGENT['securityContext']['runAsUser']}\n" in conf
    assert f"socket_path = {SOCKET}\n" in conf
    assert SIDECAR["readinessProbe"]["exec"]["command"][-1] == SOCKET


def test_an_agent_in_a_container_with_users_of_its_own(new_daemon: NewDaemon) -> None:
    """The daemon is on the host, which sees the numbers that the map of the container gives."""
    daemon = new_daemon(socket_mode="0666", allowed_users="100001")

    def inside(user: int) -> str:
        client = "import sys; from rootwrap_daemon.cli.exec.main import main; sys.exit(main())"
        number = 100000 + user
        process = subprocess.Popen(
            [
                *("setpriv", f"--reuid={number}", f"--regid={number}", "--clear-groups", "--"),
                *("unshare", "--user", "--", "sh", "-c", 'echo; read go; id -u; exec "$@"', "sh"),
                *(sys.executable, "-c", client, "true"),
            ],
            env={"ROOTWRAP_DAEMON_SOCKET": daemon.socket, "PATH": os.environ["PATH"]},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        process.stdout.readline()
        # As newuidmap(1) does for a container's manager.
        for name in ("uid_map", "gid_map"):
            Path(f"/proc/{process.pid}/{name}").write_text("0 100000 10\n")
        own, said = process.communicate("\n", timeout=60)
        assert own == f"{user}\n"
        return said or str(process.returncode)

    assert inside(1) == "0"
    # Root of the container is nobody here.
    assert "may not use this daemon" in inside(0)


def test_root_of_a_container_without_users_of_its_own(new_daemon: NewDaemon) -> None:
    """It is root of the host: it may ask for the status, and has no command run."""
    daemon = new_daemon(socket_mode="0666", allowed_users="10001")
    script = "import sys; from rootwrap_daemon.cli.exec.main import main; sys.exit(main())"
    done = subprocess.run(
        ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--", sys.executable, "-c", script, "true"],
        env={"ROOTWRAP_DAEMON_SOCKET": daemon.socket, "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 77
    assert "this user (here 0) may not use this daemon: allowed_users or" in done.stderr


def test_a_tool_of_an_ai_agent_in_bubblewrap(new_daemon: NewDaemon) -> None:
    if shutil.which("bwrap") is None:
        pytest.skip("needs bwrap (Debian: bubblewrap)")
    if not EXEC.exists():
        pytest.skip("needs the native rootwrap-exec: `make native`")
    filters = (CONTAINERS / "tool-agent.filters").read_text()
    daemon = new_daemon(filters, socket_mode="0666", allowed_users="10001")

    def tool(*argv: str) -> "subprocess.CompletedProcess[str]":
        user = ["setpriv", "--reuid=10001", "--regid=10001", "--clear-groups", "--"]
        return subprocess.run(
            [*user, CONTAINERS / "tool-agent", daemon.socket, *argv],
            env={"PATH": os.environ["PATH"], "ROOTWRAP_EXEC": str(EXEC)},
            capture_output=True,
            text=True,
            check=False,
        )

    done = tool("rootwrap-exec", "df", "-h", "/")
    assert done.returncode == 0 and "Mounted on" in done.stdout, done
    assert "no filter allows" in tool("rootwrap-exec", "df", "-h", "/root").stderr
    assert "no filter allows" in tool("rootwrap-exec", "sh", "-c", "id").stderr
    # Nothing of the host is there: no file of a user, no process, no network.
    assert tool("ls", "/").stdout.split() == [
        "bin",
        "dev",
        "home",
        "lib",
        "lib64",
        "proc",
        "run",
        "sbin",
        "tmp",
        "usr",
    ]
    assert tool("sh", "-c", "ls -d /proc/[0-9]* | wc -l").stdout.strip() in ("2", "3", "4")
    assert tool("sh", "-c", "wc -l < /proc/net/dev").stdout.strip() == "3"
    assert tool("sh", "-c", "echo x > /usr/x").returncode != 0
