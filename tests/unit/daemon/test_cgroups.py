"""daemon/run/cgroups.py: what could not be ended for want of a descriptor is ended later."""

import os
import resource
from pathlib import Path

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
