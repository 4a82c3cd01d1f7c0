"""Open files that only trusted owners can change, to read them, and find directories for what is made.

Promises: a start, its rehearsal and the linter judge a directory here.
"""

import errno
import os
import pathlib
import stat

from rootwrap_daemon.policy import host


def directory_of(path: str, owners: frozenset[int]) -> str:
    """The real path of the directory of `path`, which only `owners` can change.

    Raises OSError, UntrustedPath.
    """
    found = host.resolve_owned(os.path.dirname(path), owners)
    if found.status is None or not stat.S_ISDIR(found.status.st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), os.path.dirname(path))
    return found.path


def all_may_read(path: str) -> bool:
    """True if every user may find and read a file, or a directory with all files in it, by their modes.

    True also for what is missing, if every user may see that.
    """
    real = os.path.realpath(path)
    try:
        for above in reversed(pathlib.PurePath(real).parents):
            if not os.stat(above).st_mode & stat.S_IXOTH:
                return False
        mode = os.stat(real).st_mode
        if not stat.S_ISDIR(mode):
            return bool(mode & stat.S_IROTH)
        # Of the directories in it nothing is read; a link may lead from one to itself.
        files = (one.path for one in os.scandir(real) if not one.is_dir())
        return mode & 0o005 == 0o005 and all(map(all_may_read, files))
    except FileNotFoundError:
        return True
    except OSError:
        return False


def open_owned(path: str, owners: frozenset[int]) -> int:
    """A descriptor to read a regular file that only `owners` can change.

    Raises UntrustedPath, IsADirectoryError or another OSError. What was opened is what was judged (fstat).
    """
    found = host.resolve_owned(path, owners)
    descriptor = os.open(found.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise host.UntrustedPath(f"{path} is not a regular file")
        host.check_owner(path, status, owners)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
