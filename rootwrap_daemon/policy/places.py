"""Find where a path of a command enters a place whose names somebody not trusted can change.

Promises: below a place nothing is resolved here: a command that is given such a path runs where no symbolic
link below the place is followed (BoundExec.nosymfollow), so it makes no difference when and how it walks. A
word of a client is compared, as text, with the base that the filter names before the host is asked about it.
"""

import errno
import os
import re
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Final

from rootwrap_daemon.policy import host

#: Trees that the kernel makes anew for whoever looks: what a name in them means depends on the process.
KERNEL_TREES: Final = ("/proc", "/sys")
#: What is below /proc for every process alike and without links: a name in it means itself.
WITHOUT_LINKS: Final = ("/proc/sys", "/proc/net", "/proc/self/net", "/proc/irq")
#: Entries of /proc that lead to the process that looks.
_OF_THE_LOOKER: Final = frozenset(("self", "thread-self", "net", "mounts"))
#: What below a process is a link that leads where no text says, or has such links.
_OF_A_PROCESS: Final = frozenset(("cwd", "exe", "fd", "map_files", "ns", "root", "task"))
_OWN_STREAM = re.compile("/proc/(self|thread-self)/fd/[012]", re.ASCII)
#: Trees in which the entries of a directory are links that the system made to objects of the same tree.
_LINK_TREES: Final = ("/dev", "/sys")
#: Links that every distribution has: another beginning for the same directory.
_ALIASES: Final = ("/var/run", "/var/lock", "/bin", "/sbin", "/lib", "/lib64")

_LONGEST: Final = 4095  # PATH_MAX without its NUL


@dataclass(frozen=True, slots=True)
class Walked:
    """The end of a path, as far as it was followed.

    `path`: without a symbolic link down to `place`, or whole without one; what follows is as it was given.
    `place`: the first directory on the way in which somebody not trusted can change what is looked up, None
    if there is none. `status`: of the object, None below a place and where nothing is.
    """

    path: str
    place: str | None
    status: os.stat_result | None


def walk(path: str, owners: frozenset[int], seen: host.Seen, limit: str | None = None) -> Walked:
    """Follow an absolute `path` through what `owners` alone can change, and stop where that ends.

    `limit`: a directory without links in its path that no link on the way may lead out of. Raises
    UntrustedPath where `seen.looker` may not look, for `..` below a place or, without a limit, a directory
    that not everybody may search; with one, for a link that leads out of it, and too many links; Unsure.
    """
    known = seen.directories
    pending = [part for part in reversed(path.split("/")) if part not in ("", ".")]
    real = ""  # of /
    status = _lstat("/", seen)
    links = 0
    is_private = False
    while pending:
        directory = real or "/"
        if status is None or not stat.S_ISDIR(status.st_mode):
            # Nothing is found below it, and only `owners` can make that otherwise.
            return Walked(_joined(real, pending), None, None)
        host.check_search(directory, status, seen.looker)
        fixed = is_fixed(status, owners)
        # Where not everybody may look, whether an entry of a sticky directory is there is not told either.
        is_private = is_private or not status.st_mode & 0o001
        if not fixed and (is_private or not is_sticky(status, owners)):
            return _below(directory, real, pending)
        known[directory] = status
        if limit is None and not status.st_mode & 0o001 and _climbs(reversed(pending)):
            # Whether it gets out would tell those who may not look what is in there.
            raise host.UntrustedPath(f"`..` leads out of {directory}, where not everybody may look")
        part = pending.pop()
        if part == "..":
            real = real.rpartition("/")[0]
            status = known[real or "/"]
            if limit is not None and not is_beneath(real, limit):
                raise host.UntrustedPath(f"`..` leads out of {limit}")
            continue
        here = f"{real}/{part}"
        if real == "/proc" and part in _OF_THE_LOOKER:
            check_process(_joined(here, pending))
            return Walked(_joined(here, pending), None, None)
        try:
            status = _lstat(here, seen)
        except OSError as error:
            above = known[directory]
            closed = fixed and not above.st_mode & 0o011
            if error.errno == errno.EACCES and closed and above.st_uid == host.unmapped_uid():
                # Of a user outside this namespace: nobody in it gets further, by a group neither.
                return Walked(_joined(here, pending), None, None)
            # A file system of others (fuse(8), NFS), or a directory in which a command may do more than this
            # process: what is there is theirs to say.
            return _below(directory, here, pending)
        if status is None:
            if fixed:
                return Walked(_joined(here, pending), None, None)
            return _below(directory, here, pending)
        is_link = stat.S_ISLNK(status.st_mode)
        # In a sticky directory an entry is its owner's to change. A link stays as its maker made it, wherever
        # it was moved to: one of somebody not trusted leads where he wanted.
        if status.st_uid not in owners and (is_link or not fixed):
            return _below(directory, here, pending)
        if not is_link:
            real = here
            continue
        if (sticky := host.sticky_above(directory, known)) is not None:
            return _below(sticky, here, pending)
        if real.startswith("/proc/"):
            # Its text is not where it leads: proc_pid_root(5).
            raise host.UntrustedPath(f"{here} leads to what a process has")
        links += 1
        if links > host.MAX_LINKS:
            if limit is not None:
                raise host.UntrustedPath("too many links")
            # Nobody finds anything there.
            return Walked(_joined(here, pending), None, None)
        target = _readlink(here)
        if limit is not None and not is_beneath(os.path.normpath(os.path.join(directory, target)), limit):
            raise host.UntrustedPath(f"the link {here} leads out of {limit}")
        if target.startswith("/"):
            real = ""
        status = known[real or "/"]
        pending += [part for part in reversed(target.split("/")) if part not in ("", ".")]
    real = real or "/"
    # A program may go into it.
    if status is not None and stat.S_ISDIR(status.st_mode) and real != "/" and not is_fixed(status, owners):
        return Walked(real, real, status)
    return Walked(real, None, status)


def check_process(path: str) -> None:
    """Raise UntrustedPath for a path, as text, through a link to what a process has open, or with `..`.

    Such a link leads past every directory on the way: to what is not looked at, in another tree perhaps.
    """
    parts = _parts(path)
    if ".." in parts or (_OF_A_PROCESS & set(parts[2:]) and not _OWN_STREAM.fullmatch(path)):
        raise host.UntrustedPath(f"{path} leads to what a process has")


def _below(place: str, path: str, pending: list[str]) -> Walked:
    if place == "/":
        # No mount over it is seen by a process that has it as its root already.
        raise host.UntrustedPath("others can change what is in /")
    if ".." in pending:
        raise host.UntrustedPath(f"`..` below {place}, where others can move directories")
    return Walked(_joined(path, pending), place, None)


def _joined(path: str, pending: list[str]) -> str:
    return "/".join((path, *reversed(pending))) or "/"


#: What says that nothing is there, for every process alike.
_NOTHING: Final = frozenset((errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG))


def _lstat(path: str, seen: host.Seen) -> os.stat_result | None:
    """None where nothing is. Raises Unsure, or OSError where this process gets no further."""
    try:
        return seen.look(path)
    except OSError as error:
        if host.is_unsure(error):
            raise host.Unsure(f"{path!a}: {error}") from error
        if error.errno not in _NOTHING:
            raise
        return None
    except ValueError:
        # No file system can encode it.
        return None


def _readlink(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError as error:
        raise host.Unsure(f"{path!a}: {error}") from error


def is_fixed(status: os.stat_result, owners: frozenset[int]) -> bool:
    """True if only `owners` can make, move or remove what is in a directory."""
    return status.st_uid in owners and not status.st_mode & 0o022


def is_sticky(status: os.stat_result, owners: frozenset[int]) -> bool:
    """True if others can make entries in a directory, and move or remove their own alone: inode(7)."""
    return status.st_uid in owners and bool(status.st_mode & stat.S_ISVTX)


def is_beneath(path: str, base: str) -> bool:
    """True if `path` is `base` or continues it, as text."""
    return path == base or path.startswith("/" if base == "/" else f"{base}/")


def is_in(path: str, trees: tuple[str, ...]) -> bool:
    """True if `path` is, or lies beneath, one of these, as text."""
    return any(is_beneath(path, tree) for tree in trees)


def beneath(base: str, word: str, owners: frozenset[int], seen: host.Seen) -> tuple[str, str | None]:
    """The word that names what `word` names beneath `base`, and the place that it leads into.

    What comes back has no link in any component but the last, and leads, followed or not, to `base` or
    beneath it. A base that is no directory is beneath itself alone. Raises UntrustedPath, Unsure.
    """
    tail, follow = _tail(base, word, owners, seen)
    found = walk(base, owners, seen)
    if found.place is not None:
        if ".." in tail:
            raise host.UntrustedPath(f"`..` below {found.place}, where others can move directories")
        return "/".join((found.path, *tail)) + "/" * follow, found.place
    if found.status is None:
        raise host.UntrustedPath("its base is not there")
    if not stat.S_ISDIR(found.status.st_mode):
        if tail or follow:
            raise host.UntrustedPath("its base is no directory")
        # By the name that the filter gives, which tools of devices know.
        directory, _, name = base.rpartition("/")
        return f"{walk(directory or '/', owners, seen).path.rstrip('/')}/{name}", None
    top, limit = found.path, found.path
    if tail and (tree := next((tree for tree in _LINK_TREES if is_beneath(top, tree)), None)):
        # /dev/mapper/NAME, /sys/class/net/NAME: what the entry stands for, and what is in that.
        entry = walk(f"{top}/{tail[0]}", owners, seen, tree)
        if entry.place is None and not is_beneath(entry.path, top):
            limit = entry.path
            walked = walk("/".join((entry.path, *tail[1:])), owners, seen, limit)
            return "/".join((top, *tail)), walked.place
    path = "/".join((top, *tail))
    walked = walk(path, owners, seen, limit)
    if follow or not tail:
        return walked.path + "/" * follow, walked.place
    above = walk("/".join((top, *tail[:-1])), owners, seen, limit)
    return f"{above.path}/{tail[-1]}", walked.place


def changed(walked: Walked, owners: frozenset[int]) -> str | None:
    """The place of a path, empty for a file that others can change where they can move nothing."""
    status = walked.status
    if walked.place is None and status is not None and stat.S_ISREG(status.st_mode):
        return None if is_fixed(status, owners) else ""
    return walked.place


#: One for each name that is looked at for what others can change in the directories of a program.
names: Final = partial(iter, range(10_000))


def is_mixed(top: str, owners: frozenset[int], seen: host.Seen, left: Iterator[int], follow: bool) -> bool:
    """True if others can change something in a directory, however deep (`follow`: behind links, too), or it
    cannot be told: more names than are `left`, or one that `seen.looker` may not see. Raises Unsure, OSError.
    """
    pending, known = [top], {top}
    for directory in pending:
        for name in os.listdir(directory) or ("x",):  # who may not look is not told of nothing either
            try:
                walked = walk(path := f"{directory.rstrip('/')}/{name}", owners, seen)
            except host.UntrustedPath:
                return True
            counts = follow or walked.path == path
            if (counts and changed(walked, owners) is not None) or next(left, None) is None:
                return True
            is_new = counts and walked.path not in known
            if is_new and walked.status and stat.S_ISDIR(walked.status.st_mode):
                known.add(walked.path)
                pending.append(walked.path)
    return False


def as_written(base: str, word: str) -> str:
    """`word` without `.` and `//`, if it is beneath `base` as text. Raises UntrustedPath."""
    text = "/" + "/".join(_parts(word))
    if ".." in text.split("/") or not is_beneath(text, base):
        raise host.UntrustedPath("not beneath its base")
    return text


def _tail(base: str, word: str, owners: frozenset[int], seen: host.Seen) -> tuple[list[str], bool]:
    """The components of `word` after `base`, as text, and True if it ends as a directory's name does.

    Raises UntrustedPath, whatever is there.
    """
    text = "/" + "/".join(_parts(word))
    if len(os.fsencode(word)) > _LONGEST:
        raise host.UntrustedPath("longer than any path")
    follow = word.endswith(("/", "/.", "/.."))
    if not is_beneath(text, base):
        for alias in _ALIASES:
            if is_beneath(text, alias):
                text = walk(alias, owners, seen).path + text[len(alias) :]
        base = walk(base, owners, seen).path
        if not is_beneath(text, base):
            raise host.UntrustedPath("not beneath its base")
    tail = _parts(text[len(base) :])
    if _climbs(tail):
        raise host.UntrustedPath("`..` leads out of its base")
    return tail, follow


def _climbs(parts: Iterable[str]) -> bool:
    """True if these components lead, as text, out of the directory that they begin in."""
    depth = 0
    for part in parts:
        depth += -1 if part == ".." else 1
        if depth < 0:
            return True
    return False


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]


def look_below(place: str, path: str, looker: host.Identity | None = None) -> None:
    """Raise UntrustedPath if `path`, below `place`, crosses a mount or is a file of several names; Unsure.

    The first also where `looker`, who will use it, may not look.

    What is not there, or behind a link, is for the command to find out. A second name could be a hard link to
    a file elsewhere; that nobody makes one of a file that he may not write is fs.protected_hardlinks
    (proc(5)).
    """
    # Not by openat2(2), which RestrictSUIDSGID= of a unit takes away (systemd.exec(5)). A component at a time
    # neither follows a link nor gets back from what is mounted.
    flags = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        found = os.open(place, flags | os.O_DIRECTORY)
        try:
            mount = _mount_of(found)
            for part in _parts(path[len(place) :]):
                if stat.S_ISDIR((status := os.fstat(found)).st_mode):
                    host.check_search(f"a directory below {place}", status, looker)
                above, found = found, os.open(part, flags, dir_fd=found)
                os.close(above)
                if _mount_of(found) != mount:
                    raise host.UntrustedPath(f"another file system is mounted below {place}")
            status = os.fstat(found)
        finally:
            os.close(found)
    except OSError as error:
        if host.is_unsure(error):
            raise host.Unsure(f"{path!a}: {error}") from error
        if error.errno not in _NOTHING:
            raise host.UntrustedPath(f"below {place} nothing can be looked at: {error.strerror}") from error
        return
    except ValueError:
        # No name that a file system could have.
        return
    if stat.S_ISREG(status.st_mode) and status.st_nlink != 1:
        raise host.UntrustedPath(f"a file of {status.st_nlink} names below {place}")


def _mount_of(descriptor: int) -> bytes:
    """The number of the mount that it is in: proc_pid_fdinfo(5). Raises OSError."""
    with open(f"/proc/thread-self/fdinfo/{descriptor}", "rb") as file:
        return next(line for line in file if line.startswith(b"mnt_id:"))


_OCTAL = re.compile(rb"\\([0-7]{3})")


def mounts() -> tuple[str, ...]:
    """List the mount points: proc_pid_mountinfo(5). Raises Unsure."""
    try:
        with open("/proc/thread-self/mountinfo", "rb") as file:
            points = [line.split(b" ")[4] for line in file]
    except OSError as error:
        raise host.Unsure(f"/proc/thread-self/mountinfo: {error}") from error
    # Blanks, tabs, line breaks and backslashes are in octal.
    return tuple(os.fsdecode(_OCTAL.sub(lambda found: bytes((int(found[1], 8),)), one)) for one in points)
