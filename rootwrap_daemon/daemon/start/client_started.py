"""Find out who started this daemon: a client over descriptor 0, or a user without rights through sudo(8).

Promises: who the peer is is fixed at the start, and no socket that it passes later changes that.
"""

import os
import pwd
import socket
import stat
from collections.abc import Mapping
from typing import Final

from rootwrap_daemon.daemon.request import Peer, peer_of
from rootwrap_daemon.daemon.start import bootstrap
from rootwrap_daemon.errors import ConfigurationError
from rootwrap_daemon.policy import host
from rootwrap_daemon.policy.read import users

#: The number that no user and no group has: (uid_t) -1, chown(2).
_NOBODY: Final = 2**32 - 1


def control_socket() -> socket.socket | None:
    """The socket that a launching client left as descriptor 0; /dev/null takes its place there.

    It is a SOCK_SEQPACKET one, which no shell, cron or sshd gives anybody as standard input.
    """
    if not stat.S_ISSOCK(os.fstat(0).st_mode):
        return None
    with socket.socket(fileno=os.dup(0)) as found:
        if found.family != socket.AF_UNIX or found.type != socket.SOCK_SEQPACKET:
            return None
        control = found.dup()
    null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    os.dup2(null, 0)
    os.close(null)
    return control


def the_peer(control: socket.socket, environ: Mapping[str, str], peer_uid: int | None) -> Peer:
    """Return the client: the maker of the socket, or whom a launcher of root's names with `peer_uid`.

    The credentials of a socket can be made to say root, by whoever gets hold of one that a program of root's
    made: so what the setuid program says that became this daemon must agree. Raises ConfigurationError.
    """
    try:
        peer = peer_of(control)
    except OSError as error:
        raise ConfigurationError(f"descriptor 0 tells no peer: {error.strerror}") from error
    for name in bootstrap.CALLERS:
        if name in environ and not _is(environ[name], peer.uid):
            raise ConfigurationError(
                f"{name} is {environ[name]!r}, and user {peer.uid} made descriptor 0: pass one of your own"
            )
    if peer_uid is None:
        return peer
    if peer.uid != 0:
        raise ConfigurationError("--peer-uid is for root, who may name another; you are the one you are")
    if not 0 <= peer_uid < _NOBODY:
        raise ConfigurationError(f"--peer-uid: {peer_uid} is no number of a user")
    try:
        identity = users.identity(pwd.getpwuid(peer_uid).pw_name)
    except KeyError:
        # Nobody says of which groups a user without a name is: of none that allowed_groups can name.
        return Peer(peer.pid, peer_uid, _NOBODY, ())
    return Peer(peer.pid, identity.uid, identity.gid, tuple(identity.groups))


def by_another(environ: Mapping[str, str], maker: int | None) -> bool:
    """True if a user without rights started this process, through sudo(8) or the like: its limits are theirs.

    `maker`: who made descriptor 0, if that is a control socket.
    """
    said = any(name in environ and not _is(environ[name], os.geteuid()) for name in bootstrap.CALLERS)
    return said or maker not in (None, os.geteuid())


def _is(caller: str, uid: int) -> bool:
    try:
        return host.user_number(caller) == uid
    except KeyError:
        return False
