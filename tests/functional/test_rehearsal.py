"""`--check` says of each option what a start comes to: no more, and no less."""

import os
import select
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from tests.functional.test_lifecycle import attempt
from tests.prepared import CTL, Process
from tests.real_daemon import ENVIRON, PREPARED_START, ROOT, START, Daemon, NewDaemon, wait_for

LONG = "x" * 300
#: Values of options; `D` is a directory of root's, in which these lie: `dir`, `file`, `link` to it, `fifo`,
#: `open` (a directory that all may write), `theirs` (another user's directory).
VALUES: dict[str, tuple[str, ...]] = {
    "audit_file": (
        *("D/new", "D/no/new", "D/dir", "D/file", "D/link", "D/fifo", "D/open/new", "D/theirs/new"),
        *(f"D/{LONG}", "journal", "/dev/full", "relative", "/proc/new"),
    ),
    "state_dir": (
        *("D/new", "D/no/new", "D/dir", "D/file", "D/link", "D/open/new", "D/open", "D/theirs"),
        *(f"D/{LONG}", "/proc/new"),
    ),
    "log_file": ("D/new", "D/no/new", "D/dir", f"D/{LONG}", "/proc/new"),
    "log_dir": ("D", "D/no"),
    "socket_path": (
        *("D/new", "D/no/new", "D/dir", "D/file", "D/link", "D/open/new", "D/theirs/new", "D/"),
        *(f"D/{LONG}", "D/" + "y" * 80, "/proc/new"),
    ),
    "socket_group": ("root", "0", "no-such-group", "4294967295"),
    "socket_mode": ("0600", "rw", "7777"),
    "status_group": ("root", "no-such-group"),
    "allowed_users": ("root", "no-such-user", "65534"),
    "allowed_groups": ("root", "no-such-group"),
    "trusted_owners": ("no-such-user", "root, 65534"),
    "filters_path": ("D/no", "D/open", "D/theirs", "D/file", "relative"),
    "exec_dirs": ("/usr/bin", "D/open", "D/no"),
    "capabilities": ("CAP_KILL, CAP_SYS_PTRACE", "CAP_KILL", "CAP_NO_SUCH"),
    "audit": ("best_effort", "never"),
    "on_finding": ("skip", "no"),
    "rlimit_nofile": ("100000000", "1", "many"),
    "max_connections": ("1", "0", "65537"),
    "max_buffered": ("1", "99999999999"),
    "kill_grace": ("0", "-1", "nan"),
    "signals": ("HUP", "NO"),
    "syslog_log_level": ("debug", "loud"),
    "syslog_log_facility": ("LOG_DAEMON", "LOG_NOWHERE"),
    "use_journal": ("true",),
    "logging_default_format_string": ("%(message)s", "%(no_such)s"),
    "default_log_levels": ("rootwrap_daemon=DEBUG", "rootwrap_daemon=LOUD"),
    "no_such_option": ("1",),
}
CASES = [(option, value) for option, values in VALUES.items() for value in values]


def furnish(directory: Path) -> None:
    for name, mode in (("dir", 0o755), ("open", 0o777), ("theirs", 0o755)):
        (directory / name).mkdir()
        (directory / name).chmod(mode)
    (directory / "file").write_text("")
    (directory / "link").symlink_to("file")
    os.mkfifo(directory / "fifo")
    if ROOT:
        os.chown(directory / "theirs", 61111, -1)


def starts(daemon: Daemon) -> bool:
    """True if it says that it is ready."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager, open(os.devnull, "r+b") as null:
        manager.bind(str(daemon.directory / "notify"))
        words, standard = ["--config-file", str(daemon.config)], [null.fileno()] * 3
        environ = {**ENVIRON, "NOTIFY_SOCKET": str(daemon.directory / "notify")}
        process: Process | subprocess.Popen[bytes]
        if ROOT:
            process = PREPARED_START.start(words, standard, environ)
        else:
            command = ["unshare", "--user", "--map-root-user", *START, *words]
            process = subprocess.Popen(command, stdin=null, stdout=null, stderr=null, env=environ)
        try:
            wait_for(lambda: select.select([manager], [], [], 0)[0] or process.poll() is not None)
            if process.poll() is None:
                assert manager.recv(4096).startswith(b"READY=1")
                process.send_signal(signal.SIGTERM)
                assert process.wait(60) == 0
                return True
            assert process.wait() == 78
            return False
        finally:
            process.kill()
            process.wait()


@pytest.mark.parametrize(("option", "value"), CASES, ids=[f"{one}={value[:20]}" for one, value in CASES])
def test_what_a_check_passes_starts(new_daemon: NewDaemon, option: str, value: str) -> None:
    daemon = new_daemon(start=False)
    furnish(daemon.directory)
    more = {"use_syslog": "true"} if option == "syslog_log_facility" else {}
    value = value.replace("D", str(daemon.directory), 1) if value.startswith("D") else value
    daemon.configure(**{option: value, **more})
    before = sorted(daemon.directory.rglob("*"))
    done = attempt(daemon, "--check")
    assert done.returncode in (0, 78), done.stderr
    assert sorted(daemon.directory.rglob("*")) == before, "a check leaves something"
    assert starts(daemon) == (done.returncode == 0), done.stderr
    if done.returncode:
        assert option in done.stderr or value in done.stderr, "the option is not named"


@pytest.mark.root
@pytest.mark.parametrize(
    "value", ["D/new", "D/no/new", "D/theirs/new", "D/open/new", "D/file/new", "D/link/new"]
)
@pytest.mark.parametrize("option", ["audit_file", "state_dir", "socket_path"])
def test_the_linter_says_it_of_a_directory(new_daemon: NewDaemon, option: str, value: str) -> None:
    daemon = new_daemon(start=False)
    furnish(daemon.directory)
    daemon.configure(**{option: value.replace("D", str(daemon.directory), 1)})
    told = CTL.run("check", "--config-file", str(daemon.config), "--select", "RW207")
    assert told.returncode == (attempt(daemon, "--check").returncode != 0), told.stdout
    assert (f"{option}: " in told.stdout) is bool(told.returncode)


def test_a_directory_that_a_unit_makes(new_daemon: NewDaemon) -> None:
    """A directory missing below /run is a warning; of what the installed unit makes nothing is said."""
    daemon = new_daemon(start=False)
    places = {"/run/rootwrap-no-such/x.sock": "warning", "/run/rootwrap-daemon/no-such/x.sock": ""}
    for path, severity in places.items():
        daemon.configure(socket_path=path)
        told = CTL.run(
            "check", "--config-file", str(daemon.config), "--select", "RW207", "--format", "concise"
        )
        assert told.returncode == 0, told.stdout
        assert bool(severity) is ("socket_path: " in told.stdout) and severity in told.stdout
