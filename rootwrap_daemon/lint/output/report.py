"""Write findings as text, for a person, a terminal, a program or GitHub. SARIF has a module of its own.

Promises: what comes from a file is shown without characters that a terminal would obey.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, TextIO

from rootwrap_daemon.counted import counted, plural
from rootwrap_daemon.escape import printable
from rootwrap_daemon.lint.finding import Finding, Severity

_COLOURS: Final = {Severity.ERROR: "bold red", Severity.WARNING: "yellow", Severity.INFO: "cyan"}
_GITHUB: Final = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "notice"}


def summary(findings: Sequence[Finding], files: int) -> str:
    """Return the number of findings of each severity, in one line."""
    numbers = Counter(finding.severity for finding in findings)
    parts = [
        f"{numbers[one]} {_severity(one, numbers[one])}" for one in (*reversed(Severity),) if numbers[one]
    ]
    fixable = sum(bool(finding.problem.edits) for finding in findings)
    fix = f"; --fix corrects {fixable}" if fixable else ""
    return f"{', '.join(parts) or 'nothing found'} in {counted(files, 'file')}{fix}"


def tally(findings: Sequence[Finding], titles: Mapping[str, str]) -> Iterator[str]:
    """A line for each rule, the most frequent of the worst first; `titles` by the rules' ids."""
    numbers = Counter((finding.severity, finding.rule) for finding in findings)
    for (severity, rule), count in sorted(
        numbers.items(), key=lambda one: (-one[0][0].rank, -one[1], one[0][1])
    ):
        yield f"{count:5} {_severity(severity, count):8} {rule}  {titles[rule]}"


def _severity(severity: Severity, number: int) -> str:
    return severity.value if severity is Severity.INFO else plural(number, severity.value)


def _notes(alike: Sequence[Finding], explained: set[str]) -> list[tuple[str, str]]:
    """Return what to say beside what is wrong; why a rule is there only once, `explained` has those rules."""
    first = alike[0]
    notes = [("instead", first.problem.instead)]
    if first.rule not in explained:
        explained.add(first.rule)
        notes.insert(0, ("why", first.why))
    for text in dict.fromkeys(one.replacement for one in alike):
        if text is not None:
            notes.append(("write (--fix)" if first.problem.edits else "write", text))
    return [(name, printable(text)) for name, text in notes]


def _alike(findings: Sequence[Finding]) -> Iterable[list[Finding]]:
    """The findings that say the same of several places together, where the first of them stands."""
    groups: dict[tuple[object, ...], list[Finding]] = {}
    for one in findings:
        key = (one.rule, one.severity, one.problem.what, one.problem.instead, bool(one.problem.edits))
        groups.setdefault(key, []).append(one)
    return groups.values()


def plain(findings: Sequence[Finding], files: int, out: TextIO) -> None:
    """For a pipe: a line of each finding has file:line:column, as compilers write it.

    What to do about findings that say the same follows the last of them.
    """
    explained: set[str] = set()
    for alike in _alike(findings):
        out.writelines(f"{_head(finding)}\n" for finding in alike)
        for name, text in _notes(alike, explained):
            out.write(f"    {name}: {text}\n")
    out.write(summary(findings, files) + "\n")


def concise(findings: Sequence[Finding], files: int, out: TextIO) -> None:
    """One line a finding, and nothing else."""
    for finding in findings:
        out.write(f"{_head(finding)}{' [--fix]' if finding.problem.edits else ''}\n")


def _head(finding: Finding) -> str:
    head = f"{finding.location}: {finding.severity.value}: {finding.rule}: {finding.problem.what}"
    return printable(head)


def coloured(findings: Sequence[Finding], files: int, out: TextIO) -> None:
    """For a terminal: colours, and carets below what each finding is about."""
    from rich.console import Console
    from rich.text import Text

    console = Console(file=out, highlight=False, markup=False, emoji=False, soft_wrap=True)
    explained: set[str] = set()
    for alike in _alike(findings):
        for finding in alike:
            colour = _COLOURS[finding.severity]
            head = Text(printable(str(finding.location)), style="bold")
            head.append(f": {finding.severity.value}: {finding.rule}: ", style=colour)
            head.append(printable(finding.problem.what))
            console.print(head)
            if finding.text.strip():
                start, length = finding.location.column - 1, finding.problem.length
                before = printable(finding.text[:start])
                about = printable(finding.text[start : start + length])
                console.print(Text(f"  | {printable(finding.text)}", style="dim"))
                console.print(Text(f"  | {' ' * len(before)}{'^' * max(1, len(about))}", style=colour))
        for name, text in _notes(alike, explained):
            note = Text(f"    {name}: ", style="green" if name.startswith("write") else "dim")
            console.print(note.append(text, style="" if name == "why" else "default"))
        console.print()
    console.print(Text(summary(findings, files), style="bold"))


def as_json(findings: Sequence[Finding], files: int, out: TextIO) -> None:
    """One object: `files` judged, and `findings` with their fields by name."""
    listed: list[dict[str, Any]] = [
        {
            "rule": finding.rule,
            "severity": finding.severity.value,
            "file": finding.location.file,
            "line": finding.location.line,
            "column": finding.location.column,
            "length": finding.problem.length,
            "what": finding.problem.what,
            "why": finding.why,
            "instead": finding.problem.instead,
            "replacement": finding.replacement,
            "fixable": bool(finding.problem.edits),
        }
        for finding in findings
    ]
    json.dump({"version": 1, "files": files, "findings": listed}, out, indent=2)
    out.write("\n")


def github(findings: Sequence[Finding], files: int, out: TextIO) -> None:
    """Workflow commands of GitHub Actions, which it shows beside the lines of a change.

    `::error file=...,line=...::text`: in a value % : , and line breaks are escaped, in the text % and line
    breaks (actions/toolkit, command.ts).
    """
    for finding in findings:
        place = finding.location
        properties = {
            "file": place.file,
            "line": place.line,
            "col": place.column,
            "endColumn": place.column + finding.problem.length,
            "title": finding.rule,
        }
        told = ",".join(f"{name}={github_property(str(value))}" for name, value in properties.items())
        text = "\n".join(
            (finding.problem.what, *(f"{name}: {note}" for name, note in _notes([finding], set())))
        )
        out.write(f"::{_GITHUB[finding.severity]} {told}::{github_data(text)}\n")


def github_data(text: str) -> str:
    """The text of a workflow command, escaped."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def github_property(text: str) -> str:
    """A property of a workflow command, escaped."""
    return github_data(text).replace(":", "%3A").replace(",", "%2C")
