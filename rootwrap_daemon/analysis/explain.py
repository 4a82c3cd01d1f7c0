"""Explain the verdict of the daemon's own `judge` on a request; run and change nothing.

Promises: the verdict is `judge`'s; what this process was not allowed to see is said.
"""

import errno
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from rootwrap_daemon.analysis.load import Source
from rootwrap_daemon.analysis.trace import Trace, traces
from rootwrap_daemon.errors import BadRequest, TooLarge
from rootwrap_daemon.filters.plan import ExecPlan, ProcessOf, SignalPlan
from rootwrap_daemon.filters.values import CAPABILITIES, Match, Options, Request
from rootwrap_daemon.policy.bind import bind
from rootwrap_daemon.policy.bound import Bound, BoundExec, BoundSignal, NotBound
from rootwrap_daemon.policy.policy import Allowed, Policy, judge
from rootwrap_daemon.protocol.messages import Check

ALLOWED = "allowed"
#: Limits of all that a command starts, which its control group keeps.
_OF_ALL: Final = ("max_memory", "max_processes")


@dataclass(frozen=True, slots=True)
class Effect:
    """The effect of a command. `action`: execute, signal or read; only the fields of that one are set.

    `argv`: with the path of the program first, without what sets limits. `nosymfollow`: directories below
    which no link is followed. `timeout`: seconds, None for no limit. `max_output`: bytes.
    """

    action: str
    executable: str = ""
    argv: tuple[str, ...] = ()
    nosymfollow: tuple[str, ...] = ()
    user: str = ""
    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = ()
    env: dict[str, str] = field(default_factory=dict)
    cwd: str = ""
    umask: str | None = None
    capabilities: tuple[str, ...] | None = None
    ambient: tuple[str, ...] | None = None
    no_new_privs: bool = False
    limits: dict[str, int] = field(default_factory=dict)
    timeout: float | None = 0.0
    max_output: int = 0
    signal: int = 0
    pid: int = 0
    file: str = ""


@dataclass(frozen=True, slots=True)
class Explanation:
    """`code`: `allowed`, or that of the error a client gets. `detail`: what the audit record says.

    `obstacles`: by a filter's name as the audit log has it, why it is not used though its words match.
    `unseen`: what could not be looked at; where that is not empty the daemon may find otherwise.
    """

    argv: tuple[str, ...]
    code: str
    detail: str
    filter: str | None = None
    traces: tuple[Trace, ...] = ()
    obstacles: dict[str, str] = field(default_factory=dict)
    effect: Effect | None = None
    unseen: tuple[str, ...] = ()

    @property
    def allowed(self) -> bool:
        """May it run?"""
        return self.code == ALLOWED

    @property
    def certain(self) -> bool:
        """Was everything that decides seen? What was seen to be allowed is."""
        return self.allowed or not self.unseen


def explain(
    source: Source,
    argv: tuple[str, ...],
    env: tuple[tuple[str, str], ...] = (),
    *,
    stdin: bool = False,
    user: str | None = None,
    asker: str | None = None,
) -> Explanation:
    """Judge and explain. `argv` is text as the daemon decodes it (UTF-8 with surrogateescape).

    `user`: as whom it is to run, as a request names it. `asker`: who asks, None for whoever is meant.
    """
    try:
        Check(
            tuple(map(_encoded, argv)), tuple((_encoded(name), _encoded(value)) for name, value in env), user
        )
    except (BadRequest, TooLarge) as error:
        return Explanation(argv, error.code, error.message)
    except UnicodeEncodeError:
        return Explanation(argv, BadRequest.code, "a word is no text that bytes can stand for")
    policy = source.policy
    request = Request(argv, env, stdin, user, source.asker(asker))
    found = traces(policy.ruleset.filters, request)
    judged = judge(policy, request)
    if isinstance(judged, Allowed):
        with judged.bound:
            effect = _effect(policy, judged.options, judged.bound)
        return Explanation(argv, ALLOWED, "", judged.filter, found, effect=effect)
    obstacles: dict[str, str] = {}
    unseen: list[str] = []
    for match, problem in _unbound(policy, request):
        obstacles.setdefault(match.name, str(problem))
        unseen += _unseen(match, str(problem), policy)
    obstacles |= {name: why for name, why in _refusals(found, request) if name not in obstacles}
    return Explanation(
        argv,
        judged.error.code,
        judged.detail,
        judged.filter,
        found,
        obstacles,
        unseen=tuple(dict.fromkeys(unseen)),
    )


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _unbound(policy: Policy, request: Request) -> Iterator[tuple[Match, NotBound]]:
    for match in policy.ruleset.matches(request):
        if isinstance(match, Match):
            try:
                bind(match, policy).close()
            except NotBound as error:
                yield match, error


def _refusals(found: tuple[Trace, ...], request: Request) -> Iterator[tuple[str, str]]:
    """Yield what options refuse, though the words match."""
    for trace in found:
        if not trace.matches:
            continue
        leaves = [leaf for leaf in trace.inner if leaf.matches]
        for leaf in leaves or [trace]:
            name = f"{trace.filter.name}+{leaf.filter.name}" if leaves else trace.filter.name
            options = leaf.filter.options
            if request.stdin and not (options.stdin and trace.filter.options.stdin):
                yield name, "its options allow no input"
            for variable, value in request.env:
                if variable not in options.env:
                    yield name, f"its options do not allow the variable {variable}"
                elif not options.takes(variable, value):
                    yield name, f"its options do not allow this value of {variable}"


def _unseen(match: Match, detail: str, policy: Policy) -> Iterator[str]:
    """Yield what this process could not look at, when it is not root, and a match was refused."""
    if os.geteuid() == 0:
        return
    plan = match.plan
    words = plan.arguments if isinstance(plan, ExecPlan) else ()
    if isinstance(plan, SignalPlan) or any(isinstance(word, ProcessOf) for word in words):
        yield "which program a process of another user runs, and whose processes root may end"
    for number in (errno.EACCES, errno.EPERM):
        if os.strerror(number) in detail:
            yield f"what stands behind `{os.strerror(number)}`: {detail}"
    if isinstance(plan, ExecPlan | SignalPlan):
        name = plan.program.name
        for path in (name,) if name.startswith("/") else (f"{place}/{name}" for place in policy.exec_dirs):
            parent = os.path.dirname(path)
            if os.path.isdir(parent) and not os.access(parent, os.X_OK):
                yield f"what is in {parent}"


def _effect(policy: Policy, options: Options, bound: Bound) -> Effect:
    settings = policy.settings
    if isinstance(bound, BoundSignal):
        return Effect("signal", signal=bound.signal, pid=bound.pid)
    if not isinstance(bound, BoundExec):
        return Effect("read", file=os.readlink(f"/proc/self/fd/{bound.descriptor}"))
    identity = bound.identity
    return Effect(
        "execute",
        executable=bound.path,
        argv=bound.argv,
        nosymfollow=bound.nosymfollow,
        user=identity.name,
        uid=identity.uid,
        gid=identity.gid,
        groups=identity.groups,
        env=bound.env,
        cwd=bound.cwd,
        umask=None if bound.umask is None else f"{bound.umask:03o}",
        capabilities=_names(bound.capabilities),
        ambient=_names(bound.ambient),
        no_new_privs=bound.no_new_privs,
        limits=dict(options.limits)
        | {name: most for name in _OF_ALL if (most := getattr(options, name)) is not None},
        # JSON has no infinity.
        timeout=None if options.timeout == math.inf else options.timeout or settings.command_timeout,
        max_output=options.max_output or settings.max_output,
    )


def _names(capabilities: frozenset[int] | None) -> tuple[str, ...] | None:
    return None if capabilities is None else tuple(CAPABILITIES[number] for number in sorted(capabilities))
