"""Find the paths that a program may read in the words of a command, and its directories.

Promises: rather too many are found than one too few.
"""

import functools
import os
import re
import stat
from collections.abc import Collection, Iterator
from typing import Final

from rootwrap_daemon.policy import places
from rootwrap_daemon.policy.host import Seen, UntrustedPath

# A path begins a word, or stands behind a character that no path component usually has (`of=/x`, `-o,dir=/x`,
# `file:/x`), or behind an option of one letter (`-C/x`).
_BEGINNING = re.compile(r"(?<![\w./-])/|(?<=^-)/|(?<=^-\w)/", re.ASCII)
_END = re.compile(r"[\s,:;=|'\")\]}]")


def has_path(word: str) -> bool:
    """True if a program may read an absolute path in `word`."""
    return _BEGINNING.search(word) is not None or (word.startswith("-") and "/" in word)


#: Places of one word at which a path may begin; a word with more is refused.
_MOST_BEGINNINGS: Final = 1024
#: Bytes of the longest name of a file (NAME_MAX): a relative path begins no farther before its first slash.
_LONGEST_NAME: Final = 255


def paths_in(word: str, cwd: str, directories: Collection[str] = ()) -> Iterator[str]:
    """Every path that a program which starts in `cwd` may read in `word`: rather many too many.

    An absolute one may begin at each slash, a relative one at each character before the first: behind
    letters of options, in a script, after `@`. `directories`: where the program may look, beside `cwd`.
    Raises UntrustedPath for too many.
    """
    first = word.find("/")
    if first >= 0 and word.count("/") > _MOST_BEGINNINGS:
        raise UntrustedPath("too many slashes")
    at = first
    while at >= 0:
        path = word[at:]
        yield path
        if end := _END.search(path):
            yield path[: end.start()]
        at = word.find("/", at + 1)
    last = len(word) if first < 0 else first
    # Without a slash, in /: directories_in() has those.
    if first >= 0 or cwd != "/":
        for begin in range(max(0, last - _LONGEST_NAME), last):
            yield f"{cwd}/{word[begin:]}"
    for text in _relative(word) if directories else ():
        yield from (f"{directory}/{text}" for directory in directories)


def directories_in(
    word: str, cwd: str, owners: frozenset[int], seen: Seen, skip: tuple[str, ...] = ()
) -> dict[str, str | None]:
    """The directories that a word names, each with its place: where a program may look for what others name.

    `-C /srv`, `-xC/srv`, `--directory=/srv`, and relative ones, but none in `skip`. Raises UntrustedPath,
    Unsure.
    """
    found: dict[str, str | None] = {}
    paths = {word[word.find("/") :]} if "/" in word else set()
    for text in _relative(word):
        if cwd != "/":
            paths.add(f"{cwd}/{text}")
        elif text.partition("/")[0] in _names_in_root(os.stat("/").st_mtime_ns):
            paths.add(f"/{text}")
    for path in paths:
        if not places.is_in(path, skip):
            walked = places.walk(path, owners, seen)
            if walked.place is not None or (walked.status and stat.S_ISDIR(walked.status.st_mode)):
                found[path] = walked.place
    return found


@functools.lru_cache(maxsize=1)
def _names_in_root(changed: int) -> frozenset[str]:
    return frozenset(os.listdir("/"))


#: Letters of options before a value in the same word.
_MOST_LETTERS: Final = 12


def _relative(word: str) -> set[str]:
    """What a program may read in a word as a relative path: behind `=` and letters of options, too."""
    texts = {word, word.partition("=")[2]}
    if word.startswith("-") and not word.startswith("--"):
        texts |= {word[at:] for at in range(2, min(len(word), _MOST_LETTERS))}
    return {text for text in texts if text and not text.startswith(("/", "-"))}
