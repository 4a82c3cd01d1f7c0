"""Apply all rules to one subject: findings in the order of the files, without those that are suppressed.

Promises: never raises for what is in a file. Importing it registers every rule.
"""

import importlib
from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from rootwrap_daemon.lint import suppress
from rootwrap_daemon.lint.finding import Finding, Problem, Severity
from rootwrap_daemon.lint.rules import RULES, Rule
from rootwrap_daemon.lint.subject import ConfigText, FilterText, Subject

for _module in "text host configured confined behind danger files free patterns upkeep".split():
    importlib.import_module(f"rootwrap_daemon.lint.rules.{_module}")

#: The rule about suppressions that take nothing back; only after all others it is known.
IDLE: Final = "RW406"


def known_rules() -> dict[str, Rule]:
    """Every rule by its id, in the order of the ids."""
    return dict(sorted(RULES.items()))


def judge(subject: Subject, rules: Iterable[Rule] | None = None) -> list[Finding]:
    """Every finding that is left. `rules`: those to ask, all without."""
    asked = {one.id: one for one in (known_rules().values() if rules is None else rules)}
    known = replace(subject, known_rules=frozenset(RULES))
    files: list[FilterText | ConfigText] = [*subject.files, *subject.configs]
    rows = {file.name: file.rows for file in files}

    def finding(rule: Rule, problem: Problem) -> Finding:
        lines = rows.get(problem.location.file, [])
        place = problem.location.line - 1
        text = lines[place] if place < len(lines) else ""
        return Finding(rule.id, problem.severity or rule.severity, rule.why, problem, text)

    found = [finding(rule, problem) for rule in asked.values() for problem in rule.function(known)]
    given = [one for file in files for one in suppress.read(file)]
    left, idle = suppress.apply(found, given)
    if IDLE in asked:
        for one in idle:
            what = f"nothing here that {', '.join(sorted(one.rules))} would find"
            left.append(finding(asked[IDLE], Problem(one.location, what, "take it out", one.length)))
    order = {name: number for number, name in enumerate(rows)}
    return sorted(
        left, key=lambda one: (order.get(one.location.file, -1), one.location, one.rule, one.problem.what)
    )


#: Findings of which `on_finding = skip` makes filters that are left out: what the daemon itself refuses.
_SKIPPED: Final = frozenset(
    (*(f"RW1{number:02}" for number in range(16)), "RW118", "RW203", "RW208", "RW310", "RW311")
)


def forgiven(finding: Finding) -> Finding:
    """The finding as a daemon sees it that leaves out what it cannot use."""
    if finding.rule in _SKIPPED and finding.severity is Severity.ERROR:
        return replace(finding, severity=Severity.WARNING)
    return finding
