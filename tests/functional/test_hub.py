"""An eventlet hub goes on while commands run, patched or not."""

import pytest

from tests.real_daemon import Daemon
from tests.unit.client.programs import run_program

#: Each command waits for a word that a greenthread of the same hub gives when all of them have begun: one
#: after the other, or with the hub stopped by any of them, this does not end.
ALL_AT_ONCE = """
    import os, sys
    import eventlet
    way, socket, began, gate = sys.argv[1:]
    if way == "patched":
        eventlet.monkey_patch()
        from rootwrap_daemon.client import Client
    else:
        from rootwrap_daemon.client.green import Client
    client = Client(socket, 100, connect_timeout=60)
    os.mkfifo(gate)
    opened = os.open(gate, os.O_RDWR)

    def let_go():
        while not (os.path.exists(began) and os.path.getsize(began) == 100):
            eventlet.sleep(0.005)
        os.write(opened, b"x\\n" * 100)

    eventlet.spawn(let_go)
    command = ["sh", "-c", f"echo >> {began}; read x < {gate}; exit 3"]
    codes = list(eventlet.GreenPool(100).imap(lambda _: client.run(command).returncode, range(100)))
    print(codes == [3] * 100)
    """


@pytest.mark.parametrize("way", ["patched", "green"])
def test_hundred_at_once(daemon: Daemon, way: str) -> None:
    began, gate = (daemon.directory / name for name in ("began", "gate"))
    assert run_program(ALL_AT_ONCE, way, daemon.socket, began, gate) == "True\n"
