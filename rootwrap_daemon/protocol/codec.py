"""Frames and strict msgpack <-> messages.

Promises: any bytes give messages or RemoteProtocolError, and nothing is buffered past the limit in force.
Imports msgpack and this package's messages; no I/O.
"""

import struct
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, Final, Generic, TypeVar

import msgpack

from rootwrap_daemon.errors import BadRequest, RemoteProtocolError, TooLarge
from rootwrap_daemon.protocol.messages import ANSWERS, MAX_VARIABLES, MAX_WORDS, REQUESTS, Hello, Message

#: A frame is this length in front of so many bytes of msgpack.
HEADER = struct.Struct(">I")

_FIELDS: dict[type, tuple[str, ...]] = {
    cls: tuple(f.name for f in fields(cls)) for cls in (*REQUESTS.values(), *ANSWERS.values())
}

#: Fields that a Hello of a later version may have.
_MOST_HELLO: Final = 16

M = TypeVar("M", bound=Message)


def encode(message: Message) -> bytes:
    """One message as a frame."""
    body: bytes = msgpack.packb((message.TYPE, *(getattr(message, name) for name in _FIELDS[type(message)])))
    return HEADER.pack(len(body)) + body


def decode(body: memoryview, kinds: Mapping[int, type[M]]) -> M:
    """The message in one frame's body, if it is one of `kinds`. Raises RemoteProtocolError."""
    # Nothing is built that the message has no place for: an array inside a value is refused by its header,
    # before millions of nested ones exist. Maps are refused whole, msgpack cannot refuse a repeated key.
    unpacker = msgpack.Unpacker(
        raw=False, use_list=False, max_buffer_size=0, max_array_len=0, max_map_len=0, max_ext_len=0
    )
    unpacker.feed(body)
    try:
        return _message(unpacker, len(body), kinds)
    except RemoteProtocolError:
        raise
    except BadRequest as error:
        raise RemoteProtocolError(error.message) from error
    # Hostile bytes reach several exception types of msgpack and, below it, of Python (ValueError,
    # UnicodeDecodeError, RecursionError, ...); which ones is an accident of its version.
    except Exception as error:
        raise RemoteProtocolError("not a message in msgpack") from error


def _message(unpacker: msgpack.Unpacker, size: int, kinds: Mapping[int, type[M]]) -> M:
    count = unpacker.read_array_header() - 1
    number = unpacker.unpack()
    kind = kinds.get(number) if type(number) is int else None
    if kind is None:
        raise RemoteProtocolError("a message of an unknown type")
    names = _FIELDS[kind]
    # Hello may grow, so that two versions can still tell each other apart.
    if count != len(names) and not (kind is Hello and len(names) < count <= _MOST_HELLO):
        raise RemoteProtocolError(f"{kind.__name__} with {count} fields instead of {len(names)}")
    values = [_READERS.get(name, _value)(unpacker) for name in names]
    for _ in range(count - len(names)):
        unpacker.skip()
    if unpacker.tell() != size:
        raise RemoteProtocolError("bytes after the message")
    return kind(*values)


def _value(unpacker: msgpack.Unpacker) -> Any:
    return unpacker.unpack()


def _words(unpacker: msgpack.Unpacker) -> tuple[Any, ...]:
    count = unpacker.read_array_header()
    if count > MAX_WORDS:
        raise TooLarge(f"more than {MAX_WORDS} words")
    return tuple([unpacker.unpack() for _ in range(count)])


def _pairs(unpacker: msgpack.Unpacker) -> tuple[tuple[Any, Any], ...]:
    count = unpacker.read_array_header()
    if count > MAX_VARIABLES:
        raise TooLarge(f"more than {MAX_VARIABLES} variables")
    return tuple([_pair(unpacker) for _ in range(count)])


def _pair(unpacker: msgpack.Unpacker) -> tuple[Any, Any]:
    if unpacker.read_array_header() != 2:
        raise BadRequest("a variable is a pair of name and value")
    return unpacker.unpack(), unpacker.unpack()


#: The fields that are arrays; every other is one value.
_READERS: Final[dict[str, Callable[[msgpack.Unpacker], Any]]] = {"argv": _words, "env": _pairs}


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
        # Released before the buffer is cut, which an exported view would forbid.
        with memoryview(buffer) as whole, whole[HEADER.size : end] as body:
            message = decode(body, self._kinds)
        del buffer[:end]
        return message
