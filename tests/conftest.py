"""What every test has: the `root` marker, and hypothesis without a clock."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

from tests.real_daemon import client, daemon, new_daemon

__all__ = ["client", "daemon", "new_daemon"]

# What a test makes for the daemon must not be writable by the group, as it is with a umask of 002.
os.umask(0o022)

# A busy machine makes an example slow; that is no finding.
settings.register_profile("house", settings(), deadline=None)
settings.load_profile("house")


#: Tests that use the same thing of this host, and so run one after the other: a machine, or names of network
#: namespaces.
_TOGETHER = {
    "systemd": ("tests/systemd/",),
    "netns": (
        "tests/functional/test_neutron.py",
        "tests/functional/test_suggest.py",
        "tests/functional/test_examples.py",
    ),
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Several processes may share the tests: `pytest -n 4 --dist loadgroup`."""
    for item in items:
        for group, places in _TOGETHER.items():
            if item.nodeid.startswith(places):
                item.add_marker(pytest.mark.xdist_group(group))


def _why_no_root() -> str:
    """Empty if this process is root and can become other users."""
    if os.geteuid() != 0:
        return "needs root"
    mapped = sum(int(line.split()[2]) for line in Path("/proc/self/uid_map").read_text().splitlines())
    return "" if mapped > 1 else "needs a root that can become other users, not that of a user namespace"


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip or fail a test marked `root` where there is none."""
    if item.get_closest_marker("root") and (reason := _why_no_root()):
        if os.environ.get("REQUIRE_ROOT") == "1":
            pytest.fail(f"{reason}, and REQUIRE_ROOT=1", pytrace=False)
        pytest.skip(reason)
