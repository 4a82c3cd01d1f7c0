"""A daemon to talk to, and both front ends that talk to it."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from rootwrap_daemon.client import green, threads
from tests.unit.client.fake_daemon import PATIENCE, FakeDaemon

StartDaemon = Callable[..., FakeDaemon]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the daemon listens."""
    return tmp_path / "socket"


@pytest.fixture
def start_daemon(path: Path) -> Iterator[StartDaemon]:
    """Starts a FakeDaemon with these arguments."""
    with ExitStack() as stack:

        def start(*args: Any, **kwargs: Any) -> FakeDaemon:
            return stack.enter_context(FakeDaemon(path, *args, **kwargs))

        yield start


@pytest.fixture
def daemon(start_daemon: StartDaemon) -> FakeDaemon:
    """A daemon that answers as `answer_to` has it."""
    return start_daemon()


@pytest.fixture(params=[threads.Client, green.Client], ids=["threads", "green"])
def client(request: pytest.FixtureRequest, path: Path) -> Iterator[threads.Client]:
    """Each front end in turn, as patient as a test on a busy machine."""
    with request.param(path, connect_timeout=PATIENCE) as client:
        yield client
