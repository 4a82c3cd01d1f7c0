"""Read which files the kernel and the loader go on to when one is executed: execve(2), elf(5), env(1).

Promises: what cannot be understood exactly is a ValueError. Nothing is executed.
"""

import functools
import os
import re
from typing import Final

from rootwrap_daemon.policy import elf, wrappers

#: Files that one may lead to through others; the kernel gives up after as many (search_binary_handler()).
DEEPEST: Final = 5
_HEAD: Final = 256  # BINPRM_BUF_SIZE: what the kernel reads of a script
#: What stands before the path in an argument.
_BEFORE_PATH = re.compile(r"(-[A-Za-z]|-{0,2}[A-Za-z][\w-]*=)?(?=/)", re.ASCII)
#: Options of env(1) that change nothing of which program is found.
_HARMLESS: Final = frozenset(("-", "--", "-i", "-v", "--ignore-environment", "--debug"))


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
            line, end, _ = head[2:].partition(b"\n")
            if b"\0" in line or (not end and len(head) == _HEAD):
                raise ValueError("its first line is cut off")
            return _of_script(os.fsdecode(line))
        return elf.of(path) if head.startswith(elf.MAGIC) else ()
    finally:
        os.close(descriptor)


def _of_script(line: str) -> tuple[str, ...]:
    # As the kernel: the first word, and all that follows as one argument.
    program, *rest = re.split(r"[ \t]+", line.strip(" \t"), maxsplit=1)
    if not program.startswith("/"):
        # The kernel would look it up where the command stands.
        raise ValueError(f"the interpreter {program!a} is not an absolute path")
    argument = rest[0] if rest else ""
    name = program.rpartition("/")[2]
    if name == "env":
        return (program, *_of_env(argument))
    if wrappers.is_wrapper(name):
        # It executes what the argument names, or the script once more, in ways of its own.
        raise ValueError(f"the interpreter {line!a} is not understood")
    return (program, *_paths_in(argument))


def _paths_in(argument: str) -> list[elf.Named]:
    """The paths of an argument: `/x`, `-I/x`, `--option=/x`. Raises ValueError for a relative one."""
    if "/" not in argument:
        return []
    found = _BEFORE_PATH.match(argument)
    if found is None or ":" in argument:
        raise ValueError(f"{argument!a}, behind the interpreter, is not understood")
    return [elf.Named(argument[found.end() :])]


def _of_env(argument: str) -> list[str]:
    """The program that `env ARGUMENT FILE` executes, and the paths that it is given."""
    split = re.match(r"-S|--split-string[= ]?|-vS", argument)
    words = argument[split.end() :].split() if split else [argument]
    found: list[str] = []
    for number, word in enumerate(words):
        if split and set(argument) & set("'\"\\$#"):
            break
        if word in _HARMLESS:
            continue
        if wrappers.ASSIGNMENT.match(word) and not word.startswith("PATH="):
            found += _paths_in(word)
            continue
        if (
            word
            and not word.startswith("-")
            and not wrappers.ASSIGNMENT.match(word)
            and ("/" not in word or word[0] == "/")
        ):
            return [word, *found, *(one for after in words[number + 1 :] for one in _paths_in(after))]
        break
    raise ValueError(f"`env {argument}` is not understood")


def forget() -> None:
    """Read every file again: a library is not asked whether it has changed."""
    _of.cache_clear()
