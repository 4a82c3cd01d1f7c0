"""Filters from the lines of a [Filters] section."""

from rootwrap_daemon.filters import ruleset
from rootwrap_daemon.filters.finding import Finding, Severity
from rootwrap_daemon.filters.plan import ExecPlan, Plan
from rootwrap_daemon.filters.read import filter_file
from rootwrap_daemon.filters.values import Denied, Match, Request

FILE = "/etc/x.filters"


def read(*lines: str) -> filter_file.FilterFile:
    """The file of a [Filters] section with these lines: the first is line 2."""
    return filter_file.read("\n".join(("[Filters]", *lines, "")), FILE)


def errors(read: filter_file.FilterFile) -> list[Finding]:
    return [finding for finding in read.findings if finding.severity is Severity.ERROR]


def rules(*lines: str) -> ruleset.RuleSet:
    """The rules of lines that have no error."""
    found = read(*lines)
    assert not errors(found), [str(finding) for finding in errors(found)]
    return ruleset.RuleSet(found.filters)


def match(rules: ruleset.RuleSet, *argv: str, env: tuple[tuple[str, str], ...] = ()) -> Match | Denied:
    return rules.match(Request(argv, env))


def plan(rules: ruleset.RuleSet, *argv: str) -> Plan | None:
    """What would run, None if denied; without how many of its words may be anything."""
    found = match(rules, *argv)
    if not isinstance(found, Match):
        return None
    return found.plan._replace(free=0) if isinstance(found.plan, ExecPlan) else found.plan
