"""Programs that do with files what a path in their words does not show: tables of their options.

Promises: tests see the programs that are installed do what is said of them (tests/security/test_files.py).
"""

from typing import Final

from rootwrap_daemon.policy.getopt import Options, options

_SUMS: Final = "b2sum cksum md5sum sha1sum sha224sum sha256sum sha384sum sha512sum sum"


def _read(table: str) -> dict[str, Options]:
    found: dict[str, Options] = {}
    for row in table.strip().splitlines():
        names, text = row.split(" | ")
        found |= dict.fromkeys(names.split(), options(text.strip()))
    return found


#: Options whose value is a file of names of files, of options or of commands, or one whose mode or owner
#: counts. Names | options ; letters with a value.
NAMES: Final = _read(f"""
awk gawk mawk | -f --file --include --load ; -f -F -v -i -l
bridge ip tc | -batch --batch
chgrp chmod chown | --reference
curl | -K --config ; -K -o -H -d -X -u
date | -f --file ; -d -f -r -s
dig | -f ; -f -k -b
dnsmasq | -C -7 --conf-file --conf-dir --conf-script --dhcp-luascript --dhcp-script ; -C -7
du sort wc | --files0-from
file | -f -m --files-from --magic-file ; -f -m -F -P -e
find | -files0-from
fping | -f --file ; -f -c -i -t
haproxy | -f ; -f -C -D -p -L
ipset | -f -file ; -f
iptables-restore ip6tables-restore | -M --modprobe
lvm lvcreate lvs vgs pvs | --config --profile
mysql mysqldump mysqladmin | --defaults-file --defaults-extra-file
nft | -f --file -I --includepath ; -f -I
nginx | -c -p -g ; -c -p -g
nmap | -iL --resume --datadir --script ; -i
openssl | -config -engine -provider
psql | -f --file ; -f -d -U -h -p
rsync | --files-from --password-file -e --rsh --rsync-path ; -e -f -B -T -M
sed | -f --file ; -e -f -i -l
ssh scp sftp | -F -o -S ; -F -o -S -i -l -p -b -c
sysctl | -p --load
tar bsdtar | -T --files-from -F --info-script --new-volume-script ; --file -f -C -T -F -X -b -g -I -K -L -N
wget | -i --input-file --config -e --execute ; -i -e -O -o -a
xargs parallel | -a --arg-file --arg-file-sep ; -a -d -E -I -L -n -P -s
xz | --files --files0
zstd | --filelist
{_SUMS} | -c --check
""")
#: Of these the operands are meant.
OF_OPERANDS: Final = frozenset(("-c", "--check", "-p", "--load"))

#: What takes files out of an archive; all of them, with an empty one.
UNPACKS: Final = _read("""
tar bsdtar | -x --extract --get ; -f -C -T -X -b -g -I -K -L -N
cpio | -i --extract ; -D -F -I -O -C -E -H -M -R
pax | -r ; -f -s -o -x
dpkg dpkg-deb | -x -X --extract --vextract ; -D
""")
#: Options with which these write into another directory than they stand in.
ELSEWHERE: Final = _read("""
tar bsdtar | -C --directory ; -f -T -X -b -g -I -K -L -N
cpio | -D --directory ; -F -I -O -C -E -H -M -R
patch | -d --directory -o --output ; -p -i -B -D -F -g -r -V -Y -z
unzip | -d ; -x
dpkg dpkg-deb | -x -X --extract --vextract ; -D
""")
#: Options of patch(1) whose value may be the next word: what else is no option is the file that it changes.
PATCH_VALUED: Final = options(
    "-p -i -B -D -F -g -r -V -Y -z --strip --input --prefix --suffix --fuzz --reject-file"
)
#: Options with which these give a copy the mode of its original, those with which its owner, too, and those
#: that take the owner back.
MODES: Final = _read("""
rsync | -a -p -A --archive --perms --acls ; -e -f -B -T -M
cpio | -p --pass-through ; -D -F -I -O -C -E -H -M -R
""")
OWNERS: Final = _read("""
cp | -a -p --archive ; -S -t
rsync | -a -o --archive --owner ; -e -f -B -T -M
cpio | -p --pass-through ; -D -F -I -O -C -E -H -M -R
""")
NO_OWNERS: Final = _read("""
rsync | --no-owner --no-o --chown --usermap
cpio | -R --owner --no-preserve-owner ; -D -F -I -O -C -E -H -M
""")
#: Keep the modes of an archive out of what is made.
NO_MODES: Final = _read("tar bsdtar | --no-same-permissions")

#: Options with which these follow links in the directories that they go into.
FOLLOWS: Final = _read("""
grep egrep fgrep | -R --dereference-recursive ; -e -f -m -A -B -C -d -D
tar bsdtar | -h --dereference ; -f -C -T -X -b -g -I -K -L -N
find | -L -follow
du | -L --dereference ; -B -d -t -X
ls | -L --dereference ; -I -T -w
cp | -L --dereference ; -S -t
rsync | -L -k --copy-links --copy-dirlinks --copy-unsafe-links ; -e -f -B -T -M
chown chgrp | -L
chmod | -L --dereference
""")
#: Options without which these go into no directory.
RECURSE: Final = _read("""
ls chown chgrp chmod cp | -R --recursive
cp | -r -R -a --recursive --archive ; -S -t
""")
#: Programs whose operands are files: a name without a slash is one in `/`.
TAKES_FILES: Final = frozenset(
    "cat chgrp chmod chown cp ln ls mkdir mv rm rmdir shred tac tee touch truncate unlink".split()
)
#: Of these the first operand is a mode, or an owner.
FIRST_IS_NO_FILE: Final = frozenset(("chgrp", "chmod", "chown"))
