"""Latency and throughput beside peers, in one interleaved run; ratios, since machines differ and drift.

Run it with `make bench`. Peers: a local subprocess.run, which is what an agent without any barrier would
do, and oslo.rootwrap's daemon with its own client.
"""

import argparse
import contextlib
import getpass
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rootwrap_daemon.client import Client

COMMAND = ["true"]
Call = Callable[[], object]


@contextmanager
def our_daemon(directory: Path, filters: Path, options: str = "") -> Iterator[Client]:
    """The daemon as an operator starts it, with audit records to a file, and further lines of options."""
    config, socket = directory / "daemon.conf", directory / "socket"
    config.write_text(
        f"[DEFAULT]\nfilters_path = {filters}\nsocket_path = {socket}\nallowed_users = {os.geteuid()}\n"
        f"trusted_owners = 0, {65534 if os.path.exists('/proc/self/uid_map') and _in_namespace() else 0}\n"
        f"audit_file = {directory}/audit.jsonl\nsyslog_log_level = ERROR\n{options}"
    )
    config.chmod(0o644)
    daemon = subprocess.Popen(
        [sys.executable, "-I", "-m", "rootwrap_daemon.daemon.main", "--config-file", str(config)]
    )
    try:
        while not socket.exists():
            if daemon.poll() is not None:
                raise SystemExit("the daemon did not start")
            time.sleep(0.01)
        with Client(str(socket)) as client:
            yield client
    finally:
        daemon.terminate()
        daemon.wait()


def _in_namespace() -> bool:
    return Path("/proc/self/uid_map").read_text().split() != ["0", "0", "4294967295"]


@contextmanager
def oslo_rootwrap(directory: Path, filters: Path) -> Iterator[Call]:
    """oslo.rootwrap's daemon, started by its own client."""
    from oslo_rootwrap.client import Client as PeerClient

    config = directory / "rootwrap.conf"
    config.write_text(
        f"[DEFAULT]\nfilters_path={filters}\nexec_dirs=/sbin,/usr/sbin,/bin,/usr/bin\nuse_syslog=False\n"
    )
    start = "import sys; from oslo_rootwrap import cmd; sys.argv[0] = 'oslo-rootwrap-daemon'; cmd.daemon()"
    peer = PeerClient([sys.executable, "-c", start, str(config)])
    try:
        yield lambda: peer.execute(COMMAND)
    finally:
        # The client itself ends its daemon only when it is collected.
        with contextlib.suppress(Exception):
            peer._proxy.shutdown()
        if peer._process is not None:
            peer._process.wait(10)


def local() -> object:
    """What every ratio is to."""
    return subprocess.run(COMMAND, capture_output=True, check=False)


def latencies(calls: dict[str, Call], rounds: int) -> dict[str, list[float]]:
    """Seconds of single calls, one after the other, the ways taking turns."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        for _ in range(20):
            call()
    for _ in range(rounds):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            found[name].append(time.perf_counter() - start)
    return found


def throughput(call: Call, callers: int, seconds: float) -> float:
    """Calls a second of so many threads."""
    counts = [0] * callers
    end = time.perf_counter() + seconds

    def work(index: int) -> None:
        while time.perf_counter() < end:
            call()
            counts[index] += 1

    threads = [threading.Thread(target=work, args=(index,)) for index in range(callers)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.perf_counter() - start)


def main() -> None:
    """Print the two tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=1000, help="single calls of each way")
    parser.add_argument("--callers", type=int, default=16)
    parser.add_argument("--turns", type=int, default=5, help="turns of each way in the throughput table")
    parser.add_argument("--seconds", type=float, default=2.0, help="length of a turn")
    arguments = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="rootwrap-bench-"))
    directory.chmod(0o755)
    filters = directory / "filters.d"
    filters.mkdir(mode=0o755)
    (filters / "bench.filters").write_text(f"[Filters]\ntrue: CommandFilter, true, {getpass.getuser()}\n")
    (filters / "bench.filters").chmod(0o644)
    try:
        with our_daemon(directory, filters) as client, oslo_rootwrap(directory, filters) as peer:
            calls: dict[str, Call] = {
                "subprocess.run": local,
                "rootwrap-daemon": lambda: client.run(COMMAND),
                "oslo.rootwrap": peer,
            }
            _print_latencies(latencies(calls, arguments.rounds))
            _print_throughput(calls, arguments)
    finally:
        shutil.rmtree(directory)


def _print_latencies(found: dict[str, list[float]]) -> None:
    base = statistics.median(found["subprocess.run"])
    print(f"{'one call after the other':26} {'p50 ms':>8} {'p90 ms':>8} {'p50 ratio':>10}")
    for name, values in found.items():
        deciles = statistics.quantiles(values, n=10)
        ratio = statistics.median(values) / base
        print(f"{name:26} {deciles[4] * 1000:8.2f} {deciles[8] * 1000:8.2f} {ratio:10.2f}")


def _print_throughput(calls: dict[str, Call], arguments: argparse.Namespace) -> None:
    rates: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(arguments.turns):
        for name, call in calls.items():
            rates[name].append(throughput(call, arguments.callers, arguments.seconds))
    print(f"{f'{arguments.callers} callers':26} {'calls/s':>8} {'ratio, median of turns':>24}")
    for name, values in rates.items():
        ratio = statistics.median(
            own / base for own, base in zip(values, rates["subprocess.run"], strict=True)
        )
        print(f"{name:26} {statistics.median(values):8.0f} {ratio:24.2f}")


if __name__ == "__main__":
    main()
