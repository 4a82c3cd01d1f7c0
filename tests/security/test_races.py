"""Somebody changes what a path or a number names while it is looked at: only what was checked is touched.

RACE_SECONDS sets how long each race is run; a few seconds by default, a minute or more to be sure.
"""

import contextlib
import ctypes
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rootwrap_daemon.errors import Denied
from rootwrap_daemon.filters.finding import Location
from rootwrap_daemon.filters.plan import Program, SignalPlan
from rootwrap_daemon.filters.values import Match
from rootwrap_daemon.policy import bind, host
from rootwrap_daemon.policy.bound import BoundSignal
from rootwrap_daemon.policy.read import users
from tests.real_daemon import Daemon, NewDaemon

SECONDS = float(os.environ.get("RACE_SECONDS", "3"))
AGENT = 61111
libc = ctypes.CDLL(None, use_errno=True)

pytestmark = [pytest.mark.root, pytest.mark.timeout(max(300, SECONDS * 4))]


@contextlib.contextmanager
def flipping(*flips: Callable[[], None]) -> Iterator[None]:
    """Processes of the agent, each doing its flip over and over."""
    children = []
    for flip in flips:
        child = os.fork()
        if child == 0:
            os.setgroups([])
            os.setresgid(AGENT, AGENT, AGENT)
            os.setresuid(AGENT, AGENT, AGENT)
            try:
                while True:
                    with contextlib.suppress(OSError):
                        flip()
            finally:
                os._exit(1)
        children.append(child)
    try:
        yield
    finally:
        for child in children:
            os.kill(child, 9)
            os.waitpid(child, 0)


def replace_with(target: Path, make: Callable[[str], None]) -> None:
    """Put something else under a name, at once."""
    new = f"{target}.{os.getpid()}"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(new)
    make(new)
    os.rename(new, target)


def exchange(one: str, other: str) -> None:
    """renameat2(2) with RENAME_EXCHANGE."""
    at_fdcwd, rename_exchange = -100, 2
    libc.renameat2(at_fdcwd, os.fsencode(one), at_fdcwd, os.fsencode(other), rename_exchange)


def plain(path: str) -> None:
    with open(path, "x", encoding="utf-8"):
        pass


@pytest.mark.parametrize(
    "argv",
    [
        "chown 61112 {target}",
        "chown -R 61112 {base}",
        "chmod 666 {target}",
        "cp -- {mine} {directory}",
        "cp -r {base} {copy}",
        "mv -f {mine} {target}",
        "tee {directory}/secret",
        "rm -r {directory}",
        "tar -cf {copy} -C {base} .",
        "find {base} -name secret -delete",
    ],
)
def test_links_flipped_in_a_place(new_daemon: NewDaemon, argv: str) -> None:
    daemon = new_daemon(start=False)
    base, outside = daemon.directory / "base", daemon.directory / "outside"
    for path in (base, outside, base / "sub"):
        path.mkdir()
        os.chown(path, AGENT, AGENT)
    os.chown(outside, 0, 0)
    outside.chmod(0o755)
    secret = outside / "secret"
    secret.write_text("secret of root")
    secret.chmod(0o600)
    names = {name: base / name for name in ("target", "directory", "mine", "copy")}
    target, directory = names["target"], names["directory"]
    program, *words = argv.split()
    fields = ", ".join(f"{{path={base}}}" if word[0] == "{" else word for word in words)
    daemon.configure(f"[Filters]\nc: ArgvFilter, {program}, root, {fields}\n")
    daemon.start()
    before = secret.stat()

    def flip_name() -> None:
        replace_with(target, plain)
        replace_with(target, lambda new: os.symlink(secret, new))

    def flip_directory() -> None:
        # An exchange leaves no moment without one of the two.
        new = f"{directory}.{os.getpid()}"
        for path, make in ((directory, os.mkdir), (new, lambda path: os.symlink(outside, path))):
            with contextlib.suppress(OSError):
                make(path)
        exchange(str(directory), new)
        with contextlib.suppress(OSError):
            plain(f"{directory}/secret")

    def flip_entries() -> None:
        for name in ("mine", "secret"):
            with contextlib.suppress(OSError):
                plain(str(base / name))
            with contextlib.suppress(OSError):
                replace_with(directory / name, lambda new: os.symlink(secret, new))

    ran = failed = 0
    with flipping(flip_name, flip_directory, flip_entries), daemon.client() as client:
        end = time.monotonic() + SECONDS / 3
        while time.monotonic() < end or not ran:
            shutil.rmtree(names["copy"], ignore_errors=True)
            names["copy"].unlink(missing_ok=True)
            try:
                done = client.run([word.format(**names, base=base) for word in argv.split()], input=b"x")
                ran, failed = ran + 1, failed + (done.returncode != 0)
                assert b"secret of root" not in done.stdout
            except Denied:
                continue
            for path in (names["copy"] / "secret", names["copy"] / "target", names["copy"]):
                if path.is_file() and not path.is_symlink():
                    assert b"secret of root" not in path.read_bytes()
    print(f"{argv}: {ran} ran, {failed} of them failed")
    after = secret.stat()
    assert (after.st_uid, after.st_mode, after.st_nlink) == (before.st_uid, before.st_mode, before.st_nlink)
    assert sorted(os.listdir(outside)) == ["secret"]
    assert secret.read_text() == "secret of root"


def test_file_flipped_under_a_read(new_daemon: NewDaemon) -> None:
    daemon = new_daemon(start=False)
    directory = daemon.directory / "agent"
    directory.mkdir()
    os.chown(directory, AGENT, AGENT)
    secret = daemon.directory / "secret"
    secret.write_text("root only")
    secret.chmod(0o600)
    target = directory / "readme"
    daemon.configure(
        f"[Filters]\nr: ReadFileFilter, {target}\nnice: ChainingRegExpFilter, nice, root, nice\n"
    )
    daemon.start()

    def flip() -> None:
        replace_with(target, plain)
        replace_with(target, lambda new: os.symlink(secret, new))

    asked = 0
    with flipping(flip), daemon.client() as client:
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            for words in ([], ["nice"]):
                asked += 1
                with contextlib.suppress(Denied):
                    assert b"root only" not in client.run([*words, "cat", str(target)]).stdout
    print(f"{asked} asked")


def test_program_replaced_by_an_upgrade_is_still_found(new_daemon: NewDaemon) -> None:
    daemon = new_daemon(start=False)
    program = daemon.directory / "program"
    shutil.copy("/bin/sleep", program)
    daemon.configure(f"[Filters]\nk: KillFilter, root, {program}, -9\n")
    daemon.start()
    running = subprocess.Popen([program, "1000"])
    try:
        shutil.copy("/bin/sleep", f"{program}.new")
        os.rename(f"{program}.new", program)
        with daemon.client() as client:
            assert client.run(["kill", "-9", str(running.pid)]).returncode == 0
        assert running.wait(60) == -9
    finally:
        running.kill()
        running.wait()


class _Policy:
    """What binding needs of a policy."""

    def __init__(self) -> None:
        self.exec_dirs = ("/usr/bin", "/bin")
        self.owners = frozenset((0,))
        self.no_places: str | None = None
        self.identities: dict[tuple[str, str | None], host.Identity] = {
            ("root", None): users.identity("root")
        }

    def admits(self, peer: object) -> bool:
        return False


#: In a pid namespace of its own: there a number can be given again at will (ns_last_pid), and no other
#: process of this host gets one that somebody waits for.
AGAIN = """
import os, subprocess
from rootwrap_daemon.daemon.run import process
from tests.security.test_races import bound_to
old = subprocess.Popen(["/usr/bin/sleep", "1000"])
while not os.readlink(f"/proc/{old.pid}/exe").endswith("/sleep"):
    pass
bound = bound_to(old.pid)
old.kill()
old.wait()
with open("/proc/sys/kernel/ns_last_pid", "w") as file:
    file.write(str(old.pid - 1))
victim = subprocess.Popen(["/usr/bin/sleep", "1000"])
assert victim.pid == old.pid
done = process.send_signal(bound)
assert (done.returncode, done.stderr) == (1, b"kill: (%d) - No such process\\n" % old.pid), done
assert victim.poll() is None
victim.kill()
print("spared")
"""


def bound_to(pid: int) -> BoundSignal:
    """A signal to this process, as checked."""
    plan = SignalPlan(pid, 9, Program("/usr/bin/sleep"), "root")
    bound = bind.bind(Match("k", Location("f", 1, 1), plan), _Policy())
    assert isinstance(bound, BoundSignal)
    return bound


def test_number_used_again_between_check_and_signal() -> None:
    if not os.access("/proc/sys/kernel/ns_last_pid", os.W_OK):
        pytest.skip("this kernel does not let the next process number be chosen")
    done = subprocess.run(
        ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", AGAIN],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("spared\n", "")


def test_program_flipped_between_look_and_exec(new_daemon: NewDaemon) -> None:
    # The agent owns the directory: whatever lies there is never run, at no moment.
    daemon: Daemon = new_daemon(start=False)
    directory = daemon.directory / "agent"
    directory.mkdir()
    os.chown(directory, AGENT, AGENT)
    program, marker = directory / "program", directory / "ran"
    daemon.configure(f"[Filters]\nx: CommandFilter, {program}, root\n")
    daemon.start()

    def flip() -> None:
        replace_with(program, lambda new: os.symlink("/bin/true", new))

        def script(new: str) -> None:
            with open(new, "x", encoding="utf-8") as file:
                file.write(f"#!/bin/sh\n: > {marker}\n")
            os.chmod(new, 0o755)

        replace_with(program, script)

    with flipping(flip), daemon.client() as client:
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            assert not client.allows([str(program)]).allowed
    assert not marker.exists()
