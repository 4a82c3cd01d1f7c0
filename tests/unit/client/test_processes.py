"""Forks, exits and signals of the agent's process."""

import threading
from pathlib import Path

from tests.unit.client.fake_daemon import PATIENCE, FakeDaemon, Peer
from tests.unit.client.programs import run_program


def test_what_an_agent_pays_for() -> None:
    """What the import loads that was not there before; each of these costs milliseconds."""
    out = run_program("""
        import sys
        before = set(sys.modules)
        import rootwrap_daemon.client
        loaded = set(sys.modules) - before
        unwanted = "eventlet greenlet asyncio oslo logging concurrent pathlib tempfile shutil json urllib"
        unwanted += " email http multiprocessing ssl argparse ctypes random hashlib uuid pickle importlib"
        print([name for name in sorted(loaded) if name.split(".")[0].split("_")[0] in unwanted.split()])
        print("rootwrap_daemon.client.threads" in loaded)
    """)
    assert out == "[]\nTrue\n"


def test_a_forked_child_begins_without_connections(daemon: FakeDaemon, path: Path) -> None:
    out = run_program(
        """
        import os, stat, sys
        from rootwrap_daemon.client import Client

        def sockets():
            count = 0
            for fd in os.listdir("/proc/self/fd"):
                try:
                    count += stat.S_ISSOCK(os.fstat(int(fd)).st_mode)
                except OSError:
                    pass
            return count

        client = Client(sys.argv[1], connect_timeout=60)
        print("parent", client.run(["echo", "1"]).stdout, sockets(), flush=True)
        pid = os.fork()
        if not pid:
            print("child", sockets(), flush=True)
            print("child", client.run(["echo", "2"]).stdout, sockets(), flush=True)
            os._exit(0)
        os.waitpid(pid, 0)
        print("parent", client.run(["echo", "3"]).stdout, sockets(), flush=True)
        client.close()
        if not os.fork():
            try:
                client.run(["echo", "4"])
            except Exception as error:
                print("child", error, flush=True)
            os._exit(0)
        os.wait()
        """,
        path,
    )
    assert out.splitlines() == [
        "parent b'1' 1",
        "child 0",
        "child b'2' 1",
        "parent b'3' 1",
        "child echo: this client is closed",
    ]
    assert [number for number, _ in daemon.requests] == [1, 2, 1]


def test_a_child_does_not_keep_its_parents_commands_alive(daemon: FakeDaemon, path: Path) -> None:
    """A parent that is killed while a command runs, with a child of its own still there."""
    went = False

    def watch() -> None:
        nonlocal went
        went = daemon.began.acquire(timeout=PATIENCE) and daemon.went.acquire(timeout=PATIENCE)
        (path.parent / "went").touch()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    out = run_program(
        """
        import os, sys, threading, time
        from rootwrap_daemon.client import Client
        if not os.fork():
            # The parent: ends itself once its command runs and its child is there.
            client = Client(sys.argv[1], connect_timeout=60)
            threading.Thread(target=client.run, args=(["wait"],), daemon=True).start()
            while not os.path.exists(sys.argv[3]):
                time.sleep(0.01)
            read, write = os.pipe()
            if os.fork():
                os.read(read, 1)
                os.kill(os.getpid(), 9)
            os.write(write, b"x")
            while not os.path.exists(sys.argv[2]):
                time.sleep(0.01)
            print("child saw the end", flush=True)
            os._exit(0)
        os.wait()
        """,
        path,
        path.parent / "went",
        path.parent / "began",
    )
    thread.join()
    assert went
    assert out == "child saw the end\n"


def test_an_exit_makes_no_noise(daemon: FakeDaemon, path: Path) -> None:
    """With idle connections, a command running in a daemon thread, and nothing closed."""
    for front_end in ("threads", "green"):
        (path.parent / "began").unlink(missing_ok=True)
        out = run_program(
            f"""
            import os, sys, threading, time
            from rootwrap_daemon.client.{front_end} import Client
            client = Client(sys.argv[1], connect_timeout=60)
            client.run(["echo"])
            threading.Thread(target=client.run, args=(["wait"],), daemon=True).start()
            while not os.path.exists(sys.argv[2]):
                time.sleep(0.01)
            client.run(["echo"])
            print("done")
            """,
            path,
            path.parent / "began",
        )
        assert out == "done\n"
        assert daemon.went.acquire(timeout=PATIENCE)


def test_sigpipe_by_default_kills_nobody(daemon: FakeDaemon, path: Path) -> None:
    """Some programs give SIGPIPE its default action back; a daemon that takes no more must not end them."""

    def refuse(peer: Peer) -> None:
        peer.sock.recv(8)
        peer.takes_no_more()

    daemon.script = refuse
    out = run_program(
        """
        import signal, sys
        from rootwrap_daemon.client import Client, DaemonUnavailable
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        try:
            Client(sys.argv[1], connect_timeout=60).run(["cat"], input=b"x" * 8_000_000)
        except DaemonUnavailable:
            print("alive")
        """,
        path,
    )
    assert out == "alive\n"
