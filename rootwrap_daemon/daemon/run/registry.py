"""Register the commands that run, with notes that survive a crash of this daemon.

Promises: a command is noted before it is started, at the cost of a few writes to a page of memory; no thread
waits for another.
"""

import contextlib
import fcntl
import itertools
import os
import stat
import time
from collections import deque
from dataclasses import dataclass
from typing import Final

from rootwrap_daemon.daemon.run import recovery
from rootwrap_daemon.daemon.run.cgroups import Groups, Unavailable
from rootwrap_daemon.errors import ConfigurationError, InternalError
from rootwrap_daemon.policy import host

#: Bytes of one note: a line, padded. A write of so few goes whole into the page cache, which outlives this
#: process.
SLOT: Final = 96
#: Bytes of notes to read back: of more commands than can run at once.
_MOST: Final = 65537 * SLOT


class Notes:
    """The file `running` in a directory of this daemon alone: a line for the boot, then one for each command.

    A line is `PID AFTER BEFORE leave|end GROUP`: field 22 of /proc/PID/stat lies between the two, which costs
    less than to read it; GROUP, the name of its control group, is left out without one. Or, until the command
    is started, `? PIPE PIPE AFTER leave|end GROUP`, with the inodes of the pipes that are its standard output
    and error. proc_pid_stat(5).
    """

    def __init__(self, directory: str, owners: frozenset[int]) -> None:
        """Raises ConfigurationError."""
        try:
            parent = host.resolve_owned(os.path.dirname(directory), owners).path
            with contextlib.suppress(FileExistsError):
                os.mkdir(f"{parent}/{os.path.basename(directory)}", 0o700)
            found = host.resolve_owned(directory, owners).path
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            self._descriptor = os.open(f"{found}/running", flags, 0o600)
        except (OSError, host.UntrustedPath) as error:
            raise ConfigurationError(
                f"state_dir: {directory}: {error}: it must be a directory that only root can write"
            ) from error
        try:
            # Another daemon would end what this one runs.
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._descriptor)
            raise ConfigurationError(
                f"state_dir: another daemon uses {directory}: name one for each"
            ) from error
        self._free: deque[int] = deque()
        self._next = itertools.count(1)

    def recover(self, grace: float, groups: Groups | None) -> None:
        """End what the daemon before left running, unless it may stay; `grace` seconds from TERM to KILL.

        `groups`: where control groups are, None without. Begins anew after that. Raises ConfigurationError.
        """
        boot = recovery.boot()
        try:
            lines = os.pread(self._descriptor, _MOST, 0).decode("ascii", "replace").split("\n")
            if lines[0].strip() == boot:
                recovery.end(lines[1:], grace, None if groups is None else groups.kill)
            os.ftruncate(self._descriptor, 0)
            self.write(0, boot)
        except OSError as error:
            raise ConfigurationError(f"state_dir: {error}") from error

    def take(self) -> int:
        """The number of a line that is free. Each step is one of the interpreter's own, so needs no lock."""
        try:
            return self._free.pop()
        except IndexError:
            return next(self._next)

    def give(self, slot: int) -> None:
        """This line is free again."""
        self.write(slot, "")
        self._free.append(slot)

    def write(self, slot: int, text: str) -> None:
        """Let a line say this. Raises OSError."""
        os.pwrite(self._descriptor, text.ljust(SLOT - 1).encode("ascii") + b"\n", slot * SLOT)

    def close(self) -> None:
        os.close(self._descriptor)


@dataclass(slots=True, eq=False)
class Ticket:
    """One command, from before it is started until its end.

    `since`: monotonic seconds. `pid`: 0 until it runs. `leave`: it may outlive this daemon; `left`: and does.
    `limits` of its control group. `group`: the name of that, empty without. `used` by all in it, at the end;
    `exhausted` if its limit of memory ended them.
    """

    filter: str
    uid: int
    leave: bool
    since: float
    notes: Notes | None
    groups: Groups | None = None
    limits: dict[str, int] | None = None
    group: str = ""
    used: dict[str, float] | None = None
    exhausted: bool = False
    pid: int = 0
    slot: int = 0
    after: int = 0
    left: bool = False

    def intend(self, stdout: int, stderr: int) -> None:
        """A process with these descriptors is about to be started. Raises OSError; then none must be."""
        if self.groups is not None:
            self.group = self.groups.new(self.limits)
        if self.notes is not None:
            pipes = " ".join(_pipe(descriptor) for descriptor in (stdout, stderr))
            self.slot = self.notes.take()
            self.after = recovery.now()
            self.notes.write(self.slot, f"? {pipes} {self.after} {self._fate()}")

    def started(self, pid: int) -> None:
        """It is this process, not waited for yet. Where this fails, the note from before will do."""
        self.pid = pid
        if self.notes is not None:
            with contextlib.suppress(OSError):
                self.notes.write(self.slot, f"{pid} {self.after} {recovery.now()} {self._fate()}")

    @property
    def entrance(self) -> str:
        """The file of the control group that a process of it writes itself into, empty without."""
        return self.groups.entrance(self.group) if self.groups is not None and self.group else ""

    def kill(self) -> None:
        """End all processes of the control group, wherever they have gone; nothing without one."""
        if self.groups is not None:
            self.groups.kill(self.group)

    def _fate(self) -> str:
        return f"{'leave' if self.leave else 'end'} {self.group}"


def _pipe(descriptor: int) -> str:
    if descriptor < 0:
        # subprocess.DEVNULL.
        return "-"
    status = os.fstat(descriptor)
    return str(status.st_ino) if stat.S_ISFIFO(status.st_mode) else "-"


class Registry:
    """All commands that run now."""

    def __init__(self, notes: Notes | None = None, groups: Groups | None = None, why_not: str = "") -> None:
        """`why_not`: why there are no control groups."""
        self._notes = notes
        self.groups = groups
        self.why_no_groups = why_not
        self._tickets: set[Ticket] = set()

    def begin(self, name: str, uid: int, *, leave: bool, limits: dict[str, int] | None = None) -> Ticket:
        """A ticket for a command that is about to be started, for `end` to take back.

        `limits`: by the controller of its group that keeps it. Raises InternalError if there is none.
        """
        if limits and (why := self.why_no_limit(limits)):
            raise InternalError("a limit of this filter cannot be kept") from Unavailable(why)
        ticket = Ticket(name, uid, leave, time.monotonic(), self._notes, self.groups, limits)
        self._tickets.add(ticket)
        return ticket

    def why_no_limit(self, limits: dict[str, int]) -> str:
        """Why one of these limits cannot be kept here; empty if they can."""
        if not limits or (self.groups is not None and self.groups.limits.issuperset(limits)):
            return ""
        return self.why_no_groups or "no controller for it below the daemon's control group"

    def end(self, ticket: Ticket) -> None:
        """It has ended, or is left alone: then its note stays."""
        self._tickets.discard(ticket)
        if self.groups is not None and ticket.group:
            ticket.used = self.groups.used(ticket.group)
            ticket.exhausted = bool(ticket.limits) and self.groups.is_exhausted(ticket.group)
            self.groups.remove(ticket.group)
        if self._notes is not None and ticket.slot and not ticket.left:
            with contextlib.suppress(OSError):
                self._notes.give(ticket.slot)

    def snapshot(self) -> list[Ticket]:
        """Those that run, the oldest first."""
        # One step of the interpreter's own: the set cannot change meanwhile.
        return sorted(self._tickets.copy(), key=lambda one: one.since)
