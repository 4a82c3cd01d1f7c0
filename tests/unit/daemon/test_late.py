"""daemon/serve/late.py: who waits for a directory, how many may, and how often one is asked."""

import select
import socket
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from rootwrap_daemon.daemon.request import Peer
from rootwrap_daemon.daemon.serve import late
from rootwrap_daemon.daemon.serve.late import Found, Latecomers
from rootwrap_daemon.policy import host
from rootwrap_daemon.policy import late as names
from rootwrap_daemon.policy.policy import Policy
from tests.unit.policy import things

NAME = ("allowed_users", "agent")


class Directory:
    """A directory of users that answers when it is told to, and counts."""

    def __init__(self) -> None:
        self.known: dict[str, int] = {}
        self.asked = 0
        self.answers = threading.Event()
        self.answers.set()

    def number(self, name: str) -> int:
        self.asked += 1
        assert self.answers.wait(60)
        return self.known[name]


@pytest.fixture
def directory(monkeypatch: pytest.MonkeyPatch) -> Directory:
    made = Directory()
    monkeypatch.setattr(host, "user_number", made.number)
    return made


@pytest.fixture
def policy(tmp_path: Path) -> Policy:
    return replace(things.policy(tmp_path), late=frozenset({NAME}))


class Door:
    """A queue with what came out of it."""

    def __init__(self) -> None:
        self.came: list[tuple[int, Found]] = []
        self.queue = Latecomers()

    def knock(self, uid: int, policy: Policy) -> bool:
        connection = socket.socket(socket.AF_UNIX)
        if self.queue.look(connection, Peer(1, uid, uid, ()), policy):
            return True
        connection.close()
        return False

    def wait(self, count: int) -> list[tuple[int, Found]]:
        while len(self.came) < count:
            ready, _, _ = select.select([self.queue.descriptor], [], [], 60)
            assert ready
            for connection, peer, found in self.queue.looked_up():
                connection.close()
                self.came.append((peer.uid, found))
        return self.came


def test_found_when_he_comes(directory: Directory, policy: Policy) -> None:
    door = Door()
    assert door.knock(4711, policy)
    assert door.wait(1) == [(4711, None)]
    directory.known["agent"] = 4712
    assert door.knock(4712, policy)
    assert door.wait(2)[1] == (4712, NAME)
    # His number may be another's by the next time.
    directory.known["agent"] = 4713
    assert door.knock(4712, policy)
    assert door.wait(3)[2] == (4712, None)


def test_a_stranger_costs_one_question_a_while(directory: Directory, policy: Policy) -> None:
    door = Door()
    now = [1000.0]
    clock = pytest.MonkeyPatch()
    clock.setattr(late, "monotonic", lambda: now[0])
    try:
        assert door.knock(4711, policy)
        door.wait(1)
        assert not any(door.knock(4711, policy) for _ in range(100))
        assert directory.asked == 1
        now[0] += 1.1
        assert door.knock(4711, policy)
        door.wait(2)
    finally:
        clock.undo()


def test_no_one_user_has_all_places(directory: Directory, policy: Policy) -> None:
    directory.answers.clear()
    door = Door()
    assert sum(door.knock(4711, policy) for _ in range(100)) == 8
    assert door.knock(4712, policy)
    # Nobody waits beyond the bound, whoever it is.
    others = sum(door.knock(uid, policy) for uid in range(5000, 5200))
    assert 50 <= others <= 64
    directory.answers.set()
    assert len(door.wait(8 + 1 + others)) == 9 + others


def test_a_policy_with_numbers_alone_asks_nobody(directory: Directory, policy: Policy) -> None:
    fixed = replace(policy, late=frozenset())
    assert not Door().knock(4711, fixed)
    assert directory.asked == 0


def test_a_directory_that_fails_ends_nothing(
    directory: Directory, policy: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    door = Door()
    with monkeypatch.context() as patch:
        patch.setattr(names, "find", lambda *_: (_ for _ in ()).throw(OSError("no descriptor")))
        assert door.knock(4711, policy)
        assert door.wait(1) == [(4711, None)]
    directory.known["agent"] = 4712
    assert door.knock(4712, policy)
    assert door.wait(2)[1] == (4712, NAME)
