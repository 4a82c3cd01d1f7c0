"""Audit records as fields of the systemd journal, in its native protocol.

Promises: a record is one datagram, taken within the patience given or not at all, and no thread waits for
another.
"""

import json
import os
import re
import socket
import struct
from typing import Final

from rootwrap_daemon.daemon.record.sinks import patiently
from rootwrap_daemon.errors import ConfigurationError
from rootwrap_daemon.policy import host

#: systemd-journald.service(8). A record of 4 KiB stays far below what a datagram may hold (net.core.wmem_max,
#: 208 KiB at the least), so that the protocol's way for large entries, a sealed memfd, is never needed.
SOCKET: Final = "/run/systemd/journal/socket"
#: Characters of the command in MESSAGE; it is whole in a field of its own.
_SHOWN: Final = 300
_PLAIN = re.compile(r"[\w@%+=:,./-]+", re.ASCII)
#: Priorities of syslog(3).
_NOTICE: Final = "5"
_INFO: Final = "6"
_LENGTH = struct.Struct("<Q")


class Journal:
    """The journal's socket, connected: a full one says so at once, and poll(2) tells when it is not."""

    is_log = False

    def __init__(self, owners: frozenset[int], path: str = SOCKET) -> None:
        """Raises ConfigurationError if there is no journal."""
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            host.resolve_owned(os.path.dirname(path), owners)
            self._socket.connect(path)
        except (OSError, host.UntrustedPath) as error:
            self._socket.close()
            raise ConfigurationError(f"audit_file = journal: {path}: {error}: name a file") from error

    def put(self, line: bytes, patience: float) -> None:
        data = encode(json.loads(line))
        try:
            self._send(data, patience)
        except TimeoutError:
            raise
        except OSError:
            # Its socket was made anew. connect(2) of a datagram socket changes the peer in one step.
            self.reopen()
            self._send(data, patience)

    def _send(self, data: bytes, patience: float) -> None:
        patiently(self._socket.fileno(), patience, lambda: self._socket.send(data, socket.MSG_NOSIGNAL))

    def reopen(self) -> None:
        self._socket.connect(self._path)

    def close(self) -> None:
        self._socket.close()


def encode(record: dict[str, object]) -> bytes:
    """A record in the journal's native protocol: ROOTWRAP_EVENT, ROOTWRAP_UID ..., and a MESSAGE for people.

    Text is a field's value as it is, anything else is JSON. Source: systemd.io/JOURNAL_NATIVE_PROTOCOL.
    """
    event = str(record.get("event"))
    fields = {
        "MESSAGE": _message(event, record),
        "PRIORITY": _INFO if event in ("run", "end") or record.get("code") == "allowed" else _NOTICE,
        "SYSLOG_IDENTIFIER": "rootwrap-daemon",
    }
    for name, value in record.items():
        # The journal has a time of its own, which nobody but root can choose.
        if name != "time" and value is not None:
            fields[f"ROOTWRAP_{name.upper()}"] = value if isinstance(value, str) else json.dumps(value)
    return b"".join(field(name.encode("ascii"), text) for name, text in fields.items())


def field(name: bytes, text: str) -> bytes:
    """One field of an entry."""
    # A byte that is no UTF-8 is a surrogate by now: journalctl would show the whole value as numbers.
    value = text.encode("utf-8", "backslashreplace")
    if b"\n" in value:
        return name + b"\n" + _LENGTH.pack(len(value)) + value + b"\n"
    return name + b"=" + value + b"\n"


def _message(event: str, record: dict[str, object]) -> str:
    """One printable line: `denied: ip link (user 1000, filter x, code denied, id ...)`."""
    argv = record.get("argv")
    words = " ".join(map(_word, argv)) if isinstance(argv, list) else ""
    shown = words if len(words) <= _SHOWN else f"{words[:_SHOWN]}..."
    notes = ", ".join(
        f"{'user' if name == 'uid' else name} {_word(record[name])}"
        for name in "uid filter code returncode milliseconds count id".split()
        if record.get(name) is not None
    )
    return f"{event}: {shown} ({notes})" if shown else f"{event} ({notes})"


def _word(word: object) -> str:
    text = str(word)
    return text if _PLAIN.fullmatch(text) else json.dumps(text)
