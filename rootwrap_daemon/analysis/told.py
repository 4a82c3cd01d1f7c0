"""Keep root's files from whoever runs rootwrapctl as root by way of sudo(8), but for what it is made to tell.

Promises: what is looked at is what is read or written, whoever else changes links and directories meanwhile.
"""

import os
import stat
from io import BufferedReader
from pathlib import Path
from typing import Final

from rootwrap_daemon.errors import Unreadable
from rootwrap_daemon.policy import host

#: Variables by which sudo(8), pkexec(1) and doas(1) name their caller.
_CALLERS: Final = ("SUDO_UID", "PKEXEC_UID", "DOAS_USER")


def is_by_sudo() -> bool:
    """True if somebody else than root has this done as root."""
    return os.geteuid() == 0 and any(os.environ.get(name, "0") not in ("0", "root") for name in _CALLERS)


def is_hidden(path: str) -> bool:
    """True for a path that not everybody may find and read, if somebody asks by way of sudo.

    Raises Unreadable where others than root can change what the path names, between this look and the next.
    """
    if not is_by_sudo():
        return False
    try:
        host.resolve_owned(os.path.abspath(path), host.base_owners(0))
    except host.UntrustedPath:
        raise untold(path) from None
    except OSError:
        pass
    real = os.path.realpath(path)
    try:
        # From / on: what is missing in a directory that he may not search is not told either.
        return not _is_searched(real) or not os.stat(real).st_mode & stat.S_IROTH
    except FileNotFoundError:
        return False
    except OSError:
        return True


def _is_searched(real: str) -> bool:
    return all(one.stat().st_mode & stat.S_IXOTH for one in reversed(Path(real).parents))


def opened(path: str) -> tuple[BufferedReader, bool]:
    """A file to read, and whether it is hidden. What is missing in a private directory is Unreadable.

    The open file is looked at, so a path that is changed meanwhile makes no difference. Raises OSError.
    """
    if not is_by_sudo():
        return open(path, "rb"), False
    try:
        file = open(path, "rb")  # noqa: SIM115 - whoever reads it closes it
    except OSError:
        # Of a file that only root can look for nothing is told, that it is missing neither.
        if is_hidden(path):
            raise untold(path) from None
        raise
    try:
        status = os.fstat(file.fileno())
        real = os.readlink(f"/proc/self/fd/{file.fileno()}")
        found = stat.S_ISREG(status.st_mode) and not (status.st_mode & stat.S_IROTH and _is_searched(real))
        return file, found
    except OSError:
        # It has been moved, or removed.
        return file, True


def untold(path: str) -> Unreadable:
    """The one answer about what is hidden and not of the kind that is asked about."""
    more = "of files that others than root can change, ask without it"
    return Unreadable(f"{path}: nothing of use, as far as this is told by way of sudo: {more}")


def check_target(path: str) -> None:
    """Raise Unreadable, by way of sudo, for a file to be written that others than root can exchange."""
    if not is_by_sudo():
        return
    owners = host.base_owners(0)
    try:
        found = host.resolve(os.path.abspath(path), owners, missing_ok=True)
        if found.status is not None:
            host.check_owner(found.path, found.status, owners)
    except host.UntrustedPath as error:
        what = "by way of sudo nothing is written where others than root can change what a name means"
        raise Unreadable(f"{path}: {what}: {error}: print it, or write without sudo") from None
    except OSError:
        # Writing says what is wrong.
        return
