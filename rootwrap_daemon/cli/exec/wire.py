"""Write the few messages that `rootwrap-exec` sends, and read those that it gets.

Promises: bytes give messages or ValueError. By hand, and without a module that the interpreter has not loaded
anyway: the protocol's own would take as long to import as the interpreter takes to start.
"""

VERSION = 1
#: The types of messages: protocol/messages has all of them, and tests compare.
HELLO, CHECK, RESULT, FAILURE, VERDICT, STARTED = 0, 2, 4, 5, 6, 10
MAX_FRAME = 1024 * 1024 * 1024 + 64 * 1024

#: Failure codes that do not end this program with 70; `errors` has all of them.
EXIT_CODES = {
    "denied": 99,
    "environment_denied": 99,
    "process_gone": 99,
    "executable_not_found": 96,
    "bad_request": 64,
    "too_large": 64,
    "timeout": 124,
    "output_limit": 75,
    "busy": 75,
    "stopping": 75,
    "outcome_unknown": 75,
    "unavailable": 97,
    "unauthorized": 77,
}

#: First byte of a value in msgpack -> in how many bytes its length, or the number itself, follows.
_STRINGS = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4}
_NUMBERS = {0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8, 0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8}
_CONSTANTS = {0xC0: None, 0xC2: False, 0xC3: True}
_TEXTS = (0xD9, 0xDA, 0xDB)


#: Type of message -> the types of its fields; a hello may have more.
_SHAPES = {
    HELLO: (int, int, int),
    RESULT: (str, int, bytes, bytes, str),
    FAILURE: (str, str, str),
    VERDICT: (str, bool, str),
    STARTED: (str, int, int),
}

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def hello() -> bytes:
    """The first message of a client."""
    return _frame(b"\x94\x00\x01\xce" + MAX_FRAME.to_bytes(4, "big") + b"\x00")


def start(
    argv: "list[bytes]",
    env: "list[tuple[bytes, bytes]]",
    slots: int,
    seconds: "float | None",
    user: "str | None" = None,
) -> bytes:
    """Run this command on the descriptors that go with the message."""
    # Rounded up, as everywhere: no command gets less than was asked for.
    limit = b"\xc0" if seconds is None else b"\xce" + (-int(-seconds * 1000 // 1)).to_bytes(4, "big")
    return _frame(_head(5, 7, user) + _command(argv, env) + bytes([slots]) + limit + _user(user))


def check(argv: "list[bytes]", env: "list[tuple[bytes, bytes]]", user: "str | None" = None) -> bytes:
    """Would this command be allowed?"""
    return _frame(_head(3, CHECK, user) + _command(argv, env) + _user(user))


def _head(count: int, kind: int, user: "str | None") -> bytes:
    return bytes([0x90 + count + (user is not None), kind])


def _user(user: "str | None") -> bytes:
    # Left out where there is none: an older daemon does not know it.
    name = b"" if user is None else user.encode("utf-8", "surrogateescape")
    return b"" if user is None else b"\xdb" + len(name).to_bytes(4, "big") + name


def signal(number: int) -> bytes:
    """Send this signal to the main process of the started command."""
    return _frame(b"\x92\x08" + bytes([number]))


def cancel() -> bytes:
    """End the started command."""
    return _frame(b"\x91\x03")


def _frame(body: bytes) -> bytes:
    return len(body).to_bytes(4, "big") + body


def _command(argv: "list[bytes]", env: "list[tuple[bytes, bytes]]") -> bytes:
    pairs = [b"\x92" + _binary(name) + _binary(value) for name, value in env]
    return _array(argv) + b"".join(map(_binary, argv)) + _array(pairs) + b"".join(pairs)


def _array(items: "list[bytes]") -> bytes:
    return b"\xdd" + len(items).to_bytes(4, "big")


def _binary(data: bytes) -> bytes:
    return b"\xc6" + len(data).to_bytes(4, "big") + data


def cut(buffer: bytearray) -> "list[Any] | None":
    """Take the first message out of the buffer: its type and fields; None if it is not complete.

    Raises ValueError.
    """
    length = int.from_bytes(buffer[:4], "big")
    if length > MAX_FRAME:
        raise ValueError("a frame that is too long")
    if len(buffer) < 4 + max(1, length):
        return None
    body = bytes(buffer[4 : 4 + length])
    del buffer[: 4 + length]
    fields: list[Any] = []
    at = 1
    if body[:1] < b"\x91" or body[:1] > b"\x9f":
        raise ValueError("no array")
    for _ in range(body[0] & 0x0F):
        value, at = _value(body, at)
        fields.append(value)
    shape = _SHAPES.get(fields[0]) if type(fields[0]) is int else None
    if at != length or shape is None or shape != tuple(map(type, fields[1 : 1 + len(shape)])):
        raise ValueError("not a message")
    if fields[0] != HELLO and len(fields) != 1 + len(shape):
        raise ValueError("fields that no message has")
    return fields


def _value(body: bytes, at: int) -> "tuple[Any, int]":
    """One value, and where the next begins."""
    tag = body[at] if at < len(body) else 0xC1
    at += 1
    if tag < 0x80 or tag >= 0xE0:
        return tag - 0x100 if tag >= 0xE0 else tag, at
    if tag in _CONSTANTS:
        return _CONSTANTS[tag], at
    if tag in _NUMBERS:
        end = at + _NUMBERS[tag]
        value: Any = int.from_bytes(body[at:end], "big", signed=tag >= 0xD0)
    elif 0xA0 <= tag < 0xC0:
        end = at + (tag & 0x1F)
        value = body[at:end].decode()
    elif tag in _STRINGS:
        begin = at + _STRINGS[tag]
        end = begin + int.from_bytes(body[at:begin], "big")
        value = body[begin:end].decode() if tag in _TEXTS else body[begin:end]
    else:
        raise ValueError("a value that no message has")
    if end > len(body):
        raise ValueError("a value that is cut short")
    return value, end
