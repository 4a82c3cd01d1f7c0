"""Audit records as they are read back: from a file's lines or the journal's, to lines and sums for people.

Promises: no line, whoever wrote it, raises anything; what is printed is printable.
Imports status.
"""

import json
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from rootwrap_daemon.cli.commands.status import printable, user

#: Rows of each table.
_ROWS: Final = 10
#: Characters of a command in a table.
_WIDE: Final = 60
_REFUSALS: Final = frozenset(("denied", "unauthorized", "bad_request", "busy", "repeated"))
#: Fields of the journal that are text; all others are JSON.
_TEXTS: Final = frozenset(("event", "id", "code", "filter", "run_as", "detail", "argv_sha256"))


@dataclass(frozen=True, slots=True)
class Record:
    """One record. `time` is None where it has none."""

    time: datetime | None
    event: str
    values: dict[str, Any]

    @property
    def refused(self) -> bool:
        return self.event in _REFUSALS or (self.event == "check" and self.values.get("code") != "allowed")

    @property
    def command(self) -> str:
        """Its words, as a shell would take them if they are plain, in quotes if they are not."""
        argv = self.values.get("argv")
        words = " ".join(_word(word) for word in argv) if isinstance(argv, list) else ""
        return f"{words} ..." if "argv_sha256" in self.values else words

    @property
    def user(self) -> str:
        uid = self.values.get("uid")
        return user(uid) if isinstance(uid, int) and 0 <= uid < 2**32 else "-"

    def line(self) -> str:
        """For people."""
        stamp = self.time.strftime("%Y-%m-%d %H:%M:%S") if self.time else "-"
        notes = [
            f"{name} {_word(self.values[name])}"
            for name in ("filter", "run_as", "code", "returncode", "detail", "count", "id")
            if self.values.get(name) is not None
        ]
        if isinstance(spent := self.values.get("milliseconds"), int | float):
            notes.insert(0, f"{spent} ms")
        words = [stamp, f"{self.event:<8}", f"{self.user:<10}", self.command, f"({', '.join(notes)})"]
        return printable(" ".join(word for word in words if word))


def from_line(line: bytes) -> Record | None:
    """A line of an audit file; None if it is none."""
    try:
        values = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(values, dict) or not isinstance(values.get("event"), str):
        return None
    stamp = values.pop("time", None)
    return Record(_when(stamp), values.pop("event"), values)


def _when(stamp: object) -> datetime | None:
    """Local time, or None where there is none, or it lies outside of what a datetime can hold."""
    try:
        when = datetime.fromisoformat(stamp) if isinstance(stamp, str) else None
        if when is None:
            return None
        return (when.replace(tzinfo=UTC) if when.tzinfo is None else when).astimezone()
    except (ValueError, OverflowError, OSError):
        return None


def from_journal(line: bytes) -> Record | None:
    """A line of `journalctl --output=json`; None if it is no record."""
    try:
        fields = json.loads(line)
        values = {
            name.removeprefix("ROOTWRAP_").lower(): _text(value)
            for name, value in fields.items()
            if name.startswith("ROOTWRAP_")
        }
        values = {name: text if name in _TEXTS else json.loads(text) for name, text in values.items()}
        when = datetime.fromtimestamp(int(fields["__REALTIME_TIMESTAMP"]) / 1e6, UTC).astimezone()
        return Record(when, values.pop("event"), values)
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError, OverflowError, OSError):
        return None


def _text(value: Any) -> str:
    """journalctl shows what is not printable as an array of bytes."""
    return bytes(value).decode("utf-8", "replace") if isinstance(value, list) else str(value)


def _word(word: object) -> str:
    text = str(word)
    plain = text.isascii() and text.isprintable() and text and not set(text) & set(" '\"\\$`;&|<>()*?[]{}~#!")
    return text if plain else json.dumps(text)


@dataclass(slots=True)
class Summary:
    """What was refused most, and how long the commands of each filter took."""

    unreadable: int = 0
    _events: Counter[str] = field(default_factory=Counter)
    _refused: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    _examples: dict[tuple[str, str, str], str] = field(default_factory=dict)
    _filters: dict[str, str] = field(default_factory=dict)
    _spent: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def add(self, record: Record) -> None:
        """Count one."""
        values, event = record.values, record.event
        count = values.get("count") if event == "repeated" else 1
        self._events[event] += count if isinstance(count, int) else 1
        if record.refused:
            argv = values.get("argv")
            # Names and numbers come later as a rule, and would make each request one of its own.
            shape = " ".join(_word(word) for word in argv[:2]) if isinstance(argv, list) else ""
            reason = values.get("code") or values.get("detail") or event
            key = (record.user, shape or f"({event})", str(reason))
            self._refused[key] += count if isinstance(count, int) else 1
            self._examples[key] = record.command
        self.remember(record)

    def remember(self, record: Record) -> None:
        """Take the time of an `end` to the filter that its `run` names."""
        identity = str(record.values.get("id"))
        if record.event == "run":
            self._filters[identity] = str(record.values.get("filter"))
        elif record.event == "end" and isinstance(spent := record.values.get("milliseconds"), int | float):
            self._spent[self._filters.pop(identity, "?")].append(spent)

    def lines(self, *, denied_only: bool) -> Iterator[str]:
        """The tables."""
        yield ""
        counts = ", ".join(f"{event} {count}" for event, count in sorted(self._events.items()))
        yield printable(f"records: {counts or 'none'}")
        if self.unreadable:
            yield f"not readable: {self.unreadable} lines"
        if self._refused:
            yield ""
            yield f"refused most: {'times':>7}  {'user':<10} why, what, and the last of them"
            for (who, shape, reason), count in self._refused.most_common(_ROWS):
                example = self._examples[who, shape, reason][:_WIDE]
                shown = f": {example}" if example and example != shape else ""
                yield printable(f"{count:>21}  {who:<10} {reason}: {shape}{shown}")
        if self._spent and not denied_only:
            yield ""
            yield f"{'milliseconds: runs':>21} {'median':>9} {'of ten, 9':>10} {'longest':>9}  filter"
            ranked = sorted(self._spent.items(), key=lambda one: -sum(one[1]))
            for name, spent in ranked[:_ROWS]:
                spent.sort()
                median, ninth = statistics.median(spent), spent[len(spent) * 9 // 10]
                row = f"{len(spent):>21} {median:>9.1f} {ninth:>10.1f} {spent[-1]:>9.1f}"
                yield printable(f"{row}  {name}")
