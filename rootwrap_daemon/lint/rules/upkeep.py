"""RW4xx, RW116 and RW117: filters, comments and files that do nothing, or not what somebody thinks they do.

Promises: "never" is said only where the daemon's own order of filters makes it so.
"""

from collections.abc import Iterator

from rootwrap_daemon.filters.base import Filter
from rootwrap_daemon.filters.chains import ChainingFilter
from rootwrap_daemon.filters.kinds import CommandFilter
from rootwrap_daemon.lint import reported, suppress
from rootwrap_daemon.lint.finding import Edit, Problem, Severity, at
from rootwrap_daemon.lint.knowledge import regexes
from rootwrap_daemon.lint.rules import rule
from rootwrap_daemon.lint.subject import Line, Subject


def _about(line: Line, what: str, instead: str, severity: Severity | None = None) -> Problem:
    return Problem(line.entry.location, what, instead, len(line.entry.name), severity=severity)


def _where(line: Line, other: Line) -> str:
    """Return where `other` stands, seen from `line`."""
    place = other.entry.location
    same = place.file == line.entry.location.file
    return f"line {place.line}" if same else f"{place.file}:{place.line}"


@rule("RW116", Severity.ERROR)
def bad_suppression(subject: Subject) -> Iterator[Problem]:
    """A suppression without a reason, or of a rule that does not exist.

    `# rw: ignore RW301 reason` stands on a line of its own directly above the definition: behind it, it would
    be a part of the last field. Without a reason the next reader cannot know whether it still holds.

    Found::

        # rw: ignore RW301
        dd: CommandFilter, dd, root

    Found::

        # rw: ignore RW999 because
        ls: RegExpFilter, ls, root, ls

    Fine::

        # rw: ignore RW301 only the backup host has this file, and its agent is root there anyway
        dd: CommandFilter, dd, root
    """
    for file in subject.files:
        for one in suppress.read(file):
            unknown = sorted(one.rules - subject.known_rules)
            if unknown or not one.rules:
                what = f"there is no rule {unknown[0]}" if unknown else "a suppression that names no rule"
                yield Problem(one.location, what, "write `# rw: ignore RW301 reason`", one.length)
            elif not one.reason:
                what = "a suppression without a reason"
                yield Problem(one.location, what, f"write why, behind {max(one.rules)}", one.length)


@rule("RW117", Severity.WARNING)
def misnamed(subject: Subject) -> Iterator[Problem]:
    """A file among filter files that is not read, by its name.

    The daemon reads names that end in .filters and do not begin with a dot; oslo.rootwrap reads every file
    but hidden ones, also what an editor or a package manager left behind.

    Found::

        ==> old.filters.bak <==
        [Filters]
        sh: CommandFilter, sh, root

    Fine::

        ==> new.filters <==
        [Filters]
        ls: RegExpFilter, ls, root, ls
    """
    for name in subject.misnamed:
        instead = "end its name in .filters, or move it away"
        yield Problem(suppress.start_of(name), "not read, by its name", instead)


@rule("RW401", Severity.WARNING)
def never(subject: Subject) -> Iterator[Problem]:
    """A filter that can never allow anything.

    It looks like a part of the policy, and is none.

    Found::

        nice: ChainingFilter, nice, root

    Found::

        nice: ChainingRegExpFilter, nice, root, nice, -n, [0-9]
        ls: RegExpFilter, ls, nobody, ls

    Fine::

        nice: ChainingRegExpFilter, nice, root, nice, -n, [0-9]
        ls: RegExpFilter, ls, root, ls
    """
    yield from reported.of_text(subject, "RW401")
    filters = [line.filter for line in subject.lines if line.filter is not None]
    users = {name for one in filters if not isinstance(one, ChainingFilter) for name in one.run_as}
    for line in subject.lines:
        one = line.filter
        is_chain = isinstance(one, ChainingFilter) and type(one) is not ChainingFilter
        if one is not None and is_chain and users.isdisjoint(one.run_as):
            what = f"no filter for {' or '.join(one.run_as)} that this chain could lead to"
            # It may stand in another file.
            yield _about(line, what, "take it out, or add the filter of the inner command", Severity.INFO)


def _covers(one: Filter, other: Filter) -> bool:
    """True if `one` allows all that `other` does, in the same way."""
    return (
        isinstance(one, CommandFilter)
        and one.commands >= other.commands
        and one.run_as[0] == other.run_as[0]
        and set(one.run_as) >= set(other.run_as)
        and one.options == other.options
        and not isinstance(other, ChainingFilter)
    )


@rule("RW402", Severity.WARNING)
def shadowed(subject: Subject) -> Iterator[Problem]:
    """A filter beside a CommandFilter that allows all the same and more.

    What the narrow one forbids the other allows: it restricts nothing, and whoever reads it is misled.

    Found::

        ls: CommandFilter, ls, root
        ls_etc: RegExpFilter, ls, root, ls, /etc

    Found::

        ls_etc: RegExpFilter, ls, root, ls, /etc
        ls: CommandFilter, ls, root

    Fine::

        ls: CommandFilter, ls, nobody
        ls_etc: RegExpFilter, ls, root, ls, /etc
    """
    lines = [line for line in subject.lines if line.filter is not None]
    broad: dict[str, list[Line]] = {}
    for line in lines:
        if isinstance(line.filter, CommandFilter):
            broad.setdefault(line.program, []).append(line)
    for line in lines:
        if line.filter is None or isinstance(line.filter, CommandFilter):
            continue
        for other in broad.get(line.program, ()):
            if other.filter is not None and _covers(other.filter, line.filter):
                what = f"{other.entry.name} ({_where(line, other)}) allows {line.program} any arguments"
                yield _about(line, what, "take one of the two out: the broad one, if nothing needs it")
                break


@rule("RW403", Severity.WARNING)
def equal(subject: Subject) -> Iterator[Problem]:
    """Equal filters under two names.

    The second never decides. When one of them is narrowed later, the other still allows the old.

    Found::

        ls: RegExpFilter, ls, root, ls
        list: RegExpFilter, ls, root, ls

    Fine::

        ls: RegExpFilter, ls, root, ls
        list: RegExpFilter, ls, root, ls, -l
    """
    first: dict[tuple[object, ...], Line] = {}
    for line in subject.lines:
        if line.filter is None:
            continue
        # Options have functions in them: only a filter without any is known to be equal.
        if any(
            section.name.lower() == line.entry.key
            for file in subject.files
            for section in file.document.sections
        ):
            continue
        key = (
            tuple(text for _, _, text in line.entry.lines) if line.kind == "ArgvFilter" else line.entry.texts
        )
        other = first.setdefault(key, line)
        if other is not line:
            what = f"the same as {other.entry.name} ({_where(line, other)})"
            # Files are installed one by one: the other may not be there.
            elsewhere = other.entry.location.file != line.entry.location.file
            yield _about(line, what, "take one of the two out", Severity.INFO if elsewhere else None)


@rule("RW408", Severity.INFO)
def other_user(subject: Subject) -> Iterator[Problem]:
    """A filter with the words of another one, for other users.

    A request that names no user gets the first; this one is for those that name its user.

    Found::

        vacuum: ArgvFilter, vacuumdb, postgres, --all
        vacuum_root: ArgvFilter, vacuumdb, root, --all

    Fine::

        vacuum: ArgvFilter, vacuumdb, postgres|root, --all
    """
    first: dict[tuple[object, ...], Line] = {}
    for line in subject.lines:
        if line.filter is None or line.kind == "ReadFileFilter":
            continue
        place = 1 if line.kind == "KillFilter" else 2
        rest = (*line.entry.texts[:place], *line.entry.texts[place + 1 :])
        other = first.setdefault((rest, line.filter.options.users), line)
        if other is not line and other.users != line.users:
            first_users, these = "|".join(other.users), "|".join(line.users)
            same = f"the same words as {other.entry.name} ({_where(line, other)})"
            what = f"{same}, which runs as {first_users}"
            if set(line.users) <= set(other.users):
                yield _about(line, f"{what}, and decides first", "take this one out", Severity.WARNING)
            else:
                yield _about(line, what, f"name the user in the request, or write {first_users}|{these}")


@rule("RW404", Severity.WARNING)
def unused(subject: Subject) -> Iterator[Problem]:
    """A filter that the audit log never names.

    What nobody needs can only do harm. The log must be long enough to have what is rare.

    Found::

        ==> audit.jsonl <==
        {"event": "run", "filter": "hostname"}
        ==> x.filters <==
        [Filters]
        ls: RegExpFilter, ls, root, ls

    Fine::

        ==> audit.jsonl <==
        {"event": "run", "filter": "exec+ls"}
        ==> x.filters <==
        [Filters]
        ls: RegExpFilter, ls, root, ls
    """
    if subject.used is None:
        return
    for line in subject.lines:
        if line.filter is not None and line.entry.name not in subject.used:
            yield _about(line, "not in the audit log", "take it out if nothing rare needs it")


@rule("RW405", Severity.INFO)
def empty(subject: Subject) -> Iterator[Problem]:
    """A filter file without a definition.

    It allows nothing. Perhaps its section has another name, or all lines are comments.

    Found::

        # ls: RegExpFilter, ls, root, ls

    Fine::

        ls: RegExpFilter, ls, root, ls
    """
    for file in subject.files:
        # Where something is refused, that is what is to be mended.
        if not file.findings and not any(True for _ in file.document.entries()):
            where = suppress.start_of(file.name)
            yield Problem(where, "no filter in this file", "add one, or take the file out")


@rule("RW406", Severity.WARNING)
def idle_suppression(subject: Subject) -> Iterator[Problem]:
    """A suppression that suppresses nothing.

    What it was about was mended or moved; where it stands now it would hide the next finding.

    Found::

        # rw: ignore RW301 an old reason
        ls: RegExpFilter, ls, root, ls

    Fine::

        # rw: ignore RW301 only on the backup host
        dd: CommandFilter, dd, root
    """
    # Found where suppressions are applied, when all other rules have spoken: lint/check.py.
    yield from ()


@rule("RW407", Severity.INFO)
def needless_anchor(subject: Subject) -> Iterator[Problem]:
    """An anchor that says what holds anyway.

    A pattern matches the whole word, with `^` and `$` or without.

    Found::

        sleep: RegExpFilter, sleep, root, sleep, ^[0-9]+$

    Fine::

        sleep: RegExpFilter, sleep, root, sleep, [0-9]+
    """
    for _, part in subject.patterns:
        text = part.text
        if regexes.compiled(text) is None or regexes.has_open_bar(text) or "\n" in text:
            continue
        mended = text.removeprefix("^")
        bare = mended.removesuffix("$")
        # Behind an odd number of backslashes it is the character itself.
        if (len(bare) - len(bare.rstrip("\\"))) % 2 == 0:
            mended = bare
        if mended != text and mended and regexes.compiled(mended) is not None:
            edit = Edit(part.location, text, mended)
            what = f"{text} has an anchor that changes nothing"
            yield at(part, what, f"write {mended}", None, mended, (edit,))
