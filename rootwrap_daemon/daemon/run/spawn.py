"""Create processes; nothing else in the daemon does.

Promises: absolute path, argv as given, exactly the given environment, descriptors 0-2 and those handed over,
a session and process group of its own, default signals, complete identity. A call is over when the kernel has
executed a program as root: there is no copy of the daemon that somebody else could stop or look into.
"""

import errno
import os
import signal
import subprocess
from collections.abc import Sequence
from typing import Final

from rootwrap_daemon.daemon.run import shim
from rootwrap_daemon.daemon.run.orphans import REAPER
from rootwrap_daemon.daemon.run.registry import Ticket
from rootwrap_daemon.errors import Error, ExecutableNotFound, InternalError, TooLarge
from rootwrap_daemon.policy.bind import BoundExec

_NOT_EXECUTABLE: Final = frozenset(
    (errno.ENOENT, errno.EACCES, errno.ENOEXEC, errno.ETXTBSY, errno.ENOTDIR, errno.ELOOP, errno.EISDIR)
)


class Child:
    """A process, its pidfd and our ends of its pipes. It is reaped by `reap` and by nothing else.

    Until then it stays a zombie once it has ended, so that the number of its process group is not used again.
    """

    def __init__(
        self,
        process: "subprocess.Popen[bytes]",
        pidfd: int,
        stdin: int | None = None,
        outputs: tuple[int, ...] = (),
    ) -> None:
        self._process = process
        self.pid = process.pid
        self.pidfd = pidfd
        #: The end to write its input to, None without; those to read stdout and stderr from, none without.
        self.stdin = stdin
        self.outputs = outputs
        self._open = {*outputs, *(() if stdin is None else (stdin,))}

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
        """Send a signal to every process of the group."""
        try:
            os.killpg(self.pid, number)
        except (ProcessLookupError, PermissionError):
            # The first cannot be: Popen returns after setsid and exec, and the unreaped leader keeps the
            # group. The second is a daemon without CAP_KILL and a program that changed its user: it is waited
            # for, and then said that it could not be ended.
            pass

    def is_open(self, end: int) -> bool:
        """True until `close` of this end."""
        return end in self._open

    def close(self, end: int) -> None:
        """Close one of our ends."""
        self._open.remove(end)
        os.close(end)

    def reap(self) -> int:
        """Wait for the process, which must have ended; minus the signal's number if one ended it."""
        returncode = self._process.wait()
        REAPER.forgets(self.pid)
        return returncode

    def release(self) -> None:
        """Close every descriptor. What was not reaped by now is left to the orphans' reaper."""
        REAPER.forgets(self.pid)
        for end in tuple(self._open):
            self.close(end)
        os.close(self.pidfd)


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
        process, pidfd = _create(bound, ticket, theirs if stdin else (subprocess.DEVNULL, *theirs))
    except Error:
        _close(ours)
        raise
    finally:
        _close(theirs)
    if stdin:
        return Child(process, pidfd, ours[0], tuple(ours[1:]))
    return Child(process, pidfd, None, tuple(ours))


def spawn_on(bound: BoundExec, ticket: Ticket, stdio: Sequence[int | None]) -> Child:
    """Start the process on these descriptors, which stay the caller's; None: /dev/null. Raises as `spawn`."""
    process, pidfd = _create(bound, ticket, [subprocess.DEVNULL if one is None else one for one in stdio])
    return Child(process, pidfd)


def _open_pidfd(process: "subprocess.Popen[bytes]") -> int:
    try:
        return os.pidfd_open(process.pid)
    except OSError:
        # Out of descriptors: what cannot be watched must not run.
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        REAPER.forgets(process.pid)
        raise


def _create(bound: BoundExec, ticket: Ticket, ends: Sequence[int]) -> "tuple[subprocess.Popen[bytes], int]":
    try:
        ticket.intend(ends[1], ends[2])
        with REAPER.spawning():
            process = _start(bound, *ends)
            ticket.started(process.pid)
            REAPER.awaits(process.pid)
            return process, _open_pidfd(process)
    except OSError as error:
        raise _failure(error) from error
    except (ValueError, subprocess.SubprocessError) as error:
        raise InternalError("the daemon could not start the program") from error


def _close(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def _start(bound: BoundExec, stdin: int, stdout: int, stderr: int) -> "subprocess.Popen[bytes]":
    # Popen uses vfork, and lets go of the GIL meanwhile: a change of identity is the shim's.
    argv, env = shim.wrapped(bound)
    return subprocess.Popen(
        argv,
        executable=argv[0],
        env=env,
        cwd=bound.cwd,
        umask=-1 if bound.umask is None else bound.umask,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        close_fds=True,
        pass_fds=bound.descriptors,
        restore_signals=True,
        start_new_session=True,
    )


def _failure(error: OSError) -> Error:
    if error.errno == errno.E2BIG:
        return TooLarge("the system takes no argv and environment of this size")
    if error.errno in _NOT_EXECUTABLE:
        return ExecutableNotFound(f"the program cannot be executed: {os.strerror(error.errno or 0)}")
    return InternalError("the daemon could not start the program")
