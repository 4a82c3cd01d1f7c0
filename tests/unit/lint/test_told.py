"""Every sentence that the daemon has about a filter file belongs to a rule that is about it."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from rootwrap_daemon.lint.check import known_rules
from rootwrap_daemon.lint.told import rule_of

FILTERS = Path(__file__).parents[3] / "rootwrap_daemon" / "filters"
#: What makes a finding -> which argument is the sentence, and what is put before it.
MAKERS = {
    "FilterError": (1, ""),
    "PatternError": (0, ""),
    "TypeProblem": (0, ""),
    "OptionProblem": (0, "timeout: "),
    "_error": (1, ""),
    "_add": (2, ""),
    "Complaint": (1, ""),
    "warn": (1, ""),
}
#: Left to the rule for what no other is about.
OTHERS = {"one word could belong here and to line x, column x"}


def _texts(node: ast.expr) -> Iterator[str]:
    """The sentences that an expression can be; a name's value cannot be seen here."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.JoinedStr):
        yield "".join(str(part.value) if isinstance(part, ast.Constant) else "x" for part in node.values)
    elif isinstance(node, ast.IfExp):
        yield from _texts(node.body)
        yield from _texts(node.orelse)


def sentences() -> list[str]:
    found: set[str] = set()
    for path in FILTERS.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in MAKERS and len(node.args) > MAKERS[name][0]:
                place, before = MAKERS[name]
                found.update(before + text for text in _texts(node.args[place]))
    return sorted(found)


def test_the_sentences_are_seen() -> None:
    assert len(sentences()) > 50


@pytest.mark.parametrize("sentence", sentences())
def test_sorted(sentence: str) -> None:
    rule = rule_of(sentence)
    assert rule in known_rules()
    assert (rule == "RW100") == (sentence in OTHERS), f"give it to a rule in told.py: {sentence}"
