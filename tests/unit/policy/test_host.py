"""policy/host.py: what a path names and who could change that, programs, users, processes."""

import errno
import io
import os
import pwd
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rootwrap_daemon.policy import executables, host, places
from rootwrap_daemon.policy.host import UntrustedPath
from rootwrap_daemon.policy.read import owned, users
from tests.unit.policy.conftest import StartSleeper
from tests.unit.policy.things import EXEC_DIRS, OWNERS, STRANGER, directory, file, link, program

#: Trusts nothing that there is: every path is one that others could change.
NO_OWNERS = frozenset({4000000000})
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Directories, files and links that trusted owners alone can change."""
    directory(tmp_path / "d")
    directory(tmp_path / "d/e")
    file(tmp_path / "f", "f")
    file(tmp_path / "d/g", "g")
    link(tmp_path / "to_f", "f")
    link(tmp_path / "to_d", "d")
    link(tmp_path / "to_e", tmp_path / "d/e")
    link(tmp_path / "d/up", "..")
    link(tmp_path / "d/e/chain", "../../to_d/g")
    link(tmp_path / "dangling", "missing")
    link(tmp_path / "dangling_deep", "missing/deep")
    link(tmp_path / "loop", "loop")
    link(tmp_path / "loop_a", "loop_b")
    link(tmp_path / "loop_b", "./loop_a")
    return tmp_path


# resolve


@pytest.mark.parametrize(
    ("path", "real"),
    [
        ("", ""),
        ("f", "f"),
        ("d", "d"),
        ("d/", "d"),
        ("./d/.//g", "d/g"),
        ("d/../f", "f"),
        ("d/e/../../f", "f"),
        ("to_f", "f"),
        ("to_d", "d"),
        ("to_d/g", "d/g"),
        ("to_e/../g", "d/g"),
        ("to_d/up/f", "f"),
        ("d/e/chain", "d/g"),
    ],
)
def test_resolve(tree: Path, path: str, real: str) -> None:
    found = host.resolve(f"{tree}/{path}", OWNERS)
    expected = tree / real
    assert found.path == str(expected)
    assert found.status is not None
    assert os.path.samestat(found.status, expected.lstat())


@pytest.mark.parametrize(
    ("path", "number"),
    [
        ("missing", errno.ENOENT),
        ("d/missing", errno.ENOENT),
        ("missing/..", errno.ENOENT),
        ("dangling", errno.ENOENT),
        ("f/x", errno.ENOTDIR),
        ("f/..", errno.ENOTDIR),
        ("to_f/../d", errno.ENOTDIR),
        ("loop", errno.ELOOP),
        ("loop/x", errno.ELOOP),
        ("loop_a", errno.ELOOP),
        ("x" * 256, errno.ENAMETOOLONG),
    ],
)
def test_resolve_raises(tree: Path, path: str, number: int) -> None:
    with pytest.raises(OSError, match=os.strerror(number)) as caught:
        host.resolve(f"{tree}/{path}", OWNERS)
    assert caught.value.errno == number


def test_resolve_from_the_root() -> None:
    assert host.resolve("/", OWNERS).path == "/"
    assert host.resolve("/..", OWNERS).path == "/"


@pytest.mark.parametrize(("links", "raises"), [(40, False), (41, True)])
def test_resolve_follows_as_many_links_as_the_kernel(tmp_path: Path, links: int, raises: bool) -> None:
    file(tmp_path / "l0")
    for number in range(links):
        link(tmp_path / f"l{number + 1}", f"l{number}")
    path = str(tmp_path / f"l{links}")
    if raises:
        with pytest.raises(OSError, match=os.strerror(errno.ELOOP)):
            host.resolve(path, OWNERS)
    else:
        assert host.resolve(path, OWNERS).path == str(tmp_path / "l0")
    assert os.path.exists(path) != raises


@pytest.mark.parametrize(
    ("path", "real"),
    [
        ("missing", "missing"),
        ("d/e/missing", "d/e/missing"),
        ("to_e/../new", "d/new"),
        ("dangling", "missing"),
    ],
)
def test_the_last_component_may_be_missing(tree: Path, path: str, real: str) -> None:
    assert host.resolve(f"{tree}/{path}", OWNERS, missing_ok=True) == host.Resolved(str(tree / real), None)


@pytest.mark.parametrize("path", ["missing/x", "missing/..", "dangling/x", "dangling_deep", "f/x", "loop"])
def test_another_component_may_not(tree: Path, path: str) -> None:
    with pytest.raises(OSError, match=r"No such|Not a|Too many"):
        host.resolve(f"{tree}/{path}", OWNERS, missing_ok=True)


NAMES = [
    "d",
    "e",
    "f",
    "g",
    "up",
    "to_f",
    "to_d",
    "to_e",
    "chain",
    "dangling",
    "loop",
    "loop_a",
    "x",
    "..",
    ".",
]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(NAMES), max_size=6), st.sampled_from([name for name in NAMES if name != "."]))
def test_resolve_as_the_kernel(tree: Path, parts: list[str], last: str) -> None:
    path = "/".join([str(tree), *parts, last])
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError as error:
        with pytest.raises(OSError, match=os.strerror(error.errno or 0)):
            host.resolve(path, OWNERS)
        return
    try:
        assert host.resolve(path, OWNERS).path == os.readlink(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


@pytest.mark.parametrize(
    ("mode", "trusted"),
    [
        (0o755, True),
        (0o700, True),
        (0o1777, True),
        (0o1775, True),
        (0o775, False),
        (0o757, False),
        (0o2775, False),
    ],
)
def test_resolve_through_a_directory_of_this_mode(tmp_path: Path, mode: int, trusted: bool) -> None:
    inner = directory(tmp_path / "d", mode)
    path = str(file(inner / "f"))
    if trusted:
        assert host.resolve(path, OWNERS).path == path
    else:
        with pytest.raises(UntrustedPath, match="/d can be written by its group or by others"):
            host.resolve(path, OWNERS)


@pytest.mark.parametrize("mode", [0o1777, 0o777, 0o775])
def test_a_new_name_where_others_can_make_it(tmp_path: Path, mode: int) -> None:
    directory(tmp_path / "d", mode)
    link(tmp_path / "to_new", "d/new")
    for path in ("d/new", "to_new"):
        with pytest.raises(UntrustedPath):
            host.resolve(f"{tmp_path}/{path}", OWNERS, missing_ok=True)


def test_resolve_trusts_whom_it_is_told() -> None:
    with pytest.raises(UntrustedPath, match="/ belongs to user"):
        host.resolve("/etc", NO_OWNERS)


@pytest.mark.root
@pytest.mark.parametrize(
    "path", ["his", "his/f", "his/..", "his/../mine", "mine/his_link", "his_link/x", "sticky/his/f"]
)
def test_resolve_through_a_strangers_things(tmp_path: Path, path: str) -> None:
    directory(tmp_path / "his", owner=STRANGER)
    file(tmp_path / "his/f")
    file(directory(tmp_path / "mine") / "f")
    link(tmp_path / "mine/his_link", tmp_path / "mine/f", owner=STRANGER)
    link(tmp_path / "his_link", "mine", owner=STRANGER)
    directory(directory(tmp_path / "sticky", 0o1777) / "his", owner=STRANGER)
    if path == "his":
        # The last component's own owner is the caller's to judge.
        assert host.resolve(f"{tmp_path}/{path}", OWNERS).path == f"{tmp_path}/his"
        return
    with pytest.raises(UntrustedPath, match=f"belongs to user {STRANGER}"):
        host.resolve(f"{tmp_path}/{path}", OWNERS)


# check_owner, resolve_owned, open_owned


@pytest.mark.parametrize(
    ("mode", "sticky_ok", "trusted"),
    [
        (0o755, False, True),
        (0o4755, False, True),
        (0o775, True, False),
        (0o757, True, False),
        (0o1777, True, True),
        (0o1777, False, False),
    ],
)
def test_check_owner(tmp_path: Path, mode: int, sticky_ok: bool, trusted: bool) -> None:
    status = directory(tmp_path / "d", mode).stat()
    if trusted:
        host.check_owner("x", status, OWNERS, sticky_ok=sticky_ok)
        with pytest.raises(UntrustedPath, match=f"x belongs to user {status.st_uid}"):
            host.check_owner("x", status, OWNERS - {status.st_uid}, sticky_ok=sticky_ok)
    else:
        with pytest.raises(UntrustedPath, match="x can be written"):
            host.check_owner("x", status, OWNERS, sticky_ok=sticky_ok)


def test_open_owned(tree: Path) -> None:
    for path in ("f", "to_f", "d/../f"):
        descriptor = owned.open_owned(f"{tree}/{path}", OWNERS)
        try:
            assert os.read(descriptor, 10) == b"f"
            assert not os.get_inheritable(descriptor)
            with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
                os.write(descriptor, b"x")
        finally:
            os.close(descriptor)


@pytest.mark.parametrize(
    "path", ["group", "others", "directory", "fifo", "socket", "/dev/null", "missing", "loop"]
)
def test_open_owned_refuses(tmp_path: Path, path: str) -> None:
    file(tmp_path / "group", mode=0o664)
    file(tmp_path / "others", mode=0o646)
    directory(tmp_path / "directory")
    os.mkfifo(tmp_path / "fifo", 0o600)
    link(tmp_path / "loop", "loop")
    with socket.socket(socket.AF_UNIX) as server:
        # By a short name: that of the temporary directory may be longer than sun_path.
        here = os.open(tmp_path, os.O_PATH | os.O_CLOEXEC)
        server.bind(f"/proc/self/fd/{here}/socket")
        os.close(here)
        with pytest.raises((UntrustedPath, OSError)):
            owned.open_owned(str(tmp_path / path), OWNERS)


@pytest.mark.root
@pytest.mark.parametrize("path", ["his", "his_link", "his_dir/f"])
def test_owned_refuses_what_a_stranger_owns(tmp_path: Path, path: str) -> None:
    file(tmp_path / "mine")
    file(tmp_path / "his", owner=STRANGER)
    link(tmp_path / "his_link", "mine", owner=STRANGER)
    file(directory(tmp_path / "his_dir", owner=STRANGER) / "f")
    for call in (owned.open_owned, host.resolve_owned):
        with pytest.raises(UntrustedPath, match=f"belongs to user {STRANGER}"):
            call(str(tmp_path / path), OWNERS)


# find_executable


@pytest.fixture
def programs(tmp_path: Path) -> tuple[str, str]:
    """Two directories of programs: in the first most cannot be run."""
    first, second = directory(tmp_path / "first"), directory(tmp_path / "second")
    for name in ("text", "directory", "writable", "both", "only_second"):
        program(second / name)
    program(first / "both")
    file(first / "text", mode=0o644)
    directory(first / "directory")
    program(first / "writable", mode=0o777)
    program(first / "only_writable", mode=0o775)
    file(first / "only_text", mode=0o644)
    link(first / "linked", "both")
    return str(first), str(second)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("both", "first/both"),
        ("linked", "first/linked"),
        ("only_second", "second/only_second"),
        ("text", "second/text"),
        ("directory", "second/directory"),
        ("writable", "second/writable"),
    ],
)
def test_find_executable(tmp_path: Path, programs: tuple[str, str], name: str, found: str) -> None:
    path = tmp_path / found
    status = path.stat()
    expected = executables.Executable(str(path), status.st_dev, status.st_ino)
    assert executables.find_executable(name, ("/nonexistent", *programs), OWNERS) == expected
    assert executables.find_executable(str(path), (), OWNERS) == expected


@pytest.mark.parametrize(("mode", "found"), [(0o744, True), (0o654, True), (0o645, True), (0o644, False)])
def test_who_may_execute_a_program(tmp_path: Path, mode: int, found: bool) -> None:
    """Anybody: whether the user of a command is among them, the kernel says."""
    path = str(program(tmp_path / "tool", mode=mode))
    if found:
        assert executables.find_executable(path, (), OWNERS).path == path
    else:
        with pytest.raises(FileNotFoundError):
            executables.find_executable(path, (), OWNERS)


@pytest.mark.parametrize(
    ("name", "raises"),
    [
        ("missing", FileNotFoundError),
        ("only_text", FileNotFoundError),
        ("only_writable", UntrustedPath),
        ("{first}/missing", FileNotFoundError),
        ("{first}/text", FileNotFoundError),
        ("{first}/directory", FileNotFoundError),
        ("{first}/writable", UntrustedPath),
    ],
)
def test_find_executable_raises(programs: tuple[str, str], name: str, raises: type[Exception]) -> None:
    with pytest.raises(raises):
        executables.find_executable(name.format(first=programs[0]), programs, OWNERS)


def test_a_host_that_does_not_answer_has_not_said_that_there_is_no_program(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(path: str, *_: object) -> None:
        raise OSError(errno.EMFILE if path == "/b/x" else errno.EACCES, path)

    monkeypatch.setattr(host, "resolve_owned", fails)
    with pytest.raises(OSError, match="/b/x") as raised:
        executables.search("x", ("/a", "/b", "/c"), OWNERS, host.Seen())
    assert raised.value.errno == errno.EMFILE


@pytest.mark.root
@pytest.mark.parametrize("owner", [STRANGER, 1])
def test_find_executable_of_a_stranger(programs: tuple[str, str], owner: int) -> None:
    os.chown(f"{programs[0]}/both", owner, 0)
    assert executables.find_executable("both", programs, OWNERS).path == f"{programs[1]}/both"
    os.chown(programs[1], owner, 0)
    with pytest.raises(UntrustedPath):
        executables.find_executable("both", programs, OWNERS)


# Users


def test_identity() -> None:
    root = pwd.getpwuid(0)
    found = users.identity(root.pw_name)
    assert (found.name, found.uid, found.gid, found.home) == (root.pw_name, 0, root.pw_gid, root.pw_dir)
    assert root.pw_gid in found.groups
    assert found.is_current == (os.geteuid() == 0 and os.getegid() == root.pw_gid)
    with pytest.raises(KeyError):
        users.identity("no-such-user")


@pytest.mark.parametrize(("uid", "gid", "current"), [(0, 0, True), (1, 0, False), (0, 1, False)])
def test_is_current(uid: int, gid: int, current: bool) -> None:
    one = host.Identity("x", os.geteuid() + uid, os.getegid() + gid, (), "/")
    assert one.is_current == current


@pytest.mark.parametrize("look_up", [host.user_number, host.group_number])
@pytest.mark.parametrize(
    ("text", "number"),
    [
        *[("0", 0), ("4711", 4711), ("4294967294", 4294967294), ("root", 0)],
        *[
            (text, None)
            for text in ("", "-1", "+1", " 0", "0 ", "0x0", "00", "01", "1_0", "\u0661", "#0", "no-such")
        ],
        *[("4294967295", None), ("4294967296", None), ("99999999999", None)],
    ],
)
def test_numbers(look_up: type, text: str, number: int | None) -> None:
    if number is None:
        with pytest.raises(KeyError):
            look_up(text)
    else:
        assert look_up(text) == number


def test_base_owners() -> None:
    owners = host.base_owners()
    assert {0, os.geteuid()} <= owners
    overflow = int(Path("/proc/sys/kernel/overflowuid").read_text())
    assert host.overflow_uid() == overflow
    initial = Path("/proc/self/uid_map").read_text().split() == ["0", "0", "4294967295"]
    assert host.in_user_namespace() != initial
    assert (overflow in owners) == (not initial or os.geteuid() == overflow)


# Processes


def sleep_program() -> executables.Executable:
    return executables.find_executable("sleep", EXEC_DIRS, OWNERS)


def test_runs_program(tmp_path: Path, start_sleeper: StartSleeper) -> None:
    pid = start_sleeper()
    assert executables.runs_program(pid, sleep_program(), OWNERS)
    linked = link(tmp_path / "linked", sleep_program().path)
    assert executables.runs_program(pid, executables.find_executable(str(linked), (), OWNERS), OWNERS)
    # The same bytes are not the same program.
    copy = program(tmp_path / "sleep")
    assert not executables.runs_program(pid, executables.find_executable(str(copy), (), OWNERS), OWNERS)
    assert not executables.runs_program(2**31 - 1, sleep_program(), OWNERS)


def _upgrade(path: Path) -> executables.Executable:
    """A new file at `path`, as a package manager puts it there."""
    os.replace(program(path.with_name("new")), path)
    return executables.find_executable(str(path), (), OWNERS)


def test_runs_a_program_that_was_upgraded(tmp_path: Path, start_sleeper: StartSleeper) -> None:
    path = program(tmp_path / "prog")
    pid = start_sleeper(str(path))
    new = _upgrade(path)
    assert os.readlink(f"/proc/{pid}/exe") == f"{path} (deleted)"
    assert executables.runs_program(pid, new, OWNERS)
    assert not executables.runs_program(pid, new, NO_OWNERS)
    # By a link too, but not at another path.
    linked = executables.find_executable(str(link(tmp_path / "linked", path)), (), OWNERS)
    assert executables.runs_program(pid, linked, OWNERS)
    other = executables.find_executable(str(program(tmp_path / "other")), (), OWNERS)
    assert not executables.runs_program(pid, other, OWNERS)


def test_a_program_really_called_deleted(tmp_path: Path, start_sleeper: StartSleeper) -> None:
    path = program(tmp_path / "prog")
    pid = start_sleeper(str(program(tmp_path / "prog (deleted)")))
    assert not executables.runs_program(pid, executables.find_executable(str(path), (), OWNERS), OWNERS)


def test_a_program_moved_away(tmp_path: Path, start_sleeper: StartSleeper) -> None:
    """It has a name still: it was not what an upgrade replaces."""
    path = program(tmp_path / "prog")
    os.link(path, tmp_path / "kept")
    pid = start_sleeper(str(path))
    new = _upgrade(path)
    assert not executables.runs_program(pid, new, OWNERS)


@pytest.mark.root
def test_a_strangers_program_that_was_deleted(tmp_path: Path, start_sleeper: StartSleeper) -> None:
    path = program(tmp_path / "prog", owner=STRANGER)
    pid = start_sleeper(str(path))
    assert not executables.runs_program(pid, _upgrade(path), OWNERS)


def test_process_user() -> None:
    assert host.process_user(os.getpid()) == os.getresuid()
    with pytest.raises(FileNotFoundError):
        host.process_user(2**31 - 1)


@pytest.mark.root
def test_process_user_of_another(start_sleeper: StartSleeper) -> None:
    assert host.process_user(start_sleeper(user=STRANGER)) == (STRANGER,) * 3


def test_ancestors(start_sleeper: StartSleeper) -> None:
    found = host.ancestors()
    assert {1, os.getpid(), os.getppid()} <= found
    assert start_sleeper() not in found


def test_ancestors_with_a_strange_name() -> None:
    """A name can look like the fields that follow it (proc_pid_stat(5))."""
    child = "from rootwrap_daemon.policy import host; print(*host.ancestors())"
    parent = f"""
import os, subprocess, sys
open("/proc/self/comm", "w").write("x) R 1 (")
subprocess.run([sys.executable, "-c", {child!r}], check=True)
print(os.getpid())
"""
    done = subprocess.run(
        [sys.executable, "-c", parent], cwd=ROOT, capture_output=True, text=True, check=True
    )
    found, parent_pid = (set(map(int, line.split())) for line in done.stdout.splitlines())
    assert parent_pid <= found
    assert {1, os.getpid(), os.getppid()} <= found


def test_nothing_is_asked_of_the_parent_of_pid_1(monkeypatch: pytest.MonkeyPatch) -> None:
    """/proc may hide it from who is not root: proc(5), hidepid."""
    monkeypatch.setattr(host, "_parent", {7: 5, 5: 1, os.getppid(): 5}.__getitem__)
    assert host.is_descendant(7) is False and host.is_descendant(1) is False
    assert host.ancestors() == {os.getpid(), os.getppid(), 5, 1}
    monkeypatch.setattr(host, "_parent", {7: 5, 5: os.getpid()}.__getitem__)
    assert host.is_descendant(7) is True and host.is_descendant(5) is True


def test_a_process_that_says_nothing_of_its_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "open", lambda path, mode: io.BytesIO(b"Name:\tUid:\n"), raising=False)
    with pytest.raises(ProcessLookupError):
        host.process_user(7)


@pytest.mark.parametrize(
    ("mode", "uid", "fixed", "sticky"),
    [
        (0o755, 0, True, False),
        (0o755, 7, False, False),
        (0o775, 0, False, False),
        (0o757, 0, False, False),
        (0o1777, 0, False, True),
        (0o1777, 7, False, False),
        (0o1755, 0, True, True),
        (0o6711, 0, True, False),
        (0o000, 0, True, False),
    ],
)
def test_who_can_change_a_directory(mode: int, uid: int, fixed: bool, sticky: bool) -> None:
    status = os.stat_result((stat.S_IFDIR | mode, 1, 1, 2, uid, 0, 0, 0, 0, 0))
    assert places.is_fixed(status, frozenset({0})) is fixed
    assert places.is_sticky(status, frozenset({0})) is sticky


def test_a_directory_is_no_program(tmp_path: Path) -> None:
    for path in (tmp_path, directory(tmp_path / "x")):
        assert executables._executable(host.Resolved(str(path), path.stat()), host.Seen()) is None
    assert executables._executable(host.Resolved("/x", None), host.Seen()) is None


@pytest.mark.parametrize("inside", [True, False])
def test_whom_a_user_namespace_does_not_have(monkeypatch: pytest.MonkeyPatch, inside: bool) -> None:
    monkeypatch.setattr(host, "in_user_namespace", lambda: inside)
    monkeypatch.setattr(host, "overflow_uid", lambda: 4711)
    assert host.unmapped_uid.__wrapped__() == (4711 if inside else None)
    assert host.base_owners(7) == ({0, 7, 4711} if inside else {0, 7})
    assert os.geteuid() in host.base_owners()


@pytest.mark.parametrize(
    ("text", "inside"),
    [
        ("         0          0 4294967295\n", False),
        ("0 1000 1\n", True),
        ("0 0 65536\n", True),
        ("0 0 65536\n65536 65536 4294901759\n", True),
    ],
)
def test_the_initial_user_namespace_has_all_numbers(
    monkeypatch: pytest.MonkeyPatch, text: str, inside: bool
) -> None:
    def opened(path: str, encoding: str) -> io.StringIO:
        assert path == "/proc/self/uid_map"
        return io.StringIO(text)

    monkeypatch.setattr(host, "open", opened, raising=False)
    assert host.in_user_namespace() is inside
