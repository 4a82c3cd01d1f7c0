"""Define the base class of all kinds of filters, and match words with more than one pattern.

Promises: matching changes nothing and looks at no host.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from rootwrap_daemon.filters.finding import Location
from rootwrap_daemon.filters.paths import basename
from rootwrap_daemon.filters.patterns import Clock, Pattern
from rootwrap_daemon.filters.plan import Plan
from rootwrap_daemon.filters.values import Options, Request


@dataclass(frozen=True, slots=True)
class Filter:
    """One definition. `program` is a bare name or an absolute path.

    `run_as`: the names of users, one of whom a request may name; without, it means the first.
    """

    name: str
    location: Location
    program: str
    run_as: tuple[str, ...]
    options: Options

    def __post_init__(self) -> None:
        """Raises ValueError."""
        if not self.run_as:
            raise ValueError("a filter without a user")

    @property
    def commands(self) -> frozenset[str]:
        """The words that argv[0] may be: the program as configured, or the last component of its path."""
        return frozenset((self.program, basename(self.program)))

    @property
    def literals(self) -> Mapping[int, Collection[str]]:
        """The places of argv where one of few words must stand, and which; so that others are not tried."""
        return {}

    @property
    def has_secrets(self) -> bool:
        """True if some of the words that it allows are secret."""
        return bool(self.options.secret)

    def secret(self, argv: tuple[str, ...]) -> frozenset[int]:
        """The places of words that no record shows, of an argv that matches; argv[0] is 0."""
        return self.options.secret

    def is_for(self, request: Request) -> bool:
        """May whoever asks use this filter, and as the user that the request names?"""
        users = self.options.users
        return (request.user is None or request.user in self.run_as) and (
            not users or not users.isdisjoint(request.asker)
        )

    def user(self, request: Request) -> str:
        """As whom a command of this filter runs."""
        return self.run_as[0] if request.user is None else request.user

    def match(self, request: Request, clock: Clock) -> Plan | None:
        """Return what would run, None if these words are not allowed.

        `argv[0]` is one of `commands`. Raises OutOfTime.
        """
        raise NotImplementedError


def all_match(patterns: tuple[Pattern, ...], words: tuple[str, ...], clock: Clock, options: Options) -> bool:
    """True if there are as many words as patterns, and each matches. Raises OutOfTime."""
    if len(patterns) != len(words):
        return False
    for pattern, word in zip(patterns, words, strict=True):
        if not word.startswith(pattern.prefix) or (pattern.literal is not None and pattern.literal != word):
            return False
    # What takes time comes after all words, the last first: filters of one command seldom differ in front.
    for pattern, word in zip(reversed(patterns), reversed(words), strict=True):
        if pattern.literal is None and not pattern.matches(word, clock, options.max_word):
            return False
    return True


def literals_of(patterns: tuple[Pattern, ...]) -> dict[int, tuple[str, ...]]:
    """The places after argv[0] whose pattern is a word."""
    return {
        place: (pattern.literal,)
        for place, pattern in enumerate(patterns)
        if place and pattern.literal is not None
    }
