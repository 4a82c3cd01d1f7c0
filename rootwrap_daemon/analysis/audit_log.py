"""The daemon's audit records, read back: what was asked, byte for byte, and what came of it.

Promises: a word is what the client sent; a record that does not have all words as they were is not used, and
counted. The records are written by rootwrap_daemon/daemon/record/audit.py.
"""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from rootwrap_daemon.errors import Unreadable

#: What stands in a record for a secret.
_MASK: Final = "***"
#: What a record has in place of something that was too long for it.
_CUT: Final = "..."


@dataclass(frozen=True, slots=True)
class Record:
    """One decision. `code`: `allowed`, or that of the error. `env`: the names of the variables asked for.

    `filter`: as the log has it, the two names of a chain joined by a +; None if none matched, or it was cut.
    `run_as`: known only of what has run.
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
    """The records of files, and how many could not be used, by the reason."""

    records: list[Record] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)


def read(paths: Iterable[str]) -> Log:
    """Raises Unreadable for a file that cannot be opened; a bad line is only counted."""
    log = Log()
    for path in paths:
        try:
            with open(path, "rb") as file:
                for line in file:
                    _add(log, line)
        except OSError as error:
            raise Unreadable(f"{path}: {error.strerror}") from error
    return log


def _add(log: Log, line: bytes) -> None:
    try:
        # Escapes of single surrogates come back as what surrogateescape made of a byte.
        values = json.loads(line)
        event = values["event"]
        if event == "repeated":
            log.left_out["denials that were only counted"] += int(values["count"])
        if event not in ("run", "check", "denied"):
            return
        words, found = values["argv"], values.get("filter")
        env = tuple(map(str, values.get("env") or ()))
        code = "allowed" if event == "run" else str(values["code"])
    except (ValueError, KeyError, TypeError, RecursionError):
        log.left_out["lines that are no record"] += bool(line.strip())
        return
    if not isinstance(words, list) or not words or not all(isinstance(word, str) for word in words):
        log.left_out["lines that are no record"] += 1
    elif "argv_words" in values:
        log.left_out["records whose words were cut"] += 1
    elif any(_MASK in word for word in words):
        log.left_out["records with a secret taken out"] += 1
    else:
        name = found if isinstance(found, str) and found != _CUT else None
        log.records.append(Record(tuple(words), code, name, values.get("run_as"), env))
