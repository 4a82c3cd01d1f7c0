"""Hand values from the program that starts a daemon to the one that serves, in a sealed memfd.

Promises: what was written is read whole and unchanged, or not at all; the values are plain data (msgpack), so
that reading them calls nothing.
"""

import fcntl
import os
import signal
from dataclasses import dataclass
from typing import Final, TypeVar

import msgpack

from rootwrap_daemon.daemon.request import Peer
from rootwrap_daemon.errors import ConfigurationError
from rootwrap_daemon.plain_data import from_plain, to_plain
from rootwrap_daemon.policy.policy import Policy

T = TypeVar("T")
#: Bytes of values that are handed over; 10,000 filters take three million.
MOST: Final = 256 * 1024 * 1024

#: Signals that the daemon heeds. A terminal sends SIGQUIT and SIGTSTP, too, for a user who may not: no
#: command must lose its limits.
SIGNALS: Final = frozenset((signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGTSTP))
#: memfd_create(2), F_ADD_SEALS of fcntl(2): nobody can change it any more, or undo that.
_SEALS: Final = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
_MFD_NOEXEC_SEAL: Final = 0x0008  # linux/memfd.h; Linux 6.3, and Python has no name for it


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    """The destination and format of log lines: oslo.log's options as values.

    `level`: as in `logging`. `levels`: those of single loggers. `file`: its path, empty for none. `syslog`: a
    facility of syslog(3), empty for no syslog. `prefixed`: standard error leads to the journal, so that lines
    begin with a priority (sd-daemon(3)). Formats are those of `logging` with its `%` style.
    """

    level: int
    levels: tuple[tuple[str, str], ...] = ()
    stderr: bool = True
    prefixed: bool = False
    file: str = ""
    syslog: str = ""
    journal: bool = False
    format: str = "%(message)s"
    debug_suffix: str = ""
    exception_prefix: str = ""
    date_format: str = "%Y-%m-%d %H:%M:%S"


@dataclass(frozen=True, slots=True)
class Line:
    """One log line of the program that starts, for the program that serves to write."""

    logger: str
    level: int
    created: float
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Configured:
    """The policy of a configuration, and the log lines about reading it."""

    policy: Policy
    log: LogSettings
    lines: tuple[Line, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """The source of connections.

    `kind`: `bound`: a socket bound to `path` with `.new` appended, `lock` keeps other daemons from it;
    `handed`: a socket of the service manager's; `client`: the control socket of the `peer` that started this
    daemon. `place`: in words.
    """

    kind: str
    descriptor: int
    place: str
    path: str = ""
    lock: int = -1
    peer: Peer | None = None

    @property
    def descriptors(self) -> tuple[int, ...]:
        """All that must stay open."""
        return tuple(one for one in (self.descriptor, self.lock) if one >= 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Handover:
    """All that the serving program gets.

    `read_again`: what daemon/start/read.py is told at a reload. `notify`: the address of the service manager;
    `watchdog`: seconds within which that wants a sign of life, None for never.
    """

    configured: Configured
    read_again: tuple[str, ...]
    version: str
    door: Door
    notify: bytes | None
    watchdog: float | None


def give(value: Configured | Handover, descriptor: int) -> None:
    """Write `value` into a memfd, and seal it. Raises ConfigurationError, OSError."""
    # A path may have bytes that are no UTF-8.
    data = msgpack.packb(to_plain(value), unicode_errors="surrogateescape")
    if len(data) > MOST:
        raise ConfigurationError(f"filters: {len(data)} bytes as values, more than {MOST}: write fewer")
    with open(descriptor, "wb", closefd=False) as file:
        file.write(data)
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)


def new() -> int:
    """A memfd to `give` into. Raises OSError."""
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        # Where vm.memfd_noexec is 2 nothing else is made.
        return os.memfd_create("rootwrap-daemon", flags | _MFD_NOEXEC_SEAL)
    except OSError:
        return os.memfd_create("rootwrap-daemon", flags)


def take(kind: type[T], descriptor: int) -> T:
    """Read a value of this class that was given. Raises ValueError, OSError."""
    if fcntl.fcntl(descriptor, fcntl.F_GET_SEALS) & _SEALS != _SEALS:
        raise ValueError("the values are not sealed")
    size = os.fstat(descriptor).st_size
    if size > MOST:
        raise ValueError(f"{size} bytes of values, more than {MOST}")
    data = msgpack.unpackb(os.pread(descriptor, size, 0), use_list=False, unicode_errors="surrogateescape")
    return from_plain(kind, data)
