"""Each scenario over each front end, as a matrix."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from tests.conformance.fronts import FRONTS
from tests.conformance.scenarios import SCENARIOS
from tests.conformance.stages import DAEMONS, MORE, OTHERS, Stage, play
from tests.real_daemon import Daemon, NewDaemon, daemons, wait_for

SetUp = Callable[[str], AbstractContextManager[Stage]]


@pytest.fixture(scope="module")
def common() -> Iterator[Daemon]:
    """One daemon for all the scenarios that leave it as it was."""
    with daemons() as new:
        # What ends by SIGTERM has a minute for it.
        yield new(MORE, kill_grace="60")


@pytest.fixture
def set_up(common: Daemon, new_daemon: NewDaemon, tmp_path: Path) -> SetUp:
    """Sets a stage up, by its name."""

    @contextmanager
    def stage(name: str) -> Iterator[Stage]:
        if name == "daemon":
            yield Stage(common.socket)
            # What ran has ended with its client, if not before.
            wait_for(lambda: not common.children())
        elif name in DAEMONS:
            yield from DAEMONS[name](new_daemon)
        else:
            yield from OTHERS[name](tmp_path)

    return stage


@pytest.mark.parametrize("front", FRONTS)
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_conformance(
    scenario: str, front: str, set_up: SetUp, record_property: Callable[[str, object], None]
) -> None:
    record_property("conformance", (scenario, front))
    with set_up(SCENARIOS[scenario].stage) as stage:
        play(front, SCENARIOS[scenario], stage)
