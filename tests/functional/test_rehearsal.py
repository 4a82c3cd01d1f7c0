"""`--check` says of each option what a start comes to: no more, and no less."""

import os
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.functional.test_lifecycle import attempt
from tests.prepared import CTL, Process
from tests.real_daemon import ENVIRON, PREPARED_START, ROOT, START, Daemon, NewDaemon, wait_for

LONG = "x" * 300
#: Values of options; `D` is a directory of root's, in which these lie: `dir`, `file`, `link` to it, `nowhere`
#: (a link), `fifo`, `open` (a directory that all may write), `theirs` (another user's directory), `used` (one
#: whose `running` is a FIFO).
VALUES: dict[str, tuple[str, ...]] = {
    "audit_file": (
        *("D/new", "D/no/new", "D/dir", "D/file", "D/link", "D/fifo", "D/open/new", "D/theirs/new"),
        *("D/nowhere", "D/new/", "D/file/new", f"D/{LONG}", "journal", "/dev/full", "/dev/null"),
        *("relative", "/proc/new", "/proc/self/clear_refs", "/sys/kernel/profiling"),
    ),
    "state_dir": (
        *("D/new", "D/no/new", "D/dir", "D/file", "D/link", "D/open/new", "D/open", "D/theirs"),
        *("D/nowhere", "D/new/", "D/dir/", "D/fifo", "D/used", "D/file/new", f"D/{LONG}", "/proc/new"),
    ),
    "log_file": (
        *("D/new", "D/no/new", "D/dir", "D/link", "D/nowhere", "D/fifo", f"D/{LONG}", "/proc/new"),
        *("D/new/", "D/file/new", "/dev/null"),
    ),
    "log_dir": ("D", "D/no"),
    "socket_path": (
        *("D/new", "D/no/new", "D/dir", "D/file", "D/link", "D/open/new", "D/theirs/new", "D/"),
        *("D/nowhere", "D/new/", "D/file/new", f"D/{LONG}", "D/" + "y" * 80, "/proc/new"),
    ),
    # In a user namespace of one user, that of `nogroup` is nobody's.
    "socket_group": ("root", "0", "no-such-group", "4294967295", "nogroup", "12345"),
    "socket_mode": ("0600", "rw", "7777"),
    "status_group": ("root", "no-such-group"),
    "allowed_users": ("root", "no-such-user", "65534"),
    "allowed_groups": ("root", "no-such-group"),
    "trusted_owners": ("no-such-user", "root, 65534"),
    "filters_path": ("D/no", "D/open", "D/theirs", "D/file", "D/filters.d/", "relative"),
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
#: Options that name the same, or what is made beside or below it: with each of these nothing starts.
CLASHES: tuple[dict[str, str], ...] = (
    {"state_dir": "D/socket"},
    {"state_dir": "D/socket.lock"},
    {"state_dir": "D/./socket.new/"},
    {"state_dir": "D/here/socket"},
    {"state_dir": "D/dir", "audit_file": "D/dir/running"},
    {"state_dir": "D/dir", "log_file": "D/dir/running"},
    {"state_dir": "D/dir", "socket_path": "D/dir/running"},
    {"state_dir": "D/new", "audit_file": "D/new"},
    {"state_dir": "D/daemon.conf"},
    {"audit_file": "D/socket"},
    {"audit_file": "D/socket.lock"},
    {"audit_file": "D/new", "log_file": "D/new"},
    {"audit_file": "D/new", "log_file": "new", "log_dir": "D/here"},
    {"audit_file": "D/daemon.conf"},
    {"audit_file": "D/filters.d/new.filters"},
    {"socket_path": "D/daemon.conf.d/new.conf"},
    {"log_file": "D/socket.new"},
    {"log_file": "D/filters.d/test.filters"},
)
#: What only looks so.
APART: tuple[dict[str, str], ...] = (
    {"state_dir": "D/dir", "audit_file": "D/dir/audit", "socket_path": "D/dir/socket"},
    {"state_dir": "D/new", "log_file": "/dev/stderr"},
    {"audit_file": "D/filters.d.jsonl", "log_file": "D/daemon.conf.log"},
    {"audit_file": "/dev/null", "audit": "best_effort"},
    {"audit_file": "/dev/null", "log_file": "/dev/null", "audit": "best_effort"},
)


def furnish(directory: Path) -> None:
    for name, mode in (("dir", 0o755), ("open", 0o777), ("theirs", 0o755)):
        (directory / name).mkdir()
        (directory / name).chmod(mode)
    (directory / "file").write_text("")
    (directory / "link").symlink_to("file")
    (directory / "nowhere").symlink_to("no/new")
    (directory / "here").symlink_to(".")
    (directory / "daemon.conf.d").mkdir(mode=0o755)
    (directory / "used").mkdir(mode=0o755)
    os.mkfifo(directory / "fifo")
    os.mkfifo(directory / "used" / "running")
    if ROOT:
        os.chown(directory / "theirs", 61111, -1)


def written(daemon: Daemon, options: dict[str, str]) -> None:
    """Configure it, with its directory for the D of a value."""
    furnish(daemon.directory)
    daemon.configure(
        **{
            option: value.replace("D", str(daemon.directory), 1) if value.startswith("D") else value
            for option, value in options.items()
        }
    )


#: A user namespace with one user.
INSIDE = ["unshare", "--user", "--map-root-user"]


def checked(daemon: Daemon, inside: list[str]) -> "subprocess.CompletedProcess[str]":
    """`--check`, which must leave nothing."""
    before = sorted(daemon.directory.rglob("*"))
    if inside and ROOT:
        command = [*inside, *START, "--config-file", str(daemon.config), "--check"]
        done = subprocess.run(command, capture_output=True, text=True, env=ENVIRON, check=False)
    else:
        done = attempt(daemon, "--check")
    assert done.returncode in (0, 78), done.stderr
    assert sorted(daemon.directory.rglob("*")) == before, "a check leaves something"
    return done


def starts(daemon: Daemon, inside: list[str]) -> bool:
    """True if it says that it is ready."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager, open(os.devnull, "r+b") as null:
        manager.bind(str(daemon.directory / "notify"))
        words, standard = ["--config-file", str(daemon.config)], [null.fileno()] * 3
        environ = {**ENVIRON, "NOTIFY_SOCKET": str(daemon.directory / "notify")}
        process: Process | subprocess.Popen[bytes]
        if ROOT and not inside:
            process = PREPARED_START.start(words, standard, environ)
        else:
            command = [*INSIDE, *START, *words]
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
    more = {"use_syslog": "true"} if option == "syslog_log_facility" else {}
    written(daemon, {option: value, **more})
    done = checked(daemon, [])
    assert starts(daemon, []) == (done.returncode == 0), done.stderr
    if done.returncode:
        path = value.replace("D", str(daemon.directory), 1) if value.startswith("D") else value
        assert option in done.stderr or path in done.stderr, "the option is not named"


@pytest.mark.root
@pytest.mark.parametrize(
    ("option", "value"),
    [
        *(("socket_group", group) for group in VALUES["socket_group"]),
        *(("status_group", group) for group in ("nogroup", "12345")),
        *(("allowed_groups", group) for group in ("nogroup", "12345")),
        ("state_dir", "D/theirs"),
        ("audit_file", "D/nowhere"),
        ("socket_path", "D/theirs/new"),
        ("capabilities", "CAP_KILL, CAP_SYS_PTRACE"),
    ],
)
def test_in_a_user_namespace(new_daemon: NewDaemon, option: str, value: str) -> None:
    daemon = new_daemon(start=False, trusted_owners="0, 65534")
    written(daemon, {option: value})
    done = checked(daemon, INSIDE)
    assert starts(daemon, INSIDE) == (done.returncode == 0), done.stderr
    assert option in done.stderr or not done.returncode, "the option is not named"


@pytest.mark.parametrize("options", CLASHES, ids=str)
def test_two_options_that_name_the_same(new_daemon: NewDaemon, options: dict[str, str]) -> None:
    daemon = new_daemon(start=False)
    written(daemon, options)
    done = checked(daemon, [])
    assert (done.returncode, "name another path" in done.stderr) == (78, True), done.stderr
    assert any(option in done.stderr for option in options)
    if "log_file" not in options:
        told = CTL.run("check", "--config-file", str(daemon.config), "--select", "RW207")
        assert (told.returncode, "name another path" in told.stdout) == (1, True), told.stdout
    before = sorted(daemon.directory.rglob("*"))
    assert not starts(daemon, [])
    after = {path.name for path in daemon.directory.rglob("*")} - {path.name for path in before}
    assert after == {"notify"}, "a start that fails leaves something"


@pytest.mark.parametrize("options", APART, ids=str)
def test_options_that_name_neighbours(new_daemon: NewDaemon, options: dict[str, str]) -> None:
    daemon = new_daemon(start=False)
    written(daemon, options)
    done = checked(daemon, [])
    assert done.returncode == 0, done.stderr
    assert starts(daemon, [])


def test_more_values_than_can_be_handed_over(new_daemon: NewDaemon) -> None:
    """A start gives them to the program that serves, and so does a check, to nobody."""
    daemon = new_daemon(start=False)
    code = "from rootwrap_daemon.daemon import handover, main; handover.MOST = 10; main.main()"
    inside = [] if ROOT else INSIDE
    command = [*inside, sys.executable, "-I", "-c", code, "--config-file", str(daemon.config)]
    for more in ([], ["--check"]):
        done = subprocess.run(
            [*command, *more], capture_output=True, text=True, env=ENVIRON, timeout=60, check=False
        )
        assert (done.returncode, "filters: " in done.stderr) == (78, True), done.stderr


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
