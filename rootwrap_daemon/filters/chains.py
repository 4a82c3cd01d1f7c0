"""The kinds of filters that run the rest of their words as a command, which another filter must allow.

Promises: the inner command's first word becomes the program of the filter that allowed it.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import ClassVar

from rootwrap_daemon.filters import ip
from rootwrap_daemon.filters.base import (
    Filter,
    Warn,
    all_match,
    check_first,
    expect,
    ip_of,
    literals_of,
    patterns_of,
    program_of,
    run_as_of,
)
from rootwrap_daemon.filters.finding import Fault
from rootwrap_daemon.filters.ini import Entry
from rootwrap_daemon.filters.patterns import Clock, Pattern
from rootwrap_daemon.filters.values import (
    ExecPlan,
    FixedPath,
    Options,
    Plan,
    Program,
    ReadPlan,
    Request,
    Word,
)


@dataclass(frozen=True, slots=True)
class ChainingFilter(Filter):
    """A program that runs the rest of its words as a command. By itself it allows nothing."""

    FORM: ClassVar[str] = "name: ChainingFilter, program, run_as"

    @classmethod
    def parse(cls, entry: Entry, options: Options, warn: Warn) -> "ChainingFilter":
        program, run_as, *_ = expect(entry, cls.FORM, 2)
        remedy = "use a ChainingRegExpFilter"
        warn(Fault("never", "a ChainingFilter never allows anything", remedy, entry.location))
        return cls(entry.name, entry.location, program_of(program), run_as_of(run_as), options)

    def prefix(self, argv: tuple[str, ...], clock: Clock) -> int | None:
        """How many words stand before the inner command, None if they are not allowed. Raises OutOfTime."""
        return None

    def match(self, request: Request, clock: Clock) -> Plan | None:
        return None

    def chain(self, words: tuple[str, ...], inner: Plan) -> Plan | None:
        """The plan for this program with `words` (argv[0] included) and then what `inner` would run."""
        if isinstance(inner, ExecPlan) and inner.run_as == self.run_as:
            # The inner word becomes the leaf's own program: a path that only ends like it never runs.
            arguments: tuple[Word, ...] = (*words[1:], inner.program, *inner.arguments)
            return ExecPlan(Program(self.program), arguments, self.run_as, inner.env, inner.free)
        if isinstance(inner, ReadPlan) and self.run_as == "root":
            return ExecPlan(
                Program(self.program), (*words[1:], Program("cat"), FixedPath(inner.path)), self.run_as
            )
        # A signal needs no other program; another user's command would run as this one.
        return None


@dataclass(frozen=True, slots=True)
class ChainingRegExpFilter(ChainingFilter):
    """This program with words that match the patterns, then a command that another filter allows."""

    patterns: tuple[Pattern, ...]
    FORM: ClassVar[str] = "name: ChainingRegExpFilter, program, run_as, pattern of argv[0], pattern, ..."

    @classmethod
    def parse(cls, entry: Entry, options: Options, warn: Warn) -> "ChainingRegExpFilter":
        program, run_as, *_ = expect(entry, cls.FORM, 3)
        patterns = patterns_of(entry.fields[3:])
        check_first(patterns[0], program_of(program), entry.fields[3])
        return cls(entry.name, entry.location, program_of(program), run_as_of(run_as), options, patterns)

    @property
    def literals(self) -> Mapping[int, Collection[str]]:
        return literals_of(self.patterns)

    def prefix(self, argv: tuple[str, ...], clock: Clock) -> int | None:
        count = len(self.patterns)
        return count if all_match(self.patterns, argv[:count], clock, self.options) else None


@dataclass(frozen=True, slots=True)
class IpNetnsExecFilter(ChainingFilter):
    """`ip netns exec NAMESPACE`, then a command that another filter allows."""

    FORM: ClassVar[str] = "name: IpNetnsExecFilter, ip, root"

    @classmethod
    def parse(cls, entry: Entry, options: Options, warn: Warn) -> "IpNetnsExecFilter":
        program, run_as = ip_of(entry, cls.FORM)
        if run_as != "root":
            what = "entering a namespace needs root"
            raise Fault("program_of_kind", what, "write root", entry.fields[2].location)
        return cls(entry.name, entry.location, program, run_as, options)

    def prefix(self, argv: tuple[str, ...], clock: Clock) -> int | None:
        # No option may stand before: -all would make the inner command the namespace's place.
        if len(argv) < 5 or not ip.is_netns(argv[1]) or not ip.is_namespace(argv[3]):
            return None
        return 4 if argv[2] and ip.could_mean(argv[2], "exec") else None
