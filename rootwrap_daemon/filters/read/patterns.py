"""Refuse the regular expressions that `re` and `regex` read differently, whoever wrote them for which."""

import re
import warnings

from rootwrap_daemon.filters.patterns import MAX_SUBJECT, Clock, Pattern
from rootwrap_daemon.filters.read.fault import Fault
from rootwrap_daemon.filters.read.steps import prefix, steps
from rootwrap_daemon.filters.read.tree import ESCAPE, parse, split, written_out

# An opening brace that is not a repetition: `re` reads it as itself, `regex` as fuzzy matching.
_LITERAL_BRACE = re.compile(r"\{(?!\d+(,\d*)?\}|,\d+\})")
_COMMA_BRACE = re.compile(r"\{\d*\\x2c\d*\}")
_WITHOUT_COMMA = (
    r"write the repetition without one: x{8}x* for {8,}, xx?x? for {1,3}; elsewhere a comma is \x2c"
)
# Flags inside the pattern that would undo ASCII, and what hides the rest of it from a look like ours.
_FLAGS = re.compile(r"\(\?[a-zA-Z]*[uLx]")
# The end of a class like [a[:alpha:]], which `re` reads as [a[:alph] and a bracket behind it. In front, as in
# [[:alpha:]], `re` warns of it.
_POSIX_CLASS = re.compile(r"\[:[^\]]+:\]")


def compile_pattern(text: str) -> Pattern:
    """The text as a pattern. Raises Fault, without a location."""
    with warnings.catch_warnings():
        # `re` warns of what a later version will read differently (nested sets): refused today.
        warnings.simplefilter("error", FutureWarning)
        try:
            plain = re.compile(text, re.ASCII)
        except (re.error, FutureWarning, ValueError, OverflowError, RecursionError) as error:
            raise Fault("pattern", f"bad regular expression: {error}", "correct the pattern") from error
    if "(?#" in text:
        raise Fault("pattern", "a comment inside a pattern", "write it on a line of its own, after #")
    outside, classes = split(text)
    if any(map(_POSIX_CLASS.search, classes)):
        remedy = r"write the characters, or \[ before the :"
        raise Fault("pattern", "`[:`, which engines read differently", remedy)
    if _FLAGS.search(outside):
        raise Fault("pattern", "one of the flags u, L and x", "take the flag out")
    if brace := _LITERAL_BRACE.search(outside):
        if re.fullmatch(r"\{\d*", outside[brace.start() :]):
            what = "a comma splits the repetition {m,n} into two fields"
            raise Fault("split_pattern", what, _WITHOUT_COMMA)
        if _COMMA_BRACE.match(text, brace.start()):
            raise Fault("pattern", r"\x2c in a repetition, where it is no comma", _WITHOUT_COMMA)
        raise Fault("pattern", "a literal { in a pattern", r"write it as \{")
    if r"\B" in ESCAPE.findall(text):
        # `re` of Python 3.13 and before does not find it in an empty word; `regex`, and `re` since, do.
        raise Fault("pattern", r"\B, which engines read differently at an empty word", "write it without")
    try:
        pieces = written_out(parse(text))
    except RecursionError as error:
        raise Fault("pattern", "too many groups inside one another", "write fewer of them") from error
    if pieces > MAX_SUBJECT + len(text):
        # `x{99999999}` is ten characters of a text, and gigabytes of an engine.
        what = f"repetitions of more than {MAX_SUBJECT} characters in all"
        raise Fault("pattern", what, "write a smaller number, or *")
    try:
        found = Pattern(text, prefix(text), steps(text))
    except ValueError as error:
        raise Fault("pattern", str(error), "correct the pattern") from error
    if (plain.fullmatch("") is None) == found.matches("", Clock()):
        raise Fault("pattern", "engines read it differently at an empty word", "write what a word has")
    return found
