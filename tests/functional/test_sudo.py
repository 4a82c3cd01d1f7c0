"""`rootwrap-sudo` is to a service what sudo was: the same command lines, words and exit codes."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.real_daemon import Daemon, daemons

pytestmark = pytest.mark.root

NATIVE = Path(__file__).parents[2] / "native" / "rootwrap-sudo"
PROGRAMS = {
    "python": [sys.executable, "-c", "from rootwrap_daemon.cli.exec.sudo import main; main()"],
    "native": [str(NATIVE)],
}
FILTERS = """\
[Filters]
true: CommandFilter, /usr/bin/true, games|root
id: CommandFilter, /usr/bin/groups, games
who: ArgvFilter, id, games|root, -un
sh: CommandFilter, /bin/sh, root
printenv: CommandFilter, /usr/bin/printenv, root
missing: CommandFilter, /usr/bin/no-such-program, root
uptime: ArgvFilter, /usr/bin/uptime, root

[printenv]
env = A, B
[uptime]
stdin = no
"""
#: The same for sudo; without a password, so that it says what is not allowed.
SUDOERS = """\
Defaults !authenticate, !syslog
Defaults:nobody !mail_no_perms
nobody ALL=(games, root) /usr/bin/true
nobody ALL=(games) /usr/bin/groups
nobody ALL=(games, root) /usr/bin/id -un
nobody ALL=(root) /bin/sh
"""


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with daemons() as new:
        yield new(FILTERS, socket_mode="0666", allowed_users="root, nobody")


@pytest.fixture(params=PROGRAMS)
def program(request: pytest.FixtureRequest) -> list[str]:
    if request.param == "native" and not NATIVE.exists():
        if os.environ.get("REQUIRE_NATIVE") == "1":
            pytest.fail("make native has not built it, and REQUIRE_NATIVE=1", pytrace=False)
        pytest.skip("make native has not built it: there is no C compiler")
    return PROGRAMS[request.param]


def sudo(
    program: list[str], daemon: Daemon, *words: str, env: dict[str, str] | None = None, **options: Any
) -> "subprocess.CompletedProcess[str]":
    env = {
        "PATH": os.environ["PATH"],
        "USER": "nobody",
        "ROOTWRAP_DAEMON_SOCKET": daemon.socket,
        **(env or {}),
    }
    options = {"input": "", **options}
    return subprocess.run(
        [*program, *words], capture_output=True, text=True, check=False, timeout=60, env=env, **options
    )


HOST = os.uname().nodename.partition(".")[0]
SORRY = f"Sorry, user nobody is not allowed to execute '%s' as %s on {HOST}.\n"
#: Words, exit code, output, the beginning of what is said.
SAID: list[tuple[str, int, str, str]] = [
    ("-n /usr/bin/true", 0, "", ""),
    ("/usr/bin/true", 0, "", ""),
    ("-nHS -u root -- /usr/bin/true x", 0, "", ""),
    ("-nHSu root /usr/bin/true", 0, "", ""),
    ("-uroot /usr/bin/true", 0, "", ""),
    ("-u games /usr/bin/true", 0, "", ""),
    ("--user=games --non-interactive /usr/bin/true", 0, "", ""),
    ("--user games /usr/bin/true", 0, "", ""),
    ("--non /usr/bin/true", 0, "", ""),
    ("-u #0 /usr/bin/true", 0, "", ""),
    ("-p prompt -A -B -k /usr/bin/true", 0, "", ""),
    ("-n /bin/sh -c exit${IFS}7", 7, "", ""),
    ("-n /usr/bin/id", 1, "", SORRY % ("/usr/bin/id", "root")),
    ("-n /usr/bin/id -u x", 1, "", SORRY % ("/usr/bin/id -u x", "root")),
    ("-n -u games /bin/sh -c id", 1, "", SORRY % ("/bin/sh -c id", "games")),
    ("-n -u nobody /usr/bin/true", 1, "", SORRY % ("/usr/bin/true", "nobody")),
    ("-n id -un", 0, "root\n", ""),
    ("-n -u games id -un", 0, "games\n", ""),
    ("-n /usr/bin/groups", 1, "", SORRY % ("/usr/bin/groups", "root")),
    ("-n -g games /usr/bin/true", 1, "", SORRY % ("/usr/bin/true", "root:games")),
    ("-n -E /usr/bin/true", 1, "", "sudo: sorry, you are not allowed to preserve the environment\n"),
    ("--preserve-env /usr/bin/true", 1, "", "sudo: sorry, you are not allowed to preserve the environment\n"),
    ("-s", 1, "", "Sorry, user nobody is not allowed to execute '"),
    ("-i", 1, "", "Sorry, user nobody is not allowed to execute '"),
    ("-n -e /etc/hosts", 1, "", "Sorry, user nobody is not allowed to execute 'sudoedit /etc/hosts'"),
    ("-D /tmp /usr/bin/true", 1, "", "sudo: you are not permitted to use the -D option"),
    ("-C 5 /usr/bin/true", 1, "", "sudo: you are not permitted to use the -C option"),
    ("-l /usr/bin/true", 0, "/usr/bin/true\n", ""),
    ("-n -l /usr/bin/true x y", 0, "/usr/bin/true x y\n", ""),
    ("-ll /bin/sh", 0, None, ""),  # type: ignore[list-item]
    ("-l -u games /usr/bin/true", 0, "/usr/bin/true\n", ""),
    ("-l /usr/bin/id", 1, "", ""),
    ("-n -l -u nobody /usr/bin/true", 1, "", ""),
    ("-v", 0, "", ""),
    ("-k", 0, "", ""),
    ("-K", 0, "", ""),
    ("-K /usr/bin/true", 1, "", "usage: sudo "),
    ("-n", 1, "", "usage: sudo "),
    ("", 1, "", "usage: sudo "),
    ("-n --", 1, "", "usage: sudo "),
    ("-h", 0, None, ""),  # type: ignore[list-item]
    ("-V", 0, None, ""),  # type: ignore[list-item]
    ("-Z /usr/bin/true", 1, "", "@: invalid option -- 'Z'\n"),
    ("-u", 1, "", "@: option requires an argument -- 'u'\n"),
    ("--nosuch /usr/bin/true", 1, "", "@: unrecognized option '--nosuch'\n"),
    ("-n -- A=b /usr/bin/true", 1, "", "Sorry, user nobody is not allowed to execute 'A=b /usr/bin/true'"),
    ("A=b /usr/bin/true", 1, "", "sudo: sorry, you are not allowed to set the following environment var"),
]  # fmt: skip
#: Of these, sudo itself says what it says for another reason, or needs another of its options.
OTHERWISE = ("-n -g", "-n -- A=b")


@pytest.mark.parametrize(("words", "code", "out", "said"), SAID, ids=[one[0] for one in SAID])
def test_words_and_codes(
    program: list[str], daemon: Daemon, words: str, code: int, out: str | None, said: str
) -> None:
    done = sudo(program, daemon, *words.split())
    shown = said.replace("@", str(NATIVE) if program == [str(NATIVE)] else "sudo")
    # It is root who calls here, whatever USER says.
    shown = shown.replace("user nobody", "user root")
    assert done.stderr.startswith(shown), done.stderr
    assert (done.returncode, bool(done.stderr)) == (code, bool(said))
    assert out is None or done.stdout == out


@pytest.mark.skipif(shutil.which("sudo") is None, reason="no sudo here")
@pytest.mark.parametrize(("words", "code", "out", "said"), SAID, ids=[one[0] for one in SAID])
def test_what_sudo_says(tmp_path: Path, words: str, code: int, out: str | None, said: str) -> None:
    """The table above against sudo itself."""
    if words.startswith(OTHERWISE):
        pytest.skip("there is no such thing in the daemon")
    (tmp_path / "sudoers").write_text(SUDOERS)
    (tmp_path / "sudoers").chmod(0o440)
    script = f'mount --bind {tmp_path}/sudoers /etc/sudoers && exec "$@"'
    become = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "sudo", *words.split()]
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, "sh", *become],
        capture_output=True, text=True, check=False, input="", cwd="/",
        env={"PATH": os.environ["PATH"], "USER": "nobody", "LC_ALL": "C"},
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    assert done.stderr.startswith(said.replace("@", "sudo")), done.stderr
    assert out is None or done.stdout == out


def test_variables(program: list[str], daemon: Daemon) -> None:
    env = {"A": "from here", "C": "not"}
    assert sudo(program, daemon, "A=x=y", "-u", "root", "B=2", "printenv", "A").stdout == "x=y\n"
    assert sudo(program, daemon, "--preserve-env=A,UNSET", "printenv", "A", env=env).stdout == "from here\n"
    assert sudo(program, daemon, "printenv", "A", env=env).returncode == 1
    done = sudo(program, daemon, "--preserve-env=A,C", "printenv", "A", env=env)
    assert (done.returncode, done.stdout) == (1, "")
    first, second, end = done.stderr.split("\n")
    assert first == "sudo: sorry, you are not allowed to set the following environment variables: C"
    assert second.startswith(
        "sudo: printenv: no filter allows this command with these variables: C (request "
    )
    assert end == ""


def test_what_the_daemon_says_stands_below(program: list[str], daemon: Daemon) -> None:
    """The id of the request, by which its record is found; and that it is the input which is refused."""
    done = sudo(program, daemon, "-n", "/usr/bin/id", "-u")
    first, second, _ = done.stderr.split("\n")
    assert first == SORRY.strip().replace("nobody", "root") % ("/usr/bin/id -u", "root")
    assert re.fullmatch(r"sudo: /usr/bin/id: no filter allows this command \(request [0-9a-f]+-\d+\)", second)
    done = sudo(program, daemon, "-n", "uptime", input="x")
    assert (
        "sudo: uptime: no filter allows this command with input; < /dev/null is none (request " in done.stderr
    )
    assert sudo(program, daemon, "-n", "uptime", input=None, stdin=subprocess.DEVNULL).returncode == 0


@pytest.mark.parametrize("uid", [65534, 4242424])
def test_who_calls_is_no_word_of_the_caller(program: list[str], daemon: Daemon, uid: int) -> None:
    if program == [str(NATIVE)]:
        # From where any user can execute it.
        script = f'mount -t tmpfs tmpfs /run; cp "$0" /run/sudo; exec setpriv --reuid={uid} /run/sudo "$@"'
        program = ["unshare", "--mount", "sh", "-c", script, str(NATIVE)]
    else:
        # The interpreter may be out of another user's reach.
        calls = (
            f"import os; os.getuid = lambda: {uid}; from rootwrap_daemon.cli.exec import sudo; sudo.main()"
        )
        program = [sys.executable, "-c", calls]
    done = sudo(program, daemon, "-s", env={"USER": "root"})
    who = "nobody" if uid == 65534 else f"#{uid}"
    assert done.stderr.startswith(f"Sorry, user {who} is not allowed to execute '"), done.stderr


def test_a_socket_that_nobody_named(program: list[str], daemon: Daemon) -> None:
    done = sudo(program, daemon, "-n", "true", env={"ROOTWRAP_DAEMON_SOCKET": "/nonexistent"})
    assert done.stderr.endswith("is the daemon running?\n")
    unset = ["env", "--unset=ROOTWRAP_DAEMON_SOCKET", "unshare", "--mount", "sh", "-c",
             'mount -t tmpfs tmpfs /run; exec "$@"', "sh", *program]  # fmt: skip
    done = sudo(unset, daemon, "-n", "true")
    assert done.stderr.endswith("is the daemon running, or ROOTWRAP_DAEMON_SOCKET to be set?\n")


def test_streams_and_signals(program: list[str], daemon: Daemon) -> None:
    """As `rootwrap-exec`, whose suite it passes; `-n` takes no input away here, and `-S` reads none."""
    assert sudo(program, daemon, "-n", "-S", "sh", "-c", "cat", input="in").stdout == "in"
    assert sudo(program, daemon, "-n", "sh", "-c", "kill -TERM $$").returncode == -15


def test_what_is_not_there(program: list[str], daemon: Daemon) -> None:
    done = sudo(program, daemon, "-n", "/usr/bin/no-such-program")
    assert (done.returncode, done.stderr) == (1, "sudo: /usr/bin/no-such-program: command not found\n")
    done = sudo(program, daemon, "-n", "true", env={"ROOTWRAP_DAEMON_SOCKET": "/nonexistent"})
    assert done.returncode == 1
    assert done.stderr.startswith("sudo: ")
    done = sudo(program, daemon, "-n", "-u", "#7", "true")
    assert (done.returncode, done.stdout) == (1, "")


def test_under_another_name(daemon: Daemon, tmp_path: Path) -> None:
    """A link called sudo in the agent's PATH, under no_new_privs, as a user whom no setuid program helps."""
    if not NATIVE.exists():
        pytest.skip("make native has not built it")
    tmp_path.chmod(0o755)
    shutil.copy(NATIVE, tmp_path / "rootwrap-exec")
    (tmp_path / "sudo").symlink_to("rootwrap-exec")
    place = Path("/tmp") / f"sudo-{os.getpid()}"
    shutil.move(tmp_path, place)
    try:
        done = subprocess.run(
            ["setpriv", "--no-new-privs", "--reuid=65534", "--regid=65534", "--clear-groups",
             "sh", "-c", "sudo -n sh -c 'id -u; grep NoNewPrivs /proc/self/status'"],
            capture_output=True, text=True, check=False,
            env={"PATH": f"{place}:/usr/bin:/bin", "ROOTWRAP_DAEMON_SOCKET": daemon.socket},
        )  # fmt: skip
    finally:
        shutil.rmtree(place)
    assert done.stdout == "0\nNoNewPrivs:\t0\n", done.stderr
