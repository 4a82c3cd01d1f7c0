"""Privileged commands for unprivileged services: a daemon, its clients and its filter tools."""

#: Where a daemon listens whose configuration does not name a socket. Here, because every part needs it, and
#: rootwrap-exec, which starts once for every command, loads next to nothing.
DEFAULT_SOCKET = "/run/rootwrap-daemon/rootwrap-daemon.sock"
