"""Load a policy, with the text behind it, from a daemon's configuration or from filter files alone.

Promises: a configuration is loaded as the daemon loads it; what differs from that stands in `notes`.
"""

import contextlib
import os
import pwd
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from rootwrap_daemon import config
from rootwrap_daemon.analysis import told
from rootwrap_daemon.config import Configuration
from rootwrap_daemon.counted import counted
from rootwrap_daemon.errors import Unreadable
from rootwrap_daemon.filters.base import Filter
from rootwrap_daemon.filters.finding import Finding, Location, Severity
from rootwrap_daemon.filters.kinds import AnyFilter
from rootwrap_daemon.filters.read import filter_file
from rootwrap_daemon.filters.read.fault import Fault
from rootwrap_daemon.filters.read.ini import DEFAULT, FILTERS, Document, Entry, parse
from rootwrap_daemon.policy import host
from rootwrap_daemon.policy.policy import Policy
from rootwrap_daemon.policy.read import users
from rootwrap_daemon.policy.read.policy import load, same_programs, with_paths
from rootwrap_daemon.settings import MAX_FILE

#: Reasons to give why nothing could be judged.
_MOST: Final = 3
_LEFT_OUT: Final = "filters with an error are left out"
#: The uid that stands for a user who is not on this host: nothing is run here.
_NOBODY: Final = 65534


@dataclass(frozen=True, slots=True)
class Source:
    """A policy, the files it was made of, and what is to be known of how they were read."""

    policy: Policy
    documents: Mapping[str, Document]
    notes: tuple[str, ...] = ()

    def entry(self, one: Filter) -> Entry:
        """The definition of a filter as it stands in its file."""
        entries = self.documents[one.location.file].entries(FILTERS)
        return next(entry for entry in entries if entry.location == one.location)

    def options(self, one: Filter) -> tuple[Entry, ...]:
        """The options of a filter, as they stand in its file: in its section, and for all in [DEFAULT]."""
        document = self.documents[one.location.file]
        own = [
            entry
            for section in document.sections
            if section.name not in (FILTERS, DEFAULT) and section.name.lower() == one.name.lower()
            for entry in section.entries
        ]
        keys = {entry.key for entry in own}
        return (*own, *(entry for entry in document.entries(DEFAULT) if entry.key not in keys))

    def asker(self, user: str | None) -> frozenset[str]:
        """The words of `users` options that mean this user; all of them for None: whoever is meant.

        `user` may be such a word, too: policy tests know no users of this host.
        """
        if user is None:
            return self.policy.ruleset.users
        try:
            entry = pwd.getpwnam(user)
        except KeyError:
            return self.policy.ruleset.users & {user}
        groups = os.getgrouplist(user, entry.pw_gid)
        found = set()
        for word in self.policy.ruleset.users:
            with contextlib.suppress(Fault):
                is_group, number = users.asker(word)
                if number in groups if is_group else number == entry.pw_uid:
                    found.add(word)
        return frozenset(found)


def definition(entry: Entry) -> str:
    """The value of an entry on one line."""
    return " ".join(text for _, _, text in entry.lines)


def from_config(path: str) -> Source:
    """The policy of a configuration file. Raises ConfigurationError, or Unreadable."""
    found = configuration(path)
    settings = found.required()
    notes = [f"the daemon would not start with this configuration: {error}" for error in found.errors]
    for directory in settings.filters_path:
        for file in _filter_files(directory):
            _check_readable(file)
    loaded = load(replace(settings, on_finding="skip"), 1, as_root=True)
    errors = [finding for finding in loaded.findings if finding.severity is Severity.ERROR]
    if not loaded.ruleset.filters:
        raise _nothing(path, settings.filters_path, loaded.findings)
    # What is not there, too, for whoever asks whether something is missing.
    notes += [f"{one.location.file}: {one.what}" for one in loaded.findings if _is_not_there(one)]
    if errors:
        stop = settings.on_finding == "stop"
        what = "the daemon would not start with these filters" if stop else _LEFT_OUT
        notes.append(_with_errors(what, errors))
    files = {one.location.file for one in loaded.ruleset.filters}
    documents = {file: parse(read_text(file), file) for file in files}
    return Source(replace(loaded, settings=settings), documents, tuple(notes))


def configuration(path: str) -> Configuration:
    """A configuration file and its drop-ins, judged as a daemon of root would, whoever looks.

    Raises Unreadable.
    """
    if told.is_hidden(path):
        with contextlib.suppress(OSError):
            found = config.look(os.path.abspath(path), host.base_owners(0))
            if found.settings is not None and os.path.getsize(path):
                return found
        raise told.untold(path)
    try:
        return config.look(os.path.abspath(path), host.base_owners(0))
    except FileNotFoundError as error:
        named = error.filename or path
        raise Unreadable(f"there is no {named}: name the daemon's configuration, or filter files") from error
    except PermissionError as error:
        raise Unreadable(f"{error.filename or path} may not be read by this user") from error
    except OSError as error:
        raise Unreadable(f"{error.filename or path}: {error.strerror}") from error


def from_files(paths: Sequence[str]) -> Source:
    """The policy of files and directories of files, whoever owns them, with the default settings.

    Raises Unreadable.
    """
    found = from_texts(texts_of(paths))
    if not found.policy.ruleset.filters:
        raise _nothing(", ".join(paths), (), found.policy.findings)
    return found


def _nothing(name: str, directories: Iterable[str], findings: Iterable[Finding]) -> Unreadable:
    """Why there is no filter to judge by: an empty policy must not look like one that is in order."""
    why = [str(one) for one in findings if one.severity is Severity.ERROR or _is_not_there(one)]
    why += [f"{path} holds no filter" for path in directories if not any(path in text for text in why)]
    return Unreadable(f"{name}: no filter to judge by: {'; '.join(why[:_MOST]) or 'there is none in it'}")


def _is_not_there(finding: Finding) -> bool:
    return finding.code == "file" and finding.severity is Severity.WARNING


def check_told(path: str) -> None:
    """Raise Unreadable, with one text, for what is no filter file, if the path is hidden from who asks.

    Whether there is a file, how long it is and where its lines end would be told by what is wrong with it.
    """
    if not told.is_hidden(path):
        return
    with contextlib.suppress(OSError, Unreadable):
        if os.path.isdir(path):
            if _filter_files(path):
                return
        elif os.path.isfile(path):
            with open(path, "rb") as file:
                if b"[Filters]" in map(bytes.strip, file.read(MAX_FILE).splitlines()):
                    return
    raise told.untold(path)


def texts_of(paths: Iterable[str]) -> dict[str, str]:
    """The texts of files, and of the filter files in directories, by their names. Raises Unreadable."""
    texts = {}
    for path in paths:
        check_told(path)
        found = _filter_files(path) if os.path.isdir(path) else [path]
        if not found:
            raise Unreadable(no_filters_in(path))
        texts.update({file: read_text(file) for file in found})
    return texts


def no_filters_in(directory: str) -> str:
    """Return what is wrong with a directory in which no filter file is; it may be one level too high."""
    below = sorted(path for path in os.listdir(directory) if _has_filters(f"{directory}/{path}"))
    hint = f": name {os.path.join(directory, below[0])}" if below else ""
    return f"{directory} holds no file whose name ends in .filters{hint}"


def _has_filters(path: str) -> bool:
    try:
        return os.path.isdir(path) and bool(_filter_files(path))
    except Unreadable:
        return False


def _with_errors(what: str, errors: Sequence[Finding]) -> str:
    return f"{what}: {counted(len(errors), 'error')}, the first: {errors[0]}"


def from_texts(texts: Mapping[str, str], last_exec_dir: str | None = None) -> Source:
    """The policy of the texts of files, by their names; programs are looked for in `last_exec_dir`, too."""
    settings = config.default_settings()
    filters: list[AnyFilter] = []
    findings: list[Finding] = []
    for file, text in texts.items():
        read = filter_file.read(text, file)
        filters += read.filters
        findings += read.findings
    identities, notes = _identities(filters)
    errors = [finding for finding in findings if finding.severity is Severity.ERROR]
    if errors:
        notes.append(_with_errors(_LEFT_OUT, errors))
    exec_dirs = (
        *(path for path in settings.exec_dirs if os.path.isdir(path)),
        *(() if last_exec_dir is None else (last_exec_dir,)),
    )
    owners = host.base_owners()
    loaded = Policy(
        settings,
        with_paths(filters, exec_dirs, owners),
        1,
        exec_dirs,
        owners,
        identities,
        frozenset(),
        frozenset(),
        tuple(findings),
        same=same_programs(filters, exec_dirs, owners),
    )
    return Source(loaded, {file: parse(text, file) for file, text in texts.items()}, tuple(notes))


def _identities(filters: Iterable[Filter]) -> tuple[dict[tuple[str, str | None], host.Identity], list[str]]:
    found: dict[tuple[str, str | None], host.Identity] = {}
    notes = []
    for one in filters:
        for name in one.run_as:
            user = (name, one.options.group)
            if user in found:
                continue
            try:
                found[user] = users.identity(*user)
            except KeyError as error:
                found[user] = host.Identity(name, _NOBODY, _NOBODY, (), "/")
                what = f"the daemon would refuse {one.name}, and whatever runs as that"
                notes.append(f"{error.args[0]}: {what}")
    return found, notes


def _filter_files(directory: str) -> list[str]:
    """The files of a directory that the daemon would read, in its order."""
    try:
        names = sorted(os.listdir(directory))
    except FileNotFoundError:
        return []
    except PermissionError:
        raise Unreadable(f"{directory} may not be read by this user") from None
    except OSError as error:
        raise Unreadable(f"{directory}: {error.strerror}") from error
    return [f"{directory}/{name}" for name in names if name.endswith(".filters") and not name.startswith(".")]


def _check_readable(path: str) -> None:
    try:
        os.stat(path)
    except PermissionError:
        raise Unreadable(f"{path} may not be read by this user") from None
    except OSError:
        # Said where it is opened.
        return
    if not os.access(path, os.R_OK):
        raise Unreadable(f"{path} may not be read by this user")


def read_text(path: str) -> str:
    """The text of a file. Raises Unreadable."""
    return read_told(path)[0]


def read_told(path: str) -> tuple[str, bool]:
    """The text of a file, and whether it is hidden from who asks (told.py). Raises Unreadable."""
    hidden = False
    try:
        file, hidden = told.opened(path)
        with file:
            return file.read().decode(), hidden
    except UnicodeDecodeError as error:
        if hidden:
            raise told.untold(path) from None
        raise Unreadable(f"{path} is not UTF-8: {error}") from error
    except OSError as error:
        raise Unreadable(f"{path}: {error.strerror}") from error


def where(location: Location) -> str:
    """A location as `file:line`."""
    return f"{location.file}:{location.line}"
