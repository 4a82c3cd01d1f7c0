"""policy/read/files.py: which files are read, in which order, and whose; everything else is a finding."""

import os
import pwd
from pathlib import Path

import pytest

from rootwrap_daemon.filters.finding import Severity
from rootwrap_daemon.policy import host
from rootwrap_daemon.policy.read import files, users
from rootwrap_daemon.settings import MAX_FILE
from tests.unit.policy.things import OWNERS, STRANGER, directory, file, link

ME = pwd.getpwuid(os.geteuid()).pw_name
LS = f"[Filters]\nls: CommandFilter, ls, {ME}\n"


def names(loaded: files.Loaded) -> list[str]:
    return [one.name for one in loaded.filters]


def named(name: str) -> str:
    return LS.replace("ls:", f"{name}:")


def findings(loaded: files.Loaded) -> list[tuple[str, str]]:
    return [(finding.severity.value, str(finding)) for finding in loaded.findings]


def test_only_filter_files_and_in_order(tmp_path: Path) -> None:
    for name in ("b.filters", "a.filters", "B.filters", "10.filters", "9.filters"):
        file(tmp_path / name, named(name[:-8]))
    for name in (
        "x~",
        "x.filters~",
        ".x.filters",
        "x.filters.bak",
        "x.filters.rpmsave",
        "x.filter",
        "filters",
        "x",
    ):
        # They are not even opened.
        file(tmp_path / name, "not a filter file", mode=0o666)
    os.mkfifo(tmp_path / "x.fifo")
    directory(tmp_path / "sub")
    loaded = files.load([str(tmp_path)], OWNERS, None)
    assert names(loaded) == ["10", "9", "B", "a", "b"]
    assert not [finding for finding in loaded.findings if finding.severity is Severity.ERROR]
    assert str(loaded.filters[0].location) == f"{tmp_path}/10.filters:2:1"


def test_the_order_of_directories(tmp_path: Path) -> None:
    for name in ("z", "a"):
        file(directory(tmp_path / name) / "x.filters", named(name))
    assert names(files.load([f"{tmp_path}/z", f"{tmp_path}/a"], OWNERS, None)) == ["z", "a"]
    assert names(files.load([f"{tmp_path}/a", f"{tmp_path}/z"], OWNERS, None)) == ["a", "z"]


def test_no_directory(tmp_path: Path) -> None:
    """A typing error must not take all rules away; one directory of several may be missing."""
    what = "no such directory: make it, or take it out of filters_path"
    loaded = files.load([f"{tmp_path}/missing"], OWNERS, None)
    assert findings(loaded) == [("error", f"{tmp_path}/missing:1:1: error: {what}")]
    loaded = files.load([f"{tmp_path}/missing", str(tmp_path)], OWNERS, None)
    assert findings(loaded) == [("warning", f"{tmp_path}/missing:1:1: warning: {what}")]


def test_links_of_trusted_owners_are_followed(tmp_path: Path) -> None:
    file(directory(tmp_path / "real") / "f", LS)
    link(tmp_path / "real/x.filters", "f")
    link(tmp_path / "alias", "real")
    loaded = files.load([f"{tmp_path}/alias"], OWNERS, None)
    assert names(loaded) == ["ls"]
    assert loaded.filters[0].location.file == f"{tmp_path}/real/x.filters"


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("group", "can be written by its group or by others"),
        ("others", "can be written by its group or by others"),
        ("directory", "is not a regular file"),
        ("fifo", "is not a regular file"),
        ("dangling", "No such file"),
        ("loop", "a link where none may be"),
    ],
)
def test_a_file_refused(tmp_path: Path, name: str, what: str) -> None:
    things = directory(tmp_path / "d")
    path = things / f"{name}.filters"
    match name:
        case "group":
            file(path, LS, mode=0o664)
        case "others":
            file(path, LS, mode=0o606)
        case "directory":
            directory(path)
        case "fifo":
            os.mkfifo(path, 0o600)
        case _:
            link(path, "missing" if name == "dangling" else path)
    file(things / "z.filters", LS)
    loaded = files.load([str(things)], OWNERS, None)
    ((severity, text),) = findings(loaded)
    assert severity == "error"
    assert text.startswith(f"{path}:1:1: ")
    assert what in text
    assert names(loaded) == ["ls"]


@pytest.mark.parametrize("mode", [0o777, 0o775, 0o1777])
@pytest.mark.parametrize("parent", [False, True])
def test_a_directory_refused(tmp_path: Path, mode: int, parent: bool) -> None:
    things = directory(directory(tmp_path / "p") / "d")
    file(things / "x.filters", LS)
    (things.parent if parent else things).chmod(mode)
    loaded = files.load([str(things)], OWNERS, None)
    if parent and mode == 0o1777:
        # There nobody can put another directory in its place.
        assert names(loaded) == ["ls"]
        return
    ((severity, text),) = findings(loaded)
    assert severity == "error"
    assert text.startswith(f"{things}:1:1: ")
    assert "can be written" in text
    assert not loaded.filters


def test_a_file_instead_of_a_directory(tmp_path: Path) -> None:
    loaded = files.load([str(file(tmp_path / "f", LS))], OWNERS, None)
    ((severity, text),) = findings(loaded)
    assert (severity, loaded.filters) == ("error", [])
    assert "Not a directory" in text


@pytest.mark.root
@pytest.mark.parametrize("what", ["file", "directory", "parent", "link"])
def test_a_strangers_things_refused(tmp_path: Path, what: str) -> None:
    things = directory(directory(tmp_path / "parent") / "directory")
    path = file(things / "x.filters", LS)
    if what == "link":
        path = link(things / "y.filters", "x.filters")
    os.lchown({"directory": things, "parent": things.parent}.get(what, path), STRANGER, 0)
    loaded = files.load([str(things)], OWNERS, None)
    ((severity, text),) = findings(loaded)
    assert severity == "error"
    assert f"belongs to user {STRANGER}" in text
    assert names(loaded) == (["ls"] if what == "link" else [])


@pytest.mark.parametrize(
    ("data", "place"),
    [
        (b"\xff", "1:1"),
        (b"[Filters]\nls: CommandFilter, \xe9ls, root\n", "2:20"),
        ("[Filters]\n# ä\n# ö".encode() + b"\x80", "3:5"),
        (b"[Filters]\n\xed\xa0\x80", "2:1"),
        (b"\xff\xfe[\0F\0", "1:1"),
    ],
)
def test_not_utf8(tmp_path: Path, data: bytes, place: str) -> None:
    (tmp_path / "x.filters").write_bytes(data)
    (tmp_path / "x.filters").chmod(0o644)
    loaded = files.load([str(tmp_path)], OWNERS, None)
    ((severity, text),) = findings(loaded)
    assert severity == "error"
    assert text.startswith(f"{tmp_path}/x.filters:{place}: error: not UTF-8")
    assert not loaded.filters


@pytest.mark.parametrize(("more", "read"), [(0, True), (1, False)])
def test_a_file_too_long(tmp_path: Path, more: int, read: bool) -> None:
    file(tmp_path / "x.filters", LS + "#" * (MAX_FILE - len(LS) + more))
    loaded = files.load([str(tmp_path)], OWNERS, None)
    assert names(loaded) == (["ls"] if read else [])
    assert bool(loaded.findings) != read


def test_an_unknown_user(tmp_path: Path) -> None:
    file(tmp_path / "x.filters", LS + "a: CommandFilter, ls, no-such-user\n")
    loaded = files.load([str(tmp_path)], OWNERS, None)
    (finding,) = loaded.findings
    assert finding.severity is Severity.ERROR
    assert finding.filters == {"a"}
    assert str(finding).startswith(f"{tmp_path}/x.filters:3:1: error: no user 'no-such-user' here")
    assert names(loaded) == ["ls"]
    assert set(loaded.identities) == {(ME, None)}


@pytest.mark.root
def test_users_are_looked_up_at_load(tmp_path: Path) -> None:
    file(tmp_path / "x.filters", LS + "a: CommandFilter, ls, daemon\n")
    loaded = files.load([str(tmp_path)], OWNERS, None)
    assert names(loaded) == ["ls", "a"]
    assert loaded.identities["daemon", None].uid == pwd.getpwnam("daemon").pw_uid


@pytest.mark.root
@pytest.mark.parametrize(
    ("user", "options", "what"),
    [
        ("nobody", "capabilities = CAP_NET_RAW", "capabilities of another user"),
        (
            "nobody",
            "ambient = CAP_NET_RAW, CAP_CHOWN\ncapabilities = CAP_NET_RAW",
            "not in capabilities: CAP_CHOWN",
        ),
        ("nobody", "ambient = NET_RAW", "no capability 'NET_RAW'"),
        ("root", "ambient = CAP_NET_RAW", "ambient capabilities of root"),
        ("nobody", "ambient = CAP_SYS_TIME", "gives up CAP_SYS_TIME"),
        ("nobody", "ambient = CAP_NET_RAW", ""),
        ("nobody", "ambient = none", ""),
        ("nobody", "ambient = CAP_NET_RAW\ncapabilities = CAP_NET_RAW, CAP_CHOWN", ""),
    ],
)
def test_capabilities_of_a_user(tmp_path: Path, user: str, options: str, what: str) -> None:
    file(tmp_path / "x.filters", f"[Filters]\nls: CommandFilter, ls, {user}\n[ls]\n{options}\n")
    kept = frozenset(("CAP_NET_RAW", "CAP_CHOWN", "CAP_SETPCAP", "CAP_SETUID", "CAP_SETGID", "CAP_KILL"))
    loaded = files.load([str(tmp_path)], OWNERS, kept)
    assert [what in text for _, text in findings(loaded)] == ([True] if what else [])
    assert bool(names(loaded)) != bool(what)


@pytest.mark.root
@pytest.mark.parametrize(
    ("line", "options", "kept", "lacking"),
    [
        ("CommandFilter, ls, root", "", "", ""),
        ("CommandFilter, ls, nobody", "", "", "CAP_KILL, CAP_SETGID, CAP_SETUID"),
        ("CommandFilter, ls, nobody", "ambient = none", "CAP_KILL CAP_SETGID CAP_SETUID", "CAP_SETPCAP"),
        (
            "CommandFilter, ls, nobody",
            "ambient = CAP_CHOWN",
            "CAP_KILL CAP_SETGID CAP_SETUID CAP_SETPCAP",
            "CAP_CHOWN",
        ),
        (
            "CommandFilter, ls, nobody",
            "ambient = CAP_CHOWN\ncapabilities = CAP_CHOWN, CAP_KILL",
            "CAP_CHOWN CAP_KILL CAP_SETGID CAP_SETUID",
            "CAP_SETPCAP",
        ),
        ("CommandFilter, ls, root", "capabilities = CAP_CHOWN", "CAP_CHOWN CAP_KILL", "CAP_SETPCAP"),
        # There is nothing to take away.
        ("CommandFilter, ls, root", "capabilities = CAP_CHOWN, CAP_KILL", "CAP_CHOWN CAP_KILL", ""),
        ("CommandFilter, ls, root", "capabilities = none", "", ""),
        ("KillFilter, root, sleep, -9", "", "", "CAP_KILL, CAP_SYS_PTRACE"),
        ("ArgvFilter, ls, root, {pid=/usr/bin/sleep}", "", "", "CAP_KILL, CAP_SYS_PTRACE"),
        ("ArgvFilter, ls, root, {int}", "", "", ""),
    ],
)
def test_capabilities_that_the_daemon_itself_needs(
    tmp_path: Path, line: str, options: str, kept: str, lacking: str
) -> None:
    file(tmp_path / "x.filters", f"[Filters]\nx: {line}\n[x]\n{options}\n")
    loaded = files.load([str(tmp_path)], OWNERS, frozenset(kept.split()))
    said = [text for _, text in findings(loaded)]
    assert [f"the daemon gives up {lacking}, which this needs" in one for one in said] == [True] * bool(
        lacking
    )
    assert bool(loaded.filters) is not bool(lacking)


@pytest.mark.skipif(os.geteuid() == 0, reason="only where not everybody can be become")
def test_a_user_that_cannot_be_become(tmp_path: Path) -> None:
    file(tmp_path / "x.filters", LS.replace(ME, "root"))
    loaded = files.load([str(tmp_path)], OWNERS, None)
    assert not loaded.filters
    assert "only root can run commands as root" in str(loaded.findings[0])


def test_findings_inside_files(tmp_path: Path) -> None:
    file(tmp_path / "a.filters", "[Filters]\nx: CommandFilter, ls\n")
    file(tmp_path / "b.filters", LS)
    file(tmp_path / "c.filters", "ls: X\n")
    loaded = files.load([str(tmp_path)], OWNERS, None)
    assert [finding.location.file for finding in loaded.findings] == [
        f"{tmp_path}/a.filters",
        f"{tmp_path}/c.filters",
    ]
    assert names(loaded) == ["ls"]


def test_a_section_in_another_file_than_its_filter(tmp_path: Path) -> None:
    """The options are not the filter's, and without what restricts it, it is not used either."""
    file(tmp_path / "a.filters", LS + named("cat").partition("\n")[2])
    file(tmp_path / "b.filters", f"[Filters]\ntrue: CommandFilter, true, {ME}\n[LS]\nstdin = no\n")
    file(tmp_path / "c.filters", LS)
    loaded = files.load([str(tmp_path)], OWNERS, None)
    assert names(loaded) == ["cat"]
    (error,) = [text for severity, text in findings(loaded) if severity == "error"]
    assert error.startswith(f"{tmp_path}/b.filters:3:1: error: [LS] is not the name of a filter in this file")


@pytest.mark.root
def test_whose_a_directory_may_be_is_told(tmp_path: Path) -> None:
    directory(tmp_path / "d", owner=STRANGER)
    ((_, text),) = findings(files.load([f"{tmp_path}/d"], OWNERS, None))
    assert f"belongs to user {STRANGER}: give it to root or one of trusted_owners" in text


def test_who_is_not_mapped_gets_no_signal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command may run as whoever it is; whose a process is cannot be told of it."""
    monkeypatch.setattr(host, "in_user_namespace", lambda: True)
    monkeypatch.setattr(host, "overflow_uid", os.geteuid)
    for line, options, told in (
        (f"CommandFilter, sleep, {ME}", "", False),
        (f"KillFilter, {ME}, sleep, -9", "", True),
        (f"KillFilter, {ME}, sleep, -9", f"target_user = {ME}", True),
    ):
        file(tmp_path / "x.filters", f"[Filters]\nx: {line}\n[x]\n{options}\n")
        loaded = files.load([str(tmp_path)], OWNERS, None)
        assert (len(loaded.filters) == 0) is told, findings(loaded)
        assert any("does not map" in text for _, text in findings(loaded)) is told, findings(loaded)


@pytest.mark.root
@pytest.mark.parametrize(
    ("home", "option", "told"),
    [
        ("own", "no_new_privs = no", True),
        ("own", "group = root", True),
        ("own", "ambient = CAP_CHOWN", True),
        ("own", "", False),
        ("ours", "no_new_privs = no", False),
        ("missing", "no_new_privs = no", False),
        ("own/../ours", "no_new_privs = no", True),
    ],
)
def test_a_home_that_others_fill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: str, option: str, told: bool
) -> None:
    directory(tmp_path / "own", owner=STRANGER)
    directory(tmp_path / "ours")
    other = host.Identity("other", STRANGER, STRANGER, (STRANGER,), f"{tmp_path}/{home}")
    monkeypatch.setattr(users, "identity", lambda name, group=None: other)
    file(tmp_path / "x.filters", f"[Filters]\nx: CommandFilter, ls, other\n[x]\n{option}\n")
    loaded = files.load([str(tmp_path)], OWNERS, None)
    what = f"others can change {tmp_path}/{home}, and the command has more rights than other"
    told_of = [(one.code, one.severity, one.what) for one in loaded.findings if one.code != "misnamed"]
    assert told_of == [("home", Severity.WARNING, what)] * told
    assert len(loaded.filters) == 1


def test_whose_processes_are_not_mapped_are_not_signalled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "in_user_namespace", lambda: True)
    monkeypatch.setattr(host, "overflow_uid", lambda: pwd.getpwnam("nobody").pw_uid)
    monkeypatch.setattr(host, "overflow_gid", lambda: 4711)
    for user, told in (("nobody", True), (ME, False)):
        file(
            tmp_path / "x.filters", f"[Filters]\nx: KillFilter, {ME}, sleep, -9\n[x]\ntarget_user = {user}\n"
        )
        loaded = files.load([str(tmp_path)], OWNERS, None)
        assert any("target_user: nobody is whoever" in text for _, text in findings(loaded)) is told
