"""policy/executables.py: a program that was found before is found as one that was not."""

import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from rootwrap_daemon.policy import executables, host
from tests.unit.policy.things import OWNERS, STRANGER

NAMES = ("tool", "script", "link", "{first}/tool", "{second}/tool")


@pytest.fixture(autouse=True)
def _new() -> Iterator[None]:
    executables.forget()
    yield
    executables.forget()


def changes(top: Path) -> list[str]:
    """All paths below, and some that may be made."""
    found = [str(path) for path in sorted(top.rglob("*"))]
    return [*found, *(f"{top}/{place}/{name}" for place in ("first", "second") for name in ("tool", "link"))]


def change(top: Path, chance: random.Random) -> str:
    """Change something that may decide; what it was, in words."""
    path = chance.choice(changes(top))
    is_there, is_directory = os.path.lexists(path), os.path.isdir(path) and not os.path.islink(path)
    kind = chance.choice(
        ("mode", "owner", "gone", "program", "script", "link", "moved", "content", "entry", "nothing")
    )
    if kind == "mode" and is_there and not os.path.islink(path):
        os.chmod(path, chance.choice((0o755, 0o775, 0o644, 0o757, 0o1777)))
    elif kind == "owner" and is_there:
        os.lchown(path, chance.choice((0, 0, STRANGER)), 0)
    elif kind == "gone" and is_there and not is_directory:
        os.unlink(path)
    elif kind in ("program", "script") and not is_directory:
        if is_there:
            os.unlink(path)
        interpreter = chance.choice(
            (f"{top}/bin/sh", "/bin/sh", "/usr/bin/env sh", f"/bin/sh {top}/first/link")
        )
        if kind == "program":
            shutil.copyfile("/bin/true", path)
        else:
            Path(path).write_text(f"#!{interpreter}\n")
        os.chmod(path, 0o755)
    elif kind == "link" and not is_there:
        os.symlink(chance.choice((f"{top}/second/tool", "tool", "/bin/true", f"{top}/bin")), path)
    elif kind == "moved" and is_directory:
        os.rename(path, f"{top}/aside")
        if chance.random() < 0.5:
            os.mkdir(path)
        else:
            os.rename(f"{top}/aside", path)
        shutil.rmtree(f"{top}/aside", ignore_errors=True)
    elif kind == "content" and os.path.isfile(path) and not os.path.islink(path):
        with open(path, "r+b") as file:
            file.write(b"#!/nowhere\n")
    elif kind == "entry" and is_directory:
        os.mkdir(f"{path}/new{chance.random()}")
    return f"{kind} {path}"


def judged(name: str, directories: tuple[str, ...], *, anew: bool) -> object:
    try:
        if anew:
            return executables.search(name, directories, OWNERS, host.Seen())
        return executables.find_executable(name, directories, OWNERS)
    except (OSError, host.UntrustedPath) as error:
        return type(error), str(error)


@pytest.mark.root
@pytest.mark.parametrize("seed", range(40))
def test_as_if_it_was_not_found_before(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    for place in ("first", "second", "bin"):
        (tmp_path / place).mkdir()
        shutil.copyfile("/bin/true", tmp_path / place / ("sh" if place == "bin" else "tool"))
    (tmp_path / "second" / "script").write_text(f"#!{tmp_path}/bin/sh\n")
    (tmp_path / "first" / "link").symlink_to(tmp_path / "second" / "tool")
    for path in ("first/tool", "second/tool", "bin/sh", "second/script"):
        (tmp_path / path).chmod(0o755)
    first, second = str(tmp_path / "first"), str(tmp_path / "second")
    for _ in range(60):
        done = change(tmp_path, chance)
        for name in (name.format(first=first, second=second) for name in NAMES):
            found = judged(name, (first, second), anew=False)
            assert found == judged(name, (first, second), anew=True), done
            # And again: it is remembered by now.
            assert found == judged(name, (first, second), anew=False), done


def test_what_is_remembered_is_looked_at_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = judged("sh", ("/nonexistent", "/usr/bin"), anew=False)
    asked = []
    lstat = os.lstat

    def looked(path: str) -> os.stat_result:
        asked.append(path)
        return lstat(path)

    monkeypatch.setattr(os, "lstat", looked)
    assert judged("sh", ("/nonexistent", "/usr/bin"), anew=False) == expected
    assert asked[:3] == ["/", "/nonexistent", "/usr"]
    assert "/usr/bin/sh" in asked
    seen = asked.copy()
    asked.clear()
    judged("sh", ("/nonexistent", "/usr/bin"), anew=True)
    assert seen == asked, "a judgement looks at something else"


def test_where_a_file_system_did_not_answer_nothing_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    lstat = os.lstat

    def looked(path: str) -> os.stat_result:
        if path == "/nonexistent":
            raise PermissionError(13, "no", path)
        return lstat(path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "lstat", looked)
        judged("sh", ("/nonexistent", "/usr/bin"), anew=False)
    (known,) = executables._found.values()
    assert not host.is_as_before(known.looked, {})


def test_each_difference_is_one(tmp_path: Path) -> None:
    path = str(tmp_path / "x")
    Path(path).touch()
    status = os.lstat(path)
    before, changed = status[:7], status.st_ctime_ns
    for looked, known, same in (
        ((path, before, changed), {}, True),
        ((path, before, None), {}, True),
        ((path, status[:6], None), {}, True),
        ((path, (*status[:6], 1), changed), {}, False),
        ((path, (status[0] + 1, *status[1:6]), None), {}, False),
        ((path, before, changed + 1), {}, False),
        ((path, None, None), {}, False),
        ((f"{path}/y", None, None), {}, False),
        ((f"{path}y", None, None), {}, True),
        ((f"{path}y", before, changed), {}, False),
        # What was looked at a moment ago is not looked at again.
        ((f"{path}y", before, changed), {f"{path}y": status}, True),
    ):
        assert host.is_as_before([looked], known) is same, looked
        assert host.is_as_before([("/", os.lstat("/")[:6], None), looked], known) is same, looked
    assert host.is_as_before([], {}) is True
