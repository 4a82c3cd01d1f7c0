"""Tell which commands bring links of others into a directory of root's, or give such links to root.

Promises: a table has what manual pages say. Only what loads filters asks here.
"""

from functools import partial
from typing import Final

from rootwrap_daemon.policy import behaviour
from rootwrap_daemon.policy.getopt import table

#: Options with which a program makes links as it finds them, instead of what they lead to; none: it always
#: does.
_COPIES_LINKS: Final = table("""
cp | -a -d -P -R -r --archive --no-dereference --preserve --recursive ; -S -t
tar bsdtar | -x --extract --get ; -f -C
cpio | -i -p --extract --pass-through ; -D -F -I
7z mv patch rsync unrar unzip |
""")
#: Options with which a program gives links to somebody else.
_GIVES_LINKS: Final = table("chown | -R -h --recursive --no-dereference")
#: How a word can say that root is meant.
_ROOT: Final = frozenset(("root", "root:", "root:root", "0", "0:0"))

#: True if a program, with these words, makes or moves links that somebody else has made.
copies_links: Final = partial(behaviour.is_in, _COPIES_LINKS)
#: True if it changes whose the links are that somebody else has made.
gives_links: Final = partial(behaviour.is_in, _GIVES_LINKS)


def telling_words(program: str) -> frozenset[str]:
    """The words for which the answers here may differ, each as it is written plainly."""
    tables = (
        behaviour.RESOLVING,
        _COPIES_LINKS,
        _GIVES_LINKS,
        behaviour.ENTERS,
        behaviour.OBEYS,
        behaviour.OBEYS_OPERANDS,
    )
    words = frozenset[str]().union(*(one[program].words for one in tables if program in one))
    return words | _ROOT if program in _GIVES_LINKS else words
