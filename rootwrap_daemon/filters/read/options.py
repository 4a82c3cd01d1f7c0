"""The options of a filter: what a section named like it may say.

Promises: an option that is unknown, or not set exactly as it can be, is a finding with its place. No I/O.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from rootwrap_daemon.filters.argv_types import PLAIN, Choice, Matcher, Typed
from rootwrap_daemon.filters.read.dangers import danger_of
from rootwrap_daemon.filters.read.fault import Fault, one_of
from rootwrap_daemon.filters.read.fields import Warn, signal_number
from rootwrap_daemon.filters.read.ini import Entry, Field
from rootwrap_daemon.filters.read.types import typed
from rootwrap_daemon.filters.values import CAPABILITIES, Options
from rootwrap_daemon.filters.variables import is_dangerous_variable, is_printable_ascii

#: What `limits` may name: options of prlimit(1), each a resource of getrlimit(2).
LIMITS: Final = frozenset(("nofile", "cpu", "as", "fsize", "nproc", "core", "memlock"))

_VARIABLE = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?:=\{([a-z0-9]*)(?:=(.*))?\})?", re.ASCII)
_SETTING = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=(.*)", re.ASCII)
_LIMIT = re.compile(r"([a-z]+)=([0-9]{1,18})", re.ASCII)
_OCTAL = re.compile(r"0?[0-7]{3}", re.ASCII)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*\$?", re.ASCII)


Reader = Callable[[tuple[Field, ...]], dict[str, Any]]

#: Kinds that run a program with words of their own.
COMMANDS: Final = frozenset(
    ("CommandFilter", "RegExpFilter", "PathFilter", "IpFilter", "EnvFilter", "ArgvFilter")
)
#: Kinds that run a command which another filter allows. (A ChainingFilter runs nothing, and has no options.)
CHAINS: Final = frozenset(("IpNetnsExecFilter", "ChainingRegExpFilter"))
EXECUTES: Final = COMMANDS | CHAINS
#: Kinds whose words may be paths, each of which they allow or not.
JUDGED: Final = COMMANDS - {"CommandFilter", "IpFilter"}
KILL: Final = frozenset(("KillFilter",))
#: Kinds whose words can be the numbers of processes.
PROCESSES: Final = KILL | {"ArgvFilter"}
READ: Final = frozenset(("ReadFileFilter",))


@dataclass(frozen=True, slots=True)
class Option:
    """A row of the table.

    `read`: the fields of its value as fields of Options; raises Fault. `kinds`: those that apply it, each for
    all of its filters but where `Filter.uses` says no. `when` it is applied.
    """

    name: str
    read: Reader
    kinds: frozenset[str]
    when: Literal["match", "bind", "run", "record"]


def read(options: Options, entry: Entry, kind: str | None, warn: Warn) -> Options:
    """`options` of a filter of this kind (None: an unknown one) with what this entry sets. Raises Fault."""
    option = OPTIONS.get(entry.key)
    if option is None:
        what = f"{entry.name} is not an option of a filter"
        if entry.fields and entry.fields[0].text.endswith("Filter"):
            raise Fault(
                "option", what, "a definition belongs to [Filters], above this section", entry.location
            )
        raise Fault("option", what, one_of(entry.key, OPTIONS), entry.location)
    if kind is not None and kind not in option.kinds:
        raise useless(entry, f"a {kind}")
    try:
        changes = option.read(entry.fields)
    except Fault as fault:
        raise Fault("option", f"{entry.name}: {fault.what}", fault.remedy, entry.fields[0].location) from None
    for part in entry.fields if entry.key == "env" else ():
        name = part.text.partition("=")[0]
        # A choice of values is its author's.
        if is_dangerous_variable(name) and "={=" not in part.text:
            warn(Fault("variable", f"any value of {name} {danger_of(name)}", "leave it out", part.location))
    return replace(options, **changes)


def useless(entry: Entry, where: str) -> Fault:
    """The fault of an option that would do nothing: its author believes that it restricts the filter."""
    remedy = f"take it out; it is for {', '.join(sorted(OPTIONS[entry.key].kinds))}"
    return Fault("option", f"{entry.name} does nothing in {where}", remedy, entry.location)


def _one(fields: tuple[Field, ...]) -> str:
    if len(fields) != 1:
        raise Fault("option", "more than one value", "write one")
    return fields[0].text


def _env(fields: tuple[Field, ...]) -> dict[str, Any]:
    found: dict[str, Matcher | None] = {}
    for part in fields:
        match = _VARIABLE.fullmatch(part.text)
        if not match or match[1] in found:
            raise Fault("option", f"{part.text!r} is not a variable", "write NAME or NAME={type}, each once")
        matcher = _type_of(match[2], match[3])
        if isinstance(matcher, Typed) and matcher.make is not None:
            # Nobody looks at the host for a variable: any path, any process would do.
            remedy = f"write {{=/the/value}}, {{int=LOW-HIGH}} or one of {', '.join(sorted(PLAIN))}"
            raise Fault("option", f"{match[2]} is not a type for a variable", remedy)
        found[match[1]] = matcher
    return {"env": found}


def _type_of(name: str | None, parameter: str | None) -> Matcher | None:
    """Return the matcher for `{name=parameter}` or `{=one|another}`; None where there is neither."""
    if name:
        return typed(name, parameter)
    if parameter is None:
        if name is None:
            return None
        raise Fault("option", "{} is no type", "write {type} or {=value|...}")
    words = parameter.split("|")
    if not all(word and is_printable_ascii(word) for word in words):
        raise Fault("option", f"{parameter!r} does not list values", "write {=value|value}")
    return Choice(frozenset(words))


def _set_env(fields: tuple[Field, ...]) -> dict[str, Any]:
    found: dict[str, str] = {}
    for part in fields:
        match = _SETTING.fullmatch(part.text)
        if not match or match[1] in found or not is_printable_ascii(match[2]):
            raise Fault("option", f"{part.text!r} does not set a variable", "write NAME=value, each once")
        found[match[1]] = match[2]
    return {"set_env": tuple(found.items())}


def _whole(name: str, unit: str) -> Reader:
    def reader(fields: tuple[Field, ...]) -> dict[str, Any]:
        text = _one(fields)
        if not re.fullmatch(r"[1-9][0-9]{0,11}", text, re.ASCII):
            raise Fault("option", f"{text!r} is not a whole number", f"write {unit}, at least 1")
        return {name: int(text)}

    return reader


def _timeout(fields: tuple[Field, ...]) -> dict[str, Any]:
    if _one(fields) == "none":
        return {"timeout": math.inf}
    return _whole("timeout", "seconds, or none")(fields)


def _signals(fields: tuple[Field, ...]) -> dict[str, Any]:
    if [part.text for part in fields] == ["none"]:
        return {"signals": frozenset()}
    found = set()
    for part in fields:
        number = signal_number(part.text)
        if number is None:
            raise Fault("option", f"there is no signal {part.text!r}", "write e.g. TERM, HUP, 10, or none")
        found.add(number)
    return {"signals": frozenset(found)}


def _yes_or_no(name: str) -> Reader:
    def reader(fields: tuple[Field, ...]) -> dict[str, Any]:
        text = _one(fields)
        if text not in ("yes", "no"):
            raise Fault("option", f"{text!r} is neither yes nor no", "write one of the two")
        return {name: text == "yes"}

    return reader


def _chosen(name: str, values: Mapping[str, object]) -> Reader:
    def reader(fields: tuple[Field, ...]) -> dict[str, Any]:
        text = _one(fields)
        if text not in values:
            raise Fault("option", f"{text!r} is not known", f"write one of {', '.join(values)}")
        return {name: values[text]}

    return reader


def _mode(name: str) -> Reader:
    def reader(fields: tuple[Field, ...]) -> dict[str, Any]:
        text = _one(fields)
        if not _OCTAL.fullmatch(text):
            raise Fault("option", f"{text!r} is not an octal mode", "write e.g. 0640")
        return {name: int(text, 8)}

    return reader


def _name(name: str) -> Reader:
    def reader(fields: tuple[Field, ...]) -> dict[str, Any]:
        text = _one(fields)
        if not _NAME.fullmatch(text):
            raise Fault("option", f"{text!r} is not a name", "write a name: numbers are ambiguous")
        return {name: text}

    return reader


def _cwd(fields: tuple[Field, ...]) -> dict[str, Any]:
    text = _one(fields)
    if not text.startswith("/") or any(part in (".", "..") for part in text.split("/")) or "//" in text:
        raise Fault("option", f"{text!r} is not a plain absolute path", "write one")
    return {"cwd": text}


def _capabilities(option: str) -> Reader:
    def reader(fields: tuple[Field, ...]) -> dict[str, Any]:
        names = [part.text for part in fields]
        # `none` for the empty set: a value that was forgotten must not mean it.
        if names == ["none"]:
            return {option: frozenset()}
        for name in names:
            if name not in CAPABILITIES:
                raise Fault("option", f"there is no capability {name!r}", "write e.g. CAP_NET_ADMIN, or none")
        return {option: frozenset(names)}

    return reader


def _audit(fields: tuple[Field, ...]) -> dict[str, Any]:
    names = [part.text for part in fields]
    for name in names:
        if name not in ("argv", "no-argv", "refusals") or names.count(name) > 1:
            raise Fault("option", f"{name!r} is not known", "write argv or no-argv, and refusals")
    if {"argv", "no-argv"} <= set(names):
        raise Fault("option", "argv and no-argv at once", "write one of the two")
    return {"audit_argv": "no-argv" not in names, "audit_runs": "refusals" not in names}


def _secret(fields: tuple[Field, ...]) -> dict[str, Any]:
    for part in fields:
        if not re.fullmatch(r"[1-9][0-9]{0,3}", part.text, re.ASCII):
            what = f"{part.text!r} is not the place of a word"
            raise Fault("option", what, "write e.g. 1 for the first word after the program")
    return {"secret": frozenset(int(part.text) for part in fields)}


def _users(fields: tuple[Field, ...]) -> dict[str, Any]:
    names = [part.text for part in fields]
    for name in names:
        if not _NAME.fullmatch(name.removeprefix("%")) or names.count(name) > 1:
            remedy = "write a user's name, or % and a group's name, each once"
            raise Fault("option", f"{name!r} is not whom a filter can be for", remedy)
    return {"users": frozenset(names)}


def _limits(fields: tuple[Field, ...]) -> dict[str, Any]:
    found: dict[str, int] = {}
    for part in fields:
        match = _LIMIT.fullmatch(part.text)
        if not match or match[1] not in LIMITS or match[1] in found:
            known = ", ".join(sorted(LIMITS))
            raise Fault(
                "option", f"{part.text!r} is not a limit", f"write NAME=NUMBER, each once, of {known}"
            )
        found[match[1]] = int(match[2])
    return {"limits": tuple(sorted(found.items()))}


#: Every option by its name.
OPTIONS: Final = {
    option.name: option
    for option in (
        Option("env", _env, COMMANDS, "match"),
        Option("set_env", _set_env, COMMANDS, "match"),
        Option(
            "max_word",
            _whole("max_word", "characters"),
            frozenset(("RegExpFilter", "EnvFilter", "ChainingRegExpFilter")),
            "match",
        ),
        Option("timeout", _timeout, EXECUTES | READ, "run"),
        Option("max_output", _whole("max_output", "bytes"), EXECUTES | READ, "run"),
        Option("stdin", _yes_or_no("stdin"), EXECUTES | KILL | READ, "match"),
        Option("cwd", _cwd, EXECUTES, "bind"),
        Option("umask", _mode("umask"), EXECUTES, "run"),
        Option("group", _name("group"), EXECUTES, "bind"),
        Option("capabilities", _capabilities("capabilities"), EXECUTES, "run"),
        Option("ambient", _capabilities("ambient"), EXECUTES, "run"),
        Option("no_new_privs", _yes_or_no("no_new_privs"), EXECUTES, "run"),
        Option("limits", _limits, EXECUTES, "run"),
        Option("max_memory", _whole("max_memory", "bytes"), EXECUTES, "run"),
        Option("max_processes", _whole("max_processes", "a number of processes"), EXECUTES, "run"),
        Option("opens_paths", _yes_or_no("opens_paths"), JUDGED, "bind"),
        Option("sanitize", _chosen("sanitize", {"none": False, "secrets": True}), EXECUTES, "run"),
        Option("audit", _audit, EXECUTES | KILL | READ, "record"),
        Option("secret", _secret, EXECUTES, "record"),
        Option("target_user", _name("target_user"), PROCESSES, "bind"),
        Option("started_by", _chosen("started_by_us", {"self": True, "anybody": False}), PROCESSES, "bind"),
        Option("namespaces", _chosen("any_namespace", {"own": False, "any": True}), PROCESSES, "bind"),
        Option("users", _users, EXECUTES | KILL | READ, "match"),
        Option("signals", _signals, EXECUTES, "run"),
        Option("on_stop", _chosen("on_stop_leave", {"end": False, "leave": True}), EXECUTES, "run"),
    )
}
