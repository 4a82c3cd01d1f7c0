"""Drop in for what OpenStack services use today, and find their daemon.

Loads nothing more than the standard library's os: `rootwrap-exec` starts once for every command.
"""

import os

from rootwrap_daemon import DEFAULT_SOCKET

#: Names another socket, for every drop-in of a service at once: `Environment=` in its unit.
SOCKET_VARIABLE = "ROOTWRAP_DAEMON_SOCKET"


def socket_path() -> str:
    """The daemon's socket: what ROOTWRAP_DAEMON_SOCKET names, or the default."""
    return os.environ.get(SOCKET_VARIABLE) or DEFAULT_SOCKET
