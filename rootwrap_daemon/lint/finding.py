"""Define what `check` reports: findings with a stable id, a severity, and the edits that would correct them.

Promises: all are immutable.
"""

import enum
from dataclasses import dataclass

from rootwrap_daemon.filters.finding import Location
from rootwrap_daemon.filters.read.ini import Field


class Severity(enum.Enum):
    """The importance of a finding; in the order of `--fail-on`."""

    INFO = "info"  # worth knowing, nothing to do
    WARNING = "warning"  # works, and is perhaps not what was meant
    ERROR = "error"  # cannot be used, or gives away more than any reader would think

    @property
    def rank(self) -> int:
        """0 for the least."""
        return list(Severity).index(self)


@dataclass(frozen=True, slots=True)
class Edit:
    """Put `new` in the place of `old`, which stands at `location` and within one line.

    An empty `new` for a whole line takes the line out with its end.
    """

    location: Location
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Problem:
    """The result of a rule: where, over how many characters, what is wrong and what to write instead.

    `replacement`: the definition to write, where it can be computed. `edits`: changes that mend it and change
    no verdict. `severity`: None for that of the rule.
    """

    location: Location
    what: str
    instead: str
    length: int = 1
    replacement: str | None = None
    edits: tuple[Edit, ...] = ()
    severity: Severity | None = None


def at(
    part: Field,
    what: str,
    instead: str,
    severity: Severity | None = None,
    replacement: str | None = None,
    edits: tuple[Edit, ...] = (),
) -> Problem:
    """A problem of one field, over its first line."""
    length = len(part.text.partition("\n")[0])
    return Problem(part.location, what, instead, length, replacement, edits, severity)


@dataclass(frozen=True, slots=True)
class Finding:
    """A problem with the rule that found it. `text`: the line of the file, without its end."""

    rule: str
    severity: Severity
    why: str
    problem: Problem
    text: str = ""

    @property
    def location(self) -> Location:
        return self.problem.location

    @property
    def replacement(self) -> str | None:
        """Return the text that replaces the line or the definition; None if there is no single answer."""
        if not self.problem.edits:
            return self.problem.replacement
        line = self.text
        for edit in sorted(self.problem.edits, key=lambda one: one.location, reverse=True):
            if edit.location.line != self.location.line or not edit.new:
                return None
            at = edit.location.column - 1
            line = line[:at] + edit.new + line[at + len(edit.old) :]
        return line.strip()
