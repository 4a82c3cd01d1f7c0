"""Listen on a Unix socket: one that was handed over, or one bound here.

Promises: a socket appears at its path with mode and group right, and two daemons never take each other's.
"""

import fcntl
import os
import socket
from typing import Final

from rootwrap_daemon.daemon.request import Peer, peer_of
from rootwrap_daemon.daemon.start import systemd
from rootwrap_daemon.errors import ConfigurationError
from rootwrap_daemon.policy import host

#: Connections that may wait to be accepted; the kernel takes the smaller of this and net.core.somaxconn.
_BACKLOG: Final = 4096


#: An alias: inside the classes below, `socket` is an attribute.
Socket = socket.socket


class _Listening:
    """A listening socket, and the kernel's word for who connected."""

    socket: Socket

    def accept(self) -> Socket:
        """The next connection. Raises BlockingIOError, OSError."""
        return self.socket.accept()[0]

    def peer_of(self, connection: Socket) -> Peer:
        """Raises OSError."""
        return peer_of(connection)


class Listener(_Listening):
    """A listening socket in the file system. `close` takes it away again."""

    def __init__(self, path: str, *, mode: int, group: int | None, owners: frozenset[int]) -> None:
        """Raises ConfigurationError."""
        self.place = self.path = _in_owned_directory(path, owners)
        self._lock = _lock(self.path)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        new = f"{self.path}.new"
        try:
            # A name nobody knows yet, until mode and group are right; then it takes the place of a dead one.
            _remove(new)
            self.socket.bind(new)
            os.chmod(new, 0)
            if group is not None:
                os.chown(new, -1, group)
            os.chmod(new, mode)
            self.socket.listen(_BACKLOG)
            self._inode = os.lstat(new).st_ino
            os.rename(new, self.path)
        except OSError as error:
            self.socket.close()
            os.close(self._lock)
            raise ConfigurationError(f"socket_path: {path}: {error}") from error

    def close(self) -> None:
        """Take no more connections, and let another daemon take the path."""
        self.socket.close()
        try:
            if os.lstat(self.path).st_ino == self._inode:
                os.unlink(self.path)
        except FileNotFoundError:
            pass
        os.close(self._lock)


class HandedListener(_Listening):
    """A listening socket that the service manager made and keeps: `close` leaves it to the next daemon."""

    def __init__(self, descriptor: int, path: str, *, owners: frozenset[int]) -> None:
        """Raises ConfigurationError."""
        _in_owned_directory(path, owners)
        self.socket = systemd.take_socket(descriptor, path)
        self.place = path

    def close(self) -> None:
        """Take no more connections here; those that come wait for the next daemon."""
        self.socket.close()


def _in_owned_directory(path: str, owners: frozenset[int]) -> str:
    try:
        directory = host.resolve_owned(os.path.dirname(path), owners).path
    except (OSError, host.UntrustedPath) as error:
        raise ConfigurationError(f"socket_path: {path}: {error}: its directory must be root's") from error
    return f"{directory}/{os.path.basename(path)}"


def _lock(path: str) -> int:
    """Hold PATH.lock, so that two daemons never take one another's socket away."""
    try:
        descriptor = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigurationError(f"socket_path: {path}.lock: {error}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise ConfigurationError(f"socket_path: another daemon listens on {path}") from error
    return descriptor


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
