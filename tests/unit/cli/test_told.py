"""rootwrapctl run as root by way of sudo(8): it tells nobody what lies where he may not look."""

import os
import sys
import tempfile
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
    assert "PATH: no configuration and no filters" in text
    assert "secret" not in text


def test_root_itself_and_what_everybody_may_read(tmp_path: Path) -> None:
    words = ["list", "--config-file", "{}"]
    for caller in (None, "0"):
        assert "there is no PATH" in said(words, tmp_path / "missing", caller)[1]
    assert "there is no PATH" in said(words, Path("/etc/no-such"))[1]
    assert "PATH: no configuration and no filters" in said(words, Path("/etc/shadow"))[1]


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
    assert "PATH: no configuration and no filters" in text
    assert "secret" not in text
