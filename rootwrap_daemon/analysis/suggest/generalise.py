"""Find the shapes that cover the words of many requests: what is fixed stays, what varies gets its type.

Promises: a shape takes every request that it was made of. An option is never anything but itself; a word is a
value only by its own form (a number, an address, a path) or by the keyword before it.
"""

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from rootwrap_daemon.daemon.record.secrets import HIDDEN, MAX_MASKED, mask_words
from rootwrap_daemon.filters.argv_types import Typed
from rootwrap_daemon.filters.paths import basename, is_normal_path
from rootwrap_daemon.filters.read.types import typed

#: Different words in one place up to which they are written out; more are taken for names.
MOST_WORDS: Final = 6
#: Components that a common directory must have to be a base: fewer is somebody else's too.
_LEAST_COMPONENTS: Final = 2

Words = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """One place of a command: one of these words, or (with a type) any of it. `seen`: those of the log."""

    type: str
    seen: frozenset[str]


@dataclass(frozen=True, slots=True)
class Shape:
    """Places, and the requests that they were made of."""

    places: tuple[Place, ...]
    examples: tuple[Words, ...]


def _takes(name: str) -> Typed:
    found = typed(name, None)
    if not isinstance(found, Typed):  # cannot be: these types take no parameter
        raise TypeError(name)
    return found


#: By their form alone; the first that takes a word is its type.
_BY_FORM: Final = tuple(map(_takes, ("uuid", "mac", "cidr", "ipv4", "ipv6", "int")))
#: For many words in one place, the narrowest first.
_NAMES: Final = tuple(map(_takes, ("name", "netns", "ifname")))

#: What follows a keyword of iproute2: ip(8), ip-link(8), tc(8), bridge(8).
_PROGRAMS: Final = frozenset(("ip", "tc", "bridge"))
_AFTER: Final = {"dev": "ifname", "name": "ifname", "master": "ifname", "-n": "netns", "-netns": "netns"}
_NETNS_VERBS: Final = frozenset(("add", "attach", "del", "delete", "exec", "pids", "set"))


def _type_of(program: str, words: Words, index: int) -> str:
    """The type of the word there, empty for one that stays. No type takes an option."""
    word = words[index]
    if mask_words((program, *words), MAX_MASKED)[index + 1] == HIDDEN:
        return "secret"
    for form in _BY_FORM:
        if form.takes(word):
            return form.name
    if is_normal_path(word) and word.isprintable():
        return "path"
    if program in _PROGRAMS and index and word not in _NETNS_VERBS:
        wanted = _AFTER.get(words[index - 1], "")
        before = [place for place in range(index) if not words[place].startswith("-")]
        if words[index - 1] in _NETNS_VERBS and index > 1 and words[index - 2] == "netns":
            wanted = "netns"
        elif words[index - 1] == "netns" and len(before) > 1:
            # As a keyword: the first word that is no option would be the object.
            wanted = "netns"
        if wanted and _takes(wanted).takes(word):
            return wanted
    return ""


def shapes(program: str, requests: Iterable[Words]) -> list[Shape]:
    """The shapes of these words after the program; different requests, in the order of the log."""
    found: dict[tuple[object, ...], Shape] = {}
    for words in dict.fromkeys(requests):
        places = tuple(
            Place(_type_of(basename(program), words, index), frozenset((word,)))
            for index, word in enumerate(words)
        )
        key = tuple(place.type or place.seen for place in places)
        found[key] = (
            _joined([found[key], Shape(places, (words,))]) if key in found else Shape(places, (words,))
        )
    return [_named(shape) for shape in _merged(list(found.values()))]


def _joined(group: Sequence[Shape]) -> Shape:
    columns = zip(*(shape.places for shape in group), strict=True)
    return Shape(
        tuple(
            Place(column[0].type, frozenset().union(*(place.seen for place in column))) for column in columns
        ),
        tuple(example for shape in group for example in shape.examples),
    )


def _merged(found: list[Shape]) -> list[Shape]:
    """Those that differ in one place only become one: it takes what they took, and no more."""
    before = 0
    while before != len(found):
        before = len(found)
        longest = max((len(shape.places) for shape in found), default=0)
        for index in range(longest):
            groups: dict[tuple[object, ...], list[Shape]] = {}
            for shape in found:
                groups.setdefault(_but(shape, index), []).append(shape)
            found = [_joined(group) if len(group) > 1 else group[0] for group in groups.values()]
    return found


def _but(shape: Shape, index: int) -> tuple[object, ...]:
    """The key of shapes that differ only at `index`; unique if the shape cannot be merged there."""
    if index >= len(shape.places):
        return (len(shape.places), *shape.places)
    place = shape.places[index]
    if place.type or any(word.startswith("-") for word in place.seen):
        return (len(shape.places), index, *((one.type or one.seen) for one in shape.places))
    return tuple("" if at == index else one.type or one.seen for at, one in enumerate(shape.places))


def _named(shape: Shape) -> Shape:
    """Many words in one place are names of things; the first place is the verb."""
    places = list(shape.places)
    for index, place in enumerate(places):
        if index and not place.type and len(place.seen) > MOST_WORDS:
            kind = next((one.name for one in _NAMES if all(map(one.takes, place.seen))), "")
            places[index] = replace(place, type=kind)
    return replace(shape, places=tuple(places))


def fixed(shape: Shape, index: int) -> Shape:
    """The shape with one place taking only what was seen there."""
    places = list(shape.places)
    places[index] = replace(places[index], type="")
    return replace(shape, places=tuple(places))


def shown(words: Words) -> Words:
    """The words without what looks like a secret."""
    return tuple(mask_words(words, MAX_MASKED))


def base_of(place: Place) -> str | None:
    """The directory that the paths of a place have in common, if it is narrow enough to be a base."""
    if len(place.seen) < 2:
        return None
    base = os.path.commonpath(place.seen)
    if base in place.seen:
        base = os.path.dirname(base)
    narrow = len(base.strip("/").split("/")) >= _LEAST_COMPONENTS and base != "/"
    return base if narrow and not set(base) & set("*?[](){}|^$\\+,") else None


def as_argv(place: Place) -> str | None:
    """The place as a field of an ArgvFilter; None if its words cannot be written there."""
    if place.type == "path":
        base = base_of(place)
        if base is not None:
            return f"{{path={base}}}"
    elif place.type:
        return f"{{{place.type}}}"
    if not all(word and word.isprintable() for word in place.seen):
        return None
    words = [_escaped(word) for word in sorted(place.seen)]
    if len(words) == 1 and not words[0].endswith("."):
        return words[0]
    return f"{{={'|'.join(words)}}}"


def _escaped(word: str) -> str:
    escaped = re.sub(r"[{}\[\],|\\ ]", lambda found: f"\\{found[0]}", word)
    return f"\\{escaped}" if escaped[0] in "#;" else re.sub(r"(?<= )([#;])", r"\\\1", escaped)


_REGEX: Final = {
    "uuid": "[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}",
    "mac": "[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}",
    "cidr": "[0-9A-Fa-f:.]+/[0-9]+",
    "ipv4": "[0-9.]+",
    "ipv6": "[0-9A-Fa-f:.]+",
    "int": "[0-9]+",
    "name": "[A-Za-z0-9_][A-Za-z0-9_.-]*",
    "netns": "[A-Za-z0-9_][A-Za-z0-9_.:@+-]*",
    "ifname": "[A-Za-z0-9_][A-Za-z0-9_.:@+-]*",
}


def as_pattern(place: Place) -> str | None:
    """The place as a regular expression of a filter; None if its words cannot be written there."""
    if place.type == "path" and (base := base_of(place)) is not None:
        # No component may begin with a dot: `..` would lead out.
        return f"{_pattern(base)}(/[A-Za-z0-9_-][A-Za-z0-9_.-]*)+"
    if place.type in _REGEX:
        return _REGEX[place.type]
    # A pattern would show the secret.
    if place.type == "secret" or not all(word.isprintable() and word.isascii() for word in place.seen):
        return None
    words = [_pattern(word) for word in sorted(place.seen)]
    return words[0] if len(words) == 1 and words[0] else f"({'|'.join(words)})"


def _pattern(word: str) -> str:
    escaped = re.sub(r"[.^$*+?{}\[\]\\|()]", lambda found: f"\\{found[0]}", word)
    return escaped.replace(",", r"\x2c").replace(" ", "[ ]").replace("#", r"\x23").replace(";", r"\x3b")


def literals(shape: Shape) -> Iterator[str]:
    """The words that are fixed, in their order, without options."""
    for place in shape.places:
        if not place.type and len(place.seen) == 1 and not (word := next(iter(place.seen))).startswith("-"):
            yield word
