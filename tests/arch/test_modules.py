"""Each module says what it is for, and is short enough to have one purpose."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAX_LINES = 400

modules = pytest.mark.parametrize(
    "module", [str(path.relative_to(ROOT)) for path in sorted((ROOT / "rootwrap_daemon").rglob("*.py"))]
)


@modules
def test_says_its_purpose(module: str) -> None:
    docstring = ast.get_docstring(ast.parse((ROOT / module).read_text()))
    assert docstring, "no docstring"
    assert docstring.splitlines()[0].endswith((".", "?")), "the first line is not one sentence"


@modules
def test_is_short(module: str) -> None:
    lines = len((ROOT / module).read_text().splitlines())
    assert lines <= MAX_LINES
