"""Programs whose use of paths was observed: which of them are safe where symbolic links are not followed.

Promises: a program stands in OPENS only if the tests have seen it at work below a directory of an attacker
(tests/security/test_places.py): it walks, opens or executes the names that it is given, and neither reads
links to use the name that it finds nor has another process use one.
"""

import re
from collections.abc import Iterable
from typing import Final

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


#: Options that make a program of OPENS one of RESOLVES, as a word begins with them.
_RESOLVING_OPTIONS: Final = {"readlink": re.compile(r"-(?!-?\Z)"), "sed": re.compile("--fo")}


#: Words with which a program makes links as it finds them, instead of what they lead to.
_COPIES_LINKS: Final = {
    "cp": re.compile(r"-[a-zA-Z]*[adPRr]|--archive|--no-dereference|--preserve|--recursive"),
    "mv": re.compile(""),
    "rsync": re.compile(""),
    "tar": re.compile(r"-?[a-zA-Z]*x|--ex|--get"),
}


def copies_links(program: str, words: Iterable[str]) -> bool:
    """True if a program makes or moves links that somebody else has made."""
    option = _COPIES_LINKS.get(program)
    return option is not None and any(map(option.match, words))


def problem(program: str, words: Iterable[str], *, opens_paths: bool) -> str | None:
    """Why a program may not be given a path that somebody not trusted can change, None if it may.

    `words`: its arguments. `opens_paths`: what its filter says.
    """
    name = program.rpartition("/")[2]
    option = _RESOLVING_OPTIONS.get(name)
    if name in RESOLVES or (option is not None and any(map(option.match, words))):
        return f"{name} resolves links itself, or changes mounts"
    if name in OPENS or name in ANYTHING or opens_paths:
        return None
    return f"nothing is known of how {name} uses paths"
