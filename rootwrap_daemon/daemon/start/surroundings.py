"""Take nothing over from who starts the daemon, and give up capabilities.

Promises: after `settle` and `keep_capabilities`, what a command inherits is what is stated here.
"""

import contextlib
import ctypes
import fcntl
import logging
import os
import resource
import signal
import sys
import termios
from collections.abc import Collection
from typing import Final

from rootwrap_daemon.errors import ConfigurationError, SelfCheckError
from rootwrap_daemon.policy.read import users

LOG = logging.getLogger(__name__)

#: Limits that end a command in the middle of its work.
_HALFWAY: Final = frozenset(("RLIMIT_AS", "RLIMIT_CPU", "RLIMIT_DATA", "RLIMIT_FSIZE", "RLIMIT_STACK"))
_PR_CAPBSET_READ: Final = 23
_PR_CAPBSET_DROP: Final = 24
_PR_GET_SECUREBITS: Final = 27
_SECBIT_NOROOT: Final = 1
_PR_CAP_AMBIENT: Final = 47
_PR_CAP_AMBIENT_RAISE: Final = 2
_PR_SET_TIMERSLACK: Final = 29
_PR_MCE_KILL: Final = 33
_PR_SET_THP_DISABLE: Final = 41
_PR_GET_MDWE: Final = 66
_PR_SET_MEMORY_MERGE: Final = 67
#: What a core file has of memory, as the first process begins with: core(5).
_COREDUMP_FILTER: Final = "0x33"
#: Nanoseconds: what the first process begins with, and hands on (prctl(2)).
_TIMERSLACK: Final = 50_000
_KEYCTL_JOIN_SESSION_KEYRING: Final = 1  # linux/keyctl.h
#: Numbers of asm/unistd.h; aarch64, riscv64, loongarch64 have the generic ones.
_GENERIC: Final = {"keyctl": 219, "ioprio_set": 30, "set_mempolicy": 237}
_SYSTEM_CALLS: Final = {
    "x86_64": {"keyctl": 250, "ioprio_set": 251, "set_mempolicy": 238},
    "ppc64le": {"keyctl": 271, "ioprio_set": 273, "set_mempolicy": 261},
    "s390x": {"keyctl": 280, "ioprio_set": 282, "set_mempolicy": 270},
}
_libc = ctypes.CDLL(None, use_errno=True)


def fill_standard_descriptors() -> None:
    """Let no later descriptor be 0, 1 or 2: whatever prints would write into it."""
    while (descriptor := os.open("/dev/null", os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)


def settle(nofile: int, *, by_another: bool) -> int:
    """Leave nothing of what the starter had: environment, directory, umask, signals, groups.

    `nofile`: the soft limit of open files wanted, for this process and its commands. Returns the one got.
    `by_another`: the starter has no rights here; then its limits and its sense of time are left, too.
    Raises SelfCheckError.
    """
    if by_another:
        _lift_limits()
        _keep_time()
        _keep_place()
        _leave_terminal()
    os.environ.clear()
    os.chdir("/")
    os.umask(0o022)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for number in signal.valid_signals() - {signal.SIGPIPE, signal.SIGXFSZ}:
        # Python ignores these two for itself and restores them for its children; all others a child inherits.
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    _own_groups()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    soft = nofile if hard == resource.RLIM_INFINITY else min(nofile, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return soft


def _lift_limits() -> None:
    """Have the limits of the first process, instead of those of a user without rights who started this one.

    A file that they let be 512 bytes long at most is one that a command of root's writes half. No core files
    (core(5)): those of root would lie in a directory of root's. Raises SelfCheckError.
    """
    for name in sorted(name for name in dir(resource) if name.startswith("RLIMIT_")):
        number: int = getattr(resource, name)
        try:
            soft, hard = resource.prlimit(1, number)
            resource.setrlimit(number, (0 if name == "RLIMIT_CORE" else soft, hard))
        except (OSError, ValueError) as error:
            if name not in _HALFWAY:
                # A container's own, which its root may not raise: what needs more says so.
                continue
            raise SelfCheckError(
                f"{name} was set by the user who started this daemon, and cannot be lifted: {error}"
            ) from error


def _keep_time() -> None:
    """Let timers go off in time, and the processor be had, as for a process that nobody has touched.

    A slack of a minute makes a minute of each poll(2), and a limit in time useless.
    """
    _libc.prctl(_PR_SET_TIMERSLACK, ctypes.c_ulong(_TIMERSLACK), 0, 0, 0)
    # 32 bits, another release, timeouts in whole seconds: personality(2).
    _libc.personality(ctypes.c_ulong(0))
    for timer in (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF):
        # One that is set goes through exec, and would end this process with its commands running on.
        signal.setitimer(timer, 0)
    # Root of a container may not do all of it; then it may not have been changed much.
    with contextlib.suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, 0)
    with contextlib.suppress(OSError):
        os.sched_setaffinity(0, os.sched_getaffinity(1))
    # None of its own: it follows the nice value again (ioprio_set(2)).
    _system_call("ioprio_set", 1, 0, 0)


def _keep_place() -> None:
    """Have a session keyring of root's, memory as the first process has it, and the usual weight.

    With the starter's keyring a command of root's would look for keys in it (mount.cifs, cryptsetup), and add
    its own there: session-keyring(7). Pages that are merged with those of others tell what is in them. Raises
    SelfCheckError for what cannot be taken back.
    """
    _system_call("keyctl", _KEYCTL_JOIN_SESSION_KEYRING, 0)
    _system_call("set_mempolicy", 0, 0, 0)
    # The last: whether it is killed early for memory that fails is the system's choice again (prctl(2)).
    for number in (_PR_SET_MEMORY_MERGE, _PR_SET_THP_DISABLE, _PR_MCE_KILL):
        _libc.prctl(number, 0, 0, 0, 0)
    if _libc.prctl(_PR_GET_MDWE, 0, 0, 0, 0) > 0:
        raise SelfCheckError(
            "the user who started this daemon has forbidden it, and all that it starts, to make memory "
            "executable (PR_SET_MDWE), for good: start it without"
        )
    for name, text in (("oom_score_adj", "0"), ("coredump_filter", _COREDUMP_FILTER)):
        with contextlib.suppress(OSError), open(f"/proc/self/{name}", "w", encoding="ascii") as file:
            file.write(text)


def _system_call(name: str, *arguments: int) -> None:
    """Make a call that the C library has no function for; where it fails there is nothing to leave behind."""
    numbers = _SYSTEM_CALLS.get(os.uname().machine, _GENERIC)
    _libc.syscall(ctypes.c_long(numbers[name]), *map(ctypes.c_ulong, arguments))


def _leave_terminal() -> None:
    """Have no controlling terminal: what is typed there are signals that its user may not send otherwise."""
    with contextlib.suppress(OSError):
        descriptor = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
        before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
        try:
            # Whoever leads the session gets a SIGHUP for it (tty_ioctl(4)).
            fcntl.ioctl(descriptor, termios.TIOCNOTTY)
        finally:
            signal.signal(signal.SIGHUP, before)
            os.close(descriptor)


def _own_groups() -> None:
    if os.geteuid() != 0:
        return
    try:
        groups = list(users.identity("root").groups)
    except KeyError:
        groups = [0]
    try:
        os.setgroups(groups)
    except PermissionError:
        # Without CAP_SETGID, as in a container; or in a user namespace that a plain user made, which forbids
        # the call for good (user_namespaces(7)).
        if more := sorted(set(os.getgroups()) - set(groups)):
            LOG.warning("groups of the starter that cannot be left here: %s", " ".join(map(str, more)))


def _bound_capabilities(kept: Collection[int]) -> None:
    """Drop all others from the bounding set: what a uid-0 child gets at exec.

    Raises OSError.
    """
    number = 0
    while (state := _libc.prctl(_PR_CAPBSET_READ, number, 0, 0, 0)) >= 0:
        if state and number not in kept and _libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), f"capability {number} cannot be dropped without CAP_SETPCAP")
        number += 1


def keep_capabilities(names: Collection[str]) -> None:
    """Give up every capability but these, in this process and in what it executes and starts.

    Must run before the first thread: capabilities belong to threads. Raises ConfigurationError,
    SelfCheckError.
    """
    # Here: it compiles declarations of C, which costs a fifth of a start that needs none of this.
    from oslo_privsep import capabilities

    if unknown := [name for name in names if name not in capabilities.CAPS_BYNAME]:
        raise ConfigurationError(f"capabilities: there is no {unknown[0]!r}: write e.g. CAP_NET_ADMIN")
    kept = [capabilities.CAPS_BYNAME[name] for name in names]
    # Root gets at execve(2) what its bounding set says; anybody else what is ambient (capabilities(7)).
    as_root = os.geteuid() == 0 and not _libc.prctl(_PR_GET_SECUREBITS, 0, 0, 0, 0) & _SECBIT_NOROOT
    try:
        _bound_capabilities(kept)
        capabilities.drop_all_caps_except(kept, kept, [] if as_root else kept)
        for one in [] if as_root else kept:
            if _libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, one, 0, 0) != 0:
                raise OSError(ctypes.get_errno(), f"{capabilities.CAPS_BYVALUE[one]} cannot be kept")
    except OSError as error:
        raise SelfCheckError(f"capabilities: {error.strerror}") from error
    effective, permitted, _ = capabilities.get_caps()
    if not set(effective) == set(permitted) == set(kept):
        missing = [capabilities.CAPS_BYVALUE[one] for one in kept if one not in effective]
        raise SelfCheckError(f"capabilities: not to be had here: {', '.join(missing) or 'only fewer'}")


def can_be_made(directory: str) -> None:
    """Raise OSError if no file can be made in this directory: only a try can tell."""
    probe = os.path.join(directory, f".rootwrap-daemon-{os.getpid()}")
    os.close(os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    os.unlink(probe)


def capabilities() -> frozenset[int]:
    """The numbers of the capabilities that this process has: capabilities(7)."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:
        for line in file:
            if line.startswith("CapEff:"):
                bits = int(line.split()[1], 16)
                return frozenset(number for number in range(bits.bit_length()) if bits >> number & 1)
    return frozenset()


def check_interpreter() -> None:
    """Refuse an interpreter that would not take bytes for what they are. Raises SelfCheckError."""
    if sys.getfilesystemencoding() != "utf-8" or sys.getfilesystemencodeerrors() != "surrogateescape":
        raise SelfCheckError("file names are not UTF-8 here: start with LC_ALL=C.UTF-8 or python3 -X utf8")
