"""What the daemon itself says of a filter file, by the rule that each sentence belongs to.

Promises: every finding of the daemon belongs to a rule, one that nobody has sorted yet to RW100.
"""

import re
from collections.abc import Iterator
from typing import Final

from rootwrap_daemon.filters import values
from rootwrap_daemon.lint.finding import Problem, Severity
from rootwrap_daemon.lint.subject import FilterText, Subject

#: Rule -> what the sentences look like that belong to it. The first that fits has it.
_SENTENCES: Final = {
    # Before what is wrong with the text that the template would have made.
    "RW118": r"template that was not rendered",
    "RW101": r"is no kind of filter$",
    "RW104": r"^a comma splits the repetition",
    "RW105": r"^a line before any section|^a \[DEFAULT\] section|is the name of no filter|^a filter named ",
    "RW106": r" a second time, defined otherwise at line ",
    "RW107": r" a second time, the same$",
    "RW108": r"^a carriage return|^the character .* in a filter file$|^not UTF-8|is not printable$",
    "RW111": r"^a comment after a definition$",
    "RW112": r"^not a definition$|^a line break inside|^one word with a blank",
    "RW113": r"^the first pattern does not match ",
    "RW114": r" is not ip, whose words|is not env$|^entering a namespace needs root$",
    "RW115": r" is no signal$",
    "RW302": r"^this word may be anything but an option$",
    "RW310": r"^a regular expression in a PathFilter",
    "RW311": r"^the base directory / contains everything$",
    "RW322": r"^any value of \S+ can run other code$",
    "RW342": r" could read this word as one of its keywords$",
    "RW401": r"never allows anything$",
    "RW109": r"^[A-Za-z_]+: |is no option of a filter$| does nothing in a \S+$| a second time$",
    "RW103": r"^bad regular expression|^a comment inside a pattern|^`\[:`|^one of the flags|^a literal \{"
    r"|^\\B, which|^a pattern that takes too long|cannot stand here$|for a group$"
    r"|^all in this group|^dots that repeat|^braces that|is no range$|names no users$|below /$"
    r"|needs a parameter$|takes no parameter$|^there is no type|^an escaped \||^an empty word$"
    r"|^a backslash before",
    "RW102": r"fields after the kind$|^a field too many|has no value$|^no program or no user$"
    r"|^no variable, or no program|^an empty field$|^more than \S+ fields$",
    "RW110": r"is no program$|is not a plain absolute path$|is no user's name$|is no variable, or a second",
}
_COMPILED: Final = {rule: re.compile(pattern) for rule, pattern in _SENTENCES.items()}


def rule_of(what: str) -> str:
    """The rule that a sentence of the daemon belongs to."""
    return next((rule for rule, pattern in _COMPILED.items() if pattern.search(what)), "RW100")


def told(subject: Subject, rule: str, *, raised: Severity | None = None) -> Iterator[Problem]:
    """What the daemon says that belongs to this rule. `raised`: at least so severe."""
    for file in subject.files:
        for finding in file.findings:
            if rule_of(finding.what) == rule:
                severity = Severity(finding.severity.value)
                if raised is not None and raised.rank > severity.rank:
                    severity = raised
                yield Problem(
                    finding.location,
                    finding.what,
                    finding.mend,
                    length=_length(file, finding.location),
                    severity=severity,
                )


def _length(file: FilterText, location: values.Location) -> int:
    """Characters of what stands at this place: a field, a name, or one."""
    for section in file.document.sections:
        for entry in section.entries:
            if entry.location == location:
                return len(entry.name)
            for part in entry.fields:
                if part.location == location:
                    return max(1, len(part.text.partition("\n")[0]))
    return 1
