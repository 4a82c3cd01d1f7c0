"""Programs whose words name packages, modules of the kernel or accounts, and change what they name.

Promises: an option or a verb stands beside a program only if with it the program tells something and changes
nothing. Sources: the manual page of each; modprobe(8) is seen to (tests/security/test_observed.py).
"""

from typing import Final

from rootwrap_daemon.policy.getopt import rows

#: Program -> what a free word stands for, and the words with which the program changes nothing.
KNOWN: Final = {
    name: (what, frozenset(words.split()))
    for what, table in (
        ("a package, whose scripts {} runs", """
apt apt-get aptitude | changelog depends list policy rdepends search show
dnf dnf5 yum zypper | info list provides repoquery search
dpkg | -I -L -S -V -c -l -p -s --contents --info --list --listfiles --search --status --verify
rpm | -V -q -qa -qf -qi -ql --query --verify
apk flatpak gem npm pip pip3 snap | find freeze info list outdated search show
pacman | -Q -Qi -Ql -Qo -Qs -Si -Ss
"""),
        ("any module of the kernel", """
insmod modprobe rmmod | -D -R -c -n --dry-run --resolve-alias --show --show-depends
"""),
        ("any account or group, root's too", """
adduser chsh deluser gpasswd groupdel groupmod passwd userdel usermod | -S --status
chage | -l --list
"""),
        ("any database of the system, shadow too", """
getent | ahosts ahostsv4 ahostsv6 ethers group hosts initgroups netgroup passwd protocols rpc services
"""),
        ("any unit or service, that of the whole host too", """
systemctl | cat help is-active is-enabled is-failed list-units show status
service | --status-all
"""),
    )
    for names, (words,) in rows(table)
    for name in names
}  # fmt: skip
