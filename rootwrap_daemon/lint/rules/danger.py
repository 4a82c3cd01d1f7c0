"""RW301, RW310-RW312, RW320-RW390 but RW323, RW331: filters that give away more than they seem to, by kind.

Promises: RW390 tells where the daemon differs from oslo.rootwrap, and nothing else.
"""

from collections.abc import Iterator
from typing import Final

from rootwrap_daemon.filters.chains import ChainingFilter
from rootwrap_daemon.filters.read.dangers import danger_of
from rootwrap_daemon.lint import reported
from rootwrap_daemon.lint.finding import Problem, Severity, at
from rootwrap_daemon.lint.knowledge import assignments, programs
from rootwrap_daemon.lint.rules import rule
from rootwrap_daemon.lint.subject import Line, Subject
from rootwrap_daemon.policy.behaviour import FINDS, OTHER_TREE, RESOLVES

#: Programs that set the variables which their words assign.
_SET_VARIABLES: Final = frozenset(("doas", "env", "sudo", "systemd-run"))


@rule("RW301", Severity.ERROR)
def any_arguments(subject: Subject) -> Iterator[Problem]:
    """A dangerous program with any arguments.

    The program does its caller's will with root's rights: the filter is worth as much as a root shell, or as
    the part of it that the finding names.

    Found::

        tcpdump: CommandFilter, tcpdump, root

    Found::

        lvs: EnvFilter, env, root, LC_ALL=C, lvs

    Fine::

        tcpdump: ArgvFilter, tcpdump, root, -i, eth0, -c, {int}, -w, {=-}

    Fine::

        users: CommandFilter, id, root
    """
    for line in subject.lines:
        known = programs.look_up(line.program)
        # What another user runs is that user's.
        if known is None or line.program_field is None or not line.is_open:
            continue
        severity = Severity.ERROR if known.gives_root and "root" in line.users else Severity.WARNING
        what = f"any arguments for {line.program}, which {known.because}"
        instead, replacement = _instead(line, known)
        yield at(line.program_field, what, instead, severity, replacement)


def _instead(line: Line, known: programs.Program) -> tuple[str, str | None]:
    if known.safer is None:
        if known.routes[0] in ("code", "runs", "escape", "proxy", "kernel"):
            return programs.NEVER, None
        instead = "write every word out, in an ArgvFilter or RegExpFilter, and free ones by their type"
        return (f"{instead}; {programs.WHOSE_FILE}" if "config" in known.routes else instead), None
    if "," not in known.safer:
        return f"use an {known.safer}", None
    instead = "write its words out; for example, with your own names and paths"
    return instead, f"{line.entry.name}: {known.safer}"


@rule("RW310", Severity.ERROR)
def pattern_in_path(subject: Subject) -> Iterator[Problem]:
    """A regular expression in a PathFilter.

    PathFilter compares words and directories. To oslo.rootwrap the expression is a directory of that odd
    name: the filter never matches, and something else may have allowed the command all the time.

    Found::

        ls: PathFilter, ls, root, /etc/(?!\\.\\.).*

    Fine::

        ls: PathFilter, ls, root, /etc/nova
    """
    return reported.of_text(subject, "RW310")


@rule("RW311", Severity.ERROR)
def everything_beneath(subject: Subject) -> Iterator[Problem]:
    """A PathFilter whose directory is /.

    Every path is beneath it: the filter restricts nothing.

    Found::

        ls: PathFilter, ls, root, /

    Fine::

        ls: PathFilter, ls, root, /var/lib/nova
    """
    # Not only where the daemon says it: it stops at the first fault of a line.
    for line in subject.lines:
        for part in line.words if line.kind == "PathFilter" else ():
            if part.text and not part.text.strip("/"):
                yield at(part, "the base directory / contains everything", "name the directory meant")


@rule("RW312", Severity.ERROR)
def not_so(subject: Subject) -> Iterator[Problem]:
    """A filter with `opens_paths = yes` of a program that does more with paths than to open them.

    The option says of a program that is not known that it only opens the paths that it is given. Of this one
    it is known that it resolves links itself, changes mounts, or executes what it finds in a directory.

    Found::

        swap: ArgvFilter, swapon, root, {path=/var/lib/nova}
        [swap]
        opens_paths = yes

    Found::

        jobs: ArgvFilter, run-parts, root, {path=/var/lib/nova}
        [jobs]
        opens_paths = yes

    Found::

        tree: ArgvFilter, chroot, root, {path=/var/lib/nova}, ls
        [tree]
        opens_paths = yes

    Fine::

        show: ArgvFilter, my-tool, root, {path=/var/lib/nova}
        [show]
        opens_paths = yes
    """
    for line in subject.lines:
        if line.filter is None or not line.filter.options.opens_paths:
            continue
        if line.program in RESOLVES | FINDS | OTHER_TREE:
            does = "resolves links" if line.program in RESOLVES else "executes what it finds in a directory"
            what = f"{line.entry.name}: {line.program} {does}"
            yield at(line.entry.fields[0], what, "take the option out")


_CONTEXT: Final = "--privsep_context"


@rule("RW320", Severity.WARNING)
def privsep(subject: Subject) -> Iterator[Problem]:
    """A line that starts oslo.privsep's helper.

    The helper is a daemon of root's that runs any function of its context for the caller: the line is worth
    as much as all of that context. Who can choose the context, the configuration file or the module path
    imports code of its own. oslo.rootwrap allows the helper with any arguments even without such a line; the
    daemon does not.

    Found::

        privsep: RegExpFilter, privsep-helper, root, privsep-helper, --privsep_context, nova\\.privsep\\.ctxt

    Fine::

        ls: RegExpFilter, ls, root, ls
    """
    for line in subject.lines:
        if line.program == "privsep-helper" and line.program_field is not None:
            texts = line.entry.texts
            contexts = [texts[place + 1] for place in range(len(texts) - 1) if texts[place] == _CONTEXT]
            names = ", ".join(contexts) if contexts else "any context"
            what = f"starts privsep-helper: equivalent to root for {names}"
            instead = (
                "name context and configuration file as plain words, and write `# rw: ignore RW320 REASON`"
            )
            yield at(line.program_field, what, f"{instead} above the line")


@rule("RW321", Severity.INFO)
def env_values(subject: Subject) -> Iterator[Problem]:
    """An EnvFilter with values or arguments, which oslo.rootwrap ignores.

    There only the names of the variables and of the program count: `LC_ALL=C` allows any LC_ALL, and what
    follows the program allows any arguments. The daemon honours both.

    Found::

        x: EnvFilter, env, root, PROCESS_TAG=, haproxy, -f, /etc/x

    Found::

        x: EnvFilter, env, root, LC_ALL=C, hostname

    Fine::

        x: EnvFilter, env, root, PROCESS_TAG=, hostname
    """
    for line in subject.lines:
        if line.kind != "EnvFilter":
            continue
        fixed = [part for part in line.entry.fields[3:] if "=" in part.text and not part.text.endswith("=")]
        variables = [part for part in fixed if part not in line.words]
        if line.words:
            what = f"oslo.rootwrap allows any arguments for {line.program} here"
            yield at(line.words[0], what, "nothing for the daemon; for oslo.rootwrap, use a RegExpFilter")
        elif variables:
            what = f"oslo.rootwrap allows any value in the place of {variables[0].text}"
            yield at(variables[0], what, "nothing for the daemon, which wants that value")


@rule("RW322", Severity.ERROR)
def dangerous_variable(subject: Subject) -> Iterator[Problem]:
    """A variable that makes programs load code or files, with any value.

    Its value is the caller's to choose, and the program that then loads it is root's.

    Found::

        au: EnvFilter, env, root, LD_LIBRARY_PATH=, aureplicationvvol

    Found::

        ls: RegExpFilter, ls, root, ls
        [ls]
        env = LD_PRELOAD

    Found::

        any: ChainingRegExpFilter, env, root, env, [A-Z0-9_]+=[a-z0-9-]+

    Found::

        run: RegExpFilter, systemd-run, root, systemd-run, --setenv=[A-Z_]+, true

    Fine::

        au: EnvFilter, env, root, LD_LIBRARY_PATH=/opt/hitachi/lib, aureplicationvvol
    """
    for problem in reported.of_text(subject, "RW322", raised=Severity.ERROR):
        instead = "write the one value that is needed behind the =, or set it by the filter's option set_env"
        yield Problem(problem.location, problem.what, instead, problem.length)
    for line in subject.lines:
        if "root" not in line.users or programs.base_name(line.program) not in _SET_VARIABLES:
            continue
        for part in line.words:
            if (name := assignments.dangerous(part.text)) is not None:
                what = f"{part.text} admits {name}=, any value of which {danger_of(name)}"
                yield at(part, what, "write the name out, and for this one its value")


@rule("RW330", Severity.WARNING)
def kill_interpreter(subject: Subject) -> Iterator[Problem]:
    """A KillFilter of an interpreter.

    Every service in that language runs the same program: the caller can end those of others. The options
    `target_user` and `started_by` say whose processes are meant.

    Found::

        kill: KillFilter, root, python3, -9

    Fine::

        kill: KillFilter, root, python3, -9
        [kill]
        started_by = self
    """
    for line in subject.lines:
        part = line.program_field
        known = programs.look_up(line.program)
        name = known.name if known else line.program
        if line.kind != "KillFilter" or part is None or name not in programs.INTERPRETERS:
            continue
        if line.filter is None or not (line.filter.options.target_user or line.filter.options.started_by_us):
            instead = f"add a section [{line.entry.name}] with target_user = USER or started_by = self"
            yield at(part, f"signals to any process that runs {line.program}", instead)


@rule("RW340", Severity.ERROR)
def chain_to_shell(subject: Subject) -> Iterator[Problem]:
    """A chain that reaches a shell, or another program that runs any command.

    What runs inside the chain is then not bound by any filter, and not by the namespace, group or priority
    that the chain gives it: it can leave them.

    Found::

        exec: IpNetnsExecFilter, ip, root
        sh: CommandFilter, sh, root

    Fine::

        exec: IpNetnsExecFilter, ip, root
        arping: RegExpFilter, arping, root, arping, -c, 1, [0-9.]+
    """
    leaves = [line for line in subject.lines if line.filter is not None and line.is_open]
    for line in subject.lines:
        if not isinstance(line.filter, ChainingFilter):
            continue
        for leaf in leaves:
            known = programs.look_up(leaf.program)
            if known and set(leaf.users) & set(line.users) and not {"code", "runs"}.isdisjoint(known.routes):
                what = f"this chain reaches {leaf.program} with any arguments, by {leaf.entry.name}"
                where = f"{leaf.entry.location.file}:{leaf.entry.location.line}"
                yield at(line.entry.fields[0], what, f"restrict that filter ({where})")


@rule("RW342", Severity.WARNING)
def keyword(subject: Subject) -> Iterator[Problem]:
    """A free word that the program could read as a keyword.

    ip, tc and bridge take a word for a keyword wherever one may stand: a device called `netns` makes the next
    word a namespace. Behind `netns`, ip takes a number for the id of a process.

    Found::

        link: ArgvFilter, ip, root, link, set, {ifname}, up

    Fine::

        link: ArgvFilter, ip, root, link, set, dev, {ifname}, up
    """
    return reported.of_text(subject, "RW342")


#: How the daemon differs from oslo.rootwrap, by the kind; where it never shows, there is nothing.
_OTHERWISE: Final = {
    "IpFilter": "refuses -batch, vrf exec, names with a slash, and netns exec however it is written",
    "IpNetnsExecFilter": "runs the inner filter's own program, never a path that only ends like it",
    "ChainingRegExpFilter": "runs the inner filter's own program, never a path that only ends like it",
    "KillFilter": "sends the signal itself, to the process looked at, and takes only plain process numbers",
    "PathFilter": "compares whole components, follows no link of others, and takes no option for `pass`",
    "ReadFileFilter": "reads the file itself, and through no link that others could change",
}


@rule("RW390", Severity.INFO)
def otherwise(subject: Subject) -> Iterator[Problem]:
    """A line that the daemon treats differently from oslo.rootwrap.

    Who moves over should know it beforehand. The differences make something safe that was not.

    Found::

        ip: IpFilter, ip, root

    Fine::

        ls: CommandFilter, ls, root
    """
    for line in subject.lines:
        if line.filter is not None and line.kind in _OTHERWISE:
            what = f"unlike oslo.rootwrap, the daemon {_OTHERWISE[line.kind]}"
            yield at(line.entry.fields[0], what, "nothing, if no request counts on it")
