"""Let one thread of a server run at a time, to where it next waits, and move its clock by hand.

The serving code gives its user's turn back before it waits and takes it again behind that. Here a turn is
granted by name: what the kernel, other threads and clients do between two of them is the test's choice.
"""

import contextlib
import os
import platform
import select
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

#: System calls in which a thread waits for what is outside, by machine: recvmsg, recvfrom, poll, ppoll,
#: sendto, sendmsg.
_WAITING: Final = {"x86_64": {47, 45, 7, 271, 44, 46}, "aarch64": {212, 207, 73, 206, 211}}.get(
    platform.machine(), set()
)
SUPPORTED: Final = bool(_WAITING)
#: Seconds after which a thread that neither waits nor asks for a turn hangs.
_PATIENCE: Final = 60.0


class Scheduler:
    """The threads that want to go on, and a clock."""

    def __init__(self, outside: Callable[[], bool]) -> None:
        """`outside`: True once what is no thread of this process waits, too."""
        self._outside = outside
        self.now = 1000.0
        self._arrived: dict[int, threading.Event] = {}
        self._answers: dict[int, bool] = {}
        self._patient: dict[int, bool] = {}
        self.polls: weakref.WeakSet[ScriptedPoll] = weakref.WeakSet()
        self._free = False
        self._ours = set(os.listdir("/proc/self/task"))

    # What the server calls.

    def monotonic(self) -> float:
        return self.now

    def arrive(self, *, patient: bool = True) -> bool:
        """Wait to be granted; False if the patience is over before. `patient`: it has no end."""
        if self._free:
            return True
        me, event = threading.get_native_id(), threading.Event()
        self._patient[me] = patient
        self._arrived[me] = event
        event.wait()
        return self._answers.pop(me)

    # What the test calls.

    def waiting(self) -> list[int]:
        """Threads that want to go on, the oldest first."""
        return sorted(self._arrived)

    def is_patient(self, thread: int) -> bool:
        return self._patient[thread]

    def grant(self, thread: int, *, granted: bool = True) -> None:
        """Let a thread run until it waits again."""
        self._answers[thread] = granted
        self._arrived.pop(thread).set()
        self.settle()

    def advance(self, seconds: float) -> None:
        """Let this time pass."""
        self.now += seconds
        for poll in list(self.polls):
            poll.wake()
        self.settle()

    def free(self) -> None:
        """Let all threads run as they like from now on."""
        self._free = True
        for thread in self.waiting():
            self._answers[thread] = True
            self._arrived.pop(thread).set()

    def settle(self) -> None:
        """Wait until every thread of the server waits, for the outside or to be granted."""
        end = time.monotonic() + _PATIENCE
        quiet = 0
        while quiet < 2:
            others = set(os.listdir("/proc/self/task")) - self._ours
            still = self._outside() and all(self._is_settled(int(one)) for one in others)
            still = still and all(poll.is_waiting() for poll in list(self.polls))
            quiet = quiet + 1 if still else 0
            if time.monotonic() > end:
                raise AssertionError(f"threads that neither wait nor ask: {others}")
            time.sleep(0 if quiet else 0.0005)

    def wait_for_end(self) -> None:
        """Wait until no thread of the server is left."""
        end = time.monotonic() + _PATIENCE
        gone = 0
        # One look at this directory may miss a thread while others end.
        while gone < 3:
            left = set(os.listdir("/proc/self/task")) - self._ours
            gone = 0 if left else gone + 1
            assert time.monotonic() < end, f"threads are left: {left}"
            self.now += 1.0
            for poll in list(self.polls):
                poll.wake()
            time.sleep(0.001)

    def _is_settled(self, thread: int) -> bool:
        if thread in self._arrived:
            return True
        try:
            task = Path(f"/proc/self/task/{thread}")
            if task.joinpath("stat").read_text().rpartition(")")[2].split()[0] != "S":
                return False
            number = task.joinpath("syscall").read_text().split()[0]
        except (OSError, ProcessLookupError):
            # It has ended.
            return True
        # What it waits for may have come: then it waits for the interpreter, in futex(2), or runs.
        return number.isdigit() and int(number) in _WAITING


class ScriptedTurn:
    """In place of daemon.run.instance.Turn."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._held = False

    def take(self, patience: float | None = None) -> bool:
        if not self._held:
            self._held = self._scheduler.arrive(patient=patience is None)
        return self._held

    def give(self) -> None:
        self._held = False

    @contextlib.contextmanager
    def given(self) -> Iterator[None]:
        self.give()
        try:
            yield
        finally:
            self.take()


class ScriptedTurns:
    """In place of daemon.run.instance.Turns."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler

    def of(self, uid: int) -> ScriptedTurn:
        return ScriptedTurn(self._scheduler)


class ScriptedPoll:
    """As select.poll, but its timeout is over when the scheduler's clock says so."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._events: dict[int, int] = {}
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._inside = False
        scheduler.polls.add(self)

    def register(self, descriptor: int, events: int) -> None:
        self._events[descriptor] = events

    modify = register

    def unregister(self, descriptor: int) -> None:
        del self._events[descriptor]

    def wake(self) -> None:
        os.eventfd_write(self._wake, 1)

    def _looked(self, milliseconds: int | None, *more: int) -> list[tuple[int, int]]:
        poll = select.poll()
        for descriptor, events in [*self._events.items(), *((one, select.POLLIN) for one in more)]:
            poll.register(descriptor, events)
        return poll.poll(milliseconds)

    def is_waiting(self) -> bool:
        """False while something is there that its thread has not noticed yet."""
        return not self._inside or not self._looked(0)

    def poll(self, milliseconds: float) -> list[tuple[int, int]]:
        end = self._scheduler.now + milliseconds / 1000
        self._inside = True
        try:
            while True:
                ready = self._looked(None, self._wake)
                with contextlib.suppress(BlockingIOError):
                    os.eventfd_read(self._wake)
                ready = [one for one in ready if one[0] != self._wake]
                if ready or self._scheduler.now >= end:
                    return ready
        finally:
            self._inside = False

    def __del__(self) -> None:
        os.close(self._wake)


class Module:
    """A module, some of whose names are others."""

    def __init__(self, real: Any, **others: Any) -> None:
        self._real = real
        self.__dict__.update(others)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)
