"""Hold what a match was bound to: what to execute, signal or read, and the descriptors that it needs.

Promises: a value owns every descriptor it holds until it is closed; it is the only input of what runs.
"""

import os
from dataclasses import dataclass
from typing import Self

from rootwrap_daemon.errors import Denied, Error, InternalError
from rootwrap_daemon.policy import host


@dataclass(frozen=True, slots=True)
class _Bound:
    """`descriptors` are open while this is; the context manager closes them."""

    descriptors: tuple[int, ...]

    def close(self) -> None:
        for descriptor in self.descriptors:
            os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass(frozen=True, slots=True)
class BoundExec(_Bound):
    """Execute `path` with `argv` (its first word is the path) and exactly `env`, as `identity`, in `cwd`.

    `umask`: None for the daemon's. `capabilities`: numbers that are left of root's, None for all. `ambient`:
    numbers that a user other than root has, None for none. `limits`: names of prlimit(1), and what is both
    soft and hard limit. `nosymfollow`: directories below which no symbolic link is followed, no file
    executed and no device opened, in a mount namespace of its own.
    """

    path: str
    argv: tuple[str, ...]
    env: dict[str, str]
    identity: host.Identity
    cwd: str = "/"
    umask: int | None = None
    capabilities: frozenset[int] | None = None
    no_new_privs: bool = False
    ambient: frozenset[int] | None = None
    limits: tuple[tuple[str, int], ...] = ()
    nosymfollow: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BoundSignal(_Bound):
    """Send `signal` through `pidfd`, which was `pid` when it was judged."""

    pidfd: int
    pid: int
    signal: int


@dataclass(frozen=True, slots=True)
class BoundRead(_Bound):
    """Read the regular file open at `descriptor`, non-blocking."""

    descriptor: int


Bound = BoundExec | BoundSignal | BoundRead


class NotBound(Exception):
    """The words match, the things do not.

    `error`: what the client is told; the text is for the audit record.
    """

    def __init__(self, error: type[Error], detail: str) -> None:
        super().__init__(detail)
        self.error = error


def not_bound(error: Exception, text: str, kind: type[Error] = Denied) -> NotBound:
    """Turn an error of a look at the host into an answer: `kind` only if it tells something of the words."""
    return NotBound(InternalError if host.is_unsure(error) else kind, text)
