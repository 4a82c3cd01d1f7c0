"""Encode one audit record as a line of bounded length.

Promises: ASCII JSON of at most MAX_RECORD bytes, whatever it is about; no word that looks like a secret.
"""

import hashlib
import json
import re
from typing import Final

from rootwrap_daemon.daemon.record import secrets

#: Bytes of a record with its newline: PIPE_BUF, so that records of several threads never mix in a pipe
#: (pipe(7)).
MAX_RECORD: Final = 4096
#: Characters of an argv whose record is surely shorter than MAX_RECORD.
_SHORT: Final = 700
#: What JSON takes as it is, and the NUL between words.
_PLAIN = re.compile(r"[\0 !#-\[\]-~]*", re.ASCII)


def line(record: dict[str, object], hidden: frozenset[int] = frozenset()) -> bytes:
    """Return the record with its newline.

    `argv`, a tuple of words, is masked; those at the places `hidden` in any case.
    """
    argv = record.get("argv")
    if not isinstance(argv, tuple):
        return _cut(record)
    shown = secrets.mask_words(argv, MAX_RECORD, hidden)
    if len(shown) == len(argv):
        data = _encode({**record, "argv": shown})
        if len(data) <= MAX_RECORD:
            return data
    size = sum(len(word.encode("utf-8", "surrogateescape")) + 1 for word in argv) - 1
    # Without secrets: a short one could be guessed from the sum.
    whole = "\0".join(secrets.mask_whole(argv, hidden)).encode("utf-8", "surrogateescape")
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


def plain(argv: tuple[str, ...]) -> str | None:
    """Return the words as JSON has them, without the outer quotes.

    None unless they are short and printable, and none could be a secret: then only `line` will do.
    """
    text = "\0".join(argv)
    if len(text) > _SHORT or not _PLAIN.fullmatch(text) or secrets.is_suspect(argv):
        return None
    return text.replace("\0", '", "')


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
