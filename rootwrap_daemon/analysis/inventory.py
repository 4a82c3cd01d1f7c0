"""List what a policy lets a user run here: each filter as the command that it takes.

Promises: a summary to read, not to judge by; `explain` gives verdicts.
"""

import re
from dataclasses import dataclass

from rootwrap_daemon.analysis.load import Source, definition, where
from rootwrap_daemon.filters import kinds
from rootwrap_daemon.filters.argv import ArgvFilter
from rootwrap_daemon.filters.base import Filter
from rootwrap_daemon.filters.chains import ChainingFilter, ChainingRegExpFilter, IpNetnsExecFilter
from rootwrap_daemon.filters.paths import basename
from rootwrap_daemon.filters.values import Request
from rootwrap_daemon.policy import executables, host


@dataclass(frozen=True, slots=True)
class Item:
    """One filter. `path`: of its program here, empty if it has none, or `problem` says why not."""

    name: str
    kind: str
    command: str
    run_as: str
    path: str
    problem: str
    options: tuple[str, ...]
    place: str


def items(source: Source, asker: frozenset[str]) -> list[Item]:
    """Every filter that allows something to whoever these words of `users` options mean, in their order."""
    asked = Request(("",), asker=asker)
    return [
        _item(source, one)
        for one in source.policy.ruleset.filters
        if type(one) is not ChainingFilter and one.is_for(asked)
    ]


def _item(source: Source, one: Filter) -> Item:
    path = problem = ""
    if not isinstance(one, kinds.ReadFileFilter):
        program = one.inner if isinstance(one, kinds.EnvFilter) else one.program
        try:
            path = executables.find_executable(program, source.policy.exec_dirs, source.policy.owners).path
        except FileNotFoundError:
            problem = f"{program} is not installed"
        except (host.UntrustedPath, OSError) as error:
            problem = f"{program} is refused: {error}"
    options = tuple(f"{entry.name} = {definition(entry)}" for entry in source.options(one))
    return Item(
        one.name,
        type(one).__name__,
        _command(source, one),
        "|".join(one.run_as),
        path,
        problem,
        options,
        where(one.location),
    )


def _command(source: Source, one: Filter) -> str:
    """The command as a reader would write it down."""
    name = basename(one.program)
    if isinstance(one, kinds.CommandFilter):
        return f"{name} ANYTHING"
    if isinstance(one, kinds.RegExpFilter):
        return " ".join((name, *(pattern.text for pattern in one.patterns[1:])))
    if isinstance(one, ChainingRegExpFilter):
        return " ".join((name, *(pattern.text for pattern in one.patterns[1:]), "COMMAND OF ANOTHER FILTER"))
    if isinstance(one, IpNetnsExecFilter):
        return f"{name} netns exec NAMESPACE COMMAND OF ANOTHER FILTER"
    if isinstance(one, kinds.PathFilter):
        words = (
            "WORD" if word == "pass" else f"{word}/..." if word.startswith("/") else word
            for word in one.arguments
        )
        return " ".join((name, *words))
    if isinstance(one, kinds.KillFilter):
        signals = "|".join(one.signals)
        return f"kill {signals + ' ' if signals else ''}PID OF {name}"
    if isinstance(one, kinds.ReadFileFilter):
        return f"cat {one.program}"
    if isinstance(one, kinds.IpFilter):
        return f"{name} ANYTHING THAT RUNS NO PROGRAM AND NAMES NO PATH"
    if isinstance(one, kinds.EnvFilter):
        variables = (f"{variable}={value or 'VALUE'}" for variable, value in one.variables)
        patterns = [pattern.text for pattern in one.patterns] or ["ANYTHING"]
        return " ".join(("env", *variables, basename(one.inner), *patterns))
    if isinstance(one, ArgvFilter):
        rest = definition(source.entry(one)).split(",", 3)[3:]
        # Words as a command has them: no comma between two, none behind a backslash.
        return " ".join(
            (name, *(re.sub(r"\\(.)|,\s*", lambda found: found[1] or " ", part).strip() for part in rest))
        )
    return definition(source.entry(one))
