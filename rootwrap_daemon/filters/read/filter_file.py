"""Read the text of a filter file: the filters that can be used, and a finding for whatever is wrong.

Promises: never raises for what is in the text; a filter with an error, or with an option that has one, is
left out.
"""

import re
from dataclasses import dataclass, replace

from rootwrap_daemon.filters.argv import ArgvFilter
from rootwrap_daemon.filters.finding import Finding, Location, Severity
from rootwrap_daemon.filters.kinds import AnyFilter
from rootwrap_daemon.filters.read import options as option_reader
from rootwrap_daemon.filters.read.fault import Fault, nearest, one_of
from rootwrap_daemon.filters.read.ini import DEFAULT, FILTERS, Document, Entry, Section, parse
from rootwrap_daemon.filters.read.kinds import KINDS, uses
from rootwrap_daemon.filters.read.options import OPTIONS, useless
from rootwrap_daemon.filters.values import Options


@dataclass(frozen=True, slots=True)
class FilterFile:
    """One file: the filters that can be used, and every finding.

    `parsed`: the filters that have no error of their own; an error of the file leaves out all of them.
    `unmatched`: the folded names of sections that no filter here has: a filter of that name in another file
    lacks the options that are meant for it.
    """

    filters: tuple[AnyFilter, ...]
    findings: tuple[Finding, ...]
    parsed: tuple[AnyFilter, ...]
    unmatched: frozenset[str]


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


#: The options of a filter, as values and as written.
_Given = tuple[Options, tuple[Entry, ...]]


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
        defaults = self._defaults()
        options, unmatched = self._options(entries, defaults)
        filters = [
            found
            for entry in entries.values()
            if (found := self._filter(entry, *options.get(entry.key, (defaults, ())))) is not None
        ]
        errors = [finding.filters for finding in self.findings if finding.severity is Severity.ERROR]
        parsed = tuple(one for one in filters if not any(one.name.lower() in names for names in errors))
        # Whoever an error of the file is about may have lost what restricts it.
        usable = parsed if all(errors) else ()
        findings = tuple(sorted(self.findings, key=lambda finding: finding.location))
        return FilterFile(usable, findings, parsed, unmatched)

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

    def _filter(self, entry: Entry, options: Options, given: tuple[Entry, ...]) -> AnyFilter | None:
        try:
            found = self._parsed(entry, options)
            for option in given:
                if option.key in OPTIONS and not uses(found, option.key):
                    raise useless(option, "this filter")
        except Fault as fault:
            # Without a section above it, nobody knows which filter an option restricts.
            names = () if _is_option(entry) else (entry.key,)
            self._add(Severity.ERROR, fault.at(entry.location), *names)
            return None
        for part in entry.fields:
            if len(part.text) > 1 and part.text[0] in "\"'" and part.text[0] == part.text[-1]:
                what = f"the quotes of {part.text} belong to the word"
                self._warn(Fault("literal", what, "take them out", part.location))
            if _TEMPLATE.search(part.text):
                what = "this may be a template that was not rendered"
                self._warn(Fault("template", what, "write the word that is meant", part.location))
        return found

    def _parsed(self, entry: Entry, options: Options) -> AnyFilter:
        """Raises Fault."""
        if entry.key in (DEFAULT.lower(), FILTERS.lower()):
            raise Fault("section", f"a filter named {entry.name}", "name it otherwise")
        name = entry.fields[0]
        if _is_option(entry):
            remedy = "write the section of its filter above it: [NAME]"
            raise Fault("section", f"{entry.name} in [{FILTERS}] looks like an option", remedy)
        if name.text not in KINDS:
            what = f"{name.text!r} is not a kind of filter"
            raise Fault("kind", what, one_of(name.text, KINDS), name.location)
        return KINDS[name.text](entry, options, self._warn)

    def _defaults(self) -> Options:
        """Return the options of every filter of the file, unless the filter's own section says otherwise."""
        options, given = Options(), set[str]()
        for section in self.document.sections:
            for entry in section.entries if section.name == DEFAULT else ():
                try:
                    if entry.key != "users":
                        what = f"{entry.name} in [{DEFAULT}], where only users can stand"
                        into = (
                            "the section of each filter that it is for"
                            if entry.key in OPTIONS
                            else f"[{FILTERS}]"
                        )
                        raise Fault("section", what, f"move it to {into}")
                    if entry.key in given:
                        raise Fault("option", f"{entry.name} a second time", "write it once")
                    options = option_reader.read(options, entry, None, self._warn)
                except Fault as fault:
                    # About the file: every filter would lack what restricts it.
                    self._add(Severity.ERROR, fault.at(entry.location))
                given.add(entry.key)
        return options

    def _options(
        self, entries: dict[str, Entry], defaults: Options
    ) -> tuple[dict[str, _Given], frozenset[str]]:
        """The options by the folded names of their filters, and the folded names that no filter has."""
        found: dict[str, _Given] = {}
        unmatched: set[str] = set()
        for section in self.document.sections:
            if section.name == FILTERS or section.name.upper() == DEFAULT:
                continue
            key = section.name.lower()
            if key in entries:
                found[key] = self._read_options(section, entries[key], *found.get(key, (defaults, ())))
                continue
            unmatched.add(key.strip())
            what = f"[{section.name}] is not the name of a filter in this file"
            near = nearest(section.name.strip(), (FILTERS, *(entry.name for entry in entries.values())))
            meant = f"did you mean [{near}]? " if near else ""
            remedy = f"{meant}options need their filter above, in [{FILTERS}]"
            self._add(Severity.ERROR, Fault("section", what, remedy, section.location))
        return found, frozenset(unmatched)

    def _read_options(
        self, section: Section, filter_: Entry, options: Options, given: tuple[Entry, ...]
    ) -> _Given:
        kind = filter_.fields[0].text
        for entry in section.entries:
            try:
                if any(entry.key == other.key for other in given):
                    raise Fault("option", f"{entry.name} a second time", "write it once")
                options = option_reader.read(options, entry, kind if kind in KINDS else None, self._warn)
            except Fault as fault:
                self._add(Severity.ERROR, fault.at(entry.location), filter_.key)
            given = (*given, entry)
        return options, given


def _is_option(entry: Entry) -> bool:
    """True for a line of [Filters] that has no kind, and the name of an option or nearly so."""
    kind = entry.fields[0].text
    return kind not in KINDS and not kind.endswith("Filter") and nearest(entry.name, OPTIONS) is not None


def _is_same(one: Entry, other: Entry) -> bool:
    if one.texts != other.texts:
        return False
    # An ArgvFilter's fields are not what lies between commas: a backslash makes one part of a word.
    lines = [[text for _, _, text in entry.lines] for entry in (one, other)]
    return one.fields[0].text != ArgvFilter.__name__ or lines[0] == lines[1]
