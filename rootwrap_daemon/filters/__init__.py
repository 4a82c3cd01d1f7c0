"""Do these words match, and which filter says so; pure, no I/O, nothing of the host."""
