"""Translate sudoers rules of one user into a filter file. Nothing is written wider than the rule.

What a filter cannot say, and what was guessed, stands as a comment above each line; a person decides.
"""

import argparse
import contextlib
import grp
import json
import os
import pwd
import shutil
import socket
import subprocess
import sys
from os import getgrouplist
from pathlib import Path

import yaml

from rootwrap_daemon.analysis import told
from rootwrap_daemon.analysis.sudoers import examples, read, safe, write
from rootwrap_daemon.analysis.sudoers.read import Sudoers
from rootwrap_daemon.analysis.sudoers.write import Translated
from rootwrap_daemon.cli.commands import recipe
from rootwrap_daemon.counted import counted
from rootwrap_daemon.errors import Unreadable, Usage
from rootwrap_daemon.filters.paths import basename
from rootwrap_daemon.filters.read import filter_file
from rootwrap_daemon.lint.check import judge
from rootwrap_daemon.lint.output import report
from rootwrap_daemon.lint.subject import Subject, read_filters

EPILOG = """\
Findings about the written filters go to standard error: each names the way by which a filter gives root away.
Where sudo's cvtsudoers(1) is installed, it must read the same commands from the file, or nothing is written.

example:
  rootwrapctl from-sudoers /etc/sudoers.d/zabbix --user zabbix --output zabbix.filters --tests zabbix.yaml
  rootwrapctl test zabbix.yaml"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="a sudoers file; - for standard input")
    parser.add_argument("--user", metavar="NAME", help="the user that the filters are for")
    parser.add_argument(
        "--host",
        metavar="NAME",
        default=socket.gethostname(),
        help="the host that they are for (default: this one)",
    )
    parser.add_argument("--output", metavar="FILE", help="write the filters to this file; default: print")
    parser.add_argument("--tests", metavar="FILE", help="write policy tests for the filters to this file")
    parser.add_argument(
        "--name",
        metavar="FILE",
        help="how the policy tests name the filter file (default: --output, or from-sudoers.filters)",
    )


def run(args: argparse.Namespace) -> int:
    # What it includes is read, too: by way of sudo, of a file that root alone can change.
    hidden = args.file != "-" and told.is_hidden(args.file)
    try:
        text = sys.stdin.read() if args.file == "-" else Path(args.file).read_text()
        sudoers = read.read(args.file, text)
    except (OSError, UnicodeDecodeError, read.NotRead) as error:
        raise told.untold(args.file) if hidden else Unreadable(str(error)) from error
    if not sudoers.rules:
        raise (told.untold(args.file) if hidden else Unreadable(f"{args.file}: no rule in it"))
    try:
        _compare(args.file, text, sudoers)
    except Unreadable as error:
        raise (told.untold(args.file) if hidden else error) from error
    users = write.users(sudoers)
    if not args.user and len(users) != 1:
        raise Usage(f"name one with --user: {', '.join(users)}")
    names = _names(args.user) if args.user else users
    groups = [one for one in users if one.startswith("%")]
    if len(names) == 1 and names != users and groups:
        print(f"no user {args.user} here: what {', '.join(groups)} may is left out", file=sys.stderr)
    done = write.translate(sudoers, names)
    if not done:
        raise Unreadable(f"{args.file}: no rule for {args.user}; rules are for {', '.join(users)}")
    safe.withhold(done, args.host)
    _add_recipes(done)
    filters = write.text(done, write.lost_settings(sudoers, names), None if names == ["ALL"] else names[0])
    name = args.name or args.output or "from-sudoers.filters"
    if args.output:
        _write(args.output, filters)
    else:
        print(filters, end="")
    if args.tests:
        if args.output and not args.name:
            name = os.path.relpath(args.output, os.path.dirname(args.tests) or ".")
        tests = examples.tests(done, name)
        _write(args.tests, yaml.safe_dump(tests, sort_keys=False, allow_unicode=True))
    findings = judge(Subject((read_filters(filters, name),)))
    report.plain(findings, 1, sys.stderr)
    if alone := sum(one.definition is None for one in done):
        print(f"{alone} of {counted(len(done), 'rule')} became a comment alone: it says why", file=sys.stderr)
    return 0


def _write(path: str, text: str) -> None:
    told.check_target(path)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def _add_recipes(done: list[Translated]) -> None:
    """Name the ready filters that there are for a program."""
    known: dict[str, list[str]] = {}
    for name in recipe.names():
        for program in {one.program for one in filter_file.read(recipe.read(name).text, name).filters}:
            known.setdefault(basename(program), []).append(name)
    for one in done:
        if found := known.get(basename(one.rule.command.path)):
            one.notes.append(f"there are ready filters: rootwrapctl recipe {', '.join(found)}")


def _names(user: str) -> list[str]:
    """A user by all the names that a rule may have for it: sudoers(5)."""
    names = [user]
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        # The file may be another host's.
        return names
    names.append(f"#{entry.pw_uid}")
    for gid in getgrouplist(user, entry.pw_gid):
        names.append(f"%#{gid}")
        with contextlib.suppress(KeyError):
            names.append(f"%{grp.getgrgid(gid).gr_name}")
    return names


def _compare(name: str, text: str, sudoers: Sudoers) -> None:
    """Raise Unreadable if sudo reads other commands than we do."""
    program = shutil.which("cvtsudoers", path="/usr/sbin:/usr/bin:/sbin:/bin")
    if program is None:
        return
    # From a file, so that what it includes is found beside it.
    done = subprocess.run(
        [program, "-e", "-f", "json", name if name != "-" else "/dev/stdin"],
        input=text if name == "-" else None,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        why = done.stderr.strip().partition("\n")[0] or f"cvtsudoers ends with {done.returncode}"
        raise Unreadable(f"{name}: sudo does not read it: {why}")
    try:
        specs = json.loads(done.stdout).get("User_Specs", ())
    except ValueError:
        # So says sudo 1.9.13 of CWD= and CHROOT=.
        raise Unreadable(f"{name}: sudo cannot say how it reads this: write it in a simpler way") from None
    theirs = [
        (bool(one.get("negated")), _bare(one["command"]))
        for spec in specs
        for commands in spec["Cmnd_Specs"]
        for one in commands["Commands"]
        if "command" in one
    ]
    ours = [(rule.command.negated, _bare(rule.command.text)) for rule in sudoers.rules]
    if ours != theirs:
        other = next((b for a, b in zip(ours, theirs, strict=False) if a != b), None)
        raise Unreadable(f"{name}: sudo reads this otherwise, e.g. {other}: write it in a simpler way")


def _bare(command: str) -> str:
    """A command without what the two write differently: backslashes and runs of blanks."""
    return " ".join(command.replace("\\", "").split())
