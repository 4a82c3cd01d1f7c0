"""A command's state equals the table made from its filter, wherever and by whomever the daemon is started."""

import os
import shutil
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.real_daemon import NewDaemon, children_of
from tests.state_table import CASES, LOOK, Case, daemon_state, filters, wrong

pytestmark = pytest.mark.root

FEW: Final = "+setuid,+setgid,+setpcap,+kill,+net_raw,+net_admin,+dac_override,+chown"
#: What somebody hostile leaves behind, before sudo(8): what he may set himself, and more.
HOSTILE: Final = """
import ctypes, os, resource, signal, sys
libc = ctypes.CDLL(None)
os.umask(0)
os.nice(7)
os.chdir("/tmp")
for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD, signal.SIGUSR1, 40):
    signal.signal(number, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGUSR2, 50})
for name in ("FSIZE", "NOFILE", "CORE", "NPROC", "MEMLOCK"):
    number = getattr(resource, "RLIMIT_" + name)
    resource.setrlimit(number, (100000 if name == "FSIZE" else 64, resource.getrlimit(number)[1]))
libc.prctl(29, ctypes.c_ulong(10**9), 0, 0, 0)
for descriptor in (7, 8, 99 if resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 99 else 20):
    os.dup2(0, descriptor, True)
os.environ |= {"HOME": "/tmp", "LANG": "xx", "SUDO_UID": "65534", "PYTHONPATH": "/tmp", "TAG": "x"}
os.execvp(sys.argv[1], sys.argv[1:])
"""
#: In a user namespace with the same users; who is outside writes what they are.
NAMESPACE: Final = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
own = os.getpid()
read, write = os.pipe()
helper = os.fork()
if helper == 0:
    os.read(read, 1)
    for name in ("uid_map", "gid_map"):
        with open(f"/proc/{own}/{name}", "w") as file:
            file.write("0 0 65536")
    os._exit(0)
if libc.unshare(0x10000000) != 0:
    sys.exit(os.strerror(ctypes.get_errno()))
os.write(write, b"x")
os.waitpid(helper, 0)
os.execvp(sys.argv[1], sys.argv[1:])
"""
WAYS: Final[dict[str, list[str]]] = {
    "a root shell": [],
    "sudo": [sys.executable, "-I", "-c", HOSTILE, "setpriv", f"--inh-caps={FEW}", f"--ambient-caps={FEW}"],
    "a user namespace": [sys.executable, "-I", "-c", NAMESPACE],
    # sudo(8) itself, asked by nobody, with rules of its own for it alone.
    "sudo itself": ["unshare", "--mount", "sh", "-c", 'mount --bind "$0" /etc/sudoers && exec "$@"'],
    "few capabilities": ["setpriv", f"--bounding-set=-all,{FEW}", f"--inh-caps=-all,{FEW}"],
}


def by_nobody(directory: Path) -> list[str]:
    """What makes sudo(8) start the daemon for a hostile nobody."""
    sudoers = directory / "sudoers"
    sudoers.write_text("Defaults !syslog\nnobody ALL=(root) NOPASSWD: ALL\n")
    sudoers.chmod(0o440)
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    return [str(sudoers), *nobody, "/usr/bin/python3", "-I", "-c", HOSTILE, "sudo", "-n"]


@pytest.mark.parametrize("way", WAYS)
def test_state_is_that_of_the_table(new_daemon: NewDaemon, way: str) -> None:
    if way == "sudo itself" and shutil.which("sudo") is None:
        pytest.skip("no sudo here")
    daemon = new_daemon(start=False)
    look = daemon.directory / "look"
    look.write_text(LOOK)
    look.chmod(0o644)
    daemon.configure(filters(str(look)))
    daemon.inside = WAYS[way]
    if way == "sudo":
        daemon.environ = {"SUDO_UID": "65534"}
    if way == "sudo itself":
        daemon.inside = [*WAYS[way], *by_nobody(daemon.directory)]
    daemon.start()
    if way == "sudo itself":
        # sudo waits for what it runs.
        assert Path(f"/proc/{daemon.pid}/comm").read_text() == "sudo\n"
        (daemon.pid,) = children_of(daemon.pid)
    status, limits = daemon_state(daemon.pid)
    path = "/sbin:/usr/sbin:/bin:/usr/bin"
    found: dict[str, tuple[Case, list[str]]] = {}
    with daemon.client() as client:
        for name, case in CASES.items():
            done = client.run(["sh", str(look), name], text=True)
            assert done.returncode == 0, (case, done)
            if differs := wrong(case, done.stdout, status, limits, path):
                found[name] = (case, differs)
            lines = [line.split() for line in done.stdout.splitlines() if line.startswith("own ")]
            own = {line[1]: line[2] for line in lines if len(line) == 3}
            # The first for root alone to read.
            usual = {"timerslack_ns": "50000", "oom_score_adj": "0", "coredump_filter": "00000033"}
            if "sudo" in way and not own.items() <= {**usual, "personality": "00000000"}.items():
                found[name] = (case, [str(own)])
    assert not found
    assert os.getpriority(os.PRIO_PROCESS, daemon.pid) == (
        0 if "sudo" in way else os.getpriority(os.PRIO_PROCESS, 0)
    )
