"""Drop-ins, `--check` and reload, with a real daemon."""

from pathlib import Path

import pytest

from rootwrap_daemon.errors import OutputLimit
from tests.functional.test_lifecycle import attempt
from tests.real_daemon import Daemon, NewDaemon


def drop_in(daemon: Daemon, name: str, text: str, mode: int = 0o644) -> Path:
    directory = Path(f"{daemon.config}.d")
    directory.mkdir(exist_ok=True, mode=0o755)
    path = directory / name
    path.write_text(text)
    path.chmod(mode)
    return path


def test_drop_ins_are_read_and_read_anew(daemon: Daemon) -> None:
    with daemon.client() as client:
        assert client.run(["cat"], input=b"12345678").stdout == b"12345678"
        drop_in(daemon, "50-small.conf", "[DEFAULT]\nmax_output = 4\n")
        assert daemon.reload()
        with pytest.raises(OutputLimit):
            client.run(["cat"], input=b"12345678")
        drop_in(daemon, "60-larger.conf", "[DEFAULT]\nmax_output = 8\n")
        assert daemon.reload()
        assert client.run(["cat"], input=b"12345678").stdout == b"12345678"
        drop_in(daemon, "60-larger.conf", "[DEFAULT]\nmax_output = 8\n", mode=0o666)
        assert not daemon.reload()
        assert "60-larger.conf" in daemon.log
        assert client.run(["cat"], input=b"12345678").stdout == b"12345678"


def test_what_waits_for_a_restart_is_said(daemon: Daemon) -> None:
    assert daemon.reload()
    assert "next start" not in daemon.log
    drop_in(daemon, "a.conf", "[DEFAULT]\naudit_file = /dev/null\nsocket_mode = 0600\nmax_commands = 7\n")
    assert daemon.reload()
    assert "in force after the next start only: socket_mode, audit_file\n" in daemon.log


@pytest.mark.parametrize(
    ("text", "mode", "what"),
    [
        ("[DEFAULT]\nmax_output = many\n", 0o644, "max_output"),
        ("max_output\n", 0o644, "50-x.conf"),
        ("[DEFAULT]\n", 0o664, "50-x.conf"),
        ("[DEFAULT]\ntrusted_owners = no-such-user\n", 0o644, "no-such-user"),
    ],
)
def test_check_looks_at_drop_ins(new_daemon: NewDaemon, text: str, mode: int, what: str) -> None:
    daemon = new_daemon(start=False)
    assert attempt(daemon, "--check").returncode == 0
    drop_in(daemon, "50-x.conf", text, mode)
    done = attempt(daemon, "--check")
    assert (done.returncode, done.stdout) == (78, "")
    assert what in done.stderr


def test_check_says_what_is_not_read(new_daemon: NewDaemon) -> None:
    daemon = new_daemon(start=False)
    path = drop_in(daemon, "50-x.conf.bak", "[DEFAULT]\n")
    done = attempt(daemon, "--check")
    assert done.returncode == 0
    assert f"{path}:1:1: warning: not read, by its name" in done.stderr


@pytest.mark.parametrize(("users", "told"), [("root", True), ("root, bin", False)])
def test_check_says_that_no_agent_is_admitted(new_daemon: NewDaemon, users: str, told: bool) -> None:
    daemon = new_daemon(start=False, allowed_users=users)
    assert ("nobody but root may ask" in attempt(daemon, "--check").stdout) == told


def test_check_counts_what_is_skipped(new_daemon: NewDaemon) -> None:
    """With `on_finding = skip` the daemon would start, and so it is said to."""
    daemon = new_daemon(
        "[Filters]\na: CommandFilter, true, root\nb: NoFilter, x\n", on_finding="skip", start=False
    )
    done = attempt(daemon, "--check")
    assert done.returncode == 0
    assert "1 filter, 1 finding" in done.stdout
    assert "NoFilter" in done.stderr
