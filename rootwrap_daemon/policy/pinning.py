"""A word that must name something beneath a directory -> what the command gets, which nobody can swap.

Promises: what was checked is what the command acts on, whatever links, hard links and renames come meanwhile.
"""

import ctypes
import errno
import os
import stat
import struct
from dataclasses import dataclass
from typing import Final

from rootwrap_daemon.filters.values import Pin
from rootwrap_daemon.policy.host import Seen, UntrustedPath, check_owner, resolve, resolve_owned

# openat2(2): struct open_how, and the number that every architecture but alpha shares.
_SYS_OPENAT2: Final = 437
_RESOLVE_NO_XDEV: Final = 0x01
_RESOLVE_NO_MAGICLINKS: Final = 0x02
_RESOLVE_NO_SYMLINKS: Final = 0x04
_RESOLVE_BENEATH: Final = 0x08
_BENEATH: Final = _RESOLVE_BENEATH | _RESOLVE_NO_MAGICLINKS | _RESOLVE_NO_XDEV
_libc = ctypes.CDLL(None, use_errno=True)


def _openat2(directory: int, path: str, flags: int, resolution: int, mode: int = 0) -> int:
    how = struct.pack("QQQ", flags | os.O_CLOEXEC, mode, resolution)
    descriptor: int = _libc.syscall(_SYS_OPENAT2, directory, os.fsencode(path), how, len(how))
    if descriptor < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)
    return descriptor


@dataclass(frozen=True, slots=True)
class Pinned:
    """A word that stands for one object: a path nobody else can change, or a descriptor to hand over."""

    word: str
    descriptor: int | None

    def close(self) -> None:
        """For who only wanted to know."""
        if self.descriptor is not None:
            os.close(self.descriptor)


def pin_beneath(
    base: str, path: str, owners: frozenset[int], pin: Pin, create: int | None, seen: Seen | None = None
) -> Pinned:
    """What `path` names, if that is beneath `base`.

    AUTO: where trusted owners hold every component of both, the resolved path, whose last component may be
    missing; else as OBJECT. OBJECT: a descriptor of the very object, which must be a directory, or a regular
    file with one name, on the base's device: a second name could be a hard link to anything. If nothing is
    there, a file is made with mode `create`. PARENT: a descriptor of its directory, and its name in there.
    NO: the resolved path, whoever may change it. Raises UntrustedPath or OSError.
    """
    if pin is Pin.NO:
        return _beneath(os.path.realpath(base), os.path.realpath(path))
    if pin is Pin.AUTO:
        try:
            seen = seen or Seen()
            real_base = resolve_owned(base, owners, seen)
            target = resolve(path, owners, missing_ok=True, seen=seen)
            if target.status is not None:
                check_owner(target.path, target.status, owners)
        except UntrustedPath:
            pass
        else:
            if real_base.status is None or not stat.S_ISDIR(real_base.status.st_mode):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), base)
            return _beneath(real_base.path, target.path)
    return _pin(base, path, pin, create)


def _beneath(base: str, path: str) -> Pinned:
    if path != base and not path.startswith(base + "/"):
        raise UntrustedPath(f"{path} is not beneath {base}")
    return Pinned(path, None)


def _pin(base: str, path: str, pin: Pin, create: int | None) -> Pinned:
    parts = [part for part in path.split("/") if part not in ("", ".")]
    base_parts = base[1:].split("/")
    if parts[: len(base_parts)] != base_parts:
        raise UntrustedPath(f"the words do not name a path beneath {base}")
    *above, last = parts[len(base_parts) :] or [""]
    # No link at all on the way to the base: whoever can write a component could point it elsewhere.
    directory = _openat2(-1, base, os.O_PATH | os.O_DIRECTORY, _RESOLVE_NO_SYMLINKS)
    try:
        if pin is Pin.PARENT:
            if last in ("", "..") or path.endswith(("/", "/.")):
                raise UntrustedPath("the last component is no name")
            parent = _openat2(directory, "/".join(above) or ".", os.O_PATH | os.O_DIRECTORY, _BENEATH)
            return Pinned(f"/proc/self/fd/{parent}/{last}", parent)
        found = _open_object(directory, "/".join((*above, last)) or ".", create)
        try:
            _check_plain(found, directory)
        except BaseException:
            os.close(found)
            raise
        return Pinned(f"/proc/self/fd/{found}", found)
    finally:
        os.close(directory)


def _open_object(directory: int, path: str, create: int | None) -> int:
    try:
        return _openat2(directory, path, os.O_PATH, _BENEATH)
    except FileNotFoundError:
        if create is None:
            raise
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
    made = _openat2(directory, path, flags, _BENEATH, create)
    try:
        # The mode asked for, not what the umask leaves of it.
        os.fchmod(made, create)
        return os.open(f"/proc/self/fd/{made}", os.O_PATH | os.O_CLOEXEC)
    finally:
        os.close(made)


def _check_plain(found: int, directory: int) -> None:
    """Raise UntrustedPath unless it is a directory, or a file whose one name is beneath `directory`."""
    status = os.fstat(found)
    if status.st_dev != os.fstat(directory).st_dev:
        raise UntrustedPath("on another device than its base")
    if stat.S_ISDIR(status.st_mode):
        return
    name = _name(found)
    above, _, last = name.removeprefix(f"{_name(directory)}/").rpartition("/")
    parent = _openat2(directory, above or ".", os.O_RDONLY | os.O_DIRECTORY, _BENEATH | _RESOLVE_NO_SYMLINKS)
    try:
        status = os.fstat(found)
        if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
            raise UntrustedPath("neither a directory nor a file of one name")
        # One name, but which? A hard link to a file elsewhere, removed since it was opened, leaves that file
        # its own. An unlink(2) takes a name off the count first and out of the directory then, holding the
        # directory's lock; reading the directory waits for it. A name that is there then was counted.
        with os.scandir(parent) as entries:
            next(entries, None)
        if _name(found) != name or f"{_name(parent)}/{last}" != name:
            raise UntrustedPath("its name was taken away while it was looked at")
    finally:
        os.close(parent)


def _name(descriptor: int) -> str:
    """The path by which this was opened, wherever that has moved to. Raises UntrustedPath if it is gone."""
    name = os.readlink(f"/proc/self/fd/{descriptor}")
    # What the kernel says of a name that was removed, in d_path(); a file really called so is refused, too.
    if name.endswith(" (deleted)"):
        raise UntrustedPath("its name was taken away")
    return name
