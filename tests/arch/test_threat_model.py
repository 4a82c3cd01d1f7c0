"""Every promise of the threat model names a test that is there."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "doc/source/contributor/threat-model.rst"
PROMISES = re.findall(r"^\* (.*?)(?=^\* |^\S|\Z)", PAGE.read_text().partition("Not promised")[0], re.M | re.S)
NAMED = re.compile(r"``(tests/\S+\.py)::(\w+)``")


def test_there_are_promises() -> None:
    assert len(PROMISES) > 20


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: " ".join(promise.split())[:60])
def test_a_promise_has_its_test(promise: str) -> None:
    named = NAMED.findall(promise)
    assert named, "no test is named"
    for path, name in named:
        tree = ast.parse((ROOT / path).read_text())
        functions = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        assert name in functions, f"{path} has no {name}"
