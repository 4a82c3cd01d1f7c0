"""Show how a running daemon does: what runs, by which rules, and how requests ended.

Promises: whatever the daemon says, what is printed is printable.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from typing import Any, Final

from rootwrap_daemon.cli import arguments
from rootwrap_daemon.cli.tables import span, user_name
from rootwrap_daemon.client import Client
from rootwrap_daemon.counted import counted
from rootwrap_daemon.errors import DaemonUnavailable, Error
from rootwrap_daemon.escape import printable

_HOME_AND_CLEAR: Final = "\x1b[H\x1b[J"

EPILOG = "example:\n  rootwrapctl status --instance neutron --watch"


def configure(parser: argparse.ArgumentParser) -> None:
    arguments.add_daemon(parser)
    parser.add_argument("--json", action="store_true", help="as the daemon says it, one object a line")
    parser.add_argument(
        "--watch",
        metavar="SECONDS",
        nargs="?",
        type=float,
        const=2.0,
        help="ask again and again (default: every 2 seconds)",
    )


def run(args: argparse.Namespace) -> int:
    path = arguments.socket_path(args)
    if args.watch is None:
        print(_shown(Client(path).status(), as_json=args.json))
        return 0
    before: dict[str, Any] | None = None
    while True:
        try:
            report = Client(path).status()
            text = _shown(report, before, as_json=args.json)
            before = report
        except DaemonUnavailable as error:
            # It may be on its way up again.
            text = json.dumps({"error": str(error)}) if args.json else str(error)
        clear = _HOME_AND_CLEAR if sys.stdout.isatty() and not args.json else ""
        print(f"{clear}{text}", flush=True)
        time.sleep(max(0.1, args.watch))


def _shown(report: dict[str, Any], before: dict[str, Any] | None = None, *, as_json: bool) -> str:
    """The report as text. `before`: the one before it, for rates."""
    if as_json:
        return json.dumps(report)
    try:
        return "\n".join(map(printable, _lines(report, before)))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Error(f"the daemon is of another version, use --json: {error!r}") from error


def _lines(report: dict[str, Any], before: dict[str, Any] | None) -> Iterator[str]:
    policy, running = report["policy"], report["running"]
    stopping = ", stopping" if report["stopping"] else ""
    uptime = span(report["uptime_seconds"])
    yield f"rootwrap-daemon {report['version']}, pid {report['pid']}, up {uptime}{stopping}"
    yield (
        f"policy       generation {policy['generation']}, loaded {policy['loaded']}: "
        f"{counted(policy['filters'], 'filter')}, {counted(policy['findings_skipped'], 'finding')} skipped, "
        f"{counted(policy['warnings'], 'warning')}"
    )
    if (last := report.get("last_reload")) is not None:
        skipped = policy["findings_skipped"]
        outcome = f"worked, {counted(skipped, 'finding')} skipped" if skipped else "worked"
        if not last["ok"]:
            outcome = f"FAILED, the rules stay as they were: {last['finding']}"
        yield f"last reload  {last['time']}: {outcome}"
    yield f"connections  {report['connections']['now']} of {report['connections']['most']}"
    yield f"commands     {running['now']} of {running['most']}"
    commands = report["commands"]
    if commands:
        yield f"  {'age':>10}  {'user':<12} {'pid':>8}  {'on stop':<7}  filter"
    for one in commands:
        pid = one["pid"] or "-"
        yield (
            f"  {span(one['age_seconds']):>10}  {user_name(one['uid']):<12} {pid:>8}  {one['on_stop']:<7}"
            f"  {one['filter']}"
        )
    if (more := running["now"] - len(commands)) > 0:
        yield f"  and {more} more"
    for event, codes in report["counters"].items():
        counts = ", ".join(str(n) if code == event else f"{code} {n}" for code, n in codes.items())
        yield f"{event:<12} {counts}{_rate(event, report, before)}"


def _rate(event: str, report: dict[str, Any], before: dict[str, Any] | None) -> str:
    """Return requests per second since the previous report of the same process; empty without one."""
    if before is None or before["pid"] != report["pid"]:
        return ""
    seconds = report["uptime_seconds"] - before["uptime_seconds"]
    now, then = (sum(one["counters"].get(event, {}).values()) for one in (report, before))
    return f"  ({(now - then) / seconds:.1f}/s)" if seconds > 0 else ""
