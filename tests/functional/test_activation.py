"""What systemd does to the daemon and hears from it: a socket handed over, READY, signs of life."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from rootwrap_daemon.daemon.serve.manager import Heart, Manager
from rootwrap_daemon.daemon.start import sockets, systemd
from rootwrap_daemon.errors import ConfigurationError
from rootwrap_daemon.policy import host
from tests.real_daemon import ROOT, START, Daemon, NewDaemon, states_of, wait_for
from tests.unit.policy import things

#: Becomes the daemon with descriptor 3 open and LISTEN_PID its own, as only the process itself can do it.
HAND_OVER = """\
import os, sys
descriptor, *command = sys.argv[1:]
if descriptor != "-":
    os.dup2(int(descriptor), 3)
os.environ["LISTEN_PID"] = os.environ.get("LISTEN_PID") or str(os.getpid())
os.execv(command[0], command)
"""


@dataclass
class Systemd:
    """Stands in for systemd: it keeps the listening socket, and hears what it is told."""

    daemon: Daemon
    listening: socket.socket
    notified: socket.socket
    messages: list[dict[str, str]] = field(default_factory=list)

    @property
    def address(self) -> str:
        name = self.notified.getsockname()
        return "@" + name[1:].decode() if isinstance(name, bytes) else name

    def hear(self) -> list[dict[str, str]]:
        """All messages so far."""
        with contextlib.suppress(BlockingIOError):
            while data := self.notified.recv(8192, socket.MSG_DONTWAIT):
                lines = data.decode().splitlines()
                self.messages.append({line.partition("=")[0]: line.partition("=")[2] for line in lines})
        return self.messages

    def heard(self, **wanted: str) -> bool:
        """True once a message has all of these."""
        return any(wanted.items() <= message.items() for message in self.hear())

    def status(self) -> str:
        """The last STATUS."""
        return next(message["STATUS"] for message in reversed(self.hear()) if "STATUS" in message)

    def run(self, environ: dict[str, str], handed: socket.socket | None = None) -> "subprocess.Popen[bytes]":
        given = handed or self.listening
        with (self.daemon.directory / "log").open("ab") as log:
            return subprocess.Popen(
                [
                    *([] if ROOT else ["unshare", "--user", "--map-root-user"]),
                    *[sys.executable, "-I", "-c", HAND_OVER, str(given.fileno())],
                    *[*START, "--config-file", str(self.daemon.config)],
                ],
                stdin=subprocess.DEVNULL,
                stderr=log,
                pass_fds=[given.fileno()],
                env={
                    "PATH": os.environ["PATH"],
                    "LC_ALL": "C.UTF-8",
                    "LISTEN_FDS": "1",
                    "LISTEN_FDNAMES": systemd.SOCKET_NAME,
                    "NOTIFY_SOCKET": self.address,
                    **environ,
                },
            )

    def start(self, **environ: str) -> None:
        """Start the daemon and wait until it is ready."""
        self.messages.clear()
        process = self.daemon.process = self.run(environ)
        self.daemon.pid = process.pid
        wait_for(lambda: self.heard(READY="1") or process.poll() is not None)
        assert process.poll() is None, self.daemon.log


#: Where it hears what it is told.
each_address = pytest.mark.parametrize("manager", ["path", "abstract"], indirect=True)


@pytest.fixture
def manager(request: pytest.FixtureRequest, new_daemon: NewDaemon) -> Iterator[Systemd]:
    daemon = new_daemon(start=False)
    with (
        socket.socket(socket.AF_UNIX) as listening,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified,
    ):
        listening.bind(daemon.socket)
        listening.listen()
        is_abstract = getattr(request, "param", "path") == "abstract"
        where = f"\0rootwrap-test-{os.getpid()}-" if is_abstract else f"{daemon.directory}/"
        notified.bind(f"{where}{daemon.directory.name}")
        yield Systemd(daemon, listening, notified)


@each_address
def test_serves_what_waits_and_leaves_the_socket(manager: Systemd) -> None:
    inode = os.stat(manager.daemon.socket).st_ino
    with manager.daemon.client() as client:
        answers: list[int] = []
        early = threading.Thread(target=lambda: answers.append(client.run(["true"]).returncode))
        early.start()
        manager.start()
        early.join(60)
        assert answers == [0]
    assert manager.messages[0]["STATUS"] == "Serving: 10 filters of generation 1"
    assert manager.daemon.stop() == 0
    assert manager.heard(STOPPING="1")
    assert os.stat(manager.daemon.socket).st_ino == inode
    # It still listens: a call that comes between two daemons waits, and is not refused.
    with manager.daemon.client() as client:
        late = threading.Thread(target=lambda: answers.append(client.run(["true"]).returncode))
        late.start()
        manager.start()
        late.join(60)
    assert answers == [0, 0]


def test_commands_get_nothing_of_it(manager: Systemd) -> None:
    manager.start(WATCHDOG_USEC="60000000")
    with manager.daemon.client() as client:
        environ = client.run(["env", "FOO=", "env"], text=True).stdout
        descriptors = client.run(["ls", "-l", "/proc/self/fd"], text=True).stdout
    assert "FOO=" in environ
    assert not any(word in environ for word in ("LISTEN", "NOTIFY", "WATCHDOG"))
    assert "socket:" not in descriptors


@each_address
def test_reload_is_told_and_a_failed_one_says_so(manager: Systemd) -> None:
    manager.start()
    manager.daemon.configure("[Filters]\nu: CommandFilter, uname, root\n")
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    assert manager.daemon.reload()
    wait_for(lambda: manager.heard(READY="1", STATUS="Serving: 1 filter of generation 2"))
    (reloading,) = [message for message in manager.messages if "RELOADING" in message]
    after = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    assert before <= int(reloading["MONOTONIC_USEC"]) <= after
    manager.daemon.configure("[Filters]\nv: What, x, root\nu: CommandFilter, uname, no-such-user\n")
    manager.messages.clear()
    assert not manager.daemon.reload()
    wait_for(lambda: manager.heard(READY="1"))
    assert manager.status().startswith("NOT reloaded, the rules of generation 2 stay in force: ")
    assert "test.filters:2:4: error: 'What' is not a kind of filter" in manager.status()
    assert "\n" not in manager.status()
    with manager.daemon.client() as client:
        assert client.run(["uname"]).returncode == 0


@each_address
def test_signs_of_life_end_with_the_main_thread(manager: Systemd) -> None:
    manager.start(WATCHDOG_USEC="400000")
    wait_for(lambda: sum("WATCHDOG" in one for one in manager.hear()) >= 3)
    os.kill(manager.daemon.pid, signal.SIGSTOP)
    # Each of its threads stops when it next comes to run.
    wait_for(lambda: states_of(manager.daemon.pid) == {"T"})
    manager.hear()
    manager.messages.clear()
    time.sleep(1)
    assert manager.hear() == []
    os.kill(manager.daemon.pid, signal.SIGCONT)
    wait_for(lambda: manager.heard(WATCHDOG="1"))


def test_no_signs_of_life_for_nobody(manager: Systemd) -> None:
    manager.start(WATCHDOG_USEC="100000", WATCHDOG_PID="1")
    time.sleep(0.5)
    assert not any("WATCHDOG" in message for message in manager.hear())


def test_a_manager_that_is_gone_is_no_matter(manager: Systemd) -> None:
    manager.start(WATCHDOG_USEC="400000")
    manager.notified.close()
    with manager.daemon.client() as client:
        time.sleep(0.6)
        assert client.run(["true"]).returncode == 0
    assert manager.daemon.stop() == 0


def test_words_for_another_process_are_not_taken(manager: Systemd) -> None:
    """Then it makes a socket of its own, as without a service manager."""
    manager.listening.close()
    os.unlink(manager.daemon.socket)
    with socket.socket() as handed:
        process = manager.daemon.process = manager.run({"LISTEN_PID": "1"}, handed)
        manager.daemon.pid = process.pid
        wait_for(lambda: manager.heard(READY="1"))
    with manager.daemon.client() as client:
        assert client.run(["true"]).returncode == 0
    assert manager.daemon.stop() == 0
    assert not os.path.exists(manager.daemon.socket)


def refused(manager: Systemd, handed: socket.socket | None = None, **environ: str) -> str:
    """Its words, as it does not start."""
    before = len(manager.daemon.log) if (manager.daemon.directory / "log").exists() else 0
    process = manager.run(environ, handed)
    assert process.wait(60) == 78
    assert not manager.heard(READY="1")
    return manager.daemon.log[before:]


def test_anything_else_is_refused(manager: Systemd) -> None:
    with tempfile.TemporaryDirectory() as directory:
        other = f"{directory}/other"
        with socket.socket(socket.AF_UNIX) as handed:
            handed.bind(other)
            assert "does not listen" in refused(manager, handed)
            handed.listen()
            assert f"listens at '{other}' and not at socket_path" in refused(manager, handed)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as handed:
            assert "no Unix stream socket" in refused(manager, handed)
        with socket.socket(socket.AF_INET) as handed:
            handed.listen()
            assert "no Unix stream socket" in refused(manager, handed)
    assert "hands over 2 sockets" in refused(manager, LISTEN_FDS="2", LISTEN_FDNAMES="a:b")
    assert "called 'web'" in refused(manager, LISTEN_FDNAMES="web")
    assert "LISTEN_FDS='-1'" in refused(manager, LISTEN_FDS="-1")
    assert "NOTIFY_SOCKET='run/x'" in refused(manager, NOTIFY_SOCKET="run/x")


def test_what_is_no_socket_is_refused(tmp_path: Path) -> None:
    settings = things.settings(tmp_path / "daemon.conf", filters_path="/", socket_path=str(tmp_path / "x"))
    with (tmp_path / "file").open("w") as file, pytest.raises(ConfigurationError, match="is no socket"):
        sockets.handed(file.fileno(), settings, host.base_owners())


def test_signs_of_life_are_sent_when_they_are_due() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified:
        notified.bind("")
        manager = Manager(notified.getsockname())
        assert Heart(manager, None).beat() == float("inf")
        heart = Heart(manager, 600)
        for _ in range(3):
            assert 0 < heart.beat() < 301
        assert notified.recv(100) == b"WATCHDOG=1"
        with pytest.raises(BlockingIOError):
            notified.recv(100, socket.MSG_DONTWAIT)


def test_status_is_one_line_of_bounded_length() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified:
        notified.bind("")
        Manager(notified.getsockname()).notify(STATUS="a\nMAINPID=1\n" + "x" * 10_000)
        data = notified.recv(65536).decode()
        assert data.startswith("STATUS=a; MAINPID=1; xxx") and "\n" not in data and len(data) < 500
