"""RW210: what the unit of the daemon takes from the programs of the filters.

Promises: judges by words that are written out; what a type or a pattern allows beside them is not guessed.
"""

from collections.abc import Iterator

from rootwrap_daemon.lint.finding import Problem, Severity, at
from rootwrap_daemon.lint.knowledge import confinement
from rootwrap_daemon.lint.rules import rule
from rootwrap_daemon.lint.subject import Subject
from rootwrap_daemon.lint.words import word_of


@rule("RW210", Severity.WARNING)
def confined(subject: Subject) -> Iterator[Problem]:
    """A program that needs what the daemon's unit takes away.

    The command is allowed, and fails with EPERM, which says nothing of the unit. `rootwrapctl explain` says
    the same of one command.

    Found::

        clock: ArgvFilter, date, root, -s, {name}

    Found::

        restore: CommandFilter, tar, root

    Found::

        mode: ArgvFilter, chmod, root, {=6755|0755}, {path=/var/lib/nova}

    Fine::

        clock: ArgvFilter, date, root, -u
    """
    if subject.host is None or not subject.host.takes:
        return
    for line in subject.lines:
        if line.filter is None or line.program_field is None:
            continue
        found = [word_of(line.kind.removeprefix("Chaining"), part) for part in line.words]
        texts = [text for one in found for text in one.texts or (one.part.text,)]
        words = None if line.is_open else [text.strip("[]").replace("\\", "") for text in texts]
        if missed := confinement.missing(line.program, words, subject.host.takes):
            yield at(line.program_field, f"{line.program}: {missed}", missed.remedy)
