"""Bind the daemon's socket, or check the one that the service manager hands over.

Promises: two daemons never take one another's socket away, and nothing is replaced but a socket at which
nobody listens.
"""

import contextlib
import errno
import fcntl
import os
import socket
import stat
from typing import Final

from rootwrap_daemon.daemon.handover import Door
from rootwrap_daemon.daemon.start import surroundings
from rootwrap_daemon.errors import ConfigurationError
from rootwrap_daemon.policy import host
from rootwrap_daemon.policy.read import owned
from rootwrap_daemon.settings import Settings

#: Bytes of a path that bind(2) takes: unix(7), less the NUL and `.new`.
_LONGEST: Final = 107 - len(".new")


def bound(settings: Settings, owners: frozenset[int]) -> Door:
    """Bind beside the name that is asked for, with mode and group; who serves it lets it appear.

    Raises ConfigurationError.
    """
    path = _path(settings, owners)
    lock = _lock(path)
    try:
        _take_away(f"{path}.new")
    except OSError as error:
        raise ConfigurationError(f"socket_path: {settings.socket_path}: {error}") from error
    made = _made(f"{path}.new", settings)
    return Door(kind="bound", descriptor=made.detach(), place=path, path=path, lock=lock)


def _made(name: str, settings: Settings) -> socket.socket:
    """A socket bound to this name, with mode and group. Raises ConfigurationError."""
    group = group_of(settings)
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    option, value = "socket_path", settings.socket_path
    try:
        made.bind(name)
        os.chmod(name, 0)
        if group is not None:
            # In a user namespace there are groups that nothing can be given to (user_namespaces(7)).
            option, value = "socket_group", f"the socket cannot be given to {settings.socket_group}"
            os.chown(name, -1, group)
        os.chmod(name, settings.socket_mode)
    except OSError as error:
        made.close()
        raise ConfigurationError(f"{option}: {value}: {error.strerror}: name another") from error
    return made


def handed(descriptor: int, settings: Settings, owners: frozenset[int]) -> Door:
    """The socket that the service manager hands over; its mode and owner are those of the .socket unit.

    Raises ConfigurationError that says what it is instead.
    """
    path = settings.socket_path
    _in_owned_directory(path, owners)
    what = f"the service manager hands over descriptor {descriptor}"
    if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
        raise ConfigurationError(f"{what}, which is no socket: it must come from a ListenStream=")
    with socket.socket(fileno=os.dup(descriptor)) as taken:
        if taken.family != socket.AF_UNIX or taken.type != socket.SOCK_STREAM:
            raise ConfigurationError(f"{what}, which is no Unix stream socket: write ListenStream={path}")
        if not taken.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            raise ConfigurationError(f"{what}, which does not listen: write Accept=no")
        name = taken.getsockname()
    if isinstance(name, bytes) or os.path.normpath(name) != os.path.normpath(path):
        raise ConfigurationError(
            f"{what}, which listens at {name!r} and not at socket_path ({path}): make them the same"
        )
    return Door(kind="handed", descriptor=descriptor, place=path)


def check(settings: Settings, owners: frozenset[int]) -> None:
    """Look whether `bound` would work, and leave nothing. Raises ConfigurationError."""
    path = _path(settings, owners)
    directory = os.path.dirname(path)
    try:
        # The lock.
        surroundings.can_be_made(directory)
        descriptor = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise ConfigurationError(f"socket_path: {path}: {error}") from error
    # By its descriptor, the directory has a name that is short enough for any file in it.
    probe = f"/proc/self/fd/{descriptor}/.rootwrap-daemon-{os.getpid()}"
    try:
        _made(probe, settings).close()
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(probe)
        os.close(descriptor)


def _path(settings: Settings, owners: frozenset[int]) -> str:
    """The real path of the socket, where nothing is in the way. Raises ConfigurationError."""
    path = _in_owned_directory(settings.socket_path, owners)
    if len(os.fsencode(path)) > _LONGEST:
        raise ConfigurationError(f"socket_path: {path}: longer than {_LONGEST} bytes: name a shorter path")
    group_of(settings)
    _look(path)
    _look(f"{path}.new")
    _look_at_lock(f"{path}.lock")
    return path


def group_of(settings: Settings) -> int | None:
    """The group of the socket, None for the daemon's own. Raises ConfigurationError."""
    if settings.socket_group is None:
        return None
    try:
        return host.group_number(settings.socket_group)
    except KeyError:
        raise ConfigurationError(
            f"socket_group: there is no {settings.socket_group!r} here: name one"
        ) from None


def _in_owned_directory(path: str, owners: frozenset[int]) -> str:
    try:
        directory = owned.directory_of(path, owners)
    except FileNotFoundError as error:
        remedy = f"`install -d -m 0755 {os.path.dirname(path)}` makes it; in /run at each boot"
        raise ConfigurationError(f"socket_path: {path}: there is no {error.filename}: {remedy}") from error
    except (OSError, host.UntrustedPath) as error:
        raise ConfigurationError(
            f"socket_path: {path}: {error}: its directory must be that of root or of one of trusted_owners"
        ) from error
    name = os.path.basename(path)
    if not name:
        raise ConfigurationError(f"socket_path: {path}: not a file in a directory: name one")
    return f"{directory.rstrip('/')}/{name}"


def _look(path: str) -> None:
    """Raise ConfigurationError if anything but a socket is there."""
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise ConfigurationError(
                f"socket_path: {path} is there, and is no socket: take it away, or name another path"
            )


def _take_away(path: str) -> None:
    """Remove the socket of a daemon that was killed. Raises ConfigurationError, OSError."""
    _look(path)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def _look_at_lock(path: str) -> None:
    """Raise ConfigurationError if a file that is no lock is there: a lock is empty."""
    with contextlib.suppress(FileNotFoundError):
        found = os.lstat(path)
        if not stat.S_ISREG(found.st_mode) or found.st_size:
            raise ConfigurationError(
                f"socket_path: {path} is there, and is no lock of a daemon: name another path"
            )


def _lock(path: str) -> int:
    """Keep PATH.lock, so that two daemons never take one another's socket away."""
    _look_at_lock(f"{path}.lock")
    try:
        descriptor = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigurationError(f"socket_path: {path}.lock: {error}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise ConfigurationError(f"socket_path: another daemon listens on {path}") from error
    for name in (path, f"{path}.new"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
            answer = probe.connect_ex(name)
        if answer not in (errno.ENOENT, errno.ECONNREFUSED):
            # EAGAIN: so many wait there; EPROTOTYPE: datagrams.
            os.close(descriptor)
            raise ConfigurationError(f"socket_path: another program listens on {name}: name another path")
    return descriptor
