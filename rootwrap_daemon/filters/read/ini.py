"""Read the INI text of a filter file as entries that know their file:line:column, and findings.

Promises: reads what oslo.rootwrap's RawConfigParser(strict=False) reads, and has a finding where that must
not be used. A finding that is not about one filter is about the file.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from rootwrap_daemon.filters.finding import Finding, Location, Severity
from rootwrap_daemon.filters.read.fault import Code

#: The section of the filters; every other one holds the options of the filter it is named after.
FILTERS = "Filters"
#: The section of what holds for every filter of its file.
DEFAULT = "DEFAULT"

_HEADER = re.compile(r"\[(.+)\]")
_DELIMITER = re.compile(r"[=:]")
# What str.strip, configparser or a reader takes for a blank, a line break or nothing at all.
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]|[^\S \t]")


@dataclass(frozen=True, slots=True)
class Field:
    """One comma-separated part of a definition, stripped."""

    text: str
    location: Location


@dataclass(frozen=True, slots=True)
class Entry:
    """One definition `name: field, field, ...`.

    `lines`: its value as it stands in the file, (line, column, text) each.
    """

    name: str
    location: Location
    fields: tuple[Field, ...]
    lines: tuple[tuple[int, int, str], ...]

    @property
    def key(self) -> str:
        """The name as oslo.rootwrap compares it."""
        return self.name.lower()

    @property
    def texts(self) -> tuple[str, ...]:
        return tuple(part.text for part in self.fields)


@dataclass(slots=True)
class Section:
    """The entries below one kind of header; a header that comes again goes on where it stopped."""

    name: str
    location: Location
    entries: list[Entry] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Document:
    """A filter file as read."""

    file: str
    sections: tuple[Section, ...]
    findings: tuple[Finding, ...]

    def entries(self, name: str | None = None) -> Iterator[Entry]:
        """The entries of one section, or of all."""
        for section in self.sections:
            if name in (None, section.name):
                yield from section.entries


@dataclass(slots=True)
class _Draft:
    """A definition whose continuation lines may still come: (line number, column of the text, text)."""

    name: str
    location: Location
    indent: int
    lines: list[tuple[int, int, str]]


def parse(text: str, file: str) -> Document:
    """Read one filter file. `file` is only for the locations."""
    return _Parser(file).parse(text)


class _Parser:
    def __init__(self, file: str) -> None:
        self.file = file
        self.sections: dict[str, Section] = {}
        self.findings: list[Finding] = []
        self.section: Section | None = None
        self.draft: _Draft | None = None

    def parse(self, text: str) -> Document:
        for number, raw in enumerate(text.split("\n"), 1):
            self._line(number, raw.removesuffix("\r"))
        self._finish()
        return Document(self.file, tuple(self.sections.values()), tuple(self.findings))

    def _error(self, location: Location, code: Code, what: str, remedy: str, *names: str) -> None:
        about = frozenset(map(str.lower, names))
        self.findings.append(Finding(location, Severity.ERROR, code, what, remedy, about))

    def _line(self, number: int, raw: str) -> None:
        stripped = raw.strip()
        if "\r" in raw:
            # A line break to others, in a comment too: what follows it is a definition to them.
            where = Location(self.file, number, raw.index("\r") + 1)
            self._strange(where, "a carriage return in the middle of a line", raw, stripped)
            return
        if not stripped or stripped[0] in "#;":
            return
        if bad := _CONTROL.search(raw):
            what = f"the character {ascii(bad[0])[1:-1]} in a filter file"
            self._strange(Location(self.file, number, bad.start() + 1), what, raw, stripped)
            return
        column = raw.index(stripped) + 1
        here = Location(self.file, number, column)
        if draft := self._continued(raw):
            draft.lines.append((number, column, stripped))
            return
        self._finish()
        if stripped.startswith("["):
            self._header(stripped, here)
            return
        if self.section is None:
            self._error(here, "section", "a line before any section", f"put [{FILTERS}] above it")
            return
        name, value, offset = _definition(stripped)
        if not name:
            remedy = "write `name: Kind, executable, run_as, ...`"
            self._error(here, "line", "not a definition", remedy, *self._about())
            return
        self.draft = _Draft(name, here, column - 1, [(number, column + offset, value)])

    def _continued(self, raw: str) -> _Draft | None:
        """The definition above, if this line goes on with it."""
        indent = len(raw) - len(raw.lstrip())
        return self.draft if self.draft is not None and indent > self.draft.indent else None

    def _about(self, name: str | None = None) -> tuple[str, ...]:
        """The filter that a line here is about: for an option, the one that its section is named after."""
        if self.section is not None and self.section.name == DEFAULT:
            # Every filter would lack what restricts it.
            return ()
        if self.section is not None and self.section.name != FILTERS:
            return (self.section.name,)
        return () if name is None else (name,)

    def _strange(self, where: Location, what: str, raw: str, stripped: str) -> None:
        """A character that others may take for a break or a blank: nothing that it could hide is used."""
        about: tuple[str, ...] = ()
        if stripped[:1] not in ("#", ";"):
            if draft := self._continued(raw):
                about = self._about(draft.name)
            else:
                self._finish()
                if stripped.startswith("["):
                    # Whatever comes below belongs to a section whose name is not known.
                    self.section = None
                else:
                    about = self._about(_definition(stripped)[0] or None)
        self._error(where, "character", what, "take it out", *about)

    def _header(self, text: str, here: Location) -> None:
        header = _HEADER.match(text)
        if header is None:
            # What comes below belongs to a section whose name is not known.
            self.section = None
            self._error(here, "section", "a section header without its ]", "write [NAME]")
            return
        name = header[1]
        if name.upper() == DEFAULT != name:
            self._error(here, "section", f"a [{name}] section", f"write [{DEFAULT}]")
        known = self.sections.get(name)
        if known is None:
            known = self.sections[name] = Section(name, here)
        self.section = known
        behind = text[header.end() :].strip()
        if behind and behind[0] not in "#;":
            where = Location(here.file, here.line, here.column + text.index(behind, header.end()))
            self._error(where, "section", "text behind a section header", "put it on the next line")

    def _finish(self) -> None:
        draft, self.draft = self.draft, None
        if draft is None or self.section is None:
            return
        entry = Entry(draft.name, draft.location, tuple(self._fields(draft)), tuple(draft.lines))
        if not any(entry.texts):
            about = self._about(entry.name)
            self._error(
                entry.location, "fields", f"{entry.name} has no value", "give it one, or take it out", *about
            )
            return
        self.section.entries.append(entry)

    def _fields(self, draft: _Draft) -> Iterator[Field]:
        open_field: list[tuple[Location, str]] = []
        for number, column, text in draft.lines:
            for part_index, part in enumerate(text.split(",")):
                if part_index:
                    yield self._join(open_field, draft)
                    open_field = []
                stripped = part.strip()
                open_field.append((Location(self.file, number, column + part.index(stripped)), stripped))
                column += len(part) + 1
        yield self._join(open_field, draft)

    def _join(self, parts: list[tuple[Location, str]], draft: _Draft) -> Field:
        full = [part for part in parts if part[1]] or parts[:1]
        if len(full) > 1:
            remedy = "put a comma before or after the break"
            self._error(full[1][0], "line", "a line break inside a field", remedy, *self._about(draft.name))
        return Field("\n".join(text for _, text in full), full[0][0])


def _definition(line: str) -> tuple[str, str, int]:
    """Name, value, and where the value begins; an empty name if there is no delimiter."""
    delimiter = _DELIMITER.search(line)
    if delimiter is None:
        return "", "", 0
    rest = line[delimiter.end() :]
    value = rest.strip()
    return line[: delimiter.start()].rstrip(), value, delimiter.end() + (rest.index(value) if value else 0)
