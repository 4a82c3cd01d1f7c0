"""Read what ld.so(8) goes on to from a binary: the loader itself, and where it looks for libraries.

Promises: a damaged file is a ValueError; the work is bounded whatever is in it.
"""

import glob
import os
import struct
from typing import Final

MAGIC: Final = b"\x7fELF"
_PT_LOAD, _PT_DYNAMIC, _PT_INTERP = 1, 2, 3
_DT_NEEDED, _DT_STRTAB, _DT_RPATH, _DT_RUNPATH = 1, 5, 15, 29
#: DT_DEPAUDIT, DT_AUDIT, DT_AUXILIARY, DT_FILTER: lists of libraries that are loaded besides: rtld-audit(7).
_DT_LOADED: Final = frozenset((0x6FFFFEFB, 0x6FFFFEFC, 0x7FFFFFFD, 0x7FFFFFFF))
#: Headers, entries of the dynamic section, bytes of a text, and files: more than any program has.
_HEADERS, _ENTRIES, _TEXT, _FILES = 128, 4096, 4096, 256
#: Where libraries are that no path names.
_MULTIARCH: Final = glob.glob("/usr/lib/*-linux-*")
SYSTEM: Final = ("/lib64", "/usr/lib64", "/lib", "/usr/lib", *_MULTIARCH, "/usr/local/lib")


class Loader(str):
    """The loader of a binary."""

    __slots__ = ()


class Named(str):
    """A path that an interpreter is given, or in which the loader looks for libraries."""

    __slots__ = ()


def of(path: str) -> tuple[str, ...]:
    """The loader of a binary, none for a static one; and the directories and libraries that are named in it.

    Those of the libraries that it needs are among them. Raises ValueError, OSError.
    """
    loader, named, pending = _of(path)
    seen = set(pending)
    while pending:
        library = pending.pop()
        try:
            _, more, needed = _of(library)
        except OSError:
            continue
        named |= more
        pending += [one for one in needed if one not in seen]
        seen.update(needed)
        if len(seen) > _FILES:
            raise ValueError("too many libraries")
    return (*loader, *sorted(named))


def _of(path: str) -> tuple[list[Loader], set[Named], list[str]]:
    """Loader, directories and libraries that are named, and the libraries that are needed, of one file."""
    with open(
        path, "rb", buffering=0, opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)
    ) as file:
        try:
            # Its real path, for $ORIGIN.
            return _parse(file.fileno(), os.readlink(f"/proc/self/fd/{file.fileno()}"))
        except (struct.error, OverflowError, IndexError) as error:
            raise ValueError("its ELF header is cut off") from error


def _parse(descriptor: int, path: str) -> tuple[list[Loader], set[Named], list[str]]:
    head = os.pread(descriptor, 64, 0)
    wide, order = head[4] == 2, "<" if head[5] == 1 else ">"
    (start,) = struct.unpack_from(f"{order}{'Q' if wide else 'I'}", head, 32 if wide else 28)
    size, count = struct.unpack_from(f"{order}HH", head, 54 if wide else 42)
    if count > _HEADERS:
        raise ValueError("too many ELF headers")
    # Kind, place in the file, address, and size in the file.
    form = struct.Struct(f"{order}I4xQQ8xQ" if wide else f"{order}III4xI")
    headers = [form.unpack_from(os.pread(descriptor, size, start + number * size)) for number in range(count)]
    loaders = [Loader(_text(descriptor, place)) for kind, place, _, _ in headers if kind == _PT_INTERP][:1]
    entry = struct.Struct(f"{order}{'qQ' if wide else 'iI'}")
    entries: list[tuple[int, int]] = []
    for kind, place, _, length in headers:
        if kind == _PT_DYNAMIC:
            data = os.pread(descriptor, min(length, _ENTRIES * entry.size), place)
            entries = list(entry.iter_unpack(data))
    tables = [value for tag, value in entries if tag == _DT_STRTAB]
    loads = [(place - at, at, at + length) for kind, place, at, length in headers if kind == _PT_LOAD]
    texts = next((shift + table for table in tables for shift, low, high in loads if low <= table < high), 0)
    origin = os.path.dirname(path)
    paths = [_text(descriptor, texts + value) for tag, value in entries if tag in (_DT_RPATH, _DT_RUNPATH)]
    directories = [_expanded(one, origin) for path in paths for one in path.split(":") if one]
    libraries, named = [], {Named(one) for one in directories}
    loaded = [
        name
        for tag, value in entries
        if tag == _DT_NEEDED or tag in _DT_LOADED
        for name in _text(descriptor, texts + value).split(":" if tag in _DT_LOADED else "\0")
    ]
    for name in loaded:
        own = (_expanded(name, origin),) if "/" in name else [f"{one}/{name}" for one in directories]
        if found := next(filter(os.path.exists, own), None):
            named.add(Named(found))
        elif not (found := next(filter(os.path.exists, (f"{one}/{name}" for one in SYSTEM)), None)):
            continue
        libraries.append(found)
    for loader in loaders:
        if not loader.startswith("/"):
            raise ValueError(f"the loader {loader!a} is not an absolute path")
    return loaders, named, libraries


def _text(descriptor: int, place: int) -> str:
    text, end, _ = os.pread(descriptor, _TEXT, place).partition(b"\0")
    if not end:
        raise ValueError("a text in it is cut off")
    return os.fsdecode(text)


def _expanded(path: str, origin: str) -> str:
    """A path with ld.so(8)'s $ORIGIN; up to what only the loader knows ($LIB, $PLATFORM)."""
    for name in ("$ORIGIN", "${ORIGIN}"):
        if path.startswith(name):
            # There is no link in it: `..` is as in the text.
            path = os.path.normpath(origin + path.removeprefix(name))
    path = path.partition("$")[0]
    if not path.startswith("/"):
        raise ValueError(f"it looks for libraries in {path!a}, which is not an absolute path")
    return path
