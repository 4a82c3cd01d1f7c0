"""Compare the words of a request with a filter, one by one, up to where it stops to match.

Promises: each word is judged by the filter's own matcher; whether a trace says that the words match is what
`Filter.match` says, which a test proves. Looks at no host.
"""

import operator
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import takewhile

from rootwrap_daemon.filters import ip, kinds
from rootwrap_daemon.filters.argv import After, ArgvFilter
from rootwrap_daemon.filters.base import Filter
from rootwrap_daemon.filters.chains import ChainingFilter, ChainingRegExpFilter, IpNetnsExecFilter, chained
from rootwrap_daemon.filters.paths import basename
from rootwrap_daemon.filters.patterns import Clock, OutOfTime, Pattern
from rootwrap_daemon.filters.values import Request

#: What stands in a place, for a reader, and the matcher.
_Wanted = tuple[str, Callable[[str], bool]]


@dataclass(frozen=True, slots=True)
class Step:
    """One word against what the filter wants in its place.

    `place`: its number in argv. `word`: None where argv has ended. `wanted`: empty where no word may come.
    """

    place: int
    word: str | None
    wanted: str
    ok: bool


@dataclass(frozen=True, slots=True)
class Trace:
    """The comparison of a filter with the words. `stopped`: why they do not match, empty if they do.

    `inner`: for a chain, the traces of the inner command by each filter that could take it, nearest first.
    `filter` is the name, with that of the inner filter behind a + where both match.
    """

    filter: Filter
    steps: tuple[Step, ...]
    stopped: str
    inner: "tuple[Trace, ...]" = ()

    @property
    def matches(self) -> bool:
        """Do the words match?"""
        return not self.stopped

    @property
    def nearness(self) -> tuple[bool, int, float]:
        """For sorting: the larger, the nearer to a match. How many words are right at once, then how many."""
        at_once = len(list(takewhile(lambda step: step.ok, self.steps)))
        good = sum(step.ok for step in self.steps) / max(1, len(self.steps))
        if not self.inner:
            return self.matches, at_once, good
        _, inner_at_once, inner_good = max(one.nearness for one in self.inner)
        return self.matches, at_once + inner_at_once, good + inner_good


def traces(filters: Iterable[Filter], request: Request, *, chains: bool = True) -> tuple[Trace, ...]:
    """The traces of all filters of this command, and of those for a program of that name; nearest first."""
    argv = request.argv
    filters = tuple(filters)
    found = []
    for one in filters:
        if argv[0] in one.commands:
            found.append(_trace(one, filters, request, chains=chains))
        elif basename(argv[0]) in map(basename, one.commands):
            wanted = " or ".join(sorted(one.commands))
            found.append(Trace(one, (Step(0, argv[0], wanted, ok=False),), f"the command must be {wanted}"))
    # A stable sort: the order of the policy stays where nothing is nearer.
    return tuple(sorted(found, key=lambda trace: trace.nearness, reverse=True))


def _trace(one: Filter, filters: tuple[Filter, ...], request: Request, *, chains: bool) -> Trace:
    clock = Clock()
    try:
        if isinstance(one, ChainingFilter):
            found = _chain(one, filters, request, clock, chains=chains)
        else:
            steps = tuple(_steps(one, request.argv, clock))
            matches = one.match(request, clock) is not None
            found = Trace(one, steps, "" if matches else _why(one, steps))
    except OutOfTime:
        return Trace(one, (), "the patterns took too long on these words")
    if found.matches and not one.is_for(request):
        return replace(found, stopped=_for_whom(one, request))
    return found


def _for_whom(one: Filter, request: Request) -> str:
    if request.user is not None and request.user not in one.run_as:
        return f"it runs as {' or '.join(one.run_as)}, not as {request.user}"
    return f"it is for {', '.join(sorted(one.options.users))} alone"


def _why(one: Filter, steps: tuple[Step, ...]) -> str:
    bad = next((step for step in steps if not step.ok), None)
    if bad is None:
        # All words are good one by one.
        return "these words together are not allowed"
    if bad.word is None:
        return f"word {bad.place} is missing: {bad.wanted}"
    if not bad.wanted:
        return f"word {bad.place} is one too many"
    return f"word {bad.place} is not {bad.wanted}"


def _steps(one: Filter, argv: tuple[str, ...], clock: Clock) -> Iterator[Step]:
    """Every word, and every place without a word. Raises OutOfTime."""
    if isinstance(one, kinds.RegExpFilter):
        yield from _by_patterns(one.patterns, argv, 0, one, clock)
        return
    yield Step(0, argv[0], " or ".join(sorted(one.commands)), ok=True)
    if isinstance(one, kinds.CommandFilter):
        yield from (Step(place, word, "anything", ok=True) for place, word in enumerate(argv[1:], 1))
    elif isinstance(one, kinds.PathFilter):
        yield from _compare(tuple(map(_of_path_filter, one.arguments)), argv[1:], 1)
    elif isinstance(one, kinds.ReadFileFilter):
        yield from _compare(((one.program, partial(operator.eq, one.program)),), argv[1:], 1)
    elif isinstance(one, kinds.KillFilter):
        yield from _kill(one, argv, clock)
    elif isinstance(one, kinds.IpFilter):
        yield from _ip(argv)
    elif isinstance(one, kinds.EnvFilter):
        yield from _env(one, argv, clock)
    elif isinstance(one, ArgvFilter):
        yield from _typed(one, argv)


def _compare(wanted: tuple[_Wanted, ...], words: tuple[str, ...], first: int) -> Iterator[Step]:
    for index in range(max(len(wanted), len(words))):
        text, takes = wanted[index] if index < len(wanted) else ("", lambda word: False)
        word = words[index] if index < len(words) else None
        yield Step(first + index, word, text, ok=word is not None and takes(word))


def _by_patterns(
    patterns: tuple[Pattern, ...], words: tuple[str, ...], first: int, one: Filter, clock: Clock
) -> Iterator[Step]:
    yield from _compare(
        tuple(
            (pattern.text, partial(pattern.matches, clock=clock, longest=one.options.max_word))
            for pattern in patterns
        ),
        words,
        first,
    )


def _of_path_filter(argument: str) -> _Wanted:
    if argument == "pass":
        return "any word but an option", lambda word: not word.startswith("-")
    if argument.startswith("/"):
        return f"a path beneath {argument}", lambda word: word.startswith("/")
    return argument, partial(operator.eq, argument)


def _kill(one: kinds.KillFilter, argv: tuple[str, ...], clock: Clock) -> Iterator[Step]:
    names = " or ".join(name for name in one.signals)
    # The number of this process in the place of the last word: is it that word, or one before it?
    words = argv[1:]
    if one.signals and words:
        probe = Request((argv[0], *words[:-1], "1") if len(words) > 1 else (argv[0], words[0], "1"))
        signals_ok = one.match(probe, clock) is not None
        upto = max(1, len(words) - 1)
        yield from (Step(place, words[place - 1], names, ok=signals_ok) for place in range(1, upto + 1))
        words = words[upto:]
    elif one.signals:
        yield Step(1, None, names, ok=False)
    last = len(argv) - len(words)
    wanted = f"the number of a process that runs {one.program}"
    if not words:
        yield Step(last, None, wanted, ok=False)
        return
    probe_words = (next(iter(one.signals)), words[0]) if one.signals else (words[0],)
    yield Step(last, words[0], wanted, ok=one.match(Request((argv[0], *probe_words)), clock) is not None)
    yield from (Step(last + index, word, "", ok=False) for index, word in enumerate(words[1:], 1))


def _ip(argv: tuple[str, ...]) -> Iterator[Step]:
    # The longest beginning that would be allowed by itself: what follows it is what stops.
    good = max((count for count in range(len(argv)) if ip.is_harmless(argv[1 : 1 + count])), default=0)
    if ip.is_harmless(argv[1:]):
        good = len(argv)
    for place, word in enumerate(argv[1:], 1):
        wanted = "what runs no program, reads no file and names no path"
        yield Step(place, word, wanted, ok=place <= good)


def _env(one: kinds.EnvFilter, argv: tuple[str, ...], clock: Clock) -> Iterator[Step]:
    count = len(one.variables)
    admitted = dict(one.variables)
    seen: set[str] = set()
    for place in range(1, 1 + count):
        word = argv[place] if place < len(argv) else None
        name, equals, value = (word or "").partition("=")
        left = [f"{key}={admitted[key]}" for key in admitted if key not in seen]
        ok = bool(equals) and name in admitted and name not in seen and admitted[name] in ("", value)
        seen.add(name)
        yield Step(place, word, " or ".join(left), ok=ok)
    command = argv[count + 1 :]
    wanted = " or ".join(sorted({one.inner, basename(one.inner)}))
    first = command[0] if command else None
    yield Step(count + 1, first, wanted, ok=first in (one.inner, basename(one.inner)))
    if one.patterns:
        yield from _by_patterns(one.patterns, command[1:], count + 2, one, clock)
    else:
        yield from (
            Step(place, word, "anything", ok=True) for place, word in enumerate(command[1:], count + 2)
        )


def _typed(one: ArgvFilter, argv: tuple[str, ...]) -> Iterator[Step]:
    """Up to the first word that has no place: what a later one would be is not known."""
    pattern, here = one.pattern, 0
    for place, word in enumerate(argv[1:], 1):
        following = pattern.after[here]
        here = pattern.next(here, word)
        yield Step(place, word, _wanted(following), ok=bool(here))
        if not here:
            yield from (
                Step(after, later, "(not looked at)", ok=False)
                for after, later in enumerate(argv[place + 1 :], place + 1)
            )
            return
    if here not in pattern.ends:
        yield Step(len(argv), None, _wanted(pattern.after[here]), ok=False)


def _wanted(after: After) -> str:
    return " or ".join([*sorted(after.words), *([f"{{{after.typed.name}}}"] if after.typed else [])])


def _chain(
    one: ChainingFilter, filters: tuple[Filter, ...], request: Request, clock: Clock, *, chains: bool
) -> Trace:
    argv = request.argv
    if not chains:
        return Trace(one, (), "a chain inside a chain")
    steps = tuple(_prefix(one, argv, clock))
    count = one.prefix(argv, clock)
    if count is None:
        return Trace(one, steps, _why(one, steps))
    if len(argv) <= count:
        return Trace(one, (*steps, Step(count, None, "a command", ok=False)), "no command follows")
    inner = traces(filters, request._replace(argv=argv[count:]), chains=False)
    stopped = f"no filter allows the inner command {argv[count]!a}"
    if any(found.matches for found in inner):
        inner = tuple(_within(one, found, request, count, clock) for found in inner)
        usable = any(found.matches for found in inner)
        stopped = "" if usable else "no filter of the inner command can be used in a chain"
    shifted = tuple(_shift(found, count) for found in inner)
    return Trace(one, steps, stopped, tuple(sorted(shifted, key=lambda found: found.nearness, reverse=True)))


def _within(one: ChainingFilter, found: Trace, request: Request, count: int, clock: Clock) -> Trace:
    """The inner trace, stopped where the two filters cannot be combined."""
    inner = request._replace(argv=request.argv[count:])
    plan = found.filter.match(inner, clock) if found.matches else None
    if plan is None:
        return found
    if one.chain(request, count, plan) is None:
        why = f"sends a signal, or runs as another user than {one.name}, which is {one.user(request)}"
        return replace(found, stopped=why)
    if chained(one.options, found.filter.options) is None:
        return replace(found, stopped=f"its options and those of {one.name} contradict each other")
    return found


def _shift(found: Trace, count: int) -> Trace:
    steps = tuple(replace(step, place=step.place + count) for step in found.steps)
    by_words = found.stopped and found.stopped == _why(found.filter, found.steps)
    return replace(found, steps=steps, stopped=_why(found.filter, steps) if by_words else found.stopped)


def _prefix(one: ChainingFilter, argv: tuple[str, ...], clock: Clock) -> Iterator[Step]:
    if isinstance(one, ChainingRegExpFilter):
        yield from _by_patterns(one.patterns, argv[: len(one.patterns)], 0, one, clock)
    elif isinstance(one, IpNetnsExecFilter):
        yield Step(0, argv[0], " or ".join(sorted(one.commands)), ok=True)
        tests = (
            ("netns", ip.is_netns),
            ("exec", lambda word: bool(word) and ip.could_mean(word, "exec")),
            ("the name of a namespace", ip.is_namespace),
            ("a command", lambda word: True),
        )
        for place, (wanted, takes) in enumerate(tests, 1):
            word = argv[place] if place < len(argv) else None
            yield Step(place, word, wanted, ok=word is not None and takes(word))
            if word is None:
                return
    else:
        yield Step(0, argv[0], "nothing: a ChainingFilter allows nothing", ok=False)
