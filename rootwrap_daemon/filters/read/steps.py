"""Prove, by reading a pattern, how many steps a match can take, and how each word that matches begins.

Promises: a bound is given only to what no word makes take more than linear time, whichever engine tries one
way after the other: no group is repeated, few alternatives, and no loop that shares its characters with
another one behind it. A pattern that is not understood has no bound.
"""

import re
from dataclasses import dataclass
from typing import Any, Final

from rootwrap_daemon.filters.read.tree import Char, Choice, Loop, Node, Sequence, parse, split, tree

#: Steps for each character of a word; a pattern that may take more has no bound.
MOST: Final = 1000
#: Ways through alternatives and optional groups, as a power of two.
_MOST_FORKS: Final = 4
#: Lengths of a bounded repetition of one character that may all be tried.
_MOST_LENGTHS: Final = 16
#: A repetition of a group, but for an optional one. `re` makes one character of some alternatives, as of
#: `(?:a|a)`, where another engine still has two ways: so the text counts, not the tree.
_REPEATED_GROUP: Final = re.compile(r"\)[*+{]")
_FORK: Final = re.compile(r"\||\)\?")
#: What the tree shows whole.
_PLAIN: Final = frozenset("LITERAL NOT_LITERAL IN ANY SUBPATTERN BRANCH MAX_REPEAT MIN_REPEAT".split())


class _NoBound(Exception):
    """Nothing is proven of this pattern."""


@dataclass(frozen=True, slots=True)
class _Rest:
    """The steps that what is left of a pattern takes at most, in one of the ways through its alternatives.

    `first`: the characters that it can take next. `idle`: steps at a place where it takes none. The others:
    `each` for every character of the word, and `once`.
    """

    first: int
    idle: int
    each: int
    once: int


#: Two steps for `$` and the end of the word.
_END: Final = _Rest(first=0, idle=2, each=0, once=2)


def prefix(text: str) -> str:
    """Return how each word begins that the pattern matches."""
    parsed = parse(text)
    if parsed is None or parsed.state.flags & re.IGNORECASE:
        return ""
    found = ""
    for op, value in parsed:
        if str(op) == "LITERAL":
            found += chr(value)
        elif str(op) != "AT":
            break
    return found


def steps(text: str) -> int:
    """Return how many steps a match takes at most for each character of a word and one more; 0 if unknown."""
    found = bound(text)
    # An engine may look for the literal part of a pattern first: the length of the text for each character.
    most = sum(found) + len(text) if found is not None else 0
    return most if most <= MOST else 0


def bound(text: str) -> tuple[int, int] | None:
    """Return the steps, at most, of an engine that tries one way after the other; None if unknown.

    So many for each character of a word, and so many for any word.
    """
    outside, _ = split(text)
    forks = len(_FORK.findall(outside))
    if forks > _MOST_FORKS or _REPEATED_GROUP.search(outside):
        return None
    parsed = parse(text)
    node = tree(text)
    if node is None or parsed.state.flags & re.IGNORECASE or not _is_plain(_without_ends(list(parsed))):
        return None
    try:
        found = _before(node, _END)
    except _NoBound:
        return None
    return found.each << forks, found.once << forks


def _without_ends(items: list[Any]) -> list[Any]:
    """The items without a `^` in front and a `$` at the end."""
    start = bool(items) and str(items[0][0]) == "AT"
    end = len(items) - (len(items) > start and str(items[-1][0]) == "AT")
    return items[start:end]


def _is_plain(items: Any) -> bool:
    """True if the tree of these items has all that they do."""
    for op, value in items:
        inner: list[Any] = []
        if str(op) == "SUBPATTERN":
            _, add, remove, body = value
            inner = [body]
            if add or remove:
                return False
        elif str(op) == "BRANCH":
            inner = value[1]
        elif str(op) in ("MAX_REPEAT", "MIN_REPEAT"):
            inner = [value[2]]
        if str(op) not in _PLAIN or not all(map(_is_plain, inner)):
            return False
    return True


def _before(node: Node, rest: _Rest) -> _Rest:
    """`node` and then `rest`. Raises _NoBound."""
    if isinstance(node, Char):
        return _Rest(node.mask, 1, rest.each, rest.once + 1)
    if isinstance(node, Sequence):
        for part in reversed(node.parts):
            rest = _before(part, rest)
        return rest
    if isinstance(node, Choice):
        return _either(*(_before(part, rest) for part in node.parts))
    if isinstance(node.body, Char):
        return _loop(node, node.body.mask, rest)
    if (node.least, node.most) != (0, 1):
        raise _NoBound
    return _either(_before(node.body, rest), rest)


def _either(*found: _Rest) -> _Rest:
    """Bound each of these; how many there are is counted for the whole pattern."""
    first = 0
    for one in found:
        first |= one.first
    return _Rest(
        first,
        max(one.idle for one in found),
        max(one.each for one in found),
        max(one.once for one in found),
    )


def _loop(node: Loop, mask: int, rest: _Rest) -> _Rest:
    """A repetition of one character and then `rest`."""
    lengths = None if node.most is None else node.most - node.least + 1
    first, idle = (mask, 1) if node.least else (mask | rest.first, 1 + rest.idle)
    if lengths == 1:
        return _Rest(first, idle, rest.each, rest.once + node.least + 1)
    if not mask & rest.first:
        # Where the repetition ends earlier than it could, the rest cannot take the next character.
        return _Rest(first, idle, rest.each + 1 + rest.idle, rest.once + 1)
    if lengths is not None and lengths <= _MOST_LENGTHS:
        return _Rest(first, idle, rest.each * lengths, rest.once * lengths + lengths + node.least)
    if rest.each:
        raise _NoBound
    return _Rest(first, idle, 1 + rest.once, 1 + rest.once)
