"""Raise what is wrong with a text where it is found, with the remedy."""

import difflib
from collections.abc import Iterable
from typing import Literal, Self

from rootwrap_daemon.escape import printable
from rootwrap_daemon.filters.finding import Location

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
    "home",
    "misnamed",
    "account",
    "unusable",
    "replaceable",
    "foreign_links",
    "led",
]


class Fault(ValueError):
    """Something in a text that cannot be used, or that may not be what its author meant.

    `what` is wrong; `remedy`: what to write instead. `location` is None until somebody knows the place.
    """

    def __init__(self, code: Code, what: str, remedy: str, location: Location | None = None) -> None:
        # One line, whatever it quotes: the errors of a library repeat the line break of a pattern.
        self.what, self.remedy = printable(what), printable(remedy)
        super().__init__(self.what)
        self.code, self.location = code, location

    def at(self, location: Location) -> Self:
        """The same fault, at this place if it has none yet."""
        self.location = self.location or location
        return self

    def __str__(self) -> str:
        place = "" if self.location is None else f"{self.location}: "
        return f"{place}{self.what}: {self.remedy}"


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The one of the known words that this one is a misspelling of, None if there is none."""
    folded = {one.lower(): one for one in known}
    near = difflib.get_close_matches(word.lower(), folded, n=1, cutoff=0.7)
    return folded[near[0]] if near else None


def one_of(word: str, known: Iterable[str]) -> str:
    """The remedy for a word that must be one of those known: the nearest one, or all of them."""
    words = tuple(known)
    near = nearest(word, words)
    return f"did you mean {near}?" if near else f"use one of {', '.join(words)}"
