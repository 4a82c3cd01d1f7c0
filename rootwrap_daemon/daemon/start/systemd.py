"""What the service manager hands over, and what it is told: a listening socket, state, signs of life.

Promises: nothing of it reaches a command; a manager that does not listen never stops the daemon.
"""

import fcntl
import logging
import os
import socket
import stat
import time
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from typing import Final

from rootwrap_daemon.daemon.start import bootstrap
from rootwrap_daemon.errors import ConfigurationError

LOG = logging.getLogger(__name__)

#: The first descriptor that is handed over: SD_LISTEN_FDS_START, sd_listen_fds(3).
_FIRST: Final = 3
#: What etc/systemd/rootwrap-daemon@.socket calls the socket: FileDescriptorName=, systemd.socket(5).
SOCKET_NAME: Final = "rootwrap-daemon"
#: Seconds to wait for a manager that does not take a message.
_PATIENCE: Final = 1.0
#: Characters of a STATUS; `systemctl status` shows one line.
_MAX_STATUS: Final = 400


@dataclass(frozen=True, slots=True)
class Manager:
    """What the environment says of the service manager.

    `listening`: the descriptor of the socket to serve, None to make one. `watchdog`: seconds within which it
    wants a sign of life, None for never. `address`: where it is told, in the form that connect(2) takes.
    """

    listening: int | None = None
    watchdog: float | None = None
    address: str | None = None

    def notify(self, **values: object) -> None:
        """Tell the manager: READY=1 and the like, sd_notify(3). What cannot be told is logged."""
        if self.address is None:
            return
        text = "\n".join(f"{name}={_line(str(value))}" for name, value in values.items())
        try:
            # A socket for each message: they are rare, and it holds none for what can be restarted.
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.settimeout(_PATIENCE)
                sender.sendto(text.encode("utf-8", "replace"), self.address)
        except OSError as error:
            LOG.warning("the service manager cannot be told %s: %s", "/".join(values), error)


def manager(environ: MutableMapping[str, str]) -> Manager:
    """Read what is meant for this process, and take all of it out of `environ`.

    To be called before any descriptor beyond the standard ones is left open. Raises ConfigurationError.
    """
    said = {name: environ.pop(name) for name in bootstrap.MANAGER if name in environ}
    return Manager(_listening(said), _watchdog(said), _address(said.get("NOTIFY_SOCKET", "")))


def _line(text: str) -> str:
    """A value of one line: a newline would begin another assignment."""
    line = "; ".join(part.strip() for part in text.splitlines() if part.strip())
    return line if len(line) <= _MAX_STATUS else f"{line[: _MAX_STATUS - 3]}..."


def _number(said: dict[str, str], name: str) -> int | None:
    text = said.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise ConfigurationError(f"{name}={text!r} in the environment is no number: start without it")
    return int(text)


def _listening(said: dict[str, str]) -> int | None:
    count, pid = _number(said, "LISTEN_FDS"), _number(said, "LISTEN_PID")
    if not count or pid != os.getpid():
        # Not for us: a process before us was handed something, and left the words.
        return None
    if count != 1:
        raise ConfigurationError(
            f"the service manager hands over {count} sockets: the .socket unit must have one ListenStream="
        )
    names = said.get("LISTEN_FDNAMES")
    if names not in (None, SOCKET_NAME):
        raise ConfigurationError(
            f"the service manager hands over a socket called {names!r}: "
            f"write FileDescriptorName={SOCKET_NAME} into the .socket unit"
        )
    try:
        fcntl.fcntl(_FIRST, fcntl.F_SETFD, fcntl.FD_CLOEXEC)
    except OSError:
        raise ConfigurationError(
            f"LISTEN_FDS is set, and descriptor {_FIRST} is not open: start without it"
        ) from None
    return _FIRST


def _watchdog(said: dict[str, str]) -> float | None:
    microseconds, pid = _number(said, "WATCHDOG_USEC"), _number(said, "WATCHDOG_PID")
    if not microseconds or pid not in (None, os.getpid()):
        return None
    return microseconds / 1_000_000


def _address(text: str) -> str | None:
    if not text:
        return None
    if not text.startswith(("/", "@")):
        raise ConfigurationError(f"NOTIFY_SOCKET={text!r} is neither a path nor abstract: start without it")
    # unix(7): an abstract name begins with a NUL.
    return "\0" + text[1:] if text.startswith("@") else text


def take_socket(descriptor: int, path: str) -> socket.socket:
    """The socket handed over, if it is one that this daemon could have made at `path`.

    Raises ConfigurationError that says what it is instead.
    """
    what = f"the service manager hands over descriptor {descriptor}"
    if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
        raise ConfigurationError(f"{what}, which is no socket: it must come from a ListenStream=")
    taken = socket.socket(fileno=descriptor)
    try:
        _check(taken, what, path)
    except BaseException:
        taken.close()
        raise
    taken.setblocking(False)
    return taken


def _check(taken: socket.socket, what: str, path: str) -> None:
    if taken.family != socket.AF_UNIX or taken.type != socket.SOCK_STREAM:
        raise ConfigurationError(f"{what}, which is no Unix stream socket: write ListenStream={path}")
    if not taken.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        raise ConfigurationError(f"{what}, which does not listen: write Accept=no")
    name = taken.getsockname()
    if isinstance(name, bytes) or os.path.normpath(name) != os.path.normpath(path):
        raise ConfigurationError(
            f"{what}, which listens at {name!r} and not at socket_path ({path}): make them the same"
        )


class Heart:
    """Signs of life, sent twice in the time that the manager allows, each after a proof of it.

    `prove` starts something that calls what it is given once the daemon has shown that it serves. A proof
    that never comes is not asked for again: then the manager acts.
    """

    def __init__(self, manager: Manager, prove: Callable[[Callable[[], None]], None]) -> None:
        self._manager = manager
        self._prove = prove
        self._interval = None if manager.watchdog is None else manager.watchdog / 2
        self._due = 0.0
        self._waiting = False

    def beat(self) -> float:
        """To be called by the thread that accepts; seconds until it must be called again."""
        if self._interval is None:
            return float("inf")
        now = time.monotonic()
        if now >= self._due and not self._waiting:
            self._due = now + self._interval
            self._waiting = True
            try:
                self._prove(self._lives)
            except (OSError, RuntimeError) as error:
                # No descriptor or thread is left now; it may be better next time.
                self._waiting = False
                self._due = now + self._interval / 4
                LOG.warning("no sign of life: %s", error)
        return max(0.0, self._due - now)

    def _lives(self) -> None:
        self._waiting = False
        self._manager.notify(WATCHDOG=1)
