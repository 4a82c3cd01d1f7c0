"""Executables, users, paths and processes of this host; each question is asked once.

Promises: a path called trusted can be changed by trusted owners alone, from / down.
"""

import errno
import functools
import grp
import os
import pwd
import re
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

MAX_LINKS: Final = 40  # as the kernel: path_resolution(7)
_NUMBER = re.compile(r"0|[1-9][0-9]{0,9}", re.ASCII)
_INVALID_ID: Final = 2**32 - 1  # (uid_t) -1: "no change" to setresuid(2)


class UntrustedPath(Exception):
    """Somebody who is not trusted can change what this path names. The text says who and where."""


class Unsure(Exception):
    """The host could not be asked: what was to be judged is neither right nor wrong."""


#: What no answer about a path is: errno(3). The same question may be answered later, or by another kernel.
_UNSURE: Final = {errno.EAGAIN, errno.EINTR, errno.ESTALE, errno.EBUSY, errno.ETIMEDOUT, errno.ENOSYS}.union(
    (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EIO)
)


def is_unsure(error: Exception) -> bool:
    """True for an error that says nothing about the path or process that was asked about."""
    return isinstance(error, Unsure) or (isinstance(error, OSError) and error.errno in _UNSURE)


@dataclass(frozen=True, slots=True)
class Resolved:
    """The object that a path names.

    `path` holds no symbolic link in any component but, if `status` is None, the missing last.
    """

    path: str
    status: os.stat_result | None


@dataclass(slots=True)
class Seen:
    """The facts that one request has found out about the host, so that it is not asked again.

    `directories`: by their real path, those whose every component `owners` alone can change; nobody else can
    put another one in such a place meanwhile.
    """

    directories: dict[str, os.stat_result] = field(default_factory=dict)
    #: All that was looked at, in order, and what was there; None where nobody wants to know.
    looked: list["Looked"] | None = None
    #: Who will use what is looked at, with no more rights than its own; None for one who may look everywhere.
    looker: "Identity | None" = None
    _ancestors: frozenset[int] | None = None

    def look(self, path: str) -> os.stat_result:
        """The status of a path, as it was found before or as lstat(2) has it now. Raises OSError."""
        status = self.directories.get(path)
        if self.looked is None:
            return status or os.lstat(path)
        try:
            status = status or os.lstat(path)
        except OSError as error:
            missing = isinstance(error, FileNotFoundError)
            self.looked.append((path, None if missing else _UNKNOWN, None))
            raise
        # New entries change a directory's size and time, and nothing about it.
        is_directory = stat.S_ISDIR(status.st_mode)
        before = status[:6] if is_directory else status[:7]
        self.looked.append((path, before, None if is_directory else status.st_ctime_ns))
        return status

    def ancestors(self) -> frozenset[int]:
        """As `ancestors` said at first. Whoever gets another parent gets one that was an ancestor before."""
        if self._ancestors is None:
            self._ancestors = ancestors()
        return self._ancestors


#: A path; its mode, inode, device, links, uid, gid and, but for a directory, size, None if nothing was there;
#: when those or its content changed last, None for a directory.
Looked = tuple[str, tuple[float, ...] | None, int | None]
#: What nothing is: the file system did not say.
_UNKNOWN: Final = (-1.0,)


def is_as_before(looked: Iterable[Looked], known: Mapping[str, os.stat_result]) -> bool:
    """True if each of these paths is what it was, and so would be judged as it was, in the same order.

    `known`: what was looked at a moment ago.
    """
    lstat = os.lstat
    for path, before, changed in looked:
        try:
            status = known.get(path) or lstat(path)
        except FileNotFoundError:
            if before is not None:
                return False
        except OSError:
            return False
        else:
            if before is None or status[: len(before)] != before:
                return False
            if changed is not None and status.st_ctime_ns != changed:
                return False
    return True


def resolve(
    path: str,
    owners: frozenset[int],
    *,
    missing_ok: bool = False,
    seen: Seen | None = None,
    below_sticky: bool = False,
) -> Resolved:
    """Follow `path` from / through directories and links that only `owners` can change.

    Raises UntrustedPath, FileNotFoundError, or another OSError. The last component's own owner is not judged.
    `seen`: of the same request, with the same `owners`. `below_sticky`: follow links of `owners` also there.
    """
    seen = seen or Seen()
    known, look = seen.directories, seen.look
    pending = [part for part in reversed(path.split("/")) if part not in ("", ".")]
    real = ""  # of /, whose name ends in a slash as no other's does
    links = 0
    status = look("/")
    while pending:
        directory = real or "/"
        if directory not in known:
            _check_directory(directory, status, owners)
            known[directory] = status
        part = pending.pop()
        if part == "..":
            real = real.rpartition("/")[0]
            status = known[real or "/"]
            continue
        here = f"{real}/{part}"
        try:
            status = look(here)
        except FileNotFoundError:
            if missing_ok and not pending:
                # Where anybody can make new names, somebody else may make this one.
                check_owner(directory, status, owners)
                return Resolved(here, None)
            raise
        if stat.S_ISLNK(status.st_mode):
            if status.st_uid not in owners:
                raise UntrustedPath(f"the link {here} belongs to user {status.st_uid}")
            if not below_sticky and (sticky := sticky_above(directory, known)) is not None:
                raise UntrustedPath(f"others can make links in {sticky}, and {here} is one")
            links += 1
            if links > MAX_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
            target = os.readlink(here)
            if target.startswith("/"):
                real = ""
            pending += [part for part in reversed(target.split("/")) if part not in ("", ".")]
            status = known[real or "/"]
            continue
        real = here
    return Resolved(real or "/", status)


def sticky_above(directory: str, known: dict[str, os.stat_result]) -> str | None:
    """The directory in which others can make names that `directory` is, or lies below: the nearest.

    A link below it counts as theirs, whoever owns it: root makes links of theirs its own (`cp -dR`, `tar -x`,
    `chown -R`). `known`: those above, of which each is fixed or sticky.
    """
    while not known[directory or "/"].st_mode & 0o022:
        if directory in ("", "/"):
            return None
        directory = directory.rpartition("/")[0]
    return directory or "/"


def _check_directory(path: str, status: os.stat_result, owners: frozenset[int]) -> None:
    if not stat.S_ISDIR(status.st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
    check_owner(path, status, owners, sticky_ok=True)


def check_owner(
    path: str, status: os.stat_result, owners: frozenset[int], *, sticky_ok: bool = False
) -> None:
    """Raise UntrustedPath unless only `owners` can write what was found at `path`.

    `sticky_ok`: a sticky directory may be written by all: there nobody can move or remove what is another's
    (inode(7)), so what a trusted owner put there stays. The next component's owner must then be checked too.
    """
    if status.st_uid not in owners:
        raise UntrustedPath(f"{path} belongs to user {status.st_uid}")
    if status.st_mode & 0o022 and not (sticky_ok and status.st_mode & stat.S_ISVTX):
        raise UntrustedPath(f"{path} can be written by its group or by others")


def resolve_owned(
    path: str, owners: frozenset[int], seen: Seen | None = None, *, below_sticky: bool = False
) -> Resolved:
    """As `resolve`, and the thing itself can be changed by `owners` alone."""
    found = resolve(path, owners, seen=seen, below_sticky=below_sticky)
    if found.status is None:  # cannot be: missing_ok is not given
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
    check_owner(found.path, found.status, owners)
    return found


@dataclass(frozen=True, slots=True)
class Identity:
    """The user whom a command runs as: setgroups(2), setresgid(2), setresuid(2), and its variables."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str

    @property
    def is_current(self) -> bool:
        """True if this process is that user already: no call is made then, some user namespaces forbid it."""
        return (self.uid, self.gid) == (os.geteuid(), os.getegid())


def check_search(path: str, status: os.stat_result, looker: Identity | None) -> None:
    """Raise UntrustedPath, whatever is in it, for a directory in which `looker` may not look, by its mode."""
    if looker is None:
        return
    is_member = status.st_gid in (looker.gid, *looker.groups)
    bit = 0o100 if status.st_uid == looker.uid else 0o010 if is_member else 0o001
    if not status.st_mode & bit:
        raise UntrustedPath(f"{looker.name} may not look into {path}")


def user_number(text: str) -> int:
    """The uid of a name or number. Raises KeyError."""
    if _NUMBER.fullmatch(text) and int(text) < _INVALID_ID:
        return int(text)
    return pwd.getpwnam(text).pw_uid


def group_number(text: str) -> int:
    """The gid of a name or number. Raises KeyError."""
    if _NUMBER.fullmatch(text) and int(text) < _INVALID_ID:
        return int(text)
    return grp.getgrnam(text).gr_gid


def overflow_uid() -> int:
    """The number that an unmapped user appears under (user_namespaces(7))."""
    with open("/proc/sys/kernel/overflowuid", encoding="ascii") as file:
        return int(file.read())


def overflow_gid() -> int:
    """The number that an unmapped group appears under (user_namespaces(7))."""
    with open("/proc/sys/kernel/overflowgid", encoding="ascii") as file:
        return int(file.read())


def in_user_namespace() -> bool:
    """True outside the initial user namespace, where some users have no number of their own."""
    with open("/proc/self/uid_map", encoding="ascii") as file:
        return file.read().split() != ["0", "0", "4294967295"]


@functools.cache
def unmapped_uid() -> int | None:
    """The number of users that this namespace does not have, None where it has all."""
    return overflow_uid() if in_user_namespace() else None


def base_owners(uid: int | None = None) -> frozenset[int]:
    """Return whom the daemon must trust before it has read anything: root, itself, and whom it cannot see.

    `uid`: that of the daemon; by default that of this process.
    """
    owners = {0, os.geteuid() if uid is None else uid}
    if in_user_namespace():
        owners.add(overflow_uid())
    return frozenset(owners)


def process_user(pid: int) -> tuple[int, int, int]:
    """Real, effective and saved uid of a process (credentials(7)). Raises OSError."""
    # Bytes: a process chooses its name in there, and the kernel escapes no carriage return of it.
    with open(f"/proc/{pid}/status", "rb") as file:
        for line in file:
            if line.startswith(b"Uid:"):
                real, effective, saved, _ = map(int, line.split()[1:])
                return real, effective, saved
    raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH))


def is_descendant(pid: int) -> bool:
    """True if this process started that one, directly or through others. Raises OSError."""
    own = os.getpid()
    while pid > 1:
        pid = _parent(pid)
        if pid == own:
            return True
    return False


def _parent(pid: int) -> int:
    with open(f"/proc/{pid}/stat", "rb") as file:
        # The name in parentheses may hold anything; the state and the parent follow the last one.
        return int(file.read().rpartition(b")")[2].split()[1])


def ancestors() -> frozenset[int]:
    """This process, its parents up to pid 1, and pid 1."""
    found = {os.getpid(), 1}
    pid = os.getppid()
    while pid > 1:
        found.add(pid)
        pid = _parent(pid)
    return frozenset(found)
