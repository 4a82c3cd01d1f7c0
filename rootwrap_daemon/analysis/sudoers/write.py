"""Write what sudoers gives to a user as filters, no filter wider than the rule that it comes from.

Promises: what a rule gave and the filter does not, what was guessed, and what cannot be said at all stands
above each line as a comment. Every filter has an example that it allows, and one that it denies.
"""

import fnmatch
import posixpath
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from rootwrap_daemon.analysis.sudoers.read import Command, Rule, Sudoers
from rootwrap_daemon.analysis.suggest.generalise import Place, as_argv, as_pattern
from rootwrap_daemon.daemon.record.secrets import HIDDEN, MAX_MASKED, mask_words

#: A word of sudoers in which its wildcards (fnmatch(3)) stand.
_WILDCARD: Final = re.compile(r"\\.|\[[!^]?\]?[^\]]*\]|[*?]", re.DOTALL)
#: What a `*` inside a word becomes: no blank, no slash, nothing that a shell or an option needs.
_STAR: Final = "[A-Za-z0-9_.@:+-]*"
_ONE: Final = "[A-Za-z0-9_.@:+-]"
_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
#: Programs (also with their first word, after a colon), words before a `*` -> the type that it then has.
_TYPES: Final = (
    ("ip tc bridge", "dev master", "ifname"),
    ("ip", "netns -n -netns", "netns"),
    ("iptables ip6tables", "-i -o --in-interface --out-interface", "ifname"),
    ("iptables ip6tables", "-s -d --source --destination", "ip"),
    ("iptables ip6tables", "--dport --sport", "int"),
    ("tcpdump tshark dumpcap wpa_cli wpa_supplicant arping ping", "-i -I --interface", "ifname"),
    ("ping fping arping tcpdump", "-c", "int"),
    ("systemctl", "start stop restart reload status is-active is-enabled is-failed", "name"),
    ("fail2ban-client", "status", "name"),
    ("docker:inspect podman:inspect", "", "name"),
)
_TYPE_OF: Final = {
    (program, before): kind
    for programs, words, kind in _TYPES
    for program in programs.split()
    for before in words.split() or [""]
}
_SAMPLES: Final = {
    "ifname": "eth0", "netns": "ns1", "int": "7", "ip": "192.0.2.7", "name": "x", "secret": "x", "any": "x",
}  # fmt: skip
#: Tags and settings of sudo that lose nothing here: there is no password, no terminal, no lecture.
_WITHOUT_EFFECT: Final = frozenset(
    ("NOPASSWD", "PASSWD", "NOSETENV", "NOFOLLOW", "NOMAIL", "MAIL", "NOLOG_INPUT", "NOLOG_OUTPUT", "EXEC")
)
#: sudoers(5): 7d8h30m10s, in seconds where no unit stands.
_TIMEOUT: Final = re.compile(r"(?=\d)(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s?)?", re.IGNORECASE)
#: Tags that take something from a command.
RESTRICTING: Final = frozenset(("NOEXEC", "INTERCEPT"))
_WITHOUT_EFFECT_HERE: Final = frozenset(
    "requiretty use_pty tty_tickets lecture authenticate visiblepw insults pwfeedback passprompt "
    "passwd_tries passwd_timeout timestamp_timeout timestamp_type badpass_message".split()
)


@dataclass(slots=True)
class Translated:
    """One rule. `definition`: None where no filter can say it; `notes`: comments above it."""

    rule: Rule
    name: str = ""
    definition: str | None = None
    notes: list[str] = field(default_factory=list)
    allowed: tuple[str, ...] = ()
    denied: tuple[str, ...] = ()
    options: list[str] = field(default_factory=list)


def users(sudoers: Sudoers) -> list[str]:
    """The users and groups that rules name, in their order."""
    return list(dict.fromkeys(one for rule in sudoers.rules for one in rule.users))


def translate(sudoers: Sudoers, names: Iterable[str]) -> list[Translated]:
    """Filters for what rules give to any of `names`: a user, its groups as `%group`, `ALL`."""
    wanted, counts = frozenset(names), dict[str, int]()
    done: list[Translated] = []
    for rule in sudoers.rules:
        if wanted.isdisjoint(rule.users) and "ALL" not in rule.users:
            continue
        one = Translated(rule)
        if any(f"!{name}" in rule.users for name in wanted):
            one.notes.append("it excludes this user")
        else:
            _translate(one)
            if one.definition is not None and (narrowed := _excluded(sudoers, rule, wanted)):
                one.definition = None
                one.notes.append(f"line {narrowed.line} excludes a part of it: write out what is left")
        if one.definition is not None:
            program = posixpath.basename(rule.command.path)
            stem = re.sub(r"[^A-Za-z0-9_]+", "_", program).strip("_") or "command"
            counts[stem] = counts.get(stem, 0) + 1
            one.name = stem if counts[stem] == 1 else f"{stem}_{counts[stem]}"
            one.options += _environment(sudoers, wanted, program)
            one.options += options_of(rule).values()
            one.options += [] if rule.group is None else [f"group = {rule.group}"]
        done.append(one)
    return done


def _excluded(sudoers: Sudoers, rule: Rule, wanted: frozenset[str]) -> Rule | None:
    """A later exclusion that may take something of this rule back: sudo goes by the last that matches."""
    words = rule.command.arguments
    plain = None if words is None else [_plain(word) for word in words]
    for other in sudoers.rules[sudoers.rules.index(rule) + 1 :]:
        command = other.command
        if not command.negated or (wanted.isdisjoint(other.users) and "ALL" not in other.users):
            continue
        path = f"{command.path}*" if command.path.endswith("/") else command.path
        if command.path != "ALL" and not fnmatch.fnmatchcase(rule.command.path, path):
            continue
        if plain is None or None in plain or command.arguments is None:
            return other
        # Only fixed words can be shown to be outside of the exclusion.
        if fnmatch.fnmatchcase(" ".join(filter(None, plain)), " ".join(command.arguments)):
            return other
    return None


def _environment(sudoers: Sudoers, wanted: frozenset[str], program: str) -> Iterator[str]:
    kept: dict[str, None] = {}
    others = {posixpath.basename(rule.command.path) for rule in sudoers.rules} - {program}
    for default in sudoers.defaults:
        if default.user is not None and default.user not in wanted:
            continue
        match = re.fullmatch(r"(?:env_keep|env_check)\s*(\+=|=|-=)\s*(.*)", default.text)
        if match:
            values = match[2].strip('"').split()
            if match[1] == "=":
                kept = {}
            for value in values:
                if match[1] == "-=":
                    kept.pop(value, None)
                elif re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", value):
                    kept[value] = None
    # Of RESTIC_REPOSITORY a rule about tar has no use, where there is one about restic.
    if own := [name for name in kept if not any(name.startswith(_prefix(one)) for one in others)]:
        yield f"env = {', '.join(own)}"


def options_of(rule: Rule) -> dict[str, str]:
    """The options of a rule that a filter has as well -> its line for them."""
    given, found = dict(rule.options), {}
    if given.get("CWD", "").startswith("/"):
        found["CWD"] = f"cwd = {given['CWD']}"
    if match := _TIMEOUT.fullmatch(given.get("TIMEOUT", "")):
        units = zip((86400, 3600, 60, 1), match.groups("0"), strict=True)
        found["TIMEOUT"] = f"timeout = {sum(seconds * int(count) for seconds, count in units)}"
    return found


def _prefix(program: str) -> str:
    """Return the beginning of the names of a program's own variables."""
    return re.sub(r"[^A-Z0-9]", "_", program.upper()) + "_"


def lost_settings(sudoers: Sudoers, names: Iterable[str]) -> Iterator[str]:
    """Say of each setting of Defaults lines that these users have what becomes of it."""
    wanted = frozenset(names)
    for default in sudoers.defaults:
        name = re.split(r"[\s+=-]", default.text.lstrip("!"), maxsplit=1)[0]
        where = f"{default.file}:{default.line}: {default.text}"
        if default.user is not None and default.user[0] in "@!>":
            yield f"{where}: not taken over: it is for {default.user} alone"
        elif default.user is not None and default.user not in wanted:
            continue
        elif name == "secure_path":
            yield f"{where}: exec_dirs of the configuration says this for all filters"
        elif name in ("env_keep", "env_check"):
            if re.search(r"[*%()=]", default.text.partition("=")[2].removeprefix("=")):
                yield f"{where}: a pattern of names is not taken over: name each variable"
            else:
                yield f"{where}: option env; a variable that begins with a program's name is that program's"
        elif name.startswith(("syslog", "log", "mail", "iolog")):
            yield f"{where}: not taken over: the daemon has its audit records"
        elif name in _WITHOUT_EFFECT_HERE:
            yield f"{where}: of no effect here: there is no terminal and no password"
        else:
            yield f"{where}: not taken over; see the options of a filter"


def _translate(one: Translated) -> None:
    rule, command = one.rule, one.rule.command
    run_as = _run_as(one)
    if run_as is None:
        return
    for text in command.lost:
        one.notes.append(f"lost: {text}")
    for tag in sorted(rule.tags - _WITHOUT_EFFECT - RESTRICTING):
        one.notes.append(f"lost: {tag}")
    if command.negated:
        one.notes.append("an exclusion: what no filter allows is denied; see that no other filter allows it")
    elif command.path == "ALL":
        one.notes.append("gives everything: name the commands that are needed")
    elif command.path.endswith("/"):
        one.notes.append("every program of a directory: name those that are needed")
    elif not command.path.startswith("/"):
        one.notes.append(f"{command.path.split()[0]} is no program")
    elif re.search(r'[\s,"]', command.path):
        one.notes.append("a program whose name has a blank, a comma or a quote: write its filter by hand")
    elif _WILDCARD.search(command.path):
        one.notes.append("a pattern of programs: name those that are needed")
    else:
        _write(one, command, run_as)


def _run_as(one: Translated) -> str | None:
    if not one.rule.run_as:
        # `(:group)` and `()`: sudoers(5).
        one.notes.append("it runs as the user who asks, whom no one filter names for all")
        return None
    found: dict[str, None] = {}
    for name in one.rule.run_as:
        if name == "!ALL":
            found.clear()
        elif name.startswith("!") and _NAME.fullmatch(name[1:]) and "ALL" not in found:
            found.pop(name[1:], None)
        elif name.startswith("!"):
            one.notes.append(f"the target {name} takes away whom no filter can name")
            return None
        elif _NAME.fullmatch(name):
            found[name] = None
    if "ALL" in found:
        one.notes.append("guessed: as root; sudoers allows any user")
        return "root"
    if not found:
        one.notes.append(f"the target {', '.join(one.rule.run_as)} is no user's name")
        return None
    if lost := [name for name in one.rule.run_as if not _NAME.fullmatch(name.removeprefix("!"))]:
        one.notes.append(f"lost: as {', '.join(lost)}, which is no user's name")
    # Without -u, sudo means root.
    return "|".join(sorted(found, key=lambda name: name != "root"))


def _write(one: Translated, command: Command, run_as: str) -> None:
    path, words = command.path, command.arguments
    if words is None:
        one.definition = f"CommandFilter, {path}, {run_as}"
        one.notes.append("any arguments, as sudoers has it: write out those that are needed")
        one.allowed = (path,)
        return
    if words and words[0].startswith("^"):
        one.notes.append("a regular expression over all arguments: write a pattern for each word")
        return
    fields, notes = _argv_fields(posixpath.basename(path), words)
    if fields is not None:
        one.definition = ", ".join((f"ArgvFilter, {path}, {run_as}", *(text for text, _ in fields)))
        sample = tuple(example for _, example in fields)
    else:
        patterns = [_pattern(word) for word in words]
        directory, program = posixpath.split(path)
        head = [_as_it_is(directory.rstrip("/")), _as_it_is(program)]
        if None in (*patterns, *head):
            one.notes.append("a wildcard or a word that no filter can say: write it out")
            return
        kind, first = f"RegExpFilter, {path}, {run_as}", f"({head[0]}/)?{head[1]}"
        one.definition = ", ".join((kind, first, *(one[0] for one in patterns if one)))
        sample = tuple(one[1] for one in patterns if one)
        notes = ["`*` and `?` took anything, blanks and slashes too; here letters, digits and _.@:+-"]
    one.notes += notes
    one.allowed = (path, *sample)
    one.denied = (*one.allowed, "--", "../x")


def _literal(word: str) -> Place:
    return Place("", frozenset((word,)))


def _plain(word: str) -> str | None:
    """The word without its backslashes, None if it has wildcards."""
    if any(not found[0].startswith("\\") for found in _WILDCARD.finditer(word)):
        return None
    return re.sub(r"\\(.)", r"\1", word, flags=re.DOTALL)


def _argv_fields(program: str, words: Sequence[str]) -> tuple[list[tuple[str, str]] | None, list[str]]:
    """Each word as a field of an ArgvFilter and an example; None if one has a wildcard inside."""
    fields: list[tuple[str, str]] = []
    notes: list[str] = []
    for place, word in enumerate(words):
        plain = _plain(word)
        if plain is not None:
            text = as_argv(_literal(plain)) if plain else None
            if text is None:
                return None, []
            fields.append((text, plain))
        elif word == "*":
            kind = _type_at(program, words, place)
            fields.append((f"{{{kind}}}", _SAMPLES[kind]))
            notes.append(
                "`*` took any words and options; here one word that is no option: give it a type"
                if kind == "any"
                else f"guessed: `*` after {words[place - 1]} is {{{kind}}}"
            )
        elif word.endswith("/*") and (base := _plain(word[:-2])) and re.fullmatch(r"/[A-Za-z0-9_./-]+", base):
            fields.append((f"{{path={base}}}", f"{base}/x"))
            notes.append(f"`{word}` took `..` and further words, too; here a path below {base}")
        else:
            return None, []
    return fields, notes


def _type_at(program: str, words: Sequence[str], place: int) -> str:
    """The type of a `*` there."""
    if mask_words((program, *words), MAX_MASKED)[place + 1] == HIDDEN:
        return "secret"
    before = words[place - 1] if place else ""
    return _TYPE_OF.get((program, before)) or _TYPE_OF.get((f"{program}:{words[0]}", "")) or "any"


def _pattern(word: str) -> tuple[str, str] | None:
    """The word as a pattern of a RegExpFilter and an example; None if it cannot be said."""
    parts: list[str | None] = []
    example, end = "", 0
    for found in _WILDCARD.finditer(word):
        literal = word[end : found.start()]
        parts.append(_as_it_is(literal))
        example += literal
        end = found.end()
        sign = found[0]
        if sign.startswith("\\"):
            parts.append(_as_it_is(sign[1]))
            example += sign[1]
        elif sign == "*":
            # A star at the beginning would take an option.
            parts.append(_STAR if example else f"[A-Za-z0-9_]{_STAR}")
            example += "" if example else "x"
        elif sign == "?":
            parts.append(_ONE)
            example += "x"
        elif re.fullmatch(r"\[[A-Za-z0-9_](?:[A-Za-z0-9_]|-[A-Za-z0-9])*\]", sign):
            parts.append(sign)
            example += sign[1]
        else:
            return None
    parts.append(_as_it_is(word[end:]))
    known = [part for part in parts if part is not None]
    # Without a part that cannot be written the pattern would take more.
    if len(known) < len(parts) or not any(known):
        return None
    return "".join(known), example + word[end:]


def _as_it_is(literal: str) -> str | None:
    """The pattern of these characters, None if a filter file cannot have them there."""
    return as_pattern(_literal(literal)) if literal else ""


def text(done: Sequence[Translated], settings: Iterable[str], user: str | None = None) -> str:
    """The filter file. `user`: whom its filters are for, a group after `%`; None for everybody."""
    lines = ["# From sudoers, by rootwrapctl from-sudoers. Read each line before it ships."]
    lines += [f"# {setting}" for setting in settings]
    if user is not None and _NAME.fullmatch(user.removeprefix("%")) and not user[0].isdigit():
        lines += ["[DEFAULT]", "# Of those who use the daemon.", f"users = {user}", ""]
    lines.append("[Filters]")
    for one in done:
        lines += ["", f"# {one.rule.file}:{one.rule.line}: {_shown(one.rule)}"]
        lines += [f"#   {_one_line(note)}" for note in one.notes]
        if one.definition is not None:
            lines.append(f"{one.name}: {one.definition}")
    for one in done:
        if one.options and one.definition is not None:
            lines += ["", f"[{one.name}]", *one.options]
    return "\n".join(lines) + "\n"


def _shown(rule: Rule) -> str:
    target = ",".join(rule.run_as) + (f":{rule.group}" if rule.group else "")
    return _one_line(f"({target}) {'!' if rule.command.negated else ''}{rule.command.text}")


def _one_line(words: str) -> str:
    return "".join(sign if sign.isprintable() else "?" for sign in words)
