"""policy/processes.py: a process is meant, or not, or it cannot be told; never the one for the other."""

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator

import pytest

from rootwrap_daemon.filters.values import Options
from rootwrap_daemon.policy import processes
from rootwrap_daemon.policy.executables import find_executable
from tests.processes import our_descriptors
from tests.unit.policy.things import EXEC_DIRS, OWNERS


@pytest.fixture
def sleeping() -> Iterator[int]:
    with subprocess.Popen([shutil.which("sleep") or "sleep", "1000"]) as process:
        yield process.pid
        process.kill()


def wanted(options: Options = Options()) -> processes.Wanted:  # noqa: B008 - it cannot change
    return processes.Wanted(find_executable("sleep", EXEC_DIRS, OWNERS), options, OWNERS)


def test_a_process_that_is_meant(sleeping: int) -> None:
    os.close(processes.open_process(sleeping, wanted(), frozenset()))


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
def test_no_descriptor_is_no_verdict(sleeping: int, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def failing(pid: int) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "pidfd_open", failing)
    with pytest.raises(OSError, match=os.strerror(number)) as caught:
        processes.open_process(sleeping, wanted(), frozenset())
    assert caught.value.errno == number


def test_a_user_that_is_not_there_is_nobodys(sleeping: int) -> None:
    before = our_descriptors()
    with pytest.raises(processes.NotMeant, match="there is no user"):
        processes.open_process(sleeping, wanted(Options(target_user="no-such-user")), frozenset())
    assert our_descriptors() <= before
