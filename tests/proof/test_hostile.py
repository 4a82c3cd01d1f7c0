"""An honest client is answered, and the daemon keeps nothing, whatever another user does meanwhile.

A short form of `tests.proof.hostile`, which also measures how long the answers take.
"""

import time

import pytest

from tests.processes import wait_for
from tests.proof.hostile import ACTS, asked, calm, hostile, made, threads_of
from tests.real_daemon import NewDaemon

pytestmark = [pytest.mark.root, pytest.mark.timeout(600)]
#: Connections that are idle, and the bound on them.
COUNT, BOUND = 300, 100


def test_every_hostile_act_leaves_the_daemon_as_it_was(new_daemon: NewDaemon) -> None:
    daemon = made(new_daemon, "mixed")
    with daemon.client() as client:
        asked(client, 0)
        first = calm(daemon)
        with hostile(daemon, "mixed", "1") as done:
            end = time.monotonic() + 120
            while not all(done):
                assert time.monotonic() < end, [
                    name for name, count in zip(ACTS, done, strict=True) if not count
                ]
                asked(client, 0)
            asked(client, 1)
        calm(daemon, first)
        asked(client, 0)
    assert "Traceback" not in daemon.log


@pytest.mark.parametrize("kind", ["idle", "bound"])
def test_idle_connections_of_one_user_leave_others_served(new_daemon: NewDaemon, kind: str) -> None:
    """As many as the bounds say have a place, and another user all that it had before."""
    daemon = made(new_daemon, "idle", COUNT if kind == "idle" else BOUND)
    with daemon.client() as client:
        asked(client, 0)
        first = calm(daemon)
        places = COUNT if kind == "idle" else BOUND
        with hostile(daemon, kind, "1", COUNT):
            # Each has a thread, as have the honest client's connection and the daemon.
            wait_for(lambda: threads_of(daemon) == first[1] + 1 + places)
            for _ in range(10):
                asked(client, 0)
                with daemon.client() as fresh:
                    asked(fresh, 0)
        calm(daemon, first)
    assert "Traceback" not in daemon.log
