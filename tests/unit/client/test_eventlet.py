"""With eventlet, patched in each way that there is and not at all: others go on while one waits."""

import socket
from pathlib import Path
from threading import Thread

import pytest

from tests.unit.client.fake_daemon import PATIENCE, FakeDaemon
from tests.unit.client.programs import run_program

#: How a program comes to a client. Each is told the path and the number of connections.
WAYS = {
    "patched first": """
        import eventlet; eventlet.monkey_patch()
        from rootwrap_daemon.client import Client
        """,
    "patched after the import": """
        from rootwrap_daemon.client import Client
        import eventlet; eventlet.monkey_patch()
        """,
    "patched after the client was made and used": """
        from rootwrap_daemon.client import Client
        import sys
        made = Client(sys.argv[1], int(sys.argv[2]), connect_timeout=60)
        made.run(["echo"])
        import eventlet; eventlet.monkey_patch()
        Client = lambda *_, **__: made
        """,
    "green, not patched": """
        import eventlet
        from rootwrap_daemon.client.green import Client
        import socket, threading
        assert type(threading.Lock()).__module__ == "_thread" and socket.socket.__module__ == "socket"
        """,
    "green, patched": """
        import eventlet; eventlet.monkey_patch()
        from rootwrap_daemon.client.green import Client
        """,
}
ways = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())

#: Begins a ticker that counts how often the hub came round, and `calls` of a command that waits.
BEGIN = """
import sys
client = Client(sys.argv[1], int(sys.argv[2]), connect_timeout=60)
ticks = 0
def tick():
    global ticks
    while True:
        ticks += 1
        eventlet.sleep(0.01)
eventlet.spawn(tick)
calls = [eventlet.spawn(client.run, ["wait", str(n)]) for n in range(int(sys.argv[3]))]
"""


def program(way: str, rest: str) -> str:
    lines = [line.strip() for line in way.strip().splitlines()]
    return "\n".join(lines) + BEGIN + rest


@ways
def test_200_greenthreads_at_once(daemon: FakeDaemon, path: Path, way: str) -> None:
    """All 200 commands run at the same time, which only a hub that goes on can bring about."""

    def on_all() -> None:
        for _ in range(200):
            assert daemon.began.acquire(timeout=PATIENCE)
        daemon.go_on()

    thread = Thread(target=on_all, daemon=True)
    thread.start()
    out = run_program(
        program(
            way,
            """
assert [call.wait().stdout for call in calls] == [b"%d" % n for n in range(200)]
assert ticks > 1
client.close()
print("done")
""",
        ),
        path,
        256,
        200,
    )
    thread.join()
    assert out == "done\n"
    assert daemon.most == 200
    # One of the ways has used a connection before.
    assert daemon.connections in (200, 201)


@ways
def test_more_greenthreads_than_connections(daemon: FakeDaemon, path: Path, way: str) -> None:
    daemon.go_on()
    out = run_program(
        program(
            way,
            """
for round in range(3):
    assert [call.wait().stdout for call in calls] == [b"%d" % n for n in range(200)]
    calls = [eventlet.spawn(client.run, ["wait", str(n)]) for n in range(200)]
for call in calls[::2]:
    call.kill()
assert [call.wait().stdout for call in calls[1::2]] == [b"%d" % n for n in range(1, 200, 2)]
print("done")
""",
        ),
        path,
        7,
        200,
    )
    assert out == "done\n"
    assert daemon.most <= 7


@ways
def test_a_killed_greenthread_ends_its_command(daemon: FakeDaemon, path: Path, way: str) -> None:
    def after_it_went() -> None:
        assert daemon.began.acquire(timeout=PATIENCE)
        assert daemon.went.acquire(timeout=PATIENCE)
        daemon.go_on()

    thread = Thread(target=after_it_went, daemon=True)
    thread.start()
    out = run_program(
        program(
            way,
            """
import os
while not os.path.exists(os.path.dirname(sys.argv[1]) + "/began"):
    eventlet.sleep(0.01)
calls[0].kill()
print(client.run(["wait", "after"]).stdout, len(client._calls.connections.open))
""",
        ),
        path,
        1,
        1,
    )
    thread.join()
    assert out == "b'after' 1\n"


@ways
def test_a_full_queue_does_not_stop_the_hub(path: Path, way: str) -> None:
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as waiting:
        listener.bind(str(path))
        listener.listen(0)
        waiting.connect(str(path))
        out = run_program(
            # The client of one of the ways is used before.
            program(way, "").replace('made.run(["echo"])', "")
            + """
from rootwrap_daemon.client import DaemonUnavailable
call = eventlet.spawn(client.run, ["echo"])
# As long as it waits, the hub goes round: it is given no time at which to be done.
client._calls._connect_timeout = 3600
ticks = 0
while ticks < 5:
    eventlet.sleep(0.01)
print(bool(call))
call.kill()
client._calls._connect_timeout = 0.1
try:
    client.run(["echo"])
except DaemonUnavailable as error:
    print("stayed full" in str(error))
""",
            path,
            1,
            0,
        )
    assert out == "True\nTrue\n"


@pytest.mark.parametrize("way", [WAYS["patched first"], WAYS["green, not patched"]], ids=["patched", "green"])
def test_native_threads_with_hubs_of_their_own(daemon: FakeDaemon, path: Path, way: str) -> None:
    """One client shared by the main thread's hub and those of eventlet.tpool, with connections scarce."""
    daemon.go_on()
    out = run_program(
        program(
            way,
            """
from eventlet import tpool
def many(n):
    return [client.run(["wait", f"{n}-{m}"], text=True).stdout for m in range(25)]
native = [eventlet.spawn(tpool.execute, many, n) for n in range(8)]
greens = [eventlet.spawn(many, n) for n in range(8, 16)]
for n, thread in enumerate(native + greens):
    assert thread.wait() == [f"{n}-{m}" for m in range(25)]
for call in calls:
    call.wait()
client.close()
print("done")
""",
        ),
        path,
        4,
        8,
    )
    assert out == "done\n"
    assert daemon.most <= 4
