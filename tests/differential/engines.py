"""Both engines over one filter file: every way in which each allows an argv, in its order.

A way is one filter, or a chain of two, and what it would run. The first way is what each engine does; the
others say what it would do if that one were not there. Words only: every program exists, every process that a
KillFilter asks for runs its program, and paths are compared as they resolve, with nobody to change them.
"""

import os
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

from oslo_rootwrap import filters as oslo
from oslo_rootwrap import wrapper

from rootwrap_daemon.filters import ruleset
from rootwrap_daemon.filters.base import Filter
from rootwrap_daemon.filters.chains import ChainingFilter
from rootwrap_daemon.filters.finding import Finding, Severity
from rootwrap_daemon.filters.kinds import EnvFilter
from rootwrap_daemon.filters.patterns import Clock
from rootwrap_daemon.filters.plan import (
    Beneath,
    ExecPlan,
    FixedPath,
    Plan,
    ProcessOf,
    Program,
    SignalPlan,
    Word,
)
from rootwrap_daemon.filters.read import filter_file
from rootwrap_daemon.filters.values import Match, Request

CORPUS = Path(__file__).parents[3] / "shared" / "corpus"
#: What the corpus has no example of, beside this file.
MADE_UP = ("made_up.filters", "made_up_open.filters")
WHY_SKIPPED = "../shared/corpus is not here: it comes with the project"

Argv = tuple[str, ...]


def resolved(path: str) -> str:
    """What a path is on a host without links, from /."""
    return "/" + os.path.normpath(f"/{path}").lstrip("/")


@contextmanager
def same_host_everywhere() -> Iterator[None]:
    """oslo.rootwrap looks at its environment and at links while it judges: here it finds always the same."""
    # Its KillFilter looks for programs in PATH; its EnvFilter starts from all that is there.
    environment = patch.dict(os.environ, {"PATH": "/usr/sbin:/usr/bin"}, clear=True)
    with environment, patch.object(oslo, "realpath", resolved):
        yield


@cache
def reasons() -> frozenset[str]:
    """What may explain a difference: the rows of the past flaws, the decision records."""
    contributor = Path(__file__).parents[2] / "doc" / "source" / "contributor"
    rows = re.findall(r"^[ABC][0-9]+$", (contributor / "past-flaws.rst").read_text(), re.MULTILINE)
    return frozenset(rows) | {path.name[:4] for path in (contributor / "decisions").glob("[0-9]*.rst")}


@cache
def filter_files() -> Argv:
    """The filter files of the corpus, as paths in it."""
    found = (str(path.relative_to(CORPUS)) for path in CORPUS.rglob("*") if ".filters" in path.name)
    return tuple(sorted(found))


def text_of(file: str) -> str:
    return (Path(__file__).with_name(file) if file in MADE_UP else CORPUS / file).read_bytes().decode()


@dataclass(frozen=True, slots=True)
class Effect:
    """What would run: `words` with the program as its filter names it, after the words of a chain."""

    words: Argv
    env: frozenset[tuple[str, str]] = frozenset()
    run_as: str = "root"


@dataclass(frozen=True, slots=True)
class Way:
    """`filter` (with `leaf` for the inner command of a chain) allows `argv`. Names are folded."""

    argv: Argv
    filter: str
    leaf: str | None
    effect: Effect

    @property
    def key(self) -> tuple[str, str | None, Effect]:
        return self.filter, self.leaf, self.effect


@dataclass(frozen=True, slots=True)
class OsloWay(Way):
    """`outer` saw `words` instead of argv, `last` saw `inner` instead of `raw`: match() changes its list.

    Without a chain `last` is `outer`, and `raw` is argv.
    """

    outer: oslo.CommandFilter
    last: oslo.CommandFilter
    words: Argv
    raw: Argv
    inner: Argv
    errors: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True)
class OurWay(Way):
    """As an OsloWay."""

    outer: Filter
    last: Filter
    raw: Argv
    #: How many EnvFilters stand before `last`, of the same user if in a chain.
    behind_env: int


class Ours:
    """rootwrap-daemon's engine, without the filters that have an error."""

    def __init__(self, text: str, file: str) -> None:
        self.file = filter_file.read(text, file)
        self.rules = ruleset.RuleSet(self.file.filters)
        self.by_name = {one.name: one for one in self.file.filters}

    @property
    def errors(self) -> tuple[Finding, ...]:
        return tuple(one for one in self.file.findings if one.severity is Severity.ERROR)

    def ways(self, argv: Argv) -> list[OurWay]:
        found = self.rules.matches(Request(argv))
        return [self._way(argv, match) for match in found if isinstance(match, Match) and _holds(match.plan)]

    def _way(self, argv: Argv, match: Match) -> OurWay:
        outer = last = self.by_name[match.filter]
        raw = argv
        if match.leaf is not None and isinstance(outer, ChainingFilter):
            last = self.by_name[match.leaf]
            raw = argv[outer.prefix(argv, Clock()) :]
        leaf = match.leaf and match.leaf.lower()
        before = self.file.filters[: self.file.filters.index(last)]
        behind_env = sum(
            isinstance(one, EnvFilter) and (leaf is None or one.run_as == last.run_as) for one in before
        )
        return OurWay(argv, match.filter.lower(), leaf, _ours(match.plan), outer, last, raw, behind_env)


def _holds(plan: Plan) -> bool:
    """What binding the plan would say of its paths."""
    words = plan.arguments if isinstance(plan, ExecPlan) else ()
    beneath = [(word.base, resolved(word.path)) for word in words if isinstance(word, Beneath)]
    return all(path == base or path.startswith(base + "/") for base, path in beneath)


def _ours(plan: Plan) -> Effect:
    if isinstance(plan, SignalPlan):
        return Effect(("kill", plan.program.name, str(plan.signal), str(plan.pid)), run_as=plan.run_as)
    if isinstance(plan, ExecPlan):
        words = (plan.program.name, *map(_word, plan.arguments))
        return Effect(words, frozenset(plan.env), plan.run_as)
    return Effect(("cat", plan.path))


def _word(word: Word) -> str:
    match word:
        case str():
            return word
        case Program(name):
            return name
        case Beneath():
            return resolved(word.path)
        case FixedPath():
            return word.path
        case ProcessOf():
            return str(word.pid)


class Oslo:
    """The real oslo.rootwrap: its loader, its filters, its match_filter."""

    def __init__(self, text: str, errors: tuple[Finding, ...] = ()) -> None:
        """Raises what its loader raises."""
        with TemporaryDirectory() as directory:
            Path(directory, "x.filters").write_bytes(text.encode())
            self.filters = wrapper.load_filters([directory])
        self.errors = errors
        for one in self.filters:
            # What it looks for in exec_dirs, or at its path, and then keeps.
            one.real_exec = one.exec_path
            if isinstance(one, oslo.KillFilter):
                one._program = _runs(one.args[0])  # type: ignore[assignment, method-assign]

    def first(self, argv: Argv) -> str | None:
        """The name of the filter that oslo.rootwrap runs these words by."""
        try:
            return wrapper.match_filter(self.filters, list(argv)).name
        except wrapper.NoFilterMatched:
            return None

    def ways(self, argv: Argv) -> list[OsloWay]:
        """What match_filter would find if it went on; like it, with one list for all filters."""
        return list(self._ways(argv))

    def _ways(self, argv: Argv) -> Iterator[OsloWay]:
        words = list(argv)
        for one in self.filters:
            before = tuple(words)
            if not one.match(words):
                continue
            if not isinstance(one, oslo.ChainingFilter):
                yield self._way(argv, (one, one), before, argv, before, _alone(one, words))
                continue
            inner = one.exec_args(words)
            raw = words[len(words) - len(inner) :]
            for leaf in self.filters if inner else ():
                judged = tuple(inner)
                if (
                    leaf.run_as == one.run_as
                    and not isinstance(leaf, oslo.ChainingFilter)
                    and leaf.match(inner)
                ):
                    prefix = (one.exec_path, *words[1 : len(words) - len(raw)])
                    effect = _chained(leaf, prefix, raw)
                    yield self._way(argv, (one, leaf), before, tuple(raw), judged, effect)

    def _way(
        self,
        argv: Argv,
        filters: tuple[oslo.CommandFilter, oslo.CommandFilter],
        words: Argv,
        raw: Argv,
        inner: Argv,
        effect: Effect,
    ) -> OsloWay:
        outer, last = filters
        leaf = None if last is outer else last.name
        errors = tuple(one for one in self.errors if not {outer.name, last.name}.isdisjoint(one.filters))
        return OsloWay(argv, outer.name, leaf, effect, outer, last, words, raw, inner, errors)


def _runs(program: str) -> Callable[[int], str | None]:
    path = program if os.path.isabs(program) else f"/usr/bin/{program}"
    return lambda pid: path if 0 < pid < 2**31 else None


def _alone(one: oslo.CommandFilter, words: list[str]) -> Effect:
    command = one.get_command(list(words))
    if isinstance(one, oslo.KillFilter):
        pid = int(command[-1])
        number = signal_number(command[1]) if len(command) == 3 else signal.SIGTERM
        return Effect(("kill", one.args[0], str(int(number)), str(pid)), run_as=one.run_as)
    if isinstance(one, oslo.ReadFileFilter):
        return Effect(("cat", *command[1:]), run_as=one.run_as)
    env = one.get_environment(list(words)) or {}
    given = one._extract_env(words[words[0] == "env" :]) if isinstance(one, oslo.EnvFilter) else ()
    return Effect(tuple(command), frozenset((k, v) for k, v in env.items() if k in given), one.run_as)


def _chained(leaf: oslo.CommandFilter, prefix: Argv, raw: list[str]) -> Effect:
    """A chain runs the words as they came, whatever the leaf made of them."""
    env: dict[str, str] = {}
    words = list(raw)
    if isinstance(leaf, oslo.EnvFilter) and words[0] == "env":
        words.pop(0)
        while words and "=" in words[0]:
            name, _, value = words.pop(0).partition("=")
            env[name] = value
    if words and words[0] in (leaf.exec_path, os.path.basename(leaf.exec_path)):
        words[0] = "cat" if isinstance(leaf, oslo.ReadFileFilter) else leaf.exec_path
    return Effect((*prefix, *words), frozenset(env.items()), leaf.run_as)


def signal_number(word: str) -> int:
    text = word.removeprefix("-")
    return int(text) if text.isdigit() else int(signal.Signals[f"SIG{text.removeprefix('SIG')}"])
