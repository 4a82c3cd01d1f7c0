"""Put each command into a control group of its own, below the one that the service manager delegates.

Promises: nothing is touched but groups that a daemon made there, and no group is removed in which something
runs. Sources: cgroups(7), the kernel's cgroup-v2, systemd's CGROUP_DELEGATION.
"""

import contextlib
import fcntl
import itertools
import os
import re
import time
from collections import deque
from typing import Final

from rootwrap_daemon.daemon.run import shim

#: What says that a group is the service's own, to make others in: `trusted` is for root alone to write.
_DELEGATED: Final = ("trusted.delegate", "user.delegate")
#: Controllers that limit what runs in a group, and the files of its limit: cgroup-v2 of the kernel.
_CONTROLLERS: Final = {"memory": "memory.max", "pids": "pids.max"}
#: A group of a command: the daemon that made it, and a number.
_NAME = re.compile(r"rw\.[0-9]+\.[0-9]+", re.ASCII)
#: Groups of commands that have ended to look at, at once, and seconds until the next are.
_BATCH: Final = 100
_PAUSE: Final = 2.0


class Unavailable(Exception):
    """There are no control groups for commands here; the text says why."""


class Groups:
    """The groups of commands in one directory; one that ends by itself may leave processes in its own.

    `limits`: the controllers that can limit a group.
    """

    def __init__(self, directory: str, lock: int) -> None:
        self._directory = directory
        self._lock = lock
        self.limits = frozenset(filter(self._enabled, _CONTROLLERS))
        self._prefix = f"rw.{os.getpid()}."
        self._next = itertools.count(1)
        self._due = 0.0
        self._to_kill = deque[str]()
        #: Those to be removed once they are empty, of an earlier daemon too.
        self._left = deque(name for name in os.listdir(directory) if _NAME.fullmatch(name))

    def new(self, limits: "dict[str, int] | None" = None) -> str:
        """Make one, in which controllers have these limits. Raises OSError."""
        while True:
            name = f"{self._prefix}{next(self._next)}"
            try:
                os.mkdir(f"{self._directory}/{name}", 0o755)
                break
            except FileExistsError:
                # Of an earlier daemon with the same number.
                continue
        try:
            for controller, most in (limits or {}).items():
                self._write(f"{name}/{_CONTROLLERS[controller]}", b"%d" % most)
                if controller == "memory":
                    # All of the command or nothing; and no way around the limit by swap.
                    self._write(f"{name}/memory.oom.group", b"1")
                    self._write(f"{name}/memory.swap.max", b"0")
        except OSError:
            self.remove(name)
            raise
        return name

    def entrance(self, name: str) -> str:
        """The file that a process writes itself into."""
        return f"{self._directory}/{name}/cgroup.procs"

    def kill(self, name: str) -> None:
        """End all processes in it and below it, those being made too; none if there is no such group."""
        if not _NAME.fullmatch(name):
            return
        try:
            self._write(f"{name}/cgroup.kill", b"1")
        except FileNotFoundError:
            pass
        except OSError:
            # No descriptor or memory just now: what is in it is to end all the same.
            self._to_kill.append(name)

    def used(self, name: str) -> dict[str, float]:
        """Return what all in it have used until now, and at most, as a record has it."""
        found: dict[str, float] = {}
        if (microseconds := self._number(f"{name}/cpu.stat", b"usage_usec ")) is not None:
            found["cpu_milliseconds"] = round(microseconds / 1000, 1)
        if "memory" in self.limits and (peak := self._number(f"{name}/memory.peak", b"")) is not None:
            found["memory_peak_bytes"] = peak
        return found

    def is_exhausted(self, name: str) -> bool:
        """True if its limit of memory has ended processes in it."""
        return "memory" in self.limits and bool(self._number(f"{name}/memory.events", b"oom_kill "))

    def _number(self, path: str, before: bytes) -> int | None:
        """The number behind these bytes at the beginning of a line."""
        try:
            for line in self._read(path).split(b"\n"):
                if line.startswith(before):
                    return int(line[len(before) :])
        except (OSError, ValueError):
            pass
        return None

    def _enabled(self, controller: str) -> bool:
        """True if groups have this controller from now on; not with a process in the directory itself."""
        with contextlib.suppress(OSError):
            self._write("cgroup.subtree_control", f"+{controller}".encode())
            return True
        return False

    def remove(self, name: str) -> None:
        """Remove it: now, or once nothing runs in it."""
        try:
            os.rmdir(f"{self._directory}/{name}")
        except FileNotFoundError:
            pass
        except OSError:
            self._left.append(name)

    def sweep(self) -> None:
        """End what could not be ended, and remove groups that are empty, with those made in them.

        For the thread that accepts, after whatever it does.
        """
        for _ in range(len(self._to_kill)):
            self.kill(self._to_kill.popleft())
        if not self._left or time.monotonic() < self._due:
            return
        self._due = time.monotonic() + _PAUSE
        for _ in range(min(_BATCH, len(self._left))):
            name = self._left.popleft()
            with contextlib.suppress(FileNotFoundError):
                if b"populated 0" not in self._read(f"{name}/cgroup.events"):
                    self._left.append(name)
                    continue
                for directory, _, _ in os.walk(f"{self._directory}/{name}", topdown=False):
                    with contextlib.suppress(OSError):
                        os.rmdir(directory)

    def _read(self, name: str) -> bytes:
        descriptor = os.open(f"{self._directory}/{name}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.read(descriptor, 4096)
        finally:
            os.close(descriptor)

    def _write(self, name: str, data: bytes) -> None:
        descriptor = os.open(f"{self._directory}/{name}", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(descriptor, data)
        finally:
            os.close(descriptor)


def find(wanted: str) -> Groups:
    """The groups of this daemon, if it may and can have some. Raises Unavailable."""
    if wanted == "off":
        raise Unavailable("cgroups = off")
    if shim.native() is None:
        raise Unavailable(f"a command enters one by the native shim, and {shim.NATIVE[-1]} is not there")
    directory, alone = _own_directory()
    if alone and not _is_delegated(directory):
        # The group around it, where the manager puts the daemon into one of its own: DelegateSubgroup=.
        directory = os.path.dirname(directory)
    if not _is_delegated(directory):
        raise Unavailable("the service manager delegates none: the unit has no Delegate=yes")
    try:
        lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        status = os.fstat(lock)
        if status.st_uid != os.geteuid() or status.st_mode & 0o022:
            raise Unavailable(f"others can write in {directory}")
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        groups = Groups(directory, lock)
        probe = groups.new()
        try:
            if not os.path.exists(f"{directory}/{probe}/cgroup.kill"):
                raise Unavailable("the kernel has no cgroup.kill")
        finally:
            groups.remove(probe)
        return groups
    except BlockingIOError:
        raise Unavailable(f"another daemon uses {directory}") from None
    except OSError as error:
        raise Unavailable(f"{directory}: {os.strerror(error.errno or 0)}") from error


def _own_directory() -> tuple[str, bool]:
    """Return the cgroup v2 group that this process is in, and whether nothing else is. Raises Unavailable."""
    try:
        with open("/proc/self/cgroup", encoding="utf-8", errors="surrogateescape") as file:
            path = next(line[3:].rstrip("\n") for line in file if line.startswith("0::"))
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            mounts = [line.split(" ") for line in file if " - cgroup2 " in line]
    except (OSError, StopIteration):
        mounts, path = [], ""
    for fields in mounts:
        # The directory of the file system that is mounted, and where: proc_pid_mountinfo(5).
        root, place = fields[3].rstrip("/"), fields[4]
        if path == root or path.startswith(f"{root}/"):
            directory = place + path[len(root) :].rstrip("/")
            with contextlib.suppress(OSError), open(f"{directory}/cgroup.procs", encoding="ascii") as procs:
                if str(os.getpid()) in (pids := procs.read().split()):
                    return directory, len(pids) == 1
    raise Unavailable("there is no cgroup v2 with this process in it")


def _is_delegated(directory: str) -> bool:
    for name in _DELEGATED:
        with contextlib.suppress(OSError):
            if os.getxattr(directory, name) == b"1":
                return True
    return False
