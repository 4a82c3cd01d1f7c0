"""Check filter files: report what is wrong, why it matters, and what to write instead.

Exit code: 0 if nothing is at or above the level, 1 if something is, 2 if something cannot be read.
"""

import argparse
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from rootwrap_daemon.analysis import audit_log, load, unit
from rootwrap_daemon.analysis.subjects import STDIN, Wanted, gather
from rootwrap_daemon.cli import arguments, data_files
from rootwrap_daemon.cli.baseline import Baseline
from rootwrap_daemon.errors import Unreadable, Usage
from rootwrap_daemon.escape import printable
from rootwrap_daemon.lint import fix
from rootwrap_daemon.lint.check import forgiven, judge, known_rules
from rootwrap_daemon.lint.finding import Finding, Severity
from rootwrap_daemon.lint.knowledge import confinement
from rootwrap_daemon.lint.output import report, sarif
from rootwrap_daemon.lint.subject import Subject

EPILOG: Final = """\
Without PATH, the configuration and the filters of the installed instance.

example:
  rootwrapctl check --strict /etc/neutron/rootwrap.d
  rootwrapctl check --instance neutron --fail-on warning
  rootwrapctl check --format concise --select RW3 - < new.filters"""
#: More findings than this are summed up by rule.
_MANY: Final = 5
#: The rules whose findings narrow filters end.
_BROAD: Final = frozenset({"RW301", "RW302"})
_FORMATS: Final = {
    "text": report.plain,
    "concise": report.concise,
    "json": report.as_json,
    "sarif": sarif.sarif,
    "github": report.github,
}


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "paths", metavar="PATH", nargs="*", help="filter files, or directories of them; - for standard input"
    )
    which = parser.add_mutually_exclusive_group()
    arguments.add_instance(which)
    which.add_argument(
        "--config-file", metavar="FILE", help="check what this configuration names, on this host"
    )
    parser.add_argument(
        "--host", action="store_true", help="look at this host: programs, users, owners, modes"
    )
    parser.add_argument("--format", choices=_FORMATS, default="text", help="default: text")
    levels = [severity.value for severity in reversed(Severity)]
    parser.add_argument(
        "--fail-on",
        choices=levels,
        default="error",
        help="exit with 1 if a finding is at least this severe (default: error)",
    )
    parser.add_argument(
        "--strict",
        action="store_true",
        help="count warnings as errors, and errors that on_finding = skip leaves out, too",
    )
    arguments.add_list(parser, "--select", "RULE", "only these rules: RW301, or RW3 for all of them")
    arguments.add_list(parser, "--ignore", "RULE", "not these rules")
    parser.add_argument(
        "--fix", action="store_true", help="correct what can be corrected without changing a verdict"
    )
    parser.add_argument(
        "--diff", action="store_true", help="with --fix: show the changes, and change nothing"
    )
    what = f"report filters that never appear in this audit log: {arguments.LOGS}; may be repeated"
    arguments.add_list(parser, "--audit-log", "FILE", what)
    parser.add_argument(
        "--baseline", metavar="FILE", help="report only findings that this file does not list"
    )
    parser.add_argument(
        "--write-baseline", metavar="FILE", help="list the findings of now in this file, and succeed"
    )


@dataclass(frozen=True, slots=True)
class _Judged:
    """The outcome. `files`: the number of files judged. `unread`: why a named path was not read.

    `alone`: configurations, where no filter was judged.
    """

    findings: tuple[Finding, ...]
    files: int
    unread: tuple[str, ...]
    alone: tuple[str, ...]


def run(args: argparse.Namespace) -> int:
    if args.diff and not args.fix:
        raise Usage("--diff shows what --fix would change: give both")
    if args.fix and not args.diff and any(map(_is_stream, args.paths)):
        raise Usage("--fix writes to files: for standard input give --diff, too")
    # What the loader would log about a policy stands in the findings.
    arguments.quiet()
    config_file = args.config_file
    if args.instance or not (args.paths or config_file):
        config_file = arguments.instance(args.instance).config_file
    used = audit_log.used_filters(arguments.logs(args.audit_log, args.instance)) if args.audit_log else None
    wanted = Wanted(tuple(args.paths), config_file, args.host, used, takes=_taken(config_file, args.host))
    rules = _rules(args.select, args.ignore)
    found = _judged(wanted, rules, strict=args.strict)
    if args.fix and args.diff:
        print(*fix.diff(found.findings, wanted.texts), sep="", end="")
    elif args.fix and (corrected := fix.fix(found.findings)):
        for file, count in corrected.items():
            print(f"{printable(file)}: {count} corrected", file=sys.stderr)
        found = _judged(wanted, rules, strict=args.strict)
    if args.write_baseline:
        Baseline.of(found.findings).write(args.write_baseline)
        return 0
    findings = found.findings if args.baseline is None else Baseline.read(args.baseline).new(found.findings)
    # "nothing found" is not said of what was not looked at.
    looked = found.files or findings or args.format != "text"
    if looked and not (args.fix and args.diff):
        _show(findings, found.files, args.format)
    for path in found.alone:
        what = f"{printable(path)}: judged without the filters that it names: --config-file judges both"
        print(what, file=sys.stderr)
    least = Severity(args.fail_on).rank
    failed = any(finding.severity.rank >= least for finding in findings)
    if found.unread and not failed:
        raise Unreadable("; ".join(found.unread))
    return int(failed)


def _is_stream(path: str) -> bool:
    return path == STDIN or (os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path)))


def _taken(config_file: str | None, host: bool) -> dict[str, tuple[str, ...]]:
    """Return what the unit takes from commands: that of the instance, or the one that `install` would put."""
    if config_file is not None:
        return unit.taken_by(config_file)
    return confinement.taken([data_files.text("systemd/rootwrap-daemon@.service")]) if host else {}


def _show(findings: Sequence[Finding], files: int, form: str) -> None:
    if form == "text" and sys.stdout.isatty():
        report.coloured(findings, files, sys.stdout)
    else:
        _FORMATS[form](findings, files, sys.stdout)
    if form == "text" and len(findings) > _MANY:
        _orient(findings)


def _orient(findings: Sequence[Finding]) -> None:
    """After more findings than anybody reads in one go: what they come down to, and where to begin."""
    for line in report.tally(findings, {rule.id: rule.title for rule in known_rules().values()}):
        print(line)
    print("`rootwrapctl rules ID` explains a rule.")
    if _BROAD & {finding.rule for finding in findings}:
        print("Write down what must go on working as policy tests, and for what allows too much")
        print("`rootwrapctl suggest --filters PATH --tests FILE` proposes filters that allow just that.")


def _rules(select: Iterable[str], ignore: Iterable[str]) -> frozenset[str]:
    """The ids of the rules that are asked for. Raises Usage."""
    every = frozenset(known_rules())
    chosen = _named(select, every) if select else every
    return chosen - _named(ignore, every)


def _named(texts: Iterable[str], every: frozenset[str]) -> frozenset[str]:
    found: set[str] = set()
    for word in (part.strip() for text in texts for part in text.split(",")):
        some = {rule for rule in every if word and rule.startswith(word)}
        if not some:
            raise Usage(f"there is no rule {word!r}: `rootwrapctl rules` lists them")
        found |= some
    return frozenset(found)


def _judged(wanted: Wanted, rules: frozenset[str], *, strict: bool) -> _Judged:
    subjects = gather(wanted)
    findings = []
    for subject in subjects:
        settings = None if subject.host is None else subject.host.settings
        skips = settings is not None and settings.on_finding == "skip"
        for finding in judge(subject):
            if finding.rule not in rules:
                continue
            if strict and finding.severity is Severity.WARNING:
                finding = replace(finding, severity=Severity.ERROR)
            elif skips and not strict:
                finding = forgiven(finding)
            findings.append(finding)
    files = sum(len(subject.files) + len(subject.configs) for subject in subjects)
    is_whole = wanted.config_file or any(subject.files for subject in subjects)
    alone = () if is_whole else tuple(one.name for subject in subjects for one in subject.configs)
    return _Judged(tuple(findings), files, tuple(_unread(wanted, subjects)), alone)


def _unread(wanted: Wanted, subjects: Sequence[Subject]) -> Iterable[str]:
    judged = {
        os.path.normpath(os.path.dirname(name))
        for subject in subjects
        for name in (one.name for one in (*subject.files, *subject.configs))
    }
    for path in wanted.paths:
        if os.path.isdir(path) and os.path.normpath(path) not in judged:
            yield load.no_filters_in(path)
    if not wanted.paths and not any(subject.files for subject in subjects):
        settings = [one.host.settings for one in subjects if one.host is not None]
        named = sorted({path for one in settings if one is not None for path in one.filters_path})
        yield f"{wanted.config_file}: no filter file in {', '.join(named) or 'filters_path'}"
