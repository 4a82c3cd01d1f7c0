"""Read a regular expression into a tree of characters, choices and loops, or find its groups and bars.

Promises: time is bounded by the length of the pattern. The tree is that of `re`, whose shape 3.11 to 3.13
share.
"""

import importlib
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

_parser: Any = importlib.import_module("re._parser")

ESCAPE: Final = re.compile(r"\\.", re.DOTALL)
#: A set of characters as bits: one for each of ASCII, and one for all others.
_ALL: Final = (1 << 129) - 1
_CLASSES: Final = {"DIGIT": r"\d", "SPACE": r"\s", "WORD": r"\w"}


@dataclass(frozen=True, slots=True)
class Char:
    """One character of a set."""

    mask: int


@dataclass(frozen=True, slots=True)
class Sequence:
    """One after the other; none is the empty word."""

    parts: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """One of these."""

    parts: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class Loop:
    """Again and again; `most` is None without a bound."""

    body: "Node"
    least: int
    most: int | None


Node = Char | Sequence | Choice | Loop


def parse(text: str) -> Any:
    """Return what `re` reads, None if it is no pattern."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return _parser.parse(text, re.ASCII)
        except (re.error, ValueError, OverflowError, RecursionError):
            return None


def written_out(part: Any) -> int:
    """Count the pieces of what `parse` returned once an engine has written its repetitions out."""
    if isinstance(part, _parser.SubPattern):
        return max(1, sum(_of_one(str(op), value) for op, value in part.data))
    return sum(map(written_out, part)) if isinstance(part, (tuple, list)) else 0


def _of_one(op: str, value: Any) -> int:
    if op.endswith("_REPEAT"):
        least, most, body = value
        # Behind those that must be comes a loop of one more: `(?:x)+` has it twice.
        return max(1, int(least) + int(most > least)) * written_out(body)
    return 1 if op == "IN" else 1 + written_out(value)


@lru_cache(maxsize=4096)
def tree(text: str) -> Node | None:
    """The pattern as a tree, without what looks around; None if it is no pattern."""
    parsed = parse(text)
    try:
        return None if parsed is None else _sequence(parsed, parsed.state.flags)
    except RecursionError:
        return None


def _sequence(items: Any, flags: int) -> Node:
    parts = tuple(node for node in (_node(str(op), value, flags) for op, value in items) if node is not None)
    return parts[0] if len(parts) == 1 else Sequence(parts)


def _node(op: str, value: Any, flags: int) -> Node | None:
    if op in ("LITERAL", "NOT_LITERAL", "IN", "ANY"):
        return Char(_mask(op, value, flags))
    if op == "SUBPATTERN":
        _, add, remove, items = value
        return _sequence(items, (flags | add) & ~remove)
    if op == "BRANCH":
        parts = tuple(_sequence(items, flags) for items in value[1])
        if all(isinstance(part, Char) for part in parts):
            mask = 0
            for part in parts:
                mask |= part.mask if isinstance(part, Char) else 0
            # Where two have a character in common, there are two ways to match it.
            if sum(part.mask.bit_count() for part in parts if isinstance(part, Char)) == mask.bit_count():
                return Char(mask)
        return Choice(parts)
    if op in ("MAX_REPEAT", "MIN_REPEAT"):
        least, most, items = value
        return Loop(_sequence(items, flags), int(least), None if most is _parser.MAXREPEAT else int(most))
    if op in ("POSSESSIVE_REPEAT", "ATOMIC_GROUP"):
        # Nobody comes back into it: to what follows it is one piece.
        body = _sequence(value[2] if op == "POSSESSIVE_REPEAT" else value, flags)
        return body if isinstance(body, Char) else next(_chars(body), None)
    # What takes no character: ^, $, \b, and what looks ahead or back. A reference to a group takes some,
    # which no filter file known has.
    return None


def _chars(node: Node) -> Iterator[Char]:
    if isinstance(node, Char):
        yield node
    elif isinstance(node, Loop):
        yield from _chars(node.body)
    else:
        for part in node.parts:
            yield from _chars(part)


def _mask(op: str, value: Any, flags: int) -> int:
    if op == "ANY":
        return _ALL if flags & re.DOTALL else _ALL & ~(1 << ord("\n"))
    if op == "LITERAL":
        return _bits(value, value, flags)
    if op == "NOT_LITERAL":
        return _without(_bits(value, value, flags))
    mask, negated = 0, False
    for kind, item in value:
        name = str(kind)
        if name == "NEGATE":
            negated = True
        elif name == "LITERAL":
            mask |= _bits(item, item, flags)
        elif name == "RANGE":
            mask |= _bits(item[0], item[1], flags)
        else:  # CATEGORY
            category = str(item).removeprefix("CATEGORY_")
            pattern = _CLASSES[category.removeprefix("NOT_")]
            found = sum(1 << code for code in range(128) if re.match(pattern, chr(code), re.ASCII))
            mask |= _ALL & ~found if category.startswith("NOT_") else found
    return _without(mask) if negated else mask


def _without(mask: int) -> int:
    # Not all others beyond ASCII: no class leaves out each of those.
    return _ALL & ~mask | 1 << 128


def _bits(low: int, high: int, flags: int) -> int:
    mask = sum(1 << code for code in range(min(low, 128), min(high, 128) + 1))
    if flags & re.IGNORECASE:
        for code in range(128):
            mask |= (mask >> code & 1) << ord(chr(code).swapcase())
    return mask


def split(text: str) -> tuple[str, list[str]]:
    """The pattern with escapes and classes blanked, and what is in each class with its closing bracket."""
    out: list[str] = []
    classes: list[str] = []
    start = 0
    index = 0
    while index < len(text):
        char = text[index]
        if char == "\\":
            out.append("__")
            index += 2
            continue
        if start:
            # `]` right after `[` or `[^` is itself.
            if char == "]" and index > start + (text[start] == "^"):
                classes.append(ESCAPE.sub("__", text[start : index + 1]))
                start = 0
            out.append("_" if start else "]")
        else:
            start = index + 1 if char == "[" else 0
            out.append(char)
        index += 1
    return "".join(out), classes
