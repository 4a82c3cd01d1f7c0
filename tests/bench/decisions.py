"""Microseconds to decide, by kind and number of filters, beside oslo.rootwrap's, in one interleaved run.

Run it with `python tests/bench/decisions.py`. Targets: among 10,000 filters of different commands at most 1.5
times as long as among 10; among 1,000 of one command less than a millisecond. The words are for the last
filter (of CommandFilters and IpFilters for one command, the first decides). On our side nothing is bound: no
file and no process is looked at. A second table has what is hardest of each kind: 1,000 filters of one
command, none of whose words can be looked up, and words for the last of them or for none.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from oslo_rootwrap import wrapper

from rootwrap_daemon.filters import ruleset
from rootwrap_daemon.filters.finding import Severity
from rootwrap_daemon.filters.read import filter_file
from rootwrap_daemon.filters.values import Match, Request

NUMBERS: Final = (10, 100, 1_000, 10_000)
ONE_COMMAND: Final = 1_000
#: Seconds that one measurement of one cell takes at least.
TURN: Final = 0.002

Decide = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Case:
    """A definition, its number for every @, and the words for it; `first`: what stands before all of them."""

    kind: str
    definition: str
    words: str
    first: str = ""
    #: The last definition, where it is another kind than those before.
    last: str = ""
    #: Words that none of them allows; otherwise those that one allows with something at the end of the last.
    denied: str = ""

    def lines(self, count: int) -> list[str]:
        lines = [f"f{i}: {self.definition.replace('@', str(i))}" for i in range(count)]
        if self.last:
            lines[-1] = f"f{count - 1}: {self.last}"
        return ["[Filters]", *([f"first: {self.first}"] if self.first else []), *lines]

    def argv(self, count: int) -> list[str]:
        return self.words.replace("@", str(count - 1)).split()


_TOOL: Final = "CommandFilter, tool@, root"
_EXE: Final = os.readlink("/proc/self/exe")
_PID: Final = str(os.getpid())
_CHAIN: Final = "IpNetnsExecFilter, ip, root"
_LEAF: Final = "CommandFilter, true, root"

DIFFERENT: Final = (
    Case("CommandFilter", _TOOL, "tool@ -n 1"),
    Case("RegExpFilter, words", "RegExpFilter, tool@, root, tool@, -n, on", "tool@ -n on"),
    Case("RegExpFilter, patterns", r"RegExpFilter, tool@, root, tool@, -n, \d+", "tool@ -n 17"),
    Case("PathFilter", "PathFilter, tool@, root, pass, /srv/images", "tool@ nova /srv/images/x"),
    Case("KillFilter", _TOOL, f"kill -9 {_PID}", last=f"KillFilter, root, {_EXE}, -9"),
    Case("ReadFileFilter", _TOOL, "cat /etc/file", last="ReadFileFilter, /etc/file"),
    Case("IpFilter", _TOOL, "ip -n ns1 link set eth0 up", last="IpFilter, ip, root"),
    Case("EnvFilter", "EnvFilter, env, root, TAG=, tool@", "env TAG=1 tool@ -n"),
    Case("IpNetnsExecFilter", _TOOL, "ip netns exec ns1 tool@ -n", first=_CHAIN),
    Case(
        "ChainingRegExpFilter", "ChainingRegExpFilter, tool@, root, tool@, -n", "tool@ -n true", first=_LEAF
    ),
    Case("ArgvFilter", "ArgvFilter, tool@, root, -n, {int}", "tool@ -n 17"),
)

SAME: Final = (
    Case("CommandFilter", "CommandFilter, tool, root", "tool -n 1"),
    Case("RegExpFilter, words", "RegExpFilter, tool, root, tool, -n, name@", "tool -n name@"),
    Case("RegExpFilter, patterns", r"RegExpFilter, tool, root, tool, \d+, [a-z]+@", "tool 17 name@"),
    Case("PathFilter", "PathFilter, tool, root, word@, /srv/images", "tool word@ /srv/images/x"),
    Case(
        "KillFilter", "KillFilter, root, /bin/x@, -9", f"kill -9 {_PID}", last=f"KillFilter, root, {_EXE}, -9"
    ),
    Case("ReadFileFilter", "ReadFileFilter, /etc/file@", "cat /etc/file@"),
    Case("IpFilter", "IpFilter, ip, root", "ip -n ns1 link set eth0 up"),
    Case("EnvFilter", "EnvFilter, env, root, TAG=value@, tool", "env TAG=value@ tool -n"),
    Case(
        "IpNetnsExecFilter",
        "RegExpFilter, tool, root, tool, -n, name@",
        "ip netns exec ns1 tool -n name@",
        first=_CHAIN,
    ),
    Case(
        "ChainingRegExpFilter",
        "ChainingRegExpFilter, tool, root, tool, -n, name@",
        "tool -n name@ true",
        first=_LEAF,
    ),
    Case("ArgvFilter", "ArgvFilter, tool, root, -n, {int}, name@", "tool -n 17 name@"),
)

#: No word at a certain place tells these filters apart.
HARD: Final = (
    Case("RegExpFilter", r"RegExpFilter, tool, root, tool, [a-z]+@, \d+, [a-z]*", "tool name@ 17 x"),
    Case(
        "RegExpFilter, all but one word alike",
        r"RegExpFilter, tool, root, tool, \d+, [a-z.]+, [a-z]+@",
        "tool 17 abc name@",
    ),
    Case("RegExpFilter, look-ahead", r"RegExpFilter, tool, root, tool, (?!-)[a-z]+@", "tool name@"),
    Case("RegExpFilter, nested repetition", r"RegExpFilter, tool, root, tool, ([a-z]+\.)+@", "tool a.b.@"),
    Case(
        "PathFilter",
        "PathFilter, tool, root, /srv/images@, pass",
        "tool /srv/images@/x word",
        denied="tool /srv/images@/x -word",
    ),
    Case("KillFilter", "KillFilter, root, /bin/x@, -9", f"kill -9 {_PID}"),
    Case("EnvFilter", "EnvFilter, env, root, TAG=, tool, [a-z]+@", "env TAG=value tool name@"),
    Case("EnvFilter, any order", "EnvFilter, env, root, A=1, B=@, tool", "env A=1 B=@ tool"),
    Case(
        "ChainingRegExpFilter",
        "ChainingRegExpFilter, tool, root, tool, [a-z]+@",
        "tool name@ true",
        _LEAF,
        denied="tool name@! true",
    ),
    Case(
        "IpNetnsExecFilter",
        r"RegExpFilter, tool, root, tool, [a-z]+@",
        "ip netns exec ns1 tool name@",
        first=_CHAIN,
    ),
    Case("ArgvFilter", "ArgvFilter, tool, root, {int}, {int=@-@}", "tool 1 @"),
    Case("ArgvFilter, group", "ArgvFilter, tool, root, [{int}], word@", "tool 1 word@"),
)


def ours(case: Case, count: int) -> Decide:
    """RuleSet until the filter that is to decide: a match that cannot be bound goes on to the next one."""
    read = filter_file.read("\n".join(case.lines(count)), "bench")
    errors = [str(one) for one in read.findings if one.severity is Severity.ERROR]
    if errors:
        raise SystemExit(errors[0])
    rules = ruleset.RuleSet(read.filters)
    request = Request(tuple(case.argv(count)))
    last = (
        {"first", f"f{count - 1}"}
        if case.kind in ("KillFilter", "PathFilter")
        else {one.name for one in read.filters}
    )

    def decide() -> Match:
        return next(one for one in rules.matches(request) if isinstance(one, Match) and one.filter in last)

    decide()
    return decide


def ours_denied(case: Case, count: int) -> Decide:
    """As `ours`, for words that the last filter allows but for one character."""
    rules = ruleset.RuleSet(filter_file.read("\n".join(case.lines(count)), "bench").filters)
    *words, last = replace(case, words=case.denied or case.words).argv(count)
    request = Request((*words, last if case.denied else last + "!"))
    if any(isinstance(one, Match) for one in rules.matches(request)):
        raise SystemExit(f"{case.kind}: not denied: {request.argv}")
    return lambda: list(rules.matches(request))


def theirs(case: Case, count: int) -> Decide | None:
    """oslo.rootwrap's match_filter, every program at hand; None for a kind that it does not have."""
    if case.kind == "ArgvFilter":
        return None
    with tempfile.TemporaryDirectory() as directory:
        Path(directory, "bench.filters").write_text("\n".join(case.lines(count)))
        filters = wrapper.load_filters([directory])
    for one in filters:
        one.real_exec = one.exec_path
    argv = case.argv(count)

    def decide() -> object:
        # A list of its own each time: some of its filters change it.
        return wrapper.match_filter(filters, list(argv))

    decide()
    return decide


def measure(cells: list[Decide | None], rounds: int) -> list[float]:
    """Microseconds of one decision of each, the median of so many turns; the cells take turns."""
    found: list[list[float]] = [[] for _ in cells]
    for _ in range(rounds):
        for cell, times in zip(cells, found, strict=True):
            if cell is not None:
                times.append(_turn(cell))
    return [statistics.median(times) * 1e6 if times else float("nan") for times in found]


def _turn(decide: Decide) -> float:
    # Processor time: deciding waits for nothing, and others on the machine are not to count.
    count, spent = 1, 0.0
    while True:
        start = time.thread_time()
        for _ in range(count):
            decide()
        spent = time.thread_time() - start
        if spent >= TURN:
            return spent / count
        count *= 2


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9, help="turns of each cell")
    rounds: int = parser.parse_args().rounds
    heads = [*(f"{number:,}" for number in NUMBERS), "ratio", f"{ONE_COMMAND:,} of one"]
    print("microseconds to decide".ljust(40) + "".join(head.rjust(14) for head in heads))
    for different, same in zip(DIFFERENT, SAME, strict=True):
        cells: list[Decide | None] = []
        for way in (ours, theirs):
            cells += [way(different, number) for number in NUMBERS]
            cells.append(way(same, ONE_COMMAND))
        values = measure(cells, rounds)
        for name, row in (
            ("rootwrap-daemon", values[: len(NUMBERS) + 1]),
            ("oslo.rootwrap", values[len(NUMBERS) + 1 :]),
        ):
            *numbers, one = row
            texts = [*(f"{value:.1f}" for value in numbers), f"{numbers[-1] / numbers[0]:.2f}", f"{one:.1f}"]
            print(f"{different.kind:24}{name:16}" + "".join(text.rjust(14) for text in texts))
    print(
        f"\n{ONE_COMMAND:,} of one command, hardest".ljust(41) + "last allows".rjust(14) + "denied".rjust(14)
    )
    most = 0.0
    for case in HARD:
        values = measure([ours(case, ONE_COMMAND), ours_denied(case, ONE_COMMAND)], rounds)
        print(f"{case.kind:40}" + "".join(f"{value:14.1f}" for value in values))
        most = max(most, *values)
    print(f"{'max':40}{most:14.1f}")


if __name__ == "__main__":
    main()
