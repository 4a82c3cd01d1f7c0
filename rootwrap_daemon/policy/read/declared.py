"""Judge, when filters are loaded, the paths that their own words name.

Promises: a filter that is refused here would have been refused at every request that leads below the place;
what is not there yet is judged at the request alone.
"""

import contextlib
import functools
import itertools
import os
import pwd
import re
import stat
from collections.abc import Iterable, Iterator, Set
from typing import Final

from rootwrap_daemon.filters.argv import ArgvFilter
from rootwrap_daemon.filters.argv_types import Choice
from rootwrap_daemon.filters.base import Filter
from rootwrap_daemon.filters.chains import ChainingRegExpFilter
from rootwrap_daemon.filters.kinds import EnvFilter, KillFilter, PathFilter, ReadFileFilter, RegExpFilter
from rootwrap_daemon.filters.paths import basename
from rootwrap_daemon.filters.patterns import Clock, OutOfTime, Pattern
from rootwrap_daemon.filters.plan import Beneath
from rootwrap_daemon.filters.read.fault import Fault
from rootwrap_daemon.filters.variables import is_dangerous_variable, of_code
from rootwrap_daemon.policy import behaviour, host, named, places, wrappers
from rootwrap_daemon.policy.read import links

# Characters that stand for themselves.
_LITERALLY: Final = re.compile(r"\^?((?:[\w/=:,@%-]|\\[.,/:=@_-])+)", re.ASCII)
#: What tells of a process, and not of the namespaces that it shares with others (proc_pid_mounts(5)).
_OF_THE_READER: Final = re.compile(r"/proc/(?:thread-)?self(?=/)(?!/(?:net/|mountinfo$|mounts$|mountstats$))")
#: Programs that do what a file in their words says, of which a wrapper may be given one.
_INTERPRETERS: Final = frozenset("awk bash dash ksh lua node perl php python python3 ruby sh zsh".split())


def check(one: Filter, owners: frozenset[int]) -> list[Fault]:
    """Return what the paths in a filter's words may not mean on this host. `owners`: whom its command trusts.

    Raises Fault if the filter cannot be used. No fault has a location.
    """
    if isinstance(one, ReadFileFilter) and (reader := _OF_THE_READER.match(one.program)):
        what = f"{reader[0]} is what reads the file: the daemon, by a ReadFileFilter"
        raise Fault("unusable", what, f"write an ArgvFilter: cat, root, {one.program}")
    bases, words = _declared(one)
    literals = _paths(one, words)
    program = _program(one)
    resolves = program in behaviour.RESOLVES
    if one.options.opens_paths and resolves:
        raise Fault("unusable", f"opens_paths = yes, and {program} resolves links itself", "take it out")
    _check_entered(one, program, words, owners)
    _check_found(one, program, bases, owners)
    if bases and behaviour.changes_tree(program, words):
        what = f"{program} gives its command another tree: what a path means there cannot be said"
        raise Fault("unusable", what, "write a filter for the command alone, or whole words without a path")
    # Which of its words the program is that a wrapper executes depends on the others.
    wraps = wrappers.is_wrapper(program) and not isinstance(one, ChainingRegExpFilter)
    behind = [basename(word) for word in words] if wraps else []
    hidden = [name for name in behind if name in behaviour.RESOLVES | _INTERPRETERS]
    found = _beside(one, owners)
    seen = host.Seen()
    _check_variables(one, owners, seen)
    others = fixed = ""
    for path in (*bases, *literals):
        is_base = path in bases
        if is_base and places.is_in(path, ("/proc",)):
            if not places.is_in(path, places.WITHOUT_LINKS):
                what = f"what {path} holds depends on the process that looks, and links in it on others"
                known = ", ".join(places.WITHOUT_LINKS)
                raise Fault("unusable", what, f"name a directory in one of {known}, or write whole words")
            continue
        try:
            walked = places.walk(path, owners, seen)
        except (host.UntrustedPath, host.Unsure):
            continue
        if walked.place is None:
            if walked.status is None or stat.S_ISDIR(walked.status.st_mode):
                fixed = fixed or path
                found += _led(one, (program, *hidden), walked.path, owners)
            elif stat.S_ISREG(walked.status.st_mode) and not places.is_fixed(walked.status, owners):
                _check_obeyed(path, program, words)
                whys = (
                    behaviour.unknown(name, words, opens_paths=one.options.opens_paths)
                    for name in (program, *hidden)
                )
                _check_problems(f"others can change {path}", whys, resolves=resolves)
            continue
        if program in behaviour.ANYTHING:
            continue
        others = f"others can change what is in {walked.place}"
        opens_paths = one.options.opens_paths
        problems = (behaviour.problem(name, words, opens_paths=opens_paths) for name in (program, *hidden))
        _check_problems(others, problems, resolves=resolves)
        if is_base and walked.path != walked.place:
            what = f"others can put another directory in the place of {path}: {others}"
            remedy = f"give {walked.place} to root, or name it: the filter gives all that is in it"
            found.append(Fault("replaceable", what, remedy))
    if others and fixed and any(links.copies_links(name, words) for name in (program, *behind)):
        what = f"{program} can bring links of others into {fixed}, where they are followed: {others}"
        found.append(Fault("foreign_links", what, "use cp without -a, -d, -P and -r, or another target"))
    gives = any(links.gives_links(name, words) for name in (program, *behind))
    if others and gives and any(_is_one_of(owners, word) for word in words):
        what = f"{program} can make links of others root's, which are followed then: {others}"
        found.append(Fault("foreign_links", what, "take -R and -h out, or name another owner"))
    return found


def _led(one: Filter, programs: Iterable[str], path: str, owners: frozenset[int]) -> list[Fault]:
    """A fault if a program of which nothing is known may be led out of this directory of trusted owners."""
    opens_paths = one.options.opens_paths
    why = next(
        filter(None, (behaviour.problem(name, (), opens_paths=opens_paths) for name in programs)), None
    )
    if why is None or path == "/" or not _is_mixed(path, owners):
        return []
    what = f"{why}, and others can change something in {path}: a link there may lead it out"
    return [Fault("led", what, "opens_paths = yes if it follows none there, or give all in it to root")]


@functools.lru_cache
def _is_mixed(path: str, owners: frozenset[int]) -> bool:
    """As places.is_mixed, once for all filters: whoever loads them does nothing more."""
    try:
        return places.is_mixed(path, owners, host.Seen(), places.names(), True)
    except (host.Unsure, OSError):
        return False


def _beside(one: Filter, owners: frozenset[int]) -> list[Fault]:
    """A fault if the program is a script that others can have take something else from beside it."""
    path = one.inner if isinstance(one, EnvFilter) else one.program
    if isinstance(one, KillFilter | ReadFileFilter) or not path.startswith("/"):
        return []
    words: list[str] = []
    try:
        with open(path, "rb") as file:
            head = file.readline(256)
        # As the kernel: the interpreter, its one argument, and the script.
        words = os.fsdecode(head[2:]).split() if head.startswith(b"#!") else []
        every = list(wrappers.programs(words[0], [*words[1:], path])) if words else []
        texts = {text for name, its in every for text in behaviour.sources(name, its)}
        what = f"the interpreter of {path} takes code from beside it"
        named.check_code(what, texts, {"/"}, owners, host.Seen(), _PATH)
    except host.UntrustedPath as error:
        return [Fault("led", str(error), f"write `#!{words[0]} -I` in it, or {_REMEDY}")]
    except (host.Unsure, OSError, ValueError):
        pass
    return []


def _check_variables(one: Filter, owners: frozenset[int], seen: host.Seen) -> None:
    """Raise Fault for a variable of the filter's own that would let others say what a program runs."""
    given = one.variables if isinstance(one, EnvFilter) else ()
    asked = one.options.env.items()
    choices = [(name, word) for name, its in asked if isinstance(its, Choice) for word in its.words]
    for name, value in (*one.options.set_env, *given, *choices):
        if is_dangerous_variable(name):
            _check_code(f"{name} says where code is", {value}, one, owners, seen)


_REMEDY: Final = "give all that is in it to root, or run the command as its owner"
#: What the daemon puts in PATH, if nobody says otherwise.
_PATH: Final = "/usr/local/sbin /usr/local/bin /usr/sbin /usr/bin /sbin /bin".split()


def _check_code(does: str, texts: Set[str], one: Filter, owners: frozenset[int], seen: host.Seen) -> None:
    """Raise Fault as named.check_code does; not for what cannot be looked at now."""
    cwd = one.options.cwd or "/"
    try:
        here = {cwd, *named.directories_in(_whole(one), cwd, owners, seen)}
        named.check_code(does, texts, here, owners, seen, (*_PATH, *_homes(one)))
    except host.UntrustedPath as error:
        raise Fault("unusable", str(error), _REMEDY) from None
    except (host.Unsure, OSError, ValueError):
        return


def _homes(one: Filter) -> Iterator[str]:
    """The HOME of the commands of a filter: nobody looks through all that its user has there."""
    for name in one.run_as:
        with contextlib.suppress(KeyError):
            yield pwd.getpwnam(name).pw_dir


def _is_one_of(owners: frozenset[int], word: str) -> bool:
    """True if `word` gives a file to one of `owners`, as chown(1) reads it."""
    with contextlib.suppress(KeyError):
        return host.user_number(re.split("[:.]", word)[0]) in owners
    return False


def _check_problems(others: str, problems: Iterable[str | None], *, resolves: bool) -> None:
    """Raise Fault for the first of them, if there is one."""
    if why := next(filter(None, problems), None):
        remedy = "give it to root, or use another program"
        if not resolves:
            remedy += "; opens_paths = yes if this one only opens what it is given"
        raise Fault("unusable", f"{others}, and {why}", remedy)


def _check_obeyed(path: str, program: str, words: list[str]) -> None:
    """Raise Fault if the command executes, or does what is in, a file that others can change."""
    theirs = {word for word in words if word.endswith(path)}
    for name, its in wrappers.programs(program, words):
        if name == path or behaviour.obeys(name, its, theirs, theirs):
            what = f"others can change {path}, and "
            what += f"{program} executes it" if name == path else f"{basename(name)} does what it says"
            raise Fault("unusable", what, "give it to root")


def _check_entered(one: Filter, program: str, words: list[str], owners: frozenset[int]) -> None:
    """Raise Fault if the command would go into a process of somebody who is not trusted."""
    # A KillFilter names whom it may end, and goes into nobody.
    user = None if isinstance(one, KillFilter) else one.options.target_user
    is_known = behaviour.is_in(behaviour.ENTERS, program, words)
    # Which program behind another one gets the process is looked at in each request.
    if user is None or not (
        is_known or (behaviour.enters(program, words) and not wrappers.is_wrapper(program))
    ):
        return
    try:
        trusted = host.user_number(user) in owners
    except KeyError:
        return
    if not trusted:
        does = "would enter" if is_known else "may enter"
        what = f"{program} {does} a process of {user}, who decides what it finds there"
        raise Fault("unusable", what, "name a process of root's, or enter the network namespace alone (-n)")


def _check_found(one: Filter, program: str, bases: list[str], owners: frozenset[int]) -> None:
    """Raise Fault if the command would execute what it finds, where others can change something."""
    seen, whole = host.Seen(), _whole(one)
    every = [(program, whole), *wrappers.programs(program, whole)]
    if any(basename(name) != "find" and behaviour.finds(name, its) for name, its in every):
        for path in bases:
            with contextlib.suppress(host.UntrustedPath, host.Unsure):
                if place := places.walk(path, owners, seen).place:
                    what = f"{program} executes what it finds, and others can change what is in {place}"
                    raise Fault("unusable", what, _REMEDY)
        _check_code(f"{program} executes what it finds", {".", *whole}, one, owners, seen)
    sources = {value for word in whole for value in of_code(word)}
    told = [command for each in every for command in behaviour.commands(*each)]
    every += (each for name, *its in told for each in wrappers.programs(name, its))
    _check_code(
        f"{program} does what a file says",
        sources.union(*(behaviour.sources(*each) for each in every)),
        one,
        owners,
        seen,
    )


def _whole(one: Filter) -> list[str]:
    """The words that are written out, and a mark in the place of each other one."""
    if isinstance(one, ArgvFilter):
        return [word for after in one.pattern.after for word in (*after.words, *("\0" * bool(after.typed)))]
    if isinstance(one, PathFilter):
        return ["\0" if word == "pass" or word.startswith("/") else word for word in one.arguments]
    patterns: tuple[Pattern, ...] = ()
    if isinstance(one, RegExpFilter | ChainingRegExpFilter):
        patterns = one.patterns[1:]
    elif isinstance(one, EnvFilter):
        patterns = one.patterns
    return ["\0" if one.literal is None else one.literal for one in patterns]


def has_place(one: Filter, owners: frozenset[int]) -> bool:
    """True if a command of this filter runs in a mount namespace of its own, as far as its words show."""
    bases, words = _declared(one)
    seen = host.Seen()
    if _program(one) in behaviour.ANYTHING:
        return False
    for path in (*bases, *_paths(one, words)):
        try:
            if places.walk(path, owners, seen).place is not None:
                return True
        except (host.UntrustedPath, host.Unsure):
            continue
    return False


def _program(one: Filter) -> str:
    """The name of the program that gets the words."""
    return basename(one.inner if isinstance(one, EnvFilter) else one.program)


def _declared(one: Filter) -> tuple[list[str], list[str]]:
    """The bases of a filter's paths, and its literal words and the beginnings of its patterns."""
    bases: list[str] = []
    words: list[str] = []
    if isinstance(one, PathFilter):
        bases = [word for word in one.arguments if word.startswith("/")]
        words = [word for word in one.arguments if not word.startswith("/")]
    elif isinstance(one, ArgvFilter):
        # Any word will do, a number for {pid}.
        made = [make("1") for make in one.pattern.makes.values()]
        bases = [word.base for word in made if isinstance(word, Beneath)]
        words = [word for after in one.pattern.after for word in after.words]
    elif isinstance(one, RegExpFilter | ChainingRegExpFilter):
        words = _of_patterns(one, one.patterns[1:])
    elif isinstance(one, EnvFilter):
        words = _of_patterns(one, one.patterns)
    return sorted(set(bases)), list(dict.fromkeys(words))


def _of_patterns(one: Filter, patterns: tuple[Pattern, ...]) -> list[str]:
    """The beginnings of patterns, and what else they allow that makes a difference."""
    telling = sorted(links.telling_words(_program(one)))
    clock = Clock()
    words = [_beginning(pattern) for pattern in patterns]
    for pattern in patterns:
        with contextlib.suppress(OutOfTime):
            words += [word for word in telling if pattern.literal is None and pattern.matches(word, clock)]
    return words


def _paths(one: Filter, words: list[str]) -> list[str]:
    # As the words have it plainly: what may be meant by other parts of them is looked at in each request.
    cwd = one.options.cwd or "/"
    return [path for word in words for path in itertools.islice(named.paths_in(word, cwd), 1)]


def _beginning(pattern: Pattern) -> str:
    """The directories that every word of a pattern begins with."""
    if pattern.literal is not None:
        return pattern.literal
    if "|" in pattern.text:
        return ""
    found = _LITERALLY.match(pattern.text)
    return re.sub(r"\\(.)", r"\1", found[1]).rpartition("/")[0] if found else ""
