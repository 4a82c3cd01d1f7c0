"""As whom a command runs and for whom a filter is, through one daemon with several users."""

import asyncio
import contextlib
import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest

from rootwrap_daemon.client import PIPE, Client, Decision
from rootwrap_daemon.client.aio import AsyncClient
from rootwrap_daemon.errors import BadRequest, Denied
from rootwrap_daemon.filters.values import Reason
from rootwrap_daemon.protocol.codec import HEADER, encode
from rootwrap_daemon.protocol.messages import Result, Run
from tests.processes import PATIENCE
from tests.real_daemon import HELLO, OVERFLOW, Daemon, NewDaemon, daemons, frame, raw
from tests.wire import Wire

pytestmark = pytest.mark.root

FILTERS = """\
[Filters]
show: RegExpFilter, sh, games|root, sh, -c, .*
id_root: CommandFilter, id, root
id_nobody: CommandFilter, id, nobody
"""
SHOW = ["sh", "-c", "id -un; id -gn; echo $HOME $USER $LOGNAME; grep NoNewPrivs /proc/self/status"]


def shown(name: str, no_new_privs: int) -> str:
    user = pwd.getpwnam(name)
    return f"{name}\n{name}\n{user.pw_dir} {name} {name}\nNoNewPrivs:\t{no_new_privs}\n"


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with daemons() as new:
        yield new(FILTERS)


@pytest.mark.parametrize(
    ("user", "expected"), [(None, ("games", 1)), ("games", ("games", 1)), ("root", ("root", 0))]
)
@pytest.mark.parametrize("capture", ["daemon", "pipe"])
def test_a_whole_identity(daemon: Daemon, user: str | None, expected: tuple[str, int], capture: Any) -> None:
    with daemon.client() as client:
        done = client.run(SHOW, user=user, text=True, capture=capture)
        assert done.stdout == shown(*expected)
        assert client.allows(SHOW, user=user).filter == "show"
        with client.popen(SHOW, user=user, stdout=PIPE) as process:
            assert process.communicate()[0] == shown(*expected).encode()
    runs = [one for one in daemon.audit() if one["event"] == "run"]
    assert {one["run_as"] for one in runs[-2:]} == {expected[0]}
    assert {one.get("user") for one in runs[-2:]} == {user}


def test_from_a_loop(daemon: Daemon) -> None:
    async def ask() -> None:
        async with AsyncClient(daemon.socket, connect_timeout=PATIENCE) as client:
            assert (await client.run(SHOW, user="root", text=True)).stdout == shown("root", 0)
            assert not (await client.allows(SHOW, user="nobody")).allowed
            async with await client.popen(SHOW, user="games", stdout=PIPE) as process:
                assert (await process.communicate())[0] == shown("games", 1).encode()

    asyncio.run(ask())


def test_the_filter_that_has_the_user(daemon: Daemon) -> None:
    with daemon.client() as client:
        assert client.run(["id", "-un"], text=True).stdout == "root\n"
        assert client.run(["id", "-un"], user="nobody", text=True).stdout == "nobody\n"


@pytest.mark.parametrize("user", ["nobody", "daemon", "no-such-user", "Root", "root$", "games-"])
def test_users_that_no_filter_has(daemon: Daemon, user: str) -> None:
    """Another filter's user, one that is there, one that is not, one that looks like it: one answer."""
    with daemon.client() as client:
        with pytest.raises(Denied, match="no filter allows this command"):
            client.run(SHOW, user=user)
        assert client.allows(SHOW, user=user) == Decision(False, "")
    denied = [one for one in daemon.audit() if one["event"] == "denied"][-1]
    assert (denied["user"], denied["detail"]) == (user, Reason.USER.value)


NOT_NAMES = ["", "0", "#0", "root\0", "root|games", "+0", b"root", 0, True, ["root"], "a" * 5000]


@pytest.mark.parametrize("user", [one for one in NOT_NAMES if isinstance(one, str)])
def test_the_client_says_no_such_name(daemon: Daemon, user: str) -> None:
    with daemon.client() as client, pytest.raises(BadRequest, match="user must be a user's name"):
        client.run(SHOW, user=user)


@pytest.mark.parametrize("user", NOT_NAMES)
@pytest.mark.parametrize("kind", [1, 2, 7])
def test_the_daemon_hears_no_such_name(daemon: Daemon, kind: int, user: object) -> None:
    rest = {1: (None, None), 2: (), 7: (0, None)}[kind]
    before = len(daemon.audit())
    answer = raw(daemon, HELLO + frame((kind, [b"id"], [], *rest, user)))
    first = HEADER.size + HEADER.unpack_from(answer)[0]
    kind, _, code, _ = msgpack.unpackb(answer[first + HEADER.size :])
    assert (kind, code) == (5, "bad_request")
    assert {one["event"] for one in daemon.audit()[before:]} == {"bad_request"}


def test_an_older_client_names_nobody(daemon: Daemon) -> None:
    message = Run((b"id", b"-un"))
    assert len(msgpack.unpackb(encode(message)[HEADER.size :])) == 5
    with Wire(daemon.socket) as wire:
        wire.greet(message)
        assert isinstance(answer := wire.answer(), Result)
        assert answer.stdout == b"root\n"


# For whom


ASKERS = """\
[Filters]
command: CommandFilter, {base}/command, root
regexp: RegExpFilter, {base}/regexp, root, {base}/regexp, [a-z]+
path: PathFilter, {base}/path, root, pass
ip: IpFilter, {base}/ip, root
env: EnvFilter, env, root, A=, {base}/env
argv: ArgvFilter, {base}/argv, root, {{name}}
read: ReadFileFilter, {base}/file
netns: IpNetnsExecFilter, {base}/ip, root
chain: ChainingRegExpFilter, {base}/chain, root, {base}/chain, .+
leaf: CommandFilter, {base}/leaf, root
other: CommandFilter, {base}/other, root

[netns]
users = games

[chain]
users = games

[leaf]
users = games, daemon

[other]
users = %daemon
"""
FOR_ALL = """
[DEFAULT]
users = games
"""


@contextlib.contextmanager
def as_user(name: str) -> Iterator[None]:
    """The credentials that the kernel takes at connect(2)."""
    user = pwd.getpwnam(name)
    before = os.getgroups()
    os.setgroups([])
    os.setegid(user.pw_gid)
    os.seteuid(user.pw_uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(before)


@pytest.fixture(scope="module")
def shared() -> Iterator[tuple[Daemon, Path]]:
    with daemons() as new:
        daemon = new("[Filters]\n", start=False, socket_mode="0666", allowed_users="games, daemon, nobody")
        base = daemon.directory / "programs"
        base.mkdir()
        wrapper = '[ "$1" = netns ] && { shift 3; exec "$@"; }\n'
        for name in ("command", "regexp", "path", "ip", "env", "argv", "chain", "leaf", "other"):
            text = {"ip": wrapper, "chain": 'shift; exec "$@"\n'}.get(name, "")
            (base / name).write_text(f"#!/bin/sh\n{text}echo {name}\n")
            (base / name).chmod(0o755)
        (base / "file").write_text("file\n")
        shutil.copy("/usr/bin/sleep", base / "sleep")
        daemon.configure(ASKERS.format(base=base) + f"{FOR_ALL}")
        daemon.start()
        yield daemon, base


def commands(base: Path) -> dict[str, list[str]]:
    """One for each kind, and what it prints."""
    return {
        "command": [f"{base}/command", "x"],
        "regexp": [f"{base}/regexp", "x"],
        "path": [f"{base}/path", "x"],
        "ip": [f"{base}/ip", "link"],
        "env": ["env", "A=1", f"{base}/env"],
        "argv": [f"{base}/argv", "x"],
        "file": ["cat", f"{base}/file"],
        "netns": [f"{base}/ip", "netns", "exec", "n", f"{base}/leaf"],
        "chain": [f"{base}/chain", "x", f"{base}/leaf"],
        "leaf": [f"{base}/leaf"],
        "other": [f"{base}/other"],
    }


#: What each may: all of the file but `other`, the two that say so themselves, nothing.
MAY = {
    "games": {"command", "regexp", "path", "ip", "env", "argv", "file", "netns", "chain", "leaf"},
    "daemon": {"leaf", "other"},
    "nobody": set[str](),
}


def test_verdicts_do_not_reach_another(shared: tuple[Daemon, Path]) -> None:
    """Three users in turn, each kind, over kept connections: each gets what is his, each time."""
    daemon, base = shared
    clients: dict[str, Client] = {}
    with contextlib.ExitStack() as stack:
        for user in MAY:
            clients[user] = stack.enter_context(daemon.client(max_connections=1))
            with as_user(user), contextlib.suppress(Denied):
                clients[user].run([f"{base}/none"])
        for name, argv in commands(base).items():
            for user in (*MAY, *reversed(MAY), *MAY):
                asked = clients[user].allows(argv)
                assert asked.allowed == (name in MAY[user]), (name, user)
                if name not in MAY[user]:
                    with pytest.raises(Denied, match="no filter allows this command"):
                        clients[user].run(argv)
                    continue
                out = clients[user].run(argv, check=True, text=True).stdout
                assert out == ("leaf\n" if name in ("netns", "chain") else f"{name}\n")


def test_a_signal(new_daemon: NewDaemon) -> None:
    daemon = new_daemon(
        "[Filters]\nk: KillFilter, root, sleep, -TERM\n[k]\nusers = games\n",
        socket_mode="0666",
        allowed_users="games, nobody",
    )
    process = subprocess.Popen(["sleep", "1000"])
    words = ["kill", "-TERM", str(process.pid)]
    with daemon.client() as other, daemon.client() as client:
        with as_user("nobody"), pytest.raises(Denied):
            other.run(words)
        assert process.poll() is None
        with as_user("games"):
            assert client.run(words).returncode == 0
    assert process.wait() == -15


def test_groups_are_those_of_the_process(new_daemon: NewDaemon) -> None:
    """Those that the kernel has of it: one that it took off counts no more, whatever the database says."""
    daemon = new_daemon(
        "[Filters]\nid: CommandFilter, id, root\n[id]\nusers = %games\n",
        socket_mode="0666",
        allowed_users="daemon",
    )
    for groups, allowed in (([60], True), ([], False), ([1, 2, 3, 60], True)):
        with daemon.client() as client, as_user("daemon"):
            os.seteuid(0)
            os.setgroups(groups)
            os.seteuid(1)
            assert client.allows(["id"]).allowed == allowed
            os.seteuid(0)


@pytest.mark.parametrize("word", ["no-such-user", "%no-such-group"])
def test_a_name_that_is_not_there(new_daemon: NewDaemon, word: str) -> None:
    daemon = new_daemon(
        f"[Filters]\nid: CommandFilter, id, root\nls: CommandFilter, ls, root\n[id]\nusers = root, {word}\n",
        on_finding="skip",
    )
    with daemon.client() as client:
        assert not client.allows(["id"]).allowed
        assert client.allows(["ls"]).allowed
    assert f"no {'group' if '%' in word else 'user'} {word.removeprefix('%')!r} here" in daemon.log


@pytest.mark.root
@pytest.mark.parametrize(
    ("lines", "options"),
    [
        ("k: KillFilter, root, tail, -15\n[k]\ntarget_user = nobody", {}),
        ("p: ArgvFilter, prlimit, root, --pid, {pid=tail}\n[p]\ntarget_user = nobody", {}),
        ("k: KillFilter, nobody, tail, -15", {}),
        ("t: ArgvFilter, true, root", {"status_group": "nogroup"}),
    ],
)
def test_who_is_not_mapped_is_nobody_in_particular(
    new_daemon: NewDaemon, lines: str, options: dict[str, str]
) -> None:
    """One number stands for all of them in a user namespace: processes and members of everybody there."""
    daemon = new_daemon(f"[Filters]\n{lines}\n", start=False, trusted_owners=f"0, {OVERFLOW}", **options)
    daemon.inside = ["unshare", "--user", "--map-root-user"]
    with pytest.raises(pytest.fail.Exception, match="is whoever this user namespace does not map"):
        daemon.start()


@pytest.mark.root
@pytest.mark.parametrize(
    ("user", "options"),
    [
        ("root", "group = nogroup"),
        ("nobody", ""),
        ("daemon", ""),
        ("daemon", "group = root"),
        ("root", "group = mail"),
    ],
)
def test_whom_no_command_can_become_is_said_at_load(new_daemon: NewDaemon, user: str, options: str) -> None:
    """In a user namespace that maps root alone."""
    text = f"[Filters]\nid: ArgvFilter, id, {user}, -u\nls: ArgvFilter, id, root, -g\n"
    daemon = new_daemon(f"{text}[id]\numask = 022\n{options}\n", on_finding="skip", start=False)
    daemon.inside = ["unshare", "--user", "--map-root-user"]
    daemon.start()
    assert "this user namespace" in daemon.log
    with daemon.client() as client:
        assert not client.allows(["id", "-u"]).allowed
        client.run(["id", "-g"], check=True)


#: Becomes its arguments in a user namespace with the first 1000 users and groups. `$0`: whether setgroups(2)
#: is allowed there.
_MAPPED = """
outside=$(readlink /proc/$$/ns/user)
(
    until [ "$(readlink /proc/$$/ns/user)" != "$outside" ]; do sleep 0.01; done
    echo "$0" > /proc/$$/setgroups; echo 0 0 1000 > /proc/$$/gid_map; echo 0 0 1000 > /proc/$$/uid_map
) &
exec unshare --user sh -c 'until grep -q . /proc/self/uid_map; do sleep 0.01; done; exec "$@"' sh "$@"
"""


@pytest.mark.root
@pytest.mark.parametrize("groups", ["allow", "deny"])
def test_groups_that_may_not_be_set(new_daemon: NewDaemon, groups: str) -> None:
    """The user is mapped, and setgroups(2) may be forbidden."""
    daemon = new_daemon("[Filters]\nid: ArgvFilter, id, daemon, -u\n", on_finding="skip", start=False)
    daemon.inside = ["sh", "-c", _MAPPED, groups]
    daemon.start()
    assert ("forbids to set" in daemon.log) is (groups == "deny")
    with daemon.client() as client:
        if groups == "deny":
            assert not client.allows(["id", "-u"]).allowed
        else:
            assert client.run(["id", "-u"], text=True, check=True).stdout == "1\n"
