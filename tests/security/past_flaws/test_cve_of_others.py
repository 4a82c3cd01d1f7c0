"""Advisories of other programs: the attacks of the rows CVE."""

import os
import pwd
import re
import shlex
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from rootwrap_daemon.errors import ConfigurationError, Error, Unauthorized
from rootwrap_daemon.filters.finding import Severity
from rootwrap_daemon.filters.read import filter_file
from rootwrap_daemon.lint import check as lint
from rootwrap_daemon.lint.subject import Subject, read_filters
from rootwrap_daemon.policy.read.policy import load
from tests.load import calls_go_on, flood
from tests.real_daemon import HELLO, ROOT, Daemon, NewDaemon, accepted, frame, settle, wait_for
from tests.security.past_flaws.attack import (
    DIRTY,
    IP,
    NETNS,
    OTHER,
    PRINTENV,
    RAW,
    SH,
    TRUE,
    environment,
    errors,
    executable,
    judge,
    outcome,
    raw_as,
    rules,
    said,
    settings_of,
    use,
)


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
    accepted(shared)
    wait_for(lambda: shared.threads() == 1)
    assert not (place / "ran").exists()
    for _ in range(20):
        die_after(HELLO + request)
    # One that is accepted later would run in a directory that is taken away.
    accepted(shared)
    wait_for(lambda: shared.threads() == 1 and shared.children() == [])
    # In this order: what runs between the two looks has been recorded before.
    ran = (place / "ran").read_text().splitlines() if (place / "ran").exists() else []
    runs = [record for record in shared.audit()[before:] if record["event"] == "run"]
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
        # Those that make room for others end a moment later.
        wait_for(lambda: daemon.threads() <= 520)
    wait_for(lambda: settle(daemon) == before)


def test_CVE_2014_3637_passed_descriptors_are_closed_and_end_the_connection(shared: Daemon) -> None:
    use(shared, TRUE)
    before = settle(shared)
    for count in (1, 2, 253):
        for data in (HELLO, HELLO + frame([2, [b"true"], []])):
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(60)
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
            connection.settimeout(60)
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
                load(settings_of(daemon), 1)


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
    print(os.getppid() in host.ancestors(), host.process_user(os.getppid()) == (os.getuid(),) * 3, flush=True)
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
import fcntl, os, sys, termios, time
os.setsid()
master, slave = os.openpty()
fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
own = os.getpid()
if os.fork() == 0:
    # Keeps the other end, as a terminal does.
    while os.getppid() == own:
        time.sleep(0.05)
    os._exit(0)
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
import itertools, os, sys, time
from rootwrap_daemon.daemon import main
from rootwrap_daemon.daemon.serve import main as serve
years = itertools.cycle((0, 1, -1, 30, -30))
real = time.time
time.time = lambda: real() + next(years) * 365 * 86400
# It goes on in this process, which keeps its calendar.
os.execve = lambda path, argv, environ: sys.exit(serve.main(argv[argv.index("-m") + 2 :]))
main.main(sys.argv[-2:])
"""


def test_CVE_2013_1775_wall_clock_decides_nothing(new_daemon: NewDaemon) -> None:
    daemon = new_daemon(start=False, daemon_timeout="60")
    daemon.inside = [sys.executable, "-I", "-c", JUMPING]
    daemon.start()
    with daemon.client() as client:
        for _ in range(10):
            assert client.run(["sleep", "0.01"], timeout=60).returncode == 0
    assert outcome(daemon, "sleep 1000", timeout=0.3) == "timeout"
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
        assert not client.allows(["true"]).allowed
        use(shared, TRUE)
        assert client.allows(["true"]).allowed
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
        *(f"{private}/{name}" for name in ("there", "absent")),
        f"kill -9 {os.getpid()}",
    ]
    with shared.client() as client:
        for line in words:
            with pytest.raises(Error) as caught:
                client.run(shlex.split(line))
            messages.add((caught.value.code, caught.value.message))
        # Links of its own lead nowhere.
        ends = [client.run(["cat", f"{own}/to-{name}"]) for name in ("there", "absent")]
    assert messages == {("denied", "no filter allows this command")}
    # Which numbers are processes is in /proc for everybody (proc(5)).
    assert outcome(shared, "kill -9 2147483647") == "process_gone"
    assert {end.stderr.replace(b"there", b"absent") for end in ends} == {ends[1].stderr}
    assert [end.returncode for end in ends] == [1, 1]


def test_CVE_2022_47951_program_that_follows_its_input_is_warned_of() -> None:
    text = "[Filters]\nq: CommandFilter, qemu-img, root\n"
    found = lint.judge(Subject((read_filters(text, "x.filters"),)))
    assert {one.rule: one.severity.name for one in found}["RW301"] == "ERROR"
    assert any("image" in one.problem.what for one in found), "it says how"
