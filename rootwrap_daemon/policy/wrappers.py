"""Find the programs that a command executes: its own, and that behind timeout(1), env(1), nice(1) and so on.

Promises: the words of a wrapper are read as it reads them, or a word that is no program counts as one, of
which nothing is known.
"""

import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

from rootwrap_daemon.errors import Denied
from rootwrap_daemon.filters.plan import ExecPlan, ProcessOf, Program, Word
from rootwrap_daemon.policy import behaviour
from rootwrap_daemon.policy.bound import NotBound
from rootwrap_daemon.policy.getopt import Options, behind, options, rows

#: A shell, in the place of a text that a wrapper has one execute.
_SHELL: Final = "sh"
ASSIGNMENT: Final = re.compile("[A-Za-z_][A-Za-z0-9_]*=")


class _Wrapper(NamedTuple):
    """A program that executes another one.

    `operands`: words before that. `valued`: options whose value is the next word. `texts`: options with a
    text that a shell executes, or that is read as words.
    """

    operands: int
    valued: Options
    texts: Options


#: Names | operands | options with a value | options with a text.
_TABLE: Final = """
busybox busybox.static catchsegv coreutils fakeroot-sysv fakeroot-tcp fstab-decode heaptrack i386 linux32
    linux64 memusage nohup s6-fghack s6-setsid setsid sotruss toolbox toybox uname26 x86_64 | 0 | |
chroot envdir s6-setuidgid setarch setuidgid taskset | 1 | |
ld.so ld-linux.so.2 ld-linux-x86-64.so.2 ld-linux-aarch64.so.1 | 0
    | --library-path --preload --audit --argv0 --inhibit-rpath |
s6-softlimit softlimit | 0 | -a -c -d -f -l -m -o -p -r -s -t |
s6-applyuidgid | 0 | -u -g -G |
cgexec | 0 | -g |
choom | 0 | -n --adjust |
chpst | 0 | -u -U -b -e -/ -n -l -L -m -d -o -p -f -c -r -t -C |
chrt | 1 | -T -P -D --sched-runtime --sched-period --sched-deadline |
dbus-run-session | 0 | --config-file --dbus-daemon |
dpkg-architecture | 0 | -a -t -A -T -q -i | -c --command
env | 0 | -u -C --unset --chdir | -S --split-string
fakeroot | 0 | -l -s -i -b --lib --faked |
flock | 1 | -w -E --timeout --wait --conflict-exit-code | -c --command
ionice | 0 | -c -n --class --classdata |
nice | 0 | -n --adjustment |
nsenter | 0 | -t -S -G --target --setuid --setgid |
numactl | 0 | -i -p -m -N -C -P -w -l |
pkexec | 0 | --user | -u
prlimit | 0 | -o -p --output --pid |
runuser | 0 | -u -g -G -s --user --group | -c --command --session-command
setpriv | 0 | --ambient-caps --inh-caps --bounding-set --ruid --euid --rgid --egid --reuid --regid --groups
    --securebits --pdeathsig --selinux-label --apparmor-profile |
sg | 1 | | -c
ssh-agent | 0 | -a -t -P -E -O |
stdbuf | 0 | -i -o -e --input --output --error |
strace | 0 | -e -o -s -a -E -u -O -S -P -b -I -X |
sudo | 0 | -u -g -C -h -p -r -t -T -U -D -R --user --group |
systemd-run | 0 | -p -u -M -H -E --unit --property --uid --gid --setenv --slice |
time | 0 | -f -o --format --output |
timeout | 1 | -k -s --kill-after --signal |
unshare | 0 | -R -w -S -G -l --root --wd --setuid --setgid --propagation --setgroups --map-user --map-group |
watch | 0 | -n -q --interval --equexit |
xargs | 0 | -a -d -E -I -L -n -P -s --arg-file --delimiter --max-args --max-procs |
"""
_WRAPPERS: Final = {
    name: _Wrapper(int(operands), options(valued), options(texts))
    for names, (operands, valued, texts) in rows(_TABLE)
    for name in names
}
#: Programs that do what the name says under which they are called, or their first word, each by one file.
MULTI_CALL: Final = frozenset(("busybox", "busybox.static", "toybox", "coreutils", "toolbox"))
_MOST_PROGRAMS: Final = 16
#: Objects of ip(8) with a verb `exec`.
_OF_IP: Final = ("netns", "vrf")


def is_wrapper(program: str) -> bool:
    """True if a program executes another one, which its words name."""
    return program in ("find", "ip") or (program in _WRAPPERS and program not in MULTI_CALL)


def programs(program: str, words: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """The program and those that it executes, each once and with its words; `sh` for a text."""
    every = [program, *words]
    # Where programs stand, the first of them last. What one find(1) within another has, that has, too.
    pending, seen, of_find = [0], {len(every)}, False
    while pending:
        if (at := pending.pop()) in seen:
            continue
        seen.add(at)
        rest = every[at + 1 :]
        yield every[at], rest
        name = every[at].rpartition("/")[2]
        if name == "find" and not of_find:
            of_find = True
            pending += (i for i in range(len(every) - 1, at, -1) if every[i - 1] in behaviour.OF_FIND)
        elif name == "ip":
            pending.append(len(every) - len(_behind_exec(rest)))
        elif wrapper := _WRAPPERS.get(name):
            for word, after in itertools.pairwise((*itertools.takewhile("--".__ne__, rest), "")):
                yield from ((_SHELL, ["-c", value or after]) for _, value in wrapper.texts.found(word))
            rest = behind(rest, wrapper.valued, wrapper.operands)
            if name == "env":
                rest = list(itertools.dropwhile(ASSIGNMENT.match, rest))
            pending.append(len(every) - len(rest))


def _behind_exec(words: list[str]) -> list[str]:
    """The words from the program on; ip(8) takes any beginning of an option or keyword."""
    for index, (what, verb) in enumerate(itertools.pairwise(words)):
        if what and verb and any(one.startswith(what) for one in _OF_IP) and "exec".startswith(verb):
            every = any(len(word) > 1 and "-all".startswith(word) for word in words[:index])
            return words[index + (2 if every else 3) :]
    return []


def text_of(word: Word) -> str:
    """A word of a plan as the client wrote it, or the name of a program."""
    if isinstance(word, str):
        return word
    if isinstance(word, Program):
        return word.name
    return str(word.pid) if isinstance(word, ProcessOf) else word.path


def executed(program: str, words: Sequence[str]) -> list[tuple[str, list[str]]]:
    """As `programs`. Raises NotBound for more than anybody needs: each has a copy of the words behind it."""
    found = list(itertools.islice(programs(program, words), _MOST_PROGRAMS + 1))
    if len(found) > _MOST_PROGRAMS:
        raise NotBound(Denied, f"more than {_MOST_PROGRAMS} programs that execute one another")
    return found


def of_plan(plan: ExecPlan) -> list[tuple[str, list[str]]]:
    """The program of a plan and those that it executes, each with its words. Raises NotBound."""
    words = [text_of(word) for word in plan.arguments]
    for index, word in enumerate(plan.arguments):
        if isinstance(word, Program):
            # A chain: its first program may be any, and a filter of its own has the words of the inner one.
            return [(plan.program.name, words), *executed(word.name, words[index + 1 :])]
    return executed(plan.program.name, words)


def candidates(plan: ExecPlan) -> Iterator[tuple[str, list[str]]]:
    """The program of a plan and, if it executes another, each word as if it were one, with those behind it.

    An option of a wrapper that is not known here hides no program from who must not overlook one. Of a name
    the first: what is behind the others is behind it, too.
    """
    words = [text_of(word) for word in plan.arguments]
    yield plan.program.name, words
    chained = any(isinstance(word, Program) for word in plan.arguments)
    name = plan.program.name.rpartition("/")[2]
    if chained or is_wrapper(name) or name in MULTI_CALL:
        names = [word.rpartition("/")[2] for word in words]
        for index in sorted(map(names.index, behaviour.CHANGING.intersection(names))):
            yield words[index], words[index + 1 :]


def elsewhere(plan: ExecPlan, changes: Callable[[str, list[str]], bool] = behaviour.changes_tree) -> int:
    """The place among the arguments from which on words mean another tree; their number if none do.

    `changes`: says of which programs; behaviour.changes_numbers for words that are numbers of processes.
    """
    none = len(plan.arguments)
    if changes is behaviour.changes_tree and plan.program.name.rpartition("/")[2] in behaviour.OTHER_TREE:
        for index, word in enumerate(plan.arguments):
            if isinstance(word, Program):
                return index
    for program, words in candidates(plan):
        if changes(program, words):
            wrapper = _WRAPPERS.get(program.rpartition("/")[2])
            inner = behind(words, wrapper.valued, wrapper.operands) if wrapper else words
            return none - len(inner) + 1 if inner else none
    return none
