"""Privileged commands for unprivileged services: a daemon, its clients and its filter tools."""
