"""The file that the kernel goes on to is judged as the program is."""

import contextlib
import os
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rootwrap_daemon.policy import elf, executables, host, interpreters
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
        ("#!/bin/sh /opt/x", ["/bin/sh", "/opt/x"]),
        ("#!/bin/sh /opt/x y", ["/bin/sh", "/opt/x y"]),
        ("#!/usr/bin/python3 -I/opt", ["/usr/bin/python3", "/opt"]),
        ("#!/bin/bash --rcfile=/opt/rc", ["/bin/bash", "/opt/rc"]),
        ("#!/usr/bin/env -S sh /opt/x /opt/y", ["/usr/bin/env", "sh", "/opt/x", "/opt/y"]),
        ("#!/usr/bin/env -S LD_PRELOAD=/opt/x.so sh", ["/usr/bin/env", "sh", "/opt/x.so"]),
        ("no script", []),
        ("", []),
    ],
)
def test_scripts(tmp_path: Path, line: str, names: list[str]) -> None:
    assert of(file(tmp_path / "x", f"{line}\nexit\n", 0o755)) == tuple(names)


def test_the_first_line_of_a_script_of_any_length(tmp_path: Path) -> None:
    """The kernel reads 256 bytes: the line must end there, or the file."""
    for text, names in (
        ("#!/bin/sh", ("/bin/sh",)),
        ("#!/bin/sh\n" + "x" * 300, ("/bin/sh",)),
        ("#!/bin/sh\n" + "x" * 246, ("/bin/sh",)),
        (f"#!/{'x' * 252}\n", (f"/{'x' * 252}",)),
        (f"#!/{'x' * 252}", (f"/{'x' * 252}",)),
        (f"#!/{'x' * 253}", None),
        (f"#!/{'x' * 253}\n", None),
    ):
        path = file(tmp_path / "x", text, 0o755)
        if names is None:
            with pytest.raises(ValueError, match="its first line is cut off"):
                of(path)
        else:
            assert of(path) == names


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
        "#!/usr/bin/nice",
        "#!/usr/bin/nice sh",
        "#!/usr/bin/find /opt/x",
        "#!/usr/bin/env -S PATH=/tmp python3",
        "#!/usr/bin/env -S ${X} python3",
        "#!/usr/bin/env -S -P /tmp python3",
        "#!/usr/bin/env -S",
        "#!/usr/bin/env -S sh '/opt/x'",
        "#!/usr/bin/env -S sh opt/x",
        "#!/usr/bin/env -S PYTHONPATH=/usr/lib:/opt python3",
        "#!/bin/sh opt/x",
        "#!/bin/sh -xe/opt/x",
        "#!/bin/sh\0x",
        "#!/bin/sh " + "x" * 300,
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
    file(tmp_path / "their_file", mode=0o666)
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
        ("#!/bin/sh {tools}/ours/python", True),
        ("#!/bin/sh {tools}/ours", True),
        ("#!/bin/sh {tools}/missing", True),
        ("#!/bin/sh /dev/null", True),
        ("#!/bin/sh {tools}/theirs/python", False),
        ("#!/bin/sh {tools}/theirs/missing", False),
        ("#!/bin/sh {tools}/to_theirs", False),
        ("#!/bin/sh {tools}/their_file", False),
        ("#!/usr/bin/env -S sh -e {tools}/theirs/python", False),
        ("#!/usr/bin/env -S PYTHONPATH={tools}/theirs python3", False),
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


def binary(path: Path, *dynamic: tuple[int, str]) -> Path:
    """A program of 64 bits with these entries in its dynamic section, each of them a text."""
    texts, entries = b"\0", b""
    for tag, text in dynamic:
        entries += struct.pack("<qQ", tag, len(texts))
        texts += text.encode() + b"\0"
    count, place = 2, 64 + 2 * 56
    entries += struct.pack("<qQ", 5, 0x1000 + place + len(entries) + 32) + struct.pack("<qQ", 0, 0)
    size = place + len(entries) + len(texts)
    head = (
        b"\x7fELF\2\1\1"
        + bytes(9)
        + struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, 0, 64, 0, 0, 64, 56, count, 0, 0, 0)
    )
    load = struct.pack("<IIQQQQQQ", 1, 4, 0, 0x1000, 0x1000, size, size, 4096)
    there = struct.pack("<IIQQQQQQ", 2, 4, place, 0x1000 + place, 0, len(entries), len(entries), 8)
    path.write_bytes(head + load + there + entries + texts)
    path.chmod(0o755)
    return path


NEEDED, RPATH, RUNPATH = 1, 15, 29


@pytest.mark.parametrize("tag", [RPATH, RUNPATH])
@pytest.mark.parametrize(
    ("text", "trusted"),
    [
        ("{tools}/ours", True),
        ("{tools}/missing:/usr/lib", True),
        ("$ORIGIN/ours:${ORIGIN}/../lib", True),
        ("{tools}/ours/$LIB", True),
        ("{tools}/theirs", False),
        ("/usr/lib:$ORIGIN/theirs/lib", False),
        ("{tools}/theirs/$PLATFORM", False),
        ("lib", False),
    ],
)
def test_where_the_loader_looks(tools: Path, tag: int, text: str, trusted: bool) -> None:
    path = binary(tools / "program", (tag, text.replace("{tools}", str(tools))))
    if trusted:
        executables.find_executable(str(path), EXEC_DIRS, OWNERS)
    else:
        with pytest.raises(host.UntrustedPath):
            executables.find_executable(str(path), EXEC_DIRS, OWNERS)


def test_the_libraries_that_the_loader_goes_on_to(tools: Path) -> None:
    def refused(*dynamic: tuple[int, str]) -> bool:
        try:
            executables.find_executable(str(binary(tools / "program", *dynamic)), EXEC_DIRS, OWNERS)
        except host.UntrustedPath:
            return True
        return False

    lib = directory(tools / "lib")
    binary(lib / "libgood.so")
    binary(lib / "libbad.so", (RUNPATH, f"{tools}/theirs"))
    binary(lib / "libown.so").chmod(0o777)
    # No list: a blank belongs to the name.
    binary(lib / "lib own.so").chmod(0o777)
    binary(lib / "libdeep.so", (NEEDED, "libbad.so"), (RUNPATH, "$ORIGIN"))
    assert not refused((NEEDED, "libgood.so"), (RUNPATH, str(lib)))
    assert not refused((NEEDED, "libmissing.so"), (RUNPATH, str(lib)))
    for name in ("libbad.so", "libown.so", "lib own.so", "libdeep.so"):
        executables.forget()
        assert refused((NEEDED, name), (RUNPATH, str(lib))), name
        executables.forget()
        assert refused((NEEDED, f"{lib}/{name}")), name
    # DT_DEPAUDIT, DT_AUDIT, DT_AUXILIARY, DT_FILTER: rtld-audit(7).
    for tag in (0x6FFFFEFB, 0x6FFFFEFC, 0x7FFFFFFD, 0x7FFFFFFF):
        executables.forget()
        assert refused((tag, f"{lib}/libgood.so:{lib}/libown.so")), hex(tag)


@given(st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
def test_a_damaged_binary_is_an_error_and_nothing_else(tmp_path: Path, data: st.DataObject) -> None:
    whole = bytearray(binary(tmp_path / "whole", (RUNPATH, "/opt/lib"), (NEEDED, "libc.so.6")).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(4, len(whole) - 8))
        whole[at : at + 8] = struct.pack(
            "<Q", data.draw(st.one_of(st.integers(0, 300), st.integers(0, 2**64 - 1)))
        )
    (tmp_path / "damaged").write_bytes(whole[: data.draw(st.integers(16, len(whole)))])
    with contextlib.suppress(ValueError):
        elf.of(str(tmp_path / "damaged"))
