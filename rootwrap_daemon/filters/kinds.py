"""The ten kinds of oslo.rootwrap: what each makes of a definition, and which words it allows.

Promises: a kind refuses at load what it could not judge exactly; matching changes nothing and looks at no
host. Where a verdict differs from oslo.rootwrap's, the reason stands beside it.
"""

import re
import signal
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import ClassVar, Final

from rootwrap_daemon.filters import ip
from rootwrap_daemon.filters.base import (
    Filter,
    Warn,
    all_match,
    basename,
    check_first,
    expect,
    ip_of,
    is_normal_path,
    literals_of,
    patterns_of,
    program_of,
    run_as_of,
    signal_number,
    warn_of_argv0,
)
from rootwrap_daemon.filters.chains import ChainingFilter, ChainingRegExpFilter, IpNetnsExecFilter
from rootwrap_daemon.filters.finding import Fault
from rootwrap_daemon.filters.ini import Entry, Field
from rootwrap_daemon.filters.patterns import Clock, Pattern
from rootwrap_daemon.filters.values import (
    Beneath,
    ExecPlan,
    Options,
    Plan,
    Program,
    ReadPlan,
    Request,
    SignalPlan,
    Word,
)
from rootwrap_daemon.filters.variables import danger_of, is_dangerous_variable, may_hold


@dataclass(frozen=True, slots=True)
class CommandFilter(Filter):
    """This program, with any arguments."""

    FORM: ClassVar[str] = "name: CommandFilter, program, run_as"

    @classmethod
    def parse(cls, entry: Entry, options: Options, warn: Warn) -> "CommandFilter":
        program, run_as = expect(entry, cls.FORM, 2, 2)
        return cls(entry.name, entry.location, program_of(program), run_as_of(run_as), options)

    def match(self, request: Request, clock: Clock) -> Plan | None:
        words = request.argv[1:]
        return ExecPlan(Program(self.program), words, self.run_as, free=len(words))


@dataclass(frozen=True, slots=True)
class RegExpFilter(Filter):
    """This program, each word matching its pattern as a whole; the first pattern is for argv[0]."""

    patterns: tuple[Pattern, ...]
    FORM: ClassVar[str] = "name: RegExpFilter, program, run_as, pattern of argv[0], pattern, ..."

    @property
    def literals(self) -> Mapping[int, Collection[str]]:
        return literals_of(self.patterns)

    @classmethod
    def parse(cls, entry: Entry, options: Options, warn: Warn) -> "RegExpFilter":
        program, run_as, *_ = expect(entry, cls.FORM, 3)
        patterns = patterns_of(entry.fields[3:])
        check_first(patterns[0], program_of(program), entry.fields[3])
        return cls(entry.name, entry.location, program_of(program), run_as_of(run_as), options, patterns)

    def uses(self, option: str) -> bool:
        return option != "secret" or max(self.options.secret, default=0) < len(self.patterns)

    def match(self, request: Request, clock: Clock) -> Plan | None:
        if not all_match(self.patterns, request.argv, clock, self.options):
            return None
        return ExecPlan(Program(self.program), request.argv[1:], self.run_as)


@dataclass(frozen=True, slots=True)
class PathFilter(Filter):
    """This program; each word a literal, `pass` for any value but an option, or beneath a directory."""

    arguments: tuple[str, ...]
    FORM: ClassVar[str] = "name: PathFilter, program, run_as, `pass` | /directory | literal, ..."

    @classmethod
    def parse(cls, entry: Entry, options: Options, warn: Warn) -> "PathFilter":
        program, run_as, *arguments = expect(entry, cls.FORM, 3)
        warn_of_argv0(program_of(program), tuple(arguments[:1]), warn)
        words = tuple(_base(part) if part.text.startswith("/") else part.text for part in arguments)
        return cls(entry.name, entry.location, program_of(program), run_as_of(run_as), options, words)

    @property
    def literals(self) -> Mapping[int, Collection[str]]:
        return {
            place: (word,)
            for place, word in enumerate(self.arguments, 1)
            if word != "pass" and not word.startswith("/")
        }

    def uses(self, option: str) -> bool:
        return option != "secret" or max(self.options.secret, default=0) <= len(self.arguments)

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
        return ExecPlan(Program(self.program), words, self.run_as)


def _base(part: Field) -> str:
    base = part.text.rstrip("/")
    if not base:
        what = "the base directory / contains everything"
        raise Fault("whole_tree", what, "name the directory meant", part.location)
    if set(base) & set("*?[](){}|^$\\+"):
        what = "a regular expression in a PathFilter, which compares paths"
        raise Fault("path_pattern", what, "use a RegExpFilter", part.location)
    if not is_normal_path(base):
        what = f"{part.text} is not a plain absolute path"
        raise Fault("field", what, "write it without `..`", part.location)
    return base


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
    FORM: ClassVar[str] = "name: KillFilter, run_as, program, -SIGNAL, ..."

    @classmethod
    def parse(cls, entry: Entry, options: Options, warn: Warn) -> "KillFilter":
        run_as, program, *signals = expect(entry, cls.FORM, 2)
        numbers = {}
        for part in signals:
            number = signal_number(part.text[1:]) if part.text.startswith("-") else None
            if number is None:
                raise Fault("signal", f"{part.text!r} is not a signal", "write -9 or -HUP", part.location)
            numbers[part.text] = number
        return cls(entry.name, entry.location, program_of(program), run_as_of(run_as), options, numbers)

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
        return SignalPlan(pid, number, Program(self.program), self.run_as) if pid < 2**31 else None


@dataclass(frozen=True, slots=True)
class ReadFileFilter(Filter):
    """`cat` of exactly this path. There is no cat(1) in it: the daemon reads the file itself."""

    FORM: ClassVar[str] = "name: ReadFileFilter, /path"

    @classmethod
    def parse(cls, entry: Entry, options: Options, warn: Warn) -> "ReadFileFilter":
        (path,) = expect(entry, cls.FORM, 1, 1)
        if not is_normal_path(path.text):
            what = f"{path.text!r} is not a plain absolute path"
            raise Fault("field", what, "write one", path.location)
        return cls(entry.name, entry.location, path.text, "root", options)

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

    FORM: ClassVar[str] = "name: IpFilter, ip, run_as"

    @classmethod
    def parse(cls, entry: Entry, options: Options, warn: Warn) -> "IpFilter":
        return cls(entry.name, entry.location, *ip_of(entry, cls.FORM), options)

    def match(self, request: Request, clock: Clock) -> Plan | None:
        words = request.argv[1:]
        if not ip.is_harmless(words):
            return None
        return ExecPlan(Program(self.program), words, self.run_as, free=len(words))


_VARIABLE = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=(.*)", re.ASCII | re.DOTALL)


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
    FORM: ClassVar[str] = "name: EnvFilter, env, run_as, NAME=, ..., program, pattern, ..."

    @classmethod
    def parse(cls, entry: Entry, options: Options, warn: Warn) -> "EnvFilter":
        env, run_as, *rest = expect(entry, cls.FORM, 3)
        program = program_of(env)
        inner = None
        if basename(program) != "env":
            # The other form: the program comes first, and variables alone follow its user.
            program, inner = "env", program
        variables: dict[str, str] = {}
        while rest and "=" in rest[0].text:
            part = rest.pop(0)
            found = _VARIABLE.fullmatch(part.text)
            if not found or found[1] in variables or not is_printable(found[2]):
                what = f"{part.text!r} is not a variable, or names one a second time"
                raise Fault("field", what, "write NAME= or NAME=value", part.location)
            if is_dangerous_variable(found[1]) and not found[2]:
                what = f"any value of {found[1]} {danger_of(found[1])}"
                warn(Fault("variable", what, "write the value", part.location))
            variables[found[1]] = found[2]
        if inner is not None and rest:
            raise Fault("program_of_kind", f"{env.text!r} is not env", f"write `{cls.FORM}`", env.location)
        if inner is None and rest:
            inner = program_of(rest.pop(0))
        if not variables or inner is None:
            what = "no variable, or no program after them"
            raise Fault("fields", what, f"write `{cls.FORM}`", entry.location)
        return cls(
            entry.name,
            entry.location,
            program,
            run_as_of(run_as),
            options,
            tuple(variables.items()),
            inner,
            patterns_of(tuple(rest)),
        )

    @property
    def literals(self) -> Mapping[int, Collection[str]]:
        count = 1 + len(self.variables)
        words: dict[int, Collection[str]] = {count: {self.inner, basename(self.inner)}}
        if all(value for _, value in self.variables):
            given = {f"{name}={value}" for name, value in self.variables}
            words |= dict.fromkeys(range(1, count), given)
        return words

    def uses(self, option: str) -> bool:
        return option not in ("max_word", "opens_paths") or bool(self.patterns)

    def match(self, request: Request, clock: Clock) -> Plan | None:
        argv = request.argv
        count = 1 + len(self.variables)
        if len(argv) <= count or (argv[count] != self.inner and argv[count] != basename(self.inner)):
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
        return ExecPlan(Program(self.inner), arguments, self.run_as, tuple(found.items()), free)


#: Kind as written in a filter file -> what it makes of its definition.
KINDS: Final[dict[str, type[Filter]]] = {
    cls.__name__: cls
    for cls in (
        CommandFilter,
        RegExpFilter,
        PathFilter,
        KillFilter,
        ReadFileFilter,
        IpFilter,
        EnvFilter,
        ChainingFilter,
        IpNetnsExecFilter,
        ChainingRegExpFilter,
    )
}
