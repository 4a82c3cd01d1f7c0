"""Show how a running daemon does: what runs, by which rules, and how requests ended.

Promises: whatever the daemon says, what is printed is printable. Imports the client's parts and the protocol.
"""

import argparse
import json
import pwd
import sys
import time
from collections.abc import Iterator
from typing import Any, Final

from rootwrap_daemon.client import Client
from rootwrap_daemon.errors import DaemonUnavailable, Error

DEFAULT_SOCKET: Final = "/run/rootwrap-daemon/rootwrap-daemon.sock"
_HOME_AND_CLEAR: Final = "\x1b[H\x1b[J"

_EPILOG = "example:\n  rootwrapctl status --socket /run/rootwrap-daemon/neutron.sock --watch"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.epilog = _EPILOG
    add_socket(parser)
    parser.add_argument("--json", action="store_true", help="as the daemon says it, one object a line")
    parser.add_argument(
        "--watch",
        metavar="SECONDS",
        nargs="?",
        type=float,
        const=2.0,
        help="ask again and again, every 2 seconds if not told otherwise",
    )


def add_socket(parser: argparse.ArgumentParser) -> None:
    """The argument that says which daemon is meant."""
    parser.add_argument(
        "--socket", metavar="PATH", default=DEFAULT_SOCKET, help="where the daemon listens (%(default)s)"
    )


def run(args: argparse.Namespace) -> int:
    if args.watch is None:
        print(_shown(Client(args.socket).status(), as_json=args.json))
        return 0
    while True:
        try:
            text = _shown(Client(args.socket).status(), as_json=args.json)
        except DaemonUnavailable as error:
            # It may be on its way up again.
            text = json.dumps({"error": str(error)}) if args.json else str(error)
        clear = _HOME_AND_CLEAR if sys.stdout.isatty() and not args.json else ""
        print(f"{clear}{text}", flush=True)
        time.sleep(max(0.1, args.watch))


def _shown(report: dict[str, Any], *, as_json: bool) -> str:
    if as_json:
        return json.dumps(report)
    try:
        return "\n".join(map(printable, _lines(report)))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Error(f"the daemon is of another version, use --json: {error!r}") from error


def _lines(report: dict[str, Any]) -> Iterator[str]:
    policy, running = report["policy"], report["running"]
    stopping = ", stopping" if report["stopping"] else ""
    uptime = span(report["uptime_seconds"])
    yield f"rootwrap-daemon {report['version']}, pid {report['pid']}, up {uptime}{stopping}"
    yield (
        f"policy       generation {policy['generation']}, loaded {policy['loaded']}: {policy['filters']} "
        f"filters, {policy['findings_skipped']} findings skipped, {policy['warnings']} warnings"
    )
    if (last := report.get("last_reload")) is not None:
        outcome = "worked" if last["ok"] else f"FAILED, the rules stay as they were: {last['finding']}"
        yield f"last reload  {last['time']}: {outcome}"
    yield f"connections  {report['connections']['now']} of {report['connections']['most']}"
    yield f"commands     {running['now']} of {running['most']}"
    commands = report["commands"]
    if commands:
        yield f"  {'age':>10}  {'user':<12} {'pid':>8}  {'on stop':<7}  filter"
    for one in commands:
        pid = one["pid"] or "-"
        yield (
            f"  {span(one['age_seconds']):>10}  {user(one['uid']):<12} {pid:>8}  {one['on_stop']:<7}"
            f"  {one['filter']}"
        )
    if (more := running["now"] - len(commands)) > 0:
        yield f"  and {more} more"
    for event, codes in report["counters"].items():
        counts = ", ".join(
            f"{count}" if code == event else f"{code} {count}" for code, count in codes.items()
        )
        yield f"{event:<12} {counts}"


def span(seconds: float) -> str:
    """A time that people can take in: `3.2 s`, `12 min`, `3 h 12 min`, `9 d 4 h`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = int(seconds) // 60
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 24 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes // (24 * 60)} d {minutes // 60 % 24} h"


def user(uid: int) -> str:
    """The name of a user where there is one."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def printable(text: str) -> str:
    """Nothing in it can move a terminal's cursor, or turn the line around."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
