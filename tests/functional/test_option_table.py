"""Every option with every kind that takes it, seen from outside: each does what it says."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from rootwrap_daemon.client import Client
from rootwrap_daemon.errors import CommandTimeout, Denied, EnvironmentDenied, InternalError, OutputLimit
from rootwrap_daemon.filters.read.options import OPTIONS
from tests.real_daemon import Daemon, daemons
from tests.unit.filters.test_option_table import VALUES

pytestmark = pytest.mark.root

#: What both filters of a chain must say.
SAME = ("ambient", "group", "capabilities", "cwd", "umask", "no_new_privs")
#: Seen elsewhere: paths in test_options, processes in test_kill, the stop of a daemon in test_popen,
#: whom a filter is for in test_users.
ELSEWHERE = ("opens_paths", "target_user", "started_by", "namespaces", "on_stop", "users")
PAIRS = [
    (name, kind)
    for name, row in OPTIONS.items()
    if name not in ELSEWHERE
    for kind in sorted(row.kinds)
    # The time is looked at between two parts of a file, and no file of a test is so slow.
    if (name, kind) != ("timeout", "ReadFileFilter")
    # That one is root's, always.
    if (name, kind) != ("ambient", "IpNetnsExecFilter")
]
SHOW = """#!/bin/sh
case "$0" in */timeout/*) sleep 1000;; */signals/*) cat;; esac
cat /proc/self/status
umask; pwd; id -g; ulimit -c; env
echo password=hunter2
"""
WRAPPERS = {"ip": '[ "$1" = netns ] && { shift 3; exec "$@"; }\n', "chain": 'shift; exec "$@"\n'}
OWN = {"timeout": "1", "cwd": "/usr", "group": "nogroup", "ambient": "CAP_NET_BIND_SERVICE"}


def value(option: str) -> str:
    return (VALUES | OWN)[option]


def filters(base: Path) -> str:
    """One filter of each kind for each option, with programs of its own."""
    lines, sections = ["[Filters]"], []
    for option in OPTIONS:
        here = base / option
        # Ambient capabilities are for another user than root.
        user = "nobody" if option == "ambient" else "root"
        lines += [
            f"leaf_{option}: CommandFilter, {here}/leaf, {user}",
            f"CommandFilter_{option}: CommandFilter, {here}/command, {user}",
            f"RegExpFilter_{option}: RegExpFilter, {here}/regexp, {user}, {here}/regexp, [a-z]+",
            f"PathFilter_{option}: PathFilter, {here}/path, {user}, pass",
            f"IpFilter_{option}: IpFilter, {here}/ip, {user}",
            f"EnvFilter_{option}: EnvFilter, env, {user}, A=, {here}/env, [a-z]+",
            f"ArgvFilter_{option}: ArgvFilter, {here}/argv, {user}, {{name}}",
            f"IpNetnsExecFilter_{option}: IpNetnsExecFilter, {here}/ip, root",
            f"ChainingRegExpFilter_{option}: ChainingRegExpFilter, {here}/chain, {user}, {here}/chain, .+",
            f"KillFilter_{option}: KillFilter, root, {here}/sleep, -KILL",
            f"ReadFileFilter_{option}: ReadFileFilter, {here}/file",
        ]
        kinds = {kind for name, kind in PAIRS if name == option}
        names = {f"{kind}_{option}" for kind in kinds} | ({f"leaf_{option}"} if option in SAME else set())
        sections += [f"[{name}]\n{option} = {value(option)}" for name in sorted(names)]
    return "\n".join((*lines, *sections, ""))


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[Daemon, Path]]:
    with daemons() as new:
        daemon = new("[Filters]\n", start=False)
        base = daemon.directory / "programs"
        for option in OPTIONS:
            here = base / option
            here.mkdir(parents=True)
            for name in ("leaf", "command", "regexp", "path", "ip", "env", "argv", "chain"):
                text = SHOW.replace("\n", "\n" + WRAPPERS.get(name, ""), 1)
                (here / name).write_text(text)
                (here / name).chmod(0o755)
            shutil.copy("/usr/bin/sleep", here / "sleep")
            (here / "file").write_text("content\n")
        daemon.configure(filters(base))
        daemon.start()
        yield daemon, base


def argv(kind: str, here: Path) -> list[str]:
    leaf = str(here / "leaf")
    return {
        "CommandFilter": [f"{here}/command"],
        "RegExpFilter": [f"{here}/regexp", "word"],
        "PathFilter": [f"{here}/path", "word"],
        "IpFilter": [f"{here}/ip", "link"],
        "EnvFilter": ["env", "A=1", f"{here}/env", "word"],
        "ArgvFilter": [f"{here}/argv", "word"],
        "IpNetnsExecFilter": [f"{here}/ip", "netns", "exec", "ns", leaf],
        "ChainingRegExpFilter": [f"{here}/chain", "word", leaf],
        "ReadFileFilter": ["cat", f"{here}/file"],
    }[kind]


def output(client: Client, words: list[str], **options: object) -> str:
    text = client.run(words, check=True, text=True, **options).stdout  # type: ignore[call-overload]
    return str(text)


@pytest.mark.parametrize(("option", "kind"), PAIRS)
def test_it_is_applied(served: tuple[Daemon, Path], option: str, kind: str) -> None:
    daemon, base = served
    process = subprocess.Popen([base / option / "sleep", "1000"]) if kind == "KillFilter" else None
    words = ["kill", "-KILL", str(process.pid)] if process else argv(kind, base / option)
    try:
        with daemon.client() as client:
            observe(daemon, client, option, words)
    finally:
        if process is not None:
            process.kill()
            process.wait()


def observe(daemon: Daemon, client: Client, option: str, words: list[str]) -> None:
    match option:
        case "max_memory" | "max_processes":
            # Without the controllers (tests/functional/test_trees.py has them where they are) nothing runs.
            with pytest.raises(InternalError, match="a limit of this filter cannot be kept"):
                client.run(words)
        case "env":
            assert "\nX=1\n" in output(client, words, env={"X": "1"})
            with pytest.raises(EnvironmentDenied):
                client.run(words, env={"Y": "1"})
        case "max_word":
            with pytest.raises(Denied):
                client.run(words)
            assert output(client, ["wor" if word == "word" else word for word in words])
        case "timeout":
            with pytest.raises(CommandTimeout):
                client.run(words)
        case "max_output":
            with pytest.raises(OutputLimit):
                client.run(words)
        case "stdin":
            with pytest.raises(Denied):
                client.run(words, input=b"x")
            assert client.run(words).returncode == 0
        case "audit":
            assert client.run(words).returncode == 0
            assert [one["argv"] for one in daemon.audit() if one["event"] == "run"][-1] == words[:1]
        case "secret":
            words = words if words[1:] else [*words, "word"]
            assert client.run(words).returncode == 0
            assert [one["argv"] for one in daemon.audit() if one["event"] == "run"][-1][1] == "***"
        case "signals":
            # It lives until its input ends.
            with client.popen(words, stdin=subprocess.PIPE) as running, pytest.raises(Denied):
                running.send_signal(1)
        case _:
            wanted = {
                "set_env": "X=1",
                "cwd": "/usr",
                "umask": "0077",
                "group": "65534",
                "capabilities": f"CapEff:\t{0:016x}",
                "ambient": f"CapAmb:\t{1 << 10:016x}",
                "no_new_privs": "NoNewPrivs:\t1",
                "limits": "0",
                "sanitize": "password=***",
            }[option]
            assert wanted in output(client, words).splitlines()


def test_none_of_it_is_so_without_the_option(served: tuple[Daemon, Path]) -> None:
    daemon, base = served
    with daemon.client() as client:
        plain = output(client, argv("CommandFilter", base / "opens_paths")).splitlines()
    assert not {"X=1", "/usr", "0077", "65534", f"CapEff:\t{0:016x}", "NoNewPrivs:\t1"} & set(plain)
    assert {"password=hunter2", "0022", "/", "0"} < set(plain)
    assert os.getuid() == 0
