"""RW313, RW314, RW323 and RW324: what a caller may choose freely, and what no word restricts.

Promises: what is known to be dangerous has the rules of danger.py instead.
"""

from collections.abc import Iterator
from typing import Final

from rootwrap_daemon.filters.chains import ChainingFilter
from rootwrap_daemon.filters.read.ini import Field
from rootwrap_daemon.filters.variables import is_dangerous_variable
from rootwrap_daemon.lint.finding import Problem, Severity, at
from rootwrap_daemon.lint.knowledge import programs, regexes, stdin
from rootwrap_daemon.lint.rules import rule
from rootwrap_daemon.lint.subject import Line, Subject
from rootwrap_daemon.lint.words import Word, commands
from rootwrap_daemon.policy import wrappers

#: Variables whose value, as `may_hold` allows it, makes no program do more than to speak another language or
#: to colour its output; and tags that services give their own processes.
_HARMLESS_VARIABLES: Final = frozenset(
    "LANG LANGUAGE TERM COLORTERM COLUMNS LINES NO_COLOR PROCESS_TAG NEUTRON_NETWORK_ID".split()
)


@rule("RW313", Severity.WARNING)
def unknown_program(subject: Subject) -> Iterator[Problem]:
    """Any arguments for a program of which nothing is known here.

    That it is not in the table of dangerous programs says nothing for it. Most programs have an option that
    names a file to read, to write or to load, or a program to run: look through its manual page.

    Found::

        tool: CommandFilter, frobnicate, root

    Fine::

        users: CommandFilter, id, root

    Fine::

        tool: ArgvFilter, frobnicate, root, --size, {int}
    """
    for line in subject.lines:
        part, name = line.program_field, line.program
        # What another user runs is that user's.
        if part is None or not name or not line.is_open or "root" not in line.users:
            continue
        if name not in programs.HARMLESS and programs.look_up(name) is None:
            instead = "write its words out in an ArgvFilter, and free ones by their type"
            yield at(part, f"any arguments for {name}, of which nothing is known", instead)


@rule("RW314", Severity.ERROR)
def commands_from_stdin(subject: Subject) -> Iterator[Problem]:
    """A program that does what its standard input says.

    A request may bring input, of which a filter says nothing but whether there may be any. An interpreter,
    `sed -f -`, `ip -batch -`, `xargs` or `tar -x` does with it whatever the caller wants.

    Found::

        sh: ArgvFilter, bash, root, -l

    Found::

        unpack: ArgvFilter, tar, root, -xf, -, -C, /srv/images

    Found::

        sql: RegExpFilter, timeout, root, timeout, 5, psql, -U, [a-z]+

    Fine::

        sql: ArgvFilter, psql, root, -U, {name}
        [sql]
        stdin = no

    Fine::

        table: ArgvFilter, iptables-restore, root, -n
    """
    for line in subject.lines:
        part, one = line.program_field, line.filter
        # What any arguments may do is RW301's.
        if part is None or one is None or not one.options.stdin or line.is_open or line.kind == "KillFilter":
            continue
        words = [field.text.strip("[]").removesuffix("...").replace("\\", "") for field in line.words]
        found = list(wrappers.programs(line.program, words))
        # A chain's inner command is another filter's.
        inner = None if isinstance(one, ChainingFilter) else found[-1]
        for program, its in found:
            if (does := stdin.obeyed(program, its, last=(program, its) == inner)) is not None:
                where = f"a section [{line.entry.name}]"
                instead = f"say `stdin = no` in {where}; callers then bring none: < /dev/null"
                sure = does != stdin.UNKNOWN and "root" in line.users
                yield at(part, f"{program} {does}", instead, None if sure else Severity.WARNING)
                break


def _variables(subject: Subject, line: Line) -> Iterator[tuple[str, Field]]:
    """The variables of a filter that may have any value, each with the field that says so."""
    if line.kind == "EnvFilter":
        for part in line.entry.fields[3:]:
            name, equals, value = part.text.partition("=")
            if equals and not value:
                yield name, part
    for file in subject.files:
        if file.name != line.entry.location.file:
            continue
        for section in file.document.sections:
            for entry in section.entries if section.name.lower() == line.entry.key else ():
                if entry.key == "env":
                    for part in entry.fields:
                        name, _, kind = part.text.partition("=")
                        if kind in ("", "{any}", "{secret}"):
                            yield name, part


@rule("RW323", Severity.WARNING)
def free_variable(subject: Subject) -> Iterator[Problem]:
    """A variable with any value, of which nothing is known.

    Programs read more variables than their manual pages tell: files to load, servers to ask, programs to run.
    A type says what the value may be.

    Found::

        ls: RegExpFilter, ls, root, ls
        [ls]
        env = LS_FLAVOUR

    Found::

        au: EnvFilter, env, root, HORCMINST=, ls, -l

    Fine::

        ls: RegExpFilter, ls, root, ls
        [ls]
        env = LANG, LS_FLAVOUR={name}
    """
    for line in subject.lines:
        if "root" not in line.users:
            continue
        for name, part in _variables(subject, line):
            is_harmless = name in _HARMLESS_VARIABLES or name.startswith("LC_")
            if name and not is_dangerous_variable(name) and not is_harmless:
                instead = (
                    f"write the value, as in {name}=VALUE"
                    if part.text.endswith("=")
                    else f"give it a type or its value, as in {name}={{name}} or {name}={{=/the/value}}"
                )
                yield at(part, f"any value of {name}", instead)


#: What only root sees of each process, and its ways to all files: proc(5).
_OF_A_PROCESS: Final = tuple(
    f"/proc/{number}/{name}"
    for number in ("1", "4711")
    for name in "auxv cwd/x environ fd/3 io maps mem pagemap root/etc/shadow stack syscall".split()
)


@rule("RW324", Severity.WARNING)
def any_process(subject: Subject) -> Iterator[Problem]:
    """Files of any process that root alone may see.

    `environ` and `mem` in `/proc/PID` have the secrets of services; `root`, `cwd` and `fd` lead to any file.

    Found::

        environ: RegExpFilter, cat, root, cat, /proc/[0-9]+/environ

    Found::

        all: ArgvFilter, cat, root, {path=/proc}

    Fine::

        lines: RegExpFilter, cat, root, cat, /proc/[0-9]+/cmdline

    Fine::

        statistics: ArgvFilter, cat, root, {path=/proc/net}
    """
    for line in subject.lines:
        for program, words in commands(line):
            for word in words:
                if _is_of_any_process(word):
                    what = f"{program} gets what only root sees of any process, or any file by it"
                    yield at(word.part, what, "name the files below /proc that are needed")


def _is_of_any_process(word: Word) -> bool:
    if word.type == "path":
        return word.part.text.strip("[]{}. ").removeprefix("path=").rstrip("/") == "/proc"
    text = word.part.text
    # Of a pattern that takes any path other rules speak.
    is_about_it = word.type == "pattern" and not regexes.admits(text, "/x")
    return is_about_it and any(regexes.admits(text, one) for one in _OF_A_PROCESS)
