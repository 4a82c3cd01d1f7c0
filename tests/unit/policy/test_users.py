"""policy/read/users.py: a number that stands for many users admits none of them."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rootwrap_daemon.errors import ConfigurationError
from rootwrap_daemon.filters.read.fault import Fault
from rootwrap_daemon.policy import host, late
from rootwrap_daemon.policy.read import users
from tests.unit.policy import things

ROOT = Path(__file__).parents[3]
LOAD = """
import sys
from rootwrap_daemon.errors import ConfigurationError
from rootwrap_daemon.policy.read import users
from tests.unit.policy import things
from pathlib import Path
file, option, name = sys.argv[1:]
settings = things.settings(Path(file), filters_path="/", trusted_owners="0", **{option: name})
try:
    print(users.allowed(settings, frozenset({0})))
except ConfigurationError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("option", "name"),
    [
        ("allowed_users", "nobody"),
        ("allowed_users", "root, 65534"),
        ("allowed_groups", "nogroup"),
        ("allowed_groups", "65534"),
    ],
)
def test_whoever_is_not_mapped_is_nobody(tmp_path: Path, option: str, name: str) -> None:
    def loaded(*inside: str) -> str:
        words = [*inside, sys.executable, "-c", LOAD, str(tmp_path / "daemon.conf"), option, name]
        done = subprocess.run(
            words, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[3]
        )
        return done.stdout

    assert "does not map" in loaded("unshare", "--user", "--map-root-user")
    if not host.in_user_namespace():
        assert "65534" in loaded()
        assert "does not map" not in loaded()


@pytest.mark.skipif(host.in_user_namespace(), reason="here the number stands for others, too")
def test_a_filter_for_the_user_nobody() -> None:
    assert users.asker("65534") == (False, 65534)
    assert users.asker("%65534") == (True, 65534)


def test_an_owner_who_is_not_here(tmp_path: Path) -> None:
    settings = things.settings(tmp_path / "daemon.conf", filters_path="/", trusted_owners="no-such-name")
    with pytest.raises(ConfigurationError, match="trusted_owners: there is no 'no-such-name'"):
        users.owners(settings)


def allowed(tmp_path: Path, **given: str) -> users.Allowed:
    settings = things.settings(tmp_path / "daemon.conf", filters_path="/", trusted_owners="0", **given)
    return users.allowed(settings, frozenset({0}))


@pytest.mark.parametrize("option", ["allowed_users", "allowed_groups"])
def test_names_that_are_not_here_are_looked_for_later(
    tmp_path: Path, option: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # root is admitted where nothing else is said.
    given = {"allowed_users": "61001", option: "no-such-name"}
    found = allowed(tmp_path, **given)
    assert found.late == {(option, "no-such-name")}
    assert f"{option}: there is no 'no-such-name' here yet" in caplog.text
    assert late.find(found.late, frozenset({0}), 4711, frozenset({4711})) is None
    looks_up = "user_number" if option == "allowed_users" else "group_number"
    monkeypatch.setattr(host, looks_up, {"no-such-name": 4711}.__getitem__)
    assert late.find(found.late, frozenset({0}), 4711, frozenset({4711})) == (option, "no-such-name")
    assert late.find(found.late, frozenset({0}), 4712, frozenset({4712})) is None
    # Who owns what is asked for does not ask, whenever he comes.
    assert late.find(found.late, frozenset({0, 4711}), 4711, frozenset({4711})) is None


def test_a_number_for_a_while_is_never_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "user_number", lambda name: {"agent": 61200, "61201": 61201}[name])
    found = allowed(tmp_path, allowed_users="agent, 61201")
    # A number that is written is meant.
    assert found == users.Allowed(frozenset({61201}), frozenset(), frozenset({("allowed_users", "agent")}))
    assert late.find(found.late, frozenset({0}), 61200, frozenset()) == ("allowed_users", "agent")
    monkeypatch.setattr(host, "user_number", {"agent": 61300}.__getitem__)
    assert late.find(found.late, frozenset({0}), 61200, frozenset()) is None


def test_owners(tmp_path: Path) -> None:
    settings = things.settings(tmp_path / "daemon.conf", filters_path="/", trusted_owners="root, 61111")
    assert users.owners(settings) == {0, 61111}
    assert users.allowed(settings, frozenset({os.geteuid()})) == users.Allowed(
        frozenset({0}), frozenset(), frozenset()
    )


def test_a_filter_is_for_nobody_whose_number_is_his_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "user_number", lambda name: {"agent": 61200, "61201": 61201, "bob": 4711}[name])
    with pytest.raises(Fault, match="only while its service runs"):
        users.asker("agent")
    assert users.asker("61201") == (False, 61201)
    assert users.asker("bob") == (False, 4711)


def test_each_name_that_may_come_is_looked_for() -> None:
    """One that is not there yet hides none behind it."""
    names = frozenset({("allowed_groups", "no-such-name"), ("allowed_users", "4711")})
    assert late.find(names, frozenset(), 4711, frozenset()) == ("allowed_users", "4711")


def test_who_may_ask_where_some_are_not_mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        users, "unmapped", lambda: [("allowed_users", 0, 61001), ("allowed_groups", 1, 61002)]
    )
    found = allowed(tmp_path, allowed_users="61002", allowed_groups="61001")
    assert sorted(found.uids) == [61002] and sorted(found.gids) == [61001]
    for given in ({"allowed_users": "61001"}, {"allowed_groups": "61002"}):
        with pytest.raises(ConfigurationError, match=f"{next(iter(given))}: .* does not map"):
            allowed(tmp_path, **given)


@pytest.mark.parametrize(
    ("number", "stays"), [(61183, True), (61184, False), (65519, False), (65520, True), (4711, True)]
)
def test_numbers_that_services_have_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, stays: bool
) -> None:
    """DynamicUser= of systemd.exec(5)."""
    monkeypatch.setattr(host, "user_number", {"agent": number}.__getitem__)
    found = allowed(tmp_path, allowed_users="agent")
    assert (number in found.uids, not found.late) == (stays, stays)
    if stays:
        assert users.asker("agent") == (False, number)
    else:
        with pytest.raises(Fault, match="only while its service runs"):
            users.asker("agent")


def test_each_name_that_is_not_here_is_kept(tmp_path: Path) -> None:
    found = allowed(tmp_path, allowed_users="no-such-name, 4711, no-other-name")
    assert found.late == {("allowed_users", "no-such-name"), ("allowed_users", "no-other-name")}
    assert sorted(found.uids) == [4711]


@pytest.mark.parametrize(
    ("uid", "groups", "setgroups", "what"),
    [
        (999, (5, 0), "allow", None),
        (2000, (999,), "allow", None),
        (2009, (5,), "allow", None),
        (1000, (5,), "allow", "does not map uid 1000, which a command of agent has"),
        (1999, (5,), "deny", "does not map uid 1999, which a command of agent has"),
        (2010, (5,), "allow", "does not map uid 2010, which a command of agent has"),
        (5, (1000,), "allow", "does not map gid 1000, which a command of agent has"),
        (5, (5, 2000), "allow", "does not map gid 2000, which a command of agent has"),
        (999, (5,), "deny", "agent needs its groups, which this user namespace forbids to set"),
    ],
)
def test_whom_a_process_of_a_user_namespace_can_become(
    monkeypatch: pytest.MonkeyPatch, uid: int, groups: tuple[int, ...], setgroups: str, what: str | None
) -> None:
    """Ranges of numbers, and whether groups may be set: user_namespaces(7)."""
    texts = {
        "/proc/self/uid_map": "0 0 1000\n 2000 1 10\n",
        "/proc/self/gid_map": "0 0 1000\n",
        "/proc/self/setgroups": f"{setgroups}\n",
    }
    monkeypatch.setattr(users, "open", lambda path, encoding: io.StringIO(texts[path]), raising=False)
    agent = host.Identity("agent", uid, groups[0], groups, "/")
    if what is None:
        users.check_becomes(agent)
    else:
        with pytest.raises(Fault) as caught:
            users.check_becomes(agent)
        assert what in caught.value.what
    # It needs to become nobody to be itself.
    users.check_becomes(host.Identity("me", os.geteuid(), os.getegid(), (2000,), "/"))


@pytest.mark.parametrize("inside", [True, False])
def test_a_user_namespace_alone_may_trust_whom_it_does_not_map(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, inside: bool
) -> None:
    monkeypatch.setattr(host, "in_user_namespace", lambda: inside)
    theirs = host.overflow_uid()
    asked = things.settings(tmp_path / "x.conf", trusted_owners=f"0, {theirs}")
    if inside:
        assert users.owners(asked) == {0, theirs}
        assert f"trusted_owners has {theirs}: every user that" in caplog.text
    else:
        with pytest.raises(ConfigurationError, match=f"trusted_owners: {theirs} is nobody in particular"):
            users.owners(asked)
    assert users.owners(things.settings(tmp_path / "y.conf", trusted_owners="0, 4711")) == {0, 4711}
