"""Accept, bounds, idle connections, orderly stop.

Promises: no one user can take what others need; at a bound the answer is immediate; a user's own oldest idle
connection makes room for its next. Who is not allowed costs one accept and one answer.
"""

import errno
import logging
import os
import select
import socket
import threading
import time
from collections.abc import Callable
from typing import Final

from rootwrap_daemon.daemon.record.audit import Audit
from rootwrap_daemon.daemon.run.orphans import REAPER
from rootwrap_daemon.daemon.run.registry import Registry
from rootwrap_daemon.daemon.serve.connection import turn_away, without_waiting
from rootwrap_daemon.daemon.serve.session import Session
from rootwrap_daemon.daemon.start.sockets import Peer, Source
from rootwrap_daemon.errors import Busy, Unauthorized
from rootwrap_daemon.policy.policy import Policy
from rootwrap_daemon.protocol.codec import encode
from rootwrap_daemon.protocol.messages import MAX_REQUEST_FRAME, VERSION, Hello

LOG = logging.getLogger(__name__)

#: Bytes of stack of a session's thread; the deepest call here needs a tenth of it.
_STACK: Final = 512 * 1024
#: Threads of one user that judge at once.
_JUDGING: Final = 4
#: Connections to accept before signals are looked at again.
_BATCH: Final = 64
#: Seconds between two looks at the audit counts, and to wait when the system is out of descriptors.
_TICK: Final = 2.0
_SHORT_TICK: Final = 0.2
_BACK_OFF: Final = 0.05
_OUT_OF_RESOURCES: Final = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))


class Slots:
    """So many at once, in all and of one user."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users: dict[int, int] = {}
        self._all = 0

    def take(self, uid: int, most: int, most_of_user: int) -> bool:
        """Take one, if both bounds allow it."""
        with self._lock:
            used = self._users.get(uid, 0)
            if used >= most_of_user or self._all >= most:
                return False
            self._users[uid] = used + 1
            self._all += 1
            return True

    def give(self, uid: int) -> None:
        """Give one back."""
        with self._lock:
            self._all -= 1
            self._users[uid] -= 1
            if not self._users[uid]:
                del self._users[uid]


class Budget:
    """Bytes that the daemon may hold for its clients: in all, and for one user half of that."""

    def __init__(self, size: int) -> None:
        self._lock = threading.Lock()
        self._left = size
        self._share = size // 2
        self._users: dict[int, int] = {}

    def take(self, uid: int, count: int) -> bool:
        """Take `count` bytes, if there are so many left."""
        with self._lock:
            used = self._users.get(uid, 0) + count
            if count > self._left or used > self._share:
                return False
            self._left -= count
            self._users[uid] = used
            return True

    def give(self, uid: int, count: int) -> None:
        """Give them back."""
        if count:
            with self._lock:
                self._left += count
                self._users[uid] -= count


class Turns:
    """Who may judge now: a few threads of each user, so that one's many leave the processor to others."""

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._users: dict[int, threading.Semaphore] = {}

    def of(self, uid: int) -> threading.Semaphore:
        """To be held while working for this user. Only users who may ask something have one."""
        return self._users.setdefault(uid, threading.Semaphore(self._at_once))


class Server:
    """One listening socket and the sessions on it; `serve` is the main thread's.

    `policy` is replaced by a reload; a session takes it once per request.
    """

    def __init__(
        self,
        listener: Source,
        policy: Policy,
        audit: Audit,
        running: Registry | None = None,
    ) -> None:
        self.listener = listener
        self.policy = policy
        self.audit = audit
        self.counters = audit.counters
        self.running = Registry() if running is None else running
        #: Monotonic seconds.
        self.started = time.monotonic()
        self.commands = Slots()
        self.turns = Turns(_JUDGING)
        self.budget = Budget(policy.settings.max_buffered)
        self.stopping = False
        #: No command may start any more: the drain deadline has passed.
        self.drained = False
        # Readable once every command must end: each executor polls it.
        self.stop_reader, self._stop_writer = os.pipe2(os.O_CLOEXEC)
        self._sessions: set[Session] = set()
        self._lock = threading.Lock()
        self._spare: int | None = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        threading.stack_size(_STACK)

    @property
    def connections(self) -> int:
        """How many there are."""
        return len(self._sessions)

    def serve(self, wake: int, on_signal: Callable[[], bool], beat: Callable[[], float]) -> None:
        """Accept until `on_signal`, called when `wake` is readable, says to stop, or nobody can come.

        `beat` is called again within the seconds that it returns.
        """
        poll = select.poll()
        poll.register(self.listener.socket, select.POLLIN)
        poll.register(wake, select.POLLIN)
        tick = _TICK
        while True:
            for descriptor, _ in poll.poll(min(tick, beat()) * 1000 + 1):
                if descriptor == wake:
                    if on_signal():
                        return
                elif not self._accept_some():
                    return
            self.audit.flush()
            tick = _SHORT_TICK if REAPER.reap() else _TICK

    def prove(self, done: Callable[[], None]) -> None:
        """Call `done` once a connection of our own was greeted by a thread made for it, as a client's is.

        Raises OSError or RuntimeError if there is no descriptor or thread for it.
        """
        ours, theirs = socket.socketpair()
        session = Session(self, theirs, Peer(os.getpid(), os.geteuid(), os.getegid(), ()))
        ours.sendall(encode(Hello(VERSION, MAX_REQUEST_FRAME)))
        ours.shutdown(socket.SHUT_WR)

        def greet() -> None:
            with ours:
                self._run(session)
                if ours.recv(1):
                    done()

        try:
            threading.Thread(target=greet, daemon=True).start()
        except RuntimeError:
            ours.close()
            theirs.close()
            raise

    def stop(self) -> None:
        """Read no more, let what runs or has been asked end until the drain deadline, then end it.

        What was asked before is not refused: its client could not know, and would have to ask again.
        """
        settings = self.policy.settings
        self.stopping = True
        with without_waiting():
            self.listener.close()
        deadline = time.monotonic() + settings.drain_timeout
        with self._lock:
            sessions = list(self._sessions)
        for session in sessions:
            session.connection.end_input()
        if not self._wait(deadline, leave=True):
            LOG.warning("commands are still running after %g s: ending them", settings.drain_timeout)
        self.drained = True
        os.write(self._stop_writer, b"x")
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
            done = len(sessions) <= (sum(one.leave for one in self.running.snapshot()) if leave else 0)
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
        policy = self.policy
        if not policy.admits(peer) and not policy.may_see_status(peer):
            self.audit.denied("unauthorized", peer.uid, pid=peer.pid)
            turn_away(
                connection,
                Unauthorized(
                    "this user may not use this daemon: its allowed_users or allowed_groups must name it"
                ),
            )
        else:
            self._place(Session(self, connection, peer), policy)

    def _place(self, session: Session, policy: Policy) -> None:
        """Start the session, or let it follow this user's oldest idle one, or send it away."""
        settings, uid = policy.settings, session.peer.uid
        with self._lock:
            own = [one for one in self._sessions if one.peer.uid == uid]
            room = (
                len(own) < settings.max_connections_per_user
                and len(self._sessions) < settings.max_connections
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
            if following is not None and self.stopping:
                following.connection.end_input()
