"""RW206, RW207: what a configuration says that a daemon, or oslo.rootwrap, cannot use or takes otherwise.

Promises: a directory is judged as the daemon judges it at its start (policy/read/owned.py).
"""

import os
from collections.abc import Collection, Iterator
from typing import Final

from rootwrap_daemon.filters.finding import Location
from rootwrap_daemon.filters.read.ini import DEFAULT, Entry
from rootwrap_daemon.lint.finding import Edit, Problem, Severity, at
from rootwrap_daemon.lint.rules import rule
from rootwrap_daemon.lint.subject import Subject
from rootwrap_daemon.lint.suppress import start_of
from rootwrap_daemon.policy import host as looks
from rootwrap_daemon.policy import places
from rootwrap_daemon.policy.read import owned

_PATHS: Final = ("filters_path", "exec_dirs")
_WHO: Final = {"allowed_users": looks.user_number, "allowed_groups": looks.group_number}
#: Options with the path of what the daemon makes, in a directory that must be there.
_MADE: Final = ("audit_file", "socket_path", "state_dir")
#: What the unit of an instance makes at its start.
_OF_THE_UNIT: Final = ("/run/rootwrap-daemon", "/var/log/rootwrap-daemon")


@rule("RW206", Severity.ERROR)
def relative_directory(subject: Subject) -> Iterator[Problem]:
    """A relative or padded entry of filters_path or exec_dirs.

    oslo.rootwrap splits at the comma and keeps the blank behind it: the second entry is then a relative path,
    looked up where the caller stands. Who makes a directory of that name there writes the filters.

    Found::

        ==> rootwrap.conf <==
        [DEFAULT]
        filters_path=/etc/nova/rootwrap.d, /usr/share/nova/rootwrap

    Found::

        ==> rootwrap.conf <==
        [DEFAULT]
        exec_dirs=bin

    Fine::

        ==> rootwrap.conf <==
        [DEFAULT]
        filters_path=/etc/nova/rootwrap.d,/usr/share/nova/rootwrap
    """
    for entry in _options(subject, _PATHS):
        for number, column, text in entry.lines:
            at = column
            for part in text.split(","):
                place = Location(entry.location.file, number, at)
                at += len(part) + 1
                stripped = part.strip()
                if "{{" in stripped:
                    what = f"{entry.name}: {stripped!r} is filled in later"
                    instead = "render the template first, and check what comes out"
                    yield Problem(place, what, instead, len(part), severity=Severity.WARNING)
                elif stripped and not stripped.startswith("/"):
                    what = f"{entry.name}: {stripped!r} is not an absolute path"
                    yield Problem(place, what, "write it from / on", len(part))
                elif stripped != part:
                    what = (
                        f"{entry.name}: a blank beside a comma, which makes a relative path in oslo.rootwrap"
                    )
                    edit = Edit(place, part, stripped)
                    yield Problem(place, what, "take the blank out", len(part), stripped, (edit,))


def _options(subject: Subject, names: Collection[str]) -> Iterator[Entry]:
    for config in subject.configs:
        yield from (entry for entry in config.document.entries(DEFAULT) if entry.key in names)


@rule("RW207", Severity.ERROR)
def bad_config(subject: Subject) -> Iterator[Problem]:
    """A configuration that the daemon cannot use.

    It does not start with an error; or, while it runs, goes on with what it had. An option or a section that
    is not known counts: a typing error would leave out a restriction. With a warning it starts: a user who is
    not known is shut out.

    Found::

        ==> rootwrap.conf <==
        [DEFAULT]
        filters_path=/scratch/private
        capabilites=CAP_NET_ADMIN

    Found::

        ==> config rootwrap.conf <==
        [DEFAULT]
        filters_path=/scratch/private
        socket_mode=0999

    Found::

        ==> config rootwrap.conf <==
        [DEFAULT]
        filters_path=/scratch/private
        audit_file=/scratch/nothing/audit.jsonl

    Fine::

        ==> config rootwrap.conf <==
        [DEFAULT]
        filters_path=/scratch/private
        audit_file=/scratch/private/audit.jsonl
        socket_mode=0660
    """
    for config in subject.configs:
        for finding in config.findings:
            severity = Severity(finding.severity.value)
            yield Problem(finding.location, finding.what, finding.remedy, severity=severity)
    host = subject.host
    if host is not None and host.settings is not None:
        yield from _late(subject)
        yield from _directories(subject, host.owners)
    if host is not None and host.problem is not None:
        file, what = host.problem
        yield Problem(start_of(file), what.removeprefix(f"{file}: "), "correct that option")


def _late(subject: Subject) -> Iterator[Problem]:
    """Names of users and groups who may ask, and whom this host does not know now."""
    for entry in _options(subject, _WHO):
        for part in entry.fields:
            try:
                _WHO[entry.key](part.text)
            except KeyError:
                what = f"{entry.name}: there is no {part.text!r} here yet"
                instead = "make it, if it is not one that comes later: a directory's, or DynamicUser="
                yield at(part, what, instead, Severity.WARNING)


def _directories(subject: Subject, owners: frozenset[int]) -> Iterator[Problem]:
    """Paths that the configuration writes out, and whose directory a start would not take."""
    for entry in _options(subject, _MADE):
        path = entry.texts[0] if entry.texts else ""
        if not path.startswith("/"):
            continue
        severity = None
        try:
            owned.directory_of(path, owners)
            continue
        except PermissionError:
            # Whoever looks may not; the daemon may.
            continue
        except FileNotFoundError as error:
            if places.is_in(path, _OF_THE_UNIT):
                continue
            what = os.strerror(error.errno or 0)
            # A unit may make it at each start.
            severity = Severity.WARNING if places.is_in(path, ("/run",)) else None
        except (OSError, looks.UntrustedPath) as error:
            what = str(error)
        what = f"{entry.name}: {os.path.dirname(path)}: {what}"
        yield at(entry.fields[0], what, "make the directory, and give it to root alone", severity)
