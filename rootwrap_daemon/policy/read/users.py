"""Resolve the users and groups that a configuration names.

Promises: whoever may ask owns nothing that is asked for; no number stands for users that this system cannot
tell apart (user_namespaces(7)), or for whoever gets it next.
"""

import grp
import logging
import os
import pwd
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from rootwrap_daemon.errors import ConfigurationError
from rootwrap_daemon.filters.read.fault import Fault
from rootwrap_daemon.policy import host
from rootwrap_daemon.policy.late import unmapped
from rootwrap_daemon.settings import Settings

LOG = logging.getLogger(__name__)

#: What systemd gives to a service with DynamicUser= while it runs, and then to another (systemd.exec(5)).
DYNAMIC: Final = range(61184, 65520)


@dataclass(frozen=True, slots=True)
class Allowed:
    """The users who may send requests. `late`: options with names that are looked up at a later connection.

    Those are names that are not known yet, and those whose number is theirs for a while only.
    """

    uids: frozenset[int]
    gids: frozenset[int]
    late: frozenset[tuple[str, str]]


def number(option: str, name: str, look_up: Callable[[str], int]) -> int:
    """The number of a name in this option. Raises ConfigurationError."""
    try:
        return look_up(name)
    except KeyError:
        raise ConfigurationError(f"{option}: there is no {name!r} here: name one that is") from None


def asker(word: str) -> tuple[bool, int]:
    """Resolve a word of a `users` option: True for a group, and its number. Raises Fault."""
    is_group = word.startswith("%")
    name, kind = word.removeprefix("%"), "group" if is_group else "user"
    try:
        found = host.group_number(name) if is_group else host.user_number(name)
    except KeyError:
        raise Fault("account", f"users: no {kind} {name!r} here", "name one that is there") from None
    check_mapped("users", name, found, is_group=is_group)
    if found in DYNAMIC and not name.isdigit():
        # Another service gets it next, and would get this one's filters.
        what = f"users: the number of {kind} {name!r} is its own only while its service runs (DynamicUser=)"
        raise Fault("account", what, "give it an instance of its own, or a user that stays")
    return is_group, found


def check_mapped(option: str, name: str, number: int, *, is_group: bool) -> None:
    """Raise Fault for what stands for every user, or group, that this user namespace does not map."""
    if host.in_user_namespace() and number == (host.overflow_gid() if is_group else host.overflow_uid()):
        what = f"{option}: {name} is whoever this user namespace does not map"
        raise Fault("account", what, "name one that it maps")


def check_becomes(identity: host.Identity) -> None:
    """Raise Fault for a user whom no process of this user namespace can become (user_namespaces(7))."""
    if identity.is_current:
        return
    for kind, numbers in (("uid", (identity.uid,)), ("gid", (identity.gid, *identity.groups))):
        with open(f"/proc/self/{kind}_map", encoding="ascii") as file:
            ranges = [range(int(first), int(first) + int(count)) for first, _, count in map(str.split, file)]
        if left := [number for number in numbers if not any(number in one for one in ranges)]:
            what = (
                f"this user namespace does not map {kind} {left[0]}, which a command of {identity.name} has"
            )
            raise Fault("account", what, "map it, or name another user or group")
    with open("/proc/self/setgroups", encoding="ascii") as file:
        if file.read().strip() == "deny":
            what = f"a command of {identity.name} needs its groups, which this user namespace forbids to set"
            raise Fault("account", what, "make the namespace with newgidmap(1), or run the command as root")


def owners(settings: Settings) -> frozenset[int]:
    """Users that may own programs, filters and their directories. Raises ConfigurationError."""
    found = frozenset(number("trusted_owners", name, host.user_number) for name in settings.trusted_owners)
    if (overflow := host.overflow_uid()) in found:
        if not host.in_user_namespace():
            raise ConfigurationError(
                f"trusted_owners: {overflow} is nobody in particular: only a user namespace can trust it"
            )
        LOG.warning(
            "trusted_owners has %d: every user that this user namespace does not map is trusted", overflow
        )
    return found


def allowed(settings: Settings, trusted: frozenset[int]) -> Allowed:
    """Users and groups that may send requests. Raises ConfigurationError."""
    late: set[tuple[str, str]] = set()
    uids = frozenset(_fixed("allowed_users", settings.allowed_users, host.user_number, late))
    gids = frozenset(_fixed("allowed_groups", settings.allowed_groups, host.group_number, late))
    if both := (trusted & uids) - {0}:
        raise ConfigurationError(
            f"user {min(both)} stands in trusted_owners and in allowed_users: "
            "whoever may ask must not own what is asked for; take it out of one"
        )
    if not uids and not gids and not late:
        raise ConfigurationError(
            "neither allowed_users nor allowed_groups names anybody: nobody could connect"
        )
    for option, numbers, overflow in unmapped():
        if overflow in (uids, gids)[numbers]:
            raise ConfigurationError(
                f"{option}: {overflow} is whoever this user namespace does not map: name one that it maps"
            )
    return Allowed(uids, gids, frozenset(late))


def _fixed(
    option: str, names: Iterable[str], look_up: Callable[[str], int], late: set[tuple[str, str]]
) -> Iterable[int]:
    """Yield the numbers of names that keep them; the others are `late`."""
    for name in names:
        try:
            found = look_up(name)
        except KeyError:
            if not name[:1].isalpha() and not name.startswith("_"):
                raise ConfigurationError(f"{option}: there is no {name!r} here: name one that is") from None
            LOG.warning("%s: there is no %r here yet: it is looked for when somebody connects", option, name)
            late.add((option, name))
            continue
        if found in DYNAMIC and not name.isdigit():
            late.add((option, name))
        else:
            yield found


def identity(name: str, group: str | None = None) -> host.Identity:
    """The user of that name, with another first group if one is named.

    Raises KeyError that says which is not there.
    """
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        raise KeyError(f"no user {name!r} here") from None
    try:
        gid = entry.pw_gid if group is None else grp.getgrnam(group).gr_gid
    except KeyError:
        raise KeyError(f"no group {group!r} here") from None
    groups = tuple(os.getgrouplist(entry.pw_name, gid))
    return host.Identity(entry.pw_name, entry.pw_uid, gid, groups, entry.pw_dir or "/")
