"""Pour each kind of message over many connections of one user, and measure what another user waits.

Run it as root with `.venv/bin/python -m tests.bench.floods [KIND...]`; FLOOD says the seconds of each kind.
`kept`: a check on a connection that is kept; `fresh`: connect, hello and a check. `gap`: the longest time
between two signs of life to a service manager, which wants one each second and so gets two.
"""

import contextlib
import os
import socket
import statistics
import struct
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from typing import Final

from rootwrap_daemon.protocol.messages import Check
from tests.real_daemon import HELLO, Daemon, daemons
from tests.security.test_turns import AGENT, ARRIVALS, FLOODS, agents, flood, many
from tests.wire import Wire

SECONDS: Final = float(os.environ.get("FLOOD", "5"))
CONNECTIONS: Final = 500
#: Microseconds of the service manager's patience.
WATCHDOG: Final = 1_000_000


def lingering(path: str) -> None:
    """As `many`, each with a socket of which close(2) waits."""
    many(path, lambda connection: socket.send_fds(connection, [HELLO], [_lingering()]))


def _lingering() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        ours = socket.create_connection(server.getsockname())
        server.accept()[0].detach()
    ours.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            ours.send(bytes(1 << 20))
    ours.setblocking(True)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 60))
    return ours.detach()


KINDS: Final[dict[str, Callable[[str], None]]] = {
    "nothing": lambda path: time.sleep(3600),
    **ARRIVALS,
    "many, each with a lingering socket": lingering,
}


@contextlib.contextmanager
def pouring(daemon: Daemon, kind: str) -> Iterator[None]:
    if kind in FLOODS:
        with flood(daemon, kind, CONNECTIONS):
            yield
    else:
        with contextlib.ExitStack() as stack:
            for _ in range(4):
                stack.enter_context(agents(KINDS[kind], daemon.socket))
            yield


class Manager:
    """A service manager that listens for signs of life."""

    def __init__(self, directory: str) -> None:
        self.path = f"{directory}/notify"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.path)
        self.gap = 0.0
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        last = None
        while True:
            if b"WATCHDOG=1" in self._socket.recv(4096):
                now = time.monotonic()
                self.gap = max(self.gap, now - (last or now))
                last = now


def arriving(path: str) -> Wire:
    """A connection, for which this waits where so many wait already that the kernel takes no more."""
    while True:
        try:
            return Wire(path)
        except BlockingIOError:
            time.sleep(0.001)


def measured(daemon: Daemon) -> tuple[list[float], list[float]]:
    """Milliseconds of a check on a kept connection, and on a fresh one."""
    check = Check((b"true",), ())
    kept: list[float] = []
    fresh: list[float] = []
    with arriving(daemon.socket) as wire:
        wire.greet(check)
        wire.answer()
        until = time.monotonic() + SECONDS
        while time.monotonic() < until or len(fresh) < 5:
            start = time.perf_counter()
            wire.send(check)
            assert wire.answer() is not None
            middle = time.perf_counter()
            with arriving(daemon.socket) as new:
                new.greet(check)
                assert new.answer() is not None
            kept.append((middle - start) * 1000)
            fresh.append((time.perf_counter() - middle) * 1000)
            time.sleep(0.002)
    return kept, fresh


def both(values: list[float]) -> str:
    return f"{statistics.median(values):9.1f} {statistics.quantiles(values, n=100)[98]:9.1f}"


def main(wanted: list[str]) -> None:
    heads = "kept p50", "p99", "fresh p50", "p99", "gap", "asked"
    print(f"{'milliseconds':34} {' '.join(f'{head:>9}' for head in heads)}")
    with daemons() as new, tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        daemon = new(start=False, allowed_users=f"root, {AGENT}", signals="TERM, USR1", socket_mode="0666")
        manager = Manager(directory)
        daemon.environ |= {"NOTIFY_SOCKET": manager.path, "WATCHDOG_USEC": str(WATCHDOG)}
        daemon.start()
        for kind in wanted or [*KINDS, *FLOODS]:
            manager.gap = 0.0
            with pouring(daemon, kind):
                time.sleep(0.5)
                kept, fresh = measured(daemon)
            figures = f"{both(kept)} {both(fresh)} {manager.gap * 1000:9.0f} {len(kept):9}"
            print(f"{kind:34} {figures}", flush=True)
            time.sleep(1)
        if "Traceback" in daemon.log:
            sys.exit(daemon.log)


if __name__ == "__main__":
    main(sys.argv[1:])
