"""Read what is checked: lines of filter files, what the daemon makes of each, and their surroundings.

Promises: text becomes filters by the daemon's own parser and kinds, never by another one.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from rootwrap_daemon.filters.base import Filter
from rootwrap_daemon.filters.finding import Finding
from rootwrap_daemon.filters.paths import basename
from rootwrap_daemon.filters.read import filter_file, ini
from rootwrap_daemon.filters.read.ini import Document, Entry, Field
from rootwrap_daemon.settings import Settings

#: Kinds whose fields after the name are user and program, not program and user.
_USER_FIRST: Final = frozenset(("KillFilter",))


@dataclass(frozen=True, slots=True)
class Line:
    """One definition below [Filters]. `filter`: what the daemon makes of it, None if it refuses it."""

    entry: Entry
    filter: Filter | None

    @property
    def kind(self) -> str:
        return self.entry.fields[0].text

    @property
    def program_field(self) -> Field | None:
        """The program as written; for an EnvFilter, the one that env(1) would run."""
        fields = self.entry.fields
        if self.kind == "EnvFilter":
            after = [part for part in fields[3:] if "=" not in part.text]
            if len(fields) > 1 and basename(fields[1].text) != "env":
                return fields[1]
            return after[0] if after else None
        place = 2 if self.kind in _USER_FIRST else 1
        return fields[place] if len(fields) > place and self.kind != "ReadFileFilter" else None

    @property
    def program(self) -> str:
        """The last component of the program's path, empty if there is none."""
        return "" if self.program_field is None else basename(self.program_field.text)

    @property
    def users(self) -> tuple[str, ...]:
        """Return the users that it may run as: a request may name any of them."""
        place = 1 if self.kind in _USER_FIRST else 2
        return tuple(self.entry.texts[place].split("|")) if len(self.entry.fields) > place else ()

    @property
    def words(self) -> tuple[Field, ...]:
        """The fields that say which words may follow the program's name."""
        fields = self.entry.fields
        if self.kind in ("RegExpFilter", "ChainingRegExpFilter"):
            return fields[4:]
        if self.kind == "EnvFilter":
            rest = fields[3:]
            while rest and "=" in rest[0].text:
                rest = rest[1:]
            return rest[1:]
        return fields[3:]

    @property
    def is_open(self) -> bool:
        """True for a filter that allows its program any arguments."""
        return self.kind == "CommandFilter" or (self.kind == "EnvFilter" and not self.words)

    @property
    def last_line(self) -> int:
        return self.entry.lines[-1][0]


@dataclass(frozen=True, slots=True)
class Text:
    """One file, read as a filter file is. `findings`: what the daemon says of it."""

    name: str
    text: str
    document: Document
    findings: tuple[Finding, ...]

    @property
    def rows(self) -> list[str]:
        return [row.removesuffix("\r") for row in self.text.split("\n")]


@dataclass(frozen=True, slots=True)
class FilterText(Text):
    """One filter file."""

    lines: tuple[Line, ...]
    filters: tuple[Filter, ...]


class ConfigText(Text):
    """One configuration file: section, option, values."""


@dataclass(frozen=True, slots=True)
class Host:
    """This host, where the files are to be used.

    `findings`: what the daemon's loader says of the directories, beyond the text of the files. `problem`: the
    configuration, and why it cannot be used. `takes`: what the daemon's unit takes from commands, with the
    directives that do (knowledge/confinement.py).
    """

    exec_dirs: tuple[str, ...]
    owners: frozenset[int]
    findings: tuple[Finding, ...] = ()
    settings: Settings | None = None
    problem: tuple[str, str] | None = None
    takes: dict[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Subject:
    """All that rules look at. The files are those of one policy, in the daemon's order.

    `used`: the names that an audit log has, None without one. `misnamed`: files that no daemon reads.
    """

    files: tuple[FilterText, ...]
    configs: tuple[ConfigText, ...] = ()
    host: Host | None = None
    used: frozenset[str] | None = None
    misnamed: tuple[str, ...] = ()
    known_rules: frozenset[str] = field(default_factory=frozenset)

    @property
    def lines(self) -> Iterator[Line]:
        for file in self.files:
            yield from file.lines

    @property
    def patterns(self) -> Iterator[tuple[Line, Field]]:
        """Every word of a kind whose words are patterns."""
        for line in self.lines:
            if line.kind in ("RegExpFilter", "ChainingRegExpFilter", "EnvFilter"):
                yield from ((line, part) for part in line.words)


def read_filters(text: str, name: str) -> FilterText:
    """A filter file's text, as the daemon reads it. Never raises for what is in it."""
    document = ini.parse(text, name)
    read = filter_file.read(text, name)
    known = {one.location: one for one in read.parsed}
    lines = tuple(Line(entry, known.get(entry.location)) for entry in document.entries(ini.FILTERS))
    return FilterText(name, text, document, read.findings, lines, read.parsed)


def read_config(text: str, name: str, findings: tuple[Finding, ...] = ()) -> ConfigText:
    """A configuration file's text, with the loader's findings. Never raises for what is in it."""
    return ConfigText(name, text, ini.parse(text, name), findings)


def is_config(text: str, name: str) -> bool:
    """True for a configuration file: it has a [DEFAULT] and no [Filters], and is not called a filter file."""
    if name.endswith(".filters"):
        return False
    sections = {section.name for section in ini.parse(text, name).sections}
    return "DEFAULT" in sections and ini.FILTERS not in sections
