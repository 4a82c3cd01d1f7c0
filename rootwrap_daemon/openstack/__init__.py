"""Drop in for what OpenStack services use today, and find their daemon.

Loads nothing but the standard library's os: `rootwrap-exec` starts once for every command.
"""

import os

#: Where a daemon listens unless its configuration says otherwise.
DEFAULT_SOCKET = "/run/rootwrap-daemon/rootwrap-daemon.sock"
#: Names another socket, for every drop-in of a service at once: `Environment=` in its unit.
SOCKET_VARIABLE = "ROOTWRAP_DAEMON_SOCKET"


def socket_path() -> str:
    """The daemon's socket: what ROOTWRAP_DAEMON_SOCKET names, or the default."""
    return os.environ.get(SOCKET_VARIABLE) or DEFAULT_SOCKET
