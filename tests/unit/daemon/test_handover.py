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

#: One of each kind, with what it can have.
FILTERS = (
    "a: CommandFilter, ls, root",
    "b: RegExpFilter, ls, root, ls, -[al], \\w+",
    "c: PathFilter, ls, root, pass, -l, /srv",
    "d: KillFilter, root, sleep, -9, -HUP",
    "e: ReadFileFilter, /etc/hosts",
    "f: IpFilter, ip, root",
    "g: EnvFilter, env, root, A=, B=2, ls, \\w+",
    "h: ChainingFilter, nice, root",
    "i: ChainingRegExpFilter, nice, root, nice, -n, \\d",
    "j: IpNetnsExecFilter, ip, root",
    "k: ArgvFilter, ls, root, [-l], {path=/srv}, [{=a|b}], {pid=sleep}, x, {int=1-3}, {secret} ...",
    "[a]",
    "env = A, B={int=1-9}, C={user=root|nova}",
    "limits = nofile=9, cpu=1",
    "timeout = none",
    "capabilities = CAP_KILL, CAP_CHOWN",
)


@pytest.fixture
def memfd() -> Iterator[int]:
    made = handover.new()
    yield made
    os.close(made)


@pytest.fixture
def configured(tmp_path: Path) -> Configured:
    settings = things.settings(tmp_path / "daemon.conf", filters_path="/x, /y", capabilities="CAP_KILL")
    log = LogSettings(level=10, levels=(("a.b", "DEBUG"),), file="/var/log/\udcff", prefixed=True)
    policy = replace(things.policy(tmp_path, *FILTERS), settings=settings)
    return Configured(policy=policy, log=log, lines=(Line("x", 30, 1.5, "said"),))


def test_a_configuration(memfd: int, configured: Configured) -> None:
    assert len(configured.policy.settings.signals) > 1
    handover.give(configured, memfd)
    assert handover.take(Configured, memfd) == configured


@pytest.mark.parametrize(
    "door",
    [
        Door(kind="bound", descriptor=4, place="/x", path="/x", lock=5),
        Door(kind="client", descriptor=4, place="descriptor 0", peer=Peer(1, 2**32 - 2, 3, (4, 5))),
    ],
)
def test_all_of_it(memfd: int, configured: Configured, door: Door) -> None:
    given = Handover(
        configured=configured,
        read_again=("tell", "/etc/\udcfe.conf"),
        version="1.2",
        door=door,
        notify=b"\0abstract\xff",
        watchdog=None if door.peer else 1.5,
    )
    handover.give(given, memfd)
    assert handover.take(Handover, memfd) == given
    assert handover.take(Handover, memfd) == given, "it can be read once only"


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
    assert handover.take(Configured, memfd) == configured


def test_what_is_not_sealed_is_not_taken(memfd: int, configured: Configured, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not sealed"):
        handover.take(Configured, memfd)
    with (tmp_path / "file").open("w+b") as file, pytest.raises(OSError, match="Invalid"):
        handover.take(Configured, file.fileno())


def test_something_else_is_not_taken(memfd: int, configured: Configured) -> None:
    handover.give(configured, memfd)
    with pytest.raises(ValueError, match="Handover"):
        handover.take(Handover, memfd)


def test_what_is_kept_open() -> None:
    door = Door(kind="bound", descriptor=4, place="/x", path="/x", lock=5)
    assert door.descriptors == (4, 5)
    assert replace(door, lock=-1).descriptors == (4,)
