"""daemon/run/cgroups.py: what could not be ended is ended later, and no group lacks one of its limits."""

import os
import resource
from pathlib import Path

import pytest

from rootwrap_daemon.daemon.run.cgroups import Groups


def test_a_group_that_could_not_be_killed_is_killed_later(tmp_path: Path) -> None:
    # Files stand for those of the kernel: what is asked is when they are written.
    lock = os.open(tmp_path, os.O_RDONLY)
    groups = Groups(str(tmp_path), lock)
    name = groups.new()
    kill = tmp_path / name / "cgroup.kill"
    kill.touch()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        groups.kill(name)
        groups.sweep()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        os.close(lock)
    assert kill.read_bytes() == b""
    groups.sweep()
    assert kill.read_bytes() == b"1"
    kill.write_bytes(b"")
    groups.sweep()
    assert kill.read_bytes() == b""


@pytest.mark.parametrize("missing", ["memory.max", "memory.oom.group", "memory.swap.max", "pids.max"])
def test_no_group_without_each_of_its_limits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    """A kernel without one of these files would limit less than was asked for."""
    made = Groups(str(tmp_path), -1)
    written: dict[str, bytes] = {}

    def write(name: str, data: bytes) -> None:
        if name.endswith(f"/{missing}"):
            raise FileNotFoundError(name)
        written[name.partition("/")[2]] = data

    monkeypatch.setattr(made, "_write", write)
    limits = {"memory": 4096, "pids": 3}
    with pytest.raises(FileNotFoundError):
        made.new(limits)
    assert os.listdir(tmp_path) == []
    missing = "nothing"
    made.new(limits)
    assert written == {
        "memory.max": b"4096",
        "memory.oom.group": b"1",
        "memory.swap.max": b"0",
        "pids.max": b"3",
    }
