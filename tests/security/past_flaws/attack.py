"""Attack the engine with words, and a real daemon with all that an agent can send."""

import contextlib
import shlex
import socket
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from rootwrap_daemon import config
from rootwrap_daemon.errors import Error
from rootwrap_daemon.filters import ruleset
from rootwrap_daemon.filters.finding import Severity
from rootwrap_daemon.filters.plan import Plan
from rootwrap_daemon.filters.read import filter_file
from rootwrap_daemon.filters.values import Match, Request
from rootwrap_daemon.settings import Settings
from tests.real_daemon import Daemon

ROOT_OF_TREE = Path(__file__).parents[3]

#: A local user who is nobody in particular.
OTHER = 61111

IP = "ip: IpFilter, ip, root"
NETNS = "netns: IpNetnsExecFilter, ip, root"
NICE = r"nice: ChainingRegExpFilter, nice, root, nice, -n, -?\d+"
SH = "sh: CommandFilter, sh, root"
SLEEP = "sleep: RegExpFilter, sleep, root, sleep, [0-9.]+"
TRUE = "true: CommandFilter, true, root"
PRINTENV = "printenv: CommandFilter, printenv, root"


# Words, judged by the engine.


def read(*lines: str) -> filter_file.FilterFile:
    return filter_file.read("\n".join(("[Filters]", *lines, "")), "x.filters")


def errors(*lines: str) -> list[str]:
    """The errors of a file with these definitions, each with its place: the first is line 2."""
    return [str(found) for found in read(*lines).findings if found.severity is Severity.ERROR]


def rules(*lines: str) -> ruleset.RuleSet:
    assert errors(*lines) == []
    return ruleset.RuleSet(read(*lines).filters)


#: An argv; a text is split as a shell would.
Words = str | tuple[str, ...]


def plan(rules: ruleset.RuleSet, argv: Words) -> Plan | None:
    """What would run; None if denied."""
    found = rules.match(Request(tuple(shlex.split(argv)) if isinstance(argv, str) else argv))
    return found.plan if isinstance(found, Match) else None


def judge(rules: ruleset.RuleSet, *, allow: Iterable[Words], deny: Iterable[Words]) -> None:
    """Each of these is judged so; what is allowed shows that the rules are not simply dead."""
    assert [argv for argv in allow if plan(rules, argv) is None] == []
    assert [argv for argv in deny if plan(rules, argv) is not None] == []


# Commands, asked of a real daemon.


#: What the starter of a daemon might have in its environment.
DIRTY = {
    "LEAKME": "1",
    "LD_BIND_NOW": "1",
    "IP_LIB_DIR": "/tmp/evil",
    "TC_LIB_DIR": "/tmp/evil",
    "GCONV_PATH": "/tmp/evil",
    "BASH_ENV": "/tmp/evil",
    "ENV": "/tmp/evil",
    "BASH_FUNC_ls%%": "() { echo evil; }",
    "PERL5OPT": "-Mevil",
    "PERLLIB": "/tmp/evil",
    "PS4": "$(touch /tmp/evil)",
    "IFS": "/",
    "TZ": "/tmp/evil",
    "TERM": "/tmp/evil",
    "PAGER": "sh -c id",
    "SYSTEMD_PAGER": "sh -c id",
    "LESSOPEN": "|sh -c id",
    "EDITOR": "sh -- /etc/shadow",
    "HOME": "/tmp/evil",
    "USER": "forged",
    "LOGNAME": "forged",
    "FOO": "of the starter",
}


def use(daemon: Daemon, *lines: str) -> None:
    """These definitions, and no others."""
    daemon.configure("\n".join(("[Filters]", *lines, "")))
    assert daemon.reload(), daemon.log


def outcome(daemon: Daemon, argv: str | list[str], **options: Any) -> int | str | bytes:
    """The output of a command that succeeds, its return code if that is not 0, or the code of the error."""
    with daemon.client() as client:
        try:
            done = client.run(shlex.split(argv) if isinstance(argv, str) else argv, **options)
        except Error as error:
            return error.code
        return done.returncode or done.stdout


def said(daemon: Daemon, data: bytes) -> bytes:
    """Everything that the daemon says to these bytes and the end of input."""
    answers = b""
    with socket.socket(socket.AF_UNIX) as connection, contextlib.suppress(ConnectionError):
        connection.settimeout(60)
        connection.connect(daemon.socket)
        # What it says before it closes can be read after a write has failed.
        with contextlib.suppress(ConnectionError):
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
        while chunk := connection.recv(65536):
            answers += chunk
    return answers


def environment(daemon: Daemon) -> dict[str, str]:
    """What a command gets."""
    use(daemon, PRINTENV)
    output = outcome(daemon, "printenv -0")
    assert isinstance(output, bytes)
    return dict(line.split("=", 1) for line in output.decode().split("\0")[:-1])


def settings_of(daemon: Daemon) -> Settings:
    return config.load(str(daemon.config))[0]


def executable(path: Path, script: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


@contextlib.contextmanager
def process(
    *argv: str, executable: Path | None = None, uid: int | None = None
) -> Iterator["subprocess.Popen[bytes]"]:
    """A process that is no child of the daemon, once it has become its program."""
    identity: dict[str, Any] = {} if uid is None else {"user": uid, "group": uid, "extra_groups": []}
    started = subprocess.Popen(
        argv, executable=executable, stdin=subprocess.PIPE, stdout=subprocess.PIPE, **identity
    )
    try:
        yield started
    finally:
        started.kill()
        started.wait()


RAW = """
import contextlib, os, socket, sys
path, data, how = sys.argv[1], bytes.fromhex(sys.argv[2]), sys.argv[3]
connection = socket.socket(socket.AF_UNIX)
connection.settimeout(60)
if how == "becomes root":
    os.seteuid(61111)
    connection.connect(path)
    os.seteuid(0)
elif how == "was root":
    connection.connect(path)
    os.setuid(61111)
elif how == "is dead":
    if os.fork() == 0:
        connection.connect(path)
        os._exit(0)
    os.wait()
else:
    connection.connect(path)
answers = b""
with contextlib.suppress(ConnectionError):
    connection.sendall(data)
    connection.shutdown(socket.SHUT_WR)
with contextlib.suppress(ConnectionError):
    while chunk := connection.recv(65536):
        answers += chunk
print(answers.hex())
"""


def raw_as(daemon: Daemon, data: bytes, how: str, uid: int = 0) -> bytes:
    """Everything that the daemon says to these bytes of another process."""
    done = subprocess.run(
        ["/usr/bin/python3", "-c", RAW, daemon.socket, data.hex(), how],
        user=uid,
        group=uid,
        extra_groups=[],
        capture_output=True,
        text=True,
        check=True,
    )
    return bytes.fromhex(done.stdout)
