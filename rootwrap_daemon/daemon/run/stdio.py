"""Check descriptors that a client passes as a command's stdin, stdout and stderr: its own pipes.

Promises: nothing is asked of a file system that the client may run; a child that opens its /proc/self/fd/N
again gets nothing that the client could not.
"""

import fcntl
import os
import stat
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Final, Self

from rootwrap_daemon.errors import RemoteProtocolError
from rootwrap_daemon.protocol.messages import STDERR, STDIN, STDOUT

#: Each slot, and how its descriptor must be open.
_SLOTS: Final = (
    (STDIN, "stdin", os.O_RDONLY),
    (STDOUT, "stdout", os.O_WRONLY),
    (STDERR, "stderr", os.O_WRONLY),
)


def _device_of_pipes() -> int:
    """The device of every anonymous pipe: pipefs, which nobody can mount (pipe(7))."""
    ends = os.pipe2(os.O_CLOEXEC)
    try:
        return os.fstat(ends[0]).st_dev
    finally:
        for end in ends:
            os.close(end)


_PIPES: Final = _device_of_pipes()


class Stdio:
    """The descriptors for a command's stdin, stdout and stderr: `ends`, None where /dev/null is meant.

    Owns the descriptors until it is closed.
    """

    def __init__(self, descriptors: Sequence[int], slots: int) -> None:
        rest = iter(descriptors)
        self.ends = tuple(next(rest) if slots & slot else None for slot, _, _ in _SLOTS)

    def check(self, uid: int) -> None:
        """Refuse all but anonymous pipes that `uid`, the client's user, has made. Raises RemoteProtocolError.

        An O_PATH descriptor, or one of a named FIFO, could be opened again by a child of root with more
        rights than the client has; a socket lends its sender's identity, and shared memory is charged to
        whoever touches it.
        """
        for end, (_, name, mode) in zip(self.ends, _SLOTS, strict=True):
            if end is not None and (problem := _problem(end, mode, uid)):
                raise RemoteProtocolError(f"{name} {problem}: pass an anonymous pipe that this user made")

    def close(self) -> None:
        """Close what is still open."""
        ends, self.ends = self.ends, (None, None, None)
        let_go(end for end in ends if end is not None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def let_go(descriptors: Iterable[int]) -> None:
    """Close them, which may take as long as their client likes."""
    for descriptor in descriptors:
        # It is closed in any case (close(2)); what its file system has to say concerns its client.
        with suppress(OSError):
            os.close(descriptor)


def is_pipe(descriptor: int) -> bool:
    """True for an anonymous pipe, as the kernel itself names it: no file system is asked."""
    return os.readlink(f"/proc/self/fd/{descriptor}").startswith("pipe:[")


def _problem(descriptor: int, mode: int, uid: int) -> str:
    flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
    if flags & os.O_PATH or flags & os.O_ACCMODE != mode:
        return "is not open for what it is passed for"
    # Before fstat(2), which may wait for a file system of the client's.
    if not is_pipe(descriptor):
        return "is no anonymous pipe"
    status = os.fstat(descriptor)
    if not stat.S_ISFIFO(status.st_mode) or status.st_dev != _PIPES:
        return "is no anonymous pipe"
    if status.st_uid != uid:
        return "is a pipe of another user"
    return ""
