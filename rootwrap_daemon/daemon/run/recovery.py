"""Ends what a daemon that was killed had left running, by the notes that it left.

Promises: whom the notes name is ended only if it is the same process still, which a pidfd and its start time
say.
"""

import logging
import os
import re
import select
import signal
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

LOG = logging.getLogger(__name__)

_PID = re.compile("[1-9][0-9]{0,8}", re.ASCII)
_TICKS: Final = os.sysconf("SC_CLK_TCK")
#: Seconds from a note that a command is about to be started until that command exists: fork(2) on a machine
#: that swaps.
_STARTING: Final = 2
#: Seconds to wait for what got SIGKILL.
_KILL_PATIENCE: Final = 2.0


def boot() -> str:
    """Return what process numbers and start times belong to: this boot, this pid namespace."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return f"{file.read().strip()} {os.stat('/proc/self/ns/pid').st_ino}"


def now() -> int:
    """The time as start times have it: clock ticks since boot."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) * _TICKS // 10**9


def start_time(pid: int) -> int | None:
    """When a process started, in clock ticks since boot; None if there is none, or none can be looked at."""
    fields = _stat(pid)
    return int(fields[19]) if fields else None


def _stat(pid: int) -> list[bytes]:
    """Fields of /proc/PID/stat from the third on; none where there is no process."""
    try:
        descriptor = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return []
    try:
        # The name in parentheses may hold anything; all else follows the last one.
        return os.read(descriptor, 4096).rpartition(b")")[2].split()
    except ProcessLookupError:
        return []
    finally:
        os.close(descriptor)


@dataclass(frozen=True, slots=True)
class _Leftover:
    """A process that leads the group of its number, and a pidfd of it."""

    pid: int
    start: int
    pidfd: int

    def signal_group(self, number: int) -> None:
        # Once the leader has been reaped, whoever is left of its group keeps the number from being given
        # again; were it given, somebody else's process would stand there.
        if start_time(self.pid) in (self.start, None):
            try:
                os.killpg(self.pid, number)
            except ProcessLookupError:
                pass
            except PermissionError:
                LOG.error("process %d was left running, and may not be ended", self.pid)


def end(lines: Iterable[str], grace: float, kill: Callable[[str], None] | None) -> None:
    """End what these notes name and what may not stay; returns when it has ended, or cannot be.

    `grace`: seconds from SIGTERM to SIGKILL. `kill` ends all in a control group, None where there are none.
    Raises OSError when out of descriptors.
    """
    left: list[_Leftover] = []
    groups: list[str] = []
    intended: list[tuple[tuple[str, str], int]] = []
    for line in lines:
        match line.strip("\0 ").split():
            case [] | [_, _, _, "leave", *_] | ["?", _, _, _, "leave", *_]:
                pass
            case ["?", stdout, stderr, ticks, "end", *group] if ticks.isdecimal():
                intended.append(((stdout, stderr), int(ticks)))
                groups += group
            case [pid, after, before, "end", *group] if _PID.fullmatch(pid) and (after + before).isdecimal():
                left += _same(int(pid), int(after), int(before))
                groups += group
            case _:
                LOG.warning("a note of what was running cannot be read: %.100r", line)
    if intended:
        left += _found(intended, {one.pid for one in left})
    if left:
        LOG.warning(
            "left running by the daemon before, to be ended: %s", " ".join(str(one.pid) for one in left)
        )
        _end(left, grace)
    if kill is not None:
        for name in groups:
            kill(name)


def _same(pid: int, after: int, before: int) -> list[_Leftover]:
    """The process of this number that started between these times, if it is still there and runs.

    There is no other such: at the second of these times it had not been waited for, and kept its number.
    """
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return []
    # Only now: from here on the number cannot mean another process without the pidfd saying that it ended.
    start = start_time(pid)
    if start is not None and after <= start <= before and not _have_ended([pidfd], 0):
        return [_Leftover(pid, start, pidfd)]
    os.close(pidfd)
    return []


def _found(intended: list[tuple[tuple[str, str], int]], known: set[int]) -> list[_Leftover]:
    """Those that were about to be started: leaders of a session, started at that time, with those pipes.

    The pipes were made for that one command; who has them as standard output and error is it, or its child.
    """
    found = []
    for name in os.listdir("/proc"):
        if not name.isdecimal() or int(name) in known:
            continue
        pid, fields = int(name), _stat(int(name))
        # Fields 6 and 22: its session, its start.
        if not fields or int(fields[3]) != pid:
            continue
        start = int(fields[19])
        for pipes, ticks in intended:
            if ticks <= start <= ticks + _STARTING * _TICKS and _has_pipes(pid, pipes):
                found += _same(pid, start, start)
                break
    return found


def _has_pipes(pid: int, pipes: tuple[str, str]) -> bool:
    if pipes == ("-", "-"):
        return False
    try:
        return all(
            inode == "-" or os.readlink(f"/proc/{pid}/fd/{number}") == f"pipe:[{inode}]"
            for number, inode in enumerate(pipes, 1)
        )
    except OSError:
        return False


def _end(left: list[_Leftover], grace: float) -> None:
    try:
        for number in (signal.SIGTERM, signal.SIGCONT):
            for one in left:
                one.signal_group(number)
        pidfds = [one.pidfd for one in left]
        _have_ended(pidfds, grace)
        # Those that are left of each group, too: they got SIGTERM with their leader.
        for one in left:
            one.signal_group(signal.SIGKILL)
        if not _have_ended(pidfds, _KILL_PATIENCE):
            LOG.error("not all that was left running could be ended")
    finally:
        for one in left:
            os.close(one.pidfd)


def _have_ended(pidfds: list[int], seconds: float) -> bool:
    """Wait until all of these processes have ended. False if the time was over first."""
    deadline = time.monotonic() + seconds
    poll = select.poll()
    for pidfd in pidfds:
        poll.register(pidfd, select.POLLIN)
    running = len(pidfds)
    while running:
        ready = poll.poll(max(0.0, deadline - time.monotonic()) * 1000)
        if not ready:
            return False
        for pidfd, _ in ready:
            poll.unregister(pidfd)
            running -= 1
    return True
