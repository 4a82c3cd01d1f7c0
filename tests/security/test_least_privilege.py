"""What commands see of themselves under filters with different options: exactly what the filter says."""

import contextlib
import grp
import os
import pwd
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from rootwrap_daemon.client import PIPE, Client
from tests.real_daemon import Daemon, NewDaemon, wait_for

pytestmark = [pytest.mark.root, pytest.mark.parametrize("passed", [False, True], ids=["captured", "passed"])]

NOBODY = pwd.getpwnam("nobody")
NET_ADMIN, NET_RAW = 1 << 12, 1 << 13
#: Everything in one shell, so that it is one process's.
LOOK = r"""
echo "pid $$"
id
while IFS= read -r line; do echo "status $line"; done < /proc/$$/status
ulimit -a | while IFS= read -r line; do echo "limit $line"; done
env | while IFS= read -r line; do echo "env $line"; done
ls -l /proc/self/fd
echo "ps $(ps -o sid=,pgid=,tty= -p $$)"
echo "umask $(umask)"
echo "cwd $(pwd)"
"""


@dataclass(frozen=True)
class Case:
    """The options of a filter, and what differs for it from the daemon's own."""

    options: str = ""
    user: str = "root"
    group: int | None = None
    bounding: int | None = None
    no_new_privs: bool = False
    limits: dict[str, int] = field(default_factory=dict)
    environ: dict[str, str] = field(default_factory=dict)
    umask: str = "0022"
    cwd: str = "/"


CASES = {
    "plain": Case(),
    "other": Case("group = daemon\n", user="nobody", group=grp.getgrnam("daemon").gr_gid, no_new_privs=True),
    "free": Case("no_new_privs = no\n", user="nobody"),
    "narrow": Case(
        "capabilities = CAP_NET_ADMIN, CAP_NET_RAW\nno_new_privs = yes\n",
        bounding=NET_ADMIN | NET_RAW,
        no_new_privs=True,
    ),
    "small": Case(
        "limits = nofile=100, fsize=2048, cpu=7, core=0\numask = 0077\ncwd = /usr/bin\n"
        "set_env = MODE=a b, LC_ALL=C\n",
        limits={"NOFILE": 100, "FSIZE": 2048, "CPU": 7, "CORE": 0},
        environ={"MODE": "a b", "LC_ALL": "C"},
        umask="0077",
        cwd="/usr/bin",
    ),
    "least": Case(
        "capabilities = none\nno_new_privs = yes\nlimits = nproc=50\numask = 0027\nenv = TAG\n",
        bounding=0,
        no_new_privs=True,
        limits={"NPROC": 50},
        environ={"TAG": "t"},
        umask="0027",
    ),
}


@pytest.fixture
def daemon(new_daemon: NewDaemon) -> Daemon:
    """A daemon for which each case is a shell of its own."""
    daemon = new_daemon(start=False)
    programs = daemon.directory / "bin"
    programs.mkdir(mode=0o755)
    lines = []
    for name, case in CASES.items():
        shutil.copy("/bin/bash", programs / name)
        lines.append(f"[Filters]\n{name}: CommandFilter, {name}, {case.user}\n[{name}]\n{case.options}")
    daemon.configure("".join(lines), exec_dirs=f"{programs}, /usr/bin, /bin")
    daemon.start()
    return daemon


def say(client: Client, name: str, script: str, passed: bool, env: dict[str, str] | None = None) -> str:
    if not passed:
        return client.run([name, "-c", script], env=env, check=True, text=True).stdout
    with client.popen([name, "-c", script], stdout=PIPE, env=env) as process:
        out, _ = process.communicate()
        assert process.wait() == 0
    return (out or b"").decode()


def lines_of(said: str, kind: str) -> list[str]:
    return [line.removeprefix(f"{kind} ") for line in said.splitlines() if line.startswith(f"{kind} ")]


def status_of(lines: list[str]) -> dict[str, str]:
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


@pytest.mark.parametrize("name", CASES)
def test_seen_from_inside(daemon: Daemon, passed: bool, name: str) -> None:
    case = CASES[name]
    before = status_of(Path(f"/proc/{daemon.pid}/status").read_text().splitlines())
    with daemon.client() as client:
        said = say(client, name, LOOK, passed, {"TAG": "t"} if "TAG" in case.environ else None)
    user = pwd.getpwnam(case.user)
    gid = user.pw_gid if case.group is None else case.group
    groups = sorted({gid, *os.getgrouplist(case.user, gid)})

    status = status_of(lines_of(said, "status"))
    assert status["Uid"].split() == [str(user.pw_uid)] * 4
    assert status["Gid"].split() == [str(gid)] * 4
    assert sorted(map(int, status["Groups"].split())) == groups
    bounding = int(before["CapBnd"], 16) if case.bounding is None else case.bounding
    effective = bounding if case.user == "root" else 0
    assert {name: int(status[name], 16) for name in ("CapBnd", "CapEff", "CapPrm", "CapInh", "CapAmb")} == {
        "CapBnd": bounding,
        "CapEff": effective,
        "CapPrm": effective,
        "CapInh": 0,
        "CapAmb": 0,
    }
    assert status["NoNewPrivs"] == str(int(case.no_new_privs))
    assert status["SigBlk"] == "0" * 16
    assert (status["TracerPid"], status["Threads"]) == ("0", "1")

    (identity,) = (line for line in said.splitlines() if line.startswith("uid="))
    assert identity.startswith(f"uid={user.pw_uid}({case.user}) gid={gid}({grp.getgrgid(gid).gr_name}) ")

    environ = dict(line.split("=", 1) for line in lines_of(said, "env"))
    # The shell's own.
    for own in ("PWD", "SHLVL", "_", "OLDPWD"):
        environ.pop(own, None)
    assert environ == {
        "PATH": daemon.options["exec_dirs"].replace(", ", ":"),
        "HOME": user.pw_dir,
        "USER": case.user,
        "LOGNAME": case.user,
        "LANG": "C.UTF-8",
        **case.environ,
    }

    limits = {line.split("(")[0].strip(): line.rsplit(None, 1)[1] for line in lines_of(said, "limit")}
    assert limits == {
        **limits_of(daemon),
        **{LIMITS[key]: shown_limit(key, value) for key, value in case.limits.items()},
    }

    pid = lines_of(said, "pid")[0]
    assert lines_of(said, "ps")[0].split() == [pid, pid, "?"]
    shown = [line.rpartition(" -> ") for line in said.splitlines() if " -> " in line]
    descriptors = {head.rpartition(" ")[2]: target for head, _, target in shown}
    # What ls itself reads.
    assert descriptors.pop("3").endswith("/fd")
    assert list(descriptors) == ["0", "1", "2"]
    assert descriptors["0"] == "/dev/null"
    assert descriptors["1"].startswith("pipe:[")
    assert descriptors["2"] == "/dev/null" if passed else descriptors["2"].startswith("pipe:[")
    assert lines_of(said, "umask") == [case.umask]
    assert lines_of(said, "cwd") == [case.cwd]

    after = status_of(Path(f"/proc/{daemon.pid}/status").read_text().splitlines())
    same = ("Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp")
    assert {key: after[key] for key in same} == {key: before[key] for key in same}


#: What bash calls them.
LIMITS = {
    "NOFILE": "open files",
    "FSIZE": "file size",
    "CPU": "cpu time",
    "CORE": "core file size",
    "NPROC": "max user processes",
}


def shown_limit(name: str, value: int) -> str:
    # In blocks of 1024 bytes.
    return str(value // 1024 if name in ("FSIZE", "CORE") else value)


def limits_of(daemon: Daemon) -> dict[str, str]:
    """What a shell with the daemon's own limits says of them."""
    script = f"prlimit --pid {daemon.pid} --nofile --noheadings --raw --output=SOFT"
    nofile = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout.strip()
    shown = subprocess.run(
        ["bash", "-c", f"ulimit -S -n {nofile}; ulimit -a"], capture_output=True, text=True, check=True
    ).stdout
    return {line.split("(")[0].strip(): line.rsplit(None, 1)[1] for line in shown.splitlines()}


def test_nothing_is_inherited_from_who_started_the_daemon(daemon: Daemon, passed: bool) -> None:
    """Inheritable and ambient capabilities of its starter reach no command, whatever its bounding set."""
    daemon.stop()
    few = "+net_raw,+sys_admin,+chown"
    daemon.inside = ["setpriv", f"--inh-caps={few}", f"--ambient-caps={few}"]
    daemon.start()
    with daemon.client() as client:
        for name, case in CASES.items():
            env = {"TAG": "t"} if "TAG" in case.environ else None
            said = say(client, name, LOOK, passed, env)
            status = status_of(lines_of(said, "status"))
            assert (status["CapInh"], status["CapAmb"]) == ("0" * 16, "0" * 16), name
            if case.bounding is not None:
                assert int(status["CapPrm"], 16) == case.bounding


def test_threads_of_the_daemon_keep_what_they_had(daemon: Daemon, passed: bool) -> None:
    """Also those that serve others, and that served the command itself."""
    with daemon.client() as client, daemon.client() as other:
        other.run(["plain", "-c", "true"])

        def threads() -> set[tuple[str, ...]]:
            found = set()
            for path in Path(f"/proc/{daemon.pid}/task").iterdir():
                with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                    status = status_of((path / "status").read_text().splitlines())
                    found.add(
                        tuple(status[key] for key in ("Uid", "CapPrm", "CapEff", "CapBnd", "NoNewPrivs"))
                    )
            return found

        before = threads()
        assert len(before) == 1
        for name in CASES:
            say(client, name, "true", passed)
            # The thread that cut its own ends on its own time.
            wait_for(lambda: threads() == before)


def test_what_is_not_listed_is_gone_for_root_too(daemon: Daemon, passed: bool) -> None:
    secret = daemon.directory / "secret"
    secret.write_text("x")
    secret.chmod(0o600)
    os.chown(secret, 61111, 61111)
    mountpoint = daemon.directory / "mountpoint"
    mountpoint.mkdir()
    other = subprocess.Popen(["sleep", "1000"], user=61111, group=61111, extra_groups=[])
    link = f"lp{os.getpid()}"
    tries = {
        "link": f"ip link add {link} type veth peer name {link}p",
        "chown": f"chown 0 '{secret}'",
        "read": f"exec 3<'{secret}'",
        "write": f"exec 3>>'{secret}'",
        "device": f"mknod '{daemon.directory}/device' c 1 3",
        "setuid": "setpriv --reuid=1 true",
        "mount": f"mount -t tmpfs none '{mountpoint}'",
        "signal": f"kill -0 {other.pid}",
    }
    script = "".join(f"({command}) >/dev/null 2>&1 && echo {name}\n" for name, command in tries.items())
    try:
        with daemon.client() as client:
            assert say(client, "narrow", script + "true", passed).split() == ["link"]
            # The same words under the plain filter: the rest is possible as well.
            subprocess.run(["ip", "link", "del", link], check=True)
            assert say(client, "plain", script + "true", passed).split() == list(tries)
            subprocess.run(["umount", str(mountpoint)], check=True)
    finally:
        subprocess.run(["ip", "link", "del", link], check=False, capture_output=True)
        other.kill()
        other.wait()
