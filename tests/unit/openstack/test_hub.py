"""What keeps a hub going loads nothing that is not there, and leaves nothing behind."""

import subprocess
import sys

from tests.unit.client.programs import ROOT, run_program


def test_what_a_call_gave_is_given_back_where_nobody_waits_any_more() -> None:
    program = """
        import os, threading
        import eventlet
        from eventlet.patcher import original
        from rootwrap_daemon.openstack import hub
        time = original("time")
        before = len(os.listdir("/proc/self/fd"))
        go_on, back = original("threading").Event(), []

        def slow():
            go_on.wait(60)
            return "thing"

        def fails():
            go_on.wait(60)
            raise OSError

        eventlet.sleep(0)
        for call in (slow, fails):
            with eventlet.Timeout(0.05, False):
                hub.aside(call, back.append)
        go_on.set()
        end = time.monotonic() + 60
        while not back and time.monotonic() < end:
            time.sleep(0.01)
        assert hub.aside(lambda: 1, back.append) == 1
        try:
            hub.aside(fails, back.append)
        except OSError:
            print(back)
        # That of the hub itself, and no pipe.
        print(len(os.listdir("/proc/self/fd")) - before <= 1)
        """
    assert run_program(program) == "['thing']\nTrue\n"


def test_an_error_is_in_no_circle() -> None:
    program = """
        import gc, weakref
        import eventlet
        from rootwrap_daemon.openstack import hub

        class Gone(Exception):
            pass

        def fails():
            raise Gone

        eventlet.sleep(0)
        gc.disable()
        try:
            hub.aside(fails)
        except Gone as error:
            left = weakref.ref(error)
        # The native thread ends at its own time.
        for _ in range(6000):
            if left() is None:
                break
            eventlet.sleep(0.01)
        print(left())
        """
    assert run_program(program) == "None\n"


def test_loads_no_event_loop_and_no_oslo() -> None:
    for module in ("agent", "client", "bridge"):
        done = subprocess.run(
            [sys.executable, "-c", f"import rootwrap_daemon.openstack.{module}, sys; print(*sys.modules)"],
            capture_output=True,
            text=True,
            check=True,
            cwd=ROOT,
        )
        loaded = {name.partition(".")[0] for name in done.stdout.split()}
        assert not {
            name for name in loaded if name.startswith(("eventlet", "greenlet", "asyncio", "oslo"))
        }, module
