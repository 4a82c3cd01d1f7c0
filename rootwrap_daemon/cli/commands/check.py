"""Judge filter files: what is wrong, why it matters, what to write instead.

Exit code: 0 if nothing is at or above the level, 1 if something is, 2 if something cannot be read.
May import lint.
"""

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from rootwrap_daemon.analysis import load
from rootwrap_daemon.errors import Unreadable, Usage
from rootwrap_daemon.lint import fix
from rootwrap_daemon.lint.check import forgiven, judge, known_rules
from rootwrap_daemon.lint.finding import Finding, Severity
from rootwrap_daemon.lint.gather import NotRead, Wanted, gather
from rootwrap_daemon.lint.output import report, sarif
from rootwrap_daemon.lint.subject import ConfigText, FilterText

_EPILOG: Final = """examples:
  rootwrapctl check --strict /etc/neutron/rootwrap.d
  rootwrapctl check --config-file /etc/rootwrap-daemon/rootwrap-daemon.conf --fail-on warning
"""
#: More findings than this are summed up by rule.
_MANY: Final = 5
#: The rules whose findings narrow filters end.
_BROAD: Final = frozenset({"RW301", "RW302"})
_FORMATS: Final = {
    "text": report.plain,
    "json": report.as_json,
    "sarif": sarif.sarif,
    "github": report.github,
}


def configure(parser: argparse.ArgumentParser) -> None:
    parser.epilog = _EPILOG.replace("examples:", "example:", 1)
    parser.add_argument("paths", metavar="PATH", nargs="*", help="filter files, or directories of them")
    parser.add_argument(
        "--config-file", metavar="F", help="judge what this configuration names, on this host"
    )
    parser.add_argument(
        "--host", action="store_true", help="look at this host: programs, users, owners, modes"
    )
    parser.add_argument("--format", choices=_FORMATS, default="text", help="default: text")
    levels = [severity.value for severity in reversed(Severity)]
    parser.add_argument(
        "--fail-on", choices=levels, default="error", help="the least that makes 1 of the exit code"
    )
    parser.add_argument(
        "--strict",
        action="store_true",
        help="warnings count as errors, and on_finding = skip forgives nothing",
    )
    parser.add_argument(
        "--fix", action="store_true", help="mend what can be mended without changing a verdict"
    )
    parser.add_argument("--audit-log", metavar="FILE", help="tell filters that this audit log never names")


def run(args: argparse.Namespace) -> int:
    if not args.paths and args.config_file is None:
        raise Usage("give a PATH or --config-file")
    # What the daemon would log about a policy is told by the findings.
    logging.getLogger("rootwrap_daemon").addHandler(logging.NullHandler())
    wanted = Wanted(tuple(args.paths), args.config_file, args.host, args.audit_log)
    findings, files, unread = _judged(wanted, strict=args.strict)
    if args.fix and (mended := fix.fix(findings)):
        for file, count in mended.items():
            print(f"{report.printable(file)}: {count} mended", file=sys.stderr)
        findings, files, unread = _judged(wanted, strict=args.strict)
    if args.format == "text" and sys.stdout.isatty():
        report.coloured(findings, files, sys.stdout)
    else:
        _FORMATS[args.format](findings, files, sys.stdout)
    if args.format == "text" and len(findings) > _MANY:
        _orient(findings)
    least = Severity(args.fail_on).rank
    failed = any(finding.severity.rank >= least for finding in findings)
    if unread and not failed:
        raise Unreadable("; ".join(unread))
    return int(failed)


def _orient(findings: Sequence[Finding]) -> None:
    """After more findings than anybody reads in one go: what they come down to, and where to begin."""
    for line in report.tally(findings, {rule.id: rule.title for rule in known_rules().values()}):
        print(line)
    print("`rootwrapctl rules ID` explains a rule.")
    if _BROAD & {finding.rule for finding in findings}:
        print("Write down what must go on working as policy tests, and for what allows too much")
        print("`rootwrapctl suggest --filters PATH --tests FILE` proposes filters that allow just that.")


def _judged(wanted: Wanted, *, strict: bool) -> tuple[Sequence[Finding], int, Sequence[str]]:
    """Findings, the number of files, and which paths hold nothing to judge."""
    try:
        subjects = gather(wanted)
    except NotRead as error:
        raise Unreadable(": ".join(error.args)) from error
    findings = []
    for subject in subjects:
        settings = None if subject.host is None else subject.host.settings
        skips = settings is not None and settings.on_finding == "skip"
        for finding in judge(subject):
            if strict and finding.severity is Severity.WARNING:
                finding = replace(finding, severity=Severity.ERROR)
            elif skips and not strict:
                finding = forgiven(finding)
            findings.append(finding)
    texts: list[FilterText | ConfigText] = []
    for subject in subjects:
        texts += (*subject.files, *subject.configs)
    judged = {os.path.normpath(os.path.dirname(file.name)) for file in texts}
    directories = [path for path in wanted.paths if os.path.isdir(path)]
    unread = [load.no_filters_in(path) for path in directories if os.path.normpath(path) not in judged]
    if not wanted.paths and not any(one.files for one in subjects):
        configured = [one.host.settings for one in subjects if one.host and one.host.settings]
        named = sorted({path for one in configured for path in one.filters_path})
        unread.append(f"{wanted.config_file}: no filter file in {', '.join(named) or 'filters_path'}")
    return findings, len(texts), unread
