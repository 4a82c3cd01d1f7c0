"""A real systemd for tests: booted by systemd-nspawn over an overlay of this machine's root.

What is done in it is gone afterwards; overlay, mount and control groups too, even if a test fails.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.real_daemon import children_of, wait_for

CHECKOUT = Path(__file__).parents[2]
#: Where the checkout is in the machine, and a Python that has the package and what it needs.
INSIDE = "/opt/checkout"
PYTHON = "/opt/rootwrap-daemon/bin/python"
#: Users of the machine, each with a group of its name.
USERS = {"netagent": 61001, "second": 61002}
REQUIRED = os.environ.get("REQUIRE_SYSTEMD") == "1" or os.environ.get("REQUIRE_ROOT") == "1"


@dataclass
class Machine:
    """A booted system. `leader`: its pid 1, as seen from here; `since`: when the test began, as time()."""

    leader: int
    since: float = 0.0

    def command(self, *argv: str, user: str = "root") -> list[str]:
        """What to run here so that it runs in there, as that user."""
        inside = ["nsenter", "-t", str(self.leader), "-a", "--"]
        if user != "root":
            uid = str(USERS[user])
            inside += ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--"]
        return [*inside, *argv]

    def run(
        self, *argv: str, user: str = "root", check: bool = True, stdin: str | None = None
    ) -> "subprocess.CompletedProcess[str]":
        """Run it to its end; a test fails if `check` and it does."""
        done = subprocess.run(
            self.command(*argv, user=user),
            input=stdin,
            stdin=None if stdin is not None else subprocess.DEVNULL,
            capture_output=True,
            text=True,
            cwd="/",
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"},
            timeout=100,
            check=False,
        )
        if check and done.returncode != 0:
            pytest.fail(f"{' '.join(argv)}: {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def ctl(self, *arguments: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
        """rootwrapctl."""
        return self.run(PYTHON, "-m", "rootwrap_daemon.cli.ctl", *arguments, check=check)

    def systemctl(self, *arguments: str, check: bool = True) -> str:
        return self.run("systemctl", *arguments, check=check).stdout.strip()

    def show(self, unit: str, name: str) -> str:
        """A property of a unit."""
        return self.systemctl("show", "--value", "-p", name, unit)

    def journal(self, unit: str) -> list[str]:
        """The lines of a unit since the test began."""
        self.run("journalctl", "--sync")
        wanted = ["-u", unit, "-o", "cat", "--no-pager", f"--since=@{self.since:.6f}"]
        return self.run("journalctl", *wanted).stdout.splitlines()

    def records(self, unit: str) -> list[dict[str, str]]:
        """The audit records of a unit since the test began, as the journal's fields."""
        self.run("journalctl", "--sync")
        wanted = [f"_SYSTEMD_UNIT={unit}", "-o", "json", "--no-pager", f"--since=@{self.since:.6f}"]
        lines = self.run("journalctl", *wanted).stdout.splitlines()
        return [record for record in map(json.loads, lines) if "ROOTWRAP_EVENT" in record]

    def ask(self, instance: str, *argv: str, user: str = "netagent", timeout: float = 60) -> dict[str, Any]:
        """Ask a daemon, as that user: returncode, stdout, stderr, or the code of an error."""
        script = f"{INSIDE}/tests/systemd/ask.py"
        done = self.run(PYTHON, script, instance, str(timeout), *argv, user=user)
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    def write(self, path: str, text: str) -> None:
        """Write a file of root in there."""
        self.run("sh", "-c", f"umask 022; mkdir -p {os.path.dirname(path)}; cat > {path}", stdin=text)

    def pids(self, *argv: str) -> list[str]:
        """Processes whose command line is this, the program with or without its directory."""
        return self.run("pgrep", "-x", "-f", f"(/.*/)?{' '.join(argv)}", check=False).stdout.split()


def refuse(reason: str) -> None:
    """Skip, or fail where it is required."""
    if REQUIRED:
        pytest.fail(f"no systemd to test in: {reason}", pytrace=False)
    pytest.skip(f"no systemd to test in: {reason}")


def why_not() -> str:
    """Empty if a machine can be booted here, as far as that can be seen."""
    if os.geteuid() != 0:
        return "needs root"
    for program in ("systemd-nspawn", "nsenter", "setpriv", "systemctl", "dbus-daemon"):
        if not shutil.which(program):
            return f"{program} is missing (Debian: systemd-container, dbus, util-linux)"
    if "overlay" not in Path("/proc/filesystems").read_text():
        return "the kernel has no overlay file system"
    return ""


@contextlib.contextmanager
def booted(system: Path = Path("/")) -> Iterator[Machine]:
    """Boot a machine over a system, and take it away again. Another than this one's has no checkout in it."""
    if reason := why_not():
        refuse(reason)
    with contextlib.ExitStack() as stack:
        base = Path(tempfile.mkdtemp(prefix="rootwrap-systemd-", dir="/var/tmp"))
        stack.callback(shutil.rmtree, base, ignore_errors=True)
        _furnish(base, system)
        groups = _control_groups(base.name)
        stack.callback(_remove_groups, groups)
        console = base / "console"
        machine = Machine(_boot(base, system, console, groups, stack))

        def is_up() -> bool:
            state = machine.systemctl("is-system-running", check=False)
            return state in ("running", "degraded")

        end = time.monotonic() + 180
        while not is_up():
            if time.monotonic() > end:
                pytest.fail(f"the machine did not boot:\n{console.read_text(errors='replace')[-3000:]}")
            time.sleep(0.1)
        yield machine


def _furnish(base: Path, system: Path) -> None:
    """What the machine has and this one has not: users, a Python, a journal that drops nothing."""
    for name in ("upper", "work", "root"):
        (base / name).mkdir()
        (base / name).chmod(0o755)
    upper = base / "upper"
    journal = upper / "etc/systemd/journald.conf.d"
    journal.mkdir(parents=True)
    (journal / "test.conf").write_text("[Journal]\nStorage=volatile\nRateLimitIntervalSec=0\n")
    for file, line in (("passwd", "{0}:x:{1}:{1}::/:/bin/false\n"), ("group", "{0}:x:{1}:\n")):
        more = "".join(line.format(name, uid) for name, uid in USERS.items())
        (upper / "etc" / file).write_text((system / "etc" / file).read_text() + more)
    # Timers of this machine (apt, man-db) are none of the tests' business.
    (upper / "etc/systemd/system").mkdir()
    (upper / "etc/systemd/system/timers.target").symlink_to("/dev/null")
    if system == Path("/"):
        _install_checkout(upper)


def _install_checkout(upper: Path) -> None:
    venv = upper / PYTHON.removeprefix("/").removesuffix("/bin/python")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    (site,) = venv.glob("lib/python*/site-packages")
    paths = [Path(entry) for entry in sys.path if entry.endswith("-packages")]
    inside = [
        str(INSIDE / path.relative_to(CHECKOUT)) if path.is_relative_to(CHECKOUT) else str(path)
        for path in paths
    ]
    (site / "checkout.pth").write_text("\n".join([*inside, INSIDE]))
    (upper / INSIDE.removeprefix("/")).mkdir(parents=True)


def _control_groups(name: str) -> list[Path]:
    """Control groups of the machine's own, where no systemd does that here."""
    if Path("/proc/1/comm").read_text().strip() == "systemd":
        return []
    mounts = (Path("/sys/fs/cgroup/systemd"), Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup"))
    groups = [mount / name for mount in mounts if (mount / "cgroup.procs").exists()]
    for group in groups:
        group.mkdir()
    return groups


def _remove_groups(groups: list[Path]) -> None:
    for group in groups:
        for directory, _, _ in os.walk(group, topdown=False):
            # A process of the machine may take a moment to be gone.
            for _ in range(100):
                try:
                    os.rmdir(directory)
                    break
                except OSError:
                    time.sleep(0.02)


#: All in name spaces of their own, whose first process is ended with its parent: nothing runs on, and nothing
#: stays mounted, whatever becomes of the tests. nspawn alone leaves its machine running when it is killed.
_START = """\
for group in $GROUPS_OF_IT; do echo $$ > $group/cgroup.procs; done
exec unshare --mount --pid --fork --kill-child --mount-proc sh -c '
    mount -t overlay overlay -o "lowerdir=$SYSTEM,upperdir=$BASE/upper,workdir=$BASE/work" "$BASE/root" &&
    exec "$@"
' sh "$@"
"""


def _boot(base: Path, system: Path, console: Path, groups: list[Path], stack: contextlib.ExitStack) -> int:
    nspawn = [
        *["systemd-nspawn", "--quiet", "--register=no", "--keep-unit", f"--directory={base}/root"],
        *[f"--machine=rootwrap-{os.getpid()}", "--private-network", "--resolv-conf=off", "--timezone=off"],
        *["--link-journal=no", "--boot", "systemd.unit=basic.target"],
    ]
    if system == Path("/"):
        nspawn.insert(1, f"--bind-ro={CHECKOUT}:{INSIDE}")
    with console.open("wb") as stream:
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "sh", "-c", _START, "sh", *nspawn],
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            env={
                **os.environ,
                "BASE": str(base),
                "SYSTEM": str(system),
                "GROUPS_OF_IT": " ".join(map(str, groups)),
            },
            start_new_session=True,
        )

    def end() -> None:
        process.kill()
        process.wait()

    stack.callback(end)
    leaders: list[int] = []

    def has_leader() -> bool:
        if process.poll() is not None:
            refuse(f"systemd-nspawn ended: {console.read_text(errors='replace')[-2000:]}")
        for nspawn in children_of(process.pid):
            # The first child sets up the mounts and is gone again; the leader is systemd.
            leaders[:] = [pid for pid in children_of(nspawn) if _is_systemd(pid)]
        return bool(leaders)

    wait_for(has_leader)
    return leaders[0]


def _is_systemd(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip() == "systemd"
    except OSError:
        return False
