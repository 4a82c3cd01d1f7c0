"""Report what is wrong with a text: a Fault where it is found, a Finding once its effect is known.

Promises: every fault has a code; its sentence can be reworded and its code stays. The rules of `rootwrapctl
check` are looked up by it.
"""

import enum
from dataclasses import dataclass
from typing import Literal

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
