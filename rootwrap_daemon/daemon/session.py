"""One connection: HANDLERS, the one table from message to what is done: match -> bind -> run -> answer.

Promises: every request gets one answer or a closed connection; nothing runs that was not judged by one policy
and written to the audit log first.
"""

import itertools
import secrets
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from rootwrap_daemon.daemon import executor, sanitize
from rootwrap_daemon.daemon.connection import Closed, Connection, Share
from rootwrap_daemon.daemon.executor import Bounds, Client, Ended, Finished
from rootwrap_daemon.daemon.listener import Peer
from rootwrap_daemon.errors import (
    BadRequest,
    Busy,
    DaemonUnavailable,
    Error,
    InternalError,
    RemoteProtocolError,
    Stopping,
    TooLarge,
    Unauthorized,
)
from rootwrap_daemon.filters import model
from rootwrap_daemon.policy.bind import BoundExec, BoundRead
from rootwrap_daemon.policy.policy import Allowed, Policy, Refused, judge
from rootwrap_daemon.protocol.messages import (
    MAX_REQUEST_FRAME,
    VERSION,
    Answer,
    Cancel,
    Check,
    Failure,
    Hello,
    Request,
    Result,
    Run,
    Verdict,
)

if TYPE_CHECKING:
    from rootwrap_daemon.daemon.server import Server

_BOOT: Final = secrets.token_hex(4)
_COUNTER = itertools.count(1)


def new_request_id() -> str:
    """A name for one request, unique over restarts: what ties an answer to its audit records."""
    return f"{_BOOT}-{next(_COUNTER)}"


class Session:
    """A connection and the thread that serves it. `idle_since`: monotonic seconds, None while it works."""

    def __init__(self, server: "Server", sock: socket.socket, peer: Peer) -> None:
        self.server = server
        self.peer = peer
        share = Share(partial(server.budget.take, peer.uid), partial(server.budget.give, peer.uid))
        self.connection = Connection(sock, share, server.policy.settings.request_timeout)
        self.idle_since: float | None = time.monotonic()
        #: True once it was chosen to make room, for its `successor`.
        self.evicted = False
        self.successor: Session | None = None
        self._client_max_frame = 0
        self._over = threading.Event()

    def wait(self, timeout: float) -> bool:
        """Wait until the session is over; for another thread."""
        return self._over.wait(timeout)

    def close(self) -> None:
        """Called once `serve` has returned."""
        self.connection.close()
        self._over.set()

    def serve(self) -> None:
        """Answer requests until the connection ends."""
        try:
            self.connection.start()
            last = False
            while not last:
                # A connection that must make room gets what has arrived by now answered, and no more.
                last = self.evicted
                self._handle()
        except Closed:
            pass
        except RemoteProtocolError as error:
            self._refuse(error)
        except OSError:
            # The client is gone, or does not read.
            pass

    def _handle(self) -> None:
        # In a call of its own, so that a large request is not kept while the next is waited for.
        message = self.connection.receive()
        HANDLERS[type(message)](self, message)

    def _refuse(self, error: RemoteProtocolError) -> None:
        """The last word to a client that does not speak the protocol."""
        kind = TooLarge if isinstance(error.__cause__, TooLarge) else BadRequest
        request_id = new_request_id()
        self.server.audit.denied(
            "bad_request", self.peer.uid, id=request_id, pid=self.peer.pid, detail=error.message
        )
        try:
            self.connection.answer(Failure(request_id, kind.code, error.message))
        except (Closed, OSError):
            pass

    def _policy(self) -> Policy:
        """The policy of one request. Raises Closed if a reload has shut this user out since it connected."""
        policy = self.server.policy
        if not policy.admits(self.peer):
            self.server.audit.denied("unauthorized", self.peer.uid, pid=self.peer.pid)
            error = Unauthorized("this user may not use this daemon any more")
            self.connection.answer(Failure("", error.code, error.message))
            raise Closed
        return policy

    # The handlers.

    def hello(self, hello: Hello) -> None:
        """Agree on a version, or say which one is spoken here."""
        settings = self.server.policy.settings
        self.connection.answer(Hello(VERSION, MAX_REQUEST_FRAME, int(settings.kill_grace * 1000)))
        if hello.version != VERSION:
            text = f"protocol version {hello.version} is not spoken here, {VERSION} is"
            self.connection.answer(Failure(new_request_id(), DaemonUnavailable.code, text))
            raise Closed
        self._client_max_frame = hello.max_frame
        self.connection.idle_timeout = settings.daemon_timeout
        self.connection.await_next()

    def cancel(self, cancel: Cancel) -> None:
        """Nothing runs: the cancel crossed the answer."""

    def check(self, check: Check) -> None:
        """Judge, and run nothing."""
        self.idle_since = None
        try:
            with self.server.turns.of(self.peer.uid):
                verdict = self._check(check)
            self.connection.answer(verdict)
        finally:
            self.idle_since = time.monotonic()

    def _check(self, check: Check) -> Verdict:
        request_id, policy = new_request_id(), self._policy()
        request = _request(check.argv, check.env, stdin=False)
        judged = judge(policy, request, make=False)
        if isinstance(judged, Refused):
            self._record_refusal("check", request_id, request, judged)
            return Verdict(request_id, False, "")
        judged.bound.close()
        record = self._record(request_id, request, policy, argv=judged.options.audit_argv)
        self.server.audit.try_write("check", **record, code="allowed", filter=judged.filter)
        return Verdict(request_id, True, judged.filter[:1024])

    def run(self, run: Run) -> None:
        """Judge, record, run, record, answer."""
        request_id = new_request_id()
        self.idle_since = None
        try:
            # One copy is left of a large answer while a client takes its time to read it.
            self.connection.send(self._run_encoded(run, request_id))
        finally:
            self.idle_since = time.monotonic()

    def _run_encoded(self, run: Run, request_id: str) -> bytes:
        answer = self._run(run, request_id)
        if answer is None:
            raise Closed
        return self.connection.encoded(answer)

    def _run(self, run: Run, request_id: str) -> Answer | None:
        policy = self._policy()
        request = _request(run.argv, run.env, stdin=run.stdin is not None)
        if self.server.stopping:
            return Failure(request_id, Stopping.code, "the daemon is stopping")
        with self.server.turns.of(self.peer.uid):
            judged = judge(policy, request)
            if isinstance(judged, Refused):
                self._record_refusal("denied", request_id, request, judged)
                return Failure(request_id, judged.error.code, judged.message)
        settings = policy.settings
        with judged.bound:
            if not self.server.commands.take(
                self.peer.uid, settings.max_commands, settings.max_commands_per_user
            ):
                self.server.audit.denied("busy", self.peer.uid, id=request_id, pid=self.peer.pid)
                return Failure(request_id, Busy.code, "too many commands at once")
            try:
                return self._execute(run, request, request_id, judged, policy)
            finally:
                self.server.commands.give(self.peer.uid)

    def _execute(
        self, run: Run, request: model.Request, request_id: str, allowed: Allowed, policy: Policy
    ) -> Answer | None:
        audit = self.server.audit
        record = self._record(request_id, request, policy, argv=allowed.options.audit_argv)
        try:
            audit.write("run", **record, filter=allowed.filter, run_as=_run_as(allowed))
        except InternalError as error:
            return Failure(request_id, error.code, error.message)
        start = time.monotonic()
        outcome: Finished | Ended
        try:
            outcome = self._perform(run, allowed, policy)
        except Error as error:
            outcome = Ended(error)
        spent = round((time.monotonic() - start) * 1000, 1)
        values: dict[str, object] = {"id": request_id, "uid": self.peer.uid, "milliseconds": spent}
        if isinstance(outcome, Finished):
            audit.try_write(
                "end",
                **values,
                code=outcome.cause or "ok",
                returncode=outcome.returncode,
                stdout_bytes=len(outcome.stdout),
                stderr_bytes=len(outcome.stderr),
            )
            return Result(request_id, outcome.returncode, outcome.stdout, outcome.stderr)
        code = outcome.error.code if outcome.error else "client_gone"
        cause = outcome.error.__cause__ if outcome.error else None
        detail = {"detail": str(cause)} if cause else {}
        audit.try_write("end", **values, code=code, returncode=outcome.returncode, **detail)
        if outcome.error is None:
            return None
        return Failure(request_id, outcome.error.code, outcome.error.message)

    def _perform(self, run: Run, allowed: Allowed, policy: Policy) -> Finished | Ended:
        settings, options, bound = policy.settings, allowed.options, allowed.bound
        timeout = options.timeout or settings.command_timeout
        if run.timeout_ms is not None:
            timeout = min(timeout, run.timeout_ms / 1000)
        output = options.max_output or settings.max_output
        if options.sanitize:
            output = min(output, sanitize.MOST)
        bounds = Bounds(
            timeout=timeout,
            grace=settings.kill_grace,
            # What the client could not take would be lost: it is refused like what we would not hold.
            output=max(0, min(output, self._client_max_frame - 4096)),
            reserve=self.connection.output_holder(),
            stop=self.server.stop_reader,
        )
        if isinstance(bound, BoundExec):
            client = Client(self.connection.descriptor, self.connection.listen, heard=self.connection.partial)
            outcome = executor.run(bound, run.stdin, bounds, client)
            if options.sanitize and isinstance(outcome, Finished):
                return replace(
                    outcome,
                    stdout=sanitize.without_secrets(outcome.stdout),
                    stderr=sanitize.without_secrets(outcome.stderr),
                )
            return outcome
        if isinstance(bound, BoundRead):
            return executor.read(bound, bounds)
        return executor.send_signal(bound)

    def _record(
        self, request_id: str, request: model.Request, policy: Policy, *, argv: bool = True
    ) -> dict[str, object]:
        return {
            "id": request_id,
            "uid": self.peer.uid,
            "gid": self.peer.gid,
            "pid": self.peer.pid,
            "policy": policy.generation,
            "argv": request.argv if argv else request.argv[:1],
            # No value, and no name that is made to fill the record.
            "env": [
                name[:64] if name.isascii() and name.isidentifier() else "?" for name, _ in request.env[:16]
            ],
        }

    def _record_refusal(self, event: str, request_id: str, request: model.Request, refused: Refused) -> None:
        record = self._record(request_id, request, self.server.policy)
        del record["uid"]
        self.server.audit.denied(
            event,
            self.peer.uid,
            **record,
            code=refused.error.code,
            filter=refused.filter,
            detail=refused.detail[:400],
        )


def _request(argv: tuple[bytes, ...], env: tuple[tuple[bytes, bytes], ...], *, stdin: bool) -> model.Request:
    """Bytes to the one canonical text that filters judge; spawn turns it back, byte for byte."""
    return model.Request(
        tuple(word.decode("utf-8", "surrogateescape") for word in argv),
        tuple(
            (name.decode("utf-8", "surrogateescape"), value.decode("utf-8", "surrogateescape"))
            for name, value in env
        ),
        stdin,
    )


def _run_as(allowed: Allowed) -> str:
    return allowed.bound.identity.name if isinstance(allowed.bound, BoundExec) else "root"


#: All that a client can make the daemon do.
HANDLERS: Final[dict[type[Request], Callable[[Session, Any], None]]] = {
    Hello: Session.hello,
    Run: Session.run,
    Check: Session.check,
    Cancel: Session.cancel,
}
