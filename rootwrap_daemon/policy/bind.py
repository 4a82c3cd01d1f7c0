"""Bind a Match to this host: find its program, paths and processes, as BoundExec, BoundSignal or BoundRead.

Promises: what was looked at is what will be used; each value owns every descriptor it holds until it is
closed. A question that the host did not answer is InternalError, never a refusal.
"""

import errno
import os
import stat
from typing import Final, Protocol

from rootwrap_daemon.errors import Denied, ExecutableNotFound, ProcessGone, TooLarge
from rootwrap_daemon.filters.plan import ExecPlan, ProcessOf, Program, ReadPlan, SignalPlan
from rootwrap_daemon.filters.values import CAPABILITIES, Match, Options
from rootwrap_daemon.policy import behaviour, executables, host, places, processes, wrappers
from rootwrap_daemon.policy.bound import Bound, BoundExec, BoundRead, BoundSignal, NotBound, not_bound
from rootwrap_daemon.policy.path_words import Around, paths

#: Processes that one command may name: a descriptor of each is held while it runs, and `fit` has room for it.
MAX_PROCESSES: Final = 3
#: The home of users that have none, as Debian names it.
_NO_HOME: Final = "/nonexistent"


class Surroundings(Protocol):
    """The part of a policy that binding needs."""

    @property
    def exec_dirs(self) -> tuple[str, ...]: ...
    @property
    def owners(self) -> frozenset[int]: ...
    @property
    def identities(self) -> dict[tuple[str, str | None], host.Identity]: ...
    @property
    def no_places(self) -> str | None: ...


def bind(match: Match, policy: Surroundings, *, seen: host.Seen | None = None) -> Bound:
    """Look at the host once. Raises NotBound; then nothing is left open.

    `seen`: what earlier matches of the same request and policy have found.
    """
    plan = match.plan
    around = Around(policy.exec_dirs, policy.owners, policy.identities, policy.no_places, seen or host.Seen())
    if isinstance(plan, ExecPlan):
        return _bind_exec(plan, match.options, around)
    if isinstance(plan, SignalPlan):
        return _bind_signal(plan, match.options, around)
    return _bind_read(plan, around)


def _executable(program: Program, around: Around) -> executables.Executable:
    try:
        return executables.find_executable(program.name, around.exec_dirs, around.owners, around.seen)
    except FileNotFoundError:
        raise NotBound(ExecutableNotFound, f"no program {program.name}") from None
    except (host.UntrustedPath, OSError) as error:
        text = f"the program {program.name} is refused: {error}"
        raise not_bound(error, text, ExecutableNotFound) from error


def _bind_exec(plan: ExecPlan, options: Options, around: Around) -> BoundExec:
    identity = around.identities[plan.run_as, options.group]
    cwd = _cwd(options.cwd, around) if options.cwd else "/"
    argv = [_executable(plan.program, around).path]
    descriptors: list[int] = []
    try:
        for index, word in enumerate(plan.arguments):
            if isinstance(word, Program):
                argv.append(_executable(word, around).path)
            elif isinstance(word, ProcessOf):
                if len(descriptors) == MAX_PROCESSES:
                    raise NotBound(TooLarge, f"more than {MAX_PROCESSES} words that are processes")
                if index >= wrappers.elsewhere(plan, behaviour.changes_numbers):
                    raise NotBound(Denied, f"{word.pid} is the number of another process for this command")
                # Held until the command is over: that it is this process can be said of now, that its number
                # is not given to another before the command uses it cannot; a KillFilter can.
                program = _executable(Program(word.program), around)
                # Those that get this word, and what an unknown option of a wrapper might hide.
                given = [one for one in wrappers.of_plan(plan) if len(plan.arguments) - len(one[1]) <= index]
                entered = any(behaviour.enters(*one) for one in (*given, *wrappers.candidates(plan)))
                wanted = processes.Wanted(program, options, around.owners, True, entered)
                descriptors.append(_open_process(word.pid, wanted, around))
                argv.append(str(word.pid))
            else:
                argv.append(wrappers.text_of(word))
        # Once every program is there: that one is missing is another answer.
        if has_own_rights(identity, options):
            owners = trusted_by(identity, options, around.owners)
            around = around._replace(owners=owners, seen=host.Seen(looker=identity))
        words, nosymfollow = paths(plan, options, cwd, around)
        for index, text in words.items():
            argv[index - len(plan.arguments)] = text
    except BaseException:
        for descriptor in descriptors:
            os.close(descriptor)
        raise
    env = {
        "PATH": ":".join(around.exec_dirs),
        "LANG": "C.UTF-8",
        "HOME": _home(identity, around),
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
        _no_new_privs(identity, options),
        ambient=_numbers(options.ambient),
        limits=options.limits,
        nosymfollow=nosymfollow,
    )


def _home(identity: host.Identity, around: Around) -> str:
    """The home of a user; none where others can change what a command with more rights would load from it."""
    if identity.is_current:
        return identity.home
    try:
        # No client chooses it: what its mode says of who may look is left to the command.
        walked = places.walk(identity.home, around.owners, host.Seen(around.seen.directories))
    except (host.UntrustedPath, host.Unsure):
        return _NO_HOME
    return identity.home if walked.place is None else _NO_HOME


def _numbers(capabilities: frozenset[str] | None) -> frozenset[int] | None:
    return None if capabilities is None else frozenset(map(CAPABILITIES.index, capabilities))


def _cwd(path: str, around: Around) -> str:
    try:
        return host.resolve_owned(path, around.owners, around.seen).path
    except (host.UntrustedPath, OSError) as error:
        raise not_bound(error, f"cwd {path}: {error}", ExecutableNotFound) from error


def _no_new_privs(identity: host.Identity, options: Options) -> bool:
    # Who is not to be root is not to become it through a setuid program either: prctl(2).
    return identity.uid != 0 if options.no_new_privs is None else options.no_new_privs


def has_own_rights(identity: host.Identity, options: Options) -> bool:
    """True if a command of `identity` has no more rights than some user other than root, and some group."""
    return identity.uid != 0 and options.ambient is None and _no_new_privs(identity, options)


def trusted_by(identity: host.Identity, options: Options, owners: frozenset[int]) -> frozenset[int]:
    """Return the users whose changes to a path cannot mislead a command of `identity`: its own is one of them
    if the command has no more rights than that user has elsewhere.
    """
    own = options.group is None and has_own_rights(identity, options)
    return owners | {identity.uid} if own else owners


def _bind_signal(plan: SignalPlan, options: Options, around: Around) -> BoundSignal:
    program = _executable(plan.program, around)
    pidfd = _open_process(plan.pid, processes.Wanted(program, options, around.owners), around)
    try:
        identity = around.identities[plan.run_as, options.group]
        # kill(2) compares the real and the saved uid.
        if not identity.is_current and identity.uid not in host.process_user(plan.pid)[::2]:
            raise NotBound(Denied, f"process {plan.pid} is not {plan.run_as}'s")
        # Alive now means that the number meant this process all the while.
        if processes.has_ended(pidfd):
            raise NotBound(ProcessGone, f"process {plan.pid} ended while it was looked at")
    except BaseException as error:
        os.close(pidfd)
        if isinstance(error, ProcessLookupError):
            raise NotBound(ProcessGone, f"process {plan.pid} ended while it was looked at") from error
        if isinstance(error, OSError):
            raise not_bound(error, f"process {plan.pid}: {error}") from error
        raise
    return BoundSignal((pidfd,), pidfd, plan.pid, plan.signal)


def _open_process(pid: int, wanted: processes.Wanted, around: Around) -> int:
    """A pidfd of a process that is meant, and is none that a client may ever name."""
    try:
        return processes.open_process(pid, wanted, around.seen.ancestors())
    except (processes.Gone, ProcessLookupError) as error:
        raise NotBound(ProcessGone, str(error)) from error
    except PermissionError as error:
        raise NotBound(Denied, f"process {pid} cannot be looked at without CAP_SYS_PTRACE") from error
    except (processes.NotMeant, host.Unsure, OSError) as error:
        raise not_bound(error, f"process {pid}: {error}") from error


def _bind_read(plan: ReadPlan, around: Around) -> BoundRead:
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
        raise not_bound(error, f"the file {plan.path!a} is refused: {error}") from error
    return BoundRead((descriptor,), descriptor)
