"""Find the paths that a program may read in the words of a command, and its directories.

Promises: rather too many are found than one too few.
"""

import bisect
import functools
import itertools
import os
import re
import stat
from collections.abc import Collection, Iterable, Iterator, Set
from typing import Final

from rootwrap_daemon.policy import elf, places
from rootwrap_daemon.policy.host import Seen, UntrustedPath

# A path begins a word, or stands behind a character that no path component usually has (`of=/x`, `-o,dir=/x`,
# `file:/x`), or behind an option of one letter (`-C/x`).
_BEGINNING = re.compile(r"(?<![\w./-])/|(?<=^-)/|(?<=^-\w)/", re.ASCII)
_END = re.compile(r"[\s,:;=|'\")\]}#]")


def has_path(word: str) -> bool:
    """True if a program may read an absolute path in `word`."""
    return _BEGINNING.search(word) is not None or (word.startswith("-") and "/" in word)


#: Places of one word at which a path may begin; a word with more is refused.
_MOST_BEGINNINGS: Final = 1024
#: Paths that one word may have in it, by names that are there.
MOST_PATHS: Final = 256
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
    ends = [found.start() for found in _END.finditer(word)]
    at = first
    while at >= 0:
        yield word[at:]
        if (next_end := bisect.bisect_left(ends, at)) < len(ends):
            yield word[at : ends[next_end]]
        at = word.find("/", at + 1)
    last = len(word) if first < 0 else first
    # Without a slash, in /: directories_in() has those.
    if first >= 0 or cwd != "/":
        for begin in range(max(0, last - _LONGEST_NAME), last):
            yield f"{cwd.rstrip('/')}/{word[begin:]}"
    for text in _relative(word) if directories else ():
        yield from (f"{directory.rstrip('/')}/{text}" for directory in directories)


def directories_in(
    words: Collection[str], cwd: str, owners: frozenset[int], seen: Seen, skip: tuple[str, ...] = ()
) -> dict[str, str | None]:
    """The directories that words name, with their places; a program may look there for other words.

    `-C /srv`, `-xC/srv`, `--directory=/srv`, and relative ones beside `cwd` and each other, as in `-C /srv -C
    sub`, but none in `skip`. Raises UntrustedPath, Unsure.
    """
    names = names_in_root()
    relative = {text for word in words for text in _relative(word)}
    paths = [f"{cwd.rstrip('/')}/{text}" for text in relative if cwd != "/" or _first(text) in names]
    for word in words:
        # No path is longer (PATH_MAX), and each slash of a long word begins one.
        begun = (word[at : at + 4096] for at, char in enumerate(word) if char == "/")
        pairs = ({path, _END.split(path, 1)[0]} for path in begun)
        known = (pair for pair in pairs if any(_first(one) in names for one in pair))
        own = list(itertools.islice(known, MOST_PATHS + 1))
        if len(own) > MOST_PATHS or len(paths) > _MOST_LOOKS:
            raise UntrustedPath("too many paths in a word")
        paths += [one for pair in own for one in pair]
    found: dict[str, str | None] = {}
    looked_at: set[str] = set()
    for count, path in enumerate(paths):
        if count > _MOST_LOOKS:
            raise UntrustedPath("too many directories")
        if path in looked_at or places.is_in(path, skip):
            continue
        looked_at.add(path)
        walked = places.walk(path, owners, seen)
        if walked.place is not None or (walked.status and stat.S_ISDIR(walked.status.st_mode)):
            # As it was walked: what lies beneath a place is looked at by its text.
            found[walked.path] = walked.place
            # One that is the agent's need not be looked into: all beneath it is.
            if walked.place is None:
                paths += [f"{walked.path.rstrip('/')}/{text}" for text in relative]
    return found


def check_code(
    does: str, texts: Set[str], here: Set[str], owners: frozenset[int], seen: Seen, exec_dirs: Iterable[str]
) -> None:
    """Raise UntrustedPath if others can change a file that texts name, or something in a directory.

    A colon parts several. `here`: where relative ones begin. `does`: for the error. Raises Unsure, OSError.
    """
    # What the daemon puts in PATH and HOME, and where libraries are, is as good as the program itself.
    home = seen.looker.home if seen.looker else "/root"
    known, left = {"/", home, *elf.SYSTEM, *exec_dirs}, places.names()
    parts = {one or "." for text in texts if text for one in (text, *_END.split(text))}
    if len(parts) > _MOST_BEGINNINGS:
        raise UntrustedPath("too many paths that name code")
    names, skip = names_in_root(), (*places.KERNEL_TREES, "/dev")
    for path in (path for one in parts for path in paths_in(one, "/", here)):
        if not may_exist(path, names) or places.is_in(path, skip):
            continue
        walked = places.walk(path.removesuffix("/.."), owners, seen)
        if path.endswith("/.."):
            walked = places.walk(os.path.dirname(walked.path), owners, seen)
        found, place, status = walked.path, walked.place, walked.status
        if status and place is None and known.isdisjoint((path, found)):
            known.add(found)
            if stat.S_ISDIR(status.st_mode):
                place = found if places.is_mixed(found, owners, seen, left, True) else None
            elif stat.S_ISREG(status.st_mode) and not places.is_fixed(status, owners):
                raise UntrustedPath(f"{does}, and others can change {found}")
        if place is not None:
            raise UntrustedPath(f"{does}, and others can change what is in {place}")


#: Paths of one request that are looked at for directories.
_MOST_LOOKS: Final = 20_000


def _first(path: str) -> str:
    """The first component of a path."""
    return next((part for part in path[: 2 * _LONGEST_NAME].split("/") if part not in ("", ".", "..")), "")


def names_in_root() -> frozenset[str]:
    """The names in /, which only root can change, and those of it and its parent. Raises OSError."""
    return _names_in_root(os.stat("/").st_mtime_ns)


def may_exist(path: str, names: frozenset[str]) -> bool:
    """False for an absolute path whose first component is none of `names_in_root`."""
    end = path.find("/", 1)
    return (path[1:end] if end > 0 else path[1:]) in names


@functools.lru_cache(maxsize=1)
def _names_in_root(changed: int) -> frozenset[str]:
    return frozenset((*os.listdir("/"), "", ".", ".."))


#: Letters of options before a value in the same word.
_MOST_LETTERS: Final = 12


def _relative(word: str) -> set[str]:
    """Return what a program may read in a word as a relative path: behind `=` and letters of options, too."""
    texts = {word, word.partition("=")[2]}
    if word.startswith("-") and not word.startswith("--"):
        texts |= {word[at:] for at in range(2, min(len(word), _MOST_LETTERS))}
    return {text for text in texts if text and not text.startswith(("/", "-"))}
