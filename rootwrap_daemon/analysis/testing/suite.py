"""Run the policy tests of a Suite against a policy: Results, and which filters they reach.

Promises: nothing is run; all that is made lies in the scratch directory of a Stage.
"""

import errno
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from rootwrap_daemon import errors
from rootwrap_daemon.analysis.explain import ALLOWED, Effect, Explanation, explain
from rootwrap_daemon.analysis.load import Source
from rootwrap_daemon.analysis.trace import Trace
from rootwrap_daemon.filters.base import Filter
from rootwrap_daemon.filters.finding import Location
from rootwrap_daemon.filters.paths import basename

#: What a test may expect, besides the codes of errors: it may run; it may not, for whatever reason; a filter
#: allows the words, whatever this host has to say about them.
ALLOW, DENY, MATCH = "allow", "deny", "match"
EXPECTATIONS: Final = (
    *(ALLOW, DENY, MATCH, errors.Denied.code, errors.EnvironmentDenied.code, errors.ProcessGone.code),
    *(errors.ExecutableNotFound.code, errors.BadRequest.code, errors.TooLarge.code),
)
#: Where a filter's words match, and the scratch directory lacks what they name.
_HINT: Final = "the words match: `scratch` and `setup` make what must be there, `expect: match` does without"


@dataclass(frozen=True, slots=True)
class Plan:
    """The plan wanted of a command that is allowed; None for what does not matter.

    `argv`: all words, the first as the program's name or path. `env`: these variables, among others.
    """

    argv: tuple[str, ...] | None = None
    user: str | None = None
    env: Mapping[str, str] | None = None
    cwd: str | None = None
    file: str | None = None


@dataclass(frozen=True, slots=True)
class Test:
    """One request and what must come of it.

    `user`: who asks, or a word of a `users` option; None for whoever is meant. `run_as`: the user that the
    request names, None where it names nobody.
    """

    location: Location
    argv: tuple[str, ...]
    expect: str
    name: str | None = None
    env: tuple[tuple[str, str], ...] = ()
    stdin: bool = False
    filter: str | None = None
    plan: Plan | None = None
    user: str | None = None
    run_as: str | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """Something that must be there: a directory, a file with a text, or a link to a target."""

    kind: str
    path: str
    text: str = ""
    mode: int | None = None


@dataclass(frozen=True, slots=True)
class Suite:
    """A file of tests. `moved`: directories that stand in a scratch directory while the tests run."""

    file: str
    filters: tuple[str, ...]
    config: str | None
    moved: tuple[str, ...]
    setup: tuple[Step, ...]
    tests: tuple[Test, ...]


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a test. `failure`: what is not as expected, None if all is."""

    test: Test
    explanation: Explanation
    failure: str | None


@dataclass(frozen=True, slots=True)
class Stage:
    """The root of directories that a suite moves: each path beneath one gets `root` before it."""

    root: str
    moved: tuple[str, ...]

    def there(self, text: str) -> str:
        """The text with the paths in it moved."""
        for base in self.moved:
            # A path ends where another component's character does not follow.
            text = re.sub(rf"(?<![\w./-]){re.escape(base)}(?![\w.-])", f"{self.root}{base}", text)
        return text

    def back(self, text: str) -> str:
        """The text as it was before `there`."""
        return text.replace(self.root, "") if self.moved else text

    def set_up(self, steps: Iterable[Step]) -> None:
        """Make the directories, files and links. Raises Unreadable where one cannot be made."""
        for base in self.moved:
            os.makedirs(self.there(base), exist_ok=True)
        for step in steps:
            path = Path(self.there(step.path))
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                if step.kind == "link":
                    path.symlink_to(self.there(step.text))
                elif step.kind == "file":
                    path.write_text(step.text)
                else:
                    path.mkdir(exist_ok=True)
                if step.mode is not None:
                    path.chmod(step.mode)
            except OSError as error:
                raise errors.Unreadable(f"setup: {step.path} cannot be made: {error.strerror}") from error

    def programs(self, filters: Iterable[Filter]) -> str:
        """A directory with a program for every name in the filters, to be looked at last: nothing runs."""
        directory = Path(self.root) / ".programs"
        directory.mkdir()
        for name in {one.program for one in filters if "/" not in one.program}:
            (directory / name).touch(0o755)
        return str(directory)


def run(suite: Suite, policy: Source, stage: Stage) -> Iterator[Result]:
    """Judge the tests one after the other; the stage must have been set up."""
    for test in suite.tests:
        words = tuple(map(stage.there, test.argv))
        found = explain(policy, words, test.env, stdin=test.stdin, user=test.run_as, asker=test.user)
        yield Result(test, found, _failure(test, found, stage, on_this_host=suite.config is not None))


def _failure(test: Test, found: Explanation, stage: Stage, *, on_this_host: bool) -> str | None:
    # Filters by themselves say nothing of what a host has installed.
    lacking = found.code == errors.ExecutableNotFound.code and not on_this_host
    if test.expect == MATCH:
        good = found.allowed or any(trace.matches for trace in found.traces)
    elif test.expect == ALLOW:
        good = found.allowed or lacking
    elif test.expect == DENY:
        good = not found.allowed and not lacking
    else:
        good = found.code == test.expect
    if not good:
        got = ALLOW if found.code == ALLOWED else found.code
        by = f" by {found.filter}" if found.filter else ""
        detail = f": {found.detail}" if found.detail else ""
        doubt = "" if found.certain else f" (not certain: could not see {'; '.join(found.unseen)})"
        gone = any(text in detail for text in (os.strerror(errno.ENOENT), "its base is not there"))
        missing = test.expect == ALLOW and gone and not on_this_host
        hint = f" ({_HINT})" if missing and any(trace.matches for trace in found.traces) else ""
        return f"expected {test.expect}, got {got}{by}{stage.back(detail)}{stage.back(doubt)}{hint}"
    if test.filter is not None:
        names = {found.filter} if found.allowed else _names(found)
        if test.filter not in names:
            return f"expected the filter {test.filter}, got {', '.join(sorted(filter(None, names)))}"
    return _plan_failure(test.plan, found.effect, stage) if test.plan is not None else None


def _names(found: Explanation) -> set[str | None]:
    """The filters whose words match, as the audit log has them."""
    names: set[str | None] = set()
    for trace in found.traces:
        leaves = [leaf.filter.name for leaf in trace.inner if leaf.matches]
        if trace.matches:
            names |= {f"{trace.filter.name}+{leaf}" for leaf in leaves} or {trace.filter.name}
    return names


def _plan_failure(plan: Plan, effect: Effect | None, stage: Stage) -> str | None:
    if effect is None:
        return "expected a plan, and its program is not on this host"
    argv = tuple(map(stage.back, effect.argv))
    if plan.argv is not None and plan.argv[:1] == (basename(argv[0]) if argv else "",):
        argv = (basename(argv[0]), *argv[1:])
    wanted: list[tuple[str, object, object]] = [
        ("argv", plan.argv, argv),
        ("user", plan.user, effect.user),
        ("cwd", plan.cwd, stage.back(effect.cwd)),
        ("file", plan.file, stage.back(effect.file)),
        *((f"the variable {name}", value, effect.env.get(name)) for name, value in (plan.env or {}).items()),
    ]
    for what, expected, got in wanted:
        if expected is not None and expected != got:
            return f"expected {what} {_shown(expected)}, got {_shown(got)}"
    return None


def _shown(value: object) -> str:
    return repr(list(value)) if isinstance(value, tuple) else repr(value)


@dataclass(slots=True)
class Coverage:
    """The filters that some test allows, and those that came nearest to what some test denies."""

    allowed: set[Location] = field(default_factory=set)
    denied: set[Location] = field(default_factory=set)

    def add(self, result: Result) -> None:
        """Count one result, as expected or not."""
        found = result.explanation
        if found.allowed:
            decisive = (found.filter or "").split("+")
            for trace in found.traces:
                if trace.matches and trace.filter.name == decisive[0]:
                    self.allowed.add(trace.filter.location)
                    leaves = (leaf for leaf in trace.inner if leaf.matches)
                    self.allowed |= {leaf.filter.location for leaf in leaves if leaf.filter.name in decisive}
        else:
            self._stopped(found.traces)

    def _stopped(self, traces: tuple[Trace, ...]) -> None:
        for trace in traces:
            # What options or the host stop has words that were allowed.
            if trace.matches:
                self.allowed.add(trace.filter.location)
            if trace.nearness == traces[0].nearness:
                self.denied.add(trace.filter.location)
                self._stopped(trace.inner)

    def gaps(self, filters: Iterable[Filter]) -> Iterator[tuple[Filter, str]]:
        """Each filter that no test allows, and each that no test denies, with which of the two."""
        for one in filters:
            if one.location not in self.allowed:
                yield one, "no test allows"
            if one.location not in self.denied:
                yield one, "no test denies"
