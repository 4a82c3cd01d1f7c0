"""Tell whether a process is one that a filter means: what it runs, whose it is, in which namespaces.

Promises: the executable of a process, which its user can start with code of its own (LD_PRELOAD, ptrace(2)),
is never all that is looked at where a command is given the number.
"""

import contextlib
import errno
import fcntl
import os
import select
from dataclasses import dataclass
from typing import Final

from rootwrap_daemon.filters.values import Options
from rootwrap_daemon.policy import executables, host
from rootwrap_daemon.policy.executables import Executable
from rootwrap_daemon.policy.host import in_user_namespace
from rootwrap_daemon.policy.wrappers import MULTI_CALL

_NS_GET_USERNS: Final = 0xB701  # ioctl_nsfs(2)
_NS_GET_PARENT: Final = 0xB702


class NotMeant(Exception):
    """This process is not one that the filter means. The text says why."""


class Gone(NotMeant):
    """There is no such process any more."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """The processes that a filter means: those that run `program`, with what its options say.

    `owners` may replace the file of the program. `commanded`: a command is given the number, and may do more
    with the process than to end it. `entered`: it goes into the process (behaviour.enters).
    """

    program: Executable
    options: Options
    owners: frozenset[int]
    commanded: bool = False
    entered: bool = False


def open_process(pid: int, wanted: Wanted, untouchable: frozenset[int]) -> int:
    """A pidfd of the process, if it is meant, and none of `untouchable`. Raises NotMeant or OSError."""
    if pid in untouchable:
        raise NotMeant(f"{pid} is the daemon, an ancestor of it, or pid 1")
    try:
        # From here on the number may be reused; the descriptor stays with the one process.
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        raise Gone(f"there is no process {pid}") from None
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.EINVAL):
            raise
        # The number of a thread, by the kernel's age.
        raise NotMeant(f"there is no process {pid}, only a thread") from None
    try:
        try:
            _check(pid, wanted)
        except (OSError, NotMeant):
            # What it was is not asked of one that has ended.
            if not has_ended(pidfd):
                raise
        # Alive now means that the number meant this process all the while.
        if has_ended(pidfd):
            raise Gone(f"process {pid} has ended")
    except BaseException:
        os.close(pidfd)
        raise
    return pidfd


def has_ended(pidfd: int) -> bool:
    """True if the process is gone, or a zombie."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


def _check(pid: int, wanted: Wanted) -> None:
    options, program = wanted.options, wanted.program
    if not executables.runs_program(pid, program, wanted.owners) or not is_called(pid, program):
        raise NotMeant(f"process {pid} does not run {program.path}")
    user = host.process_user(pid)
    if wanted.entered and not wanted.owners.issuperset(user):
        # It may go to another namespace after this look, and put its own files in the place of ours there.
        raise NotMeant(f"process {pid} is not that of a trusted owner, and the command would enter it")
    if options.target_user is not None:
        try:
            meant = host.user_number(options.target_user)
        except KeyError:
            raise NotMeant(f"there is no user {options.target_user}") from None
        if user[0] != meant:
            raise NotMeant(f"process {pid} is not {options.target_user}'s")
    elif wanted.commanded and not options.started_by_us and not wanted.owners.issuperset(user):
        # Its user decides what it runs, and may take it to another namespace after this look.
        raise NotMeant(f"process {pid} is not that of a trusted owner: target_user if another is meant")
    if options.started_by_us and not host.is_descendant(pid):
        raise NotMeant(f"process {pid} was not started here")
    if not options.any_namespace and is_foreign(pid, mounts=wanted.commanded):
        raise NotMeant(f"process {pid} is in another namespace: namespaces = any if that is meant")


def is_called(pid: int, program: Executable) -> bool:
    """True if the process runs as this program, and not as another one of the same file.

    Its own word for it is enough: whose process it is must be asked by itself. Raises OSError.
    """
    name, real = os.path.basename(program.path), os.path.basename(os.path.realpath(program.path))
    shared = real in MULTI_CALL or os.stat(program.path).st_nlink > 1
    if not shared:
        return True
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        words = [os.path.basename(os.fsdecode(word)) for word in file.read(4096).split(b"\0")]
    # A login shell begins with a dash; who sets a title writes `name: what it does`.
    first = words[0].removeprefix("-").partition(":")[0]
    if first == real and real in MULTI_CALL and len(words) > 1:
        first = words[1].removeprefix("--coreutils-prog=").removeprefix("--coreutils-prog-shebang=")
    return first == name or (first == real and real not in MULTI_CALL)


def is_foreign(pid: int, *, mounts: bool) -> bool:
    """True if the process sees a system that another than root of this one may have made.

    It is in another user namespace than this process, or in a mount namespace that belongs to another one;
    with `mounts`, in any other mount namespace than this process and pid 1. Raises OSError.
    """
    own = _namespace("self", "user")
    if _namespace(pid, "user") != own:
        # Inside of a user namespace that is all of the system, a process of its parent is more than we are.
        return not in_user_namespace() or _is_below(pid, own)
    mounted = _namespace(pid, "mnt")
    if mounted == _namespace("self", "mnt"):
        return False
    with contextlib.suppress(PermissionError):
        # A service may have mounts of its own; in a container pid 1 cannot always be looked at.
        if mounted == _namespace(1, "mnt"):
            return False
    return mounts or _owner_of_mounts(pid) != own


def _namespace(pid: int | str, kind: str) -> tuple[int, int]:
    status = os.stat(f"/proc/{pid}/ns/{kind}")
    return status.st_dev, status.st_ino


def _related(descriptor: int, request: int) -> int:
    """A descriptor of the namespace that owns this one, or is its parent."""
    return fcntl.ioctl(descriptor, request)


def _owner_of_mounts(pid: int) -> tuple[int, int]:
    with (
        open(f"/proc/{pid}/ns/mnt", "rb", buffering=0) as mounts,
        open(_related(mounts.fileno(), _NS_GET_USERNS), "rb", buffering=0) as owner,
    ):
        status = os.fstat(owner.fileno())
        return status.st_dev, status.st_ino


def _is_below(pid: int, own: tuple[int, int]) -> bool:
    """True if a process is in a user namespace that was made below this one."""
    descriptor = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY)
    try:
        while True:
            parent = _related(descriptor, _NS_GET_PARENT)
            os.close(descriptor)
            descriptor = parent
            status = os.fstat(descriptor)
            if (status.st_dev, status.st_ino) == own:
                return True
    except PermissionError:
        # Above us, or beside us.
        return False
    finally:
        os.close(descriptor)
