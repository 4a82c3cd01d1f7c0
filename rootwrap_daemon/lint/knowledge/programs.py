"""Programs that give root, or much of it, to whoever may choose their arguments; and what to allow instead.

Promises: nothing here decides what the daemon allows. Sources: the manual page of each program.
"""

import re
from dataclasses import dataclass
from typing import Final

#: Route -> what it means for a caller who chooses the words.
ROUTES: Final = {
    "code": "is an interpreter: its arguments are a program",
    "runs": "runs the words behind its own as a command",
    "option": "has an option that names a program to run",
    "config": "runs or loads what its configuration file says, and the file is an argument",
    "plugin": "loads code from a file that an argument or variable names",
    "escape": "can start a shell or an editor while it runs",
    "proxy": "can have another service run something as root",
    "kernel": "puts code into the kernel",
    "write": "writes a file that an argument names",
    "own": "changes who may use a file, set-user-id included",
    "mount": "puts another tree in the place of the system's",
    "disk": "reads or writes disks and images below all permissions",
    "read": "shows a file that an argument names",
    "tell": "tells whether there is a file that an argument names",
    "account": "changes accounts, root's too",
    "stop": "can stop or cripple what the host runs",
}
#: Routes that end in root on the host; the others give away a part.
ROOT: Final = frozenset(
    "code runs option config plugin escape proxy kernel write own account mount disk".split()
)

SHELLS: Final = frozenset("sh bash dash zsh ksh mksh ash fish csh tcsh rbash busybox".split())
#: Programs whose processes are anybody's: that a process runs one says nothing about whose it is.
INTERPRETERS: Final = SHELLS | frozenset("python perl ruby node lua php java tclsh wish expect".split())

#: Programs whose options stand before all else: what follows the first plain word is none.
OPTIONS_FIRST: Final = frozenset(("ip", "tc", "bridge"))

#: What to say of a program that does what a file says.
WHOSE_FILE: Final = "its configuration from a directory that root alone can write: who writes it is root"

#: What to say where no filter is safe.
NEVER: Final = "no filter of it is safe: ship a script of root's own for the one job, and filter that"

#: Programs that give nothing away, whatever their arguments: they look at no file that an argument names, run
#: nothing, and change nothing; seen by tests/security/test_observed.py, where they are installed.
HARMLESS: Final = frozenset(
    "true false echo yes id groups whoami logname uname arch nproc hostid sleep seq basename dirname pwd tty "
    "lsmod free vmstat clear lsb_release expr factor printenv".split()
)

# Program names | routes | how | a safer filter, `-` for none; {cmd} is the name, {dir} a path below the
# service's own directory. An indented line goes on with the one above.
_TABLE: Final = r"""
sh bash dash zsh ksh mksh ash fish csh tcsh rbash | code | -c TEXT, a file, standard input | -
busybox | code | its first argument chooses among hundreds of programs, sh too | -
python perl ruby node lua php tclsh expect | code | -c or -e TEXT, a file, standard input, module paths
    | -
java | code | -cp, -jar | -
awk gawk mawk | code | system() in the program text, -f | -
sed | code write | the e command, w FILE, -i | -
vi vim view ed ex nano emacs | escape write | :! and the file that is edited | -
less more man pager | escape read | ! while it shows, LESSOPEN, -P | ReadFileFilter, /etc/NAME
env | runs | any program with any variables | EnvFilter
sudo su runuser doas pkexec | runs | any program as anybody | -
setpriv capsh aa-exec chpst stdbuf time strace ltrace gdb valgrind | runs
    | the program to start is an argument | -
nice | runs | its operand | ChainingRegExpFilter, nice, root, nice, -n, 1?[0-9]
ionice | runs | its operand | ChainingRegExpFilter, ionice, root, ionice, -c[0-3]
timeout | runs | its operand | ChainingRegExpFilter, timeout, root, timeout, [1-9][0-9]*
nohup | runs | its operand | ChainingRegExpFilter, nohup, root, nohup
flock | runs write | its operand, -c TEXT; makes the lock file
    | ChainingRegExpFilter, flock, root, flock, /run/NAME\.lock
setsid unshare | runs | its operand | -
nsenter | runs | its operand, in any namespace, pid 1's too | -
chroot | runs | its operand, in a tree that the caller may have filled | -
cgexec | runs | its operand | ChainingRegExpFilter, cgexec, root, cgexec, -g, blkio:[a-z0-9_]+
xargs parallel watch script screen tmux start-stop-daemon daemonize | runs
    | any command, some by a shell | -
systemd-run | proxy | any command as a unit, as any user | -
ssh | option | -o ProxyCommand=, -F FILE | -
scp sftp | option write | -S PROGRAM, -o ProxyCommand= | -
rsync | option write | -e COMMAND, --rsync-path | -
socat | runs write | EXEC: and SYSTEM: addresses | -
nc ncat netcat | option | -e, --sh-exec | ArgvFilter, {cmd}, root, -z, {ip}, {int=1-65535}
cat tac head tail od xxd strings base64 | read | any file, keys and passwords too
    | ReadFileFilter, /etc/NAME
tee | write | any file, from standard input | ArgvFilter, tee, root, /run/NAME/state
dd | write read | of= and if= | ArgvFilter, dd, root, if=/dev/zero, of=/var/lib/NAME/disk, bs=1M, count=64
cp | write own | any file to anywhere, modes with it | ArgvFilter, cp, root, --, {dir}, {dir}
mv | write | any file to anywhere | ArgvFilter, mv, root, -T, {dir}, {dir}
ln | write | a link anywhere to anything | ArgvFilter, ln, root, -sT, {dir}, {dir}
install | write own | a file with any mode and owner | -
chmod | own | u+s on any program, o+r on any secret | ArgvFilter, chmod, root, 0640, {dir}
chown chgrp | own | any file, --reference, -R | ArgvFilter, {cmd}, root, NAME, {dir}
setfacl setfattr | own | an access list for any file, --restore | -
setcap | own | capabilities for any program | -
chattr | stop | flags of any file | ArgvFilter, chattr, root, +C, {dir}
touch | write | makes any file | ArgvFilter, touch, root, {dir}
mkdir | write | makes any directory | ArgvFilter, mkdir, root, -p, {dir}
rm rmdir unlink shred | stop | any file | ArgvFilter, {cmd}, root, {dir}
truncate fallocate | stop | any file | ArgvFilter, truncate, root, -s, {int}, {dir}
find | option stop | -exec, -fprintf, -delete | ArgvFilter, find, root, {dir}, -maxdepth, {int}, -print
tar | option write | --checkpoint-action, --to-command, -I; what it unpacks | -
cpio unzip 7z zip gzip bzip2 xz zstd | write option | the files that they pack and unpack | -
qzip | write | the file that it packs | -
sort split | option write | --compress-program, --filter, -o | -
crontab at batch | proxy | a job of root's | -
patch | write | any file | -
diff grep egrep cut wc | read | any file | ReadFileFilter, /etc/NAME
test | tell | -e PATH, also in private directories | ArgvFilter, test, root, -e, {dir}
[ | tell | -e PATH, also in private directories | -
df | tell | the file whose file system it shows | ArgvFilter, df, root, -P
sync | tell | the file that it writes to disk | ArgvFilter, sync, root
getconf | tell | the path behind the name of a limit | ArgvFilter, getconf, root, {name}
uptime | tell | that of coreutils takes a file of logins | ArgvFilter, uptime, root
getent | read | shadow shows the hashes of passwords | ArgvFilter, getent, root, passwd, {name}
hostname dnsdomainname domainname nisdomainname ypdomainname | read stop
    | -F FILE shows its first line, a word sets the host's name | ArgvFilter, {cmd}, root
readlink stat ls du file md5sum | read | what private directories hold | ArgvFilter, {cmd}, root, {dir}
logrotate | config | scripts of its configuration | -
wget curl | write read | -O and -o FILE, file://, upload of any file | -
git | option config | hooks, -c, --upload-pack | -
openssl | plugin write | -engine, -provider-path, -out | -
gpg | option write | --photo-viewer, -o | -
mount pstorage-mount | mount option | a tree over /etc, helpers by -t | -
umount fusermount | stop | any file system | ArgvFilter, umount, root, {path=/mnt/NAME}
losetup kpartx ploop | disk | any file as a disk | -
mkfs mkswap wipefs parted fdisk sfdisk sgdisk blkdiscard badblocks hdparm | disk
    | any disk, backups to any file | -
fsck e2fsck resize2fs tune2fs xfs_repair xfs_growfs debugfs | disk
    | any disk; some write logs and undo files | -
blkid | write | -c FILE | ArgvFilter, blkid, root, -p, -o, value, {path=/dev/mapper}
blockdev | disk | any disk | ArgvFilter, blockdev, root, --getsize64, {path=/dev/mapper}
dmsetup cryptsetup | disk write | tables over any device, header backups to any file | -
lvm lvcreate lvremove lvextend lvchange lvrename lvconvert lvresize lvdisplay | config disk
    | --config names programs and files | -
lvs vgs pvs vgcreate vgremove vgdisplay vgchange pvcreate pvremove pvresize pvdisplay | config disk
    | --config names programs and files | -
vgcfgrestore | write | -f, any metadata | -
zpool zfs | mount option | mount points anywhere, zpool status -c | -
qemu-img | disk read | an image names files of the host; convert writes any path | -
qemu-nbd | disk | exports any file | -
mdadm multipath multipathd | config option | --program, configuration files, library paths | -
iscsiadm iscsictl | write stop | records of nodes, any session | -
tgtadm tgt-admin cinder-rtstool targetcli rtstool | disk | shares any device or file | -
exportfs rpc.mountd | own | shares any tree with root's rights | -
kill killall pkill skill | stop | any process, pid 1 too | KillFilter, root, /usr/sbin/NAME, -TERM
sysctl | option kernel | kernel.core_pattern and kernel.modprobe name programs
    | RegExpFilter, sysctl, root, sysctl, -w, net\.ipv4\.ip_forward=[01]
modprobe insmod rmmod kexec | kernel config | modules, install lines of another configuration | -
udevadm | proxy | properties and programs of rules | ArgvFilter, udevadm, root, settle
systemctl | proxy escape | link, edit, set-environment, its pager
    | ArgvFilter, systemctl, root, --no-pager, restart, NAME.service
service | proxy | scripts by a path | ArgvFilter, service, root, NAME, restart
journalctl dmesg | escape read | the pager, --file | -
mknod | disk | the device of any disk | -
ldconfig | plugin | -f, -C: where all programs find libraries | -
docker podman lxc lxc-attach virsh ctr nerdctl kubectl | proxy | a container with the host in it | -
smbcontrol | stop | any message | -
net smbd nginx haproxy | config | scripts, modules and root's preexec in the configuration | -
apt-get apt dpkg rpm yum dnf pip snap gem npm | option config | scripts of packages, hooks by options | -
make | code | --eval, -f | -
dbus-send busctl gdbus | proxy | any method of any service, systemd's too | -
ip | runs option write | netns exec, vrf exec, -batch | IpFilter, ip, root
tc | option plugin | -batch, objects of BPF, TC_LIB_DIR
    | ArgvFilter, tc, root, qdisc, show, dev, {ifname}
bridge | option | -batch FILE | ArgvFilter, bridge, root, fdb, show, dev, {ifname}
ss | read | -F FILE; -K ends connections | ArgvFilter, ss, root, -ltn
ethtool | write kernel | dumps to any file, firmware | -
brctl | stop | any bridge | ArgvFilter, brctl, root, show
iptables ip6tables | option plugin | --modprobe=COMMAND | -
iptables-restore ip6tables-restore | option | --modprobe=COMMAND, -M | ArgvFilter, {cmd}, root, -n, [-w]
iptables-save ip6tables-save | option write | -M, -f FILE
    | ArgvFilter, {cmd}, root, [-t, {=filter|nat|mangle|raw}]
ebtables ebtables-restore | option write | --modprobe, --atomic-file | -
nft ipset | read stop | -f FILE, any rule set | -
conntrack | stop | -F | ArgvFilter, conntrack, root, -D, -d, {ip}
conntrackd | config write | -C FILE | -
ovs-vsctl ovsdb-client ovs-ofctl ovs-dpctl | write | --log-file=FILE, --pidfile, --db | -
ovs-appctl | write proxy | -t SOCKET, vlog/set FILE | -
ovsdb-tool | disk write | any file as a database | -
dnsmasq | option write | --dhcp-script, --conf-script, --dhcp-luascript, --pid-file, --log-facility | -
radvd | write | -p and -l FILE | -
keepalived | config write | notify scripts of -f FILE, -p FILE | -
dhclient | option write | -sf SCRIPT, -lf, -pf | -
dhcp_release dhcp_release6 | stop | any lease | ArgvFilter, {cmd}, root, {ifname}, {ip}, {mac}
pppd | option plugin | connect COMMAND, plugin FILE | -
openvpn ipsec strongswan | config option | --up COMMAND, leftupdown= | -
arping ping ping6 | stop | floods | ArgvFilter, {cmd}, root, -c, {int=1-10}, {ip}
tcpdump | option write | -z COMMAND, -w FILE
    | ArgvFilter, tcpdump, root, -i, NAME, -c, {int}, -w, {=-}
nmap | code write | --script, -oN | -
vtysh | escape write | start-shell, write and log file
    | RegExpFilter, vtysh, root, vtysh, -c, show [a-z ]+
rabbitmqctl | code | eval | ArgvFilter, rabbitmqctl, root, list_queues
privsep-helper | code | --privsep_context names any Python code to import | -
neutron-keepalived-state-change neutron-ns-metadata-proxy | config write
    | --config-file, --log-file, --pid_file | -
fuser | stop | -k | -
gluster | proxy | hooks of volumes | -
restic | option read | --password-command, --repository-file, restore to any path | -
borg borgmatic | option write | --rsh, BORG_PASSCOMMAND, extract into any directory | -
duplicity rdiff-backup rsnapshot rclone bacula bconsole amanda | option config write
    | --rsh, --remote-schema, a configuration file of the caller's | -
wg-quick | config | PreUp and PostDown of the file that is named | -
wg | config read | setconf FILE, showconf shows private keys | ArgvFilter, wg, root, show, {ifname},
    latest-handshakes
date | read stop | -f FILE shows it, -s sets the clock | ArgvFilter, date, root, -u
zcat bzcat xzcat zgrep zless lz4 lzop pigz nl tsort comm join fold paste sha256sum sha1sum b2sum
    cksum | read
    | any file, keys and passwords too | ReadFileFilter, /etc/NAME
fping | read stop | -f FILE shows it, floods | ArgvFilter, fping, root, -c, {int=1-10}, {ip}
visudo vipw vigr sudoedit mc nvim rvim vimdiff micro joe | escape write | the file that is edited | -
passwd chpasswd newusers usermod useradd userdel adduser deluser groupadd groupmod groupdel gpasswd
    chage chsh chfn
    | account | root's password, uid 0 for anybody | -
shutdown reboot poweroff halt init telinit runlevel rtcwake pm-suspend | stop | the whole host
    | ArgvFilter, {cmd}, root
hostnamectl timedatectl localectl loginctl networkctl resolvectl bootctl coredumpctl | proxy escape
    | services of root, a pager, `coredumpctl debug` | -
machinectl systemd-nspawn systemd-analyze systemd-tmpfiles systemd-sysusers | runs config
    | commands as root, files of the caller's that say what to make | -
ifconfig route arp iw iwconfig ifup ifdown dhcpcd udhcpc dhcpd nmcli nmtui wpa_supplicant hostapd
    wpa_cli | config stop
    | scripts and configuration files, any interface | -
firewall-cmd ufw fail2ban-client shorewall csf | config stop | actions are commands; any rule | -
smartctl nvme sg_raw ipmitool megacli storcli perccli ssacli hpssacli arcconf racadm | disk stop
    | raw commands to devices, firmware | -
lsof lshw dmidecode | read | what processes have open; -D and --from-dump FILE | -
apachectl apache2ctl apache2 httpd a2ensite a2enmod lighttpd caddy traefik squid varnishd | config
    | -f FILE, modules, piped logs | -
postfix postconf postmap postalias sendmail exim exim4 newaliases doveadm dovecot mailq postsuper |
    config option
    | -C FILE, pipes to commands | -
mysql mysqldump mysqladmin mariadb psql pg_dump pg_ctl pg_ctlcluster createuser sqlite3 redis-cli
    mongo mongosh
    influx clickhouse-client | escape write | their ! command and files, COPY ... PROGRAM | -
puppet chef-client chef-solo ansible ansible-playbook salt salt-call cf-agent terraform nomad consul
    vault | code
    | a program in their own language | -
certbot acme.sh letsencrypt dehydrated lego | option | --pre-hook, --deploy-hook, --config FILE | -
supervisorctl pm2 monit runit sv rc-service openrc initctl invoke-rc.d chkconfig update-rc.d launchctl
    rndc unbound-control pdns_control | proxy | services of root's | -
apt-key apt-cache aptitude add-apt-repository zypper pacman yay apk emerge port brew flatpak pkg
    opkg dnf5 alien
    | option config | scripts of packages, hooks by options | -
npx yarn pnpm composer bundle cargo go mvn gradle pip3 pipx uv conda bower rake | option code
    | scripts of packages | -
cmake gcc cc g++ clang ld as ninja scons tcc rustc | option write | plugins, -wrapper, -o FILE | -
docker-compose docker-machine kubeadm k3s crictl buildah skopeo helm lxd incus runc nsjail firejail bwrap
    | proxy | a container with the host in it | -
vagrant VBoxManage qemu-system-x86_64 kvm virt-install xl xm vzctl pct qm | proxy | devices and
    scripts of a guest | -
dumpcap tshark wireshark iftop nethogs top htop atop iotop glances | write escape
    | capture files, a shell or a signal while they run | -
ddrescue dcfldd pv mbuffer buffer | write read | any file | -
rename mktemp mkfifo csplit rar unrar ar pax bsdtar star cabextract | write | any file | -
openvt chvt dtach byobu abduco setarch linux32 catchsegv rlwrap unbuffer with-lock-ex chronic ts
    torsocks proxychains faketime softlimit setlock envdir setuidgid eatmydata trickle proxychains4 proot pee
    ifne hyperfine systemd-cat systemd-inhibit dbus-launch xvfb-run schedtool schroot runcon daemon tini
    envuidgid supervise toybox dumb-init catatonit gosu su-exec lxc-execute mptcpize fd fdfind entr torify
    | runs | the program to start is an argument | -
taskset chrt cpulimit prlimit numactl | runs stop | their operand, any process | -
renice | stop | any process | ArgvFilter, renice, root, -n, {int=0-19}, -p, {pid=/usr/sbin/NAME}
update-alternatives update-grub grub-install grub2-mkconfig update-initramfs dracut mkinitcpio dkms depmod
    modinfo | kernel config | what boots, and files by options | -
nsupdate dig host nslookup whois | read | -f and -k FILE | ArgvFilter, dig, root, +short, {name}
asterisk fs_cli freeswitch kamctl | proxy escape | shell commands from their console | -
gitlab-ctl gitlab-rake gitlab-rails | code | code of their own application as root | -
aws gsutil gcloud az s3cmd azcopy s5cmd | read write | any file, to any account | -
ssh-keygen ssh-add ssh-agent sshd sshfs autossh mosh telnet ftp lftp tftp rsh rlogin | option escape
    | -D PKCS11, ProxyCommand, ! in a session | -
swapon swapoff zramctl fstrim dmraid lsblk findmnt | disk stop | any device | -
setenforce semanage semodule setsebool restorecon chcon auditctl aa-disable aa-complain
    apparmor_parser | kernel
    | what confines everybody | -
lpadmin cupsctl lp lpr cancel | proxy read | printers with a command, any file | -
xauth startx xinit Xorg X gdm lightdm | option | -config, -modulepath, the client to start | -
svn hg bzr fossil cvs svnadmin | option config | hooks, ssh commands | -
uwsgi gunicorn celery php-fpm flask django-admin rails jupyter ipython ipython3 | code
    | modules by name, any configuration | -
nodejs bun deno lua5.3 guile R Rscript julia octave gnuplot irb pry ghc scala groovy erl iex elixir tsh
    | code | -e TEXT, a file, standard input | -
logger wall write mesg | read write | -f FILE to the log, words on every terminal | ArgvFilter,
    logger, root, -t, {name}, --, {name}
"""


@dataclass(frozen=True, slots=True)
class Program:
    """The facts about a program. `how`: the words that do it; `safer`: the fields of a filter, or None."""

    name: str
    routes: tuple[str, ...]
    how: str
    safer: str | None

    @property
    def gives_root(self) -> bool:
        """True if the words alone are enough for root."""
        return not ROOT.isdisjoint(self.routes)

    @property
    def because(self) -> str:
        """Why it is here, to be read behind its name."""
        return f"{ROUTES[self.routes[0]]} ({self.how})"


def _read() -> dict[str, Program]:
    found = {}
    for row in _TABLE.strip().replace("\n    ", " ").splitlines():
        # Bars without blanks are those of a filter.
        names, routes, how, safer = (part.strip() for part in row.split(" | ", 3))
        for name in names.split():
            form = safer.replace("{cmd}", name).replace("{dir}", "{path=/var/lib/NAME}")
            found[name] = Program(name, tuple(routes.split()), how, None if safer == "-" else form)
    return found


PROGRAMS: Final = _read()
_VERSION: Final = re.compile(r"(python|perl|ruby|lua|php)[0-9.]+", re.ASCII)
_FAMILY: Final = {
    "mkfs.": "mkfs",
    "mount.": "mount",
    "umount.": "umount",
    "fsck.": "fsck",
    "xtables-": "iptables",
}


def base_name(program: str) -> str:
    """Return a program's name without directories, and without a version or file system behind it."""
    program = program.rpartition("/")[2]
    name = "python" if program == "python3" else program
    if found := _VERSION.fullmatch(name):
        name = found[1]
    return next((family for start, family in _FAMILY.items() if name.startswith(start)), name)


def look_up(program: str) -> Program | None:
    """Return what is known of a program by its name, a version or file system behind it left out."""
    return PROGRAMS.get(base_name(program))
