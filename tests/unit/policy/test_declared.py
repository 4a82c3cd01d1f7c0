"""policy/read/declared.py: what the paths in a filter's words are on this host, as its file is loaded."""

import os
from pathlib import Path

import pytest

from rootwrap_daemon.filters.finding import Finding, Severity
from rootwrap_daemon.filters.read.filter_file import read
from rootwrap_daemon.filters.read.patterns import compile_pattern
from rootwrap_daemon.policy.behaviour import RESOLVES
from rootwrap_daemon.policy.read import declared, files
from tests.unit.policy.things import OWNERS, directory, file, link


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    directory(tmp_path / "open", 0o777)
    directory(tmp_path / "open/sub")
    file(directory(tmp_path / "plain") / "f")
    directory(tmp_path / "filters.d")
    link(tmp_path / "to_open", "open")
    return tmp_path


def load(tree: Path, *lines: str, kept: frozenset[str] | None = None) -> list[Finding]:
    text = "\n".join(["[Filters]", *lines, ""]).replace("{tree}", str(tree))
    file(tree / "filters.d/a.filters", text)
    loaded = files.load([str(tree / "filters.d")], OWNERS, kept)
    assert bool(loaded.filters) == (not any(one.severity is Severity.ERROR for one in loaded.findings))
    return loaded.findings


WORDS = [
    "PathFilter, PROGRAM, root, {tree}/open",
    "PathFilter, PROGRAM, root, pass, {tree}/to_open/x",
    "PathFilter, PROGRAM, root, of={tree}/open/x, pass",
    "ArgvFilter, PROGRAM, root, {path={tree}/open}",
    "ArgvFilter, PROGRAM, root, [--file={tree}/open/x]",
    "ArgvFilter, PROGRAM, root, {=a|{tree}/open/x}",
    "RegExpFilter, PROGRAM, root, PROGRAM, {tree}/open/x",
    r"RegExpFilter, PROGRAM, root, PROGRAM, {tree}/open/x\.[a-z]+",
    "RegExpFilter, PROGRAM, root, PROGRAM, ^-C{tree}/to_open/.*",
    "EnvFilter, env, root, A=, PROGRAM, {tree}/open/x",
]


def test_a_directory_that_may_lead_a_program_of_which_nothing_is_known(tree: Path) -> None:
    """In it is `open`, which is others'; nothing is in `plain`."""
    for words in (f"{tree}", f"--in={tree}/", f"{{path={tree}}}", f"-C, {tree}, -v"):
        line = f"x: ArgvFilter, my-tool, root, {words}"
        (found,) = load(tree, line)
        assert (found.code, found.severity, found.location.line) == ("led", Severity.WARNING, 2)
        assert f"others can change something in {tree}" in found.what
        assert not load(tree, line, "[x]", "opens_paths = yes")
        assert not load(tree, line.replace("my-tool", "cat").replace(", -v", ""))
        assert not load(tree, line.replace(str(tree), f"{tree}/plain"))
    assert not load(tree, "x: ArgvFilter, my-tool, root, /")


@pytest.mark.parametrize("line", WORDS)
def test_a_place_and_a_program_of_which_nothing_is_known(tree: Path, line: str) -> None:
    line = f"x: {line.replace('PROGRAM', 'my-tool')}"
    (found,) = load(tree, line)
    assert found.severity is Severity.ERROR
    assert (found.location.line, found.filters) == (2, frozenset({"x"}))
    assert (
        found.what
        == f"others can change what is in {tree}/open, and nothing is known of how my-tool uses paths"
    )
    assert "opens_paths = yes" in found.remedy
    assert {one.code for one in load(tree, line, "[x]", "opens_paths = yes")} <= {"replaceable"}
    assert not load(tree, line.replace("/to_open", "/plain").replace("/open", "/plain"))


@pytest.mark.parametrize("line", WORDS)
@pytest.mark.parametrize("program", ["cat", "/usr/bin/chown"])
def test_a_place_and_a_program_that_only_opens(tree: Path, line: str, program: str) -> None:
    found = load(tree, f"x: {line.replace('PROGRAM', program)}")
    assert {one.code for one in found} <= {"replaceable"}


@pytest.mark.parametrize("program", sorted(RESOLVES))
def test_a_program_that_resolves_links(tree: Path, program: str) -> None:
    for words in ("{path={tree}/open}", "--bind, {tree}/open/x, /mnt", "{=a|{tree}/open/x}"):
        (found,) = load(tree, f"x: ArgvFilter, {program}, root, {words}")
        assert "resolves links itself" in found.what
        (found,) = load(tree, f"x: ArgvFilter, {program}, root, {words}", "[x]", "opens_paths = yes")
        assert "opens_paths = yes, and" in found.what
    assert not load(tree, f"x: ArgvFilter, {program}, root, {{path={{tree}}/plain}}")


def test_a_base_that_others_can_replace(tree: Path) -> None:
    (found,) = load(tree, "x: PathFilter, cat, root, {tree}/open/sub")
    assert found.severity is Severity.WARNING
    assert found.what.startswith(f"others can put another directory in the place of {tree}/open/sub: ")
    assert found.remedy == f"give {tree}/open to root, or name it: the filter gives all that is in it"


@pytest.mark.parametrize(("base", "fine"), [("/proc", False), ("/proc/self", False), ("/proc/sys/net", True)])
def test_a_base_that_depends_on_who_looks(tree: Path, base: str, fine: bool) -> None:
    assert bool(load(tree, f"x: PathFilter, cat, root, {base}")) != fine
    assert bool(load(tree, f"x: ArgvFilter, cat, root, {{path={base}}}")) != fine


def test_what_the_mount_namespace_needs(tree: Path) -> None:
    line = "x: PathFilter, cat, root, {tree}/open"
    (found,) = load(tree, line, kept=frozenset({"CAP_CHOWN"}))
    assert found.what == "others can change paths in its words, and the daemon has no CAP_SYS_ADMIN"
    assert not load(tree, line, kept=frozenset({"CAP_SYS_ADMIN"}))
    assert not load(tree, "x: PathFilter, cat, root, {tree}/plain", kept=frozenset({"CAP_CHOWN"}))


def test_a_place_behind_a_path_that_cannot_be_looked_at(tree: Path) -> None:
    link(tree / "loop", "loop")
    text = f"[Filters]\nx: ArgvFilter, cat, root, {tree}/loop/x, {tree}/open/x\n"
    (one,) = read(text, "x.filters").filters
    assert declared.has_place(one, OWNERS)
    (one,) = read(text.replace("/open", "/plain"), "x.filters").filters
    assert not declared.has_place(one, OWNERS)


def test_what_is_as_good_as_root_is_not_kept_from_a_place(tree: Path) -> None:
    assert not load(tree, "x: PathFilter, privsep-helper, root, {tree}/open", kept=frozenset({"CAP_CHOWN"}))


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_whose_command_it_is(tree: Path) -> None:
    """A user's own directory can mislead that user alone."""
    home = directory(tree / "home", owner=65534)
    assert not load(tree, f"x: PathFilter, my-tool, nobody, {home}")
    assert load(tree, f"x: PathFilter, my-tool, nobody, {home}", "[x]", "no_new_privs = no")
    assert load(tree, f"x: PathFilter, my-tool, nobody, {home}", "[x]", "group = daemon")


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("mv, root, {path={tree}/open}, {path={tree}/plain}", True),
        ("mv, root, -t, {tree}/plain, {path={tree}/open}", True),
        ("cp, root, -a, {path={tree}/open}, {path={tree}/plain}", True),
        ("cp, root, -vr, {tree}/open/x, {tree}/plain/new", True),
        ("rsync, root, -rl, {path={tree}/open}, {path={tree}/plain}", True),
        ("tar, root, -xf, {path={tree}/open}, -C, {path={tree}/plain}", True),
        ("cp, root, --, {path={tree}/open}, {path={tree}/plain}", False),
        ("cp, root, -a, {path={tree}/open}, {path={tree}/open}", False),
        ("cp, root, -a, {path={tree}/plain}, {path={tree}/plain}", False),
        ("cp, root, -a, {tree}/plain/f, {path={tree}/open}", False),
        ("tar, root, -cf, {path={tree}/plain}, -C, {path={tree}/open}, .", False),
        ("install, root, {path={tree}/open}, {path={tree}/plain}", False),
        # Any beginning of a long option is the option.
        ("cp, root, --rec, {path={tree}/open}, {path={tree}/plain}", True),
        ("cp, root, --no-deref, {path={tree}/open}, {path={tree}/plain}", True),
        ("cp, root, --pres=mode, {path={tree}/open}, {path={tree}/plain}", True),
        ("cp, root, -Sa, {path={tree}/open}, {path={tree}/plain}", False),
        ("tar, root, xf, {path={tree}/open}, -C, {path={tree}/plain}", True),
        ("tar, root, --extr, -f, {path={tree}/open}, -C, {path={tree}/plain}", True),
        ("patch, root, -d, {path={tree}/plain}, -i, {path={tree}/open}", True),
        ("chown, root, -R, root, {path={tree}/open}", True),
        ("chown, root, --no-d, {=root:root|nobody}, {path={tree}/open}", True),
        ("chown, root, -R, nobody, {path={tree}/open}", False),
        ("chown, root, root, {path={tree}/open}", False),
        ("chown, root, -R, root, {path={tree}/plain}", False),
    ],
)
def test_links_of_others_in_a_directory_of_ours(tree: Path, line: str, told: bool) -> None:
    found = load(tree, f"x: ArgvFilter, {line}")
    assert [one.code for one in found] == ["foreign_links"] * told


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("cp, root, cp, -[a-z]+, {tree}/open/.*, {tree}/plain/.*", True),
        ("cp, root, cp, --.*, {tree}/open/.*, {tree}/plain/.*", True),
        ("cp, root, cp, -[ft], {tree}/open/.*, {tree}/plain/.*", False),
        ("chown, root, chown, -R, .*, {tree}/open/.*", True),
        ("chown, root, chown, .*, root, {tree}/open/.*", True),
        ("chown, root, chown, -R, nobo.*, {tree}/open/.*", False),
    ],
)
def test_options_of_a_pattern(tree: Path, line: str, told: bool) -> None:
    found = load(tree, f"x: RegExpFilter, {line}")
    assert [one.code for one in found] == ["foreign_links"] * told


@pytest.mark.parametrize(
    ("head", "told"),
    [
        ("#!/usr/bin/python3", True),
        ("#! /usr/bin/env python3.11 ", True),
        ("#!/usr/bin/env -S nice python3 -B", True),
        ("#!/usr/bin/python3 -I", False),
        ("#!/usr/bin/env -S python3 -I", False),
        ("#!/bin/sh", False),
        ("python3", False),
    ],
)
def test_a_script_that_takes_modules_from_beside_it(tree: Path, head: str, told: bool) -> None:
    file(directory(tree / "mixed") / "json.py", mode=0o666)
    for line in (
        "CommandFilter, PATH, root",
        "EnvFilter, env, root, A=, PATH",
        "RegExpFilter, PATH, root, x",
    ):
        for where in ("mixed", "plain"):
            path = file(tree / where / "x", f"{head}\n", 0o755)
            found = load(tree, f"x: {line.replace('PATH', str(path))}")
            assert [one.code for one in found] == ["led"] * (told and where == "mixed")
            assert all(f"of {path} takes code" in one.what and f"{tree}/mixed" in one.what for one in found)


def test_a_variable_that_would_be_denied(tree: Path) -> None:
    (found,) = load(tree, "x: ArgvFilter, ls, root", "[x]", "set_env = LD_LIBRARY_PATH=/usr/lib:{tree}/open")
    assert found.what == f"LD_LIBRARY_PATH says where code is, and others can change what is in {tree}/open"
    assert load(tree, "x: EnvFilter, env, root, PYTHONPATH={tree}/open, ls")
    assert load(tree, "x: ArgvFilter, ls, root", "[x]", "env = PYTHONPATH={={tree}/plain|{tree}/open}")
    assert not load(
        tree, "x: ArgvFilter, ls, root", "[x]", "env = PYTHONPATH={={tree}/plain}, A={={tree}/open}"
    )
    assert not load(tree, "x: ArgvFilter, ls, root", "[x]", "set_env = LD_LIBRARY_PATH={tree}/plain")


def test_an_option_that_resolves_links(tree: Path) -> None:
    for words in ("readlink, root, -nf", "readlink, root, --canon", "sed, root, -i, --fol"):
        (found,) = load(tree, f"x: ArgvFilter, {words}, {{path={{tree}}/open}}")
        assert "resolves links itself" in found.what
    assert not load(tree, "x: ArgvFilter, readlink, root, --, {path={tree}/open}")


def test_a_program_behind_another(tree: Path) -> None:
    for words in ("nice, root, losetup, -f", "timeout, root, 5, realpath", "setsid, root, -w, sh"):
        (found,) = load(tree, f"x: ArgvFilter, {words}, {{path={{tree}}/open}}")
        assert found.code == "unusable"
    (found,) = load(tree, "x: ArgvFilter, timeout, root, 5, cp, -a, {path={tree}/open}, {path={tree}/plain}")
    assert found.code == "foreign_links"
    assert not load(tree, "x: ArgvFilter, timeout, root, 5, cat, {path={tree}/open}")


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("/proc/self/environ", True),
        ("/proc/thread-self/maps", True),
        ("/proc/self/net", True),
        ("/proc/self/net/dev", False),
        ("/proc/self/mounts", False),
        ("/proc/selfish/x", False),
    ],
)
def test_a_file_that_is_about_its_reader(tree: Path, path: str, told: bool) -> None:
    found = load(tree, f"x: ReadFileFilter, {path}")
    assert [one.code for one in found] == ["unusable"] * told
    assert not load(tree, f"x: ArgvFilter, cat, root, {path}")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("timeout, root, 5, {tree}/plain/theirs", "timeout executes it"),
        ("nice, root, sh, {tree}/plain/theirs, x", "sh does what it says"),
        ("sed, root, -n, --file={tree}/plain/theirs, /etc/hostname", "sed does what a file says"),
        ("my-tool, root, {tree}/plain/theirs", "nothing is known of how my-tool uses paths"),
        ("sed, root, -n, -e, p, {tree}/plain/theirs", ""),
        ("timeout, root, 5, cat, {tree}/plain/theirs", ""),
        ("sh, root, {tree}/plain/f, {tree}/plain/theirs", ""),
    ],
)
def test_a_file_that_others_can_change(tree: Path, line: str, said: str) -> None:
    file(tree / "plain/theirs").chmod(0o666)
    found = load(tree, f"x: ArgvFilter, {line}")
    both = (
        f"others can change {tree}/plain/theirs, and {said}",
        f"{said}, and others can change {tree}/plain/theirs",
    )
    assert len(found) == bool(said) and all(one.what in both for one in found)
    file(tree / "plain/theirs").chmod(0o644)
    assert not load(tree, f"x: ArgvFilter, {line}")


@pytest.mark.parametrize(
    ("words", "user", "told"),
    [
        ("nsenter, root, -m, -t, {pid=/usr/bin/sleep}, id", "nobody", True),
        ("nsenter, root, -m, -t, {pid=/usr/bin/sleep}, id", "root", False),
        ("nsenter, root, -m, -t, {pid=/usr/bin/sleep}, id", None, False),
        ("nsenter, root, -n, -t, {pid=/usr/bin/sleep}, id", "nobody", False),
        ("gdb, root, {pid=/usr/bin/sleep}", "nobody", True),
        ("made-up, root, {pid=/usr/bin/sleep}", "nobody", True),
        ("renice, root, {pid=/usr/bin/sleep}", "nobody", False),
    ],
)
def test_a_command_that_goes_into_a_process(tree: Path, words: str, user: str | None, told: bool) -> None:
    options = ["[x]", f"target_user = {user}"] if user else []
    found = [one.what for one in load(tree, f"x: ArgvFilter, {words}", *options)]
    program = words.partition(",")[0]
    how = "would" if program == "nsenter" else "may"
    assert found == [f"{program} {how} enter a process of nobody, who decides what it finds there"] * told


@pytest.mark.parametrize(
    ("line", "cwd", "where"),
    [
        ("ArgvFilter, run-parts, root, {tree}/open", "", "open"),
        ("ArgvFilter, run-parts, root, {tree}/mixed", "", "mixed"),
        ("ArgvFilter, run-parts, root, {tree}/plain", "", ""),
        ("ArgvFilter, run-parts, root, [{tree}/plain], {tree}/open", "", "open"),
        ("ArgvFilter, run-parts, root, /", "", ""),
        ("ArgvFilter, run-parts, root, {path={tree}/open}", "", "open"),
        # Which of them a request means is looked at then.
        ("ArgvFilter, run-parts, root, {path={tree}/mixed}", "", ""),
        ("RegExpFilter, run-parts, root, run-parts, {tree}/mix[a-z]+", "", ""),
        ("RegExpFilter, run-parts, root, run-parts, {tree}/mixed", "", "mixed"),
        ("RegExpFilter, run-parts, root, run-parts, --[a-z]+, --lsbsysinit={tree}/mixed", "", "mixed"),
        ("ChainingRegExpFilter, make, root, make, -C{tree}/mixed", "", "mixed"),
        ("EnvFilter, env, root, A=1, make, --directory={tree}/mixed", "", "mixed"),
        ("PathFilter, make, root, --directory={tree}/mixed, pass", "", "mixed"),
        ("ArgvFilter, timeout, root, {int}, make, -C, {tree}/mixed", "", "mixed"),
        ("RegExpFilter, timeout, root, timeout, [0-9]+, make, -C, {tree}/mixed", "", "mixed"),
        ("ArgvFilter, make, root", "", ""),
        ("ArgvFilter, make, root", "open", "open"),
        ("ArgvFilter, make, root", "mixed", "mixed"),
        ("ArgvFilter, make, root", "plain", ""),
        ("CommandFilter, make, root", "mixed", "mixed"),
        ("ArgvFilter, cat, root", "mixed", ""),
        ("ArgvFilter, find, root, {tree}/mixed, -exec, cat", "", ""),
    ],
)
def test_a_command_that_executes_what_it_finds(tree: Path, line: str, cwd: str, where: str) -> None:
    file(directory(tree / "mixed") / "theirs", mode=0o666)
    options = ["[x]", f"cwd = {tree}/{cwd}"] if cwd else []
    found = [one.what for one in load(tree, f"x: {line}", *options) if "executes what it finds" in one.what]
    program = "make" if "EnvFilter" in line else line.split(", ")[1]
    what = f"{program} executes what it finds, and others can change what is in {tree}/{where}"
    assert found == [what] * bool(where)


@pytest.mark.parametrize(
    ("text", "beginning"),
    [
        ("/a/b", "/a/b"),
        ("/a/b.*", "/a"),
        (r"^/a/b\.c/d.*", "/a/b.c"),
        (r"--file=/a/[a-z]+", "--file=/a"),
        ("/a/x.*|/b/y", ""),
        ("(/a/x)", ""),
        ("[a-z]+", ""),
        ("x.*", ""),
    ],
)
def test_the_beginning_of_a_pattern(text: str, beginning: str) -> None:
    assert declared._beginning(compile_pattern(text)) == beginning


@pytest.mark.parametrize(
    ("line", "options", "what"),
    [
        ("ArgvFilter, perl, root, -I, DIR, {path={tree}/plain}", "", "perl does what a file says"),
        ("ArgvFilter, env, root, PYTHONPATH=DIR, id", "", "env does what a file says"),
        ("ArgvFilter, env, root, FILE=DIR, id", "", None),
        ("RegExpFilter, gcc, root, gcc, -B, DIR", "opens_paths = yes", "gcc does what a file says"),
        ("RegExpFilter, gcc, root, gcc, -x, DIR", "opens_paths = yes", None),
        ("EnvFilter, env, root, A=, gcc, -B, DIR", "opens_paths = yes", "gcc does what a file says"),
        ("PathFilter, gcc, root, -B, DIR", "opens_paths = yes", None),
        ("ChainingRegExpFilter, env, root, env, PYTHONPATH=DIR", "", "env does what a file says"),
        ("RegExpFilter, run-parts, root, run-parts, DIR", "", "run-parts executes what it finds"),
        ("ArgvFilter, nice, root, run-parts, DIR", "", "nice executes what it finds"),
        ("ArgvFilter, make, root", "cwd = DIR", "make executes what it finds"),
        ("ArgvFilter, python3, root", "cwd = DIR", "python3 does what a file says"),
        ("ArgvFilter, python3, root, -I", "cwd = DIR", None),
        ("ArgvFilter, cat, root, x", "set_env = PERL5LIB=DIR", "PERL5LIB says where code is"),
        ("ArgvFilter, cat, root, x", "set_env = FILE=DIR", None),
        ("EnvFilter, env, root, PERL5LIB=DIR, cat", "", "PERL5LIB says where code is"),
        ("EnvFilter, env, root, FILE=DIR, cat", "", None),
        ("CommandFilter, make, root", "timeout = 5", None),
    ],
)
def test_code_where_others_can_change_something(
    tree: Path, line: str, options: str, what: str | None
) -> None:
    """In a directory of root's, with one file of theirs in it."""
    file(directory(tree / "mixed") / "theirs", mode=0o666)
    for name in ("mixed", "plain"):
        lines = [f"x: {line}", *(["[x]", options] if options else [])]
        found = load(tree, *(one.replace("DIR", f"{tree}/{name}") for one in lines))
        errors = [one.what for one in found if one.severity is Severity.ERROR]
        wanted = (
            [f"{what}, and others can change what is in {tree}/mixed"] if what and name == "mixed" else []
        )
        assert errors == wanted
