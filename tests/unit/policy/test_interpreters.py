"""The file that the kernel goes on to is judged as the program is."""

import os
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from rootwrap_daemon.policy import executables, host, interpreters
from tests.unit.policy.things import EXEC_DIRS, OWNERS, directory, file, link, program


def of(path: Path) -> tuple[str, ...]:
    return interpreters.of(str(path), path.stat())


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("#!/bin/sh", ["/bin/sh"]),
        ("#! \t/bin/sh \t", ["/bin/sh"]),
        ("#!/bin/sh -e x", ["/bin/sh"]),
        ("#!/bin/sh\r", ["/bin/sh\r"]),
        ("#!/usr/bin/env python3", ["/usr/bin/env", "python3"]),
        ("#!/opt/env  /opt/x", ["/opt/env", "/opt/x"]),
        ("#!/usr/bin/env -S python3 -I", ["/usr/bin/env", "python3"]),
        ("#!/usr/bin/env -Spython3 -I", ["/usr/bin/env", "python3"]),
        ("#!/usr/bin/env -S -i A=1 python3", ["/usr/bin/env", "python3"]),
        ("#!/usr/bin/env --split-string=python3 -I", ["/usr/bin/env", "python3"]),
        ("no script", []),
        ("", []),
    ],
)
def test_scripts(tmp_path: Path, line: str, names: list[str]) -> None:
    assert of(file(tmp_path / "x", f"{line}\nexit\n", 0o755)) == tuple(names)


@pytest.mark.parametrize(
    "line",
    [
        "#!",
        "#!python",
        "#!./python",
        "#!/usr/bin/env",
        "#!/usr/bin/env -u PATH",
        "#!/usr/bin/env bin/python",
        "#!/usr/bin/env A=1",
        "#!/usr/bin/env -S PATH=/tmp python3",
        "#!/usr/bin/env -S ${X} python3",
        "#!/usr/bin/env -S -P /tmp python3",
        "#!/usr/bin/env -S",
    ],
)
def test_what_is_not_understood(tmp_path: Path, line: str) -> None:
    with pytest.raises(ValueError, match=r"not|empty|cut|many"):
        of(file(tmp_path / "x", f"{line}\n", 0o755))


def test_binaries(tmp_path: Path) -> None:
    path = program(tmp_path / "sleep")
    (loader,) = of(path)
    assert os.path.exists(loader)
    # A loader is a program without one.
    assert of(Path(os.path.realpath(loader))) == ()
    for size in (4, 40, 63, 70):
        (tmp_path / "cut").write_bytes(path.read_bytes()[:size])
        if size < 64:
            with pytest.raises((ValueError, IndexError)):
                of(tmp_path / "cut")
        (tmp_path / "cut").unlink()


def patched(path: Path, loader: str) -> Path:
    """A copy of sleep(1) with another loader, at its end."""
    data = bytearray(Path(shutil.which("sleep") or "/bin/sleep").read_bytes())
    (start,), (size, count) = struct.unpack_from("<Q", data, 32), struct.unpack_from("<HH", data, 54)
    entry = next(at for at in range(start, start + size * count, size) if data[at : at + 4] == b"\3\0\0\0")
    text = loader.encode() + b"\0"
    struct.pack_into("<Q", data, entry + 8, len(data))
    struct.pack_into("<QQ", data, entry + 32, len(text), len(text))
    path.write_bytes(bytes(data) + text)
    path.chmod(0o755)
    return path


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """An interpreter that others can change, and one that they cannot."""
    for name, mode in (("theirs", 0o777), ("ours", 0o755)):
        program(directory(tmp_path / name) / "python", mode=mode)
        (tmp_path / name).chmod(mode)
    link(tmp_path / "to_theirs", "theirs/python")
    file(tmp_path / "nested", f"#!{tmp_path}/theirs/python\n", 0o755)
    file(tmp_path / "nested_ours", f"#!{tmp_path}/ours/python\n", 0o755)
    return tmp_path


@pytest.mark.parametrize(
    ("line", "trusted"),
    [
        ("#!{tools}/ours/python", True),
        ("#!{tools}/nested_ours", True),
        ("#!/usr/bin/env sh", True),
        ("#!/usr/bin/env python", False),
        ("#!{tools}/theirs/python", False),
        ("#!{tools}/to_theirs", False),
        ("#!{tools}/nested", False),
        ("#!/usr/bin/env {tools}/nested", False),
        ("#!/usr/bin/env -S {tools}/theirs/python -I", False),
        ("#!{tools}/loop", False),
        ("#!python", False),
    ],
)
@pytest.mark.parametrize("name", ["by path", "by name"])
def test_a_script_is_what_its_interpreter_is(tools: Path, line: str, trusted: bool, name: str) -> None:
    script = file(directory(tools / "bin") / "my-script", f"{line.format(tools=tools)}\n", 0o755)
    file(tools / "loop", f"#!{tools}/loop\n", 0o755)
    program(tools / "bin/python", mode=0o777)
    wanted = str(script) if name == "by path" else "my-script"
    directories = (f"{tools}/bin", *EXEC_DIRS)
    if trusted:
        assert executables.find_executable(wanted, directories, OWNERS).path == str(script)
    else:
        with pytest.raises(host.UntrustedPath, match="my-script"):
            executables.find_executable(wanted, directories, OWNERS)


@pytest.mark.parametrize(("which", "trusted"), [("ours", True), ("theirs", False), ("missing", True)])
def test_a_binary_is_what_its_loader_is(tools: Path, which: str, trusted: bool) -> None:
    """One that is missing lets nothing run: execve(2) says so."""
    path = patched(tools / "program", f"{tools}/{which}/python")
    if trusted:
        assert executables.find_executable(str(path), EXEC_DIRS, OWNERS).path == str(path)
    else:
        with pytest.raises(host.UntrustedPath, match="theirs"):
            executables.find_executable(str(path), EXEC_DIRS, OWNERS)


def test_the_kernel_goes_on_to_that_loader(tools: Path) -> None:
    """The reading above is the kernel's: it executes what stands there."""
    marker = patched(tools / "program", f"{tools}/missing")
    with pytest.raises(FileNotFoundError):
        subprocess.run([marker, "0"], check=True)


def test_a_changed_script_is_read_again(tools: Path) -> None:
    script = file(tools / "script", f"#!{tools}/ours/python\n", 0o755)
    executables.find_executable(str(script), EXEC_DIRS, OWNERS)
    script.write_text(f"#!{tools}/theirs/python\n")
    with pytest.raises(host.UntrustedPath):
        executables.find_executable(str(script), EXEC_DIRS, OWNERS)
