"""The types of words that an ArgvFilter can ask for, each with its exact alphabet and length.

Promises: no type takes a word that begins with `-`, but `int` with a range below zero; none takes an empty
one.
"""

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from rootwrap_daemon.filters import iproute
from rootwrap_daemon.filters.model import Beneath, ProcessOf, Word


class TypeProblem(ValueError):
    """A type or its parameter that cannot be used. `args`: what is wrong, what to do."""


@dataclass(frozen=True, slots=True)
class Choice:
    """One of these words. A literal is a choice of one."""

    words: frozenset[str]

    def takes(self, word: str) -> bool:
        return word in self.words

    def plan(self, word: str) -> Word:
        return word


@dataclass(frozen=True, slots=True)
class Typed:
    """A word of a type.

    `make`: what the plan has in its place, where only the host can say whether it holds.
    """

    name: str
    accepts: Callable[[str], bool]
    make: Callable[[str], Word] | None = None

    def takes(self, word: str) -> bool:
        return self.accepts(word)

    def plan(self, word: str) -> Word:
        return self.make(word) if self.make else word


Matcher = Choice | Typed


def overlap(one: Matcher, other: Matcher) -> bool:
    """True if some word could be taken by both; two types always count as such."""
    if isinstance(one, Choice):
        return any(map(other.takes, one.words))
    return any(map(one.takes, other.words)) if isinstance(other, Choice) else True


_INT = re.compile(r"0|-?[1-9][0-9]{0,17}", re.ASCII)
_RANGE = re.compile(r"(-?[0-9]{1,18})-(-?[0-9]{1,18})", re.ASCII)
_MAC = re.compile(r"[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}", re.ASCII)
_UUID = re.compile(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}", re.ASCII)
# dev_valid_name() of the kernel (net/core/dev.c), in printable ASCII.
_IFNAME = re.compile(r"[!-,.0-9;-~][!-.0-9;-~]{0,14}", re.ASCII)
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}", re.ASCII)
_PID = re.compile(r"[1-9][0-9]{0,9}", re.ASCII)
_IPV4 = re.compile(r"[0-9.]{7,15}", re.ASCII)
_IPV6 = re.compile(r"[0-9A-Fa-f:.]{2,45}", re.ASCII)


def _is_ipv4(word: str) -> bool:
    # inet_pton(3): four decimal numbers without leading zeros.
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


def _is_cidr(word: str) -> bool:
    address, slash, length = word.partition("/")
    if not slash or not _INT.fullmatch(length) or int(length) < 0:
        return False
    return (_is_ipv4(address) and int(length) <= 32) or (_is_ipv6(address) and int(length) <= 128)


def _is_ifname(word: str) -> bool:
    return _IFNAME.fullmatch(word) is not None and word not in (".", "..")


def _is_any(word: str) -> bool:
    return word != "" and not word.startswith("-")


_PLAIN: Final[dict[str, Callable[[str], bool]]] = {
    "int": lambda word: _INT.fullmatch(word) is not None and not word.startswith("-"),
    "ip": _is_ip,
    "ipv4": _is_ipv4,
    "ipv6": _is_ipv6,
    "cidr": _is_cidr,
    "mac": lambda word: _MAC.fullmatch(word) is not None,
    "uuid": lambda word: _UUID.fullmatch(word) is not None,
    "ifname": _is_ifname,
    "netns": iproute.is_namespace,
    "name": lambda word: _NAME.fullmatch(word) is not None,
    "any": _is_any,
}


def _int_between(parameter: str) -> Matcher:
    found = _RANGE.fullmatch(parameter)
    if not found or int(found[1]) > int(found[2]):
        raise TypeProblem(f"{parameter!r} is no range", "write {int=LOW-HIGH}, e.g. {int=1-4094}")
    low, high = int(found[1]), int(found[2])
    return Typed("int", lambda word: _INT.fullmatch(word) is not None and low <= int(word) <= high)


def _one_user(parameter: str) -> Matcher:
    names = parameter.split("|")
    if not all(_NAME.fullmatch(name) for name in names):
        raise TypeProblem(f"{parameter!r} names no users", "write {user=nova} or {user=nova|cinder}")
    return Choice(frozenset(names))


def _path_beneath(parameter: str) -> Matcher:
    base = parameter.rstrip("/")
    if not base or not base.startswith("/") or any(part in ("", ".", "..") for part in base[1:].split("/")):
        raise TypeProblem(f"{parameter!r} is no plain absolute path below /", "name the directory meant")
    return Typed("path", lambda word: word.startswith("/"), lambda word: Beneath(base, word))


def _process_of(parameter: str) -> Matcher:
    if not parameter or parameter.startswith("-") or parameter.endswith("/"):
        raise TypeProblem(f"{parameter!r} is no program", "write {pid=/usr/sbin/dnsmasq}")
    return Typed(
        "pid",
        lambda word: _PID.fullmatch(word) is not None and int(word) < 2**31,
        lambda word: ProcessOf(parameter, int(word)),
    )


_WITH_PARAMETER: Final[dict[str, Callable[[str], Matcher]]] = {
    "int": _int_between,
    "user": _one_user,
    "path": _path_beneath,
    "pid": _process_of,
}


def typed(name: str, parameter: str | None) -> Matcher:
    """The matcher for `{name}` or `{name=parameter}`. Raises TypeProblem."""
    if parameter is None and name in _PLAIN:
        return Typed(name, _PLAIN[name])
    if parameter is not None and name in _WITH_PARAMETER:
        return _WITH_PARAMETER[name](parameter)
    if name in _WITH_PARAMETER:
        raise TypeProblem(f"{name} needs a parameter", f"write {{{name}=...}}")
    if name in _PLAIN:
        raise TypeProblem(f"{name} takes no parameter", f"write {{{name}}}")
    known = ", ".join(sorted({*_PLAIN, *_WITH_PARAMETER}))
    raise TypeProblem(f"there is no type {name!r}", f"use one of {known}")
