"""Which processes the words of a request can name: no program's name is taken for somebody's identity."""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from rootwrap_daemon.client import Client
from rootwrap_daemon.errors import Denied, ProcessGone
from tests.real_daemon import Daemon, NewDaemon, daemons, wait_for

pytestmark = pytest.mark.root

AGENT = 65534
TAIL = ["/usr/bin/tail", "-f", "/dev/null"]
FILTERS = """\
[Filters]
show: ArgvFilter, echo, root, {pid=/usr/bin/tail}
of_agent: ArgvFilter, echo, root, agent, {pid=/usr/bin/tail}
of_root: ArgvFilter, echo, root, root, {pid=/usr/bin/tail}
any: ArgvFilter, echo, root, any, {pid=/usr/bin/tail}
ours: ArgvFilter, echo, root, ours, {pid=/usr/bin/tail}
kill: KillFilter, root, /usr/bin/tail, -CONT
kill_any: KillFilter, root, /usr/bin/tail, -URG
[of_agent]
target_user = nobody
[of_root]
target_user = root
[any]
namespaces = any
target_user = nobody
[ours]
started_by = self
[kill_any]
namespaces = any
"""


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with daemons() as new:
        yield new(FILTERS, allowed_users="root, nobody")


@contextlib.contextmanager
def running(*argv: str, user: int = 0, program: str = "/tail") -> Iterator[int]:
    """The number of a process, once it has become this program."""
    process = subprocess.Popen(argv, user=user, group=user, extra_groups=[], stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: os.readlink(f"/proc/{process.pid}/exe").endswith(program))
        yield process.pid
    finally:
        process.kill()
        process.wait()


def verdicts(client: Client, pid: int) -> set[str]:
    """Which of the filters means this process."""
    found = {}
    for name, words in (
        ("show", ["echo"]),
        ("of_agent", ["echo", "agent"]),
        ("of_root", ["echo", "root"]),
        ("any", ["echo", "any"]),
        ("ours", ["echo", "ours"]),
        ("kill", ["kill", "-CONT"]),
        ("kill_any", ["kill", "-URG"]),
    ):
        try:
            found[name] = client.run([*words, str(pid)]).returncode == 0
        except Denied:
            found[name] = False
    return {name for name, meant in found.items() if meant}


@pytest.mark.parametrize(
    ("before", "user", "meant"),
    [
        pytest.param([], 0, {"show", "of_root", "kill", "kill_any"}, id="of root"),
        # Its user can make it do anything, without another namespace, too.
        pytest.param([], AGENT, {"of_agent", "any", "kill", "kill_any"}, id="of the agent"),
        pytest.param([], 1, {"kill", "kill_any"}, id="of a third user"),
        pytest.param(["unshare", "-m"], 0, {"kill", "kill_any"}, id="root's mounts"),
        pytest.param(["unshare", "-n"], 0, {"show", "of_root", "kill", "kill_any"}, id="another network"),
        pytest.param(["unshare", "-U"], 0, {"kill_any"}, id="another user namespace, of root"),
        pytest.param(["unshare", "-Ur"], AGENT, {"any", "kill_any"}, id="another user namespace"),
        pytest.param(["unshare", "-Urm"], AGENT, {"any", "kill_any"}, id="with mounts of its own"),
    ],
)
def test_whose_process(daemon: Daemon, before: list[str], user: int, meant: set[str]) -> None:
    with running(*before, *TAIL, user=user) as pid, daemon.client() as client:
        assert verdicts(client, pid) == meant


def test_a_command_does_not_enter_what_the_agent_has_mounted(new_daemon: NewDaemon) -> None:
    """nsenter into a process of the agent's would run its file as root."""
    daemon = new_daemon(
        "[Filters]\nx: ArgvFilter, nsenter, root, -t, {pid=/usr/bin/tail}, -m, uptime\n",
        allowed_users="root, nobody",
    )
    own = daemon.directory / "own"
    own.write_text("#!/bin/sh\nid -u\n")
    own.chmod(0o755)
    script = f"mount --bind {own} /usr/bin/uptime && exec tail -f /dev/null"
    entered = running("unshare", "-Urm", "sh", "-c", script, user=AGENT)
    with entered as pid, daemon.client() as client, pytest.raises(Denied):
        client.run(["nsenter", "-t", str(pid), "-m", "uptime"])
    with running(*TAIL) as pid, daemon.client() as client:
        assert b"load average" in client.run(["nsenter", "-t", str(pid), "-m", "uptime"], check=True).stdout


@pytest.mark.parametrize("how", ["links", "hard links", "applets"])
def test_one_file_with_many_names(new_daemon: NewDaemon, how: str) -> None:
    daemon = new_daemon("[Filters]\n", start=False)
    base = daemon.directory / "bin"
    base.mkdir()
    real = base / ("busybox" if how != "hard links" else "nap")
    shutil.copy("/usr/bin/sleep", real)
    for name in ("nap", "doze"):
        if how == "hard links" and name != "nap":
            os.link(real, base / name)
        elif how != "hard links":
            (base / name).symlink_to(real)
    daemon.configure(
        f"[Filters]\nnap: KillFilter, root, {base}/nap, -9\ndoze: KillFilter, root, {base}/doze, -15\n"
    )
    daemon.start()
    words = [str(base / "doze"), "60"] if how != "applets" else ["busybox", "60"]
    process = subprocess.Popen(words, executable=real)
    try:
        wait_for(lambda: os.readlink(f"/proc/{process.pid}/exe") == str(real))
        with daemon.client() as client:
            with pytest.raises(Denied):
                client.run(["kill", "-9", str(process.pid)])
            if how != "applets":
                assert client.run(["kill", "-15", str(process.pid)]).returncode == 0
                assert process.wait() == -15
    finally:
        process.kill()
        process.wait()


def test_a_process_that_has_ended(daemon: Daemon) -> None:
    """Told apart from one that may not be named; a zombie has ended, too."""
    zombie = subprocess.Popen(["true"])
    with daemon.client() as client, running(*TAIL) as pid:
        wait_for(lambda: b") Z " in Path(f"/proc/{zombie.pid}/stat").read_bytes())
        for words in (["kill", "-CONT", str(zombie.pid)], ["echo", str(zombie.pid)]):
            with pytest.raises(ProcessGone):
                client.run(words)
        zombie.wait()
        for gone in (zombie.pid, 2**31 - 1):
            with pytest.raises(ProcessGone):
                client.run(["kill", "-CONT", str(gone)])
        assert client.run(["kill", "-CONT", str(pid)]).returncode == 0
        with pytest.raises(Denied) as caught:
            client.run(["kill", "-CONT", str(daemon.pid)])
        assert caught.value.code == "denied"


@pytest.mark.parametrize("kind", ["k: KillFilter, root, tail, -9", "k: ArgvFilter, kill, root, {pid=tail}"])
def test_what_the_daemon_cannot_look_at_is_said_at_load(new_daemon: NewDaemon, kind: str) -> None:
    """In a container without SYS_PTRACE no process can be looked at."""
    daemon = new_daemon(
        f"[Filters]\n{kind}\ntrue: CommandFilter, true, root\n", start=False, on_finding="skip"
    )
    without = "-sys_ptrace"
    daemon.inside = ["setpriv", f"--bounding-set={without}", f"--inh-caps={without}"]
    daemon.start()
    assert "the daemon was started without CAP_SYS_PTRACE" in daemon.log
    with daemon.client() as client:
        assert client.run(["true"]).returncode == 0


@pytest.mark.parametrize("words", ["-m", "--mou", "-nm", "-a", "-r"])
def test_a_process_of_the_agent_is_not_entered(new_daemon: NewDaemon, words: str) -> None:
    # It can take itself to other namespaces between the look and the command.
    text = f"[Filters]\nx: ArgvFilter, nsenter, root, -t, {{pid=/usr/bin/tail}}, {words}, uptime\n[x]\n"
    refused = new_daemon(f"{text}target_user = nobody\n", start=False)
    with pytest.raises(pytest.fail.Exception, match="would enter a process of nobody"):
        refused.start()
    daemon = new_daemon(f"{text}started_by = self\n")
    with running(*TAIL, user=AGENT) as pid, daemon.client() as client, pytest.raises(Denied):
        client.run(["nsenter", "-t", str(pid), words, "uptime"])


def test_a_process_of_the_agent_is_not_entered_behind_an_option(new_daemon: NewDaemon) -> None:
    # unshare(1) takes the next word for a value here, which hid the program behind it.
    words = ["unshare", "--propagation", "unchanged", "nsenter", "-t"]
    line = f"x: ArgvFilter, unshare, root, {', '.join(words[1:])}, {{pid=/usr/bin/tail}}, -m, uptime"
    daemon = new_daemon(f"[Filters]\n{line}\n[x]\ntarget_user = nobody\n")
    with running(*TAIL, user=AGENT) as pid, daemon.client() as client, pytest.raises(Denied):
        client.run([*words, str(pid), "-m", "uptime"])


def test_the_network_of_the_agents_process_may_be_entered(new_daemon: NewDaemon) -> None:
    daemon = new_daemon(
        "[Filters]\nx: ArgvFilter, nsenter, root, -t, {pid=/usr/bin/tail}, -n, uptime\n"
        "[x]\ntarget_user = nobody\n"
    )
    with running(*TAIL, user=AGENT) as pid, daemon.client() as client:
        assert b"load average" in client.run(["nsenter", "-t", str(pid), "-n", "uptime"], check=True).stdout


def test_a_process_of_the_agent_is_not_entered_by_a_program_of_many_names(new_daemon: NewDaemon) -> None:
    daemon = new_daemon(start=False)
    programs = daemon.directory / "bin"
    programs.mkdir(mode=0o755)
    # It need not be installed: what it does with its words is this.
    (programs / "busybox").write_text('#!/bin/sh\nexec "$@"\n')
    (programs / "busybox").chmod(0o755)
    words = "busybox, root, nsenter, -t, {pid=/usr/bin/tail}, NAMESPACE, uptime"
    lines = (f"x{what}: ArgvFilter, {words.replace('NAMESPACE', f'-{what}')}\n" for what in "mn")
    options = (f"[x{what}]\ntarget_user = nobody\n" for what in "mn")
    daemon.configure("".join(("[Filters]\n", *lines, *options)), exec_dirs=f"{programs}, /usr/bin, /bin")
    daemon.start()
    with running(*TAIL, user=65534) as pid, daemon.client() as client:
        asked = ["busybox", "nsenter", "-t", str(pid)]
        assert b"load average" in client.run([*asked, "-n", "uptime"], check=True).stdout
        with pytest.raises(Denied):
            client.run([*asked, "-m", "uptime"])


@pytest.mark.parametrize("behind", ["", "timeout 5 ", "nice ", "env "])
@pytest.mark.parametrize("name", ["dbg", "x86_64-linux-gnu-dbg", "dbg-multiarch", "jattach"])
def test_a_process_of_the_agent_is_not_given_to_an_unknown_program(
    new_daemon: NewDaemon, name: str, behind: str
) -> None:
    """Debuggers have many names: what is not known to stay out of a process counts as one that goes in."""
    daemon = new_daemon(start=False)
    program = daemon.directory / name
    program.write_text("#!/bin/sh\nexit 0\n")
    program.chmod(0o755)
    outer = [*behind.split(), str(program), "-p"]
    line = f"x: ArgvFilter, {', '.join((outer[0], 'root', *outer[1:]))}, {{pid=/usr/bin/tail}}"
    daemon.configure(f"[Filters]\n{line}\n[x]\nstarted_by = self\n")
    daemon.start()
    with daemon.client() as client, running(*TAIL, user=AGENT) as pid, pytest.raises(Denied):
        client.run([*outer, str(pid)])
    details = "".join(str(one["detail"]) for one in daemon.audit())
    assert "trusted owner" in details and "would enter it" in details
    daemon.configure(f"[Filters]\n{line}\n[x]\ntarget_user = root\n")
    assert daemon.reload()
    with daemon.client() as client, running(*TAIL) as pid:
        client.run([*outer, str(pid)], check=True)


@pytest.mark.parametrize("words", ["taskset -p", "renice -n 1 -p", "chrt -p", "timeout 5 ionice -p"])
def test_a_process_of_the_agent_may_be_given_to_what_stays_out(new_daemon: NewDaemon, words: str) -> None:
    program, *rest = words.split()
    line = f"x: ArgvFilter, {', '.join((program, 'root', *rest))}, {{pid=/usr/bin/tail}}"
    daemon = new_daemon(f"[Filters]\n{line}\n[x]\ntarget_user = nobody\n")
    with daemon.client() as client, running(*TAIL, user=AGENT) as pid:
        client.run([*words.split(), str(pid)], check=True)


KILL = "kill, -0, {pid=/usr/bin/tail}"


@pytest.mark.parametrize(
    "words", ["timeout 5", "env", "setpriv --no-new-privs", "nsenter -t PID -n", "unshare -n"]
)
def test_kill_behind_a_wrapper(new_daemon: NewDaemon, words: str) -> None:
    """It is sent to what the daemon has looked at: a process of a trusted owner that runs the program."""
    program, *own = words.replace("PID", "{pid=/usr/bin/tail}").split()
    daemon = new_daemon(
        f"[Filters]\nx: ArgvFilter, {', '.join((program, 'root', *own))}, {KILL}\n".replace(", ,", ",")
    )
    with running(*TAIL) as pid, running(*TAIL, user=AGENT) as other, daemon.client() as client:
        client.run([*words.replace("PID", str(pid)).split(), "kill", "-0", str(pid)], check=True)
        for process in (other, os.getpid()):
            with pytest.raises(Denied):
                client.run([*words.replace("PID", str(pid)).split(), "kill", "-0", str(process)])


@pytest.mark.parametrize(
    "words",
    ["nsenter -t PID -p", "nsenter -at PID", "timeout 5 nsenter -t PID -p", "unshare -fp", "docker exec web"],
)
@pytest.mark.parametrize("in_a_chain", [False, True])
def test_no_number_where_it_means_another_process(
    new_daemon: NewDaemon, words: str, in_a_chain: bool
) -> None:
    program, *own = words.replace("PID", "1").split()
    lines = [f"x: ArgvFilter, {', '.join((program, 'root', *own))}, {KILL}"]
    if in_a_chain:
        chain = ", ".join((program, "root", program, *own))
        lines = [
            f"x: ChainingRegExpFilter, {chain}",
            f"k: ArgvFilter, {KILL.replace('kill', 'kill, root', 1)}",
        ]
    daemon = new_daemon(start=False)
    programs = daemon.directory / "bin"
    programs.mkdir(mode=0o755)
    # It need not be installed: it would be asked to do it elsewhere.
    (programs / "docker").write_text("#!/bin/sh\nexit 0\n")
    (programs / "docker").chmod(0o755)
    daemon.configure("\n".join(("[Filters]", *lines, "")), exec_dirs=f"{programs}, /usr/bin, /bin")
    daemon.start()
    with running(*TAIL) as pid, daemon.client() as client:
        with pytest.raises(Denied):
            client.run([program, *own, "kill", "-0", str(pid)])
        if in_a_chain:
            client.run(["kill", "-0", str(pid)], check=True)
