"""A signal has a reload: one at a time, and one that waits for all that come meanwhile."""

import signal
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from rootwrap_daemon.daemon.serve import main
from rootwrap_daemon.errors import ConfigurationError
from tests.processes import wait_for


def reaction(read: Any) -> tuple[Any, SimpleNamespace]:
    """One that hears SIGHUP whenever it looks, and its instance; `read` takes the place of the reader."""
    instance = SimpleNamespace(policy=SimpleNamespace(generation=1), reload=None)
    signals: Any = SimpleNamespace(read=lambda: bytes((signal.SIGHUP,)))
    manager: Any = SimpleNamespace(notify=lambda **what: None)
    given: Any = instance
    return main._Reaction(signals, given, read, manager), instance


def test_one_waits_for_all_that_come_meanwhile() -> None:
    going, begun = threading.Event(), []

    def read() -> None:
        begun.append(1)
        going.wait(60)
        raise ConfigurationError("no")

    one, instance = reaction(read)
    one.on_signal()
    wait_for(lambda: len(begun) == 1)
    before = threading.active_count()
    for _ in range(50):
        one.on_signal()
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

    one, instance = reaction(read)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", fail)
        one.on_signal()
    assert instance.reload is not None and not begun
    one.on_signal()
    wait_for(lambda: begun == [1])
