"""Each module says what it is for, and is short enough to have one purpose."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAX_LINES = 400
#: Words that leave open what the thing is or does.
QUESTIONS = ("What ", "Who ", "Whom ", "Whose ", "Where ", "Which ", "Whether ", "How ")

modules = pytest.mark.parametrize(
    "module", [str(path.relative_to(ROOT)) for path in sorted((ROOT / "rootwrap_daemon").rglob("*.py"))]
)


@modules
def test_says_its_purpose(module: str) -> None:
    docstring = ast.get_docstring(ast.parse((ROOT / module).read_text()))
    assert docstring, "no docstring"
    assert docstring.splitlines()[0].endswith((".", "?")), "the first line is not one sentence"


@modules
def test_first_lines_name_or_do_something(module: str) -> None:
    """A module's has a test of its own."""
    found = [
        (node.name, (ast.get_docstring(node) or "").partition("\n")[0])
        for node in ast.walk(ast.parse((ROOT / module).read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    ]
    assert not [one for one in found if one[1].startswith(QUESTIONS)]


@modules
def test_is_short(module: str) -> None:
    _check_length(module)


@pytest.mark.parametrize(
    "file", [str(path.relative_to(ROOT)) for path in sorted((ROOT / "native").rglob("*.[ch]"))]
)
def test_a_file_in_c_says_its_purpose_and_is_short(file: str) -> None:
    first = (ROOT / file).read_text().partition("*/")[0]
    assert first.startswith("/* ")
    assert first.partition("\n\n")[0].rstrip().endswith((".", ":")), "no sentence"
    _check_length(file)


def _check_length(module: str) -> None:
    lines = len((ROOT / module).read_text().splitlines())
    assert lines <= MAX_LINES
