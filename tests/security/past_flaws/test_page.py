"""Hold the page of past flaws and their attacks together."""

import re
from pathlib import Path

import pytest

from tests.security.past_flaws.attack import ROOT_OF_TREE

PAGE = ROOT_OF_TREE / "doc" / "source" / "contributor" / "past-flaws.rst"
KNOWN = ROOT_OF_TREE.parent / "shared" / "known-flaws.md"

_ID = r"[ABC]\d+|CVE-\d{4}-\d+"


def rows() -> dict[str, str]:
    """The rows of the page: an id on a line of its own, and what is indented below it."""
    found = re.findall(rf"^({_ID})\n((?:    .*\n|\n(?=    ))+)", PAGE.read_text(), re.MULTILINE)
    assert len(dict(found)) == len(found)
    return dict(found)


def attacks() -> dict[str, set[str]]:
    """The tests beside this file by the id in their names."""
    found: dict[str, set[str]] = {}
    for path in Path(__file__).parent.glob("test_*.py"):
        for name in re.findall(r"^def (test_\w+)", path.read_text(), re.MULTILINE):
            if match := re.match(r"test_([ABC]\d+|CVE_\d{4}_\d+)_", name):
                found.setdefault(match[1].replace("_", "-"), set()).add(name)
    return found


def test_page_and_tests_carry_the_same_ids() -> None:
    named = {}
    for row, text in rows().items():
        assert re.fullmatch(r"    :Was: .+    :Here: .+    :Test: .+", text, re.DOTALL), row
        test = text.partition(":Test: ")[2]
        named[row] = set(re.findall(r"``(test_\w+)``", test))
        assert bool(named[row]) is not test.startswith("none: "), row
    assert {row: tests for row, tests in named.items() if tests} == attacks()


def test_tests_that_the_page_names_elsewhere_exist() -> None:
    for file, name in re.findall(r"``(tests/[\w/]+\.py)::(test_\w+)``", PAGE.read_text()):
        assert f"\ndef {name}(" in (ROOT_OF_TREE / file).read_text(), f"{file}::{name}"


def test_every_known_flaw_has_its_row() -> None:
    if not KNOWN.exists():
        pytest.skip("../shared/known-flaws.md is not here: it comes with the project")
    text = KNOWN.read_text()
    first = text.partition("### 1A")[2].partition("### 1D")[0]
    ids = set(re.findall(r"^\| ([ABC]\d+) \|", first, re.MULTILINE))
    assert len(ids) > 60
    assert {row for row in rows() if not row.startswith("CVE")} == ids
    advisories = set(re.findall(r"CVE-\d{4}-\d+", text.partition("\n## 2")[2].partition("\n---")[0]))
    assert len(advisories) > 30
    assert advisories - set(re.findall(r"CVE-\d{4}-\d+", PAGE.read_text())) == set()
