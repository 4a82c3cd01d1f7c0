"""What a command gets, and what comes back, through a real daemon."""

import os
import signal
import subprocess
from typing import Any

import pytest

from rootwrap_daemon import errors
from rootwrap_daemon.client import Client
from rootwrap_daemon.protocol.messages import MAX_ARGUMENT_BYTES, MAX_WORD_BYTES, WORD_OVERHEAD
from tests.real_daemon import ROOT, Daemon, NewDaemon, is_alive, wait_for


def shell(client: Client, script: str) -> str:
    """The output of a shell that runs as the daemon's own user."""
    done = client.run(["sh", "-c", script], check=True, text=True)
    assert isinstance(done.stdout, str)
    return done.stdout


def test_result_has_output_and_code(client: Client) -> None:
    done = client.run(["sh", "-c", "echo out; echo err >&2; exit 3"])
    assert (done.returncode, done.stdout, done.stderr) == (3, b"out\n", b"err\n")


def test_signal_is_a_negative_code(client: Client) -> None:
    assert client.run(["sh", "-c", "kill -KILL $$"]).returncode == -signal.SIGKILL


@pytest.mark.parametrize("code", [96, 97, 98, 99, 124, 126, 127, 255])
def test_no_code_of_a_command_is_an_error_of_ours(client: Client, code: int) -> None:
    assert client.run(["sh", "-c", f"exit {code}"]).returncode == code


def test_check_raises_what_subprocess_raises(client: Client) -> None:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        client.run(["sh", "-c", "echo no >&2; exit 4"], check=True)
    assert isinstance(caught.value, errors.CommandFailed)
    assert (caught.value.returncode, caught.value.stderr) == (4, b"no\n")


def test_every_byte_but_nul_arrives_as_it_is(client: Client) -> None:
    words = [bytes([byte]) * 3 for byte in range(1, 256)]
    words += [b"", b"\\", b"\\\\'\"$(id)`id`;|&", b"--", b"-"]
    done = client.run([b"sh", b"-c", b'printf "%s\\0" "$@"', b"sh", *words])
    assert done.stdout.split(b"\0")[:-1] == words


def test_stdin_arrives_whole_and_ends(client: Client) -> None:
    data = os.urandom(3_000_000)
    assert client.run(["cat"], input=data).stdout == data


def test_without_input_stdin_is_empty(client: Client) -> None:
    assert client.run(["cat"]).stdout == b""


def test_command_that_reads_nothing_of_a_large_input(client: Client) -> None:
    assert client.run(["true"], input=bytes(3_000_000)).returncode == 0


def test_environment_is_built_from_nothing(new_daemon: NewDaemon) -> None:
    daemon = new_daemon(start=False, exec_dirs="/usr/bin, /bin")
    daemon.environ = {"LEAK": "1", "LD_BIND_NOW": "1", "BASH_ENV": "/tmp/x", "HOME": "/tmp", "IFS": "x"}
    daemon.start()
    with daemon.client() as client:
        found = shell(client, "cat /proc/self/environ").split("\0")[:-1]
    assert sorted(found) == [
        "HOME=/root",
        "LANG=C.UTF-8",
        "LOGNAME=root",
        "PATH=/usr/bin:/bin",
        "PWD=/",
        "USER=root",
    ]


def test_variables_reach_a_command_only_by_name_in_its_filter(client: Client) -> None:
    done = client.run(["sh", "-c", "echo $GREETING"], env={"GREETING": "hi $(id)"}, text=True)
    assert done.stdout == "hi $(id)\n"
    assert client.run(["env", "FOO=a=b", "env"], text=True).stdout.count("FOO=a=b\n") == 1
    for env in ({"LD_PRELOAD": "/tmp/x.so"}, {"GREETING": "a\nb"}, {"GREETING": "x", "PATH": "/tmp"}):
        with pytest.raises(errors.EnvironmentDenied):
            client.run(["sh", "-c", "true"], env=env)
    with pytest.raises(errors.EnvironmentDenied):
        client.run(["true"], env={"GREETING": "hi"})


def test_surroundings_are_stated_not_inherited(new_daemon: NewDaemon) -> None:
    daemon = new_daemon(rlimit_nofile="9000")
    with daemon.client() as client:
        assert shell(client, "umask; pwd; ulimit -n") == "0022\n/\n9000\n"
        # A session and process group of its own, no terminal.
        pid, group, session, terminal = shell(
            client,
            "read pid comm state parent group session terminal rest </proc/self/stat;"
            " echo $pid $group $session $terminal",
        ).split()
        assert pid == group == session
        assert terminal == "0"
        assert shell(client, "ls /proc/self/fd").split() == ["0", "1", "2", "3"]


def test_signals_are_at_their_defaults(new_daemon: NewDaemon) -> None:
    daemon = new_daemon(start=False)
    daemon.inside = ["env"]
    old = [signal.signal(number, signal.SIG_IGN) for number in (signal.SIGHUP, signal.SIGQUIT)]
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    try:
        daemon.start()
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})
        for number, handler in zip((signal.SIGHUP, signal.SIGQUIT), old, strict=True):
            signal.signal(number, handler)
    with daemon.client() as client:
        status = client.run(["cat", "/proc/self/status"], check=True, text=True).stdout
    masks = dict(line.split(":\t") for line in status.splitlines() if line.startswith("Sig"))
    # 32 and 33 are glibc's own: its posix_spawn leaves them ignored, and its sigaction does not take them.
    assert int(masks["SigBlk"], 16) == int(masks["SigIgn"], 16) & ~(0b11 << 31) == 0


@pytest.mark.root
def test_run_as_is_a_whole_identity(new_daemon: NewDaemon) -> None:
    daemon = new_daemon("[Filters]\nid: CommandFilter, id, nobody\ncat: CommandFilter, cat, nobody\n")
    with daemon.client() as client:
        assert client.run(["id", "-u"]).stdout == b"65534\n"
        assert client.run(["id", "-G"]).stdout == b"65534\n"
        status = client.run(["cat", "/proc/self/status"], text=True).stdout
        assert [line.split(":\t")[1] for line in status.splitlines() if line.startswith("Cap")][:3] == [
            "0" * 16
        ] * 3


def test_background_child_does_not_hold_the_call(client: Client) -> None:
    done = client.run(["sh", "-c", "sleep 1000 & echo $!"], timeout=60)
    # What a command leaves behind lives on, as under sudo.
    pid = int(done.stdout)
    assert is_alive(pid)
    # Forked, the child is still the shell for a moment.
    wait_for(lambda: os.readlink(f"/proc/{pid}/exe").endswith("/sleep"))
    assert client.run(["kill", "-9", str(pid)]).returncode == 0


def test_denied_says_nothing_of_the_host(client: Client) -> None:
    texts = set()
    for argv in (["nope"], ["/etc/shadow"], ["cat2"], ["sleep", "x"], ["kill", "-9", "1"], ["/tmp/true"]):
        with pytest.raises(errors.Denied) as caught:
            client.run(argv)
        assert caught.value.request_id
        texts.add(caught.value.message)
    assert texts == {"no filter allows this command"}


def test_missing_program_is_told_from_a_denied_one(new_daemon: NewDaemon) -> None:
    daemon = new_daemon("[Filters]\nx: CommandFilter, no-such-program-here, root\n")
    with daemon.client() as client:
        with pytest.raises(errors.ExecutableNotFound):
            client.run(["no-such-program-here"])
        assert not client.allows(["no-such-program-here"]).allowed


def test_program_that_others_can_change_is_not_run(new_daemon: NewDaemon) -> None:
    daemon = new_daemon(start=False)
    program = daemon.directory / "program"
    program.write_text("#!/bin/sh\necho ran\n")
    program.chmod(0o777)
    daemon.configure(f"[Filters]\nx: CommandFilter, {program}, root\n")
    daemon.start()
    with daemon.client() as client:
        with pytest.raises(errors.ExecutableNotFound):
            client.run([str(program)])
        program.chmod(0o755)
        assert client.run([str(program)]).stdout == b"ran\n"


def test_bad_program_is_an_error_of_its_own(new_daemon: NewDaemon) -> None:
    daemon = new_daemon(start=False)
    program = daemon.directory / "program"
    program.write_bytes(b"\x7fELF not really")
    program.chmod(0o755)
    daemon.configure(f"[Filters]\nx: CommandFilter, {program}, root\n")
    daemon.start()
    with daemon.client() as client, pytest.raises(errors.ExecutableNotFound) as caught:
        client.run([str(program)])
    assert str(daemon.directory) not in caught.value.message


def test_argv_that_the_system_does_not_take(client: Client) -> None:
    with pytest.raises(errors.TooLarge):
        client.run(["true", "x" * 200_000])


@pytest.mark.parametrize(
    "argv", [[], [""], ["true", "a\0b"], ["true", 1], ["true", None], "true", ["true", "\ud800"]]
)
def test_what_is_no_command_is_refused_before_it_is_sent(client: Client, argv: Any) -> None:
    with pytest.raises(errors.BadRequest):
        client.run(argv)


def test_output_past_the_limit_ends_the_command(new_daemon: NewDaemon) -> None:
    daemon = new_daemon(max_output="100000")
    with daemon.client() as client:
        assert len(client.run(["sh", "-c", "head -c 100000 /dev/zero"]).stdout) == 100_000
        for script in ("head -c 100001 /dev/zero", "cat /dev/zero", "cat /dev/zero >&2"):
            with pytest.raises(errors.OutputLimit):
                client.run(["sh", "-c", script])
    wait_for(lambda: daemon.children() == [])


def test_large_output_is_in_memory_once(new_daemon: NewDaemon) -> None:
    size = 64 * 1024 * 1024
    daemon = new_daemon(max_output=str(size), max_buffered=str(4 * size))
    with daemon.client() as client:
        client.run(["sh", "-c", "head -c 100000 /dev/zero"])
        before = daemon.peak()
        done = client.run(["sh", "-c", f"head -c {size - 100_000} /dev/zero; head -c 100000 /dev/zero >&2"])
    assert (len(done.stdout), len(done.stderr)) == (size - 100_000, 100_000)
    assert set(done.stdout) == {0}
    # An eighth more for growing, and the interpreter's own.
    assert daemon.peak() - before < size / 1024 * 1.3


def test_reading_a_file_needs_no_process(client: Client, daemon: Daemon) -> None:
    with open("/etc/hostname", "rb") as file:
        assert client.run(["cat", "/etc/hostname"]).stdout == file.read()


def test_kill_looks_like_kill(client: Client) -> None:
    pid = shell(client, "sleep 1000 >/dev/null 2>&1 & echo $!").strip()
    # Forked, it is still the shell for a moment.
    wait_for(lambda: os.readlink(f"/proc/{pid}/exe").endswith("/sleep"))
    assert client.allows(["kill", "-9", pid]).allowed
    assert client.run(["kill", "-9", pid]).returncode == 0
    wait_for(lambda: not is_alive(int(pid)))
    with pytest.raises(errors.Denied):
        client.run(["kill", "-9", pid])


def test_kill_never_hits_the_daemon_or_its_ancestors(daemon: Daemon) -> None:
    daemon.configure(FILTER_OF_EVERYTHING_KILLABLE.format(python=os.path.realpath(f"/proc/{daemon.pid}/exe")))
    assert daemon.reload()
    with daemon.client() as client:
        for pid in (daemon.pid, os.getpid(), 1):
            with pytest.raises(errors.Denied):
                client.run(["kill", "-9", str(pid)])
    assert is_alive(daemon.pid)


FILTER_OF_EVERYTHING_KILLABLE = "[Filters]\nk: KillFilter, root, {python}, -9\n"


def test_timeout_is_also_that_of_subprocess(client: Client, daemon: Daemon) -> None:
    with pytest.raises(subprocess.TimeoutExpired) as caught:
        client.run(["sleep", "1000"], timeout=0.2)
    assert isinstance(caught.value, errors.CommandTimeout)
    assert caught.value.timeout == 0.2
    wait_for(lambda: daemon.children() == [])


def test_audit_tells_who_what_and_how_it_ended(client: Client, daemon: Daemon) -> None:
    client.run(["sh", "-c", "exit 5", "--password", "hunter2", "token=abc\n\x1b[2J"])
    with pytest.raises(errors.Error) as caught:
        client.run(["nope"], env={"SECRET_VALUE": "s3cret"})
    run, end, denied = daemon.audit()
    assert (run["event"], end["event"], denied["event"]) == ("run", "end", "denied")
    assert run["id"] == end["id"]
    assert denied["id"] == caught.value.request_id
    assert (run["filter"], end["returncode"], end["code"]) == ("sh", 5, "ok")
    assert run["uid"] == 0 if ROOT else True
    assert run["pid"] == os.getpid() if ROOT else True
    text = (daemon.directory / "audit.jsonl").read_text()
    assert text.isascii()
    assert not {"hunter2", "abc", "s3cret", "\x1b"} & set(text.replace('"', " ").split())
    assert denied["env"] == ["SECRET_VALUE"]


@pytest.mark.parametrize("size", [0, 20, MAX_WORD_BYTES], ids=["empty", "short", "longest"])
def test_as_many_words_as_the_system_takes(client: Client, size: int) -> None:
    """The bounds are those of execve(2): what is let in runs, whatever the daemon adds."""
    count = MAX_ARGUMENT_BYTES // (size + WORD_OVERHEAD) - 2
    words = ["true", *["x" * size] * count]
    assert client.run(words).returncode == 0
    with pytest.raises(errors.TooLarge):
        client.run([*words, *["x" * MAX_WORD_BYTES] * 3])
