"""`rootwrap-exec` is what the command is: its streams, its end, its signals."""

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rootwrap_daemon.openstack import SOCKET_VARIABLE
from tests.real_daemon import Daemon, NewDaemon, children_of, is_alive, wait_for

PROGRAM = [sys.executable, "-c", "from rootwrap_daemon.cli.exec.main import main; main()"]
FILTERS = """\
[Filters]
true: CommandFilter, true, root
cat: CommandFilter, cat, root
sh: CommandFilter, sh, root
sleep: CommandFilter, sleep, root
deaf: CommandFilter, tail, root
missing: CommandFilter, /nonexistent/program, root
ip: IpFilter, ip, root
netns: IpNetnsExecFilter, ip, root
hostname: ReadFileFilter, /etc/hostname
kill_sleep: KillFilter, root, sleep, -9

[sh]
signals = HUP, INT, QUIT, TERM, USR1, USR2, ALRM, KILL

[sleep]
signals = TERM, KILL

[deaf]
signals = none
"""


@pytest.fixture
def daemon(new_daemon: NewDaemon) -> Daemon:
    return new_daemon(FILTERS)


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
            assert one.wait(30) == 0
            assert b"word word" in os.read(ours, 1000)
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

    def test_much_both_ways(self, daemon: Daemon) -> None:
        data = os.urandom(5_000_000)
        assert run(daemon, "cat", input=data, text=False).stdout == data

    def test_what_the_daemon_does_itself(self, daemon: Daemon, tmp_path: Path) -> None:
        hostname = Path("/etc/hostname").read_text()
        assert run(daemon, "cat", "/etc/hostname").stdout == hostname
        with (tmp_path / "out").open("w") as file:
            assert run(daemon, "cat", "/etc/hostname", capture_output=False, stdout=file).returncode == 0
        assert (tmp_path / "out").read_text() == hostname

    @pytest.mark.parametrize("file", [False, True])
    def test_input_that_goes_on_keeps_nobody(self, daemon: Daemon, file: bool) -> None:
        ours, theirs = pty.openpty() if file else os.pipe()[::-1]
        with start(daemon, "true", stdin=theirs) as process:
            assert process.wait(30) == 0
        os.close(ours)
        os.close(theirs)

    @pytest.mark.parametrize("file", [False, True])
    def test_what_stays_in_the_background_keeps_nobody(
        self, daemon: Daemon, tmp_path: Path, file: bool
    ) -> None:
        with (tmp_path / "out").open("wb") as out:
            process = start(daemon, "sh", "-c", "sleep 60 & echo $!", **({"stdout": out} if file else {}))
            assert process.wait(30) == 0
        if process.stdout:
            pid = int(process.stdout.readline())
        else:
            pid = int((tmp_path / "out").read_text())
        assert is_alive(pid)
        os.kill(pid, 9)

    def test_the_end_of_each_stream_is_the_commands(self, daemon: Daemon) -> None:
        with start(daemon, "sh", "-c", "exec <&- >&-; sleep 60") as process:
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

    def test_options(self, daemon: Daemon) -> None:
        env = {**os.environ, SOCKET_VARIABLE: daemon.socket}
        for words in (["true"], ["--", "true"], ["--socket", daemon.socket, "--", "true"]):
            assert subprocess.run([*PROGRAM, *words], check=False, env=env).returncode == 0
        assert run(daemon, "sh", "-c", "exit $#", "sh", "--socket", "--").returncode == 2

    def test_a_daemon_that_ends_meanwhile(self, daemon: Daemon) -> None:
        with start(daemon, "sh", "-c", "echo; sleep 5") as process:
            assert process.stdout and process.stderr
            process.stdout.readline()
            daemon.stop(signal.SIGKILL)
            assert process.wait(30) == 75
            assert b"rootwrap-exec: " in process.stderr.readline()


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
            assert process.wait(30) == -signal.SIGTERM

    def test_one_that_may_not_be_sent_is_nothing(
        self, daemon: Daemon, target: Callable[["subprocess.Popen[bytes]"], int]
    ) -> None:
        with start(daemon, "sleep", "60") as process:
            wait_for(lambda: children_of(process.pid) and children_of(daemon.pid))
            (pid,) = children_of(daemon.pid)
            os.kill(target(process), signal.SIGUSR1)
            os.kill(target(process), signal.SIGTERM)
            assert process.wait(30) == -signal.SIGTERM
            assert not is_alive(pid)

    def test_one_that_ends_ends_it_all_the_same(
        self, daemon: Daemon, target: Callable[["subprocess.Popen[bytes]"], int]
    ) -> None:
        """A client that vanishes ends its command, too: nothing is gained by asking for it."""
        with start(daemon, "tail", "-f", "/dev/null") as process:
            wait_for(lambda: children_of(process.pid) and children_of(daemon.pid))
            (pid,) = children_of(daemon.pid)
            os.kill(target(process), signal.SIGINT)
            assert process.wait(30) == -signal.SIGTERM
            assert not is_alive(pid)

    def test_killed(self, daemon: Daemon, target: Callable[["subprocess.Popen[bytes]"], int]) -> None:
        with start(daemon, "sleep", "60") as process:
            wait_for(lambda: children_of(process.pid) and children_of(daemon.pid))
            (pid,) = children_of(daemon.pid)
            standing = children_of(process.pid)
            os.kill(target(process), signal.SIGKILL)
            assert process.wait(30) == -signal.SIGKILL
            wait_for(lambda: not is_alive(pid))
            wait_for(lambda: not is_alive(standing[0]))


class TestStandIn:
    """What is below rootwrap-exec looks like the command, as neutron's AsyncProcess reads it."""

    def words(self, pid: int) -> list[str]:
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")[:-1]

    @pytest.mark.parametrize("argv", [["sh", "-c", "sleep 60 # a  b", "", "c d"], ["sleep", "60"]], ids=repr)
    def test_looks_like_the_command(self, daemon: Daemon, argv: list[str]) -> None:
        with start(daemon, "--", *argv) as process:
            wait_for(lambda: children_of(process.pid) and self.words(children_of(process.pid)[0])[1:] == argv)
            process.kill()

    @pytest.mark.root
    def test_in_a_namespace(self, daemon: Daemon) -> None:
        name = f"exec-{os.getpid()}"
        subprocess.run(["ip", "netns", "add", name], check=True)
        try:
            with start(daemon, "ip", "netns", "exec", name, "sleep", "60") as process:
                wait_for(
                    lambda: (
                        children_of(process.pid)
                        and self.words(children_of(process.pid)[0])[1:] == ["sleep", "60"]
                    )
                )
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
        with start(daemon, "sleep", "60") as process:
            wait_for(lambda: children_of(process.pid))
            (pid,) = children_of(process.pid)
            streams = {os.readlink(f"/proc/{process.pid}/fd/2")}
            wait_for(
                lambda: (
                    not streams & {os.readlink(f"/proc/{pid}/fd/{n}") for n in os.listdir(f"/proc/{pid}/fd")}
                )
            )
            process.kill()


def test_loads_little() -> None:
    """The standard library, msgpack and the client: an agent pays for it with every command."""
    done = subprocess.run(
        [sys.executable, "-I", "-c", "import rootwrap_daemon.cli.exec.main, sys; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    others = {
        name.partition(".")[0]
        for name in done.stdout.split()
        if name.partition(".")[0] not in sys.stdlib_module_names
    }
    assert {name for name in others if not name.startswith("_")} <= {
        "cython_runtime",
        "msgpack",
        "rootwrap_daemon",
        "sitecustomize",
    }
    assert not {"argparse", "asyncio", "logging", "typing_extensions"} & set(done.stdout.split())
