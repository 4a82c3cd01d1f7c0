"""Read audit records back, in every form in which they exist: what was asked, and what came of it.

Promises: no line, whoever wrote it, raises anything. A word is what the client sent; a request of which the
record does not have all words as they were is not used, and counted. The records are written by
rootwrap_daemon/daemon/record/audit.py, and to the journal by daemon/record/journal.py.
"""

import bz2
import contextlib
import gzip
import itertools
import json
import lzma
import os
import shutil
import subprocess
import sys
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Final

from rootwrap_daemon.analysis import sudo_log, told
from rootwrap_daemon.daemon.record.secrets import MAX_MASKED, mask_words
from rootwrap_daemon.errors import Unreadable

#: Names of a log that are no file: the systemd journal, and standard input.
JOURNAL: Final = "journal"
STDIN: Final = "-"
#: What stands in a record for a secret.
_MASK: Final = "***"
#: What a record has in place of something that was too long for it.
_CUT: Final = "..."
#: Fields of the journal that are text; all others are JSON.
_TEXTS: Final = frozenset(("event", "id", "code", "filter", "run_as", "user", "detail", "argv_sha256"))
#: How the files begin that logrotate(8) leaves.
_COMPRESSED: Final[dict[bytes, Callable[..., Any]]] = {
    b"\x1f\x8b": gzip.open,
    b"\xfd7zXZ": lzma.open,
    b"BZh": bz2.open,
}
_ZSTD: Final = b"\x28\xb5\x2f\xfd"
#: Seconds between two looks for new records.
_LOOK: Final = 0.3
#: Seconds in which a daemon still writes to a file that was renamed.
_UNTIL_REOPENED: Final = 2.0


@dataclass(frozen=True, slots=True)
class Entry:
    """One record as it was written. `time` is None where it has none."""

    time: datetime | None
    event: str
    values: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Record:
    """One decision. `code`: `allowed`, or that of the error. `env`: the names of the variables asked for.

    `filter`: as the log has it, the two names of a chain joined by a +; None if none matched, or it was cut.
    `run_as`: of what has run, or as the request named it.
    """

    argv: tuple[str, ...]
    code: str
    filter: str | None
    run_as: str | None
    env: tuple[str, ...]

    @property
    def allowed(self) -> bool:
        """May it run?"""
        return self.code == "allowed"


@dataclass(slots=True)
class Log:
    """The decisions in logs, and how many records could not be used, by the reason.

    `of_sudo`: how many of the decisions are sudo's, as syslog has it; `callers`: who called it.
    """

    records: list[Record] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    of_sudo: int = 0
    callers: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Source:
    """A source of records: a file (perhaps compressed), JOURNAL or STDIN.

    `unit`: of which service, in the journal. `since`: the journal gives no older ones. `follow`: go on with
    new ones for ever, over a rotation of the file.
    """

    name: str
    unit: str | None = None
    since: datetime | None = None
    follow: bool = False

    def lines(self) -> Iterator[bytes]:
        """The lines. Raises Unreadable."""
        try:
            if self.name == JOURNAL:
                yield from _journal(self)
            elif self.name == STDIN:
                yield from sys.stdin.buffer
            elif self.follow:
                yield from _followed(self.name)
            else:
                with _opened(self.name) as file:
                    yield from file
        except (EOFError, zlib.error, lzma.LZMAError) as error:
            raise Unreadable(f"{self.name}: not whole: {error}") from error
        except OSError as error:
            raise Unreadable(f"{self.name}: {error.strerror or error}") from error


def entries(sources: Iterable[Source], left_out: Counter[str]) -> Iterator[Entry]:
    """The records of `sources`, in their order. Raises Unreadable for one that cannot be read.

    Other lines are counted in `left_out`, but for those of the journal, which has lines of others.
    """
    for source in sources:
        for line in source.lines():
            if (entry := parse(line)) is not None:
                yield entry
            elif line.strip() and source.name != JOURNAL:
                left_out["lines that are no record"] += 1


def read(sources: Iterable[Source], caller: str | None = None) -> Log:
    """Read what was asked, of the daemon or of sudo (sudo_log.py); of sudo, by this caller alone if named.

    Raises Unreadable also where there is no record at all: then nothing is known.
    """
    log, some, sources = Log(), False, list(sources)
    #: The last command of each user of sudo, whose line may go on.
    last: dict[str, Record | None] = {}
    for source in sources:
        for line in source.lines():
            if (entry := parse(line)) is not None:
                some = True
                _add(log, entry)
            elif (said := sudo_log.parse(line)) is not None:
                some = True
                if caller is None or said.asker == caller:
                    _add_of_sudo(log, said, last)
                else:
                    log.left_out["lines of sudo about other users"] += 1
            elif line.strip() and source.name != JOURNAL:
                log.left_out["lines that are no record"] += 1
    if sources and not some:
        raise no_record(sources)
    return log


def used_filters(sources: Iterable[Source]) -> frozenset[str]:
    """The names of filters in records. Raises Unreadable as `read`."""
    found: set[str] = set()
    some, sources = False, list(sources)
    for entry in entries(sources, Counter()):
        some = True
        found.update(str(entry.values.get("filter") or "").split("+"))
    if not some:
        raise no_record(sources)
    return frozenset(found)


def no_record(sources: Iterable[Source]) -> Unreadable:
    """The error for logs that hold no record."""
    names = ", ".join(source.name for source in sources)
    return Unreadable(
        f"{names}: no audit record: a line is a JSON object as the daemon or `journalctl -o json` writes it"
    )


def parse(line: bytes) -> Entry | None:
    """A line of an audit file or of `journalctl --output=json`; None if it is no record, or not root's."""
    try:
        values = json.loads(line)
        if "__REALTIME_TIMESTAMP" in values:
            return _of_journal(values)
        return _of_file(values)
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError, OverflowError, OSError):
        return None


def _of_file(values: dict[str, Any]) -> Entry | None:
    event = values.pop("event")
    return Entry(_when(values.pop("time", None)), event, values) if isinstance(event, str) else None


def _of_journal(fields: dict[str, Any]) -> Entry | None:
    if fields.get("_UID", "0") != "0":
        # Everybody may write to the journal.
        return None
    if "ROOTWRAP_EVENT" not in fields:
        # Standard error of a service goes there line by line.
        return _of_file(json.loads(_text(fields["MESSAGE"])))
    values = {
        name.removeprefix("ROOTWRAP_").lower(): _text(value)
        for name, value in fields.items()
        if name.startswith("ROOTWRAP_")
    }
    values = {name: text if name in _TEXTS else json.loads(text) for name, text in values.items()}
    when = datetime.fromtimestamp(int(fields["__REALTIME_TIMESTAMP"]) / 1e6, UTC).astimezone()
    return Entry(when, values.pop("event"), values)


def _when(stamp: object) -> datetime | None:
    """Local time, or None where there is none, or it lies outside of what a datetime can hold."""
    try:
        when = datetime.fromisoformat(stamp) if isinstance(stamp, str) else None
        if when is None:
            return None
        return (when.replace(tzinfo=UTC) if when.tzinfo is None else when).astimezone()
    except (ValueError, OverflowError, OSError):
        return None


def _text(value: Any) -> str:
    """journalctl shows what is not printable as an array of bytes."""
    return bytes(value).decode("utf-8", "replace") if isinstance(value, list) else str(value)


def _add_of_sudo(log: Log, line: sudo_log.Line, last: dict[str, Record | None]) -> None:
    before = last.pop(line.asker, None)
    if line.continued:
        if before is not None:
            log.records.remove(before)
            log.left_out["records whose words were cut"] += 1
    elif line.problem:
        log.left_out[line.problem] += 1
    elif any(masked not in (word, _MASK) for word, masked in _masked(line.values["argv"])):
        log.left_out["records with a secret taken out"] += 1
    else:
        count = len(log.records)
        _add(log, Entry(None, line.values["event"], line.values))
        log.of_sudo += len(log.records) - count
        log.callers.add(line.asker)
        last[line.asker] = log.records[-1] if len(log.records) > count else None


def _masked(words: list[str]) -> Iterator[tuple[str, str]]:
    return zip(words, mask_words(tuple(words), MAX_MASKED), strict=False)


def _add(log: Log, entry: Entry) -> None:
    values, event = entry.values, entry.event
    if event == "repeated":
        count = values.get("count")
        log.left_out["denials that were only counted"] += count if isinstance(count, int) else 1
    if event not in ("run", "check", "denied"):
        return
    found, env = values.get("filter"), values.get("env") or ()
    code = "allowed" if event == "run" else values.get("code")
    argv = values.get("argv")
    if argv is None and event == "denied":
        # The status was asked for, or the protocol was not spoken.
        log.left_out["denials of what is no command"] += 1
        return
    words = argv if isinstance(argv, list) and all(isinstance(word, str) for word in argv) else []
    if not words or not isinstance(code, str) or not isinstance(env, list | tuple):
        log.left_out["lines that are no record"] += 1
    elif "argv_words" in values:
        log.left_out["records whose words were cut"] += 1
    elif any(_MASK in word for word in words):
        log.left_out["records with a secret taken out"] += 1
    else:
        name = found if isinstance(found, str) and found != _CUT else None
        # Escapes of single surrogates came back as what surrogateescape made of a byte.
        log.records.append(
            Record(tuple(words), code, name, values.get("run_as") or values.get("user"), tuple(map(str, env)))
        )


def rotated(path: str) -> list[str]:
    """A file and what logrotate(8) made of it (`FILE.1`, `FILE.2.gz`, `FILE-20260101`), the oldest first."""
    found = Path(path)
    others = [
        one
        for one in found.parent.glob(f"{found.name}[.-]*")
        if one.name[len(found.name) + 1 :][:1].isdigit()
    ]
    ages = sorted((one.stat().st_mtime, str(one)) for one in others)
    return [name for _, name in ages] + [path]


def _opened(name: str) -> IO[bytes]:
    file, hidden = told.opened(name)
    start = file.peek(8)
    if start.startswith(_ZSTD) and not hidden:
        file.close()
        raise Unreadable(f"{name}: compressed by zstd: give it as `zstdcat {name} | rootwrapctl ... -`")
    found: IO[bytes] = file
    for magic, opener in _COMPRESSED.items():
        if start.startswith(magic):
            found = opener(file, "rb")
    if hidden:
        _check_records(name, found)
    return found


def _check_records(name: str, file: IO[bytes]) -> None:
    """Raise Unreadable for a hidden file without a record: how many lines it has would be told."""
    with contextlib.suppress(EOFError, zlib.error, lzma.LZMAError, OSError):
        if any(parse(line) is not None or sudo_log.parse(line) is not None for line in file):
            file.seek(0)
            return
    raise told.untold(name)


def _followed(name: str) -> Iterator[bytes]:
    """Lines for ever; goes over to the new file when the old one was renamed."""
    while True:
        file, hidden = told.opened(name)
        with file:
            if hidden and os.fstat(file.fileno()).st_size:
                _check_records(name, file)
            for is_other in itertools.chain((False,), _rotations(name, file)):
                yield from _whole_lines(file)
                if is_other:
                    break


def _whole_lines(file: IO[bytes]) -> Iterator[bytes]:
    while line := file.readline():
        if not line.endswith(b"\n"):
            # The rest is on its way.
            file.seek(-len(line), os.SEEK_CUR)
            return
        yield line


def _rotations(name: str, file: IO[bytes]) -> Iterator[bool]:
    """Wait; then say whether `name` is another file by now."""
    path = Path(name)
    while True:
        time.sleep(_LOOK)
        try:
            status = path.stat()
        except FileNotFoundError:
            yield False
            continue
        own = os.fstat(file.fileno())
        is_other = (status.st_dev, status.st_ino) != (own.st_dev, own.st_ino)
        if is_other:
            # It is renamed first, and the daemon opens the new one after.
            time.sleep(_UNTIL_REOPENED)
        yield is_other


def _journal(source: Source) -> Iterator[bytes]:
    program = shutil.which("journalctl")
    if program is None:
        raise Unreadable("there is no journalctl here: name audit files")
    # Everybody may write to the journal; who wrote a record is known to it.
    matches = ["_UID=0"]
    if source.unit is None:
        matches.append("SYSLOG_IDENTIFIER=rootwrap-daemon")
    else:
        unit = source.unit if source.unit.endswith(".service") else f"{source.unit}.service"
        matches.append(f"_SYSTEMD_UNIT={unit}")
    options = ["--output=json", "--all", "--no-pager", "--quiet"]
    if source.since is not None:
        options.append(f"--since=@{int(source.since.timestamp())}")
    if source.follow:
        options += ["--follow", "--lines=all"]
    with subprocess.Popen([program, *options, *matches], stdout=subprocess.PIPE) as process:
        if process.stdout is None:  # cannot be: it was asked for
            return
        try:
            yield from process.stdout
            code = process.wait()
        finally:
            process.terminate()
    if code != 0:
        raise Unreadable(f"journalctl ended with {code}")
