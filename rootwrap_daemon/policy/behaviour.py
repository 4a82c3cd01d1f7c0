"""Programs whose use of paths was observed: which of them are safe where symbolic links are not followed.

Promises: a program stands in OPENS only if the tests have seen it at work below a directory of an attacker
(tests/security/test_places.py): it walks, opens or executes the names that it is given, and neither reads
links to use the name that it finds nor has another process use one.
"""

import itertools
from collections.abc import Sequence, Set
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
#: Options whose value is a file that a program obeys: it runs, or reads as options, what is in it, or takes
#: names, modes or owners of files from it.
OBEYS: Final = {
    "sed": options("-f --file ; -e -f -i -l"),
    "ip": options("-batch --batch"),
    "dnsmasq": options("-C -7 -6 --conf-file --conf-dir --conf-script --dhcp-script --dhcp-luascript"),
    "tar": options(
        "-T -F --files-from --info-script --new-volume-script ; -f -C -T -F -X -b -g -I -H -K -L -N -V --file"
    ),
    "find": options("-files0-from"),
    "file": options("-f --files-from ; -F -P -e -f -m"),
    "rsync": options("--files-from ; -e -f -B -T -M"),
    "xz": options("--files --files0"),
    "zstd": options("--filelist"),
    **dict.fromkeys(("du", "sort", "wc"), options("--files0-from")),
    **dict.fromkeys(("chgrp", "chmod", "chown"), options("--reference")),
    **dict.fromkeys(
        "cksum md5sum sha1sum sha224sum sha256sum sha384sum sha512sum sum".split(), options("-c --check")
    ),
}
#: Options whose value is a command, or a script.
_COMMANDS: Final = {
    "rsync": options("-e --rsh --rsync-path ; -e -f -B -T -M"),
    "sed": options("-e --expression ; -e -f -i -l"),
    "sort": options("--compress-program"),
    "split": options("--filter"),
    "tar": options(
        "-I --use-compress-program --to-command --checkpoint-action --rmt-command --rsh-command"
        " ; -f -C -T -F -X -b -g -I -H -K -L -N -V"
    ),
}
#: Options of these that have no value: all operands are meant.
_OF_OPERANDS: Final = frozenset(("-c", "--check"))
#: Options with which a program goes into directories; None: it always does.
_GOES_INTO: Final = {
    **dict.fromkeys(("chgrp", "chmod", "chown", "dir", "ls"), options("-R --recursive")),
    **dict.fromkeys(("diff", "egrep", "fgrep", "grep"), options("-R -r --recursive --dereference-recursive")),
    "cp": options("-a -R -r --archive --recursive ; -S -t"),
    **dict.fromkeys(("gzip", "rm", "zstd"), options("-R -r --recursive")),
    **dict.fromkeys(("du", "find", "mv", "rsync", "tar")),
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


def obeys(program: str, words: Sequence[str], theirs: Set[str], named: Set[str]) -> bool:
    """True if a program does what is in a file of somebody not trusted, or executes what names one.

    `theirs`: which words name such a file, from wherever; `named`: those that have its path in them.
    """
    name = program.rpartition("/")[2]
    if name == "sed" and not any(_has(name, table[name], words) for table in (OBEYS, _COMMANDS)):
        # Without these options it is the first operand that is the script.
        return next((word for word in words if not word.startswith("-")), "") in named
    return _is_given(name, OBEYS.get(name), words, theirs) or _is_given(
        name, _COMMANDS.get(name), words, named
    )


def _is_given(program: str, wanted: Options | None, words: Sequence[str], values: Set[str]) -> bool:
    """True if an option has one of `values`."""
    if wanted is None or not values:
        return False
    if len(unbundled := _unbundled(program, words)) > len(words):
        # The values of the letters follow one after the other.
        return _has(program, wanted, unbundled)
    return any(
        option in _OF_OPERANDS or not values.isdisjoint(words[index : index + 1 + (value is None)])
        for index, word in enumerate(words)
        for option, value in wanted.found(word)
    )


def goes_into(program: str, words: Sequence[str]) -> bool:
    """True if a program goes into the directories that it is given, as far as is known of it."""
    name = program.rpartition("/")[2]
    return name not in OPENS or (name in _GOES_INTO and _has(name, _GOES_INTO[name], words))


def telling_words(program: str) -> frozenset[str]:
    """The words for which the answers here may differ, each as it is written plainly."""
    tables = (_RESOLVING, _COPIES_LINKS, _GIVES_LINKS, _ENTERS, OBEYS)
    found = (table.get(program) for table in tables)
    words = frozenset[str]().union(*(one.words for one in found if one is not None))
    return words | _ROOT if program in _GIVES_LINKS else words


def _has(program: str, wanted: Options | None, words: Sequence[str]) -> bool:
    return wanted is None or any(True for word in _unbundled(program, words) for _ in wanted.found(word))


def _unbundled(program: str, words: Sequence[str]) -> Sequence[str]:
    if program in _BUNDLED and words and not words[0].startswith("-"):
        return ("-", *(f"-{letter}" for letter in words[0]), *words[1:])
    return words


def _mounts(words: Sequence[str]) -> bool:
    """True if ip(8) makes or removes the mount of a network namespace; it takes any beginning of a word."""
    return any(
        len(word) > 1 and "netns".startswith(word) and not "exec".startswith(following)
        for word, following in itertools.pairwise(words)
    )


def problem(program: str, words: Sequence[str], *, opens_paths: bool) -> str | None:
    """Why a program may not be given a path that somebody not trusted can change, None if it may.

    `words`: its arguments. `opens_paths`: what its filter says.
    """
    name = program.rpartition("/")[2]
    if name in RESOLVES or (name in _RESOLVING and _has(name, _RESOLVING[name], words)):
        return f"{name} resolves links itself, or changes mounts"
    if name == "ip" and _mounts(words):
        return "ip netns changes mounts, which would be seen in a namespace of their own"
    if name in OPENS or name in ANYTHING or opens_paths:
        return None
    return f"nothing is known of how {name} uses paths"
