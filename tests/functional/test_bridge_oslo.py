"""oslo.rootwrap's own functional tests, as far as they go through a client, against the bridge."""

import re
import unittest
from pathlib import Path

import pytest
from oslo_rootwrap import client
from oslo_rootwrap.tests import test_functional

from tests.functional.test_bridge import command
from tests.real_daemon import Daemon, NewDaemon

#: Why a test cannot pass here.
CANNOT = {
    "test_daemon_timeout": "it ends an idle daemon; the bridge has no privilege, and ends with its parent"
}
NAMES = sorted(name for name in dir(test_functional.RootwrapDaemonTest) if name.startswith("test_"))


def make_test(name: str, new_daemon: NewDaemon) -> unittest.TestCase:
    """This test of theirs, with a daemon that has its filters, and the bridge as its command."""

    class BridgeTest(test_functional.RootwrapDaemonTest):
        def setUp(self) -> None:
            super().setUp()  # type: ignore[no-untyped-call]
            config = Path(self.config_file)
            filters = (config.parent / "filters.d" / "test.filters").read_text()
            exec_dirs = re.findall(r"(?m)^exec_dirs=(.*)$", config.read_text())[0]
            daemon: Daemon = new_daemon(filters, exec_dirs=exec_dirs)
            self.client = client.Client(command(daemon))

    return BridgeTest(name)


@pytest.mark.root
# Of a thread of theirs that reads the standard error of a process whose pipes are closed.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("name", NAMES)
def test_against_the_bridge(new_daemon: NewDaemon, name: str) -> None:
    if name in CANNOT:
        pytest.skip(CANNOT[name])
    result = unittest.TestResult()
    make_test(name, new_daemon).run(result)
    assert (result.errors, result.failures, result.skipped) == ([], [], [])
    assert result.testsRun == 1


def test_there_are_such_tests() -> None:
    assert len(NAMES) >= 13
    assert set(CANNOT) < set(NAMES)
