"""Where connections come from: a Unix socket handed over, or bound here; credentials -> Peer.

Promises: who a peer is comes from the kernel, taken once, before anything is read (unix(7), SO_PEERCRED).
"""

import array
import fcntl
import os
import socket
import struct
from dataclasses import dataclass
from typing import Final, Protocol

from rootwrap_daemon.daemon.start import systemd
from rootwrap_daemon.errors import ConfigurationError
from rootwrap_daemon.policy import host

_SO_PEERGROUPS: Final = 59  # asm-generic/socket.h; Python has no name for it
_UCRED = struct.Struct("iII")
#: Connections that may wait to be accepted; the kernel takes the smaller of this and net.core.somaxconn.
_BACKLOG: Final = 4096


@dataclass(frozen=True, slots=True)
class Peer:
    """The process that connected, as it was at that moment; `pid` is for the record alone."""

    pid: int
    uid: int
    gid: int
    groups: tuple[int, ...]


def peer_of(connection: socket.socket) -> Peer:
    """Raises OSError."""
    pid, uid, gid = _UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    groups = array.array("I")
    # getsockopt takes 1024 bytes at most, 256 groups; who has more is known by user and first group.
    try:
        groups.frombytes(connection.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, 1024))
    except OSError:
        del groups[:]
    return Peer(pid, uid, gid, tuple(groups))


#: By another name inside a class that has a `socket`.
Socket = socket.socket


class Source(Protocol):
    """Where connections come from. `place`: in words; `socket`: readable when there is one."""

    place: str
    socket: Socket

    def accept(self) -> Socket:
        """The next one. Raises EOFError if there will never be one, BlockingIOError if none now, OSError."""

    def peer_of(self, connection: Socket) -> Peer:
        """Who is at its other end. Raises OSError."""

    def close(self) -> None:
        """Take no more."""


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
