"""What a user can hand to a daemon that sudo or the like starts for it: environment, limits, descriptor 0."""

import contextlib
import os
import pty
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from rootwrap_daemon.client import Client
from rootwrap_daemon.daemon.start import client_started
from tests.processes import PATIENCE
from tests.real_daemon import ROOT, START, Daemon, NewDaemon, is_alive, wait_for
from tests.security.test_hostile_descriptors import lingering

NOBODY = 65534
PATH = {"PATH": os.environ["PATH"]}
INSIDE = [] if ROOT else ["unshare", "--user", "--map-root-user"]

CONSOLE = [sys.executable, "-c", "from rootwrap_daemon.daemon.start.bootstrap import console; console()"]


@pytest.mark.parametrize("command", [START, CONSOLE], ids=["module", "console"])
def test_openssl_is_not_configured_by_the_starter(
    new_daemon: NewDaemon, tmp_path: Path, command: list[str]
) -> None:
    """OPENSSL_CONF names shared objects to load; neither sudo without env_reset nor ld.so takes it away.

    Whoever opens this file waits for ever: it is a FIFO.
    """
    os.mkfifo(tmp_path / "openssl.cnf")
    daemon = new_daemon(start=False)
    done = subprocess.run(
        [*INSIDE, *command, "--config-file", str(daemon.config), "--check"],
        env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "OPENSSL_CONF": str(tmp_path / "openssl.cnf")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, "10 filters" in done.stdout) == (0, True), done.stderr


@pytest.mark.parametrize("mode", [os.O_PATH, os.O_RDONLY | os.O_NONBLOCK], ids=["path", "read"])
def test_a_standard_error_that_its_giver_cannot_write(new_daemon: NewDaemon, mode: int) -> None:
    """Root may open it anew to write, and everybody gets an O_PATH descriptor: of a disk, for instance."""
    daemon = new_daemon(start=False)
    fifo = daemon.directory / "theirs"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    error = os.open(fifo, mode)
    with subprocess.Popen(words(daemon), stdin=subprocess.DEVNULL, stderr=error) as process:
        wait_for(lambda: os.path.exists(daemon.socket))
        with daemon.client() as client:
            assert client.run(["true"]).returncode == 0
        process.terminate()
        assert process.wait(60) == 0
    # The end of the file: nobody has ever written.
    assert os.read(reader, 100) == b""
    os.close(reader)
    os.close(error)


def words(daemon: Daemon) -> list[str]:
    return [*INSIDE, *START, "--config-file", str(daemon.config)]


def test_who_started_it() -> None:
    here = os.geteuid()
    another = here + 1

    def by_another(maker: int | None = None, **environ: str) -> bool:
        said: Mapping[str, str] = environ
        return client_started.by_another(said, maker)

    assert not by_another()
    assert not by_another(here, SUDO_UID=str(here))
    assert by_another(another)
    assert by_another(here, SUDO_UID=str(another))
    assert by_another(None, PKEXEC_UID=str(another))
    assert by_another(None, DOAS_USER="nobody")
    assert by_another(None, DOAS_USER="no such user")


def started_by_nobody(new_daemon: NewDaemon, *limits: str) -> Daemon:
    """A daemon as sudo would start it; it may refuse to."""
    daemon = new_daemon(start=False)
    daemon.environ = {"SUDO_UID": str(NOBODY)}
    daemon.inside = ["prlimit", *limits]
    return daemon


@pytest.mark.root
def test_limits_of_a_caller_of_sudo_are_lifted(new_daemon: NewDaemon) -> None:
    """A limit on the size of files would cut those that commands of root's write, and the audit log."""
    daemon = started_by_nobody(new_daemon, "--fsize=512:", "--nofile=100:", "--nproc=50:", "--core=4096:")
    daemon.start()
    for name in ("FSIZE", "NPROC", "CORE"):
        number = getattr(resource, f"RLIMIT_{name}")
        soft, hard = resource.prlimit(1, number)
        assert resource.prlimit(daemon.pid, number) == (0 if name == "CORE" else soft, hard)
    file = daemon.directory / "written"
    with daemon.client() as client:
        client.run(["sh", "-c", f"head -c 100000 /dev/zero > {file}"])
    assert file.stat().st_size == 100_000
    assert [record["event"] for record in daemon.audit()] == ["run", "end"]


@pytest.mark.root
def test_a_limit_of_a_caller_of_sudo_that_cannot_be_lifted(new_daemon: NewDaemon) -> None:
    """Root of a container may not raise the hard limit again; then nothing runs under it."""
    daemon = started_by_nobody(new_daemon, "--fsize=512")
    done = subprocess.run(
        [*daemon.inside, *words(daemon), "--check"],
        env={"LC_ALL": "C.UTF-8", **daemon.environ},
        capture_output=True,
        text=True,
        check=False,
    )
    lifted = done.returncode == 0
    assert lifted or (done.returncode == 78 and "RLIMIT_FSIZE was set by the user" in done.stderr)


@pytest.mark.root
def test_a_limit_on_files_does_not_cut_bytecode(new_daemon: NewDaemon) -> None:
    """A module that the daemon compiles must not be half a module for the next daemon."""
    daemon = started_by_nobody(new_daemon, "--fsize=512:")
    package = daemon.directory / "site" / "rootwrap_daemon"
    shutil.copytree(
        Path(client_started.__file__).parents[2], package, ignore=shutil.ignore_patterns("__pycache__")
    )
    code = (
        f"import runpy, sys; sys.path.insert(0, {str(package.parent)!r});"
        "sys.meta_path = [one for one in sys.meta_path if 'editable' not in str(one)];"
        "sys.argv = ['main', '--help']; runpy.run_module('rootwrap_daemon.daemon.main', run_name='__main__')"
    )
    done = subprocess.run(
        [*daemon.inside, sys.executable, "-I", "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert not list(package.glob("policy/__pycache__/*"))


#: Becomes the command after it, with timers that may be a minute late, at a lower priority, as another
#: release.
SLOW = """
import ctypes, os, sys
libc = ctypes.CDLL(None)
libc.prctl(29, ctypes.c_ulong(60 * 10**9), 0, 0, 0)
libc.personality(ctypes.c_ulong(0x0020000))
os.nice(5)
os.execvp(sys.argv[1], sys.argv[1:])
"""


@pytest.mark.root
def test_time_of_a_caller_of_sudo_is_not_ours(new_daemon: NewDaemon) -> None:
    """No limit in time would hold, and what is started here would be slow for good."""
    daemon = started_by_nobody(new_daemon)
    daemon.inside = [sys.executable, "-c", SLOW]
    daemon.start()
    own = Path(f"/proc/{daemon.pid}")
    assert (own / "timerslack_ns").read_text() == "50000\n"
    assert (own / "personality").read_text() == "00000000\n"
    assert os.getpriority(os.PRIO_PROCESS, daemon.pid) in (0, 5)
    with daemon.client() as client:
        assert client.run(["cat", "/proc/self/timerslack_ns"]).stdout == b"50000\n"
        assert client.run(["cat", "/proc/self/personality"]).stdout == b"00000000\n"


#: Becomes the command after it, with pages that may be merged, none of them large, all in a core file,
#: killed early where one fails.
MEMORY = """
import ctypes, os, sys
libc = ctypes.CDLL(None)
libc.prctl(67, 1, 0, 0, 0)
libc.prctl(41, 1, 0, 0, 0)
libc.prctl(33, 1, 1, 0, 0)
open("/proc/self/coredump_filter", "w").write("0x7f")
if sys.argv[1] == "mdwe" and libc.prctl(65, 1, 0, 0, 0):
    sys.exit("no PR_SET_MDWE")
os.execvp(sys.argv[2], sys.argv[2:])
"""


@pytest.mark.root
def test_memory_of_a_caller_of_sudo_is_not_ours(new_daemon: NewDaemon) -> None:
    daemon = started_by_nobody(new_daemon)
    daemon.inside = [sys.executable, "-c", MEMORY, "no"]
    daemon.start()
    look = (
        "import ctypes; one = ctypes.CDLL(None).prctl; print(one(68, 0, 0, 0, 0), one(42, 0, 0, 0, 0),"
        " one(34, 0, 0, 0, 0), open('/proc/self/coredump_filter').read())"
    )
    plain = subprocess.run([sys.executable, "-c", look], capture_output=True, check=True).stdout
    with daemon.client() as client:
        assert client.run(["sh", "-c", f'"{sys.executable}" -c "{look}"']).stdout == plain
        assert plain.split()[:3] == [b"0", b"0", b"2"]


@pytest.mark.root
def test_what_a_caller_of_sudo_has_forbidden_for_good_is_told(new_daemon: NewDaemon) -> None:
    daemon = started_by_nobody(new_daemon)
    daemon.inside = [sys.executable, "-c", MEMORY, "mdwe"]
    done = subprocess.run(
        [*daemon.inside, *words(daemon)],
        capture_output=True,
        text=True,
        env={**daemon.environ, **PATH},
        check=False,
    )
    if "no PR_SET_MDWE" in done.stderr:
        pytest.skip("this kernel has no PR_SET_MDWE")
    assert done.returncode != 0
    assert "PR_SET_MDWE" in done.stderr


@pytest.mark.root
@pytest.mark.parametrize("leads", [True, False], ids=["leader", "shared"])
def test_a_terminal_neither_stops_nor_kills_it(new_daemon: NewDaemon, leads: bool) -> None:
    """Ctrl-Z and Ctrl-\\ reach root's processes, too: its commands would go on, without a limit in time."""
    daemon = started_by_nobody(new_daemon)
    # Either it is the session's leader, as by sudo without a terminal of its own, or in that one's group.
    command = words(daemon) if leads else ["sh", "-c", '"$@"; exit $?', "sh", *words(daemon)]
    child, terminal = pty.fork()
    if child == 0:
        os.execve("/usr/bin/env", ["env", *command], {"LC_ALL": "C.UTF-8", **daemon.environ, **PATH})
    try:
        wait_for(lambda: os.path.exists(daemon.socket))
        with daemon.client() as client:
            pid = int(client.run(["sh", "-c", "echo $PPID"]).stdout)
            os.write(terminal, b"\x1a")
            time.sleep(0.2)
            assert client.run(["true"], timeout=60).returncode == 0
            os.write(terminal, b"\x1c")
            time.sleep(0.2)
        # If it heard that at all it stops in order: its socket is taken away.
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        wait_for(lambda: not is_alive(pid))
        assert not os.path.exists(daemon.socket)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(terminal)


@pytest.mark.root
def test_an_alarm_from_before_does_not_end_it(new_daemon: NewDaemon) -> None:
    daemon = started_by_nobody(new_daemon)
    alarm = "import os, signal, sys; signal.setitimer(0, 10); os.execvp(sys.argv[1], sys.argv[1:])"
    daemon.inside = [sys.executable, "-c", alarm]
    daemon.start()
    with daemon.client() as client:
        assert client.run(["sleep", "10.2"]).returncode == 0


@pytest.mark.root
def test_limits_of_root_stay(new_daemon: NewDaemon) -> None:
    daemon = new_daemon(start=False)
    daemon.inside = ["prlimit", "--fsize=123456"]
    daemon.start()
    assert resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE) == (123456, 123456)


def test_a_launched_daemon_tells_the_manager_of_its_client_nothing(
    new_daemon: NewDaemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """READY=1 and STOPPING=1 would be about the client, whose NOTIFY_SOCKET this is."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        with Client.launch(words(new_daemon(start=False))) as client:
            client._calls._connect_timeout = PATIENCE
            client.run(["true"])
        manager.setblocking(False)
        with pytest.raises(BlockingIOError):
            manager.recv(4096)


def test_a_control_socket_that_its_maker_makes_block(new_daemon: NewDaemon) -> None:
    """O_NONBLOCK belongs to whoever has a copy of descriptor 0; SIGTERM must be heard all the same."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.settimeout(60)
    with ours, theirs, subprocess.Popen(words(new_daemon(start=False)), stdin=theirs.fileno()) as process:
        try:
            for _ in range(2):
                ours.send(b"c")
                word, descriptors, _, _ = socket.recv_fds(ours, 1, 1)
                assert word == b"+"
                os.close(descriptors[0])
                theirs.setblocking(True)
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
        finally:
            process.kill()


#: Becomes the command after it with keys, priorities and places of its own.
PECULIAR = """
import ctypes, os, sys
call = ctypes.CDLL(None).syscall
assert call(250, 1, sys.argv.pop(1).encode()) > 0
assert call(251, 1, 0, 3 << 13) == 0
# With SCHED_IDLE a start would wait until this host has nothing else to do.
os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
with open("/proc/self/oom_score_adj", "w") as file:
    file.write("777")
os.execvp(sys.argv[1], sys.argv[1:])
"""
#: What a process has of that: its I/O priority, policy, processors, weight.
TELL = """
import ctypes, os
print(ctypes.CDLL(None).syscall(252, 1, 0) >> 13, os.sched_getscheduler(0), len(os.sched_getaffinity(0)),
      open("/proc/self/oom_score_adj").read().strip())
"""


@pytest.mark.root
@pytest.mark.skipif(os.uname().machine != "x86_64", reason="numbers of system calls")
def test_nothing_else_of_a_caller_of_sudo_stays(new_daemon: NewDaemon) -> None:
    """What decision 0012 says of scheduling, memory and keys; the cgroup alone is the caller's."""
    daemon = new_daemon("[Filters]\npython3: CommandFilter, /usr/bin/python3, root\n", start=False)
    processors = len(os.sched_getaffinity(1))

    def told(ring: str, kept: bool) -> list[str]:
        daemon.inside = [sys.executable, "-c", PECULIAR, ring]
        daemon.start()
        with daemon.client() as client:
            done = client.run(["/usr/bin/python3", "-I", "-c", TELL], check=True, text=True)
        # A keyring is there as long as a process has it, and until the kernel has collected it; commands have
        # their own.
        wait_for(lambda: (ring in Path("/proc/keys").read_text()) == kept)
        daemon.stop()
        (daemon.directory / "log").write_text("")
        return done.stdout.split()

    # Root's own choice stays, and the test sees it.
    assert told(f"rw-{os.getpid()}-root", True) == ["3", str(os.SCHED_BATCH), "1", "777"]
    daemon.environ = {"SUDO_UID": str(NOBODY)}
    assert told(f"rw-{os.getpid()}-sudo", False) == ["0", str(os.SCHED_OTHER), str(processors), "0"]


@pytest.mark.root
@pytest.mark.parametrize("audit", ["required", "best_effort"])
def test_required_records_do_not_go_to_a_caller_of_sudo(new_daemon: NewDaemon, audit: str) -> None:
    """Whose standard error may be /dev/null, or a file that is taken away."""
    daemon = started_by_nobody(new_daemon)
    daemon.configure(audit_file="", audit=audit)
    for more in ([], ["--check"]):
        with subprocess.Popen(
            [*words(daemon), *more], env={**PATH, **daemon.environ}, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stderr is not None
            if audit == "required":
                assert "audit_file: " in process.stderr.read()
                assert process.wait(60) == 78
            elif more:
                assert process.wait(60) == 0
            else:
                wait_for(lambda: os.path.exists(daemon.socket))
                process.terminate()


@contextlib.contextmanager
def launched(daemon: Daemon) -> Iterator[tuple[socket.socket, "subprocess.Popen[bytes]"]]:
    """A daemon that serves the other end of this socket."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.settimeout(60)
    with ours, subprocess.Popen(words(daemon), stdin=theirs.fileno()) as process:
        theirs.close()
        try:
            yield ours, process
        finally:
            process.kill()


def test_sockets_that_linger_do_not_hold_it(new_daemon: NewDaemon) -> None:
    """Sent over descriptor 0 they are closed by the daemon, for as long as their sender says: socket(7)."""
    with contextlib.ExitStack() as held, launched(new_daemon(start=False)) as (ours, process):
        mine = [held.enter_context(lingering()) for _ in range(5)]
        for one in mine:
            socket.send_fds(ours, [b"c"], [one])
            # The last copy is the daemon's.
            os.close(one)
        for _ in mine:
            word, descriptors, _, _ = socket.recv_fds(ours, 1, 1)
            assert word == b"+"
            os.close(descriptors[0])
        last = held.enter_context(lingering())
        socket.send_fds(ours, [b"c"], [last])
        os.close(last)
        ours.close()
        assert process.wait(60) == 0


# Less than root has


LESS = ["setpriv", "--bounding-set=-all,+net_admin", "--inh-caps=-all"]


@pytest.mark.root
@pytest.mark.parametrize("groups", ["--keep-groups", "--groups=0,61111"])
def test_root_of_a_container_with_one_capability(new_daemon: NewDaemon, groups: str) -> None:
    """It starts, works, and says which filters may not."""
    filters = (
        "[Filters]\ntrue: CommandFilter, true, root\nother: CommandFilter, id, daemon\n"
        "kill: KillFilter, root, sleep, -9\n"
    )
    daemon = new_daemon(filters, start=False, on_finding="skip")
    daemon.inside = [*LESS[:1], groups, *LESS[1:]]
    daemon.start()
    with daemon.client() as client:
        assert client.run(["true"]).returncode == 0
    warned = [line for line in daemon.log.splitlines() if "was started without" in line]
    assert any(":3:" in line and "CAP_SETUID" in line for line in warned)
    assert any(":4:" in line and "CAP_SYS_PTRACE" in line for line in warned)
    assert not any(":2:" in line for line in warned)
    assert ("groups of the starter that cannot be left here: 61111" in daemon.log) == ("61111" in groups)


@pytest.mark.root
def test_one_that_is_not_root_keeps_its_capabilities(new_daemon: NewDaemon) -> None:
    """They are ambient: what it goes on as would have none otherwise (capabilities(7))."""
    daemon = new_daemon("[Filters]\ntrue: CommandFilter, true, daemon\n", start=False)
    os.chown(daemon.directory, 1, -1)
    daemon.configure(trusted_owners="0, 1", allowed_users="root", capabilities="CAP_NET_ADMIN")
    kept = "+net_admin,+setpcap"
    daemon.inside = [
        *("setpriv", "--reuid=1", "--regid=1", "--clear-groups"),
        *(f"--inh-caps={kept}", f"--ambient-caps={kept}"),
    ]
    (daemon.directory / "log").touch()
    daemon.start()
    status = Path(f"/proc/{daemon.pid}/status").read_text()
    effective = next(line for line in status.splitlines() if line.startswith("CapEff:"))
    assert int(effective.split()[1], 16) == 1 << 12
    with daemon.client() as client:
        assert client.run(["true"]).returncode == 0


@pytest.mark.parametrize("arguments", [[], ["--check"]])
def test_no_word_of_a_file_that_root_alone_may_read(new_daemon: NewDaemon, arguments: list[str]) -> None:
    """Through sudo any file can be named as the configuration, and an error would quote it."""
    daemon = new_daemon(start=False)
    for text in ("root:$6$hunter2:19000:\n", "[DEFAULT]\nhunter2 = hunter2\n", "[hunter2]\nx = hunter2\n"):
        daemon.config.write_text(text)
        done = subprocess.run(
            [*words(daemon), *arguments],
            env={**PATH, "SUDO_UID": str(NOBODY)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 78
        assert str(daemon.config) in done.stderr
        assert "hunter2" not in done.stdout + done.stderr


#: What is wrong with it names a value.
WRONG = (
    {"trusted_owners": "hunter2"},
    {"allowed_users": "-hunter2"},
    {"socket_path": "/no/hunter2"},
    {"socket_group": "hunter2"},
    {"audit_file": "/no/hunter2"},
    {"state_dir": "/no/hunter2/x"},
    {"audit_file": "/no/hunter2", "log_file": "/no/hunter2"},
    {"capabilities": "CAP_HUNTER2"},
    {"filters": "[Filters]\nx: ArgvFilter, true, root, {hunter2}\n"},
    {"filters": "[Filters]\nx: ArgvFilter, true, root, {hunter2}\n", "on_finding": "skip"},
)


@pytest.mark.root
@pytest.mark.parametrize("private", ["nothing", "daemon.conf", "daemon.conf.d/a.conf", "filters.d", "test"])
@pytest.mark.parametrize("options", WRONG, ids=str)
def test_no_value_of_what_the_starter_may_not_read(
    new_daemon: NewDaemon, options: dict[str, str], private: str
) -> None:
    """Through sudo; what everybody may read is told."""
    daemon = new_daemon(start=False)
    (daemon.directory / "daemon.conf.d").mkdir(mode=0o755)
    (daemon.directory / "daemon.conf.d/a.conf").write_text("")
    daemon.configure(**options)
    if private == "test":
        (daemon.directory / "filters.d/test.filters").chmod(0o640)
    elif private != "nothing":
        (daemon.directory / private).chmod(0o750)
    done = subprocess.run(
        [*words(daemon), "--check"],
        env={**PATH, "SUDO_UID": str(NOBODY)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == (0 if "on_finding" in options else 78)
    assert ("hunter2" in (done.stdout + done.stderr).lower()) is (private == "nothing"), done.stderr
    if done.returncode:
        assert private == "nothing" or str(daemon.config) in done.stderr


@pytest.mark.root
@pytest.mark.parametrize("log", [{"log_file": "own.log"}, {"use_syslog": "true"}], ids=str)
def test_a_check_tells_no_lines_that_go_elsewhere(new_daemon: NewDaemon, log: dict[str, str]) -> None:
    daemon = new_daemon(start=False)
    log = {
        name: str(daemon.directory / value) if name == "log_file" else value for name, value in log.items()
    }
    wrong = "[Filters]\ntrue: CommandFilter, true, root\nx: ArgvFilter, true, root, {hunter2}\n"
    daemon.configure(filters=wrong, on_finding="skip", **log)
    for mode in (0o755, 0o750):
        (daemon.directory / "filters.d").chmod(mode)
        done = subprocess.run(
            [*words(daemon), "--check"],
            env={**PATH, "SUDO_UID": str(NOBODY)},
            capture_output=True,
            text=True,
            check=True,
        )
        assert ("hunter2" in done.stdout + done.stderr) is (mode == 0o755)


@pytest.mark.root
@pytest.mark.parametrize("mode", [0o755, 0o750], ids=oct)
def test_a_reload_tells_no_value_that_the_starter_may_not_read(new_daemon: NewDaemon, mode: int) -> None:
    """Through sudo standard error is the starter's, for as long as the daemon lives."""
    daemon = new_daemon(start=False)
    daemon.environ = {"SUDO_UID": str(NOBODY)}
    daemon.configure(on_finding="skip")
    (daemon.directory / "filters.d").chmod(mode)
    daemon.start()
    wrong = "[Filters]\nx: ArgvFilter, true, root, {hunter2}\n"
    daemon.configure(filters=f"{wrong}true: CommandFilter, true, root\n")
    assert daemon.reload()
    daemon.configure(filters=wrong)
    assert not daemon.reload()
    assert daemon.log.count("hunter2") == (2 if mode == 0o755 else 0), daemon.log


@pytest.mark.root
def test_a_directory_of_filters_that_links_to_itself(new_daemon: NewDaemon) -> None:
    daemon = new_daemon(start=False)
    (daemon.directory / "filters.d/old").symlink_to(".")
    daemon.environ = {"SUDO_UID": str(NOBODY)}
    daemon.start()
