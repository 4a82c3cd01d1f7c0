"""config.py: which files are read, in what order, and whose."""

import os
from pathlib import Path

import pytest

from rootwrap_daemon import config
from rootwrap_daemon.errors import ConfigurationError
from rootwrap_daemon.settings import Settings


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "daemon.conf"
    path.write_text("[DEFAULT]\nmax_commands = 1\nkill_grace = 1\n")
    return path


def add(file: Path, name: str, *lines: str) -> Path:
    directory = file.with_name("daemon.conf.d")
    directory.mkdir(exist_ok=True)
    path = directory / name
    path.write_text("\n".join(["[DEFAULT]", *lines, ""]))
    return path


def read(file: Path) -> Settings:
    return config.load(str(file))[0]


def test_the_last_that_sets_an_option_counts(file: Path) -> None:
    add(file, "20-b.conf", "max_commands = 3")
    add(file, "10-a.conf", "max_commands = 2", "max_connections = 7", "allowed_users = 1, 2")
    found = read(file)
    assert (found.max_commands, found.max_connections, found.kill_grace) == (3, 7, 1.0)
    assert found.allowed_users == ("1", "2")


def test_no_directory_or_an_empty_one(file: Path) -> None:
    assert read(file).max_commands == 1
    file.with_name("daemon.conf.d").mkdir()
    assert read(file).max_commands == 1


@pytest.mark.parametrize("name", ["a.conf~", "a", ".a.conf", "a.conf.rpmsave", "a.CONF"])
def test_other_names_are_not_read_and_that_is_said(
    file: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    path = add(file, name, "max_commands = 2")
    assert read(file).max_commands == 1
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == [str(path)]


def test_a_drop_in_with_a_fault(file: Path) -> None:
    add(file, "a.conf", "max_commands = many")
    with pytest.raises(ConfigurationError, match="max_commands"):
        read(file)
    add(file, "a.conf", "[")
    with pytest.raises(ConfigurationError, match=r"daemon\.conf\.d/a\.conf"):
        read(file)


@pytest.mark.parametrize("which", ["file", "drop-in", "directory", "parent"])
def test_what_others_can_write_is_refused(file: Path, which: str) -> None:
    drop_in = add(file, "a.conf")
    read(file)
    path = {"file": file, "drop-in": drop_in, "directory": drop_in.parent, "parent": file.parent}[which]
    path.chmod(path.stat().st_mode | 0o020)
    with pytest.raises(ConfigurationError, match=f"{path}.*can be written by its group"):
        read(file)


def test_drop_ins_that_are_not_there_are_not_blamed(file: Path) -> None:
    file.parent.chmod(0o775)
    with pytest.raises(ConfigurationError, match=f"^{file}:1:1: error: {file.parent} can be written[^\\n]*$"):
        read(file)


@pytest.mark.root
@pytest.mark.parametrize("which", ["file", "drop-in", "directory"])
def test_what_belongs_to_another_is_refused(file: Path, which: str) -> None:
    drop_in = add(file, "a.conf")
    path = {"file": file, "drop-in": drop_in, "directory": drop_in.parent}[which]
    os.chown(path, 65534, -1)
    with pytest.raises(ConfigurationError, match=f"{path}.*belongs to user 65534"):
        read(file)


@pytest.mark.parametrize("kind", ["directory", "fifo", "dangling link"])
def test_a_drop_in_that_is_no_file(file: Path, kind: str) -> None:
    path = add(file, "a.conf")
    path.unlink()
    if kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path, 0o600)
    else:
        path.symlink_to("nowhere")
    with pytest.raises(ConfigurationError, match=r"a\.conf"):
        read(file)


def test_a_file_where_the_directory_would_be(file: Path) -> None:
    file.with_name("daemon.conf.d").touch()
    with pytest.raises(ConfigurationError, match=r"daemon\.conf\.d"):
        read(file)


def test_no_code_by_a_drop_in(file: Path) -> None:
    add(file, "a.conf", "log_config_append = /etc/x")
    with pytest.raises(ConfigurationError, match="log_config_append"):
        read(file)
