"""policy/named.py: what a program may find by the words of a command, to the last name and the first."""

import contextlib
import os
import tracemalloc
from pathlib import Path

import pytest

from rootwrap_daemon.policy import named, places
from rootwrap_daemon.policy.host import Identity, Seen, UntrustedPath
from tests.unit.policy.things import OWNERS, directory, file, link


def found_in(words: set[str], cwd: str = "/", skip: tuple[str, ...] = ()) -> dict[str, str | None]:
    return named.directories_in(words, cwd, OWNERS, Seen(), skip)


@pytest.fixture
def top(tmp_path: Path) -> Path:
    """A directory of ours, with one of ours in it and one that others can write."""
    directory(tmp_path / "ours")
    directory(tmp_path / "ours/deep")
    directory(tmp_path / "base", 0o777)
    directory(tmp_path / "base/sub")
    return tmp_path


def test_a_word_with_a_path() -> None:
    for word in ("/a", "x=/a", "-C/a", "-x/a", "--dir=/a", "-a/b", "file:/a"):
        assert named.has_path(word), word
    for word in ("-x", "--long", "a/b", "x", "-", ""):
        assert not named.has_path(word), word


def test_a_path_at_every_slash() -> None:
    assert {"//a", "/a"} <= set(named.paths_in("//a", "/"))
    assert {"/a:/b", "/a", "/b"} == set(named.paths_in("/a:/b", "/"))


def test_a_relative_path_begins_with_the_longest_name() -> None:
    found = set(named.paths_in("a" * 300 + "/x", "/d"))
    assert "/d/" + "a" * 255 + "/x" in found
    assert "/d/" + "a" * 256 + "/x" not in found


def test_the_letters_of_options_before_a_value() -> None:
    word = "-abcdefghijklmnop"
    found = set(named.paths_in(word, "/", ("/d",)))
    assert found == {f"/d/{word[at:]}" for at in range(2, 12)}


def test_a_first_name_that_root_has() -> None:
    names = named.names_in_root()
    for path in ("/usr", "/usr/x", "/", "//x", "/./x", "/../x"):
        assert named.may_exist(path, names), path
    assert not named.may_exist("/no-such-name", names)
    assert not named.may_exist("/no-such-name/usr", names)


def test_directories_beside_each_other(top: Path) -> None:
    assert found_in({f"{top}/ours", "deep"}) == {f"{top}/ours": None, f"{top}/ours/deep": None}
    assert found_in({str(top), "ours", "deep"}).keys() == {str(top), f"{top}/ours", f"{top}/ours/deep"}
    # All beneath a place is one place.
    assert found_in({f"{top}/base", "sub"}) == {f"{top}/base": f"{top}/base"}


def test_directories_beside_the_current_one(top: Path) -> None:
    assert found_in({"ours"}, str(top)) == {f"{top}/ours": None}
    assert found_in({"-Cours"}, str(top)) == {f"{top}/ours": None}
    assert found_in({"usr"}) == {"/usr": None}
    assert found_in({"no-such-name"}) == {}
    assert found_in(set()) == {}


def test_a_directory_is_looked_at_once() -> None:
    """Otherwise it would be found in itself, until there are too many."""
    assert found_in({"/usr", "."}) == {"/usr": None, "/": None}


def test_directories_that_are_skipped(top: Path) -> None:
    assert found_in({f"{top}/base", f"{top}/ours"}, skip=(f"{top}/base",)) == {f"{top}/ours": None}
    # A skipped one does not end the search.
    words = {f"{top}/ours" if number % 2 else f"{top}/base/{number}" for number in range(20)}
    assert found_in(words, skip=(f"{top}/base",)) == {f"{top}/ours": None}


def test_a_file_is_no_directory(top: Path) -> None:
    (top / "file").touch(0o644)
    assert found_in({f"{top}/file"}) == {}
    # But may be beside others' things: what is below the place is not told.
    assert found_in({f"{top}/base/new"}) == {f"{top}/base/new": f"{top}/base"}


@pytest.mark.parametrize(("paths", "texts", "refused"), [(177, 112, False), (146, 136, True)])
def test_the_most_looks_for_directories(paths: int, texts: int, refused: bool) -> None:
    """So many paths lead to one directory, beside each of which so many others may be: 20,001 and 20,002."""
    words = {"/." * (paths - 1) + "/usr", *(f"no-{number}" for number in range(texts))}
    assert paths * (texts + 1) == 20_001 + refused
    if refused:
        with pytest.raises(UntrustedPath, match="too many directories"):
            found_in(words)
    else:
        assert found_in(words) == {"/usr": None}


@pytest.mark.parametrize(("count", "refused"), [(256, False), (257, True)])
def test_the_most_paths_in_a_word(count: int, refused: bool) -> None:
    word = "/." * count
    if refused:
        with pytest.raises(UntrustedPath, match="too many paths in a word"):
            found_in({word})
    else:
        assert found_in({word}) == {"/": None}


@pytest.mark.parametrize("word", ["/" * 130_000, "/etc/" * 26_000, "/etc/x" * 256 + "y" * 120_000])
def test_a_long_word_is_not_copied_for_each_slash(word: str) -> None:
    tracemalloc.start()
    try:
        with contextlib.suppress(UntrustedPath):
            found_in({word})
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


def said(top: Path, *texts: str, here: str = "/", exec_dirs: tuple[str, ...] = ()) -> str:
    """The error of check_code, without what the program does; empty for none. `{}` is `top`."""
    try:
        filled = {text.replace("{}", str(top)) for text in texts}
        named.check_code("X", filled, {here.replace("{}", str(top))}, OWNERS, Seen(), exec_dirs)
    except UntrustedPath as error:
        return str(error).replace(str(top), "{}").removeprefix("X, and others can change ")
    return ""


@pytest.fixture
def code(top: Path) -> Path:
    """Beside that, a directory of ours with a file of others deep in it, and a link to one of them."""
    file(directory(directory(top / "mixed") / "deep") / "theirs", mode=0o666)
    file(top / "mixed/ours")
    link(top / "ours/link", top / "mixed/ours")
    return top


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("{}/ours", ""),
        ("{}/base", "what is in {}/base"),
        ("{}/base/sub/x", "what is in {}/base"),
        ("{}/mixed", "what is in {}/mixed"),
        ("{}/mixed/deep/theirs", "{}/mixed/deep/theirs"),
        ("{}/mixed/ours", ""),
        ("{}/mixed/ours/..", "what is in {}/mixed"),
        ("{}/ours/link", ""),
        ("{}/ours/link/..", "what is in {}/mixed"),
        ("{}/none:{}/mixed", "what is in {}/mixed"),
        ("{}/mixed:{}/none", "what is in {}/mixed"),
        ("a={}/mixed b", "what is in {}/mixed"),
        ("{}/mixed#b", "what is in {}/mixed"),
        ("{}/none", ""),
        ("/proc:/sys:/dev:/:/root", ""),
        ("mixed", ""),
        ("", ""),
    ],
)
def test_what_others_can_change_of_code(code: Path, text: str, answer: str) -> None:
    assert said(code, text) == answer
    assert said(code, "{}/ours", text) == answer


@pytest.mark.parametrize(
    ("text", "here", "answer"),
    [
        ("mixed", "{}", "what is in {}/mixed"),
        ("none:mixed", "{}", "what is in {}/mixed"),
        ("mixed:none", "{}", "what is in {}/mixed"),
        ("ours", "{}", ""),
        (".", "{}/mixed", "what is in {}/mixed"),
        ("ours:", "{}/mixed", "what is in {}/mixed"),
        (":", "{}/mixed", "what is in {}/mixed"),
        ("", "{}/mixed", ""),
        ("theirs", "{}/mixed/deep", "{}/mixed/deep/theirs"),
        ("-Ideep", "{}/mixed", "what is in {}/mixed/deep"),
    ],
)
def test_relative_code(code: Path, text: str, here: str, answer: str) -> None:
    assert said(code, text, here=here) == answer


def test_what_is_executed_in_any_case(code: Path) -> None:
    assert said(code, "{}/mixed", exec_dirs=(str(code / "mixed"),)) == ""
    link(code / "other", "mixed")
    assert said(code, "{}/other", exec_dirs=(str(code / "other"),)) == ""
    assert said(code, "{}/other", exec_dirs=(str(code / "mixed"),)) == ""
    assert said(code, "{}/mixed/deep", exec_dirs=(str(code / "mixed"),)) == "what is in {}/mixed/deep"
    # A place is one, whatever says that it is not.
    assert said(code, "{}/base", exec_dirs=(str(code / "base"),)) == "what is in {}/base"


def test_the_home_of_who_asks(code: Path) -> None:
    """What the daemon puts in HOME anyway; another user's is a directory as each other."""
    for home, answer in (("mixed", ""), ("ours", "what is in {}/mixed")):
        seen = Seen(looker=Identity("x", os.geteuid(), os.getegid(), (), str(code / home)))
        found = ""
        try:
            named.check_code("X", {f"{code}/mixed"}, {"/"}, OWNERS, seen, ())
        except UntrustedPath as error:
            found = str(error).replace(str(code), "{}").removeprefix("X, and others can change ")
        assert found == answer


def test_too_much_code(code: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for count, answer in ((1023, ""), (1024, "too many paths that name code")):
        assert said(code, ":".join(f"x{number}" for number in range(count))) == answer
    # One number of names for all of them; an empty directory counts as one name.
    monkeypatch.setattr(places, "names", lambda: iter(range(3)))
    assert said(code, "{}/ours") == ""
    directory(directory(directory(code / "two") / "a") / "b")
    assert said(code, "{}/two") == ""
    assert said(code, "{}/two", "{}/two/.:{}/two/a/..") == ""
    assert said(code, "{}/ours", "{}/two").startswith("what is in {}/")
