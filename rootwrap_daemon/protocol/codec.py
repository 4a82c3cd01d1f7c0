"""Turn messages into frames of strict msgpack, and a stream of bytes into messages.

Promises: any bytes give messages or RemoteProtocolError, and nothing is buffered past the limit in force. The
short way, for small frames, gives the same messages and refusals as the plain one.
"""

import struct
from collections.abc import Callable, Mapping
from typing import Any, Final, Generic, TypeVar

import msgpack

from rootwrap_daemon.errors import BadRequest, RemoteProtocolError, TooLarge
from rootwrap_daemon.protocol.messages import MAX_VARIABLES, MAX_WORDS, Hello, Message, Result

#: A frame is this length in front of so many bytes of msgpack.
HEADER = struct.Struct(">I")

#: Fields that a Hello of a later version may have.
_MOST_HELLO: Final = 16
#: Bytes of a body that is unpacked at one go: no so few bytes become more than some hundred KiB of objects.
SMALL: Final = 4096
#: Bytes of output that is not copied, and of a frame to which a client gives a buffer of its own.
LARGE: Final = 64 * 1024
M = TypeVar("M", bound=Message)


def encode(message: Message) -> bytes:
    """One message as a frame."""
    return b"".join(encode_in_parts(message))


#: msgpack.packb() has 256 KiB for it, which the daemon's memory allocation maps, and unmaps, each time. The
#: msgpack of Debian 12 and 13 is older than the option.
_SIZED: Final = {"buf_size": SMALL} if msgpack.version >= (1, 1) else {}


def _pack(value: object) -> bytes:
    return bytes(msgpack.Packer(**_SIZED).pack(value))


def encode_in_parts(message: Message) -> list[bytes]:
    """As `encode`, where large output is a part as it is: it is not copied."""
    if not (isinstance(message, Result) and len(message.stdout) + len(message.stderr) >= LARGE):
        fields = message[:-1] if message.GROWN and message[-1] is None else message
        body = _pack((message.TYPE, *fields))
        return [HEADER.pack(len(body)) + body]
    parts: list[bytes] = [bytes((0x90 | 1 + len(message.NAMES),)) + _pack(message.TYPE)]
    for value in message:
        if not isinstance(value, str | int) and len(value) >= 2**16:
            # bin 32.
            parts[-1] += struct.pack(">BI", 0xC6, len(value))
            parts += (value, b"")
        else:
            parts[-1] += _pack(value)
    parts[0] = HEADER.pack(sum(map(len, parts))) + parts[0]
    return parts


def decode(body: "bytes | bytearray | memoryview", kinds: Mapping[int, type[M]]) -> M:
    """The message in one frame's body, if it is one of `kinds`. Raises RemoteProtocolError."""
    try:
        if len(body) <= SMALL:
            number, *values = msgpack.unpackb(body, raw=False, use_list=False, max_map_len=0, max_ext_len=0)
            if type(number) is int and body[0] & 0x10:  # bytes (0xC4 to 0xC6) are a sequence of integers, too
                kind = kinds[number]
                lacking = len(kind.NAMES) - len(values)
                # A message checks its fields' types: no more is taken here than by the plain way.
                if not lacking:
                    return kind(*values)
                if lacking == 1 and kind.GROWN:
                    return kind(*[*values, None])
    except Exception:  # noqa: BLE001, S110 - what exactly is wrong is said below, in the one place that decides
        pass
    return decode_plainly(body, kinds)


def decode_plainly(body: "bytes | bytearray | memoryview", kinds: Mapping[int, type[M]]) -> M:
    """As `decode`, value by value: the reference for its short ways."""
    # Nothing is built that the message has no place for: an array inside a value is refused by its header,
    # before millions of nested ones exist. Maps are refused whole, msgpack cannot refuse a repeated key.
    unpacker = msgpack.Unpacker(raw=False, max_buffer_size=0, max_array_len=0, max_map_len=0, max_ext_len=0)
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
    names = kind.NAMES
    # What a later version has added may be left out.
    names = names[:count] if kind.GROWN and count == len(names) - 1 else names
    # Hello may grow, so that two versions can still tell each other apart.
    if not len(names) <= count <= (_MOST_HELLO if kind is Hello else len(names)):
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

    #: How a body of more than SMALL bytes is decoded.
    read = staticmethod(decode)

    def __init__(self, kinds: Mapping[int, type[M]], limit: int) -> None:
        self._kinds = kinds
        self._buffer: bytes | bytearray = b""
        #: Bytes of the buffer that were read: all, but for what a subclass has made space for.
        self._filled = 0
        self.limit = limit

    @property
    def missing(self) -> int:
        """Bytes still needed to go on: the rest of a header or of a body; at least 1."""
        if self._filled < HEADER.size:
            return HEADER.size - self._filled
        length: int = HEADER.unpack_from(self._buffer)[0]
        return max(1, HEADER.size + length - self._filled)

    @property
    def partial(self) -> bool:
        """True while an incomplete frame is held."""
        return self._filled > 0

    def feed(self, data: bytes) -> None:
        """Take bytes as they came. Never raises: judgement is left to `next_message`."""
        if not self._filled:
            self._buffer = data
        else:
            buffer = self._buffer
            if not isinstance(buffer, bytearray):
                self._buffer = buffer = bytearray(buffer)
            del buffer[self._filled :]
            buffer += data
        self._filled += len(data)

    def next_message(self) -> M | None:
        """The next complete message, None if more bytes are needed. Raises RemoteProtocolError."""
        buffer, have = self._buffer, self._filled
        if have < HEADER.size:
            return None
        (length,) = HEADER.unpack_from(buffer)
        if length > self.limit:
            raise RemoteProtocolError(f"a frame of {length} bytes") from TooLarge(
                f"the frame is longer than {self.limit} bytes"
            )
        end = HEADER.size + length
        if have < end:
            return None
        if length <= SMALL:
            message = decode(buffer[HEADER.size : end], self._kinds)
        else:
            # Released before the buffer is cut, which an exported view would forbid.
            with memoryview(buffer) as whole, whole[HEADER.size : end] as body:
                message = self.read(body, self._kinds)
        self._filled = have - end
        if not self._filled:
            self._buffer = b""
            return message
        # A bytearray, which is cut at its front without a copy: a thousand messages may have come at once.
        if not isinstance(buffer, bytearray):
            self._buffer = buffer = bytearray(buffer)
        del buffer[:end]
        return message
