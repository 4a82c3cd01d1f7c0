"""Change one thing in a module at a time, and see whether its tests notice: `make mutants`.

Each mutant runs in a fork of this process, its tests with -x. Prints the survivors with their place and what
was changed: a test is missing there, or the code is needless, or the change means the same. A share of the
mutants, chosen by a seed, is taken where all take too long.
"""

import argparse
import ast
import copy
import importlib.abc
import importlib.util
import io
import os
import random
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Final

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "rootwrap_daemon"

#: Part of the program -> what tests it, the quickest first.
TESTS: Final = {
    "protocol": ("tests/unit/protocol",),
    "filters": ("tests/unit/filters", "tests/proof/test_fuzz.py"),
    "policy": ("tests/unit/policy",),
}
#: Seconds for the tests of one mutant: one that takes longer is noticed, too.
PATIENCE: Final = 120

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
    line: int
    change: str

    @property
    def module(self) -> str:
        return ".".join(self.path.relative_to(ROOT).with_suffix("").parts)


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
        self.found: list[tuple[int, str]] = []
        self.parents: list[ast.AST] = []

    def visit(self, node: ast.AST) -> Any:
        if _is_left_alone(node, self.parents):
            return node
        for new, text in changes(node):
            self.found.append((getattr(node, "lineno", 0), text))
            if self.wanted == len(self.found) - 1:
                return ast.fix_missing_locations(new)
        self.parents.append(node)
        try:
            return self.generic_visit(node)
        finally:
            self.parents.pop()


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
    return [Mutant(path, number, line, text) for number, (line, text) in enumerate(changer.found)]


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


def survives(mutant: Mutant, tests: Sequence[str]) -> bool:
    """Run the tests against a mutant. True if they hold."""
    import pytest

    pid = os.fork()
    if not pid:
        os.setsid()
        sys.meta_path.insert(0, _Loader(mutant))
        sys.stdout = sys.stderr = io.StringIO()
        null = os.open("/dev/null", os.O_RDWR)
        for descriptor in range(3):
            os.dup2(null, descriptor)
        code = 1
        try:
            words = ["-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:faulthandler", *tests]
            code = int(pytest.main(words))
        finally:
            os._exit(code)
    end = time.monotonic() + PATIENCE
    while (done := os.waitpid(pid, os.WNOHANG)) == (0, 0):
        if time.monotonic() > end:
            os.killpg(pid, signal.SIGKILL)
        time.sleep(0.02)
    return done[1] == 0


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
    import hypothesis  # noqa: F401
    import msgpack  # noqa: F401
    import pytest  # noqa: F401 - and what is the same for each mutant, once
    import regex  # noqa: F401

    sys.path.insert(0, str(ROOT))
    os.chdir(ROOT)
    end = time.monotonic() + args.seconds
    left = 0
    for part in args.parts:
        top = part.partition("/")[0]
        paths = (
            sorted((PACKAGE / part).rglob("*.py")) if (PACKAGE / part).is_dir() else [PACKAGE / f"{part}.py"]
        )
        every = [mutant for path in paths for mutant in mutants(path)]
        chosen = random.Random(args.seed).sample(every, min(args.most, len(every)))
        tried, alive = 0, 0
        for mutant in chosen:
            if time.monotonic() > end:
                break
            tried += 1
            if survives(mutant, TESTS[top]):
                alive += 1
                place = f"{mutant.path.relative_to(ROOT)}:{mutant.line}"
                print(f"{place}: {mutant.change} (number {mutant.number})", flush=True)
        share = 100 * (1 - alive / max(1, tried))
        print(f"{part}: {tried} of {len(every)} mutants, {alive} survive: {share:.1f} % noticed", flush=True)
        left += alive
    return 0 if not left else 1


if __name__ == "__main__":
    raise SystemExit(main())
