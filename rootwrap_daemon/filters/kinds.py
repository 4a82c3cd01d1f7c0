"""The ten kinds of oslo.rootwrap, and ArgvFilter: which words each allows.

Promises: matching changes nothing and looks at no host. Where a verdict differs from
oslo.rootwrap's, the reason stands beside it.
"""

import re
import signal
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

from rootwrap_daemon.filters import ip
from rootwrap_daemon.filters.argv import ArgvFilter
from rootwrap_daemon.filters.base import Filter, all_match, literals_of
from rootwrap_daemon.filters.chains import ChainingFilter, ChainingRegExpFilter, IpNetnsExecFilter
from rootwrap_daemon.filters.paths import basename
from rootwrap_daemon.filters.patterns import Clock, Pattern
from rootwrap_daemon.filters.plan import Beneath, ExecPlan, Plan, Program, ReadPlan, SignalPlan, Word
from rootwrap_daemon.filters.values import Request
from rootwrap_daemon.filters.variables import may_hold


@dataclass(frozen=True, slots=True)
class CommandFilter(Filter):
    """This program, with any arguments."""

    def match(self, request: Request, clock: Clock) -> Plan | None:
        words = request.argv[1:]
        return ExecPlan(Program(self.program), words, self.user(request), free=len(words))


@dataclass(frozen=True, slots=True)
class RegExpFilter(Filter):
    """This program, each word matching its pattern as a whole; the first pattern is for argv[0]."""

    patterns: tuple[Pattern, ...]

    @property
    def literals(self) -> Mapping[int, Collection[str]]:
        return literals_of(self.patterns)

    def match(self, request: Request, clock: Clock) -> Plan | None:
        if not all_match(self.patterns, request.argv, clock, self.options):
            return None
        return ExecPlan(Program(self.program), request.argv[1:], self.user(request))


@dataclass(frozen=True, slots=True)
class PathFilter(Filter):
    """This program; each word a literal, `pass` for any value but an option, or beneath a directory."""

    arguments: tuple[str, ...]

    @property
    def literals(self) -> Mapping[int, Collection[str]]:
        return {
            place: (word,)
            for place, word in enumerate(self.arguments, 1)
            if word != "pass" and not word.startswith("/")
        }

    def match(self, request: Request, clock: Clock) -> Plan | None:
        given = request.argv[1:]
        if len(given) != len(self.arguments):
            return None
        for expected, word in zip(self.arguments, given, strict=True):
            if expected == "pass":
                # An option here would change what the other words mean: chown --reference=...
                if word.startswith("-"):
                    return None
            elif word != expected and not (expected.startswith("/") and word.startswith("/")):
                return None
        words: tuple[Word, ...] = tuple(
            Beneath(expected, word) if expected.startswith("/") else word
            for expected, word in zip(self.arguments, given, strict=True)
        )
        return ExecPlan(Program(self.program), words, self.user(request))


_SIGTERM: Final = signal.SIGTERM.value
_SIGNAL_NAME = re.compile(r"[A-Z][A-Z0-9+-]*", re.ASCII)
# kill(1) and int() take much more for a number: ` 1`, `+1`, `01`, `1_0`, digits of other scripts.
_PID = re.compile(r"[1-9][0-9]{0,9}", re.ASCII)


@dataclass(frozen=True, slots=True)
class KillFilter(Filter):
    """One listed signal (none listed: SIGTERM, unwritten) to one process that runs this program.

    There is no kill(1) in it: the daemon sends the signal itself.
    """

    signals: Mapping[str, int]

    @property
    def commands(self) -> frozenset[str]:
        return frozenset(("kill",))

    @property
    def literals(self) -> Mapping[int, Collection[str]]:
        return {1: ("-s", *self.signals)} if self.signals else {}

    def match(self, request: Request, clock: Clock) -> Plan | None:
        words = request.argv[1:]
        if len(words) == 3 and words[0] == "-s" and _SIGNAL_NAME.fullmatch(words[1]):
            words = (f"-{words[1]}", words[2])
        number: int | None = _SIGTERM
        if self.signals:
            number = self.signals.get(words[0]) if len(words) == 2 else None
        elif len(words) != 1:
            number = None
        if number is None or not _PID.fullmatch(words[-1]):
            return None
        pid = int(words[-1])
        return SignalPlan(pid, number, Program(self.program), self.user(request)) if pid < 2**31 else None


@dataclass(frozen=True, slots=True)
class ReadFileFilter(Filter):
    """`cat` of exactly this path. There is no cat(1) in it: the daemon reads the file itself."""

    @property
    def commands(self) -> frozenset[str]:
        return frozenset(("cat",))

    @property
    def literals(self) -> Mapping[int, Collection[str]]:
        return {1: (self.program,)}

    def match(self, request: Request, clock: Clock) -> Plan | None:
        return ReadPlan(self.program) if request.argv[1:] == (self.program,) else None


@dataclass(frozen=True, slots=True)
class IpFilter(Filter):
    """ip(8), except where it runs programs, reads files of the caller's choice or takes a path."""

    def match(self, request: Request, clock: Clock) -> Plan | None:
        words = request.argv[1:]
        if not ip.is_harmless(words):
            return None
        return ExecPlan(Program(self.program), words, self.user(request), free=len(words))


def is_printable(value: str) -> bool:
    """True without control characters; bytes that are not UTF-8 are data."""
    return value.isprintable() or not any(char < " " or "\x7f" <= char < "\xa0" for char in value)


@dataclass(frozen=True, slots=True)
class EnvFilter(Filter):
    """`[env] NAME=value ... program argument ...`; the daemon sets the variables, env(1) never runs.

    Each NAME exactly once, in any order. A value in the definition must be given so; `NAME=` admits any
    printable one. Arguments in the definition are patterns, one a word; without any, all arguments are
    allowed.
    """

    variables: tuple[tuple[str, str], ...]
    inner: str
    patterns: tuple[Pattern, ...]
    #: The other paths of `inner` on this host, which a request may say, too.
    same: frozenset[str] = field(default=frozenset(), compare=False, repr=False)

    @property
    def _names(self) -> frozenset[str]:
        return self.same | {self.inner, basename(self.inner)}

    @property
    def literals(self) -> Mapping[int, Collection[str]]:
        count = 1 + len(self.variables)
        words: dict[int, Collection[str]] = {count: self._names}
        if all(value for _, value in self.variables):
            given = {f"{name}={value}" for name, value in self.variables}
            words |= dict.fromkeys(range(1, count), given)
        return words

    def match(self, request: Request, clock: Clock) -> Plan | None:
        argv = request.argv
        count = 1 + len(self.variables)
        if len(argv) <= count or argv[count] not in self._names:
            return None
        arguments = argv[count + 1 :]
        if self.patterns and not all_match(self.patterns, arguments, clock, self.options):
            return None
        found = {}
        for word in argv[1:count]:
            name, equals, found[name] = word.partition("=")
            if not equals:
                return None
        for name, value in self.variables:
            given = found.get(name)
            if given is None or (value and given != value) or not is_printable(given):
                return None
            if not value and not may_hold(name, given):
                return None
        free = 0 if self.patterns else len(arguments)
        return ExecPlan(Program(self.inner), arguments, self.user(request), tuple(found.items()), free)


#: Kinds that run a program with words of their own.
Commands = CommandFilter | RegExpFilter | PathFilter | IpFilter | EnvFilter | ArgvFilter
#: All kinds of filters there are.
AnyFilter = Commands | KillFilter | ReadFileFilter | ChainingFilter | IpNetnsExecFilter | ChainingRegExpFilter
