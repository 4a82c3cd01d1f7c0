"""Hold the client to the table of what may be said when, and read large answers to where they stay.

Promises: as exchange.py; the short way for much output gives the same messages and refusals as the plain one.
What serves does not load this.
"""

from collections.abc import Mapping
from contextlib import suppress
from typing import Final

import msgpack

from rootwrap_daemon.protocol import messages
from rootwrap_daemon.protocol.codec import HEADER, LARGE, Decoder, M, decode
from rootwrap_daemon.protocol.exchange import CLIENT_SAYS, DAEMON_SAYS, Exchange
from rootwrap_daemon.protocol.messages import Result

#: Bytes in which a Result has its id and return code: MAX_TEXT characters of UTF-8, and what frames them.
_BEFORE_OUTPUT: Final = 4 * 1024 + 64
#: The first byte of a string of bytes in msgpack -> in how many bytes its length follows (bin 8, 16, 32).
_LENGTH_BYTES: Final = {0xC4: 1, 0xC5: 2, 0xC6: 4}


def decode_answer(body: "bytes | bytearray | memoryview", kinds: Mapping[int, type[M]]) -> M:
    """As `decode`; much output is copied once."""
    if len(body) > LARGE:
        # What exactly is wrong, `decode` says.
        with suppress(Exception):
            if (found := _large_result(body, kinds)) is not None:
                return found
    return decode(body, kinds)


def _large_result(body: "bytes | bytearray | memoryview", kinds: Mapping[int, type[M]]) -> M | None:
    """A Result with much output, which is copied once; None for what is not surely one."""
    start = msgpack.Unpacker(raw=False, max_array_len=0, max_map_len=0, max_ext_len=0)
    view = memoryview(body)
    start.feed(view[:_BEFORE_OUTPUT])
    if start.read_array_header() != 1 + len(Result.NAMES) or start.unpack() != Result.TYPE:
        return None
    request_id, returncode = start.unpack(), start.unpack()
    at = start.tell()
    output = []
    for _ in range(2):
        begin = at + 1 + _LENGTH_BYTES[view[at]]
        at = begin + int.from_bytes(view[at + 1 : begin], "big")
        output.append(view[begin:at])
    cause = msgpack.unpackb(view[at:], raw=False, max_map_len=0, max_array_len=0, max_ext_len=0)
    return kinds[Result.TYPE](*(request_id, returncode, *map(bytes, output), cause))


class ClientDecoder(Decoder[M]):
    """A decoder that makes space for a large frame at once."""

    read = staticmethod(decode_answer)

    def room(self) -> memoryview | None:
        """Return the buffer for the rest of a large frame, then call `filled`; None where `feed` will do.

        To be called when `next_message` has none: the length was judged then.
        """
        if self._filled < HEADER.size:
            return None
        end: int = HEADER.size + HEADER.unpack_from(self._buffer)[0]
        if end - self._filled < LARGE:
            return None
        if len(self._buffer) < end:
            # Of zero pages, until something is written to them.
            whole = bytearray(end)
            whole[: self._filled] = self._buffer
            self._buffer = whole
        return memoryview(self._buffer)[self._filled : end]

    def filled(self, count: int) -> None:
        """So many bytes were read to `room`."""
        self._filled += count


class ClientExchange(Exchange[messages.Request, messages.Answer]):
    """The client's side of one connection.

    `max_frame`: bytes, the largest answer that this client takes (it says so in its Hello).
    """

    def __init__(self, max_frame: int = messages.MAX_ANSWER_FRAME) -> None:
        self._answers = ClientDecoder(messages.ANSWERS, max_frame)
        super().__init__(CLIENT_SAYS, DAEMON_SAYS, self._answers)

    def room(self) -> memoryview | None:
        """Return the buffer for the rest of a large answer, then call `filled`; None where `feed` will do."""
        return self._answers.room()

    def filled(self, count: int) -> None:
        """So many bytes were read to `room`."""
        self._answers.filled(count)
