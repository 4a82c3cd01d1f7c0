"""What was once wrong with the programs that this one replaces or learns from, attacked here row by row.

doc/source/contributor/past-flaws.rst has the rows; `test_A1_...` is the attack of row A1, and so on. The last
tests hold page and attacks together.
"""

import ast
import contextlib
import itertools
import os
import pwd
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest

from rootwrap_daemon import config
from rootwrap_daemon.client import Client
from rootwrap_daemon.daemon.serve.session import HANDLERS
from rootwrap_daemon.errors import BadRequest, ConfigurationError, Error, OutcomeUnknown, Unauthorized
from rootwrap_daemon.filters import filter_file, ruleset
from rootwrap_daemon.filters.finding import Severity
from rootwrap_daemon.filters.values import Denied, ExecPlan, Match, Plan, Program, Reason, Request, SignalPlan
from rootwrap_daemon.lint import check as lint
from rootwrap_daemon.lint.subject import Subject, read_filters
from rootwrap_daemon.policy import policy
from rootwrap_daemon.protocol.codec import HEADER
from rootwrap_daemon.protocol.messages import REQUESTS, Cancel, Check, Hello, Run, Signal, Start, Status
from rootwrap_daemon.settings import Settings
from tests.functional.test_lifecycle import attempt
from tests.load import calls_go_on, flood
from tests.real_daemon import (
    HELLO,
    OVERFLOW,
    ROOT,
    Daemon,
    NewDaemon,
    children_of,
    frame,
    is_alive,
    settle,
    wait_for,
)

ROOT_OF_TREE = Path(__file__).parents[2]
PAGE = ROOT_OF_TREE / "doc" / "source" / "contributor" / "past-flaws.rst"
KNOWN = ROOT_OF_TREE.parent / "shared" / "known-flaws.md"

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


@pytest.fixture(scope="module")
def shared() -> Iterator[Daemon]:
    """One daemon for many tests, started in a dirty environment. They give it their rules with `use`."""
    if not ROOT and subprocess.run(["unshare", "--user", "--map-root-user", "true"], check=False).returncode:
        pytest.skip("needs root, or user namespaces for plain users")
    directory = Path(tempfile.mkdtemp(prefix="rootwrap-test-"))
    directory.chmod(0o755)
    (directory / "filters.d").mkdir(mode=0o755)
    (directory / "evil").mkdir(mode=0o755)
    (directory / "evil" / "sitecustomize.py").write_text(f"open({str(directory / 'imported')!r}, 'w')")
    (directory / "evil" / "id").write_text(f"#!/bin/sh\ntouch '{directory}/path-used'\n")
    (directory / "evil" / "id").chmod(0o755)
    daemon = Daemon(
        directory,
        {
            "filters_path": str(directory / "filters.d"),
            "socket_path": str(directory / "socket"),
            "socket_mode": "0666",
            "audit_file": str(directory / "audit.jsonl"),
            "trusted_owners": "0" if ROOT else f"0, {OVERFLOW}",
            "kill_grace": "1",
            # What real files of oslo.rootwrap say.
            "rlimit_nofile": "1024",
        },
        DIRTY | {"PYTHONPATH": str(directory / "evil"), "PATH": f"{directory / 'evil'}:{os.environ['PATH']}"},
    )
    try:
        daemon.configure("[Filters]\n")
        daemon.start()
        yield daemon
    finally:
        daemon.stop(signal.SIGKILL)
        shutil.rmtree(directory, ignore_errors=True)


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
        connection.settimeout(20)
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


@pytest.fixture
def place(shared: Daemon) -> Iterator[Path]:
    """A directory for one test in which root alone can write, from / down; pytest's own is not."""
    path = shared.directory / "place"
    path.mkdir(mode=0o755)
    yield path
    shutil.rmtree(path)


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
connection.settimeout(20)
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


# 1A: root for any agent.


def test_A1_value_of_an_option_is_not_the_object() -> None:
    judge(
        rules(IP),
        allow=["ip -l 3 link", "ip -n netns link show", "ip -n ns1 netns list"],
        deny=[
            "ip -l netns netns exec ns1 sh -c id",
            "ip -loops netns netns exec ns1 sh",
            "ip -n netns netns exec ns1 sh",
            "ip --netns netns netns exec ns1 sh",
            "ip -rc netns net e ns1 sh",
            "ip -f netns netns exec ns1 sh",
            "ip -s -n netns -d netns exec ns1 sh",
            "ip -n ns1 netns exec netns sh",
        ],
    )


def test_A2_words_of_two_types_are_refused_before_any_filter(shared: Daemon) -> None:
    use(shared, IP)
    attack = [b"ip", b"netns", b"exec", b"ns1", b"sh", b"-c", b"id"]
    for evil in (
        "netns",
        msgpack.ExtType(1, b"netns"),
        {b"__bytes__": b"bmV0bnM="},
        [b"netns"],
        1,
        None,
        True,
    ):
        for number, rest in ((1, [[], None, None]), (2, [[]])):
            answers = said(shared, HELLO + frame([number, [b"ip", evil, *attack[2:]], *rest]))
            assert b"bad_request" in answers, evil
    # Text and bytes become one before they are judged; no mixture is sent.
    with shared.client() as client:
        assert client.check([b"ip", b"link"]).allowed
        assert client.check(["ip", "link"]).allowed
        assert not client.check(attack).allowed
        mixtures: list[list[str | bytes]] = [
            ["ip", b"netns", b"exec", "ns1", "sh"],
            [b"ip", "netns", b"exec"],
        ]
        for mixed in mixtures:
            with pytest.raises(BadRequest):
                client.check(mixed)


def test_A3_ip_takes_no_batch() -> None:
    judge(
        rules(IP),
        allow=["ip -br link", "ip -f inet -d link"],
        deny=[
            "ip -b FILE",
            "ip -batch -",
            "ip --batch /tmp/x",
            "ip -ba -",
            "ip -force -batch -",
            "ip -fo link",
            "ip -s -b -",
            "ip -4 -bat /dev/stdin",
            # Files, for all that their names look like.
            "ip -b 1",
            "ip -ba 1 link",
            "ip --batch ns1 link",
        ],
    )


def test_A4_ip_vrf_runs_nothing() -> None:
    judge(
        rules(IP),
        allow=["ip vrf show", "ip vrf identify 1"],
        deny=[
            "ip vrf exec default sh -c id",
            "ip vr e default sh",
            "ip -n ns1 vrf exec default sh",
            "ip v ex default id",
            "ip vrf '' default id",
        ],
    )


def test_A5_chain_executes_the_program_of_the_leaf_not_its_namesake() -> None:
    found = rules(NETNS, "cat: CommandFilter, /bin/cat, root")
    judge(
        found,
        allow=["ip netns exec ns1 cat /etc/hosts", "ip netns exec ns1 /bin/cat"],
        deny=[
            "ip netns exec ns1 /tmp/evil/cat",
            "ip netns exec ns1 ./cat",
            "ip netns exec ns1 bin/cat",
            "ip netns exec ns1 /bin/../tmp/evil/cat",
            "ip netns exec ns1 //bin/cat",
        ],
    )
    planned = plan(found, "ip netns exec ns1 cat x")
    assert isinstance(planned, ExecPlan)
    assert planned.arguments[3:] == (Program("/bin/cat"), "x")


def test_A6_chain_of_patterns_executes_the_program_of_the_leaf(shared: Daemon, place: Path) -> None:
    use(shared, NICE, "cat: CommandFilter, cat, root")
    evil = executable(place / "cat", f"touch '{place}/ran'")
    for word in (str(evil), os.path.relpath(evil, "/"), f"/{evil}", "./cat"):
        assert outcome(shared, ["nice", "-n", "5", word, "/etc/hostname"]) == "denied"
    assert not (place / "ran").exists()
    assert outcome(shared, "nice -n 5 cat /etc/hostname") == Path("/etc/hostname").read_bytes()


def test_A7_program_with_the_name_of_an_assignment_is_none(shared: Daemon, place: Path) -> None:
    use(shared, NICE, "env: EnvFilter, env, root, PROCESS_TAG=, printenv")
    evil = executable(place / "PROCESS_TAG=1", f"touch '{place}/ran'")
    for words in ([str(evil), "printenv"], ["env", str(evil), "printenv"], ["PROCESS_TAG=1", "printenv"]):
        assert outcome(shared, ["nice", "-n", "5", *words]) == "denied"
        assert outcome(shared, words) == "denied"
    assert not (place / "ran").exists()
    assert outcome(shared, "nice -n 5 env PROCESS_TAG=1 printenv PROCESS_TAG") == b"1\n"


def test_A8_blank_after_a_comma_names_no_directory_of_the_starter(
    new_daemon: NewDaemon, tmp_path: Path
) -> None:
    trap = tmp_path / " " / "nonexistent-directory"
    executable(trap / "only-here", "echo ran")
    (trap / "evil.filters").write_text("[Filters]\nid: CommandFilter, id, root\n")
    daemon = new_daemon(start=False)
    daemon.inside = ["env", "-C", str(tmp_path)]
    daemon.configure(
        "[Filters]\nx: CommandFilter, only-here, root\ntrue: CommandFilter, true, root\n",
        filters_path=f"{daemon.directory}/filters.d, /nonexistent-directory",
        exec_dirs="/usr/bin, /bin, /nonexistent-directory",
    )
    daemon.start()
    assert outcome(daemon, "id") == "denied"
    assert outcome(daemon, "only-here") == "executable_not_found"
    assert outcome(daemon, "true") == b""
    for option in ("filters_path", "exec_dirs"):
        daemon.configure(**{option: "/usr/bin,nonexistent-directory"})
        assert not daemon.reload()
        daemon.configure(**{option: "/usr/bin,/usr/../tmp"})
        assert not daemon.reload()
        daemon.configure(filters_path=f"{daemon.directory}/filters.d", exec_dirs="/usr/bin, /bin")


def test_A9_privsep_helper_is_a_program_like_any_other(new_daemon: NewDaemon) -> None:
    daemon = new_daemon("[Filters]\ntrue: CommandFilter, true, root\n", start=False)
    executable(daemon.directory / "bin" / "privsep-helper", "echo ran")
    daemon.configure(exec_dirs=f"{daemon.directory}/bin, /usr/bin, /bin")
    daemon.start()
    attack = "privsep-helper --config-file /tmp/evil --privsep_context evil.ctx --privsep_sock_path /tmp/s"
    assert outcome(daemon, attack) == "denied"
    assert outcome(daemon, f"{daemon.directory}/bin/{attack}") == "denied"
    use(daemon, r"p: RegExpFilter, privsep-helper, root, privsep-helper, --config-file, /etc/[a-z]+\.conf")
    assert outcome(daemon, attack) == "denied"
    assert outcome(daemon, "privsep-helper --config-file /etc/x.conf") == b"ran\n"


def test_A10_pattern_where_a_path_belongs_is_an_error() -> None:
    line = r"p: PathFilter, privsep-helper, root, --config-file, /etc/(?!\.\.).*, --privsep_context, pass"
    (finding,) = errors(line)
    assert finding.startswith("x.filters:2:53: error: a regular expression in a PathFilter")
    for base in ("/etc/*", "/etc/[a-z]", "/etc/.+", "/etc/x$", "/etc/a|b"):
        assert errors(f"p: PathFilter, cat, root, {base}")


def test_A11_values_and_arguments_of_an_environment_filter_count() -> None:
    judge(
        rules(
            "lvs: EnvFilter, env, root, LC_ALL=C, lvs",
            "haproxy: EnvFilter, env, root, PROCESS_TAG=, haproxy, -f, .*",
        ),
        allow=["env LC_ALL=C lvs", "env PROCESS_TAG=1 haproxy -f /x"],
        deny=[
            "env LC_ALL=evil lvs",
            "env LC_ALL= lvs",
            "env LC_ALL=CC lvs",
            "env PROCESS_TAG=1 haproxy -C /tmp -f /tmp/evil.cfg -D",
            "env PROCESS_TAG=1 haproxy -f /x -D",
            "env PROCESS_TAG=1 haproxy",
            "env PROCESS_TAG=1 LC_ALL=C lvs",
        ],
    )


def test_A12_filters_that_give_root_are_warned_of_or_can_be_written_safely(
    shared: Daemon, place: Path
) -> None:
    for name in ("LD_LIBRARY_PATH", "LVM_SYSTEM_DIR"):
        found = read(f"e: EnvFilter, env, root, {name}=, lvs")
        assert [one.severity for one in found.findings] == [Severity.WARNING]
    base = place / "frr"
    (base / "x-1").mkdir(parents=True)
    (base / "x-1" / "conf").write_text("inside")
    (place / "passwd").write_text("outside")
    use(shared, f"cat: ArgvFilter, cat, root, {{path={base}}}", "kill: KillFilter, root, sleep, -9")
    assert outcome(shared, f"cat {base}/x-1/conf") == b"inside"
    assert outcome(shared, f"cat {base}/x-1/../../passwd") == "denied"
    assert outcome(shared, f"cat {base}/../passwd") == "denied"
    assert outcome(shared, ["kill", "-9", f"{os.getpid()} 1"]) == "denied"


def test_A13_abbreviations_and_options_in_front_hide_nothing() -> None:
    judge(
        rules(IP),
        allow=["ip netns list", "ip net add ns1", "ip -s link", "ip n show"],
        deny=[
            *(
                f"ip {kind} {verb} ns1 id"
                for kind in ("net", "netn", "netns")
                for verb in ("e", "ex", "exec")
            ),
            "ip n e ns1 id",
            "ip ne exec ns1 id",
            "ip -s netns exec ns1 id",
            "ip -s -d -4 net e ns1 id",
            "ip -all netns exec id",
            "ip netns '' ns1 id",
        ],
    )


def test_A14_variables_come_from_a_request_only_by_name_in_its_filter(shared: Daemon) -> None:
    use(shared, SH, TRUE, "", "[sh]", "env = GREETING")
    assert outcome(shared, ["sh", "-c", "echo $GREETING"], env={"GREETING": "$(id)"}) == b"$(id)\n"
    for name in ("LD_PRELOAD", "PATH", "GREETING2", "greeting", "BASH_ENV", "IFS"):
        assert outcome(shared, ["sh", "-c", "true"], env={name: "/tmp/x"}) == "environment_denied"
    assert outcome(shared, "true", env={"GREETING": "x"}) == "environment_denied"
    assert outcome(shared, ["sh", "-c", "true"], env={"GREETING": "a\nb"}) == "environment_denied"


# 1B: the logic of filters.


def test_B1_neighbour_with_the_same_beginning_is_outside(shared: Daemon, place: Path) -> None:
    for name in ("images", "images-evil", "image"):
        (place / name).mkdir()
        (place / name / "x").write_text(name)
    use(shared, f"a: PathFilter, cat, root, {place}/images", f"b: PathFilter, head, root, {place}/images/")
    for program in ("cat", "head"):
        assert outcome(shared, f"{program} {place}/images/x") == b"images"
        assert outcome(shared, f"{program} {place}/images-evil/x") == "denied"
        assert outcome(shared, f"{program} {place}/image/x") == "denied"


#: Puts a file, links out of the directory and a directory in which there is one under the same names, as fast
#: as it can.
FLIP = """
import os, sys
base, outside = sys.argv[1:]
new, name = base + "/new", base + "/x"
def file():
    with open(new, "w") as file:
        file.write("inside")
    os.replace(new, name)
def link(target):
    os.symlink(target, new)
    os.replace(new, name)
def directory():
    os.rename(base + "/d", base + "/e")
    os.symlink(outside, base + "/d")
    os.unlink(base + "/d")
    os.rename(base + "/e", base + "/d")
os.mkdir(base + "/d")
with open(base + "/d/secret", "w") as inside:
    inside.write("inside")
print("begun", flush=True)
while True:
    file()
    link(outside + "/secret")
    directory()
    file()
    link("../outside/secret")
    link("d/secret")
"""


@pytest.mark.root
def test_B2_what_was_checked_is_what_runs_while_links_flip(shared: Daemon, place: Path) -> None:
    base, outside = place / "base", place / "outside"
    for path in (base, outside):
        path.mkdir()
    (outside / "secret").write_text("outside")
    (base / "hard").hardlink_to(outside / "secret")
    os.chown(base, OTHER, OTHER)
    use(shared, f"cat: PathFilter, cat, root, {base}")
    assert outcome(shared, f"cat {base}/hard") == "denied"
    (base / "hard").unlink()
    seen: set[int | str | bytes] = set()
    with process("/usr/bin/python3", "-c", FLIP, str(base), str(outside), uid=OTHER) as flipper:
        assert flipper.stdout is not None
        assert flipper.stdout.readline() == b"begun\n"
        for _ in range(100):
            seen |= {outcome(shared, f"cat {base}/{name}") for name in ("x", "d/secret")}
    assert seen == {b"inside", "denied"}


def test_B3_base_is_resolved_too_and_is_never_all_and_options_are_no_values(
    shared: Daemon, place: Path
) -> None:
    assert "contains everything" in errors("p: PathFilter, cat, root, /")[0]
    assert "contains everything" in errors("p: PathFilter, cat, root, //")[0]
    (place / "real").mkdir()
    (place / "real" / "x").write_text("inside")
    (place / "outside").write_text("outside")
    (place / "base").symlink_to("real")
    use(shared, f"a: PathFilter, cat, root, {place}/base", f"b: PathFilter, ls, root, pass, {place}/base")
    assert outcome(shared, f"cat {place}/base/x") == b"inside"
    assert outcome(shared, f"cat {place}/real/x") == b"inside"
    assert outcome(shared, f"cat {place}/base/../outside") == "denied"
    for option in ("-R", "--reference=/tmp/mine", "--", "-"):
        assert outcome(shared, ["ls", option, f"{place}/base"]) == "denied"
    assert outcome(shared, ["ls", "/etc/hostname", f"{place}/base/x"]) != "denied"


def test_B4_bytes_that_no_path_has_are_refused_and_harm_nothing(shared: Daemon, place: Path) -> None:
    use(shared, f"cat: PathFilter, cat, root, {place}")
    path = str(place).encode()
    answers = said(shared, HELLO + frame([1, [b"cat", path + b"/a\0b"], [], None, None]))
    assert b"bad_request" in answers
    # Lone surrogates in UTF-8, and bytes that are none: names like any other, which nothing has.
    for name in (b"\xed\xa0\x80", b"\xff\xfe", b"\xc0\x80"):
        assert b"\xc2" in said(shared, HELLO + frame([2, [b"cat", path + b"/sub/" + name], []]))
    assert outcome(shared, f"cat {place}/\ud800") == "bad_request"
    (place / "x").write_text("inside")
    assert outcome(shared, f"cat {place}/x") == b"inside"


def test_B5_line_break_at_the_end_is_part_of_the_word() -> None:
    judge(
        rules(
            r"sleep: RegExpFilter, sleep, root, sleep, \d+",
            "echo: RegExpFilter, echo, root, echo, .*",
            NICE,
            TRUE,
        ),
        allow=["sleep 10", "echo a", "nice -n 5 true"],
        deny=[
            ("sleep", "10\n"),
            ("sleep\n", "10"),
            ("echo", "a\n"),
            ("nice", "-n", "5\n", "true"),
            ("nice\n", "-n", "5", "true"),
        ],
    )


def test_B6_each_branch_of_a_pattern_is_anchored() -> None:
    judge(
        rules(
            "echo: RegExpFilter, echo, root, echo, add|del",
            "cat: RegExpFilter, cat, root, cat, /etc/hosts|/etc/hostname",
        ),
        allow=["echo add", "echo del", "cat /etc/hosts", "cat /etc/hostname"],
        deny=["echo 'add --evil'", "echo xdel", "cat /etc/hosts/../shadow", "cat x/etc/hostname"],
    )


def test_B7_no_pattern_disarms_its_anchor() -> None:
    for pattern in ("(?x)safe # c", r"(?u)\w", "(?L)x", "safe\\", "(?#c)safe"):
        assert errors(f"echo: RegExpFilter, echo, root, echo, {pattern}"), pattern
    judge(
        rules("echo: RegExpFilter, echo, root, echo, (?m)abc", "tail: RegExpFilter, tail, root, tail, ^abc$"),
        allow=["echo abc", "tail abc"],
        deny=[("echo", "abc\nEVIL"), ("echo", "EVIL\nabc"), ("echo", "abcEVIL"), ("tail", "abc\n")],
    )


def test_B8_classes_are_of_ascii() -> None:
    judge(
        rules(
            r"sleep: RegExpFilter, sleep, root, sleep, \d+",
            r"echo: RegExpFilter, echo, root, echo, \w+",
            "tail: RegExpFilter, tail, root, tail, (?i)k",
        ),
        allow=["sleep 12", "echo a_1", "tail K"],
        deny=[
            ("sleep", "\u0661\u0662"),
            ("sleep", "\uff11"),
            ("echo", "\u00e9"),
            ("tail", "\N{KELVIN SIGN}"),
        ],
    )


def test_B9_program_and_first_pattern_are_the_same() -> None:
    assert "does not match /bin/rm" in errors("x: RegExpFilter, /bin/rm, root, ls, /tmp/x")[0]
    assert "does not match nice" in errors("x: ChainingRegExpFilter, nice, root, ionice, -c")[0]
    assert "is not ip" in errors("ping_exec: IpNetnsExecFilter, ping, root")[0]
    assert "is not ip" in errors("x: IpFilter, ping, root")[0]
    # A pattern that matches more does not open more.
    judge(
        rules("x: RegExpFilter, /bin/rm, root, .*, /tmp/x"),
        allow=["rm /tmp/x", "/bin/rm /tmp/x"],
        deny=["ls /tmp/x", "/tmp/rm /tmp/x", "./rm /tmp/x"],
    )


def test_B10_comma_in_a_pattern_can_be_written_and_is_never_silent() -> None:
    (finding,) = errors("x: RegExpFilter, echo, root, echo, a{1,3}")
    assert finding.startswith("x.filters:2:36: error: a comma splits the repetition {m,n} into two fields")
    assert r"\x2c" in finding
    judge(
        rules(r"x: RegExpFilter, echo, root, echo, a\x2cb", "y: RegExpFilter, tail, root, tail, a{2}"),
        allow=["echo a,b", "tail aa"],
        deny=["echo a", "echo a b", "tail a", "tail 'a{2}'"],
    )


def test_B11_bad_pattern_is_an_error_with_its_place() -> None:
    for pattern in ("[", "(", "*", "(?P<a", r"\8"):
        (finding,) = errors(TRUE, f"x: RegExpFilter, echo, root, echo, {pattern}")
        assert finding.startswith("x.filters:3:36: error: bad regular expression")


def test_B12_evil_pattern_ends_on_time_and_stops_nobody(shared: Daemon) -> None:
    lines = [
        "echo: RegExpFilter, echo, root, echo, (a|a)+",
        r"find: RegExpFilter, find, root, find, ^[/]*([^/\0]+(/+)?)*$",
    ]
    found = rules(*lines)
    ticks = 0
    over = threading.Event()

    def tick() -> None:
        nonlocal ticks
        while not over.wait(0.001):
            ticks += 1

    thread = threading.Thread(target=tick)
    thread.start()
    verdict = found.match(Request(("echo", "a" * 60 + "!")))
    over.set()
    thread.join()
    # With an engine that knows no limit this is 2**60 steps, and with one that keeps the lock nobody ticks.
    assert verdict == Denied(Reason.TIME)
    assert ticks > 5
    use(shared, *lines)
    assert b"bad_request" in said(shared, HELLO + frame([2, [b"find", b"a" * 24 + b"\0"], []]))
    assert outcome(shared, ["echo", "a" * 60 + "!"]) == "denied"
    assert outcome(shared, ["echo", "a" * 5000]) == "denied"


def test_B13_chain_without_patterns_is_an_error() -> None:
    assert errors("n: ChainingRegExpFilter, /usr/bin/nice, root")
    judge(
        ruleset.RuleSet(read("n: ChainingRegExpFilter, /usr/bin/nice, root", TRUE).filters),
        allow=["true"],
        deny=["nice true", "cat /etc/hostname", "/usr/bin/nice /etc/hostname"],
    )


def test_B14_order_of_filters_changes_no_verdict() -> None:
    lines = ["e: EnvFilter, env, root, FOO=, printenv", TRUE, NICE, "echo: RegExpFilter, echo, root, echo, a"]
    for order in itertools.permutations(lines):
        judge(
            rules(*order),
            allow=["true", "env FOO=1 printenv", "nice -n 5 true", "echo a"],
            deny=["env true", "env FOO=1 true", "env", "FOO=1 printenv", "printenv"],
        )


def test_B15_empty_value_is_set_and_env_is_named_exactly(shared: Daemon) -> None:
    for program in ("printenv", "/usr/bin/printenv", "/usr/env/x"):
        assert "is not env" in errors(f"e: EnvFilter, {program}, root, FOO=, true")[0]
    use(shared, "e: EnvFilter, env, root, FOO=, printenv")
    assert DIRTY["FOO"]
    assert outcome(shared, "env FOO= printenv FOO") == b"\n"
    assert outcome(shared, "env printenv FOO") == "denied"


def test_B16_environment_of_a_command_is_built_from_nothing(shared: Daemon) -> None:
    found = environment(shared)
    assert set(found) == {"PATH", "LANG", "HOME", "USER", "LOGNAME"}
    assert not set(found.values()) & set(DIRTY.values())
    use(shared, "e: EnvFilter, env, root, BAR=, printenv", IP)
    assert outcome(shared, "env BAR=1 printenv LEAKME FOO IP_LIB_DIR") == 1
    assert outcome(shared, "ip link", env={"IP_LIB_DIR": "/tmp"}) == "environment_denied"


def test_B17_process_number_is_plain_decimal() -> None:
    found = rules("k: KillFilter, root, sleep, -9")
    words = (
        " 123",
        "+123",
        "0123",
        "1_23",
        "\u0661\u0662\u0663",
        "\uff11\uff12\uff13",
        "123\n",
        "\u00a0123",
        "123 ",
        "0x7b",
        "1e2",
        "",
    )
    judge(found, allow=["kill -9 123"], deny=[("kill", "-9", word) for word in words])
    planned = plan(found, "kill -9 123")
    assert isinstance(planned, SignalPlan)
    assert (planned.pid, planned.signal) == (123, 9)


#: In a namespace of its own, as its process 1: the number of a process is given to another between look and
#: signal.
REUSE = """
import os, subprocess, sys
from rootwrap_daemon import config
from rootwrap_daemon.daemon.run import process
from rootwrap_daemon.filters.values import Request
from rootwrap_daemon.policy.bind import BoundSignal
from rootwrap_daemon.policy.policy import Allowed, judge, load

policy = load(config.load(sys.argv[1])[0], 1)
first = subprocess.Popen(["/bin/sleep", "100"])
judged = judge(policy, Request(("kill", "-9", str(first.pid))))
assert isinstance(judged, Allowed) and isinstance(judged.bound, BoundSignal), judged
first.kill()
first.wait()
with open("/proc/sys/kernel/ns_last_pid", "w") as file:
    file.write(str(first.pid - 1))
second = subprocess.Popen(["/bin/sleep", "101"])
assert second.pid == first.pid
done = process.send_signal(judged.bound)
try:
    fate = second.wait(0.5)
except subprocess.TimeoutExpired:
    fate = "alive"
second.kill()
print(done.returncode, done.stderr == b"kill: (%d) - No such process\\n" % first.pid, fate)
"""


def test_B18_number_given_to_another_process_is_not_hit(new_daemon: NewDaemon) -> None:
    daemon = new_daemon("[Filters]\nk: KillFilter, root, /bin/sleep, -9\n", start=False)
    namespace = [
        "unshare",
        *([] if ROOT else ["--user", "--map-root-user"]),
        "--pid",
        "--fork",
        "--mount-proc",
    ]
    if subprocess.run([*namespace, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no process namespaces here")
    done = subprocess.run(
        [*namespace, sys.executable, "-I", "-c", REUSE, str(daemon.config)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "1 True alive\n", done.stderr


THREAD = (
    "import threading, time; threading.Thread(target=time.sleep, args=(60,)).start(); print('x', flush=True)"
)


@pytest.mark.root
def test_B19_process_is_known_by_its_file_not_by_what_it_says(shared: Daemon, place: Path) -> None:
    python = os.path.realpath(sys.executable)
    program, other = place / "program", place / "program (deleted)"
    for path in (program, other, place / "gone"):
        shutil.copy("/bin/sleep", path)
    use(
        shared,
        "a: KillFilter, root, /bin/sleep, -9",
        f"b: KillFilter, root, {program}, -9",
        f"c: KillFilter, root, {python}, -9",
    )

    def killable(pid: int) -> bool:
        with shared.client() as client:
            return client.check(["kill", "-9", str(pid)]).allowed

    with process("/bin/sleep", "60", executable=place / "gone") as liar:
        assert not killable(liar.pid)
        (place / "gone").unlink()
        assert not killable(liar.pid)
    with process(str(other), "60") as namesake:
        assert not killable(namesake.pid)
    # /bin is a link to /usr/bin on most systems: the file is the same.
    with process("/usr/bin/sleep", "60") as sleeper:
        assert killable(sleeper.pid)
    with process(str(program), "60") as upgraded:
        assert killable(upgraded.pid)
        shutil.copy("/bin/sleep", place / "new")
        os.replace(place / "new", program)
        assert killable(upgraded.pid)
    with process(python, "-c", THREAD) as threaded:
        assert threaded.stdout is not None
        assert threaded.stdout.readline() == b"x\n"
        (thread,) = set(map(int, os.listdir(f"/proc/{threaded.pid}/task"))) - {threaded.pid}
        assert killable(threaded.pid)
        assert not killable(thread)
    # A filter can ask for more than the program: whose it is, and who started it.
    lines = ["a: KillFilter, root, /bin/sleep, -9", SH, "", "[a]"]
    with process("/bin/sleep", "60") as sleeper:
        for option, mine in (("target_user = nobody", False), ("target_user = root", True)):
            use(shared, *lines, option)
            assert killable(sleeper.pid) is mine
        use(shared, *lines, "started_by = self")
        assert not killable(sleeper.pid)
        started = outcome(shared, ["sh", "-c", "sleep 60 & echo $!"])
        assert isinstance(started, bytes)
        wait_for(lambda: killable(int(started)))
        assert outcome(shared, f"kill -9 {int(started)}") == b""


def test_B20_kill_filter_without_a_program_is_an_error_and_harms_no_other() -> None:
    assert errors("k: KillFilter, root")[0].startswith("x.filters:2:1: error: 1 fields after the kind")
    found = ruleset.RuleSet(read("k: KillFilter, root", "ok: KillFilter, root, sleep, -9").filters)
    judge(found, allow=["kill -9 123"], deny=["kill 123", "kill"])


def test_B21_groups_everybody_and_the_daemon_are_never_hit(shared: Daemon) -> None:
    programs = {os.path.realpath(sys.executable)}
    # Not every root may look at process 1.
    with contextlib.suppress(OSError):
        programs.add(os.readlink("/proc/1/exe"))
    lines = [f"k{index}: KillFilter, root, {program}, -9" for index, program in enumerate(programs)]
    use(shared, *lines, "any: KillFilter, root, sleep", "nine: KillFilter, root, sleep, -9, -15")
    for words in ("-9 -1", "-1", "0", "-9 0", "-9 1", f"-9 -{shared.pid}", f"-9 {shared.pid}", "-9 -- 1"):
        assert outcome(shared, f"kill {words}") == "denied", words
    assert outcome(shared, f"kill -9 {os.getpid()}") == "denied"
    assert is_alive(shared.pid)


@pytest.mark.root
def test_B22_file_that_a_link_of_the_agent_names_is_not_read(shared: Daemon, place: Path) -> None:
    (place / "secret").write_text("outside")
    (place / "plain").write_text("inside")
    own = place / "own"
    own.mkdir()
    os.chown(own, OTHER, OTHER)
    (own / "readme").symlink_to(place / "secret")
    (own / "hard").hardlink_to(place / "secret")
    (place / "link").symlink_to(place / "secret")
    os.lchown(place / "link", OTHER, OTHER)
    os.mkfifo(place / "fifo")
    paths = [own / "readme", own / "hard", place / "link", place / "fifo", place / "plain"]
    use(shared, *(f"r{index}: ReadFileFilter, {path}" for index, path in enumerate(paths)))
    for path in paths[:-1]:
        assert outcome(shared, f"cat {path}") == "denied"
    assert outcome(shared, f"cat {place}/plain") == b"inside"


def test_B23_ip_names_no_path_and_loads_no_code() -> None:
    judge(
        rules(IP, NETNS, TRUE),
        allow=["ip -n ns1 link", "ip monitor link", "ip link set eth0 xdp off", "ip netns exec ns1 true"],
        deny=[
            "ip -n ../../proc/1/ns/net link",
            "ip -n /proc/1/ns/net link",
            "ip -n . link",
            "ip netns attach x /proc/1/ns/net",
            "ip netns add ../x",
            "ip netns exec ../../proc/1/ns/net true",
            "ip netns exec -a true",
            "ip link set eth0 netns /proc/1/ns/net",
            "ip link set eth0 xdp obj evil.o",
            "ip link set eth0 xdpgeneric pinned evil",
            "ip route add 10.0.0.0/8 encap bpf in obj evil.o",
            "ip link add x type ../../tmp/evil",
            "ip monitor file /etc/shadow",
            "ip mon f shadow",
            "ip xfrm monitor file shadow",
        ],
    )


@pytest.mark.root
def test_B24_program_that_others_can_change_is_not_run(shared: Daemon, place: Path) -> None:
    for name in ("", ".", "..", "/", "bin/true", "/bin/", "../true"):
        assert errors(f"x: CommandFilter, {name}, root"), name
    programs = {
        name: executable(place / name / "program", "echo ran") for name in ("mode", "owner", "parent")
    }
    programs["mode"].chmod(0o757)
    os.chown(programs["owner"], OTHER, OTHER)
    programs["parent"].parent.chmod(0o777)
    programs["link"] = place / "link"
    programs["link"].symlink_to("/bin/true")
    os.lchown(programs["link"], OTHER, OTHER)
    programs["directory"] = place / "mode"
    programs["no-x"] = executable(place / "no-x", "echo ran")
    programs["no-x"].chmod(0o644)
    good = executable(place / "good", "echo ran")
    use(
        shared, *(f"{name}: CommandFilter, {path}, root" for name, path in {**programs, "good": good}.items())
    )
    found = {name: outcome(shared, str(path)) for name, path in programs.items()}
    assert set(found.values()) == {"executable_not_found"}, found
    assert outcome(shared, str(good)) == b"ran\n"


def test_B25_program_is_looked_up_at_each_request(new_daemon: NewDaemon) -> None:
    daemon = new_daemon(start=False)
    first, second = daemon.directory / "first", daemon.directory / "second"
    for directory in (first, second):
        directory.mkdir(mode=0o755)
    daemon.configure("[Filters]\nx: CommandFilter, program, root\n", exec_dirs=f"{first}, {second}, /bin")
    daemon.start()
    assert outcome(daemon, "program") == "executable_not_found"
    executable(second / "program", "echo second")
    assert outcome(daemon, "program") == b"second\n"
    executable(first / "program", "echo first")
    assert outcome(daemon, "program") == b"first\n"
    (first / "program").chmod(0o777)
    assert outcome(daemon, "program") == b"second\n"
    (second / "program").chmod(0o644)
    assert outcome(daemon, "program") == "executable_not_found"


def test_B26_only_what_is_plainly_meant_is_loaded(shared: Daemon) -> None:
    directory = shared.directory / "filters.d"
    left = ["a.filters~", "b.filters.rpmsave", "c.bak", ".d.filters", "e.conf", "f.filters.swp", "g.Filters"]
    for name in left:
        (directory / name).write_text("[Filters]\nid: CommandFilter, id, root\n")
    use(shared, TRUE)
    assert outcome(shared, "id") == "denied"
    for name in left:
        (directory / name).unlink()
    writable = directory / "z.filters"
    writable.write_text("[Filters]\nid: CommandFilter, id, root\n")
    writable.chmod(0o666)
    assert not shared.reload()
    writable.chmod(0o644)
    directory.chmod(0o777)
    assert not shared.reload()
    directory.chmod(0o755)
    assert shared.reload()
    assert outcome(shared, "id") != "denied"
    writable.unlink()
    for text in (
        "[DEFAULT]\nid: CommandFilter, id, root\n",
        "id: CommandFilter, id, root\n",
        "[Filters]\na: CommandFilter, id, root\nA: CommandFilter, id, nobody\n",
        "[Filters]\na: DnsmasqFilter, /usr/sbin/dnsmasq, root\n",
        "[Filters]\nDEFAULT: CommandFilter, id, root\n",
        "[Filters]\na\n",
    ):
        found = filter_file.read(text, "x.filters")
        assert found.filters == (), text
        assert re.match(r"x\.filters:\d+:\d+: error: ", str(found.findings[0])), text


@pytest.mark.root
def test_B27_other_user_is_a_whole_identity_with_surroundings_of_its_own(shared: Daemon) -> None:
    use(shared, "sh: CommandFilter, sh, nobody")
    entry = pwd.getpwnam("nobody")
    script = 'id -u; id -g; id -G; umask; pwd; echo "$HOME" "$USER" "$LOGNAME"; test -w / || echo no; '
    script += "grep NoNewPrivs /proc/self/status"
    output = outcome(shared, ["sh", "-c", script])
    assert isinstance(output, bytes)
    assert output.decode().split("\n") == [
        *(str(entry.pw_uid), str(entry.pw_gid), str(entry.pw_gid), "0022", "/"),
        *(f"{entry.pw_dir} nobody nobody", "no", "NoNewPrivs:\t1", ""),
    ]
    use(shared, "sh: CommandFilter, sh, root", "", "[sh]", "no_new_privs = yes", "capabilities = CAP_KILL")
    output = outcome(shared, ["sh", "-c", "grep -E '^(NoNewPrivs|CapEff|CapBnd):' /proc/self/status"])
    assert output == f"CapEff:\t{1 << 5:016x}\nCapBnd:\t{1 << 5:016x}\nNoNewPrivs:\t1\n".encode()


def test_B28_unknown_user_stops_the_start(new_daemon: NewDaemon) -> None:
    names = ("no-such-user", "", "0", "'", "root root")
    lines = [f"f{index}: CommandFilter, id, {name}" for index, name in enumerate(names)]
    done = attempt(new_daemon("\n".join(("[Filters]", *lines, "")), start=False), "--check")
    assert done.returncode == 78
    found = re.findall(r"test\.filters:(\d+):\d+: error: ", done.stderr)
    assert sorted(found) == ["2", "3", "4", "5", "6"]


def test_B29_starters_python_path_is_not_imported_from(shared: Daemon) -> None:
    assert Path(shared.environ["PYTHONPATH"], "sitecustomize.py").exists()
    assert not (shared.directory / "imported").exists()
    # The same without -I does: the trap is a real one.
    subprocess.run([sys.executable, "-c", ""], env={"PYTHONPATH": shared.environ["PYTHONPATH"]}, check=True)
    assert (shared.directory / "imported").exists()
    (shared.directory / "imported").unlink()


def test_B30_chain_runs_what_its_leaf_would(shared: Daemon, place: Path) -> None:
    (place / "base").mkdir()
    (place / "base" / "x").write_text("inside")
    (place / "secret").write_text("outside")
    (place / "base" / "link").symlink_to("../secret")
    leaves = [f"cat: PathFilter, cat, root, {place}/base", "e: EnvFilter, env, root, FOO=, printenv"]
    use(shared, NICE, *leaves)
    assert outcome(shared, f"nice -n 5 cat {place}/base/x") == b"inside"
    for name in ("link", "../secret", "../base-evil/x"):
        assert outcome(shared, f"nice -n 5 cat {place}/base/{name}") == "denied"
    assert outcome(shared, "nice -n 5 env FOO=leaf printenv FOO") == b"leaf\n"
    found = rules(NICE, "id: CommandFilter, id, nobody", "k: KillFilter, root, sleep, -9")
    judge(found, allow=["id"], deny=["nice -n 5 id", "nice -n 5 kill -9 123"])


# 1C: daemon and client.


def test_C1_denial_is_an_answer_also_when_nothing_can_be_logged(new_daemon: NewDaemon) -> None:
    daemon = new_daemon(start=False)
    # With its standard error closed there is no log to wait for; the socket is enough.
    (daemon.directory / "log").write_text("listening on")
    daemon.inside = ["sh", "-c", 'exec "$@" 2>&-', "sh"]
    daemon.start()
    before = daemon.pid, settle(daemon)
    with daemon.client() as client:
        codes = set()
        for _ in range(300):
            try:
                client.run(["nope"])
            except Error as error:
                codes.add(error.code)
        assert codes == {"denied"}
        assert client.run(["true"]).returncode == 0
    assert (daemon.pid, settle(daemon)) == before


def test_C2_each_fault_has_an_error_of_its_own(shared: Daemon, place: Path) -> None:
    bad = place / "bad"
    bad.write_bytes(b"\x7fELF not really")
    bad.chmod(0o755)
    use(shared, TRUE, f"bad: CommandFilter, {bad}, root")
    wrong: list[Any] = [
        [],
        [b"true\0"],
        [b"true", 1],
        [b"true", None],
        b"true",
        "true",
        {b"0": b"true"},
        None,
    ]
    for argv in wrong:
        assert b"bad_request" in said(shared, HELLO + frame([1, argv, [], None, None])), argv
    with shared.client() as client:
        for given in ([], "true", ["true", 1], ["true", None], ["true\0"], ["true", "\ud800"], {"0": "true"}):
            with pytest.raises(BadRequest):
                client.run(given)  # type: ignore[arg-type]
    assert outcome(shared, ["true", *["x" * 100_000] * 11]) == "too_large"
    assert outcome(shared, ["true", *["x"] * 5000]) == "too_large"
    assert outcome(shared, str(bad)) == "executable_not_found"
    assert outcome(shared, "nope") == "denied"
    assert outcome(shared, "true") == b""


def test_C3_no_return_code_is_mistaken_for_a_verdict(shared: Daemon) -> None:
    use(shared, SH)
    for code in (96, 97, 98, 99, 126, 127, 137):
        assert outcome(shared, f"sh -c 'exit {code}'") == code
    assert outcome(shared, "sh -c 'kill -KILL $$'") == -signal.SIGKILL


def test_C4_request_that_may_have_run_is_not_sent_again(new_daemon: NewDaemon, tmp_path: Path) -> None:
    daemon = new_daemon()
    marker = tmp_path / "ran"
    failures: list[BaseException] = []

    def work(client: Client) -> None:
        try:
            client.run(["sh", "-c", f"echo x >> '{marker}'; sleep 30"])
        except BaseException as error:
            failures.append(error)

    with daemon.client() as client:
        client.run(["true"])
        thread = threading.Thread(target=work, args=(client,))
        thread.start()
        wait_for(marker.exists)
        (left,) = daemon.children()
        daemon.restart(signal.SIGKILL)
        thread.join(30)
        # The same client goes on with the new daemon.
        assert client.run(["true"]).returncode == 0
    os.killpg(left, signal.SIGKILL)
    assert [type(failure) for failure in failures] == [OutcomeUnknown]
    assert marker.read_text() == "x\n"


def test_C5_long_command_delays_no_other_of_the_same_client(shared: Daemon) -> None:
    use(shared, SLEEP, TRUE)
    with shared.client() as client:
        threads = [threading.Thread(target=client.run, args=(["sleep", "60"],)) for _ in range(3)]
        for thread in threads:
            thread.start()
        wait_for(lambda: len(shared.children()) == 3)
        for _ in range(5):
            assert client.run(["true"]).returncode == 0
        # All three still ran meanwhile.
        sleepers = shared.children()
        assert len(sleepers) == 3
        for pid in sleepers:
            os.kill(pid, signal.SIGKILL)
        for thread in threads:
            thread.join(30)


def test_C6_background_child_that_keeps_the_output_open_holds_nothing(shared: Daemon) -> None:
    use(shared, SH)
    output = outcome(shared, ["sh", "-c", "sleep 60 & echo $!"], timeout=30)
    assert isinstance(output, bytes)
    assert is_alive(int(output))
    os.kill(int(output), signal.SIGKILL)


def test_C7_time_output_and_number_of_commands_are_bounded(new_daemon: NewDaemon) -> None:
    filters = (
        "[Filters]\nsleep: CommandFilter, sleep, root\nsh: CommandFilter, sh, root\n[sleep]\ntimeout = 1\n"
    )
    daemon = new_daemon(filters, max_output="100000", max_commands_per_user="1", command_timeout="30")
    assert outcome(daemon, "sleep 999999999999999") == "timeout"
    assert outcome(daemon, "sh -c 'sleep 60'", timeout=0.2) == "timeout"
    assert outcome(daemon, "sh -c 'head -c 64000000 /dev/zero'") == "output_limit"
    with daemon.client() as client:
        # The zombies of the commands before are children, too, for a moment.
        wait_for(lambda: daemon.children() == [])
        thread = threading.Thread(target=client.run, args=(["sh", "-c", "sleep 60"],))
        thread.start()
        wait_for(lambda: daemon.children() != [])
        assert outcome(daemon, "sh -c true") == "busy"
        for pid in daemon.children():
            # Orphans of the commands before are no leaders of a group.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
        thread.join(30)
    wait_for(lambda: daemon.children() == [])


CLIENT = "import sys; from rootwrap_daemon.client import Client; Client(sys.argv[1]).run(sys.argv[2:])"


def test_C8_command_does_not_outlive_its_client(shared: Daemon) -> None:
    use(shared, SH)
    before = set(shared.children())
    with process(sys.executable, "-c", CLIENT, shared.socket, "sh", "-c", "sleep 60 & sleep 60"):
        wait_for(lambda: len(set(shared.children()) - before) == 1)
        (leader,) = set(shared.children()) - before
        wait_for(lambda: len(children_of(leader)) == 2)
        family = [leader, *children_of(leader)]
    wait_for(lambda: not any(map(is_alive, family)))


@pytest.mark.root
def test_C9_whoever_is_not_allowed_costs_neither_thread_nor_descriptor(new_daemon: NewDaemon) -> None:
    # A silent client that is allowed would stay for that long.
    daemon = new_daemon(socket_mode="0666", request_timeout="3600", daemon_timeout="3600")
    before = settle(daemon)
    with flood(daemon, 1000, uid=OTHER):
        wait_for(lambda: daemon.figures() == before)
        with daemon.client() as client:
            calls_go_on(daemon, client)
    wait_for(lambda: settle(daemon) == before)
    used = daemon.cpu_seconds()
    time.sleep(0.5)
    assert daemon.cpu_seconds() - used < 0.1


def test_C10_announced_length_allocates_nothing(shared: Daemon) -> None:
    def peak() -> int:
        status = Path(f"/proc/{shared.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0])

    def mapped() -> int:
        return int(Path(f"/proc/{shared.pid}/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")

    # The C library keeps 64 MiB of addresses for each thread that it has once seen.
    said(shared, HELLO)
    before = peak(), mapped()
    for greeting in (b"", HELLO):
        answers = said(shared, greeting + HEADER.pack(2**32 - 1) + b"x" * 1000)
        assert b"too_large" in answers
    # Eight bytes of length, as another daemon reads them.
    assert b"bad_request" in said(shared, b"\0\0\0\2\0\0\0\0") + said(shared, frame(2**33))
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(shared.socket)
        connection.sendall(HELLO + HEADER.pack(16 * 1024 * 1024) + b"x" * 1000)
        time.sleep(0.1)
        assert mapped() - before[1] < 256 * 1024 * 1024
    assert peak() - before[0] < 16 * 1024


def test_C11_nothing_starts_before_all_of_a_request_is_valid(shared: Daemon, place: Path) -> None:
    use(shared, SH)
    script = f"touch '{place}/ran'; cat"
    assert outcome(shared, ["sh", "-c", script], input="\ud800") == "bad_request"
    argv = [b"sh", b"-c", script.encode()]
    wrong: list[list[Any]] = [[[], "text", None], [[], 1, None], [[], None, "soon"], [[], None, -1]]
    for rest in (*wrong, [[[b"A"]], None, None]):
        assert b"bad_request" in said(shared, HELLO + frame([1, argv, *rest]))
    assert not (place / "ran").exists()
    assert outcome(shared, ["sh", "-c", script], input="text") == b"text"
    assert (place / "ran").exists()


def test_C12_client_can_say_what_is_in_one_table(shared: Daemon) -> None:
    assert set(HANDLERS) == {Hello, Run, Start, Check, Status, Cancel, Signal} == set(REQUESTS.values())
    for what in (*range(4, 300, 37), -1, 2**64 - 1, "shutdown", b"cancel_timer", "debug_info", None, 1.0):
        assert b"bad_request" in said(shared, HELLO + frame([what])), what
        assert b"bad_request" in said(shared, HELLO + frame([what, [], {}])), what
    assert is_alive(shared.pid)


@pytest.mark.root
def test_C13_who_asks_is_what_the_kernel_says(shared: Daemon, place: Path) -> None:
    use(shared, SH)
    request = HELLO + frame([1, [b"sh", b"-c", f"touch '{place}/ran'".encode()], [], None, None])
    assert b"unauthorized" in raw_as(shared, request, "", uid=OTHER)
    # No secret opens it: the daemon has none.
    assert b"unauthorized" in raw_as(shared, b"#CHALLENGE#" + bytes(32) + request, "", uid=OTHER)
    assert not (place / "ran").exists()
    assert b"unauthorized" not in raw_as(shared, request, "", uid=0)
    assert (place / "ran").exists()


def test_C14_life_of_the_daemon_is_not_the_clients(new_daemon: NewDaemon) -> None:
    daemon = new_daemon(daemon_timeout="1")
    names = set(os.listdir(daemon.directory))
    before = settle(daemon)
    with daemon.client() as client:
        assert client.run(["true"]).returncode == 0
        # Idle, the connection ends; the daemon does not, and the client does not notice.
        wait_for(lambda: daemon.figures() == before)
        assert client.run(["true"]).returncode == 0
        # Killed, it leaves nothing that the next one stumbles over.
        daemon.restart(signal.SIGKILL)
        assert client.run(["true"]).returncode == 0
        assert client.run(["ls", "/proc/self/fd"]).stdout.split() == [b"0", b"1", b"2", b"3"]
    assert set(os.listdir(daemon.directory)) == names
    assert daemon.children() == []
    # A directory among the filters is a finding, not the end.
    (daemon.directory / "filters.d" / "sub.filters").mkdir()
    assert not daemon.reload()
    assert "not a regular file" in daemon.log
    assert outcome(daemon, "nope") == "denied"
    assert daemon.stop() == 0
    assert not os.path.exists(daemon.socket)


def test_C15_records_cannot_be_forged(shared: Daemon) -> None:
    use(shared, TRUE)
    before = len(shared.audit())
    evil = [
        "x\n2026-01-01 forged: root > root",
        "--password",
        "hunter2",
        "token=hunter2",
        "http://u:hunter2@h/",
    ]
    assert outcome(shared, ["true", *evil], input=b"hunter2") == b""
    run, end = shared.audit()[before:]
    assert (run["event"], end["event"]) == ("run", "end")
    assert run["argv"][:2] == ["true", evil[0]]
    assert (run["uid"], run["pid"]) == (0, os.getpid())
    last = (shared.directory / "audit.jsonl").read_text().splitlines()[before:]
    assert len(last) == 2
    assert not any(
        word in line for line in last for word in ("hunter2", "of the starter", DIRTY["USER"] + '"')
    )
    assert "2026-01-01" not in shared.log


@pytest.mark.root
def test_C16_nothing_of_ours_runs_between_fork_and_exec(shared: Daemon) -> None:
    calls = [
        (path.name, getattr(node.func, "attr", ""), {keyword.arg for keyword in node.keywords})
        for part in ("daemon", "policy", "filters", "protocol")
        for path in (ROOT_OF_TREE / "rootwrap_daemon" / part).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
    ]
    assert [call for call in calls if "preexec_fn" in call[2] or call[1] in ("fork", "forkpty")] == []
    assert {call[0] for call in calls if call[1] == "Popen"} == {"spawn.py"}
    # As another user from many threads at once: each ends, with its own output.
    use(shared, "sh: CommandFilter, sh, nobody")
    outputs: list[object] = []

    def work(number: int) -> None:
        for step in range(8):
            outputs.append(outcome(shared, f"sh -c 'echo {number}.{step} $(id -u)'", timeout=60))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    uid = pwd.getpwnam("nobody").pw_uid
    assert set(outputs) == {b"%d.%d %d\n" % (number, step, uid) for number in range(8) for step in range(8)}


def test_C17_command_has_a_session_and_limits_of_its_own(shared: Daemon) -> None:
    use(shared, SH)
    script = 'read -r p c s pp g se t x < /proc/self/stat; echo "$p $g $se $t"; ulimit -n'
    output = outcome(shared, ["sh", "-c", script])
    assert isinstance(output, bytes)
    pid, group, session, terminal, limit = output.split()
    assert pid == group == session
    assert terminal == b"0"
    assert int(session) != os.getsid(shared.pid)
    assert shared.options["rlimit_nofile"] == "1024"
    assert limit == b"8192"


# 2: what other programs taught.


def test_CVE_2021_4034_empty_argv_and_gconv_path(shared: Daemon) -> None:
    use(shared, TRUE, SH)
    for argv in ([], [b""], [b"", b"x"]):
        assert b"bad_request" in said(shared, HELLO + frame([1, argv, [], None, None])), argv
        assert b"bad_request" in said(shared, HELLO + frame([2, argv, []])), argv
    # Behind the first, an empty word is a word.
    assert outcome(shared, ["sh", "-c", "echo $# $0", "", "", ""]) == b"2\n"
    assert outcome(shared, "true", env={"GCONV_PATH": "/tmp"}) == "environment_denied"
    assert DIRTY["GCONV_PATH"]
    assert "GCONV_PATH" not in environment(shared)


def test_CVE_2021_3560_requester_that_dies_at_any_byte_runs_nothing(shared: Daemon, place: Path) -> None:
    use(shared, SH)
    request = frame([1, [b"sh", b"-c", f"echo x >> '{place}/ran'".encode()], [], None, None])
    before = len(shared.audit())

    def die_after(data: bytes) -> None:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(shared.socket)
            connection.sendall(data)

    for end in range(len(HELLO) + len(request)):
        die_after((HELLO + request)[:end])
    wait_for(lambda: shared.threads() == 1)
    assert not (place / "ran").exists()
    for _ in range(20):
        die_after(HELLO + request)
    wait_for(lambda: shared.threads() == 1 and shared.children() == [])
    runs = [record for record in shared.audit()[before:] if record["event"] == "run"]
    ran = (place / "ran").read_text().splitlines() if (place / "ran").exists() else []
    assert len(ran) <= len(runs) <= 20
    assert {record["uid"] for record in shared.audit()[before:]} <= {0}


@pytest.mark.root
def test_CVE_2019_6133_identity_is_of_the_moment_of_connecting(shared: Daemon) -> None:
    use(shared, TRUE)
    request = HELLO + frame([2, [b"true"], []])
    assert b"unauthorized" in raw_as(shared, request, "becomes root")
    assert b"unauthorized" not in raw_as(shared, request, "was root")
    # The number of the process that connected means nothing: here it is free, and may be anybody's.
    assert b"unauthorized" not in raw_as(shared, request, "is dead")


@pytest.mark.root
def test_CVE_2021_4115_descriptors_are_not_used_up_by_another_user(new_daemon: NewDaemon) -> None:
    daemon = new_daemon(socket_mode="0666", allowed_users=f"root, {OTHER}")
    before = settle(daemon)
    with flood(daemon, 2000, uid=OTHER), daemon.client() as client:
        calls_go_on(daemon, client)
        assert daemon.threads() <= 520
    wait_for(lambda: settle(daemon) == before)


def test_CVE_2014_3637_passed_descriptors_are_closed_and_end_the_connection(shared: Daemon) -> None:
    use(shared, TRUE)
    before = settle(shared)
    for count in (1, 2, 253):
        for data in (HELLO, HELLO + frame([2, [b"true"], []])):
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(20)
                connection.connect(shared.socket)
                # Its own connection among them: that one would never look closed.
                socket.send_fds(connection, [data], [connection.fileno()] * count)
                answers = b""
                while chunk := connection.recv(65536):
                    answers += chunk
            assert b"bad_request" in answers
    wait_for(lambda: settle(shared) == before)


def test_CVE_2019_7304_name_of_a_clients_socket_is_no_identity(shared: Daemon, tmp_path: Path) -> None:
    use(shared, TRUE)
    names = (f"{tmp_path}/;uid=0;", "\0;uid=0;pid=1", f"{tmp_path}/\nuid=0")
    before = len(shared.audit())
    for name in names:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.bind(name)
            connection.settimeout(20)
            connection.connect(shared.socket)
            connection.sendall(HELLO + frame([2, [b"true"], []]))
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(1000):
                pass
    records = shared.audit()[before:]
    assert len(records) == len(names)
    assert {(record["uid"], record["pid"]) for record in records} == {(0, os.getpid())}
    if ROOT:
        # As a user whose name says otherwise.
        code = RAW.replace("connection.settimeout", "connection.bind('\\0;uid=0;'); connection.settimeout")
        command = ["/usr/bin/python3", "-c", code, shared.socket, HELLO.hex(), ""]
        done = subprocess.run(
            command, user=OTHER, group=OTHER, extra_groups=[], capture_output=True, check=True
        )
        assert b"unauthorized" in bytes.fromhex(done.stdout.decode())


@pytest.mark.root
def test_CVE_2019_15901_user_group_and_groups_change_together(shared: Daemon) -> None:
    use(shared, "cat: CommandFilter, cat, nobody", "head: CommandFilter, head, daemon")
    for program, user in (("cat", "nobody"), ("head -n 100", "daemon")):
        entry = pwd.getpwnam(user)
        output = outcome(shared, f"{program} /proc/self/status")
        assert isinstance(output, bytes)
        status = dict(line.split(":\t", 1) for line in output.decode().splitlines())
        assert status["Uid"].split() == [str(entry.pw_uid)] * 4
        assert status["Gid"].split() == [str(entry.pw_gid)] * 4
        assert set(map(int, status["Groups"].split())) == set(os.getgrouplist(user, entry.pw_gid))
        assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {"0" * 16}


#: What a parser of numbers might take for root, for nobody, or for "do not change".
ODD_USERS = (
    "-1",
    "4294967295",
    "4294967296",
    "#0",
    "#-1",
    "0",
    "00",
    "0x0",
    "+0",
    "0day",
    "-",
    "root:root",
    "%0",
)


def test_CVE_2019_14287_number_is_no_user_of_a_filter(new_daemon: NewDaemon) -> None:
    for name in ODD_USERS:
        assert re.match(r"x\.filters:2:23: error: ", errors(f"x: CommandFilter, id, {name}")[0]), name
    daemon = new_daemon(start=False)
    for name in ("-1", "4294967295", "4294967296", "0x0", "#0", "\u0660"):
        for option in ("trusted_owners", "allowed_users", "allowed_groups"):
            daemon.configure(
                **{"trusted_owners": "0", "allowed_users": "0", "allowed_groups": "0", option: name}
            )
            with pytest.raises(ConfigurationError, match=f"{option}: there is no {name!r} here"):
                policy.load(settings_of(daemon), 1)


@pytest.mark.root
def test_CVE_2018_19788_user_beyond_the_signed_numbers_is_nobody_special(new_daemon: NewDaemon) -> None:
    daemon = new_daemon(socket_mode="0666")
    large = 4_000_000_000
    assert b"unauthorized" in raw_as(daemon, HELLO + frame([2, [b"true"], []]), "", uid=large)
    assert [(record["event"], record["uid"]) for record in daemon.audit()] == [("unauthorized", large)]


def test_CVE_2017_1000082_bad_user_is_never_root_instead(new_daemon: NewDaemon) -> None:
    lines = [
        f"f{index}: CommandFilter, id, {name}" for index, name in enumerate((*ODD_USERS, "no-such-user"))
    ]
    daemon = new_daemon("\n".join(("[Filters]", *lines, TRUE, "")), on_finding="skip")
    assert daemon.log.count("left out: ") == len(lines)
    assert outcome(daemon, "id") == "denied"
    assert outcome(daemon, "true") == b""


def test_CVE_2021_3156_every_byte_arrives_as_it_is(shared: Daemon) -> None:
    use(shared, SH)
    words = [bytes([byte]) + b"\\" for byte in range(1, 256)]
    words += [b"\\", b"\\\\", b"\\'\\\"\\ ", b"$(id)`id`;|&<>", b"a\\\nb", bytes(range(1, 256)), b""]
    with shared.client() as client:
        done = client.run([b"sh", b"-c", b'printf "%s\\0" "$@"', b"sh", *words])
    assert done.stdout.split(b"\0")[:-1] == words


def test_CVE_2023_22809_no_word_becomes_an_option_and_no_editor_a_word(shared: Daemon) -> None:
    found = rules(
        "chown: PathFilter, chown, root, pass, /srv",
        "ip: ArgvFilter, ip, root, link, set, {any}, [up, {name}]...",
        "edit: ArgvFilter, edit, root, {any}...",
    )
    judge(
        found,
        allow=["chown nova /srv/x", "ip link set eth0 up a", "edit a b"],
        deny=[
            "chown -- /srv/x",
            "chown -R /srv/x",
            "ip link set -- up a",
            "edit -- /etc/shadow",
            "edit a -x",
        ],
    )
    assert DIRTY["EDITOR"]
    assert "EDITOR" not in environment(shared)
    assert outcome(shared, "printenv", env={"EDITOR": "vi -- /etc/shadow"}) == "environment_denied"


def test_CVE_2025_32463_nothing_is_looked_up_where_a_client_says(
    new_daemon: NewDaemon, tmp_path: Path
) -> None:
    daemon = new_daemon(start=False)
    for option in ("filters_path", "exec_dirs", "socket_path", "audit_file"):
        for value in ("relative", "./x", "../x", f"{daemon.directory}/../x", "~/x", "$HOME/x"):
            daemon.options[option], old = value, daemon.options.get(option, "/bin")
            daemon.configure()
            with pytest.raises(ConfigurationError, match=f"{option}: "):
                settings_of(daemon)
            daemon.configure(**{option: old})
    # Its own directory is no longer the starter's, and a name in there means nothing.
    executable(tmp_path / "etc-evil", "echo ran")
    daemon.inside = ["env", "-C", str(tmp_path)]
    daemon.configure("[Filters]\nx: CommandFilter, etc-evil, root\npwd: CommandFilter, pwd, root\n")
    daemon.start()
    assert os.readlink(f"/proc/{daemon.pid}/cwd") == "/"
    assert outcome(daemon, "etc-evil") == "executable_not_found"
    assert outcome(daemon, "pwd") == b"/\n"


@pytest.mark.root
def test_CVE_2005_1993_program_under_a_flipping_link_never_runs(shared: Daemon, place: Path) -> None:
    own = place / "own"
    executable(own / "evil", f"touch '{place}/ran'")
    executable(place / "good", "echo good")
    os.chown(own, OTHER, OTHER)
    (own / "program").symlink_to("/bin/true")
    (place / "link").symlink_to(own / "program")
    stop = threading.Event()

    def flip() -> None:
        while not stop.is_set():
            for target in (own / "evil", place / "good"):
                (own / "new").symlink_to(target)
                os.replace(own / "new", own / "program")

    use(
        shared,
        f"a: CommandFilter, {own}/program, root",
        f"b: CommandFilter, {place}/link, root",
        f"c: CommandFilter, {place}/good, root",
    )
    thread = threading.Thread(target=flip)
    thread.start()
    try:
        seen = {outcome(shared, path) for _ in range(40) for path in (f"{own}/program", f"{place}/link")}
    finally:
        stop.set()
        thread.join()
    assert seen == {"executable_not_found"}
    assert not (place / "ran").exists()
    assert outcome(shared, f"{place}/good") == b"good\n"


def test_CVE_2010_0426_path_that_ends_in_an_allowed_name_is_denied(shared: Daemon, place: Path) -> None:
    use(shared, TRUE, "tail: RegExpFilter, tail, root, .*, .*", "cat: ReadFileFilter, /etc/hostname")
    executable(place / "true", f"touch '{place}/ran'")
    for word in (f"{place}/true", "./true", "bin/true", "../bin/true", "/bin/./true", "true/", "/true"):
        assert outcome(shared, [word]) == "denied", word
    for line in ("/tmp/tail x", "./tail x", "/tmp/cat /etc/hostname", "./cat /etc/hostname"):
        assert outcome(shared, line) == "denied"
    assert not (place / "ran").exists()
    assert outcome(shared, "true") == b""


def test_CVE_2010_1646_variable_given_twice_is_refused(shared: Daemon) -> None:
    use(shared, "sh: CommandFilter, sh, root", "e: EnvFilter, env, root, FOO=, printenv", "[sh]", "env = FOO")
    twice = [[b"FOO", b"1"], [b"FOO", b"2"]]
    assert b"bad_request" in said(shared, HELLO + frame([2, [b"sh"], twice]))
    assert b"\xc3" in said(shared, HELLO + frame([2, [b"sh"], twice[:1]]))
    for words in ("FOO=1 FOO=2", "FOO=1 PATH=/tmp", "PATH=/tmp FOO=1", "PATH=/tmp"):
        assert outcome(shared, f"env {words} printenv") == "denied"
    # A word that the filter does not name is not a variable but the program's own word.
    assert outcome(shared, "env FOO=1 printenv FOO") == b"1\n"
    assert errors("e: EnvFilter, env, root, FOO=, FOO=, printenv")


def test_CVE_2004_1051_variables_are_taken_in_not_thrown_out(shared: Daemon) -> None:
    # No list of bad names is asked: what nobody ever heard of does not arrive either.
    assert set(environment(shared)) == {"PATH", "LANG", "HOME", "USER", "LOGNAME"}
    for name in ("BASH_FUNC_ls%%", "PERL5OPT", "PERLLIB", "PS4", "SHELLOPTS", "BASH_ENV", "NEVER_HEARD_OF"):
        assert outcome(shared, "printenv", env={name: "() { :; }"}) == "environment_denied"
    # A filter can name one, and is told.
    text = "[Filters]\nx: CommandFilter, perl, root\n[x]\nenv = PERL5OPT\n"
    assert [found.severity for found in filter_file.read(text, "x").findings] == [Severity.WARNING]
    assert errors("x: CommandFilter, perl, root", "[x]", "env = PERL*")


def test_CVE_2014_9680_time_zone_and_its_like_do_not_arrive(shared: Daemon) -> None:
    assert DIRTY["TZ"] and DIRTY["TERM"]
    assert not {"TZ", "TERM", "LC_ALL", "LANGUAGE"} & set(environment(shared))
    assert outcome(shared, "printenv", env={"TZ": ":/etc/shadow"}) == "environment_denied"
    # Where a filter takes one in, its type is checked.
    use(shared, PRINTENV, "[printenv]", "env = LC_ALL")
    assert outcome(shared, "printenv LC_ALL", env={"LC_ALL": "C"}) == b"C\n"
    assert outcome(shared, "printenv LC_ALL", env={"LC_ALL": "\x1b[2J"}) == "environment_denied"


#: Takes a name for itself, and lets a child say what it finds of it.
NAMED = """
import os, sys
from rootwrap_daemon.policy import host
with open("/proc/self/comm", "wb") as file:
    file.write(os.fsencode(sys.argv[1]))
if os.fork() == 0:
    print(os.getppid() in host.ancestors(), host.process_user(os.getppid()) == (os.getuid(),) * 2, flush=True)
    os._exit(0)
os.wait()
"""


@pytest.mark.parametrize(
    "name", ["x) R 1 (", "x)\n) R 1 (", ") (", "\rUid:\t7\t7\t7\t7", "\nUid:\t7\t7\t7\t7"]
)
def test_CVE_2017_1000367_name_of_a_process_forges_no_field(name: str) -> None:
    command = [sys.executable, "-I", "-c", NAMED, name]
    assert subprocess.run(command, capture_output=True, check=True).stdout == b"True True\n"


def test_CVE_2023_28486_control_characters_reach_no_log(shared: Daemon) -> None:
    use(shared, TRUE)
    before = len((shared.directory / "audit.jsonl").read_bytes().splitlines())
    evil = "\x1b[2J|\n|\r|\x7f|\x85|\u2028|\u202e|\x9b31m|\udcff"
    assert outcome(shared, ["true", evil]) == b""
    data = (shared.directory / "audit.jsonl").read_bytes()
    assert len(data.splitlines()) == before + 2
    assert not set(data) - set(range(0x20, 0x7F)) - {0x0A}
    # Escaped, not lost.
    assert shared.audit()[before]["argv"] == ["true", evil]
    assert not set(shared.log) & set("\x1b\r\x7f\u2028\u202e\x9b")


#: Makes a terminal its own before it becomes the daemon.
ON_A_TERMINAL = """
import fcntl, os, sys, termios
os.setsid()
master, slave = os.openpty()
fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
os.set_inheritable(master, True)
os.dup2(slave, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""


def test_CVE_2005_4890_command_cannot_reach_the_starters_terminal(new_daemon: NewDaemon) -> None:
    daemon = new_daemon(start=False)
    daemon.inside = [sys.executable, "-c", ON_A_TERMINAL]
    daemon.start()
    # The daemon has one: field 7 of stat. What it starts does not.
    assert Path(f"/proc/{daemon.pid}/stat").read_text().rpartition(")")[2].split()[4] != "0"
    assert outcome(daemon, "sh -c 'exec 3<> /dev/tty'") not in (b"", 0)
    assert outcome(daemon, ["sh", "-c", "readlink /proc/self/fd/0"]) == b"/dev/null\n"
    output = outcome(daemon, ["sh", "-c", "readlink /proc/$$/fd/0 /proc/$$/fd/1 /proc/$$/fd/2"], input=b"")
    assert isinstance(output, bytes)
    assert [line.partition(b":")[0] for line in output.splitlines()] == [b"pipe"] * 3


#: The daemon in a world whose calendar jumps by a year at each look.
JUMPING = """
import itertools, sys, time
from rootwrap_daemon.daemon.main import main
years = itertools.cycle((0, 1, -1, 30, -30))
real = time.time
time.time = lambda: real() + next(years) * 365 * 86400
sys.exit(main(sys.argv[-2:]))
"""


def test_CVE_2013_1775_wall_clock_decides_nothing(new_daemon: NewDaemon) -> None:
    daemon = new_daemon(start=False, daemon_timeout="60")
    daemon.inside = [sys.executable, "-I", "-c", JUMPING]
    daemon.start()
    with daemon.client() as client:
        for _ in range(10):
            assert client.run(["sleep", "0.01"], timeout=30).returncode == 0
    assert outcome(daemon, "sleep 60", timeout=0.3) == "timeout"
    assert daemon.stop() == 0


def test_CVE_2019_25016_path_of_a_command_is_the_daemons(shared: Daemon) -> None:
    assert shared.environ["PATH"].startswith(str(shared.directory))
    use(shared, SH)
    output = outcome(shared, ["sh", "-c", "echo $PATH; id -u"])
    assert isinstance(output, bytes)
    path, uid = output.decode().split()
    assert path.split(":")[0] in ("/sbin", "/usr/sbin")
    assert uid == "0"
    assert not (shared.directory / "path-used").exists()
    assert outcome(shared, ["sh", "-c", "id"], env={"PATH": "/tmp"}) == "environment_denied"


def test_CVE_2023_42456_name_is_never_a_part_of_a_path() -> None:
    names = ("../x", "/etc", ".", "..", "a/b", "a/../../b", "-x", "", "a b", "a\n")
    judge(
        rules(
            NETNS,
            IP,
            TRUE,
            "a: ArgvFilter, tc, root, {netns}, {name}",
            "b: ArgvFilter, bridge, root, {ifname}",
        ),
        allow=["ip netns exec ns-1.x true", "ip netns add x", "ip -n x link", "tc ns1 a", "bridge eth0"],
        deny=[
            words
            for name in names
            for words in (
                ("ip", "netns", "exec", name, "true"),
                ("ip", "-n", name, "link"),
                ("tc", name, "a"),
                ("tc", "ns1", name),
            )
        ]
        + [("ip", "netns", "add", name) for name in names[:7]]
        + [("bridge", name) for name in (*names[:6], "", "a b", "a\n")],
    )


def test_CVE_2025_64517_verdict_is_of_this_request_under_the_rules_of_now(shared: Daemon) -> None:
    use(shared, TRUE)
    with shared.client() as client:
        assert client.run(["true"]).returncode == 0
        use(shared, SH)
        assert not client.check(["true"]).allowed
        use(shared, TRUE)
        assert client.check(["true"]).allowed
    # Nothing of a request that was broken off is in the answer to the next.
    broken = HELLO + frame([2, [b"true", b"of the first"], []])
    said(shared, broken[:-3])
    assert b"of the first" not in said(shared, HELLO + frame([2, [b"true"], []]))


@pytest.mark.root
def test_CVE_2025_64517_user_taken_off_the_list_is_served_no_more(new_daemon: NewDaemon) -> None:
    daemon = new_daemon()
    with daemon.client() as client:
        assert client.run(["true"]).returncode == 0
        daemon.configure(allowed_users=str(OTHER))
        assert daemon.reload()
        assert outcome(daemon, "true") == "unauthorized"
        with pytest.raises(Unauthorized):
            client.run(["true"])


def test_CVE_2023_26604_no_pager_and_nothing_to_page_on(shared: Daemon) -> None:
    assert DIRTY["PAGER"] and DIRTY["SYSTEMD_PAGER"]
    assert not {"PAGER", "SYSTEMD_PAGER", "LESSOPEN", "LESS", "TERM"} & set(environment(shared))
    use(shared, SH)
    assert outcome(shared, "sh -c 'test -t 0 || test -t 1 || test -t 2'") == 1


@pytest.mark.root
def test_CVE_2021_23239_answer_does_not_tell_what_exists(shared: Daemon, place: Path) -> None:
    private = place / "private"
    private.mkdir(mode=0o700)
    (private / "there").write_text("x")
    own = place / "own"
    own.mkdir()
    os.chown(own, OTHER, OTHER)
    for name in ("there", "absent"):
        (own / f"to-{name}").symlink_to(private / name)
    use(
        shared,
        f"cat: PathFilter, cat, root, {own}",
        f"r: ReadFileFilter, {own}/to-there",
        f"s: ReadFileFilter, {own}/to-absent",
        "kill: KillFilter, root, sleep, -9",
    )
    messages: set[tuple[str, str]] = set()
    words = [
        *(f"cat {path}/{name}" for path in (private, own / ".." / "private") for name in ("there", "absent")),
        *(f"cat {own}/to-{name}" for name in ("there", "absent")),
        *(f"{private}/{name}" for name in ("there", "absent")),
        f"kill -9 {os.getpid()}",
        "kill -9 2147483647",
    ]
    with shared.client() as client:
        for line in words:
            with pytest.raises(Error) as caught:
                client.run(shlex.split(line))
            messages.add((caught.value.code, caught.value.message))
    assert messages == {("denied", "no filter allows this command")}


def test_CVE_2022_47951_program_that_follows_its_input_is_warned_of() -> None:
    text = "[Filters]\nq: CommandFilter, qemu-img, root\n"
    found = lint.judge(Subject((read_filters(text, "x.filters"),)))
    assert {one.rule: one.severity.name for one in found}["RW301"] == "ERROR"
    assert any("image" in one.problem.what for one in found), "it says how"


# Page and attacks.


_ID = r"[ABC]\d+|CVE-\d{4}-\d+"


def rows() -> dict[str, str]:
    """The rows of the page: an id on a line of its own, and what is indented below it."""
    found = re.findall(rf"^({_ID})\n((?:    .*\n|\n(?=    ))+)", PAGE.read_text(), re.MULTILINE)
    assert len(dict(found)) == len(found)
    return dict(found)


def attacks() -> dict[str, set[str]]:
    """The tests of this file by the id in their names."""
    found: dict[str, set[str]] = {}
    for name in globals():
        if match := re.match(r"test_([ABC]\d+|CVE_\d{4}_\d+)_", name):
            found.setdefault(match[1].replace("_", "-"), set()).add(name)
    return found


def test_page_and_tests_carry_the_same_ids() -> None:
    named = {}
    for row, text in rows().items():
        assert re.fullmatch(r"    :Was: .+    :Here: .+    :Test: .+", text, re.DOTALL), row
        test = text.partition(":Test: ")[2]
        named[row] = set(re.findall(r"``(test_\w+)``", test))
        assert bool(named[row]) is not test.startswith("none: "), row
    assert {row: tests for row, tests in named.items() if tests} == attacks()


def test_tests_that_the_page_names_elsewhere_exist() -> None:
    for file, name in re.findall(r"``(tests/[\w/]+\.py)::(test_\w+)``", PAGE.read_text()):
        assert f"\ndef {name}(" in (ROOT_OF_TREE / file).read_text(), f"{file}::{name}"


def test_every_known_flaw_has_its_row() -> None:
    if not KNOWN.exists():
        pytest.skip("../shared/known-flaws.md is not here: it comes with the project")
    text = KNOWN.read_text()
    first = text.partition("### 1A")[2].partition("### 1D")[0]
    ids = set(re.findall(r"^\| ([ABC]\d+) \|", first, re.MULTILINE))
    assert len(ids) > 60
    assert {row for row in rows() if not row.startswith("CVE")} == ids
    advisories = set(re.findall(r"CVE-\d{4}-\d+", text.partition("\n## 2")[2].partition("\n---")[0]))
    assert len(advisories) > 30
    assert advisories - set(re.findall(r"CVE-\d{4}-\d+", PAGE.read_text())) == set()
