"""Define the command lines of rootwrapctl, rootwrap-exec and rootwrap-sudo."""
