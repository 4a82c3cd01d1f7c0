"""Propose narrow filters for what an audit log shows. It proposes; a person decides.

What was allowed becomes filters with examples; what was denied becomes comments, to be judged one by one.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict

from rootwrap_daemon.cli import policies, show
from rootwrap_daemon.lint import auditlog
from rootwrap_daemon.lint.source import Unreadable
from rootwrap_daemon.lint.suggest import Line, Proposal, Suggester

_EPILOG = """\
Without --filters or --config-file there is no policy to compare with: all that was allowed gets a line.
With one, what narrow filters allowed keeps its filter, and only broad ones are replaced.

example:
  rootwrapctl suggest --filters /etc/neutron/rootwrap.d /var/log/rootwrap-daemon/audit.jsonl"""
#: Examples to show of a line.
_MOST = 3


def configure(parser: argparse.ArgumentParser) -> None:
    parser.epilog = _EPILOG
    policies.add_arguments(parser)
    parser.add_argument("audit", metavar="AUDIT", nargs="+", help="audit logs of the daemon")
    parser.add_argument("--all", action="store_true", help="replace narrow filters too")
    parser.add_argument(
        "--filter",
        metavar="NAME",
        action="append",
        default=[],
        help="only for what this filter allowed, e.g. a CommandFilter to be replaced; may be repeated",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    log = auditlog.read(args.audit)
    source = policies.chosen(args) if args.filters or args.config_file else None
    policies.drop_privileges(source)
    known = {one.name for one in source.policy.ruleset.filters} if source else set(args.filter)
    if unknown := sorted(set(args.filter) - known):
        raise Unreadable(f"--filter {unknown[0]}: there is no such filter in this policy")
    proposal = Suggester(source, everything=args.all, only=frozenset(args.filter)).propose(log.records)
    if args.json:
        print(json.dumps({**asdict(proposal), "left_out": dict(log.left_out)}, indent=2))
        return 0
    print(
        f"# Proposed by rootwrapctl suggest from {len(log.records)} requests. Read each line before it ships."
    )
    for what, count in log.left_out.items():
        print(f"# not used: {count} {what}")
    for problem in proposal.problems:
        print(f"# not covered: {_plain(problem)}")
    for line in _file(proposal):
        print(line)
    return 0


def _file(proposal: Proposal) -> Iterator[str]:
    yield ""
    yield "[Filters]"
    for one in proposal.lines:
        yield from _commented(one)
        yield one.text
    for one in proposal.kept:
        yield ""
        yield "# kept" + "".join(f"; {_plain(note)}" for note in one.notes)
        yield one.text
    if proposal.denied:
        yield ""
        yield "# These were denied. Uncomment what should have been allowed, and only that:"
    for one in proposal.denied:
        yield from _commented(one)
        yield f"# {one.text}"
    for one in (*proposal.lines, *proposal.kept):
        if one.options:
            yield ""
            yield f"[{one.name}]"
            yield from one.options


def _commented(one: Line) -> Iterator[str]:
    yield ""
    for example in one.examples[:_MOST]:
        yield f"#   {show.quoted(example)}"
    if len(one.examples) > _MOST:
        yield f"#   and {len(one.examples) - _MOST} more"
    for note in one.notes:
        yield f"# {_plain(note)}"
    if one.instead_of:
        yield f"# instead of {one.instead_of}"


def _plain(text: str) -> str:
    """The text on one line, whatever the words in it hold."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
