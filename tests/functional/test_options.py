"""Options of filters, seen from inside the commands that run under them."""

import os
import socket
import subprocess
from pathlib import Path

import pytest

from rootwrap_daemon.client import Client
from rootwrap_daemon.errors import CommandTimeout, Denied, EnvironmentDenied, ExecutableNotFound, OutputLimit
from tests.real_daemon import NewDaemon, is_alive, wait_for

STATUS = ["cat", "/proc/self/status"]


def status(client: Client) -> dict[str, str]:
    """The child's own /proc/self/status."""
    text = client.run(STATUS, check=True, text=True).stdout
    return dict(line.split(":\t", 1) for line in text.splitlines())


def shell(client: Client, script: str) -> str:
    return client.run(["sh", "-c", script], check=True, text=True).stdout


def options(**values: str) -> str:
    """FILTERS for a shell and a cat with the same options."""
    lines = "".join(f"{name} = {value}\n" for name, value in values.items())
    return (
        f"[Filters]\nsh: CommandFilter, sh, root\ncat: CommandFilter, cat, root\n[sh]\n{lines}[cat]\n{lines}"
    )


@pytest.mark.root
@pytest.mark.parametrize(
    ("names", "bits"), [("CAP_NET_ADMIN", 1 << 12), ("CAP_NET_ADMIN, CAP_NET_RAW", 3 << 12), ("none", 0)]
)
def test_capabilities_are_exactly_those_listed(new_daemon: NewDaemon, names: str, bits: int) -> None:
    daemon = new_daemon(options(capabilities=names) + "[Filters]\nplain: CommandFilter, head, root\n")
    own = Path(f"/proc/{daemon.pid}/status").read_text()
    with daemon.client() as client:
        for _ in range(3):
            found = status(client)
            assert found["CapBnd"] == found["CapEff"] == found["CapPrm"] == f"{bits:016x}"
            assert found["CapInh"] == found["CapAmb"] == "0" * 16
        # A thread cut its own and ended; the daemon and its other commands are as they were.
        plain = client.run(["head", "-c", "4096", "/proc/self/status"], text=True).stdout
        wanted = [line for line in own.splitlines() if line.startswith("CapBnd")]
        assert [line for line in plain.splitlines() if line.startswith("CapBnd")] == wanted
    now = Path(f"/proc/{daemon.pid}/status").read_text()
    assert [line for line in now.splitlines() if line.startswith("Cap")] == [
        line for line in own.splitlines() if line.startswith("Cap")
    ]


@pytest.mark.root
def test_capability_that_is_not_listed_is_gone_for_root_too(new_daemon: NewDaemon, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("x")
    secret.chmod(0o600)
    os.chown(secret, 61111, 61111)
    os.chown(tmp_path, 61111, 61111)
    tmp_path.chmod(0o700)
    daemon = new_daemon(options(capabilities="CAP_NET_ADMIN"))
    link = f"rw{os.getpid()}"[:15]
    with daemon.client() as client:
        try:
            assert shell(client, f"ip link add {link} type veth peer name {link}p 2>&1; echo $?") == "0\n"
        finally:
            subprocess.run(["ip", "link", "del", link], check=False, capture_output=True)
        assert client.run(["sh", "-c", f"chown 0 '{secret}'"]).returncode != 0
        assert client.run(["cat", str(secret)]).returncode != 0


def test_no_new_privs_is_of_that_command_alone(new_daemon: NewDaemon) -> None:
    daemon = new_daemon(options(no_new_privs="yes") + "[Filters]\nhead: CommandFilter, head, root\n")
    with daemon.client() as client:
        assert status(client)["NoNewPrivs"] == "1"
        plain = client.run(["head", "-c", "4096", "/proc/self/status"], text=True).stdout
        assert "NoNewPrivs:\t0" in plain
    assert "NoNewPrivs:\t0" in Path(f"/proc/{daemon.pid}/status").read_text()


def test_umask_cwd_limits_and_set_env(new_daemon: NewDaemon) -> None:
    daemon = new_daemon(
        options(
            umask="0077", cwd="/usr/bin", limits="nofile=100, fsize=1000, cpu=7", set_env="LC_ALL=C, MODE=a b"
        )
    )
    with daemon.client() as client:
        script = "umask; pwd; ulimit -n; ulimit -t; echo $LC_ALL; echo $MODE"
        assert shell(client, script) == "0077\n/usr/bin\n100\n7\nC\na b\n"
        # A limit does not shift the words.
        assert client.run(["sh", "-c", 'echo "$0 $@"', "-a", "--b"]).stdout == b"-a --b\n"


def test_cwd_that_others_can_change_is_not_used(new_daemon: NewDaemon) -> None:
    daemon = new_daemon(options(cwd="/tmp"))
    with daemon.client() as client, pytest.raises(ExecutableNotFound):
        client.run(["cat"])


@pytest.mark.root
def test_a_service_as_its_own_user_with_what_it_needs(new_daemon: NewDaemon) -> None:
    """dnsmasq on port 53 as nobody, and nothing else of root's."""
    filters = "[Filters]\ndnsmasq: CommandFilter, dnsmasq, nobody\nip: CommandFilter, ip, nobody\n"
    daemon = new_daemon(filters + "[dnsmasq]\nambient = CAP_NET_BIND_SERVICE\n")
    address = f"127.{os.getpid() % 200 + 1}.{os.getpid() // 200 % 250}.53"
    argv = ["dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--pid-file"]
    argv += ["--bind-interfaces", f"--listen-address={address}", "--port=53"]

    def answers() -> bool:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as one:
            return not one.connect_ex((address, 53))

    with daemon.client() as client:
        with client.popen(argv) as process:
            wait_for(answers)
            status = dict(
                line.split(":\t", 1)
                for line in Path(f"/proc/{process.pid}/status").read_text().splitlines()
                if ":\t" in line
            )
            assert status["Uid"].split() == ["65534"] * 4
            sets = {int(status[f"Cap{name}"], 16) for name in ("Prm", "Eff", "Inh", "Amb", "Bnd")}
            assert sets == {1 << 10}
            process.terminate()
            process.wait()
        # The same words as root's user without it: it cannot have the port.
        daemon.configure(filters)
        assert daemon.reload()
        assert client.run(argv).returncode != 0


@pytest.mark.root
def test_a_daemon_with_few_capabilities_changes_user_and_limits(new_daemon: NewDaemon) -> None:
    filters = "[Filters]\nsh: CommandFilter, sh, nobody\nbash: CommandFilter, bash, root\n"
    filters += "[bash]\nno_new_privs = yes\nlimits = nofile=99\n"
    daemon = new_daemon(filters, capabilities="CAP_SETUID, CAP_SETGID, CAP_KILL")
    script = "id -u; grep CapPrm /proc/self/status; ulimit -n"
    with daemon.client() as client:
        said = client.run(["sh", "-c", script], text=True).stdout.split()
        assert said[:3] == ["65534", "CapPrm:", "0" * 16]
        said = client.run(["bash", "-c", script], text=True).stdout.split()
        assert said == ["0", "CapPrm:", f"{1 << 5 | 1 << 6 | 1 << 7:016x}", "99"]


@pytest.mark.root
def test_group_takes_the_place_of_the_first(new_daemon: NewDaemon) -> None:
    daemon = new_daemon("[Filters]\nid: CommandFilter, id, nobody\n[id]\ngroup = daemon\n")
    with daemon.client() as client:
        assert client.run(["id", "-gn"]).stdout == b"daemon\n"
        assert client.run(["id", "-u"]).stdout == b"65534\n"
        assert client.run(["id", "-Gn"]).stdout == b"daemon\n"


def test_env_types_judge_values(new_daemon: NewDaemon) -> None:
    daemon = new_daemon(options(env="TAG={name}, NUMBER={int=1-9}, ANY"))
    with daemon.client() as client:
        done = client.run(
            ["sh", "-c", "echo $TAG $NUMBER $ANY"], env={"TAG": "a.b", "NUMBER": "7", "ANY": "x y"}
        )
        assert done.stdout == b"a.b 7 x y\n"
        for env in ({"TAG": "-a"}, {"TAG": "a b"}, {"NUMBER": "10"}, {"ANY": "a\nb"}, {"OTHER": "1"}):
            with pytest.raises(EnvironmentDenied):
                client.run(["sh", "-c", "true"], env=env)


@pytest.mark.parametrize("seconds", ["none", "3000000"])
def test_timeout_longer_than_one_poll(new_daemon: NewDaemon, seconds: str) -> None:
    daemon = new_daemon(options(timeout=seconds), command_timeout="1")
    with daemon.client() as client:
        assert client.run(["sh", "-c", "sleep 1.2; echo done"]).stdout == b"done\n"
        with pytest.raises(CommandTimeout):
            client.run(["sh", "-c", "sleep 1000"], timeout=0.2)


def test_stdin_timeout_and_output(new_daemon: NewDaemon) -> None:
    filters = options(stdin="no", max_output="1000")
    daemon = new_daemon(f"{filters}[Filters]\nsleep: CommandFilter, sleep, root\n[sleep]\ntimeout = 1\n")
    with daemon.client() as client:
        with pytest.raises(Denied):
            client.run(["cat"], input=b"x")
        with pytest.raises(CommandTimeout):
            client.run(["sleep", "1000"], timeout=40)
        with pytest.raises(OutputLimit):
            client.run(["sh", "-c", "head -c 1001 /dev/zero"])


def test_secrets_are_taken_out_of_output(new_daemon: NewDaemon) -> None:
    daemon = new_daemon(options(sanitize="secrets"))
    with daemon.client() as client:
        done = client.run(["sh", "-c", "echo '--password hunter2 plain'; printf '\\377'"])
        assert b"hunter2" not in done.stdout
        assert done.stdout.endswith(b"plain\n\xff")


def test_records_without_words(new_daemon: NewDaemon) -> None:
    daemon = new_daemon(options(audit="no-argv"))
    with daemon.client() as client:
        client.run(["sh", "-c", "echo hush"])
    assert "hush" not in (daemon.directory / "audit.jsonl").read_text()
    assert daemon.audit()[0]["argv"] == ["sh"]


@pytest.mark.root
def test_a_program_that_its_filter_vouches_for(new_daemon: NewDaemon) -> None:
    daemon = new_daemon(start=False)
    script, base = daemon.directory / "script", daemon.directory / "base"
    script.write_text('#!/bin/sh\nexec cat "$@"\n')
    script.chmod(0o755)
    base.mkdir()
    os.chown(base, 61111, 61111)
    (base / "file").write_text("x")
    (base / "link").symlink_to("/etc/hostname")
    line = f"[Filters]\ns: ArgvFilter, {script}, root, {{path={base}}}\n"
    daemon.configure(f"{line}[s]\nopens_paths = yes\n")
    daemon.start()
    with daemon.client() as client:
        assert client.run([str(script), f"{base}/file"]).stdout == b"x"
        done = client.run([str(script), f"{base}/link"])
        assert (done.returncode, done.stdout) == (1, b"")
        assert b"Too many levels of symbolic links" in done.stderr
    daemon.configure(line)
    assert not daemon.reload()
    assert "nothing is known of how script uses paths" in daemon.log


@pytest.mark.root
def test_target_user_of_a_kill(new_daemon: NewDaemon) -> None:
    daemon = new_daemon("[Filters]\nk: KillFilter, root, sleep, -TERM\n[k]\ntarget_user = nobody\n")
    mine = subprocess.Popen(["sleep", "1000"])
    other = subprocess.Popen(["sleep", "1000"], user=65534, group=65534)
    try:
        with daemon.client() as client:
            assert not client.allows(["kill", "-TERM", str(mine.pid)]).allowed
            assert client.run(["kill", "-s", "TERM", str(other.pid)]).returncode == 0
            assert other.wait(60) == -15
    finally:
        for process in (mine, other):
            process.kill()
            process.wait()


def test_leaf_that_differs_from_its_chain_is_denied(new_daemon: NewDaemon) -> None:
    daemon = new_daemon(
        "[Filters]\nnice: ChainingRegExpFilter, nice, root, nice, -n, \\d+\ncat: CommandFilter, cat, root\n"
        "sh: CommandFilter, sh, root\nsleep: CommandFilter, sleep, root\n"
        "[cat]\numask = 0077\n[sh]\nset_env = A=1\n[sleep]\ntimeout = 1\n"
    )
    with daemon.client() as client:
        assert not client.allows(["nice", "-n", "5", "cat"]).allowed
        assert client.allows(["cat"]).allowed
        assert client.run(["nice", "-n", "5", "sh", "-c", "echo $A"]).stdout == b"1\n"
        with pytest.raises(CommandTimeout):
            client.run(["nice", "-n", "5", "sleep", "1000"])


def test_kill_of_what_was_started_here(new_daemon: NewDaemon) -> None:
    daemon = new_daemon(
        "[Filters]\nk: KillFilter, root, sleep, -9\nsh: CommandFilter, sh, root\n[k]\nstarted_by = self\n"
    )
    other = subprocess.Popen(["sleep", "1000"])
    try:
        with daemon.client() as client:
            assert not client.allows(["kill", "-9", str(other.pid)]).allowed
            # Into the background, and away from its session, as a service does that daemonizes.
            script = "setsid sh -c 'sleep 1000 >/dev/null 2>&1 & echo $!' &"
            pid = int(client.run(["sh", "-c", script + " wait"], check=True).stdout)
            wait_for(lambda: os.readlink(f"/proc/{pid}/exe").endswith("/sleep"))
            assert is_alive(pid)
            assert client.run(["kill", "-9", str(pid)]).returncode == 0
            # An orphan of ours: reaped by us, too.
            wait_for(lambda: not os.path.exists(f"/proc/{pid}"))
    finally:
        other.kill()
        other.wait()


def test_long_words_need_leave(new_daemon: NewDaemon) -> None:
    daemon = new_daemon(
        "[Filters]\na: RegExpFilter, echo, root, echo, x+\nb: RegExpFilter, printf, root, printf, x+\n"
        "[b]\nmax_word = 10000\n"
    )
    with daemon.client() as client:
        assert [client.allows(["echo", "x" * count]).allowed for count in (4096, 4097)] == [True, False]
        assert [client.allows(["printf", "x" * count]).allowed for count in (10_000, 10_001)] == [True, False]
