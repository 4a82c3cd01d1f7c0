"""Report what is wrong with a text: a Fault where it is found, a Finding once its effect is known.

Promises: every fault has a code; its sentence can be reworded and its code stays. The rules of `rootwrapctl
check` are looked up by it.
"""

import difflib
import enum
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, Self

#: What is wrong, as a program tells it apart. The comments say where it is raised.
Code = Literal[
    # The text of a filter file.
    "template",
    "section",
    "line",
    "character",
    "comment",
    "duplicate",
    "repeated",
    # The fields of a definition.
    "kind",
    "fields",
    "field",
    "program_of_kind",
    "signal",
    "pattern",
    "split_pattern",
    "first_pattern",
    "ambiguous",
    "path_pattern",
    "whole_tree",
    "any_word",
    "keyword",
    "variable",
    "never",
    "literal",
    # The options of a filter.
    "option",
    # The host, or the configuration.
    "configuration",
    "file",
    "misnamed",
    "account",
    "unusable",
    "replaceable",
    "foreign_links",
]


@dataclass(frozen=True, slots=True, order=True)
class Location:
    """A place in a text file; line and column count from 1, columns in characters."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


class Fault(ValueError):
    """Something in a text that cannot be used, or that may not be what its author meant.

    `what` is wrong; `remedy`: what to write instead. `location` is None until somebody knows the place.
    """

    def __init__(self, code: Code, what: str, remedy: str, location: Location | None = None) -> None:
        super().__init__(what)
        self.code, self.what, self.remedy, self.location = code, what, remedy, location

    def at(self, location: Location) -> Self:
        """The same fault, at this place if it has none yet."""
        self.location = self.location or location
        return self

    def __str__(self) -> str:
        place = "" if self.location is None else f"{self.location}: "
        return f"{place}{self.what}: {self.remedy}"


class Severity(enum.Enum):
    """The effect of a finding on the filter that it is about."""

    ERROR = "error"  # the filter cannot be used
    WARNING = "warning"  # it can, and is perhaps not what was meant


@dataclass(frozen=True, slots=True)
class Finding:
    """A fault with its location, and its effect.

    `filters`: the folded names of the filters that an ERROR takes out of use; empty for a fault of the file.
    """

    location: Location
    severity: Severity
    code: Code
    what: str
    remedy: str
    filters: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return f"{self.location}: {self.severity.value}: {self.what}: {self.remedy}"


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The one of the known words that this one is a misspelling of, None if there is none."""
    folded = {one.lower(): one for one in known}
    near = difflib.get_close_matches(word.lower(), folded, n=1, cutoff=0.7)
    return folded[near[0]] if near else None


def one_of(word: str, known: Iterable[str]) -> str:
    """The remedy for a word that must be one of those known: the nearest one, and all of them."""
    words = tuple(known)
    near = nearest(word, words)
    meant = f"did you mean {near}? " if near else ""
    return f"{meant}use one of {', '.join(words)}"
