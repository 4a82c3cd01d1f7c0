"""What really is loaded, with eventlet installed: the walls again, beyond this package's own imports."""

import subprocess
import sys
from collections.abc import Set
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytest.importorskip("eventlet", reason="without eventlet installed nothing could load it")


def _loaded_by(statement: str) -> Set[str]:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", f"{statement}; import sys; print(*sys.modules, sep='\\n')"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.split())


def _of(loaded: Set[str], *names: str) -> list[str]:
    """What of `loaded` is one of `names` or lies below it."""
    return sorted(module for module in loaded if any(f"{module}.".startswith(f"{name}.") for name in names))


def _oslo(loaded: Set[str]) -> list[str]:
    return sorted(module for module in loaded if module.startswith("oslo"))


NOT_IN_THE_DAEMON = (
    "eventlet",
    "greenlet",
    "asyncio",
    "rich",
    "yaml",
    "oslo_privsep.daemon",
    "oslo_privsep.priv_context",
    "rootwrap_daemon.client",
)


def test_the_daemon_when_imported() -> None:
    loaded = _loaded_by("import rootwrap_daemon.daemon.main, rootwrap_daemon.daemon.serve.main")
    assert _of(loaded, "oslo_config.cfg"), "the test does not see what is loaded"
    assert not _of(loaded, *NOT_IN_THE_DAEMON)


def test_the_daemon_when_started() -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-X", "importtime", "-m", "rootwrap_daemon.daemon.main", "--help"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if "|" in line}
    assert _of(loaded, "rootwrap_daemon.config"), "the test does not see what is loaded"
    assert not _of(loaded, *NOT_IN_THE_DAEMON)


def test_the_client() -> None:
    loaded = _loaded_by("from rootwrap_daemon.client import Client")
    assert _of(loaded, "rootwrap_daemon.client.threads")
    assert not _oslo(loaded)
    assert not _of(loaded, "eventlet", "greenlet", "asyncio", "rootwrap_daemon.client.green")


def test_the_green_client() -> None:
    loaded = _loaded_by("from rootwrap_daemon.client.green import Client")
    assert _of(loaded, "eventlet")
    assert not _oslo(loaded)
