"""Write audit records to their sink, count them, and bound how many one user can cause.

Promises: a record is taken whole by its sink before the answer leaves; InternalError says that it was not,
and then nothing is run. What was written after the fact and not taken is kept, and written once the sink
takes records again.
"""

import itertools
import logging
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import Final

from rootwrap_daemon.daemon.record import lines
from rootwrap_daemon.daemon.record.journal import Journal
from rootwrap_daemon.daemon.record.sinks import File, Sink, StandardError
from rootwrap_daemon.errors import InternalError
from rootwrap_daemon.policy.host import UntrustedPath

LOG = logging.getLogger(__name__)

#: Refusals of one event and user that get a record of their own within _WINDOW seconds, with checks that are
#: allowed among the checks; the rest is counted into one.
_BURST: Final = 100
_WINDOW: Final = 10.0
#: What `audit_file` says for the journal instead of a path.
JOURNAL: Final = "journal"
#: Seconds to wait for the reader of a pipe, or for the journal, before a record counts as not written.
_PATIENCE: Final = 1.0
#: Records to keep while the sink takes none: one for each command that may run, and some refusals.
_KEPT: Final = 1024
_NONE: Final[frozenset[int]] = frozenset()


class Counters:
    """Counts of records by event and code; one without a code counts under its event's name."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str], itertools.count[int]] = {}

    def add(self, event: str, code: object = None) -> None:
        """Once more. Each step here is one of the interpreter's own, so no two threads count as one."""
        key = (event, code if isinstance(code, str) else event)
        count = self._counts.get(key)
        next(self._counts.setdefault(key, itertools.count()) if count is None else count)

    def snapshot(self) -> dict[str, dict[str, int]]:
        """{event: {code: times}}."""
        found: dict[str, dict[str, int]] = {}
        for (event, code), count in sorted(self._counts.copy().items()):
            # `count(7)`: the one way to look at it that does not move it.
            found.setdefault(event, {})[code] = int(repr(count)[len("count(") : -1])
        return found


@dataclass(slots=True)
class _Window:
    """The number of records of a kind that one user caused since `since` (monotonic seconds)."""

    since: float
    written: int = 0
    counted: int = 0
    failed: int = 0


#: The user, what is counted (`of` in the record) and, of commands, the filter.
_Key = tuple[int, str, str]


class Audit:
    """Writes records to a sink: a file, the journal, or standard error."""

    def __init__(self, path: str, *, required: bool, owners: frozenset[int]) -> None:
        """Raises ConfigurationError if the sink cannot be opened safely."""
        self._required = required
        #: What was recorded, and what was to be.
        self.counters = Counters()
        self._sink: Sink
        if path == JOURNAL:
            self._sink = Journal(owners)
        else:
            self._sink = File(path, owners, regular=required) if path else StandardError()
        # For the counts alone: no record is written while it is held.
        self._lock = threading.Lock()
        self._windows: dict[_Key, _Window] = {}
        self._kept: deque[bytes] = deque(maxlen=_KEPT)
        #: A second since the epoch, and its name.
        self._second = 0, ""

    def denied(
        self, event: str, uid: int, hidden: frozenset[int] = _NONE, *, of: object = None, **values: object
    ) -> None:
        """Record a refusal; beyond a rate, those of one user and event (`of`: or kind) are only counted."""
        self.counters.add(event, values.get("code"))
        # Apart, so that many of what costs nothing (a check) do not hide the others.
        if self.within_rate(uid, str(of or event)):
            # Not waited for: the thread that accepts connections calls this, too.
            self.put(self.line(event, hidden, {"uid": uid, **values}), values.get("id"), patience=0.0)

    def within_rate(self, uid: int, of: str) -> bool:
        """True if one more of these may have a record of its own; else it is counted."""
        now, key = time.monotonic(), (uid, of, "")
        with self._lock:
            window, over = self._window(key, now)
            within = window.written < _BURST
            if within:
                window.written += 1
            else:
                window.counted += 1
        self._repeated(key, over)
        return within

    def count(self, uid: int, filter_name: str, code: str) -> None:
        """Count a command whose filter wants no records of those that are allowed."""
        key = (uid, "commands", filter_name)
        with self._lock:
            window, over = self._window(key, time.monotonic())
            window.counted += 1
            window.failed += code != "ok"
        self._repeated(key, over)

    def flush(self, *, every: bool = False) -> None:
        """Write the counts whose window is over, or all (`every`), and what was kept."""
        now = time.monotonic()
        with self._lock:
            over = {key: one for key, one in self._windows.items() if every or now - one.since > _WINDOW}
            for key in over:
                del self._windows[key]
        for key, window in over.items():
            self._repeated(key, window)
        self._write_kept()

    def reopen(self) -> None:
        """Go on in a new file of the same name, for logrotate(8). Where that fails the old one stays."""
        try:
            self._sink.reopen()
        except (OSError, UntrustedPath) as error:
            LOG.error("the audit log is not reopened, records go where they went before: %s", error)

    def close(self) -> None:
        """Write what is counted and what was kept, and let go of the sink."""
        self.flush(every=True)
        self._sink.close()

    def stamp(self) -> str:
        """Return the time in ISO 8601, to the millisecond, in UTC."""
        now = time.time()
        second, text = self._second
        if second != int(now):
            second = int(now)
            text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
            # One step: whoever reads it meanwhile gets a pair that belongs together.
            self._second = second, text
        return f"{text}.{int((now - second) * 1000):03d}+00:00"

    def put(self, line: bytes, request: object, *, must: bool = False, patience: float | None = None) -> None:
        """Give a line to the sink within `patience` seconds. Raises InternalError if it `must` take it."""
        if self._kept:
            self._write_kept()
        try:
            self._sink.put(line, _PATIENCE if patience is None else patience)
        except OSError as error:
            self.counters.add("audit", "not_written")
            if not self._sink.is_log:
                LOG.error("the audit record of %s cannot be written: %s", request, error)
            if not must:
                self._kept.append(line)
            elif self._required:
                raise InternalError("the audit log cannot be written") from error

    def line(self, event: str, hidden: frozenset[int], values: dict[str, object]) -> bytes:
        """Return a record of this moment, for `put`."""
        return lines.line({"time": self.stamp(), "event": event, **values}, hidden)

    def _window(self, key: _Key, now: float) -> tuple[_Window, _Window | None]:
        """The window to count in, and the one before if it is over."""
        window = self._windows.get(key)
        if window is not None and now - window.since <= _WINDOW:
            return window, None
        self._windows[key] = new = _Window(now)
        return new, window

    def _repeated(self, key: _Key, window: _Window | None) -> None:
        if window is None or not window.counted:
            return
        uid, of, name = key
        values: dict[str, object] = {"uid": uid, "of": of}
        if of == "commands":
            values |= {"filter": name, "failed": window.failed}
        values |= {"count": window.counted, "seconds": round(_WINDOW)}
        self.put(self.line("repeated", _NONE, values), None, patience=0.0)

    def _write_kept(self) -> None:
        """Write what the sink did not take when it came, until it takes no more."""
        while self._kept:
            try:
                line = self._kept.popleft()
            except IndexError:
                return
            try:
                self._sink.put(line, 0.0)
            except OSError:
                self._kept.appendleft(line)
                return
