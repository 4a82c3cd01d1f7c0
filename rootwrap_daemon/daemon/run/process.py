"""Run a Bound* to its end: pump its pipes, keep its deadline, end its process group.

Promises: returns when the main process has ended, whatever keeps its pipes open; nothing of it, or of what
was bound, is left unreaped or open then. The leader is reaped after the last killpg.
"""

import fcntl
import os
import select
import signal
import sys
import termios
import time
from collections.abc import Callable
from typing import Final, NamedTuple

from rootwrap_daemon.daemon.request import Wish
from rootwrap_daemon.daemon.run.instance import Turn
from rootwrap_daemon.daemon.run.output import Output
from rootwrap_daemon.daemon.run.registry import Ticket
from rootwrap_daemon.daemon.run.spawn import Child, spawn, spawn_on
from rootwrap_daemon.daemon.run.stdio import Stdio
from rootwrap_daemon.errors import CommandTimeout, Error, InternalError, OutcomeUnknown, OutputLimit
from rootwrap_daemon.policy.bound import BoundExec, BoundRead, BoundSignal

#: Bytes to read or write at once: the default capacity of a pipe (pipe(7)).
_CHUNK: Final = 65536
#: Room for an int, of ioctl(2).
_NO_INT: Final = bytes(4)
#: Seconds to wait for a process that got SIGKILL. It can only stay in an uninterruptible system call, or in
#: the hands of a tracer.
_KILL_PATIENCE: Final = 5.0
#: Seconds between two looks at a process that has ended and cannot be waited for: ptrace(2) keeps it.
_TRACED: Final = 0.05
#: Seconds that one poll(2) waits at most: it takes milliseconds as an int, and a deadline may be infinite.
_LONGEST_POLL: Final = 3600.0
#: Seconds for which only the end of a command is waited for. Most end in this time, and what they wrote is in
#: their pipes; the end of each pipe would wake this thread once more.
_AT_FIRST: Final = 0.002
#: Seconds that a command waits for its user's turn before its deadline is looked at again.
_TURN_PATIENCE: Final = 0.1


class Client(NamedTuple):
    """The connection that a command runs for.

    `listen` is called when `descriptor` is readable, and at once if something was `heard` already; it calls
    what it is given with each signal that the client wants sent to the main process. `flush` writes what the
    client has not taken yet, without waiting: True once that is all; raises OSError. `turn` is given back
    while the command is waited for.
    """

    descriptor: int
    listen: Callable[[Callable[[int], None]], Wish]
    flush: Callable[[], bool]
    turn: Turn
    heard: bool = False


class Bounds(NamedTuple):
    """The bounds of what a command may use.

    `timeout` and `grace` in seconds, `output` in bytes of stdout and stderr together.

    `reserve` takes bytes out of what the daemon may buffer in all, or says no. `stop` is a descriptor that
    becomes readable when every command must end. `signals`: those that the client may send.
    """

    timeout: float
    grace: float
    output: int
    reserve: Callable[[int], bool]
    stop: int
    signals: frozenset[int] = frozenset()


class Finished(NamedTuple):
    """The main process ended: its return code (minus the signal's number) and all output that was captured.

    `cause`: why it was made to, `cancelled`, `stopping` or `out_of_memory`; empty if it was not.
    """

    returncode: int
    stdout: bytes = b""
    stderr: bytes = b""
    cause: str = ""


class Ended(NamedTuple):
    """The command was ended for this reason. `error` is None when there is nobody to tell.

    Its process has been started: an error that says that nothing ran comes from a shim that could not execute
    the program.
    """

    error: Error | None
    returncode: int | None = None


def run(
    bound: BoundExec, stdin: bytes | None, bounds: Bounds, client: Client, ticket: Ticket
) -> Finished | Ended:
    """Run a command. Raises what `spawn` raises."""
    with bound:
        child = spawn(bound, ticket, stdin=stdin is not None)
    return _to_end(child, stdin or b"", bounds, client, ticket)


def run_on(
    stdio: Stdio,
    bound: BoundExec,
    bounds: Bounds,
    client: Client,
    ticket: Ticket,
    on_start: Callable[[int], None],
) -> Finished | Ended:
    """Run a command on the client's own descriptors. Raises what `spawn_on` raises.

    `stdio` is closed once the command has it, or that would never see the end of its input. `on_start` is
    called with the pid; what it says is sent while the command runs, and no command waits for that.
    """
    with bound, stdio:
        child = spawn_on(bound, ticket, stdio.ends)
    return _to_end(child, b"", bounds, client, ticket, on_start)


def _to_end(
    child: Child,
    stdin: bytes,
    bounds: Bounds,
    client: Client,
    ticket: Ticket,
    on_start: Callable[[int], None] = lambda pid: None,
) -> Finished | Ended:
    try:
        on_start(child.pid)
        return _Run(child, stdin, bounds, client, ticket).to_end()
    except BaseException:
        # Nobody would see it end.
        child.signal_group(signal.SIGKILL)
        ticket.kill()
        raise
    finally:
        child.release()


class _Run:
    """One command while it runs. `ending`: its group got SIGTERM; `ended`: and this is the answer."""

    def __init__(self, child: Child, stdin: bytes, bounds: Bounds, client: Client, ticket: Ticket) -> None:
        self.child = child
        self.ticket = ticket
        self.bounds = bounds
        self.client = client
        self.deadline = time.monotonic() + bounds.timeout
        self.input = memoryview(stdin)
        self.output = {end: Output() for end in child.outputs}
        self.size = 0
        self.cause = ""
        self.ending = False
        self.traced = False
        self.killed = False
        self.ended: Ended | None = None
        #: What to wait for from the client; None once there is nobody.
        self.heeded: int | None = select.POLLIN
        self.poll = select.poll()
        for descriptor in (child.pidfd, bounds.stop, client.descriptor):
            self.poll.register(descriptor, select.POLLIN)
        if child.stdin is not None:
            self.poll.register(child.stdin, select.POLLOUT)

    def to_end(self) -> Finished | Ended:
        """Serve the pipes until the main process has ended."""
        child = self.child
        self._flush()
        if self.client.heard:
            self._look_at_client(0)
        running, longest = True, _AT_FIRST if child.outputs else _LONGEST_POLL
        while running:
            if self.ticket.left:
                return Ended(OutcomeUnknown("the daemon stops, and the command runs on"))
            left = self.deadline - time.monotonic()
            if left <= 0 and not self._late():
                return Ended(InternalError("the command could not be ended"))
            left = min(max(0.0, left), _TRACED if self.traced else longest)
            self.client.turn.give()
            ready = self.poll.poll(left * 1000 + 1)
            if not self.client.turn.take(_TURN_PATIENCE):
                # Its user makes the daemon work enough: only what a deadline or a stop needs is done.
                ready = [one for one in ready if one[0] in (child.pidfd, self.bounds.stop)]
            for descriptor, event in ready:
                if descriptor == child.pidfd:
                    running = not self._has_ended()
                else:
                    self._serve(descriptor, event)
            if self.traced:
                running = not self._has_ended()
            if running and longest == _AT_FIRST:
                longest = _LONGEST_POLL
                for end in child.outputs:
                    self.poll.register(end, select.POLLIN)
        if self.ended is not None:
            return Ended(self.ended.error, child.returncode)
        if (failure := child.failure()) is not None:
            return Ended(failure, child.returncode)
        stdout, stderr = (one.taken() for one in self.output.values()) if self.output else (b"", b"")
        return Finished(child.reaped(), stdout, stderr, self.cause)

    def _has_ended(self) -> bool:
        """True once the main process is reaped: after the last signal to its group, whose number it keeps."""
        child = self.child
        for descriptor in child.outputs:
            self._drain(descriptor)
        if self.ending and child.has_ended():
            # Whoever is left of the group got SIGTERM with its leader; whoever left it ends here, too.
            child.signal_group(signal.SIGKILL)
            self.ticket.kill()
        if child.reap():
            return True
        if not self.traced:
            # Readable for good now: the loop looks again by itself.
            self.traced = True
            self.poll.unregister(child.pidfd)
        return False

    def _serve(self, descriptor: int, event: int) -> None:
        if descriptor == self.client.descriptor:
            self._look_at_client(event)
        elif descriptor == self.bounds.stop:
            self.poll.unregister(descriptor)
            if self.ticket.leave and not self.ending:
                self.ticket.left = True
            else:
                self._begin_end("stopping")
        elif descriptor == self.child.stdin:
            self._write(descriptor)
        else:
            self._read(descriptor, _CHUNK)

    def _look_at_client(self, event: int) -> None:
        # POLLHUP: both directions are closed, nobody is there to answer. A client that has only stopped
        # writing, or that we have stopped reading from, still waits.
        if event & (select.POLLHUP | select.POLLERR | select.POLLNVAL):
            self._abandon()
            return
        if event & select.POLLOUT:
            self._flush()
        if self.heeded is None or (event and not event & select.POLLIN):
            return
        wish = self.client.listen(self._signal)
        if wish is Wish.CANCEL:
            self._begin_end("cancelled")
        elif wish is Wish.SILENT:
            self._heed(self.heeded & ~select.POLLIN)
        elif wish is Wish.GONE:
            self._abandon()

    def _heed(self, events: int) -> None:
        if self.heeded != events:
            self.heeded = events
            self.poll.modify(self.client.descriptor, events)

    def _flush(self) -> None:
        """Write what the client has not taken yet; the rest when it takes more."""
        if self.heeded is None:
            return
        try:
            done = self.client.flush()
        except OSError:
            self._abandon()
            return
        self._heed(self.heeded & ~select.POLLOUT if done else self.heeded | select.POLLOUT)

    def _abandon(self) -> None:
        """Nobody is left to work for: end the command, as any other with its grace."""
        if self.heeded is not None:
            self.heeded = None
            self.poll.unregister(self.client.descriptor)
        self._end(Ended(None))

    def _signal(self, number: int) -> None:
        # One that may not be sent is nothing: the client was told which may.
        if number in self.bounds.signals:
            self.child.signal(number)

    def _write(self, descriptor: int) -> None:
        try:
            sent = os.write(descriptor, self.input[:_CHUNK])
        except BlockingIOError:
            return
        except BrokenPipeError:
            # The command does not read all of its input; that is its own affair.
            sent = len(self.input)
        self.input = self.input[sent:]
        if not self.input:
            self.poll.unregister(descriptor)
            self.child.close(descriptor)

    def _read(self, descriptor: int, count: int) -> None:
        try:
            data = os.read(descriptor, count)
        except BlockingIOError:
            return
        if not data:
            self.poll.unregister(descriptor)
            self.child.close(descriptor)
            return
        if self.ended is not None:
            # Read on, so that what it does at its end does not block on us.
            return
        self.size += len(data)
        if self.size > self.bounds.output:
            self._end(Ended(OutputLimit(f"the command wrote more than {self.bounds.output} bytes")))
        elif not self.bounds.reserve(len(data)):
            self._end(Ended(OutputLimit("the daemon holds as much output as it may")))
        else:
            self.output[descriptor].add(data)

    def _drain(self, descriptor: int) -> None:
        """Read what is in a pipe now, and no more: a background child may write for ever."""
        if self.child.is_open(descriptor):
            count = int.from_bytes(fcntl.ioctl(descriptor, termios.FIONREAD, _NO_INT), sys.byteorder)
            if count:
                self._read(descriptor, count)

    def _end(self, ended: Ended) -> None:
        """End the group, and answer so; the first reason stands. A cancelled command can still write much."""
        if self.ended is None:
            self.ended = ended
            for one in self.output.values():
                one.clear()
        self._begin_end()

    def _begin_end(self, cause: str = "") -> None:
        if not self.ending:
            self.ending = True
            self.cause = cause
            self.child.signal_group(signal.SIGTERM)
            # A stopped process acts on SIGTERM only when it goes on.
            self.child.signal_group(signal.SIGCONT)
            self.deadline = time.monotonic() + self.bounds.grace

    def _late(self) -> bool:
        """The deadline passed: the next, harder step. False when there is none."""
        if self.child.has_ended():
            # This thread, or the machine, was held up: the command was in time.
            return True
        if not self.ending:
            self._end(Ended(CommandTimeout(f"the command did not end within {self.bounds.timeout:g} s")))
            return True
        if not self.killed:
            self.killed = True
            self.child.signal_group(signal.SIGKILL)
            self.ticket.kill()
            self.deadline = time.monotonic() + _KILL_PATIENCE
            return True
        return False


def send_signal(bound: BoundSignal) -> Finished:
    """Send the signal; the result looks like kill(1)'s. Raises InternalError."""
    try:
        with bound:
            signal.pidfd_send_signal(bound.pidfd, bound.signal)
    except ProcessLookupError:
        return Finished(1, b"", b"kill: (%d) - No such process\n" % bound.pid)
    except OSError as error:
        raise InternalError("the signal could not be sent") from error
    return Finished(0)


def read(bound: BoundRead, bounds: Bounds) -> Finished | Ended:
    """The file's content, within the bounds. Raises InternalError."""
    with bound:
        return _read(bound.descriptor, bounds)


def _read(descriptor: int, bounds: Bounds) -> Finished | Ended:
    deadline = time.monotonic() + bounds.timeout
    chunks: list[bytes] = []
    size = 0
    while True:
        try:
            data = os.read(descriptor, _CHUNK)
        except OSError as error:
            raise InternalError("the file could not be read") from error
        if not data:
            return Finished(0, b"".join(chunks))
        size += len(data)
        if size > bounds.output:
            return Ended(OutputLimit(f"the file is longer than {bounds.output} bytes"))
        if not bounds.reserve(len(data)):
            return Ended(OutputLimit("the daemon holds as much output as it may"))
        if time.monotonic() > deadline:
            return Ended(CommandTimeout(f"the file was not read within {bounds.timeout:g} s"))
        chunks.append(data)
