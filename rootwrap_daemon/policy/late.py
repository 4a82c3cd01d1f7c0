"""Tell whether somebody is one who may ask by a name that is looked up when he comes."""

from collections.abc import Iterable

from rootwrap_daemon.policy import host


def unmapped() -> Iterable[tuple[str, int, int]]:
    """Yield options, each with its place and the number of whoever this user namespace does not map."""
    if host.in_user_namespace():
        yield "allowed_users", 0, host.overflow_uid()
        yield "allowed_groups", 1, host.overflow_gid()


def find(
    names: frozenset[tuple[str, str]], trusted: frozenset[int], uid: int, gids: frozenset[int]
) -> tuple[str, str] | None:
    """Return which of the late names admits somebody now, None if none does. It may wait for a directory."""
    if uid in trusted - {0} or any(overflow in ((uid,), gids)[at] for _, at, overflow in unmapped()):
        return None
    for option, name in sorted(names):
        try:
            if (
                host.user_number(name) == uid
                if option == "allowed_users"
                else host.group_number(name) in gids
            ):
                return option, name
        except (KeyError, OSError):
            continue
    return None
