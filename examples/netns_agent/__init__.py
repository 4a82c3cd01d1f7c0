"""A small, real, unprivileged service: network namespaces, links and processes as a YAML file wants them.

It shows how a service built on eventlet, not monkey-patched, gets privileged commands run by
rootwrap-daemon. Read `__main__` and `service` first; `wanted`, `observed` and `reconcile` are its business.
"""
