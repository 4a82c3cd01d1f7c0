"""Run a command through the daemon from a shell: `rootwrap-exec`."""
