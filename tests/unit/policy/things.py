"""Files with the modes and owners that a test needs, and a policy that is bound to them."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from rootwrap_daemon import config
from rootwrap_daemon.policy import host
from rootwrap_daemon.policy.policy import Policy
from rootwrap_daemon.settings import Settings
from tests.unit.filters.lines import read

#: Whom the tests trust: root, and whoever runs them.
OWNERS = host.base_owners()
#: Somebody else, for tests that need root.
STRANGER = 65534
EXEC_DIRS = ("/usr/bin", "/bin", "/usr/sbin", "/sbin")


def directory(path: Path, mode: int = 0o755, owner: int | None = None) -> Path:
    path.mkdir()
    return _own(path, mode, owner)


def file(path: Path, text: str = "", mode: int = 0o644, owner: int | None = None) -> Path:
    path.write_text(text)
    return _own(path, mode, owner)


def program(path: Path, mode: int = 0o755, owner: int | None = None) -> Path:
    """A copy of sleep(1)."""
    shutil.copyfile(shutil.which("sleep") or "/bin/sleep", path)
    return _own(path, mode, owner)


def link(path: Path, target: str | Path, owner: int | None = None) -> Path:
    path.symlink_to(target)
    if owner is not None:
        os.lchown(path, owner, owner)
    return path


def _own(path: Path, mode: int, owner: int | None) -> Path:
    if owner is not None:
        os.chown(path, owner, owner)
    path.chmod(mode)
    return path


@dataclass(frozen=True, slots=True)
class Host:
    """What binding needs to know of a policy; `root` is whoever runs the tests, `home` that of `other`."""

    exec_dirs: tuple[str, ...] = EXEC_DIRS
    owners: frozenset[int] = OWNERS
    no_places: str | None = None
    home: str = "/"

    def admits(self, peer: object) -> bool:
        return False

    @property
    def identities(self) -> dict[tuple[str, str | None], host.Identity]:
        me = host.Identity("root", os.geteuid(), os.getegid(), (os.getegid(),), "/root")
        other = host.Identity("other", STRANGER, STRANGER, (STRANGER,), self.home)
        return {("root", None): me, ("other", None): other, ("other", "root"): other}


def settings(config_file: Path, **options: str) -> Settings:
    """The settings of a file with these options."""
    lines = [f"{name} = {value}" for name, value in options.items()]
    config_file.write_text("\n".join(["[DEFAULT]", *lines, ""]))
    return config.load(str(config_file))[0]


def policy(tmp_path: Path, *lines: str, exec_dirs: tuple[str, ...] = EXEC_DIRS) -> Policy:
    """A policy of these filters."""
    surroundings = Host(exec_dirs)
    return Policy(
        settings=settings(tmp_path / "daemon.conf"),
        filters=read(*lines).filters,
        generation=1,
        exec_dirs=exec_dirs,
        owners=surroundings.owners,
        identities=surroundings.identities,
        allowed_uids=frozenset({4711}),
        allowed_gids=frozenset({47, 11}),
        findings=(),
    )
