"""Put a shim before a command whose process must differ from the daemon's: the native one, or tools.

Promises: the shim is executed as root and becomes the command in the same process; no code and no memory of
the daemon is ever under another user. Both ways leave the same state, and see no variable of a client's.
"""

import functools
import os
import resource
import struct
from typing import Final, NamedTuple

from rootwrap_daemon.daemon.run import tools
from rootwrap_daemon.policy import executables, host
from rootwrap_daemon.policy.bound import BoundExec

#: `make native` builds the first, a package installs the second: native/become.c.
NATIVE: Final = (os.path.join(os.path.dirname(__file__), "become"), "/usr/libexec/rootwrap-daemon/become")
#: What the native shim's exit code is where it failed; the program may use it too.
FAILED: Final = 126
#: The word whose work failed, as the audit record has it; X is the exec of the program itself.
_STEPS: Final = dict(
    one.split("=")
    for one in "S=shim,C=control group,M=place,L=limits,K=umask,B=bounding set,G=groups,H=group,U=user,"
    "A=ambient capabilities,I=inheritable capabilities,N=no_new_privs".split(",")
)
#: The letter and the errno, as the C code has them.
_SAID: Final = struct.Struct("=ii")


class Plan(NamedTuple):
    """The program to execute: `argv`, whose first word is a path, `env`, and the `umask` from the start."""

    argv: tuple[str, ...]
    env: dict[str, str]
    umask: int | None = None


@functools.cache
def native() -> str | None:
    """The native shim, if it was built and only root can change it; looked for once."""
    owners = host.base_owners()
    for path in NATIVE:
        try:
            found = executables.find_executable(path, (), owners).path
        except (host.UntrustedPath, OSError):
            continue
        if os.access(found, os.X_OK):
            return found
    return None


def is_needed(bound: BoundExec) -> bool:
    """True if the command cannot be executed at once; a `umask` alone can be given at its start."""
    return bool(
        tools.inherits
        or not bound.identity.is_current
        or bound.no_new_privs
        or bound.capabilities is not None
        or bound.ambient is not None
        or bound.limits
        or bound.nosymfollow
    )


def plan(bound: BoundExec, become: str | None, status: int, group: str = "") -> Plan:
    """The words to execute. `become`: the native shim, None for tools; `status`: where it says what failed.

    `group`: the cgroup.procs to enter first, which the native shim alone can. Raises ExecutableNotFound if a
    tool is missing, InternalError.
    """
    if become is None:
        argv, env = tools.wrapped(bound)
        return Plan(argv, env, bound.umask)
    identity, kept, ambient = bound.identity, bound.capabilities, bound.ambient
    words = [become, f"S{status}", *(f"C{one}" for one in (group,) if one)]
    words += [f"M{place}" for place in bound.nosymfollow]
    words += [f"L{getattr(resource, f'RLIMIT_{name.upper()}')}={most}" for name, most in bound.limits]
    if bound.umask is not None:
        words.append(f"K{bound.umask:o}")
    bounding = ambient if kept is None else kept
    if bounding is not None:
        words.append(f"B{_bits(bounding):x}")
    if not identity.is_current:
        words += [f"G{','.join(map(str, identity.groups))}", f"H{identity.gid}", f"U{identity.uid}"]
    words.append("I" if ambient is None else f"A{_bits(ambient):x}")
    if bound.no_new_privs:
        words.append("N")
    # A byte before each name, which the shim takes away: nothing that runs in it can mean such a variable.
    return Plan((*words, "--", *bound.argv), {f"+{name}": value for name, value in bound.env.items()})


def failure(said: bytes) -> tuple[str, OSError] | None:
    """Return the step at which the native shim failed, "" for the exec, and the reason that it wrote."""
    if len(said) != _SAID.size:
        return None
    step, number = _SAID.unpack(said)
    return _STEPS.get(chr(step), ""), OSError(number, os.strerror(number))


def _bits(capabilities: frozenset[int]) -> int:
    return sum(1 << number for number in capabilities)
