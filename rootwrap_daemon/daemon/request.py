"""Say who makes a request: the peer's credentials, and what its client wants while the command runs.

Promises: the identity of a peer comes from the kernel, is taken once, and before anything is read (unix(7),
SO_PEERCRED).
"""

import array
import enum
import socket
import struct
from dataclasses import dataclass
from typing import Final

_SO_PEERGROUPS: Final = 59  # asm-generic/socket.h; Python has no name for it
_UCRED = struct.Struct("iII")


@dataclass(frozen=True, slots=True)
class Peer:
    """The process that connected, as it was at that moment; `pid` is for the record alone."""

    pid: int
    uid: int
    gid: int
    groups: tuple[int, ...]


def peer_of(connection: socket.socket) -> Peer:
    """Return the credentials at the other end. Raises OSError."""
    pid, uid, gid = _UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    groups = array.array("I")
    # getsockopt takes 1024 bytes at most, 256 groups; who has more is known by user and first group.
    try:
        groups.frombytes(connection.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, 1024))
    except OSError:
        del groups[:]
    return Peer(pid, uid, gid, tuple(groups))


class Wish(enum.Enum):
    """The wish that a client has expressed while its command runs."""

    NOTHING = enum.auto()
    CANCEL = enum.auto()
    # No more bytes will come; the client may still wait for its answer.
    SILENT = enum.auto()
    GONE = enum.auto()
