"""What the demo stands on: a directory, two programs, and eyes of its own.

Promises: all names are this run's own, and all that was made is undone when the ExitStack is left.
Nothing here goes through the daemon. Imports the standard library.
"""

import contextlib
import os
import pwd
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
#: The environment of everything that is started here.
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
#: Seconds until something that is waited for counts as not happening.
PATIENCE = 60.0

_DAEMON_CONF = """\
[DEFAULT]
filters_path = {directory}/filters.d
exec_dirs = /usr/sbin, /usr/bin, /sbin, /bin
socket_path = {directory}/socket
socket_mode = 0660
socket_group = {user}
allowed_users = {user}
trusted_owners = {owners}
audit_file = {directory}/audit.jsonl
max_output = 1048576
kill_grace = 1
"""


class Failed(Exception):
    """The demo cannot go on; the message says why."""


class Stage:
    """The things of one run.

    `one_uid`: this is a user namespace in which nobody can become anybody else. `user`: uid and gid of the
    service. `stranger`: another uid. `helper`: the command that the service shall keep running.
    """

    def __init__(self, stack: contextlib.ExitStack) -> None:
        """Make the directory of this run, laid out as an administrator would /etc and /run. Raises Failed."""
        self._stack = stack
        self.one_uid = has_one_uid()
        if self.one_uid:
            # /run/netns must be ours; this /run is seen in our mount namespace alone.
            mount = ["mount", "-t", "tmpfs", "-o", "mode=0755", "tmpfs", "/run"]
            subprocess.run(mount, env=ENVIRONMENT, check=True)
            Path("/run/netns").mkdir()
        # Two demos at once do not meet: everything is named after the process.
        self.prefix = f"na-{os.getpid()}-"
        self.left, self.right, self.up = (self.prefix + name for name in ("left", "right", "up"))
        self.network = f"198.18.{os.getpid() % 256}"
        # With one uid the service gives up its capabilities and stays uid 0.
        self.user, self.stranger = (0, 0) if self.one_uid else _free_uids()
        self.helper = self._helper()
        stack.callback(self._sweep)
        self._check_rights()

        self.directory = Path(f"/run/rootwrap-demo-{os.getpid()}")
        self.directory.mkdir(mode=0o755)
        stack.callback(shutil.rmtree, self.directory)
        # Copies: those of a checkout may be writable by others, and the daemon would refuse them.
        self.filters = self.directory / "filters.d"
        self.filters.mkdir()
        for file in (ROOT / "etc/rootwrap-daemon/filters.d").glob("*.filters"):
            (self.filters / file.name).write_bytes(file.read_bytes())
        # In a user namespace every file of the host seems to belong to the overflow uid.
        overflow = Path("/proc/sys/kernel/overflowuid").read_text().strip()
        owners = f"0, {overflow}" if self.one_uid else "0"
        config = _DAEMON_CONF.format(directory=self.directory, user=self.user, owners=owners)
        (self.directory / "daemon.conf").write_text(config)
        (self.directory / "attacker").mkdir()
        os.chown(self.directory / "attacker", self.user, self.user)

    def _helper(self) -> list[str]:
        """A real name server if there is one, otherwise something that lasts."""
        if not shutil.which("dnsmasq", path=ENVIRONMENT["PATH"]):
            print("dnsmasq is not installed (Debian: dnsmasq-base); a sleep stands in for it.")
            return ["sleep", "3600"]
        user = ["--user=root", "--group="] if self.one_uid else ["--user=dnsmasq"]
        fixed = ["--keep-in-foreground", "--conf-file=/dev/null", "--pid-file=", "--no-resolv", "--no-hosts"]
        return ["dnsmasq", *fixed, "--bind-dynamic", *user, f"--listen-address={self.network}.2"]

    def _check_rights(self) -> None:
        # In most containers root may not make namespaces, and nothing can be shown.
        ip("netns", "add", f"{self.prefix}probe", must=True)
        ip("netns", "delete", f"{self.prefix}probe")

    def _sweep(self) -> None:
        """Remove what is there yet when the demo could not go on to its end."""
        for name in self.namespaces():
            for pid in ip("netns", "pids", name).split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            ip("netns", "delete", name)
        ip("link", "delete", "dev", self.up)

    # Starting.

    def start(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        """Start a program in Python; it is stopped when the demo ends. What it says goes to a log."""
        with open(self.directory / f"{name}.log", "wb") as log:
            process = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=ROOT,
                env=ENVIRONMENT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C is for the demo, which stops them in order.
                start_new_session=True,
            )
        self._stack.callback(stop, process)
        return process

    def start_daemon(self) -> subprocess.Popen[bytes]:
        """Start the privileged daemon and wait until it listens."""
        config = f"{self.directory}/daemon.conf"
        daemon = self.start("daemon", "-I", "-m", "rootwrap_daemon.daemon.main", "--config-file", config)

        def listens() -> bool:
            if daemon.poll() is not None:
                raise Failed(f"the daemon ended with {daemon.returncode}:\n{self.log('daemon')}")
            with socket.socket(socket.AF_UNIX) as probe:
                return probe.connect_ex(f"{self.directory}/socket") == 0

        if not wait_for(listens):
            raise Failed(f"the daemon does not listen:\n{self.log('daemon')}")
        return daemon

    def start_service(self) -> subprocess.Popen[bytes]:
        """Start the unprivileged service; it gives up root by itself, before it connects to anything."""
        return self.start(
            "service",
            "-m",
            "examples.netns_agent",
            f"--config={self.directory}/wanted.yaml",
            f"--socket={self.directory}/socket",
            f"--user={self.user}:{self.user}",
            f"--report={self.directory}/report.json",
            "--interval=1",
        )

    def start_victim(self) -> subprocess.Popen[bytes]:
        """Start a process of root that has the right name, and is something else."""
        sleep = shutil.which("sleep", path=ENVIRONMENT["PATH"])
        victim = subprocess.Popen(["dnsmasq", "3600"], executable=sleep, start_new_session=True)
        self._stack.callback(stop, victim)
        return victim

    def log(self, name: str) -> str:
        """The last lines that a program wrote."""
        return "\n".join((self.directory / f"{name}.log").read_text(errors="replace").splitlines()[-15:])

    # Looking.

    def namespaces(self) -> set[str]:
        """The namespaces of this run."""
        names = (line.split()[0] for line in ip("netns", "list").splitlines())
        return {name for name in names if name.startswith(self.prefix)}

    def links(self) -> set[str]:
        """The links of this run, a line each: namespace, name, state, IPv4 addresses."""
        found = set()
        for place in (*self.namespaces(), "host"):
            options = () if place == "host" else ("-n", place)
            for line in ip(*options, "-br", "-4", "address", "show").splitlines():
                name, state, *addresses = line.split()
                name = name.partition("@")[0]
                if name != "lo" and (place != "host" or name == self.up):
                    found.add(f"{place} {name} {state} {' '.join(addresses)}")
        return found

    def helpers(self) -> list[int]:
        """The processes in the namespace of the helper."""
        return [int(pid) for pid in ip("netns", "pids", self.left).split()]


def ip(*words: str, must: bool = False) -> str:
    """What ip(8) prints; nothing where it fails, for what is looked at may vanish. With `must`, Failed."""
    done = subprocess.run(
        ["ip", *words], env=ENVIRONMENT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if must and done.returncode != 0:
        raise Failed(f"{shlex.join(['ip', *words])}: {done.stderr.strip()}")
    return done.stdout if done.returncode == 0 else ""


def wait_for(reached: Callable[[], bool]) -> bool:
    """Look again and again; False when patience is at its end."""
    deadline = time.monotonic() + PATIENCE
    while not reached():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def stop(process: subprocess.Popen[bytes]) -> int:
    """SIGTERM, and SIGKILL if that does not help. Returns the exit code."""
    process.terminate()
    try:
        return process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def is_alive(pid: int) -> bool:
    """Whether there is such a process."""
    return Path(f"/proc/{pid}").exists()


def is_running(*argv: str) -> bool:
    """Whether a process has these words."""
    words = "".join(f"{word}\0" for word in argv).encode()
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if file.read_bytes().endswith(words):
                return True
    return False


def _free_uids() -> tuple[int, int]:
    """Two numbers that are no user's, no group's and no process's."""
    taken = {number for entry in pwd.getpwall() for number in (entry.pw_uid, entry.pw_gid)}
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            taken.add(process.stat().st_uid)
    # Not always the first: another demo may look at the same time.
    start = 61000 + 2 * (os.getpid() % 500)
    return next((uid, uid + 1) for uid in range(start, 65000, 2) if not {uid, uid + 1} & taken)


def has_one_uid() -> bool:
    """Whether this is a user namespace with a single user."""
    return Path("/proc/self/uid_map").read_text().split()[2:] == ["1"]


def check_machine() -> None:
    """Say what is missing before anything is begun. Raises Failed."""
    for program, package in (("ip", "iproute2"), ("unshare", "util-linux")):
        if not shutil.which(program, path=ENVIRONMENT["PATH"]):
            raise Failed(f"{program} is not installed; on Debian: apt-get install {package}")
    if ROOT.stat().st_mode & 0o022:
        raise Failed(
            f"the daemon runs no code that others can change; chmod -R go-w {shlex.quote(str(ROOT))}"
        )


def enter_user_namespace(*arguments: str) -> None:
    """Become a program with these words, as root of a user namespace, where a plain user may do all this."""
    unshare = [str(shutil.which("unshare", path=ENVIRONMENT["PATH"])), "-Urnm"]
    if subprocess.run([*unshare, "true"], env=ENVIRONMENT, check=False, capture_output=True).returncode != 0:
        raise Failed(
            "a plain user may not make user namespaces here (sysctl user.max_user_namespaces, "
            "kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns): run it as root"
        )
    os.execve(unshare[0], [*unshare, *arguments], ENVIRONMENT)
