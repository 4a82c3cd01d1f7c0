"""Read a definition: what each kind of filter makes of its fields.

Promises: a kind refuses at load what it could not judge exactly.
"""

import re
from collections.abc import Callable
from typing import Final

from rootwrap_daemon.filters import chains, kinds
from rootwrap_daemon.filters.argv import ArgvFilter
from rootwrap_daemon.filters.base import Filter
from rootwrap_daemon.filters.finding import Location
from rootwrap_daemon.filters.kinds import AnyFilter
from rootwrap_daemon.filters.paths import basename, is_normal_path
from rootwrap_daemon.filters.patterns import Pattern
from rootwrap_daemon.filters.plan import ProcessOf
from rootwrap_daemon.filters.read.argv import read as read_argv
from rootwrap_daemon.filters.read.dangers import danger_of
from rootwrap_daemon.filters.read.fault import Fault
from rootwrap_daemon.filters.read.fields import (
    Warn,
    check_first,
    expect,
    ip_of,
    patterns_of,
    program_of,
    run_as_of,
    signal_number,
    warn_of_argv0,
)
from rootwrap_daemon.filters.read.ini import Entry, Field
from rootwrap_daemon.filters.values import Options
from rootwrap_daemon.filters.variables import is_dangerous_variable

#: The fields that every kind has: name, place, program, users, options.
_Common = tuple[str, Location, str, tuple[str, ...], Options]


def _common(entry: Entry, options: Options, program: Field, run_as: Field) -> _Common:
    """Raises Fault."""
    return entry.name, entry.location, program_of(program), run_as_of(run_as), options


def _command(entry: Entry, options: Options, warn: Warn) -> AnyFilter:
    program, run_as = expect(entry, "name: CommandFilter, program, run_as", 2, 2)
    return kinds.CommandFilter(*_common(entry, options, program, run_as))


def _with_patterns(entry: Entry, options: Options) -> tuple[_Common, tuple[Pattern, ...]]:
    """Raises Fault."""
    form = f"name: {entry.fields[0].text}, program, run_as, pattern of argv[0], pattern, ..."
    program, run_as, *_ = expect(entry, form, 3)
    patterns = patterns_of(entry.fields[3:])
    check_first(patterns[0], program_of(program), entry.fields[3])
    return _common(entry, options, program, run_as), patterns


def _reg_exp(entry: Entry, options: Options, warn: Warn) -> AnyFilter:
    common, patterns = _with_patterns(entry, options)
    return kinds.RegExpFilter(*common, patterns)


def _path(entry: Entry, options: Options, warn: Warn) -> AnyFilter:
    form = "name: PathFilter, program, run_as, `pass` | /directory | literal, ..."
    program, run_as, *arguments = expect(entry, form, 3)
    warn_of_argv0(program_of(program), tuple(arguments[:1]), warn)
    words = tuple(_base(part) if part.text.startswith("/") else part.text for part in arguments)
    return kinds.PathFilter(*_common(entry, options, program, run_as), words)


def _base(part: Field) -> str:
    base = part.text.rstrip("/")
    if not base:
        what = "the base directory / contains everything"
        raise Fault("whole_tree", what, "name the directory meant", part.location)
    if set(base) & set("*?[](){}|^$\\+"):
        what = "a regular expression in a PathFilter, which compares paths"
        raise Fault("path_pattern", what, "use a RegExpFilter", part.location)
    if not is_normal_path(base):
        what = f"{part.text} is not a plain absolute path"
        raise Fault("field", what, "write it without `..`", part.location)
    return base


def _kill(entry: Entry, options: Options, warn: Warn) -> AnyFilter:
    run_as, program, *signals = expect(entry, "name: KillFilter, run_as, program, -SIGNAL, ...", 2)
    numbers = {}
    for part in signals:
        number = signal_number(part.text[1:]) if part.text.startswith("-") else None
        if number is None:
            raise Fault("signal", f"{part.text!r} is not a signal", "write -9 or -HUP", part.location)
        numbers[part.text] = number
    return kinds.KillFilter(*_common(entry, options, program, run_as), numbers)


def _read_file(entry: Entry, options: Options, warn: Warn) -> AnyFilter:
    (path,) = expect(entry, "name: ReadFileFilter, /path", 1, 1)
    if not is_normal_path(path.text):
        what = f"{path.text!r} is not a plain absolute path"
        raise Fault("field", what, "write one", path.location)
    return kinds.ReadFileFilter(entry.name, entry.location, path.text, ("root",), options)


def _ip(entry: Entry, options: Options, warn: Warn) -> AnyFilter:
    program, run_as = ip_of(entry, "name: IpFilter, ip, run_as")
    return kinds.IpFilter(entry.name, entry.location, program, run_as, options)


_VARIABLE = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=(.*)", re.ASCII | re.DOTALL)


def _env(entry: Entry, options: Options, warn: Warn) -> AnyFilter:
    form = "name: EnvFilter, env, run_as, NAME=, ..., program, pattern, ..."
    env, run_as, *rest = expect(entry, form, 3)
    program = program_of(env)
    inner = None
    if basename(program) != "env":
        # The other form: the program comes first, and variables alone follow its user.
        program, inner = "env", program
    variables: dict[str, str] = {}
    while rest and "=" in rest[0].text:
        part = rest.pop(0)
        found = _VARIABLE.fullmatch(part.text)
        if not found or found[1] in variables or not kinds.is_printable(found[2]):
            what = f"{part.text!r} is not a variable, or names one a second time"
            raise Fault("field", what, "write NAME= or NAME=value", part.location)
        if is_dangerous_variable(found[1]) and not found[2]:
            what = f"any value of {found[1]} {danger_of(found[1])}"
            warn(Fault("variable", what, "write the value", part.location))
        variables[found[1]] = found[2]
    if inner is not None and rest:
        raise Fault("program_of_kind", f"{env.text!r} is not env", f"write `{form}`", env.location)
    if inner is None and rest:
        inner = program_of(rest.pop(0))
    if not variables or inner is None:
        raise Fault("fields", "no variable, or no program after them", f"write `{form}`", entry.location)
    patterns = patterns_of(tuple(rest))
    common = (entry.name, entry.location, program, run_as_of(run_as), options)
    return kinds.EnvFilter(*common, tuple(variables.items()), inner, patterns)


def _chaining(entry: Entry, options: Options, warn: Warn) -> AnyFilter:
    program, run_as, *_ = expect(entry, "name: ChainingFilter, program, run_as", 2)
    remedy = "use a ChainingRegExpFilter"
    warn(Fault("never", "a ChainingFilter never allows anything", remedy, entry.location))
    return chains.ChainingFilter(*_common(entry, options, program, run_as))


def _ip_netns_exec(entry: Entry, options: Options, warn: Warn) -> AnyFilter:
    program, run_as = ip_of(entry, "name: IpNetnsExecFilter, ip, root")
    if run_as != ("root",):
        what = "entering a namespace needs root"
        raise Fault("program_of_kind", what, "write root", entry.fields[2].location)
    return chains.IpNetnsExecFilter(entry.name, entry.location, program, run_as, options)


def _chaining_reg_exp(entry: Entry, options: Options, warn: Warn) -> AnyFilter:
    common, patterns = _with_patterns(entry, options)
    return chains.ChainingRegExpFilter(*common, patterns)


#: Kind as written in a filter file -> what makes a filter of its definition. Each raises Fault.
KINDS: Final[dict[str, Callable[[Entry, Options, Warn], AnyFilter]]] = {
    "CommandFilter": _command,
    "RegExpFilter": _reg_exp,
    "PathFilter": _path,
    "KillFilter": _kill,
    "ReadFileFilter": _read_file,
    "IpFilter": _ip,
    "EnvFilter": _env,
    "ChainingFilter": _chaining,
    "IpNetnsExecFilter": _ip_netns_exec,
    "ChainingRegExpFilter": _chaining_reg_exp,
    "ArgvFilter": read_argv,
}


def uses(one: Filter, option: str) -> bool:
    """False for an option of its kind that does nothing for the words of this filter."""
    if option == "secret" and isinstance(one, kinds.RegExpFilter):
        return max(one.options.secret, default=0) < len(one.patterns)
    if option == "secret" and isinstance(one, kinds.PathFilter):
        return max(one.options.secret, default=0) <= len(one.arguments)
    if option in ("max_word", "opens_paths") and isinstance(one, kinds.EnvFilter):
        return bool(one.patterns)
    if option == "opens_paths" and isinstance(one, ArgvFilter):
        return len(one.pattern.after) > 1
    if option in ("target_user", "started_by", "namespaces") and isinstance(one, ArgvFilter):
        # Any number shows what is made of it.
        return any(isinstance(make("1"), ProcessOf) for make in one.pattern.makes.values())
    return True
