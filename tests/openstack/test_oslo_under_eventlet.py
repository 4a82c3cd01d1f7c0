"""oslo.rootwrap's own test of its client in a monkey-patched process, against the bridge."""

from tests.functional.test_bridge import command
from tests.real_daemon import Daemon
from tests.unit.client.programs import run_program

PROGRAM = """
    import os, sys, unittest
    os.environ["TEST_EVENTLET"] = "1"
    from oslo_rootwrap import client
    from oslo_rootwrap.tests import test_functional_eventlet

    class BridgeTest(test_functional_eventlet.RootwrapDaemonTest):
        def setUp(self):
            super().setUp()
            self.client = client.Client(sys.argv[1:])

    result = unittest.TestResult()
    BridgeTest("test_eventlet_threads").run(result)
    print(result.testsRun, result.errors, result.failures)
    """


def test_greenthreads_and_their_timeouts(daemon: Daemon) -> None:
    assert run_program(PROGRAM, *command(daemon)) == "1 [] []\n"
