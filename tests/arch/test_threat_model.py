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


def test_what_shows_the_promises_can_be_run() -> None:
    """The list of SECURITY.rst names files, targets of make and variables that there are."""
    text = (
        (ROOT / "SECURITY.rst").read_text().partition("What to believe")[2].partition("For administrators")[0]
    )
    paths = re.findall(r"tests/[\w/]+(?:\.(?:py|txt))?", text)
    assert len(paths) > 5
    assert [path for path in paths if not (ROOT / path).exists()] == []
    targets = re.findall(r"``make (\w+)``", text)
    assert len(targets) > 3
    assert [one for one in targets if f"\n{one}:" not in (ROOT / "Makefile").read_text()] == []
    for variable, path in re.findall(r"``(\w+)=\d+ pytest\s+(?:daemon|[^`]*?)(tests/proof/\w+\.py)", text):
        assert f'"{variable}"' in (ROOT / path).read_text()
