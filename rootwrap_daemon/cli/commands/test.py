"""Run policy tests: commands, and what must come of each. Runs none of the commands.

The tests are data; the format is described in doc/source/user/policy-tests.rst.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rich.text import Text

from rootwrap_daemon.analysis import load
from rootwrap_daemon.analysis.load import Source
from rootwrap_daemon.analysis.testing import suite, suite_file
from rootwrap_daemon.analysis.testing.suite import Coverage, Result, Stage, Suite
from rootwrap_daemon.analysis.testing.suite_file import Malformed
from rootwrap_daemon.cli import arguments, output
from rootwrap_daemon.lint.output.report import github_data, github_property

EPILOG = """\
exit code: 0 all as expected, 1 a test failed (or a gap, with --fail-on-gap), 2 a file cannot be used

example:
  rootwrapctl test --coverage tests/policy/*.yaml"""
#: Filters to show of a failure; the nearest tells why.
_MOST = 2


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", nargs="+", help="files of tests (YAML)")
    arguments.add_policy(parser, "in place of the policy that the tests name: ")
    parser.add_argument(
        "--coverage", action="store_true", help="say which filters no test allows, and which none denies"
    )
    parser.add_argument("--fail-on-gap", action="store_true", help="--coverage, and a gap is a failure")
    parser.add_argument("--verbose", "-v", action="store_true", help="a line for each test that passes too")
    parser.add_argument(
        "--format", choices=("text", "json", "github"), default="text", help="of the output (default: text)"
    )


@dataclass(slots=True)
class _Tally:
    """The results of all files."""

    results: list[tuple[Result, Source, Stage]] = field(default_factory=list)
    gaps: list[tuple[str, str, int, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def failed(self) -> list[tuple[Result, Source, Stage]]:
        return [entry for entry in self.results if entry[0].failure is not None]


def run(args: argparse.Namespace) -> int:
    suites: list[Suite] = []
    problems: list[str] = []
    for path in args.file:
        try:
            suites.append(suite_file.read(path))
        except Malformed as error:
            problems.append(error.message)
        else:
            # Nothing judged is not "nothing wrong".
            problems += [] if suites[-1].tests else [f"{path}: no test: write some below `tests:`"]
    if problems:
        print(*problems, sep="\n", file=sys.stderr)
        return 2
    # All that only root can read, before root is given up.
    given = arguments.policy(args) if arguments.is_named(args) else None
    ready = [(one, {} if given else _texts(one), given or _configured(one)) for one in suites]
    tally = _Tally()
    configured = [found for _, _, found in ready if found is not None]
    tally.notes.append(arguments.drop_privileges(configured[0] if configured else None))
    coverage = Coverage()
    reached: dict[Any, Any] = {}
    for one, texts, found in ready:
        with tempfile.TemporaryDirectory(prefix="rootwrapctl-test-") as root:
            stage = Stage(os.path.realpath(root), one.moved)
            stage.set_up(one.setup)
            policy = found if found is not None else _staged(texts, stage)
            tally.notes += policy.notes
            for result in suite.run(one, policy, stage):
                tally.results.append((result, policy, stage))
                coverage.add(result)
            reached |= {filter.location: filter for filter in policy.policy.ruleset.filters}
    if args.coverage or args.fail_on_gap:
        tally.gaps = [
            (filter.name, filter.location.file, filter.location.line, what)
            for filter, what in coverage.gaps(reached.values())
        ]
    _FORMATS[args.format](tally, args)
    return 1 if tally.failed or (args.fail_on_gap and tally.gaps) else 0


def _beside(one: Suite, path: str) -> str:
    return os.path.normpath(os.path.join(os.path.dirname(one.file), path))


def _texts(one: Suite) -> Mapping[str, str]:
    return load.texts_of(_beside(one, path) for path in one.filters)


def _configured(one: Suite) -> Source | None:
    return None if one.config is None else arguments.named(_beside(one, one.config))


def _staged(texts: Mapping[str, str], stage: Stage) -> Source:
    moved = {file: stage.there(text) for file, text in texts.items()}
    # The names of programs are known once the filters are read.
    filters = load.from_texts(moved).policy.ruleset.filters
    return load.from_texts(moved, last_exec_dir=stage.programs(filters))


def _title(result: Result) -> str:
    return result.test.name or output.quoted(result.test.argv)


def _text(tally: _Tally, args: argparse.Namespace) -> None:
    out = output.console()
    for result, policy, stage in tally.results:
        title = f"{load.where(result.test.location)}  {_title(result)}"
        if result.failure is None:
            if args.verbose:
                out.print(Text.assemble(("ok    ", "green"), title))
            continue
        out.print(Text.assemble(("FAIL  ", "bold red"), title))
        out.print(Text(f"      {result.failure}", "red"))
        out.print(f"      {output.quoted(result.test.argv)}")
        for line in output.lines(policy, result.explanation, _MOST):
            line.plain = stage.back(f"      {line.plain}")
            out.print(line)
    for name, file, line_number, what in tally.gaps:
        out.print(Text(f"gap   {file}:{line_number}  {name}: {what} it", "yellow"))
    for note in dict.fromkeys(tally.notes):
        out.print(f"note: {note}")
    failed, passed = len(tally.failed), len(tally.results) - len(tally.failed)
    out.print(Text(f"{failed} failed, {passed} passed", "bold red" if failed else "bold green"))


def _json(tally: _Tally, args: argparse.Namespace) -> None:
    report = {
        "passed": len(tally.results) - len(tally.failed),
        "failed": len(tally.failed),
        "tests": [
            {
                "name": result.test.name,
                "file": result.test.location.file,
                "line": result.test.location.line,
                "expect": result.test.expect,
                "failure": result.failure,
                "explanation": output.as_json(policy, result.explanation),
            }
            for result, policy, _ in tally.results
        ],
        "gaps": [
            {"filter": name, "file": file, "line": line, "what": f"{what} it"}
            for name, file, line, what in tally.gaps
        ],
        "notes": list(dict.fromkeys(tally.notes)),
    }
    print(json.dumps(report, indent=2))


def _github(tally: _Tally, args: argparse.Namespace) -> None:
    """Workflow commands: https://docs.github.com/actions/reference/workflow-commands-for-github-actions."""
    for result, _, _ in tally.failed:
        where = result.test.location
        place = f"file={github_property(where.file)},line={where.line},col={where.column}"
        title = github_property(f"policy test: {_title(result)}")
        print(f"::error {place},title={title}::{github_data(result.failure or '')}")
    for name, file, line, what in tally.gaps:
        text = github_data(f"{what} {name}")
        print(f"::warning file={github_property(file)},line={line},title=policy test coverage::{text}")
    print(f"{len(tally.failed)} failed, {len(tally.results) - len(tally.failed)} passed")


_FORMATS: dict[str, Callable[[_Tally, argparse.Namespace], None]] = {
    "text": _text,
    "json": _json,
    "github": _github,
}
