"""Every code that a fault can have belongs to a rule, and a rule that reports has a code."""

import ast
import re
from pathlib import Path
from typing import get_args

from rootwrap_daemon.filters.read.fault import Code
from rootwrap_daemon.lint.check import judge, known_rules
from rootwrap_daemon.lint.reported import RULE_OF
from rootwrap_daemon.lint.subject import Subject, read_filters

PACKAGE = Path(__file__).parents[3] / "rootwrap_daemon"


def raised() -> set[str]:
    """The codes that stand in the code as a string, where a fault or finding is made."""
    found: set[str] = set()
    folders = [path for name in ("filters", "policy", "lint") for path in (PACKAGE / name).rglob("*.py")]
    for path in (*folders, PACKAGE / "config.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                values = (*node.args[:4], *(keyword.value for keyword in node.keywords))
                found |= {str(value.value) for value in values if isinstance(value, ast.Constant)}
    return found & set(get_args(Code))


def test_each_code_has_a_rule_and_is_raised() -> None:
    assert set(RULE_OF) == set(get_args(Code)) == raised()
    assert set(RULE_OF.values()) <= set(known_rules())


def test_each_rule_that_reports_has_a_code() -> None:
    reporting = {
        name
        for path in (PACKAGE / "lint" / "rules").glob("*.py")
        for name in re.findall(r'reported\.of_\w+\(subject, "(RW\d+)"', path.read_text())
    }
    # These look for themselves, and say what the daemon would.
    assert set(RULE_OF.values()) - reporting == {"RW117", "RW203", "RW204", "RW207", "RW311"}
    assert reporting <= set(RULE_OF.values())


def test_a_sentence_does_not_decide() -> None:
    """A file can have any words in a message: they name no rule."""
    text = "[Filters]\nls: CommandFilter, ls, root\n[ls]\ncwd = x is not a kind of filter\n"
    assert [one.rule for one in judge(Subject((read_filters(text, "f"),)))] == ["RW301", "RW109"]
