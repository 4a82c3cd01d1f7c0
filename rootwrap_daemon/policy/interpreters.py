"""Read which files the kernel goes on to when it executes one: execve(2), elf(5), env(1).

Promises: what cannot be understood exactly is a ValueError. Nothing is executed.
"""

import functools
import os
import re
import struct
from typing import Final

#: Files that one may lead to through others; the kernel gives up after as many (search_binary_handler()).
DEEPEST: Final = 5
_HEAD: Final = 256  # BINPRM_BUF_SIZE: what the kernel reads of a script
_PT_INTERP: Final = 3
_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=", re.ASCII)
#: Options of env(1) that change nothing of which program is found.
_HARMLESS: Final = frozenset(("-", "--", "-i", "-v", "--ignore-environment", "--debug"))


class Loader(str):
    """The loader of a binary."""

    __slots__ = ()


def of(path: str, status: os.stat_result) -> tuple[str, ...]:
    """The programs by which the file at `path` is executed: absolute paths, or a name that env(1) looks up.

    `status`: its own; a file that is still the same is not read again. Raises ValueError, OSError.
    """
    return _of(path, (status.st_dev, status.st_ino, status.st_size, status.st_ctime_ns))


@functools.lru_cache(maxsize=1024)
def _of(path: str, version: tuple[int, ...]) -> tuple[str, ...]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except PermissionError:
        # No interpreter could read it either, but only the kernel.
        return ()
    try:
        head = os.pread(descriptor, _HEAD, 0)
        if head.startswith(b"#!"):
            return _of_script(os.fsdecode(head[2:].partition(b"\n")[0]))
        return _of_binary(descriptor, head) if head.startswith(b"\x7fELF") else ()
    finally:
        os.close(descriptor)


def _of_script(line: str) -> tuple[str, ...]:
    # As the kernel: the first word, and all that follows as one argument.
    program, *rest = re.split(r"[ \t]+", line.strip(" \t"), maxsplit=1)
    if not program.startswith("/"):
        # The kernel would look it up where the command stands.
        raise ValueError(f"the interpreter {program!a} is not an absolute path")
    if program.rpartition("/")[2] != "env":
        return (program,)
    return (program, _of_env(rest[0] if rest else ""))


def _of_env(argument: str) -> str:
    """The program that `env ARGUMENT FILE` executes."""
    split = re.match(r"-S|--split-string[= ]?|-vS", argument)
    words = argument[split.end() :].split() if split else [argument]
    for word in words:
        if split and set(word) & set("'\"\\$#"):
            break
        if word in _HARMLESS or (_ASSIGNMENT.match(word) and not word.startswith("PATH=")):
            continue
        if (
            word
            and not word.startswith("-")
            and not _ASSIGNMENT.match(word)
            and ("/" not in word or word[0] == "/")
        ):
            return word
        break
    raise ValueError(f"`env {argument}` is not understood")


def _of_binary(descriptor: int, head: bytes) -> tuple[str, ...]:
    """Its loader (PT_INTERP), none for a static program."""
    wide, order = head[4] == 2, "<" if head[5] == 1 else ">"
    try:
        (start,) = struct.unpack_from(f"{order}{'Q' if wide else 'I'}", head, 32 if wide else 28)
        size, count = struct.unpack_from(f"{order}HH", head, 54 if wide else 42)
        for number in range(count):
            entry = os.pread(descriptor, size, start + number * size)
            if struct.unpack_from(f"{order}I", entry)[0] == _PT_INTERP:
                place, length = struct.unpack_from(f"{order}8xQ16xQ" if wide else f"{order}4xI8xI", entry)
                loader = os.fsdecode(os.pread(descriptor, min(length, 4096), place).partition(b"\0")[0])
                if not loader.startswith("/"):
                    raise ValueError(f"the loader {loader!a} is not an absolute path")
                return (Loader(loader),)
    except (struct.error, OverflowError) as error:
        raise ValueError("its ELF header is cut off") from error
    return ()
