"""One module for each command of rootwrapctl."""
