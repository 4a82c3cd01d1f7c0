"""The logic of filters: the attacks of the rows B."""

import contextlib
import itertools
import os
import pwd
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from rootwrap_daemon.filters import ruleset
from rootwrap_daemon.filters.plan import SignalPlan
from rootwrap_daemon.filters.read import filter_file
from rootwrap_daemon.filters.values import Denied, Reason, Request
from tests.functional.test_lifecycle import attempt
from tests.real_daemon import HELLO, ROOT, Daemon, NewDaemon, frame, is_alive, wait_for
from tests.security.past_flaws.attack import (
    DIRTY,
    IP,
    NETNS,
    NICE,
    OTHER,
    SH,
    TRUE,
    environment,
    errors,
    executable,
    judge,
    outcome,
    plan,
    process,
    read,
    rules,
    said,
    use,
)


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
    # 1: "Too many levels of symbolic links", or nothing is there at this moment.
    assert b"inside" in seen
    assert seen <= {b"inside", 1, "denied"}


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
        assert b"\xc3" in said(shared, HELLO + frame([2, [b"cat", path + b"/sub/" + name], []]))
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
            allow=["true", "env FOO=1 printenv", "FOO=1 printenv", "nice -n 5 true", "echo a"],
            deny=["env true", "env FOO=1 true", "env", "FOO=1 true", "FOO=1", "printenv"],
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
from rootwrap_daemon.policy.bound import BoundSignal
from rootwrap_daemon.policy.policy import Allowed, judge
from rootwrap_daemon.policy.read.policy import load

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
            return client.allows(["kill", "-9", str(pid)]).allowed

    with process("/bin/sleep", "1000", executable=place / "gone") as liar:
        assert not killable(liar.pid)
        (place / "gone").unlink()
        assert not killable(liar.pid)
    with process(str(other), "60") as namesake:
        assert not killable(namesake.pid)
    # /bin is a link to /usr/bin on most systems: the file is the same.
    with process("/usr/bin/sleep", "1000") as sleeper:
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
    with process("/bin/sleep", "1000") as sleeper:
        for option, mine in (("target_user = nobody", False), ("target_user = root", True)):
            use(shared, *lines, option)
            assert killable(sleeper.pid) is mine
        use(shared, *lines, "started_by = self")
        assert not killable(sleeper.pid)
        started = outcome(shared, ["sh", "-c", "sleep 1000 & echo $!"])
        assert isinstance(started, bytes)
        wait_for(lambda: killable(int(started)))
        assert outcome(shared, f"kill -9 {int(started)}") == b""


def test_B20_kill_filter_without_a_program_is_an_error_and_harms_no_other() -> None:
    assert errors("k: KillFilter, root")[0].startswith("x.filters:2:1: error: 1 field after the kind")
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
