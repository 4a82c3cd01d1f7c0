"""The words of a filter as rules look at them: what each may be, and which programs they execute.

Promises: a program behind another one is found as the daemon finds it (policy/wrappers.py).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from rootwrap_daemon.filters.read.ini import Field
from rootwrap_daemon.lint.knowledge import programs, regexes
from rootwrap_daemon.lint.subject import Line, Subject
from rootwrap_daemon.policy import wrappers
from rootwrap_daemon.policy.getopt import Options

#: Types whose words their author has chosen, or the daemon looks at.
_CHOSEN: Final = frozenset(("user", "pid"))
#: A word that no program has for a name: what a type or a pattern stands for.
FREE: Final = "\0"


@dataclass(frozen=True, slots=True)
class Word:
    """One word of a filter: `texts`, what it may be; `type`: that of one that is free, empty for others."""

    texts: tuple[str, ...]
    type: str
    part: Field

    @property
    def is_option(self) -> bool:
        return any(text.startswith("-") and text != "-" for text in self.texts)

    def found(self, wanted: Options) -> Iterator[tuple[str, str | None]]:
        """The options that this word may be, each with the value that it may have in the same word."""
        for text in self.texts:
            yield from wanted.found(text)
        if self.type == "pattern":
            for option in wanted.words:
                if regexes.admits(self.part.text, option):
                    yield option, None
                shape = re.escape(option) + ("=." if option.startswith("--") else ".") + "(?s:.*)"
                if regexes.witness(self.part.text, "a", "/", "0", shape=shape) is not None:
                    yield option, ""


def words_of(line: Line) -> list[Word]:
    """Its words, with those of groups; none for a kind that does not restrict them."""
    kind = line.kind.removeprefix("Chaining")
    return [word_of(kind, part) for part in line.words] if "root" in line.users else []


def word_of(kind: str, part: Field) -> Word:
    text = part.text
    if kind == "ArgvFilter":
        text = text.strip("[] ").removesuffix("...").strip("[] ")
        if text.startswith("{="):
            return Word(tuple(one.strip() for one in text[2:-1].split("|")), "", part)
        if text.startswith("{"):
            return Word((), text[1:-1].partition("=")[0].strip(), part)
    elif kind == "PathFilter" and (text.startswith("/") or text == "pass"):
        return Word((), "path" if text.startswith("/") else "any", part)
    elif kind in ("RegExpFilter", "EnvFilter"):
        pattern = regexes.compiled(text)
        if pattern is None or pattern.literal is None:
            return Word((), "pattern", part)
        text = pattern.literal
    return Word((text,), "", part)


def _texts(words: list[Word]) -> list[str]:
    """The words as a command would have them: a free one, or one of several, as a mark with its place."""
    return [_text(one, index) for index, one in enumerate(words)]


def _text(one: Word, index: int) -> str:
    if len(one.texts) == 1:
        return one.texts[0]
    if one.type in _CHOSEN:
        return one.type
    # A pattern of an option is no word of its own.
    return one.part.text if one.part.text.startswith("-") else f"{FREE}{index}"


def judged(subject: Subject) -> Iterator[tuple[Line, list[Word], list[str]]]:
    """The lines that restrict their words, with these, and with what a command has in their places."""
    for line in subject.lines:
        # What any arguments may do is RW301's.
        if line.filter is None or line.is_open or "root" not in line.users:
            continue
        words = words_of(line)
        # The inner command of a chain is another filter's, and its program one that is written out.
        yield line, words, [*_texts(words), *(["inner"] if line.kind == "ChainingRegExpFilter" else [])]


def commands(line: Line) -> Iterator[tuple[str, list[Word]]]:
    """Each program that a line's words execute as root, with its words; none where any words may follow."""
    words = words_of(line)
    texts = _texts(words)
    for program, its in wrappers.programs(line.program, texts) if words else ():
        yield program.rpartition("/")[2], words[len(texts) - len(its) :]


#: Types of words that no program is called by.
_NO_PROGRAM: Final = frozenset("cidr int ip ipv4 ipv6 mac pid uuid".split())


def executed(program: str, words: list[str], free: list[Word]) -> str | None:
    """The first free word of a program that executes one of its words; which, is not known here.

    `free`: the words of the filter, by the numbers of the marks.
    """
    known = programs.look_up(program)
    if known is None or known.routes[0] != "runs" or wrappers.is_wrapper(known.name):
        return None
    marks = (word for word in words if word.startswith(FREE))
    return next((mark for mark in marks if free[int(mark[1:])].type not in _NO_PROGRAM), None)
