"""One bounded, escaped record per decision, written before the answer leaves.

Promises: a record is ASCII JSON of at most 4096 bytes, taken whole by its sink; no value of a variable, no
stdin, no word that looks like a secret. What cannot be written is told to the caller, who then does not run
anything.
"""

import hashlib
import json
import logging
import re
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from rootwrap_daemon.daemon.record.counters import Counters
from rootwrap_daemon.daemon.record.journal import Journal
from rootwrap_daemon.daemon.record.sinks import File, Sink, StandardError
from rootwrap_daemon.errors import InternalError
from rootwrap_daemon.policy.host import UntrustedPath

LOG = logging.getLogger(__name__)

#: Bytes of a record with its newline: PIPE_BUF, so that records of several threads never mix in a pipe
#: (pipe(7)).
MAX_RECORD: Final = 4096
#: Bytes of an argv up to which patterns look for secrets before it is summed: on a megabyte they would hold
#: the interpreter for a third of a second.
MAX_MASKED: Final = 4 * MAX_RECORD
#: What every name of a secret, and every URL, has in it.
_MARKS: Final = ("pass", "pwd", "secret", "token", "credential", "key", "://")
#: Denials of one user that get a record of their own within _WINDOW seconds; the rest is counted into one.
_BURST: Final = 100
_WINDOW: Final = 10.0
#: What `audit_file` says for the journal instead of a path.
JOURNAL: Final = "journal"
#: Seconds to wait for the reader of a pipe, or for the journal, before a record counts as not written.
_PATIENCE: Final = 1.0

_NAME_OF_SECRET: Final = (
    r"(?:pass(?:word|wd|phrase)?|secret|token|credentials?|(?:api|auth|access|private|secret)[-_]?key|pwd)"
)
# These run on the attacker's words while the GIL is held: every repetition is bounded, or cannot overlap what
# follows it.
_SUSPECT = re.compile(rf"{_NAME_OF_SECRET}|://", re.IGNORECASE | re.ASCII)
_ASSIGNMENT = re.compile(
    rf"({_NAME_OF_SECRET}[^=:\s]{{0,40}}\s{{0,3}}[=:]\s{{0,3}})\S.*", re.IGNORECASE | re.ASCII | re.DOTALL
)
_OPTION = re.compile(rf"-[\w-]{{0,60}}?{_NAME_OF_SECRET}", re.IGNORECASE | re.ASCII)
_URL = re.compile(r"(://[^/@:\s]{0,256}:)[^/@\s]+(@)", re.ASCII)


def mask(argv: tuple[str, ...], room: int = MAX_RECORD) -> list[str]:
    """The words with what looks like a secret taken out: `--password X`, `token=X`, `user:X@`.

    As many of them, and as much of the last, as `room` characters could hold at most.
    """
    masked: list[str] = []
    hide = False
    for word in argv:
        if room <= 0:
            break
        text = word[:room]
        room -= len(text) + 1
        if hide:
            text = "***"
        hide = False
        if _SUSPECT.search(text):
            hide = _OPTION.fullmatch(text) is not None
            text = _URL.sub(r"\1***\2", _ASSIGNMENT.sub(r"\1***", text))
        masked.append(text)
    return masked


@dataclass(slots=True)
class _Denials:
    """How many denials of one user fell into the window that began at `since` (monotonic seconds)."""

    since: float
    written: int = 0
    counted: int = 0


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
            self._sink = File(path, owners) if path else StandardError()
        # For the counts alone: no record is written while it is held.
        self._lock = threading.Lock()
        self._denials: dict[int, _Denials] = {}

    def write(self, event: str, **values: object) -> None:
        """Write one record. Raises InternalError if it cannot be written and must be."""
        self.counters.add(event, values.get("code"))
        self._write(event, values, _PATIENCE)

    def try_write(self, event: str, **values: object) -> None:
        """Write one record after the fact: that it failed is logged, and the next `write` will find out."""
        self.counters.add(event, values.get("code"))
        self._try_write(event, values, _PATIENCE)

    def denied(self, event: str, uid: int, **values: object) -> None:
        """Record a refusal; beyond a rate, those of one user are only counted."""
        self.counters.add(event, values.get("code"))
        now = time.monotonic()
        over: _Denials | None = None
        with self._lock:
            denials = self._denials.get(uid)
            if denials is None or now - denials.since > _WINDOW:
                over, denials = denials, _Denials(now)
                self._denials[uid] = denials
            counted = denials.written >= _BURST
            if counted:
                denials.counted += 1
            else:
                denials.written += 1
        self._count(uid, over)
        if not counted:
            # Not waited for: the thread that accepts connections calls this, too.
            self._try_write(event, {"uid": uid, **values}, 0.0)

    def flush(self) -> None:
        """Write the counts whose window is over."""
        now = time.monotonic()
        with self._lock:
            over = {uid: one for uid, one in self._denials.items() if now - one.since > _WINDOW}
            for uid in over:
                del self._denials[uid]
        for uid, denials in over.items():
            self._count(uid, denials)

    def reopen(self) -> None:
        """Go on in a new file of the same name, for logrotate(8). Where that fails the old one stays."""
        try:
            self._sink.reopen()
        except (OSError, UntrustedPath) as error:
            LOG.error("the audit log is not reopened, records go where they went before: %s", error)

    def close(self) -> None:
        """Write what is counted, and let go of the sink."""
        with self._lock:
            over, self._denials = self._denials, {}
        for uid, denials in over.items():
            self._count(uid, denials)
        self._sink.close()

    def _count(self, uid: int, denials: _Denials | None) -> None:
        if denials is not None and denials.counted:
            values: dict[str, object] = {"uid": uid, "count": denials.counted, "seconds": round(_WINDOW)}
            self._try_write("repeated", values, 0.0)

    def _try_write(self, event: str, values: dict[str, object], patience: float) -> None:
        try:
            self._write(event, values, patience)
        except InternalError:
            pass

    def _write(self, event: str, values: dict[str, object], patience: float) -> None:
        stamp = datetime.now(UTC).isoformat(timespec="milliseconds")
        try:
            self._sink.put(_line({"time": stamp, "event": event, **values}), patience)
        except OSError as error:
            self.counters.add("audit", "not_written")
            if not self._sink.is_log:
                LOG.error("the audit record of %s cannot be written: %s", values.get("id"), error)
            if self._required:
                raise InternalError("the audit log cannot be written") from error


def _line(record: dict[str, object]) -> bytes:
    argv = record.get("argv")
    if not isinstance(argv, tuple):
        return _cut(record)
    shown = mask(argv)
    if len(shown) == len(argv):
        data = _encode({**record, "argv": shown})
        if len(data) <= MAX_RECORD:
            return data
    size = sum(len(word.encode("utf-8", "surrogateescape")) + 1 for word in argv) - 1
    whole = "\0".join(_summed(argv, size)).encode("utf-8", "surrogateescape")
    record = {
        **record,
        "argv_words": len(argv),
        "argv_bytes": size,
        "argv_sha256": hashlib.sha256(whole).hexdigest(),
    }
    kept: list[str] = []
    room = MAX_RECORD - len(_encode({**record, "argv": kept}))
    for word in shown:
        # Quotes, comma and blank are four bytes; escaped, a character takes up to twelve (a surrogate pair).
        for count in (len(word), room - 4, (room - 4) // 2, (room - 4) // 12):
            fitting = word[: max(0, count)]
            size = len(_encode(fitting)) + 1
            if size <= room:
                break
        else:
            break
        kept.append(fitting)
        room -= size
        if fitting != word:
            break
    return _cut({**record, "argv": kept})


def _summed(argv: tuple[str, ...], size: int) -> list[str]:
    """The words that the sum is of, without secrets: from the sum itself a short one could be guessed."""
    if size <= MAX_MASKED:
        return mask(argv, size + 1)
    suspect = [any(mark in word.lower() for mark in _MARKS) for word in argv]
    return [
        "***" if here or before else word
        for word, here, before in zip(argv, suspect, [False, *suspect[:-1]], strict=True)
    ]


def _cut(record: dict[str, object]) -> bytes:
    """The record, without what is longest in it if it is too long: whatever is left is whole."""
    data = _encode(record)
    for name in ("detail", "env", "filter"):
        if len(data) <= MAX_RECORD:
            break
        record = {**record, name: "..."}
        data = _encode(record)
    return data


def _encode(record: dict[str, object] | str) -> bytes:
    # ensure_ascii escapes control characters, bidirectional marks and bytes that are no UTF-8.
    return json.dumps(record, ensure_ascii=True).encode("ascii") + b"\n"
