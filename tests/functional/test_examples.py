"""The smaller examples run, with the filters that they come with, as a user without privilege."""

import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.real_daemon import Daemon, NewDaemon, is_alive, wait_for

CHECKOUT = Path(__file__).parents[2]
NETNS_AGENT = CHECKOUT / "etc/rootwrap-daemon/filters.d/netns-agent.filters"
MONITOR = CHECKOUT / "examples/asyncio_monitor/monitor.filters"
#: For the test's own hands.
HANDS = "\n[Filters]\nhands: CommandFilter, ip, root\n"


@pytest.fixture(scope="module")
def rootwrap_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The client in C."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")
    program = tmp_path_factory.mktemp("minimal_c") / "rootwrap-run"
    source = CHECKOUT / "examples/minimal_c/rootwrap-run.c"
    subprocess.run([compiler, "-Wall", "-Wextra", "-Werror", "-O2", "-o", program, source], check=True)
    return program


def test_minimal_c(rootwrap_run: Path, daemon: Daemon) -> None:
    def more() -> None:
        # So that the kernel takes more from us than the daemon does: execve(2).
        resource.setrlimit(resource.RLIMIT_STACK, (1 << 26, resource.getrlimit(resource.RLIMIT_STACK)[1]))

    def run(*words: str) -> "tuple[int, str, str]":
        done = subprocess.run(
            [rootwrap_run, daemon.socket, *words],
            capture_output=True,
            text=True,
            check=False,
            preexec_fn=more,
        )
        return done.returncode, done.stdout, done.stderr

    assert run("true") == (0, "", "")
    assert run("sh", "-c", "echo out; echo err >&2; exit 3") == (3, "out\n", "err\n")
    assert run("sh", "-c", "kill -9 $$") == (137, "", "")
    code, out, err = run("rm", "x")
    assert (code, out) == (125, "")
    assert "denied: no filter allows" in err
    assert len(run("sh", "-c", "head -c 9000000 /dev/zero")[1]) == 9_000_000
    assert run("sh", "-c", "echo $#", "sh", *map(str, range(1000))) == (0, "1000\n", "")
    code, _, err = run("true", "x" * 130_000, *["y" * 130_000] * 16)
    assert (code, "too_large" in err or "bad_request" in err) == (125, True), err


def test_minimal_c_without_a_daemon(rootwrap_run: Path, tmp_path: Path) -> None:
    done = subprocess.run([rootwrap_run, tmp_path / "none", "true"], capture_output=True, check=False)
    assert done.returncode == 125
    assert b"No such file" in done.stderr


PERL = str(CHECKOUT / "examples/minimal_perl/rootwrap-run.pl")


@pytest.mark.skipif(not shutil.which("perl"), reason="no perl")
def test_minimal_perl(new_daemon: NewDaemon, tmp_path: Path) -> None:
    """A client that was written from the page of the protocol alone."""
    # What ends by SIGTERM has a minute for it.
    daemon = new_daemon(kill_grace="60")

    def run(*words: str, before: tuple[str, ...] = (), stdin: bytes = b"") -> "tuple[int, bytes, bytes]":
        argv = ["perl", PERL, *before, str(daemon.socket), *words]
        done = subprocess.run(argv, input=stdin, capture_output=True, check=False)
        return done.returncode, done.stdout, done.stderr

    assert run("true") == (0, b"", b"")
    assert run("sh", "-c", "echo out; echo err >&2; exit 3") == (3, b"out\n", b"err\n")
    assert run("sh", "-c", "kill -9 $$") == (137, b"", b"")
    assert run("sh", "-c", "cat", stdin=b"not asked for") == (0, b"", b"")
    every_byte = bytes(range(256)) * 1000
    assert run("sh", "-c", "cat", before=("--input",), stdin=every_byte) == (0, every_byte, b"")
    assert len(run("sh", "-c", "head -c 9000000 /dev/zero")[1]) == 9_000_000
    assert run("sh", "-c", "echo $#", "sh", *map(str, range(1000))) == (0, b"1000\n", b"")
    code, out, err = run("rm", "x")
    assert (code, out) == (125, b"")
    assert b"denied: no filter allows" in err
    assert b"(request " in err
    code, _, err = run("true", before=("--env", "LD_PRELOAD=x"))
    assert code == 125
    assert b"environment_denied: " in err
    code, _, err = run("sh", "-c", "sleep 1000", before=("--timeout", "0.2"))
    assert code == 125
    assert b"timeout: " in err
    code, _, err = run("sh", "-c", "head -c 900000000 /dev/zero")
    assert code == 125
    assert b"output_limit: " in err
    code, out, err = run("true", before=("--check",))
    assert (code, out[:11], err) == (0, b"allowed by ", b"")
    assert run("rm", before=("--check",)) == (1, b"denied\n", b"")
    # A signal to the client is a Cancel to the daemon, and the answer to the command follows.
    started = tmp_path / "started"
    argv = ["perl", PERL, str(daemon.socket), "sh", "-c", f"touch {started}; exec sleep 1000"]
    with subprocess.Popen(argv, stderr=subprocess.PIPE) as client:
        wait_for(started.exists)
        client.terminate()
        _, said = client.communicate(timeout=60)
    assert client.returncode == 128 + signal.SIGTERM
    assert said == b"rootwrap-run: the daemon ended the command: cancelled\n"


@pytest.mark.skipif(not shutil.which("perl"), reason="no perl")
def test_minimal_perl_without_a_daemon(tmp_path: Path) -> None:
    done = subprocess.run(["perl", PERL, tmp_path / "none", "true"], capture_output=True, check=False)
    assert done.returncode == 125
    assert b"No such file" in done.stderr


@pytest.mark.root
def test_the_demo_as_a_plain_user() -> None:
    """In a user namespace of its own, where the home of root is somebody else's."""
    if unprivileged("unshare", "--user", "--map-root-user", "--net", "--mount", "true").wait(60) != 0:
        pytest.skip("plain users cannot make namespaces here")
    with unprivileged(sys.executable, "examples/demo/demo.py") as demo:
        said, _ = demo.communicate(timeout=250)
    assert demo.returncode == 0, said
    assert "Every row is as expected." in said


@pytest.fixture
def elsewhere(new_daemon: NewDaemon) -> Daemon:
    """A daemon in a network namespace of its own, whose socket is for everybody."""
    daemon = new_daemon(
        "[Filters]\n", start=False, socket_mode="0666", allowed_users="root, 65534", drain_timeout="0.2"
    )
    daemon.inside = ["unshare", "--net", "--mount"]
    return daemon


def unprivileged(*words: "str | Path") -> "subprocess.Popen[str]":
    """A program of this checkout as nobody."""
    return subprocess.Popen(
        ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs", *words],
        cwd=CHECKOUT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.root
def test_asyncio_monitor(elsewhere: Daemon) -> None:
    elsewhere.configure(MONITOR.read_text())
    elsewhere.start()
    hands = ["nsenter", f"--net=/proc/{elsewhere.pid}/ns/net", "ip"]
    subprocess.run([*hands, *"link add name na-a type veth peer name na-b".split()], check=True)
    subprocess.run([*hands, *"link add name other-a type veth peer name other-b".split()], check=True)
    with unprivileged(
        sys.executable, "-m", "examples.asyncio_monitor", "--socket", elsewhere.socket
    ) as agent:
        assert agent.stdout is not None
        try:
            assert agent.stdout.readline() == "watching\n"
            # Down before it came.
            found = {agent.stdout.readline(), agent.stdout.readline()}
            assert found == {"na-a: set up\n", "na-b: set up\n"}
            for name in ("other-a", "na-b"):
                subprocess.run([*hands, "link", "set", "dev", name, "down"], check=True)
            assert agent.stdout.readline() == "na-b: set up\n"
            [monitor] = elsewhere.children()
            # It goes on after its daemon was away.
            elsewhere.restart()
            wait_for(lambda: not is_alive(monitor))
            assert agent.stdout.readline().startswith("not watching: ")
            while (line := agent.stdout.readline()) != "watching\n":
                assert line.startswith("not watching: ")
            agent.send_signal(signal.SIGTERM)
            assert agent.wait(60) == 0
            wait_for(lambda: not elsewhere.children())
        finally:
            agent.kill()


@pytest.mark.root
def test_threaded(elsewhere: Daemon) -> None:
    elsewhere.configure(NETNS_AGENT.read_text() + HANDS)
    elsewhere.start()
    names = [f"na-test-{os.getpid()}-{number}" for number in range(12)]
    with elsewhere.client() as client:
        try:
            for name in names:
                client.run(["ip", "netns", "add", name], check=True)
            with unprivileged(
                sys.executable, "-m", "examples.threaded", "--socket", elsewhere.socket
            ) as program:
                assert program.stdout is not None
                said = program.stdout.read()
            assert program.returncode == 0, said
            for name in names:
                assert f"{name}: lo DOWN\n" in said
        finally:
            for name in names:
                client.run(["ip", "netns", "delete", name])


def test_threaded_without_a_daemon(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "examples.threaded", "--socket", str(tmp_path / "none")]
    done = subprocess.run(words, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert done.returncode == 69
    assert "is the daemon running?" in done.stderr


def test_filters_of_the_monitor_are_for_it_alone(new_daemon: NewDaemon) -> None:
    daemon = new_daemon(MONITOR.read_text())
    with daemon.client() as client:
        assert client.allows("ip link set dev na-a up".split()).allowed
        for words in (
            "ip link set dev eth0 up",
            "ip link set dev na-a down",
            "ip -o monitor all",
            "ip link show",
        ):
            assert not client.allows(words.split()).allowed
