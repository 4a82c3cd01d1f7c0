"""Read the fields that more than one kind of filter has.

Promises: a field that is not understood exactly is a Fault with its location.
"""

import re
import signal
from collections.abc import Callable
from typing import Final

from rootwrap_daemon.counted import counted
from rootwrap_daemon.filters.paths import basename, is_normal_path
from rootwrap_daemon.filters.patterns import Clock, OutOfTime, Pattern
from rootwrap_daemon.filters.read.fault import Fault
from rootwrap_daemon.filters.read.ini import Entry, Field
from rootwrap_daemon.filters.read.patterns import compile_pattern

Warn = Callable[[Fault], None]

#: Where a program may be by another path.
_OF_PROGRAMS: Final = ("/bin", "/sbin", "/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin")


def expect(entry: Entry, form: str, least: int, most: int | None = None) -> tuple[Field, ...]:
    """The fields after the kind's name, if there are as many as `form` has."""
    rest = entry.fields[1:]
    if len(rest) < least:
        raise Fault(
            "fields", f"{counted(len(rest), 'field')} after the kind", f"write `{form}`", entry.location
        )
    if most is not None and len(rest) > most:
        extra = rest[most]
        remedy = "take the comma out" if not extra.text else f"write `{form}`"
        raise Fault("fields", "a field too many, which would be ignored", remedy, extra.location)
    return rest


def program_of(part: Field) -> str:
    """A bare name or a plain absolute path. Raises Fault."""
    name = part.text
    if not basename(name) or basename(name) in (".", "..") or name.startswith("-"):
        raise Fault("field", f"{name!r} is not a program", "write its name or absolute path", part.location)
    if "/" in name and not is_normal_path(name):
        remedy = "write it without `.`, `..` and `//`"
        raise Fault("field", f"{name!r} is not a plain absolute path", remedy, part.location)
    return name


def warn_of_argv0(program: str, first: tuple[Field, ...], warn: Warn) -> None:
    """Warn of a kind whose words begin behind argv[0], and whose first word is the program again."""
    own = (program, basename(program), *(f"{directory}/{basename(program)}" for directory in _OF_PROGRAMS))
    if first and first[0].text in own:
        what = f"the first word behind {basename(program)} is {first[0].text} again"
        warn(Fault("literal", what, "take it out: argv[0] has no field in this kind", first[0].location))


#: A number would be read as a uid.
USER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*\$?", re.ASCII)


def run_as_of(part: Field) -> tuple[str, ...]:
    """Users' names, with bars between them; whether there are such only the host can say. Raises Fault."""
    if "#" in part.text or ";" in part.text:
        raise Fault("comment", "a comment after a definition", "put it on a line of its own", part.location)
    names = tuple(part.text.split("|"))
    for name in names:
        if not USER.fullmatch(name):
            remedy = "write a name: numbers are ambiguous"
            raise Fault("field", f"{name!r} is not the name of a user", remedy, part.location)
        if names.count(name) > 1:
            raise Fault("field", f"{name} a second time", "write each user once", part.location)
    return names


#: As kill(1) takes them, without SIG.
_SIGNALS: Final = {
    name.removeprefix("SIG"): number.value for name, number in signal.Signals.__members__.items()
}
_SIGNAL_NUMBER = re.compile(r"[1-9][0-9]?", re.ASCII)


def signal_number(text: str) -> int | None:
    """The number of `9`, `KILL` or `SIGKILL`, None if there is no such signal."""
    if _SIGNAL_NUMBER.fullmatch(text):
        return int(text) if int(text) < signal.NSIG else None
    return _SIGNALS.get(text.removeprefix("SIG"))


def patterns_of(fields: tuple[Field, ...]) -> tuple[Pattern, ...]:
    """Each field as a pattern. Raises Fault."""
    found = []
    for part in fields:
        try:
            found.append(compile_pattern(part.text))
        except Fault as fault:
            fault.at(part.location)
            raise
    return tuple(found)


def check_first(pattern: Pattern, program: str, part: Field) -> None:
    """Raise Fault if the pattern of argv[0] does not match the program's own name or path."""
    # oslo.rootwrap lets the pattern alone decide, and would run rm for a request of `ls`.
    clock = Clock()
    try:
        matches = any(pattern.matches(name, clock) for name in (program, basename(program)))
    except OutOfTime as error:
        raise Fault(
            "pattern", "a pattern that takes too long", "write it without (a+)+", part.location
        ) from error
    if not matches:
        what = f"the first pattern does not match {program}"
        raise Fault("first_pattern", what, "write the program's name there", part.location)


def ip_of(entry: Entry, form: str) -> tuple[str, tuple[str, ...]]:
    """Program and users of a kind that is for ip(8) alone. Raises Fault."""
    program, run_as = expect(entry, form, 2, 2)
    if basename(program_of(program)) != "ip":
        what = f"{program.text!r} is not ip, whose words this kind knows"
        raise Fault("program_of_kind", what, "use another kind", program.location)
    return program.text, run_as_of(run_as)
