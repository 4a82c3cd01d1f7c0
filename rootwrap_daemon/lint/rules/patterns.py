"""RW302-RW309: patterns that admit more than they seem to. Each finding shows a word that is admitted.

Promises: a word that a finding shows does match, by the daemon's own pattern.
"""

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from rootwrap_daemon.filters.read.ini import Field
from rootwrap_daemon.lint import reported
from rootwrap_daemon.lint.finding import Edit, Problem, Severity, at
from rootwrap_daemon.lint.knowledge import programs, regexes
from rootwrap_daemon.lint.rules import rule
from rootwrap_daemon.lint.subject import Line, Subject

#: Words that have nothing in common: a pattern that takes them all takes about anything.
_ANYTHING: Final = ("-o", "--Any=1@x", "../../etc/passwd", "/etc/shadow")
_ONE_SORT: Final = re.compile("[0-9]+|[a-z]+|[A-Z]+")
#: What a program does with a word that is no option.
_BY_WORDS: Final = frozenset("code runs proxy kernel write own account mount disk read stop".split())
#: A value behind a name, as in of=/dev/sda and --from=root.
_NAMED: Final = re.compile(r"[\w-]+[=:]", re.ASCII)
#: A path with a component `..`, perhaps behind a name.
_UPWARDS: Final = r"(?:[\w-]+[=:])?/(?:.*/)?\.\.(?:/.*)?"
_TRAVERSAL: Final = ("../x", "/../x", "x/../../x", "..")
#: What a shell does not take as a part of a word.
_SHELL_SYNTAX: Final = ("\n", ";", "$", "`", "|", "&", "'", '"', ">", "<", "(", "\\")


def _patterns(subject: Subject) -> Iterator[tuple[Line, Field]]:
    """Every field that is a pattern of a word, but that of argv[0] and those that are plain words."""
    for line, part in subject.patterns:
        pattern = regexes.compiled(part.text)
        if pattern is not None and pattern.literal is None:
            yield line, part


def _is_anything(text: str) -> bool:
    return all(regexes.admits(text, word) for word in _ANYTHING)


def _gives_root(line: Line) -> bool:
    known = programs.look_up(line.program)
    return known is not None and known.gives_root


def _is_past_options(line: Line, part: Field) -> bool:
    """True where the program takes a word beginning with a dash for no option any more."""
    before = line.words[: line.words.index(part)]
    return line.program in programs.OPTIONS_FIRST and any(word.text[:1].isalpha() for word in before)


def _is_harmless_value(line: Line, part: Field) -> bool:
    """True for the value of an option by which the program gives nothing away, whatever path it is."""
    place = line.words.index(part)
    # The helper connects to it, and takes orders from who listens there: the caller, in any case.
    return place > 0 and line.words[place - 1].text == "--privsep_sock_path"


@rule("RW302", Severity.WARNING)
def anything(subject: Subject) -> Iterator[Problem]:
    """A pattern that any word matches.

    Whatever the program can be told in this place, a caller can tell it: options, other files, other hosts.
    Where the program can run others or write files, that is root.

    Found::

        haproxy: RegExpFilter, haproxy, root, haproxy, -f, .*

    Found::

        ls: ArgvFilter, ls, root, {any}

    Found::

        unpack: ArgvFilter, tar, root, {any}

    Found::

        cgexec: ChainingRegExpFilter, cgexec, root, cgexec, -g, blkio:\\S+

    Fine::

        haproxy: RegExpFilter, haproxy, root, haproxy, -f, /etc/haproxy/[a-z]+\\.conf
    """
    for problem in reported.of_text(subject, "RW302"):
        line = _line_of(subject, problem)
        known = programs.look_up(line.program)
        route = next((one for one in known.routes if one in _BY_WORDS), None) if known else None
        if known is None or route is None or "root" not in line.users:
            yield problem
            continue
        past = line.program in programs.OPTIONS_FIRST and line.words[0].location != problem.location
        severity = None if past or route not in programs.ROOT else Severity.ERROR
        what = f"{problem.what}, and {line.program} {programs.ROUTES[route]} ({known.how})"
        yield replace(problem, what=what, severity=severity)
    for line, part in _patterns(subject):
        if _is_anything(part.text):
            past = _is_past_options(line, part)
            severity = Severity.ERROR if _gives_root(line) and not past else None
            what = f"{part.text} admits any word, {'a keyword too' if past else _shown(line)}"
            yield at(part, what, _narrower(line), severity)
        elif (prefix := _NAMED.match(part.text)) and _is_anything(part.text[prefix.end() :]):
            yield at(part, f"{part.text} admits anything behind {prefix[0]}", _narrower(line))


def _line_of(subject: Subject, problem: Problem) -> Line:
    """The line whose text a problem is in."""
    where = problem.location
    return next(
        line
        for line in subject.lines
        if line.entry.location.file == where.file and line.entry.location.line <= where.line <= line.last_line
    )


def _shown(line: Line) -> str:
    known = programs.look_up(line.program)
    return f"and {line.program} {known.because}" if known else "an option or a path too"


def _narrower(line: Line) -> str:
    types = "{int}, {name}, {path=/base}"
    known = programs.look_up(line.program)
    if known is not None and "config" in known.routes:
        return f"write what {line.program} may be given; {programs.WHOSE_FILE}"
    return f"write what {line.program} may be given, or an ArgvFilter with a type: {types}"


@rule("RW303", Severity.WARNING)
def options(subject: Subject) -> Iterator[Problem]:
    """A pattern for a value that admits an option.

    A word that begins with a dash is an option to most programs, wherever it stands: the caller can then
    change what the other words mean.

    Found::

        ls: RegExpFilter, ls, root, ls, [a-z-]+

    Fine::

        ls: RegExpFilter, ls, root, ls, [a-z][a-z-]*

    Fine::

        ls: RegExpFilter, ls, root, ls, -[la]
    """
    for _, part in _patterns(subject):
        if part.text.lstrip("^(?:").startswith(("-", r"\-")) or _is_anything(part.text):
            continue
        word = regexes.witness(part.text, "-x", "--x", "-1", "-a", "-0", "-", shape="-.*")
        if word is not None:
            what = f"{part.text} admits {word!r}, which may be an option"
            yield at(part, what, "begin the pattern with a character that is no dash")


@rule("RW304", Severity.WARNING)
def traversal(subject: Subject) -> Iterator[Problem]:
    """A pattern for a path that admits `..`.

    The path may name any file, whatever directory it begins with.

    Found::

        chown: RegExpFilter, chown, root, chown, nova, /dev/(?!.*/\\.\\.).*

    Found::

        rm: RegExpFilter, rm, root, rm, -r, /etc/netns/qdhcp-[0-9a-z./-]+

    Fine::

        rm: RegExpFilter, rm, root, rm, -r, /etc/netns/qdhcp-[0-9a-f-]+

    Fine::

        curl: RegExpFilter, curl, root, curl, http://[0-9a-z:./-]+
    """
    for line, part in _patterns(subject):
        # Without a slash of its own it may be no path at all; behind :// the other host looks at it.
        if _is_anything(part.text) or "/" not in part.text or "://" in part.text:
            continue
        word = regexes.witness(part.text, *_TRAVERSAL, shape=_UPWARDS)
        if word is None:
            continue
        severity = Severity.ERROR if _gives_root(line) and not _is_harmless_value(line, part) else None
        what = f"{part.text} admits {word!r}"
        instead = "take . or / out of what repeats, or use a PathFilter or {path=/base} of an ArgvFilter"
        yield at(part, what, instead, severity)


@rule("RW305", Severity.WARNING)
def newline(subject: Subject) -> Iterator[Problem]:
    """A pattern that admits a line break.

    Programs that read or write files line by line take what follows it as a line of its own. `[^/]` admits
    one, `.` does not.

    Found::

        mkdir: RegExpFilter, mkdir, root, mkdir, /var/lib/nova/[^/]+

    Fine::

        mkdir: RegExpFilter, mkdir, root, mkdir, /var/lib/nova/[a-z]+
    """
    for _, part in _patterns(subject):
        word = regexes.witness(part.text, "\n", "a\n", "a\nb")
        if word is not None:
            instead = r"name the characters that may stand there, or add \n to those that may not"
            yield at(part, f"{part.text} admits a line break: {word!r}", instead)


@rule("RW306", Severity.WARNING)
def half_anchored(subject: Subject) -> Iterator[Problem]:
    """Alternatives that are in no group.

    oslo.rootwrap appends a `$` and matches from the beginning: of `add|del` only `del` is bound to the end,
    and `add --evil` is allowed. The daemon matches each alternative whole.

    Found::

        ip: RegExpFilter, ip, root, ip, netns, add|del

    Fine::

        ip: RegExpFilter, ip, root, ip, netns, (add|del)
    """
    for _, part in subject.patterns:
        if regexes.compiled(part.text) is not None and regexes.has_open_bar(part.text):
            mended = f"({part.text})"
            what = f"{part.text} is matched by its beginning alone in oslo.rootwrap"
            edit = Edit(part.location, part.text, mended)
            yield at(part, what, f"write {mended}", replacement=mended, edits=(edit,))


@rule("RW307", Severity.ERROR)
def exponential(subject: Subject) -> Iterator[Problem]:
    """A repetition that can match a word in very many ways.

    A word that almost matches doubles the time with each character more. oslo.rootwrap hangs for as long as
    the caller likes; the daemon stops after a time and answers "denied".

    Found::

        find: RegExpFilter, find, root, find, ^[/]*([^/\\0]+(/+)?)*$, -maxdepth, 1

    Fine::

        find: RegExpFilter, find, root, find, /([^/\\0]+/)*[^/\\0]*, -maxdepth, 1
    """
    for _, part in subject.patterns:
        if regexes.is_exponential(part.text):
            what = f"{part.text} takes exponential time on a word that almost matches"
            yield at(part, what, "let only one repetition take each character: (a+b)* instead of (a+b?)*")


@rule("RW308", Severity.WARNING)
def accidental_range(subject: Subject) -> Iterator[Problem]:
    """A dash between two signs in brackets, which makes a range of characters.

    `[./-\\[]` is not four signs but all from `/` to `[`: digits, capital letters, `;`, `<` and `>`.

    Found::

        curl: RegExpFilter, curl, root, curl, http://[0-9a-z:./-\\[\\]]+

    Fine::

        curl: RegExpFilter, curl, root, curl, http://[0-9a-z:./\\[\\]-]+
    """
    for _, part in _patterns(subject):
        for low, high in _ranges(part.text):
            both = f"{chr(low)}-{chr(high)}"
            what = f"{both} in brackets is a range, which has {_examples(low, high)} in it too"
            yield at(part, what, "write the dash last in the brackets")


def _ranges(text: str) -> Iterator[tuple[int, int]]:
    """Ranges of a pattern whose ends are not both digits, small or capital letters."""
    for low, high in regexes.ranges(text):
        ends = chr(low) + chr(high)
        if 32 <= low < high < 127 and ends != " ~" and not _ONE_SORT.fullmatch(ends):
            # All printable ones are no accident, nor are all controls.
            yield low, high


def _examples(low: int, high: int) -> str:
    inside = (chr(code) for code in range(low + 1, high) if not chr(code).isspace())
    # Signs first: digits and letters are mostly in the brackets anyhow, and nobody fears them.
    return " ".join(sorted(inside, key=str.isalnum))[:11] or "a blank"


@rule("RW309", Severity.ERROR)
def shell_text(subject: Subject) -> Iterator[Problem]:
    """A free part in what a shell reads.

    Signs like `;`, `$` and quotes end the word that was meant and begin a command of the caller's own.

    Found::

        sh: RegExpFilter, sh, root, sh, -c, echo '((.|\\n)*)' > /.*

    Fine::

        sh: RegExpFilter, bash, root, bash, -c, /usr/lib/frr/frrinit\\.sh start [a-z]+
    """
    for line, part in _patterns(subject):
        if line.program in programs.SHELLS and not _is_anything(part.text):
            found = [sign for sign in _SHELL_SYNTAX if regexes.witness(part.text, sign)]
            if found:
                what = f"a shell reads this, and a caller can put {found[0]!r} into it"
                yield at(part, what, "filter a script of root's own, with its arguments, instead of a shell")
