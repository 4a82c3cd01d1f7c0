"""policy/read/files.py: what filters need of capabilities(7) and mounts, and what is said of this host."""

import errno
import io
import os
from pathlib import Path

import pytest

from rootwrap_daemon.filters.finding import Location, Severity
from rootwrap_daemon.filters.read.fault import Fault
from rootwrap_daemon.filters.values import Options
from rootwrap_daemon.policy import bind, host
from rootwrap_daemon.policy.read import files
from tests.unit.policy.things import OWNERS, STRANGER, directory, file

A, B = "CAP_CHOWN", "CAP_KILL"


@pytest.mark.parametrize(
    ("uid", "capabilities", "ambient", "what"),
    [
        (0, None, None, ""),
        (0, (A,), None, ""),
        (0, (), None, ""),
        (1, None, None, ""),
        (1, (A,), None, "capabilities of another user than root"),
        (1, (), None, "capabilities of another user than root"),
        (0, None, (A,), "ambient capabilities of root"),
        (0, (A,), (A,), "ambient capabilities of root"),
        (0, None, (), "ambient capabilities of root"),
        (1, None, (A,), ""),
        (1, (A, B), (A,), ""),
        (1, (A,), (A,), ""),
        (1, (A,), (A, B), f"ambient, and not in capabilities: {B}"),
        (1, (), (B, A), f"ambient, and not in capabilities: {A}, {B}"),
    ],
)
def test_whose_capabilities_they_are(
    uid: int, capabilities: tuple[str, ...] | None, ambient: tuple[str, ...] | None, what: str
) -> None:
    def made(names: tuple[str, ...] | None) -> frozenset[str] | None:
        return None if names is None else frozenset(names)

    options = Options(capabilities=made(capabilities), ambient=made(ambient))
    identity = host.Identity("x", uid, uid, (), "/")
    if not what:
        files._check_capabilities(options, identity)
    else:
        with pytest.raises(Fault) as caught:
            files._check_capabilities(options, identity)
        assert (caught.value.code, caught.value.what) == ("unusable", what)


@pytest.mark.parametrize(
    ("uid", "options", "silent", "own", "trusted"),
    [
        (0, Options(), False, False, False),
        (1, Options(), True, True, True),
        (0, Options(no_new_privs=True), True, False, False),
        (1, Options(no_new_privs=False), False, False, False),
        (1, Options(no_new_privs=True), True, True, True),
        (1, Options(group="x"), True, True, False),
        (1, Options(ambient=frozenset()), True, False, False),
        (0, Options(group="x"), False, False, False),
    ],
)
def test_whose_rights_a_command_has(
    uid: int, options: Options, silent: bool, own: bool, trusted: bool
) -> None:
    identity = host.Identity("x", uid, uid, (), "/")
    assert bind._no_new_privs(identity, options) is silent
    assert bind.has_own_rights(identity, options) is own
    assert bind.trusted_by(identity, options, frozenset({7})) == ({7, uid} if trusted else {7})


def test_numbers_of_capabilities() -> None:
    assert bind._numbers(None) is None
    assert bind._numbers(frozenset()) == frozenset()
    assert bind._numbers(frozenset(("CAP_CHOWN", "CAP_KILL", "CAP_SYS_ADMIN"))) == frozenset((0, 5, 21))


@pytest.mark.parametrize(
    ("text", "allows"),
    [
        (b"user_allow_other\n", True),
        (b"mount_max = 5\n \tuser_allow_other # all\n", True),
        (b"user_allow_other", True),
        (b"#user_allow_other\n", False),
        (b"user_allow_others\n", False),
        (b"", False),
    ],
)
def test_file_systems_for_others(monkeypatch: pytest.MonkeyPatch, text: bytes, allows: bool) -> None:
    def opened(path: str, mode: str) -> io.BytesIO:
        assert (path, mode) == ("/etc/fuse.conf", "rb")
        return io.BytesIO(text)

    monkeypatch.setattr(files, "open", opened, raising=False)
    assert files._served_problem() == ("user_allow_other is set in /etc/fuse.conf" if allows else None)


@pytest.mark.parametrize(
    ("number", "problem"),
    [(errno.ENOENT, None), (errno.EACCES, f"/etc/fuse.conf cannot be read: {os.strerror(errno.EACCES)}")],
)
def test_no_file_about_file_systems(
    monkeypatch: pytest.MonkeyPatch, number: int, problem: str | None
) -> None:
    def opened(path: str, mode: str) -> io.BytesIO:
        raise OSError(number, os.strerror(number), path)

    monkeypatch.setattr(files, "open", opened, raising=False)
    assert files._served_problem() == problem


@pytest.mark.parametrize(
    ("bits", "may"),
    [
        (b"0000000000200000", True),
        (b"000001ffffffffff", True),
        (b"000001ffffdfffff", False),
        (b"0000000000400000", False),
        (b"0000000000100000", False),
        (b"0000000000000001", False),
        (b"0000000000000000", False),
    ],
)
def test_who_may_mount(monkeypatch: pytest.MonkeyPatch, bits: bytes, may: bool) -> None:
    text = b"Name:\tx\nCapPrm:\t000001ffffffffff\nCapEff:\t" + bits + b"\nCapBnd:\t000001ffffffffff\n"
    monkeypatch.setattr(files, "open", lambda path, mode: io.BytesIO(text), raising=False)
    assert files._can_mount() is may


@pytest.mark.parametrize(
    ("as_root", "can_mount", "kept", "other", "why"),
    [
        (None, True, None, None, None),
        (None, False, None, None, "the daemon has no CAP_SYS_ADMIN"),
        (True, False, None, None, None),
        (False, False, None, None, None),
        (None, True, {"CAP_SYS_ADMIN"}, None, None),
        (None, True, {"CAP_KILL"}, None, "the daemon has no CAP_SYS_ADMIN"),
        (True, True, set(), None, "the daemon has no CAP_SYS_ADMIN"),
        (None, True, None, "another", "another"),
        (True, True, {"CAP_SYS_ADMIN"}, "another", "another"),
    ],
)
def test_why_no_command_may_have_a_place(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    as_root: bool | None,
    can_mount: bool,
    kept: set[str] | None,
    other: str | None,
    why: str | None,
) -> None:
    monkeypatch.setattr(files, "_can_mount", lambda: can_mount)
    for first in (True, False):
        monkeypatch.setattr(files, "_hard_links_problem", lambda first=first: other if first else None)
        monkeypatch.setattr(files, "_served_problem", lambda first=first: None if first else other)
        given = None if kept is None else frozenset(kept)
        assert files.load([str(tmp_path)], OWNERS, given, as_root=as_root).no_places == why


@pytest.mark.root
def test_only_root_runs_commands_as_others(tmp_path: Path) -> None:
    path = file(
        tmp_path / "x.filters", "[Filters]\na: CommandFilter, true, nobody\nb: CommandFilter, true, root\n"
    )
    loaded = files.load([str(tmp_path)], OWNERS, None, as_root=False)
    assert [one.name for one in loaded.filters] == ["b"]
    (finding,) = loaded.findings
    assert (finding.location, finding.what) == (
        Location(str(path), 2, 1),
        "only root can run commands as nobody",
    )
    assert [one.name for one in files.load([str(tmp_path)], OWNERS, None, as_root=True).filters] == ["a", "b"]


def test_the_words_of_an_error() -> None:
    for error, text in (
        (OSError(errno.ELOOP, "x"), "a link where none may be"),
        (OSError(errno.EACCES, "x"), os.strerror(errno.EACCES)),
        (OSError("without a number"), "without a number"),
        (host.UntrustedPath("theirs"), "theirs"),
    ):
        assert files._text(error) == text


def test_where_a_finding_is(tmp_path: Path) -> None:
    loaded = files.Loaded()
    files._add(loaded, Severity.WARNING, "/x", Fault("file", "b", "c"), "name")
    there = Location("/y", 4, 5)
    files._add(loaded, Severity.ERROR, "/x", Fault("file", "b", "c", there))
    first, second = loaded.findings
    assert (first.location, first.severity, first.filters) == (
        Location("/x", 1, 1),
        Severity.WARNING,
        frozenset({"name"}),
    )
    assert (second.location, second.severity, second.filters) == (there, Severity.ERROR, frozenset())


@pytest.mark.parametrize(
    ("data", "line", "column"),
    [(b"\xff", 1, 1), (b"a\xff", 1, 2), (b"\xff\n", 1, 1), (b"a\n\xff", 2, 1), (b"a\nbc\n\n12\xff", 4, 3)],
)
def test_where_a_file_is_not_utf_8(tmp_path: Path, data: bytes, line: int, column: int) -> None:
    path = directory(tmp_path / "d") / "x.filters"
    file(path)
    path.write_bytes(data)
    loaded = files.load([str(tmp_path / "d")], OWNERS, None)
    (found,) = loaded.findings
    assert found.location == Location(str(path), line, column) and found.what == "not UTF-8"


@pytest.mark.root
def test_whose_home_is_looked_at(tmp_path: Path) -> None:
    """Not that of root, nor of somebody whose changes count as root's."""
    home = str(directory(tmp_path / "home", owner=STRANGER))
    for uid, trusted, told in (
        (0, OWNERS, False),
        (0, frozenset({4711}), False),
        (4711, OWNERS | {4711}, False),
        (4711, OWNERS, True),
    ):
        found = files._check_home(host.Identity("x", uid, uid, (), home), trusted)
        assert [one.code for one in found] == ["home"] * told
