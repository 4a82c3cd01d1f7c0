"""Tell the service manager how the daemon is: state, and signs of life.

Promises: a manager that does not listen never stops the daemon. Source: sd_notify(3).
"""

import logging
import socket
import time
from dataclasses import dataclass
from typing import Final

LOG = logging.getLogger(__name__)

#: Seconds to wait for a manager that does not take a message.
_PATIENCE: Final = 1.0
#: Characters of a STATUS; `systemctl status` shows one line.
_MAX_STATUS: Final = 400


@dataclass(frozen=True, slots=True)
class Manager:
    """The service manager. `address`: where to tell it, in the form that connect(2) takes; None: nowhere."""

    address: bytes | None = None

    def notify(self, **values: object) -> None:
        """Tell the manager: READY=1 and the like. What cannot be told is logged."""
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


def _line(text: str) -> str:
    """A value of one line: a newline would begin another assignment."""
    line = "; ".join(part.strip() for part in text.splitlines() if part.strip())
    return line if len(line) <= _MAX_STATUS else f"{line[: _MAX_STATUS - 3]}..."


class Heart:
    """Sends signs of life, twice in the time that the manager allows."""

    def __init__(self, manager: Manager, watchdog: float | None) -> None:
        """`watchdog`: seconds within which the manager wants one, None for never."""
        self._manager = manager
        self._interval = None if watchdog is None else watchdog / 2
        self._due = 0.0

    def beat(self) -> float:
        """To be called by the thread that accepts; seconds until it must be called again."""
        if self._interval is None:
            return float("inf")
        now = time.monotonic()
        if now >= self._due:
            self._due = now + self._interval
            self._manager.notify(WATCHDOG=1)
        return self._due - now
