"""The command line rootwrap-exec."""
