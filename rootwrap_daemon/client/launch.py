"""A daemon that its client starts, where there is no service manager: development, containers.

Promises: nothing appears in the file system; the daemon ends with its client. Connections come from the
daemon, over the socket that it was started with: unix(7), SCM_RIGHTS.
Imports the standard library and errors; how to wait is the front end's.
"""

import os
import socket
import subprocess
from collections.abc import Iterator, Sequence
from typing import Final

from rootwrap_daemon.client.core import CONNECT_PAUSE, CONNECT_SECONDS
from rootwrap_daemon.client.gate import Lock
from rootwrap_daemon.client.pipes import Waiting
from rootwrap_daemon.errors import BadRequest, Busy, DaemonUnavailable

#: What a setuid program told root's own process of an earlier caller: not of who starts a daemon now.
_CALLERS: Final = ("SUDO_UID", "DOAS_USER", "PKEXEC_UID")


class Launcher:
    """The daemon's process, and the socket over which it hands out connections."""

    def __init__(self, argv: Sequence[str], wait: Waiting, lock: Lock) -> None:
        """Raises BadRequest, DaemonUnavailable."""
        if isinstance(argv, str | bytes) or not argv:
            raise BadRequest("argv must be a sequence of words: what starts the daemon")
        self._wait = wait
        self._lock = lock
        self._owner = os.getpid()
        # Not those of a patched module: nothing here waits but `wait`.
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
        self.pid = self._process.pid

    def connect(self) -> int:
        """The descriptor of a fresh connection. Raises DaemonUnavailable or Busy."""
        if not self._lock.acquire(True, CONNECT_SECONDS):
            raise DaemonUnavailable("the daemon does not answer")
        try:
            self._control.settimeout(0.0)
            self._control.send(b"c", socket.MSG_NOSIGNAL)
            if not self._wait([self._control.fileno()], [], CONNECT_SECONDS):
                raise DaemonUnavailable("the daemon does not answer")
            word, descriptors, _, _ = socket.recv_fds(self._control, 1, 1, socket.MSG_CMSG_CLOEXEC)
        except OSError:
            raise DaemonUnavailable(self._gone()) from None
        finally:
            self._lock.release()
        if not word:
            raise DaemonUnavailable(self._gone())
        if not descriptors:
            raise Busy("the daemon has no descriptor left")
        return descriptors[0]

    def _gone(self) -> str:
        code = self._process.poll()
        if code is None:
            return "the daemon that was started here closed its socket: its standard error says why"
        return f"the daemon that was started here has ended with code {code}: its standard error says why"

    def close(self) -> Iterator[float]:
        """Let the daemon end; gives the seconds to sleep before the next step, until it has ended.

        Nothing to wait for if it is the parent's: a fork copies this.
        """
        self._control.close()
        left = CONNECT_SECONDS if self._owner == os.getpid() else 0.0
        while left > 0 and self._process.poll() is None:
            yield CONNECT_PAUSE
            left -= CONNECT_PAUSE
