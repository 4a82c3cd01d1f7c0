"""No test of this folder may leave a descriptor open, whatever it raised."""

import os
import subprocess
from collections.abc import Callable, Iterator

import pytest

StartSleeper = Callable[..., int]


def _descriptors() -> dict[str, str]:
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[name] = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            pass  # that of the listing itself
    return found


@pytest.fixture(autouse=True)
def _every_descriptor_is_closed() -> Iterator[None]:
    before = _descriptors()
    yield
    left = {name: path for name, path in _descriptors().items() if before.get(name) != path}
    assert not left


@pytest.fixture
def start_sleeper() -> Iterator[StartSleeper]:
    """Starts `sleep`, or the copy of it at `executable`, and returns its pid."""
    started: list[subprocess.Popen[bytes]] = []

    def start(executable: str | None = None, **options: int) -> int:
        process = subprocess.Popen(["sleep", "60"], executable=executable, cwd="/", **options)  # type: ignore[call-overload]
        started.append(process)
        pid: int = process.pid
        return pid

    yield start
    for process in started:
        process.kill()
        process.wait()
