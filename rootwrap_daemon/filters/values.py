"""Define the values that the filter engine takes and gives: Request, Options, Match | Denied.

Promises: all are immutable; a Request's words have one canonical type.
"""

import enum
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from rootwrap_daemon.filters.argv_types import Matcher
from rootwrap_daemon.filters.finding import Location
from rootwrap_daemon.filters.plan import Plan
from rootwrap_daemon.filters.variables import is_printable_ascii, may_hold


class Request(NamedTuple):
    """The words that a client sent, decoded from bytes once (UTF-8 with surrogateescape: nothing is lost).

    `argv` has at least one word and no NUL; `env` has each name once. `stdin`: it comes with input. `user`:
    as whom it is to run, None for the first of whatever filter allows it. `asker`: the words of `users`
    options that mean whoever asks.
    """

    argv: tuple[str, ...]
    env: tuple[tuple[str, str], ...] = ()
    stdin: bool = False
    user: str | None = None
    asker: frozenset[str] = frozenset()


def shown_names(env: Sequence[tuple[str, str]]) -> list[str]:
    """Return the names of variables for a record: no value, and no name that is made to fill the record."""
    return [name[:64] if name.isascii() and name.isidentifier() else "?" for name, _ in env[:16]]


#: capabilities(7), by the names that oslo.privsep uses; the number is the place in this list.
CAPABILITIES: Final = tuple(
    f"CAP_{name}"
    for name in """
    CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE
    NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT
    SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE
    AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ
    PERFMON BPF CHECKPOINT_RESTORE
    """.split()
)


@dataclass(frozen=True, slots=True)
class Options:
    """The options in a section named like a filter; None where the daemon's own setting holds.

    `env`: the variables that a request may bring, each with what its value must be, None for any of printable
    ASCII. `max_word`: characters of a word that may reach a pattern. `set_env`: those that are set in any
    case. `timeout`: seconds, infinite for no limit. `max_output`: bytes. `stdin`: may a request bring input?
    `umask`: a mode. `capabilities`: all that a command of root keeps, or one with ambient capabilities can
    gain. `ambient`: what a command of another user has. `limits`: names of prlimit(1) and numbers.
    `max_memory`: bytes of all that a command starts, and `max_processes`: how many of them there may be at
    once. `opens_paths`: the program opens the paths that it is given, resolves no link itself, mounts
    nothing. `sanitize`: take secrets out of the output. `audit_argv`: do records show the words?
    `audit_runs`: has each command that is allowed records of its own? `secret`: the places of words that no
    record shows. `target_user`, `started_by_us`, `any_namespace`: which processes are meant. `signals`: the
    numbers of those that a client may send to a command whose descriptors it passed. `on_stop_leave`: does
    such a command outlive the daemon? `no_new_privs`: None for every user but root. `users`: who may use the
    filter, names of users and `%` before those of groups; empty for everybody whom the daemon admits.
    """

    env: Mapping[str, Matcher | None] = field(default_factory=dict)
    set_env: tuple[tuple[str, str], ...] = ()
    max_word: int = 4096
    timeout: float | None = None
    max_output: int | None = None
    stdin: bool = True
    cwd: str | None = None
    umask: int | None = None
    group: str | None = None
    capabilities: frozenset[str] | None = None
    ambient: frozenset[str] | None = None
    no_new_privs: bool | None = None
    limits: tuple[tuple[str, int], ...] = ()
    max_memory: int | None = None
    max_processes: int | None = None
    opens_paths: bool = False
    sanitize: bool = False
    audit_argv: bool = True
    audit_runs: bool = True
    secret: frozenset[int] = frozenset()
    target_user: str | None = None
    started_by_us: bool = False
    any_namespace: bool = False
    signals: frozenset[int] | None = None
    on_stop_leave: bool = False
    users: frozenset[str] = frozenset()

    @property
    def group_limits(self) -> dict[str, int]:
        """By the controller that keeps each for all that a command starts."""
        most = {"memory": self.max_memory, "pids": self.max_processes}
        return {controller: number for controller, number in most.items() if number is not None}

    def takes(self, name: str, value: str) -> bool:
        """True if a request may bring this variable with this value."""
        if name not in self.env or not may_hold(name, value):
            return False
        matcher = self.env[name]
        return is_printable_ascii(value) if matcher is None else matcher.takes(value)


@dataclass(frozen=True, slots=True)
class Shown:
    """The words of a request that a record may show.

    `argv`: more than the program? `secret`: the places of words that are hidden.
    """

    argv: bool = True
    secret: frozenset[int] = frozenset()


#: All words, as far as they do not look like secrets.
ALL_SHOWN: Final = Shown()


def shown_to_all(matches: "Iterable[Match]") -> Shown:
    """Return what every one of the filters that matched lets a record show."""
    argv, secret = True, frozenset[int]()
    for match in matches:
        argv = argv and match.shown.argv
        secret |= match.shown.secret
    return Shown(argv, secret) if secret or not argv else ALL_SHOWN


class Match(NamedTuple):
    """A filter allows these words. `leaf` is the filter that judged the inner command of a chain.

    `secret`: the places of words that no record shows.
    """

    filter: str
    location: Location
    plan: Plan
    options: Options = Options()
    leaf: str | None = None
    secret: frozenset[int] = frozenset()

    @property
    def name(self) -> str:
        """Return what the audit log and a client's Decision call it."""
        return f"{self.filter}+{self.leaf}" if self.leaf else self.filter

    @property
    def shown(self) -> Shown:
        """Return which words a record may show."""
        if self.options.audit_argv and not self.secret:
            return ALL_SHOWN
        return Shown(self.options.audit_argv, self.secret)


class Reason(enum.Enum):
    """Why no filter allows a request."""

    WORDS = "no filter allows these words"
    PROGRAM = "no filter allows these words: none is for this program"
    USER = "no filter allows these words: none for this program is for who asks, or runs as who is named"
    ENVIRONMENT = "the filter does not allow a variable of this request"
    STDIN = "the filter allows no input"
    TIME = "the patterns took too long on these words"


@dataclass(frozen=True, slots=True)
class Denied:
    """No filter allows the request. `matches`: those that allow its words, and not the rest of it."""

    reason: Reason
    matches: tuple[Match, ...] = field(default=(), compare=False)
