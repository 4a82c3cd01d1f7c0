"""100 greenthreads each run `sleep 0.2`: total time and the hub's largest stall, as JSON on standard output.

Usage: hub.py WAY SOCKET, where WAY is `patched` (monkey-patched, client.Client), `green`
(client.green.Client) or `subprocess` (eventlet.green.subprocess, without any daemon, for comparison).
"""

import json
import sys
import time
from collections.abc import Callable

import eventlet

COUNT = 100
COMMAND = ["sleep", "0.2"]


def way(name: str, socket: str) -> Callable[[], int]:
    """The call to make; everything is imported and patched before the clock starts."""
    if name == "subprocess":
        from eventlet.green import subprocess

        return lambda: int(subprocess.run(COMMAND, capture_output=True).returncode)
    if name == "patched":
        eventlet.monkey_patch()
        from rootwrap_daemon.client import Client

        client = Client(socket)
    else:
        from rootwrap_daemon.client.green import Client as GreenClient

        client = GreenClient(socket)
    client.run(["true"])
    return lambda: client.run(COMMAND).returncode


def main() -> None:
    call = way(*sys.argv[1:3])
    # What the clock needs must not be the patched one.
    sleep = eventlet.sleep
    late: list[float] = []

    def watch() -> None:
        while True:
            before = time.perf_counter()
            sleep(0.005)
            late.append(time.perf_counter() - before - 0.005)

    watcher = eventlet.spawn(watch)
    sleep(0.05)
    late.clear()
    start = time.perf_counter()
    pool = eventlet.GreenPool(COUNT)
    codes = list(pool.imap(lambda _: call(), range(COUNT)))
    total = time.perf_counter() - start
    watcher.kill()
    print(json.dumps({"total": total, "stall": max(late), "codes": sorted(set(codes)), "calls": len(codes)}))


if __name__ == "__main__":
    main()
