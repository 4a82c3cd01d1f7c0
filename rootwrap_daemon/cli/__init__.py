"""The command lines: rootwrapctl and rootwrap-exec."""
