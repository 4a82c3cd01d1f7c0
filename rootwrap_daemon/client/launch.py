"""Start a daemon for its client alone, where there is no service manager: development, containers.

Promises: nothing appears in the file system; the daemon ends with its client. Connections come from the
daemon, over the socket that it was started with: unix(7), SCM_RIGHTS.
"""

import os
import socket
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from rootwrap_daemon.client.request import Wait
from rootwrap_daemon.errors import BadRequest, Busy, DaemonUnavailable

#: Variables in which a setuid program names an earlier caller to root's own process: not the one that starts
#: a daemon now.
_CALLERS: Final = ("SUDO_UID", "DOAS_USER", "PKEXEC_UID")
#: Seconds between two looks for a connection, at first and at most; and for the end of the daemon.
_PAUSE_FIRST: Final = 0.0005
_PAUSE: Final = 0.01
#: Seconds that the daemon may take to end.
_END_SECONDS: Final = 10.0


class Launcher:
    """The daemon's process, and the socket over which it hands out connections."""

    def __init__(self, argv: Sequence[str]) -> None:
        """Raises BadRequest, DaemonUnavailable."""
        if isinstance(argv, str | bytes) or not argv:
            raise BadRequest("argv must be a sequence of words: what starts the daemon")
        self._owner = os.getpid()
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        if os.geteuid() == 0:
            for name in _CALLERS:
                environ.pop(name, None)
        try:
            with theirs:
                # Out of the terminal's process group: a Ctrl-C there is the client's affair.
                self._process = subprocess.Popen(
                    list(argv), stdin=theirs.fileno(), env=environ, start_new_session=True
                )
        except OSError as error:
            self._control.close()
            raise DaemonUnavailable(f"{argv[0]}: {error.strerror}: the daemon was not started") from error
        self._control.settimeout(0.0)
        self.pid = self._process.pid

    async def connect(self, wait: Wait, deadline: float) -> int:
        """The descriptor of a fresh connection. Raises DaemonUnavailable or Busy.

        Several callers may wait here at once: each asks for one, and takes the first that comes.
        """
        pause = _PAUSE_FIRST
        try:
            self._control.send(b"c", socket.MSG_NOSIGNAL)
            while True:
                with suppress(BlockingIOError):
                    word, descriptors, _, _ = socket.recv_fds(self._control, 1, 1, socket.MSG_CMSG_CLOEXEC)
                    break
                if time.monotonic() >= deadline:
                    raise DaemonUnavailable("the daemon does not answer")
                await wait((), (), pause)
                pause = min(2 * pause, _PAUSE)
        except OSError:
            raise DaemonUnavailable(self._gone()) from None
        if not word:
            raise DaemonUnavailable(self._gone())
        if not descriptors:
            raise Busy("the daemon has no descriptor left")
        return descriptors[0]

    def _gone(self) -> str:
        code = self._process.poll()
        what = "closed its socket" if code is None else f"has ended with code {code}"
        return f"the daemon that was started here {what}: its standard error says why"

    def hang_up(self) -> None:
        """Let the daemon end."""
        self._control.close()

    async def ended(self, wait: Wait) -> None:
        """Wait for its end. There is nothing to wait for if it is the parent's: a fork copies this."""
        deadline = time.monotonic() + _END_SECONDS
        while self._owner == os.getpid() and self._process.poll() is None and time.monotonic() < deadline:
            await wait((), (), _PAUSE)
