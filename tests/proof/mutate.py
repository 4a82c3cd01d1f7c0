"""Change one thing in a module at a time, and see whether its tests notice: `make mutants`.

Each mutant runs in a fork of this process, with the tests that execute the changed statement, the quickest
first, to the first that fails. Prints the survivors with their place and what was changed: a test is missing
there, or the code is needless, or the change means the same. `judged.txt` lists those of the last kind, each
with its reason; they do not count. A share of the mutants, chosen by a seed, is taken where all take long.
"""

import argparse
import ast
import copy
import importlib.abc
import importlib.util
import io
import json
import math
import os
import random
import resource
import signal
import sys
import tempfile
import textwrap
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import hypothesis  # noqa: F401 - what is the same for each mutant is imported once
import msgpack  # noqa: F401
import pytest
import regex  # noqa: F401
from coverage import Coverage

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "rootwrap_daemon"

JUDGED: Final = Path(__file__).with_name("judged.txt")

#: Part of the program -> what tests it.
TESTS: Final = {
    "protocol": ("tests/unit/protocol", "tests/proof/test_fuzz.py"),
    "filters": ("tests/unit/filters", "tests/proof/test_fuzz.py", "tests/differential"),
    "policy": ("tests/unit/policy", "tests/unit/analysis"),
}
#: Seconds of processor time, seconds, and bytes for the tests of a mutant: one that takes more is noticed.
CPU, PATIENCE, MEMORY = 60, 3600, 4 << 30

_COMPARED: Final[dict[type[ast.cmpop], type[ast.cmpop]]] = {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
}
_COMPUTED: Final[dict[type[ast.operator], type[ast.operator]]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.FloorDiv: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
}


@dataclass(frozen=True)
class Mutant:
    """A module with one change. `number`: of the change among those of the module."""

    path: Path
    number: int
    #: Lines of the statement without those below it; none for what runs when the module is imported.
    lines: range
    line: int
    #: Function, change and source, which stay when lines move.
    name: str

    @property
    def module(self) -> str:
        return ".".join(self.path.relative_to(ROOT).with_suffix("").parts)

    def __str__(self) -> str:
        return f"{self.path.relative_to(PACKAGE)} {self.name}"


def changes(node: ast.AST) -> Iterator[tuple[ast.AST, str]]:
    """What may stand in the place of a node, and the change in words."""

    def changed(text: str, **fields: Any) -> tuple[ast.AST, str]:
        new = copy.copy(node)
        for name, value in fields.items():
            setattr(new, name, value)
        return new, text

    match node:
        case ast.Compare(ops=[one, *rest]) if type(one) in _COMPARED:
            new = _COMPARED[type(one)]
            yield changed(f"{type(one).__name__} -> {new.__name__}", ops=[new(), *rest])
        case ast.BoolOp(op=op, values=values):
            other: ast.boolop = ast.Or() if isinstance(op, ast.And) else ast.And()
            yield changed(f"{type(op).__name__} -> {type(other).__name__}", op=other)
            for index in range(len(values)):
                yield changed(f"without operand {index + 1}", values=values[:index] + values[index + 1 :])
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            yield operand, "without not"
        case ast.BinOp(op=op) if type(op) in _COMPUTED:
            yield changed(f"{type(op).__name__} -> {_COMPUTED[type(op)].__name__}", op=_COMPUTED[type(op)]())
        case ast.Constant(value=bool() as value):
            yield changed(f"{value} -> {not value}", value=not value)
        case ast.Constant(value=int() as value):
            yield changed(f"{value} -> {value + 1}", value=value + 1)
        case ast.If(test=test) | ast.IfExp(test=test) | ast.While(test=test):
            if not isinstance(node, ast.While):
                yield changed("if True", test=ast.copy_location(ast.Constant(True), test))
            yield changed("if False", test=ast.copy_location(ast.Constant(False), test))
        case ast.Raise() | ast.Expr(value=ast.Call()) | ast.AugAssign() | ast.Delete():
            yield ast.copy_location(ast.Pass(), node), "statement left out"
        case ast.Return(value=ast.expr() as value) if not (
            isinstance(value, ast.Constant) and value.value is None
        ):
            yield changed("return None", value=ast.copy_location(ast.Constant(None), value))
        case ast.Continue():
            yield ast.copy_location(ast.Break(), node), "continue -> break"
        case _:
            return


class _Changer(ast.NodeTransformer):
    """Make the change of a number, or count and describe them all."""

    def __init__(self, wanted: int | None) -> None:
        self.wanted = wanted
        self.found: list[tuple[range, int, str]] = []
        self.names: Counter[str] = Counter()
        self.parents: list[ast.AST] = []

    def visit(self, node: ast.AST) -> Any:
        if _is_left_alone(node, self.parents):
            return node
        for new, text in changes(node):
            self.found.append(self.described(node, text))
            if self.wanted == len(self.found) - 1:
                return ast.fix_missing_locations(new)
        self.parents.append(node)
        try:
            return self.generic_visit(node)
        finally:
            self.parents.pop()

    def described(self, node: ast.AST, change: str) -> tuple[range, int, str]:
        """The lines of the statement, the line, and the name of a change."""
        around = [*self.parents, node]
        statement = [one for one in around if isinstance(one, ast.stmt)][-1]
        functions = [one.name for one in around if isinstance(one, ast.FunctionDef | ast.ClassDef)]
        inside = any(isinstance(one, ast.FunctionDef) for one in around[: around.index(statement)])
        body = getattr(statement, "body", None)
        end = body[0].lineno if body else (statement.end_lineno or 0) + 1
        # A constant alone says little.
        shown = self.parents[-1] if isinstance(node, ast.Constant) else node
        shown = shown.test if isinstance(shown, ast.If | ast.While) else shown
        source = textwrap.shorten(ast.unparse(shown).partition("\n")[0], 80)
        name = f"{'.'.join(functions) or '-'} | {change} | {source}"
        self.names[name] += 1
        if self.names[name] > 1:
            name += f" ({self.names[name]})"
        return range(statement.lineno, end if inside else statement.lineno), getattr(node, "lineno", 0), name


def _is_left_alone(node: ast.AST, parents: Sequence[ast.AST]) -> bool:
    """True for what has no effect, or only on a text for people: annotations, messages, docstrings."""
    parent = parents[-1] if parents else None
    if isinstance(parent, ast.arg | ast.AnnAssign) and node is parent.annotation:
        return True
    if isinstance(parent, ast.FunctionDef) and node is parent.returns:
        return True
    if isinstance(node, ast.Call):
        name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
        return name in ("dataclass", "field", "TypeVar", "dataclass_transform", "assert_never")
    # What an exception says.
    return isinstance(node, ast.JoinedStr) or (
        isinstance(parent, ast.If) and isinstance(parent.test, ast.Name) and parent.test.id == "TYPE_CHECKING"
    )


def mutants(path: Path) -> list[Mutant]:
    """All changes of a module."""
    changer = _Changer(None)
    changer.visit(ast.parse(path.read_text()))
    return [Mutant(path, number, *described) for number, described in enumerate(changer.found)]


def mutants_of(part: str) -> list[Mutant]:
    """All changes of a package, or of a module named without its suffix."""
    top = PACKAGE / part
    paths = sorted(top.rglob("*.py")) if top.is_dir() else [top.with_suffix(".py")]
    return [mutant for path in paths for mutant in mutants(path)]


def judged() -> dict[str, str]:
    """Mutants that mean the same as the program -> why."""
    found = {}
    for line in JUDGED.read_text().splitlines():
        if line and not line.startswith("#"):
            name, _, reason = line.rpartition(" | ")
            found[name] = reason
    return found


class _Loader(importlib.abc.Loader, importlib.abc.MetaPathFinder):
    """Loads one module as the mutant has it."""

    def __init__(self, mutant: Mutant) -> None:
        self.mutant = mutant

    def find_spec(self, name: str, path: object = None, target: object = None) -> Any:
        if name != self.mutant.module:
            return None
        return importlib.util.spec_from_file_location(name, self.mutant.path, loader=self)

    def exec_module(self, module: ModuleType) -> None:
        tree = _Changer(self.mutant.number).visit(ast.parse(self.mutant.path.read_text()))
        exec(compile(tree, str(self.mutant.path), "exec"), module.__dict__)


class _Selected:
    """A plugin of pytest: runs these tests alone, in this order."""

    def __init__(self, tests: Sequence[str]) -> None:
        self.order = {test: place for place, test in enumerate(tests)}

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = sorted(
            (one for one in items if one.nodeid in self.order), key=lambda one: self.order[one.nodeid]
        )


class _Noted:
    """A plugin of pytest: notes which lines each test executes, and what processor time it takes."""

    def __init__(self, part: str) -> None:
        self.coverage = Coverage(data_file=None, config_file=False, source=[str(PACKAGE / part)])
        self.seconds: dict[str, float] = {}

    def pytest_sessionstart(self) -> None:
        self.coverage.start()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        self.coverage.switch_context(item.nodeid)
        begin = time.process_time()
        try:
            return (yield)
        finally:
            self.seconds[item.nodeid] = time.process_time() - begin

    def lines(self) -> dict[str, dict[int, list[str]]]:
        """Path -> line -> tests."""
        self.coverage.stop()
        data = self.coverage.get_data()
        return {path: data.contexts_by_lineno(path) for path in data.measured_files()}


def in_a_fork(call: Callable[[], int], patience: float = math.inf) -> int:
    """The status of a call in a process of its own, which is silent and, if it lasts, killed."""
    pid = os.fork()
    if not pid:
        os.setsid()
        sys.stdout = sys.stderr = io.StringIO()
        null = os.open("/dev/null", os.O_RDWR)
        for descriptor in range(3):
            os.dup2(null, descriptor)
        code = 1
        try:
            code = call()
        finally:
            os._exit(code)
    end = time.monotonic() + patience
    while (done := os.waitpid(pid, os.WNOHANG)) == (0, 0):
        if time.monotonic() > end:
            os.killpg(pid, signal.SIGKILL)
        time.sleep(0.02)
    return done[1]


class Tests:
    """What tests a part, and which of the tests execute which line."""

    def __init__(self, part: str) -> None:
        self.part = part.partition("/")[0]
        with tempfile.NamedTemporaryFile("r") as notes:

            def note() -> int:
                plugin = _Noted(self.part)
                code = _pytest(TESTS[self.part], plugin)
                Path(notes.name).write_text(json.dumps([plugin.lines(), plugin.seconds]))
                return code

            if in_a_fork(note):
                raise SystemExit(f"the tests of {self.part} fail with the program as it is")
            lines, self.seconds = json.load(notes)
        self.lines = {
            path: {int(line): tests for line, tests in found.items()} for path, found in lines.items()
        }

    def of(self, mutant: Mutant) -> list[str]:
        """The tests that may notice a mutant, the quickest first: all, if it changes what is imported."""
        by_line = self.lines.get(str(mutant.path), {})
        found = {test for line in mutant.lines for test in by_line.get(line, ())}
        if not found or not all(found):
            found = set(self.seconds)
        return sorted(found, key=lambda test: self.seconds[test])

    def hold(self, mutant: Mutant) -> bool:
        """True if the tests hold for a mutant: nothing notices it."""
        tests = self.of(mutant)

        def run() -> int:
            resource.setrlimit(resource.RLIMIT_CPU, (CPU, CPU))
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
            sys.meta_path.insert(0, _Loader(mutant))
            return _pytest(sorted({test.partition("::")[0] for test in tests}), _Selected(tests))

        return in_a_fork(run, PATIENCE) == 0


def _pytest(paths: Sequence[str], plugin: object) -> int:
    words = ["-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:faulthandler", *paths]
    return int(pytest.main(words, plugins=[plugin]))


def main() -> int:
    """Try the mutants of the parts that are named."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", default=list(TESTS), help=f"of {', '.join(TESTS)}, or modules")
    parser.add_argument("--most", type=int, default=100_000, help="mutants of each part")
    parser.add_argument("--seed", default="1", help="of the choice")
    parser.add_argument("--seconds", type=float, default=1e9, help="for all")
    args = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    os.chdir(ROOT)
    end = time.monotonic() + args.seconds
    left = 0
    reasons = judged()
    for part in args.parts:
        every = mutants_of(part)
        chosen = random.Random(args.seed).sample(every, min(args.most, len(every)))
        tests = Tests(part)
        tried = alive = equal = 0
        for mutant in chosen:
            if time.monotonic() > end:
                break
            tried += 1
            if str(mutant) in reasons:
                equal += 1
            elif tests.hold(mutant):
                alive += 1
                print(f"{mutant}  [line {mutant.line}]", flush=True)
        share = 100 * (1 - alive / max(1, tried - equal))
        print(
            f"{part}: {tried} of {len(every)} mutants, {equal} judged to be the same, {alive} survive: "
            f"{share:.1f} % of the others noticed",
            flush=True,
        )
        left += alive
    return 0 if not left else 1


if __name__ == "__main__":
    raise SystemExit(main())
