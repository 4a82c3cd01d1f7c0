"""rootwrapctl run as root by way of sudo(8): it tells nobody what lies where he may not look."""

import gzip
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from rootwrap_daemon.cli import ctl

pytestmark = pytest.mark.root

COMMANDS = (
    ["check", "{}"],
    ["check", "--config-file", "{}"],
    ["explain", "--config-file", "{}", "true"],
    ["explain", "--filters", "{}", "true"],
    ["list", "--config-file", "{}"],
    ["list", "--filters", "{}"],
    ["diff", "{}", "{}"],
)


def make(path: Path, kind: str) -> None:
    if kind == "directory":
        path.mkdir()
        (path / "secret.name").touch()
        (Path(f"{path}.d")).mkdir()
        (Path(f"{path}.d") / "secret.name").touch()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind != "missing":
        path.write_bytes({"empty": b"", "text": b"root:secret:1\n" * 3, "bytes": b"\n\xff"}.get(kind, b""))
    if kind == "long":
        os.truncate(path, 1 << 27)
    if kind == "another":
        path.write_text("[DEFAULT]\nsecret = 1\n[database]\nconnection = secret\n")


def said(words: list[str], path: Path, caller: str | None = "61111") -> tuple[int, str]:
    """The exit code and what was written; in a child, for some commands give up root."""
    with tempfile.TemporaryFile() as file:
        pid = os.fork()
        if pid == 0:
            code = 99
            try:
                os.dup2(file.fileno(), 1)
                os.dup2(file.fileno(), 2)
                sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
                for name in ("SUDO_UID", "PKEXEC_UID", "DOAS_USER"):
                    os.environ.pop(name, None)
                if caller is not None:
                    os.environ["SUDO_UID"] = caller
                code = ctl.main([word.format(path) for word in words])
            except SystemExit as end:
                code = int(end.code or 0)
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        file.seek(0)
        return code, file.read().decode().replace(str(path), "PATH")


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_one_answer_for_what_is_private(words: list[str], tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    kinds = ("missing", "empty", "text", "bytes", "another", "long", "directory", "pipe")
    answers = {}
    for kind in kinds:
        path = tmp_path / kind
        make(path, kind)
        answers[kind] = said(words, path)
    assert len(set(answers.values())) == 1, answers
    code, text = answers["text"]
    assert code != 0
    assert "PATH: nothing of use" in text
    assert "secret" not in text


def test_root_itself_and_what_everybody_may_read(tmp_path: Path) -> None:
    words = ["list", "--config-file", "{}"]
    for caller in (None, "0"):
        assert "there is no PATH" in said(words, tmp_path / "missing", caller)[1]
    assert "there is no PATH" in said(words, Path("/etc/no-such"))[1]
    assert "PATH: nothing of use" in said(words, Path("/etc/shadow"))[1]


def test_filters_in_a_private_directory_are_judged(tmp_path: Path) -> None:
    (tmp_path / "a.filters").write_text("[Filters]\nhostname: ReadFileFilter, /etc/hostname\n")
    for path in (tmp_path, tmp_path / "a.filters"):
        assert "hostname" in said(["list", "--filters", "{}"], path)[1]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_what_the_caller_could_put_another_file_for_is_not_read(words: list[str], tmp_path: Path) -> None:
    """Or a link of his would lead elsewhere once it was looked at."""
    tmp_path.chmod(0o755)
    own = tmp_path / "own"
    own.mkdir()
    os.chown(own, 61111, 61111)
    path = own / "a.filters"
    path.write_text("[Filters]\nhostname: ReadFileFilter, /etc/hostname\nsecret\n")
    code, text = said(words, path)
    assert code != 0
    assert "PATH: nothing of use" in text
    assert "secret" not in text


#: What is read as a log, policy tests, a baseline or rules of sudoers.
READERS = (
    ["suggest", "{}"],
    ["audit", "{}"],
    ["diff", "--audit-log", "{}", "FILTERS", "FILTERS"],
    ["check", "--audit-log", "{}", "FILTERS"],
    ["test", "{}"],
    ["from-sudoers", "{}"],
    ["check", "--baseline", "{}", "FILTERS"],
)
RECORD = '{"event": "run", "argv": ["/bin/secret"], "filter": "x", "time": "2026-01-01T00:00:00.000000Z"}\n'
SUITE = "filters: [FILTERS]\ntests:\n- {argv: [hostname, secret], expect: deny}\n"


@pytest.fixture(scope="module")
def filters() -> Iterator[str]:
    """Filters that everybody may read, and root alone change."""
    with tempfile.TemporaryDirectory() as made:
        os.chmod(made, 0o755)
        Path(made, "a.filters").write_text("[Filters]\nhostname: ArgvFilter, hostname, root\n")
        yield f"{made}/a.filters"


@pytest.mark.parametrize("words", READERS, ids=" ".join)
def test_one_answer_for_another_file(words: list[str], tmp_path: Path, filters: str) -> None:
    tmp_path.chmod(0o700)
    words = [word.replace("FILTERS", filters) for word in words]
    answers = {}
    for kind in ("missing", "empty", "text", "bytes", "another", "compressed"):
        path = tmp_path / kind
        make(path, kind)
        if kind == "compressed":
            path.write_bytes(gzip.compress(b"root:secret:1\n" * 3))
        answers[kind] = said(words, path)
    assert len(set(answers.values())) == 1, answers
    code, text = answers["text"]
    assert code != 0
    assert "as far as this is told by way of sudo" in text
    assert "secret" not in text


@pytest.mark.parametrize("words", [words for words in READERS if "baseline" not in words[1]], ids=" ".join)
def test_a_private_file_of_the_kind_is_read(words: list[str], tmp_path: Path, filters: str) -> None:
    path = tmp_path / "file"
    texts = {"test": SUITE.replace("FILTERS", filters), "from-sudoers": "a ALL = /bin/secret\n"}
    path.write_text(texts.get(words[0], RECORD))
    path.chmod(0o600)
    words = [word.replace("FILTERS", filters) for word in words]
    words += ["--user", "a"] * (words[0] == "from-sudoers")
    assert "as far as this is told" not in said(words, path)[1]


def test_what_a_file_of_the_callers_includes_is_not_read(tmp_path: Path) -> None:
    """`@include` would have it read as root, and its lines told by what is wrong with them."""
    tmp_path.chmod(0o755)
    own = tmp_path / "own"
    own.mkdir()
    (own / "sudoers").write_text("@include /etc/shadow\n")
    os.chown(own, 61111, 61111)
    code, text = said(["from-sudoers", "{}"], own / "sudoers")
    assert code != 0
    assert "PATH: nothing of use, as far as this is told by way of sudo" in text


@pytest.mark.parametrize("kind", ["directory", "link", "sticky"])
def test_nothing_is_written_that_the_caller_could_exchange(kind: str, filters: str) -> None:
    with tempfile.TemporaryDirectory() as made:
        os.chmod(made, 0o755)
        target = Path(made, "target")
        own = Path(made, "own")
        own.mkdir()
        if kind == "sticky":
            own.chmod(0o1777)
        else:
            os.chown(own, 61111, 61111)
        if kind == "link":
            (own / "file").symlink_to(target)
        sudoers = Path(made, "sudoers")
        sudoers.write_text("a ALL = /bin/ls\n")
        for words in (
            ["from-sudoers", str(sudoers), "--user", "a", "--output", "{}"],
            ["recipe", "units", "--output", "{}"],
            ["check", "--write-baseline", "{}", filters],
        ):
            code, text = said(words, own / "file")
            assert code != 0
            assert "by way of sudo nothing is written where others than root can change" in text, text
        assert not target.exists()
        assert [path.name for path in own.iterdir()] == ["file"] * (kind == "link")
        code, text = said(["from-sudoers", str(sudoers), "--user", "a", "--output", "{}"], target)
        assert target.exists(), text


@pytest.mark.parametrize("words", READERS, ids=" ".join)
def test_a_link_of_the_callers_leads_to_nothing_private(
    words: list[str], tmp_path: Path, filters: str
) -> None:
    tmp_path.chmod(0o755)
    make(tmp_path / "private", "text")
    (tmp_path / "private").chmod(0o600)
    own = tmp_path / "own"
    own.mkdir()
    (own / "link").symlink_to(tmp_path / "private")
    os.chown(own, 61111, 61111)
    code, text = said([word.replace("FILTERS", filters) for word in words], own / "link")
    assert code != 0
    assert "PATH: nothing of use" in text
