"""An honest client is answered, and the daemon keeps nothing, whatever another user does meanwhile.

A short form of `tests.proof.hostile`, which also measures how long the answers take.
"""

import contextlib
import time

import pytest

from tests.processes import wait_for
from tests.proof.alive import Alive, alive, stays
from tests.proof.hostile import ACTS, asked, calm, hostile, made, threads_of
from tests.real_daemon import NewDaemon

pytestmark = [pytest.mark.root, pytest.mark.timeout(600)]
#: Connections that are idle, and the bound on them.
COUNT, BOUND = 300, 100
#: Connections whose blocks are counted.
COUNTED = 40


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


def test_what_lives_in_a_daemon_is_counted(new_daemon: NewDaemon) -> None:
    daemon = made(new_daemon, "bound")
    with daemon.client() as client:
        for _ in range(100):
            asked(client, 0)
        first = calm(daemon)
        counts = [alive(daemon)]
        with contextlib.ExitStack() as stack:
            for _ in range(COUNTED):
                asked(stack.enter_context(daemon.client()), 0)
            counts.append(alive(daemon))
        calm(daemon, first)
        counts.append(alive(daemon))
    more, left = (one.blocks - counts[0].blocks for one in counts[1:])
    # A connection takes about 50 blocks, and gives them back.
    assert more > 20 * COUNTED
    assert left < 5 * COUNTED


def test_what_stays_is_told_from_what_varies() -> None:
    # Of a run of 10 minutes.
    seen = [88257, 88249, 88248, 88252, 88266, 88265, 88253, 88221, 88211, 88186, 88193, 88205, 88212, 88217]
    taken = [3887, 3913, 3910, 3906, 3946, 3961, 3954, 3904, 3928, 3964, 3963, 3913, 3921, 3917]
    counts = [Alive(blocks, kib * 1000, 0) for blocks, kib in zip(seen, taken, strict=True)]
    assert not stays(counts)
    assert not stays([*counts[:-1], Alive(140_000, 9_000_000, 0)])
    size = 1_000_000 // len(counts)
    small = [one._replace(blocks=one.blocks + number * size // 512) for number, one in enumerate(counts)]
    large = [one._replace(bytes=one.bytes + number * size) for number, one in enumerate(counts)]
    assert "blocks more" in stays(small)[0]
    assert "bytes more" in stays(large)[0]
