"""Directories of filter files -> filters and findings; only what trusted owners hold is read.

Promises: files end in .filters and are read in the order of their names; a file or filter that is left out
has a finding.
"""

import errno
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from rootwrap_daemon.filters import ruleset
from rootwrap_daemon.filters.definition import Filter
from rootwrap_daemon.filters.model import Finding, Location, Severity
from rootwrap_daemon.policy import host

#: Bytes of one filter file. The largest of the files known is 14 KiB.
MAX_FILE: Final = 4 * 1024 * 1024


@dataclass(slots=True)
class Loaded:
    """What the directories hold."""

    filters: list[Filter] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    #: Who runs the filters' commands, by name.
    identities: dict[str, host.Identity] = field(default_factory=dict)


def load(directories: Iterable[str], owners: frozenset[int]) -> Loaded:
    """Read every filter file. Never raises for what is in them or how they lie: that is a finding."""
    loaded = Loaded()
    for directory in directories:
        try:
            found = host.resolve_owned(directory, owners)
            names = sorted(os.listdir(found.path))
        except FileNotFoundError:
            _add(
                loaded,
                Severity.WARNING,
                directory,
                "no such directory",
                "make it, or take it out of filters_path",
            )
            continue
        except (host.UntrustedPath, OSError) as error:
            _add(loaded, Severity.ERROR, directory, _text(error), "give it to root, mode 0755, parents too")
            continue
        for name in names:
            # Editors and packagers leave other names: x~, x.rpmsave, .x.swp, x.filters.bak.
            if name.endswith(".filters") and not name.startswith("."):
                _load_file(loaded, f"{found.path}/{name}", owners)
    return loaded


def _load_file(loaded: Loaded, path: str, owners: frozenset[int]) -> None:
    try:
        descriptor = host.open_owned(path, owners)
    except (host.UntrustedPath, OSError) as error:
        _add(loaded, Severity.ERROR, path, _text(error), "make it a file of root, mode 0644")
        return
    with open(descriptor, "rb") as file:
        data = file.read(MAX_FILE + 1)
    if len(data) > MAX_FILE:
        _add(loaded, Severity.ERROR, path, f"longer than {MAX_FILE} bytes", "split it")
        return
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        before = data[: error.start]
        where = Location(path, before.count(b"\n") + 1, len(before) - before.rfind(b"\n"))
        finding = Finding(where, Severity.ERROR, "not UTF-8", "save the file as UTF-8")
        loaded.findings.append(finding)
        return
    read = ruleset.read(text, path)
    loaded.findings += read.findings
    for one in read.filters:
        if problem := _identify(loaded, one):
            loaded.findings.append(
                Finding(
                    one.location, Severity.ERROR, problem, "name another user", frozenset((one.name.lower(),))
                )
            )
        else:
            loaded.filters.append(one)


def _identify(loaded: Loaded, one: Filter) -> str | None:
    """What is wrong with the user that a filter's command runs as."""
    if one.run_as not in loaded.identities:
        try:
            loaded.identities[one.run_as] = host.identity(one.run_as)
        except KeyError:
            return f"no user {one.run_as!r} here"
    if not loaded.identities[one.run_as].is_current and os.geteuid() != 0:
        return f"only root can run commands as {one.run_as}"
    return None


def _add(loaded: Loaded, severity: Severity, path: str, what: str, mend: str) -> None:
    loaded.findings.append(Finding(Location(path, 1, 1), severity, what, mend))


def _text(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno:
        return "a link where none may be" if error.errno == errno.ELOOP else os.strerror(error.errno)
    return str(error)
