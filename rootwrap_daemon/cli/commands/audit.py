"""Show audit records to people, with a summary of what is denied most and how long commands take.

Promises: whatever a client had written into a record, what is printed is printable and on one line.
Imports records and status.
"""

import argparse
import itertools
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import IO, Final

from rootwrap_daemon.cli import records
from rootwrap_daemon.cli.records import Summary
from rootwrap_daemon.errors import ConfigurationError, Usage

_EPILOG = (
    "example:\n"
    "  rootwrapctl audit --since 2h --denied /var/log/rootwrap-daemon/neutron.log\n"
    "  rootwrapctl audit --summary --journal --unit rootwrap-daemon@neutron"
)
_AGO: Final = re.compile(r"([0-9]+)(s|min|h|d)", re.ASCII)
_UNITS: Final = {"s": 1, "min": 60, "h": 3600, "d": 86400}
#: Seconds between two looks for new records.
_LOOK: Final = 0.3
#: Seconds in which a daemon still writes to a file that was renamed.
_UNTIL_TOLD: Final = 2.0


def configure(parser: argparse.ArgumentParser) -> None:
    parser.epilog = _EPILOG
    parser.add_argument("file", metavar="FILE", nargs="*", help="audit files, the oldest first; - is stdin")
    parser.add_argument("--journal", action="store_true", help="ask the systemd journal instead of files")
    parser.add_argument("--unit", metavar="UNIT", help="with --journal: records of this service alone")
    parser.add_argument(
        "--since",
        metavar="WHEN",
        type=_since,
        help="records from then on: 90s, 30min, 2h, 7d ago, or a time such as 2026-02-28T13:30",
    )
    parser.add_argument("--denied", action="store_true", help="only what was refused")
    parser.add_argument("--summary", action="store_true", help="only the summary")
    parser.add_argument("--follow", action="store_true", help="go on with new records until interrupted")


def _since(text: str) -> datetime:
    if match := _AGO.fullmatch(text):
        return datetime.now().astimezone() - timedelta(seconds=int(match[1]) * _UNITS[match[2]])
    try:
        # Without an offset it is local time.
        return datetime.fromisoformat(text).astimezone()
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no time: write e.g. 2h, or 2026-02-28T13:30") from None


def run(args: argparse.Namespace) -> int:
    if args.journal == bool(args.file):
        raise Usage("name audit files, or say --journal")
    summary = Summary()
    try:
        for record in _parsed(_lines(args), args, summary):
            if args.since is not None and (record.time is None or record.time < args.since):
                continue
            if args.denied and not record.refused:
                # Which filter an `end` belongs to is in its `run`.
                summary.remember(record)
                continue
            summary.add(record)
            if not args.summary:
                print(record.line(), flush=args.follow)
    except KeyboardInterrupt:
        # How one stops to follow; the summary is still of use.
        print()
    print("\n".join(summary.lines(denied_only=args.denied)))
    return 0


def _parsed(lines: Iterable[bytes], args: argparse.Namespace, summary: Summary) -> Iterator[records.Record]:
    parse = records.from_journal if args.journal else records.from_line
    for line in lines:
        if not line.strip():
            continue
        record = parse(line)
        if record is None:
            summary.unreadable += 1
        else:
            yield record


def _lines(args: argparse.Namespace) -> Iterator[bytes]:
    if args.journal:
        yield from _journal(args)
        return
    *before, last = args.file
    for name in before:
        yield from _of_file(name)
    yield from _followed(last) if args.follow and last != "-" else _of_file(last)


def _of_file(name: str) -> Iterator[bytes]:
    if name == "-":
        yield from sys.stdin.buffer
    else:
        with open(name, "rb") as file:
            yield from file


def _followed(name: str) -> Iterator[bytes]:
    """Lines for ever; goes over to the new file when the old one was renamed."""
    while True:
        with open(name, "rb") as file:
            for rotated in itertools.chain((False,), _rotations(name, file)):
                yield from _whole_lines(file)
                if rotated:
                    break


def _whole_lines(file: IO[bytes]) -> Iterator[bytes]:
    while line := file.readline():
        if not line.endswith(b"\n"):
            # The rest is on its way.
            file.seek(-len(line), 1)
            return
        yield line


def _rotations(name: str, file: IO[bytes]) -> Iterator[bool]:
    """Waits; then whether `name` is another file by now."""
    path = Path(name)
    while True:
        time.sleep(_LOOK)
        try:
            status = path.stat()
        except FileNotFoundError:
            yield False
            continue
        rotated = (status.st_dev, status.st_ino) != _identity(file)
        if rotated:
            # It is renamed first, and the daemon told after.
            time.sleep(_UNTIL_TOLD)
        yield rotated


def _identity(file: IO[bytes]) -> tuple[int, int]:
    status = Path(f"/proc/self/fd/{file.fileno()}").stat()
    return status.st_dev, status.st_ino


def _journal(args: argparse.Namespace) -> Iterator[bytes]:
    program = shutil.which("journalctl")
    if program is None:
        raise ConfigurationError("there is no journalctl here: name audit files")
    # Everybody may write to the journal; who wrote it is known to it.
    matches = ["SYSLOG_IDENTIFIER=rootwrap-daemon", "_UID=0"]
    if args.unit is not None:
        unit = args.unit if args.unit.endswith(".service") else f"{args.unit}.service"
        matches.append(f"_SYSTEMD_UNIT={unit}")
    options = ["--output=json", "--all", "--no-pager", "--quiet"]
    if args.since is not None:
        options.append(f"--since=@{int(args.since.timestamp())}")
    if args.follow:
        options += ["--follow", "--lines=all"]
    with subprocess.Popen([program, *options, *matches], stdout=subprocess.PIPE) as process:
        if process.stdout is None:  # cannot be: it was asked for
            return
        try:
            yield from process.stdout
        finally:
            process.terminate()
