"""Resolve the users and groups that a configuration names.

Promises: whoever may ask owns nothing that is asked for; no number stands for users that this system cannot
tell apart (user_namespaces(7)).
"""

import logging
from collections.abc import Callable

from rootwrap_daemon.errors import ConfigurationError
from rootwrap_daemon.policy import host
from rootwrap_daemon.settings import Settings

LOG = logging.getLogger(__name__)


def number(option: str, name: str, look_up: Callable[[str], int]) -> int:
    """The number of a name in this option. Raises ConfigurationError."""
    try:
        return look_up(name)
    except KeyError:
        raise ConfigurationError(f"{option}: there is no {name!r} here: name one that is") from None


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


def allowed(settings: Settings, trusted: frozenset[int]) -> tuple[frozenset[int], frozenset[int]]:
    """Users and groups that may send requests. Raises ConfigurationError."""
    uids = frozenset(number("allowed_users", name, host.user_number) for name in settings.allowed_users)
    gids = frozenset(number("allowed_groups", name, host.group_number) for name in settings.allowed_groups)
    if both := (trusted & uids) - {0}:
        raise ConfigurationError(
            f"user {min(both)} stands in trusted_owners and in allowed_users: "
            "whoever may ask must not own what is asked for; take it out of one"
        )
    if not uids and not gids:
        raise ConfigurationError(
            "neither allowed_users nor allowed_groups names anybody: nobody could connect"
        )
    if host.in_user_namespace():
        for option, numbers, overflow in (
            ("allowed_users", uids, host.overflow_uid()),
            ("allowed_groups", gids, host.overflow_gid()),
        ):
            if overflow in numbers:
                raise ConfigurationError(
                    f"{option}: {overflow} is whoever this user namespace does not map: name one that it maps"
                )
    return uids, gids
