"""Give every test the `root` marker, hypothesis without a clock, and a directory that stays empty."""

import contextlib
import gc
import os
import shutil
import signal
import sys
import tempfile
import zlib
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

from tests.prepared import Prepared
from tests.real_daemon import KEPT, client, daemon, new_daemon

__all__ = ["client", "daemon", "new_daemon"]

# Images of containers set it, as if nothing were executed twice: each worker would compile each test again,
# and each program that a test starts all that it imports.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# What a test makes for the daemon must not be writable by the group, as it is with a umask of 002.
os.umask(0o022)


def _base() -> str:
    """A directory of this user's in no sticky one, as /tmp is: links below such a one are not followed."""
    for parent in ("/var/lib", os.path.expanduser("~/.cache")):
        with contextlib.suppress(OSError):
            os.makedirs(f"{parent}/rw", exist_ok=True)
            if os.access(f"{parent}/rw", os.W_OK):
                return f"{parent}/rw"
    return tempfile.gettempdir()


# Where pytest makes each test's `tmp_path`, which it keeps for a while.
_BASE = os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", _base())
#: The directory for temporary files of this process and all that it starts, as its user. Its name
#: is short: a Unix socket's has at most 107 bytes (unix(7)).
TEMPORARY = Path(tempfile.mkdtemp(prefix="rw-", dir=_BASE))
TEMPORARY.chmod(0o755)
os.environ["TMPDIR"] = tempfile.tempdir = str(TEMPORARY)

# As the daemon's start does: nohup(1), or a shell's `&`, has tests ignore what their programs are to be told.
for _number in signal.valid_signals() - {signal.SIGPIPE, signal.SIGXFSZ}:
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, signal.SIG_DFL)

# A busy machine makes an example slow; that is no finding. The same examples each time: whether a change
# lands must not hang on a draw. `make fuzz` looks for new ones.
settings.register_profile("house", settings(), deadline=None, derandomize=True)
settings.load_profile("house")


#: Tests that use the same thing, and so run one after the other: of this host, the names of its network
#: namespaces; of a worker, what it computes once.
_TOGETHER = {
    "names": ("tests/arch/test_names.py",),
    "netns": (
        "tests/functional/test_neutron.py",
        "tests/functional/test_suggest.py",
        "tests/functional/test_examples.py",
    ),
    # The directory of its sockets.
    "postgres": (
        "tests/functional/test_recipes.py::test_the_owner_of_a_database",
        "tests/functional/test_recipes.py::test_with_the_real_programs[postgres]",
    ),
}


def _group_of(nodeid: str) -> str | None:
    return next((name for name, places in _TOGETHER.items() if nodeid.startswith(places)), None)


class _Scheduling(LoadScopeScheduling):  # type: ignore[misc]
    """Send a group to one worker, and each other test, or a few cases of one, to the next that is idle.

    Not by the mark `xdist_group`: pytest-xdist 3.8 writes it into an attribute that pytest 9.2 does not read.
    """

    def _split_scope(self, nodeid: str) -> str:
        if (group := _group_of(nodeid)) is None and nodeid.startswith(("tests/unit/", "tests/arch/")):
            # To send such a case takes about as long as the case.
            return f"{nodeid.partition('[')[0]} {zlib.crc32(nodeid.encode()) % 4}"
        return group or nodeid

    def mark_test_complete(self, node: Any, item_index: int, duration: float = 0) -> None:
        """As there, and forget what is done: all that a worker ever had is counted after each test."""
        super().mark_test_complete(node, item_index, duration)
        done = self._split_scope(self.registered_collections[node][item_index])
        if all(self.assigned_work[node].get(done, {}).values()):
            self.assigned_work[node].pop(done, None)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> _Scheduling:
    return _Scheduling(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have first what takes minutes; of systemd each worker boots a machine of its own."""
    items.sort(key=lambda item: not (_group_of(item.nodeid) or item.nodeid.startswith("tests/systemd/")))


def pytest_collection_finish() -> None:
    """Have the collector look at no test again: with twelve thousand of them it takes 0.1 s each time."""
    gc.collect()
    gc.freeze()


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


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Generator[None, None, None]:
    """Fail after the last test of a file if these tests left a temporary file."""
    yield
    if nextitem is None or nextitem.path != item.path:
        left = set(os.listdir(TEMPORARY)) - KEPT.directories()
        for name in left:
            path = TEMPORARY / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        if left:
            pytest.fail(f"the tests of {item.path.name} left in TMPDIR: {sorted(left)}", pytrace=False)


def pytest_unconfigure() -> None:
    KEPT.end()
    Prepared.end()
    shutil.rmtree(TEMPORARY)
