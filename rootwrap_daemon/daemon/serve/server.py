"""Accept connections within bounds, and stop in order.

Promises: no one user can take what others need; at a bound the answer is immediate; a user's own oldest idle
connection makes room for its next. Who is not allowed costs one accept and one answer. The thread that
accepts only sorts connections by user; all else about them is done by threads of that user, in its turn.
"""

import _thread
import ctypes
import errno
import logging
import os
import select
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from rootwrap_daemon.daemon.request import Peer
from rootwrap_daemon.daemon.run import spawn
from rootwrap_daemon.daemon.run.command import no_memory, place
from rootwrap_daemon.daemon.run.instance import Instance
from rootwrap_daemon.daemon.serve.connection import turn_away, without_waiting
from rootwrap_daemon.daemon.serve.late import Found, Latecomers
from rootwrap_daemon.daemon.serve.session import STRANGER, Session
from rootwrap_daemon.daemon.serve.source import Source
from rootwrap_daemon.errors import Busy, Error, Unauthorized
from rootwrap_daemon.settings import Settings

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
#: Seconds between two times that free memory is given back: malloc_trim(3), which musl does not have.
_TRIM: Final = 10.0
_trim: Final = getattr(ctypes.CDLL(None), "malloc_trim", int)
_MANY: Final = Busy("too many connections")
_OUT_OF_RESOURCES: Final = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))


class _User:
    """One user's connections. `changed`: for what follows, but never taken by the thread that accepts."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        #: How many have given their place to others, and are not closed yet.
        self.leaving = 0
        #: All of them, until they are closed.
        self.sessions: set[Session] = set()
        #: Those that no thread has looked at yet.
        self.arrived: deque[Session] = deque()
        #: True while a thread is about to look at them.
        self.attended = False
        #: When such a thread was started that has not begun, in monotonic seconds.
        self.started: float | None = None


class Server:
    """One listening socket and the sessions on it; `serve` is the main thread's."""

    def __init__(self, listener: Source, instance: Instance) -> None:
        self.listener = listener
        self.instance = instance
        self._users: dict[int, _User] = {}
        self._late = Latecomers()
        self._spare: int | None = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        self._trimmed = 0.0
        threading.stack_size(_STACK)
        sys.setswitchinterval(_SWITCH)

    def serve(self, wake: int, on_signal: Callable[[], bool], beat: Callable[[], float]) -> None:
        """Accept until `on_signal`, called when `wake` is readable, says to stop, or nobody can come.

        `beat` is called again within the seconds that it returns.
        """
        poll = select.poll()
        poll.register(self.listener.socket, select.POLLIN)
        poll.register(wake, select.POLLIN)
        poll.register(self._late.descriptor, select.POLLIN)
        while True:
            try:
                if self._is_over(poll.poll(min(_TICK, beat()) * 1000 + 1), wake, on_signal):
                    return
            except (MemoryError, OSError) as error:
                # The system has no memory: requests fail then, the daemon does not.
                LOG.error("the main thread failed, and goes on: %s", place(error))
                time.sleep(_BACK_OFF)

    def _is_over(self, ready: list[tuple[int, int]], wake: int, on_signal: Callable[[], bool]) -> bool:
        """Do what is to be done now. True if the daemon shall stop."""
        for descriptor, _ in ready:
            if descriptor == wake:
                if on_signal():
                    return True
            elif descriptor == self._late.descriptor:
                for connection, peer, found in self._late.looked_up():
                    if found is None:
                        self._refuse(connection, peer)
                    else:
                        self._receive(connection, peer, found)
            elif not self._accept_some():
                return True
        self.instance.audit.flush()
        spawn.reap_orphans()
        if self.instance.registry.groups is not None:
            self.instance.registry.groups.sweep()
        late = time.monotonic() - _TICK
        if late > self._trimmed + _TRIM:
            # free(3) gives back what lies behind all that is in use; this, what lies between, too.
            self._trimmed = late
            _trim(0)
        for uid, user in list(self._users.items()):
            # A thread for which there was no memory ends before its first line.
            if user.started is not None and user.started < late:
                self._have_attended(user)
            # Only this thread adds to it. Of those who are gone nothing is kept.
            if not user.sessions:
                del self._users[uid]
        return False

    def stop(self) -> None:
        """Read no more, let what runs or has been asked end until the drain deadline, then end it.

        What was asked before is not refused: its client could not know, and would have to ask again.
        """
        settings = self.instance.policy.settings
        self.instance.stopping = True
        with without_waiting():
            self.listener.close()
        deadline = time.monotonic() + settings.drain_timeout
        for session in self._sessions():
            session.connection.end_input()
        if not self._wait(deadline, leave=True):
            LOG.warning("commands are still running after %g s: ending them", settings.drain_timeout)
        self.instance.end_commands()
        if not self._wait(time.monotonic() + settings.kill_grace + 2):
            # What is left waits for a client that does not read.
            for session in self._sessions():
                session.connection.abort()
            self._wait(time.monotonic() + 2)

    def _sessions(self) -> list[Session]:
        # Each step is one of the interpreter's own: sets change meanwhile.
        return [one for user in list(self._users.values()) for one in user.sessions.copy()]

    def _wait(self, deadline: float, *, leave: bool = False) -> bool:
        """Wait until no session is left. False if the deadline came first.

        `leave`: or only such whose commands may outlive this daemon; those need not end.
        """
        while True:
            sessions = self._sessions()
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
            with suppress(EOFError, OSError):
                turn_away(self.listener.accept(), Busy("the daemon has no descriptor left"))
        try:
            self._spare = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            time.sleep(_BACK_OFF)

    def _admit(self, connection: socket.socket) -> None:
        """Leave it to a thread of its user, or send it away."""
        try:
            peer = self.listener.peer_of(connection)
        except OSError:
            with without_waiting():
                connection.close()
            return
        policy = self.instance.policy
        if policy.admits(peer) or policy.may_see_status(peer):
            self._receive(connection, peer)
        elif not self._late.look(connection, peer, policy):
            self._refuse(connection, peer)

    def _refuse(self, connection: socket.socket, peer: Peer) -> None:
        self.instance.audit.denied("unauthorized", peer.uid, pid=peer.pid)
        turn_away(connection, Unauthorized(STRANGER % peer.uid))

    def _receive(self, connection: socket.socket, peer: Peer, late: Found = None) -> None:
        """Leave a connection to a thread of its user, if he has not too many already."""
        if (user := self._users.get(peer.uid)) is None:
            user = self._users[peer.uid] = _User()
        if len(user.arrived) >= self.instance.policy.settings.max_connections_per_user:
            # The oldest makes room, as among those that have a place; unless its turn has just come.
            with suppress(IndexError):
                oldest = user.arrived.popleft()
                user.sessions.discard(oldest)
                turn_away(oldest.connection.sock, _MANY)
        session = Session(self.instance, connection, peer, late)
        user.sessions.add(session)
        user.arrived.append(session)
        if not user.attended:
            self._have_attended(user)

    def _have_attended(self, user: _User) -> None:
        """Start a thread for what has arrived, if anything has."""
        user.attended = False
        # Only now: what comes after this look finds that nobody attends. Two that do so do no harm.
        if user.arrived:
            user.attended, user.started = True, time.monotonic()
            try:
                # Unlike threading.Thread, this does not wait until the new one has had the interpreter.
                _thread.start_new_thread(self._attend, (user,))
            except RuntimeError:
                user.attended, user.started = False, None
                self._clear(user)

    def _clear(self, user: _User) -> None:
        while user.arrived:
            session = user.arrived.popleft()
            user.sessions.discard(session)
            session.turn_away(Busy("the daemon has no thread left"))

    def _attend(self, user: _User) -> None:
        """Serve one of those that have arrived, when another thread looks at the rest."""
        user.started = session = None
        try:
            session = self._next_of(user)
        except Exception as error:  # noqa: BLE001 - the other connections are to be looked at
            LOG.error("a connection could not be looked at: %s", place(error))
        finally:
            self._have_attended(user)
        if session is not None:
            self._serve(session, user)

    def _next_of(self, user: _User) -> Session | None:
        """Return one that has a place; those without are sent away."""
        while user.arrived:
            settings = self.instance.policy.settings
            with user.changed:
                # Who makes room ends as soon as it has the interpreter; where its client holds it up, not.
                end = time.monotonic() + settings.request_timeout
                while user.leaving >= settings.max_connections_per_user and time.monotonic() < end:
                    user.changed.wait(end - time.monotonic())
            try:
                session = user.arrived.popleft()
            except IndexError:
                break
            answer: Error = no_memory()
            try:
                # What is done for a user before the first word is done in its turn as well.
                session.connection.turn.take()
                if self._place(session, user, settings):
                    return session
                answer = _MANY
            except BaseException:
                self._send_away(session, user, answer)
                raise
            self._send_away(session, user, answer)
        return None

    def _send_away(self, session: Session, user: _User, error: Error) -> None:
        session.turn_away(error)
        with user.changed:
            user.sessions.discard(session)

    def _place(self, session: Session, user: _User, settings: Settings) -> bool:
        """Count the session, or give it the place of this user's oldest idle one. False without either."""
        most = settings.max_connections_per_user
        victim = None
        with user.changed:
            room = self.instance.connections.take(session.peer.uid, 1, settings.max_connections, most)
            if not room and user.leaving < most:
                idle = [one for one in user.sessions.copy() if one.idle_since is not None and not one.evicted]
                victim = min(idle, key=lambda one: one.idle_since or 0.0, default=None)
                if victim is not None:
                    victim.evicted = True
                    user.leaving += 1
            session.idle_since = time.monotonic()
        if victim is not None:
            victim.connection.end_input()
        return room or victim is not None

    def _serve(self, session: Session, user: _User) -> None:
        try:
            session.serve()
        except Exception:
            # A session's fault ends that session alone.
            LOG.exception("a session failed")
        with user.changed:
            # It has no place to give any more.
            session.idle_since = None
        # Counted until then: closing what its client has sent may take as long as the client likes.
        session.close()
        with user.changed:
            user.sessions.discard(session)
            if session.evicted:
                user.leaving -= 1
                user.changed.notify_all()
            else:
                self.instance.connections.give(session.peer.uid, 1)
