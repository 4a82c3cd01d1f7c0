"""policy.load: settings and filter files become a policy, or one error that says all that is wrong."""

import errno
import grp
import logging
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from rootwrap_daemon.daemon.request import Peer
from rootwrap_daemon.errors import ConfigurationError
from rootwrap_daemon.filters.values import CAPABILITIES
from rootwrap_daemon.policy import host
from rootwrap_daemon.policy.read.policy import load, other_paths
from rootwrap_daemon.settings import Settings
from tests.unit.policy.test_files import LS, ME
from tests.unit.policy.things import OWNERS, directory, file, link, policy, program, settings


@pytest.fixture
def made(tmp_path: Path) -> Settings:
    """Settings of a directory with one good file; whoever runs the tests is trusted."""
    directory(tmp_path / "filters")
    file(tmp_path / "filters/a.filters", LS)
    directory(tmp_path / "bin")
    return settings(
        tmp_path / "daemon.conf",
        filters_path=f"{tmp_path}/filters",
        exec_dirs=f"{tmp_path}/bin",
        trusted_owners=", ".join(map(str, OWNERS)),
        allowed_users="4711",
    )


def test_load(tmp_path: Path, made: Settings) -> None:
    loaded = load(made, 7)
    assert loaded.generation == 7
    assert loaded.settings is made
    assert loaded.exec_dirs == (f"{tmp_path}/bin",)
    assert loaded.owners == OWNERS
    assert loaded.allowed_uids == {4711}
    assert [one.name for one in loaded.ruleset.filters] == ["ls"]
    assert set(loaded.identities) == {(ME, None)}
    assert loaded.findings == ()


@pytest.mark.parametrize(
    ("uid", "gid", "groups", "admitted"),
    [
        (4711, 0, (), True),
        (0, 0, (), False),
        (1, 47, (), True),
        (1, 1, (5, 11), True),
        (1, 1, (4711,), False),
        (47, 1, (), False),
    ],
)
def test_admits(tmp_path: Path, uid: int, gid: int, groups: tuple[int, ...], admitted: bool) -> None:
    assert policy(tmp_path).admits(Peer(1, uid, gid, groups)) == admitted


def test_names_are_resolved(made: Settings) -> None:
    loaded = load(replace(made, allowed_users=("root", "4713"), allowed_groups=("root", "4714")), 1)
    assert loaded.allowed_uids == {0, 4713}
    assert loaded.allowed_gids == {0, 4714}
    assert load(replace(made, allowed_users=(), allowed_groups=("6",)), 1).allowed_gids == {6}


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"allowed_users": ("-1",)}, "allowed_users: there is no '-1' here"),
        ({"allowed_users": ("4294967295",)}, "allowed_users: there is no '4294967295' here"),
        ({"allowed_groups": ("99999999999",)}, "allowed_groups: there is no '99999999999' here"),
        ({"trusted_owners": ("no-such-user",)}, "trusted_owners: there is no 'no-such-user' here"),
        ({"trusted_owners": ("root", "4711")}, "user 4711 stands in trusted_owners and in allowed_users"),
        ({"allowed_users": (), "allowed_groups": ()}, "nobody could connect"),
    ],
)
def test_refused(made: Settings, changes: dict[str, tuple[str, ...]], what: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(what)):
        load(replace(made, **changes), 1)  # type: ignore[arg-type]


def test_root_may_ask_and_own(made: Settings) -> None:
    assert 0 in load(replace(made, allowed_users=("root",)), 1).allowed_uids


@pytest.mark.skipif(host.in_user_namespace(), reason="in a user namespace it can be trusted")
def test_the_overflow_uid_is_nobody_to_trust(made: Settings) -> None:
    owners = (*map(str, OWNERS), str(host.overflow_uid()))
    with pytest.raises(ConfigurationError, match="only a user namespace can trust it"):
        load(replace(made, trusted_owners=owners), 1)


def test_the_overflow_uid_in_a_user_namespace() -> None:
    script = (
        "import sys; from rootwrap_daemon.policy import host;"
        "print(host.in_user_namespace(), host.overflow_uid() in host.base_owners())"
    )
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", sys.executable, "-c", script],
        cwd=Path(__file__).resolve().parents[3],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.skip("needs a user namespace")
    assert done.stdout.split() == ["True", "True"]


def test_exec_dirs_that_are_not_there_are_left_out(tmp_path: Path, made: Settings) -> None:
    file(tmp_path / "file")
    dirs = (f"{tmp_path}/missing", f"{tmp_path}/bin/", f"{tmp_path}/file")
    loaded = load(replace(made, exec_dirs=dirs), 1)
    assert loaded.exec_dirs == (f"{tmp_path}/bin",)
    assert loaded.findings == ()


def test_exec_dirs_that_others_can_write(tmp_path: Path, made: Settings) -> None:
    directory(tmp_path / "open", 0o777)
    made = replace(made, exec_dirs=(f"{tmp_path}/open", f"{tmp_path}/bin"))
    with pytest.raises(
        ConfigurationError, match=f"{tmp_path}/open:1:1: error: in exec_dirs, and .* can be written"
    ):
        load(made, 1)
    assert load(replace(made, on_finding="skip"), 1).exec_dirs == (f"{tmp_path}/bin",)


BAD = f"""[Filters]
good: CommandFilter, ls, {ME}
short: CommandFilter, ls
both: CommandFilter, ls, {ME}
both: CommandFilter, cat, {ME}
user: CommandFilter, ls, no-such-user
pattern: RegExpFilter, ls, {ME}, ls, [
limited: CommandFilter, ls, {ME}
warned: EnvFilter, env, {ME}, LD_PRELOAD=, ls
[limited]
timeout = never
"""
BAD_LINES = {3: "1 field after", 5: "a second time", 6: "no user", 7: "bad regular", 11: "timeout: "}


def test_stop_says_all_that_is_wrong(tmp_path: Path, made: Settings) -> None:
    path = file(tmp_path / "filters/b.filters", BAD)
    with pytest.raises(ConfigurationError) as caught:
        load(made, 1)
    found = {}
    for line in caught.value.message.splitlines():
        where = re.match(rf"{path}:(\d+):\d+: error: (.*)", line)
        assert where, line
        found[int(where[1])] = where[2]
    assert found.keys() == BAD_LINES.keys()
    for number, what in BAD_LINES.items():
        assert what in found[number]


def test_skip_leaves_out_exactly_the_filters_with_errors(
    tmp_path: Path, made: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    path = file(tmp_path / "filters/b.filters", BAD)
    loaded = load(replace(made, on_finding="skip"), 1)
    assert [one.name for one in loaded.ruleset.filters] == ["ls", "good", "warned"]
    logged = [record for record in caplog.records if str(path) in record.getMessage()]
    errors = [record for record in logged if record.levelno == logging.ERROR]
    assert len(errors) == len(BAD_LINES)
    assert [record.levelno for record in logged if record not in errors] == [logging.WARNING]
    assert re.search(rf"\b{len(BAD_LINES)}\b", caplog.records[-1].getMessage())
    assert len(loaded.findings) == len(BAD_LINES) + 1


def test_a_warning_does_not_stop(tmp_path: Path, made: Settings, caplog: pytest.LogCaptureFixture) -> None:
    file(tmp_path / "filters/b.filters", f"[Filters]\nw: EnvFilter, env, {ME}, PATH=, ls\n")
    loaded = load(replace(made, filters_path=(*made.filters_path, f"{tmp_path}/missing")), 1)
    assert [one.name for one in loaded.ruleset.filters] == ["ls", "w"]
    assert len(loaded.findings) == 2
    logged = [record.levelno for record in caplog.records if "trusted_owners" not in record.getMessage()]
    assert logged == [logging.WARNING] * 2


def test_a_policy_of_all_that_settings_say(tmp_path: Path, made: Settings) -> None:
    group = grp.getgrgid(os.getegid()).gr_name
    loaded = load(replace(made, status_group=group, capabilities=("CAP_KILL", "CAP_CHOWN")), 1)
    assert loaded.status_gid == os.getegid()
    assert loaded.no_places == "the daemon has no CAP_SYS_ADMIN"
    assert loaded.loaded > 1e9
    assert load(made, 1).status_gid is None
    with pytest.raises(
        ConfigurationError, match=r"capabilities: there is no 'CAP_X': write e\.g\. CAP_NET_ADMIN"
    ):
        load(replace(made, capabilities=("CAP_KILL", "CAP_X")), 1)


def test_what_a_process_has_is_asked_of_a_daemon_alone(tmp_path: Path, made: Settings) -> None:
    file(tmp_path / "filters/k.filters", f"[Filters]\nk: KillFilter, {ME}, sleep, -9\n")
    every = frozenset(range(len(CAPABILITIES)))
    for has, told in ((None, False), (every, False), (every - {5}, True), (frozenset(), True)):
        loaded = load(made, 1, capabilities=has)
        assert any("started without" in one.what for one in loaded.findings) is told


def test_directories_of_programs(tmp_path: Path, made: Settings, caplog: pytest.LogCaptureFixture) -> None:
    file(tmp_path / "a-file")
    caplog.set_level(logging.INFO)
    given = (f"{tmp_path}/bin//", f"{tmp_path}/a-file", f"{tmp_path}/missing", "/", f"{tmp_path}/bin")
    loaded = load(replace(made, exec_dirs=given), 1)
    assert loaded.exec_dirs == (f"{tmp_path}/bin", "/", f"{tmp_path}/bin")
    assert f"exec_dirs: {tmp_path}/missing is left out: {os.strerror(errno.ENOENT)}" in caplog.text
    assert "a-file" not in caplog.text


def test_other_paths_of_a_program(tmp_path: Path) -> None:
    top = directory(tmp_path / "top")
    for name in ("bin", "sbin", "other", "open"):
        directory(top / name)
    program(top / "bin/tool")
    link(top / "sbin/tool", "../bin/tool")
    program(top / "other/tool")
    link(top / "open/tool", "../bin/tool")
    link(top / "bin/alias", "tool")
    (top / "open").chmod(0o777)
    directories = [f"{top}/{name}" for name in ("open", "missing", "sbin", "bin", "other")]
    assert other_paths(f"{top}/bin/tool", directories, OWNERS) == {f"{top}/sbin/tool"}
    assert other_paths(f"{top}/sbin/tool", directories, OWNERS) == {f"{top}/bin/tool"}
    assert other_paths(f"{top}/sbin/tool", [], OWNERS) == {f"{top}/bin/tool"}
    # By another name a program may be another one.
    assert other_paths(f"{top}/bin/alias", directories, OWNERS) == frozenset()
    for nothing in ("missing/tool", "open/tool"):
        assert other_paths(f"{top}/{nothing}", directories, OWNERS) == frozenset()


def test_a_policy_that_admits_root_alone_says_so(tmp_path: Path) -> None:
    note = "; nobody but root may ask: allowed_users or allowed_groups must name the agent's user"
    nobody = frozenset[int]()
    root = replace(policy(tmp_path), allowed_uids=frozenset({0}), allowed_gids=nobody)
    assert root.nobody == note
    for one in (
        replace(root, allowed_uids=frozenset({0, 7})),
        replace(root, allowed_uids=nobody),
        replace(root, allowed_gids=frozenset({0})),
        replace(root, late=frozenset({("allowed_users", "x")})),
    ):
        assert one.nobody == ""


def test_a_group_that_is_not_mapped_sees_no_status(made: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "in_user_namespace", lambda: True)
    monkeypatch.setattr(host, "overflow_gid", lambda: 4712)
    monkeypatch.setattr(host, "overflow_uid", lambda: 4713)
    with pytest.raises(ConfigurationError, match="status_group: 4712 is whoever"):
        load(replace(made, status_group="4712"), 1)
    assert load(replace(made, status_group="4713"), 1).status_gid == 4713
