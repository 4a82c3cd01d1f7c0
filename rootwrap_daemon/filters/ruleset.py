"""Find the filters of a policy that allow a request, in their order.

Promises: deciding costs what the filters of one command cost, however many others there are.
Order is that of the files given, then of their lines.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from operator import itemgetter

from rootwrap_daemon.filters.base import Filter
from rootwrap_daemon.filters.chains import ChainingFilter, chained
from rootwrap_daemon.filters.kinds import EnvFilter
from rootwrap_daemon.filters.paths import basename
from rootwrap_daemon.filters.patterns import Clock, OutOfTime
from rootwrap_daemon.filters.plan import ExecPlan
from rootwrap_daemon.filters.values import ALL_SHOWN, Denied, Match, Options, Reason, Request, Shown


class _ByWord:
    """The filters of one command, found by a word that each of them must have at some place."""

    def __init__(self, filters: list[Filter]) -> None:
        self.all = filters
        literals = [one.literals for one in filters]
        # The place that tells the most filters apart.
        variety: dict[int, set[str]] = {}
        for places in literals:
            for place, words in places.items():
                variety.setdefault(place, set()).update(words)
        self._others: list[tuple[int, Filter]] = []
        self._at: dict[int, dict[str, list[tuple[int, Filter]]]] = {}
        for order, (one, places) in enumerate(zip(filters, literals, strict=True)):
            if not places:
                self._others.append((order, one))
                continue
            best = max(places, key=lambda place: len(variety[place]))
            for word in places[best]:
                self._at.setdefault(best, {}).setdefault(word, []).append((order, one))

    def of(self, argv: tuple[str, ...]) -> list[Filter]:
        """Those that can match these words at all, in their order."""
        if not self._at:
            return self.all
        found = list(self._others)
        for place, words in self._at.items():
            if place < len(argv):
                found += words.get(argv[place], ())
        found.sort(key=itemgetter(0))
        return [one for _, one in found]


class RuleSet:
    """All filters of an instance, found by the first word of a request and one more."""

    def __init__(self, filters: Iterable[Filter], same: Mapping[str, Collection[str]] | None = None) -> None:
        """`same`: the other paths of programs that filters name by a path; a request may say them, too."""
        self.filters = tuple(filters)
        index: dict[str, list[Filter]] = {}
        for one in self.filters:
            others = (same or {}).get(one.program, ()) if one.program in one.commands else ()
            for command in (*one.commands, *others):
                index.setdefault(command, []).append(one)
        #: All that `users` options name.
        self.users = frozenset[str]().union(*(one.options.users for one in self.filters))
        #: Names of programs that have a filter with secret words, or with words that no record shows.
        self._secretive = frozenset(
            basename(name)
            for name, found in index.items()
            if any(f.has_secrets or not f.options.audit_argv for f in found)
        )
        self._index = {command: _ByWord(found) for command, found in index.items()}
        #: Variables that a command may begin with where the word `env` is left out.
        self._variables = {name for f in self.filters if isinstance(f, EnvFilter) for name, _ in f.variables}

    def shown(self, argv: tuple[str, ...]) -> Shown:
        """Return the words that a record may show of a request that no filter allows: a typo shows no secret.

        All behind the name of a program some filter of which has secret words, or shows none, are hidden.
        """
        if "env" in self._secretive and argv[0].partition("=")[0] in self._variables:
            return Shown(secret=frozenset(range(len(argv))))
        for place, word in enumerate(argv if self._secretive else ()):
            if basename(word) in self._secretive:
                return Shown(secret=frozenset(range(place + 1, len(argv))))
        return ALL_SHOWN

    def match(self, request: Request) -> Match | Denied:
        """The first filter that allows these words, or why none does."""
        return next(self.matches(request))

    def matches(self, request: Request) -> Iterator[Match | Denied]:
        """Every filter that allows these words, in order; last, always, the Denied if none can be used."""
        clock = Clock()
        reason = Reason.WORDS
        refused_matches: list[Match] = []
        try:
            for match in self._matches(request, clock, chains=True):
                refused = _refusal(match.options, request)
                if refused is None:
                    yield _complete(match, request.env)
                else:
                    reason = refused
                    refused_matches.append(match)
            known = self._index.get(request.argv[0])
            if known is None and request.argv[0].partition("=")[0] not in self._variables:
                reason = Reason.PROGRAM
            elif known is not None and not any(one.is_for(request) for one in known.all):
                reason = Reason.USER
        except OutOfTime:
            reason = Reason.TIME
        yield Denied(reason, tuple(refused_matches))

    def _matches(self, request: Request, clock: Clock, *, chains: bool) -> Iterator[Match]:
        argv = request.argv
        candidates = self._candidates(argv)
        name, equals, _ = argv[0].partition("=")
        added = 0
        if equals and chains and name in self._variables and not candidates:
            # As oslo.rootwrap: `A=1 program` is `env A=1 program` for an EnvFilter.
            argv, added = ("env", *argv), 1
            candidates = [one for one in self._candidates(argv) if isinstance(one, EnvFilter)]
        for one in candidates:
            # Most filters are for everybody, and most requests name nobody.
            if (request.user is not None or one.options.users) and not one.is_for(request):
                continue
            # By another path of the same program, it is as if by its own, or by its name.
            ways: tuple[tuple[str, ...], ...] = (argv,)
            if argv[0] not in one.commands:
                ways = tuple((name, *argv[1:]) for name in (one.program, basename(one.program)))
            for way in ways:
                asked = request if way is request.argv else request._replace(argv=way)
                if isinstance(one, ChainingFilter):
                    if chains:
                        yield from self._chained(one, asked, clock)
                elif (plan := one.match(asked, clock)) is not None:
                    yield Match(
                        one.name,
                        one.location,
                        plan,
                        one.options,
                        secret=frozenset(place - added for place in one.secret(way)),
                    )
                    break

    def _candidates(self, argv: tuple[str, ...]) -> Iterable[Filter]:
        found = self._index.get(argv[0])
        return () if found is None else found.of(argv)

    def _chained(self, outer: ChainingFilter, request: Request, clock: Clock) -> Iterator[Match]:
        argv = request.argv
        count = outer.prefix(argv, clock)
        if count is None or len(argv) <= count:
            return
        # One level: a chain inside a chain is nobody's command.
        for leaf in self._matches(request._replace(argv=argv[count:]), clock, chains=False):
            plan = outer.chain(request, count, leaf.plan)
            if plan is not None:
                options = chained(outer.options, leaf.options)
                if options is not None:
                    secret = outer.options.secret | {count + place for place in leaf.secret}
                    yield Match(outer.name, outer.location, plan, options, leaf.filter, secret)


def _refusal(options: Options, request: Request) -> Reason | None:
    """Why the options of a filter that allows the words do not allow the rest of the request."""
    if request.stdin and not options.stdin:
        return Reason.STDIN
    # A variable needs its name in the filter, and a value as the filter says.
    if not all(options.takes(name, value) for name, value in request.env):
        return Reason.ENVIRONMENT
    return None


def _complete(match: Match, env: tuple[tuple[str, str], ...]) -> Match:
    """The match with what the options add to its plan."""
    plan, options = match.plan, match.options
    if not isinstance(plan, ExecPlan) or not (env or options.set_env):
        return match
    # What an EnvFilter took from the words stands, and what the filter sets stands above all.
    merged = {**dict(env), **dict(plan.env), **dict(options.set_env)}
    return match._replace(plan=plan._replace(env=tuple(merged.items())))
