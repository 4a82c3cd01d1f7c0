"""A start that goes on as another program: what it is given, what it keeps, what outsiders see of it."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from rootwrap_daemon.daemon.serve import reload
from rootwrap_daemon.errors import ConfigurationError
from tests.functional.test_lifecycle import attempt
from tests.real_daemon import ENVIRON, ROOT, START, Daemon, NewDaemon, links_of, our_descriptors, wait_for


def test_it_stays_the_process_that_was_started(daemon: Daemon) -> None:
    words = Path(f"/proc/{daemon.pid}/cmdline").read_text().split("\0")
    assert "rootwrap_daemon.daemon.serve.main" in words
    assert words[words.index("--config-file") + 1] == str(daemon.config)
    with daemon.client() as client:
        assert int(client.run(["sh", "-c", "echo $PPID"]).stdout) == daemon.pid


def test_nothing_else_is_handed_on(new_daemon: NewDaemon) -> None:
    """Neither variables nor descriptors, open ones of the starter's included."""
    daemon = new_daemon(start=False)
    daemon.environ = {"PYTHONUNBUFFERED": "1", "SECRET": "x"}
    opened = "import os, sys; os.dup2(1, 77); os.dup2(1, 5); os.execvp(sys.argv[1], sys.argv[1:])"
    daemon.inside = [sys.executable, "-c", opened]
    daemon.start()
    assert Path(f"/proc/{daemon.pid}/environ").read_bytes() == b""
    found = links_of(daemon.pid)
    assert 77 not in found
    assert not any("memfd" in name for name in found.values())
    for number, name in found.items():
        flags = Path(f"/proc/{daemon.pid}/fdinfo/{number}").read_text().split("flags:")[1].split()[0]
        assert number <= 2 or int(flags, 8) & os.O_CLOEXEC, name
    assert "dropped from the environment: PYTHONUNBUFFERED" in daemon.log


def test_no_thread_is_left_waiting_for_the_log(new_daemon: NewDaemon) -> None:
    """A reader that never reads: requests are answered, and the end comes."""
    daemon = new_daemon(start=False, debug="true", audit_file="/dev/null", audit="best_effort")
    reader, writer = os.pipe()
    inside = [] if ROOT else ["unshare", "--user", "--map-root-user"]
    os.set_blocking(writer, False)
    try:
        while True:
            os.write(writer, b"x" * 4096)
    except BlockingIOError:
        os.set_blocking(writer, True)
    with subprocess.Popen(
        [*inside, *START, "--config-file", str(daemon.config)], stderr=writer, stdin=subprocess.DEVNULL
    ) as process:
        wait_for(lambda: os.path.exists(daemon.socket))
        with daemon.client() as client:
            assert client.run(["true"], timeout=60).returncode == 0
            process.send_signal(signal.SIGHUP)
            assert client.run(["true"], timeout=60).returncode == 0
        process.terminate()
        assert process.wait(60) == 0
    os.close(reader)
    os.close(writer)


@pytest.mark.parametrize("filters", ["[Filters]\nx: What, x, root\n", "[Filters]\na: CommandFilter\n"])
def test_no_socket_appears_where_the_policy_is_bad(new_daemon: NewDaemon, filters: str) -> None:
    daemon = new_daemon(filters, start=False)
    assert attempt(daemon).returncode == 78
    assert not os.path.exists(daemon.socket)
    daemon.configure("[Filters]\ntrue: CommandFilter, true, root\n")
    daemon.start()
    assert not os.path.exists(f"{daemon.socket}.new")


# What is not a socket of ours stays.


@pytest.mark.parametrize("suffix", ["", ".new", ".lock"])
@pytest.mark.parametrize("kind", ["file", "directory", "link", "fifo"])
def test_nothing_but_a_socket_is_replaced(new_daemon: NewDaemon, suffix: str, kind: str) -> None:
    daemon = new_daemon(start=False)
    path = Path(daemon.socket + suffix)
    (daemon.directory / "target").write_text("precious")
    if kind == "file":
        path.write_text("precious")
    elif kind == "directory":
        path.mkdir()
    elif kind == "link":
        path.symlink_to("target")
    else:
        os.mkfifo(path)
    before = path.lstat()
    for arguments in ((), ("--check",)):
        done = attempt(daemon, *arguments)
        assert done.returncode == 78, done.stderr
        assert f"{path} is there, and is no" in done.stderr
    assert path.lstat() == before
    assert (daemon.directory / "target").read_text() == "precious"


@pytest.mark.parametrize("arguments", [(), ("--check",)])
def test_a_directory_of_the_socket_that_is_not_there(
    new_daemon: NewDaemon, arguments: tuple[str, ...]
) -> None:
    daemon = new_daemon(start=False)
    missing = daemon.directory / "missing"
    daemon.configure(socket_path=f"{missing}/s")
    done = attempt(daemon, *arguments)
    assert done.returncode == 78
    assert f"there is no {missing}: `install -d -m 0755 {missing}` makes it" in done.stderr


@pytest.mark.parametrize("suffix", ["", ".new"])
def test_a_socket_that_another_program_serves_stays(new_daemon: NewDaemon, suffix: str) -> None:
    daemon = new_daemon(start=False)
    path = daemon.socket + suffix
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET):
        with socket.socket(socket.AF_UNIX, kind) as other:
            other.bind(path)
            if kind != socket.SOCK_DGRAM:
                other.listen()
            inode = os.stat(path).st_ino
            done = attempt(daemon)
            assert (done.returncode, "another program listens" in done.stderr) == (78, True), done.stderr
            assert os.stat(path).st_ino == inode
            os.unlink(path)


def test_what_took_its_place_stays_at_the_end(daemon: Daemon) -> None:
    os.unlink(daemon.socket)
    Path(daemon.socket).write_text("precious")
    assert daemon.stop() == 0
    assert Path(daemon.socket).read_text() == "precious"


# A reload in a process of its own


def test_a_reload_that_takes_too_long_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "slow").write_text("#!/bin/sh\nexec sleep 77\n")
    (tmp_path / "slow").chmod(0o755)
    monkeypatch.setattr(reload, "_PATIENCE", 0.2)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "slow"))
    before = our_descriptors()
    with pytest.raises(ConfigurationError, match=r"not within 0\.2 s"):
        reload.read(("tell", "/x"), 2)
    assert our_descriptors() <= before


@pytest.mark.parametrize(
    ("script", "what"),
    [
        ("exit 0", "not sealed"),
        ("echo why; exit 78", "why"),
        ("echo half >&3; exit 0", "not sealed"),
        ("kill -9 $$", "code -9"),
        ("head -c 1000000 /dev/zero; echo >&2 more; exit 1", "\0"),
    ],
)
def test_a_reload_is_taken_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, what: str
) -> None:
    (tmp_path / "python").write_text(f"#!/bin/sh\n{script}\n")
    (tmp_path / "python").chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    before = our_descriptors()
    with pytest.raises(ConfigurationError) as raised:
        reload.read(("tell", "/x"), 2)
    assert what in str(raised.value)
    assert len(str(raised.value)) < 100_000
    assert our_descriptors() <= before


def test_a_reload_reads_what_a_start_reads(new_daemon: NewDaemon) -> None:
    daemon = new_daemon(start=False, max_output="77", syslog_log_level="ERROR")
    found = reload.read(("tell", str(daemon.config), "/run/other"), 7)
    assert found.policy.generation == 7
    assert found.policy.settings.max_output == 77
    assert found.policy.settings.socket_path == "/run/other"
    assert found.log.level == 40
    daemon.configure(max_output="many")
    with pytest.raises(ConfigurationError, match="max_output"):
        reload.read(("tell", str(daemon.config)), 7)


def test_it_leaves_no_process(daemon: Daemon) -> None:
    for _ in range(3):
        assert daemon.reload()
    wait_for(lambda: not daemon.children())


def test_commands_run_while_it_reloads(daemon: Daemon) -> None:
    with daemon.client() as client:
        while "reloaded: generation 4" not in daemon.log:
            os.kill(daemon.pid, signal.SIGHUP)
            assert client.run(["true"]).returncode == 0
    assert "not reloaded" not in daemon.log


# The log


def test_the_log_goes_where_the_configuration_says(new_daemon: NewDaemon) -> None:
    daemon = new_daemon(start=False)
    path = daemon.directory / "daemon.log"
    daemon.configure(
        log_dir=str(daemon.directory),
        log_file="daemon.log",
        debug="true",
        logging_default_format_string="%(levelname)s|%(name)s|%(message)s",
    )
    daemon.process = subprocess.Popen(
        [*([] if ROOT else ["unshare", "--user", "--map-root-user"]), *START, "--config-file", daemon.config],
        stderr=subprocess.PIPE,
    )
    daemon.pid = daemon.process.pid
    wait_for(lambda: os.path.exists(daemon.socket) and path.exists())
    wait_for(lambda: "INFO|rootwrap_daemon.daemon.serve.main|10 filters; listening" in path.read_text())
    process = daemon.process
    assert daemon.stop() == 0
    assert process.stderr is not None
    assert process.stderr.read() == b""
    process.stderr.close()


def test_priorities_on_the_stream_of_the_journal(new_daemon: NewDaemon) -> None:
    """`journalctl -p err` finds them: sd-daemon(3)."""
    daemon = new_daemon(start=False)
    (daemon.directory / "log").touch()
    found = (daemon.directory / "log").stat()
    daemon.environ = {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"}
    daemon.start()
    assert daemon.log.startswith("<6>")
    daemon.configure("[Filters]\nx: What, x, root\ny: What, x, root\n")
    assert not daemon.reload()
    wait_for(lambda: ":3:" in daemon.log)
    assert all(line.startswith(("<6>", "<3>")) for line in daemon.log.splitlines())
    assert any(line.startswith("<3>") and "not reloaded" in line for line in daemon.log.splitlines())
    assert daemon.stop() == 0
    (daemon.directory / "log").write_text("")
    with (daemon.directory / "log").open("a") as log:
        inside = [] if ROOT else ["unshare", "--user", "--map-root-user"]
        done = subprocess.run(
            [*inside, *START, "--config-file", str(daemon.config)],
            stderr=log,
            env={"PATH": os.environ["PATH"], **daemon.environ},
            check=False,
        )
    assert done.returncode == 78
    assert all(line.startswith("<3>") for line in daemon.log.splitlines())


def test_the_journal_keeps_no_record_that_is_required(new_daemon: NewDaemon) -> None:
    """It is standard error, but drops what is beyond its rate limit."""
    daemon = new_daemon(start=False, audit_file="")
    (daemon.directory / "log").touch()
    found = (daemon.directory / "log").stat()
    daemon.environ = {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"}
    with pytest.raises(pytest.fail.Exception, match="audit = best_effort"):
        daemon.start()
    daemon.configure(audit="best_effort")
    daemon.start()


def test_standard_error_that_keeps_no_record(new_daemon: NewDaemon) -> None:
    """It is /dev/null, or closed, which becomes that: only whoever checks may have such a one."""
    daemon = new_daemon(start=False, audit_file="")
    inside = [] if ROOT else ["unshare", "--user", "--map-root-user"]
    command = [*inside, *START, "--config-file", str(daemon.config)]
    for closed in ("2>/dev/null", "2>&-"):
        done = subprocess.run(
            ["sh", "-c", f'exec "$@" {closed}', "sh", *command], env=ENVIRON, timeout=60, check=False
        )
        assert done.returncode == 78
    assert attempt(daemon, "--check").returncode == 0
    done = subprocess.run([*command, "--check"], stderr=subprocess.DEVNULL, env=ENVIRON, check=False)
    assert done.returncode == 0


def test_another_stream_has_none(new_daemon: NewDaemon) -> None:
    daemon = new_daemon(start=False)
    daemon.environ = {"JOURNAL_STREAM": "1:2"}
    daemon.start()
    assert daemon.log.startswith("20")


@pytest.mark.parametrize("name", ["PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE"])
def test_variables_that_images_of_containers_set(new_daemon: NewDaemon, name: str) -> None:
    daemon = new_daemon(start=False)
    code = "from rootwrap_daemon.daemon.start.bootstrap import console; console()"
    inside = [] if ROOT else ["unshare", "--user", "--map-root-user"]
    done = subprocess.run(
        [*inside, sys.executable, "-c", code, "--config-file", str(daemon.config), "--check"],
        capture_output=True,
        text=True,
        env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", name: "1"},
        check=False,
    )
    assert (done.returncode, f"dropped from the environment: {name}" in done.stderr) == (0, True), done.stderr
