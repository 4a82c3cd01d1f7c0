"""No name is two things of those that the daemon makes and reads."""

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rootwrap_daemon.errors import ConfigurationError
from rootwrap_daemon.policy.read import apart


@pytest.fixture
def names(tmp_path: Path) -> dict[str, str]:
    """Options that are apart; `here` is a link to the directory itself."""
    for name in ("filters.d", "daemon.conf.d"):
        (tmp_path / name).mkdir()
    (tmp_path / "here").symlink_to(".")
    names = {"socket_path": "socket", "audit_file": "audit", "log_file": "log", "state_dir": "state"}
    return {option: f"{tmp_path}/{name}" for option, name in names.items()}


def check(directory: Path, names: dict[str, str]) -> None:
    settings: Any = SimpleNamespace(filters_path=[f"{directory}/filters.d"], **names)
    apart.check(settings, settings.log_file, f"{directory}/daemon.conf")


APART: tuple[dict[str, str], ...] = (
    {},
    {"audit_file": "", "log_file": "", "state_dir": ""},
    {"log_file": "", "state_dir": "D/."},
    {"audit_file": "D/.", "state_dir": ""},
    {"audit_file": "journal", "log_file": "journal"},
    {"audit_file": os.devnull, "log_file": os.devnull},
    {
        "audit_file": "D/filters.d.filters",
        "log_file": "D/filters.d/log",
        "state_dir": "D/filters.d/state.conf",
    },
    {"audit_file": "D/daemon.conf.d/audit.filters", "log_file": "D/daemon.conf.new", "state_dir": "D/a.conf"},
)


@pytest.mark.parametrize("changed", APART)
def test_these_are(
    tmp_path: Path, names: dict[str, str], changed: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # What is not set is no name of this directory.
    monkeypatch.chdir(tmp_path)
    check(tmp_path, names | {option: one.replace("D/", f"{tmp_path}/") for option, one in changed.items()})


CLASHES = (
    *(
        ("socket_path", option, f"D/socket{end}")
        for option in ("audit_file", "log_file", "state_dir")
        for end in ("", ".new", ".lock")
    ),
    ("audit_file", "log_file", "D/audit"),
    ("audit_file", "state_dir", "D/here/audit"),
    ("log_file", "state_dir", "D/log"),
    ("state_dir", "audit_file", "D/state/running"),
    ("state_dir", "log_file", "D/here/state/running"),
    *(
        ("is a file that the daemon reads", option, f"D/{path}")
        for option in ("socket_path", "audit_file", "log_file", "state_dir")
        for path in ("daemon.conf", "here/daemon.conf", "daemon.conf.d/x.conf", "filters.d/x.filters")
    ),
)


@pytest.mark.parametrize(("other", "option", "path"), CLASHES)
def test_these_are_not(tmp_path: Path, names: dict[str, str], other: str, option: str, path: str) -> None:
    names[option] = path.replace("D/", f"{tmp_path}/")
    with pytest.raises(ConfigurationError) as caught:
        check(tmp_path, names)
    assert option in str(caught.value) and other in str(caught.value)
