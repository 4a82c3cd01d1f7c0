"""Read the text of a filter file: the filters that can be used, and a finding for whatever is wrong.

Promises: never raises for what is in the text; a filter with an error, or with an option that has one, is
left out.
"""

import re
from dataclasses import dataclass, replace
from typing import Final

from rootwrap_daemon.filters import kinds
from rootwrap_daemon.filters import options as option_reader
from rootwrap_daemon.filters.argv import ArgvFilter
from rootwrap_daemon.filters.base import Filter
from rootwrap_daemon.filters.finding import Fault, Finding, Location, Severity
from rootwrap_daemon.filters.ini import FILTERS, Document, Entry, Section, parse
from rootwrap_daemon.filters.values import Options

#: Kind as written in a filter file -> what it makes of its definition.
KINDS: Final[dict[str, type[Filter]]] = {**kinds.KINDS, ArgvFilter.__name__: ArgvFilter}


#: The options that only some kinds look at.
_ONLY_FOR: Final = {
    "target_user": ("KillFilter",),
    "started_by": ("KillFilter",),
    "pin": ("PathFilter", "ArgvFilter"),
    "create": ("PathFilter", "ArgvFilter"),
}


@dataclass(frozen=True, slots=True)
class FilterFile:
    """One file: the filters that can be used, and every finding."""

    filters: tuple[Filter, ...]
    findings: tuple[Finding, ...]


# What Ansible, Kolla (Jinja) and Puppet (ERB) put in a file that is still to be made.
_TEMPLATE = re.compile(r"\{\{.*\}\}|\{%.*%\}|\{#.*#\}|<%.*%>")


def read(text: str, file: str) -> FilterFile:
    """Read one filter file's text; a filter with an ERROR is left out."""
    found = _Reader(parse(text, file)).read()
    lines = text.split("\n")
    return replace(found, findings=tuple(_of_template(one, lines) for one in found.findings))


def _of_template(finding: Finding, lines: list[str]) -> Finding:
    """The finding, or a better one where somebody else should have filled in what is wrong."""
    if finding.severity is not Severity.ERROR or not _TEMPLATE.search(lines[finding.location.line - 1]):
        return finding
    remedy = "give the file that is made from this template, not the template"
    what = f"a template that was not rendered: {finding.what}"
    return replace(finding, code="template", what=what, remedy=remedy)


class _Reader:
    def __init__(self, document: Document) -> None:
        self.document = document
        self.findings = list(document.findings)

    def _add(self, severity: Severity, fault: Fault, *names: str) -> None:
        where = fault.location or Location(self.document.file, 1, 1)
        finding = Finding(where, severity, fault.code, fault.what, fault.remedy, frozenset(names))
        self.findings.append(finding)

    def _warn(self, fault: Fault) -> None:
        self._add(Severity.WARNING, fault)

    def read(self) -> FilterFile:
        entries: dict[str, Entry] = {}
        for section in self.document.sections:
            if section.name == FILTERS:
                entries = self._unique(section)
        options = self._options(entries)
        filters = [
            found
            for entry in entries.values()
            if (found := self._filter(entry, options.get(entry.key, Options()))) is not None
        ]
        refused = {name for f in self.findings if f.severity is Severity.ERROR for name in f.filters}
        usable = tuple(f for f in filters if f.name.lower() not in refused)
        return FilterFile(usable, tuple(sorted(self.findings, key=lambda finding: finding.location)))

    def _unique(self, section: Section) -> dict[str, Entry]:
        entries: dict[str, Entry] = {}
        for entry in section.entries:
            first = entries.setdefault(entry.key, entry)
            if first is entry:
                continue
            if _is_same(first, entry):
                what = f"{entry.name} a second time, the same"
                self._warn(Fault("repeated", what, "take one out", entry.location))
            else:
                what = f"{entry.name} a second time, defined otherwise at line {first.location.line}"
                fault = Fault("duplicate", what, "give each its own name", entry.location)
                self._add(Severity.ERROR, fault, entry.key)
        return entries

    def _filter(self, entry: Entry, options: Options) -> Filter | None:
        try:
            found = self._parsed(entry, options)
        except Fault as fault:
            self._add(Severity.ERROR, fault.at(entry.location), entry.key)
            return None
        for part in entry.fields:
            if _TEMPLATE.search(part.text):
                what = "this may be a template that was not rendered"
                self._warn(Fault("template", what, "write the word that is meant", part.location))
        return found

    def _parsed(self, entry: Entry, options: Options) -> Filter:
        """Raises Fault."""
        if entry.key in ("default", FILTERS.lower()):
            raise Fault("section", f"a filter named {entry.name}", "name it otherwise")
        name = entry.fields[0]
        if name.text not in KINDS:
            remedy = f"use one of {', '.join(KINDS)}"
            raise Fault("kind", f"{name.text!r} is not a kind of filter", remedy, name.location)
        return KINDS[name.text].parse(entry, options, self._warn)

    def _options(self, entries: dict[str, Entry]) -> dict[str, Options]:
        found: dict[str, Options] = {}
        seen: dict[tuple[str, str], Entry] = {}
        for section in self.document.sections:
            if section.name == FILTERS or section.name.upper() == "DEFAULT":
                # The second has its finding already.
                continue
            key = section.name.lower()
            if key not in entries:
                what = f"[{section.name}] is not the name of a filter in this file"
                remedy = f"options need their filter above, in [{FILTERS}]"
                self._add(Severity.ERROR, Fault("section", what, remedy, section.location))
                continue
            options = found.get(key, Options())
            for entry in section.entries:
                again = seen.setdefault((key, entry.key), entry) is not entry
                try:
                    if again:
                        raise Fault("option", f"{entry.name} a second time", "write it once")
                    _check_kind(entry, entries[key].fields[0].text)
                    options = option_reader.read(options, entry, self._warn)
                except Fault as fault:
                    self._add(Severity.ERROR, fault.at(entry.location), key)
            found[key] = options
        return found


def _check_kind(entry: Entry, kind: str) -> None:
    """Raise Fault for an option that a filter of this kind does not have."""
    only_for = _ONLY_FOR.get(entry.key)
    if kind in KINDS and only_for is not None and kind not in only_for:
        # Its author believes that it keeps something out.
        remedy = f"take it out; it is for {' and '.join(only_for)}"
        raise Fault("option", f"{entry.name} does nothing in a {kind}", remedy, entry.location)


def _is_same(one: Entry, other: Entry) -> bool:
    if one.texts != other.texts:
        return False
    # An ArgvFilter's fields are not what lies between commas: a backslash makes one part of a word.
    lines = [[text for _, _, text in entry.lines] for entry in (one, other)]
    return one.fields[0].text != ArgvFilter.__name__ or lines[0] == lines[1]
