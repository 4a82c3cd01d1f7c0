"""One connection: HANDLERS, the one table from message to what is done: match -> bind -> run -> answer.

Promises: every request gets one answer or a closed connection; nothing runs that was not judged by one policy
and written to the audit log first.
"""

import itertools
import secrets
import socket
import struct
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from rootwrap_daemon.daemon import executor
from rootwrap_daemon.daemon.executor import Bounds, Client, Ended, Finished, Wish
from rootwrap_daemon.daemon.listener import Peer
from rootwrap_daemon.errors import (
    BadRequest,
    Busy,
    DaemonUnavailable,
    Error,
    InternalError,
    LocalProtocolError,
    RemoteProtocolError,
    Stopping,
    TooLarge,
)
from rootwrap_daemon.filters import model
from rootwrap_daemon.policy.bind import BoundExec, BoundRead
from rootwrap_daemon.policy.policy import Allowed, Policy, Refused, judge
from rootwrap_daemon.protocol.exchange import DaemonExchange
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

_TIMEVAL = struct.Struct("ll")
#: Bytes to read at once: a request with its argv; more only while a large one comes in.
_CHUNK: Final = 16 * 1024
_LARGE_CHUNK: Final = 1024 * 1024
#: A request beyond this size is counted against what the daemon may buffer.
_FREE_SIZE: Final = 64 * 1024
#: Bytes a second that a client must at least read of a large answer.
_SLOWEST_READER: Final = 1024 * 1024

_BOOT: Final = secrets.token_hex(4)
_COUNTER = itertools.count(1)


def new_request_id() -> str:
    """A name for one request, unique over restarts: what ties an answer to its audit records."""
    return f"{_BOOT}-{next(_COUNTER)}"


class _Closed(Exception):
    """The connection is over, and there is nothing to say."""


class Session:
    """A connection and the thread that serves it. `idle_since`: monotonic seconds, None while it works."""

    def __init__(self, server: "Server", connection: socket.socket, peer: Peer) -> None:
        self.server = server
        self.connection = connection
        self.peer = peer
        self.idle_since: float | None = time.monotonic()
        self.evicted = False
        self._exchange = DaemonExchange()
        self._client_max_frame = 0
        self._over = threading.Event()
        self._held = 0

    # What the server calls, from its own thread.

    def end_input(self) -> None:
        """Read no more from the client than what it has sent already: its next write fails (EPIPE)."""
        try:
            self.connection.shutdown(socket.SHUT_RD)
        except OSError:
            pass

    def wait(self, timeout: float) -> bool:
        """Wait until the session is over."""
        return self._over.wait(timeout)

    def close(self) -> None:
        """Called once `serve` has returned."""
        self.connection.close()
        self._over.set()

    # What runs in the session's own thread.

    def serve(self) -> None:
        """Answer requests until the connection ends."""
        timeout = self.server.policy.settings.request_timeout
        self._set_timeout(socket.SO_SNDTIMEO, timeout)
        self._set_timeout(socket.SO_RCVTIMEO, timeout)
        try:
            while True:
                message = self._receive()
                HANDLERS[type(message)](self, message)
        except _Closed:
            pass
        except RemoteProtocolError as error:
            self._refuse(error)
        except OSError:
            # The client is gone, or does not read.
            pass

    def _set_timeout(self, option: int, seconds: float) -> None:
        whole = int(seconds)
        self.connection.setsockopt(
            socket.SOL_SOCKET, option, _TIMEVAL.pack(whole, int((seconds - whole) * 1_000_000))
        )

    def _receive(self) -> Request:
        """The next request. Raises _Closed, RemoteProtocolError or OSError."""
        deadline: float | None = None
        try:
            while (message := self._exchange.next_message()) is None:
                if self._exchange.partial and deadline is None:
                    deadline = time.monotonic() + self.server.policy.settings.request_timeout
                    self._set_timeout(socket.SO_RCVTIMEO, self.server.policy.settings.request_timeout)
                if deadline is not None and time.monotonic() > deadline:
                    raise _Closed
                self._read()
        finally:
            self.server.budget.give(self._held)
            self._held = 0
            if deadline is not None:
                self._set_timeout(socket.SO_RCVTIMEO, self.server.policy.settings.daemon_timeout)
        return message

    def _read(self, flags: int = 0) -> None:
        """Take what the client sent.

        Raises _Closed at the end of its input, RemoteProtocolError for descriptors.
        """
        missing = self._exchange.missing
        count = _CHUNK if missing <= _CHUNK else min(missing, _LARGE_CHUNK)
        if missing > _FREE_SIZE and not self._held:
            if not self.server.budget.take(missing):
                self._answer(Failure(new_request_id(), Busy.code, "the daemon holds as many bytes as it may"))
                raise _Closed
            self._held = missing
        # recvmsg, because it tells of descriptors: without room for them the kernel closes them at once.
        data, _, result, _ = self.connection.recvmsg(count, 0, flags)
        if result & socket.MSG_CTRUNC:
            raise RemoteProtocolError("descriptors where none may be")
        if not data:
            raise _Closed
        self._exchange.feed(data)

    def _listen(self) -> Wish:
        """What the client says while its command runs."""
        try:
            self._read(socket.MSG_DONTWAIT)
            while (message := self._exchange.next_message()) is not None:
                if isinstance(message, Cancel):
                    return Wish.CANCEL
        except BlockingIOError:
            return Wish.NOTHING
        except _Closed:
            return Wish.SILENT
        except (RemoteProtocolError, OSError):
            # A second request in the middle of the first, or no request at all: nobody to go on working for.
            return Wish.GONE
        return Wish.NOTHING

    def _send(self, data: bytes) -> None:
        """Write an answer, to a client that takes it in time. Raises OSError."""
        deadline = (
            time.monotonic() + self.server.policy.settings.request_timeout + len(data) / _SLOWEST_READER
        )
        rest = memoryview(data)
        while rest:
            rest = rest[self.connection.send(rest, socket.MSG_NOSIGNAL) :]
            if rest and time.monotonic() > deadline:
                raise TimeoutError

    def _answer(self, message: Answer) -> None:
        try:
            data = self._exchange.send(message)
        except LocalProtocolError:
            # The client has said what may not be said meanwhile; there is no one answer to that.
            raise _Closed from None
        self._send(data)

    def _refuse(self, error: RemoteProtocolError) -> None:
        """The last word to a client that does not speak the protocol."""
        kind = TooLarge if isinstance(error.__cause__, TooLarge) else BadRequest
        request_id = new_request_id()
        self.server.audit.denied(
            "bad_request", self.peer.uid, id=request_id, pid=self.peer.pid, detail=error.message
        )
        try:
            self._answer(Failure(request_id, kind.code, error.message))
        except (_Closed, OSError):
            pass

    # The handlers.

    def hello(self, hello: Hello) -> None:
        """Agree on a version, or say which one is spoken here."""
        settings = self.server.policy.settings
        self._answer(Hello(VERSION, MAX_REQUEST_FRAME, int(settings.kill_grace * 1000)))
        if hello.version != VERSION:
            text = f"protocol version {hello.version} is not spoken here, {VERSION} is"
            self._answer(Failure(new_request_id(), DaemonUnavailable.code, text))
            raise _Closed
        self._client_max_frame = hello.max_frame
        self._set_timeout(socket.SO_RCVTIMEO, settings.daemon_timeout)

    def cancel(self, cancel: Cancel) -> None:
        """Nothing runs: the cancel crossed the answer."""

    def check(self, check: Check) -> None:
        """Judge, and run nothing."""
        request_id, policy = new_request_id(), self.server.policy
        request = _request(check.argv, check.env)
        judged = judge(policy, request)
        if isinstance(judged, Refused):
            self._record_refusal("check", request_id, request, judged)
            self._answer(Verdict(request_id, False, ""))
            return
        judged.bound.close()
        record = self._record(request_id, request, policy)
        self.server.audit.try_write("check", **record, code="allowed", filter=judged.filter)
        self._answer(Verdict(request_id, True, judged.filter[:1024]))

    def run(self, run: Run) -> None:
        """Judge, record, run, record, answer."""
        request_id = new_request_id()
        self.idle_since = None
        try:
            answer = self._run(run, request_id)
            if answer is None:
                raise _Closed
            self._answer(answer)
        finally:
            self.idle_since = time.monotonic()

    def _run(self, run: Run, request_id: str) -> Answer | None:
        policy = self.server.policy
        request = _request(run.argv, run.env)
        if self.server.stopping:
            return Failure(request_id, Stopping.code, "the daemon is stopping")
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
        record = self._record(request_id, request, policy)
        try:
            audit.write("run", **record, filter=allowed.filter, run_as=_run_as(allowed))
        except InternalError as error:
            return Failure(request_id, error.code, error.message)
        start = time.monotonic()
        held = 0

        def reserve(count: int) -> bool:
            nonlocal held
            taken = self.server.budget.take(count)
            held += count if taken else 0
            return taken

        try:
            outcome: Finished | Ended
            try:
                outcome = self._perform(run, allowed, policy, reserve)
            except Error as error:
                outcome = Ended(error)
            spent = round((time.monotonic() - start) * 1000, 1)
            values: dict[str, object] = {"id": request_id, "uid": self.peer.uid, "milliseconds": spent}
            if isinstance(outcome, Finished):
                audit.try_write(
                    "end",
                    **values,
                    code="ok",
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
        finally:
            self.server.budget.give(held)

    def _perform(
        self, run: Run, allowed: Allowed, policy: Policy, reserve: Callable[[int], bool]
    ) -> Finished | Ended:
        settings, options, bound = policy.settings, allowed.options, allowed.bound
        timeout = options.timeout or settings.command_timeout
        if run.timeout_ms is not None:
            timeout = min(timeout, run.timeout_ms / 1000)
        output = options.max_output or settings.max_output
        bounds = Bounds(
            timeout=timeout,
            grace=settings.kill_grace,
            # What the client could not take would be lost: it is refused like what we would not hold.
            output=max(0, min(output, self._client_max_frame - 4096)),
            reserve=reserve,
            stop=self.server.stop_reader,
        )
        if isinstance(bound, BoundExec):
            client = Client(self.connection.fileno(), self._listen)
            return executor.run(bound, run.stdin, bounds, client)
        if isinstance(bound, BoundRead):
            return executor.read(bound, bounds)
        return executor.send_signal(bound)

    def _record(self, request_id: str, request: model.Request, policy: Policy) -> dict[str, object]:
        return {
            "id": request_id,
            "uid": self.peer.uid,
            "gid": self.peer.gid,
            "pid": self.peer.pid,
            "policy": policy.generation,
            # No value, and no name that is made to fill the record.
            "env": [name[:64] if name.isidentifier() else "?" for name, _ in request.env[:16]],
            "argv": request.argv,
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


def _request(argv: tuple[bytes, ...], env: tuple[tuple[bytes, bytes], ...]) -> model.Request:
    """Bytes to the one canonical text that filters judge; spawn turns it back, byte for byte."""
    return model.Request(
        tuple(word.decode("utf-8", "surrogateescape") for word in argv),
        tuple(
            (name.decode("utf-8", "surrogateescape"), value.decode("utf-8", "surrogateescape"))
            for name, value in env
        ),
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
