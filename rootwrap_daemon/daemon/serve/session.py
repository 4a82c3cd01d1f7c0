"""One connection: HANDLERS, the one table from message to what is done about it.

Promises: every request gets one answer or a closed connection, under the policy of the moment it came.
"""

import json
import logging
import socket
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from rootwrap_daemon import errors
from rootwrap_daemon.daemon.record.records import Records, new_request_id
from rootwrap_daemon.daemon.request import Peer
from rootwrap_daemon.daemon.run.command import Caller, Command, canonical, no_memory, place, verdict
from rootwrap_daemon.daemon.run.instance import Instance
from rootwrap_daemon.daemon.run.process import Client
from rootwrap_daemon.daemon.run.stdio import Stdio
from rootwrap_daemon.daemon.serve.connection import Closed, Connection, Share
from rootwrap_daemon.daemon.serve.late import Found
from rootwrap_daemon.daemon.serve.status import report
from rootwrap_daemon.policy.policy import Policy, Refused
from rootwrap_daemon.protocol import messages

LOG = logging.getLogger(__name__)

STRANGER: Final = "this user (here %d) may not use this daemon: allowed_users or allowed_groups must name it"
#: Bytes of an answer beside the output that it carries.
_ANSWER_OVERHEAD: Final = 4096


class Session:
    """A connection and the thread that serves it.

    `idle_since`: monotonic seconds, None while it works, and until it has a place.
    """

    def __init__(self, instance: Instance, sock: socket.socket, peer: Peer, late: Found = None) -> None:
        """`late`: the option and the name that admit a user who had to be looked up."""
        self.instance = instance
        self.peer = peer
        self._late = late
        share = Share(partial(instance.buffer, peer.uid), partial(instance.buffered.give, peer.uid))
        self.connection = Connection(
            sock, share, instance.turns.of(peer.uid), instance.policy.settings.request_timeout
        )
        self.idle_since: float | None = None
        #: True once its place is another's.
        self.evicted = False
        self._client_max_frame = 0
        connection = self.connection
        self._client = Client(connection.descriptor, connection.listen, connection.flush, connection.turn)
        self._over = threading.Event()

    def wait(self, timeout: float) -> bool:
        """Wait until the session is over; for another thread."""
        return self._over.wait(timeout)

    def close(self) -> None:
        """Called once `serve` has returned."""
        self.connection.close()
        self._over.set()

    def turn_away(self, error: errors.Error) -> None:
        """Say why it is over before it began, without waiting for the client to hear it, and close."""
        self.connection.turn_away(error)
        self.close()

    def serve(self) -> None:
        """Answer requests until the connection ends."""
        starved = False
        try:
            self.connection.start()
            last = False
            while not last:
                # A connection that must make room gets what has arrived by now answered, and no more.
                last = self.evicted
                self._handle()
        except (Closed, OSError):
            # The client is gone, or does not read.
            pass
        except errors.RemoteProtocolError as error:
            self._refuse(error)
        except MemoryError:
            starved = True
        except Exception as error:  # noqa: BLE001 - its client alone is to suffer
            LOG.error("a session failed: %s", place(error))
            self._say_last(new_request_id(), errors.InternalError("the daemon failed at this request"))
        finally:
            if starved:
                self._say_last(new_request_id(), no_memory())
            self.connection.turn.give()

    def _handle(self) -> None:
        # In a call of its own, so that a large request is not kept while the next is waited for.
        message = self.connection.receive()
        if isinstance(message, _WITHOUT_WORK):
            HANDLERS[type(message)](self, message)
            return
        self.idle_since = None
        try:
            HANDLERS[type(message)](self, message)
        finally:
            self.idle_since = time.monotonic()

    def _refuse(self, error: errors.RemoteProtocolError) -> None:
        """The last word to a client that does not speak the protocol."""
        kind = errors.TooLarge if isinstance(error.__cause__, errors.TooLarge) else errors.BadRequest
        request_id = new_request_id()
        self.instance.audit.denied(
            "bad_request", self.peer.uid, id=request_id, pid=self.peer.pid, detail=error.message
        )
        self._say_last(request_id, kind(error.message))

    def _say_last(self, request_id: str, error: errors.Error) -> None:
        try:
            self.connection.answer(messages.Failure(request_id, error.code, error.message))
        except (Closed, OSError):
            # There is nobody to hear it.
            pass

    def _policy(self) -> Policy:
        """The policy of one request. Raises Closed if a reload has shut this user out since it connected."""
        policy = self.instance.policy
        if not policy.admits(self.peer) and self._late not in policy.late:
            self.instance.audit.denied("unauthorized", self.peer.uid, pid=self.peer.pid)
            error = errors.Unauthorized(STRANGER % self.peer.uid)
            self.connection.answer(messages.Failure("", error.code, error.message))
            raise Closed
        return policy

    # The handlers.

    def hello(self, hello: messages.Hello) -> None:
        """Agree on a version, or say which one is spoken here."""
        settings = self.instance.policy.settings
        self.connection.answer(
            messages.Hello(messages.VERSION, messages.MAX_REQUEST_FRAME, int(settings.kill_grace * 1000))
        )
        if hello.version != messages.VERSION:
            text = f"protocol version {hello.version} is not spoken here, {messages.VERSION} is"
            self.connection.answer(messages.Failure(new_request_id(), errors.DaemonUnavailable.code, text))
            raise Closed
        self._client_max_frame = hello.max_frame
        self.connection.idle_timeout = settings.daemon_timeout
        self.connection.await_next()

    def cancel(self, cancel: messages.Cancel) -> None:
        """Nothing runs: the cancel crossed the answer."""

    def signal(self, signal: messages.Signal) -> None:
        """Nothing runs: the signal crossed the answer."""

    def check(self, check: messages.Check) -> None:
        """Judge, and run nothing."""
        self.connection.answer(self._check(check))

    def status(self, status: messages.Status) -> None:
        """Tell whoever may know how the daemon does."""
        request_id = new_request_id()
        if self.instance.policy.may_see_status(self.peer):
            self.connection.answer(messages.Report(request_id, json.dumps(report(self.instance)).encode()))
            return
        self._policy()
        what = "the status was asked for"
        self.instance.audit.denied(
            "denied", self.peer.uid, of="status", id=request_id, pid=self.peer.pid, detail=what
        )
        text = "only root and members of status_group may ask"
        self.connection.answer(messages.Failure(request_id, errors.Denied.code, text))

    def _check(self, check: messages.Check) -> messages.Verdict:
        policy = self._policy()
        request = canonical(check, policy.names_of(self.peer), stdin=False)
        records = Records(self.instance.audit, self.peer, request, policy.generation)
        judged = verdict(policy, request)
        if isinstance(judged, Refused):
            records.refuse("check", judged)
            return messages.Verdict(records.id, False, "")
        judged.bound.close()
        records.allow(judged)
        return messages.Verdict(records.id, True, judged.filter[:1024])

    def run(self, run: messages.Run) -> None:
        """Run a command and answer with what it wrote."""
        # The output is all that is left of a large answer while a client takes its time to read it.
        self.connection.send(self._run_encoded(run, None))

    def start(self, start: messages.Start) -> None:
        """Run a command on descriptors of the client's."""
        with Stdio(self.connection.take_descriptors(), start.slots) as stdio:
            stdio.check(self.peer.uid)
            self.connection.send(self._run_encoded(start, stdio))

    def _run_encoded(self, message: messages.Run | messages.Start, stdio: Stdio | None) -> list[bytes]:
        policy = self._policy()
        answer = Command(self.instance, self._caller(), message, stdio).answer(policy)
        if self.connection.fault is not None:
            raise self.connection.fault
        if answer is None:
            raise Closed
        return self.connection.encoded(answer)

    def _caller(self) -> Caller:
        connection = self.connection
        room = self._client_max_frame - _ANSWER_OVERHEAD
        client = self._client._replace(heard=True) if connection.partial else self._client
        return Caller(self.peer, room, client, connection.output_holder(), connection.say)


#: Messages that leave a session as idle as it was.
_WITHOUT_WORK: Final = (messages.Hello, messages.Cancel, messages.Signal)
#: All that a client can make the daemon do.
HANDLERS: Final[dict[type[messages.Request], Callable[[Session, Any], None]]] = {
    messages.Hello: Session.hello,
    messages.Run: Session.run,
    messages.Start: Session.start,
    messages.Check: Session.check,
    messages.Status: Session.status,
    messages.Cancel: Session.cancel,
    messages.Signal: Session.signal,
}
