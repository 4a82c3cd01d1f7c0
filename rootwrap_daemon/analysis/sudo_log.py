"""Read what sudo writes to syslog of each command, as entries like those of an audit log.

Promises: no line raises anything; one that can be read in two ways, or lacks a part of its words, gives no
words. Everybody may write to syslog: what is read here is a proposal's example, and no more.
"""

import json
import re
from dataclasses import dataclass
from typing import Any, Final

# `TIME HOST sudo[123]:  user : `, of a file or of journalctl; the journal's own form has the rest alone.
# Nothing else may stand before: what comes behind another program's name is that program's.
_HEAD: Final = re.compile(
    r"(?:[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d|\d{4}-\d\d-\d\dT[\d:.,+Z-]+) [^\s:\[]+ sudo(?:\[\d+\])?: +(.*)",
    re.ASCII,
)
_CONTINUED: Final = "(command continued) "
_LINE: Final = re.compile(
    r"(?:(?P<why>[^;=]+) ; )?(?:TTY=[^;]* ; )?(?:CHROOT=[^;]* ; )?PWD=[^;]* ; USER=(?P<user>[^; ]+) ; "
    r"(?:GROUP=(?P<group>[^; ]+) ; )?(?:TSID=\w+ ; )?(?:ENV=(?P<env>.*) ; )?COMMAND=(?P<command>.+)"
)
_NAME: Final = re.compile(r"(?:^| )([A-Za-z_]\w*)=")
# A word with a blank in it stands in quotes; a backslash and a quote have a backslash before them.
_WORD: Final = re.compile(r"(?:'((?:[^'\\]|\\.)*)'|((?:[^ '\\]|\\.)*))(?: |$)")
# What cannot be printed; a number sign in a word looks the same.
_OCTAL: Final = re.compile(r"#0[0-7]{2}")
#: What sudo was asked for that is no command.
_NO_COMMANDS: Final = ("list", "validate", "pseudocommand")


@dataclass(frozen=True, slots=True)
class Line:
    """One line. `asker`: who called sudo. `continued`: the line before it, of the same user, was cut.

    `values`: as a record has them, empty where `problem` says why it is of no use.
    """

    asker: str
    values: dict[str, Any]
    problem: str = ""
    continued: bool = False


def parse(data: bytes) -> Line | None:
    """Return the command that a line of auth.log or of journalctl records; None for any other line."""
    text = data.decode("utf-8", "surrogateescape").rstrip("\n")
    if text.startswith("{"):
        text = _of_journal(text)
    found = _HEAD.fullmatch(text)
    asker, colon, rest = (found[1] if found else "").partition(" : ")
    if not colon or " " in asker:
        return None
    if rest.startswith(_CONTINUED):
        return Line(asker, {}, continued=True)
    line = _LINE.fullmatch(rest)
    if line is None:
        return None
    if rest.count(" ; COMMAND=") > 1 or rest.count(" ; USER=") > 1:
        return Line(asker, {}, "lines of sudo that can be read in two ways")
    if line["group"]:
        return Line(asker, {}, "commands of sudo with a group of their own")
    words = _words(line["command"])
    if words is None:
        return Line(asker, {}, "lines of sudo whose words cannot be told apart")
    if words[0] in _NO_COMMANDS or words[0] == "sudoedit":
        return Line(asker, {}, "lines of sudo about no command")
    return Line(
        asker,
        {
            "event": "denied" if line["why"] else "run",
            "code": "denied",
            "argv": words,
            "env": _NAME.findall(line["env"] or ""),
            "run_as": line["user"],
        },
    )


def _of_journal(text: str) -> str:
    try:
        fields = json.loads(text)
        # The first is what the writer says of itself, the second what the kernel does.
        if fields.get("SYSLOG_IDENTIFIER") == fields.get("_COMM") == "sudo":
            return f"Jan  1 00:00:00 journal sudo: {fields['MESSAGE']}"
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        pass
    return ""


def _words(text: str) -> list[str] | None:
    if _OCTAL.search(text):
        return None
    words, place = [], 0
    while place < len(text):
        found = _WORD.match(text, place)
        if found is None:
            return None
        words.append(re.sub(r"\\(.)", r"\1", found[1] if found[1] is not None else found[2]))
        place = found.end()
    return [*words, ""] if text.endswith(" ") else words
