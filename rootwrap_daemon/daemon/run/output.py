"""Collect what a command writes.

Promises: the memory in use is that of the bytes, and an eighth more at most, however small the writes are.
"""

from typing import Final

#: Bytes from which on a read is kept as the object that it is: what the object itself takes is 1 % then.
_LARGE: Final = 4096


class Output:
    """Bytes in the order in which they were read; joined once."""

    def __init__(self) -> None:
        self._pieces: list[bytes | bytearray] = []

    def add(self, data: bytes) -> None:
        """Keep these bytes behind the others."""
        pieces = self._pieces
        if len(data) >= _LARGE:
            pieces.append(data)
        elif pieces and isinstance(pieces[-1], bytearray):
            pieces[-1] += data
        else:
            # The first is the only one, mostly, and then is the output as it is.
            pieces.append(bytearray(data) if pieces else data)

    def clear(self) -> None:
        """Forget everything."""
        self._pieces.clear()

    def joined(self) -> bytes:
        """Return all of it."""
        return b"".join(self._pieces)
