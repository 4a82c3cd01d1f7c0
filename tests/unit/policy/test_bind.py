"""policy/bind.py: words of a plan become paths, descriptors and processes, or nothing is left open."""

import errno
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from rootwrap_daemon.errors import Denied, Error, ExecutableNotFound, InternalError, ProcessGone, TooLarge
from rootwrap_daemon.filters.values import Match, Request
from rootwrap_daemon.policy import bind as module
from rootwrap_daemon.policy import executables, host, named, places
from rootwrap_daemon.policy.bound import Bound, BoundExec, BoundRead, BoundSignal, NotBound
from rootwrap_daemon.policy.policy import Allowed, Refused, judge
from tests.processes import our_descriptors
from tests.unit.filters.lines import match, rules
from tests.unit.policy.conftest import StartSleeper
from tests.unit.policy.things import EXEC_DIRS, OWNERS, STRANGER, Host, directory, file, link, policy, program

NICE = "n: ChainingRegExpFilter, nice, root, nice"
Kind = TypeVar("Kind", BoundExec, BoundSignal, BoundRead)


def bind(lines: list[str], *argv: str, exec_dirs: tuple[str, ...] = EXEC_DIRS) -> Bound:
    found = match(rules(*lines), *argv)
    assert isinstance(found, Match)
    return module.bind(found, Host(exec_dirs))


def bound(kind: type[Kind], lines: list[str], *argv: str) -> Kind:
    found = bind(lines, *argv)
    assert isinstance(found, kind)
    return found


def refused(
    error: type[Error], what: str, lines: list[str], *argv: str, exec_dirs: tuple[str, ...] = EXEC_DIRS
) -> None:
    with pytest.raises(NotBound, match=what or None) as caught:
        bind(lines, *argv, exec_dirs=exec_dirs)
    assert caught.value.error is error


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """Programs of their own, and a base directory that others can write."""
    for name in ("tool", "other", "cat"):
        program(tmp_path / name)
    program(tmp_path / "writable", mode=0o777)
    for name in ("a", "b"):
        file(tmp_path / name)
    directory(tmp_path / "plain")
    base = directory(tmp_path / "base", 0o777)
    file(base / "a")
    file(base / "b")
    link(base / "out", "../a")
    return tmp_path


@pytest.fixture
def exec_dirs(tools: Path) -> tuple[str, ...]:
    """Those of the host, and behind them one with the programs that not every host has."""
    for name in ("dnsmasq", "ip"):
        program(tools / name)
    return (*EXEC_DIRS, str(tools))


# Commands


def test_a_record_says_why_an_option_is_looked_at_as_a_path(tools: Path) -> None:
    """In each of the directories, `maxdepth` may be the value of `-m`, a file there: they are too many."""
    paths = [str(directory(tools / f"d{number}")) for number in range(60)]
    lines = [f"x: ArgvFilter, find, root, {', '.join(paths)}, -maxdepth, {{int}}"]
    what = "the word '-maxdepth', which may name a file, is refused: too many paths in it"
    refused(Denied, what, lines, "find", *paths, "-maxdepth", "1")


def test_exec(tools: Path) -> None:
    with bound(BoundExec, [f"x: CommandFilter, {tools}/tool, root"], "tool", "a", "", "\udcff") as found:
        assert found.path == f"{tools}/tool"
        assert found.argv == (f"{tools}/tool", "a", "", "\udcff")
        assert found.identity == Host().identities["root", None]
        assert found.env == {
            "PATH": ":".join(EXEC_DIRS),
            "LANG": "C.UTF-8",
            "HOME": "/root",
            "USER": "root",
            "LOGNAME": "root",
        }
        assert found.descriptors == ()


def test_exec_by_name_in_exec_dirs(tools: Path) -> None:
    with bind(["x: CommandFilter, tool, root"], "tool", exec_dirs=("/nonexistent", str(tools))) as found:
        assert isinstance(found, BoundExec)
        assert found.path == f"{tools}/tool"
        assert found.env["PATH"] == f"/nonexistent:{tools}"


def test_exec_as_another_user_with_variables(tools: Path) -> None:
    lines = [f"x: EnvFilter, env, other, LANG=, B=2, {tools}/tool"]
    with bound(BoundExec, lines, "env", "B=2", "LANG=C", "tool", "x") as found:
        assert found.argv == (f"{tools}/tool", "x")
        assert (found.identity.uid, found.env["USER"], found.env["HOME"]) == (STRANGER, "other", "/")
        assert (found.env["LANG"], found.env["B"]) == ("C", "2")
        assert found.env["PATH"] == ":".join(EXEC_DIRS)


@pytest.mark.root
@pytest.mark.parametrize(
    ("option", "home"),
    [("", "agent"), ("group = root", None), ("ambient = CAP_CHOWN", None), ("no_new_privs = no", None)],
)
def test_home_where_others_can_change_what_is_in_it(tools: Path, option: str, home: str | None) -> None:
    # With more rights than its user has a command would load what the user put there.
    own = directory(tools / "agent", 0o755)
    os.chown(own, STRANGER, STRANGER)
    found = match(
        rules(f"x: CommandFilter, {tools}/tool, other", *(["[x]", option] if option else [])), "tool"
    )
    assert isinstance(found, Match)
    with module.bind(found, Host(home=str(own))) as made:
        assert isinstance(made, BoundExec)
        assert made.env["HOME"] == (str(own) if home else "/nonexistent")


def test_the_inner_program_of_a_chain_is_looked_up(tools: Path) -> None:
    lines = [NICE, f"x: CommandFilter, {tools}/tool, root"]
    with bound(BoundExec, lines, "nice", "tool", "x") as found:
        assert found.path == found.argv[0]
        assert os.path.basename(found.path) == "nice"
        assert found.argv[1:] == (f"{tools}/tool", "x")


@pytest.mark.parametrize(
    ("program", "what"),
    [
        ("{tools}/missing", "no program"),
        ("no-such-program", "no program"),
        ("{tools}/a", "no program"),
        ("{tools}/plain", "no program"),
        ("{tools}/base/missing", "is refused: .*can be written"),
        ("{tools}/writable", "is refused: .*can be written"),
    ],
)
@pytest.mark.parametrize("chained", [False, True])
def test_no_executable(tools: Path, program: str, what: str, chained: bool) -> None:
    path = program.format(tools=tools)
    lines = [NICE, f"x: CommandFilter, {path}, root"]
    argv = [*(["nice"] if chained else []), path, "x"]
    refused(ExecutableNotFound, what, lines, *argv)


def test_a_program_in_a_directory_of_others(tools: Path) -> None:
    program(tools / "base/tool")
    refused(
        ExecutableNotFound,
        "is refused: .*base can be written",
        [f"x: CommandFilter, {tools}/base/tool, root"],
        "tool",
    )


def test_paths_of_words(tools: Path) -> None:
    lines = [f"x: PathFilter, {tools}/cat, root, pass, {tools}, {tools}/base, {tools}/base"]
    words = ("cat", "any", f"{tools}/./new", f"{tools}/base/a", f"{tools}/base/out")
    with bound(BoundExec, lines, *words) as found:
        assert found.argv == (f"{tools}/cat", "any", f"{tools}/new", *words[3:])
        assert found.nosymfollow == (f"{tools}/base",)
        assert found.descriptors == ()


@pytest.mark.parametrize(
    ("word", "rest", "place"),
    [
        ("{base}/a", "{base}/[ab]", "base"),
        ("of={base}/a", "of=.*", "base"),
        ("--file={base}/a", "--file=.*", "base"),
        ("-C{base}/sub", "-C.*", "base"),
        ("-oa,dir={base}/a", ".*", "base"),
        ("lower={plain},upper={base}/a", ".*", "base"),
        ("-xf{base}/a", ".*", "base"),
        ("-Irel,{base}/a", ".*", "base"),
        ("-C{relative}/a", ".*", "base"),
        ("%{base}/a", ".*", "base"),
        ("+{base}/a", ".*", "base"),
        ("file://{base}/a", ".*", "base"),
        ("{base}:/mnt", ".*", "base"),
        ("host:{base}/a", ".*", "base"),
        ("{tools}/to_base/a", ".*", "base"),
        ("{relative}/a", ".*", "base"),
        ("if={relative}/a", ".*", "base"),
        ("{plain}/a", ".*", None),
        ("{tools}/missing/a", ".*", None),
        ("{basex}", ".*", None),
        ("10.0.0.1/24", ".*", None),
    ],
)
def test_a_path_in_any_word(tools: Path, word: str, rest: str, place: str | None) -> None:
    base, plain = f"{tools}/base", f"{tools}/plain"
    link(tools / "to_base", "base")
    names = {"base": base, "basex": f"{base}x", "plain": plain, "tools": str(tools), "relative": base[1:]}
    lines = [f"x: RegExpFilter, {tools}/cat, root, cat, {rest.format(**names)}"]
    with bound(BoundExec, lines, "cat", word.format(**names)) as found:
        assert found.argv[1] == word.format(**names)
        assert found.nosymfollow == ((f"{tools}/{place}",) if place else ())


@pytest.mark.parametrize("kind", ["ArgvFilter, {tools}/cat, root", "EnvFilter, env, root, A=, {tools}/cat"])
def test_a_literal_path_is_a_path(tools: Path, kind: str) -> None:
    words = ["cat", f"of={tools}/base/a", f"{tools}/base/a"]
    lines = [f"x: {kind.format(tools=tools)}, {words[1]}, {words[2]}"]
    argv = ["env", "A=1", *words] if "Env" in kind else words
    with bound(BoundExec, lines, *argv) as found:
        assert found.nosymfollow == (f"{tools}/base",)
        assert found.argv[1:] == tuple(words[1:])


def test_words_of_a_filter_that_restricts_none_are_its_own(tools: Path) -> None:
    with bound(BoundExec, [f"x: CommandFilter, {tools}/tool, root"], "tool", f"{tools}/base/a") as found:
        assert found.nosymfollow == ()


@pytest.mark.parametrize("chained", [False, True])
def test_a_program_of_which_nothing_is_known_gets_no_place(tools: Path, chained: bool) -> None:
    lines = [f"x: ArgvFilter, {tools}/tool, root, {{path={tools}/base}}", NICE]
    argv = [*(["nice"] if chained else []), "tool", f"{tools}/base/a"]
    refused(Denied, "nothing is known of how tool uses paths", lines, *argv)
    with bound(BoundExec, [*lines, "[x]", "opens_paths = yes"], *argv) as found:
        assert found.nosymfollow == (f"{tools}/base",)


@pytest.mark.parametrize(
    "words", ["mount", "losetup", "swapon", "realpath", "readlink, -f", "sed, --follow-symlinks, -i"]
)
def test_a_program_that_resolves_links_gets_no_place(tools: Path, words: str) -> None:
    name, *options = words.split(", ")
    program(tools / name)
    fields = ", ".join((f"{tools}/{name}", "root", *options, f"{{path={tools}/base}}"))
    lines = [f"x: ArgvFilter, {fields}"]
    refused(
        Denied,
        f"{name} resolves links itself",
        [*lines, "[x]", "opens_paths = yes"],
        name,
        *options,
        f"{tools}/base/a",
    )


def test_another_tree_of_an_inner_command(tools: Path) -> None:
    lines = [
        f"x: PathFilter, {tools}/cat, root, {tools}/plain",
        "c: ChainingRegExpFilter, chroot, root, chroot, /srv/.*",
    ]
    refused(Denied, "another tree", lines, "chroot", "/srv/jail", "cat", f"{tools}/plain/a")
    lines[0] = f"x: RegExpFilter, {tools}/cat, root, cat, .*"
    refused(Denied, "another tree", lines, "chroot", "/srv/jail", "cat", "if=/etc/x")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("ReadFileFilter, /proc/net/dev", ["cat", "/proc/net/dev"]),
        ("ReadFileFilter, /proc/self/mounts", ["cat", "/proc/self/mounts"]),
        ("ReadFileFilter, /sys/class/net/x/mtu", ["cat", "/sys/class/net/x/mtu"]),
        ("PathFilter, cat, root, /proc/net", ["cat", "/proc/net/dev"]),
        ("PathFilter, cat, root, /proc/sys/net", ["cat", "/proc/sys/net/ipv4/conf/x/rp_filter"]),
        ("ArgvFilter, cat, root, {path=/proc/self/net}", ["cat", "/proc/self/net/./dev"]),
        ("RegExpFilter, cat, root, cat, .*", ["cat", "/proc/self/status"]),
        ("RegExpFilter, cat, root, cat, .*", ["cat", "/proc/self/fd/0"]),
        ("RegExpFilter, cat, root, cat, .*", ["cat", "/sys/class/net/x/mtu"]),
    ],
)
def test_what_depends_on_who_looks_is_handed_on_as_it_is(line: str, words: list[str]) -> None:
    with bound(BoundExec, [NICE, f"x: {line}"], "nice", *words) as found:
        assert found.argv[2:] == tuple(word.replace("/./", "/") for word in words[1:])
        assert found.nosymfollow == ()


@pytest.mark.parametrize(
    "word",
    [
        *("/proc/self/root/etc/x", "/proc/self/cwd/x", "/proc/thread-self/root/x", "/proc/1/root/etc/x"),
        *("/proc/self/task/1/root/x", "/proc/self/fd/5", "/proc/self/fd/0/x", "/proc/net/../root/x"),
        *(
            "/proc/self/../1/root/x",
            "of=/proc/self/root/x",
            "-xf/proc/self/root/x",
            "/dev/fd/5",
            "//proc/self/root/x",
        ),
    ],
)
@pytest.mark.parametrize("words", [[], ["nice"]])
def test_no_word_through_what_a_process_has(word: str, words: list[str]) -> None:
    """It would lead past every directory on the way."""
    refused(
        Denied,
        "leads to what a process has",
        [NICE, "x: RegExpFilter, cat, root, cat, .*"],
        *words,
        "cat",
        word,
    )


def test_no_inner_word_out_of_a_tree_of_the_kernel(tools: Path) -> None:
    for tree in ("/proc", "/sys"):
        lines = [NICE, "x: RegExpFilter, cat, root, cat, .*"]
        refused(Denied, "leads to", lines, "nice", "cat", f"{tree}/..{tools}/base/a")
    for word in ("/dev/stdin", "/proc/self/fd/1"):
        bound(BoundExec, ["x: RegExpFilter, cat, root, cat, .*"], "cat", word).close()


def test_the_root_is_no_place(tools: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No mount over / is seen by a process that has it as its root already."""
    monkeypatch.setattr(places, "is_fixed", lambda status, owners: False)
    monkeypatch.setattr(places, "is_sticky", lambda status, owners: False)
    for line in ("RegExpFilter, cat, root, cat, .*", f"PathFilter, cat, root, {tools}/base"):
        refused(Denied, "what is in /$", [f"x: {line}"], "cat", f"{tools}/base/a")


@pytest.mark.parametrize("base", ["/proc", "/proc/self", "/proc/1"])
@pytest.mark.parametrize("words", [[], ["nice"]])
def test_no_word_beneath_a_directory_of_processes(base: str, words: list[str]) -> None:
    refused(
        Denied, "processes decide", [NICE, f"x: PathFilter, cat, root, {base}"], *words, "cat", f"{base}/cwd"
    )


def test_no_word_beneath_another_sys() -> None:
    lines = [NICE, "x: PathFilter, cat, root, /sys/class/net"]
    bound(BoundExec, lines, "cat", "/sys/class/net/lo/mtu").close()
    refused(Denied, "another /sys", lines, "nice", "cat", "/sys/class/net/lo/mtu")


@pytest.fixture
def public() -> Iterator[Path]:
    """A directory of root's in which everybody may look, as in those above it."""
    with tempfile.TemporaryDirectory() as made:
        os.chmod(made, 0o755)
        yield Path(made)


@pytest.mark.root
@pytest.mark.parametrize(
    ("mode", "owner"), [(0o700, 0), (0o710, 0), (0o711, 0), (0o700, STRANGER - 1), (0o711, STRANGER - 1)]
)
def test_one_answer_where_the_user_of_a_command_may_not_look(public: Path, mode: int, owner: int) -> None:
    """It is root who looks for the command, and would tell what is there by what is refused."""
    private = directory(public / "private", owner=owner)
    directory(private / "open", 0o777)
    file(private / "one")
    os.link(private / "one", private / "two")
    link(private / "link", public)
    link(private / "process", "/proc/self/root")
    private.chmod(mode)
    answers = set()
    for tool in ("cat", "echo"):
        for name in ("missing", "one", "open", "open/x", "link", "process", "one/x"):
            try:
                bind([f"x: RegExpFilter, {tool}, other, {tool}, .*"], tool, f"{private}/{name}").close()
                answers.add((tool, "allowed"))
            except NotBound as refused:
                answers.add((tool, str(refused).rpartition(": ")[2]))
    told = f"other may not look into {private}"
    if mode & 0o001:
        assert len(answers) > 2
    else:
        assert answers == {("cat", told), ("echo", told)}


@pytest.mark.root
def test_who_may_look_into_a_directory(public: Path) -> None:
    """By its mode as its owner, as a member of its group, or as another."""
    own = directory(public / "own", 0o700, STRANGER)
    group = directory(public / "group", 0o770)
    os.chown(group, 0, STRANGER)
    deep = directory(own / "deep", 0o700)
    line = "x: RegExpFilter, cat, other, cat, .*"
    for path in (own / "x", group / "x", deep):
        bind([line], "cat", str(path)).close()
    refused(Denied, "may not look into a directory below|may not look into", [line], "cat", f"{deep}/x")
    group.chmod(0o707)
    refused(Denied, "may not look", [line], "cat", f"{group}/x")
    own.chmod(0o077)
    refused(Denied, "may not look", [line], "cat", f"{own}/x")


@pytest.mark.root
def test_an_identity_may_be_misled_by_itself_alone(public: Path, tools: Path) -> None:
    """Its own links lead it nowhere that it could not go."""
    his = directory(public / "his", owner=STRANGER)
    file(his / "f", owner=STRANGER)
    link(his / "in", "f", owner=STRANGER)
    link(his / "out", "/etc/hostname", owner=STRANGER)
    lines = [f"x: PathFilter, {tools}/tool, other, {his}"]
    with bound(BoundExec, lines, "tool", f"{his}/in") as found:
        assert (found.argv[1], found.nosymfollow) == (f"{his}/in", ())
    refused(Denied, "leads out of", lines, "tool", f"{his}/out")
    refused(Denied, "nothing is known", [*lines, "[x]", "no_new_privs = no"], "tool", f"{his}/in")
    his.chmod(0o777)
    refused(Denied, "nothing is known", lines, "tool", f"{his}/in")


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENOMEM, errno.ESTALE, errno.EIO, errno.EINTR])
@pytest.mark.parametrize(
    "line",
    [
        "PathFilter, cat, root, {tools}/plain",
        "RegExpFilter, cat, root, cat, .*",
        "ReadFileFilter, {tools}/plain/a",
    ],
)
def test_a_host_that_does_not_answer_is_no_verdict(
    tools: Path, monkeypatch: pytest.MonkeyPatch, number: int, line: str
) -> None:
    real = os.lstat

    def lstat(path: str) -> os.stat_result:
        if path.endswith("/plain"):
            raise OSError(number, os.strerror(number), path)
        return real(path)

    monkeypatch.setattr(os, "lstat", lstat)
    refused(InternalError, "", [f"x: {line.format(tools=tools)}"], "cat", f"{tools}/plain/a")


@pytest.mark.parametrize("inner", [False, True])
def test_a_refused_path_leaves_nothing_open(tools: Path, inner: bool, start_sleeper: StartSleeper) -> None:
    lines = [f"x: ArgvFilter, {tools}/cat, root, {{pid=sleep}}, {{path={tools}/base}}", NICE]
    argv = ["cat", str(start_sleeper()), f"{tools}/base/../a"]
    before = our_descriptors()
    refused(Denied, "is refused", lines, *(["nice", *argv] if inner else argv))
    assert our_descriptors() <= before


@pytest.mark.parametrize(
    "word", ["{tools}/a", "{tools}/base/../a", "/etc/passwd", "{tools}/base/../\udc80", "/\ud800"]
)
def test_paths_refused(tools: Path, word: str) -> None:
    lines = [f"x: PathFilter, {tools}/cat, root, {tools}/base"]
    word = word.format(tools=tools)
    what = re.escape(f"the word {word!a} is refused, wanted beneath {tools}/base: ")
    refused(Denied, f"^{what}", lines, "cat", word)


def test_as_many_descriptors_as_the_daemon_can_hold(tools: Path, start_sleeper: StartSleeper) -> None:
    lines = [f"x: ArgvFilter, {tools}/tool, root, {{pid=sleep}}..."]
    pid = str(start_sleeper())
    with bound(BoundExec, lines, "tool", *[pid] * 3) as found:
        assert len(found.descriptors) == 3
    before = our_descriptors()
    refused(TooLarge, "more than 3 words", lines, "tool", *[pid] * 4)
    assert our_descriptors() <= before


@pytest.mark.parametrize(
    ("fields", "other"),
    [
        ("unshare, root, --pid, cat, PID", True),
        ("unshare, root, --pid, cat, x, PID", True),
        ("nice, root, unshare, --pid, cat, PID", True),
        ("unshare, root, --mount, cat, PID", False),
        # It is the option of what goes there, which has the numbers of here.
        ("nsenter, root, -p, -t, PID, cat, x", False),
        ("nsenter, root, -p, -t, PID, cat, PID", True),
    ],
)
def test_a_number_of_another_process(start_sleeper: StartSleeper, fields: str, other: bool) -> None:
    pid = str(start_sleeper())
    words = [word for word in fields.split(", ") if word != "root"]
    argv = [pid if word == "PID" else word for word in words]
    line = f"x: ArgvFilter, {fields.replace('PID', '{pid=sleep}')}"
    before = our_descriptors()
    if other:
        refused(Denied, f"^{pid} is the number of another process", [line], *argv)
    else:
        with bound(BoundExec, [line], *argv) as found:
            assert found.argv[1:] == tuple(argv[1:])
    assert our_descriptors() <= before


@pytest.mark.root
@pytest.mark.parametrize(
    ("fields", "enters"),
    [
        ("timeout, root, 5, ps, PID", False),
        ("timeout, root, 5, gdb, PID", True),
        ("timeout, root, 5, gdb, x, PID", True),
        # What has the number executes it no more.
        ("timeout, root, PID, gdb", False),
        ("timeout, root, 5, --new, gdb, ps, PID", True),
        ("nsenter, root, -t, PID, -n, ps", False),
        ("nsenter, root, -t, PID, -m, ps", True),
        ("nice, root, --new, 5, nsenter, -m, -t, PID", True),
    ],
)
def test_a_process_of_somebody_else_is_not_entered(
    start_sleeper: StartSleeper, fields: str, enters: bool
) -> None:
    pid = str(start_sleeper(user=STRANGER))
    words = [word for word in fields.split(", ") if word != "root"]
    argv = [pid if word == "PID" else word for word in words]
    line = f"x: ArgvFilter, {fields.replace('PID', '{pid=sleep}')}"
    lines = [line, "[x]", "target_user = nobody"]
    refused(Denied, "is not that of a trusted owner", [line], *argv)
    if enters:
        refused(Denied, "would enter it", lines, *argv)
    else:
        bind(lines, *argv).close()


def test_a_missing_program_is_seen_before_a_refused_path(tools: Path) -> None:
    lines = [f"x: PathFilter, {tools}/missing, root, {tools}/base"]
    refused(ExecutableNotFound, "no program", lines, "missing", "/etc/passwd")


def test_a_file_of_others_behind_one_of_the_kernels(tools: Path) -> None:
    """In a directory of root's it leads nowhere else: its content alone is theirs."""
    file(tools / "plain/shared", mode=0o666)
    lines = [NICE, f"x: RegExpFilter, {tools}/tool, root, tool, .*"]
    what = "nothing is known of how tool uses paths, and others can change what is in"
    for word in (
        f"{tools}/plain/shared",
        f"/sys/kernel,{tools}/plain/shared",
        f"/no/such,{tools}/plain/shared",
    ):
        refused(Denied, what, lines, "tool", word)
        refused(Denied, what, lines, "nice", "tool", word)
    bind(lines, "nice", "tool", "/sys/kernel,/etc/hostname").close()


@pytest.mark.parametrize("cwd", ["/", "{tools}"])
def test_nothing_is_looked_at_where_any_words_are_allowed(tools: Path, cwd: str) -> None:
    lines = ["x: CommandFilter, nice, root", "[x]", f"cwd = {cwd.format(tools=tools)}"]
    with bound(BoundExec, lines, *["nice"] * 20, f"{tools}/base/a") as found:
        assert (len(found.argv), found.nosymfollow) == (21, ())


def test_a_program_without_words_finds_what_is_where_it_starts(tools: Path) -> None:
    program(tools / "make")
    for cwd in ("/", f"{tools}/plain"):
        bind([f"x: ArgvFilter, {tools}/make, root", "[x]", f"cwd = {cwd}"], "make").close()
    file(tools / "plain/Makefile", mode=0o666)
    what = f"the words are refused: make executes what others can change in {tools}/plain"
    refused(Denied, what, [f"x: ArgvFilter, {tools}/make, root", "[x]", f"cwd = {tools}/plain"], "make")
    # Whatever it is told to do, its filter allows.
    for line, *words in (
        (f"x: CommandFilter, {tools}/make, root", "make", "all"),
        (f"x: EnvFilter, env, root, A=, {tools}/make", "env", "A=1", "make", "all"),
    ):
        bind([line, "[x]", f"cwd = {tools}/plain"], *words).close()


def test_a_file_of_others_beneath_a_base_of_roots(tools: Path) -> None:
    file(tools / "plain/shared", mode=0o666)
    file(tools / "plain/own")
    lines = [f"x: PathFilter, {tools}/NAME, root, {tools}/plain"]
    for name, shared in (("tool", False), ("cat", True)):
        named = [line.replace("NAME", name) for line in lines]
        with bound(BoundExec, named, name, f"{tools}/plain/own") as found:
            assert found.nosymfollow == ()
        if shared:
            with bound(BoundExec, named, name, f"{tools}/plain/shared") as found:
                assert found.nosymfollow == ()
        else:
            what = f"nothing is known of how tool uses paths, and others can change .* {tools}/plain/shared"
            refused(Denied, what, named, name, f"{tools}/plain/shared")
    sed = ["x: ArgvFilter, sed, root, --file, {path=PLAIN}".replace("PLAIN", f"{tools}/plain")]
    bind(sed, "sed", "--file", f"{tools}/plain/own").close()
    refused(Denied, "does what a file says", sed, "sed", "--file", f"{tools}/plain/shared")
    shell = [f"x: ArgvFilter, sh, root, {{path={tools}/plain}}", "[x]", "opens_paths = yes"]
    bind(shell, "sh", f"{tools}/plain/own").close()
    refused(Denied, "sh does what a file says", shell, "sh", f"{tools}/plain/shared")
    sums = [f"x: ArgvFilter, md5sum, root, -c, {{path={tools}/plain}}"]
    bind(sums, "md5sum", "-c", f"{tools}/plain/own").close()
    refused(Denied, "does what a file says", sums, "md5sum", "-c", f"{tools}/plain/shared")


def test_a_file_that_its_filter_names_in_a_place_of_others(tools: Path) -> None:
    """Nobody else can move it, and the command sees nothing beside it."""
    file(directory(tools / "sticky", 0o1777) / "f")
    lines = [f"x: ReadFileFilter, {tools}/sticky/f", NICE]
    with bound(BoundExec, lines, "nice", "cat", f"{tools}/sticky/f") as found:
        assert (found.argv[2], found.nosymfollow) == (f"{tools}/sticky/f", (f"{tools}/sticky",))


def test_a_file_that_its_filter_names_in_a_tree_of_the_kernel(tools: Path) -> None:
    """It may lead where no word of a client may."""
    lines = ["x: ReadFileFilter, /proc/self/cwd/etc/hostname", NICE]
    with bound(BoundExec, lines, "nice", "cat", "/proc/self/cwd/etc/hostname") as found:
        assert found.argv[2] == "/proc/self/cwd/etc/hostname"


@pytest.mark.parametrize(
    ("words", "found"),
    [
        # A wrapper may go there first, which no other program does before it reads its options.
        ("env -C PLAIN PYTHONPATH=sub cat", True),
        ("nice env -C PLAIN PYTHONPATH=sub cat", True),
        ("perl -I sub PLAIN", False),
        ("perl -I PLAIN/sub /etc/hostname", True),
        ("perl /etc/hostname -I PLAIN/sub", False),
        ("cat --x=PYTHONPATH=PLAIN/sub", True),
        ("cat --x=FILE=PLAIN/sub", False),
    ],
)
def test_where_words_say_that_code_is(tools: Path, words: str, found: bool) -> None:
    file(directory(tools / "plain/sub") / "theirs", mode=0o666)
    program(tools / "perl")
    asked = words.replace("PLAIN", f"{tools}/plain").split()
    path = f"{tools}/perl" if asked[0] == "perl" else asked[0]
    lines = [f"x: ArgvFilter, {path}, root, {', '.join(asked[1:])}", "[x]", "opens_paths = yes"]
    if found:
        what = f"it does what a file says, and others can change what is in {tools}/plain/sub"
        refused(Denied, what, lines, *asked)
    else:
        bind(lines, *asked).close()
    # What may be anything is its filter's to say.
    bind([f"x: CommandFilter, {path}, root"], *asked).close()


# Files


def test_read(tools: Path) -> None:
    file(tools / "r", "content")
    link(tools / "to_r", "r")
    for name in ("r", "to_r"):
        with bound(BoundRead, [f"x: ReadFileFilter, {tools}/{name}"], "cat", f"{tools}/{name}") as found:
            assert os.read(found.descriptor, 100) == b"content"
            assert not os.get_inheritable(found.descriptor)
            assert not os.get_blocking(found.descriptor)
            assert found.descriptors == (found.descriptor,)


@pytest.mark.parametrize("name", ["missing", "base", "base/a", "fifo", "dangling", "loop", "a/x"])
@pytest.mark.parametrize("chained", [False, True])
def test_files_refused(tools: Path, name: str, chained: bool) -> None:
    os.mkfifo(tools / "fifo")
    link(tools / "dangling", "missing")
    link(tools / "loop", "loop")
    lines = [f"x: ReadFileFilter, {tools}/{name}", NICE]
    refused(Denied, "is refused", lines, *(["nice"] if chained else []), "cat", f"{tools}/{name}")


def test_a_device_refused() -> None:
    refused(Denied, "is refused", ["x: ReadFileFilter, /dev/null"], "cat", "/dev/null")


@pytest.mark.root
@pytest.mark.parametrize("chained", [False, True])
@pytest.mark.parametrize("name", ["his_link", "his/f", "sticky/his"])
def test_files_that_a_stranger_could_change(tools: Path, name: str, chained: bool) -> None:
    link(tools / "his_link", "a", owner=STRANGER)
    file(directory(tools / "his", owner=STRANGER) / "f")
    # There he may put another thing in its place, and it can be one name of many.
    file(directory(tools / "sticky", 0o1777) / "his", owner=STRANGER)
    lines = [f"x: ReadFileFilter, {tools}/{name}", NICE]
    refused(Denied, f"user {STRANGER}", lines, *(["nice"] if chained else []), "cat", f"{tools}/{name}")


def test_a_file_in_a_chain_is_named_by_its_real_path(tools: Path) -> None:
    link(tools / "to_a", "a")
    with bound(
        BoundExec, [f"x: ReadFileFilter, {tools}/to_a", NICE], "nice", "cat", f"{tools}/to_a"
    ) as found:
        assert os.path.basename(found.argv[1]) == "cat"
        assert found.argv[1].startswith("/")
        assert found.argv[2:] == (f"{tools}/a",)


# Signals

KILL = ["k: KillFilter, root, sleep, -9, -TERM"]


def test_signal(start_sleeper: StartSleeper) -> None:
    pid = start_sleeper()
    with bound(BoundSignal, KILL, "kill", "-9", str(pid)) as found:
        assert (found.pid, found.signal) == (pid, signal.SIGKILL)
        assert found.descriptors == (found.pidfd,)
        signal.pidfd_send_signal(found.pidfd, found.signal)
        _, status = os.waitpid(pid, 0)
        assert os.WTERMSIG(status) == signal.SIGKILL
        # The descriptor is that process's alone, also when the number is free.
        with pytest.raises(ProcessLookupError):
            signal.pidfd_send_signal(found.pidfd, signal.SIGTERM)


@pytest.mark.parametrize("pid", [os.getpid(), os.getppid(), 1], ids=["itself", "its parent", "the first"])
def test_no_signal_to_itself_or_an_ancestor(pid: int) -> None:
    refused(Denied, "an ancestor of it, or pid 1", KILL, "kill", "-9", str(pid))


def test_no_signal_to_another_program(start_sleeper: StartSleeper) -> None:
    pid = start_sleeper()
    refused(Denied, "does not run", ["k: KillFilter, root, cat, -9"], "kill", "-9", str(pid))


@pytest.mark.parametrize("program", ["no-such-program", "{tools}/writable"])
def test_no_signal_without_the_program(tools: Path, start_sleeper: StartSleeper, program: str) -> None:
    line = f"k: KillFilter, root, {program.format(tools=tools)}, -9"
    refused(ExecutableNotFound, "program", [line], "kill", "-9", str(start_sleeper()))


@pytest.mark.parametrize("pid", [2**31 - 1, 2**22 + 1])
def test_no_signal_to_nobody(pid: int) -> None:
    refused(ProcessGone, "no process", KILL, "kill", "-9", str(pid))


def test_no_signal_to_a_zombie() -> None:
    process = subprocess.Popen(["sleep", "0"])
    try:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        refused(ProcessGone, "has ended", KILL, "kill", "-9", str(process.pid))
    finally:
        process.wait()


def test_no_signal_to_a_process_that_ended_meanwhile(
    start_sleeper: StartSleeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid = start_sleeper()
    real = executables.runs_program

    def end_it(number: int, program: executables.Executable, owners: frozenset[int]) -> bool:
        found = real(number, program, owners)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        return found

    monkeypatch.setattr(executables, "runs_program", end_it)
    refused(ProcessGone, "ended", KILL, "kill", "-9", str(pid))


def test_no_signal_to_a_thread() -> None:
    over = threading.Event()
    thread = threading.Thread(target=over.wait)
    thread.start()
    try:
        line = f"k: KillFilter, root, {os.path.realpath(sys.executable)}, -9"
        assert thread.native_id != os.getpid()
        with pytest.raises(NotBound):
            bind([line], "kill", "-9", str(thread.native_id))
        refused(Denied, "no process", KILL, "kill", "-9", str(thread.native_id))
    finally:
        over.set()
        thread.join()


def test_signal_to_a_program_that_was_upgraded(tmp_path: Path, start_sleeper: StartSleeper) -> None:
    path = program(tmp_path / "prog")
    pid = start_sleeper(str(path))
    os.replace(program(tmp_path / "new"), path)
    with bound(BoundSignal, [f"k: KillFilter, root, {path}"], "kill", str(pid)) as found:
        assert found.signal == signal.SIGTERM


def test_no_signal_to_a_program_called_deleted(tmp_path: Path, start_sleeper: StartSleeper) -> None:
    path = program(tmp_path / "prog")
    pid = start_sleeper(str(program(tmp_path / "prog (deleted)")))
    refused(Denied, "does not run", [f"k: KillFilter, root, {path}"], "kill", str(pid))


@pytest.mark.root
@pytest.mark.parametrize(
    ("run_as", "owner", "allowed"),
    [("root", STRANGER, True), ("other", STRANGER, True), ("other", 0, False), ("other", 1, False)],
)
def test_signal_with_the_rights_of_run_as(
    start_sleeper: StartSleeper, run_as: str, owner: int, allowed: bool
) -> None:
    pid = start_sleeper(user=owner)
    lines = [f"k: KillFilter, {run_as}, sleep"]
    if allowed:
        bind(lines, "kill", str(pid)).close()
    else:
        refused(Denied, "is not other's", lines, "kill", str(pid))


@pytest.mark.root
@pytest.mark.parametrize(
    ("users", "allowed"),
    [
        ((STRANGER, 1, 1), True),
        ((1, 1, STRANGER), True),
        # kill(2) does not compare the effective one of whom it signals.
        ((1, STRANGER, 1), False),
    ],
)
def test_signal_by_the_real_and_the_saved_user(users: tuple[int, int, int], allowed: bool) -> None:
    script = f"import os, time; os.setresuid{users}; print(flush=True); time.sleep(1000)"
    lines = [f"k: KillFilter, other, {os.path.realpath(sys.executable)}"]
    with subprocess.Popen(
        [os.path.realpath(sys.executable), "-c", script], stdout=subprocess.PIPE
    ) as process:
        try:
            assert process.stdout and process.stdout.readline() == b"\n"
            if allowed:
                bind(lines, "kill", str(process.pid)).close()
            else:
                refused(Denied, "is not other's", lines, "kill", str(process.pid))
        finally:
            process.kill()


# The context manager


def test_an_exception_inside_closes_too(tools: Path) -> None:
    found = bound(BoundRead, [f"x: ReadFileFilter, {tools}/a"], "cat", f"{tools}/a")
    with pytest.raises(ZeroDivisionError), found:
        raise ZeroDivisionError
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(found.descriptor)


@pytest.mark.parametrize(
    ("filters", "words"),
    [
        ("chroot, root, TOOLS/plain, cat, {path=TOOLS/plain}", "chroot TOOLS/plain cat TOOLS/plain/x"),
        (
            "chroot, root, --skip-chdir, TOOLS/plain, cat, TOOLS/a",
            "chroot --skip-chdir TOOLS/plain cat TOOLS/a",
        ),
        ("chroot, root, TOOLS/plain, cat, --file=TOOLS/a", "chroot TOOLS/plain cat --file=TOOLS/a"),
        (
            "unshare, root, --root=TOOLS/plain, true, cat, TOOLS/a",
            "unshare --root=TOOLS/plain true cat TOOLS/a",
        ),
        (
            "unshare, root, --root=TOOLS/plain, cat, {path=TOOLS/plain}",
            "unshare --root=TOOLS/plain cat TOOLS/plain/x",
        ),
        ("unshare, root, -R, TOOLS/plain, cat, TOOLS/a", "unshare -R TOOLS/plain cat TOOLS/a"),
        ("env, root, -, chroot, TOOLS/plain, cat, TOOLS/a", "env - chroot TOOLS/plain cat TOOLS/a"),
        # Options with a value in the next word that nobody knows here.
        (
            "nice, root, --new, 5, chroot, TOOLS/plain, cat, TOOLS/a",
            "nice --new 5 chroot TOOLS/plain cat TOOLS/a",
        ),
        (
            "find, root, TOOLS/plain, -exec, chroot, TOOLS/plain, cat, TOOLS/a, \\;",
            "find TOOLS/plain -exec chroot TOOLS/plain cat TOOLS/a ;",
        ),
        ("nsenter, root, -t, 1, -m, cat, {path=TOOLS/plain}", "nsenter -t 1 -m cat TOOLS/plain/x"),
    ],
)
def test_paths_of_another_tree(tools: Path, filters: str, words: str) -> None:
    text, asked = (one.replace("TOOLS", str(tools)) for one in (filters, words))
    refused(Denied, "another tree", [f"x: ArgvFilter, {text}"], *asked.split())


def test_a_program_that_stands_first_where_others_can_change_it(tools: Path) -> None:
    """A filter's own is found behind it, and given by its path; a word names the first."""
    program(directory(tools / "theirs", 0o777) / "tool")
    exec_dirs = (f"{tools}/theirs", *EXEC_DIRS, str(tools))
    lines = ["t: CommandFilter, tool, root", NICE]
    with bind(lines, "nice", "tool", "x", "y", exec_dirs=exec_dirs) as found:
        assert isinstance(found, BoundExec)
        assert found.argv[1:] == (f"{tools}/tool", "x", "y")
    for words in (["nice", "tool"], ["nice", "nice", "tool", "x"], ["find", "/usr", "-exec", "tool", "x"]):
        line = f"x: ArgvFilter, {words[0]}, root, {', '.join(words[1:])}"
        refused(Denied, f"the program '.*' is refused: {tools}/theirs", [line], *words, exec_dirs=exec_dirs)
        # What may be any word may be any program.
        line = f"x: CommandFilter, {words[0]}, root"
        bind([line], *words, exec_dirs=exec_dirs).close()


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("env PATH=TOOLS/theirs nice cat", "TOOLS/theirs"),
        ("env PATH=TOOLS:TOOLS/theirs nice cat", None),
        # Where it starts.
        ("env PATH=theirs nice cat", "TOOLS/theirs"),
        ("env PATH=none: nice writable", "TOOLS/writable"),
        ("env A=TOOLS/theirs nice cat", None),
    ],
)
@pytest.mark.parametrize("kind", ["EnvFilter", "RegExpFilter"])
def test_a_program_in_a_path_that_is_given(tools: Path, words: str, found: str | None, kind: str) -> None:
    directory(tools / "theirs", 0o777)
    program(tools / "nice")
    asked = words.replace("TOOLS", str(tools)).split()
    fields = ", ".join(asked[1:] if kind == "EnvFilter" else asked)
    lines = [f"x: {kind}, env, root, {fields}", "[x]", f"cwd = {tools}"]
    exec_dirs = (*EXEC_DIRS, str(tools))
    if found:
        what = f"the program '.*' is refused: {found.replace('TOOLS', str(tools))} can be written"
        refused(Denied, what, lines, *asked, exec_dirs=exec_dirs)
    elif "A=" in words:
        bind(lines, *asked, exec_dirs=exec_dirs).close()
    else:
        # The variable has what others can change, though it is not what is found.
        refused(Denied, "^the (variable|words?) ", lines, *asked, exec_dirs=exec_dirs)


@pytest.mark.parametrize(
    ("words", "what"),
    [
        ("chroot TREE /theirs/tool", "TREE/theirs/tool"),
        # It has no parent there.
        ("chroot TREE ../theirs/tool", "`..` or a link leads elsewhere in TREE"),
        ("chroot TREE /ours/../theirs/tool", "`..` or a link leads elsewhere in TREE"),
        ("env PATH=/ours:/../theirs chroot TREE tool", "`..` or a link leads elsewhere in TREE"),
        ("env PATH=/../theirs/ chroot TREE tool", "`..` or a link leads elsewhere in TREE"),
        ("env PATH=/theirs chroot TREE tool", "TREE/theirs"),
        # A link in it leads where it does there.
        ("chroot TREE /away", "`..` or a link leads elsewhere in TREE"),
        ("env PATH=/ chroot TREE away", "`..` or a link leads elsewhere in TREE"),
        ("chroot TREE made-up", "TREE/usr/bin"),
        ("chroot TREE nice /theirs/tool", "TREE"),
        ("nice chroot TREE /theirs/tool", "TREE"),
        ("nice chroot --skip-chdir TREE /theirs/tool", "TREE"),
        # What stands before is another namespace, and no tree.
        ("nsenter --net=/run/netns/x --root=TREE /theirs/tool", "TREE/theirs/tool"),
        ("nsenter --net=/run/netns/x -rTREE /theirs/tool", "TREE/theirs/tool"),
        ("unshare --mount=/run/x -R TREE /theirs/tool", "TREE/theirs/tool"),
        # Named from `cwd`, which is the directory above it.
        ("chroot tree /theirs/tool", "TREE/theirs/tool"),
        ("chroot ./tree/ /theirs/tool", "TREE/theirs/tool"),
        ("chroot tree/../tree /theirs/tool", "TREE"),
        ("unshare --root=tree /theirs/tool", "TREE/theirs/tool"),
        ("unshare -Rtree /theirs/tool", "TREE/theirs/tool"),
        ("unshare -fR tree /theirs/tool", "TREE/theirs/tool"),
        ("nice nsenter -r./tree /theirs/tool", "TREE"),
        ("env -C TOOLS chroot tree /theirs/tool", "TREE/theirs/tool"),
        ("env --chdir=TOOLS chroot tree /theirs/tool", "TREE/theirs/tool"),
        ("chroot tree /ours/tool", None),
        ("env -C TOOLS chroot tree /ours/tool", None),
        ("chroot TREE /ours/tool", None),
        # It is there in our own tree, or nowhere.
        ("chroot TREE /ours/made-up", None),
        ("nice /theirs/tool", None),
    ],
)
def test_a_program_of_another_tree(tools: Path, words: str, what: str | None) -> None:
    tree = directory(tools / "tree")
    for name in ("theirs", "ours"):
        program(directory(tree / name) / "tool", mode=0o777 if name == "theirs" else 0o755)
    (tree / "usr").mkdir()
    (tree / "away").symlink_to("/usr/bin/true")
    program(directory(tree / "usr/bin") / "made-up", mode=0o777)
    asked = words.replace("TREE", str(tree)).replace("TOOLS", str(tools)).split()
    lines = [f"x: ArgvFilter, {asked[0]}, root, {', '.join(asked[1:])}"]
    if "TREE" not in words and "TOOLS" not in words:
        lines += ["[x]", f"cwd = {tools}"]
    if what:
        refused(Denied, f"^the program '.*' is refused: {what.replace('TREE', str(tree))}", lines, *asked)
    else:
        bind(lines, *asked).close()


def test_the_tree_itself_is_a_path_of_ours(tools: Path) -> None:
    words = ["chroot", f"{tools}/plain", "/bin/cat", "x"]
    with bound(BoundExec, [f"x: ArgvFilter, chroot, root, {tools}/plain, /bin/cat, x"], *words) as found:
        assert found.argv[1:] == tuple(words[1:])


@pytest.mark.parametrize(
    "words",
    [
        "nice losetup -f BASE/x",
        "timeout 5 realpath BASE/x",
        "setsid -w sh BASE/x",
        "env LANG=C mount --bind BASE/x /mnt",
        "flock /run/lock/x python3 BASE/x",
        "stdbuf -o0 no-such-program BASE/x",
        "ip netns exec x realpath BASE/x",
        "ip -fam inet netns exec x realpath BASE/x",
        "ip -all netns exec realpath BASE/x",
        "find BASE/x -exec losetup {} ;",
        "env -S cat BASE/x",
    ],
)
def test_a_wrapper_does_not_hide_the_program(tools: Path, exec_dirs: tuple[str, ...], words: str) -> None:
    asked = words.replace("BASE", f"{tools}/base").split()
    patterns = ", ".join(word.replace("{", r"\{").replace(";", r"\;") for word in asked)
    lines = [f"x: RegExpFilter, {asked[0]}, root, {patterns}"]
    why = "resolves links|nothing is known|it does what a file says"
    refused(Denied, why, lines, *asked, exec_dirs=exec_dirs)


def test_a_wrapper_before_a_program_that_opens(tools: Path) -> None:
    words = ["timeout", "5", "cat", f"{tools}/base/a"]
    with bound(BoundExec, [f"x: ArgvFilter, timeout, root, 5, cat, {{path={tools}/base}}"], *words) as found:
        assert found.nosymfollow == (f"{tools}/base",)


@pytest.mark.parametrize(
    "words",
    [
        "sed -n -f BASE/x /etc/hostname",
        "sed --fi=BASE/x /etc/hostname",
        "sed -nfBASE/x /etc/hostname",
        "ip -batch BASE/x",
        "ip -ba BASE/x",
        "nice ip -b BASE/x",
        "dnsmasq --conf-file=BASE/x",
        "dnsmasq -C BASE/x",
        "tar -c -T BASE/x",
        "tar --files-f BASE/x -c",
    ],
)
def test_commands_in_a_file_of_somebody_else(tools: Path, exec_dirs: tuple[str, ...], words: str) -> None:
    asked = words.replace("BASE", f"{tools}/base").split()
    lines = [f"x: RegExpFilter, {asked[0]}, root, {', '.join(asked)}"]
    refused(Denied, "does what a file says", lines, *asked, exec_dirs=exec_dirs)


@pytest.mark.parametrize("words", ["awk -f BASE/x", "awk -v a=1 --fil=BASE/x", "wget -i BASE/x"])
def test_opens_paths_of_a_program_that_obeys_a_file(tools: Path, words: str) -> None:
    asked = words.replace("BASE", f"{tools}/base").split()
    path = program(tools / asked[0])
    lines = [f"x: RegExpFilter, {path}, root, {', '.join(asked)}", "[x]", "opens_paths = yes"]
    refused(Denied, "does what a file says", lines, *asked)


@pytest.mark.parametrize(
    "words", ["sed -f /etc/hostname BASE/x", "sed -n -e p BASE/x", "dnsmasq --dhcp-hostsfile=BASE/x"]
)
def test_commands_beside_a_file_of_somebody_else(tools: Path, exec_dirs: tuple[str, ...], words: str) -> None:
    asked = words.replace("BASE", f"{tools}/base").split()
    lines = [f"x: RegExpFilter, {asked[0]}, root, {', '.join(asked)}"]
    with bind(lines, *asked, exec_dirs=exec_dirs) as found:
        assert isinstance(found, BoundExec)
        assert found.nosymfollow == (f"{tools}/base",)


def test_a_word_of_many_slashes_costs_few_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not begin with a name in / names nothing."""
    asked = 0
    real = os.lstat

    def lstat(path: str) -> os.stat_result:
        nonlocal asked
        asked += 1
        return real(path)

    monkeypatch.setattr(os, "lstat", lstat)
    found = policy(tmp_path, "a: RegExpFilter, cat, root, cat, [a-z/]*, [a-z/]*")
    for word in ("a" * 255 + "/" + "b/" * 900, "q/" * 1000, "/q" * 1000):
        asked = 0
        judged = judge(found, Request(("cat", word, word)))
        assert isinstance(judged, Allowed)
        judged.bound.close()
        assert asked < 50, word
    for word in ("usr/" * 1000, "/" + "usr/" * 300):
        assert isinstance(judge(found, Request(("cat", word))), Refused)
        assert asked < 2000


@pytest.mark.parametrize("value", ["{tools}/base/S3cret", "/proc/self/fd/7/S3cret", "x:{tools}/base/S3cret"])
def test_no_reason_has_the_value_of_a_variable(tools: Path, value: str) -> None:
    line = f"x: EnvFilter, env, root, VALUE=, {tools}/tool"
    with pytest.raises(NotBound) as caught:
        bind([line], "env", f"VALUE={value.replace('{tools}', str(tools))}", "tool")
    assert "S3cret" not in str(caught.value) and "variable" in str(caught.value)


@pytest.mark.parametrize("dots", ["/../../..", "/usr/../.."])
def test_a_path_with_dots_is_looked_at_where_it_leads(tools: Path, dots: str) -> None:
    word = f"{dots}{tools}/base/new"
    found = named.directories_in({word}, "/", OWNERS, host.Seen())
    assert f"{tools}/base" in found.values()
    assert all(place is None or places.is_beneath(path, place) for path, place in found.items())
    with bound(BoundExec, ["x: RegExpFilter, mkdir, root, mkdir, .*"], "mkdir", word) as made:
        assert made.nosymfollow == (f"{tools}/base",)
