"""Programs that do with files what a path in their words does not show: tables of their options.

Promises: tests see the programs that are installed do what is said of them (tests/security/test_files.py).
"""

from typing import Final

from rootwrap_daemon.policy.getopt import options, table

#: What takes files out of an archive.
UNPACKS: Final = table("""
tar bsdtar | -x --extract --get ; -f -C -T -X -b -g -I -K -L -N
cpio | -i --extract ; -D -F -I -O -C -E -H -M -R
pax | -r ; -f -s -o -x
dpkg dpkg-deb | -x -X --extract --vextract ; -D
""")
#: Options with which these write into another directory than they stand in.
ELSEWHERE: Final = table("""
tar bsdtar | -C --directory ; -f -T -X -b -g -I -K -L -N
cpio | -D --directory ; -F -I -O -C -E -H -M -R
patch | -d --directory -o --output ; -p -i -B -D -F -g -r -V -Y -z
unzip | -d ; -x
dpkg dpkg-deb | -x -X --extract --vextract ; -D
env | -C --chdir ; -u -S
nsenter unshare | -w -R -r --wd --root --wdns ; -t -S -G -Z
""")
#: Options of patch(1) whose value may be the next word: what else is no option is the file that it changes.
PATCH_VALUED: Final = options(
    "-p -i -B -D -F -g -r -V -Y -z --strip --input --prefix --suffix --fuzz --reject-file"
)
#: Options with which these give a copy the mode of its original, those with which its owner, too, and those
#: that take the owner back.
MODES: Final = table("""
rsync | -a -p -A --archive --perms --acls ; -e -f -B -T -M
cpio | -p --pass-through ; -D -F -I -O -C -E -H -M -R
""")
OWNERS: Final = table("""
cp | -a -p --archive ; -S -t
rsync | -a -o --archive --owner ; -e -f -B -T -M
cpio | -p --pass-through ; -D -F -I -O -C -E -H -M -R
""")
NO_OWNERS: Final = table("""
rsync | --no-owner --no-o --chown --usermap
cpio | -R --owner --no-preserve-owner ; -D -F -I -O -C -E -H -M
""")
#: Keep the modes of an archive out of what is made.
NO_MODES: Final = table("tar bsdtar | --no-same-permissions")
#: Programs whose operands are files: a name without a slash is one in `/`.
TAKES_FILES: Final = frozenset(
    "cat chgrp chmod chown cp ln ls mkdir mv rm rmdir shred tac tee touch truncate unlink".split()
)
#: Of these the first operand is a mode, or an owner.
FIRST_IS_NO_FILE: Final = frozenset(("chgrp", "chmod", "chown"))
#: Directories and files that root, or everybody, executes or obeys, or what is in them.
OBEYED: Final = tuple(
    """
    /bin /boot /etc/NetworkManager /etc/X11 /etc/acpi /etc/anacrontab /etc/apache2 /etc/apparmor.d /etc/apt
    /etc/asterisk /etc/audit /etc/bash.bashrc /etc/bash_completion.d /etc/bind /etc/cloud /etc/cni
    /etc/collectd /etc/containerd /etc/cron.d /etc/cron.daily /etc/cron.hourly /etc/cron.monthly
    /etc/cron.weekly /etc/crontab /etc/dbus-1 /etc/default /etc/dhcp /etc/dnsmasq.conf /etc/dnsmasq.d
    /etc/docker /etc/dovecot /etc/environment /etc/exim4 /etc/fstab /etc/group /etc/gshadow /etc/haproxy
    /etc/httpd /etc/icinga2 /etc/init.d /etc/inittab /etc/ipsec.conf /etc/keepalived /etc/kubernetes
    /etc/ld.so.conf /etc/ld.so.conf.d /etc/ld.so.preload /etc/letsencrypt /etc/libvirt /etc/lighttpd
    /etc/logrotate.conf /etc/logrotate.d /etc/lvm /etc/modprobe.d /etc/modules-load.d /etc/monit /etc/mysql
    /etc/nagios /etc/netplan /etc/network /etc/nginx /etc/nsswitch.conf /etc/openvpn /etc/pam.d /etc/passwd
    /etc/php /etc/polkit-1 /etc/postfix /etc/postgresql /etc/ppp /etc/profile /etc/profile.d /etc/rc.local
    /etc/rsyslog.d /etc/samba /etc/security /etc/selinux /etc/shadow /etc/snmp /etc/ssh /etc/sudo.conf
    /etc/sudoers /etc/sudoers.d /etc/supervisor /etc/sysctl.conf /etc/sysctl.d /etc/systemd /etc/telegraf
    /etc/tmpfiles.d /etc/udev /etc/update-motd.d /etc/wireguard /etc/xinetd.d /etc/zabbix /lib /lib64
    /proc/sys/kernel /proc/sysrq-trigger /root /run/systemd /run/udev /sbin /sys/kernel /usr/bin /usr/lib
    /usr/lib64 /usr/libexec /usr/local /usr/sbin /var/spool/cron
    """.split()
)
#: Programs that put the content of one file, or of standard input, into another.
COPIES: Final = frozenset("cp dd install ln mv patch rsync tee".split())
