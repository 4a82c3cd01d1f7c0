"""Read the files that a command line names into subjects: filters, configuration, host.

Promises: what cannot be read raises an error; what is wrong in a file is a finding.
"""

import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import BinaryIO, Final

from rootwrap_daemon import config
from rootwrap_daemon.analysis import load
from rootwrap_daemon.errors import ConfigurationError, Unreadable
from rootwrap_daemon.filters.finding import Finding, Location, Severity
from rootwrap_daemon.filters.read.ini import DEFAULT
from rootwrap_daemon.lint.subject import (
    ConfigText,
    FilterText,
    Host,
    Subject,
    is_config,
    read_config,
    read_filters,
)
from rootwrap_daemon.policy import host as looks
from rootwrap_daemon.policy.read import apart, files
from rootwrap_daemon.policy.read.policy import load as load_policy
from rootwrap_daemon.settings import MAX_FILE, Settings

#: Where programs are looked for without a configuration; as the daemon's default.
_EXEC_DIRS: Final = ("/sbin", "/usr/sbin", "/bin", "/usr/bin")
#: The path that stands for standard input.
STDIN: Final = "-"


@dataclass(frozen=True, slots=True)
class Wanted:
    """The request of a command line. `host`: look at this host too; a configuration implies it.

    `used`: the names of filters in audit logs. `texts`: what was read from standard input, by name. `takes`:
    what the daemon's unit takes from commands.
    """

    paths: tuple[str, ...]
    config_file: str | None = None
    host: bool = False
    used: frozenset[str] | None = None
    texts: dict[str, str] = field(default_factory=dict)
    takes: dict[str, tuple[str, ...]] = field(default_factory=dict)


def gather(wanted: Wanted) -> list[Subject]:
    """The subjects, one a directory: its files are one policy. Raises Unreadable."""
    configs: tuple[ConfigText, ...] = ()
    paths, host = wanted.paths, None
    if wanted.config_file is not None:
        configs, settings = _configuration(wanted.config_file)
        host = _configured(wanted.config_file, settings)
        paths = paths or tuple(path for path in _filters_path(configs, host) if os.path.isdir(path))
    elif wanted.host:
        host = Host(_EXEC_DIRS, looks.base_owners())
    if host is not None:
        host = replace(host, takes=wanted.takes)
    groups = _groups(paths)
    whole = wanted.config_file is not None and not wanted.paths
    if whole:
        # One instance reads all of them.
        every = _Group()
        for group in groups:
            every.files += group.files
            every.misnamed += group.misnamed
        groups = [every]
    subjects = [_subject(group, wanted.texts) for group in groups]
    subjects[0] = replace(subjects[0], configs=(*configs, *subjects[0].configs))
    return [replace(one, used=wanted.used, host=_loaded(host, one, whole)) for one in subjects]


@dataclass(slots=True)
class _Group:
    """The files of one policy, each once, in the daemon's order; and what lies among them that is none."""

    files: list[str] = field(default_factory=list)
    misnamed: list[str] = field(default_factory=list)


def _groups(paths: Iterable[str]) -> list[_Group]:
    """Files by their directory."""
    groups: dict[str, _Group] = {}
    for path in paths:
        if path != STDIN:
            load.check_told(path)
        if not os.path.isdir(path):
            # A file that is named by itself is judged whatever its name.
            group = groups.setdefault(os.path.normpath(os.path.dirname(path)), _Group())
            group.files += [path] if path not in group.files else []
            continue
        group = groups.setdefault(os.path.normpath(path), _Group())
        for base in sorted(os.listdir(path)):
            known = group.files if base.endswith(".filters") and base[0] != "." else group.misnamed
            name = os.path.join(path, base)
            known += [name] if name not in known else []
        if not group.files:
            # No directory of filters: that is said once, and not of each file in it.
            group.misnamed = [name for name in group.misnamed if ".filters" in os.path.basename(name)]
    return list(groups.values())


def _subject(group: _Group, texts: dict[str, str]) -> Subject:
    files: list[FilterText] = []
    configs: list[ConfigText] = []
    for name in group.files:
        data = _read(name) if name != STDIN else _standard_input(texts)
        try:
            text = data.decode()
        except UnicodeDecodeError as error:
            before = data[: error.start]
            where = Location(name, before.count(b"\n") + 1, len(before) - before.rfind(b"\n"))
            finding = Finding(where, Severity.ERROR, "character", "not UTF-8", "save the file as UTF-8")
            files.append(replace(read_filters("", name), findings=(finding,)))
            continue
        if is_config(text, name):
            # Nothing of a template.
            findings = () if "{{" in text or "{%" in text else config.look_at(text, name).findings
            configs.append(read_config(text, name, findings))
        else:
            files.append(read_filters(text, name))
    return Subject(tuple(files), tuple(configs), misnamed=tuple(group.misnamed))


def _standard_input(texts: dict[str, str]) -> bytes:
    """Read once, and kept: a second look has the same text."""
    if STDIN not in texts:
        texts[STDIN] = _whole(sys.stdin.buffer, STDIN).decode("utf-8", "surrogateescape")
    return texts[STDIN].encode("utf-8", "surrogateescape")


def _read(name: str) -> bytes:
    with open(name, "rb") as file:
        return _whole(file, name)


def _whole(file: BinaryIO, name: str) -> bytes:
    """Raises Unreadable for what the daemon would not read whole either."""
    data = file.read(MAX_FILE + 1)
    if len(data) > MAX_FILE:
        raise Unreadable(f"{name}: longer than {MAX_FILE} bytes")
    return data


def _decode(name: str) -> str:
    try:
        return _read(name).decode()
    except UnicodeDecodeError as error:
        raise Unreadable(f"{name}: not UTF-8") from error


def _configuration(config_file: str) -> tuple[tuple[ConfigText, ...], Settings | None]:
    """The files of a configuration as a daemon of root reads them. Raises Unreadable."""
    found = load.configuration(config_file)
    shown = {os.path.abspath(config_file): config_file}
    texts = []
    for path in dict.fromkeys((*found.files, *(one.location.file for one in found.findings))):
        name = shown.get(path, path)
        findings = tuple(
            replace(one, location=replace(one.location, file=name))
            for one in found.findings
            if one.location.file == path
        )
        # A finding may be about a directory, or a file that is not read.
        text = _decode(path) if path in found.files and os.path.isfile(path) else ""
        texts.append(read_config(text, name, findings))
    return tuple(texts), found.settings


def _configured(config_file: str, settings: Settings | None) -> Host:
    """The host as a daemon with this configuration sees it, or why it cannot be used."""
    default = Host(_EXEC_DIRS, looks.base_owners(0))
    if settings is None:
        return default
    default = replace(default, exec_dirs=settings.exec_dirs, settings=settings)
    try:
        # All that is wrong, not only that something is.
        loaded = load_policy(replace(settings, on_finding="skip"), 0, as_root=True)
    except ConfigurationError as error:
        return replace(default, problem=(config_file, str(error)))
    seen = replace(default, exec_dirs=loaded.exec_dirs, owners=loaded.owners, findings=loaded.findings)
    try:
        apart.check(settings, "", os.path.abspath(config_file))
    except ConfigurationError as error:
        return replace(seen, problem=(config_file, str(error)))
    return seen


def _filters_path(configs: Iterable[ConfigText], host: Host) -> Iterator[str]:
    """The directories of filters; as the file has them where the daemon cannot use it."""
    if host.settings is not None:
        yield from host.settings.filters_path
        return
    for entry in (entry for read in configs for entry in read.document.entries(DEFAULT)):
        yield from (text for text in entry.texts if entry.key == "filters_path" and text.startswith("/"))


def _loaded(host: Host | None, subject: Subject, whole: bool) -> Host | None:
    """The host with what the daemon's loader says beyond the text of the subject's files.

    `whole`: the host has what it says of a whole configuration already.
    """
    if host is None:
        return None
    names = {os.path.realpath(file.name): file.name for file in subject.files}
    directories = {os.path.dirname(path): os.path.dirname(name) or "." for path, name in names.items()}
    findings = host.findings
    if not whole:
        kept = host.settings.capabilities if host.settings is not None else None
        loaded = files.load(sorted(directories), host.owners, None if kept is None else frozenset(kept))
        findings = tuple(one for one in loaded.findings if one.location.file in {*names, *directories})
    shown = {**directories, **names}
    told = {(finding.location, finding.what) for file in subject.files for finding in file.findings}
    here = [
        replace(one, location=replace(one.location, file=shown.get(one.location.file, one.location.file)))
        for one in findings
    ]
    return replace(host, findings=tuple(one for one in here if (one.location, one.what) not in told))
