"""Lay out rows in columns, and write users and spans of time for people."""

import pwd
from collections.abc import Iterator, Sequence

from rootwrap_daemon.escape import printable


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """The lines of a table; the last column is as wide as it wants."""
    every = [[printable(cell) for cell in row] for row in (head, *rows)]
    widths = [max(len(row[place]) for row in every) for place in range(len(head) - 1)]
    for row in every:
        cells = [f"{cell:<{width}}" for cell, width in zip(row, widths, strict=False)]
        yield "  ".join((*cells, row[-1])).rstrip()


def user_name(uid: int) -> str:
    """The name of a user where there is one."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def span(seconds: float) -> str:
    """A time that people can take in: `3.2 s`, `12 min`, `3 h 12 min`, `9 d 4 h`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = int(seconds) // 60
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 24 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes // (24 * 60)} d {minutes // 60 % 24} h"
