"""Show audit records, a line each command, and sum up what is denied most and how long commands take.

Promises: whatever a client had written into a record, what is printed is printable and on one line.
"""

import argparse
import pwd
import sys
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from typing import Final

from rootwrap_daemon.analysis import audit_log
from rootwrap_daemon.cli import arguments
from rootwrap_daemon.cli.audit_tables import Command, Summary, commands
from rootwrap_daemon.cli.times import point_in_time
from rootwrap_daemon.errors import Usage
from rootwrap_daemon.usage import did_you_mean

EPILOG: Final = """\
Without FILE, the log of the instance: the only one that is installed, or the one that --instance names.

example:
  rootwrapctl audit --since 5m --denied --instance neutron
  rootwrapctl audit --summary neutron.log.2.gz neutron.log.1 neutron.log"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", nargs="*", help=f"{arguments.LOGS}, the oldest first")
    arguments.add_instance(parser)
    parser.add_argument("--journal", action="store_true", help="read the systemd journal")
    parser.add_argument("--unit", metavar="UNIT", help="with --journal: records of this service alone")
    parser.add_argument(
        "--since",
        metavar="WHEN",
        type=_since,
        help="records from then on, as journalctl takes it: 5m, 2h, yesterday, 21:00, 2026-02-28T13:30",
    )
    parser.add_argument("--id", metavar="ID", help="only the request with this id, which error messages name")
    parser.add_argument("--user", metavar="NAME", help="only requests of this user, a name or a number")
    parser.add_argument("--filter", metavar="NAME", help="only requests that this filter matched")
    parser.add_argument("--denied", action="store_true", help="only what was refused")
    parser.add_argument("--summary", action="store_true", help="only the summary")
    parser.add_argument("--json", action="store_true", help="one JSON object a request, and no summary")
    parser.add_argument("--follow", action="store_true", help="go on with new records until interrupted")


def _since(text: str) -> datetime:
    try:
        return point_in_time(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def run(args: argparse.Namespace) -> int:
    sources, wanted = _sources(args), _wanted(args)
    summary, left_out, names = Summary(), Counter[str](), set[str]()
    some = False
    colour = sys.stdout.isatty()
    try:
        for command in commands(audit_log.entries(sources, left_out)):
            some = True
            names |= command.filters
            if not wanted(command):
                continue
            summary.add(command)
            if not args.summary:
                print(command.json() if args.json else command.line(colour=colour), flush=args.follow)
    except KeyboardInterrupt:
        # How one stops to follow; the summary is still of use.
        print()
    # The journal gives none that are older.
    if not some and not args.follow and not (args.since and sources[0].name == audit_log.JOURNAL):
        raise audit_log.no_record(sources)
    if not args.json:
        print("\n".join(summary.lines(left_out, denied_only=args.denied)))
    if some and args.filter and args.filter not in names and "+" not in args.filter:
        print(f"no record names a filter {args.filter!r}{did_you_mean(args.filter, names)}", file=sys.stderr)
    return 0


def _sources(args: argparse.Namespace) -> list[audit_log.Source]:
    if args.file and (args.journal or args.instance):
        raise Usage("name audit files, or the journal, or an instance")
    if args.journal:
        found = [audit_log.Source(audit_log.JOURNAL, args.unit)]
    elif args.file:
        found = arguments.logs(args.file)
    else:
        found = arguments.instance(args.instance).logs()
    *before, last = found
    last = audit_log.Source(last.name, args.unit or last.unit, args.since, args.follow)
    # The older files of an instance have no new records.
    return [*(before if args.file or not args.follow else ()), last]


def _wanted(args: argparse.Namespace) -> Callable[[Command], bool]:
    uid = None if args.user is None else _uid(args.user)

    def wanted(command: Command) -> bool:
        when = command.entry.time
        return (
            (args.since is None or (when is not None and when >= args.since))
            and (args.id is None or command.values.get("id") == args.id)
            and (uid is None or command.values.get("uid") == uid)
            and (args.filter is None or args.filter in {*command.filters, command.values.get("filter")})
            and (not args.denied or command.refused)
        )

    return wanted


def _uid(text: str) -> int:
    if text.isascii() and text.isdigit():
        return int(text)
    try:
        return pwd.getpwnam(text).pw_uid
    except KeyError:
        raise Usage(f"--user: there is no user {text!r} here") from None
