"""Drop-ins for what OpenStack services use today; and where they find the daemon.

Loads nothing but the standard library's os.
"""

import os
from typing import Final

#: Where a daemon listens unless its configuration says otherwise.
DEFAULT_SOCKET: Final = "/run/rootwrap-daemon/rootwrap-daemon.sock"
#: Names another socket, for every drop-in of a service at once: `Environment=` in its unit.
SOCKET_VARIABLE: Final = "ROOTWRAP_DAEMON_SOCKET"


def socket_path() -> str:
    """The daemon's socket: what ROOTWRAP_DAEMON_SOCKET names, or the default."""
    return os.environ.get(SOCKET_VARIABLE) or DEFAULT_SOCKET
