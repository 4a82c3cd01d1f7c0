"""The command lines: rootwrapctl, with one module a command."""
