"""A client that starts its own daemon: over a socketpair, with nothing in the file system."""

import asyncio
import contextlib
import json
import os
import pwd
import resource
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from rootwrap_daemon.client import Busy, Client, DaemonUnavailable, OutcomeUnknown, Unauthorized
from rootwrap_daemon.client.aio import AsyncClient
from rootwrap_daemon.client.threads import now
from tests.processes import PATIENCE, together
from tests.real_daemon import ROOT, START, Daemon, NewDaemon, children_of, is_alive, our_descriptors, wait_for

#: A plain user who is in no other test: the kernel bounds the descriptors that all processes of a user have
#: under way, on the whole host.
PLAIN = pwd.getpwnam("bin").pw_uid
#: An agent that starts its daemon by the words it is given, and says what came of it.
AGENT = """\
import json, os, sys
from rootwrap_daemon.client import PIPE, Client, Error
uid = int(sys.argv[1])
try:
    with Client.launch(sys.argv[2:]) as client:
        client._calls._connect_timeout = 60
        if os.getuid() != uid:
            os.setgroups([])
            os.setgid(uid)
            os.setuid(uid)
        out = client.run(["id", "-u"], check=True, text=True).stdout
        both = client.popen(["cat"], stdin=PIPE, stdout=PIPE).communicate(b"through")[0].decode()
        print(json.dumps([os.getuid(), out.strip(), both]))
except Error as error:
    print(json.dumps(str(error)))
"""


@pytest.fixture
def configured(new_daemon: NewDaemon) -> Daemon:
    """Configuration and filters; nothing runs."""
    return new_daemon(start=False)


def words(daemon: Daemon, *more: str) -> list[str]:
    inside = [] if ROOT else ["unshare", "--user", "--map-root-user"]
    return [*inside, *START, "--config-file", str(daemon.config), *more]


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine may take longer for the end of a daemon than a client waits."""
    monkeypatch.setattr("rootwrap_daemon.client.launch._END_SECONDS", PATIENCE)


def launch(argv: list[str]) -> Client:
    """One that waits for the start of its daemon as long as anything here is waited for."""
    made = Client.launch(argv)
    made._calls._connect_timeout = PATIENCE
    return made


@pytest.fixture
def client(configured: Daemon) -> Iterator[Client]:
    with launch(words(configured)) as made:
        yield made


def test_asyncio(configured: Daemon) -> None:
    async def main() -> tuple[list[int], int]:
        async with AsyncClient.launch(words(configured)) as client:
            client._calls._connect_timeout = PATIENCE
            assert client._calls.launcher is not None
            calls = [client.run(["sleep", "0.1"]) for _ in range(20)]
            codes = [done.returncode for done in await asyncio.gather(*calls)]
            # One that is given up while it waits for its connection.
            task = asyncio.ensure_future(client.popen(["sleep", "1000"]))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            return codes, client._calls.launcher.pid

    before = our_descriptors()
    codes, pid = asyncio.run(main())
    assert codes == [0] * 20
    assert not is_alive(pid)
    assert our_descriptors() <= before


def the_daemon(client: Client) -> int:
    assert client._calls.launcher is not None
    return client._calls.launcher.pid


def test_it_serves(client: Client, configured: Daemon) -> None:
    done = client.run(["sh", "-c", "echo out; exit 3"])
    assert (done.returncode, done.stdout) == (3, b"out\n")
    assert not os.path.exists(configured.socket)
    assert not os.path.exists(f"{configured.socket}.lock")


def test_many_at_once(client: Client) -> None:
    codes: list[int] = []
    together(
        [
            threading.Thread(target=lambda: codes.append(client.run(["sleep", "0.1"]).returncode))
            for _ in range(30)
        ]
    )
    assert codes == [0] * 30


def test_the_daemon_ends_with_its_client(configured: Daemon) -> None:
    client = launch(words(configured))
    pid = the_daemon(client)
    child = int(client.run(["sh", "-c", "sleep 0.2; echo $PPID"]).stdout)
    assert child == pid
    client.close()
    assert not is_alive(pid)


def test_a_client_that_is_killed_takes_all_with_it(configured: Daemon) -> None:
    code = """
import sys
from rootwrap_daemon.client import PIPE, Client
client = Client.launch(sys.argv[1:])
client._calls._connect_timeout = 60
process = client.popen(["sh", "-c", "echo $$; exec sleep 1000"], stdout=PIPE)
print(client._calls.launcher.pid, process.stdout.readline().decode(), flush=True)
process.wait()
"""
    with subprocess.Popen([sys.executable, "-c", code, *words(configured)], stdout=subprocess.PIPE) as agent:
        assert agent.stdout is not None
        pids = [int(word) for word in agent.stdout.readline().split()]
        agent.kill()
    wait_for(lambda: not any(map(is_alive, pids)))


def test_a_daemon_that_refuses_to_start(configured: Daemon, capfd: pytest.CaptureFixture[str]) -> None:
    with launch(words(configured, "--no-such-option")) as client:
        with pytest.raises(DaemonUnavailable, match="standard error says why"):
            client.run(["true"])
        with pytest.raises(DaemonUnavailable, match="has ended with code 64"):
            wait_for(lambda: not is_alive(the_daemon(client)))
            client.run(["true"])
    assert "no-such-option" in capfd.readouterr().err


def test_a_program_that_is_not_there() -> None:
    with pytest.raises(DaemonUnavailable, match="no-such-program"):
        Client.launch(["/no-such-program"])


def test_a_daemon_that_dies(client: Client) -> None:
    failed: list[BaseException] = []

    def call() -> None:
        try:
            client.run(["sleep", "1000"])
        except OutcomeUnknown as error:
            failed.append(error)

    client.run(["true"])
    thread = threading.Thread(target=call)
    thread.start()
    pid = the_daemon(client)
    wait_for(lambda: b"sleep" in b"".join(cmdlines(pid)))
    (left,) = children_of(pid)
    os.kill(pid, signal.SIGKILL)
    thread.join()
    # No other daemon comes, to end it.
    os.kill(left, signal.SIGKILL)
    assert len(failed) == 1
    with pytest.raises(DaemonUnavailable):
        client.run(["true"])


def cmdlines(pid: int) -> list[bytes]:
    found = []
    for child in children_of(pid):
        with contextlib.suppress(OSError):
            found.append(Path(f"/proc/{child}/cmdline").read_bytes())
    return found


def test_who_may_not_ask_is_told_so(new_daemon: NewDaemon) -> None:
    daemon = new_daemon(start=False, allowed_users="daemon")
    with launch(words(daemon)) as client, pytest.raises(Unauthorized):
        client.run(["true"])


def test_peer_uid_needs_a_client_that_launches(configured: Daemon) -> None:
    done = subprocess.run(
        words(configured, "--peer-uid", "1"), stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    assert done.returncode == 78
    assert b"--peer-uid is for a daemon that its client starts" in done.stderr


def test_another_kind_of_socket_as_standard_input_is_nothing(configured: Daemon) -> None:
    """sshd(8) gives a stream socket."""
    ours, theirs = socket.socketpair()
    with ours, theirs, subprocess.Popen(words(configured), stdin=theirs.fileno()) as process:
        wait_for(lambda: os.path.exists(configured.socket))
        process.terminate()
        assert process.wait() == 0


def agent(prefix: list[str], uid: int, argv: list[str], **environ: str) -> object:
    done = subprocess.run(
        [*prefix, sys.executable, "-c", AGENT, str(uid), *argv],
        env={"PATH": os.environ["PATH"], **environ},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


@pytest.mark.root
def test_a_service_that_starts_as_root(new_daemon: NewDaemon) -> None:
    """It launches the daemon, says who it will be, and drops its privileges."""
    daemon = new_daemon(start=False, allowed_users="bin")
    argv = words(daemon, "--peer-uid", str(PLAIN))
    assert agent([], PLAIN, argv) == [PLAIN, "0", "through"]
    # A root's shell that came from sudo.
    assert agent([], PLAIN, argv, SUDO_UID="1000") == [PLAIN, "0", "through"]


@pytest.mark.root
def test_who_it_is_is_decided_at_the_start(new_daemon: NewDaemon) -> None:
    daemon = new_daemon(start=False, allowed_users="bin")
    as_root = agent([], PLAIN, words(daemon))
    assert isinstance(as_root, str)
    assert "may not use this daemon" in as_root


@pytest.mark.root
def test_a_service_that_becomes_a_user_without_a_name(new_daemon: NewDaemon) -> None:
    """As in a container: allowed_users has its number. It is in no group that has a name."""
    uid = next(one for one in range(70001, 80000) if not named(one))
    for option, admitted in (("allowed_users", True), ("allowed_groups", False)):
        daemon = new_daemon(start=False, **{"allowed_users": "1", option: str(uid)})
        said = agent([], uid, words(daemon, "--peer-uid", str(uid)))
        assert said == [uid, "0", "through"] if admitted else f"user (here {uid}) may not use" in str(said)


@pytest.mark.parametrize("uid", ["-1", "4294967295"])
def test_no_number_of_a_user(configured: Daemon, capfd: pytest.CaptureFixture[str], uid: str) -> None:
    with launch(words(configured, f"--peer-uid={uid}")) as client, pytest.raises(DaemonUnavailable):
        client.run(["true"])
    assert f"--peer-uid: {uid} is no number of a user" in capfd.readouterr().err


def named(uid: int) -> bool:
    with contextlib.suppress(KeyError):
        return bool(pwd.getpwuid(uid))
    return False


def under_sudo(tmp_path: Path, rule: str) -> list[str]:
    """What makes its command run as that user, with sudo's rules replaced for it alone."""
    sudoers = tmp_path / "sudoers"
    sudoers.write_text(f"Defaults !syslog\n{rule}\n")
    sudoers.chmod(0o440)
    script = f'mount --bind {sudoers} /etc/sudoers && exec "$@"'
    become = ["setpriv", f"--reuid={PLAIN}", f"--regid={PLAIN}", "--clear-groups"]
    return ["unshare", "--mount", "sh", "-c", script, "sh", *become]


@pytest.mark.root
@pytest.mark.skipif(shutil.which("sudo") is None, reason="no sudo here")
def test_sudo_starts_it(new_daemon: NewDaemon, tmp_path: Path) -> None:
    daemon = new_daemon(start=False, allowed_users="bin")
    command = words(daemon)
    # sudoers(5): a space inside a word is escaped.
    rule = " ".join(word.replace(" ", r"\ ") for word in command)
    prefix = under_sudo(tmp_path, f"bin ALL=(root) NOPASSWD: {rule}")
    assert agent(prefix, PLAIN, ["sudo", "-n", *command]) == [PLAIN, "0", "through"]
    refused = agent(prefix, PLAIN, ["sudo", "-n", *command, "--peer-uid", "0"])
    assert isinstance(refused, str)
    assert "has ended" in refused or "closed its socket" in refused


@pytest.mark.root
@pytest.mark.skipif(shutil.which("sudo") is None, reason="no sudo here")
def test_no_user_becomes_another_through_sudo(new_daemon: NewDaemon, tmp_path: Path) -> None:
    """With any arguments allowed, and with a socket that root made."""
    daemon = new_daemon(start=False, allowed_users="root")
    command = words(daemon)
    prefix = under_sudo(tmp_path, "bin ALL=(root) NOPASSWD: ALL")
    code = """
import subprocess, sys
sys.exit(subprocess.run(sys.argv[1:], stdin=0, stderr=1).returncode)
"""
    for more, reason in ((["--peer-uid", "0"], "made descriptor 0"), ([], "made descriptor 0")):
        # This process is root: its socket says so.
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours, theirs:
            done = subprocess.run(
                [*prefix, sys.executable, "-c", code, "sudo", "-n", *command, *more],
                stdin=theirs.fileno(),
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 78
            assert reason in done.stdout
    mine = agent(prefix, PLAIN, ["sudo", "-n", *command, "--peer-uid", "0"])
    assert isinstance(mine, str)


def test_out_of_descriptors_is_busy(client: Client) -> None:
    client.run(["true"])
    launcher = client._calls.launcher
    assert launcher is not None
    before = resource.prlimit(launcher.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(launcher.pid, resource.RLIMIT_NOFILE, (20, before[1]))
    held = []
    with pytest.raises(Busy):
        for _ in range(20):
            held.append(now(launcher.connect(client._waits, time.monotonic() + PATIENCE)))
    resource.prlimit(launcher.pid, resource.RLIMIT_NOFILE, before)
    for one in held:
        os.close(one)
    assert client.run(["true"]).returncode == 0
