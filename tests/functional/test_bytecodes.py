"""A request costs no more bytecodes than were committed: the one figure of speed that no clock disturbs."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
#: Figures of `python -m tests.bench.bytecodes`, by version of Python. Smaller ones are to be written here.
COMMITTED = ROOT / "tests" / "bench" / "bytecodes.json"
VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"


def test_no_more_than_committed() -> None:
    committed = json.loads(COMMITTED.read_text()).get(VERSION)
    if committed is None:
        pytest.skip(f"no figures are committed for Python {VERSION}")
    # A process of its own: coverage, for one, traces, too.
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.bytecodes"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout)
    grown = {
        name: (committed[name], count) for name, count in found.items() if count > 1.05 * committed[name]
    }
    assert not grown, f"more than 5 % over {COMMITTED.relative_to(ROOT)}"
    assert found.keys() == committed.keys()
