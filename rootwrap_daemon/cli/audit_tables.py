"""Show audit records to people: one line a command, and tables that sum up many.

Promises: whatever stands in a record, what is printed is printable and on one line.
"""

import json
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from rootwrap_daemon.analysis.audit_log import Entry
from rootwrap_daemon.cli.tables import user_name
from rootwrap_daemon.escape import printable

#: Rows of each table, characters of a command in a table, columns of a sparkline.
_ROWS: Final = 10
_WIDE: Final = 60
_COLUMNS: Final = 60
#: Commands whose end is waited for; those past it are shown without one.
_MOST_RUNNING: Final = 10_000
_BARS: Final = "▁▂▃▄▅▆▇█"
_REFUSALS: Final = frozenset(("denied", "unauthorized", "bad_request", "busy", "repeated"))
_RED, _GREEN, _PLAIN = "\x1b[31m", "\x1b[32m", "\x1b[0m"


@dataclass(frozen=True, slots=True)
class Command:
    """The outcome of one request: its first record, and its end if it ran and has ended."""

    entry: Entry
    end: Entry | None = None

    @property
    def values(self) -> dict[str, Any]:
        """The fields of both."""
        return self.entry.values if self.end is None else {**self.end.values, **self.entry.values}

    @property
    def refused(self) -> bool:
        """Did nothing run?"""
        event, code = self.entry.event, self.entry.values.get("code")
        return event in _REFUSALS or (event == "check" and code != "allowed")

    @property
    def failed(self) -> bool:
        """Was it refused, or did it end otherwise than with return code 0?"""
        ended = self.end or self.entry
        return self.refused or (
            ended.event == "end" and (ended.values.get("code") != "ok" or ended.values.get("returncode") != 0)
        )

    @property
    def words(self) -> str:
        """Its words, as a shell would take them if they are plain, in quotes if they are not."""
        argv = self.values.get("argv")
        shown = " ".join(map(_word, argv)) if isinstance(argv, list) else ""
        return f"{shown} ..." if "argv_sha256" in self.values else shown

    @property
    def user(self) -> str:
        """Return who asked."""
        uid = self.values.get("uid")
        return user_name(uid) if isinstance(uid, int) and 0 <= uid < 2**32 else "-"

    @property
    def filters(self) -> frozenset[str]:
        """The names of its filters."""
        return frozenset(str(self.values.get("filter") or "").split("+"))

    def line(self, *, colour: bool = False) -> str:
        """One line for people."""
        when, values = self.entry.time, self.values
        stamp = when.strftime("%Y-%m-%d %H:%M:%S") if when else "-"
        notes = [
            f"{name} {_word(values[name])}"
            for name in ("filter", "run_as", "code", "returncode", "detail", "count", "id")
            if values.get(name) is not None
        ]
        if isinstance(spent := values.get("milliseconds"), int | float):
            notes.insert(0, f"{spent} ms")
        elif self.entry.event == "run":
            notes.insert(0, "no end yet")
        words = [stamp, f"{self.entry.event:<8}", f"{self.user:<10}", self.words, f"({', '.join(notes)})"]
        text = printable(" ".join(word for word in words if word))
        return f"{_RED if self.failed else _GREEN}{text}{_PLAIN}" if colour else text

    def json(self) -> str:
        """The records as JSON, one object."""
        values = {"time": self.entry.time and self.entry.time.isoformat(), "event": self.entry.event}
        ended = {} if self.end is None else {"end": self.end.time and self.end.time.isoformat()}
        return json.dumps({**values, **ended, **self.values})


def commands(entries: Iterable[Entry]) -> Iterator[Command]:
    """Each request once: a command when it ends, and at last those whose end is not there."""
    running: dict[str, Entry] = {}
    for entry in entries:
        identity = str(entry.values.get("id"))
        if entry.event == "run":
            running[identity] = entry
            if len(running) > _MOST_RUNNING:
                yield Command(running.pop(next(iter(running))))
        elif entry.event == "end" and identity in running:
            yield Command(running.pop(identity), entry)
        else:
            yield Command(entry)
    yield from map(Command, running.values())


def _word(word: object) -> str:
    text = str(word)
    plain = text.isascii() and text.isprintable() and text and not set(text) & set(" '\"\\$`;&|<>()*?[]{}~#!")
    return text if plain else json.dumps(text)


def _shape(argv: list[Any]) -> str:
    """Its program, and the keyword behind its options, if it has one, or else the next word."""
    plain = next((word for word in map(str, argv[1:]) if not word.startswith("-")), "")
    keyword = [plain] if plain.isascii() and plain.replace("-", "").isalpha() else argv[1:2]
    return " ".join(map(_word, [*argv[:1], *keyword]))


@dataclass(slots=True)
class Summary:
    """Sum up what was refused most and when, and how long the commands of each filter took."""

    _events: Counter[str] = field(default_factory=Counter)
    _refused: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    _examples: dict[tuple[str, str, str], str] = field(default_factory=dict)
    _minutes: Counter[int] = field(default_factory=Counter)
    _spent: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def add(self, command: Command) -> None:
        """Count one."""
        values, event = command.values, command.entry.event
        count = values.get("count") if event == "repeated" else 1
        count = count if isinstance(count, int) else 1
        self._events[event] += count
        if command.end is not None:
            self._events["end"] += 1
        if command.refused:
            argv = values.get("argv")
            # Names and numbers come later as a rule, and would make each request one of its own.
            shape = _shape(argv) if isinstance(argv, list) else ""
            reason = values.get("code") or values.get("detail") or event
            key = (command.user, shape or f"({event})", str(reason))
            self._refused[key] += count
            self._examples[key] = command.words
            if command.entry.time is not None:
                self._minutes[int(command.entry.time.timestamp() // 60)] += count
        ended = command.end or command.entry
        if ended.event == "end" and isinstance(spent := ended.values.get("milliseconds"), int | float):
            self._spent[str(values.get("filter") or "?")].append(spent)

    def lines(self, left_out: Counter[str], *, denied_only: bool) -> Iterator[str]:
        """The tables. `left_out`: what could not be read."""
        yield ""
        counts = ", ".join(f"{event} {count}" for event, count in sorted(self._events.items()))
        yield printable(f"records: {counts or 'none'}")
        for what, count in left_out.items():
            yield f"not read: {what}: {count}"
        if self._refused:
            yield ""
            yield from self._sparkline()
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

    def _sparkline(self) -> Iterator[str]:
        """Refusals over time; a column is a minute, or more where there are too many."""
        if not self._minutes:
            return
        first, last = min(self._minutes), max(self._minutes)
        wide = (last - first) // _COLUMNS + 1
        columns = [0] * ((last - first) // wide + 1)
        for minute, count in self._minutes.items():
            columns[(minute - first) // wide] += count
        most = max(columns)
        bars = "".join(
            _BARS[count * (len(_BARS) - 1) // max(1, most)] if count > 0 else " " for count in columns
        )
        try:
            since = datetime.fromtimestamp(first * 60, UTC).astimezone().strftime("%Y-%m-%d %H:%M")
        except (ValueError, OverflowError, OSError):
            since = "-"
        span = "minute" if wide == 1 else f"{wide} minutes"
        yield f"refused each {span} since {since}, {most} at most: {bars}"
