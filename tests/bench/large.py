"""Large input and output beside a local subprocess.run, and what it costs in memory.

Run it with `.venv/bin/python -m tests.bench.large`; LARGE says how many MiB go through passed pipes. It
fails, with exit code 1, where the daemon's memory grew while a command ran on passed pipes.
"""

import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from rootwrap_daemon.client import Client
from tests.bench.ways import our_daemon, pid_of

MIB: Final = 1024 * 1024
LARGE: Final = int(os.environ.get("LARGE", "1024")) * MIB
CAPTURED: Final = 100 * MIB
#: The most that a request carries by itself.
INLINE: Final = 15 * MIB
ROUNDS: Final = 3
#: KiB that the daemon's memory may differ by for other reasons, such as a thread of its own.
NOISE: Final = 4096

FILTERS: Final = (
    "[Filters]\nhead: CommandFilter, head, root\ncat: CommandFilter, cat, root\nwc: CommandFilter, wc, root\n"
)
OPTIONS: Final = f"max_output = {2 * CAPTURED}\nmax_buffered = {16 * CAPTURED}\n"


def memory(pid: int | str, name: str = "VmRSS") -> int:
    """KiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def peak_while(pid: int | str, action: Callable[[], object]) -> int:
    """KiB that the process had at most, beyond what it had before."""
    before = memory(pid)
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    action()
    return memory(pid, "VmHWM") - before


def seconds(action: Callable[[], object]) -> float:
    """How long it takes, the median of a few."""
    spent = []
    for _ in range(ROUNDS):
        start = time.monotonic()
        action()
        spent.append(time.monotonic() - start)
    return statistics.median(spent)


def through_pipes(client: Client, size: int) -> None:
    """From one command to another, on a pipe that the client passes to both."""
    read, write = os.pipe()
    with (
        client.popen(["wc", "-c"], stdin=read, stdout=subprocess.PIPE) as last,
        client.popen(["head", "-c", str(size), "/dev/zero"], stdout=write) as first,
    ):
        os.close(read)
        os.close(write)
        if first.wait() or last.communicate()[0] != b"%d\n" % size:
            raise SystemExit("not all of it arrived")


def through_local_pipes(size: int) -> None:
    """The same without a daemon."""
    with subprocess.Popen(["head", "-c", str(size), "/dev/zero"], stdout=subprocess.PIPE) as first:
        subprocess.run(["wc", "-c"], stdin=first.stdout, stdout=subprocess.DEVNULL, check=True)


def measure(client: Client, pid: int) -> bool:
    """Print the figures. False if the daemon grew where it must not."""
    start = time.monotonic()
    grown = peak_while(pid, lambda: through_pipes(client, LARGE))
    spent = time.monotonic() - start
    print(f"{LARGE // MIB} MiB through passed pipes in {spent:.2f} s; the daemon grew by {grown} KiB at most")
    print(f"  x{spent / seconds(lambda: through_local_pipes(LARGE)):.2f} of the same without a daemon")

    make = ["head", "-c", str(CAPTURED), "/dev/zero"]
    local = seconds(lambda: subprocess.run(make, capture_output=True, check=True))
    print(f"{CAPTURED // MIB} MiB of output, {local:.2f} s by a local subprocess.run:")
    ways: dict[str, Callable[[], object]] = {
        "captured by the daemon": lambda: client.run(make),
        "captured on passed pipes": lambda: client.run(make, capture="pipe"),
    }
    for name, way in ways.items():
        ours, theirs = peak_while("self", way), peak_while(pid, way)
        print(
            f"  {name}: x{seconds(way) / local:.2f}; peaks: client {ours / 1024:.0f} MiB, "
            f"daemon {theirs / 1024:.0f} MiB"
        )

    data = bytes(CAPTURED)
    local = seconds(lambda: subprocess.run(["wc", "-c"], input=data, stdout=subprocess.DEVNULL, check=True))
    print(f"{CAPTURED // MIB} MiB of input, {local:.2f} s by a local subprocess.run:")
    spent = seconds(lambda: client.run(["wc", "-c"], input=data, capture="pipe"))
    print(f"  on passed pipes: x{spent / local:.2f}")
    data = bytes(INLINE)
    local = seconds(lambda: subprocess.run(["wc", "-c"], input=data, stdout=subprocess.DEVNULL, check=True))
    spent = seconds(lambda: client.run(["wc", "-c"], input=data))
    print(f"  {INLINE // MIB} MiB within the request: x{spent / local:.2f}")
    return grown <= NOISE


def main() -> int:
    """Run it in a directory of its own."""
    with tempfile.TemporaryDirectory(prefix="rootwrap-large-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        filters = directory / "filters.d"
        filters.mkdir(mode=0o755)
        (filters / "large.filters").write_text(FILTERS)
        with our_daemon(directory, filters, OPTIONS) as client:
            client.run(["wc"])
            through_pipes(client, MIB)
            return 0 if measure(client, pid_of(directory / "socket")) else 1


if __name__ == "__main__":
    raise SystemExit(main())
