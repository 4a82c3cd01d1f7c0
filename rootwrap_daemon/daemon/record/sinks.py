"""Take audit records and log lines: a file that follows its name, or standard error, which never blocks.

Promises: a record is one write(2), taken within the patience given or not at all, and no thread waits for
another.
"""

import fcntl
import logging
import os
import select
import socket
import stat
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Protocol

from rootwrap_daemon.errors import ConfigurationError
from rootwrap_daemon.policy import host

LOG = logging.getLogger(__name__)


class Sink(Protocol):
    """Takes audit records. `is_log`: its failures cannot be logged, because the log goes the same way."""

    is_log: bool

    def put(self, line: bytes, patience: float) -> None:
        """Take one line of JSON within `patience` seconds. Raises OSError, TimeoutError among them."""

    def reopen(self) -> None:
        """Go on in what now stands under the same name; if it raises OSError or UntrustedPath, as before."""

    def close(self) -> None:
        """Let go of it."""


def patiently(descriptor: int, patience: float, send: Callable[[], int]) -> int:
    """Return what `send`, which must not block, returns once `descriptor` takes something. Raises OSError."""
    deadline = time.monotonic() + patience
    while True:
        try:
            return send()
        except BlockingIOError:
            left = deadline - time.monotonic()
            poll = select.poll()
            poll.register(descriptor, select.POLLOUT)
            if left <= 0 or not poll.poll(left * 1000):
                raise TimeoutError("its reader does not read") from None


def opened(path: str, owners: frozenset[int], *, regular: bool, create: int = os.O_CREAT) -> tuple[str, int]:
    """The file's name below directories of `owners`, and a descriptor to append to it.

    `regular`: refuse what takes a record and keeps it nowhere. Raises OSError, UntrustedPath.
    """
    directory = host.resolve_owned(os.path.dirname(path), owners).path
    # A FIFO without a reader is an error at once, and one with a slow reader says so.
    flags = os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
    name = f"{directory}/{os.path.basename(path)}"
    descriptor = os.open(name, flags | create, 0o600)
    is_kept = stat.S_ISREG(os.fstat(descriptor).st_mode) and not name.startswith(("/proc/", "/sys/"))
    if regular and not is_kept:
        os.close(descriptor)
        raise OSError("it keeps no record: name a regular file, or write `audit = best_effort`")
    return name, descriptor


class File:
    """A file opened to append, by its name: when that names another file, or none, it is opened anew.

    So no style of rotation loses a record: whether the old file was renamed, deleted or truncated, and with
    or without a signal. What is written while that happens is in the old file or the new, whole.
    """

    is_log = False

    def __init__(self, path: str, owners: frozenset[int], *, regular: bool) -> None:
        """Raises ConfigurationError if the file cannot be opened safely."""
        self._opened = partial(opened, path, owners, regular=regular)
        # Held for a write alone, never while a reader is waited for.
        self._lock = threading.Lock()
        self._descriptor = -1
        #: The file ends in the middle of a record.
        self._torn = self._complained = False
        try:
            self._reopen()
        except (OSError, host.UntrustedPath) as error:
            raise ConfigurationError(f"audit_file: {path} cannot be opened: {error}") from error

    def put(self, line: bytes, patience: float) -> None:
        """One write(2) with O_APPEND: whole among those of other processes."""
        patiently(self._descriptor, patience, lambda: self._write(line))

    def _write(self, line: bytes) -> int:
        with self._lock:
            self._follow_name()
            data = b"\n" + line if self._torn else line
            written = os.write(self._descriptor, data)
            # A full disk takes a part; the next record starts on a line of its own.
            self._torn = written != len(data)
        if written != len(data):
            raise OSError("a short write")
        return written

    def _follow_name(self) -> None:
        try:
            status = os.lstat(self._name)
            if (status.st_dev, status.st_ino) == self._identity:
                return
        except OSError:
            # Deleted, or renamed.
            pass
        try:
            self._reopen()
        except (OSError, host.UntrustedPath) as error:
            if not os.fstat(self._descriptor).st_nlink:
                raise OSError(f"the file was deleted, and cannot be made anew: {error}") from error
            # It is still there under another name, and takes records.
            if not self._complained:
                self._complained = True
                LOG.error("the audit log is not reopened, records go where they went before: %s", error)

    def reopen(self) -> None:
        """As logrotate(8) wants it; the next write would do so by itself."""
        with self._lock:
            # Whoever called says so if this fails.
            self._complained = True
            self._reopen()

    def _reopen(self) -> None:
        self._name, new = self._opened()
        if self._descriptor < 0:
            self._descriptor = new
        else:
            # In the old one's place in one step (dup3(2)): the number is never closed, nor another file's.
            os.dup2(new, self._descriptor, inheritable=False)
            os.close(new)
        self._complained = False
        status = os.fstat(self._descriptor)
        self._identity: tuple[int, int] = status.st_dev, status.st_ino
        self._torn = stat.S_ISREG(status.st_mode) and _is_torn(self._descriptor, status.st_size)

    def close(self) -> None:
        os.close(self._descriptor)


def _is_torn(descriptor: int, size: int) -> bool:
    """True unless the file is empty or ends in a newline."""
    try:
        with open(f"/proc/self/fd/{descriptor}", "rb", 0) as file:
            return bool(size) and os.pread(file.fileno(), 1, size - 1) != b"\n"
    except OSError:
        # A needless empty line is better than two records in one.
        return True


class StandardError:
    """Descriptor 2, whatever it is and whoever shares it, without blocking."""

    is_log = True

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        status = os.fstat(2)
        if stat.S_ISSOCK(status.st_mode):
            # What systemd gives a service.
            self._socket = socket.socket(fileno=os.dup(2))
            self._descriptor = self._socket.fileno()
        else:
            self._descriptor = os.dup(2) if stat.S_ISREG(status.st_mode) else _opened_anew()

    def send(self, data: bytes, patience: float) -> int:
        """Write as much as is taken. Raises OSError."""
        return patiently(self._descriptor, patience, lambda: self._send(data))

    def _send(self, data: bytes) -> int:
        if self._socket is not None:
            return self._socket.send(data, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        return os.write(self._descriptor, data)

    def put(self, line: bytes, patience: float) -> None:
        if self.send(line, patience) != len(line):
            raise OSError("a short write")

    def reopen(self) -> None:
        """There is nothing under a name."""

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
        else:
            os.close(self._descriptor)


def _opened_anew() -> int:
    """A pipe, terminal or device as an open file of our own: O_NONBLOCK of a shared one binds who shares."""
    flags = fcntl.fcntl(2, fcntl.F_GETFL)
    if flags & os.O_PATH or flags & os.O_ACCMODE == os.O_RDONLY:
        # Anybody has a disk so, and opened anew by root it could be written. What is logged is lost.
        return os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.open("/proc/self/fd/2", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        # Another user's, or a pipe without a reader. Rather them surprised than a session blocked.
        descriptor = os.dup(2)
        os.set_blocking(descriptor, False)
        return descriptor
