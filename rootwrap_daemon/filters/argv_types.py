"""The types of words that an ArgvFilter can ask for, each with its exact alphabet and length.

Promises: no type takes an empty word, a character that is not printable, or a word that begins with `-` (but
`int` with a range below zero); all but `path`, `any` and `secret` are ASCII. The table:
doc/source/reference/argv.rst.
"""

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from rootwrap_daemon.filters import ip
from rootwrap_daemon.filters.base import is_normal_path
from rootwrap_daemon.filters.finding import Fault, one_of
from rootwrap_daemon.filters.patterns import MAX_SUBJECT
from rootwrap_daemon.filters.values import Beneath, ProcessOf, Word


@dataclass(frozen=True, slots=True)
class Choice:
    """One of these words. A literal is a choice of one."""

    words: frozenset[str]

    def takes(self, word: str) -> bool:
        return word in self.words


@dataclass(frozen=True, slots=True)
class Typed:
    """A word of a type.

    `make`: what the plan has in the word's place, where only the host can say whether it may stand there.
    """

    name: str
    takes: Callable[[str], bool]
    make: Callable[[str], Word] | None = None


Matcher = Choice | Typed

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
# As a filter's own user. A number would be read as a uid.
_is_user = _spelled(r"[A-Za-z_][A-Za-z0-9_.-]*\$?")
_PLAIN: Final[dict[str, Callable[[str], bool]]] = {
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


def _int_between(parameter: str) -> Matcher:
    found = _RANGE.fullmatch(parameter)
    if not found or int(found[1]) > int(found[2]):
        raise Fault("pattern", f"{parameter!r} is not a range", "write {int=LOW-HIGH}, as in {int=1-4094}")
    low, high = int(found[1]), int(found[2])
    is_int = _spelled(_INT)
    return Typed("int", lambda word: is_int(word) and low <= int(word) <= high)


def _one_user(parameter: str) -> Matcher:
    names = parameter.split("|")
    if not all(map(_is_user, names)):
        raise Fault(
            "pattern", f"{parameter!r} does not name users", "write {user=nova} or {user=nova|cinder}"
        )
    return Choice(frozenset(names))


def _path_beneath(parameter: str) -> Matcher:
    base = parameter.rstrip("/")
    if not _is_plain_path(base):
        raise Fault(
            "pattern", f"{parameter!r} is not a plain absolute path below /", "name the one directory meant"
        )
    return Typed(
        "path", lambda word: _is_text(word) and word.startswith("/"), lambda word: Beneath(base, word)
    )


def _process_of(parameter: str) -> Matcher:
    if not _is_plain_path(parameter) and not _is_name(parameter):
        raise Fault("pattern", f"{parameter!r} is not a program", "write its name or its absolute path")
    is_number = _spelled("[1-9][0-9]{0,9}")
    return Typed(
        "pid",
        lambda word: is_number(word) and int(word) < 2**31,  # pid_t
        lambda word: ProcessOf(parameter, int(word)),
    )


def _is_plain_path(path: str) -> bool:
    # Whoever writes * or (a|b) believes that it means something.
    return is_normal_path(path) and path.isprintable() and not set(path) & set("*?[](){}|^$\\+")


_WITH_PARAMETER: Final[dict[str, Callable[[str], Matcher]]] = {
    "int": _int_between,
    "path": _path_beneath,
    "pid": _process_of,
    "user": _one_user,
}


def typed(name: str, parameter: str | None) -> Matcher:
    """The matcher for `{name}` or `{name=parameter}`. Raises Fault, without a location."""
    if parameter is None and name in _PLAIN:
        return Typed(name, _PLAIN[name])
    if parameter is not None and name in _WITH_PARAMETER:
        return _WITH_PARAMETER[name](parameter)
    if name in _WITH_PARAMETER:
        raise Fault("pattern", f"{name} needs a parameter", f"write {{{name}=...}}")
    if name in _PLAIN:
        raise Fault("pattern", f"{name} takes no parameter", f"write {{{name}}}")
    remedy = f"{one_of(name, sorted({*_PLAIN, *_WITH_PARAMETER}))}, or {{=word}} for a word"
    raise Fault("pattern", f"there is no type {name!r}", remedy)
