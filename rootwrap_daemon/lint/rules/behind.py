"""RW315-RW317, RW331: a free word for a program, script, user, package or process; directories of programs.

Promises: the place of a program is found as the daemon finds it (policy/wrappers.py).
"""

import itertools
from collections.abc import Iterator
from typing import Final

from rootwrap_daemon.lint.finding import Problem, Severity, at
from rootwrap_daemon.lint.knowledge import files, named, processes, programs, regexes
from rootwrap_daemon.lint.rules import rule
from rootwrap_daemon.lint.subject import Subject
from rootwrap_daemon.lint.words import FREE, Word, commands, executed, judged, words_of
from rootwrap_daemon.policy import behaviour, places, wrappers
from rootwrap_daemon.policy.getopt import options

#: Interpreters -> their options behind which a program text, a file of it or a module stands. Where none has
#: one, the first plain word is it.
_TEXTS: Final = {
    **dict.fromkeys(programs.SHELLS, options("-c ; -O -o")),
    **dict.fromkeys(("awk", "gawk", "mawk"), options("-f -e --file --source ; -F -v -f -e")),
    "sed": options("-e -f --expression --file ; -e -f -l -i"),
    "perl": options("-e -E -M -m -I ; -e -E -M -m -I -C -D -V -i -l -x"),
    "python": options("-c -m ; -c -m -W -X"),
    "ruby": options("-e -r -I --require ; -e -r -I -C -E"),
    "node": options("-e -p -r --eval --print --require --import ; -e -p -r"),
    "php": options("-r -f -B -R -E -F ; -r -f -d -z"),
    "lua": options("-e -l ; -e -l"),
    **dict.fromkeys(("expect", "tclsh", "wish"), options("-c ; -c -encoding")),
    "java": options("-jar -cp -p -classpath -javaagent --class-path --module-path ; -p"),
    "make": options("-f -C -I -E --file --directory --eval --include-dir ; -f -C -I -E -j -l -o -W"),
    "psql": options("-c -f --command --file ; -c -f -d -h -p -U -v -o -L"),
    "su": options("-c --command --session-command ; -c -g -G -s -w"),
    "split": options("--filter"),
    "install": options("--strip-program"),
    "sort": options("--compress-program"),
    "tar": options(
        "-I -F --use-compress-program --to-command --checkpoint-action --info-script ; -f -C -I -F"
    ),
    "rsync": options("-e --rsh --rsync-path ; -e -f -B -T -M"),
    "tcpdump": options("-z ; -c -i -r -w -z -s -C -G -W"),
    **dict.fromkeys(("sg", "script"), options("-c --command ; -c -a -I -O -B -E -o -T")),
}
#: Of these no plain word is a program text.
_NO_SCRIPT: Final = frozenset("install su sg script make psql split sort tar rsync tcpdump".split())
#: Options behind which a user stands.
_USERS: Final = {
    "sudo": options("-u --user"),
    "runuser": options("-u --user"),
    "pkexec": options("-u --user"),
    "setpriv": options("--reuid --ruid --euid"),
    "systemd-run": options("--uid"),
}
#: Programs that send signals.
_KILLERS: Final = frozenset(("kill", "pkill", "killall", "skill"))


@rule("RW315", Severity.ERROR)
def free_program(subject: Subject) -> Iterator[Problem]:
    """A program, a script or a user that the caller chooses.

    Behind `timeout`, `env`, `ip netns exec` or `find -exec` a word is a program: with a type or a pattern in
    its place the caller executes what it likes. So it is with the text of `sed` or the module of `python -m`,
    with the user of `su`, and with a process that `nsenter` or `gdb` goes into.

    Found::

        any: ArgvFilter, timeout, root, {int}, {name}

    Found::

        edit: RegExpFilter, sed, root, sed, -n, [0-9]+[a-z]+, /etc/hostname

    Found::

        as: ArgvFilter, runuser, root, -u, {name}, --, id

    Fine::

        limit: ChainingRegExpFilter, timeout, root, timeout, [0-9]+
        id: ArgvFilter, id, root, -u

    Fine::

        edit: ArgvFilter, sed, root, -n, -e, 1p, /etc/hostname
    """
    for line, words, texts in judged(subject):
        for program, its in wrappers.programs(line.program, texts):
            problem, severity = None, Severity.ERROR
            if program.startswith(FREE):
                problem = program, "a program", "write a ChainingRegExpFilter, and a filter for the command"
            elif (text := _script(program, its)) is not None:
                problem = text, f"what {program} executes", "write the whole text"
            elif (text := _user(program, its)) is not None:
                problem = text, "a user", "write {user=NAME|...}, or a filter with run_as"
            elif (found := _process(program, its, words)) is not None:
                does = "goes into" if found[1] else "changes, or whose network it uses"
                severity = Severity.ERROR if found[1] else Severity.WARNING
                problem = found[0], f"any process, which {program} {does}", "write {pid=PROGRAM}"
            elif (text := executed(program, its, words)) is not None:
                problem, severity = (text, f"what {program} may execute", "write a word"), Severity.WARNING
            if problem is not None:
                mark, what, instead = problem
                part = words[int(mark.removeprefix(FREE))].part
                yield at(part, f"{part.text} stands for {what}", instead, severity)
                break


def _script(program: str, words: list[str]) -> str | None:
    """The free word that an interpreter takes for its program."""
    name = programs.base_name(program)
    wanted = _TEXTS.get(name)
    if wanted is None:
        return None
    given, values = False, set()
    for index, word in enumerate(words):
        if word[:1] == "-" and word[1:] in wanted.valued:
            values.add(index + 1)
        for _, value in wanted.found(word) if word.startswith("-") else ():
            given = True
            if value is None and index + 1 < len(words):
                values.add(index + 1)
                if words[index + 1].startswith(FREE):
                    return words[index + 1]
    plain = [word for index, word in enumerate(words) if not word.startswith("-") and index not in values]
    script = None if given or name in _NO_SCRIPT or not plain else plain[0]
    return script if script is not None and script.startswith(FREE) else None


def _user(program: str, words: list[str]) -> str | None:
    """The free word that a program takes for the user whom it becomes."""
    name = programs.base_name(program)
    if name == "su":
        plain = [word for word in words if not word.startswith("-")]
        return plain[0] if plain and plain[0].startswith(FREE) else None
    wanted = _USERS.get(name)
    if wanted is None:
        return None
    for word, following in zip(words, [*words[1:], ""], strict=False):
        if any(value is None for _, value in wanted.found(word)) and following.startswith(FREE):
            return following
    return None


def _process(program: str, words: list[str], free: list[Word]) -> tuple[str, bool] | None:
    """The free word that is a process, anybody's, and True if a program goes into it and not only alters it.

    `free`: the words of the filter, by the numbers of the marks.
    """
    enters = processes.enters(program, words)
    wanted = processes.OF_PROCESS if enters else processes.altered(program, words)
    if wanted is None:
        return None
    for word, following in zip(words, [*words[1:], ""], strict=False):
        if any(value is None for _, value in wanted.found(word)) and following.startswith(FREE):
            return following, enters
    numbers = [word for word in words if word.startswith(FREE) and _is_number(free[int(word[1:])])]
    if enters:
        return (numbers[0], True) if numbers and processes.takes_numbers(program) else None
    return (words[-1], False) if words[-1:] == numbers[-1:] != [] else None


def _is_number(word: Word) -> bool:
    """True for a word that may be the number of a process."""
    if word.type == "pattern":
        return regexes.witness(word.part.text, *"0123456789", shape="[0-9]+") is not None
    return word.type in ("any", "ifname", "int", "name", "secret")


#: Programs that capture packets -> their options behind which a device stands.
_CAPTURES: Final = {
    **dict.fromkeys(("tcpdump", "dumpcap", "tshark", "iftop"), options("-i --interface ; -c -r -w -s -f -b")),
    "ngrep": options("-d"),
}


@rule("RW318", Severity.WARNING)
def free_source(subject: Subject) -> Iterator[Problem]:
    """A device of which the caller chooses that its packets are captured.

    Not only devices have a name there (pcap(3PCAP)): `any` is all of them, `usbmon0` what is typed on a
    keyboard, `dbus-system` what services tell each other; `nfqueue` takes packets from whom they are for.

    Found::

        look: ArgvFilter, tcpdump, root, -i, {ifname}, -c, {int}

    Found::

        look: RegExpFilter, timeout, root, timeout, 9, tcpdump, -i, [a-z0-9-]+

    Fine::

        look: ArgvFilter, tcpdump, root, -i, {=eth0|br0}, -c, {int}

    Fine::

        look: RegExpFilter, tcpdump, root, tcpdump, -i, tap[0-9a-f-]+
    """
    for line in subject.lines:
        for program, words in commands(line) if line.filter is not None else ():
            if (wanted := _CAPTURES.get(program)) is None:
                continue
            for before, word in itertools.pairwise([Word((), "", line.entry.fields[0]), *words]):
                is_device = any(True for text in before.texts for _ in wanted.found(text))
                joined = [f"{one}{'=' * (len(one) > 2)}" for one in wanted.words]
                if word.type and _is_any_source(word, ["", *joined] if is_device else joined):
                    what = f"{word.part.text} stands for any source of packets, which {program} shows"
                    instead = "write the devices that are meant, as {=NAME|NAME}"
                    yield at(word.part, what, instead)


def _is_any_source(word: Word, options: list[str]) -> bool:
    """True if it is a pattern of one of these options with a name that pcap takes and no device has, or no
    pattern where a device stands.
    """
    if word.type != "pattern":
        return "" in options
    return any(regexes.admits(word.part.text, f"{option}{one}") for option in options for one in _NO_DEVICES)


#: Names that pcap takes, and that are no device's.
_NO_DEVICES: Final = tuple(
    "any bluetooth-monitor bluetooth0 bluetooth1 dbus-session dbus-system nflog nflog:1 nfqueue nfqueue:1 "
    "usbmon0 usbmon1 usbmon2 usbmon3 usbmon4 usbmon5 usbmon6 usbmon7 usbmon8 usbmon9".split()
)


@rule("RW331", Severity.ERROR)
def kill_by_words(subject: Subject) -> Iterator[Problem]:
    """kill(1) of what words alone say, behind another program, too.

    A process number says nothing about the process: the caller can end any. KillFilter looks at what the
    process runs, and so does `{pid=PROGRAM}`; but behind `nsenter -p` or `docker exec` the number that was
    looked at is that of another process.

    Found::

        kill: RegExpFilter, kill, root, kill, -9, [0-9]+

    Found::

        kill: ArgvFilter, timeout, root, 5, kill, -9, {int}

    Found::

        kill: ArgvFilter, nsenter, root, -t, {pid=/usr/bin/web}, -p, kill, -9, {pid=/usr/bin/web}

    Fine::

        kill: KillFilter, root, /usr/sbin/dnsmasq, -9

    Fine::

        kill: ArgvFilter, timeout, root, 5, kill, -9, {pid=/usr/sbin/dnsmasq}
    """
    for line, words, texts in judged(subject):
        part = line.program_field
        is_elsewhere = False
        for number, (program, its) in enumerate(wrappers.programs(line.program, texts)):
            types = {one.type for one in words[len(words) - len(its) :]} - {""}
            by_words = types - {"pid"} or (not number and line.kind == "RegExpFilter")
            leaves = behaviour.changes_numbers(program, its)
            if part is not None and programs.base_name(program) in _KILLERS and by_words:
                instead = "write a KillFilter with the program whose processes are meant"
                replaced = f"{line.entry.name}: KillFilter, {'|'.join(line.users)}, /usr/sbin/NAME, -TERM"
                replacement = None if number else replaced
                yield at(part, "signals to any process", instead, replacement=replacement)
                break
            if (is_elsewhere or (leaves and not wrappers.is_wrapper(program))) and "pid" in types:
                one = next(one for one in reversed(words) if one.type == "pid")
                what = f"{one.part.text} is a process here, and its number means another one to {program}"
                yield at(one.part, what, "write a KillFilter")
                break
            is_elsewhere = is_elsewhere or leaves


@rule("RW316", Severity.WARNING)
def obeyed_directory(subject: Subject) -> Iterator[Problem]:
    """A program that writes where root executes or obeys what it finds.

    What lies in `/etc/cron.d`, `/etc/sudoers.d` or `/usr/local/bin` is done by root without being asked: to
    choose a name and a content there is to be root.

    Found::

        job: ArgvFilter, tee, root, {path=/etc/cron.d}

    Found::

        put: PathFilter, cp, root, /var/lib/nova, /usr/local/bin

    Fine::

        state: ArgvFilter, tee, root, {path=/var/lib/nova}

    Fine::

        show: ArgvFilter, ls, root, {path=/etc/cron.d}
    """
    for line in subject.lines:
        known = programs.look_up(line.program)
        if line.filter is None or known is None or not {"write", "own", "code"} & set(known.routes):
            continue
        for one in words_of(line):
            base = one.part.text.strip("[] ").removeprefix("{path=").partition("}")[0].rstrip("/")
            if one.type == "path" and (base == "/etc" or places.is_in(base, files.OBEYED)):
                what = f"{line.program} may write below {base}, where root does what it finds"
                yield at(one.part, what, "write the one file meant")


@rule("RW317", Severity.WARNING)
def free_package(subject: Subject) -> Iterator[Problem]:
    """A package, a module of the kernel, an account, a unit or a database that the caller chooses.

    The scripts of a package run as root when it is installed or removed. From a directory of the caller's it
    is a program of his own; from the system's servers, any that was ever published there. Of the modules that
    a system comes with most are code that nobody there has used: to load one is to open what is wrong in it.
    An account may be root's, whose password is taken away, or the caller's own, which is put into a group. A
    unit may be `poweroff.target` or `debug-shell.service`, a database of getent(1) the hashes of passwords.

    Found::

        restart: ArgvFilter, systemctl, root, --no-pager, restart, {name}
        look: ArgvFilter, getent, root, {name}

    Found::

        add: ArgvFilter, apt-get, root, install, -y, {name}

    Found::

        add: ArgvFilter, dpkg, root, -i, {path=/srv/in}

    Found::

        add: RegExpFilter, timeout, root, timeout, 60, yum, install, [a-z0-9.-]+

    Found::

        load: ArgvFilter, modprobe, root, {name}

    Found::

        clear: ArgvFilter, passwd, root, -d, {name}

    Fine::

        state: ArgvFilter, passwd, root, -S, {name}
        restart: ArgvFilter, systemctl, root, --no-pager, restart, {=nginx.service|app.service}
        look: ArgvFilter, getent, root, passwd, {name}

    Fine::

        load: ArgvFilter, modprobe, root, {=8021q|br_netfilter}

    Fine::

        add: ArgvFilter, apt-get, root, install, -y, {=nginx|curl}

    Fine::

        show: ArgvFilter, dpkg, root, -s, {name}
    """
    for line, words, texts in judged(subject):
        for program, its in wrappers.programs(line.program, texts):
            what, telling = named.KNOWN.get(program.rpartition("/")[2], ("", frozenset()))
            verb = next((word for word in its if not word.startswith("-")), "")
            if not what or verb in telling or any(word[:1] == "-" and word in telling for word in its):
                continue
            free = [words[int(word[1:])] for word in its if word.startswith(FREE)]
            for one in (one for one in free if one.type and not _is_one_of_some(one)):
                said = f"{one.part.text} stands for {what.format(program)}"
                instead = "write the names of those that are meant, as {=NAME|NAME}"
                is_worse = one.type == "path" or "account" in what
                yield at(one.part, said, instead, Severity.ERROR if is_worse else None)
                break


def _is_one_of_some(word: Word) -> bool:
    """True for a pattern that leaves nothing open: a choice of words that are written out."""
    return word.type == "pattern" and regexes.witness(word.part.text, "a", "0") is None
