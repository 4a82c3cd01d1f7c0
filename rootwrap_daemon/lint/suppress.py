"""Suppress findings about a definition by a comment above it: `# rw: ignore RW301 reason`.

Promises: reads full-line comments alone; a comment behind a definition is a part of its last field.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from rootwrap_daemon.filters.finding import Location
from rootwrap_daemon.lint.finding import Finding
from rootwrap_daemon.lint.subject import Text

_COMMENT: Final = re.compile(r"\s*[#;]")
_DIRECTIVE: Final = re.compile(
    r"\s*[#;]\s*rw:\s*ignore\b[ \t]*(RW[0-9]+(?:[ \t]*,[ \t]*RW[0-9]+)*)?[ \t]*(.*)"
)
#: Findings about suppressions themselves are not suppressed.
_NEVER: Final = frozenset(("RW116", "RW406"))


@dataclass(frozen=True, slots=True)
class Suppression:
    """`rules` are not told of for the lines from `first` to `last`; both 0 where nothing follows."""

    location: Location
    length: int
    rules: frozenset[str]
    reason: str
    first: int
    last: int

    def covers(self, finding: Finding) -> bool:
        """True if it takes this finding back."""
        return (
            finding.rule in self.rules - _NEVER
            and finding.location.file == self.location.file
            and self.first <= finding.location.line <= self.last
        )


def start_of(name: str) -> Location:
    """Return where a file begins."""
    return Location(name, 1, 1)


def read(file: Text) -> tuple[Suppression, ...]:
    """The suppressions of a file, in order."""
    rows = file.rows
    extents = {entry.location.line: entry.lines[-1][0] for entry in file.document.entries()}
    found = []
    for number, row in enumerate(rows, 1):
        directive = _DIRECTIVE.fullmatch(row)
        if directive is None:
            continue
        # What it is about: the next line that is no comment. A blank line ends the search.
        line = number + 1
        while line <= len(rows) and _COMMENT.match(rows[line - 1]):
            line += 1
        about = line if line <= len(rows) and rows[line - 1].strip() else 0
        start = Location(file.name, number, row.index(row.strip()) + 1)
        rules = frozenset(re.findall("RW[0-9]+", directive[1] or ""))
        found.append(
            Suppression(start, len(row.strip()), rules, directive[2], about, extents.get(about, about))
        )
    return tuple(found)


def apply(
    findings: Iterable[Finding], suppressions: Iterable[Suppression]
) -> tuple[list[Finding], list[Suppression]]:
    """The findings that are left, and the suppressions with a reason that took nothing back."""
    known = [one for one in suppressions if one.reason and one.rules]
    used: set[Location] = set()
    left = []
    for finding in findings:
        covering = [one for one in known if one.covers(finding)]
        used.update(one.location for one in covering)
        if not covering:
            left.append(finding)
    return left, [one for one in known if one.location not in used]
