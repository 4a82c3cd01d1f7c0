"""Frames and strict msgpack <-> messages.

Promises: any bytes give messages or RemoteProtocolError, and nothing is buffered past the limit in force.
Imports msgpack and this package's messages; no I/O.
"""

import struct
from collections.abc import Mapping
from dataclasses import fields
from typing import Generic, TypeVar

import msgpack

from rootwrap_daemon.errors import BadRequest, RemoteProtocolError, TooLarge
from rootwrap_daemon.protocol.messages import ANSWERS, MAX_WORDS, REQUESTS, Hello, Message

#: A frame is this length in front of so many bytes of msgpack.
HEADER = struct.Struct(">I")

_FIELDS: dict[type, tuple[str, ...]] = {
    cls: tuple(f.name for f in fields(cls)) for cls in (*REQUESTS.values(), *ANSWERS.values())
}

M = TypeVar("M", bound=Message)


def encode(message: Message) -> bytes:
    """One message as a frame."""
    body: bytes = msgpack.packb((message.TYPE, *(getattr(message, name) for name in _FIELDS[type(message)])))
    return HEADER.pack(len(body)) + body


def decode(body: bytes, kinds: Mapping[int, type[M]]) -> M:
    """The message in one frame's body, if it is one of `kinds`. Raises RemoteProtocolError."""
    try:
        # Maps are refused whole: msgpack cannot refuse a repeated key. The length of a string is
        # bounded by the frame; that of an array is not, a header of five bytes can announce 2**32.
        values = msgpack.unpackb(
            body, raw=False, use_list=False, max_array_len=MAX_WORDS, max_map_len=0, max_ext_len=0
        )
    # Hostile bytes reach several exception types of msgpack and, below it, of Python (ValueError,
    # UnicodeDecodeError, RecursionError, ...); which ones is an accident of its version.
    except Exception as error:
        raise RemoteProtocolError("not a frame of msgpack") from error
    if type(values) is not tuple or not values or type(values[0]) is not int:
        raise RemoteProtocolError("not a message")
    kind = kinds.get(values[0])
    if kind is None:
        raise RemoteProtocolError("a message of an unknown type")
    arity = len(_FIELDS[kind])
    arguments = values[1:]
    if kind is Hello:
        # The one message that may grow, so that two versions can still tell each other apart.
        arguments = arguments[:arity]
    if len(arguments) != arity:
        raise RemoteProtocolError(f"{kind.__name__} with {len(arguments)} fields instead of {arity}")
    try:
        return kind(*arguments)
    except BadRequest as error:
        raise RemoteProtocolError(f"{kind.__name__}: {error.message}") from error


class Decoder(Generic[M]):
    """Cuts a stream of bytes into messages.

    `limit` is the largest body accepted, in bytes; it may be changed between messages.
    """

    def __init__(self, kinds: Mapping[int, type[M]], limit: int) -> None:
        self._kinds = kinds
        self._buffer = bytearray()
        self.limit = limit

    @property
    def missing(self) -> int:
        """Bytes still needed to go on: the rest of a header or of a body; at least 1."""
        have = len(self._buffer)
        if have < HEADER.size:
            return HEADER.size - have
        length: int = HEADER.unpack_from(self._buffer)[0]
        return max(1, HEADER.size + length - have)

    @property
    def partial(self) -> bool:
        """True while an incomplete frame is held."""
        return bool(self._buffer)

    def feed(self, data: bytes) -> None:
        """Take bytes as they came. Never raises: judgement is left to `next_message`."""
        self._buffer += data

    def next_message(self) -> M | None:
        """The next complete message, None if more bytes are needed. Raises RemoteProtocolError."""
        buffer = self._buffer
        if len(buffer) < HEADER.size:
            return None
        (length,) = HEADER.unpack_from(buffer)
        if length > self.limit:
            raise RemoteProtocolError(f"a frame of {length} bytes") from TooLarge(
                f"the frame is longer than {self.limit} bytes"
            )
        end = HEADER.size + length
        if len(buffer) < end:
            return None
        body = bytes(memoryview(buffer)[HEADER.size : end])
        del buffer[:end]
        return decode(body, self._kinds)
