"""Read what the service manager says in the environment: sd_listen_fds(3), sd_notify(3).

Promises: nothing of it reaches a command.
"""

import fcntl
import os
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from typing import Final

from rootwrap_daemon.daemon.start import bootstrap
from rootwrap_daemon.errors import ConfigurationError

#: The first descriptor that is handed over: SD_LISTEN_FDS_START, sd_listen_fds(3).
_FIRST: Final = 3
#: What etc/systemd/rootwrap-daemon@.socket calls the socket: FileDescriptorName=, systemd.socket(5).
SOCKET_NAME: Final = "rootwrap-daemon"


@dataclass(frozen=True, slots=True)
class Said:
    """The service manager's words in the environment.

    `listening`: the descriptor of the socket to serve, None to make one. `watchdog`: seconds within which it
    wants a sign of life, None for never. `address`: where it is told, in the form that connect(2) takes.
    """

    listening: int | None = None
    watchdog: float | None = None
    address: bytes | None = None


def said(environ: MutableMapping[str, str]) -> Said:
    """Read what is meant for this process, and take all of it out of `environ`.

    To be called before any descriptor beyond the standard ones is left open. Raises ConfigurationError.
    """
    words = {name: environ.pop(name) for name in bootstrap.MANAGER if name in environ}
    return Said(_listening(words), _watchdog(words), _address(words.get("NOTIFY_SOCKET", "")))


def is_journal(environ: Mapping[str, str]) -> bool:
    """True if standard error is the stream to the journal that the service manager made: systemd.exec(5)."""
    found = os.fstat(2)
    return environ.get(bootstrap.JOURNAL) == f"{found.st_dev}:{found.st_ino}"


def _number(words: dict[str, str], name: str) -> int | None:
    text = words.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise ConfigurationError(f"{name}={text!r} in the environment is no number: start without it")
    return int(text)


def _listening(words: dict[str, str]) -> int | None:
    count, pid = _number(words, "LISTEN_FDS"), _number(words, "LISTEN_PID")
    if not count or pid != os.getpid():
        # Not for us: a process before us was handed something, and left the words.
        return None
    if count != 1:
        raise ConfigurationError(
            f"the service manager hands over {count} sockets: the .socket unit must have one ListenStream="
        )
    names = words.get("LISTEN_FDNAMES")
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


def _watchdog(words: dict[str, str]) -> float | None:
    microseconds, pid = _number(words, "WATCHDOG_USEC"), _number(words, "WATCHDOG_PID")
    if not microseconds or pid not in (None, os.getpid()):
        return None
    return microseconds / 1_000_000


def _address(text: str) -> bytes | None:
    if not text:
        return None
    if not text.startswith(("/", "@")):
        raise ConfigurationError(f"NOTIFY_SOCKET={text!r} is neither a path nor abstract: start without it")
    # unix(7): an abstract name begins with a NUL.
    name = os.fsencode(text)
    return b"\0" + name[1:] if name.startswith(b"@") else name
