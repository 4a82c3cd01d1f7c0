"""List what a user may run here, by the configuration and the filters of a daemon. Runs nothing.

A summary to read; `explain` gives the verdict on a command.
"""

import argparse
import json
import os
import pwd
from dataclasses import asdict, dataclass

from rich.text import Text

from rootwrap_daemon.analysis import inventory
from rootwrap_daemon.analysis.load import Source
from rootwrap_daemon.cli import arguments, output
from rootwrap_daemon.cli.tables import table, user_name
from rootwrap_daemon.errors import Unreadable
from rootwrap_daemon.escape import printable

EPILOG = """\
exit code: 0 listed, 1 this user may not use the daemon, 2 or more: trouble

example:
  rootwrapctl list --user neutron --config-file /etc/neutron/rootwrap.conf"""


def configure(parser: argparse.ArgumentParser) -> None:
    arguments.add_policy(parser)
    parser.add_argument("--user", metavar="NAME", help="another user than the one who asks")
    parser.add_argument("--json", action="store_true", help="print JSON")


@dataclass(frozen=True, slots=True)
class _User:
    """Return the peer as the kernel would describe it."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]


def run(args: argparse.Namespace) -> int:
    user = _user(args.user)
    try:
        found = arguments.policy(args)
    except Unreadable as error:
        if os.geteuid() == 0:
            raise
        hint = f"as root: rootwrapctl list --user {user.name}"
        raise Unreadable(f"{error}; what {user.name} may run is not known; {hint}") from error
    asker = found.asker(user.name) if args.filters else found.policy.names_of(user)
    admitted = None if args.filters else found.policy.admits(user)
    notes = [*found.notes, arguments.drop_privileges(found)]
    if args.json:
        items = [asdict(item) for item in inventory.items(found, asker)] if admitted is not False else []
        report = {"user": user.name, "admitted": admitted, "filters": items, "notes": notes}
        print(json.dumps(report, indent=2))
    else:
        _print(found, user, asker, admitted, notes)
    return 1 if admitted is False else 0


def _user(name: str | None) -> _User:
    if name is None:
        uid = os.getuid()
        return _User(user_name(uid), uid, os.getgid(), tuple(os.getgroups()))
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        raise Unreadable(f"there is no user {name!r} here") from None
    return _User(name, entry.pw_uid, entry.pw_gid, tuple(os.getgrouplist(name, entry.pw_gid)))


def _print(
    found: Source, user: _User, asker: frozenset[str], admitted: bool | None, notes: list[str]
) -> None:
    out = output.console()
    who = f"{user.name} (uid {user.uid})"
    if admitted is False:
        out.print(f"{who} may not use this daemon: neither allowed_users nor allowed_groups has it")
        if allowed := " or ".join(f"--user {user_name(uid)}" for uid in sorted(found.policy.allowed_uids)):
            out.print(f"try {allowed}")
        return
    items = inventory.items(found, asker)
    unknown = ", if its daemon admits this user" if admitted is None else ""
    out.print(f"{who} may run{unknown}:" if items else f"{who} may run nothing: there are no filters")
    rows = [
        (item.name, item.run_as, item.path or item.problem or "-", item.place, item.command) for item in items
    ]
    head, *shown = table(("filter", "runs as", "program", "where", "command"), rows)
    out.print(Text(head, "bold"))
    for line, item in zip(shown, items, strict=True):
        out.print(Text(line, "yellow" if item.problem else ""))
        for option in item.options:
            out.print(f"    {printable(option)}")
    for note in notes:
        out.print(f"note: {note}")
