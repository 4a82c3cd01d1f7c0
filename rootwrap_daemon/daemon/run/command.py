"""One request to run a command, from judgement to answer: judge -> record -> run -> record.

Promises: nothing runs that was not judged by one policy and written to the audit log first; whatever happens
then is in a second record under the same request id.
"""

import itertools
import secrets
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Final

from rootwrap_daemon.daemon.record.audit import Audit
from rootwrap_daemon.daemon.request import Peer
from rootwrap_daemon.daemon.run import process, sanitize
from rootwrap_daemon.daemon.run.instance import Instance
from rootwrap_daemon.daemon.run.process import Bounds, Client, Ended, Finished
from rootwrap_daemon.daemon.run.stdio import Stdio
from rootwrap_daemon.errors import Busy, Denied, Error, InternalError, Stopping
from rootwrap_daemon.filters import values
from rootwrap_daemon.policy.bind import BoundExec, BoundRead
from rootwrap_daemon.policy.policy import Allowed, Policy, Refused, judge
from rootwrap_daemon.protocol.messages import (
    STDERR,
    STDIN,
    STDOUT,
    Answer,
    Failure,
    Result,
    Run,
    Start,
    Started,
)

_BOOT: Final = secrets.token_hex(4)
_COUNTER = itertools.count(1)


def new_request_id() -> str:
    """A name for one request, unique over restarts: what ties an answer to its audit records."""
    return f"{_BOOT}-{next(_COUNTER)}"


def no_memory() -> InternalError:
    """What is said of a request, alone, that the system gives no memory for.

    Without its cause, whose traceback would hold what there was no memory for.
    """
    return InternalError("the daemon has no memory for this")


def canonical(
    argv: tuple[bytes, ...], env: tuple[tuple[bytes, bytes], ...], *, stdin: bool
) -> values.Request:
    """Bytes to the one canonical text that filters judge; spawn turns it back, byte for byte."""
    return values.Request(
        tuple(word.decode("utf-8", "surrogateescape") for word in argv),
        tuple(
            (name.decode("utf-8", "surrogateescape"), value.decode("utf-8", "surrogateescape"))
            for name, value in env
        ),
        stdin,
    )


def description(
    request_id: str, peer: Peer, request: values.Request, policy: Policy, *, argv: bool = True
) -> dict[str, object]:
    """What every record of a request says of it."""
    return {
        "id": request_id,
        "uid": peer.uid,
        "gid": peer.gid,
        "pid": peer.pid,
        "policy": policy.generation,
        "argv": request.argv if argv else request.argv[:1],
        # No value, and no name that is made to fill the record.
        "env": [name[:64] if name.isascii() and name.isidentifier() else "?" for name, _ in request.env[:16]],
    }


@dataclass(frozen=True, slots=True)
class Caller:
    """The client of a request, as far as running its command needs one.

    `room`: bytes that it can take in one answer. `reserve` takes bytes of output out of what the daemon may
    buffer. `say` sends it a message; False if it is gone.
    """

    peer: Peer
    room: int
    client: Client
    reserve: Callable[[int], bool]
    say: Callable[[Answer], bool]


class Command:
    """A Run, or a Start with the descriptors that came with it, on its way through the daemon."""

    def __init__(self, instance: Instance, caller: Caller, message: Run | Start, stdio: Stdio | None) -> None:
        self.request_id = new_request_id()
        self._instance = instance
        self._caller = caller
        self._peer = caller.peer
        self._message = message
        self._stdio = stdio
        self._request = canonical(message.argv, message.env, stdin=self._has_input)

    @property
    def _has_input(self) -> bool:
        message = self._message
        return message.stdin is not None if isinstance(message, Run) else bool(message.slots & STDIN)

    def answer(self, policy: Policy) -> Answer | None:
        """Judge and run it; what is to be said at its end, None if there is nobody to hear it."""
        if self._instance.drained:
            return self._failed(Stopping("the daemon is stopping"))
        with self._instance.turns.of(self._peer.uid):
            judged = judge(policy, self._request)
            if isinstance(judged, Refused):
                self._record_refusal(policy, judged)
                return Failure(self.request_id, judged.error.code, judged.message)
        settings, uid = policy.settings, self._peer.uid
        with ExitStack() as held:
            held.enter_context(judged.bound)
            if not self._instance.commands.take(
                uid, 1, settings.max_commands, settings.max_commands_per_user
            ):
                self._instance.audit.denied("busy", uid, id=self.request_id, pid=self._peer.pid)
                return self._failed(Busy("too many commands at once"))
            try:
                return self._run(judged, policy, held)
            finally:
                self._instance.commands.give(uid, 1)

    def _failed(self, error: Error) -> Failure:
        return Failure(self.request_id, error.code, error.message)

    def _run(self, allowed: Allowed, policy: Policy, held: ExitStack) -> Answer | None:
        audit, options, bound = self._instance.audit, allowed.options, allowed.bound
        if options.sanitize and isinstance(self._message, Start) and self._message.slots & (STDOUT | STDERR):
            why = "the output of this command is to be captured, and sanitized"
            refused = Refused(Denied, why, why, allowed.filter)
            self._record_refusal(policy, refused)
            return self._failed(Denied(why))
        record = description(self.request_id, self._peer, self._request, policy, argv=options.audit_argv)
        run_as = bound.identity.name if isinstance(bound, BoundExec) else "root"
        try:
            audit.write("run", **record, filter=allowed.filter, run_as=run_as)
        except InternalError as error:
            return self._failed(error)
        start = time.monotonic()
        outcome: Finished | Ended
        try:
            # What was bound is the executor's now, which lets go of it as soon as the command has it.
            held.pop_all()
            outcome = self._perform(allowed, policy)
        except Error as error:
            outcome = Ended(error)
        except MemoryError:
            outcome = Ended(no_memory())
        spent = round((time.monotonic() - start) * 1000, 1)
        values: dict[str, object] = {"id": self.request_id, "uid": self._peer.uid, "milliseconds": spent}
        if isinstance(outcome, Finished):
            audit.try_write(
                "end",
                **values,
                code=outcome.cause or "ok",
                returncode=outcome.returncode,
                stdout_bytes=len(outcome.stdout),
                stderr_bytes=len(outcome.stderr),
            )
            return Result(self.request_id, outcome.returncode, outcome.stdout, outcome.stderr)
        code = outcome.error.code if outcome.error else "client_gone"
        cause = outcome.error.__cause__ if outcome.error else None
        detail = {"detail": str(cause)} if cause else {}
        audit.try_write("end", **values, code=code, returncode=outcome.returncode, **detail)
        return None if outcome.error is None else self._failed(outcome.error)

    def _perform(self, allowed: Allowed, policy: Policy) -> Finished | Ended:
        bound, bounds = allowed.bound, self._bounds(allowed.options, policy)
        if isinstance(bound, BoundRead):
            return process.read(bound, bounds)
        if not isinstance(bound, BoundExec):
            return process.send_signal(bound)
        client, message = self._caller.client, self._message
        with self._instance.registry.ticket(
            allowed.filter, self._peer.uid, leave=allowed.options.on_stop_leave
        ) as ticket:
            if self._stdio is not None:
                return process.run_on(
                    self._stdio,
                    bound,
                    bounds,
                    client,
                    ticket,
                    lambda pid: self._say_started(pid, bounds.signals),
                )
            stdin = message.stdin if isinstance(message, Run) else None
            outcome = process.run(bound, stdin, bounds, client, ticket)
        if allowed.options.sanitize and isinstance(outcome, Finished):
            return replace(
                outcome,
                stdout=sanitize.without_secrets(outcome.stdout),
                stderr=sanitize.without_secrets(outcome.stderr),
            )
        return outcome

    def _bounds(self, options: values.Options, policy: Policy) -> Bounds:
        settings = policy.settings
        timeout = settings.command_timeout if options.timeout is None else options.timeout
        if self._message.timeout_ms is not None:
            timeout = min(timeout, self._message.timeout_ms / 1000)
        output = options.max_output or settings.max_output
        if options.sanitize:
            output = min(output, sanitize.MOST)
        return Bounds(
            timeout=timeout,
            grace=settings.kill_grace,
            # What the client could not take would be lost: it is refused like what we would not hold.
            output=max(0, min(output, self._caller.room)),
            reserve=self._caller.reserve,
            stop=self._instance.stop_reader,
            signals=settings.signals if options.signals is None else options.signals,
        )

    def _say_started(self, pid: int, signals: frozenset[int]) -> bool:
        allowed = sum(1 << number - 1 for number in signals)
        return self._caller.say(Started(self.request_id, pid, allowed))

    def _record_refusal(self, policy: Policy, refused: Refused) -> None:
        audit = self._instance.audit
        record_refusal(audit, "denied", self.request_id, self._peer, self._request, policy, refused)


def record_refusal(
    audit: Audit,
    event: str,
    request_id: str,
    peer: Peer,
    request: values.Request,
    policy: Policy,
    refused: Refused,
) -> None:
    """Record that a request was refused by this policy, and why."""
    record = description(request_id, peer, request, policy)
    del record["uid"]
    audit.denied(
        event,
        peer.uid,
        **record,
        code=refused.error.code,
        filter=refused.filter,
        detail=refused.detail[:400],
    )
