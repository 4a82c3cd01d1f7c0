"""Bind a Match to this host: find its program, paths and processes, as BoundExec, BoundSignal or BoundRead.

Promises: what was looked at is what will be used; each value owns every descriptor it holds until it is
closed. A question that the host did not answer is InternalError, never a refusal.
"""

import contextlib
import errno
import os
import stat
from dataclasses import dataclass, replace
from typing import Final, Protocol

from rootwrap_daemon.errors import Denied, Error, ExecutableNotFound, InternalError, ProcessGone, TooLarge
from rootwrap_daemon.filters.plan import (
    Beneath,
    ExecPlan,
    FixedPath,
    ProcessOf,
    Program,
    ReadPlan,
    SignalPlan,
    Word,
)
from rootwrap_daemon.filters.values import CAPABILITIES, Match, Options
from rootwrap_daemon.filters.variables import is_dangerous_variable
from rootwrap_daemon.policy import behaviour, executables, host, places, processes, wrappers
from rootwrap_daemon.policy.bound import Bound, BoundExec, BoundRead, BoundSignal

#: Descriptors that are held while one command runs; the daemon needs some itself.
MAX_DESCRIPTORS: Final = 64
#: The home of users that have none, as Debian names it.
_NO_HOME: Final = "/nonexistent"


class Surroundings(Protocol):
    """What binding needs to know of a policy."""

    @property
    def exec_dirs(self) -> tuple[str, ...]: ...
    @property
    def owners(self) -> frozenset[int]: ...
    @property
    def identities(self) -> dict[tuple[str, str | None], host.Identity]: ...
    @property
    def no_places(self) -> str | None: ...


class NotBound(Exception):
    """The words match, the things do not.

    `error`: what the client is told; the text is for the audit record.
    """

    def __init__(self, error: type[Error], detail: str) -> None:
        super().__init__(detail)
        self.error = error


@dataclass(frozen=True, slots=True)
class _Around:
    """What is the same for all that one request looks at."""

    exec_dirs: tuple[str, ...]
    owners: frozenset[int]
    identities: dict[tuple[str, str | None], host.Identity]
    no_places: str | None
    seen: host.Seen


def bind(match: Match, policy: Surroundings, *, seen: host.Seen | None = None) -> Bound:
    """Look at the host once. Raises NotBound; then nothing is left open.

    `seen`: what earlier matches of the same request and policy have found.
    """
    plan = match.plan
    around = _Around(
        policy.exec_dirs,
        policy.owners,
        policy.identities,
        policy.no_places,
        seen or host.Seen(),
    )
    if isinstance(plan, ExecPlan):
        return _bind_exec(plan, match.options, around)
    if isinstance(plan, SignalPlan):
        return _bind_signal(plan, match.options, around)
    return _bind_read(plan, around)


def _not_bound(error: Exception, text: str, kind: type[Error] = Denied) -> NotBound:
    """What a look at the host failed with, as an answer: `kind` only if it says something about the words."""
    return NotBound(InternalError if host.is_unsure(error) else kind, text)


def _executable(program: Program, around: _Around) -> executables.Executable:
    try:
        return executables.find_executable(program.name, around.exec_dirs, around.owners, around.seen)
    except FileNotFoundError:
        raise NotBound(ExecutableNotFound, f"no program {program.name}") from None
    except (host.UntrustedPath, OSError) as error:
        text = f"the program {program.name} is refused: {error}"
        raise _not_bound(error, text, ExecutableNotFound) from error


def _bind_exec(plan: ExecPlan, options: Options, around: _Around) -> BoundExec:
    identity = around.identities[plan.run_as, options.group]
    cwd = _cwd(options.cwd, around) if options.cwd else "/"
    argv = [_executable(plan.program, around).path]
    with contextlib.ExitStack() as opened:
        descriptors: list[int] = []
        for word in plan.arguments:
            if isinstance(word, Program):
                argv.append(_executable(word, around).path)
            elif isinstance(word, ProcessOf):
                if len(descriptors) == MAX_DESCRIPTORS:
                    raise NotBound(TooLarge, f"more than {MAX_DESCRIPTORS} words that are processes")
                # Held until the command is over: that it is this process can be said of now, that its number
                # is not given to another before the command uses it cannot; a KillFilter can.
                program = _executable(Program(word.program), around)
                wanted = processes.Wanted(
                    program,
                    options,
                    around.owners,
                    True,
                    any(behaviour.enters(*one) for one in wrappers.of_plan(plan)),
                )
                descriptors.append(_open_process(word.pid, wanted, around))
                opened.callback(os.close, descriptors[-1])
                argv.append(str(word.pid))
            else:
                argv.append(word if isinstance(word, str) else "")
        # Once every program is there: that one is missing is another answer.
        owners = trusted_by(identity, options, around.owners)
        if owners != around.owners:
            around = replace(around, owners=owners, seen=host.Seen())
        words, nosymfollow = _paths(plan, options, cwd, around)
        for index, text in words.items():
            argv[index - len(plan.arguments)] = text
        opened.pop_all()
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


def _home(identity: host.Identity, around: _Around) -> str:
    """The home of a user; none where others can change what a command with more rights would load from it."""
    if identity.is_current:
        return identity.home
    try:
        walked = places.walk(identity.home, around.owners, around.seen)
    except (host.UntrustedPath, host.Unsure):
        return _NO_HOME
    return identity.home if walked.place is None else _NO_HOME


def _numbers(capabilities: frozenset[str] | None) -> frozenset[int] | None:
    return None if capabilities is None else frozenset(map(CAPABILITIES.index, capabilities))


def _cwd(path: str, around: _Around) -> str:
    try:
        return host.resolve_owned(path, around.owners, around.seen).path
    except (host.UntrustedPath, OSError) as error:
        raise _not_bound(error, f"cwd {path}: {error}", ExecutableNotFound) from error


def _no_new_privs(identity: host.Identity, options: Options) -> bool:
    # Who is not to be root is not to become it through a setuid program either: prctl(2).
    return identity.uid != 0 if options.no_new_privs is None else options.no_new_privs


def trusted_by(identity: host.Identity, options: Options, owners: frozenset[int]) -> frozenset[int]:
    """Whose changes to a path cannot mislead a command that runs as `identity`: the user's own, if he has no
    more rights in it than elsewhere.
    """
    own_rights = identity.uid != 0 and options.group is None and options.ambient is None
    own_rights = own_rights and _no_new_privs(identity, options)
    return owners | {identity.uid} if own_rights else owners


def _paths(
    plan: ExecPlan, options: Options, cwd: str, around: _Around
) -> tuple[dict[int, str], tuple[str, ...]]:
    """The words that are paths, by their place among the arguments, and below which directories no link may
    count.

    A word is resolved as far as `around.owners` alone can change what it names, and says itself from there
    on.
    """
    programs = wrappers.of_plan(plan)
    chained = any(isinstance(word, Program) for word in plan.arguments)
    elsewhere = wrappers.elsewhere(plan, programs)
    judged = len(plan.arguments) - plan.free
    words: dict[int, str] = {}
    below: dict[str, str] = {}
    given = [word for word in plan.arguments if isinstance(word, str)]
    directories = places.directories_in(given)
    before = text = ""
    for index, word in enumerate(plan.arguments):
        before, text = text, wrappers.text_of(word)
        try:
            if isinstance(word, Beneath | FixedPath):
                if index >= elsewhere:
                    raise host.UntrustedPath(f"{plan.program.name} may give it another tree")
                words[index], place = _named(word, chained, around)
                found = {words[index]: place} if place is not None else {}
            elif isinstance(word, str) and index < judged and (directories or cwd != "/" or "/" in word):
                if index >= elsewhere and places.has_path(word):
                    raise host.UntrustedPath(f"{plan.program.name} may give it another tree")
                found = _places(word, cwd, directories, chained, around)
            else:
                continue
        except (host.UntrustedPath, host.Unsure, OSError, ValueError) as error:
            # Whatever depends on a path that the client chose is denied, with one text.
            raise _not_bound(error, _refusal(word, error)) from error
        if found and any(behaviour.obeys(program, before, text) for program, _ in programs):
            place = next(iter(found.values()))
            raise NotBound(Denied, f"{text!a}: a file of commands, and others can change {place}")
        below |= found
    below |= _of_variables(plan.env, cwd, around)
    if not below or any(places.last(program) in behaviour.ANYTHING for program, _ in programs):
        return words, ()
    for number, (program, its) in enumerate(programs, 1):
        # What a filter says of paths is about its own program, the last of a chain.
        opens_paths = options.opens_paths and number == len(programs)
        if problem := behaviour.problem(program, its, opens_paths=opens_paths):
            path, place = next(iter(below.items()))
            raise NotBound(Denied, f"{problem}, and others can change what is in {place}: {path!a}")
    if around.no_places:
        raise NotBound(
            Denied, f"others can change what is in {next(iter(below.values()))}, and {around.no_places}"
        )
    for path, place in below.items():
        if cwd != "/" and places.is_beneath(cwd, place):
            # The directory is entered before the place is bound over.
            raise NotBound(Denied, f"cwd {cwd} is in {place}, where others can change what {path!a} names")
        try:
            places.look_below(place, path)
        except (host.UntrustedPath, host.Unsure) as error:
            raise _not_bound(error, f"the word {path!a} is refused: {error}") from error
    return words, tuple(sorted(set(below.values())))


def _named(word: Beneath | FixedPath, chained: bool, around: _Around) -> tuple[str, str | None]:
    """The word for the command, and the place that it leads into. `chained`: by way of another program."""
    if isinstance(word, FixedPath):
        # An inner command may see another of these trees than this process.
        return (word.path if places.is_in(word.path, places.KERNEL_TREES) else _fixed(word, around)), None
    if places.is_in(word.base, ("/proc",)):
        if not places.is_in(word.base, places.WITHOUT_LINKS):
            raise host.UntrustedPath("processes decide where links below /proc lead")
        return places.as_written(word.base, word.path), None
    if chained and places.is_in(word.base, ("/sys",)):
        raise host.UntrustedPath("the inner command may see another /sys")
    return places.beneath(word.base, word.path, around.owners, around.seen)


def _of_variables(env: tuple[tuple[str, str], ...], cwd: str, around: _Around) -> dict[str, str]:
    """The paths in values that lead below a place, each with it. Raises NotBound for one that names code."""
    found: dict[str, str] = {}
    for name, value in env:
        try:
            below = _places(value, cwd, frozenset(), False, around)
        except (host.UntrustedPath, host.Unsure, OSError, ValueError) as error:
            raise _not_bound(error, f"the variable {name} is refused: {error}") from error
        if below and is_dangerous_variable(name):
            place = next(iter(below.values()))
            raise NotBound(
                Denied, f"the variable {name} leads into {place}, where others can change what it is"
            )
        found |= below
    return found


def _places(
    word: str, cwd: str, directories: frozenset[str], chained: bool, around: _Around
) -> dict[str, str]:
    """The paths in a word that lead below a place, each with it."""
    found = {}
    for path in places.paths_in(word, cwd, directories):
        if chained and places.is_in(path, places.KERNEL_TREES):
            # The inner command may see others of these trees; in them no name is somebody's to change.
            places.check_process(path)
            continue
        walked = places.walk(path, around.owners, around.seen)
        if walked.place is not None:
            found[walked.path] = walked.place
    return found


def _refusal(word: Word, error: Exception) -> str:
    """For the audit record and for `rootwrapctl`; a client does not see it."""
    why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    if isinstance(word, Beneath):
        return f"the word {word.path!a} is refused, wanted beneath {word.base}: {why}"
    return f"the word {word.path if isinstance(word, FixedPath) else word!a} is refused: {why}"


def _fixed(word: FixedPath, around: _Around) -> str:
    found = host.resolve_owned(word.path, around.owners, around.seen)
    if found.status is None or not stat.S_ISREG(found.status.st_mode):
        raise host.UntrustedPath("not a regular file")
    return found.path


def _bind_signal(plan: SignalPlan, options: Options, around: _Around) -> BoundSignal:
    program = _executable(plan.program, around)
    pidfd = _open_process(plan.pid, processes.Wanted(program, options, around.owners), around)
    try:
        identity = around.identities[plan.run_as, options.group]
        if not identity.is_current and identity.uid not in host.process_user(plan.pid):
            raise NotBound(Denied, f"process {plan.pid} is not {plan.run_as}'s")
        # Alive now means that the number meant this process all the while.
        if processes.has_ended(pidfd):
            raise NotBound(ProcessGone, f"process {plan.pid} ended while it was looked at")
    except ProcessLookupError as error:
        os.close(pidfd)
        raise NotBound(ProcessGone, f"process {plan.pid} ended while it was looked at") from error
    except OSError as error:
        os.close(pidfd)
        raise _not_bound(error, f"process {plan.pid}: {error}") from error
    except BaseException:
        os.close(pidfd)
        raise
    return BoundSignal((pidfd,), pidfd, plan.pid, plan.signal)


def _open_process(pid: int, wanted: processes.Wanted, around: _Around) -> int:
    """A pidfd of a process that is meant, and is none that a client may ever name."""
    try:
        return processes.open_process(pid, wanted, around.seen.ancestors())
    except (processes.Gone, ProcessLookupError) as error:
        raise NotBound(ProcessGone, str(error)) from error
    except (processes.NotMeant, host.Unsure, OSError) as error:
        raise _not_bound(error, f"process {pid}: {error}") from error


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
        raise _not_bound(error, f"the file {plan.path!a} is refused: {error}") from error
    return BoundRead((descriptor,), descriptor)
