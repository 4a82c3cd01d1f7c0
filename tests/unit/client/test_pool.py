"""Who gets a connection, in what order, and that none is ever lost."""

import random
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from rootwrap_daemon.client import Client, LocalProtocolError
from rootwrap_daemon.client.pool import Pool, Turn
from tests.unit.client.fake_daemon import PATIENCE, FakeDaemon


def take(pool: Pool[str]) -> Turn[str]:
    turn: Turn[str] = Turn(lambda: None)
    pool.enter(turn)
    return turn


def give(pool: Pool[str], turn: Turn[str], connection: str) -> None:
    turn.hold(connection)
    pool.leave(turn)


def test_the_last_used_comes_first() -> None:
    pool: Pool[str] = Pool(3)
    a, b = take(pool), take(pool)
    assert a.granted
    assert a.connection is None
    give(pool, a, "a")
    give(pool, b, "b")
    taken = [take(pool) for _ in range(3)]
    assert [turn.connection for turn in taken] == ["b", "a", None]
    give(pool, taken[0], "b")
    # Leave to make another comes last, whenever it is given back.
    pool.leave(taken[2])
    assert [take(pool).connection for _ in range(2)] == ["b", None]


class Raced(deque[Any]):
    """Looks as if something were in it, which another thread takes before we do. Once."""

    raced = False

    def __bool__(self) -> bool:
        if not self.raced:
            self.raced = True
            return True
        return len(self) > 0


def test_another_thread_took_the_one_that_waited() -> None:
    pool: Pool[str] = Pool(1)
    give(pool, take(pool), "a")
    pool._queue = Raced()
    pool._serve()
    assert take(pool).connection == "a"


def test_another_thread_took_what_was_free() -> None:
    pool: Pool[str] = Pool(1)
    held = take(pool)
    pool._free = Raced()
    waiting = take(pool)
    assert not waiting.granted
    give(pool, held, "a")
    assert waiting.connection == "a"


def test_no_more_than_the_limit_and_first_come_first_served() -> None:
    pool: Pool[str] = Pool(2)
    woken: list[int] = []
    a, b = take(pool), take(pool)
    turns: list[Turn[str]] = [Turn(lambda n=n: woken.append(n)) for n in range(3)]  # type: ignore[misc]
    for turn in turns:
        pool.enter(turn)
    assert not any(turn.granted for turn in turns)
    give(pool, a, "a")
    assert (woken, turns[0].connection) == ([0], "a")
    pool.leave(b)
    assert (woken, turns[1].connection) == ([0, 1], None)
    assert not turns[2].granted


def test_who_stops_waiting_is_passed_over() -> None:
    pool: Pool[str] = Pool(1)
    a, b, c = take(pool), take(pool), take(pool)
    pool.leave(b)
    give(pool, a, "a")
    assert not b.granted or b.connection is None
    assert c.connection == "a"
    pool.leave(c)
    assert take(pool).connection == "a"


def test_closed() -> None:
    pool: Pool[str] = Pool(3)
    a, b = take(pool), take(pool)
    give(pool, a, "a")
    assert pool.close() == ["a"]
    give(pool, b, "b")
    assert pool.close() == ["b"]
    assert pool.close() == []


@pytest.fixture
def restless() -> Iterator[None]:
    """Threads are interrupted as often as can be."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("restless")
def test_none_is_lost_between_threads() -> None:
    """Threads that take, wait, give up and give back in any order leave the pool as it was."""
    limit, held, most = 3, 0, 0
    pool: Pool[str] = Pool(limit)
    count = threading.Lock()
    end = time.monotonic() + 2

    def work(seed: int) -> int:
        nonlocal held, most
        choose, done = random.Random(seed), 0
        # On a busy machine longer, until each had a turn.
        while time.monotonic() < end or not done:
            gate = threading.Lock()
            gate.acquire()
            turn: Turn[str] = Turn(gate.release)
            pool.enter(turn)
            # Some leave without waiting, and some of these have been granted meanwhile.
            if choose.random() < 0.7 and gate.acquire(timeout=PATIENCE):
                assert turn.granted
                with count:
                    held += 1
                    most = max(most, held)
                if choose.random() < 0.5:
                    turn.hold(None)
                elif turn.connection is None:
                    turn.hold(f"{seed}-{done}")
                done += 1
                with count:
                    held -= 1
            pool.leave(turn)
        return done

    with ThreadPoolExecutor(16) as threads:
        done = list(threads.map(work, range(16)))
    assert min(done) > 0
    assert 0 < most <= limit
    turns = [take(pool) for _ in range(limit + 1)]
    assert [turn.granted for turn in turns] == [True] * limit + [False]


@pytest.fixture
def threads() -> ThreadPoolExecutor:
    """Native threads for calls that wait."""
    return ThreadPoolExecutor(64)


def test_connections_are_reused(daemon: FakeDaemon, client: Client) -> None:
    for number in range(20):
        assert client.run(["echo", str(number)]).stdout == str(number).encode()
        assert client.allows(["echo"]).allowed
    assert (daemon.connections, daemon.ran) == (1, 40)


def test_64_threads_share_a_client(daemon: FakeDaemon, path: Path, threads: ThreadPoolExecutor) -> None:
    def work(number: int) -> None:
        for turn in range(20):
            word = f"{number}-{turn}"
            assert client.run(["echo", word], text=True).stdout == word

    with Client(path, 8, connect_timeout=PATIENCE) as client:
        list(threads.map(work, range(64)))
    assert daemon.ran == 64 * 20
    assert daemon.connections <= 8


def test_never_more_commands_than_connections(
    daemon: FakeDaemon, path: Path, threads: ThreadPoolExecutor
) -> None:
    with Client(path, 3, connect_timeout=PATIENCE) as client:
        calls = [threads.submit(client.run, ["wait", str(n)]) for n in range(10)]
        for _ in range(3):
            assert daemon.began.acquire(timeout=PATIENCE)
        assert not daemon.began.acquire(timeout=0.2)
        daemon.go_on()
        assert {call.result(PATIENCE).stdout for call in calls} == {b"%d" % n for n in range(10)}
    assert (daemon.most, daemon.connections) == (3, 3)


def begin(daemon: FakeDaemon, threads: ThreadPoolExecutor, call: Callable[[], object]) -> Future[object]:
    """A call whose command runs now."""
    future = threads.submit(call)
    assert daemon.began.acquire(timeout=PATIENCE)
    return future


def test_close(daemon: FakeDaemon, path: Path, threads: ThreadPoolExecutor) -> None:
    """Idle connections end at once, running commands in their time, and nothing new begins."""
    client = Client(path, 2, connect_timeout=PATIENCE)
    running = begin(daemon, threads, lambda: client.run(["wait", "x"]))
    client.run(["echo"])
    assert len(client._calls.connections.open) == 2
    also = begin(daemon, threads, lambda: client.run(["wait", "y"]))
    waiting = threads.submit(client.run, ["echo"])
    client.close()
    with pytest.raises(LocalProtocolError, match="closed"):
        waiting.result(PATIENCE)
    with pytest.raises(LocalProtocolError, match="closed"):
        client.run(["echo"])
    assert not (running.done() or also.done())
    daemon.go_on()
    running.result(PATIENCE)
    also.result(PATIENCE)
    assert not client._calls.connections.open
    client.close()
    assert daemon.ran == 3


def test_idle_connections_end_with_close(daemon: FakeDaemon, client: Client) -> None:
    with client:
        client.run(["echo"])
        assert len(client._calls.connections.open) == 1
    assert not client._calls.connections.open
    daemon.stop()
