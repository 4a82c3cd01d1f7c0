"""Compile the regular expressions of filters, and match words with them: whole, in ASCII, within a time.

Promises: `regex` matches: it can stop on time, and lets other threads run meanwhile, unless it is proven that
a match takes few steps. `re`, which can do neither, sees no word of a request. Patterns that the two read
differently are refused when a file is read.
"""

import re
import time
from dataclasses import dataclass, field
from typing import Final

import regex

#: Characters of a word that may reach a pattern, unless its filter says otherwise. PATH_MAX is 4096 too.
MAX_SUBJECT: Final = 4096
#: Seconds that all patterns together may take on one request. A match takes microseconds; a request
#: that needs longer was made to.
REQUEST_SECONDS: Final = 0.2


class OutOfTime(Exception):
    """The patterns took too long on the words of this request."""


class Clock:
    """The processor time that one request may spend in patterns, in its thread.

    Not time of day: a busy machine would turn allowed requests into denied ones.
    """

    __slots__ = ("_left",)

    def __init__(self, seconds: float = REQUEST_SECONDS) -> None:
        self._left = seconds

    def spend(self, seconds: float) -> None:
        """Take so much. Raises OutOfTime when there is none left."""
        self._left -= seconds
        if self._left <= 0:
            raise OutOfTime


# Most patterns are words, for which nothing is compiled: comparing them is much faster.
_LITERAL = re.compile(r"[A-Za-z0-9_/=:,@%-]+", re.ASCII)
#: Seconds of processor time, of all threads, after which the engine gives up, whatever a request has left.
_ENGINE_SECONDS: Final = 0.5
#: Seconds that one step of a match may take: ten times what was measured.
_STEP_SECONDS: Final = 5e-9
#: Steps of a match that is made while no other thread runs, and without clocks, which cost ten times as much.
_MOST_STEPS: Final = 100_000


@dataclass(frozen=True, slots=True)
class Pattern:
    """One compiled pattern.

    `text`: as the file has it. `literal`: the one word that it matches, if so. What was proven of it when it
    was read: `prefix`, how each word begins that matches; `steps`, for each character of a word and one more,
    which a match takes at most, 0 if there is no such bound.
    """

    text: str
    prefix: str = field(default="", repr=False, compare=False)
    steps: int = field(default=0, repr=False, compare=False)
    literal: str | None = field(init=False, repr=False, compare=False)
    _compiled: "regex.Pattern[str]" = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Raises ValueError."""
        literal = self.text if _LITERAL.fullmatch(self.text) else None
        object.__setattr__(self, "literal", literal)
        if literal is not None:
            return
        try:
            compiled = regex.compile(self.text, regex.V0 | regex.ASCII)
        except (regex.error, ValueError, OverflowError, RecursionError) as error:
            raise ValueError(f"bad regular expression: {error}") from error
        object.__setattr__(self, "_compiled", compiled)

    def matches(self, word: str, clock: Clock, longest: int = MAX_SUBJECT) -> bool:
        """True if the whole word matches; one of more than `longest` characters does not.

        Raises OutOfTime.
        """
        if self.literal is not None:
            return word == self.literal
        if len(word) > longest or not word.startswith(self.prefix):
            return False
        if 0 < (steps := self.steps * (len(word) + 1)) <= _MOST_STEPS:
            clock.spend(steps * _STEP_SECONDS)
            return self._compiled.fullmatch(word) is not None
        start = time.thread_time()
        try:
            found = self._compiled.fullmatch(word, timeout=_ENGINE_SECONDS, concurrent=True)
        except TimeoutError:
            raise OutOfTime from None
        clock.spend(time.thread_time() - start)
        return found is not None
