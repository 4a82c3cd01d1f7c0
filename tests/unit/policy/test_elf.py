"""policy/elf.py: what the loader goes on to, from binaries of each width and order that are built here."""

import os
import struct
from pathlib import Path

import pytest

from rootwrap_daemon.policy import elf
from tests.unit.policy.things import directory, file, link

LOAD, DYNAMIC, INTERP = 1, 2, 3
NEEDED, STRTAB, RPATH, RUNPATH, AUDIT = 1, 5, 15, 29, 0x6FFFFEFC
#: Where the program stands in memory.
ADDRESS = 0x10000

FORMS = [(wide, order) for wide in (True, False) for order in "<>"]


def built(
    path: Path,
    *dynamic: tuple[int, str],
    form: tuple[bool, str] = (True, "<"),
    interpreters: tuple[str, ...] = (),
    headers: int = 0,
    before: int = 0,
    strtab: bool = True,
    start: int | None = None,
) -> Path:
    """A binary with these texts in its dynamic section, behind `before` entries that say nothing.

    `headers`: of no kind that matters, in front. `start`: of the headers, other than it is.
    """
    wide, order = form
    head, per_header, per_entry = (64, 56, 16) if wide else (52, 32, 8)
    # The table of texts begins where one part of the memory ends and another begins, not so in the file.
    kinds = [*[0] * headers, *[INTERP] * len(interpreters), DYNAMIC, LOAD, LOAD]
    at_headers = head + 24
    at_dynamic = at_headers + per_header * len(kinds)
    count = before + len(dynamic) + 1 + strtab
    at_end = at_dynamic + per_entry * count
    at_texts = at_end + 8
    moved = ADDRESS + 0x3000
    texts, entries, interps = b"", [(0x6FFF0000, moved)] * before, []
    for tag, text in dynamic:
        entries.append((tag, len(texts)))
        texts += os.fsencode(text) + b"\0"
    for text in interpreters:
        interps.append(at_texts + len(texts))
        texts += text.encode() + b"\0"
    if strtab:
        entries.append((STRTAB, moved + at_end))
    entries.append((0, 0))
    size = at_texts + len(texts)
    rows = [
        *[(0, 1, ADDRESS, ADDRESS)] * headers,
        *((INTERP, place, ADDRESS + place, 1) for place in interps),
        (DYNAMIC, at_dynamic, moved + at_dynamic, per_entry * count),
        (LOAD, 0, moved, at_end),
        (LOAD, at_texts, moved + at_end, size - at_texts),
    ]
    data = b"\x7fELF" + bytes((1 + wide, 1 if order == "<" else 2)) + bytes(10)
    data += struct.pack(f"{order}HHI", 2, 62, 1)
    begin = at_headers if start is None else start
    data += struct.pack(
        f"{order}{'QQQ' if wide else 'III'}IHHHHHH", 0, begin, 0, 0, head, per_header, len(rows), 0, 0, 0
    )
    data += b"\xff" * 24
    for kind, place, address, length in rows:
        if wide:
            data += struct.pack(f"{order}IIQQQQQQ", kind, 4, place, address, 0xBAD, length, length + 5, 8)
        else:
            data += struct.pack(f"{order}IIIIIIII", kind, place, address, 0xBAD, length, length + 5, 4, 8)
    data += b"".join(struct.pack(f"{order}{'qQ' if wide else 'iI'}", *entry) for entry in entries)
    path.write_bytes(data + b"\xff" * 8 + texts)
    return path


@pytest.fixture(autouse=True)
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of the libraries that no path names."""
    found = directory(tmp_path / "system")
    monkeypatch.setattr(elf, "SYSTEM", (str(found),))
    return found


def of(path: Path) -> tuple[list[str], list[str]]:
    """The loader, and the directories and libraries that are named."""
    found = elf.of(str(path))
    loaders = [str(one) for one in found if isinstance(one, elf.Loader)]
    assert list(map(str, found)) == [*loaders, *(str(one) for one in found if isinstance(one, elf.Named))]
    return loaders, list(map(str, found[len(loaders) :]))


@pytest.mark.parametrize("form", FORMS)
def test_each_width_and_order(tmp_path: Path, form: tuple[bool, str]) -> None:
    path = built(tmp_path / "x", (RPATH, "/a:/b"), (RUNPATH, "/c"), form=form, interpreters=("/ld.so",))
    assert of(path) == (["/ld.so"], ["/a", "/b", "/c"])
    assert of(built(tmp_path / "y", form=form)) == ([], [])


@pytest.mark.parametrize("form", FORMS)
def test_a_binary_that_ends_early(tmp_path: Path, form: tuple[bool, str]) -> None:
    whole = built(tmp_path / "x", (RUNPATH, "/opt/lib"), form=form, interpreters=("/ld.so",)).read_bytes()
    for size in range(4, len(whole), 5):
        (tmp_path / "cut").write_bytes(whole[:size])
        try:
            found = of(tmp_path / "cut")
        except ValueError:
            continue
        # The dynamic section itself was cut.
        assert found == (["/ld.so"], []), size
    # In the middle of an entry.
    whole = built(tmp_path / "x", (RUNPATH, "/opt/lib"), form=form).read_bytes()
    (tmp_path / "cut").write_bytes(whole[: 64 + 24 + 3 * 56 + 20 if form[0] else 52 + 24 + 3 * 32 + 12])
    with pytest.raises(ValueError, match="its ELF header is cut off"):
        elf.of(str(tmp_path / "cut"))
    far = built(tmp_path / "far", start=2**64 - 1)
    with pytest.raises(ValueError, match="its ELF header is cut off"):
        elf.of(str(far))


def test_the_first_loader_counts(tmp_path: Path) -> None:
    assert of(built(tmp_path / "x", interpreters=("/one", "/two"))) == (["/one"], [])
    with pytest.raises(ValueError, match=r"the loader .ld\.so. is not an absolute path"):
        elf.of(str(built(tmp_path / "x", interpreters=("ld.so",))))


def test_the_most_headers(tmp_path: Path) -> None:
    assert of(built(tmp_path / "x", (RPATH, "/a"), headers=125)) == ([], ["/a"])
    with pytest.raises(ValueError, match="too many ELF headers"):
        elf.of(str(built(tmp_path / "x", (RPATH, "/a"), headers=126)))


def test_the_most_entries(tmp_path: Path) -> None:
    """The table of texts is behind those, and is looked for among as many."""
    assert of(built(tmp_path / "x", (RPATH, "/a"), before=4094)) == ([], ["/a"])
    assert of(built(tmp_path / "x", (RPATH, "/a"), before=4096)) == ([], [])


def test_the_longest_text(tmp_path: Path) -> None:
    longest = "/" + "a" * 4094
    assert of(built(tmp_path / "x", (RPATH, longest))) == ([], [longest])
    with pytest.raises(ValueError, match="a text in it is cut off"):
        elf.of(str(built(tmp_path / "x", (RPATH, longest + "a"))))


def test_texts_that_are_in_no_part_of_the_memory(tmp_path: Path) -> None:
    """They are then looked for from the beginning of the file: rather something than nothing."""
    with pytest.raises(ValueError, match="looks for libraries in '\\\\x7fELF"):
        elf.of(str(built(tmp_path / "x", (RPATH, "/a"), strtab=False)))


def test_directories_that_are_empty_or_relative(tmp_path: Path) -> None:
    assert of(built(tmp_path / "x", (RPATH, ":/a::/b:"))) == ([], ["/a", "/b"])
    for text in ("a", "$LIB/a", "a/$ORIGIN"):
        with pytest.raises(ValueError, match="which is not an absolute path"):
            elf.of(str(built(tmp_path / "x", (RPATH, text))))


def test_its_own_directory_is_that_of_the_file(tmp_path: Path) -> None:
    built(directory(tmp_path / "bin") / "x", (RPATH, "$ORIGIN/../lib:${ORIGIN}:/opt/${LIB}/x"))
    here = os.path.realpath(tmp_path)
    path = link(tmp_path / "x", "bin/x")
    assert of(path) == ([], ["/opt/", f"{here}/bin", f"{here}/lib"])


def test_where_a_library_is_found(tmp_path: Path, system: Path) -> None:
    """In a directory that the binary names it is named by it; in one of the system it is not."""
    own = directory(tmp_path / "own")
    built(own / "liba.so", (RPATH, "/of/a"))
    built(system / "liba.so", (RPATH, "/not/there"))
    built(system / "libb.so", (RPATH, "/of/b"), (NEEDED, "libc.so"))
    built(system / "libc.so", (RPATH, "/of/c"), (NEEDED, "libb.so"))
    path = built(
        tmp_path / "x", (NEEDED, "liba.so"), (NEEDED, "no.so"), (NEEDED, "libb.so"), (RPATH, str(own))
    )
    assert of(path) == ([], ["/of/a", "/of/b", "/of/c", str(own), f"{own}/liba.so"])
    path = built(tmp_path / "y", (NEEDED, f"{own}/liba.so"), (NEEDED, f"{own}/no.so"))
    assert of(path) == ([], ["/of/a", f"{own}/liba.so"])


def test_a_list_of_libraries(tmp_path: Path, system: Path) -> None:
    for name in ("one", "two"):
        built(system / name, (RPATH, f"/of/{name}"))
    assert of(built(tmp_path / "x", (AUDIT, "one:two"))) == ([], ["/of/one", "/of/two"])
    # Not of those that are needed.
    assert of(built(tmp_path / "x", (NEEDED, "one:two"))) == ([], [])


def test_a_library_that_cannot_be_read(tmp_path: Path, system: Path) -> None:
    directory(system / "unread.so")
    built(system / "good.so", (RPATH, "/of/good"))
    for names in (("unread.so", "good.so"), ("good.so", "unread.so")):
        assert of(built(tmp_path / "x", *((NEEDED, name) for name in names))) == ([], ["/of/good"])
    file(system / "damaged.so", "x")
    with pytest.raises(ValueError, match="cut off"):
        elf.of(str(built(tmp_path / "x", (NEEDED, "damaged.so"))))


def test_nothing_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is a pipe by now would be opened when somebody writes."""
    real, asked = os.open, []

    def opened(path: str, flags: int) -> int:
        asked.append(flags)
        return real(path, flags)

    path = str(built(tmp_path / "x"))
    monkeypatch.setattr(os, "open", opened)
    elf.of(path)
    assert [flags & (os.O_NONBLOCK | os.O_ACCMODE) for flags in asked] == [os.O_NONBLOCK]


def test_the_most_libraries(tmp_path: Path, system: Path) -> None:
    names = [f"lib{number}.so" for number in range(257)]
    for name in names:
        built(system / name)
    built(tmp_path / "x", *((NEEDED, name) for name in names[:256]))
    assert of(tmp_path / "x") == ([], [])
    built(tmp_path / "x", *((NEEDED, name) for name in names))
    with pytest.raises(ValueError, match="too many libraries"):
        elf.of(str(tmp_path / "x"))
