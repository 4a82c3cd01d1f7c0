"""daemon/handover.py: what is taken is what was given, and nobody can change it between."""

import fcntl
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from rootwrap_daemon.daemon import handover
from rootwrap_daemon.daemon.handover import Configured, Door, Handover, Line, LogSettings
from rootwrap_daemon.daemon.request import Peer
from tests.unit.policy import things


@pytest.fixture
def memfd() -> Iterator[int]:
    made = handover.new()
    yield made
    os.close(made)


@pytest.fixture
def configured(tmp_path: Path) -> Configured:
    settings = things.settings(tmp_path / "daemon.conf", filters_path="/x, /y", capabilities="CAP_KILL")
    log = LogSettings(level=10, levels=(("a.b", "DEBUG"),), file="/var/log/\udcff", prefixed=True)
    return Configured(settings=settings, log=log, lines=(Line("x", 30, 1.5, "said"),))


def test_a_configuration(memfd: int, configured: Configured) -> None:
    assert len(configured.settings.signals) > 1
    handover.give(configured, memfd)
    assert handover.configured(memfd) == configured


@pytest.mark.parametrize(
    "door",
    [
        None,
        Door(kind="bound", descriptor=4, place="/x", path="/x", lock=5),
        Door(kind="client", descriptor=4, place="descriptor 0", peer=Peer(1, 2**32 - 2, 3, (4, 5))),
    ],
)
def test_all_of_it(memfd: int, configured: Configured, door: Door | None) -> None:
    given = Handover(
        configured=configured,
        config_file="/etc/\udcfe.conf",
        socket=None,
        version="1.2",
        nofile=1024,
        by_another=True,
        door=door,
        notify=b"\0abstract\xff",
        watchdog=None if door else 1.5,
    )
    handover.give(given, memfd)
    assert handover.handover(memfd) == given
    assert handover.handover(memfd) == given, "it can be read once only"


def test_nobody_can_change_it(memfd: int, configured: Configured) -> None:
    handover.give(configured, memfd)
    with pytest.raises(PermissionError):
        os.pwrite(memfd, b"x", 0)
    with pytest.raises(PermissionError):
        os.ftruncate(memfd, 0)
    with pytest.raises(PermissionError):
        fcntl.fcntl(memfd, fcntl.F_ADD_SEALS, 0)
    # Nor by opening it anew, as root may.
    with pytest.raises(PermissionError), open(f"/proc/self/fd/{memfd}", "r+b", buffering=0) as again:
        again.write(b"x")
    assert handover.configured(memfd) == configured


def test_what_is_not_sealed_is_not_taken(memfd: int, configured: Configured, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not sealed"):
        handover.configured(memfd)
    with (tmp_path / "file").open("w+b") as file, pytest.raises(OSError, match="Invalid"):
        handover.configured(file.fileno())


def test_something_else_is_not_taken(memfd: int, configured: Configured) -> None:
    handover.give(configured, memfd)
    with pytest.raises((TypeError, KeyError, ValueError)):
        handover.handover(memfd)


def test_what_is_kept_open() -> None:
    door = Door(kind="bound", descriptor=4, place="/x", path="/x", lock=5)
    assert door.descriptors == (4, 5)
    assert replace(door, lock=-1).descriptors == (4,)
