"""The walls of `.importlinter` stand, and each of them would be noticed if it fell."""

import graphlib
import shutil
import subprocess
import sys
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[2]
LINT = (
    "from importlinter.cli import lint_imports; raise SystemExit(lint_imports(no_cache=True, no_logo=True))"
)


def _lint(directory: Path) -> subprocess.CompletedProcess[str]:
    # A process of its own: import-linter keeps what it has read of a package.
    return subprocess.run(
        [sys.executable, "-c", LINT], cwd=directory, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package and its contracts in another place; a test gives back what it changes there."""
    place = tmp_path_factory.mktemp("copy")
    without = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "rootwrap_daemon", place / "rootwrap_daemon", ignore=without)
    shutil.copy(ROOT / ".importlinter", place)
    return place


def test_contracts_are_kept() -> None:
    done = _lint(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("errors", "import rootwrap_daemon.protocol", "Imports go down only"),
        ("filters/values", "import rootwrap_daemon.protocol.messages", "Imports go down only"),
        ("policy/policy", "import rootwrap_daemon.client.core", "Imports go down only"),
        ("daemon/serve/session", "from rootwrap_daemon.daemon.start import systemd", "A daemon starts"),
        ("daemon/run/command", "import rootwrap_daemon.daemon.serve.connection", "A daemon starts"),
        ("daemon/record/audit", "import rootwrap_daemon.daemon.run.instance", "A daemon starts"),
        ("daemon/request", "import rootwrap_daemon.daemon.record.sinks", "A daemon starts"),
        (
            "daemon/run/command",
            "import typing\nif typing.TYPE_CHECKING: import rootwrap_daemon.daemon.serve.server",
            "A daemon starts",
        ),
        ("daemon/serve/session", "import oslo_utils.timeutils", "What serves loads no oslo library"),
        ("policy/policy", "import oslo_config.cfg", "What serves loads no oslo library"),
        ("filters/ruleset", "import rootwrap_daemon.filters.read.ini", "What serves parses no text"),
        (
            "daemon/serve/reload",
            "from rootwrap_daemon.policy.read import files",
            "What serves parses no text",
        ),
        ("daemon/serve/session", "import asyncio", "The daemon loads no event loop"),
        ("policy/policy", "import eventlet", "The daemon loads no event loop"),
        ("daemon/serve/session", "import rootwrap_daemon.client", "The daemon loads no event loop"),
        ("client/core", "import rootwrap_daemon.config", "The client reaches protocol and errors alone"),
        ("client/threads", "import oslo_log.log", "The client reaches protocol and errors alone"),
        ("filters/values", "import os.path", "Filters and protocol do no I/O"),
        ("protocol/codec", "import socket", "Filters and protocol do no I/O"),
        (
            "client/threads",
            "from eventlet import tpool",
            "Only client.green, client.hub and openstack know eventlet",
        ),
        ("client/threads", "import asyncio", "Only client.aio knows asyncio"),
        ("policy/policy", "import rich", "Only cli and lint know rich and YAML"),
        ("daemon/serve/session", "import subprocess", "Only daemon.spawn creates processes"),
        ("policy/policy", "import subprocess", "Only daemon.spawn creates processes"),
        (
            "daemon/serve/session",
            "from oslo_privsep import capabilities",
            "Only the start knows oslo_privsep",
        ),
    ],
)
def test_a_breach_is_noticed(copy: Path, module: str, line: str, contract: str) -> None:
    path = copy / "rootwrap_daemon" / f"{module}.py"
    text = path.read_text()
    path.write_text(f"{text}\n{line}\n")
    done = _lint(copy)
    path.write_text(text)
    assert done.returncode == 1, done.stdout + done.stderr
    broken = [text for text in done.stdout.splitlines() if " BROKEN" in text]
    assert any(text.startswith(contract) for text in broken), done.stdout


def test_no_circle() -> None:
    """Of all imports: those in functions and for type checkers, too."""
    graph = grimp.build_graph("rootwrap_daemon", cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    assert len(imports) > 150
    # Raises CycleError, which names the modules of the circle.
    graphlib.TopologicalSorter(imports).prepare()
