"""Paths and words at the edge of what is looked at: none of them is left out."""

import ctypes
import errno
import io
import os
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rootwrap_daemon.daemon.request import Peer
from rootwrap_daemon.errors import Denied, Error, InternalError, ProcessGone
from rootwrap_daemon.filters.values import Match
from rootwrap_daemon.policy import (
    behaviour,
    executables,
    getopt,
    host,
    interpreters,
    late,
    named,
    path_words,
    places,
    processes,
    wrappers,
)
from rootwrap_daemon.policy import bind as module
from rootwrap_daemon.policy.bound import BoundExec, NotBound
from rootwrap_daemon.policy.host import Seen, UntrustedPath
from rootwrap_daemon.policy.read import files, owned
from tests.unit.filters.lines import match, rules
from tests.unit.policy.conftest import StartSleeper
from tests.unit.policy.things import EXEC_DIRS, OWNERS, Host, directory, file, link, policy

NICE = "n: ChainingRegExpFilter, nice, root, nice"
CAT = "c: RegExpFilter, cat, root, cat, .*"
CATS = "c: RegExpFilter, cat, root, cat, .*, .*"
SED = "s: RegExpFilter, sed, root, sed, .*, x"
#: PR_CAPBSET_READ of prctl(2).
CAPBSET_READ = 23


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A directory that others can write, below one that they cannot."""
    directory(tmp_path / "base", 0o777)
    file(tmp_path / "base/a")
    return tmp_path / "base"


def nosymfollow(lines: list[str], *argv: str) -> tuple[str, ...]:
    found = match(rules(*lines), *argv)
    assert isinstance(found, Match)
    with module.bind(found, Host()) as bound:
        assert isinstance(bound, BoundExec)
        return bound.nosymfollow


def test_a_path_behind_one_of_the_kernels(base: Path) -> None:
    assert nosymfollow([NICE, CAT], "nice", "cat", f"/sys/kernel,{base}/a") == (str(base),)


def test_a_name_below_a_directory_of_another_word(base: Path) -> None:
    assert nosymfollow([CATS], "cat", str(base.parent), "base/a") == (str(base),)
    assert nosymfollow([CATS], "cat", str(base.parent), "-xbase/a") == (str(base),)
    assert nosymfollow([CATS], "cat", str(base.parent), "x=base/a") == (str(base),)


def test_a_name_behind_a_character_in_the_current_directory(base: Path) -> None:
    """Nothing in it is others', but one name leads to them."""
    link(directory(base.parent / "ours") / "name", "../base/a")
    lines = [CAT, "[c]", f"cwd = {base.parent}/ours"]
    assert nosymfollow(lines, "cat", "@name") == (str(base),)
    assert nosymfollow(lines, "cat", "@other") == ()


def test_the_first_word_that_is_free(base: Path) -> None:
    lines = [NICE, "c: CommandFilter, cat, root"]
    assert nosymfollow(lines, "nice", "cat", f"{base}/a") == ()


def test_a_file_to_obey_is_known_by_each_kind_of_word(base: Path) -> None:
    (base.parent / "plain").touch(0o644)
    for line, words in (
        (f"ArgvFilter, sed, root, -f, {{path={base}}}, {{path={base.parent}}}", ["-f", f"{base}/a"]),
        # A name in the directory of another word.
        ("RegExpFilter, sed, root, sed, -f, .*, .*, .*", ["-f", "a", str(base)]),
        # It is the script.
        ("RegExpFilter, sed, root, sed, .*, .*", [f"{base}/a"]),
    ):
        with pytest.raises(NotBound, match="does what a file says, and others can change ") as caught:
            nosymfollow([f"s: {line}"], "sed", *words, f"{base.parent}/plain")
        assert caught.value.error is Denied


def test_directories_of_the_kernel_beside_other_words() -> None:
    words = ("cat", "/proc", "self/cwd/x")
    with pytest.raises(NotBound, match="leads to what a process has"):
        nosymfollow([CATS], *words)
    # An inner command may see another one.
    assert nosymfollow([NICE, CATS], "nice", *words) == ()


def test_a_file_of_two_names_below_a_place(base: Path) -> None:
    os.link(base / "a", base / "b")
    with pytest.raises(NotBound, match=r"the word '.*/base/a' is refused: a file of 2 names below"):
        nosymfollow([CAT], "cat", f"{base}/a")


def test_a_current_directory_in_a_place(base: Path) -> None:
    """Nobody else can move it, but what is beside it, which the place hides."""
    sticky = directory(base.parent / "sticky", 0o1777)
    directory(sticky / "ours")
    with pytest.raises(
        NotBound, match=f"cwd {sticky}/ours is in {sticky}, where others can change"
    ) as caught:
        nosymfollow([CAT, "[c]", f"cwd = {sticky}/ours"], "cat", f"{sticky}/a")
    assert caught.value.error is Denied


def test_a_host_without_places(base: Path) -> None:
    found = match(rules(CAT), "cat", f"{base}/a")
    assert isinstance(found, Match)
    with pytest.raises(NotBound, match=f"others can change what is in {base}, and for a reason") as caught:
        module.bind(found, Host(no_places="for a reason"))
    assert caught.value.error is Denied


def test_what_is_mounted_below_a_place(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It matters to a command that goes there by itself, below the word that it has."""
    ls = ["l: RegExpFilter, ls, root, ls, -.*, .*"]
    for mounted, option, refused in (
        (f"{base}/m", "-R", True),
        (f"{base}/m", "-l", False),
        (str(base), "-R", False),
        (f"{base.parent}/m", "-R", False),
    ):
        monkeypatch.setattr(places, "mounts", lambda mounted=mounted: ("/", mounted))
        if refused:
            with pytest.raises(NotBound, match="another file system is mounted below it"):
                nosymfollow(ls, "ls", option, str(base))
        else:
            assert nosymfollow(ls, "ls", option, str(base)) == (str(base),)


def test_a_word_that_sets_a_dangerous_variable(base: Path) -> None:
    for word in (f"LD_PRELOAD={base}/a", f"PATH={base}"):
        with pytest.raises(NotBound, match="it does what a file says, and others can change ") as caught:
            nosymfollow([CAT], "cat", word)
        assert caught.value.error is Denied
    assert nosymfollow([CAT], "cat", f"FILE={base}/a") == (str(base),)


def test_relative_paths_of_a_word() -> None:
    assert set(named.paths_in("ab", "/d")) == {"/d/ab", "/d/b"}
    assert set(named.paths_in("a/b", "/")) >= {"/a/b"}
    assert set(named.paths_in("ab", "/")) == set()
    assert set(named.paths_in("-Cab", "/", ("/d",))) == {"/d/ab", "/d/b"}
    assert set(named.paths_in("--Cab", "/", ("/d",))) == set()


def test_the_most_slashes() -> None:
    assert list(named.paths_in("/" * 1024, "/"))
    with pytest.raises(UntrustedPath, match="too many slashes"):
        list(named.paths_in("/" * 1025, "/"))


def test_the_most_paths_of_a_word() -> None:
    assert named.directories_in({"/usr" * named.MOST_PATHS}, "/", OWNERS, Seen())["/usr"] is None
    with pytest.raises(UntrustedPath, match="too many paths in a word"):
        named.directories_in({"/usr" * (named.MOST_PATHS + 1)}, "/", OWNERS, Seen())


def test_nothing_is_below_a_file(base: Path) -> None:
    file(base.parent / "shared", mode=0o666)
    # Others can write the file, and make no directory of it.
    walked = places.walk(f"{base.parent}/shared/x", OWNERS, Seen())
    assert (walked.path, walked.place, walked.status) == (f"{base.parent}/shared/x", None, None)


def test_no_way_up_below_a_base_of_others(base: Path) -> None:
    assert places.beneath(str(base), f"{base}/a", OWNERS, Seen()) == (f"{base}/a", str(base))
    directory(base / "sub")
    with pytest.raises(UntrustedPath, match=r"`\.\.` below"):
        places.beneath(str(base), f"{base}/sub/../a", OWNERS, Seen())


def test_a_link_below_a_sticky_directory(base: Path) -> None:
    directory(base.parent / "sticky", 0o1777)
    path = link(directory(base.parent / "sticky/ours") / "link", base.parent / "file")
    file(base.parent / "file")
    with pytest.raises(UntrustedPath, match="others can make links in"):
        host.resolve_owned(str(path), OWNERS)
    with pytest.raises(UntrustedPath, match="others can make links in"):
        host.resolve(str(path), OWNERS)
    assert host.resolve_owned(str(path), OWNERS, below_sticky=True).path == f"{base.parent}/file"


@pytest.mark.root
def test_a_link_where_everybody_may_look_and_make_others() -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as made:
        os.chmod(made, 0o755)
        link(Path(made) / "link", "/etc/hostname")
        walked = places.walk(f"{made}/link", OWNERS, Seen())
        assert (walked.path, walked.place) == (f"{made}/link", "/tmp")


def test_the_longest_path_beneath_a_base() -> None:
    for length, fits in ((4095, True), (4096, False)):
        word = "/usr" + "/" * (length - 5) + "x"
        assert len(word) == length
        if fits:
            assert places.beneath("/usr", word, OWNERS, Seen())[0] == "/usr/x"
        else:
            with pytest.raises(UntrustedPath, match="longer than any path"):
                places.beneath("/usr", word, OWNERS, Seen())


@pytest.mark.parametrize(
    ("text", "what"), [("0\n", "fs.protected_hardlinks is 0"), ("1\n", None), (None, "cannot be read")]
)
def test_hard_links_of_anybody(monkeypatch: pytest.MonkeyPatch, text: str | None, what: str | None) -> None:
    """No test may set it: it holds for all of the host."""

    def opened(path: str, **more: object) -> io.StringIO:
        assert path == "/proc/sys/fs/protected_hardlinks"
        if text is None:
            raise PermissionError(errno.EACCES, "no")
        return io.StringIO(text)

    monkeypatch.setattr(files, "open", opened, raising=False)
    found = files._hard_links_problem()
    assert (found is None) is (what is None)
    assert what is None or what in str(found)


def test_programs_are_judged_again_for_a_new_policy() -> None:
    executables.find_executable("true", EXEC_DIRS, OWNERS)
    kept = (interpreters._of, executables._check_loader)
    assert executables._found and all(one.cache_info().currsize for one in kept)
    executables.forget()
    assert not executables._found and not any(one.cache_info().currsize for one in kept)


@pytest.mark.parametrize(
    ("words", "mounts"),
    [
        (["netns", "add"], True),
        (["ne", "add"], True),
        # ip(8): neigh.
        (["n", "add"], False),
        (["netns", "exec"], False),
        (["netns", "e"], False),
        (["link", "add"], False),
    ],
)
def test_mounts_that_ip_makes(words: list[str], mounts: bool) -> None:
    why = behaviour.problem("/sbin/ip", [*words, "x"], opens_paths=True)
    assert (why is not None and "changes mounts" in why) is mounts


def test_a_program_that_does_what_a_file_says_may_have_paths() -> None:
    only = sorted(set(behaviour.ANYTHING) - set(behaviour.OPENS) - set(behaviour.RESOLVES))
    assert only
    assert behaviour.problem(f"/usr/bin/{only[0]}", [], opens_paths=False) is None
    assert behaviour.problem("/usr/bin/made-up", [], opens_paths=True) is None
    assert "nothing is known" in str(behaviour.problem("/usr/bin/made-up", [], opens_paths=False))


def test_how_long_an_option_is() -> None:
    found = getopt.options("-a -bc --d --long ; -e -fg --h")
    assert found.letters == frozenset("a") and found.names == frozenset(("-bc", "--d", "--long"))
    assert found.valued == frozenset("e") and found.others == frozenset(("-fg", "--h"))


def test_programs_that_go_into_directories() -> None:
    for program, words, into in (
        ("/usr/bin/ls", ["-R", "/x"], True),
        ("/usr/bin/ls", ["-l", "/x"], False),
        ("ls", ["-lR", "/x"], True),
        ("/usr/bin/du", ["/x"], True),
        ("/usr/bin/cat", ["-R", "/x"], False),
        # Nothing is known of it.
        ("/usr/bin/made-up", [], True),
    ):
        assert behaviour.goes_into(program, words) is into, (program, words)


@pytest.mark.parametrize(
    ("words", "program"),
    [
        (["netns", "exec", "x", "true"], ["true"]),
        (["-all", "netns", "exec", "true"], ["true"]),
        (["-a", "n", "e", "true"], ["true"]),
        (["-", "netns", "exec", "x", "true"], ["true"]),
        (["vrf", "exec", "x", "true"], ["true"]),
        (["", "exec", "x", "true"], []),
        (["netns", "", "x", "true"], []),
        (["link", "exec", "x", "true"], []),
        (["netns", "add", "x", "true"], []),
        (["netns", "add", "netns", "exec", "x", "true"], ["true"]),
    ],
)
def test_the_program_behind_ip(words: list[str], program: list[str]) -> None:
    assert wrappers._behind_exec(words) == program


def test_nobody_has_a_name_where_no_filter_names_users(tmp_path: Path) -> None:
    made = policy(tmp_path, CAT)
    assert made.names_of(Peer(1, 2, 3, (4,))) == frozenset()


def test_who_may_see_the_status(tmp_path: Path) -> None:
    made = policy(tmp_path, CAT)
    for group, may in ((None, False), (3, True), (4, True), (2, False)):
        assert replace(made, status_gid=group).may_see_status(Peer(1, 2, 3, (4,))) is may
        assert replace(made, status_gid=group).may_see_status(Peer(1, 0, 9, ())) is True


def test_the_names_of_whoever_asks(tmp_path: Path) -> None:
    users = {"user": (False, 2), "%own": (True, 3), "%more": (True, 4), "other": (False, 3), "%no": (True, 2)}
    made = replace(policy(tmp_path, CAT), users=users)
    assert made.names_of(Peer(1, 2, 3, (4,))) == {"user", "%own", "%more"}


def test_the_bounding_set_is_what_the_kernel_says() -> None:
    libc = ctypes.CDLL(None)
    theirs = {number for number in range(64) if libc.prctl(CAPBSET_READ, number, 0, 0, 0) == 1}
    assert files._bounding_set() == theirs


def test_a_capability_that_the_daemon_was_started_without(tmp_path: Path) -> None:
    file(tmp_path / "x.filters", "[Filters]\nk: KillFilter, root, sleep, -9\n")
    for has, found in ((frozenset[str](), True), (None, False)):
        loaded = files.load([str(tmp_path)], OWNERS, None, has=has)
        said = [str(one) for one in loaded.findings]
        assert any("the daemon was started without" in one for one in said) is found, said
        assert len(loaded.filters) == 1
        assert ("CAP_KILL" in loaded.bounding) is (5 in files._bounding_set())


def test_a_file_that_becomes_a_link_after_the_look(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = file(base.parent / "x")
    look = host.resolve_owned

    def then_change(*words: Any) -> host.Resolved:
        found = look(*words)
        path.unlink()
        link(path, "base/a")
        return found

    monkeypatch.setattr(host, "resolve_owned", then_change)
    with pytest.raises(OSError, match=os.strerror(errno.ELOOP)):
        owned.open_owned(str(path), OWNERS)


@pytest.mark.parametrize("inside", [True, False])
def test_whoever_is_not_mapped_comes_with_these_numbers(
    monkeypatch: pytest.MonkeyPatch, inside: bool
) -> None:
    monkeypatch.setattr(host, "in_user_namespace", lambda: inside)
    user, group = host.overflow_uid(), host.overflow_gid()
    found = [("allowed_users", 0, user), ("allowed_groups", 1, group)]
    assert list(late.unmapped()) == (found if inside else [])
    names = frozenset({("allowed_users", str(user)), ("allowed_groups", "4711")})
    assert late.find(names, frozenset(), user, frozenset({1})) == (
        None if inside else ("allowed_users", str(user))
    )
    assert late.find(names, frozenset(), 1, frozenset({group, 4711})) == (
        None if inside else ("allowed_groups", "4711")
    )
    assert late.find(names, frozenset(), 1, frozenset({4711})) == ("allowed_groups", "4711")
    assert late.find(names, frozenset({1}), 1, frozenset({4711})) is None


def test_what_no_process_here_can_have_is_asked_of_a_daemon_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_bounding_set", frozenset)
    directories = [str(tmp_path)]
    every = files.load(directories, OWNERS, None).bounding
    assert "CAP_KILL" in every
    assert files.load(directories, OWNERS, None, has=frozenset()).bounding == frozenset()
    assert files.load(directories, OWNERS, frozenset({"CAP_KILL"})).bounding == {"CAP_KILL"}


def test_scripts_of_scripts_are_followed_as_far_as_the_kernel_does(tmp_path: Path) -> None:
    path = file(tmp_path / "0", "#!/bin/sh\nexit 0\n", 0o755)
    followed = []
    for number in range(1, 8):
        path = file(tmp_path / str(number), f"#!{path}\n", 0o755)
        try:
            done = subprocess.run([path], check=False).returncode == 0
        except OSError as error:
            done = error.errno != errno.ELOOP
        executables.forget()
        try:
            executables.find_executable(str(path), EXEC_DIRS, OWNERS)
            found = True
        except (host.UntrustedPath, OSError):
            found = False
        followed.append((done, found))
    assert followed == sorted(followed, reverse=True)
    assert [done for done, _ in followed] == [found for _, found in followed]


def test_a_path_behind_one_whose_first_name_nothing_has(base: Path) -> None:
    assert nosymfollow([CAT], "cat", f"/no-such-name,{base}/a") == (str(base),)
    with pytest.raises(NotBound, match="it does what a file says"):
        nosymfollow([SED], "sed", f"-f/no-such-name,{base}/a", "x")


def test_the_script_of_sed_is_its_first_operand(base: Path) -> None:
    path = f"{base}/a"
    assert behaviour.obeys("/usr/bin/sed", ["-n", path, "f"], {path}, {path}) is True
    assert behaviour.obeys("/usr/bin/sed", ["-n", "p", path], {path}, {path}) is False


@pytest.mark.parametrize(
    ("option", "what"),
    [
        ("target_user = no-such-user", "target_user: no user 'no-such-user' here"),
        ("group = no-such-group", "no group 'no-such-group' here"),
    ],
)
def test_an_account_that_is_not_there(tmp_path: Path, option: str, what: str) -> None:
    lines = {"target_user": "k: KillFilter, root, sleep, -9", "group": "k: CommandFilter, sleep, root"}
    file(tmp_path / "x.filters", f"[Filters]\n{lines[option.partition(' ')[0]]}\n[k]\n{option}\n")
    loaded = files.load([str(tmp_path)], OWNERS, None)
    assert loaded.filters == []
    assert any(what in str(one) for one in loaded.findings), loaded.findings


@pytest.mark.root
@pytest.mark.parametrize(
    ("failure", "error"),
    [
        (ProcessLookupError(errno.ESRCH, "gone"), ProcessGone),
        (OSError(errno.EIO, "no answer"), InternalError),
        (MemoryError(), None),
    ],
)
def test_a_process_that_ends_while_its_user_is_asked(
    start_sleeper: StartSleeper,
    monkeypatch: pytest.MonkeyPatch,
    failure: BaseException,
    error: type[Error] | None,
) -> None:
    def fail(pid: int) -> frozenset[int]:
        raise failure

    monkeypatch.setattr(host, "process_user", fail)
    lines = ["k: KillFilter, other, sleep, -9", "[k]", "target_user = root"]
    found = match(rules(*lines), "kill", "-9", str(start_sleeper()))
    assert isinstance(found, Match)
    with pytest.raises(NotBound if error else MemoryError) as caught:
        module.bind(found, Host())
    assert error is None or (isinstance(caught.value, NotBound) and caught.value.error is error)


@pytest.mark.root
def test_a_process_that_ended_while_it_was_looked_at(
    start_sleeper: StartSleeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = [False, True]
    monkeypatch.setattr(processes, "has_ended", lambda pidfd: answers.pop(0))
    found = match(rules("k: KillFilter, root, sleep, -9"), "kill", "-9", str(start_sleeper()))
    assert isinstance(found, Match)
    with pytest.raises(NotBound, match="ended while it was looked at") as caught:
        module.bind(found, Host())
    assert caught.value.error is ProcessGone and answers == []


@pytest.mark.parametrize("word", ["/proc/sys/../1/x", "/proc/sys/net/../../1/x", "/proc/sysx", "/proc/1"])
def test_a_word_as_it_is_written_stays_below_its_base(word: str) -> None:
    assert places.as_written("/proc/sys", "/proc/sys/net/x") == "/proc/sys/net/x"
    with pytest.raises(UntrustedPath):
        places.as_written("/proc/sys", word)


def test_a_device_that_everybody_may_write_is_no_file_of_theirs() -> None:
    assert nosymfollow(["t: RegExpFilter, true, root, true, .*"], "true", "/dev/null") == ()


def test_another_file_system_below_a_place(tmp_path: Path) -> None:
    """As if / was one: /proc is mounted on every host."""
    with pytest.raises(UntrustedPath, match=r"another file system is mounted below /$"):
        places.look_below("/", "/proc/self/status")
    file(directory(tmp_path / "sub") / "x")
    places.look_below(str(tmp_path), f"{tmp_path}/sub/x")
    places.look_below(str(tmp_path), f"{tmp_path}/sub/missing/x")


def test_a_dangerous_variable_of_a_filter(base: Path) -> None:
    around = path_words.Around(EXEC_DIRS, OWNERS, Host().identities, None, Seen())
    for name in ("LD_PRELOAD", "FILE"):
        assert path_words._of_variables(((name, f"{base.parent}/x"),), "/", around) == {}
    assert path_words._of_variables((("FILE", f"{base}/a"),), "/", around) == {f"{base}/a": str(base)}
    with pytest.raises(NotBound, match="the variable LD_PRELOAD is refused, for a path in it") as caught:
        path_words._of_variables((("FILE", "/usr"), ("LD_PRELOAD", f"/usr:{base}/a")), "/", around)
    assert caught.value.error is Denied
