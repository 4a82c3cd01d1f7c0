"""Find the executable of a program, and the processes that run it.

Promises: an executable that is found can be changed by trusted owners alone, from / down, and so can every
file that the kernel and the loader go on to when it is executed.
"""

import contextlib
import errno
import functools
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from rootwrap_daemon.policy import elf, host, interpreters, places


@dataclass(frozen=True, slots=True)
class Executable:
    """A program that may be run: its path, whose every component trusted owners hold, and its identity."""

    path: str
    device: int
    inode: int


@dataclass(frozen=True, slots=True)
class _Found:
    """A program that was found, with all that was looked at for it.

    `directories`: those among it that trusted owners alone can change.
    """

    executable: Executable
    looked: tuple[host.Looked, ...]
    directories: dict[str, os.stat_result]


#: By name, directories to look in, and owners.
_found: dict[tuple[str, tuple[str, ...], frozenset[int]], _Found] = {}
_MOST_FOUND: Final = 4096


def find_executable(
    name: str, directories: Iterable[str], owners: frozenset[int], seen: host.Seen | None = None
) -> Executable:
    """The program of a filter: an absolute path, or a name to look for in `directories`.

    Raises FileNotFoundError when there is none; host.UntrustedPath when there are only such as others can
    change, or the interpreter or loader of which they can; another OSError when the host did not answer.
    """
    seen = seen or host.Seen()
    key = name, tuple(directories), owners
    known = _found.get(key)
    # The same is looked at each time; it is judged anew where something is not as it was.
    if known is not None and host.is_as_before(known.looked, seen.directories):
        seen.directories.update(known.directories)
        return known.executable
    looked: list[host.Looked] = []
    found = search(*key, host.Seen(seen.directories, looked))
    if len(_found) < _MOST_FOUND:
        trusted = {path: seen.directories[path] for path, _, _ in looked if path in seen.directories}
        _found[key] = _Found(found, tuple(dict.fromkeys(looked)), trusted)
    return found


def search(name: str, directories: tuple[str, ...], owners: frozenset[int], seen: host.Seen) -> Executable:
    """As `find_executable`, whatever was found before."""
    untrusted = ""
    for path in (name,) if name.startswith("/") else (f"{directory}/{name}" for directory in directories):
        try:
            found = host.resolve_owned(path, owners, seen)
            if (status := _executable(found, seen)) is not None:
                _check_interpreters(found.path, status, directories, owners, seen)
                return Executable(path, status.st_dev, status.st_ino)
        except OSError as error:
            if host.is_unsure(error):
                raise
        except host.UntrustedPath as error:
            # Its text alone: its traceback has this frame, and the two would wait for the collector.
            untrusted = str(error)
    if untrusted:
        raise host.UntrustedPath(untrusted)
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)


def _executable(found: host.Resolved, seen: host.Seen) -> os.stat_result | None:
    """The status of an executable file, None for anything else. Raises UntrustedPath."""
    status = found.status
    if status is None or not stat.S_ISREG(status.st_mode) or not status.st_mode & 0o111:
        return None
    # A sticky directory: scripts load what lies beside them.
    if seen.directories[os.path.dirname(found.path)].st_mode & 0o022:
        raise host.UntrustedPath(f"others can make files beside {found.path}")
    return status


def _check_interpreters(
    path: str,
    status: os.stat_result,
    directories: tuple[str, ...],
    owners: frozenset[int],
    seen: host.Seen,
    depth: int = 0,
) -> None:
    """Raise UntrustedPath unless `owners` alone can change all that the kernel goes on to from this file."""
    try:
        names = interpreters.of(path, status)
        if depth > interpreters.DEEPEST:
            raise ValueError("too many interpreters")
    except ValueError as error:
        raise host.UntrustedPath(f"{path}: {error}") from error
    for name in names:
        try:
            if isinstance(name, elf.Loader):
                _check_loader(name, owners)
                continue
            if isinstance(name, elf.Named):
                _check_named(name, owners, seen)
                continue
            check_by_path(name, directories, owners, seen, depth + 1)
        except host.UntrustedPath as error:
            what = "interpreter" if type(name) is str else "file"
            raise host.UntrustedPath(f"the {what} {name} of {path}: {error}") from error


def check_by_path(
    name: str, directories: Iterable[str], owners: frozenset[int], seen: host.Seen, depth: int = 0
) -> None:
    """Raise UntrustedPath unless `owners` alone can change what execvp(3) would execute, if there is any."""
    # What comes first in PATH is what runs, whoever owns it.
    for here in (name,) if name.startswith("/") else (f"{one}/{name}" for one in directories):
        try:
            found = host.resolve_owned(here, owners, seen)
        except (FileNotFoundError, NotADirectoryError):
            continue
        if (status := _executable(found, seen)) is not None:
            _check_interpreters(found.path, status, tuple(directories), owners, seen, depth)
            return


def _check_named(path: str, owners: frozenset[int], seen: host.Seen) -> None:
    """Raise UntrustedPath unless `owners` alone can change what an interpreter or the loader finds there."""
    try:
        walked = places.walk(path, owners, seen)
    except host.Unsure as error:
        raise OSError(errno.EAGAIN, str(error)) from error
    if walked.place is not None:
        raise host.UntrustedPath(f"others can change what is in {walked.place}")
    if walked.status is not None and stat.S_ISREG(walked.status.st_mode):
        host.check_owner(walked.path, walked.status, owners)


@functools.lru_cache(maxsize=64)
def _check_loader(path: str, owners: frozenset[int]) -> None:
    """Raise UntrustedPath unless `owners` alone can change a loader.

    Half of all looks at the host would be at the one of the system: it is looked at once for each policy.
    """
    # Without it nothing is executed, and only `owners` can make it.
    with contextlib.suppress(FileNotFoundError):
        host.resolve_owned(path, owners)


def forget() -> None:
    """Look at every loader again, and judge every program: for a new policy."""
    _check_loader.cache_clear()
    interpreters.forget()
    _found.clear()


def runs_program(pid: int, program: Executable, owners: frozenset[int]) -> bool:
    """True if process `pid` executes `program`, or the file that stood at its path before an upgrade."""
    link = f"/proc/{pid}/exe"
    try:
        status = os.stat(link)
        if (status.st_dev, status.st_ino) == (program.device, program.inode):
            return True
        # The kernel appends this to the path of an unlinked file; a file really called so still has a link.
        return (
            status.st_nlink == 0
            and status.st_uid in owners
            and os.readlink(link) == f"{os.path.realpath(program.path)} (deleted)"
        )
    except FileNotFoundError:
        # A thread of the kernel's executes nothing; nor does what has ended.
        return False
