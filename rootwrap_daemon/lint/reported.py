"""Give each finding of the daemon to the rule that its code belongs to.

Promises: every code that a fault can have belongs to one rule.
"""

from collections.abc import Iterator
from typing import Final

from rootwrap_daemon.filters.finding import Finding, Location
from rootwrap_daemon.lint.finding import Problem, Severity
from rootwrap_daemon.lint.subject import FilterText, Subject

#: Code of a fault -> the rule that reports it.
RULE_OF: Final[dict[str, str]] = {
    "ambiguous": "RW100",
    "kind": "RW101",
    "fields": "RW102",
    "pattern": "RW103",
    "split_pattern": "RW104",
    "section": "RW105",
    "duplicate": "RW106",
    "repeated": "RW107",
    "character": "RW108",
    "option": "RW109",
    "field": "RW110",
    "comment": "RW111",
    "line": "RW112",
    "first_pattern": "RW113",
    "program_of_kind": "RW114",
    "signal": "RW115",
    "misnamed": "RW117",
    "template": "RW118",
    "literal": "RW119",
    "account": "RW203",
    "file": "RW205",
    "replaceable": "RW204",
    "foreign_links": "RW209",
    "led": "RW212",
    "home": "RW211",
    "unusable": "RW208",
    "configuration": "RW207",
    "any_word": "RW302",
    "path_pattern": "RW310",
    "whole_tree": "RW311",
    "variable": "RW322",
    "keyword": "RW342",
    "never": "RW401",
}


def of_text(subject: Subject, rule: str, *, raised: Severity | None = None) -> Iterator[Problem]:
    """The findings of a rule in the text of the files. `raised`: each is at least this severe."""
    for file in subject.files:
        for finding in file.findings:
            if RULE_OF[finding.code] == rule:
                severity = Severity(finding.severity.value)
                if raised is not None and raised.rank > severity.rank:
                    severity = raised
                yield _problem(finding, severity, _length(file, finding.location))


def of_host(subject: Subject, rule: str) -> Iterator[Problem]:
    """The findings of a rule that the daemon's loader has on this host, beyond the text of the files."""
    for finding in subject.host.findings if subject.host is not None else ():
        if RULE_OF[finding.code] == rule:
            yield _problem(finding, Severity(finding.severity.value), 1)


def _problem(finding: Finding, severity: Severity, length: int) -> Problem:
    return Problem(finding.location, finding.what, finding.remedy, length=length, severity=severity)


def _length(file: FilterText, location: Location) -> int:
    """The number of characters of the name or field at this place, 1 for anything else."""
    for entry in file.document.entries():
        if entry.location == location:
            return len(entry.name)
        for part in entry.fields:
            if part.location == location:
                return max(1, len(part.text.partition("\n")[0]))
    return 1
