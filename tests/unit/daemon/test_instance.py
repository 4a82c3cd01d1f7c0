"""daemon/run/instance.py: limits hold over all users and for each, whatever the number of threads."""

import os
import select
import threading
from pathlib import Path

import pytest

from rootwrap_daemon.daemon.record.audit import Audit
from rootwrap_daemon.daemon.run.instance import Instance, Quota, Turns
from rootwrap_daemon.policy import host
from tests.processes import together
from tests.unit.policy import things


def test_a_quota_is_for_all_and_for_each() -> None:
    quota = Quota()
    assert [quota.take(1, 1, 5, 3) for _ in range(4)] == [True, True, True, False]
    assert [quota.take(2, 1, 5, 3) for _ in range(3)] == [True, True, False]
    assert quota.used == 5
    quota.give(1, 3)
    # A reload may have changed the limits meanwhile: the counts stay.
    assert not quota.take(3, 1, 2, 3)
    assert quota.take(3, 8, 10, 8)
    assert not quota.take(3, 1, 20, 8)


@pytest.mark.parametrize("count", [1, 7])
def test_no_count_is_lost(count: int) -> None:
    quota = Quota()
    taken: list[int] = []

    def use(uid: int) -> None:
        for _ in range(3000):
            if quota.take(uid, count, 3 * count, 2 * count):
                taken.append(uid)
                assert quota.used <= 3 * count
                quota.give(uid, count)

    together(threading.Thread(target=use, args=(number % 3,)) for number in range(6))
    assert taken
    assert quota.used == 0
    assert quota.take(0, 2 * count, 3 * count, 2 * count)


def test_one_user_may_buffer_half(tmp_path: Path) -> None:
    instance = Instance(things.policy(tmp_path), Audit("", required=False, owners=host.base_owners()))
    half = instance.policy.settings.max_buffered // 2
    assert instance.buffer(1, half)
    assert not instance.buffer(1, 1)
    assert instance.buffer(2, half)
    assert not instance.buffer(3, 1)
    instance.buffered.give(1, half)
    assert instance.buffer(3, 1)


def test_the_end_of_commands_wakes_who_polls(tmp_path: Path) -> None:
    instance = Instance(things.policy(tmp_path), Audit("", required=False, owners=host.base_owners()))
    assert not select.select([instance.stop_reader], [], [], 0)[0]
    instance.end_commands()
    assert instance.drained
    assert select.select([instance.stop_reader], [], [], 0)[0]
    assert not os.get_inheritable(instance.stop_reader)


def test_turns_are_kept_while_one_of_their_user_is() -> None:
    turns = Turns(1)
    first, second = turns.of(5), turns.of(5)
    assert first.take()
    assert not second.take(0.0)
    del first
    # A queue anew would let this user have one more.
    assert not turns.of(5).take(0.0)
    assert len(turns._users) == 1
    del second
    assert not turns._users
