"""Write every record of a request to run or check a command, from one value.

Promises: whatever becomes of the request, its records name the same client, words and policy, and show no
word that the filters which matched hide. A command that was recorded to run has its end recorded.
"""

import itertools
import re
import secrets
from collections.abc import Mapping
from time import monotonic
from typing import Final

from rootwrap_daemon.daemon.record.audit import Audit
from rootwrap_daemon.daemon.record.lines import plain
from rootwrap_daemon.daemon.record.secrets import HIDDEN, MAX_MASKED, mask_words
from rootwrap_daemon.daemon.request import Peer
from rootwrap_daemon.filters.values import ALL_SHOWN, Request, Shown, shown_names
from rootwrap_daemon.policy.policy import Allowed, Refused

_BOOT: Final = secrets.token_hex(4)
_COUNTER = itertools.count(1)
#: Characters of a detail.
_DETAIL: Final = 400
#: Characters of a hidden word that would give it away.
_TELLING: Final = 3
#: Where paths in a word end, beside slashes: policy/named.py.
_ENDS: Final = re.compile(r"[/\s,:;=|'\")\]}]")
_FIELDS: Final = '"%s": "%s", "%s": "%s"'


def new_request_id() -> str:
    """A name for one request, unique over restarts: what ties an answer to its audit records."""
    return f"{_BOOT}-{next(_COUNTER)}"


class Records:
    """The records of one request. `generation`: of the policy that judges it."""

    def __init__(self, audit: Audit, peer: Peer, request: Request, generation: int) -> None:
        self.id = new_request_id()
        self._audit = audit
        self._peer = peer
        self._request = request
        self._generation = generation
        self._allowed: Allowed | None = None
        self._since = 0.0

    def refuse(self, event: str, refused: Refused) -> None:
        """Record that the request is refused, and why."""
        values = self._values(argv=refused.shown.argv)
        del values["uid"]
        self._audit.denied(
            event,
            self._peer.uid,
            refused.shown.secret,
            **values,
            code=refused.error.code,
            filter=refused.filter,
            detail=self._detail(refused.detail, refused.shown),
        )

    def busy(self) -> None:
        """Record that the request would run, were there fewer commands."""
        self._audit.denied("busy", self._peer.uid, id=self.id, pid=self._peer.pid)

    def allow(self, allowed: Allowed) -> None:
        """Record that the request was asked about, and would run; beyond a rate it is only counted."""
        self._audit.counters.add("check", "allowed")
        if not self._audit.within_rate(self._peer.uid, "check"):
            return
        line = self._line(allowed, "check", ("code", "allowed", "filter", allowed.filter))
        self._audit.put(line, self.id)

    def begin(self, allowed: Allowed, run_as: str) -> None:
        """Record that the request is about to run. Raises InternalError if it must not."""
        self._since = monotonic()
        self._allowed = allowed
        self._audit.counters.add("run")
        if not allowed.options.audit_runs:
            return
        line = self._line(allowed, "run", ("filter", allowed.filter, "run_as", run_as))
        self._audit.put(line, self.id, must=True)

    def end(
        self,
        code: str,
        returncode: int | None,
        sizes: tuple[int, int] | None,
        detail: str = "",
        used: Mapping[str, float] | None = None,
    ) -> None:
        """Record how what was begun has ended.

        `sizes`: bytes of stdout and stderr; `used`: fields of what all that it started has used.
        """
        spent = round((monotonic() - self._since) * 1000, 1)
        self._audit.counters.add("end", code)
        if self._allowed is not None and not self._allowed.options.audit_runs:
            self._audit.count(self._peer.uid, self._allowed.filter, code)
            return
        number = "null" if returncode is None else returncode
        if not detail:
            more = "" if sizes is None else f', "stdout_bytes": {sizes[0]}, "stderr_bytes": {sizes[1]}'
            more += "".join(f', "{name}": {value}' for name, value in (used or {}).items())
            text = (
                f'{{"time": "{self._audit.stamp()}", "event": "end", "id": "{self.id}", '
                f'"uid": {self._peer.uid}, "milliseconds": {spent}, "code": "{code}", '
                f'"returncode": {number}{more}}}\n'
            )
            self._audit.put(text.encode("ascii"), self.id)
            return
        shown = ALL_SHOWN if self._allowed is None else self._allowed.shown
        values: dict[str, object] = {"id": self.id, "uid": self._peer.uid, "milliseconds": spent}
        values |= {"code": code, "returncode": returncode, "detail": self._detail(detail, shown)}
        values |= used or {}
        self._audit.put(self._audit.line("end", frozenset(), values), self.id)

    def _values(self, *, argv: bool) -> dict[str, object]:
        """Return what every record of a decision says of the request."""
        peer, request = self._peer, self._request
        return {
            # As whom it is to run, where the request names somebody.
            **({} if request.user is None else {"user": request.user}),
            "id": self.id,
            "uid": peer.uid,
            "gid": peer.gid,
            "pid": peer.pid,
            "policy": self._generation,
            "argv": request.argv if argv else request.argv[:1],
            "env": shown_names(request.env),
        }

    def _line(self, allowed: Allowed, event: str, more: tuple[str, str, str, str]) -> bytes:
        """The record that `_values` and two fields more make, without a JSON encoder where none is needed."""
        request, peer, shown = self._request, self._peer, allowed.shown
        simple = not (shown.secret or request.env or request.user is not None)
        words = plain(request.argv if shown.argv else request.argv[:1]) if simple else None
        if words is None or plain((allowed.filter,)) is None:
            fields = dict(zip(more[::2], more[1::2], strict=True))
            return self._audit.line(event, shown.secret, {**self._values(argv=shown.argv), **fields})
        return (
            f'{{"time": "{self._audit.stamp()}", "event": "{event}", "id": "{self.id}", "uid": {peer.uid}, '
            f'"gid": {peer.gid}, "pid": {peer.pid}, "policy": {self._generation}, "argv": ["{words}"], '
            f'"env": [], {_FIELDS % more}}}\n'
        ).encode("ascii")

    def _detail(self, detail: str, shown: Shown) -> str:
        """The detail, unless it names a word that is hidden or looks like a secret, or a part of one."""
        argv = self._request.argv
        hidden = {*shown.secret} if shown.argv else set(range(1, len(argv)))
        masked = mask_words(argv, MAX_MASKED)
        hidden |= {place for place, word in enumerate(masked) if word != argv[place]}
        words = [argv[place] for place in hidden if place < len(argv)]
        # A detail has a path of a word, and what is not ASCII in it as an escape.
        parts = {part for word in words for part in (word, *word.split("/"), *_ENDS.split(word))}
        telling = (form for part in parts if len(part) >= _TELLING for form in (part, ascii(part)[1:-1]))
        return HIDDEN if any(form in detail for form in telling) else detail[:_DETAIL]
