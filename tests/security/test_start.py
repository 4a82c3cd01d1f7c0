"""What a user can hand to a daemon that sudo or the like starts for it: environment, limits, descriptor 0."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.real_daemon import ROOT, START, NewDaemon

CONSOLE = [sys.executable, "-c", "from rootwrap_daemon.daemon.start import console; console()"]


@pytest.mark.parametrize("command", [START, CONSOLE], ids=["module", "console"])
def test_openssl_is_not_configured_by_the_starter(
    new_daemon: NewDaemon, tmp_path: Path, command: list[str]
) -> None:
    """OPENSSL_CONF names shared objects to load; neither sudo without env_reset nor ld.so takes it away.

    Whoever opens this file waits for ever: it is a FIFO.
    """
    os.mkfifo(tmp_path / "openssl.cnf")
    daemon = new_daemon(start=False)
    inside = [] if ROOT else ["unshare", "--user", "--map-root-user"]
    done = subprocess.run(
        [*inside, *command, "--config-file", str(daemon.config), "--check"],
        env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "OPENSSL_CONF": str(tmp_path / "openssl.cnf")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, "10 filters" in done.stdout) == (0, True), done.stderr
