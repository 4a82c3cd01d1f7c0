"""Define what a filter lets run: a program with its words, a signal, or a file to read.

Promises: all are immutable; what only the host can say of a word is left to whoever binds the plan.
"""

from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class Beneath:
    """A word of the plan that must name something beneath `base`; only the host can say."""

    base: str
    path: str


@dataclass(frozen=True, slots=True)
class Program:
    """A word of the plan that becomes the path of this program."""

    name: str


@dataclass(frozen=True, slots=True)
class FixedPath:
    """A word of the plan that is the path of a file, none of whose components a client may change."""

    path: str


@dataclass(frozen=True, slots=True)
class ProcessOf:
    """A word of the plan that is the number of a process, which must run `program`."""

    program: str
    pid: int


Word = str | Beneath | Program | FixedPath | ProcessOf


class ExecPlan(NamedTuple):
    """Run `program` with `arguments` after its name, as `run_as`, with `env` on top of the daemon's own.

    `free`: how many of the last arguments may be anything, or cannot be paths, as their filter says.
    """

    program: Program
    arguments: tuple[Word, ...]
    run_as: str
    env: tuple[tuple[str, str], ...] = ()
    free: int = 0


@dataclass(frozen=True, slots=True)
class SignalPlan:
    """Send `signal` to `pid` if its executable is `program`, with the rights of `run_as`."""

    pid: int
    signal: int
    program: Program
    run_as: str


@dataclass(frozen=True, slots=True)
class ReadPlan:
    """Give the content of the file at `path`, as `cat path` would."""

    path: str


Plan = ExecPlan | SignalPlan | ReadPlan
