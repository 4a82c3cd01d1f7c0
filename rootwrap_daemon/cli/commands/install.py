"""Install an instance: its units, its configuration and its directory of filters."""

import argparse
import glob
import grp
import os
import pwd
import re
import subprocess
import sys
from typing import Final

from rootwrap_daemon.cli import arguments, data_files, from_rootwrap
from rootwrap_daemon.cli.installation import Placer
from rootwrap_daemon.errors import ConfigurationError, SelfCheckError, Usage
from rootwrap_daemon.lint.knowledge import confinement
from rootwrap_daemon.openstack import SOCKET_VARIABLE

EPILOG = "example:\n  rootwrapctl install --instance neutron --user neutron --network-agent"

#: Also a file name and systemd's %i, both as they are.
_INSTANCE: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,47}", re.ASCII)
_USER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}\$?", re.ASCII)
#: What needs no quoting in ExecStart= (systemd.service(5)).
_PLAIN: Final = re.compile(r"/[A-Za-z0-9_./+-]+", re.ASCII)

UNITS: Final = "/etc/systemd/system"
CONFIG: Final = arguments.CONFIG_DIR
MAN: Final = "/usr/local/share/man"
#: Whose members may see the status, and what systemd-sysusers(8) makes it by.
STATUS_GROUP: Final = "rootwrap-daemon"
SYSUSERS: Final = "/etc/sysusers.d/rootwrap-daemon.conf"
#: Where a distribution's package has what is for all instances, for where this command puts it.
_PACKAGED: Final = {
    UNITS: "/usr/lib/systemd/system",
    "/etc/sysusers.d": "/usr/lib/sysusers.d",
    "/etc/tmpfiles.d": "/usr/lib/tmpfiles.d",
}

#: What the unit starts must be safe to start: the very check that the daemon makes, by the same interpreter.
_CHECK: Final = (
    "from rootwrap_daemon.daemon import main, self_check; from rootwrap_daemon.daemon.serve import main; "
    "from rootwrap_daemon.policy import host; "
    "self_check.check_code(host.base_owners())"
)


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--instance", required=True, metavar="NAME", help="what the instance is called")
    parser.add_argument("--user", required=True, help="the user that the agent runs as")
    parser.add_argument("--root", default="/", metavar="DIR", help="install into the system below DIR")
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")
    parser.add_argument(
        "--network-agent", action="store_true", help="with less privilege: enough for ip, iptables, dnsmasq"
    )
    parser.add_argument(
        "--with",
        dest="give_back",
        metavar="NAME",
        choices=confinement.NEEDS,
        action="append",
        default=[],
        help=f"give back what the unit takes from commands; may be repeated: {', '.join(confinement.NEEDS)}",
    )
    parser.add_argument(
        "--from-rootwrap",
        metavar="FILE",
        help="take over the options of this host's rootwrap.conf; not with --root",
    )


def run(args: argparse.Namespace) -> int:
    instance = check_instance(args.instance)
    placer = Placer(args.root, print, dry=args.dry_run)
    if args.from_rootwrap and placer.real("/") != "/":
        raise Usage("--from-rootwrap judges filters by this host: not with --root")
    group = _group_of(args.user, placer)
    python = _interpreter()
    text = _config(instance, args)
    filters = from_rootwrap.judge(text, filters_of(instance), print) if args.from_rootwrap else 0
    # Only now: systemd-sysusers is yet to make it.
    text += f"status_group = {STATUS_GROUP}\n"
    service = data_files.text("systemd/rootwrap-daemon@.service").replace("/usr/bin/python3", python)
    access = f"# Who may connect: the group of {args.user}.\n[Socket]\nSocketGroup={group}\n"
    files = {
        f"{UNITS}/rootwrap-daemon@.service": service,
        f"{UNITS}/rootwrap-daemon@.socket": data_files.text("systemd/rootwrap-daemon@.socket"),
        f"{UNITS}/rootwrap-daemon@{instance}.socket.d/10-access.conf": access,
        SYSUSERS: data_files.text("systemd/sysusers.d/rootwrap-daemon.conf"),
        "/etc/logrotate.d/rootwrap-daemon": data_files.text("logrotate.d/rootwrap-daemon"),
        "/etc/tmpfiles.d/rootwrap-daemon.conf": data_files.text("systemd/tmpfiles.d/rootwrap-daemon.conf"),
        f"{CONFIG}/{instance}.conf": text,
    }
    if args.network_agent:
        drop_in = f"{UNITS}/rootwrap-daemon@{instance}.service.d/50-network-agent.conf"
        files[drop_in] = data_files.text("systemd/network-agent.conf")
    for page in data_files.manual_pages():
        files[f"{MAN}/man{page[-1]}/{os.path.basename(page)}"] = data_files.read(page)
    for name in args.give_back:
        drop_in = f"{UNITS}/rootwrap-daemon@{instance}.service.d/60-{name}.conf"
        files[drop_in] = data_files.text(f"systemd/give-back/{name}.conf")
    if SYSUSERS not in placer.record.sums and has_status_group(placer):
        # Somebody else's: `uninstall` must not take it for what was made for this.
        print(f"keep  the group {STATUS_GROUP}: is there")
        del files[SYSUSERS]
    new = not os.path.exists(placer.real(f"{CONFIG}/{instance}.conf"))
    placer.put_directory(filters_of(instance), instance)
    for path, content in files.items():
        if not _is_packaged(path, content, placer):
            placer.put(path, content, instance)
    if not args.dry_run:
        _say_next(instance, args, placer, python, filters, renewed=placer.changed and not new)
    return 0


def _is_packaged(path: str, content: str, placer: Placer) -> bool:
    """True if a package has this very file, and renews it: a copy in /etc would hide what it renews."""
    directory, _, name = path.rpartition("/")
    packaged = placer.real(f"{_PACKAGED.get(directory, directory)}/{name}")
    if directory not in _PACKAGED or not os.path.isfile(packaged):
        return False
    with open(packaged, encoding="utf-8", errors="surrogateescape") as file:
        same = file.read() == content
    if same:
        print(f"keep  {packaged}: is as it should be")
    return same


def check_instance(name: str) -> str:
    """Raises Usage."""
    if not _INSTANCE.fullmatch(name):
        raise Usage(f"--instance {name!r}: small letters, digits, - and _ make the name of an instance")
    return name


def filters_of(instance: str) -> str:
    """The directory of an instance's own filters."""
    return f"{CONFIG}/{instance}.filters.d"


def _config(instance: str, args: argparse.Namespace) -> str:
    lines = [f"socket_path = /run/rootwrap-daemon/{instance}.sock", f"allowed_users = {args.user}"]
    if args.from_rootwrap:
        taken = from_rootwrap.take_over(args.from_rootwrap, filters_of(instance))
        for missed in taken.missed:
            print(f"not taken over: {missed}")
        source = f"# Taken over from {os.path.abspath(args.from_rootwrap)}.\n"
        lines = [source.rstrip(), *taken.lines, *lines]
    else:
        lines.append(f"filters_path = {filters_of(instance)}")
    lines += [
        f"audit_file = /var/log/rootwrap-daemon/{instance}.jsonl",
        f"state_dir = /run/rootwrap-daemon/{instance}",
    ]
    has_manual = data_files.has_manual() or bool(data_files.manual_pages())
    sample = "rootwrap-daemon/rootwrap-daemon.conf.sample"
    where = "man rootwrap-daemon.conf" if has_manual else data_files.path(sample)
    lines = [f"# rootwrap-daemon@{instance}. Every option: {where}", "[DEFAULT]", *lines]
    return "".join(f"{line}\n" for line in lines)


def _group_of(user: str, placer: Placer) -> str:
    """The first group of a user of the system to install into. Raises Usage, or ConfigurationError."""
    if not _USER.fullmatch(user):
        raise Usage(f"--user {user!r} is no name of a user")
    if placer.real("/") == "/":
        # As the daemon will: by NSS, which may ask LDAP or systemd.
        try:
            number = pwd.getpwnam(user).pw_gid
        except KeyError:
            raise Usage(f"there is no user {user!r} here: make one: useradd --system {user}") from None
        try:
            return grp.getgrgid(number).gr_name
        except KeyError:
            return str(number)
    gid = _look_up(placer.real("/etc/passwd"), 0, user, 3)
    if gid is None:
        where = placer.real("/etc/passwd")
        raise Usage(f"there is no user {user!r} in {where}: make one: useradd --system {user}")
    return _look_up(placer.real("/etc/group"), 2, gid, 0) or gid


def has_status_group(placer: Placer) -> bool:
    """True if the system to install into has the group already. Raises ConfigurationError."""
    if placer.real("/") != "/":
        return _look_up(placer.real("/etc/group"), 0, STATUS_GROUP, 2) is not None
    try:
        grp.getgrnam(STATUS_GROUP)
    except KeyError:
        return False
    return True


def _look_up(file: str, key: int, wanted: str, value: int) -> str | None:
    """One field of the line of a file like passwd(5) whose other field is `wanted`."""
    try:
        with open(file, encoding="utf-8", errors="surrogateescape") as lines:
            for line in lines:
                fields = line.rstrip("\n").split(":")
                if len(fields) > max(key, value) and fields[key] == wanted:
                    return fields[value]
    except OSError as error:
        raise ConfigurationError(f"{file}: {error.strerror}: --root must be a whole system") from error
    return None


def _interpreter() -> str:
    """The Python that the unit starts. Raises SelfCheckError."""
    python = sys.executable
    if not _PLAIN.fullmatch(python):
        raise SelfCheckError(f"{python!r} cannot stand in a unit: install to a path of letters and digits")
    done = subprocess.run(  # the very check that the daemon makes when it starts
        [python, "-I", "-c", _CHECK], env={"LC_ALL": "C.UTF-8"}, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise SelfCheckError(f"{python} cannot be the daemon's: {last.rpartition('SelfCheckError: ')[2]}")
    return python


def _say_next(
    instance: str, args: argparse.Namespace, placer: Placer, python: str, filters: int, *, renewed: bool
) -> None:
    """`renewed`: something changed of an instance that was there, and may run."""
    socket = f"rootwrap-daemon@{instance}.socket"
    print("\nWhat to do next:")
    if args.from_rootwrap:
        print(f"* Filters in use: {filters}; what is left out is named above. What they give away:")
        print(f"  rootwrapctl check --strict --instance {instance}")
    elif not glob.glob(f"{placer.real(filters_of(instance))}/*.filters"):
        print(f"* Write filters for {args.user} into {placer.real(filters_of(instance))}/*.filters;")
        print(f"  samples: {os.path.dirname(data_files.path('rootwrap-daemon/filters.d/demo.filters'))}")
    if placer.real("/") == "/":
        print("* systemd-sysusers && systemctl daemon-reload")
        print(f"* systemctl enable --now {socket}")
        if renewed:
            print(f"* systemctl try-restart rootwrap-daemon@{instance}.service")
    else:
        if not os.path.exists(placer.real(python)):
            print(f"* Install rootwrap-daemon in there, too: the unit starts {python}.")
        print(f"* systemctl --root={placer.real('')} enable {socket}")
    variable = f"{SOCKET_VARIABLE}=/run/rootwrap-daemon/{instance}.sock"
    print(f"* {args.user} may connect already; in its own unit: Environment={variable}")
