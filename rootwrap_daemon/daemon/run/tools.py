"""Build the words that stand before a command: programs that set identity, privileges, limits and mounts.

Promises: each is executed, the first as root, and becomes the next one in the same process; no code and
no memory of the daemon is ever under another user. No tool sees a variable that a filter or a client chose.
"""

import functools
from typing import Final

from rootwrap_daemon.errors import ExecutableNotFound, InternalError
from rootwrap_daemon.policy import executables, host
from rootwrap_daemon.policy.bound import BoundExec

#: Where the tools of the system are, whatever `exec_dirs` says.
_DIRECTORIES: Final = ("/usr/bin", "/bin", "/usr/sbin", "/sbin")
#: mount(8), directories, `--`, the next program. What is mounted below a directory meanwhile (fusermount(1))
#: would lack the flags: nothing more comes to what is private, and the second bind has not what came before.
#: A bind mount keeps the flags of its source; `remount` takes them from the kernel, not from fstab(5).
_MOUNT: Final = (
    'mount=$1; shift; while [ "$1" != -- ]; do'
    ' "$mount" --no-canonicalize --bind "$1" "$1" && "$mount" --no-canonicalize --make-private "$1" &&'
    ' "$mount" --no-canonicalize --bind "$1" "$1" &&'
    ' "$mount" --no-canonicalize --options-source mtab'
    ' -o remount,bind,nosymfollow,noexec,nodev,nosuid "$1" || exit 126; shift;'
    ' done; shift; exec "$@"'
)
#: Names, `--`, the next program: each variable gets back its name. Its value is never evaluated.
_RENAME: Final = (
    'while [ "$1" != -- ]; do eval "export $1=\\"\\$_rootwrap_$1\\"; unset _rootwrap_$1"; shift; done;'
    ' shift; exec "$@"'
)
_HIDDEN: Final = "_rootwrap_"
#: What a shell adds to the environment.
_OF_SHELLS: Final = ("PWD", "OLDPWD", "SHLVL", "_")
#: Variables that the daemon sets and that mean nothing to a tool; a tool that is executed as root must not be
#: told by anybody what to load, or in which language to speak.
_HARMLESS: Final = frozenset(("PATH", "HOME", "USER", "LOGNAME"))
#: True in a daemon whose children inherit capabilities (spawn.prepare): no command is executed as it is.
inherits = False


@functools.cache
def _tool(name: str) -> str:
    """Raises ExecutableNotFound."""
    try:
        return executables.find_executable(name, _DIRECTORIES, host.base_owners()).path
    except (host.UntrustedPath, OSError) as error:
        raise ExecutableNotFound(f"{name}, which this filter needs, is missing or not root's") from error


def wrapped(bound: BoundExec) -> tuple[tuple[str, ...], dict[str, str]]:
    """The argv and the environment to execute instead: those of the command if it needs no shim.

    Raises ExecutableNotFound if a tool is missing, InternalError.
    """
    words = [*_mounts(bound), *_limits(bound), *_privileges(bound)]
    if not words:
        return bound.argv, bound.env
    shown, hidden = _split(bound.env)
    # After the last change of identity, hence with the command's own rights.
    if hidden:
        if not all(name.isascii() and name.isidentifier() for name in hidden):
            raise InternalError("a variable whose name is no identifier cannot be set here")
        words += [_tool("sh"), "-c", _RENAME, "sh", *hidden, "--"]
        shown |= {f"{_HIDDEN}{name}": value for name, value in hidden.items()}
    if hidden or bound.nosymfollow:
        if "=" in bound.path:
            raise ExecutableNotFound("env(1) takes a path with a `=` for a variable: rename the program")
        words.append(_tool("env"))
        words += [word for name in _OF_SHELLS if name not in bound.env for word in ("-u", name)]
    return (*words, *bound.argv), shown


def _split(env: dict[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """The variables that every tool may see, and those that none may."""
    shown: dict[str, str] = {}
    hidden: dict[str, str] = {}
    for name, value in env.items():
        harmless = name in _HARMLESS or (name, value) == ("LANG", "C.UTF-8")
        (shown if harmless else hidden)[name] = value
    return shown, hidden


def _mounts(bound: BoundExec) -> list[str]:
    if not bound.nosymfollow:
        return []
    # What is unmounted elsewhere is unmounted here, or its device would be busy for as long as this runs.
    unshare = [_tool("unshare"), "--mount", "--propagation", "slave", "--"]
    return [*unshare, _tool("sh"), "-c", _MOUNT, "sh", _tool("mount"), *bound.nosymfollow, "--"]


def _limits(bound: BoundExec) -> list[str]:
    if not bound.limits:
        return []
    return [_tool("prlimit"), *(f"--{name}={number}" for name, number in bound.limits), "--"]


def _privileges(bound: BoundExec) -> list[str]:
    identity, kept, ambient = bound.identity, bound.capabilities, bound.ambient
    if not (
        inherits or kept is not None or ambient is not None or bound.no_new_privs or not identity.is_current
    ):
        return []
    words = [_tool("setpriv")]
    if not identity.is_current:
        groups = ",".join(map(str, identity.groups))
        words += [f"--reuid={identity.uid}", f"--regid={identity.gid}"]
        words += [f"--groups={groups}" if groups else "--clear-groups"]
    bounding = ambient if kept is None else kept
    if bounding is not None:
        words.append(f"--bounding-set={_set(bounding)}")
    words.append(f"--inh-caps={_set(ambient or ())}")
    if ambient is not None:
        words.append(f"--ambient-caps={_set(ambient)}")
    if bound.no_new_privs:
        words.append("--no-new-privs")
    return [*words, "--"]


def _set(capabilities: "frozenset[int] | tuple[()]") -> str:
    """Exactly these, by number: setpriv(1) knows the names of its own time alone."""
    return ",".join(["-all", *(f"+cap_{number}" for number in sorted(capabilities))])
