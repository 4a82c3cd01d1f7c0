"""Show what the change of a policy allows and forbids, per filter and for given requests.

Looks at the words of requests alone, and runs nothing.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict

from rich.text import Text

from rootwrap_daemon.analysis import audit_log, diff
from rootwrap_daemon.analysis.diff import Change, Direction, Kind, Shift
from rootwrap_daemon.analysis.load import Source
from rootwrap_daemon.analysis.testing import suite_file
from rootwrap_daemon.cli import arguments, output
from rootwrap_daemon.counted import counted
from rootwrap_daemon.errors import Unreadable, Usage
from rootwrap_daemon.filters.finding import Severity
from rootwrap_daemon.filters.values import Request

EPILOG = """\
exit code: 0 no difference, 1 differences, 2 or more: trouble

example:
  rootwrapctl diff --audit-log audit.jsonl --tests policy.yaml /etc/nova/rootwrap.d new/rootwrap.d"""
_STYLE = {
    Kind.ADDED: "green",
    Kind.REMOVED: "red",
    Kind.CHANGED: "yellow",
    Kind.RENAMED: "yellow",
    Direction.ALLOWED: "bold green",
    Direction.DENIED: "bold red",
    Direction.OTHERWISE: "yellow",
}


def configure(parser: argparse.ArgumentParser) -> None:
    what = "a filter file, a directory of them, or a configuration (its name ends in .conf)"
    parser.add_argument("old", metavar="OLD", nargs="?", help=f"{what}; default: what the instance uses")
    arguments.add_instance(parser)
    parser.add_argument("new", metavar="NEW", help="the same, after the change")
    what = f"compare the verdicts on what was asked in this log: {arguments.LOGS}; may be repeated"
    arguments.add_list(parser, "--audit-log", "FILE", what)
    what = "compare the verdicts on the commands of these policy tests; may be repeated"
    arguments.add_list(parser, "--tests", "FILE", what)
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    if args.old and args.instance:
        raise Usage("name the old policy by OLD or by --instance")
    before = args.old or arguments.instance(args.instance).config_file
    old, new = (_whole(arguments.named(path), path) for path in (before, args.new))
    requests = list(_requests(args))
    notes = [f"{path}: {note}" for path, one in ((before, old), (args.new, new)) for note in one.notes]
    arguments.drop_privileges(None)
    changes = diff.changes(old, new)
    shifts = list(diff.shifts(old, new, requests))
    if args.json:
        report = {
            "filters": [{**asdict(one), "kind": one.kind.value} for one in changes],
            "requests": [{**asdict(one), "direction": one.direction.value} for one in shifts],
            "compared": len(set(requests)),
            "notes": notes,
        }
        print(json.dumps(report, indent=2))
    else:
        _print(changes, shifts, len(set(requests)), notes)
    return 1 if changes or shifts else 0


def _whole(found: Source, path: str) -> Source:
    """The policy, if all its files could be read. Raises Unreadable: what was not read has no difference."""
    exec_dirs = found.policy.settings.exec_dirs
    unread = [
        one
        for one in found.policy.findings
        if one.code == "file" and one.severity is Severity.ERROR and one.location.file not in exec_dirs
    ]
    if unread:
        raise Unreadable(f"{path}: {'; '.join(map(str, unread))}")
    return found


def _requests(args: argparse.Namespace) -> Iterator[Request]:
    # A log has the names of variables, not their values.
    log = audit_log.read(arguments.logs(args.audit_log, args.instance))
    yield from (Request(record.argv) for record in log.records)
    for path in args.tests:
        for test in suite_file.read(path).tests:
            yield Request(test.argv, test.env, test.stdin, test.run_as)


def _print(changes: list[Change], shifts: list[Shift], compared: int, notes: list[str]) -> None:
    out = output.console()
    for change in changes:
        out.print(Text(f"{change.kind.value} {change.name}  {change.place}", _STYLE[change.kind]))
        for line in change.old if change.kind is not Kind.RENAMED else ():
            out.print(Text(f"  - {line}", "red" if line not in change.new else "dim"))
        for line in change.new:
            out.print(Text(f"  + {line}", "green" if line not in change.old else "dim"))
    for shift in sorted(shifts, key=lambda one: list(Direction).index(one.direction)):
        out.print(Text(f"{shift.direction.value}: {output.quoted(shift.argv)}", _STYLE[shift.direction]))
        out.print(f"    {shift.old} -> {shift.new}")
    for note in notes:
        out.print(f"note: {note}")
    out.print(f"{counted(len(changes), 'filter')} and {len(shifts)} of {counted(compared, 'request')} differ")
