"""policy/users.py: a number that stands for many users admits none of them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rootwrap_daemon.errors import ConfigurationError
from rootwrap_daemon.policy import host, users
from tests.unit.policy import things

ROOT = Path(__file__).parents[3]
LOAD = """
import sys
from rootwrap_daemon.errors import ConfigurationError
from rootwrap_daemon.policy import users
from tests.unit.policy import things
from pathlib import Path
file, option, name = sys.argv[1:]
settings = things.settings(Path(file), filters_path="/", trusted_owners="0", **{option: name})
try:
    print(users.allowed(settings, frozenset({0})))
except ConfigurationError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("option", "name"),
    [
        ("allowed_users", "nobody"),
        ("allowed_users", "root, 65534"),
        ("allowed_groups", "nogroup"),
        ("allowed_groups", "65534"),
    ],
)
def test_whoever_is_not_mapped_is_nobody(tmp_path: Path, option: str, name: str) -> None:
    def loaded(*inside: str) -> str:
        words = [*inside, sys.executable, "-c", LOAD, str(tmp_path / "daemon.conf"), option, name]
        done = subprocess.run(
            words, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[3]
        )
        return done.stdout

    assert "does not map" in loaded("unshare", "--user", "--map-root-user")
    if not host.in_user_namespace():
        assert "65534" in loaded()
        assert "does not map" not in loaded()


@pytest.mark.parametrize("option", ["allowed_users", "allowed_groups", "trusted_owners"])
def test_names_that_are_not_here(tmp_path: Path, option: str) -> None:
    given = {"trusted_owners": "0", option: "no-such-name"}
    settings = things.settings(tmp_path / "daemon.conf", filters_path="/", **given)
    with pytest.raises(ConfigurationError, match=f"{option}: there is no 'no-such-name'"):
        users.allowed(settings, users.owners(settings))


def test_owners(tmp_path: Path) -> None:
    settings = things.settings(tmp_path / "daemon.conf", filters_path="/", trusted_owners="root, 61111")
    assert users.owners(settings) == {0, 61111}
    assert users.allowed(settings, frozenset({os.geteuid()})) == (frozenset({0}), frozenset())
