"""Propose narrow filters for what an audit log or policy tests show. It proposes; a person decides.

What was allowed becomes filters with examples; what was denied becomes comments, to be judged one by one.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict

from rootwrap_daemon.analysis import audit_log
from rootwrap_daemon.analysis.audit_log import Record
from rootwrap_daemon.analysis.load import Source
from rootwrap_daemon.analysis.suggest.suggest import Line, Proposal, Suggester
from rootwrap_daemon.analysis.testing import suite_file
from rootwrap_daemon.analysis.testing.suite import ALLOW, MATCH
from rootwrap_daemon.cli import arguments, output
from rootwrap_daemon.counted import counted
from rootwrap_daemon.errors import Denied, Unreadable, Usage
from rootwrap_daemon.escape import printable
from rootwrap_daemon.filters.values import Match, Request

EPILOG = """\
Without a policy (--filters, --config-file, --instance) all that was allowed gets a line.
With one, what narrow filters allowed keeps its filter, and only broad ones are replaced.
Where no daemon has run yet there is no log: write down the commands that must go on working as policy tests.

example:
  rootwrapctl suggest --filters /etc/neutron/rootwrap.d /var/log/rootwrap-daemon/audit.jsonl
  rootwrapctl suggest --filters /etc/neutron/rootwrap.d --tests neutron.yaml"""
#: What a test expects of a command that is to run.
_WANTED = (ALLOW, MATCH)
#: Examples to show of a line.
_MOST = 3


def configure(parser: argparse.ArgumentParser) -> None:
    arguments.add_policy(parser)
    parser.add_argument("audit", metavar="AUDIT", nargs="*", help=f"audit logs: {arguments.LOGS}")
    what = "policy tests: what they expect to be allowed is to be covered, what they deny is not"
    arguments.add_list(parser, "--tests", "FILE", f"{what}; may be repeated")
    parser.add_argument("--all", action="store_true", help="replace narrow filters too")
    what = "only for what this filter allowed, e.g. a CommandFilter to be replaced; may be repeated"
    arguments.add_list(parser, "--filter", "NAME", what)
    parser.add_argument("--user", metavar="NAME", help="of sudo's log, only what this user has called")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    source = arguments.policy(args) if arguments.is_named(args) else None
    log = audit_log.read(_logs(args), args.user)
    log.records += _tested(args.tests, source)
    arguments.drop_privileges(source)
    known = {one.name for one in source.policy.ruleset.filters} if source else set(args.filter)
    if unknown := sorted(set(args.filter) - known):
        raise Unreadable(f"--filter {unknown[0]}: there is no such filter in this policy")
    proposal = Suggester(source, everything=args.all, only=frozenset(args.filter)).propose(log.records)
    if args.json:
        print(json.dumps({**asdict(proposal), "left_out": dict(log.left_out)}, indent=2))
        return 0
    requests = counted(len(log.records), "request")
    print(f"# Proposed by rootwrapctl suggest from {requests}. Read each line before it ships.")
    if log.of_sudo:
        print(f"# {log.of_sudo} of them from sudo's log, to which everybody may write, as logger(1) does.")
    if len(log.callers) > 1:
        print(f"# They are of {printable(', '.join(sorted(log.callers)))}: name one with --user.")
    for what, count in log.left_out.items():
        print(f"# not used: {what}: {count}")
    for problem in proposal.problems:
        print(f"# not covered: {printable(problem)}")
    for line in _file(proposal):
        print(line)
    return 0


def _logs(args: argparse.Namespace) -> list[audit_log.Source]:
    if args.audit or args.tests:
        return arguments.logs(args.audit, args.instance)
    if args.instance:
        return arguments.instance(args.instance).logs()
    raise Usage("give an audit log, --tests FILE, or --instance NAME for the log of an instance")


def _tested(paths: list[str], source: Source | None) -> Iterator[Record]:
    """Yield what policy tests expect, as a log would have it; `source` knows which filter allows it today."""
    for path in paths:
        for test in suite_file.read(path).tests:
            asker = source.asker(test.user) if source else frozenset()
            request = Request(test.argv, test.env, test.stdin, test.run_as, asker)
            found = source.policy.ruleset.match(request) if source else None
            allowed = test.expect in _WANTED
            name = found.name if allowed and isinstance(found, Match) else None
            code = "allowed" if allowed else Denied.code
            yield Record(test.argv, code, name, test.run_as, tuple(variable for variable, _ in test.env))


def _file(proposal: Proposal) -> Iterator[str]:
    yield ""
    yield "[Filters]"
    for one in proposal.lines:
        yield from _commented(one)
        yield printable(one.text)
    for one in proposal.kept:
        yield ""
        yield "# kept" + "".join(f"; {printable(note)}" for note in one.notes)
        yield one.text
    if proposal.denied:
        yield ""
        yield "# These were denied. Uncomment what should have been allowed, and only that:"
    for one in proposal.denied:
        yield from _commented(one)
        yield f"# {printable(one.text)}"
    for one in (*proposal.lines, *proposal.kept):
        if one.options:
            yield ""
            yield f"[{one.name}]"
            yield from one.options


def _commented(one: Line) -> Iterator[str]:
    yield ""
    for example in one.examples[:_MOST]:
        yield f"#   {output.quoted(example)}"
    if len(one.examples) > _MOST:
        yield f"#   and {len(one.examples) - _MOST} more"
    for note in one.notes:
        yield f"# {printable(note)}"
    if one.instead_of:
        yield f"# instead of {one.instead_of}"
