"""Create processes; nothing else in the daemon does.

Promises: absolute path, argv as given, exactly the given environment, descriptors 0-2 and those handed over,
a session, process group and session keyring of its own, default signals, complete identity. A call is over
when the kernel has executed a program as root: no copy of the daemon exists that others could stop.
"""

import contextlib
import ctypes
import errno
import os
import signal
import struct
import subprocess
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from rootwrap_daemon.daemon.run import shim, tools
from rootwrap_daemon.daemon.run.posix_spawn import PosixSpawn
from rootwrap_daemon.daemon.run.registry import Ticket
from rootwrap_daemon.errors import Error, ExecutableNotFound, InternalError, TooLarge
from rootwrap_daemon.policy.bound import BoundExec

_NOT_EXECUTABLE: Final = frozenset(
    (errno.ENOENT, errno.EACCES, errno.ENOEXEC, errno.ETXTBSY, errno.ENOTDIR, errno.ELOOP, errno.EISDIR)
)
#: keyctl(2), which the C library does not have, and rt_sigaction(2), because sigaction(3) and the interpreter
#: refuse two signals of glibc's own; by machine, 64 bits.
_KEYCTL, _RT_SIGACTION = {
    "x86_64": (250, 13),
    **dict.fromkeys(("aarch64", "riscv64", "loongarch64"), (219, 134)),
    "ppc64le": (271, 173),
    "s390x": (280, 174),
}.get(os.uname().machine, (None, None))
_JOIN_SESSION_KEYRING: Final = 1
#: SIGCANCEL and SIGSETXID of glibc, which a starter that used posix_spawn(3) leaves ignored: make(1) does.
_OF_GLIBC: Final = (32, 33)
_PR_SET_CHILD_SUBREAPER: Final = 36
_CAPABILITY_VERSION_3: Final = 0x20080522
_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8
#: waitpid(2): only for children of the calling thread, __WNOTHREAD of linux/wait.h.
_OF_THIS_THREAD: Final = 0x20000000
#: Orphans to reap at once.
_BATCH: Final = 1000
_libc = ctypes.CDLL(None, use_errno=True)
#: Processes that no session waits for any more, and that had not ended then; what to do once they have.
_abandoned: dict[int, deque[Callable[[], None]]] = {}


def prepare() -> None:
    """Make this process one that starts commands; before the first thread. Raises OSError.

    Whoever loses its parent among our descendants becomes our child, so that a KillFilter with
    `started_by = self` knows what was started here: PR_SET_CHILD_SUBREAPER (prctl(2)). Inheritable
    capabilities would reach a command of root beside those of its bounding set; ambient ones end with them:
    capabilities(7). Only a daemon of another user keeps them, because a shim has them in no other way, and
    then executes no command without one. The memory of a large output is given back to the system when it is
    freed.
    """
    heed_signals()
    with contextlib.suppress(AttributeError):
        # Otherwise glibc raises the limit after the first, and keeps up to 64 MiB for good: mallopt(3).
        _libc.mallopt(_M_MMAP_THRESHOLD, 256 * 1024)
        # The others keep at their end what they had at most; with the interpreter's lock one is enough.
        _libc.mallopt(_M_ARENA_MAX, 1)
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    # Effective, permitted, inheritable of the first 32, then of the others.
    data = ctypes.create_string_buffer(24)
    if _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0 or _libc.capget(header, data) != 0:
        raise OSError(ctypes.get_errno(), "prctl, capget")
    without = _without_inheritable(data.raw)
    tools.inherits = os.geteuid() != 0 and without != data.raw
    if not tools.inherits and _libc.capset(header, without) != 0:
        raise OSError(ctypes.get_errno(), "capset")


def heed_signals() -> None:
    """Ignore no signal that whoever started this process had ignored: its commands would, too."""
    for number in signal.valid_signals():
        # The interpreter itself ignores these two, and `subprocess` sets them right.
        if number not in (signal.SIGPIPE, signal.SIGXFSZ) and signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:
        ignored = next((int(line.split()[1], 16) for line in file if line.startswith("SigIgn:")), 0)
    if _RT_SIGACTION is not None:
        # A struct sigaction of zeros, longer than any: SIG_DFL.
        default = ctypes.create_string_buffer(64)
        for other in _OF_GLIBC:
            # Not where glibc has its own handler by now: setuid(2) of a process with threads needs it.
            if ignored >> (other - 1) & 1:
                _libc.syscall(_RT_SIGACTION, other, default, None, 8)


def _without_inheritable(data: bytes) -> bytes:
    low, permitted, _, high, permitted_high, _ = struct.unpack("=6I", data)
    return struct.pack("=6I", low, permitted, 0, high, permitted_high, 0)


def reap_orphans() -> None:
    """Reap the orphans that have ended; for the main thread, which must create no process itself.

    They become children of that thread, as do those of threads that end; what a session waits for is a child
    of the session's own thread.
    """
    for pid in tuple(_abandoned):
        # Where there is no such child it was reaped below.
        with contextlib.suppress(ChildProcessError):
            if not os.waitpid(pid, os.WNOHANG)[0]:
                continue
        _call(_abandoned.pop(pid, deque()))
    # There may be none.
    with contextlib.suppress(ChildProcessError):
        for _ in range(_BATCH):
            pid = os.waitpid(-1, os.WNOHANG | _OF_THIS_THREAD)[0]
            if pid == 0:
                return
            _call(_abandoned.pop(pid, deque()))


def _call(waiting: deque[Callable[[], None]]) -> None:
    # Whoever takes one out calls it, and nobody else.
    with contextlib.suppress(IndexError):
        while True:
            waiting.popleft()()


def when_gone(pid: int, then: Callable[[], None]) -> None:
    """Call `then`: at once, or once a process that its session waits for no more has ended."""
    if (waiting := _abandoned.get(pid)) is None:
        then()
        return
    waiting.append(then)
    if _abandoned.get(pid) is not waiting:
        _call(waiting)


class Child:
    """A process, its pidfd and our ends of its pipes. It is reaped by `reap` and by nothing else.

    Until then it stays a zombie once it has ended, so that the number of its process group is not used again.
    """

    def __init__(
        self,
        pid: int,
        pidfd: int,
        status: int | None,
        stdin: int | None = None,
        outputs: tuple[int, ...] = (),
    ) -> None:
        self.pid = pid
        self.pidfd = pidfd
        #: The end to write its input to, None without; those to read stdout and stderr from, none without.
        self.stdin = stdin
        self.outputs = outputs
        # Where the native shim says what failed.
        self._status = status
        self._open = {one for one in (pidfd, status, stdin, *outputs) if one is not None}
        #: Minus the signal's number if one ended it; None until it is reaped.
        self.returncode: int | None = None

    def signal(self, number: int) -> bool:
        """Send a signal to the main process alone. False if it may not be sent."""
        try:
            signal.pidfd_send_signal(self.pidfd, number)
        except ProcessLookupError:
            # It has ended, and its result is on its way.
            pass
        except OSError:
            return False
        return True

    def signal_group(self, number: int) -> None:
        """Send a signal to every process of the group; none once the leader, and so its number, is free."""
        if self.returncode is not None:
            return
        try:
            os.killpg(self.pid, number)
        except (ProcessLookupError, PermissionError):
            # The first cannot be: a process is created with setsid, and the unreaped leader keeps the group.
            # The second is a daemon without CAP_KILL and a program that changed its user: it is waited for,
            # and then said that it could not be ended.
            pass

    def is_open(self, end: int) -> bool:
        """True until `close` of this end."""
        return end in self._open

    def close(self, end: int) -> None:
        """Close one of our ends."""
        self._open.remove(end)
        os.close(end)

    def has_ended(self) -> bool:
        """True once it can be reaped: a process that is traced has ended for its tracer alone at first."""
        return os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None

    def reap(self) -> bool:
        """Reap the process if it has ended."""
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        if pid:
            self.returncode = os.waitstatus_to_exitcode(status)
        return bool(pid)

    def reaped(self) -> int:
        """Return the code of a process that was reaped."""
        if self.returncode is None:
            raise ValueError("not reaped yet")
        return self.returncode

    def failure(self) -> Error | None:
        """Why the program was not executed, if the shim said so; for a process that was reaped."""
        if self._status is None or self.returncode != shim.FAILED:
            return None
        try:
            failed = shim.failure(os.read(self._status, 64))
        except BlockingIOError:
            # A process that is being created holds the other end until its own exec.
            failed = None
        # The program's own exit code: the shim's end was closed at the exec.
        if failed is None:
            return None
        step, cause = failed
        error = InternalError("the daemon could not start the program") if step else _failure(cause)
        error.__cause__ = OSError(cause.errno, f"{step or 'exec'}: {cause.strerror}")
        return error

    def release(self) -> None:
        """Close every descriptor. What was not reaped by now is left to `reap_orphans`."""
        if self.returncode is None:
            _abandoned[self.pid] = deque()
        for end in tuple(self._open):
            self.close(end)


def spawn(bound: BoundExec, ticket: Ticket, *, stdin: bool) -> Child:
    """Start the process on pipes; `stdin`: with one for its standard input, else /dev/null.

    Raises ExecutableNotFound, TooLarge or InternalError; then there is no process.
    """
    ours: list[int] = []
    theirs: list[int] = []
    try:
        try:
            for index in range(3):
                if index or stdin:
                    read, write = os.pipe2(os.O_CLOEXEC)
                    ours.append(read if index else write)
                    theirs.append(write if index else read)
                    os.set_blocking(ours[-1], False)
        except OSError as error:
            raise _failure(error) from error
        pid, pidfd, status = _create(bound, ticket, theirs if stdin else (None, *theirs))
    except Error:
        _close(ours)
        raise
    finally:
        _close(theirs)
    if stdin:
        return Child(pid, pidfd, status, ours[0], tuple(ours[1:]))
    return Child(pid, pidfd, status, None, tuple(ours))


def spawn_on(bound: BoundExec, ticket: Ticket, stdio: Sequence[int | None]) -> Child:
    """Start the process on these descriptors, which stay the caller's; None: /dev/null. Raises as `spawn`."""
    return Child(*_create(bound, ticket, stdio))


def _create(bound: BoundExec, ticket: Ticket, ends: Sequence[int | None]) -> tuple[int, int, int | None]:
    """A process, its pidfd, and where the native shim says what failed."""
    status: list[int] = []
    try:
        ticket.intend(*(-1 if end is None else end for end in ends[1:]))
        become = shim.native()
        needed = shim.is_needed(bound) or (become is not None and bound.umask is not None)
        needed = needed or bool(ticket.group)
        if needed and become is not None:
            status += os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        _join_new_keyring()
        place = status[1] if status else None
        pid = _start(bound, ends, become, place, needed=needed, group=ticket.entrance)
        ticket.started(pid)
        pidfd = _open_pidfd(pid)
        return pid, pidfd, status.pop(0) if status else None
    except OSError as error:
        raise _failure(error) from error
    except (ValueError, subprocess.SubprocessError) as error:
        raise InternalError("the daemon could not start the program") from error
    finally:
        _close(status)


def _join_new_keyring() -> None:
    """Let the next process of this thread begin with an empty session keyring: session-keyring(7).

    It is looked at first whenever the kernel needs a key, and what a command of one user puts there must not
    be found by that of another. Raises OSError.
    """
    if _KEYCTL is not None and _libc.syscall(_KEYCTL, _JOIN_SESSION_KEYRING, None) < 0:
        failed = ctypes.get_errno()
        # Not built into this kernel, or kept from this container and so from its commands.
        if failed not in (errno.ENOSYS, errno.EPERM, errno.EACCES):
            raise OSError(failed, os.strerror(failed))


def _open_pidfd(pid: int) -> int:
    try:
        return os.pidfd_open(pid)
    except OSError:
        # Out of descriptors: what cannot be watched must not run.
        os.killpg(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise


def _close(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


try:
    _POSIX_SPAWN: PosixSpawn | None = PosixSpawn()
except AttributeError:
    _POSIX_SPAWN = None


def _start(
    bound: BoundExec,
    ends: Sequence[int | None],
    become: str | None,
    status: int | None,
    *,
    needed: bool,
    group: str,
) -> int:
    posix_spawn = None if bound.descriptors else _POSIX_SPAWN
    # Where posix_spawn(3) puts it: behind the standard descriptors.
    place = len(ends) if posix_spawn is not None else status
    plan = shim.Plan(bound.argv, bound.env, bound.umask)
    if needed:
        plan = shim.plan(bound, become, place or 0, group)
    if posix_spawn is not None and plan.umask is None:
        descriptors = ends if status is None else (*ends, status)
        return posix_spawn(plan.argv, plan.env, bound.cwd, descriptors)
    stdin, stdout, stderr = (subprocess.DEVNULL if end is None else end for end in ends)
    # It uses vfork, too.
    process = subprocess.Popen(
        plan.argv,
        executable=plan.argv[0],
        env=plan.env,
        cwd=bound.cwd,
        umask=-1 if plan.umask is None else plan.umask,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        close_fds=True,
        pass_fds=bound.descriptors if status is None else (*bound.descriptors, status),
        restore_signals=True,
        start_new_session=True,
    )
    # It is waited for by `Child.reap` alone.
    process.returncode = 0
    return process.pid


def _failure(error: OSError) -> Error:
    if error.errno == errno.E2BIG:
        return TooLarge("the system takes no argv and environment of this size")
    if error.errno in _NOT_EXECUTABLE:
        return ExecutableNotFound(f"the program cannot be executed: {os.strerror(error.errno or 0)}")
    return InternalError("the daemon could not start the program")
