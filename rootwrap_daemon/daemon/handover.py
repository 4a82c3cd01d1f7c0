"""Hand values from the program that starts a daemon to the one that serves, in a sealed memfd.

Promises: what was written is read whole and unchanged, or not at all; the values are plain data (msgpack), so
that reading them calls nothing.
"""

import fcntl
import os
import signal
from dataclasses import asdict, dataclass
from typing import Any, Final

import msgpack

from rootwrap_daemon.daemon.request import Peer
from rootwrap_daemon.settings import Settings

#: Signals that the daemon heeds. A terminal sends SIGQUIT and SIGTSTP, too, for a user who may not: no
#: command must lose its limits.
SIGNALS: Final = frozenset(
    (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGTSTP),
)
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
    """The values of a configuration, and the log lines about reading it."""

    settings: Settings
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

    `config_file` and `socket` (the path that the command line gave, if any): for a reload. `nofile`: open
    files that this process may have. `by_another`: a user without rights started it. `door`: None to load,
    say what is wrong, and serve nobody. `notify`: the address of the service manager; `watchdog`: seconds
    within which that wants a sign of life, None for never.
    """

    configured: Configured
    config_file: str
    socket: str | None
    version: str
    nofile: int
    by_another: bool
    door: Door | None
    notify: bytes | None
    watchdog: float | None


def give(value: Configured | Handover, descriptor: int) -> None:
    """Write `value` into a memfd, and seal it. Raises OSError."""
    # Sets are written in order; a path may have bytes that are no UTF-8.
    data = msgpack.packb(asdict(value), default=sorted, unicode_errors="surrogateescape")
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


def _take(descriptor: int) -> dict[str, Any]:
    """Read what was given. Raises ValueError, OSError."""
    if fcntl.fcntl(descriptor, fcntl.F_GET_SEALS) & _SEALS != _SEALS:
        raise ValueError("the values are not sealed")
    data = os.pread(descriptor, os.fstat(descriptor).st_size, 0)
    value = msgpack.unpackb(data, use_list=False, unicode_errors="surrogateescape")
    if not isinstance(value, dict):
        raise ValueError("no values")
    return value


def configured(descriptor: int) -> Configured:
    """Read a Configured. Raises ValueError, TypeError, OSError."""
    return _configured(_take(descriptor))


def handover(descriptor: int) -> Handover:
    """Read a Handover. Raises ValueError, TypeError, OSError."""
    value = _take(descriptor)
    door = value.pop("door")
    if door is not None:
        peer = door.pop("peer")
        door = Door(**door, peer=None if peer is None else Peer(**peer))
    return Handover(**value | {"configured": _configured(value["configured"]), "door": door})


def _configured(value: dict[str, Any]) -> Configured:
    settings = value["settings"]
    return Configured(
        settings=Settings(**settings | {"signals": frozenset(settings["signals"])}),
        log=LogSettings(**value["log"]),
        lines=tuple(Line(**line) for line in value["lines"]),
    )
