"""Start, reload and configuration: whole or not at all, and from the one file alone."""

import os
import shutil
import signal
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from rootwrap_daemon.errors import Denied, InternalError
from tests.real_daemon import ENVIRON, PREPARED_START, ROOT, START, Daemon, NewDaemon


def attempt(daemon: Daemon, *arguments: str, **environ: str) -> "subprocess.CompletedProcess[str]":
    """Try to start it in the foreground; for what must not start, or ends by itself."""
    if ROOT and not environ:
        return PREPARED_START.run("--config-file", daemon.config, *arguments, env=ENVIRON)
    inside = [] if ROOT else ["unshare", "--user", "--map-root-user"]
    return subprocess.run(
        [*inside, *START, "--config-file", str(daemon.config), *arguments],
        capture_output=True,
        text=True,
        env={**ENVIRON, **environ},
        timeout=60,
        check=False,
    )


def test_check_says_what_is_there_and_starts_nothing(new_daemon: NewDaemon) -> None:
    daemon = new_daemon(start=False)
    done = attempt(daemon, "--check")
    assert (done.returncode, "10 filters, 0 findings" in done.stdout) == (0, True)
    assert not os.path.exists(daemon.socket)


def test_finding_stops_the_start_and_says_where(new_daemon: NewDaemon) -> None:
    daemon = new_daemon("[Filters]\na: CommandFilter, true, root\nb: NoFilter, x, root\n", start=False)
    for arguments in ((), ("--check",)):
        done = attempt(daemon, *arguments)
        assert done.returncode == 78
        assert "test.filters:3:4: error: 'NoFilter' is not a kind of filter" in done.stderr


def test_skip_leaves_out_exactly_what_has_findings(new_daemon: NewDaemon) -> None:
    daemon = new_daemon(
        "[Filters]\na: CommandFilter, true, root\nb: RegExpFilter, false, root, [\n"
        "c: CommandFilter, id, root\n",
        on_finding="skip",
    )
    assert "test.filters:3:31: error: bad regular expression" in daemon.log
    with daemon.client() as client:
        assert [client.allows([name]).allowed for name in ("true", "false", "id")] == [True, False, True]


def test_reload_takes_new_rules(daemon: Daemon) -> None:
    with daemon.client() as client:
        assert not client.allows(["uname"]).allowed
        daemon.configure("[Filters]\nu: CommandFilter, uname, root\n")
        assert daemon.reload()
        assert client.allows(["uname"]).filter == "u"
        with pytest.raises(Denied):
            client.run(["true"])


def test_reload_that_fails_changes_nothing(daemon: Daemon) -> None:
    with daemon.client() as client:
        daemon.configure("[Filters]\nu: CommandFilter, uname, no-such-user\n")
        assert not daemon.reload()
        assert "no user 'no-such-user' here" in daemon.log
        assert client.run(["true"]).returncode == 0
        daemon.configure("[Filters]\nu: CommandFilter, uname, root\n", max_output="many")
        assert not daemon.reload()
        assert client.run(["true"]).returncode == 0


def test_two_daemons_do_not_take_one_path(daemon: Daemon) -> None:
    done = attempt(daemon)
    assert done.returncode == 78
    assert "another daemon" in done.stderr
    with daemon.client() as client:
        assert client.run(["true"]).returncode == 0


def test_socket_of_a_killed_daemon_is_replaced(daemon: Daemon) -> None:
    daemon.restart(signal.SIGKILL)
    with daemon.client() as client:
        assert client.run(["true"]).returncode == 0


def test_socket_has_the_mode_asked_for(new_daemon: NewDaemon) -> None:
    daemon = new_daemon()
    assert os.stat(daemon.socket).st_mode & 0o777 == 0o660
    daemon = new_daemon(socket_mode="0600", socket_group="0")
    assert os.stat(daemon.socket).st_mode & 0o777 == 0o600


# Where configuration must not come from: each of these changes oslo.config or oslo.log elsewhere.


def test_environment_is_no_configuration(new_daemon: NewDaemon) -> None:
    daemon = new_daemon(start=False)
    daemon.environ = {"OS_DEFAULT__FILTERS_PATH": "/nonexistent", "OS_DEFAULT__MAX_OUTPUT": "1"}
    daemon.start()
    with daemon.client() as client:
        assert client.run(["cat"], input=b"more than a byte").stdout == b"more than a byte"


def test_home_directory_is_no_configuration(new_daemon: NewDaemon, tmp_path: Path) -> None:
    for name in (".rootwrap-daemon", ""):
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / "rootwrap-daemon.conf").write_text("[DEFAULT]\nmax_output = 1\n")
        (tmp_path / name / "rootwrap-daemon.conf.d").mkdir()
        (tmp_path / name / "rootwrap-daemon.conf.d" / "a.conf").write_text("[DEFAULT]\nmax_output = 1\n")
    daemon = new_daemon(start=False)
    daemon.environ = {"HOME": str(tmp_path)}
    daemon.start()
    with daemon.client() as client:
        assert client.run(["cat"], input=b"more than a byte").stdout == b"more than a byte"


@pytest.mark.parametrize("option", ["--log-config-append", "--config-dir", "--log-file", "--debug", "--sock"])
def test_no_other_option_on_the_command_line(new_daemon: NewDaemon, option: str) -> None:
    done = attempt(new_daemon(start=False), f"{option}=/tmp/x")
    assert (done.returncode, "is not known here" in done.stderr) == (64, True)


def test_log_config_is_not_read(new_daemon: NewDaemon) -> None:
    done = attempt(new_daemon(start=False, log_config_append="/tmp/x"))
    assert (done.returncode, "log_config_append" in done.stderr) == (78, True)


@pytest.mark.parametrize("option", ["filters_path", "exec_dirs", "socket_path", "audit_file"])
def test_relative_paths_are_refused(new_daemon: NewDaemon, option: str) -> None:
    done = attempt(new_daemon(start=False, **{option: "relative/path"}))
    assert (done.returncode, option in done.stderr) == (78, True)


def test_lists_are_stripped(new_daemon: NewDaemon) -> None:
    daemon = new_daemon(exec_dirs="/nonexistent ,  /usr/bin,/bin ")
    with daemon.client() as client:
        assert b"PATH=/usr/bin:/bin\n" in client.run(["env", "FOO=", "env"]).stdout


def test_user_may_not_be_allowed_and_trusted(new_daemon: NewDaemon) -> None:
    done = attempt(new_daemon(start=False, allowed_users="root, 61111", trusted_owners="root, 61111"))
    assert (done.returncode, "61111" in done.stderr) == (78, True)


def test_unknown_names_are_refused(new_daemon: NewDaemon) -> None:
    for option in ("trusted_owners", "socket_group"):
        done = attempt(new_daemon(start=False, **{option: "no-such-name"}))
        assert (done.returncode, "no-such-name" in done.stderr) == (78, True)


@pytest.mark.parametrize("option", ["allowed_users", "allowed_groups"])
def test_names_that_may_come_later_are_said(new_daemon: NewDaemon, option: str) -> None:
    done = attempt(new_daemon(start=False, **{option: "root, no-such-name"}), "--check")
    assert done.returncode == 0
    assert (
        f"WARNING rootwrap_daemon.policy.read.users [-] {option}: there is no 'no-such-name' here"
        in done.stderr
    )


@pytest.mark.root
def test_overflow_user_is_trusted_in_a_user_namespace_alone(new_daemon: NewDaemon) -> None:
    done = attempt(new_daemon(start=False, trusted_owners="root, 65534"))
    assert (done.returncode, "user namespace" in done.stderr) == (78, True)


@pytest.mark.root
@pytest.mark.parametrize("target", ["daemon.conf", "filters.d", "filters.d/test.filters", "."])
@pytest.mark.parametrize("change", ["owner", "mode"])
def test_files_that_others_can_change_are_refused(new_daemon: NewDaemon, target: str, change: str) -> None:
    daemon = new_daemon(start=False)
    path = daemon.directory / target
    if change == "owner":
        os.chown(path, 61111, -1)
    else:
        path.chmod(0o777)
    done = attempt(daemon)
    assert done.returncode == 78
    assert "belongs to user 61111" in done.stderr or "can be written by its group or by others" in done.stderr


def test_not_isolated_is_refused(new_daemon: NewDaemon) -> None:
    daemon = new_daemon(start=False)
    done = subprocess.run(
        [sys.executable, "-m", "rootwrap_daemon.daemon.main", "--config-file", str(daemon.config)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, "isolated" in done.stderr) == (78, True)


def test_console_script_isolates_itself(new_daemon: NewDaemon, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("print('ran')")
    daemon = new_daemon(start=False)
    code = "from rootwrap_daemon.daemon.start.bootstrap import console; console()"
    command = [sys.executable, "-c", code, "--config-file", str(daemon.config), "--check"]
    if not ROOT:
        command = ["unshare", "--user", "--map-root-user", *command]
    clean = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}
    done = subprocess.run(command, capture_output=True, text=True, env=clean, check=False)
    assert (done.returncode, "10 filters" in done.stdout) == (0, True), done.stderr
    done = subprocess.run(
        command, capture_output=True, text=True, env={**clean, "PYTHONPATH": str(tmp_path)}, check=False
    )
    assert (done.returncode, "PYTHONPATH" in done.stderr) == (78, True)


@pytest.mark.root
def test_code_that_others_can_change_is_refused(new_daemon: NewDaemon) -> None:
    daemon = new_daemon(start=False)
    package = daemon.directory / "site" / "rootwrap_daemon"
    shutil.copytree(Path(__file__).parents[2] / "rootwrap_daemon", package)
    # -I takes no PYTHONPATH: a .pth file leads there, in the process that starts and in the one that serves.
    venv = daemon.directory / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    (site,) = venv.glob("lib/python*/site-packages")
    (site / "test.pth").write_text(f"{package.parent}\n{sysconfig.get_path('purelib')}\n")
    command = [*START[1:], "--config-file", str(daemon.config), "--check"]

    def check() -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [str(venv / "bin" / "python"), *command],
            capture_output=True,
            text=True,
            env={"LC_ALL": "C.UTF-8"},
            check=False,
        )

    assert check().returncode == 0, check().stderr
    served, started = package / "filters" / "kinds.py", package / "config.py"
    for path in (served, started, package, package.parent):
        mode = path.stat().st_mode
        path.chmod(mode | 0o002)
        done = check()
        assert (done.returncode, "others can change the code" in done.stderr) == (78, True)
        path.chmod(mode)
        os.chown(path, 61111, -1)
        assert check().returncode == 78
        os.chown(path, 0, -1)
    assert check().returncode == 0


def test_audit_that_cannot_be_written_lets_nothing_run(new_daemon: NewDaemon, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    daemon = new_daemon(start=False)
    audit = daemon.directory / "audit.jsonl"
    daemon.start()
    audit.unlink()
    audit.mkdir()
    with daemon.client() as client:
        with pytest.raises(InternalError) as caught:
            client.run(["sh", "-c", f"touch '{marker}'"])
        assert "audit" in str(caught.value)
        assert not marker.exists()
    daemon.configure(audit="best_effort", audit_file="/dev/full")
    daemon.restart()
    with daemon.client() as client:
        assert client.run(["sh", "-c", f"touch '{marker}'"]).returncode == 0
    assert marker.exists()


def test_existing_rootwrap_conf_is_accepted(new_daemon: NewDaemon) -> None:
    daemon = new_daemon(
        use_syslog="False",
        syslog_log_facility="syslog",
        syslog_log_level="ERROR",
        daemon_timeout="600",
        start=False,
    )
    with daemon.config.open("a") as config:
        config.write("[xenapi]\nxenapi_connection_url=<None>\n")
    assert attempt(daemon, "--check").returncode == 0


@pytest.mark.root
def test_capabilities_are_kept_as_listed_and_no_others(new_daemon: NewDaemon) -> None:
    daemon = new_daemon(
        "[Filters]\ncat: CommandFilter, cat, root\nip: IpFilter, ip, root\n",
        capabilities="CAP_NET_ADMIN, CAP_KILL",
    )
    wanted = f"{1 << 12 | 1 << 5:016x}"
    with daemon.client() as client:
        status = client.run(["cat", "/proc/self/status"], text=True, check=True).stdout
        for text in (status, Path(f"/proc/{daemon.pid}/status").read_text()):
            found = dict(line.split(":\t") for line in text.splitlines() if line.startswith("Cap"))
            assert (found["CapEff"], found["CapPrm"], found["CapBnd"]) == (wanted,) * 3
            assert found["CapInh"] == found["CapAmb"] == "0" * 16


def test_unknown_capability_is_refused(new_daemon: NewDaemon) -> None:
    done = attempt(new_daemon(start=False, capabilities="CAP_EVERYTHING"))
    assert (done.returncode, "CAP_EVERYTHING" in done.stderr) == (78, True)
