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
from rootwrap_daemon.filters.base import Filter
from rootwrap_daemon.filters.kinds import KillFilter
from rootwrap_daemon.filters.values import Finding, Location, Pin, Severity
from rootwrap_daemon.policy import host

#: Bytes of one filter file. The largest of the files known is 14 KiB.
MAX_FILE: Final = 4 * 1024 * 1024


@dataclass(slots=True)
class Loaded:
    """What the directories hold."""

    filters: list[Filter] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    kept: frozenset[str] | None = None
    #: Can the commands of other users be run?
    as_root: bool = True
    #: Who runs the filters' commands, by names of user and group.
    identities: dict[tuple[str, str | None], host.Identity] = field(default_factory=dict)


def load(
    directories: Iterable[str],
    owners: frozenset[int],
    kept: frozenset[str] | None,
    *,
    as_root: bool | None = None,
) -> Loaded:
    """Read every filter file. Never raises for what is in them or how they lie: that is a finding.

    `kept`: the capabilities that the daemon keeps, None for all that it has. `as_root`: judge filters as root
    would; by default as this user.
    """
    loaded = Loaded(kept=kept, as_root=os.geteuid() == 0 if as_root is None else as_root)
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
            path = f"{found.path}/{name}"
            if name.endswith(".filters") and not name.startswith("."):
                _load_file(loaded, path, owners)
            else:
                # Editors and packagers leave such: x~, x.rpmsave, .x.swp, x.filters.bak.
                mend = "end its name in .filters, or move it away"
                _add(loaded, Severity.WARNING, path, "not read, by its name", mend)
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
        if problem := _problem(loaded, one):
            what, mend = problem
            names = frozenset((one.name.lower(),))
            loaded.findings.append(Finding(one.location, Severity.ERROR, what, mend, names))
        else:
            loaded.filters.append(one)


#: Commands that act on a name, not on what it names: only they can be given a directory and a name in it. The
#: second two go into what the name names, if that is a directory, unless they are told not to.
_ACT_ON_NAMES: Final = frozenset(("rm", "mkdir", "rmdir"))
_ACT_ON_NAMES_WITH_T: Final = frozenset(("mv", "ln"))


def _follows(one: Filter) -> tuple[str, str] | None:
    command = one.program.rpartition("/")[2]
    if command in _ACT_ON_NAMES or (
        command in _ACT_ON_NAMES_WITH_T and tuple(one.literals.get(1, ())) == ("-T",)
    ):
        return None
    if command in _ACT_ON_NAMES_WITH_T:
        return f"pin = parent, and {command} goes into a directory of that name", "make -T its first argument"
    return f"pin = parent, and {command} may follow what the name names", "use pin = object"


def _problem(loaded: Loaded, one: Filter) -> tuple[str, str] | None:
    """What is wrong with a filter on this host, and what to do."""
    options = one.options
    user = (one.run_as, options.group)
    try:
        identity = loaded.identities.setdefault(user, host.identity(*user))
    except KeyError as error:
        return f"{error.args[0]}", "name one that is there"
    if not identity.is_current and not loaded.as_root:
        return f"only root can run commands as {one.run_as}", "start the daemon as root"
    if options.target_user:
        try:
            host.user_number(options.target_user)
        except KeyError:
            return f"target_user: no user {options.target_user!r} here", "name one that is there"
    if options.capabilities is not None and identity.uid != 0:
        return "capabilities of another user than root", "leave them out: such a command has none"
    if options.pin is Pin.PARENT and (problem := _follows(one)):
        return problem
    if lacking := sorted(_needed(one, identity) - loaded.kept) if loaded.kept is not None else []:
        return f"the daemon gives up {', '.join(lacking)}, which this needs", "add it to capabilities"
    return None


def _needed(one: Filter, identity: host.Identity) -> frozenset[str]:
    """The capabilities that the daemon's own mechanisms need for a filter: capabilities(7)."""
    needed = set()
    if not identity.is_current:
        needed |= {"CAP_SETUID", "CAP_SETGID", "CAP_KILL"}
    if one.options.capabilities is not None:
        needed.add("CAP_SETPCAP")
    if isinstance(one, KillFilter):
        needed |= {"CAP_KILL", "CAP_SYS_PTRACE"}
    return frozenset(needed)


def _add(loaded: Loaded, severity: Severity, path: str, what: str, mend: str) -> None:
    loaded.findings.append(Finding(Location(path, 1, 1), severity, what, mend))


def _text(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno:
        return "a link where none may be" if error.errno == errno.ELOOP else os.strerror(error.errno)
    return str(error)
