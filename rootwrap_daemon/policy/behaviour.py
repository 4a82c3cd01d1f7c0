"""Programs whose use of paths was observed: which of them are safe where symbolic links are not followed.

Promises: a program stands in OPENS only if the tests have seen it at work below a directory of an attacker
(tests/security/test_places.py): it walks, opens or executes the names that it is given, and neither reads
links to use the name that it finds nor has another process use one.
"""

from collections.abc import Sequence
from typing import Final

from rootwrap_daemon.policy.getopt import Options, options

#: Observed: links below the place lead them nowhere.
OPENS: Final = frozenset(
    """
    [ cat chattr chgrp chmod chown cksum cmp comm cp cut dd df diff dir dnsmasq du egrep fallocate fgrep file
    find fold grep gzip head install link ln ls lsattr md5sum mkdir mkfifo mknod mktemp mv nl od paste patch
    readlink rm rmdir rsync sed sha1sum sha224sum sha256sum sha384sum sha512sum shred shuf sort split stat
    strings sum sync tac tail tar tee test touch truncate uniq unlink wc xz zstd env flock ionice ip nice
    nohup prlimit setpriv setsid stdbuf taskset timeout
    """.split()
)
#: Observed, or written in their manual pages: they read links and use the name that they find, or change
#: mounts, which would be seen in their own namespace alone.
RESOLVES: Final = frozenset(
    """
    fusermount fusermount3 losetup mount mountpoint namei pivot_root realpath swapoff swapon switch_root
    umount
    """.split()
)
#: Programs whose inner command sees another tree: what a path means there cannot be said here.
OTHER_TREE: Final = frozenset(
    "bwrap chroot docker lxc-attach machinectl nsenter podman systemd-nspawn unshare".split()
)
#: Whatever they are given, they do as the one who gives it says: there is nothing to protect.
ANYTHING: Final = frozenset(("privsep-helper",))


#: Options that make a program of OPENS one of RESOLVES.
_RESOLVING: Final = {
    "readlink": options("-f -e -m --canonicalize --canonicalize-existing --canonicalize-missing"),
    "sed": options("--follow-symlinks"),
}
#: Options with which a program makes links as it finds them, instead of what they lead to; None: it always
#: does.
_COPIES_LINKS: Final = {
    "cp": options("-a -d -P -R -r --archive --no-dereference --preserve --recursive ; -S -t"),
    "mv": None,
    "rsync": None,
    "tar": options("-x --extract --get ; -f -C"),
    "bsdtar": options("-x --extract ; -f -C"),
    "cpio": options("-i -p --extract --pass-through ; -D -F -I"),
    **dict.fromkeys(("patch", "unzip", "7z", "unrar")),
}
#: Options with which a program gives links to somebody else.
_GIVES_LINKS: Final = {"chown": options("-R -h --recursive --no-dereference")}
#: Options with which a program goes into a process: executes in its namespaces, but for that of the network,
#: or reads its memory and files as it has them; None: it always does.
_ENTERS: Final = {
    "nsenter": options(
        "-a -m -u -i -p -U -T -C -r -w -W -e --all --mount --uts --ipc --pid --user --time --cgroup --root"
        " --wd --wdns --env ; -t -S -G -Z"
    ),
    "mount": options("-N --namespace ; -t -o -L -U"),
    "umount": options("-N --namespace ; -t -O"),
    **dict.fromkeys(
        """
        bpftrace criu eu-stack gcore gdb gdbserver lldb ltrace perf pstack py-spy rbspy reptyr strace uftrace
        """.split()
    ),
}
#: Options with which a program executes another one in another tree.
_CHANGES_TREE: Final = {
    "nsenter": options("-a -m -r -w -W --all --mount --root --wd --wdns ; -t -S -G -Z"),
    "unshare": options("-R -w --root --wd ; -S -G -l"),
}
#: Options of programs of OPENS that name a file of commands for them.
_OBEYS: Final = {
    "dnsmasq": options("-C -7 --conf-file --conf-dir --conf-script --dhcp-luascript"),
    "ip": options("-b -ba -bat -batc -batch"),
    "sed": options("-f --file ; -e -l"),
    "tar": options("-T --files-from ; -f -C"),
}
#: How a word can say that root is meant.
_ROOT: Final = frozenset(("root", "root:", "root:root", "0", "0:0"))
#: Programs that take the letters of options without a dash for their first word.
_BUNDLED: Final = frozenset(("tar", "bsdtar"))


def copies_links(program: str, words: Sequence[str]) -> bool:
    """True if a program makes or moves links that somebody else has made."""
    return program in _COPIES_LINKS and _has(program, _COPIES_LINKS[program], words)


def gives_links(program: str, words: Sequence[str]) -> bool:
    """True if a program changes whose the links are that somebody else has made."""
    return program in _GIVES_LINKS and _has(program, _GIVES_LINKS[program], words)


def enters(program: str, words: Sequence[str]) -> bool:
    """True if a program goes into the process that it is given, which then decides what is done there."""
    name = program.rpartition("/")[2]
    return name in _ENTERS and _has(name, _ENTERS[name], words)


def changes_tree(program: str, words: Sequence[str]) -> bool:
    """True if the command that a program executes sees another tree of files."""
    name = program.rpartition("/")[2]
    return name == "chroot" or (name in _CHANGES_TREE and _has(name, _CHANGES_TREE[name], words))


def obeys(program: str, before: str, word: str) -> bool:
    """True if a program takes commands from the file that `word` names or, as an option, has as its value.

    `before`: the word before it.
    """
    wanted = _OBEYS.get(program.rpartition("/")[2])
    if wanted is None:
        return False
    given = (value for _, value in wanted.found(before))
    return any(value is None for value in given) or any(value for _, value in wanted.found(word))


def telling_words(program: str) -> frozenset[str]:
    """The words for which the answers here may differ, each as it is written plainly."""
    tables = (_RESOLVING, _COPIES_LINKS, _GIVES_LINKS, _ENTERS, _OBEYS)
    found = (table.get(program) for table in tables)
    words = frozenset[str]().union(*(one.words for one in found if one is not None))
    return words | _ROOT if program in _GIVES_LINKS else words


def _has(program: str, wanted: Options | None, words: Sequence[str]) -> bool:
    if wanted is None:
        return True
    if program in _BUNDLED and words and not words[0].startswith("-"):
        words = (f"-{words[0]}", *words[1:])
    return any(True for word in words for _ in wanted.found(word))


def problem(program: str, words: Sequence[str], *, opens_paths: bool) -> str | None:
    """Why a program may not be given a path that somebody not trusted can change, None if it may.

    `words`: its arguments. `opens_paths`: what its filter says.
    """
    name = program.rpartition("/")[2]
    if name in RESOLVES or (name in _RESOLVING and _has(name, _RESOLVING[name], words)):
        return f"{name} resolves links itself, or changes mounts"
    if name in OPENS or name in ANYTHING or opens_paths:
        return None
    return f"nothing is known of how {name} uses paths"
