"""What a program finds in a directory, where others can change something in it: path_words.py, places.py."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from rootwrap_daemon.errors import Denied
from rootwrap_daemon.filters.values import Match
from rootwrap_daemon.policy import bind as module
from rootwrap_daemon.policy import path_words, places
from rootwrap_daemon.policy.bound import BoundExec, NotBound
from rootwrap_daemon.policy.host import Identity, Seen
from tests.unit.filters.lines import match, rules
from tests.unit.policy.things import EXEC_DIRS, OWNERS, Host, directory, file, link, program


def is_mixed(top: Path, left: Iterator[int] | None = None) -> bool:
    return places.is_mixed(str(top), OWNERS, Seen(), left or places.names(), True)


@pytest.fixture
def top(tmp_path: Path) -> Path:
    """A directory that only trusted owners can change, and one beside it with a file of others."""
    file(directory(directory(directory(tmp_path / "top") / "a") / "b") / "c")
    link(tmp_path / "top/up", ".")
    link(tmp_path / "top/a/again", "b")
    link(tmp_path / "top/nowhere", "missing")
    os.mkfifo(tmp_path / "top/a/fifo")
    os.chmod(tmp_path / "top/a/fifo", 0o666)
    file(directory(directory(tmp_path / "beside") / "sub") / "theirs", mode=0o666)
    return tmp_path / "top"


def test_a_directory_in_which_others_can_change_something(top: Path) -> None:
    assert is_mixed(top) is False
    for path in (top / "x", top / "a/b/x"):
        file(path, mode=0o666)
        assert is_mixed(top) is True
        path.unlink()
        directory(path, 0o777)
        assert is_mixed(top) is True
        path.rmdir()
        link(path, top.parent / "beside/sub/theirs")
        assert is_mixed(top) is True
        path.unlink()
    assert is_mixed(top) is False


@pytest.mark.parametrize("where", ["beside", "beside/sub/theirs", "open"])
def test_links_are_followed_by_who_follows_them(top: Path, where: str) -> None:
    directory(top.parent / "open", 0o777)
    link(top / "a/beside", top.parent / where)
    assert is_mixed(top) is True
    assert places.is_mixed(str(top), OWNERS, Seen(), places.names(), False) is False
    directory(top / "b", 0o777)
    assert places.is_mixed(str(top), OWNERS, Seen(), places.names(), False) is True


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a link to somebody")
def test_a_link_of_somebody_else_counts_for_all(top: Path) -> None:
    link(top / "a/other", "b")
    os.lchown(top / "a/other", 61111, 61111)
    assert places.is_mixed(str(top), OWNERS, Seen(), places.names(), False) is True


def test_a_name_that_cannot_be_looked_at(top: Path) -> None:
    link(top / "a/b/process", "/proc/self/cwd")
    assert is_mixed(top) is True


@pytest.mark.parametrize("names", [(), ("x",)])
def test_who_may_not_look_is_not_told_whether_anything_is_there(top: Path, names: tuple[str, ...]) -> None:
    looker = Identity("other", os.geteuid(), os.getegid(), (), "/")
    assert places.is_mixed(str(top), OWNERS, Seen(looker=looker), places.names(), True) is False
    private = directory(top / "private")
    for name in names:
        file(private / name)
    private.chmod(0o600)
    assert places.is_mixed(str(top), OWNERS, Seen(looker=looker), places.names(), True) is True


def test_too_many_names_to_tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for count, mixed in ((10_000, False), (10_001, True)):
        with monkeypatch.context() as patch:
            patch.setattr(os, "listdir", lambda path, count=count: [f"missing{one}" for one in range(count)])
            assert is_mixed(tmp_path) is mixed
    monkeypatch.setattr(os, "listdir", lambda path: [f"missing{one}" for one in range(5_001)])
    # So many in all of the directories of a command.
    assert [is_mixed(tmp_path, left) for left in [places.names()] * 2] == [False, True]


@pytest.mark.parametrize(
    ("words", "directories", "cwd", "found"),
    [
        ("run-parts /x", "/x", "/", "/x"),
        ("run-parts /x", "/ /x", "/", "/x"),
        ("/bin/run-parts /x", "/x /y", "/z", "/x /y /z"),
        ("run-parts /", "/", "/", ""),
        ("cat /x", "/x", "/z", ""),
        ("find /x -name y", "/x", "/z", ""),
        ("/bin/find /x -exec y", "/x", "/", "/x"),
        ("find /x -exec y", "/ /x", "/", "/x"),
        ("find / -exec y", "/ /x", "/", "/ /x"),
        ("find //. -exec y", "/", "/", "/"),
        ("find /x/.. -exec y", "/ /x", "/", "/ /x"),
        ("find -exec y", "", "/", "/"),
        ("find ( -exec y )", "", "/", "/"),
        ("find ! -exec y", "", "/", "/"),
        ("find x -exec y", "", "/", ""),
        ("find -exec y", "/x", "/", "/x"),
        ("find -exec y", "", "/z", "/z"),
        ("find x -exec y", "", "/z", "/z"),
        ("run-parts -exec", "", "/", ""),
        ("chmod -R /x", "/ /x", "/", "/x"),
        ("chmod /x", "/x", "/", ""),
        ("find -L /x", "/ /x", "/z", "/x /z"),
    ],
)
def test_the_directories_that_are_searched(
    monkeypatch: pytest.MonkeyPatch, words: str, directories: str, cwd: str, found: str
) -> None:
    asked = []

    def mixed(path: str, owners: frozenset[int], seen: Seen, left: Iterator[int], follow: bool) -> bool:
        asked.append((owners, seen, left, follow))
        return True

    monkeypatch.setattr(places, "is_mixed", mixed)
    around = path_words.Around(EXEC_DIRS, OWNERS, {}, None, Seen())
    name, *rest = words.split()
    made = path_words._searched(name, rest, directories.split(), cwd, around)
    assert sorted(made) == found.split()
    assert [one[:2] for one in asked] == [(OWNERS, around.seen)] * len(made)
    assert len({(id(left), follow) for *_, left, follow in asked}) <= 1


def test_a_place_is_searched_whatever_is_in_it(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "is_mixed", lambda *of: False)
    around = path_words.Around(EXEC_DIRS, OWNERS, {}, None, Seen())
    paths = [str(top), str(directory(top / "open", 0o777))]
    assert path_words._searched("run-parts", [], paths, "/", around) == [f"{top}/open"]


def nosymfollow(tools: Path, *words: str) -> tuple[str, ...]:
    """Of a command whose filter judges all its words. Raises NotBound."""
    if not (tools / words[0]).exists():
        program(tools / words[0])
    fields = ", ".join([f"{tools}/{words[0]}", "root", words[0], *[".*"] * (len(words) - 1)])
    found = match(rules(f"x: RegExpFilter, {fields}"), *words)
    assert isinstance(found, Match)
    with module.bind(found, Host()) as bound:
        assert isinstance(bound, BoundExec)
        return bound.nosymfollow


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("run-parts {open}", "the words are refused: run-parts executes what others can change in {open}"),
        ("run-parts {mixed}", "the words are refused: run-parts executes what others can change in {mixed}"),
        ("run-parts {top}", None),
        ("find {open} -exec cat {} ;", None),
        ("find {mixed} -exec cat {} ;", None),
        ("find {top} -exec sed -f {} ;", None),
        ("find {open} -exec sed --file {} ;", "does what a file says, and others can change"),
        ("find {open} -exec sed --file x{} ;", "does what a file says, and others can change"),
        ("find {open} -exec sed --file name ;", "does what a file says, and others can change"),
        ("find {mixed} -exec sed -f{} ;", "does what a file says, and others can change"),
        ("find {mixed} -exec sed --file=/x{} ;", "does what a file says, and others can change"),
        ("find {mixed} -execdir sed --file new ;", "does what a file says, and others can change"),
        ("find {mixed} -execdir sed --file /x ;", None),
        ("find {open} -exec split --filter {} ;", "find executes {}, where others can make such a name"),
        ("find {open} -exec split --filter name ;", None),
        ("find {open} -exec sed -f /etc/hostname ;", None),
        ("find {open} -exec {} ;", "find executes {}, where others can make such a name"),
        ("find {open} -exec /x/{} ;", "find executes /x/{}, where others can make such a name"),
        ("find {open} -execdir ./tool ;", "find executes ./tool, where others can make such a name"),
        ("find {open} -exec /bin/cat ;", None),
        ("find {top} -execdir ./tool ;", None),
        ("chmod -R a+r {mixed}", None),
        ("chmod -R a+r {top}", None),
        ("ls -lR {mixed} {top}", None),
        ("cp -a {linked} {top}", None),
        ("cp -aL {linked} {top}", None),
        ("rsync -a {linked} {top}", None),
        ("rsync -ak {linked} {top}", None),
        ("diff -r {linked} {top}", None),
        ("cp -r {top} {mixed}", None),
        ("cp -a {mixed} {top}", None),
        ("diff -ur {top} {mixed}", None),
        ("grep -rn x {mixed}", None),
        ("grep --directories=recurse x {mixed}", None),
        ("rsync -a {mixed} {top}", None),
        ("gzip -r {mixed}", None),
        ("chattr -R +d {mixed}", None),
        ("tar -chf - {mixed}", None),
        ("tar chf - {mixed}", None),
        ("tar -xf {top}/x -C {mixed}", None),
        ("find -L {mixed} -name x", None),
        ("chown -RL 1 {mixed}", None),
        ("du --dereference {mixed}", None),
        ("timeout 5 chmod -R a+r {mixed}", None),
        (
            "zip -r x {mixed}",
            "nothing is known of how zip uses paths, and others can change what is in {mixed}",
        ),
        ("zip -r x {top}", None),
        ("tar -I {top}/tool", None),
        ("tar -I {top}/tool {top}/x", None),
    ],
)
def test_what_a_command_finds(top: Path, words: str, why: str | None) -> None:
    places_of = {"top": str(top), "open": f"{top.parent}/open", "mixed": f"{top.parent}/beside"}
    places_of["linked"] = str(directory(top.parent / "linked"))
    link(top.parent / "linked/beside", top.parent / "beside")
    directory(top.parent / "open", 0o777)
    program(top / "tool")

    def filled(text: str) -> str:
        for name, path in places_of.items():
            text = text.replace(f"{{{name}}}", path)
        return text

    argv = filled(words).split()
    if why is None:
        # What follows no link is not led by one of root's.
        good = {"top", "linked"} if words.startswith(("cp -a {", "rsync -a {")) else {"top"}
        expected = [path for name, path in places_of.items() if f"{{{name}}}" in words and name not in good]
        assert nosymfollow(top.parent, *argv) == tuple(expected)
    else:
        with pytest.raises(NotBound) as caught:
            nosymfollow(top.parent, *argv)
        assert filled(why) in str(caught.value) and caught.value.error is Denied


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("nice {top}/tool", None),
        ("{open}/a", "the program '{open}/a' is refused"),
        ("nice {open}/a", "others can change {open}/a, or it does what a file says that they can change"),
        ("sh {open}/a", "others can change sh, or it does what a file says that they can change"),
        ("nice sh {open}/a", "others can change sh, or it does what a file says that they can change"),
        ("cat {top}/tool", None),
    ],
)
def test_a_command_in_an_option(top: Path, command: str, why: str | None) -> None:
    directory(top.parent / "open", 0o777)
    program(top.parent / "open/a")
    program(top / "tool")
    names = {"top": str(top), "open": f"{top.parent}/open"}
    words = ("tar", f"--to-command={command.format(**names)}", "x")
    if why is None:
        assert nosymfollow(top.parent, *words) == ()
    else:
        with pytest.raises(NotBound) as caught:
            nosymfollow(top.parent, *words)
        assert why.format(**names) in str(caught.value)
