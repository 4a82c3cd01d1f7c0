"""ArgvFilter: allow a program with words that a typed pattern describes, one pattern a word.

Promises: each word of a request is looked at once, and one place of the pattern at most can take it. The
language is in doc/source/reference/argv.rst; what reads it is filters/read/argv_syntax.py.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from rootwrap_daemon.filters.argv_types import Typed
from rootwrap_daemon.filters.base import Filter
from rootwrap_daemon.filters.patterns import Clock
from rootwrap_daemon.filters.plan import ExecPlan, Plan, Program, Word
from rootwrap_daemon.filters.values import Request


@dataclass(frozen=True, slots=True)
class After:
    """The continuations of a place: words that say which place they are for, and a type for all others.

    `place`: that of a word of the type.
    """

    words: Mapping[str, int]
    typed: Typed | None = None
    place: int = 0


def _nothing(word: str) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Pattern:
    """A compiled pattern: for the beginning (0) and each place, what may follow it.

    `ends`: the places that may be the last. `makes`: what the plan has in the place of a word, for the places
    where that is not the word itself. `secrets`: the places of words that no record shows.
    """

    after: tuple[After, ...]
    ends: frozenset[int]
    makes: dict[int, Callable[[str], Word]] = field(init=False, repr=False, compare=False)
    secrets: frozenset[int] = field(init=False, repr=False, compare=False)
    _steps: tuple[tuple[Mapping[str, int], Callable[[str], bool], int], ...] = field(
        init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        """Raises ValueError for a place that there is not."""
        places = {0, *self.ends}
        for one in self.after:
            places |= {one.place, *one.words.values()}
        if not all(0 <= place < len(self.after) for place in places):
            raise ValueError("a pattern that leads nowhere")
        types = {one.place: one.typed for one in self.after if one.typed is not None}
        makes = {place: one.make for place, one in types.items() if one.make is not None}
        object.__setattr__(self, "makes", makes)
        secrets = frozenset(place for place, one in types.items() if one.name == "secret")
        object.__setattr__(self, "secrets", secrets)
        steps = (
            (one.words, _nothing if one.typed is None else one.typed.takes, one.place) for one in self.after
        )
        object.__setattr__(self, "_steps", tuple(steps))

    def match(self, words: tuple[str, ...]) -> tuple[Word, ...] | None:
        """The words as the plan has them, None if they do not match."""
        places = self._places(words)
        if places is None:
            return None
        pairs = zip(places, words, strict=True)
        return tuple(self.makes[place](word) if place in self.makes else word for place, word in pairs)

    def secret(self, words: tuple[str, ...]) -> frozenset[int]:
        """Return which of words that match are secret, by their index."""
        places = self._places(words) if self.secrets else None
        return frozenset(index for index, place in enumerate(places or ()) if place in self.secrets)

    def next(self, here: int, word: str) -> int:
        """The place of a word behind this place, 0 if it has none."""
        known, takes, other = self._steps[here]
        return known.get(word) or (other if takes(word) else 0)

    def _places(self, words: tuple[str, ...]) -> list[int] | None:
        here = 0
        places = []
        for word in words:
            here = self.next(here, word)
            if not here:
                return None
            places.append(here)
        return places if here in self.ends else None


@dataclass(frozen=True, slots=True)
class ArgvFilter(Filter):
    """This program, with words as the pattern says; without a pattern, with none."""

    pattern: Pattern

    @property
    def literals(self) -> Mapping[int, Collection[str]]:
        found: dict[int, Collection[str]] = {}
        here = {0}
        # A way through the pattern that takes as many words as there are places comes round again.
        for place in range(1, len(self.pattern.after)):
            if here & self.pattern.ends:
                break
            following = [self.pattern.after[one] for one in here]
            if not any(one.place for one in following):
                # No word of a type can stand here, in no request that matches.
                found[place] = {word for one in following for word in one.words}
            here = {number for one in following for number in (*one.words.values(), one.place) if number}
        return found

    @property
    def has_secrets(self) -> bool:
        return bool(self.pattern.secrets or self.options.secret)

    def secret(self, argv: tuple[str, ...]) -> frozenset[int]:
        return self.options.secret | {index + 1 for index in self.pattern.secret(argv[1:])}

    def match(self, request: Request, clock: Clock) -> Plan | None:
        words = self.pattern.match(request.argv[1:])
        return None if words is None else ExecPlan(Program(self.program), words, self.user(request))
