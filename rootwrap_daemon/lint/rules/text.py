"""RW1xx: what the daemon cannot read, or would read otherwise than it looks.

Promises: what is refused is what the daemon's own parser and kinds refuse.
"""

import re
from collections.abc import Iterator
from typing import Final

from rootwrap_daemon.lint import reported
from rootwrap_daemon.lint.finding import Edit, Problem, Severity, at
from rootwrap_daemon.lint.rules import rule
from rootwrap_daemon.lint.subject import Subject

#: In a word that has a blank before it, as the text of a shell has, `;` parts two commands.
_COMMENT: Final = re.compile(r"\A\S*(\s+;.*)|(\s+#.*)", re.DOTALL)


@rule("RW100", Severity.ERROR)
def refused(subject: Subject) -> Iterator[Problem]:
    """The daemon refuses this, for a reason that no other rule is about.

    A filter that is refused allows nothing: the daemon does not start, or goes on without it.

    Found::

        ls: ArgvFilter, ls, root, [{name}], {name}

    Fine::

        ls: ArgvFilter, ls, root, {name}, [{name}]
    """
    return reported.of_text(subject, "RW100")


@rule("RW101", Severity.ERROR)
def unknown_kind(subject: Subject) -> Iterator[Problem]:
    """A kind of filter that does not exist.

    The line allows nothing. oslo.rootwrap drops it without a word.

    Found::

        dnsmasq: DnsmasqFilter, dnsmasq, root

    Fine::

        ls: RegExpFilter, ls, root, ls, -l
    """
    return reported.of_text(subject, "RW101")


@rule("RW102", Severity.ERROR)
def field_count(subject: Subject) -> Iterator[Problem]:
    """Too few fields for the kind, or more than it looks at.

    oslo.rootwrap ignores what stands behind a CommandFilter's user: who reads the line believes in a
    restriction that is not there.

    Found::

        ls: CommandFilter, ls, root, -l, /var/lib/nova

    Found::

        ls: CommandFilter, ls

    Fine::

        ls: RegExpFilter, ls, root, ls, -l, /var/lib/nova
    """
    return reported.of_text(subject, "RW102")


@rule("RW103", Severity.ERROR)
def bad_pattern(subject: Subject) -> Iterator[Problem]:
    """A pattern that cannot be used, or that engines read differently.

    oslo.rootwrap compiles a pattern when it is asked, and answers "denied" to everything if it cannot.

    Found::

        kill: RegExpFilter, ls, root, ls, [a-

    Fine::

        kill: RegExpFilter, ls, root, ls, [a-z]+
    """
    return reported.of_text(subject, "RW103")


@rule("RW104", Severity.ERROR)
def split_pattern(subject: Subject) -> Iterator[Problem]:
    r"""A comma that splits a pattern into two fields.

    There is no comma in a field of a filter file: what was meant as one pattern of one word is two patterns
    of two words.

    Found::

        sleep: RegExpFilter, sleep, root, sleep, [0-9]{1,3}

    Fine::

        sleep: RegExpFilter, sleep, root, sleep, [0-9][0-9]?[0-9]?
    """
    return reported.of_text(subject, "RW104")


@rule("RW105", Severity.ERROR)
def outside_filters(subject: Subject) -> Iterator[Problem]:
    """A definition outside [Filters].

    It allows nothing there. What stands in [DEFAULT] is in every section to oslo.rootwrap's parser.

    Found::

        [DEFAULT]
        ls: RegExpFilter, ls, root, ls

    Found::

        [Filter]
        ls: RegExpFilter, ls, root, ls

    Fine::

        [Filters]
        ls: RegExpFilter, ls, root, ls
        [ls]
        timeout = 10
    """
    return reported.of_text(subject, "RW105")


@rule("RW106", Severity.ERROR)
def same_name(subject: Subject) -> Iterator[Problem]:
    """One name for two different filters of a file.

    oslo.rootwrap keeps the last alone, without a word; the daemon uses neither. Upper and lower case make no
    difference.

    Found::

        ls: RegExpFilter, ls, root, ls, -l
        LS: RegExpFilter, ls, root, ls, -a

    Fine::

        ls: RegExpFilter, ls, root, ls, -l
        ls_all: RegExpFilter, ls, root, ls, -a
    """
    return reported.of_text(subject, "RW106")


@rule("RW107", Severity.WARNING)
def repeated(subject: Subject) -> Iterator[Problem]:
    """The same definition twice under the same name.

    Whoever changes one of them will wonder why nothing changes, or why the daemon now refuses both.

    Found::

        ls: RegExpFilter, ls, root, ls
        ls: RegExpFilter, ls, root, ls

    Fine::

        ls: RegExpFilter, ls, root, ls
    """
    for problem in reported.of_text(subject, "RW107"):
        file = next(file for file in subject.files if file.name == problem.location.file)
        line = next(line for line in file.lines if line.entry.location == problem.location)
        place = problem.location
        rows = range(place.line, line.last_line + 1)
        edits = tuple(Edit(type(place)(place.file, row, 1), file.rows[row - 1], "") for row in rows)
        yield Problem(place, problem.what, problem.instead, problem.length, edits=edits)


@rule("RW108", Severity.ERROR)
def strange_character(subject: Subject) -> Iterator[Problem]:
    """A character that an editor may not show, or that parsers take for a blank or a line break.

    What a reviewer sees in the file is not what a parser reads from it.

    Found::

        ls: RegExpFilter, ls, root, ls, -l\u200b

    Fine::

        ls: RegExpFilter, ls, root, ls, -l
    """
    return reported.of_text(subject, "RW108")


@rule("RW109", Severity.ERROR)
def bad_option(subject: Subject) -> Iterator[Problem]:
    """An option that no filter has, or a value that it cannot have.

    The filter is refused with its option: one that was meant to restrict it must not be lost by a typing
    error.

    Found::

        ls: RegExpFilter, ls, root, ls
        [ls]
        time_out = 10

    Fine::

        ls: RegExpFilter, ls, root, ls
        [ls]
        timeout = 10
    """
    return reported.of_text(subject, "RW109")


@rule("RW110", Severity.ERROR)
def bad_field(subject: Subject) -> Iterator[Problem]:
    """A program, path, user or variable that is none.

    A relative path is looked up where the caller stands; a user that is a number may be no user's name and
    somebody's uid. Fields in a wrong order often show so, too.

    Found::

        ls: RegExpFilter, bin/ls, root, ls

    Found::

        ls: RegExpFilter, ls, 0, ls

    Fine::

        ls: RegExpFilter, /bin/ls, root, ls
    """
    return reported.of_text(subject, "RW110")


@rule("RW118", Severity.WARNING)
def template(subject: Subject) -> Iterator[Problem]:
    """A template that was not rendered.

    What the daemon would read is the text that comes out of it, and nobody has looked at that.

    Found::

        proxy: CommandFilter, {{ neutron_bin }}/neutron-ns-metadata-proxy, root

    Fine::

        proxy: RegExpFilter, /opt/neutron/bin/neutron-proxy, root, neutron-proxy
    """
    return reported.of_text(subject, "RW118")


@rule("RW111", Severity.ERROR)
def trailing_comment(subject: Subject) -> Iterator[Problem]:
    """A comment behind a definition.

    The format has comments on lines of their own only: behind a definition it is a part of the last field,
    and as the end of a pattern it makes the filter match nothing that was meant.

    Found::

        ls: RegExpFilter, ls, root, ls, -l # long

    Fine::

        # long
        ls: RegExpFilter, ls, root, ls, -l

    Fine::

        both: RegExpFilter, sh, root, sh, -c, echo [a-z]+ ; id
    """
    found = list(reported.of_text(subject, "RW111"))
    refused = {problem.location for problem in found}
    yield from found
    for line in subject.lines:
        part = line.entry.fields[-1]
        comment = _COMMENT.search(part.text)
        if comment and part.location not in refused and line.kind != "ArgvFilter":
            said = (comment[1] or comment[2]).strip()
            instead = f"put {said!r} on a line of its own, above"
            yield at(part, "a comment after a definition is part of its last field", instead)


@rule("RW112", Severity.ERROR)
def broken_line(subject: Subject) -> Iterator[Problem]:
    r"""Something that is no definition, or a word that a line break or a blank cuts in two.

    A continuation must begin with a blank, and its fields end with a comma as all others do; a blank inside
    a word is a part of the one word, not the end of it.

    Found::

        ls: RegExpFilter, ls, root, ls, -l
        -a

    Found::

        ls: ArgvFilter, ls, root, -l -a

    Fine::

        ls: RegExpFilter, ls, root, ls, -l,
          -a
    """
    return reported.of_text(subject, "RW112")


@rule("RW113", Severity.ERROR)
def first_pattern(subject: Subject) -> Iterator[Problem]:
    """A first pattern that does not match the program itself.

    The first pattern is for the command's own name. oslo.rootwrap lets it alone decide: a request for one
    program runs another; or it was forgotten, and no request ever matches.

    Found::

        rm: RegExpFilter, /bin/rm, root, ls, /tmp/x

    Fine::

        rm: RegExpFilter, /bin/rm, root, rm, /tmp/x
    """
    return reported.of_text(subject, "RW113")


@rule("RW114", Severity.ERROR)
def wrong_program(subject: Subject) -> Iterator[Problem]:
    """A kind that knows the words of another program, or needs another user.

    IpFilter and IpNetnsExecFilter read the words as ip(8) does, EnvFilter as env(1): of another program they
    know nothing.

    Found::

        ping: IpNetnsExecFilter, ping, root

    Fine::

        ip: IpNetnsExecFilter, ip, root
    """
    return reported.of_text(subject, "RW114")


@rule("RW115", Severity.ERROR)
def bad_signal(subject: Subject) -> Iterator[Problem]:
    """A word of a KillFilter that is no signal.

    oslo.rootwrap compares it with what the request has, and gives whatever that is to kill(1).

    Found::

        kill: KillFilter, root, /usr/sbin/dnsmasq, 9, HUP

    Fine::

        kill: KillFilter, root, /usr/sbin/dnsmasq, -9, -HUP
    """
    return reported.of_text(subject, "RW115")


@rule("RW119", Severity.WARNING)
def literal(subject: Subject) -> Iterator[Problem]:
    """A word that is compared as it stands, and looks as if it were not.

    A `*` is no pattern in an ArgvFilter, no shell reads `>` or `$`, quotes belong to the word, and argv[0] is
    no field of an ArgvFilter or a PathFilter: the filter allows nothing that its author wanted.

    Found::

        restart: ArgvFilter, ls, root, *.service

    Found::

        link: ArgvFilter, ls, root, ls, -l

    Found::

        ls: RegExpFilter, "ls", root, "ls", -l

    Fine::

        restart: ArgvFilter, ls, root, {=*.service}, {name}
    """
    return reported.of_text(subject, "RW119")
