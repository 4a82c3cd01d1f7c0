"""Programs whose use of paths was observed: which of them are safe where symbolic links are not followed.

Promises: a program stands in OPENS only if the tests have seen it at work below a directory of an attacker
(tests/security/test_places.py): it walks, opens or executes the names that it is given, and neither reads
links to use the name that it finds nor has another process use one.
"""

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence, Set
from functools import partial
from typing import Final

from rootwrap_daemon.policy.getopt import Options, table

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
RESOLVING: Final = table("""
readlink | -f -e -m --canonicalize --canonicalize-existing --canonicalize-missing
sed | --follow-symlinks
""")
#: Options with which a program goes into a process: executes in its namespaces, but for that of the network,
#: or reads its memory and files as it has them.
ENTERS: Final = table("""
nsenter | -a -m -u -i -p -U -T -C -r -w -W -e --all --mount --uts --ipc --pid --user --time --cgroup --root
    --wd --wdns --env ; -t -S -G -Z
mount | -N --namespace ; -t -o -L -U
umount | -N --namespace ; -t -O
""")
#: Programs that do no more with a process than to end it, to show it or to change how it is scheduled.
#: So do those of one file with many names, but by a word that is looked at by itself.
_STAYS_OUT: Final = OPENS.union(
    "busybox busybox.static chrt choom coreutils echo fuser id kill lsof pidof pidstat pmap printf".split(),
    "ps pwdx renice ss toolbox toybox true".split(),
)
#: Options with which a program executes another one in another tree; none: it always does.
_CHANGES_TREE: Final = table("""
chroot |
nsenter | -a -m -r -w -W --all --mount --root --wd --wdns ; -t -S -G -Z
unshare | -R -w --root --wd ; -S -G -l
""")
#: Options with which a program executes another one where numbers mean other processes; none: it always does.
_CHANGES_NUMBERS: Final = table("""
bwrap docker lxc-attach machinectl podman systemd-nspawn |
nsenter | -a -p --all --pid ; -t -S -G -Z
unshare | -p --pid ; -R -w -S -G -l
""")
#: Options whose value is a file that a program obeys: it runs, or reads as options, what is in it, or takes
#: names, modes or owners of files from it. The rule RW352 reads this table, too.
OBEYS: Final = table("""
awk gawk mawk | -f --file --include --load ; -f -F -v -i -l
bridge ip tc | -batch --batch
bsdtar tar | -T -F --files-from --info-script --new-volume-script ; -f -C -T -F -X -b -g -I -K -L -N --file
chgrp chmod chown | --reference
curl | -K --config ; -K -o -H -d -X -u
date | -f --file ; -d -f -r -s
depmod modprobe | -C -b -d --basedir --config --dirname
dig | -f ; -f -k -b
dnsmasq | -C -7 -6 --conf-file --conf-dir --conf-script --dhcp-luascript --dhcp-script ; -C -7 -6
du sort wc | --files0-from
file | -f -m --files-from --magic-file ; -f -m -F -P -e
find | -files0-from
fping | -f --file ; -f -c -i -t
haproxy | -f ; -f -C -D -p -L
ip6tables-restore iptables-restore | -M --modprobe
ipset | -f -file ; -f
lvcreate lvm lvs pvs vgs | --config --profile
mysql mysqladmin mysqldump | --defaults-file --defaults-extra-file
nft | -f --file -I --includepath ; -f -I
nginx | -c -p -g ; -c -p -g
nmap | -iL --resume --datadir --script ; -i
openssl | -config -engine -provider
parallel xargs | -a --arg-file --arg-file-sep ; -a -d -E -I -L -n -P -s
psql | -f --file ; -f -d -U -h -p
rsync | --config --files-from --password-file --read-batch ; -e -f -B -T -M
scp sftp ssh | -F -o -S ; -F -o -S -i -l -p -b -c
sed | -f --file ; -e -f -i -l
wget | -i --input-file --config -e --execute ; -i -e -O -o -a
xz | --files --files0
zstd | --filelist
""")
#: Options with which all operands are such files.
OBEYS_OPERANDS: Final = table("""
b2sum cksum md5sum sha1sum sha224sum sha256sum sha384sum sha512sum sum | -c --check
sysctl | -p --load
""")
#: Options whose value is a command, or a script.
_COMMANDS: Final = table("""
install | --strip-program
rsync | -e --rsh --rsync-path ; -e -f -B -T -M
sed | -e --expression ; -e -f -i -l
sort | --compress-program
split | --filter
tar | -I --use-compress-program --to-command --checkpoint-action --rmt-command --rsh-command
    ; -f -C -T -F -X -b -g -I -H -K -L -N -V
""")
#: Programs whose first operand is a script, or a file of one, but with an option that has it instead.
_SCRIPTS: Final = table("""
ash bash dash ksh sh zsh | -c
lua node perl php python ruby | -E -c -e -m -p -r
sed | -e -f --expression --file
""")
#: Options with which a program goes into directories and may be led out of them: it follows links there, or
#: has whole paths for what it has found, where a link can be by then; none: it always does.
_LED: Final = table("""
bsdtar tar | -h --dereference
chattr chcon chmod dir getfacl ls lsattr setfacl | -R --recursive
chgrp chown du | -L --dereference
cp scp zip | -R -a -r --archive --recurse-paths --recursive
diff egrep fgrep grep gzip zstd | -R -d -r --dereference-recursive --directories --recursive
find | -L -follow
rsync |
""")
#: Options with which others go into directories.
_GOES_INTO: Final = table("chgrp chown rm | -R -r --recursive\ndu find mv tar |")
#: Programs that execute or obey what they find in a directory.
FINDS: Final = frozenset(
    "ansible ansible-playbook ant autoreconf bazel bundle bzr cargo chef-solo cmake composer debuild".split()
    + "docker-compose dpkg-buildpackage drush git gmake go gradle grunt gulp hg invoke just ldconfig".split()
    + "make meson mvn ninja nox npm npx packer pip pip3 pnpm puppet pytest rails rake rpmbuild".split()
    + "run-parts scons svn terraform tox vagrant webpack yarn".split()
)
#: Words of find(1) behind which a program stands.
OF_FIND: Final = frozenset(("-exec", "-execdir", "-ok", "-okdir"))
#: Programs that take the letters of options without a dash for their first word.
BUNDLED: Final = frozenset(("tar", "bsdtar"))


def _unbundled(program: str, words: Sequence[str]) -> Sequence[str]:
    if program in BUNDLED and words and not words[0].startswith("-"):
        return ("-", *(f"-{letter}" for letter in words[0]), *words[1:])
    return words


def is_in(wanted: Mapping[str, Options], program: str, words: Sequence[str]) -> bool:
    """True if a program of a table has one of its options there, or the table has none for it."""
    name = program.rpartition("/")[2]
    if (found := wanted.get(name)) is None or not found.words:
        return found is not None
    return any(True for word in _unbundled(name, words) for _ in found.found(word))


#: True if the command that it executes sees another tree of files.
changes_tree: Final = partial(is_in, _CHANGES_TREE)
#: True if it sees other processes by their numbers.
changes_numbers: Final = partial(is_in, _CHANGES_NUMBERS)

#: True if links in the directories that it goes into may lead it elsewhere.
is_led: Final = partial(is_in, _LED)
#: All programs of which one of the first three may be true.
CHANGING: Final = frozenset((*ENTERS, *_CHANGES_TREE, *_CHANGES_NUMBERS))


def enters(program: str, words: Sequence[str]) -> bool:
    """True unless it is known that a program stays out of the process that it is given."""
    name = program.rpartition("/")[2]
    return is_in(ENTERS, name, words) or not (name in ENTERS or name in _STAYS_OUT)


def finds(program: str, words: Sequence[str]) -> bool:
    """True if a program executes or obeys what it finds in the directories that it is given, or stands in."""
    name = program.rpartition("/")[2]
    if name in OPENS:
        return name == "find" and not OF_FIND.isdisjoint(words)
    # A shell, or a wrapper that is not known, has the name of such a program somewhere among its words.
    said = (name, *(one for word in words for one in re.split(r"[\s;&|()'\"]+", word)))
    return any(one.rpartition("/")[2] in FINDS for one in said if one[:1] != "/" or "bin/" in one)


def obeys(program: str, words: Sequence[str], theirs: Set[str], named: Set[str]) -> bool:
    """True if a program does what is in a file of somebody not trusted, or executes what names one.

    `theirs`: which words name such a file, from wherever; `named`: those that have its path in them.
    """
    name = program.rpartition("/")[2]
    if _has_script(name, words):
        # Behind `-o`, and letters before it, shells have the name of an option.
        pairs = itertools.pairwise(("", *words))
        own = (word for before, word in pairs if word[:1] != "-" and not re.fullmatch("-[a-z]*[oO]", before))
        return next(own, "") in (named if name == "sed" else theirs)
    if name == "strings" and any(word.startswith("@") for word in theirs):
        return True
    if theirs and is_in(OBEYS_OPERANDS, name, words):
        return True
    return _is_given(OBEYS, name, words, theirs) or _is_given(_COMMANDS, name, words, named)


def _has_script(program: str, words: Sequence[str]) -> bool:
    """True if the first operand is a script, or a file of one."""
    plain = program.rpartition("/")[2].rstrip("0123456789.")
    return plain in _SCRIPTS and not is_in(_SCRIPTS, plain, words)


def _is_given(wanted: Mapping[str, Options], name: str, words: Sequence[str], values: Set[str]) -> bool:
    """True if an option has one of `values`."""
    if (known := wanted.get(name)) is None or not values:
        return False
    if len(unbundled := _unbundled(name, words)) > len(words):
        # The values of the letters follow one after the other.
        return is_in(wanted, name, unbundled)
    return any(
        not values.isdisjoint(words[index : index + 1 + (value is None)])
        for index, word in enumerate(words)
        for _, value in known.found(word)
    )


def values(program: str, words: Sequence[str], wanted: Mapping[str, Options] = OBEYS) -> Iterator[str]:
    """The values of the options that a table has of a program."""
    if (known := wanted.get(program.rpartition("/")[2])) is not None:
        for word, behind in itertools.pairwise((*words, "")):
            yield from (value or behind for _, value in known.found(word))


def commands(program: str, words: Sequence[str]) -> Iterator[list[str]]:
    """The commands that a program is told to execute by its options, each with its words."""
    return (value.split() or [""] for value in values(program, words, _COMMANDS))


def goes_into(program: str, words: Sequence[str]) -> bool:
    """True if a program goes into the directories that it is given, as far as is known of it."""
    tables = _GOES_INTO, _LED
    return program.rpartition("/")[2] not in OPENS or any(is_in(one, program, words) for one in tables)


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
    if name in RESOLVES or is_in(RESOLVING, name, words):
        return f"{name} resolves links itself, or changes mounts"
    if name == "ip" and _mounts(words):
        return "ip netns changes mounts, which would be seen in a namespace of their own"
    if name in OPENS or name in ANYTHING or opens_paths:
        return None
    return f"nothing is known of how {name} uses paths"


def unknown(program: str, words: Sequence[str], *, opens_paths: bool) -> str | None:
    """As `problem`, of a file whose path leads nowhere else: a script of root's has it as it likes."""
    is_known = program.rpartition("/")[2] in RESOLVES or _has_script(program, words)
    return None if is_known else problem(program, (), opens_paths=opens_paths)
