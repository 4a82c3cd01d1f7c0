"""A signal has a reload: one at a time, and one that waits for all that come meanwhile."""

import os
import signal
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from rootwrap_daemon.daemon.serve import main
from rootwrap_daemon.errors import ConfigurationError
from tests.processes import wait_for


def reaction(read: Any) -> tuple[Callable[[], bool], Any, SimpleNamespace]:
    """What SIGHUP does to one, it, and its instance; `read` takes the place of the reader."""
    instance = SimpleNamespace(policy=SimpleNamespace(generation=1), reload=None)
    reader, writer = os.pipe()
    signals: Any = SimpleNamespace(descriptor=reader)
    manager: Any = SimpleNamespace(notify=lambda **what: None)
    given: Any = instance
    one = main._Reaction(signals, given, read, manager)

    def hear() -> bool:
        os.write(writer, bytes((signal.SIGHUP,)))
        return one.on_signal()

    return hear, one, instance


def test_one_waits_for_all_that_come_meanwhile() -> None:
    going, begun = threading.Event(), []

    def read() -> None:
        begun.append(1)
        going.wait(60)
        raise ConfigurationError("no")

    hear, one, instance = reaction(read)
    hear()
    wait_for(lambda: len(begun) == 1)
    before = threading.active_count()
    for _ in range(50):
        hear()
    assert threading.active_count() == before + 1
    going.set()
    wait_for(lambda: len(begun) == 2 and not one._waits)
    wait_for(lambda: instance.reload is not None)


@pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), MemoryError()])
def test_one_that_cannot_begin_leaves_the_next_its_turn(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    begun: list[int] = []

    def read() -> None:
        begun.append(1)
        raise ConfigurationError("no")

    def fail(self: threading.Thread) -> None:
        raise error

    hear, _, instance = reaction(read)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", fail)
        hear()
    assert instance.reload is not None and not begun
    hear()
    wait_for(lambda: begun == [1])
