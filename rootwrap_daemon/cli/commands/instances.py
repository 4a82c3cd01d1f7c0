"""List the installed instances: where each listens, whom it admits, where its records go."""

import argparse
import json
import os
import socket
from dataclasses import asdict, dataclass

from rootwrap_daemon.cli import arguments, tables
from rootwrap_daemon.cli.arguments import Instance
from rootwrap_daemon.errors import ConfigurationError, Unreadable

EPILOG = """\
exit code: 0 listed, 1 a configuration cannot be used, 2 no instance is installed

example:
  rootwrapctl instances --json"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON")


@dataclass(frozen=True, slots=True)
class _Row:
    """One instance. `listens`: does a connection to its socket succeed? None if this user may not know."""

    name: str
    config: str
    socket: str | None = None
    listens: bool | None = None
    admits: str | None = None
    records: str | None = None
    fault: str | None = None


def run(args: argparse.Namespace) -> int:
    found = arguments.instances()
    if not found:
        raise Unreadable(f"no instance is installed in {arguments.CONFIG_DIR}")
    rows = [_row(one) for one in found]
    if args.json:
        print(json.dumps(list(map(asdict, rows)), indent=2))
    else:
        words = {True: "yes", False: "no", None: "unknown"}
        lines = tables.table(
            ("instance", "listens", "socket", "admits", "records"),
            [
                (row.name, words[row.listens], row.socket or "-", row.admits or "-", row.records or "-")
                if row.fault is None
                else (row.name, "-", row.fault, "", "")
                for row in rows
            ],
        )
        print(*lines, sep="\n")
    return int(any(row.fault for row in rows))


def _row(one: Instance) -> _Row:
    try:
        settings = one.settings()
    except (ConfigurationError, Unreadable) as error:
        return _Row(one.name, one.config_file, fault=str(error))
    admits = ", ".join((*settings.allowed_users, *(f"group {name}" for name in settings.allowed_groups)))
    records = settings.audit_file or "standard error"
    path = settings.socket_path
    return _Row(one.name, one.config_file, path, _listens(path), admits, records)


def _listens(path: str) -> bool | None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(1.0)
        try:
            sock.connect(os.fsencode(path))
        except PermissionError:
            return None
        except OSError:
            return False
    return True
