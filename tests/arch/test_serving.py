"""What the serving process loads, counted: it is what runs with privilege for months."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]

#: What is loaded by name and file, with the lines of each file; nothing of what a developer has installed.
COUNT = """
import sys
before = set(sys.modules)
import rootwrap_daemon.daemon.serve.main, json, sysconfig
library = sysconfig.get_path("stdlib")
found = {}
for name in set(sys.modules) - before:
    path = getattr(sys.modules[name], "__file__", None) or ""
    kind = "standard" if not path or path.startswith(library) and "-packages" not in path else "other"
    kind = "own" if name.split(".")[0] == "rootwrap_daemon" else kind
    lines = len(open(path, encoding="utf-8").readlines()) if path.endswith(".py") else 0
    found[name] = [kind, lines]
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def loaded() -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-I", "-c", COUNT], cwd=ROOT, capture_output=True, text=True, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def lines(loaded: dict[str, Any], kind: str) -> int:
    return sum(count for one, count in loaded.values() if one == kind)


def test_no_library_that_reads_configuration(loaded: dict[str, Any]) -> None:
    assert "rootwrap_daemon.policy.policy" in loaded
    roots = {name.split(".")[0] for name in loaded}
    assert not {root for root in roots if root.startswith("oslo")}
    assert roots.isdisjoint({"cffi", "pycparser", "netaddr", "stevedore", "argparse", "importlib.metadata"})
    assert {name.split(".")[0] for name, (kind, _) in loaded.items() if kind == "other"} == {
        "msgpack",
        "regex",
    }


def test_nothing_of_the_start(loaded: dict[str, Any]) -> None:
    assert not [name for name in loaded if name.startswith("rootwrap_daemon.daemon.start.")]
    assert not {"rootwrap_daemon.config", "rootwrap_daemon.daemon.main"} & set(loaded)


def test_nothing_that_reads_filters(loaded: dict[str, Any]) -> None:
    assert "rootwrap_daemon.filters.kinds" in loaded
    readers = ("rootwrap_daemon.filters.read", "rootwrap_daemon.policy.read")
    assert not [name for name in loaded if name.startswith(readers)]


def test_lines_of_others(loaded: dict[str, Any]) -> None:
    assert 4000 < lines(loaded, "other") <= 6000


def test_lines_of_its_own(loaded: dict[str, Any]) -> None:
    """Let it become less; each line runs as root."""
    assert lines(loaded, "own") <= 10955
