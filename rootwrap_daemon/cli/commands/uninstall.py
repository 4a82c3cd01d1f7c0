"""Take away what `install` put for an instance, and nothing that was changed since."""

import argparse
import contextlib
import os
import shutil
from typing import Final

from rootwrap_daemon.cli.commands.install import STATUS_GROUP, SYSUSERS, check_instance, has_status_group
from rootwrap_daemon.cli.installation import Placer
from rootwrap_daemon.errors import ConfigurationError

EPILOG = "example:\n  rootwrapctl uninstall --instance neutron"

_RUN: Final = "/run/rootwrap-daemon"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--instance", required=True, metavar="NAME", help="what the instance is called")
    parser.add_argument("--root", default="/", metavar="DIR", help="take it out of the system below DIR")
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")


def run(args: argparse.Namespace) -> int:
    instance = check_instance(args.instance)
    placer = Placer(args.root, print, dry=args.dry_run)
    unit = f"rootwrap-daemon@{instance}"
    if not placer.record.of(instance):
        raise ConfigurationError(f"`rootwrapctl install` put nothing here for an instance {instance!r}")
    if os.path.exists(placer.real(f"{_RUN}/{instance}.sock")) and not args.dry_run:
        do = f"systemctl disable --now {unit}.socket {unit}.service"
        raise ConfigurationError(f"{unit} listens: first `{do}`")
    placer.check(f"{_RUN}/{instance}")
    put_group = SYSUSERS in placer.record.sums
    placer.remove(instance)
    if not args.dry_run:
        # Which commands ran: nobody will ask any more.
        shutil.rmtree(placer.real(f"{_RUN}/{instance}"), ignore_errors=True)
        if not placer.record.users:
            # Somebody else may have something in there.
            with contextlib.suppress(OSError):
                os.rmdir(placer.real(_RUN))
        steps = ["systemctl daemon-reload"] if placer.real("/") == "/" else []
        if put_group and not _needs_group(placer) and has_status_group(placer):
            root = placer.real("")
            steps.append(f"groupdel {f'--root {root} ' if root else ''}{STATUS_GROUP}")
        if steps:
            print("\nWhat to do next:", *steps, sep="\n* ")
    return 0


def _needs_group(placer: Placer) -> bool:
    """True if a package, an administrator or another instance makes the group, too."""
    name = os.path.basename(SYSUSERS)
    return any(
        os.path.lexists(placer.real(f"{one}/{name}")) for one in ("/etc/sysusers.d", "/usr/lib/sysusers.d")
    )
