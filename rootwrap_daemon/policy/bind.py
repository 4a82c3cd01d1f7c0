"""Match -> BoundExec | BoundSignal | BoundRead: the words of a plan tied to things of this host.

Promises: what was looked at is what will be used; each value owns every descriptor it holds until it is
closed.
"""

import contextlib
import errno
import os
import select
import stat
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Protocol, Self

from rootwrap_daemon.errors import Denied, Error, ExecutableNotFound
from rootwrap_daemon.filters.options import CAPABILITIES
from rootwrap_daemon.filters.values import (
    Beneath,
    ExecPlan,
    FixedPath,
    Match,
    Options,
    Pin,
    ProcessOf,
    Program,
    ReadPlan,
    SignalPlan,
    Word,
)
from rootwrap_daemon.policy import host, pinning

#: Descriptors that one command is given, or that are held while it runs; the daemon needs some itself.
MAX_DESCRIPTORS: Final = 64


class Surroundings(Protocol):
    """What binding needs to know of a policy."""

    @property
    def exec_dirs(self) -> tuple[str, ...]: ...
    @property
    def owners(self) -> frozenset[int]: ...
    @property
    def identities(self) -> dict[tuple[str, str | None], host.Identity]: ...


class NotBound(Exception):
    """The words match, the things do not.

    `error`: what the client is told; the text is for the audit record.
    """

    def __init__(self, error: type[Error], detail: str) -> None:
        super().__init__(detail)
        self.error = error


@dataclass(frozen=True, slots=True)
class _Bound:
    """`descriptors` are open while this is; the context manager closes them."""

    descriptors: tuple[int, ...]

    def close(self) -> None:
        for descriptor in self.descriptors:
            os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@dataclass(frozen=True, slots=True)
class BoundExec(_Bound):
    """Execute `path` with `argv` (its first word is the path) and exactly `env`, as `identity`, in `cwd`.

    `umask`: None for the daemon's. `capabilities`: numbers that are left of root's, None for all. `ambient`:
    numbers that a user other than root has, None for none. `limits`: names of prlimit(1), and what is both
    soft and hard limit. `nosymfollow`: directories below which no symbolic link is followed, in a mount
    namespace of its own.
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


@dataclass(frozen=True, slots=True)
class _Around:
    """What is the same for all that one request looks at."""

    exec_dirs: tuple[str, ...]
    owners: frozenset[int]
    identities: dict[tuple[str, str | None], host.Identity]
    seen: host.Seen


def bind(match: Match, policy: Surroundings, *, make: bool = True, seen: host.Seen | None = None) -> Bound:
    """Look at the host once. Raises NotBound; then nothing is left open, or made.

    `make`: a file that a filter wants made is made; without, what would be is bound as if it were there.
    `seen`: what earlier matches of the same request and policy have found.
    """
    plan = match.plan
    around = _Around(policy.exec_dirs, policy.owners, policy.identities, seen or host.Seen())
    if isinstance(plan, ExecPlan):
        return _bind_exec(plan, match.options, around, make)
    if isinstance(plan, SignalPlan):
        return _bind_signal(plan, match.options, around)
    return _bind_read(plan, around)


def _executable(program: Program, around: _Around) -> host.Executable:
    try:
        return host.find_executable(program.name, around.exec_dirs, around.owners, around.seen)
    except FileNotFoundError:
        raise NotBound(ExecutableNotFound, f"no program {program.name}") from None
    except (host.UntrustedPath, OSError) as error:
        raise NotBound(ExecutableNotFound, f"the program {program.name} is refused: {error}") from error


def _bind_exec(plan: ExecPlan, options: Options, around: _Around, make: bool) -> BoundExec:
    identity = around.identities[plan.run_as, options.group]
    cwd = _cwd(options.cwd, around) if options.cwd else "/"
    with contextlib.ExitStack() as opened:
        argv = [_executable(plan.program, around).path]
        descriptors: list[int] = []
        missing: list[tuple[int, Beneath]] = []

        def add(index: int, pinned: tuple[str, int | None]) -> None:
            argv[index], descriptor = pinned
            if descriptor is not None:
                opened.callback(os.close, descriptor)
                descriptors.append(descriptor)

        for word in plan.arguments:
            argv.append("")
            if isinstance(word, Beneath) and _is_to_make(word, around):
                missing.append((len(argv) - 1, word))
                argv[-1] = word.path
            else:
                add(len(argv) - 1, _bind_word(word, around))
            if len(descriptors) + len(missing) > MAX_DESCRIPTORS:
                raise NotBound(Denied, f"more than {MAX_DESCRIPTORS} words need a descriptor each")
        # Once nothing else can be refused.
        for index, word in missing if make else ():
            add(index, _bind_word(word, around, make=True))
        opened.pop_all()
    env = {
        "PATH": ":".join(around.exec_dirs),
        "LANG": "C.UTF-8",
        "HOME": identity.home,
        "USER": identity.name,
        "LOGNAME": identity.name,
        **dict(plan.env),
    }
    return BoundExec(
        tuple(descriptors),
        argv[0],
        tuple(argv),
        env,
        identity,
        cwd,
        options.umask,
        _numbers(options.capabilities),
        # Who is not to be root is not to become it through a setuid program either: prctl(2).
        identity.uid != 0 if options.no_new_privs is None else options.no_new_privs,
        ambient=_numbers(options.ambient),
        limits=options.limits,
    )


def _numbers(capabilities: frozenset[str] | None) -> frozenset[int] | None:
    return None if capabilities is None else frozenset(map(CAPABILITIES.index, capabilities))


def _cwd(path: str, around: _Around) -> str:
    try:
        return host.resolve_owned(path, around.owners, around.seen).path
    except (host.UntrustedPath, OSError) as error:
        raise NotBound(ExecutableNotFound, f"cwd {path}: {error}") from error


def _is_to_make(word: Beneath, around: _Around) -> bool:
    """True if nothing is there, in a directory where the filter wants it made."""
    if word.create is None:
        return False
    try:
        pinning.pin_beneath(word.base, word.path, around.owners, word.pin, None, around.seen).close()
    except FileNotFoundError:
        _bind_parent(word, around)
        return True
    except (host.UntrustedPath, OSError, ValueError):
        # Said where it is bound.
        pass
    return False


def _bind_parent(word: Beneath, around: _Around) -> None:
    try:
        pinning.pin_beneath(word.base, word.path, around.owners, Pin.PARENT, None, around.seen).close()
    except (host.UntrustedPath, OSError, ValueError) as error:
        raise NotBound(Denied, _refusal(word, error)) from error


def _bind_word(word: Word, around: _Around, *, make: bool = False) -> tuple[str, int | None]:
    """The word to execute with, and a descriptor that it needs."""
    if isinstance(word, str):
        return word, None
    if isinstance(word, Program):
        return _executable(word, around).path, None
    try:
        if isinstance(word, Beneath):
            create = word.create if make else None
            pinned = pinning.pin_beneath(word.base, word.path, around.owners, word.pin, create, around.seen)
            return pinned.word, pinned.descriptor
        if isinstance(word, FixedPath):
            return _fixed(word, around), None
        # Held until the command is over: that it is this process can be said of now, that its number is not
        # given to another before the command uses it cannot; a KillFilter can.
        program = _executable(Program(word.program), around)
        return str(word.pid), _open_process(word.pid, program, around)
    except (host.UntrustedPath, OSError, ValueError) as error:
        # Whatever depends on a path that the client chose is denied, with one text.
        raise NotBound(Denied, _refusal(word, error)) from error


def _refusal(word: Beneath | FixedPath | ProcessOf, error: Exception) -> str:
    """For the audit record and for `rootwrapctl`; a client does not see it."""
    why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    if isinstance(word, Beneath):
        return f"the word {word.path!a} is refused, wanted beneath {word.base}: {why}"
    if isinstance(word, FixedPath):
        return f"the word {word.path!a} is refused: {why}"
    return f"the process {word.pid} is refused, wanted one of {word.program}: {why}"


def _fixed(word: FixedPath, around: _Around) -> str:
    found = host.resolve_owned(word.path, around.owners, around.seen)
    if found.status is None or not stat.S_ISREG(found.status.st_mode):
        raise host.UntrustedPath("not a regular file")
    return found.path


def _bind_signal(plan: SignalPlan, options: Options, around: _Around) -> BoundSignal:
    program = _executable(plan.program, around)
    pidfd = _open_process(plan.pid, program, around)
    try:
        if plan.target_user and host.user_number(plan.target_user) != host.process_user(plan.pid)[0]:
            raise NotBound(Denied, f"process {plan.pid} is not {plan.target_user}'s")
        if plan.started_by_us and not host.is_descendant(plan.pid):
            raise NotBound(Denied, f"process {plan.pid} was not started here")
        identity = around.identities[plan.run_as, options.group]
        if not identity.is_current and identity.uid not in host.process_user(plan.pid):
            raise NotBound(Denied, f"process {plan.pid} is not {plan.run_as}'s")
        # Alive now means that the number meant this process all the while.
        if _has_ended(pidfd):
            raise NotBound(Denied, f"process {plan.pid} ended while it was looked at")
    except OSError as error:
        os.close(pidfd)
        raise NotBound(Denied, f"process {plan.pid}: {error}") from error
    except BaseException:
        os.close(pidfd)
        raise
    return BoundSignal((pidfd,), pidfd, plan.pid, plan.signal)


def _open_process(pid: int, program: host.Executable, around: _Around) -> int:
    """A pidfd of a process that runs this program, and is none that a client may ever name."""
    try:
        if pid in around.seen.ancestors():
            raise NotBound(Denied, f"{pid} is the daemon, an ancestor of it, or pid 1")
        # From here on the number may be reused; the descriptor stays with the one process.
        pidfd = os.pidfd_open(pid)
    except OSError as error:
        raise NotBound(Denied, f"no process {pid}: {error}") from error
    if not host.runs_program(pid, program, around.owners):
        os.close(pidfd)
        raise NotBound(Denied, f"process {pid} does not run {program.path}")
    return pidfd


def _has_ended(pidfd: int) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


def _bind_read(plan: ReadPlan, around: _Around) -> BoundRead:
    try:
        # Its own owner too: a file of somebody else in a sticky directory can be a hard link to anything.
        found = host.resolve_owned(plan.path, around.owners, around.seen)
        descriptor = os.open(
            found.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
        )
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise OSError(errno.EINVAL, "not a regular file")
    except (host.UntrustedPath, OSError) as error:
        raise NotBound(Denied, f"the file {plan.path!a} is refused: {error}") from error
    return BoundRead((descriptor,), descriptor)
