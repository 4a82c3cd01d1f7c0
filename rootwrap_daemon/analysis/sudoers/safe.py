"""Take back the filters of a translation that have no safe form, or would be wider than their rules.

Promises: what `check` calls an error, or warns of, is no filter. Nothing is taken back without a comment that
says why, what instead, and what it would have been.
"""

import fnmatch
import re
from collections.abc import Iterable
from typing import Final

from rootwrap_daemon.analysis.sudoers import write
from rootwrap_daemon.analysis.sudoers.read import Rule
from rootwrap_daemon.analysis.sudoers.write import RESTRICTING, Translated
from rootwrap_daemon.filters.paths import basename
from rootwrap_daemon.lint.check import judge
from rootwrap_daemon.lint.finding import Finding, Severity
from rootwrap_daemon.lint.knowledge import programs
from rootwrap_daemon.lint.subject import Subject, read_filters

#: Warnings of what is not in the words, input and variables: a note says what to write.
_OF_OPTIONS: Final = frozenset(("RW314", "RW323"))


def withhold(done: Iterable[Translated], host: str = "localhost") -> None:
    """Leave the comments alone of each that gives away what its program can do, or more than its rule.

    `host`: the name of that on which the rules are to hold.
    """
    for one in done:
        if one.definition is not None and (why := _restricted(one.rule, host) or _why_not(one)):
            one.notes += (f"not written: {why}", f"it would be: {one.name}: {one.definition}")
            one.definition = None


def _restricted(rule: Rule, host: str) -> str:
    """Name what restricts a rule and no filter says; empty where nothing does."""
    if not _is_on(rule.hosts, host.lower()):
        return (
            f"the rule is for {', '.join(rule.hosts)}, and not for {host}, as far as is known here (--host)"
        )
    said = sorted(rule.tags & RESTRICTING)
    said += [f"{name}={value}" for name, value in rule.options if name not in write.options_of(rule)]
    return f"no filter says {', '.join(said)}" if said else ""


def _is_on(hosts: Iterable[str], host: str) -> bool:
    """True if a list of hosts has this one by its name; an address or a netgroup is nobody's name."""
    is_on = False
    for one in hosts:
        bare = one.lstrip("!").lower()
        is_named = bare == "all" or any(
            fnmatch.fnmatchcase(name, bare) for name in (host, host.partition(".")[0])
        )
        if one.startswith("!"):
            is_known = is_named or re.fullmatch(r"[a-z_-][a-z0-9_.*?-]*", bare)
            is_on = is_on and bool(is_known) and not is_named
        else:
            is_on = is_on or is_named
    return is_on


def _why_not(one: Translated) -> str:
    """Why this is no filter to load, and what to write; empty where it is one."""
    known = programs.look_up(basename(one.rule.command.path))
    if known is not None and "{any}" in (one.definition or ""):
        # An IpFilter allows more than a rule that has words.
        narrow = known.safer is not None and not known.safer.startswith("IpFilter")
        instead = f"write e.g. {known.safer}" if narrow else "write the words out, and a type for what varies"
        return f"{known.name} {known.because}; {instead}"
    findings = judge(Subject((read_filters(write.text([one], ()), one.name),)))
    errors = [finding for finding in findings if finding.severity is Severity.ERROR]
    if errors and all(finding.rule == "RW314" for finding in errors):
        # Without input it does what its words say.
        one.notes.append(f"no input, because {errors[0].problem.what}: < /dev/null where it is called")
        one.options.append("stdin = no")
        return ""
    warnings = [finding for finding in findings if finding.severity is Severity.WARNING]
    if noted := [finding for finding in warnings if finding.rule in _OF_OPTIONS]:
        one.notes += (f"check warns: {_said(finding)}" for finding in noted)
    return "; ".join(map(_said, errors or [finding for finding in warnings if finding not in noted]))


def _said(finding: Finding) -> str:
    return f"{finding.rule}: {finding.problem.what}; {finding.problem.instead}"
