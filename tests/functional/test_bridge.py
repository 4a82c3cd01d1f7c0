"""oslo.rootwrap's own client, unchanged, and hostile ones, talk to `rootwrap-bridge`."""

import contextlib
import json
import os
import resource
import signal
import socket
import struct
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from multiprocessing import AuthenticationError, connection
from multiprocessing.managers import RemoteError
from pathlib import Path
from typing import Any

import pytest
from oslo_rootwrap import client as oslo_client

from rootwrap_daemon.openstack import bridge
from tests.processes import together
from tests.real_daemon import Daemon, is_alive, wait_for
from tests.unit.client.programs import run_program


def command(daemon: Daemon) -> list[str]:
    """What an administrator gives as root_helper_daemon."""
    return [
        sys.executable,
        "-c",
        "from rootwrap_daemon.openstack.bridge import main; main()",
        "--socket",
        daemon.socket,
    ]


@contextlib.contextmanager
def oslo(daemon: Daemon) -> Iterator[Any]:
    client: Any = oslo_client.Client(command(daemon))
    try:
        yield client
    finally:
        if client._initialized:
            client._finalize()
            client._process.stdin.close()
            client._process.wait(60)


@contextlib.contextmanager
def started(daemon: Daemon) -> Iterator[tuple["subprocess.Popen[bytes]", str, bytes]]:
    """A bridge, the path of its socket and its key."""
    with subprocess.Popen(command(daemon), stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        path = process.stdout.readline().rstrip(b"\n").decode()
        yield process, path, process.stdout.read(32)
        # Its end: it takes its directory away.
        process.terminate()


def connected(path: str, key: bytes) -> tuple[socket.socket, Any]:
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(60)
    sock.connect(path)
    channel: Any = bridge.Channel(sock)
    connection.answer_challenge(channel, key)
    connection.deliver_challenge(channel, key)
    return sock, channel


def ended(sock: socket.socket) -> bool:
    """True if the bridge closed this connection and said nothing more."""
    with contextlib.suppress(ConnectionError):
        return sock.recv(1) == b""
    return True


class TestOslosClient:
    def test_results(self, daemon: Daemon) -> None:
        with oslo(daemon) as client:
            assert client.execute(["sh", "-c", "cat; echo err >&2; exit 3"], "in") == [3, "in", "err\n"]
            assert client.execute(["cat"], stdin=b"bytes\xff") == [0, "bytes\udcff", ""]
            assert client.execute(["sh", "-c", "kill -9 $$"]) == [-9, "", ""]
            assert client.execute(["unheard-of"]) == [99, "", ""]
            big = "\0\u00e9" * 500_000
            assert client.execute(["cat"], big) == [0, big, ""]

    def test_an_error_is_an_error_and_the_next_call_works(self, daemon: Daemon) -> None:
        with oslo(daemon) as client:
            with pytest.raises(RemoteError, match="bad_request"):
                client.execute([])
            assert client.execute(["true"])[0] == 0

    def test_several_clients_at_once(self, daemon: Daemon) -> None:
        """Each waits for the file that the next one makes: one at a time they would never end."""
        files = [daemon.directory / f"file{n}" for n in range(6)]
        results: list[Any] = []

        def call(index: int) -> None:
            with oslo(daemon) as client:
                mine, other = files[index], files[(index + 1) % len(files)]
                results.append(
                    client.execute(["sh", "-c", f"touch {mine}; until [ -e {other} ]; do sleep 0.05; done"])
                )

        together(threading.Thread(target=call, args=(n,)) for n in range(len(files)))
        assert results == [[0, "", ""]] * len(files)

    def test_several_connections_of_one_bridge_at_once(self, daemon: Daemon) -> None:
        with started(daemon) as (_, path, key):
            channels = []
            for n in range(3):
                _, channel = connected(path, key)
                channel.send_bytes(json.dumps([None, "accept_connection", [f"t{n}"], {}]).encode())
                assert json.loads(channel.recv_bytes(1000)) == ["#RETURN", None]
                channels.append(channel)
            for n, channel in enumerate(channels):
                mine, other = daemon.directory / f"f{n}", daemon.directory / f"f{(n + 1) % 3}"
                script = f"touch {mine}; until [ -e {other} ]; do sleep 0.05; done"
                request = ["rootwrap", "run_one_command", [["sh", "-c", script]], {}]
                channel.send_bytes(json.dumps(request).encode())
            assert [json.loads(channel.recv_bytes(1000)) for channel in channels] == [
                ["#RETURN", [0, "", ""]]
            ] * 3

    def test_under_eventlet(self, daemon: Daemon) -> None:
        program = """
            import sys
            import eventlet
            eventlet.monkey_patch()
            import oslo_rootwrap
            oslo_rootwrap._patched_socket = True
            from oslo_rootwrap import client
            made = client.Client(sys.argv[1:])
            call = lambda n: made.execute(["sh", "-c", f"echo {n}"])[1]
            print(list(eventlet.GreenPool().imap(call, range(5))))
            """
        assert run_program(program, *command(daemon)) == f"{[f'{n}' + chr(10) for n in range(5)]}\n"


class TestItsEnd:
    def gone(self, process: "subprocess.Popen[bytes]", path: str) -> None:
        assert process.wait(60) == 0
        assert not os.path.exists(os.path.dirname(path))

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_by_signal(self, daemon: Daemon, number: int) -> None:
        with started(daemon) as (process, path, _):
            process.send_signal(number)
            self.gone(process, path)

    def test_by_its_standard_input(self, daemon: Daemon) -> None:
        with started(daemon) as (process, path, _):
            assert process.stdin is not None
            process.stdin.close()
            self.gone(process, path)

    def test_with_its_parent(self, daemon: Daemon) -> None:
        program = """
            import subprocess, sys, os
            made = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
            print(made.pid, made.stdout.readline().decode().strip(), flush=True)
            os._exit(0)
            """
        pid, path = run_program(program, *command(daemon)).split()
        wait_for(lambda: not is_alive(int(pid)))
        wait_for(lambda: not os.path.exists(os.path.dirname(path)))

    def test_what_runs_is_answered_first(self, daemon: Daemon) -> None:
        with oslo(daemon) as client:
            client.execute(["true"])
            started, path = daemon.directory / "started", client._manager.address
            results: list[Any] = []
            thread = threading.Thread(
                target=lambda: results.append(
                    client.execute(["sh", "-c", f"touch {started}; sleep 1; echo done"])
                )
            )
            thread.start()
            wait_for(started.exists)
            client._process.send_signal(signal.SIGTERM)
            thread.join(60)
            assert results == [[0, "done\n", ""]]
            self.gone(client._process, path)

    def test_nothing_runs_on_for_a_parent_that_is_gone(self, daemon: Daemon) -> None:
        pid_file = daemon.directory / "pid"
        program = """
            import os, sys, threading, time
            from oslo_rootwrap import client
            made = client.Client(sys.argv[2:])
            cmd = ["sh", "-c", f"echo $$ > {sys.argv[1]}; exec sleep 1000"]
            threading.Thread(target=made.execute, args=(cmd,)).start()
            while not (os.path.exists(sys.argv[1]) and open(sys.argv[1]).read()):
                time.sleep(0.01)
            os._exit(0)
            """
        run_program(program, pid_file, *command(daemon))
        wait_for(lambda: not is_alive(int(pid_file.read_text())))


class TestHostilePeers:
    def test_only_its_user_finds_it(self, daemon: Daemon) -> None:
        with started(daemon) as (_, path, _):
            assert os.stat(path).st_mode & 0o777 == 0o600
            assert os.stat(os.path.dirname(path)).st_mode & 0o777 == 0o700

    @pytest.mark.root
    def test_another_user_hears_nothing(self, daemon: Daemon) -> None:
        """Even through a directory and a socket that somebody opened for all, and with the key."""
        program = """
            import os, socket, sys
            os.setresuid(61111, 61111, 61111)
            with socket.socket(socket.AF_UNIX) as sock:
                sock.settimeout(60)
                sock.connect(sys.argv[1])
                print(sock.recv(1000))
            """
        with started(daemon) as (_, path, _):
            os.chmod(os.path.dirname(path), 0o755)
            os.chmod(path, 0o666)
            assert run_program(program, path) == "b''\n"

    def test_without_the_key(self, daemon: Daemon) -> None:
        with started(daemon) as (_, path, _):
            with pytest.raises(AuthenticationError):
                connected(path, b"x" * 32)
            self.answers_others(path, daemon)

    def answers_others(self, path: str, daemon: Daemon) -> None:
        with oslo(daemon) as client:
            assert client.execute(["true"])[0] == 0

    @pytest.mark.parametrize("length", [257, 1 << 33, (1 << 64) - 1])
    def test_a_frame_that_is_too_long_before_the_handshake(self, daemon: Daemon, length: int) -> None:
        with started(daemon) as (process, path, _):
            sock = socket.socket(socket.AF_UNIX)
            sock.settimeout(60)
            sock.connect(path)
            sock.recv(1000)
            sock.sendall(struct.pack("!Q", length))
            assert ended(sock)
            assert process.poll() is None

    def test_a_frame_that_is_too_long_after_it(self, daemon: Daemon) -> None:
        with started(daemon) as (process, path, key):
            before = self.memory(process.pid)
            sock, _ = connected(path, key)
            sock.sendall(struct.pack("!Q", 1 << 33))
            assert ended(sock)
            # A length in bounds is not allocated either before its bytes come.
            sock, _ = connected(path, key)
            sock.sendall(struct.pack("!Q", bridge._MAX_REQUEST))
            time.sleep(0.3)
            assert self.memory(process.pid) - before < 64 * 1024

    def memory(self, pid: int) -> int:
        """Virtual, in KiB."""
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024

    @pytest.mark.parametrize(
        "request_",
        [
            b"\x80\x04cos\nsystem\n",
            b"{}",
            b"[" * 100_000,
            b'{"__bytes__": "!"}',
            b"[]",
            b'[null, "shutdown", [], {}]',
            b'[null, "get_methods", ["rootwrap"], {}]',
            b'[null, "debug_info", [], {}]',
            b'[null, "number_of_objects", [], {}]',
            b'[null, "create", ["rootwrap", "x"], {}]',
            b'[null, "create", ["dict"], {}]',
            b'[null, "create", ["rootwrap"], {"x": 1}]',
            b'["rootwrap", "run_one_command", [["true"]], {}]',
            b'[null, ["create"], [], {}]',
        ],
        ids=lambda data: data[:40],
    )
    def test_what_the_client_never_asks_of_the_manager(self, daemon: Daemon, request_: bytes) -> None:
        with started(daemon) as (process, path, key):
            sock, channel = connected(path, key)
            channel.send_bytes(request_)
            assert ended(sock)
            assert process.poll() is None

    @pytest.mark.parametrize(
        ("name", "arguments"),
        [
            ("cancel_timer", []),
            ("prepare_timer", []),
            ("handle_timeout", []),
            ("__init__", []),
            ("_stop", []),
            ("#GETVALUE", []),
            ("shutdown", [1]),
            ("run_one_command", []),
            ("run_one_command", ["true"]),
            ("run_one_command", [["true", 1]]),
            ("run_one_command", [{"a": 1}]),
            ("run_one_command", [["true"], 1]),
            ("run_one_command", [["true"], None, None]),
        ],
    )
    def test_what_else_is_no_method(self, daemon: Daemon, name: str, arguments: list[Any]) -> None:
        with started(daemon) as (_, path, key):
            _, channel = connected(path, key)
            channel.send_bytes(json.dumps([None, "accept_connection", ["t"], {}]).encode())
            channel.recv_bytes(1000)
            channel.send_bytes(json.dumps(["rootwrap", name, arguments, {}]).encode())
            kind, text = json.loads(channel.recv_bytes(10_000))
            assert kind == "#TRACEBACK"
            assert text.startswith("bad_request")
            channel.send_bytes(json.dumps(["rootwrap", "run_one_command", [["true"]], {}]).encode())
            assert json.loads(channel.recv_bytes(1000)) == ["#RETURN", [0, "", ""]]
        assert all(record.get("argv") != ["true", 1] for record in daemon.audit())


def test_without_descriptors_others_wait(daemon: Daemon) -> None:
    """It lives on, and takes them once it has some again."""
    with started(daemon) as (process, path, key):
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (20, 20))
        held = []
        for _ in range(40):
            held.append(socket.socket(socket.AF_UNIX))
            held[-1].connect(path)
        wait_for(lambda: len(os.listdir(f"/proc/{process.pid}/fd")) == 20)
        for one in held:
            one.close()
        sock, _ = connected(path, key)
        sock.close()
        assert process.poll() is None


def test_a_call_without_descriptors_is_an_error(daemon: Daemon) -> None:
    """Its connection goes on: once there are some again, the next call works."""
    with started(daemon) as (process, path, key):
        sock, channel = connected(path, key)
        channel.send_bytes(json.dumps([None, "accept_connection", ["t"], {}]).encode())
        assert json.loads(channel.recv_bytes(1000)) == ["#RETURN", None]
        used = len(os.listdir(f"/proc/{process.pid}/fd"))
        request = json.dumps(["rootwrap", "run_one_command", [["true"]], {}]).encode()
        limits = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (used, limits[1]))
        channel.send_bytes(request)
        kind, text = json.loads(channel.recv_bytes(1000))
        assert (kind, text) == ("#TRACEBACK", "busy: true: no socket can be made: Too many open files")
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, limits)
        channel.send_bytes(request)
        assert json.loads(channel.recv_bytes(1000)) == ["#RETURN", [0, "", ""]]
        sock.close()


def test_what_a_killed_one_left_is_cleared_up(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(daemon.directory))
    with started(daemon) as (process, path, _):
        process.kill()
        process.wait()
    left = Path(path).parent
    assert left.exists()
    foreign = daemon.directory / "rootwrap-bridge-x"
    foreign.symlink_to("/etc")
    with started(daemon) as (_, lives, _):
        # It may be one that is about to listen.
        assert left.exists()
        for one in (left, Path(lives).parent):
            os.utime(one, (0, 0))
        with started(daemon):
            assert not left.exists()
            assert Path(lives).exists()
    assert foreign.is_symlink()


PAGE = Path(__file__).parents[2] / "doc/source/user/openstack.rst"


def test_nova_and_cinder(daemon: Daemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They begin each command with `sudo` and a rootwrap: the program of that name is the page's."""
    lines = PAGE.read_text().partition("    #!/bin/sh\n    # sudo for nova")
    script = textwrap.dedent(lines[1] + lines[2].partition("\n\n")[0])
    (tmp_path / "sudo").write_text(script)
    (tmp_path / "sudo").chmod(0o755)
    for name in ("rootwrap-exec", "rootwrap-bridge"):
        (tmp_path / name).symlink_to(Path(sys.executable).with_name(name))
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("ROOTWRAP_DAEMON_SOCKET", daemon.socket)
    for words in (["cinder-rootwrap", "/etc/cinder/rootwrap.conf", "id", "-u"], ["id", "-u"]):
        assert subprocess.run(["sudo", *words], check=True, capture_output=True, text=True).stdout == "0\n"
    asked = ["sudo", "nova-rootwrap", "/etc/nova/rootwrap.conf", "reboot"]
    assert subprocess.run(asked, check=False, capture_output=True).returncode == 99
    client: Any = oslo_client.Client(["sudo", "nova-rootwrap-daemon", "/etc/nova/rootwrap.conf"])
    assert list(client.execute(["id", "-u"])) == [0, "0\n", ""]
    client._finalize()
    client._process.stdin.close()
    client._process.wait(60)
