"""Numbers with what they count, and that no command writes the plural of one."""

import ast
import re
from pathlib import Path

import pytest

from rootwrap_daemon.counted import counted

PACKAGE = Path(__file__).parents[2] / "rootwrap_daemon"
#: What commands count. The limits of the protocol are no such numbers: none of them is 1.
NOUNS = "errors|files|filters|findings|notes|records|requests|rules|users|warnings"


@pytest.mark.parametrize(("number", "text"), [(0, "0 filters"), (1, "1 filter"), (2, "2 filters")])
def test_one_is_no_plural(number: int, text: str) -> None:
    assert counted(number, "filter") == text


def texts(tree: ast.AST) -> list[str]:
    """The formatted texts of a module, with {} for each value."""
    return [
        "".join(part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)  # type: ignore[misc]
        for node in ast.walk(tree)
        if isinstance(node, ast.JoinedStr)
    ]


def test_no_number_stands_before_a_plural() -> None:
    """`{len(found)} filters` is wrong for one: `counted` writes it."""
    wrong = [
        f"{path.relative_to(PACKAGE)}: {text}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for text in texts(ast.parse(path.read_text(encoding="utf-8")))
        if re.search(rf"\{{\}} ({NOUNS})\b(?!=)", text)
    ]
    assert not wrong, "\n".join(wrong)
