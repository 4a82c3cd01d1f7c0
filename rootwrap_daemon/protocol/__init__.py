"""Define what daemon and client say to each other, as values and bytes; no I/O at all."""
