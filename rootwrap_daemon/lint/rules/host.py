"""RW2xx: what this host, or the configuration that is used here, makes of the filters.

Promises: asks the host what the daemon asks it, by the daemon's own functions. Reads, and changes nothing.
"""

import contextlib
from collections.abc import Iterator

from rootwrap_daemon.filters.kinds import ReadFileFilter
from rootwrap_daemon.filters.read.fault import Fault
from rootwrap_daemon.filters.read.ini import Field
from rootwrap_daemon.lint import reported
from rootwrap_daemon.lint.finding import Problem, Severity, at
from rootwrap_daemon.lint.rules import rule
from rootwrap_daemon.lint.subject import Subject
from rootwrap_daemon.policy import executables
from rootwrap_daemon.policy import host as looks
from rootwrap_daemon.policy.read import declared, users


def _unusable(subject: Subject) -> Iterator[tuple[Field, str]]:
    """The programs of lines that the daemon could not run, each with the reason, empty if it is not there."""
    for line in subject.lines if subject.host is not None else ():
        part = line.program_field
        if line.filter is None or part is None or subject.host is None:
            continue
        try:
            executables.find_executable(part.text, subject.host.exec_dirs, subject.host.owners)
        except FileNotFoundError:
            yield part, ""
        except looks.UntrustedPath as error:
            yield part, str(error)


@rule("RW201", Severity.WARNING)
def no_executable(subject: Subject) -> Iterator[Problem]:
    """A program that is not on this host.

    The filter allows nothing here; what is installed under that name one day, it will allow at once.

    Found::

        x: RegExpFilter, no-such-program, root, no-such-program

    Fine::

        ls: RegExpFilter, ls, root, ls
    """
    for part, why in _unusable(subject):
        if not why:
            instead = "install it, name its absolute path, or take the filter out"
            yield at(part, f"no program {part.text} here", instead)


@rule("RW202", Severity.ERROR)
def untrusted_executable(subject: Subject) -> Iterator[Problem]:
    """A program that others than trusted owners can change.

    Who can write the file, or a directory above it, chooses what runs as root. So does who can change the
    interpreter that a script names (`#!`, also through env(1) or another script) or a file that it is given
    there, the loader of a binary, or a directory in which that looks for libraries (RPATH, RUNPATH). The
    daemon refuses it; oslo.rootwrap runs it.

    Found::

        x: RegExpFilter, /scratch/writable, root, /scratch/writable

    Fine::

        x: RegExpFilter, /scratch/program, root, /scratch/program
    """
    for part, why in _unusable(subject):
        if why:
            yield at(part, why, "give it and all above it to root, mode 0755")


@rule("RW203", Severity.ERROR)
def no_user(subject: Subject) -> Iterator[Problem]:
    """A user or group that this host does not have.

    The daemon refuses the filter: there is nobody to run the command as.

    Found::

        ls: RegExpFilter, ls, no-such-user, ls

    Fine::

        ls: RegExpFilter, ls, root, ls
    """
    if subject.host is None:
        return
    for line in subject.lines:
        one = line.filter
        if one is None:
            continue
        try:
            for name in one.run_as:
                users.identity(name, one.options.group)
            for word in one.options.users:
                users.asker(word)
            if one.options.target_user:
                looks.user_number(one.options.target_user)
        except (KeyError, Fault) as error:
            yield Problem(one.location, str(error.args[0]), "name one that is there", len(line.entry.name))


@rule("RW204", Severity.WARNING)
def replaceable(subject: Subject) -> Iterator[Problem]:
    """A directory of a filter that others can replace, or a file to be read that they can change.

    Who can write above the directory decides which of his directories is meant by its name: the filter gives
    all that lies in the one above. The file of a ReadFileFilter is refused at each request.

    Found::

        x: PathFilter, ls, root, /scratch/shared/data

    Found::

        x: ReadFileFilter, /scratch/shared/file

    Fine::

        x: PathFilter, ls, root, /scratch/shared

    Fine::

        x: ArgvFilter, ls, root, {path=/scratch/private}
    """
    if subject.host is None:
        return
    owners = subject.host.owners
    for line in subject.lines:
        one = line.filter
        if isinstance(one, ReadFileFilter):
            part = line.entry.fields[1]
            try:
                looks.resolve_owned(one.program, owners)
            except looks.UntrustedPath as error:
                instead = "give file and directories to root: until then each request for it is refused"
                yield at(part, str(error), instead)
            except OSError:
                # Not there yet: the daemon looks again at each request.
                continue
        elif one is not None:
            with contextlib.suppress(Fault):
                # The loader tells of what cannot be used.
                for fault in declared.check(one, owners):
                    if fault.code == "replaceable":
                        yield Problem(one.location, fault.what, fault.remedy, len(line.entry.name))


@rule("RW205", Severity.ERROR)
def unsafe_file(subject: Subject) -> Iterator[Problem]:
    """A filter file, a directory of them, or one of programs, that the daemon does not read.

    Who can write a filter file is root, so the daemon reads only what trusted owners alone can write, from /
    down; oslo.rootwrap reads all. What it does not read, or does not find, allows nothing.

    Found::

        ==> open/x.filters <==
        [Filters]
        ls: RegExpFilter, ls, root, ls

    Fine::

        ==> private/x.filters <==
        [Filters]
        ls: RegExpFilter, ls, root, ls
    """
    return reported.of_host(subject, "RW205")


@rule("RW208", Severity.ERROR)
def refused_here(subject: Subject) -> Iterator[Problem]:
    """A filter whose words are right, and that the daemon refuses on this host or with this configuration.

    An option asks for something that the daemon or the command's user does not have.

    Found::

        ==> private/x.filters <==
        [Filters]
        ls: RegExpFilter, ls, nobody, ls
        [ls]
        capabilities = CAP_NET_ADMIN

    Fine::

        ==> private/x.filters <==
        [Filters]
        ls: RegExpFilter, ls, root, ls
        [ls]
        capabilities = CAP_NET_ADMIN
    """
    return reported.of_host(subject, "RW208")


@rule("RW209", Severity.WARNING)
def foreign_links(subject: Subject) -> Iterator[Problem]:
    """A filter that can bring links of others into a directory of root's, or give them to root.

    Who can write where the command takes its files from can have a link there, to anything. In a directory
    that trusted owners alone can change, commands follow it: what they are given there is not protected.

    Found::

        ==> private/x.filters <==
        [Filters]
        move: ArgvFilter, mv, root, {path=/scratch/shared}, {path=/scratch/private}

    Found::

        ==> private/x.filters <==
        [Filters]
        own: ArgvFilter, chown, root, --recursive, root, {path=/scratch/shared}

    Fine::

        ==> private/x.filters <==
        [Filters]
        copy: ArgvFilter, cp, root, --, {path=/scratch/shared}, {path=/scratch/private}
    """
    return reported.of_host(subject, "RW209")


@rule("RW211", Severity.WARNING)
def home_of_others(subject: Subject) -> Iterator[Problem]:
    """A command with more rights than its user, whose home others can change.

    Programs load code and settings from the home (`.ssh/config`, `.gitconfig`, modules of Python). The daemon
    sets HOME to /nonexistent for such a command (`ambient`, `group`, `no_new_privs = no`); one that asks
    passwd(5), as ssh(1) does, still finds the home, and does with these rights what is written there.

    Found::

        ==> private/x.filters <==
        [Filters]
        count: ArgvFilter, wc, mail, -l, /etc/hostname
        [count]
        group = shadow

    Fine::

        ==> private/x.filters <==
        [Filters]
        count: ArgvFilter, wc, nobody, -l, /etc/hostname
        [count]
        group = shadow
    """
    return reported.of_host(subject, "RW211")


@rule("RW212", Severity.WARNING)
def led(subject: Subject) -> Iterator[Problem]:
    """A program of which nothing is known, and a directory of root's in which others can change something.

    If the program goes into the directory, what others made there may lead it anywhere: a link that it
    follows, or a name in whose place they put a link meanwhile. A script of python takes modules from the
    directory that it is in, whatever is known of it, but not with `-I`.

    Found::

        ==> private/x.filters <==
        [Filters]
        count: ArgvFilter, cloc, root, /scratch/mixed

    Fine::

        ==> private/x.filters <==
        [Filters]
        count: ArgvFilter, cloc, root, /scratch/private

    Fine::

        ==> private/x.filters <==
        [Filters]
        count: ArgvFilter, cloc, root, /scratch/mixed
        [count]
        opens_paths = yes
    """
    return reported.of_host(subject, "RW212")
