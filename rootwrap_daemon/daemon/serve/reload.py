"""Read configuration and filters anew, in a process of its own that loads what reading it needs.

Promises: what it says is taken whole, within a time, or not at all; then the text says why.
"""

import fcntl
import os
import select
import signal
import sys
import time
from typing import Final

from rootwrap_daemon.daemon import handover
from rootwrap_daemon.daemon.handover import Configured
from rootwrap_daemon.errors import ConfigurationError

_MODULE: Final = "rootwrap_daemon.daemon.start.read"
#: Seconds that it may take: an interpreter that starts on a machine that swaps, and tens of thousands of
#: filters. systemd waits for 90 (TimeoutStartSec=).
_PATIENCE: Final = 75.0
#: Bytes of what it says that are kept.
_MOST: Final = 64 * 1024
#: Where it finds the memfd; the number before must not be in the way, or it would be closed at exec.
_GIVEN: Final = 3
_BEYOND: Final = 10


def read(again: tuple[str, ...], generation: int) -> Configured:
    """Read the configuration and its policy; `again`: as in Handover. Raises ConfigurationError."""
    try:
        memfd = handover.new()
        try:
            code, said = _run(memfd, [str(generation), *again])
            if code:
                raise ConfigurationError(said.strip() or f"it could not be read: code {code}")
            return handover.take(Configured, memfd)
        finally:
            os.close(memfd)
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"it could not be read: {error}") from error


def _run(memfd: int, words: list[str]) -> tuple[int, str]:
    """Run the program that reads; its exit code, and what it printed. Raises OSError."""
    reader, writer = os.pipe()
    given = fcntl.fcntl(memfd, fcntl.F_DUPFD_CLOEXEC, _BEYOND)
    argv = [sys.executable, "-I", "-B", "-X", "utf8", "-m", _MODULE, str(_GIVEN), *words]
    try:
        pid = os.posix_spawn(
            sys.executable,
            argv,
            {},
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, writer, 1),
                (os.POSIX_SPAWN_DUP2, writer, 2),
                (os.POSIX_SPAWN_DUP2, given, _GIVEN),
            ],
            setpgroup=0,
        )
        os.close(writer)
        writer = -1
        try:
            said = _said(reader)
        except OSError:
            os.kill(pid, signal.SIGKILL)
            raise
        finally:
            # A child of this thread: the main thread, which reaps orphans, leaves it alone.
            _, status = os.waitpid(pid, 0)
        return os.waitstatus_to_exitcode(status), said
    finally:
        for descriptor in (reader, writer, given):
            if descriptor >= 0:
                os.close(descriptor)


def _said(reader: int) -> str:
    """All that it prints until its end. Raises TimeoutError."""
    deadline = time.monotonic() + _PATIENCE
    poll = select.poll()
    poll.register(reader, select.POLLIN)
    kept = b""
    while True:
        left = deadline - time.monotonic()
        if left <= 0 or not poll.poll(left * 1000):
            raise TimeoutError(f"not within {_PATIENCE:g} s")
        data = os.read(reader, _MOST)
        if not data:
            return kept.decode("utf-8", "replace")
        kept = (kept + data)[:_MOST]
