"""Accept, bounds, idle connections, orderly stop.

Promises: no one user can take what others need; at a bound the answer is immediate; a user's own oldest idle
connection makes room for its next. Who is not allowed costs one accept and one answer.
"""

import errno
import logging
import os
import select
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Final

from rootwrap_daemon.daemon.run import spawn
from rootwrap_daemon.daemon.run.instance import Instance
from rootwrap_daemon.daemon.serve.connection import turn_away, without_waiting
from rootwrap_daemon.daemon.serve.session import Session
from rootwrap_daemon.daemon.serve.source import Source
from rootwrap_daemon.errors import Busy, Unauthorized
from rootwrap_daemon.policy.policy import Policy

LOG = logging.getLogger(__name__)

#: Bytes of stack of a session's thread; the deepest call here needs a tenth of it.
_STACK: Final = 512 * 1024
#: Seconds that a thread may use the interpreter while another wants it. A command needs it some thirty times,
#: and each time as long as this for every busy thread of another user; nothing else was seen to depend on it.
_SWITCH: Final = 0.0005
#: Connections to accept before signals are looked at again.
_BATCH: Final = 64
#: Seconds between two looks at the audit counts, and to wait when the system is out of descriptors.
_TICK: Final = 2.0
_BACK_OFF: Final = 0.05
_OUT_OF_RESOURCES: Final = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))


class Server:
    """One listening socket and the sessions on it; `serve` is the main thread's."""

    def __init__(self, listener: Source, instance: Instance) -> None:
        self.listener = listener
        self.instance = instance
        self._sessions: set[Session] = set()
        self._lock = threading.Lock()
        self._spare: int | None = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        threading.stack_size(_STACK)
        sys.setswitchinterval(_SWITCH)

    def serve(self, wake: int, on_signal: Callable[[], bool], beat: Callable[[], float]) -> None:
        """Accept until `on_signal`, called when `wake` is readable, says to stop, or nobody can come.

        `beat` is called again within the seconds that it returns.
        """
        poll = select.poll()
        poll.register(self.listener.socket, select.POLLIN)
        poll.register(wake, select.POLLIN)
        while True:
            for descriptor, _ in poll.poll(min(_TICK, beat()) * 1000 + 1):
                if descriptor == wake:
                    if on_signal():
                        return
                elif not self._accept_some():
                    return
            self.instance.audit.flush()
            spawn.reap_orphans()

    def stop(self) -> None:
        """Read no more, let what runs or has been asked end until the drain deadline, then end it.

        What was asked before is not refused: its client could not know, and would have to ask again.
        """
        settings = self.instance.policy.settings
        self.instance.stopping = True
        with without_waiting():
            self.listener.close()
        deadline = time.monotonic() + settings.drain_timeout
        with self._lock:
            sessions = list(self._sessions)
        for session in sessions:
            session.connection.end_input()
        if not self._wait(deadline, leave=True):
            LOG.warning("commands are still running after %g s: ending them", settings.drain_timeout)
        self.instance.end_commands()
        if not self._wait(time.monotonic() + settings.kill_grace + 2):
            # What is left waits for a client that does not read.
            with self._lock:
                sessions = list(self._sessions)
            for session in sessions:
                session.connection.abort()
            self._wait(time.monotonic() + 2)

    def _wait(self, deadline: float, *, leave: bool = False) -> bool:
        """Wait until no session is left. False if the deadline came first.

        `leave`: or only such whose commands may outlive this daemon; those need not end.
        """
        while True:
            with self._lock:
                sessions = list(self._sessions)
            left = deadline - time.monotonic()
            # A session runs one command at a time.
            left_alone = sum(one.leave for one in self.instance.registry.snapshot()) if leave else 0
            done = len(sessions) <= left_alone
            if done or left <= 0:
                return done
            sessions[0].wait(min(left, 0.5))

    def _accept_some(self) -> bool:
        """False if no connection will ever come."""
        for _ in range(_BATCH):
            try:
                connection = self.listener.accept()
            except BlockingIOError:
                return True
            except EOFError:
                return False
            except OSError as error:
                if error.errno in _OUT_OF_RESOURCES:
                    self._refuse_one(error)
                    return True
                # ECONNABORTED and the like: that one client is gone.
                continue
            self._admit(connection)
        return True

    def _refuse_one(self, error: OSError) -> None:
        """Out of descriptors: give up the spare one to send one client away, or poll would spin on it."""
        LOG.error("cannot accept: %s", error)
        if self._spare is not None:
            os.close(self._spare)
            self._spare = None
            try:
                connection = self.listener.accept()
                turn_away(connection, Busy("the daemon has no descriptor left"))
            except (EOFError, OSError):
                pass
        try:
            self._spare = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            time.sleep(_BACK_OFF)

    def _admit(self, connection: socket.socket) -> None:
        try:
            peer = self.listener.peer_of(connection)
        except OSError:
            with without_waiting():
                connection.close()
            return
        policy = self.instance.policy
        if not policy.admits(peer) and not policy.may_see_status(peer):
            self.instance.audit.denied("unauthorized", peer.uid, pid=peer.pid)
            turn_away(
                connection,
                Unauthorized(
                    "this user may not use this daemon: its allowed_users or allowed_groups must name it"
                ),
            )
        else:
            self._place(Session(self.instance, connection, peer), policy)

    def _place(self, session: Session, policy: Policy) -> None:
        """Start the session, or let it follow this user's oldest idle one, or send it away."""
        settings, uid = policy.settings, session.peer.uid
        with self._lock:
            own = [one for one in self._sessions if one.peer.uid == uid]
            room = self.instance.connections.take(
                uid, 1, settings.max_connections, settings.max_connections_per_user
            )
            idle = [one for one in own if one.idle_since is not None and not one.evicted]
            victim = min(idle, key=lambda one: one.idle_since or 0.0, default=None)
            if room:
                self._sessions.add(session)
            elif victim is not None:
                # Its thread goes on with the new connection: there is never one more than the limit.
                victim.successor = session
                victim.evicted = True
        if room:
            self._start(session)
        elif victim is not None:
            victim.connection.end_input()
        else:
            session.connection.turn_away(Busy("too many connections"))

    def _start(self, session: Session) -> None:
        try:
            threading.Thread(target=self._run, args=(session,), daemon=True).start()
        except RuntimeError:
            with self._lock:
                self._sessions.discard(session)
            self.instance.connections.give(session.peer.uid, 1)
            session.connection.turn_away(Busy("the daemon has no thread left"))

    def _run(self, session: Session) -> None:
        following: Session | None = session
        while following is not None:
            session = following
            try:
                session.serve()
            except Exception:
                # A session's fault ends that session alone.
                LOG.exception("a session failed")
            with self._lock:
                # Nobody is to wait for this thread, unless somebody does already.
                session.idle_since = None
            # Counted until then: closing what its client has sent may take as long as the client likes.
            session.close()
            with self._lock:
                self._sessions.discard(session)
                following = session.successor
                if following is not None:
                    self._sessions.add(following)
                else:
                    self.instance.connections.give(session.peer.uid, 1)
            if following is not None and self.instance.stopping:
                following.connection.end_input()
