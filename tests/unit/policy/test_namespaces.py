"""policy/processes.py: whose namespaces a process is in, and as which user the kernel sees it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from rootwrap_daemon.filters.values import Options
from rootwrap_daemon.policy import executables, host, processes
from rootwrap_daemon.policy.executables import find_executable
from tests.processes import wait_for
from tests.unit.policy.things import EXEC_DIRS, OWNERS

pytestmark = pytest.mark.root

_SLEEP = ["sh", "-c", "echo; exec sleep 1000"]


@contextmanager
def started(*words: str) -> Iterator[int]:
    """The pid of a process that has said a line, after which it is what it is to be."""
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None and process.stderr is not None
            if not process.stdout.readline():
                pytest.skip(process.stderr.read().decode())
            yield process.pid
        finally:
            process.kill()


def test_a_process_of_this_system() -> None:
    with started(*_SLEEP) as pid:
        assert processes.is_foreign(pid, mounts=False) is False
        assert processes.is_foreign(pid, mounts=True) is False


def test_mounts_of_its_own() -> None:
    with started("unshare", "--mount", *_SLEEP) as pid:
        assert processes.is_foreign(pid, mounts=True) is True
        # They were made by root of this system.
        assert processes.is_foreign(pid, mounts=False) is False


@pytest.mark.parametrize(
    ("any_namespace", "commanded", "refused"),
    [(False, True, True), (True, True, False), (False, False, False), (True, False, False)],
)
def test_a_filter_says_whether_any_namespace_is_meant(
    any_namespace: bool, commanded: bool, refused: bool
) -> None:
    options = Options(any_namespace=any_namespace)
    wanted = processes.Wanted(find_executable("sleep", EXEC_DIRS, OWNERS), options, OWNERS, commanded)
    with started("unshare", "--mount", *_SLEEP) as pid:
        wait_for(lambda: executables.runs_program(pid, wanted.program, OWNERS))
        if refused:
            with pytest.raises(processes.NotMeant, match="is in another namespace"):
                processes.open_process(pid, wanted, frozenset())
        else:
            os.close(processes.open_process(pid, wanted, frozenset()))


@pytest.mark.parametrize("may_look", [True, False])
def test_a_service_with_mounts_of_its_own(monkeypatch: pytest.MonkeyPatch, may_look: bool) -> None:
    """As the daemon may be: what has those of pid 1 is of this system, as far as that can be told."""
    real = processes._namespace
    theirs = real("self", "mnt")

    def namespace(pid: int | str, kind: str) -> tuple[int, int]:
        if kind == "mnt" and pid in ("self", 1):
            if pid == 1 and not may_look:
                raise PermissionError
            return theirs if pid == 1 else (0, 0)
        return real(pid, kind)

    with started(*_SLEEP) as pid, started("unshare", "--mount", *_SLEEP) as other:
        monkeypatch.setattr(processes, "_namespace", namespace)
        assert processes.is_foreign(pid, mounts=True) is not may_look
        assert processes.is_foreign(pid, mounts=False) is False
        assert processes.is_foreign(other, mounts=True) is True


def test_a_user_namespace_below() -> None:
    with started("unshare", "--user", "--map-root-user", "--mount", *_SLEEP) as pid:
        own = processes._namespace("self", "user")
        assert processes._is_below(pid, own) is True
        assert processes.is_foreign(pid, mounts=False) is True
        # Ours, with mounts that root of the namespace below may have made.
        with started("nsenter", f"--mount=/proc/{pid}/ns/mnt", *_SLEEP) as other:
            assert processes._namespace(other, "user") == own
            assert processes.is_foreign(other, mounts=False) is True


@pytest.mark.parametrize("inside", [True, False])
def test_a_user_namespace_above(monkeypatch: pytest.MonkeyPatch, inside: bool) -> None:
    """Whoever is in one has no more rights than a process of its parent, which any other user of it has."""
    real = processes._namespace
    other = (0, 0)
    monkeypatch.setattr(
        processes,
        "_namespace",
        lambda pid, kind: other if (pid, kind) == ("self", "user") else real(pid, kind),
    )
    monkeypatch.setattr(processes, "in_user_namespace", lambda: inside)
    with started(*_SLEEP) as pid:
        assert processes.is_foreign(pid, mounts=True) is not inside


def test_a_user_namespace_two_below() -> None:
    inner = ["unshare", "--user", "--map-root-user", *_SLEEP]
    with started("unshare", "--user", "--map-root-user", *inner) as pid:
        assert processes._is_below(pid, processes._namespace("self", "user")) is True


def test_a_user_namespace_that_is_not_below() -> None:
    before = set(os.listdir("/proc/self/fd"))
    assert processes._is_below(os.getpid(), (0, 0)) is False
    assert set(os.listdir("/proc/self/fd")) == before


def test_the_user_is_the_real_one() -> None:
    script = "import os, time; os.setresuid(1, 2, 3); print(flush=True); time.sleep(1000)"
    with started(sys.executable, "-c", script) as pid:
        assert host.process_user(pid) == (1, 2, 3)


def test_the_user_is_real_effective_and_saved() -> None:
    # With the one of the file system alone a process may do less than before, and nobody may signal it.
    script = "import ctypes, time; ctypes.CDLL(None).setfsuid(65534); print(flush=True); time.sleep(1000)"
    with started(sys.executable, "-c", script) as pid:
        assert "\t65534\n" in Path(f"/proc/{pid}/status").read_text()
        assert host.process_user(pid) == (0, 0, 0)
