"""Give the tests of a file one daemon, started in a dirty environment, and a directory of root's."""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.real_daemon import OVERFLOW, ROOT, Daemon
from tests.security.past_flaws.attack import DIRTY


@pytest.fixture(scope="module")
def shared() -> Iterator[Daemon]:
    """One daemon for many tests, started in a dirty environment. They give it their rules with `use`."""
    if not ROOT and subprocess.run(["unshare", "--user", "--map-root-user", "true"], check=False).returncode:
        pytest.skip("needs root, or user namespaces for plain users")
    directory = Path(tempfile.mkdtemp(prefix="rootwrap-test-"))
    directory.chmod(0o755)
    (directory / "filters.d").mkdir(mode=0o755)
    (directory / "evil").mkdir(mode=0o755)
    (directory / "evil" / "sitecustomize.py").write_text(f"open({str(directory / 'imported')!r}, 'w')")
    (directory / "evil" / "id").write_text(f"#!/bin/sh\ntouch '{directory}/path-used'\n")
    (directory / "evil" / "id").chmod(0o755)
    daemon = Daemon(
        directory,
        {
            "filters_path": str(directory / "filters.d"),
            "socket_path": str(directory / "socket"),
            "socket_mode": "0666",
            "audit_file": str(directory / "audit.jsonl"),
            "trusted_owners": "0" if ROOT else f"0, {OVERFLOW}",
            "kill_grace": "1",
            # What real files of oslo.rootwrap say.
            "rlimit_nofile": "1024",
        },
        DIRTY | {"PYTHONPATH": str(directory / "evil"), "PATH": f"{directory / 'evil'}:{os.environ['PATH']}"},
    )
    try:
        daemon.configure("[Filters]\n")
        daemon.start()
        yield daemon
    finally:
        daemon.stop(signal.SIGKILL)
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def place(shared: Daemon) -> Iterator[Path]:
    """A directory for one test in which root alone can write, from / down; pytest's own is not."""
    path = shared.directory / "place"
    path.mkdir(mode=0o755)
    yield path
    shutil.rmtree(path)
