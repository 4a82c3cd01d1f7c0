"""Hold many connections to a daemon, and see that others are served meanwhile."""

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator

from rootwrap_daemon.client import Client
from tests.real_daemon import Daemon

#: Holds so many connections until it is killed.
_FLOOD = """
import resource, socket, sys
path, count = sys.argv[1], int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_NOFILE, (count + 100, count + 100))
held = []
for _ in range(count):
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(path)
    held.append(connection)
print("held", flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def flood(daemon: Daemon, count: int, uid: int | None = None) -> Iterator[None]:
    """Another process holds `count` idle connections; as `uid`, if given."""
    identity = {"user": uid, "group": uid, "extra_groups": []} if uid is not None else {}
    # The interpreter of the tests may lie where another user cannot execute it.
    python = "/usr/bin/python3" if uid is not None else sys.executable
    process = subprocess.Popen(
        [python, "-c", _FLOOD, daemon.socket, str(count)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        **identity,  # type: ignore[call-overload]
    )
    try:
        assert process.stdout.readline() == b"held\n"
        yield
    finally:
        process.kill()
        process.communicate()


def is_idle(daemon: Daemon) -> bool:
    """True if it does not spin: what it uses in a second when it does nothing is not measurable in ticks."""
    used = daemon.cpu_seconds()
    time.sleep(1)
    return daemon.cpu_seconds() - used < 0.1


def calls_go_on(daemon: Daemon, client: Client, times: int = 5) -> None:
    """Each of these calls is answered: half of them on the client's connection, half on a new one."""
    for _ in range(times):
        assert client.run(["true"], timeout=60).returncode == 0
        with daemon.client() as fresh:
            assert fresh.run(["true"], timeout=60).returncode == 0
