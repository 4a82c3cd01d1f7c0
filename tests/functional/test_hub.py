"""An eventlet hub goes on while commands run, patched or not."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.real_daemon import Daemon

HUB = Path(__file__).with_name("hub.py")


def run_hub(way: str, daemon: Daemon) -> dict[str, Any]:
    """100 greenthreads in a process of their own: patching cannot be undone."""
    done = subprocess.run(
        [sys.executable, HUB, way, daemon.socket], capture_output=True, text=True, check=True
    )
    report: dict[str, Any] = json.loads(done.stdout)
    print(f"{way:10} total {report['total']:.2f} s, largest stall {report['stall'] * 1000:.0f} ms")
    return report


@pytest.mark.parametrize("way", ["patched", "green", "subprocess"])
def test_hundred_at_once(daemon: Daemon, way: str) -> None:
    report = run_hub(way, daemon)
    assert (report["codes"], report["calls"]) == ([0], 100)
    # Side by side, not one after the other: that would take 20 s.
    assert report["total"] < 10
