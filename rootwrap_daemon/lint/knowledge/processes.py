"""Programs that go into a process which they are given, or alter it, under each name that they have.

Promises: the daemon needs no such list: what it does not know to stay out counts as one that goes in
(policy/behaviour.py). Sources: the manual page of each program.
"""

import itertools
import re
from collections.abc import Sequence
from typing import Final

from rootwrap_daemon.policy import behaviour
from rootwrap_daemon.policy.getopt import Options, options, table

#: Debuggers, dumpers and the like: any number among their words may be a process.
_BY_NUMBER: Final = frozenset(
    """
    crash criu dlv dotnet-counters dotnet-dump dotnet-gcdump dotnet-stack dotnet-trace eu-stack gcore gdb
    gdbserver gstack jattach jcmd jhsdb jinfo jmap jstack jstat lldb neercs newgidmap newuidmap pstack
    py-spy pyrasite pystack rbspy phpspy reptyr retty slirp4netns vgdb
    """.split()
)
#: Tracers that also start a program, and are given a process by an option.
_BY_OPTION: Final = frozenset(
    """
    asprof austin bpftrace frida frida-trace ltrace memray perf radare2 r2 rr stap strace sysdig uftrace
    valgrind
    """.split()
)
#: Options behind which a process stands.
OF_PROCESS: Final = options("-t -p -P -N -x --target --pid --attach --attach-pid --namespace")
#: Options with which these change how a process is run, or use its network; none: they always do.
_ALTERS: Final = table("""
cgclassify renice |
choom prlimit | -p --pid
chrt taskset | -p --pid
ionice | -p -P -u --pid --pgid --uid ; -c -n
nsenter | -n --net ; -t -S -G
""")
#: Of these the option says no more than that the last words are processes.
_LAST: Final = frozenset(("chrt", "taskset"))


def family(program: str) -> str | None:
    """Return the name in these tables that a program has: gdb for `x86_64-linux-gnu-gdb`, `gdb-multiarch`."""
    name = program.rpartition("/")[2]
    known = _BY_NUMBER | _BY_OPTION
    parts = re.split("[_-]", re.sub(r"[0-9.]+(?=[_-]|\Z)", "", name))
    names = (name, re.sub(r"[0-9._-]+\Z", "", name), *parts)
    return next((one for one in names if one in known), None)


def enters(program: str, words: Sequence[str]) -> bool:
    """True if a program is known to go into a process that it is given."""
    return family(program) is not None or behaviour.is_in(behaviour.ENTERS, program, words)


def takes_numbers(program: str) -> bool:
    """True if any number among its words may be a process."""
    return family(program) in _BY_NUMBER


def altered(program: str, words: Sequence[str]) -> Options | None:
    """Return the options behind which a process stands that the program alters; None if it alters none.

    The last word may be one, too.
    """
    name = program.rpartition("/")[2]
    if name == "ip":
        return options("") if _attaches(words) else None
    if not behaviour.is_in(_ALTERS, program, words):
        return None
    return options("") if name in _LAST else OF_PROCESS


def _attaches(words: Sequence[str]) -> bool:
    """True if ip(8) gives the network namespace of a process a name; it takes any beginning of a word."""
    pairs = itertools.pairwise(words)
    return any(len(one) > 2 and "netns".startswith(one) and "attach".startswith(verb) for one, verb in pairs)
