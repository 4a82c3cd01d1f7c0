"""Know what a unit takes from its commands, which programs miss it, and which drop-in gives it back.

Promises: reads texts, and nothing of the host. Sources: systemd.exec(5), capabilities(7), the manual page of
each program.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

# Drop-in below etc/systemd/give-back | what a unit can take of it | for what. A word in small letters is what
# a directive takes that is neither a capability nor a group of system calls.
_NEEDS: Final = """
raw-io | CAP_SYS_RAWIO @raw-io devices | raw commands to devices
devices | devices | device files
immutable | CAP_LINUX_IMMUTABLE | the flags that protect a file from root
setuid-files | suid | files that are set-user-id or set-group-id
clock | CAP_SYS_TIME @clock | setting the clock
kernel-log | CAP_SYSLOG | the kernel's log
modules | CAP_SYS_MODULE @module | loading modules
realtime | realtime CAP_SYS_NICE @resources | scheduling in real time
priority | CAP_SYS_NICE @resources | raising a priority, and choosing processors
hostname | hostname | setting the host's name
debug | @debug | looking into other processes
reboot | CAP_SYS_BOOT @reboot | restarting the host
swap | @swap | swap areas
user-namespaces | userns | user namespaces
personality | personality | another personality
console | CAP_SYS_TTY_CONFIG | the console
mandatory-access | CAP_MAC_ADMIN | the policy that confines everybody
audit | CAP_AUDIT_CONTROL CAP_AUDIT_READ CAP_AUDIT_WRITE | the audit system of the kernel
accounting | CAP_SYS_PACCT | process accounting
socket-families | AF_ALG AF_BLUETOOTH AF_CAN AF_KEY AF_PPPOX AF_RDS AF_VSOCK | sockets of other families
"""

# Program names | drop-in | words that need it, as a pattern of whole words; `*` for every request.
_PROGRAMS: Final = r"""
smartctl hdparm sdparm sg_raw sg_inq sg_ses sg_persist sg_format flashrom rdmsr wrmsr turbostat cpuid
    setserial storcli storcli64 perccli perccli64 megacli MegaCli64 arcconf ssacli hpssacli tw_cli
    sensors-detect x86_energy_perf_policy | raw-io | *
nvme lvm lvs vgs pvs blkid lsblk fdisk sfdisk sgdisk parted wipefs mdadm cryptsetup dmsetup losetup
    fstrim | devices | *
chattr | immutable | [-+=][a-zA-Z]*[ai][a-zA-Z]*
efibootmgr | immutable | -[aAbBcCnNoOtT].*|--(active|inactive|boot|create|delete|timeout).*
chmod install mkdir mkfifo mknod | setuid-files
    | (-m|--mode=)?(0?[2-7][0-7]{3}|([ugoa]*[-+=][rwxXst]*,)*[ugoa]*[+=][rwxXt]*s[rwxXst]*(,.*)?)
restore xfsrestore unsquashfs debootstrap mmdebstrap | setuid-files | *
tar bsdtar | setuid-files | -?[a-zA-Z]*x[a-zA-Z]*|--extract|--get
cp | setuid-files | -[a-zA-Z]*[ap][a-zA-Z]*|--archive|--preserve(=.*)?
rsync | setuid-files | -[a-zA-Z]*[ap][a-zA-Z]*|--archive|--perms
restic | setuid-files | restore
borg borgmatic | setuid-files | extract
dpkg apt apt-get aptitude | setuid-files
    | -i|--install|--unpack|--configure|install|upgrade|dist-upgrade|full-upgrade
rpm dnf dnf5 microdnf yum zypper | setuid-files | -[iUF][a-z]*|--install|--upgrade|install|update|upgrade|dup
apk pacman | setuid-files | add|fix|upgrade|-[SU][a-z]*
date | clock | -s.*|--set(=.*)?|[0-9]{8,12}(\.[0-9]{2})?
hwclock ntpdate sntp rdate adjtimex chronyd ntpd phc2sys ptp4l phc_ctl tickadj | clock | *
dmesg klogd rsyslogd syslogd | kernel-log | *
modprobe insmod rmmod kmod stap staprun | modules | *
kexec | reboot | *
reboot poweroff halt | reboot | -[a-z]*f[a-z]*|--force
systemctl | reboot | -ff
chrt cyclictest | realtime | *
taskset numactl migratepages | priority | *
nice renice | priority | -n|-?-[0-9]+|--adjustment.*|--priority.*
ionice | priority | -c ?[12]?|--class.*
hostname domainname nisdomainname | hostname | [^-].*|-F|-b|--file|--boot
strace ltrace gdb gdbserver lldb gcore pstack gstack eu-stack criu reptyr perf bpftrace py-spy rbspy
    | debug | *
swapon swapoff | swap | *
unshare | user-namespaces | -[a-zA-Z]*[Ur][a-zA-Z]*|--user(=.*)?|--map-.*
bwrap podman buildah flatpak lxc-usernsexec rootlesskit | user-namespaces | *
nsenter | user-namespaces | -U|--user(=.*)?
setarch linux32 linux64 i386 | personality | *
loadkeys setfont kbd_mode setleds kbdrate setvtrgb chvt openvt deallocvt | console | *
apparmor_parser aa-enforce aa-complain aa-disable aa-load aa-teardown | mandatory-access | *
auditctl auditd augenrules autrace | audit | *
accton turnacct | accounting | *
hciconfig hcitool btmgmt btmon hcidump l2ping sdptool rfcomm setkey racoon candump cansend cangen canplayer
    rds-info rds-ping pppoe | socket-families | *
pppd | socket-families | .*pppoe.*
"""
_YES: Final = frozenset(("yes", "true", "on", "1"))
# Directives that are yes or no -> what yes takes.
_SWITCHES: Final = {
    "LockPersonality": ("personality",),
    "PrivateDevices": ("CAP_SYS_RAWIO", "CAP_MKNOD", "@raw-io", "devices"),
    "ProtectClock": ("CAP_SYS_TIME", "CAP_WAKE_ALARM", "@clock"),
    "ProtectHostname": ("hostname",),
    "ProtectKernelLogs": ("CAP_SYSLOG",),
    "ProtectKernelModules": ("CAP_SYS_MODULE", "@module"),
    "RestrictRealtime": ("realtime",),
    "RestrictSUIDSGID": ("suid",),
}


@dataclass(frozen=True, slots=True)
class Need:
    """A need of a program that a unit can deny. `drop_in`: its name; `takings`: what a unit takes it by."""

    drop_in: str
    takings: frozenset[str]
    what: str


@dataclass(frozen=True, slots=True)
class _Use:
    need: Need
    words: re.Pattern[str] | None


@dataclass(frozen=True, slots=True)
class Missing:
    """A need that the unit does not meet. `by`: the directives that take it."""

    need: Need
    by: tuple[str, ...]

    def __str__(self) -> str:
        return f"the unit takes away {self.need.what} ({', '.join(f'{name}=' for name in self.by)})"

    @property
    def remedy(self) -> str:
        """Return the remedy for it."""
        command = f"rootwrapctl install --instance NAME --user USER --with {self.need.drop_in}"
        return f"`{command}` puts a drop-in that gives it back"


def _rows(table: str) -> Iterable[list[str]]:
    for row in table.strip().replace("\n    ", " ").splitlines():
        yield [part.strip() for part in row.split(" | ", 2)]


NEEDS: Final = {name: Need(name, frozenset(by.split()), what) for name, by, what in _rows(_NEEDS)}
_KNOWN: Final = frozenset(one for need in NEEDS.values() for one in need.takings)
PROGRAMS: Final = {
    name: _Use(NEEDS[need], None if words == "*" else re.compile(words, re.ASCII))
    for names, need, words in _rows(_PROGRAMS)
    for name in names.split()
}


def taken(texts: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Return what a unit takes, each with the directives that do. `texts`: the unit, then its drop-ins.

    As systemd.exec(5) has it: lists of allowed things add up, lists with ~ take away, an empty value resets.
    """
    capabilities = _Listed()
    calls = _Listed()
    families = _Listed()
    namespaces = _Listed()
    switches: dict[str, bool] = {}
    devices = ""
    for name, value in (pair for text in texts for pair in _directives(text)):
        if name == "CapabilityBoundingSet":
            capabilities.say(value)
        elif name == "SystemCallFilter":
            calls.say(value)
        elif name == "RestrictAddressFamilies":
            families.say(value)
        elif name == "RestrictNamespaces" and value in _YES:
            namespaces = _Listed(allows=True)
        elif name == "RestrictNamespaces":
            namespaces.say("" if value in ("no", "false", "off", "0") else value)
        elif name == "DevicePolicy":
            devices = value
        elif name in _SWITCHES:
            switches[name] = value.lower() in _YES
    found: dict[str, list[str]] = {}
    for one in sorted(_KNOWN):
        if one.startswith("CAP_") and capabilities.takes(one):
            found.setdefault(one, []).append("CapabilityBoundingSet")
        elif one.startswith("@") and calls.takes(one):
            found.setdefault(one, []).append("SystemCallFilter")
        elif one.startswith("AF_") and families.takes(one):
            found.setdefault(one, []).append("RestrictAddressFamilies")
    if namespaces.takes("user"):
        found["userns"] = ["RestrictNamespaces"]
    if devices in ("closed", "strict"):
        found["devices"] = ["DevicePolicy"]
    for name, on in switches.items():
        for one in _KNOWN.intersection(_SWITCHES[name]) if on else ():
            found.setdefault(one, []).append(name)
    return {one: tuple(names) for one, names in found.items()}


class _Listed:
    """A directive with a list: `allows` says whether what stands in it is what is left."""

    def __init__(self, *, allows: bool | None = None) -> None:
        self._allows = allows
        self._names: set[str] = set()

    def say(self, value: str) -> None:
        if not value:
            self._allows, self._names = None, set()
            return
        allowed = not value.startswith("~")
        names = {word.partition(":")[0] for word in value.removeprefix("~").split()}
        if self._allows is None:
            self._allows = allowed
        if allowed == self._allows:
            self._names |= names
        else:
            self._names -= names

    def takes(self, name: str) -> bool:
        return self._allows is not None and (name in self._names) != self._allows


def _directives(text: str) -> Iterable[tuple[str, str]]:
    section = ""
    # A comment may stand within a value that goes on.
    lines = [line for line in text.splitlines() if not line.lstrip().startswith(("#", ";"))]
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        if line.startswith("["):
            section = line.strip()
        elif section == "[Service]" and "=" in line:
            name, _, value = line.partition("=")
            yield name.strip(), value.strip()


def missing(program: str, words: Sequence[str] | None, takes: dict[str, tuple[str, ...]]) -> Missing | None:
    """Return what a program misses under such a unit, None if nothing. `words`: its own, None for any."""
    use = PROGRAMS.get(program)
    if use is None or (
        use.words is not None and words is not None and not any(map(use.words.fullmatch, words))
    ):
        return None
    by = [name for one in sorted(use.need.takings) for name in takes.get(one, ())]
    return Missing(use.need, tuple(dict.fromkeys(by))) if by else None
