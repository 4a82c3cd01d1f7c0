"""Collect what a command writes.

Promises: the memory in use is that of the bytes, and an eighth more at most, however small the writes are.
"""

from typing import cast


class Output:
    """Bytes in the order in which they were read."""

    def __init__(self) -> None:
        self._first = b""
        # Grows in place where it is large: realloc(3) moves its pages, not its bytes.
        self._all: bytearray | None = None

    def add(self, data: bytes) -> None:
        """Keep these bytes behind the others."""
        if self._all is not None:
            self._all += data
        elif self._first:
            self._all = bytearray(self._first)
            self._first = b""
            self._all += data
        else:
            # The only one, mostly, and then the output as it is.
            self._first = data

    def clear(self) -> None:
        """Forget everything."""
        self._first, self._all = b"", None

    def taken(self) -> bytes:
        """Return all of it, which this then forgets: a bytearray, to be read alone, if it is large."""
        found = self._first if self._all is None else cast(bytes, self._all)
        self.clear()
        return found
