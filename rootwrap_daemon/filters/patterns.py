"""Compile the regular expressions of filters, and match words with them: whole, in ASCII, within a time.

Promises: what `re` and `regex` would read differently is refused at load. `regex` matches: it can stop on
time, and lets other threads run meanwhile. `re`, which can do neither, sees no word of a request.
"""

import re
import time
import warnings
from typing import Final

import regex

from rootwrap_daemon.filters.finding import Fault

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


# An opening brace that is not a repetition: `re` reads it as itself, `regex` as fuzzy matching.
_LITERAL_BRACE = re.compile(r"\{(?!\d+(,\d*)?\}|,\d+\})")
# Flags inside the pattern that would undo ASCII, and what hides the rest of it from a look like ours.
_FLAGS = re.compile(r"\(\?[a-zA-Z]*[uLx]")
# Most patterns are words: comparing them is fifty times faster.
_LITERAL = re.compile(r"[A-Za-z0-9_/=:,@%-]+", re.ASCII)
# The end of a class like [a[:alpha:]], which `re` reads as [a[:alph] and a bracket behind it. In front, as in
# [[:alpha:]], `re` warns of it.
_ESCAPE = re.compile(r"\\.", re.DOTALL)
_POSIX_CLASS = re.compile(r"\[:[^\]]+:\]")
#: Seconds of processor time of all threads after which the engine gives up, whatever the clock of the request
#: says.
_ENGINE_SECONDS: Final = 0.5


class Pattern:
    """One compiled pattern.

    `text`: as the file has it. `literal`: the one word that it matches, if so.
    """

    __slots__ = ("_compiled", "literal", "text")

    def __init__(self, text: str) -> None:
        """Raises Fault, without a location."""
        self.text = text
        self.literal = text if _LITERAL.fullmatch(text) else None
        with warnings.catch_warnings():
            # `re` warns of what a later version will read differently (nested sets): refused today.
            warnings.simplefilter("error", FutureWarning)
            try:
                plain = re.compile(text, re.ASCII)
            except (re.error, FutureWarning, ValueError, OverflowError, RecursionError) as error:
                raise Fault("pattern", f"bad regular expression: {error}", "correct the pattern") from error
        if "(?#" in text:
            raise Fault("pattern", "a comment inside a pattern", "write it on a line of its own, after #")
        outside, classes = _split(text)
        if any(map(_POSIX_CLASS.search, classes)):
            remedy = r"write the characters, or \[ before the :"
            raise Fault("pattern", "`[:`, which engines read differently", remedy)
        if _FLAGS.search(outside):
            raise Fault("pattern", "one of the flags u, L and x", "take the flag out")
        if brace := _LITERAL_BRACE.search(outside):
            split = re.fullmatch(r"\{\d*", outside[brace.start() :])
            if split:
                remedy = r"write the comma as \x2c, or the repetition without one"
                raise Fault("split_pattern", "a comma splits the repetition {m,n} into two fields", remedy)
            raise Fault("pattern", "a literal { in a pattern", r"write it as \{")
        try:
            self._compiled = regex.compile(text, regex.V0 | regex.ASCII)
        except (regex.error, ValueError, OverflowError, RecursionError) as error:
            raise Fault("pattern", f"bad regular expression: {error}", "correct the pattern") from error
        if (plain.fullmatch("") is None) != (self._compiled.fullmatch("") is None):
            what = r"\B, which engines read differently at an empty word"
            raise Fault("pattern", what, "write it without")

    def matches(self, word: str, clock: Clock, longest: int = MAX_SUBJECT) -> bool:
        """True if the whole word matches; one of more than `longest` characters does not.

        Raises OutOfTime.
        """
        if self.literal is not None:
            return word == self.literal
        if len(word) > longest:
            return False
        start = time.thread_time()
        try:
            found = self._compiled.fullmatch(word, timeout=_ENGINE_SECONDS, concurrent=True)
        except TimeoutError:
            raise OutOfTime from None
        clock.spend(time.thread_time() - start)
        return found is not None


def _split(text: str) -> tuple[str, list[str]]:
    """The pattern with escapes and classes blanked, and what is in each class with its closing bracket."""
    out: list[str] = []
    classes: list[str] = []
    start = 0
    index = 0
    while index < len(text):
        char = text[index]
        if char == "\\":
            out.append("__")
            index += 2
            continue
        if start:
            # `]` right after `[` or `[^` is itself.
            if char == "]" and index > start + (text[start] == "^"):
                classes.append(_ESCAPE.sub("__", text[start : index + 1]))
                start = 0
            out.append("_" if start else "]")
        else:
            start = index + 1 if char == "[" else 0
            out.append(char)
        index += 1
    return "".join(out), classes
