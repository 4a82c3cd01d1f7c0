"""Explain the verdict on a command: what each filter wants, and what would run. Runs nothing.

Reads the filters, gives up root, and only then looks at the words and at the host.
"""

import argparse
import json
import os

from rootwrap_daemon.analysis import unit
from rootwrap_daemon.analysis.explain import explain
from rootwrap_daemon.cli import arguments, output
from rootwrap_daemon.errors import Usage
from rootwrap_daemon.lint.knowledge import confinement

EPILOG = """\
exit code: 0 allowed, 1 refused, 2 or more: no verdict

example:
  rootwrapctl explain --instance neutron ip netns exec ns1 sh -c id"""
#: Filters to show; those after them have little to do with the request.
_MOST = 5


def configure(parser: argparse.ArgumentParser) -> None:
    arguments.add_policy(parser)
    what = "a variable that comes with the request; may be repeated"
    arguments.add_list(parser, "--env", "NAME=VALUE", what)
    parser.add_argument("--user", metavar="NAME", help="who asks; by default whoever a filter is for")
    parser.add_argument("--run-as", metavar="NAME", help="the user that the request names, as `user=` does")
    parser.add_argument("--stdin", action="store_true", help="the request comes with input")
    parser.add_argument("--all", action="store_true", help=f"show every filter, not {_MOST}")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("argv", metavar="COMMAND", nargs=argparse.REMAINDER, help="the command and its words")


def run(args: argparse.Namespace) -> int:
    # A command that begins with a dash comes after `--`.
    argv = tuple(args.argv[1:] if args.argv[:1] == ["--"] else args.argv)
    if not argv:
        raise Usage("give the command and its words, after the options")
    env = tuple(arguments.assignment(text, "NAME=VALUE", "--env ") for text in args.env)
    source = arguments.policy(args)
    # Of filters alone no unit is known.
    config_file = "" if args.filters else args.config_file or arguments.instance(args.instance).config_file
    takes = unit.taken_by(config_file) if config_file else {}
    notes = [*source.notes, arguments.drop_privileges(source)]
    found = explain(source, argv, env, stdin=args.stdin, user=args.run_as, asker=args.user)
    if found.effect is not None and found.effect.action == "execute":
        missed = confinement.missing(os.path.basename(argv[0]), argv[1:], takes)
        notes += [f"it may fail with EPERM: {missed}; {missed.remedy}"] if missed else []
    if args.json:
        print(json.dumps({**output.as_json(source, found), "notes": notes}, indent=2))
    else:
        out = output.console()
        output.explanation(out, source, found, None if args.all else _MOST)
        for note in notes:
            out.print(f"note: {note}")
    return 0 if found.allowed else 1
