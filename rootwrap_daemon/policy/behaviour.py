"""Programs whose use of paths was observed: which of them are safe where symbolic links are not followed.

Promises: a program stands in OPENS only if the tests have seen it at work below a directory of an attacker
(tests/security/test_places.py): it walks, opens or executes the names that it is given, and neither reads
links to use the name that it finds nor has another process use one.
"""

import functools
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence, Set
from functools import partial
from typing import Final

from rootwrap_daemon.policy.getopt import Options, behind, options, rows, table


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


#: Observed: links below the place lead them nowhere.
OPENS: Final = _names("""
[ cat chattr chgrp chmod chown cksum cmp comm cp cut dd df diff dir dnsmasq du egrep fallocate fgrep file find
fold grep gzip head install link ln ls lsattr md5sum mkdir mkfifo mknod mktemp mv nl od paste patch readlink
rm rmdir rsync sed sha1sum sha224sum sha256sum sha384sum sha512sum shred shuf sort split stat strings sum sync
tac tail tar tee test touch truncate uniq unlink wc xz zstd env flock ionice ip nice nohup prlimit setpriv
setsid stdbuf taskset timeout
""")
#: Observed, or written in their manual pages: they read links and use the name that they find, or change
#: mounts, which would be seen in their own namespace alone.
RESOLVES: Final = _names("""
fusermount fusermount3 losetup mount mountpoint namei pivot_root realpath swapoff swapon switch_root umount
""")
#: Programs whose inner command sees another tree: what a path means there cannot be said here.
OTHER_TREE: Final = _names("bwrap chroot docker lxc-attach machinectl nsenter podman systemd-nspawn unshare")
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
apt apt-cache apt-get aptitude | -c -o --config-file --option ; -c -o -t
at awk batch gawk mawk | -f --file --include --load ; -f -F -v -i -l
bridge ip tc | -batch --batch object-file object-pinned pinned bytecode-file bcf
bsdtar tar | -T -F --files-from --info-script --new-volume-script ; -f -C -T -F -X -b -g -I -K -L -N --file
c cc clang cpp g gcc gfortran | -B -fplugin -fpass-plugin -specs --specs -wrapper ; -o -I -L -l
chgrp chmod chown | --reference
curl | -K --config ; -K -o -H -d -X -u
date | -f --file ; -d -f -r -s
depmod modprobe | -C -b -d --basedir --config --dirname
dig | -f ; -f -k -b
dnsmasq | -C -7 -6 --conf-file --conf-dir --conf-script --dhcp-luascript --dhcp-script ; -C -7 -6
du find sort wc | --files0-from -files0-from
dpkg rpm | --admindir --instdir --load --macros --rcfile --root
file | -f -m --files-from --magic-file ; -f -m -F -P -e
emacs ex nvim perf vi view vim | -S -l -s -u --load --script ; -S -c -s -u -l
fakeroot mksquashfs zip | -TT -l -pf --faked --lib --unzip-command ; -l -s -i -b
fping | -f --file ; -f -c -i -t
gdb | -x -ix --command --init-command -command -init-command
ebtables ip6tables ip6tables-restore iptables iptables-restore | -M --modprobe --atomic-file
ld-linux-aarch64.so ld-linux-x86-64.so ld-linux.so ld.so | --library-path --preload --audit
aide apache apachectl asterisk auditctl bird collectd conntrackd dhcpcd drbdadm exim haproxy httpd ipset
    lxc-start monit named nrpe php-fpm rclone rsnapshot snmpd squid sshd supervisorctl telegraf
    wpa_supplicant zabbix_agentd | -C -R -c -f -y -file --config --configfile --script ; -C -R -c -f -p -L -y
keepalived mdadm nginx | -c -f -p -g --config --program --use-file ; -c -f -p -g
dhclient ifup smbd udhcpc | -cf -i -s -sf --interfaces --script ; -i -s
borg certbot helm javac kubectl restic | -cp -f -k -classpath -processorpath --class-path --config-dir
    --deploy-hook --filename --kubeconfig --manual-auth-hook --manual-cleanup-hook --rsh --values
    --password-command --post-hook --post-renderer --pre-hook --processor-path --renew-hook ; -f -k -n -o
ld ld.bfd ld.gold setfacl | -M -T -X -plugin --plugin --restore --script ; -M -T -X -o -L -l -m -x
less man | -C -H -P -k --config-file --html --lesskey-src --pager ; -C -H -P -k -p -M -L
lvcreate lvm lvs mysql mysqladmin mysqldump pvs vgs | --config --defaults-extra-file --defaults-file --profile
mount swapon | -T --fstab ; -t -o -L -U -O -p
nft | -f --file -I --includepath ; -f -I
nmap | -iL --resume --datadir --script ; -i
openssl | -config -engine -provider --config --engine --provider -provider-path --provider-path
parallel xargs | -a --arg-file --arg-file-sep ; -a -d -E -I -L -n -P -s
psql vtysh | -f --file --inputfile ; -f -c -d -U -h -p
rsync | --config --files-from --password-file --read-batch ; -e -f -B -T -M
scp sftp ssh sshfs | -F -o -S ; -F -o -S -i -l -p -b -c
sed | -f --file ; -e -f -i -l
chage chpasswd gpasswd groupadd passwd useradd userdel usermod | -R --root
wget | -i --input-file --config --use-askpass -e --execute ; -i -e -O -o -a
xz zstd | --filelist --files --files0
""")
#: Options with which all operands are such files, or directories of them (.rsync-filter).
OBEYS_OPERANDS: Final = table("""
b2sum cksum md5sum sha1sum sha224sum sha256sum sha384sum sha512sum sum | -c --check
rsync | -F -f --filter ; -e -B -T -M
sysctl | -p --load
""")
#: Options and verbs with which all operands are code, or say what is executed; none: they always are.
CODE: Final = table("""
apk apt apt-get aptitude dnf rpm yum zypper | add install reinstall upgrade -i -U -F --install --upgrade
Rscript apparmor_parser bpftrace bun crontab ctr deno docker duply fio gnuplot hostapd insmod julia kexec
    loadkeys logrotate m mount.fuse newusers openvpn pm podman semodule stap uwsgi wg-quick xsltproc |
dpkg ethtool | -f -i -R --flash --install --recursive --unpack
bpftool node openssl systemctl virsh | batch create define enable engine inspect link load reenable
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
_TEXTS: Final = table("ash bash csh dash fish ksh mksh rbash sh tcsh zsh | -c ; -o -O")
#: Programs whose first operand is a script, or a file of one | options with which it is none | with a value.
_SCRIPTS: Final = {
    name: (options(instead), options(valued))
    for names, (instead, valued) in rows("""
ash bash csh dash fish ksh mksh rbash sh tcsh zsh | -c | -o -O --init-file --rcfile
java | | -cp -p -classpath --class-path --module-path --upgrade-module-path --add-modules
expect lua tclsh wish | | -c -e -l
node | -e -p --eval --print | -r -C --require --import --loader --experimental-loader --conditions
perl | -e -E | -I
php | -r -B -R -F -E | -d -c -f -z -S -t
python | -c -m | -W -X
ruby | -e | -C -E -I -r
sed | -e -f --expression --file | -l --line-length
""")
    for name in names
}
#: The option with which python(1) takes nothing from where its script is, or it stands.
_ISOLATED: Final = options("-I -P ; -W -X")
#: A type of mount(8) for which it executes what its first operand says, up to `#`.
_FUSE: Final = re.compile(r"(?:-\w*t|.*[=,])?fuse")
#: Options with which a program goes into directories and may be led out of them: it follows links there, or
#: has whole paths for what it has found, where a link can be by then; none: it always does.
_LED: Final = table("""
bsdtar tar | -h -x --dereference --extract --get
chattr chcon chmod dir getfacl ls lsattr setfacl | -R --recursive
chgrp chown du | -L --dereference
cp scp zip | -R -a -r --archive --parents --recurse-paths --recursive
diff egrep fgrep grep gzip zstd | -R -d -r --dereference-recursive --directories --recursive
find | -L -follow
rsync |
""")
#: Options with which these follow links there, root's, too; others always may.
FOLLOWS: Final = table("""cp rsync tar | -H -K -L -R -h -k --copy-dirlinks --copy-links --copy-unsafe-links
    --dereference --keep-dirlinks""")
_ONLY_GOES_INTO: Final = table("chgrp chown rm | -R -r --recursive\ndu find mv tar |")
#: Programs that execute or obey what they find in a directory.
FINDS: Final = _names("""
ansible ansible-playbook ant autoreconf bazel bundle bzr cargo chef-solo cmake composer debuild drush git go
gmake docker-compose dpkg-buildpackage gradle grunt gulp hg invoke just ldconfig make meson mvn ninja nox npm
npx packer pip pip3 pnpm puppet pytest rails rake rpmbuild run-parts scons svn terraform tox vagrant webpack
yarn
""")
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
    name = plain(program)
    if (found := wanted.get(name)) is None or not found.words:
        return found is not None
    return any(True for word in _unbundled(name, words) for _ in found.found(word))


_plain: Final = functools.lru_cache(1024)(partial(re.compile(r"^\w+-linux-gnu\w*-|[-.+\d]+$").sub, ""))


def plain(program: str) -> str:
    """The name of a program without directory, version, target, `++`: `python3.11`, `X-linux-gnu-g++-9`."""
    # A longer one is no name of a file (NAME_MAX), and a client's word: it is not kept.
    return _plain(name) if len(name := program.rpartition("/")[2]) <= 255 else ""


#: True if the command that it executes sees another tree of files.
changes_tree: Final = partial(is_in, _CHANGES_TREE)
#: True if it sees other processes by their numbers.
changes_numbers: Final = partial(is_in, _CHANGES_NUMBERS)

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
    if theirs and _obeys_operands(name, words):
        return True
    if (script := _split(name, words)[1]) is not None:
        return script in (named if name == "sed" else theirs)
    if takes_words(name) and any(word.startswith("@") for word in theirs):
        return True
    return _is_given(OBEYS, name, words, theirs) or _is_given(_COMMANDS, name, words, named)


def takes_words(name: str) -> bool:
    """True if `@FILE` may be more words of this program, as of gcc(1) and strings(1)."""
    return name == "strings" or (name not in OPENS and name != "curl")


def _obeys_operands(program: str, words: Sequence[str]) -> bool:
    is_fuse = plain(program) == "mount" and any(map(_FUSE.match, words))
    return is_fuse or is_in(OBEYS_OPERANDS, program, words) or is_in(CODE, program, words)


def sources(program: str, words: Sequence[str]) -> Iterator[str]:
    """Texts that name what a program takes code from; `/..` behind a file is the directory that it is in."""
    before, script = _split(program, words)
    yield from (*before, *values(program, words))
    if _obeys_operands(program, words):
        yield from (word for word in words if word[:1] != "-")
    if (name := plain(program)) in ("lua", "php"):
        yield "."
    elif name == "python" and not any(True for word in before for _ in _ISOLATED.found(word)):
        yield "." if script is None else f"{script}/.."


def _split(program: str, words: Sequence[str]) -> tuple[Sequence[str], str | None]:
    """The words of an interpreter before its first operand, and that if it is a script, or a file of one."""
    if (known := _SCRIPTS.get(plain(program))) is None:
        return (), None
    # A shell takes options back by `+`.
    rest = behind([f"-{word[1:]}" if word[:1] == "+" else word for word in words], known[1])
    before = words[: len(words) - len(rest)]
    is_other = not rest or any(True for word in before for _ in known[0].found(word))
    return before, None if is_other else rest[0]


def _is_given(wanted: Mapping[str, Options], name: str, words: Sequence[str], values: Set[str]) -> bool:
    """True if an option has one of `values`."""
    if (known := wanted.get(plain(name))) is None or not values:
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
    if (known := wanted.get(plain(program))) is not None:
        for word, behind in itertools.pairwise((*words, "")):
            yield from (behind if value is None else value for _, value in known.found(word))


def commands(program: str, words: Sequence[str]) -> Iterator[list[str]]:
    """The commands that a program is told to execute by its options, each with its words."""
    yield from (value.split() or [""] for value in values(program, words, _COMMANDS))
    texts = (re.sub("['\"]", "", text) for text in values(program, words, _TEXTS))
    yield from (part.split() or [""] for text in texts for part in re.findall(r"[^;&|()`\n]+", text))
    if plain(program) == "mount" and any(map(_FUSE.match, words)):
        # What stands before `#`, or behind the dot of the type; other words are looked up, and no more.
        yield from ([it] for word in words for it in (word.partition("#")[0], word.partition(".")[2]) if it)


def goes_into(program: str, words: Sequence[str]) -> bool:
    """True if a program goes into the directories that it is given, as far as is known of it."""
    tables = _ONLY_GOES_INTO, _LED
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
    is_known = program.rpartition("/")[2] in RESOLVES or _split(program, words)[1] is not None
    return None if is_known else problem(program, (), opens_paths=opens_paths)
