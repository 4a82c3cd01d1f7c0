"""Directories of filter files -> filters and findings; only what trusted owners hold is read.

Promises: files end in .filters and are read in the order of their names; a file or filter that is left out
has a finding.
"""

import errno
import os
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final

from rootwrap_daemon.filters.argv import ArgvFilter
from rootwrap_daemon.filters.finding import Finding, Location, Severity
from rootwrap_daemon.filters.kinds import AnyFilter, KillFilter
from rootwrap_daemon.filters.read import filter_file
from rootwrap_daemon.filters.read.fault import Fault
from rootwrap_daemon.filters.read.kinds import uses
from rootwrap_daemon.filters.values import CAPABILITIES, Options
from rootwrap_daemon.policy import bind, host, places
from rootwrap_daemon.policy.read import declared, owned, users
from rootwrap_daemon.settings import MAX_FILE


@dataclass(slots=True)
class Loaded:
    """The contents of the directories."""

    filters: list[AnyFilter] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    #: Folded names of sections that are no filter's in their file.
    unmatched: set[str] = field(default_factory=set)
    kept: frozenset[str] | None = None
    has: frozenset[str] | None = None
    #: The capabilities in the bounding set of the process that will run them.
    bounding: frozenset[str] = frozenset(CAPABILITIES)
    #: Can the commands of other users be run?
    as_root: bool = True
    #: Why no command may have a path in which others can change something, None if one may.
    no_places: str | None = None
    #: Who runs the filters' commands, by names of user and group.
    identities: dict[tuple[str, str | None], host.Identity] = field(default_factory=dict)
    #: Whom the words of `users` options mean: is it a group, and its number.
    users: dict[str, tuple[bool, int]] = field(default_factory=dict)


def load(
    directories: Collection[str],
    owners: frozenset[int],
    kept: frozenset[str] | None,
    *,
    as_root: bool | None = None,
    has: frozenset[str] | None = None,
) -> Loaded:
    """Read every filter file. Never raises for what is in them or how they lie: that is a finding.

    `kept`: the capabilities that the daemon keeps, None for all that it has. `as_root`: judge filters as root
    would; by default as this user. `has`: the capabilities of the process that
    will run them, None if there is none.
    """
    loaded = Loaded(kept=kept, has=has, as_root=os.geteuid() == 0 if as_root is None else as_root)
    loaded.no_places = _hard_links_problem() or _served_problem()
    if (as_root is None and not _can_mount()) or not (kept is None or "CAP_SYS_ADMIN" in kept):
        loaded.no_places = "the daemon has no CAP_SYS_ADMIN"
    if kept is not None:
        loaded.bounding = kept
    elif has is not None:
        numbers = _bounding_set()
        loaded.bounding = frozenset(name for number, name in enumerate(CAPABILITIES) if number in numbers)
    missing = []
    for directory in directories:
        try:
            found = host.resolve_owned(directory, owners)
            names = sorted(os.listdir(found.path))
        except FileNotFoundError:
            missing.append(directory)
            continue
        except (host.UntrustedPath, OSError) as error:
            fault = Fault(
                "file", _text(error), "give it to root or one of trusted_owners, mode 0755, parents too"
            )
            _add(loaded, Severity.ERROR, directory, fault)
            continue
        for name in names:
            path = f"{found.path}/{name}"
            if name.endswith(".filters") and not name.startswith("."):
                _load_file(loaded, path, owners)
            else:
                # Editors and packagers leave such: x~, x.rpmsave, .x.swp, x.filters.bak.
                fault = Fault(
                    "misnamed", "not read, by its name", "end its name in .filters, or move it away"
                )
                _add(loaded, Severity.WARNING, path, fault)
    # Most rootwrap.conf files name one beside another that is there. Where none is, a typing error would take
    # all rules away.
    severity = Severity.ERROR if len(missing) == len(directories) else Severity.WARNING
    for directory in missing:
        fault = Fault("file", "no such directory", "make it, or take it out of filters_path")
        _add(loaded, severity, directory, fault)
    # A section in another file than its filter: there is an error, and the filter lacks what it restricts.
    loaded.filters = [one for one in loaded.filters if one.name.lower() not in loaded.unmatched]
    return loaded


def _load_file(loaded: Loaded, path: str, owners: frozenset[int]) -> None:
    try:
        descriptor = owned.open_owned(path, owners)
    except (host.UntrustedPath, OSError) as error:
        fault = Fault("file", _text(error), "make it a file of root, mode 0644")
        _add(loaded, Severity.ERROR, path, fault)
        return
    with open(descriptor, "rb") as file:
        data = file.read(MAX_FILE + 1)
    if len(data) > MAX_FILE:
        _add(loaded, Severity.ERROR, path, Fault("file", f"longer than {MAX_FILE} bytes", "split it"))
        return
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        before = data[: error.start]
        where = Location(path, before.count(b"\n") + 1, len(before) - before.rfind(b"\n"))
        _add(loaded, Severity.ERROR, path, Fault("character", "not UTF-8", "save the file as UTF-8", where))
        return
    read = filter_file.read(text, path)
    loaded.findings += read.findings
    loaded.unmatched |= read.unmatched
    for one in read.filters:
        try:
            found = _check(loaded, one, owners)
        except Fault as fault:
            _add(loaded, Severity.ERROR, path, fault.at(one.location), one.name.lower())
        else:
            loaded.filters.append(one)
            for doubt in found:
                _add(loaded, Severity.WARNING, path, doubt.at(one.location))


def _check(loaded: Loaded, one: AnyFilter, owners: frozenset[int]) -> list[Fault]:
    """Return what a filter may not mean on this host. Raises Fault, without a location."""
    options = one.options
    for word in options.users:
        loaded.users.setdefault(word, users.asker(word))
    if options.target_user:
        try:
            meant = host.user_number(options.target_user)
        except KeyError:
            what = f"target_user: no user {options.target_user!r} here"
            raise Fault("account", what, "name one that is there") from None
        users.check_mapped("target_user", options.target_user, meant, is_group=False)
    found = []
    for name in one.run_as:
        found += [fault for fault in _check_as(loaded, one, name, owners) if fault not in found]
    return found


def _check_as(loaded: Loaded, one: AnyFilter, name: str, owners: frozenset[int]) -> list[Fault]:
    """As `_check`, of what it means where its command runs as this user."""
    options = one.options
    user = (name, options.group)
    try:
        identity = loaded.identities.setdefault(user, users.identity(*user))
    except KeyError as error:
        raise Fault("account", str(error.args[0]), "name one that is there") from None
    if isinstance(one, KillFilter):
        users.check_mapped("run_as", name, identity.uid, is_group=False)
    if not identity.is_current and not loaded.as_root:
        raise Fault("unusable", f"only root can run commands as {name}", "start the daemon as root")
    users.check_becomes(identity)
    _check_capabilities(options, identity)
    trusted = bind.trusted_by(identity, options, owners)
    found = declared.check(one, trusted)
    found += _check_home(identity, trusted)
    if loaded.no_places and declared.has_place(one, trusted):
        what = f"others can change paths in its words, and {loaded.no_places}"
        raise Fault("unusable", what, "give the directories to root, or the daemon what it needs")
    needed = _needed(one, identity, loaded.bounding)
    if lacking := sorted(needed - loaded.kept) if loaded.kept is not None else []:
        what = f"the daemon gives up {', '.join(lacking)}, which this needs"
        raise Fault("unusable", what, "add it to capabilities")
    if loaded.has is not None and (missing := needed - loaded.has):
        what = f"the daemon was started without {', '.join(sorted(missing))}"
        if missing - _AFTER_START:
            raise Fault("unusable", f"{what}, which this needs", "start it with these capabilities")
        # A warning: as root's own affair (a signal to a process of root's) it may work without.
        what = f"{what}: this may be denied for that reason alone"
        fault = Fault("unusable", what, "start it with these capabilities")
        _add(loaded, Severity.WARNING, one.location.file, fault.at(one.location))
    return found


def _check_home(identity: host.Identity, trusted: frozenset[int]) -> list[Fault]:
    """A fault if a command has more rights than its user, whose home others fill."""
    if identity.uid == 0 or identity.uid in trusted:
        return []
    try:
        place = places.walk(identity.home, trusted, host.Seen()).place
    except (host.UntrustedPath, host.Unsure):
        place = identity.home
    if place is None:
        return []
    what = f"others can change {identity.home}, and the command has more rights than {identity.name}"
    return [Fault("home", what, "run it as a user of its own, whose home is root's or is not there")]


def _check_capabilities(options: Options, identity: host.Identity) -> None:
    if options.ambient is None:
        if options.capabilities is not None and identity.uid != 0:
            what = "capabilities of another user than root"
            raise Fault("unusable", what, "such a command has none but those of `ambient`")
    elif identity.uid == 0:
        raise Fault("unusable", "ambient capabilities of root", "say `capabilities`")
    elif options.capabilities is not None and (more := sorted(options.ambient - options.capabilities)):
        raise Fault("unusable", f"ambient, and not in capabilities: {', '.join(more)}", "add it there")


#: What is needed to look at processes and to end them. Without another capability a command would have more
#: rights than its filter gives: setpriv(1) says nothing where it cannot make the bounding set smaller.
_AFTER_START: Final = frozenset(("CAP_KILL", "CAP_SYS_PTRACE"))


def _needed(one: AnyFilter, identity: host.Identity, bounding: frozenset[str]) -> frozenset[str]:
    """The capabilities that the daemon's own mechanisms need for a filter: capabilities(7)."""
    needed = set(one.options.ambient or ())
    if not identity.is_current:
        needed |= {"CAP_SETUID", "CAP_SETGID", "CAP_KILL"}
    left = one.options.ambient if one.options.capabilities is None else one.options.capabilities
    if left is not None and bounding - left:
        needed.add("CAP_SETPCAP")
    if isinstance(one, KillFilter) or (isinstance(one, ArgvFilter) and uses(one, "target_user")):
        needed |= {"CAP_KILL", "CAP_SYS_PTRACE"}
    return frozenset(needed)


def _add(loaded: Loaded, severity: Severity, path: str, fault: Fault, *names: str) -> None:
    where = fault.location or Location(path, 1, 1)
    finding = Finding(where, severity, fault.code, fault.what, fault.remedy, frozenset(names))
    loaded.findings.append(finding)


def _text(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno:
        return "a link where none may be" if error.errno == errno.ELOOP else os.strerror(error.errno)
    return str(error)


#: Its number in capabilities(7).
_CAP_SYS_ADMIN: Final = 21


def _hard_links_problem() -> str | None:
    """Why somebody may have given a second name to a file that he may not write, None if nobody can:
    proc(5)."""
    try:
        with open("/proc/sys/fs/protected_hardlinks", encoding="ascii") as file:
            return "fs.protected_hardlinks is 0" if file.read().strip() == "0" else None
    except OSError as error:
        return f"fs.protected_hardlinks cannot be read: {error.strerror}"


def _served_problem() -> str | None:
    """Why the status of a file may be what a user's own program says, None if it is the kernel's: fuse(8).

    Over a directory of his an agent could mount files of root's, with links that he changes at will.
    """
    try:
        with open("/etc/fuse.conf", "rb") as file:
            # As fusermount(1) reads it.
            lines = [line.partition(b"#")[0].strip() for line in file]
    except FileNotFoundError:
        return None
    except OSError as error:
        return f"/etc/fuse.conf cannot be read: {error.strerror}"
    return "user_allow_other is set in /etc/fuse.conf" if b"user_allow_other" in lines else None


def _can_mount() -> bool:
    """True if this process has CAP_SYS_ADMIN, which a mount namespace needs: unshare(2). Raises OSError."""
    with open("/proc/thread-self/status", "rb") as file:
        effective = next(int(line.split()[1], 16) for line in file if line.startswith(b"CapEff:"))
    return bool(effective >> _CAP_SYS_ADMIN & 1)


def _bounding_set() -> frozenset[int]:
    """The numbers of the capabilities that this process and its children can ever have. Raises OSError."""
    with open("/proc/self/status", "rb") as file:
        bits = next(int(line.split()[1], 16) for line in file if line.startswith(b"CapBnd:"))
    return frozenset(number for number in range(bits.bit_length()) if bits >> number & 1)
