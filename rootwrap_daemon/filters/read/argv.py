"""Read the definition of an ArgvFilter, and warn of words that allow more than they seem to.

Promises: what it warns of depends on the text alone. The language is in doc/source/reference/argv.rst.
"""

import re
from collections.abc import Iterator
from typing import Final

from rootwrap_daemon.filters.argv import After, ArgvFilter, Pattern
from rootwrap_daemon.filters.argv_types import Choice, Typed
from rootwrap_daemon.filters.finding import Location
from rootwrap_daemon.filters.paths import basename
from rootwrap_daemon.filters.read.argv_syntax import Parser, Place
from rootwrap_daemon.filters.read.fault import Fault
from rootwrap_daemon.filters.read.fields import Warn, program_of, run_as_of, warn_of_argv0
from rootwrap_daemon.filters.read.ini import Entry
from rootwrap_daemon.filters.values import Options

_FORM: Final = "name: ArgvFilter, program, run_as, word, {type}, {=a|b}, [optional, ...], ..."


def read(entry: Entry, options: Options, warn: Warn) -> ArgvFilter:
    """The filter that a definition describes. Raises Fault."""
    if len(entry.fields) < 3:
        raise Fault("fields", "no program or no user", f"write `{_FORM}`", entry.location)
    program, run_as = program_of(entry.fields[1]), run_as_of(entry.fields[2])
    if set(program) & set("{}[]|\\"):
        what = f"{program!r} is not a program"
        raise Fault("field", what, f"write `{_FORM}`", entry.fields[1].location)
    text, locations = _characters(entry)
    warn_of_argv0(program, entry.fields[3:4], warn)
    head = text.split(",", 3)
    if len(head) == 3:
        pattern = Pattern((After({}),), frozenset((0,)))
    else:
        parser = Parser(text, locations, len(text) - len(head[3]), warn)
        pattern = parser.pattern()
        _warn_of_words(basename(program), parser.places, warn)
    return ArgvFilter(entry.name, entry.location, program, run_as, options, pattern)


def _characters(entry: Entry) -> tuple[str, list[Location]]:
    """The definition's value, its lines joined, and where each character and the end stand."""
    file = entry.location.file
    locations = []
    for line, column, text in entry.lines:
        locations += [Location(file, line, column + offset) for offset in range(len(text) + 1)]
    return "\n".join(text for _, _, text in entry.lines), locations


# Programs that read a word where a value may stand for a keyword first, and what they want done.
_READ_KEYWORDS: Final = frozenset(("ip", "tc", "bridge"))
_VERBS: Final = frozenset(
    "add append change del delete flush get list lst ls prepend replace set show".split()
)
#: An option whose value a program takes for a secret.
_SECRET_OPTION: Final = re.compile(
    "(--[a-z-]*(pass(wd|word|phrase|code)?|secret|token)|(--[a-z-]*)?psk)", re.I
)
_FREE: Final = frozenset(("any", "ifname", "name", "netns"))
# Objects of ip whose verbs take a name, and no keyword instead of it.
_WITHOUT_KEYWORDS: Final = frozenset(("netns", "vrf"))
# Types of which ip takes some words behind `netns` for the id of a process: {netns} has no numbers.
_NUMBERS_TOO: Final = frozenset(("any", "ifname", "int", "name"))


def _warn_of_words(program: str, places: list[Place], warn: Warn) -> None:
    for place, found in enumerate(places):
        if not isinstance(found.matcher, Typed):
            continue
        if found.matcher.name == "any" or (
            found.matcher.name == "secret" and not _is_value_of_secret(places, place)
        ):
            what = "this word may be anything but an option"
            remedy = "give it a type"
            if found.matcher.name == "secret":
                remedy = "put it behind the option whose value it is, as in --password, {secret}"
            warn(Fault("any_word", what, remedy, found.location))
        if (
            program == "ip"
            and found.matcher.name in _NUMBERS_TOO
            and any("netns" in words for _, words in _literals_before(places, place))
        ):
            what = "ip reads a number here as the id of a process, and takes the namespace of that"
            warn(Fault("keyword", what, "write {netns}, or {pid=PROGRAM}", found.location))
        elif (
            program in _READ_KEYWORDS
            and found.matcher.name in _FREE
            and any(
                verb & _VERBS and kind - _WITHOUT_KEYWORDS
                for before, verb in _literals_before(places, place)
                for _, kind in _literals_before(places, before)
            )
        ):
            remedy = "write the keyword that takes the value, as in `dev, {ifname}`"
            what = f"{program} could read this word as one of its keywords"
            warn(Fault("keyword", what, remedy, found.location))


def _is_value_of_secret(places: list[Place], place: int) -> bool:
    """True if only options stand before the word that say of themselves that their value is a secret."""
    before = [word for _, words in _literals_before(places, place) for word in words]
    return bool(before) and all(map(_SECRET_OPTION.fullmatch, before))


def _literals_before(places: list[Place], place: int) -> Iterator[tuple[int, frozenset[str]]]:
    for before, found in enumerate(places):
        if place in found.follow and isinstance(found.matcher, Choice):
            yield before, found.matcher.words
