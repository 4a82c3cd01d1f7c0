"""The types of words that an ArgvFilter can ask for, each with its exact alphabet and length.

Promises: no type takes an empty word, a character that is not printable, or a word that begins with `-` (but
`int` with a range below zero); all but `path`, `any` and `secret` are ASCII. The table:
doc/source/reference/argv.rst.
"""

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from rootwrap_daemon.filters import ip
from rootwrap_daemon.filters.paths import is_normal_path
from rootwrap_daemon.filters.patterns import MAX_SUBJECT
from rootwrap_daemon.filters.plan import Beneath, ProcessOf, Word


@dataclass(frozen=True, slots=True)
class Choice:
    """One of these words. A literal is a choice of one."""

    words: frozenset[str]

    def takes(self, word: str) -> bool:
        return word in self.words


# Eighteen digits fit in 64 bits. Other ways to write a number (+1, 01, 0x1, -0) programs read differently.
_INT: Final = r"0|-?[1-9][0-9]{0,17}"
_RANGE = re.compile(f"({_INT})-({_INT})", re.ASCII)
_IPV4 = re.compile(r"[0-9.]{7,15}", re.ASCII)
_IPV6 = re.compile(r"[0-9A-Fa-f:.]{2,45}", re.ASCII)
# dev_valid_name() (net/core/dev.c): at most 15 bytes, no / : or blank, not . or .. alone. dev_alloc_name()
# replaces %, so no device has one. The kernel allows - as the first and bytes beyond ASCII too: we do not.
_IFNAME = re.compile(r"(?!\.\.?\Z)[!-$&-,.0-9;-~][!-$&-.0-9;-~]{0,14}", re.ASCII)


def _spelled(pattern: str) -> Callable[[str], bool]:
    compiled = re.compile(pattern, re.ASCII)
    return lambda word: compiled.fullmatch(word) is not None


def _is_ipv4(word: str) -> bool:
    # As inet_pton(3): four decimal numbers without leading zeros.
    return _IPV4.fullmatch(word) is not None and _parses(ipaddress.IPv4Address, word)


def _is_ipv6(word: str) -> bool:
    # Without a zone (%eth0): that names a device, and may hold anything.
    return _IPV6.fullmatch(word) is not None and _parses(ipaddress.IPv6Address, word)


def _parses(kind: Callable[[str], object], word: str) -> bool:
    try:
        kind(word)
    except ValueError:
        return False
    return True


def _is_ip(word: str) -> bool:
    return _is_ipv4(word) or _is_ipv6(word)


_is_length = _spelled("0|[1-9][0-9]{0,2}")


def _is_cidr(word: str) -> bool:
    address, _, length = word.partition("/")
    if not _is_length(length):
        return False
    return (_is_ipv4(address) and int(length) <= 32) or (_is_ipv6(address) and int(length) <= 128)


def _is_text(word: str) -> bool:
    # Not printable are control characters, blanks but the space, what turns the direction of text, and bytes
    # that are no UTF-8.
    return 0 < len(word) <= MAX_SUBJECT and word.isprintable()


_is_name = _spelled("[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
PLAIN: Final[dict[str, Callable[[str], bool]]] = {
    "any": lambda word: _is_text(word) and not word.startswith("-"),
    "cidr": _is_cidr,
    "ifname": lambda word: _IFNAME.fullmatch(word) is not None,
    "int": _spelled("0|[1-9][0-9]{0,17}"),
    "ip": _is_ip,
    "ipv4": _is_ipv4,
    "ipv6": _is_ipv6,
    "mac": _spelled("[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}"),
    "name": _is_name,
    "netns": ip.is_namespace_anywhere,
    # What no record shows; it says nothing else about the word.
    "secret": lambda word: _is_text(word) and not word.startswith("-"),
    "uuid": _spelled("[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}"),
}

_Takes = Callable[[str], bool]
_Make = Callable[[str], Word]


def _int_between(parameter: str) -> tuple[_Takes, None]:
    found = _RANGE.fullmatch(parameter)
    if not found or int(found[1]) > int(found[2]):
        raise ValueError(f"{parameter!r} is not a range")
    low, high = int(found[1]), int(found[2])
    is_int = _spelled(_INT)
    return (lambda word: is_int(word) and low <= int(word) <= high), None


def _path_beneath(base: str) -> tuple[_Takes, _Make]:
    if not _is_plain_path(base):
        raise ValueError(f"{base!r} is not a plain absolute path below /")
    return (lambda word: _is_text(word) and word.startswith("/")), lambda word: Beneath(base, word)


def _process_of(program: str) -> tuple[_Takes, _Make]:
    if not _is_plain_path(program) and not _is_name(program):
        raise ValueError(f"{program!r} is not a program")
    is_number = _spelled("[1-9][0-9]{0,9}")
    return (
        lambda word: is_number(word) and int(word) < 2**31,  # pid_t
        lambda word: ProcessOf(program, int(word)),
    )


def _is_plain_path(path: str) -> bool:
    # Whoever writes * or (a|b) believes that it means something.
    return is_normal_path(path) and path.isprintable() and not set(path) & set("*?[](){}|^$\\+")


WITH_PARAMETER: Final[dict[str, Callable[[str], tuple[_Takes, _Make | None]]]] = {
    "int": _int_between,
    "path": _path_beneath,
    "pid": _process_of,
}


@dataclass(frozen=True, slots=True)
class Typed:
    """A word of a type.

    `make`: what the plan has in the word's place, where only the host can say whether it may stand there.
    """

    name: str
    parameter: str | None = None
    takes: _Takes = field(init=False, repr=False, compare=False)
    make: _Make | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Raises ValueError for a type that there is not, and a parameter that it cannot have."""
        make = None
        if self.parameter is None and self.name in PLAIN:
            takes = PLAIN[self.name]
        elif self.parameter is not None and self.name in WITH_PARAMETER:
            takes, make = WITH_PARAMETER[self.name](self.parameter)
        else:
            raise ValueError(f"there is no such type: {self.name}")
        object.__setattr__(self, "takes", takes)
        object.__setattr__(self, "make", make)


Matcher = Choice | Typed
