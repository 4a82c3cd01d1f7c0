"""Bind the words of a command that are paths, and those that may have one in them.

Promises: a word is resolved as far as trusted owners alone can change what it names. Where others can, the
command is one of whose use of paths something is known, and runs where no link of theirs is followed.
"""

import os
import stat
from collections.abc import Collection, Sequence
from typing import NamedTuple

from rootwrap_daemon.errors import Denied
from rootwrap_daemon.filters.paths import basename
from rootwrap_daemon.filters.plan import Beneath, ExecPlan, FixedPath, Program, Word
from rootwrap_daemon.filters.values import Options
from rootwrap_daemon.filters.variables import is_dangerous_variable, of_code
from rootwrap_daemon.policy import behaviour, executables, host, named, places, wrappers
from rootwrap_daemon.policy.bound import NotBound, not_bound


class Around(NamedTuple):
    """The values that are the same for all that one request looks at."""

    exec_dirs: tuple[str, ...]
    owners: frozenset[int]
    identities: dict[tuple[str, str | None], host.Identity]
    no_places: str | None
    seen: host.Seen


def paths(
    plan: ExecPlan, options: Options, cwd: str, around: Around
) -> tuple[dict[int, str], tuple[str, ...]]:
    """The words that are paths, by their place among the arguments, and below which directories no link may
    count.

    A word is resolved as far as `around.owners` alone can change what it names, and says itself from there
    on.
    """
    judged = len(plan.arguments) - plan.free
    is_all = not (judged or plan.env) and set(map(type, plan.arguments)) <= {str}
    if is_all and (plan.free or cwd == "/"):
        # Its filter lets it have anything.
        return {}, ()
    programs = wrappers.of_plan(plan)
    _check_programs(plan, programs, cwd, around)
    told = [command for one in programs if not plan.free for command in behaviour.commands(*one)]
    for name, *_ in told:
        _check_program(name, cwd, plan, around)
    elsewhere = wrappers.elsewhere(plan)
    owners, words = around.owners, dict[int, str]()
    below: dict[str, str] = {}
    chained = any(isinstance(word, Program) for word in plan.arguments)
    skip = places.KERNEL_TREES if chained else ()
    theirs: set[str] = set()
    direct: set[str] = set()
    # What lies beneath a base comes first: a program may look for the words in a directory among these.
    for index, word in enumerate(plan.arguments):
        if not isinstance(word, Beneath | FixedPath):
            continue
        try:
            if index >= elsewhere:
                raise host.UntrustedPath(f"{plan.program.name} may give it another tree")
            words[index], place = _named(word, chained, around)
            if place is None and isinstance(word, Beneath):
                place = places.changed(places.walk(words[index], owners, around.seen), owners)
            if place is not None:
                below[words[index]] = place
                theirs.add(wrappers.text_of(word))
        except (host.UntrustedPath, host.Unsure, OSError, ValueError) as error:
            # Whatever depends on a path that the client chose is denied, with one text.
            raise not_bound(error, _refusal(word, error)) from error
    texts = {word for word in plan.arguments[:judged] if isinstance(word, str)}.union(words.values())
    try:
        directories = named.directories_in(texts, cwd, owners, around.seen, skip)
        below |= {path: place for path, place in directories.items() if place is not None}
        for one in programs if not plan.free else ():
            for path in _searched(*one, directories, cwd, around):
                if (name := basename(one[0])) != "find" and not behaviour.is_led(*one):
                    raise host.UntrustedPath(f"{name} executes what others can change in {path}")
                # No link below it is followed then, and what is found, as find(1) has it for {}, is theirs.
                below.setdefault(path, path)
                theirs |= {path, *(word for word in one[1] if "{}" in word or word[:1] not in "/-")}
                direct |= {"{}", *(word for word in one[1] if "{}" in word)}
        sources = {value for word in texts if "=" in word for value in of_code(word)}
        inner = [one for name, *its in told for one in wrappers.executed(name, its)]
        # A wrapper, or a shell, may go into a directory first.
        here = {cwd, *(directories if len(programs) > 1 or told else ())}
        sources.update(*(behaviour.sources(*one) for one in (*programs, *inner) if not plan.free))
        named.check_code("it does what a file says", sources, here, owners, around.seen, around.exec_dirs)
        for program, its in inner:
            led = {word for word in its if _places(word, cwd, directories, chained, around)}
            is_led = "/" in program and _places(program, cwd, directories, chained, around)
            if is_led or behaviour.obeys(program, its, led, led):
                what = f"others can change {program}, or it does what a file says that they can change"
                raise host.UntrustedPath(what)
        for program, _ in (*programs, *inner) if "{}" in direct else ():
            if "{}" in program or ("/" in program and program[0] != "/"):
                raise host.UntrustedPath(f"find executes {program}, where others can make such a name")
    except (host.UntrustedPath, host.Unsure, OSError, ValueError) as error:
        raise not_bound(error, f"the words are refused: {error}") from error
    for index, word in enumerate(plan.arguments[:judged]):
        if not (isinstance(word, str) and (directories or cwd != "/" or "/" in word)):
            continue
        try:
            if index >= elsewhere and named.has_path(word):
                raise host.UntrustedPath(f"{plan.program.name} may give it another tree")
            if led_to := _places(word, cwd, directories, chained, around):
                theirs.add(word)
                if _places(word, cwd, (), chained, around):
                    direct.add(word)
                below |= led_to
        except (host.UntrustedPath, host.Unsure, OSError, ValueError) as error:
            raise not_bound(error, _refusal(word, error)) from error
    below |= (of_variables := _of_variables(plan.env, cwd, around))
    # No record shows the value of a variable.
    shown = {path: "a variable" if path in of_variables else f"the word {path!a}" for path in below}
    if not below or any(basename(program) in behaviour.ANYTHING for program, _ in programs):
        return words, ()
    in_places = {path: place for path, place in below.items() if place}
    for number, (program, its) in enumerate(programs, 1):
        # What a filter says of paths is about its own program, the last of a chain.
        opens_paths = options.opens_paths and number == len(programs)
        why_not = behaviour.problem if in_places else behaviour.unknown
        problem = why_not(program, its, opens_paths=opens_paths)
        if problem is None and behaviour.obeys(program, its, theirs, direct):
            problem = f"{basename(program)} does what a file says"
        if problem is not None:
            path, place = next(iter((in_places or below).items()))
            what = f"{problem}, and others can change what is in {place or path}: {shown[path]}"
            raise NotBound(Denied, what)
    if in_places and around.no_places:
        place = next(iter(in_places.values()))
        raise NotBound(Denied, f"others can change what is in {place}, and {around.no_places}")
    mounts = places.mounts() if any(behaviour.goes_into(*one) for one in programs) else ()
    for path, place in in_places.items():
        if any(one != path and places.is_beneath(one, path) for one in mounts):
            # The command would not see it: nothing of what is mounted there would be done.
            raise NotBound(Denied, f"{shown[path]} is refused: another file system is mounted below it")
        if cwd != "/" and places.is_beneath(cwd, place):
            # The directory is entered before the place is bound over.
            what = f"cwd {cwd} is in {place}, where others can change what {shown[path]} names"
            raise NotBound(Denied, what)
        try:
            places.look_below(place, path, around.seen.looker)
        except (host.UntrustedPath, host.Unsure) as error:
            why = "" if path in of_variables else f": {error}"
            raise not_bound(error, f"{shown[path]} is refused{why}") from error
    return words, tuple(sorted(set(in_places.values())))


def _check_programs(plan: ExecPlan, programs: list[tuple[str, list[str]]], cwd: str, around: Around) -> None:
    """Raise NotBound if others can change a program that a command executes, here or in another tree."""
    words = [wrappers.text_of(word) for word in plan.arguments]
    outer = wrappers.executed(plan.program.name, words)
    rooted = [its[:64] for name, its in programs if behaviour.changes_tree(name, its)]
    trees = [one for its in rooted for it in its if it not in dict(programs) for one in _values(it)]
    # From where a tree is named: where the command starts, or where a program before it goes (`env -C`).
    before = (one for word in words[:64] for one in _values(word) if one[:1] == "/") if rooted else ()
    bases = (cwd, *before)[:8]
    tops = {os.path.join(base, tree): None for tree in trees for base in bases}
    for name, its in (*programs, *outer):
        if plan.free <= len(its) < len(plan.arguments) and type(plan.arguments[-1 - len(its)]) is not Program:
            for top in ("", *tops):
                _check_program(name, cwd, plan, around, top)


def _values(word: str) -> tuple[str, ...]:
    """The word; of an option, all that may be its value: `--root=x`, `-rx`, `-Frx`, `-abcr/x`."""
    if word[:1] != "-":
        return (word,)
    return word[word.find("=") + 1 :], word[2:], word[3:], word[word.find("/") :]


def _searched(
    program: str, words: Sequence[str], directories: Collection[str], cwd: str, around: Around
) -> list[str]:
    """The directories in which others can change what a program executes, obeys or follows there."""
    if not (finds := behaviour.finds(program, words)) and not behaviour.is_led(program, words):
        return []
    is_find = finds and basename(program) == "find"
    # With `.` among the words / is one of the directories, but many words only have a slash.
    is_root = is_find and any(not word.strip("/.") or "/.." in word for word in words)
    found = {path for path in directories if path != "/" or is_root}
    is_here = is_find and not directories and words[0][:1] in ("-", "(", "!")
    found |= {cwd} if cwd != "/" or is_here else set()
    of, options = (around.owners, around.seen), behaviour.FOLLOWS
    how = places.names(), basename(program) not in options or behaviour.is_in(options, program, words)
    return [path for path in found if places.walk(path, *of).place or places.is_mixed(path, *of, *how)]


def _named(word: Beneath | FixedPath, chained: bool, around: Around) -> tuple[str, str | None]:
    """The word for the command, and the place that it leads into. `chained`: by way of another program."""
    if isinstance(word, FixedPath):
        if places.is_in(word.path, places.KERNEL_TREES):
            # An inner command may see another of these trees than this process.
            return word.path, None
        found = host.resolve_owned(word.path, around.owners, around.seen)
        if found.status is None or not stat.S_ISREG(found.status.st_mode):
            raise host.UntrustedPath("not a regular file")
        # A link may lead there, as that of /etc/mtab.
        return (word.path if places.is_in(found.path, places.KERNEL_TREES) else found.path), None
    if places.is_in(word.base, ("/proc",)):
        if not places.is_in(word.base, places.WITHOUT_LINKS):
            raise host.UntrustedPath("processes decide where links below /proc lead")
        return places.as_written(word.base, word.path), None
    if chained and places.is_in(word.base, ("/sys",)):
        raise host.UntrustedPath("the inner command may see another /sys")
    return places.beneath(word.base, word.path, around.owners, around.seen)


def _of_variables(env: tuple[tuple[str, str], ...], cwd: str, around: Around) -> dict[str, str]:
    """The paths in values, as `_places` finds them. Raises NotBound for one that names code."""
    found: dict[str, str] = {}
    for name, value in env:
        try:
            if is_dangerous_variable(name):
                named.check_code(name, {value}, {cwd}, around.owners, around.seen, around.exec_dirs)
            found |= _places(value, cwd, frozenset(), False, around)
        except (host.UntrustedPath, host.Unsure, OSError, ValueError) as error:
            # Without the error, which may have the value.
            raise not_bound(error, f"the variable {name} is refused, for a path in it") from error
    return found


def _places(
    word: str, cwd: str, directories: Collection[str], chained: bool, around: Around
) -> dict[str, str]:
    """The paths in a word that lead to what others can change, each with its place."""
    found = {}
    names = named.names_in_root()
    known = (path for path in named.paths_in(word, cwd, directories) if named.may_exist(path, names))
    for count, path in enumerate(known, 1):
        if count > named.MOST_PATHS:
            raise host.UntrustedPath("too many paths in it")
        if chained and places.is_in(path, places.KERNEL_TREES):
            # The inner command may see others of these trees; in them no name is somebody's to change.
            places.check_process(path)
            continue
        walked = places.walk(path, around.owners, around.seen)
        if (place := places.changed(walked, around.owners)) is not None:
            found[walked.path] = place
    return found


def _check_program(name: str, cwd: str, plan: ExecPlan, around: Around, top: str = "") -> None:
    """Raise NotBound if others can change what a program executes below `top` that is given this name."""
    given = [value for variable, value in plan.env if variable == "PATH"]
    given += [word[5:] for word in map(wrappers.text_of, plan.arguments) if word.startswith("PATH=")]
    directories = (
        [os.path.join(cwd, one) for one in ":".join(given).split(":")] if given else around.exec_dirs
    )
    path = os.path.join(cwd, name) if "/" in name else name
    try:
        for one in ((path,) if "/" in path else (f"{one}/{path}" for one in directories)) if top else ():
            if "/../" in one or not places.is_beneath(os.path.realpath(top + one), os.path.realpath(top)):
                raise host.UntrustedPath(f"`..` or a link leads elsewhere in {top}")
        below = [top + one for one in directories]
        executables.check_by_path(top + path if "/" in path else path, below, around.owners, around.seen)
    except (host.UntrustedPath, OSError, ValueError) as error:
        raise not_bound(error, f"the program {name!a} is refused: {error}") from error


def _refusal(word: Word, error: Exception) -> str:
    """For the audit record and for `rootwrapctl`; a client does not see it."""
    why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    if isinstance(word, Beneath):
        return f"the word {word.path!a} is refused, wanted beneath {word.base}: {why}"
    text = word.path if isinstance(word, FixedPath) else str(word)
    return f"the word {text!a}{'' if '/' in text else ', which may name a file,'} is refused: {why}"
