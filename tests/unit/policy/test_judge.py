"""policy.judge: the first filter that can be bound, and what is said when none can."""

import os
from pathlib import Path
from typing import Any

import pytest

from rootwrap_daemon.errors import (
    Denied,
    EnvironmentDenied,
    Error,
    ExecutableNotFound,
    InternalError,
    ProcessGone,
)
from rootwrap_daemon.filters.values import Match, Reason, Request, Shown
from rootwrap_daemon.policy import host
from rootwrap_daemon.policy import policy as module
from rootwrap_daemon.policy.bound import Bound, BoundExec, NotBound
from rootwrap_daemon.policy.policy import Allowed, Refused, judge
from tests.unit.policy.things import directory, file, policy, program

MISSING = "m: CommandFilter, /nonexistent/tool, root"
DENIED = "no filter allows this command"


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    program(tmp_path / "tool")
    file(directory(tmp_path / "base") / "a")
    program(directory(tmp_path / "w") / "tool", mode=0o777)
    return tmp_path


def judged(tmp_path: Path, lines: list[str], argv: str, **env: str) -> Allowed | Refused:
    lines = [line.replace("{tools}", str(tmp_path)) for line in lines]
    words = tuple(argv.replace("{tools}", str(tmp_path)).split())
    return judge(policy(tmp_path, *lines), Request(words, tuple(env.items())))


TOOL = "t: CommandFilter, {tools}/tool, root"
UNTRUSTED = "u: CommandFilter, {tools}/w/tool, root"
PATH = "p: PathFilter, {tools}/tool, root, {tools}/base"
PATH_OF_MISSING = "q: PathFilter, /nonexistent/tool, root, {tools}/base"
ANY_PATH = "a: RegExpFilter, {tools}/tool, root, tool, /etc/passwd"


@pytest.mark.parametrize(
    ("lines", "argv", "name"),
    [
        pytest.param([TOOL], "tool x", "t", id="the only one"),
        pytest.param([TOOL, "s: CommandFilter, {tools}/tool, root"], "tool", "t", id="the first"),
        pytest.param([MISSING, TOOL], "tool x", "t", id="after a missing program"),
        pytest.param([UNTRUSTED, MISSING, TOOL], "tool x", "t", id="after an untrusted one"),
        pytest.param([PATH, ANY_PATH], "tool /etc/passwd", "a", id="after a refused path"),
        pytest.param([PATH, ANY_PATH], "tool {tools}/base/a", "p", id="its path is inside"),
        pytest.param(
            ["n: ChainingRegExpFilter, nice, root, nice", MISSING, TOOL],
            "nice tool",
            "n+t",
            id="the second leaf",
        ),
    ],
)
def test_allowed(tools: Path, lines: list[str], argv: str, name: str) -> None:
    found = judged(tools, lines, argv)
    assert isinstance(found, Allowed)
    assert found.filter == name
    with found.bound:
        assert isinstance(found.bound, BoundExec)
        if "+" not in name:
            assert found.bound.path == f"{tools}/tool"


@pytest.mark.parametrize(
    ("lines", "argv", "error", "name"),
    [
        pytest.param([], "tool", Denied, None, id="no filter"),
        pytest.param([TOOL], "other", Denied, None, id="another command"),
        pytest.param([MISSING], "tool", ExecutableNotFound, "m", id="missing"),
        pytest.param([UNTRUSTED], "tool", ExecutableNotFound, "u", id="untrusted"),
        pytest.param([MISSING, UNTRUSTED], "tool", ExecutableNotFound, "u", id="missing and untrusted"),
        pytest.param([MISSING], "other", Denied, None, id="missing, other words"),
        pytest.param([PATH], "tool /etc/passwd", Denied, "p", id="path outside"),
        pytest.param([PATH], "tool {tools}/base/../../x", Denied, "p", id="path outside, not there"),
        pytest.param([PATH, MISSING], "tool /etc/passwd", Denied, "p", id="path outside, then missing"),
        pytest.param([MISSING, PATH], "tool /etc/passwd", Denied, "p", id="missing, then path outside"),
        pytest.param(
            [PATH_OF_MISSING], "tool /etc/passwd", ExecutableNotFound, "q", id="missing for any path"
        ),
        pytest.param(["r: ReadFileFilter, /nonexistent"], "cat /nonexistent", Denied, "r", id="no such file"),
        pytest.param(["r: ReadFileFilter, /dev/null"], "cat /dev/null", Denied, "r", id="no regular file"),
        pytest.param(["k: KillFilter, root, sleep"], "kill 1", Denied, "k", id="a process it may not"),
        pytest.param(
            ["k: KillFilter, root, sleep"], "kill 2147483647", ProcessGone, "k", id="no such process"
        ),
        pytest.param(
            ["k: KillFilter, root, /nonexistent"], "kill 1", ExecutableNotFound, "k", id="kill, missing"
        ),
    ],
)
def test_refused(tools: Path, lines: list[str], argv: str, error: type[Error], name: str | None) -> None:
    found = judged(tools, lines, argv)
    assert isinstance(found, Refused)
    assert (found.error, found.filter) == (error, name)
    # One text for each error: but for what kill(2) says to anybody, it does not tell what there is here.
    texts = {
        ExecutableNotFound: "the program is not available on this host",
        ProcessGone: "the process has ended",
    }
    assert found.message == texts.get(error, DENIED)
    assert found.detail


def test_words_that_no_filter_allows_show_no_secret_of_their_program(tools: Path) -> None:
    lines = ["t: ArgvFilter, {tools}/tool, root, x", "[t]", "audit = no-argv"]
    assert judged(tools, lines, "tool S3cret").shown == Shown(secret=frozenset({1}))
    # One that is allowed, and was by another before, shows what both do.
    more = [
        "s: CommandFilter, {tools}/tool, root",
        "m: CommandFilter, /nonexistent/tool, root",
        "[m]",
        "secret = 2",
    ]
    assert judged(tools, [*more, "[s]", "timeout = 7"], "tool a b").shown == Shown()
    more[0], more[1] = more[1], more[0]
    assert judged(tools, more, "tool a b").shown == Shown(secret=frozenset({2}))


def test_words_whose_variables_are_refused_show_what_their_filter_shows(tools: Path) -> None:
    found = judged(tools, ["s: CommandFilter, {tools}/tool, root", "[s]", "secret = 1"], "tool a b", A="1")
    assert found.shown == Shown(secret=frozenset({1}))


def test_environment_denied(tools: Path) -> None:
    for lines in ([TOOL], [TOOL, "s: CommandFilter, {tools}/tool, root", "[t]", "env = B"]):
        found = judged(tools, lines, "tool", A="1")
        assert isinstance(found, Refused)
        assert found.error is EnvironmentDenied
        assert found.detail == f"{Reason.ENVIRONMENT.value}: A"
        assert found.message == "no filter allows this command with these variables: A"


def test_variables_that_are_refused_are_named(tools: Path) -> None:
    """Those alone, never a value, and no name of whatever bytes."""
    found = judged(
        tools, [TOOL, "[t]", "env = A, B={int}"], "tool", **{"A": "1", "B": "x", "C": "2", "\udc80": "3"}
    )
    assert isinstance(found, Refused)
    assert found.message.endswith(" with these variables: B, C, ?")
    assert found.detail.endswith(": B, C, ?")
    # Each is allowed by one of two filters, and both by none.
    other = "s: CommandFilter, {tools}/tool, root"
    found = judged(tools, [TOOL, other, "[t]", "env = A", "[s]", "env = B"], "tool", A="1", B="2")
    assert isinstance(found, Refused)
    assert found.message.endswith(" with these variables: A, B")


def test_input_that_is_refused_is_said(tools: Path) -> None:
    lines = [TOOL.replace("{tools}", str(tools)), "[t]", "stdin = no"]
    found = judge(policy(tools, *lines), Request(("tool",), stdin=True))
    assert isinstance(found, Refused)
    assert (found.error, found.message) == (Denied, f"{DENIED} with input; < /dev/null is none")


def test_environment_allowed_by_the_next_filter(tools: Path) -> None:
    lines = [TOOL, "s: CommandFilter, {tools}/tool, root", "[s]", "env = A", "timeout = 7"]
    found = judged(tools, lines, "tool", A="1")
    assert isinstance(found, Allowed)
    assert found.filter == "s"
    assert found.options.timeout == 7
    with found.bound:
        assert isinstance(found.bound, BoundExec)
        assert found.bound.env["A"] == "1"


def test_out_of_time(tools: Path) -> None:
    found = judged(tools, ["e: RegExpFilter, {tools}/tool, root, tool, (a|aa)+"], f"tool {'a' * 80}!")
    assert isinstance(found, Refused)
    assert (found.error, found.message, found.detail) == (Denied, DENIED, Reason.TIME.value)


def test_the_host_is_looked_at_each_time(tools: Path) -> None:
    rules = policy(tools, f"t: CommandFilter, {tools}/tool, root")
    request = Request(("tool",))
    os.rename(tools / "tool", tools / "away")
    gone = judge(rules, request)
    assert isinstance(gone, Refused)
    os.rename(tools / "away", tools / "tool")
    back = judge(rules, request)
    assert isinstance(back, Allowed)
    back.bound.close()
    (tools / "tool").chmod(0o777)
    assert isinstance(judge(rules, request), Refused)


def test_one_request_looks_at_a_directory_once(tools: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rules = policy(
        tools,
        "n: ChainingRegExpFilter, nice, root, nice",
        *(f"o{number}: PathFilter, {tools}/tool, root, {tools}/base, other" for number in range(3)),
        f"p: PathFilter, {tools}/tool, root, {tools}/base, {tools}/base, pass",
    )
    request = Request(("nice", f"{tools}/tool", f"{tools}/base/a", f"{tools}/base/a", "x"))
    # What the loader reads is looked at once in a process.
    first = judge(rules, request)
    assert isinstance(first, Allowed)
    first.bound.close()
    looked: list[str] = []
    real = os.lstat

    def lstat(path: str) -> os.stat_result:
        looked.append(path)
        return real(path)

    monkeypatch.setattr(os, "lstat", lstat)
    for _ in range(2):
        looked.clear()
        found = judge(rules, request)
        assert isinstance(found, Allowed)
        found.bound.close()
        directories = [path for path in tuple(looked) if os.path.isdir(path) and not os.path.islink(path)]
        # Each request looks again: at every directory, and at none twice that it goes through.
        assert {"/", str(tools), f"{tools}/base"} <= set(directories)
        directories.remove(f"{tools}/base")
        assert len(directories) == len(set(directories))


@pytest.mark.parametrize("changed", ["base", "."])
def test_the_next_request_sees_what_changed(tools: Path, changed: str) -> None:
    """A directory that others can write since is seen: no link counts in it, the program is refused."""
    rules = policy(tools, PATH.replace("{tools}", str(tools)), "[p]", "opens_paths = yes")
    request = Request(("tool", f"{tools}/base/a"))
    first = judge(rules, request)
    assert isinstance(first, Allowed)
    assert isinstance(first.bound, BoundExec)
    assert first.bound.nosymfollow == ()
    (tools / changed).chmod(0o777)
    second = judge(rules, request)
    if changed == "base":
        assert isinstance(second, Allowed)
        assert isinstance(second.bound, BoundExec)
        assert second.bound.nosymfollow == (f"{tools}/base",)
    else:
        assert isinstance(second, Refused)
        assert "can be written by its group or by others" in second.detail


def test_what_was_seen_does_not_excuse_what_was_not(tools: Path) -> None:
    """A directory is known by a path without links, after all above it; nothing else is known with it."""
    seen = host.Seen()
    owners = host.base_owners()
    host.resolve_owned(f"{tools}/base", owners, seen)
    assert str(tools) in seen.directories
    # What was only named, not gone through, has not been looked at as a directory.
    assert f"{tools}/base" not in seen.directories
    (tools / "w").chmod(0o777)
    for _ in range(2):
        with pytest.raises(host.UntrustedPath):
            host.resolve_owned(f"{tools}/w/tool", owners, seen)
    assert f"{tools}/w" not in seen.directories
    with pytest.raises(NotADirectoryError):
        host.resolve(f"{tools}/tool/x", owners, seen=seen)


#: A filter of every kind, and words of it in which a client names what it wants: {} in its place.
NAMING = {
    "a program": (TOOL, "{}"),
    "RegExpFilter": ("x: RegExpFilter, {tools}/tool, root, tool, {tools}/base/.*", "tool {}"),
    "PathFilter": ("x: PathFilter, cat, root, {tools}/base", "cat {}"),
    "PathFilter, up": ("x: PathFilter, cat, root, {tools}/base", "cat {tools}/base/../private/{name}"),
    "{path}": ("x: ArgvFilter, cat, root, {path={tools}/base}", "cat {}"),
    "{path}, open": ("x: ArgvFilter, cat, root, {path={tools}/open}", "cat {}"),
    "{path}, through": ("x: ArgvFilter, cat, root, {path={tools}/base}", "cat {}/../../base/a"),
    "{path}, alias": ("x: ArgvFilter, cat, root, {path={tools}/base}", "cat /var/run/..{}"),
    "{pid}": ("x: ArgvFilter, cat, root, {pid={tools}/tool}", "cat {}"),
    "ReadFileFilter": ("x: ReadFileFilter, {tools}/base/a", "cat {}"),
    "EnvFilter": ("x: EnvFilter, env, root, A=, {tools}/tool", "env A=1 {}"),
    "IpFilter": ("x: IpFilter, ip, root", "ip -n {} link"),
    "IpNetnsExecFilter": ("x: IpNetnsExecFilter, ip, root", "ip netns exec {} {}"),
    "a chain": (
        "x: ChainingRegExpFilter, nice, root, nice\np: PathFilter, cat, root, {tools}/base",
        "nice cat {}",
    ),
    "KillFilter": ("x: KillFilter, root, {tools}/tool", "kill {}"),
}


@pytest.mark.parametrize(("line", "argv"), NAMING.values(), ids=NAMING)
def test_nobody_learns_what_is_there(
    tools: Path, monkeypatch: pytest.MonkeyPatch, line: str, argv: str
) -> None:
    """One answer for what exists and what does not, and the host is asked about neither."""
    private = directory(tools / "private", 0o700)
    file(private / "there")
    directory(private / "dir")
    directory(tools / "open", 0o777)
    rules = policy(tools, *line.replace("{tools}", str(tools)).split("\n"))
    asked: list[str] = []
    for name in ("lstat", "stat", "readlink", "open", "access", "scandir", "listdir"):
        real = getattr(os, name)

        def spy(path: str, *more: object, _real: Any = real, **named: object) -> object:
            asked.append(str(path))
            return _real(path, *more, **named)

        monkeypatch.setattr(os, name, spy)
    answers = set()
    for name in ("there", "absent", "dir", "dir/absent", "there/x", ""):
        words = argv.replace("{tools}", str(tools)).replace("{name}", name).replace("{}", f"{private}/{name}")
        judged = judge(rules, Request(tuple(words.split())))
        assert isinstance(judged, Refused), words
        answers.add((judged.error, judged.message, judged.filter))
    assert len(answers) == 1
    assert not [path for path in asked if path.startswith(str(private))]


def test_where_the_host_does_not_answer_every_filter_hides_its_words(
    tools: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [TOOL, "s: CommandFilter, {tools}/tool, root", "[s]", "secret = 1"]

    def unanswered(match: Match, policy: object, **more: object) -> Bound:
        raise NotBound(InternalError, f"no answer for {match.name}")

    monkeypatch.setattr(module, "bind", unanswered)
    found = judged(tools, lines, "tool x")
    assert isinstance(found, Refused)
    assert (found.error, found.filter, found.detail) == (InternalError, "t", "no answer for t")
    assert found.shown == Shown(True, frozenset({1}))
