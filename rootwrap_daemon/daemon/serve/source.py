"""Take connections where the start program left them: from a listening socket, or for the one client.

Promises: a socket in the file system appears at its name when the daemon can serve, and what is taken away at
the end is that socket and nothing else.
"""

import ctypes
import os
import socket
import stat
from typing import Final, Protocol

from rootwrap_daemon.daemon.handover import Door
from rootwrap_daemon.daemon.request import Peer, peer_of
from rootwrap_daemon.daemon.serve.connection import without_waiting
from rootwrap_daemon.errors import ConfigurationError

#: Connections that may wait to be accepted; the kernel takes the smaller of this and net.core.somaxconn.
_BACKLOG: Final = 4096
_FLAGS: Final = socket.MSG_NOSIGNAL | socket.MSG_DONTWAIT

_accept4 = ctypes.PyDLL(None, use_errno=True).accept4
_accept4.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int)

#: An alias: inside the classes below, `socket` is an attribute.
Socket = socket.socket


class Source(Protocol):
    """The source of connections. `place`: in words; `socket`: readable when there is one."""

    place: str
    socket: Socket

    def accept(self) -> Socket:
        """Return the next one. Raises EOFError if none will ever come, BlockingIOError, OSError."""

    def peer_of(self, connection: Socket) -> Peer:
        """Return who is at its other end. Raises OSError."""

    def close(self) -> None:
        """Take no more."""


def source(door: Door) -> Source:
    """Open what the start program left for connections. Raises ConfigurationError."""
    taken = socket.socket(fileno=door.descriptor)
    for descriptor in door.descriptors:
        os.set_inheritable(descriptor, False)
    if door.peer is not None:
        return Launched(taken, door.peer, door.place)
    return Bound(taken, door) if door.kind == "bound" else Listening(taken, door.place)


class Listening:
    """A listening socket that the service manager made and keeps: `close` leaves it to the next daemon."""

    def __init__(self, listening: Socket, place: str) -> None:
        self.socket = listening
        self.socket.setblocking(False)
        self.place = place

    def accept(self) -> Socket:
        """Return the next connection. Raises BlockingIOError, OSError.

        It keeps the interpreter's lock: each time that it lets go, every busy thread may come before it.
        """
        descriptor = _accept4(self.socket.fileno(), None, None, socket.SOCK_CLOEXEC)
        if descriptor < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, descriptor)

    def peer_of(self, connection: Socket) -> Peer:
        """Return the kernel's word for who connected. Raises OSError."""
        return peer_of(connection)

    def close(self) -> None:
        """Take no more connections here; those that come wait for the next daemon."""
        self.socket.close()


class Bound(Listening):
    """A socket of the daemon's own, bound beside its name. `close` takes it away again."""

    def __init__(self, bound: Socket, door: Door) -> None:
        """Raises ConfigurationError."""
        super().__init__(bound, door.place)
        self._path, self._lock = door.path, door.lock
        new = f"{door.path}.new"
        try:
            self.socket.listen(_BACKLOG)
            self._inode = os.lstat(new).st_ino
            os.rename(new, self._path)
        except OSError as error:
            raise ConfigurationError(f"socket_path: {self._path}: {error}") from error

    def close(self) -> None:
        """Take no more connections, and let another daemon take the path."""
        self.socket.close()
        try:
            found = os.lstat(self._path)
            if stat.S_ISSOCK(found.st_mode) and found.st_ino == self._inode:
                os.unlink(self._path)
        except OSError:
            # It has been taken away, or cannot be: the next daemon replaces a socket that is dead.
            pass
        os.close(self._lock)


class Launched:
    """Makes a connection for each message on the control socket, and passes its other end back."""

    def __init__(self, control: Socket, peer: Peer, place: str) -> None:
        self.socket = control
        self.peer = peer
        self.place = place

    def accept(self) -> Socket:
        """Our end of the next. Raises EOFError when the client is gone, BlockingIOError, OSError."""
        # Descriptors that come with the message are closed as it is read.
        with without_waiting():
            # Said each time: whoever else has the socket can take O_NONBLOCK away from it.
            word = self.socket.recv(1, socket.MSG_DONTWAIT)
        if not word:
            raise EOFError
        ours: Socket | None = None
        try:
            ours, theirs = socket.socketpair()
            with theirs:
                socket.send_fds(self.socket, [b"+"], [theirs.fileno()], _FLAGS)
        except OSError:
            if ours is not None:
                ours.close()
            # It waits for a word.
            self.socket.send(b"-", _FLAGS)
            raise
        return ours

    def peer_of(self, connection: Socket) -> Peer:
        """Return the client, whatever the connection says."""
        return self.peer

    def close(self) -> None:
        """Make no more connections."""
        self.socket.close()
