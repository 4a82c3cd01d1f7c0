"""Read a sudoers file: sudoers(5) text -> who may run which command as whom.

Promises: a line that is not understood is an error at its place, never a line left out. What cannot be said
in a filter is kept as it was written, so that the writer can say what was lost.
"""

import itertools
import re
from collections.abc import Iterator, Mapping, Sized
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, TypeVar

from rootwrap_daemon.analysis import told

#: Nesting of files and of aliases: sudoers(5) allows 128 files; nobody nests aliases so deep.
MAX_DEPTH: Final = 64
#: Names in one rule, all aliases written out, and files in all: far more than a host has.
MAX_NAMES: Final = 5000
_ALIAS: Final = re.compile(r"(User|Runas|Host|Cmnd|Cmd)_Alias\s+(.*)", re.DOTALL)
_ALIAS_NAME: Final = re.compile(r"[A-Z][A-Z0-9_]*")
_TAG: Final = re.compile(r"([A-Z_]+)\s*:\s*")
_OPTION: Final = re.compile(
    r"(ROLE|TYPE|APPARMOR_PROFILE|PRIVS|LIMITPRIVS|CWD|CHROOT|TIMEOUT|NOTBEFORE|NOTAFTER)\s*=\s*(\S+?)(?=[\s,]|$)\s*"
)
_DIGEST: Final = re.compile(r"sha(?:224|256|384|512)\s*:\s*[A-Za-z0-9+/=]+\s*,?\s*")
_INCLUDE: Final = re.compile(r"[@#]include(dir)?\s+(.+)")


class NotRead(Exception):
    """A line cannot be read. `file`, `line`: where."""

    def __init__(self, file: str, line: int, what: str) -> None:
        super().__init__(f"{file}:{line}: {what}")


@dataclass(frozen=True, slots=True)
class Command:
    """One command of a rule.

    `path` is as written (`ALL`, a file, a directory with its slash). `arguments`: the words after it, with
    their wildcards and backslashes; None where any may follow; empty where `""` allows none. `lost`: what
    stood with it that a filter does not say.
    """

    path: str
    arguments: tuple[str, ...] | None
    text: str
    negated: bool = False
    lost: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Rule:
    """Users may run a command as one of `run_as` (users), none for the user who asks, and `group`.

    `options`: names and values (`CWD`, `NOTAFTER`), as the last that stood before the command.
    """

    file: str
    line: int
    users: tuple[str, ...]
    hosts: tuple[str, ...]
    command: Command
    run_as: tuple[str, ...] = ("root",)
    group: str | None = None
    tags: frozenset[str] = frozenset()
    options: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Default:
    """One setting of a Defaults line. `user`: whom it is for, None for everybody."""

    file: str
    line: int
    user: str | None
    text: str


@dataclass(slots=True)
class Sudoers:
    """The rules of files, in the order in which sudo reads them; the last rule that matches decides there."""

    rules: list[Rule] = field(default_factory=list)
    defaults: list[Default] = field(default_factory=list)


@dataclass(slots=True)
class _Raw:
    file: str
    line: int
    text: str


def read(path: str, text: str) -> Sudoers:
    """Read this text; files that it includes are read. `path`: its name. Raises NotRead, OSError."""
    lines = list(_lines(path, text, 0, []))
    aliases: dict[tuple[str, str], tuple[_Raw, str]] = {}
    found = Sudoers()
    for raw in lines:
        if match := _ALIAS.fullmatch(raw.text):
            kind = match[1].replace("Cmnd", "Cmd")
            for definition in split(match[2], ":"):
                name, equals, members = definition.partition("=")
                if not equals or not _ALIAS_NAME.fullmatch(name.strip()):
                    raise NotRead(raw.file, raw.line, f"not an alias: {definition.strip()!r}")
                aliases[kind, name.strip()] = (raw, members)
    for raw in lines:
        if raw.text.startswith("Defaults"):
            found.defaults += _defaults(raw)
        elif not _ALIAS.fullmatch(raw.text):
            rules = list(itertools.islice(_rules(raw, aliases), MAX_NAMES + 1))
            found.rules += _bounded(raw, rules)
    return found


def _lines(path: str, text: str, depth: int, files: list[str]) -> Iterator[_Raw]:
    """Logical lines without comments, those of included files in their place. `files`: all that were read."""
    if depth > MAX_DEPTH:
        raise NotRead(path, 1, "files include one another too deeply")
    number, begun, joined = 0, 1, ""
    for line in text.split("\n"):
        number += 1
        begun = begun if joined else number
        joined += line
        if (len(joined) - len(joined.rstrip("\\"))) % 2:
            joined = joined[:-1] + " "
            continue
        whole, joined = joined.strip(), ""
        if include := _INCLUDE.fullmatch(whole):
            yield from _included(path, begun, bool(include[1]), include[2].strip().strip('"'), depth, files)
        elif stripped := _without_comment(whole):
            yield _Raw(path, begun, stripped)


def _included(
    path: str, line: int, directory: bool, name: str, depth: int, files: list[str]
) -> Iterator[_Raw]:
    if "%h" in name:
        raise NotRead(path, line, f"{name!r} depends on the host's name: give that file by itself")
    target = Path(path).parent / name
    # sudoers(5): names that end in ~ or have a dot are skipped.
    there = (
        sorted(one for one in target.iterdir() if "." not in one.name and not one.name.endswith("~"))
        if directory
        else [target]
    )
    if path == "-" and told.is_by_sudo():
        raise NotRead(path, line, "what standard input includes is not read by way of sudo")
    for one in there:
        files.append(str(one))
        if len(files) > MAX_NAMES:
            raise NotRead(path, line, f"includes come to more than {MAX_NAMES}, some again and again")
        yield from _lines(str(one), one.read_text(), depth + 1, files)


def _without_comment(line: str) -> str:
    """The line up to an unescaped `#` that is not a user's number."""
    quoted = False
    for place, sign in enumerate(line):
        if sign == '"':
            quoted = not quoted
        elif (
            sign == "#"
            and not quoted
            and not re.match(r"#-?\d", line[place:])
            and (not place or line[place - 1] != "\\")
        ):
            return line[:place].strip()
    return line


def split(text: str, separator: str) -> list[str]:
    """The parts between unescaped, unquoted separators, stripped; as sudo's own lexer sees them."""
    parts, quoted, escaped, begin = [], False, False, 0
    for place, sign in enumerate(text):
        if escaped:
            escaped = False
        elif sign == "\\":
            escaped = True
        elif sign == '"':
            quoted = not quoted
        elif sign == separator and not quoted:
            parts.append(text[begin:place].strip())
            begin = place + 1
    return [*parts, text[begin:].strip()]


def _defaults(raw: _Raw) -> Iterator[Default]:
    match = re.fullmatch(r"Defaults(?:([@:!>])\s*(\S+))?\s+(.*)", raw.text, re.DOTALL)
    if not match:
        raise NotRead(raw.file, raw.line, f"not a Defaults line: {raw.text[:60]!r}")
    # What is for a host, a command or a target has its sign before the name.
    sign = (match[1] or "").removeprefix(":")
    for setting in split(match[3], ","):
        for name in split(match[2], ",") if match[2] else [None]:
            yield Default(raw.file, raw.line, name and f"{sign}{name}", setting)


Aliases = Mapping[tuple[str, str], tuple[_Raw, str]]
_Found = TypeVar("_Found", bound=Sized)


def _bounded(raw: _Raw, found: _Found) -> _Found:
    """Return what is given. Raises NotRead for more than anybody writes: aliases of aliases can double it."""
    if len(found) > MAX_NAMES:
        what = f"names of one rule come to more than {MAX_NAMES}: name those that are needed"
        raise NotRead(raw.file, raw.line, what)
    return found


def _expanded(raw: _Raw, kind: str, members: str, aliases: Aliases, depth: int = 0) -> tuple[str, ...]:
    """The members of a list of users, hosts or targets, aliases replaced by what they name."""
    if depth > MAX_DEPTH:
        raise NotRead(raw.file, raw.line, "aliases name one another in a circle")
    found: list[str] = []
    for member in split(members, ","):
        name = member.lstrip("!").strip()
        inner = aliases.get((kind, name))
        if inner is None:
            found.append(member.strip('"'))
        elif member.startswith("!"):
            found += [f"!{one}" for one in _expanded(raw, kind, inner[1], aliases, depth + 1)]
        else:
            found += _expanded(raw, kind, inner[1], aliases, depth + 1)
        _bounded(raw, found)
    return tuple(found)


def _rules(raw: _Raw, aliases: Aliases) -> Iterator[Rule]:
    head, equals, rest = raw.text.partition("=")
    # A blank beside a comma belongs to a list; the one that does not ends the users.
    halves = re.split(r"(?<![,\s\\])\s+(?![,\s])", head.strip())
    if not equals or len(halves) != 2:
        raise NotRead(raw.file, raw.line, f"not a rule `user host = command`: {raw.text[:60]!r}")
    users = _expanded(raw, "User", halves[0], aliases)
    hosts = _expanded(raw, "Host", halves[1], aliases)
    yield from _commands(raw, rest, Rule(raw.file, raw.line, users, hosts, Command("", None, "")), aliases, 0)


def _commands(raw: _Raw, text: str, context: Rule, aliases: Aliases, depth: int) -> Iterator[Rule]:
    """The commands of one rule; user, group, tags and options hold for those that follow, as sudo has it."""
    if depth > MAX_DEPTH:
        raise NotRead(raw.file, raw.line, "aliases name one another in a circle")
    for item in _items(text):
        if re.search(r"[^\\A-Z(:\s]\s*:\s*[\w.-]+\s*=", item):
            raise NotRead(raw.file, raw.line, "several host lists in a rule: write a rule for each")
        rest, lost = item, []
        if match := re.match(r"\(([^()]*)\)\s*", rest):
            users, _, groups = match[1].partition(":")
            run_as = _expanded(raw, "Runas", users, aliases) if users.strip() else ()
            group = _expanded(raw, "Runas", groups, aliases)[0] if groups.strip() else None
            context = replace(context, run_as=run_as, group=group)
            rest = rest[match.end() :]
        while match := _OPTION.match(rest):
            context = replace(context, options=tuple({**dict(context.options), match[1]: match[2]}.items()))
            rest = rest[match.end() :]
        while (match := _TAG.match(rest)) and not rest.startswith("sha"):
            tag = match[1]
            opposite = tag.removeprefix("NO") if tag.startswith("NO") else f"NO{tag}"
            context = replace(context, tags=(context.tags - {opposite}) | {tag})
            rest = rest[match.end() :]
        while match := _DIGEST.match(rest):
            lost.append("the digest")
            rest = rest[match.end() :]
        bare = rest.lstrip("! \t")
        negated = rest[: len(rest) - len(bare)].count("!") % 2 == 1
        if not bare:
            raise NotRead(raw.file, raw.line, f"no command: {item!r}")
        if (inner := aliases.get(("Cmd", bare))) is not None:
            for rule in _commands(raw, inner[1], context, aliases, depth + 1):
                flipped = rule.command.negated != negated
                # The place is the alias's own: that is where the command is written.
                command = replace(rule.command, negated=flipped, lost=(*lost, *rule.command.lost))
                yield replace(rule, command=command, file=inner[0].file, line=inner[0].line)
        else:
            yield replace(context, command=_command(bare, negated, tuple(lost)))


def _items(text: str) -> list[str]:
    """The commands of a list. A comma in parentheses, after a digest or in a pattern does not split."""
    items: list[str] = []
    for part in split(text, ","):
        last = items[-1] if items else ""
        open_list = last.count("(") > last.count(")")
        expression = re.search(r"\s\^", last) is not None and not last.endswith("$")
        if last and (open_list or expression or _DIGEST.fullmatch(last)):
            items[-1] = f"{last},{part}" if expression else f"{last}, {part}"
        else:
            items.append(part)
    return items


def _command(text: str, negated: bool, lost: tuple[str, ...]) -> Command:
    path, _, rest = text.partition(" ")
    # Between unescaped blanks, with their backslashes.
    words = tuple(re.findall(r"(?:\\.|[^\s\\])+", rest))
    return Command(path, () if words == ('""',) else words or None, text, negated, lost)
