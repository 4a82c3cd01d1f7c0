"""Hold what is wrong with a text, with its place and its effect.

Promises: a finding has the code of its fault (read/fault.py); its sentence can be reworded and its code
stays. The rules of `rootwrapctl check` are looked up by it.
"""

import enum
from dataclasses import dataclass


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

    `code`: what is wrong, as a program tells it apart. `filters`: the folded names of the filters that an
    ERROR takes out of use; empty for a fault of the file.
    """

    location: Location
    severity: Severity
    code: str
    what: str
    remedy: str
    filters: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return f"{self.location}: {self.severity.value}: {self.what}: {self.remedy}"
