"""policy/processes.py: a process is meant, or not, or it cannot be told; never the one for the other."""

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from rootwrap_daemon.filters.values import Options
from rootwrap_daemon.policy import host, processes
from rootwrap_daemon.policy.executables import find_executable
from tests.processes import our_descriptors, wait_for
from tests.unit.policy.things import EXEC_DIRS, OWNERS, file, link


@pytest.fixture
def sleeping() -> Iterator[int]:
    with subprocess.Popen([shutil.which("sleep") or "sleep", "1000"]) as process:
        yield process.pid
        process.kill()


def wanted(options: Options = Options()) -> processes.Wanted:  # noqa: B008 - it cannot change
    return processes.Wanted(find_executable("sleep", EXEC_DIRS, OWNERS), options, OWNERS)


def test_a_process_that_is_meant(sleeping: int) -> None:
    os.close(processes.open_process(sleeping, wanted(), frozenset()))


def test_a_program_of_many_names(tmp_path: Path) -> None:
    """It runs as the one that its first word is, or its second behind its own name."""
    shell = file(tmp_path / "busybox", mode=0o755)
    shutil.copyfile("/bin/sh", shell)
    for name in ("tool", "other"):
        link(tmp_path / name, "busybox")
    file(tmp_path / "script", "read line\n")
    (tmp_path / "words").mkdir()
    # What the shell reads as its script is the second word.
    file(tmp_path / "words/tool", "read line\n")
    for words, called in (
        (["busybox", "tool"], {"tool"}),
        (["tool", "../script"], {"tool"}),
        (["other", "tool"], {"other"}),
        # It does nothing without one.
        (["busybox"], set()),
        (["busybox".rjust(4096, "/"), "tool"], {"busybox"}),
    ):
        with subprocess.Popen(
            words, executable=shell, cwd=tmp_path / "words", stdin=subprocess.PIPE
        ) as process:
            # The words are there a moment after Popen has returned.
            wait_for(lambda: bool(Path(f"/proc/{process.pid}/cmdline").read_bytes()))
            found = set()
            for name in ("tool", "other", "busybox"):
                meant = find_executable(f"{tmp_path}/{name}", EXEC_DIRS, OWNERS)
                if processes.is_called(process.pid, replace(meant, path=f"{tmp_path}/{name}")):
                    found.add(name)
            process.kill()
        assert found == called, words


def test_a_file_of_several_names(tmp_path: Path) -> None:
    """A process says by which of them it runs; by that of the file it may be a link to it, too."""
    real = file(tmp_path / "real", mode=0o755)
    shutil.copyfile(shutil.which("sleep") or "sleep", real)
    link(tmp_path / "named", "real")

    def called(first: str) -> set[str]:
        with subprocess.Popen([first, "1000"], executable=real) as process:
            wait_for(lambda: bool(Path(f"/proc/{process.pid}/cmdline").read_bytes()))
            found = find_executable(str(real), EXEC_DIRS, OWNERS)
            names = [one for one in ("real", "named", "other") if (tmp_path / one).exists()]
            meant = {
                one
                for one in names
                if processes.is_called(process.pid, replace(found, path=f"{tmp_path}/{one}"))
            }
            process.kill()
        return meant

    # What no other program shares may call itself what it likes.
    assert called("anything") == {"real", "named"}
    os.link(real, tmp_path / "other")
    assert called("anything") == set()
    assert called("real") == {"real", "named"}
    assert called("named") == {"named"}
    assert called("/x/other") == {"other"}
    assert called("-other: serving") == {"other"}
    # No path is longer: what follows is not looked at.
    assert called("real".rjust(4096, "/")) == {"real", "named"}
    assert called("real".rjust(4097, "/")) == set()


@pytest.mark.parametrize(("entered", "commanded"), [(True, False), (True, True), (False, True)])
def test_a_process_of_a_trusted_owner_may_be_entered(sleeping: int, entered: bool, commanded: bool) -> None:
    meant = replace(wanted(), entered=entered, commanded=commanded)
    os.close(processes.open_process(sleeping, meant, frozenset()))
    # Without its owner among those trusted.
    if os.geteuid() == 0:
        theirs = replace(meant, owners=frozenset({4711}))
        with pytest.raises(processes.NotMeant):
            processes.open_process(sleeping, theirs, frozenset())


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


def test_a_process_that_was_not_started_here(sleeping: int, monkeypatch: pytest.MonkeyPatch) -> None:
    started = wanted(Options(started_by_us=True))
    os.close(processes.open_process(sleeping, started, frozenset()))
    monkeypatch.setattr(host, "is_descendant", lambda pid: False)
    with pytest.raises(processes.NotMeant, match="was not started here"):
        processes.open_process(sleeping, started, frozenset())
    os.close(processes.open_process(sleeping, wanted(), frozenset()))
