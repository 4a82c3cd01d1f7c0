"""What a command finds around itself equals a table made from its filter, for every pair of options."""

import itertools
import os
import platform
import select
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from rootwrap_daemon.daemon.run import shim
from rootwrap_daemon.daemon.run import spawn as spawning
from rootwrap_daemon.daemon.run.registry import Ticket
from rootwrap_daemon.daemon.run.spawn import Child, spawn
from rootwrap_daemon.errors import Error, ExecutableNotFound, InternalError
from rootwrap_daemon.policy import host
from rootwrap_daemon.policy.bound import BoundExec
from rootwrap_daemon.policy.read import users
from tests.real_daemon import wait_for

pytestmark = pytest.mark.root

NET_ADMIN, NET_RAW = 12, 13
SLEEP: Final = os.path.realpath("/usr/bin/sleep")
BASE: Final = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": "/", "USER": "x", "LOGNAME": "x"}
OPTIONS: Final[dict[str, tuple[Any, ...]]] = {
    "user": (("root", None), ("nobody", None), ("nobody", "daemon")),
    "capabilities": (None, frozenset(), frozenset((NET_ADMIN, NET_RAW))),
    "ambient": (None, frozenset(), frozenset((NET_RAW,))),
    "no_new_privs": (False, True),
    "limits": ((), (("nofile", 100),), (("core", 0), ("cpu", 7), ("fsize", 2048), ("nproc", 50000))),
    "umask": (None, 0o077, 0o002),
    "cwd": ("/", "/usr/bin"),
    "env": (
        {},
        {"TAG": "a b\n'$(id)' \udcff=", "LD_PRELOAD": "/none.so", "GCONV_PATH": "/none", "PWD": "/x"},
        {"n": "1", "_": "2", "LANG": "xx", "SHLVL": "7", "TZ": "/none"},
    ),
    "nosymfollow": ((), ("one",), ("one", "two, -- 'x'")),
    "descriptor": (False, True),
    "stdin": (False, True),
}
LIMITS: Final = {
    "nofile": "Max open files",
    "core": "Max core file size",
    "cpu": "Max cpu time",
    "fsize": "Max file size",
    "nproc": "Max processes",
}


def limits_of(text: str) -> dict[str, list[str]]:
    """Soft and hard limits by their names in /proc/PID/limits."""
    return {line[:26].strip(): line[26:].split()[:2] for line in text.splitlines()}


def possible(case: dict[str, Any]) -> bool:
    """What filters can say: ambient capabilities are for another user than root, and of its bounding set."""
    ambient, kept = case.get("ambient"), case.get("capabilities")
    if ambient is None:
        return True
    return case.get("user", ("nobody", None))[0] != "root" and (kept is None or ambient <= kept)


def pairs_of(chosen: dict[str, int]) -> set[tuple[tuple[str, int], tuple[str, int]]]:
    ordered = [(name, chosen[name]) for name in OPTIONS if name in chosen]
    return set(itertools.combinations(ordered, 2))


def values_of(chosen: dict[str, int]) -> dict[str, Any]:
    return {name: OPTIONS[name][index] for name, index in chosen.items()}


def pairwise() -> Iterator[dict[str, Any]]:
    """Cases in which each value of an option meets each value of every other, where the two are possible."""
    every = [(name, index) for name, values in OPTIONS.items() for index in range(len(values))]
    wanted = {
        (a, b)
        for a, b in itertools.combinations(every, 2)
        if a[0] != b[0] and possible(values_of(dict((a, b))))
    }
    while wanted:
        chosen = dict(min(wanted))
        for name in OPTIONS:
            if name not in chosen:
                able = [chosen | {name: index} for index in range(len(OPTIONS[name]))]
                able = [one for one in able if possible(values_of(one))]
                chosen = max(able, key=lambda one: len(pairs_of(one) & wanted))
        wanted -= pairs_of(chosen)
        yield values_of(chosen)


CASES: Final = list(pairwise())


@pytest.fixture(autouse=True, params=["native", "tools", "native, Popen", "tools, Popen"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """With the native shim and posix_spawn(3) where they are, and without."""
    # As the daemon does at its start: whoever runs the tests may ignore some.
    spawning.heed_signals()
    if "Popen" in request.param:
        monkeypatch.setattr(spawning, "_POSIX_SPAWN", None)
    if "tools" in request.param:
        monkeypatch.setattr(shim, "native", lambda: None)
    elif shim.native() is None:
        (pytest.fail if os.environ.get("REQUIRE_NATIVE") else pytest.skip)("run `make native` first")
    return str(request.param)


@dataclass
class Command:
    child: Child
    status: dict[str, str]

    def text(self, name: str) -> str:
        return Path(f"/proc/{self.child.pid}/{name}").read_text(errors="surrogateescape")


@pytest.fixture
def places(tmp_path: Path) -> Path:
    for name in OPTIONS["nosymfollow"][-1]:
        (tmp_path / name).mkdir()
        (tmp_path / name / "link").symlink_to("/etc")
    return tmp_path


def start(bound: BoundExec, *, stdin: bool = False) -> Command:
    ticket = Ticket("test", 0, leave=False, since=0.0, notes=None)
    child = spawn(bound, ticket, stdin=stdin)
    command = Command(child, {})

    def sleeps() -> bool:
        # A shim executes the program in the end, which then loads its libraries. In this order: what is read
        # of a state before that is the shim's.
        if os.readlink(f"/proc/{child.pid}/exe") != SLEEP:
            return False
        command.status = status_of(command.text("status"))
        return command.status["State"] == "S (sleeping)"

    wait_for(sleeps)
    return command


def status_of(text: str) -> dict[str, str]:
    return dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)


def end(child: Child) -> None:
    child.signal_group(signal.SIGKILL)
    poll = select.poll()
    poll.register(child.pidfd, select.POLLIN)
    assert poll.poll(60_000)
    assert child.reap()
    child.release()


@pytest.mark.parametrize("number", range(len(CASES)))
def test_state_equals_the_table(places: Path, number: int) -> None:
    case = CASES[number]
    name, group = case["user"]
    identity = users.identity(name, group)
    env = {**BASE, **case["env"]}
    descriptor = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    other = os.open("/etc/passwd", os.O_RDONLY)
    os.set_inheritable(other, True)
    try:
        command = start(
            BoundExec(
                (descriptor,) if case["descriptor"] else (),
                SLEEP,
                (SLEEP, "60"),
                env,
                identity,
                cwd=case["cwd"],
                umask=case["umask"],
                capabilities=case["capabilities"],
                no_new_privs=case["no_new_privs"],
                ambient=case["ambient"],
                limits=case["limits"],
                nosymfollow=tuple(str(places / place) for place in case["nosymfollow"]),
            ),
            stdin=case["stdin"],
        )
        try:
            compare(command, case, identity, env, places, descriptor)
        finally:
            end(command.child)
    finally:
        os.close(descriptor)
        os.close(other)


def compare(
    command: Command,
    case: dict[str, Any],
    identity: host.Identity,
    env: dict[str, str],
    places: Path,
    descriptor: int,
) -> None:
    own = status_of(Path("/proc/self/status").read_text())
    status, pid = command.status, command.child.pid
    root = identity.uid == 0
    assert status["Uid"].split() == [str(identity.uid)] * 4
    assert status["Gid"].split() == [str(identity.gid)] * 4
    groups = own["Groups"].split() if root else map(str, identity.groups)
    assert sorted(status["Groups"].split()) == sorted(groups)

    bounding, ambient = case["capabilities"], case["ambient"]
    if bounding is None:
        bounding = ambient
    bits = int(own["CapBnd"], 16) if bounding is None else sum(1 << one for one in bounding)
    has = bits if root else sum(1 << one for one in ambient or ())
    rest = 0 if root else has
    assert {key: int(status[key], 16) for key in status if key.startswith("Cap")} == {
        "CapBnd": bits,
        "CapPrm": has,
        "CapEff": has,
        "CapInh": rest,
        "CapAmb": rest,
    }
    assert status["NoNewPrivs"] == str(int(case["no_new_privs"]))
    assert (status["SigBlk"], status["SigIgn"], status["SigCgt"]) == ("0" * 16,) * 3
    for key in ("Seccomp", "Seccomp_filters", "CoreDumping", "Cpus_allowed", "Mems_allowed"):
        assert status[key] == own[key]
    assert (status["Threads"], status["TracerPid"]) == ("1", "0")
    assert int(status["Umask"], 8) == (int(own["Umask"], 8) if case["umask"] is None else case["umask"])

    expected = {key: f"{key}={value}" for key, value in env.items()}
    assert sorted(command.text("environ").rstrip("\0").split("\0")) == sorted(expected.values())
    assert command.text("cmdline") == f"{SLEEP}\x0060\x00"
    fields = command.text("stat").rpartition(")")[2].split()
    # Its group, its session, no terminal.
    assert fields[2:5] == [str(pid), str(pid), "0"]
    assert os.readlink(f"/proc/{pid}/cwd") == case["cwd"]
    assert os.readlink(f"/proc/{pid}/root") == "/"

    assert limits_of(command.text("limits")) == limits_of(Path("/proc/self/limits").read_text()) | {
        LIMITS[limit]: [str(value)] * 2 for limit, value in case["limits"]
    }

    targets = {int(one): os.readlink(f"/proc/{pid}/fd/{one}") for one in os.listdir(f"/proc/{pid}/fd")}
    assert set(targets) == {0, 1, 2} | ({descriptor} if case["descriptor"] else set())
    assert targets[0].startswith("pipe:[") if case["stdin"] else targets[0] == "/dev/null"
    assert all(targets[one].startswith("pipe:[") for one in (1, 2))
    for what in ("pid", "net", "ipc", "uts", "user", "cgroup", *(() if case["nosymfollow"] else ("mnt",))):
        assert os.readlink(f"/proc/{pid}/ns/{what}") == os.readlink(f"/proc/self/ns/{what}")
    for name in ("timerslack_ns", "oom_score_adj", "cgroup", "personality"):
        assert command.text(name) == Path(f"/proc/self/{name}").read_text()
    assert os.sched_getscheduler(pid) == os.sched_getscheduler(0)
    assert os.getpriority(os.PRIO_PROCESS, pid) == os.getpriority(os.PRIO_PROCESS, 0)

    mounts = {line.split()[4]: line.split()[5].split(",") for line in command.text("mountinfo").splitlines()}
    for place in OPTIONS["nosymfollow"][-1]:
        flags = mounts.get(str(places / place).replace(" ", "\\040"))
        confined = flags is not None and {"nosymfollow", "noexec", "nodev", "nosuid"} <= set(flags)
        assert confined == (place in case["nosymfollow"]), place


def test_every_pair_is_there() -> None:
    met = {
        (a, str(case[a]), b, str(case[b])) for case in CASES for a, b in itertools.combinations(OPTIONS, 2)
    }
    for a, b in itertools.combinations(OPTIONS, 2):
        for x, y in itertools.product(OPTIONS[a], OPTIONS[b]):
            assert ((a, str(x), b, str(y)) in met) == possible({a: x, b: y}), (a, x, b, y)


def test_no_variable_reaches_a_program_of_roots(tmp_path: Path) -> None:
    """Written by the dynamic linker of whatever sees it, as the user that it has by then."""
    tmp_path.chmod(0o777)
    for parent in tmp_path.parents:
        if parent.stat().st_mode & 0o001 == 0:
            parent.chmod(parent.stat().st_mode | 0o001)
    nobody = users.identity("nobody")
    env = {**BASE, "LD_DEBUG": "files", "LD_DEBUG_OUTPUT": str(tmp_path / "trace")}
    command = start(BoundExec((), SLEEP, (SLEEP, "60"), env, nobody, limits=(("core", 0),)))
    end(command.child)
    traces = list(tmp_path.iterdir())
    assert [path.stat().st_uid for path in traces] == [nobody.uid]
    assert "setpriv" not in traces[0].read_text()


def finish(bound: BoundExec) -> tuple[int, bytes, Error | None]:
    """Run it: its exit code, what it wrote, and what the shim says of it."""
    child = spawn(bound, Ticket("test", 0, leave=False, since=0.0, notes=None), stdin=False)
    try:
        poll = select.poll()
        poll.register(child.pidfd, select.POLLIN)
        assert poll.poll(60_000)
        assert child.reap()
        return child.reaped(), b"".join(os.read(one, 65536) for one in child.outputs), child.failure()
    finally:
        child.release()


def bound_to(*argv: str, user: str = "nobody", **options: Any) -> BoundExec:
    return BoundExec((), argv[0], argv, dict(BASE), users.identity(user), **options)


@pytest.mark.parametrize("user", ["root", "nobody"])
def test_session_keyring_is_the_commands_own(user: str) -> None:
    """KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING."""
    if platform.machine() != "x86_64":
        pytest.skip("knows the number of keyctl(2) of another architecture")
    script = "import ctypes; print(ctypes.CDLL(None).syscall(250, 0, -3, 0))"
    python = os.path.realpath("/usr/bin/python3")
    found = {finish(bound_to(python, "-I", "-S", "-c", script, user=user))[1] for _ in range(2)}
    if b"-1\n" in found:
        pytest.skip("no keyrings here")
    assert len(found) == 2


def test_what_the_shim_cannot_do_is_told_and_nothing_runs(tmp_path: Path, way: str) -> None:
    """And an exit code of the program's own is its own."""
    made = tmp_path / "made"
    touch = "/usr/bin/touch"
    missing = bound_to(touch, str(made), user="root", nosymfollow=(str(tmp_path / "missing"),))
    for bound, expected in (
        (missing, InternalError),
        (bound_to("/none", user="nobody"), ExecutableNotFound),
        (bound_to("/etc/passwd", user="nobody"), ExecutableNotFound),
    ):
        code, _, error = finish(bound)
        assert code in (126, 127)
        if "native" in way:
            assert isinstance(error, expected)
            assert ("place" in str(error.__cause__)) == (bound is missing)
    assert not made.exists()
    for code in (126, 127, 0):
        assert finish(bound_to("/bin/sh", "-c", f"exit {code}")) == (code, b"", None)


@pytest.mark.parametrize(
    ("argv", "env"),
    [(("/bin/echo", "a\0b"), BASE), (("/bin/echo",), {"A\0": ""}), (("/bin/echo",), {"A": "b\0"})],
)
def test_no_word_is_cut(argv: tuple[str, ...], env: dict[str, str]) -> None:
    for user in ("root", "nobody"):
        with pytest.raises(InternalError):
            finish(BoundExec((), argv[0], argv, env, users.identity(user)))


def test_a_shim_that_others_can_change_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    mine = tmp_path / "become"
    mine.write_bytes(Path(SLEEP).read_bytes())
    monkeypatch.setattr(shim, "NATIVE", (str(mine),))
    for mode, uid, found in ((0o755, 0, True), (0o775, 0, False), (0o644, 0, False), (0o755, 65534, False)):
        os.chown(mine, uid, 0)
        mine.chmod(mode)
        assert (shim.native.__wrapped__() is not None) == found


@pytest.mark.parametrize(
    "word",
    [
        *("G1,x", "G,", "H", "H-1", "H4294967295", "U 1", "L7", "L7=", "L7=1x", "L99=1", "K9", "K", "Z", ""),
        *("BF", "Bxyz", "B1ffffffffffffffff", "S99", "M/none", "M"),
    ],
)
def test_a_word_that_the_shim_cannot_do_ends_it(way: str, word: str) -> None:
    become = shim.native()
    if become is None:
        pytest.skip("the tools judge their own words")
    done = subprocess.run([become, word, "--", "/bin/echo", "ran"], capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (126, b"", b"")
