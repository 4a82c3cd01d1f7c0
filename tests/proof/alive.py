"""Ask a daemon what lives in it, which its RSS cannot tell: that holds what is free in arenas still in use.

The daemon knows nothing of it. It is started by the interpreter of a virtual environment of its own, where a
.pth file has SIGUSR2 count.
"""

import json
import os
import signal
import statistics
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from tests.processes import wait_for
from tests.real_daemon import Daemon

#: How many blocks more than before, and bytes from malloc(3), are none that stay: from one time to another
#: that 5 minutes lie between, a leak of 1 MB in 10 minutes leaves 1000 blocks of 512 bytes, the largest, or
#: 500 KB. What a daemon has without one was seen to vary by 100 blocks and 60 KB.
BLOCKS: Final = 500
BYTES: Final = 256 * 1024

_COUNT: Final = """\
import ctypes, gc, json, os, signal, sys


class Info(ctypes.Structure):
    # mallinfo(3)
    names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
    _fields_ = [(name, ctypes.c_size_t) for name in names.split()]


info = ctypes.CDLL(None).mallinfo2
info.restype = Info


def count(number, frame):
    garbage, now = gc.collect(), info()
    with open({path!r} + ".new", "w") as file:
        json.dump([sys.getallocatedblocks(), now.uordblks + now.hblkhd, garbage], file)
    os.rename({path!r} + ".new", {path!r})


signal.signal(signal.SIGUSR2, count)
"""


class Alive(NamedTuple):
    """Python's own blocks, of at most 512 bytes, and bytes from malloc(3), once the collector has been.

    `garbage`: the objects that it found, which held each other.
    """

    blocks: int
    bytes: int
    garbage: int


def start(daemon: Daemon) -> Daemon:
    """Start it so that it can be asked."""
    venv = daemon.directory / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    (site,) = venv.glob("lib/python*/site-packages")
    (site / "count.py").write_text(_COUNT.format(path=str(daemon.directory / "alive")))
    paths = [str(Path(__file__).parents[2]), sysconfig.get_path("purelib")]
    (site / "count.pth").write_text("\n".join([*paths, "import count"]))
    # It takes the place of the interpreter that the next word names.
    daemon.inside = ["sh", "-c", 'shift; exec "$0" "$@"', str(venv / "bin" / "python")]
    daemon.start()
    return daemon


def alive(daemon: Daemon) -> Alive:
    """What it has now; not while its clients work."""
    path = daemon.directory / "alive"
    path.unlink(missing_ok=True)
    os.kill(daemon.pid, signal.SIGUSR2)
    wait_for(path.exists)
    return Alive(*json.loads(path.read_text()))


def grown(values: Sequence[int]) -> float:
    """How much more the last quarter has than the second, which no single value decides."""
    quarter = max(1, len(values) // 4)
    return statistics.median(values[-quarter:]) - statistics.median(values[quarter : 2 * quarter])


def stays(counts: Sequence[Alive]) -> list[str]:
    """Return what a daemon keeps for good, by what it had after each period."""
    found = []
    for name, values, most in (
        ("blocks", [one.blocks for one in counts], BLOCKS),
        ("bytes", [one.bytes for one in counts], BYTES),
    ):
        if (more := grown(values)) > most:
            found.append(f"{more:g} {name} more are alive than after the second quarter: {values}")
    return found
