"""`rootwrap-exec` is what the command is: its streams, its end, its signals."""

import contextlib
import os
import pty
import pwd
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rootwrap_daemon.openstack import SOCKET_VARIABLE
from tests.real_daemon import Daemon, NewDaemon, children_of, frame, is_alive, links_of, wait_for

PROGRAM = [sys.executable, "-c", "from rootwrap_daemon.cli.exec.main import main; main()"]
FILTERS = """\
[Filters]
true: CommandFilter, true, root
cat: CommandFilter, cat, root
sh: CommandFilter, sh, root
sleep: CommandFilter, sleep, root
deaf: CommandFilter, tail, root
printenv: CommandFilter, printenv, root
head: CommandFilter, head, root
missing: CommandFilter, /nonexistent/program, root
ip: IpFilter, ip, root
netns: IpNetnsExecFilter, ip, root
hostname: ReadFileFilter, /etc/hostname
kill_sleep: KillFilter, root, sleep, -9
id: CommandFilter, id, root|nobody

[sh]
signals = HUP, INT, QUIT, TERM, USR1, USR2, ALRM, KILL

[printenv]
env = SECRET

[sleep]
signals = TERM, KILL

[deaf]
signals = none
"""

#: Fill what a user may have under way (unix(7)), then become this program; root has no bound.
FULL = """
import errno, os, resource, socket, sys
uid, *argv = sys.argv[1:]
if os.getuid() == 0:
    os.setgroups([]), os.setgid(int(uid)), os.setuid(int(uid))
resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
ours, theirs = socket.socketpair()
try:
    while True:
        socket.send_fds(ours, [b"x"], [0] * 10)
except OSError as error:
    assert error.errno == errno.ETOOMANYREFS, error
os.set_inheritable(theirs.fileno(), True)
os.execv(argv[0], argv)
"""


@pytest.fixture
def daemon(new_daemon: NewDaemon) -> Daemon:
    # What ends by SIGTERM has a minute for it.
    return new_daemon(FILTERS, kill_grace="60")


def command(daemon: Daemon, *words: str) -> list[str]:
    return [*PROGRAM, "--socket", daemon.socket, *words]


def run(daemon: Daemon, *words: str, **options: Any) -> "subprocess.CompletedProcess[Any]":
    options = {"capture_output": True, "text": True, **options}
    return subprocess.run(command(daemon, *words), timeout=60, check=False, **options)


def start(daemon: Daemon, *words: str, **options: Any) -> "subprocess.Popen[bytes]":
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command(daemon, *words), **{"stdin": pipe, "stdout": pipe, "stderr": pipe, **options}
    )


def child_of(process: "subprocess.Popen[bytes]") -> int:
    """The process that stands below rootwrap-exec for the command, once it is there."""
    wait_for(lambda: children_of(process.pid))
    return children_of(process.pid)[0]


class TestStreams:
    def test_pipes(self, daemon: Daemon) -> None:
        done = run(daemon, "sh", "-c", "cat; echo err >&2", input="in")
        assert (done.returncode, done.stdout, done.stderr) == (0, "in", "err\n")

    def test_pipes_are_the_commands_own(self, daemon: Daemon) -> None:
        with start(daemon, "sh", "-c", "readlink /proc/self/fd/0 /proc/self/fd/1 /proc/self/fd/2") as process:
            ours = [
                os.fstat(one.fileno()).st_ino
                for one in (process.stdin, process.stdout, process.stderr)
                if one
            ]
            out, _ = process.communicate()
        assert out.decode().split() == [f"pipe:[{inode}]" for inode in ours]

    def test_standard_error_on_standard_output(self, daemon: Daemon) -> None:
        done = run(
            daemon, "sh", "-c", "echo a; echo b >&2; echo c",
            capture_output=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        assert done.stdout == "a\nb\nc\n"

    def test_files(self, daemon: Daemon, tmp_path: Path) -> None:
        data = os.urandom(3_000_000)
        (tmp_path / "in").write_bytes(data)
        with (tmp_path / "in").open("rb") as file, (tmp_path / "out").open("wb") as out:
            done = run(daemon, "cat", stdin=file, capture_output=False, stdout=out)
        assert done.returncode == 0
        assert (tmp_path / "out").read_bytes() == data

    def test_a_terminal(self, daemon: Daemon) -> None:
        ours, theirs = pty.openpty()
        with start(
            daemon, "sh", "-c", "test -t 0 || read word; echo $word $word", stdin=theirs, stdout=theirs
        ) as one:
            os.close(theirs)
            os.write(ours, b"word\n")
            assert one.wait(60) == 0
        said = b""
        # The echo of what was written may come alone. EIO: nobody has the other end any more (pty(7)).
        with contextlib.suppress(OSError):
            while part := os.read(ours, 1000):
                said += part
        assert b"word word" in said
        os.close(ours)

    def test_nothing(self, daemon: Daemon) -> None:
        null = subprocess.DEVNULL
        done = run(
            daemon, "sh", "-c", "cat; echo out; echo err >&2", stdin=null, stdout=null, capture_output=False
        )
        assert done.returncode == 0

    def test_closed(self, daemon: Daemon) -> None:
        words = " ".join(f"'{word}'" for word in command(daemon, "sh", "-c", "cat; echo out; exit 4"))
        assert subprocess.run(["sh", "-c", f"exec {words} <&- >&-"], check=False).returncode == 4

    @pytest.mark.parametrize("stream", ["1>&-", "1</dev/null", "2>&-", "2</dev/null"])
    def test_output_that_has_no_place(self, daemon: Daemon, stream: str) -> None:
        """What is not lost in silence without us is not lost in silence."""
        for text, code in (
            (f"echo out >&{stream[0]}", 74),
            (f"echo out >&{stream[0]}; exit 4", 4),
            ("true", 0),
        ):
            words = shlex.join(command(daemon, "sh", "-c", text))
            done = subprocess.run(
                ["sh", "-c", f"exec {words} {stream}"], capture_output=True, text=True, check=False
            )
            assert done.returncode == code
            told = "rootwrap-exec: standard output: Bad file descriptor\n"
            assert done.stderr == (told if code and stream[0] == "1" else "")

    def test_much_both_ways(self, daemon: Daemon) -> None:
        data = os.urandom(5_000_000)
        assert run(daemon, "cat", input=data, text=False).stdout == data

    def test_what_the_daemon_does_itself(self, new_daemon: NewDaemon, tmp_path: Path) -> None:
        daemon = new_daemon(
            "[Filters]\nhostname: ReadFileFilter, /etc/hostname\nk: KillFilter, root, sleep, -9\n"
        )
        hostname = Path("/etc/hostname").read_text()
        assert run(daemon, "cat", "/etc/hostname").stdout == hostname
        with (tmp_path / "out").open("w") as file:
            assert run(daemon, "cat", "/etc/hostname", capture_output=False, stdout=file).returncode == 0
        assert (tmp_path / "out").read_text() == hostname
        with open("/dev/full", "w") as full:
            done = run(daemon, "cat", "/etc/hostname", capture_output=False, stdout=full)
            assert done.returncode == 74
        done = run(daemon, "kill", "-9", "2147483647")
        assert (done.returncode, done.stdout) == (99, "")
        assert done.stderr.startswith("rootwrap-exec: kill: the process has ended (request ")

    @pytest.mark.parametrize("file", [False, True])
    def test_input_that_goes_on_keeps_nobody(self, daemon: Daemon, file: bool) -> None:
        ours, theirs = pty.openpty() if file else os.pipe()[::-1]
        with start(daemon, "true", stdin=theirs) as process:
            assert process.wait(60) == 0
        os.close(ours)
        os.close(theirs)

    @pytest.mark.parametrize("file", [False, True])
    def test_what_stays_in_the_background_keeps_nobody(
        self, daemon: Daemon, tmp_path: Path, file: bool
    ) -> None:
        with (tmp_path / "out").open("wb") as out:
            process = start(daemon, "sh", "-c", "sleep 1000 & echo $!", **({"stdout": out} if file else {}))
            assert process.wait(60) == 0
        if process.stdout:
            pid = int(process.stdout.readline())
        else:
            pid = int((tmp_path / "out").read_text())
        assert is_alive(pid)
        os.kill(pid, 9)

    def test_the_end_of_each_stream_is_the_commands(self, daemon: Daemon) -> None:
        with start(daemon, "sh", "-c", "exec <&- >&-; sleep 1000") as process:
            assert process.stdin and process.stdout
            assert process.stdout.read() == b""

            def broken() -> bool:
                assert process.stdin
                try:
                    os.write(process.stdin.fileno(), b"x")
                except BrokenPipeError:
                    return True
                return False

            wait_for(broken)
            process.kill()


class TestItsEnd:
    @pytest.mark.parametrize("code", [0, 1, 99, 255])
    def test_exit_codes(self, daemon: Daemon, code: int) -> None:
        assert run(daemon, "sh", "-c", f"exit {code}").returncode == code

    @pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGSEGV, 34])
    def test_signals(self, daemon: Daemon, number: int) -> None:
        done = run(daemon, "sh", "-c", f"kill -{int(number)} $$")
        assert (done.returncode, done.stdout, done.stderr) == (-number, "", "")

    @pytest.mark.parametrize(
        ("words", "code", "text"),
        [
            (["unheard-of"], 99, "no filter allows"),
            (["program"], 96, "no such program"),
            ([], 98, "no command"),
            (["--"], 98, "no command"),
            (["--unheard-of", "true"], 97, "unknown option"),
            (["--socket"], 97, "needs a path"),
            (["--socket", "/nonexistent", "true"], 97, "/nonexistent"),
            (["--socket=/nonexistent", "true"], 97, "/nonexistent"),
        ],
    )
    def test_what_did_not_run(self, daemon: Daemon, words: list[str], code: int, text: str) -> None:
        done = run(daemon, *words)
        assert done.returncode == code
        assert done.stderr.startswith("rootwrap-exec: ")
        assert len(done.stderr.splitlines()) == 1
        assert text in done.stderr or code == 96

    @pytest.mark.root
    def test_a_socket_that_this_user_may_not_reach(self, daemon: Daemon) -> None:
        os.chmod(daemon.socket, 0o600)
        done = run(daemon, "true", user="nobody")
        assert done.returncode == 97
        assert "is this user in the socket's group?" in done.stderr

    def test_options(self, daemon: Daemon) -> None:
        env = {**os.environ, SOCKET_VARIABLE: daemon.socket}
        for words in (["true"], ["--", "true"], ["--socket", daemon.socket, "--", "true"]):
            assert subprocess.run([*PROGRAM, *words], check=False, env=env).returncode == 0
        assert run(daemon, "sh", "-c", "exit $#", "sh", "--socket", "--").returncode == 2

    def test_a_daemon_that_ends_meanwhile(self, daemon: Daemon) -> None:
        with start(daemon, "sh", "-c", "echo; sleep 1000") as process:
            assert process.stdout and process.stderr
            process.stdout.readline()
            (left,) = daemon.children()
            daemon.stop(signal.SIGKILL)
            assert process.wait(60) == 75
            assert b"rootwrap-exec: " in process.stderr.readline()
            os.killpg(left, signal.SIGKILL)


class TestSignals:
    TRAPS = "; ".join(f"trap 'echo {name}' {name}" for name in "HUP INT QUIT USR1 USR2 ALRM".split())

    @pytest.fixture(params=["itself", "its child"])
    def target(self, request: pytest.FixtureRequest) -> Callable[["subprocess.Popen[bytes]"], int]:
        """Whom to send a signal: rootwrap-exec, or what stands below it for the command."""
        if request.param == "itself":
            return lambda process: process.pid
        return child_of

    def test_reach_the_command(
        self, daemon: Daemon, target: Callable[["subprocess.Popen[bytes]"], int]
    ) -> None:
        with start(daemon, "sh", "-c", f"{self.TRAPS}; echo ready; while :; do sleep 0.05; done") as process:
            assert process.stdout
            assert process.stdout.readline() == b"ready\n"
            for name in "HUP INT QUIT USR1 USR2 ALRM".split():
                os.kill(target(process), getattr(signal, f"SIG{name}"))
                assert process.stdout.readline().decode() == f"{name}\n"
            os.kill(target(process), signal.SIGTERM)
            assert process.wait(60) == -signal.SIGTERM

    def test_one_that_may_not_be_sent_is_nothing(
        self, daemon: Daemon, target: Callable[["subprocess.Popen[bytes]"], int]
    ) -> None:
        with start(daemon, "sleep", "1000") as process:
            wait_for(lambda: children_of(process.pid) and children_of(daemon.pid))
            (pid,) = children_of(daemon.pid)
            os.kill(target(process), signal.SIGUSR1)
            os.kill(target(process), signal.SIGTERM)
            assert process.wait(60) == -signal.SIGTERM
            assert not is_alive(pid)

    def test_one_that_ends_ends_it_all_the_same(
        self, daemon: Daemon, target: Callable[["subprocess.Popen[bytes]"], int]
    ) -> None:
        """A client that vanishes ends its command, too: nothing is gained by asking for it."""
        with start(daemon, "tail", "-f", "/dev/null") as process:
            wait_for(lambda: children_of(process.pid) and children_of(daemon.pid))
            (pid,) = children_of(daemon.pid)
            os.kill(target(process), signal.SIGINT)
            assert process.wait(60) == -signal.SIGTERM
            assert not is_alive(pid)

    def test_one_that_comes_before_the_child_is_ready_reaches_the_command(
        self, daemon: Daemon, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        early = (
            "import _signal, os; then = _signal.set_wakeup_fd; "
            "_signal.set_wakeup_fd = lambda wake: (os.kill(os.getpid(), 15), then(wake)); "
        )
        if len(PROGRAM) > 1:
            monkeypatch.setitem(globals(), "PROGRAM", [*PROGRAM[:-1], early + PROGRAM[-1]])
        with start(daemon, "sleep", "1000") as process:
            if len(PROGRAM) == 1:
                os.kill(child_of(process), signal.SIGTERM)
            assert process.wait(60) == -signal.SIGTERM

    def test_killed(self, daemon: Daemon, target: Callable[["subprocess.Popen[bytes]"], int]) -> None:
        with start(daemon, "sleep", "1000") as process:
            wait_for(lambda: children_of(process.pid) and children_of(daemon.pid))
            (pid,) = children_of(daemon.pid)
            standing = children_of(process.pid)
            os.kill(target(process), signal.SIGKILL)
            assert process.wait(60) == -signal.SIGKILL
            wait_for(lambda: not is_alive(pid))
            wait_for(lambda: not is_alive(standing[0]))


class TestStandIn:
    """What is below rootwrap-exec looks like the command, as neutron's AsyncProcess reads it."""

    def words(self, pid: int) -> list[str]:
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")[:-1]

    def looks_like(self, process: "subprocess.Popen[bytes]", argv: list[str]) -> bool:
        return argv in [self.words(pid)[1:] for pid in children_of(process.pid)]

    @pytest.mark.parametrize(
        "argv", [["sh", "-c", "sleep 1000 # a  b", "", "c d"], ["sleep", "1000"]], ids=repr
    )
    def test_looks_like_the_command(self, daemon: Daemon, argv: list[str]) -> None:
        with start(daemon, "--", *argv) as process:
            wait_for(lambda: self.looks_like(process, argv))
            process.kill()

    @pytest.mark.root
    def test_in_a_namespace(self, daemon: Daemon) -> None:
        name = f"exec-{os.getpid()}"
        subprocess.run(["ip", "netns", "add", name], check=True)
        try:
            with start(daemon, "ip", "netns", "exec", name, "sleep", "1000") as process:
                wait_for(lambda: self.looks_like(process, ["sleep", "1000"]))
                process.kill()
        finally:
            subprocess.run(["ip", "netns", "del", name], check=True)

    def test_is_not_there_for_what_does_not_run(self, daemon: Daemon) -> None:
        """It looks like nothing before the command runs."""
        with start(daemon, "unheard-of") as process:
            seen = set()
            while process.poll() is None:
                for pid in children_of(process.pid):
                    try:
                        seen.add(tuple(self.words(pid)[1:]))
                    except OSError:
                        continue
            assert ("unheard-of",) not in seen

    def test_holds_no_stream(self, daemon: Daemon) -> None:
        with start(daemon, "sleep", "1000") as process:
            wait_for(lambda: children_of(process.pid))
            (pid,) = children_of(process.pid)
            error = os.readlink(f"/proc/{process.pid}/fd/2")
            wait_for(lambda: error not in links_of(pid).values())
            process.kill()


class TestCopies:
    """A stream that the daemon does not take is copied, and what goes wrong in that is an error."""

    def test_output_that_cannot_be_written(self, daemon: Daemon) -> None:
        for words in (["sh", "-c", "echo out"], ["cat", "/etc/hostname"]):
            with open("/dev/full", "w") as full:
                done = run(daemon, *words, capture_output=False, stdout=full, stderr=subprocess.PIPE)
            assert done.returncode == 74
            assert done.stderr == "rootwrap-exec: standard output: No space left on device\n"

    def test_output_that_cannot_be_written_while_it_runs(self, daemon: Daemon) -> None:
        """The command notices, and its own end is what counts."""
        with open("/dev/full", "w") as full:
            done = run(
                daemon, "sh", "-c", "while echo out; do :; done", capture_output=False, stdout=full,
                stderr=subprocess.PIPE,
            )  # fmt: skip
        assert done.returncode == -signal.SIGPIPE
        assert "rootwrap-exec: standard output: No space left on device\n" in done.stderr

    def test_output_that_nobody_reads_any_more(self, daemon: Daemon) -> None:
        ours, theirs = socket.socketpair()
        ours.close()
        done = run(
            daemon, "sh", "-c", "echo out", capture_output=False, stdout=theirs, stderr=subprocess.PIPE
        )
        theirs.close()
        assert (done.returncode, done.stderr) == (-signal.SIGPIPE, "")

    def test_input_that_cannot_be_read(self, daemon: Daemon) -> None:
        descriptor = os.open("/proc/self/mem", os.O_RDONLY)
        done = run(daemon, "cat", stdin=descriptor)
        os.close(descriptor)
        assert done.returncode == 74
        assert done.stderr == "rootwrap-exec: standard input: Input/output error\n"

    @pytest.mark.parametrize("size", [0, 10, 100_000, 3_000_000])
    @pytest.mark.parametrize(
        ("words", "taken"),
        [(["true"], 0), (["head", "-c", "7"], 7), (["cat"], 10**9), (["unheard-of"], 0), (["-n", "cat"], 0)],
        ids=lambda value: "-".join(value) if isinstance(value, list) else "",
    )
    def test_a_file_is_given_back(
        self, daemon: Daemon, tmp_path: Path, size: int, words: list[str], taken: int
    ) -> None:
        """What the command has not read of a file on standard input is there for who reads it next."""
        if words[0] == "head":
            # It reads a buffer full, as it does with any pipe: what it has is its own.
            taken = 1024 if size else 0
        (tmp_path / "in").write_bytes(b"x" * size)
        with (tmp_path / "in").open("rb", buffering=0) as file:
            start = min(3, size)
            file.seek(start)
            run(daemon, *words, stdin=file)
            position = file.tell()
        if words[0] == "head":
            assert start <= position <= start + 65536
            assert position < size or size <= 65536
        else:
            assert position == min(size, start + taken)

    def test_in_a_loop_of_a_shell(self, daemon: Daemon, tmp_path: Path) -> None:
        (tmp_path / "list").write_text("a\nb\nc\n")
        words = " ".join(f"'{word}'" for word in command(daemon, "true"))
        done = subprocess.run(
            ["sh", "-c", f"while read word; do {words}; echo $word; done < list"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        )
        assert done.stdout == "a\nb\nc\n", done.stderr

    @pytest.mark.root
    def test_a_pipe_of_another_user(self, daemon: Daemon) -> None:
        """In a user namespace with one user all others have the number of nobody, and it may be that one."""
        reader, writer = os.pipe()
        os.fchown(writer, 1, 1)
        done = subprocess.Popen(
            ["unshare", "--user", "--map-user=65534", *command(daemon, "cat")],
            stdin=subprocess.PIPE,
            stdout=writer,
            stderr=subprocess.PIPE,
        )
        os.close(writer)
        _, err = done.communicate(b"in", timeout=60)
        assert (done.returncode, os.read(reader, 100), err) == (0, b"in", b"")
        os.close(reader)


class TestOptions:
    def test_a_variable(self, daemon: Daemon) -> None:
        env = {**os.environ, "SECRET": "from here"}
        done = run(daemon, "--env", "SECRET", "printenv", "SECRET", env=env)
        assert (done.returncode, done.stdout) == (0, "from here\n")
        assert run(daemon, "--env=SECRET=a=b", "printenv", "SECRET").stdout == "a=b\n"
        done = run(daemon, "--env", "OTHER=x", "printenv", "OTHER")
        assert done.returncode == 99
        assert run(daemon, "printenv", "SECRET", env=env).returncode == 1

    @pytest.mark.root
    def test_a_user(self, daemon: Daemon) -> None:
        assert run(daemon, "id", "-un").stdout == "root\n"
        assert run(daemon, "--user", "nobody", "id", "-un").stdout == "nobody\n"
        assert run(daemon, "--user=daemon", "id", "-un").returncode == 99
        assert run(daemon, "--check", "--user=nobody", "id").returncode == 0
        assert run(daemon, "--check", "--user=daemon", "id").returncode == 99
        # No name: said by the daemon, which takes none.
        assert run(daemon, "--user", "0", "id").returncode == 64

    @pytest.mark.parametrize(
        ("words", "text"),
        [
            (["--user", "", "true"], "--user needs a name"),
            (["--env", "UNSET_HERE", "true"], "--env UNSET_HERE: there is no such variable here"),
            (["--env", "=x", "true"], "--env needs a name"),
            (["--env"], "--env needs a name"),
            (["--timeout", "soon", "true"], "not a number of seconds"),
            (["--timeout=0", "true"], "not a number of seconds"),
            (["--timeout=nan", "true"], "not a number of seconds"),
            (["-n=x", "true"], "unknown option"),
        ],
    )
    def test_wrong(self, daemon: Daemon, words: list[str], text: str) -> None:
        done = run(daemon, *words)
        assert (done.returncode, done.stdout) == (97, "")
        assert text in done.stderr

    def test_check(self, daemon: Daemon, tmp_path: Path) -> None:
        assert run(daemon, "--check", "sh", "-c", f"touch {tmp_path}/ran").returncode == 0
        assert not (tmp_path / "ran").exists()
        done = run(daemon, "--check", "unheard-of")
        assert done.returncode == 99
        assert done.stderr.startswith("rootwrap-exec: unheard-of: no filter allows")
        assert run(daemon, "--check", "--env", "SECRET=x", "printenv").returncode == 0
        assert run(daemon, "--check", "--env", "OTHER=x", "printenv").returncode == 99

    def test_no_input(self, daemon: Daemon) -> None:
        assert run(daemon, "-n", "cat", input="in").stdout == ""

    def test_timeout(self, daemon: Daemon) -> None:
        # Of less than a second one is left for the hello, which a busy machine may not make.
        done = run(daemon, "--timeout", "3", "sleep", "1000")
        assert done.returncode == 124
        assert done.stderr.startswith("rootwrap-exec: sleep: ")

    def test_help_and_version(self) -> None:
        for option, text in (("--help", "--env NAME[=VALUE]"), ("--version", "rootwrap-exec ")):
            done = subprocess.run([*PROGRAM, option], capture_output=True, text=True, check=True)
            assert text in done.stdout
        with open("/dev/full", "w") as full:
            failed = subprocess.run([*PROGRAM, "--help"], stdout=full, stderr=subprocess.PIPE, check=False)
            assert (failed.returncode, failed.stderr[:15]) == (74, b"rootwrap-exec: ")


class TestADaemonThatDoesNotAnswer:
    """It listens, and nobody serves it."""

    @pytest.fixture
    def path(self, tmp_path: Path) -> Iterator[str]:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(tmp_path / "socket"))
            listener.listen(8)
            yield str(tmp_path / "socket")

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
    def test_each_signal_ends_it_after_the_hello_too(self, tmp_path: Path, number: signal.Signals) -> None:
        """Nobody knows whether the command runs: it is ended with the connection, if it does."""
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(tmp_path / "socket"))
            listener.listen(8)
            process = subprocess.Popen([*PROGRAM, "--socket", str(tmp_path / "socket"), "true"])
            peer, _ = listener.accept()
            with peer:
                peer.sendall(frame([0, 1, 1 << 20, 0]))
                # The hello, and something of the request.
                received = b""
                while len(received) < 20:
                    received += peer.recv(100)
                process.send_signal(number)
                assert process.wait(60) == -number

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
    def test_each_signal_ends_at_once(self, path: str, number: signal.Signals) -> None:
        process = subprocess.Popen([*PROGRAM, "--socket", path, "true"], stderr=subprocess.PIPE)
        # It waits in poll(2) by then, or it is on its way there: both end.
        wait_for(lambda: any("socket:" in name for name in links_of(process.pid).values()))
        process.send_signal(number)
        assert process.wait(60) == -number
        assert process.stderr
        assert process.stderr.read() == b""
        process.stderr.close()

    def test_a_timeout_takes_the_place_of_the_bound(self, path: str) -> None:
        """A daemon that restarts may let a command end for longer than the 10 seconds of no --timeout."""
        with subprocess.Popen([*PROGRAM, "--socket", path, "--timeout", "3600", "true"]) as process:
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(13)
            process.kill()

    def test_more_descriptors_than_a_user_may_have_under_way(self, tmp_path: Path) -> None:
        """The kernel passes none of them: it says so at once, and nothing ran."""
        user = pwd.getpwnam("games").pw_uid
        with tempfile.TemporaryDirectory() as directory, socket.socket(socket.AF_UNIX) as listener:
            os.chmod(directory, 0o711)
            path = f"{directory}/socket"
            listener.bind(path)
            os.chmod(path, 0o666)
            listener.listen(8)
            argv = [sys.executable, "-c", FULL, str(user), *PROGRAM, "--socket", path, "true"]
            pipe = subprocess.PIPE
            with subprocess.Popen(argv, stderr=pipe, cwd="/", text=True) as process:
                peer, _ = listener.accept()
                with peer:
                    peer.sendall(frame([0, 1, 1 << 20, 0]))
                    assert process.wait(60) == 75
                    assert process.stderr
                    said = process.stderr.read()
        assert said == "rootwrap-exec: true: too many descriptors of this user are under way\n"

    def test_a_bound(self, path: str) -> None:
        done = subprocess.run(
            [*PROGRAM, "--socket", path, "--timeout", "1", "true"],
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert done.returncode == 97
        assert done.stderr == "rootwrap-exec: true: the daemon did not answer in time: nothing ran\n"
        done = subprocess.run(
            [*PROGRAM, "--socket", path, "--timeout", "1", "--check", "true"],
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert done.returncode == 97
        assert "nothing ran" in done.stderr


def test_a_stopping_daemon_says_so(new_daemon: NewDaemon) -> None:
    daemon = new_daemon(FILTERS, drain_timeout="0.3", kill_grace="60")
    with start(daemon, "sh", "-c", "echo; sleep 1000") as process:
        assert process.stdout and process.stderr
        process.stdout.readline()
        daemon.stop()
        assert process.wait(60) == -signal.SIGTERM
        assert process.stderr.read() == b"rootwrap-exec: sh: ended, because the daemon is stopping\n"


def test_loads_little() -> None:
    """What the interpreter has loaded already, and modules in C: an agent pays for it with every command."""
    done = subprocess.run(
        [sys.executable, "-c", "import rootwrap_daemon.cli.exec.main, sys; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    others = {
        name.partition(".")[0]
        for name in done.stdout.split()
        if name.partition(".")[0] not in sys.stdlib_module_names
    }
    assert {name for name in others if not name.startswith("_")} <= {"rootwrap_daemon", "sitecustomize"}
    bare = subprocess.run(
        [sys.executable, "-c", "import sys; print(*sys.modules)"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    mine = set(done.stdout.split()) - set(bare.stdout.split())
    assert mine - {name for name in mine if name.startswith("rootwrap_daemon")} <= {
        "_signal", "_socket", "select", "fcntl", "errno", "time",
    }  # fmt: skip
