"""Look at processes of this machine, and wait for what they and threads of this one do."""

import contextlib
import gc
import glob
import os
import subprocess
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

import pytest


def children_of(pid: int) -> list[int]:
    """Processes whose parent is `pid`, zombies too."""
    found: set[int] = set()
    # Twice: while one of them ends, the kernel may leave another out.
    for task in (*glob.glob(f"/proc/{pid}/task/*/children"), *glob.glob(f"/proc/{pid}/task/*/children")):
        # That of a thread that ends meanwhile is another's.
        with contextlib.suppress(OSError), open(task, "rb", 0) as children:
            found.update(map(int, children.read().split()))
    return sorted(found)


def states_of(pid: int) -> set[str]:
    """The states of its threads, as one letter each (proc_pid_stat(5))."""
    found = set()
    for path in Path(f"/proc/{pid}/task").glob("*/stat"):
        # One that ends meanwhile has none.
        with contextlib.suppress(OSError):
            found.add(path.read_text().rpartition(")")[2].split()[0])
    return found


def links_of(pid: int) -> dict[int, str]:
    """What its descriptors name; one that is closed meanwhile is left out."""
    found = {}
    for name in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(OSError):
            found[int(name)] = os.readlink(f"/proc/{pid}/fd/{name}")
    return found


def is_alive(pid: int) -> bool:
    """True for a process that runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


class Condition(Protocol):
    def __call__(self) -> object: ...


#: Seconds after which what is waited for will not come: for what hangs, not for what is slow.
PATIENCE = 60.0


def wait_for(condition: Condition, seconds: float = PATIENCE) -> None:
    """Wait until it holds; fail after so long."""
    end, pause = time.monotonic() + seconds, 0.001
    while not condition():
        if time.monotonic() > end:
            pytest.fail(f"not within {seconds} s: {condition}")
        # Soon for what is about to hold; what takes long is not looked at all the time.
        time.sleep(pause)
        pause = min(2 * pause, 0.05)


def together(threads: Iterable[threading.Thread]) -> None:
    """Start them all, and wait until all have ended."""
    threads = tuple(threads)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def our_descriptors() -> int:
    """How many this process has open, without those of objects that nobody can reach any more."""
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


def with_words(words: str) -> list[int]:
    """Processes that run and have these words, a pattern of pgrep(1), in their command line.

    A number at their end is a whole one: that of another process may begin with it.
    """
    pattern = f"{words}([^0-9]|$)"
    found = subprocess.run(["pgrep", "-f", pattern], capture_output=True, check=False).stdout.split()
    return [int(pid) for pid in found if is_alive(int(pid))]
