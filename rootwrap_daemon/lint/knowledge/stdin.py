"""Programs that take commands, or whose files to write, from standard input, and with which words they do."""

import itertools
from collections.abc import Sequence
from typing import Final

from rootwrap_daemon.lint.knowledge import programs
from rootwrap_daemon.policy.getopt import Options, options

#: Whatever their other words are.
_ALWAYS: Final = frozenset(
    """
    at batch bc bpftrace chgpasswd chpasswd dc debconf-communicate debconf-set-selections debugfs ed ex fdisk
    ftp gdb gdisk isql ldapadd ldapdelete ldapmodify lftp lldb m4 mail mailx newgrp newusers nsupdate osqueryi
    parallel sfdisk sftp sg smbclient sqlite3 sqlplus vi view vim xargs
    """.split()
)
#: Options that have the commands instead.
_CONSOLES: Final[dict[str, frozenset[str]]] = {
    "psql": frozenset(("-c", "--command")),
    "vtysh": frozenset(("-c",)),
    **dict.fromkeys(("mysql", "mariadb"), frozenset(("-e", "--execute"))),
    **dict.fromkeys(("mongo", "mongosh"), frozenset(("--eval",))),
}
#: Where all words are options.
_BARE: Final = frozenset(
    "birdc chronyc dmsetup fs_cli ipmitool lvm ntpq parted redis-cli varnishadm virsh wpa_cli".split()
)
#: Routes by which a program may execute what it reads, or make accounts of it.
_ROUTES: Final = frozenset(("code", "runs", "account"))
#: That have such a route by words that are looked at otherwise, or over a socket (privsep-helper).
_BY_WORDS: Final = frozenset("chrt env ip numactl prlimit privsep-helper rabbitmqctl sed taskset".split())
#: Names of standard input as a file.
_NAMES: Final = frozenset(("-", "/dev/stdin", "/dev/fd/0", "/proc/self/fd/0", "/proc/thread-self/fd/0"))
#: Where a word names it as the file that they obey, or that names files for them.
_BY_NAME: Final = frozenset(
    """
    awk bridge crontab curl dnsmasq docker du find haproxy ip kubectl make nerdctl nft nginx oc podman setfacl
    sort sysctl systemd-tmpfiles tc wc wget
    """.split()
)
_OF_SED: Final = options("-f --file ; -e -l")
#: What they unpack, and so where they write, with these options; None: always.
_UNPACK: Final[dict[str, Options | None]] = {
    "tar": options("-x --extract --get ; -f -C"),
    "bsdtar": options("-x --extract ; -f -C"),
    "cpio": options("-i -p --extract --pass-through ; -D -F -I"),
    "patch": None,
    "pax": options("-r"),
}


#: Of a program that no table here has.
UNKNOWN: Final = "has standard input, and nothing is known of what it does with it"


def obeyed(program: str, words: Sequence[str], *, last: bool = True) -> str | None:
    """Say what the program does with its standard input; None if it reads data and no more.

    `last`: it executes no other program, which would have the input.
    """
    # Of find(1) -exec: up to the end of the command.
    words = list(itertools.takewhile(lambda one: one not in (";", "+"), words))
    name = programs.base_name(program)
    known = programs.look_up(name)
    if last and known is not None and not _ROUTES.isdisjoint(known.routes) and name not in _BY_WORDS:
        return f"{known.because}; it has standard input"
    texts = _CONSOLES.get(name)
    if name in _ALWAYS or (texts is not None and texts.isdisjoint(word.partition("=")[0] for word in words)):
        return "takes commands from standard input"
    if last and known is None and name not in programs.HARMLESS | _ALWAYS | _BARE | _BY_NAME | set(_CONSOLES):
        return UNKNOWN
    if name in _BARE and all(word.startswith("-") for word in words):
        return "takes commands from standard input where no word has any"
    if name in _BY_NAME and any(map(_names_it, words)):
        return "obeys standard input"
    if name == "sed":
        pairs = zip(("", *words), (*words, ""), strict=True)
        values = (value or after for word, after in pairs if word for _, value in _OF_SED.found(word))
        if not _NAMES.isdisjoint(values):
            return "obeys standard input"
    if name in _UNPACK:
        wanted = _UNPACK[name]
        bundle = [f"-{words[0]}"] if words and not words[0].startswith("-") else []
        if wanted is None or any(True for word in (*bundle, *words) for _ in wanted.found(word)):
            return "writes the files that standard input names"
    return None


def _names_it(word: str) -> bool:
    """True for `-`, `--file=-`, `-f-` and the like."""
    return word.rpartition("=")[2].lstrip("@") in _NAMES or (word[:1] == "-" and word[2:] in _NAMES)
