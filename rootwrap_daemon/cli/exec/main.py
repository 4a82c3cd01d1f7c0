"""Run a command through the daemon, as `sudo` would: `rootwrap-exec [OPTION...] [--] COMMAND...`.

Promises: the command's streams, end and signals are this process's; it ends when this process does. Loads
what the interpreter has loaded anyway, and no package but its own: an agent starts it for every command.
"""

import _socket
import errno
import os
import select
import sys
import time

from rootwrap_daemon import DEFAULT_SOCKET
from rootwrap_daemon.cli.exec import wire
from rootwrap_daemon.cli.exec.options import (
    BAD_CONFIGURATION,
    BAD_PROTOCOL,
    NOT_COPIED,
    OUTCOME_UNKNOWN,
    Failed,
    Options,
    printable,
)
from rootwrap_daemon.cli.exec.stand_in import CAUGHT, StandIn
from rootwrap_daemon.cli.exec.streams import Streams
from rootwrap_daemon.openstack import SOCKET_VARIABLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from typing import Any, NoReturn
else:
    import _signal

#: What this program is called in what it says.
NAME = "rootwrap-exec"
#: Seconds that connecting and the daemon's hello may take; --timeout takes its place, but for at least one.
CONNECT_SECONDS = 10.0
#: Seconds past the deadline and the grace period after which the answer is no longer waited for.
SLACK = 10.0

#: Milliseconds until a signal ends this process, while it is not known whether the command runs.
LOOK = 100.0
#: Seconds that a command runs before a child of this process looks like it.
STAND_IN_SECONDS = 0.02

#: These are to end the command: where the policy does not give one, it is ended as if we were gone.
_ENDING = (_signal.SIGHUP, _signal.SIGINT, _signal.SIGQUIT, _signal.SIGTERM, _signal.SIGKILL)


class _Again(Exception):
    """Nothing ran, and the request may be sent once more, over a fresh connection."""


def main() -> "NoReturn":
    """Entry point of `rootwrap-exec`."""
    end_at_once()
    try:
        options = Options(sys.argv[1:])
        if options.shown is not None:
            code = show(options.shown)
        else:
            code = Conversation(options).checked() if options.check else run(options)
    except Failed as failed:
        _say(printable(str(failed)))
        code = failed.code
    end(code)


def end_at_once() -> None:
    """Until the command runs, let a signal end this process at once, without a traceback."""
    if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
        _signal.signal(_signal.SIGINT, _signal.SIG_DFL)


def run(options: Options) -> int:
    """Run the command; its return code, or an exit code of ours. Raises Failed."""
    # Open /dev/null for those that are closed, or a pipe of ours would become one. To read: what a command
    # writes there is not lost in silence.
    while (descriptor := os.open(os.devnull, os.O_RDONLY)) <= 2:
        pass
    os.close(descriptor)
    streams = Streams(no_input=options.no_input)
    try:
        code = Conversation(options).run(streams)
    finally:
        streams.finish()
        for error in streams.errors:
            _say(error)
    if streams.errors and not code:
        return NOT_COPIED
    # As the command would have ended itself, had it been still there.
    return -_signal.SIGPIPE if streams.broken and not code else code


class Conversation:
    """One request over a connection of its own."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._argv = [os.fsencode(word) for word in options.argv]
        self._began = time.monotonic()
        timeout = options.timeout
        bound = CONNECT_SECONDS if timeout is None else max(timeout, 1.0)
        self._deadline: float | None = self._began + bound
        #: A whole request to run something was written.
        self._runs = self._greeted = self._written = False
        self._buffer = bytearray()
        self._unsent: list[tuple[bytes, list[int]]] = []
        self._broken = self._started = False
        #: Signals that came when the command may have run already, and may not.
        self._caught: list[int] = []
        self._signals = 0

    def checked(self) -> int:
        """Ask whether the command would be allowed; return an exit code. Raises Failed."""
        kind, fields = self._ask(wire.check(self._argv, self._options.env, self._options.user), [])
        if kind != wire.VERDICT:
            raise self._wrong()
        if not fields[1]:
            raise self._failed("no filter allows it", 99, reason="denied")
        return 0

    def run(self, streams: Streams) -> int:
        """Run the command on these streams; its return code. Raises Failed."""
        options = self._options
        start = wire.start(self._argv, options.env, streams.slots, options.timeout, options.user)
        self._runs = True
        kind, fields = self._ask(start, streams.ends)
        if kind == wire.RESULT:
            # The daemon did it itself.
            streams.write(1, fields[2])
            streams.write(2, fields[3])
            return self._returncode(fields)
        if kind != wire.STARTED:
            raise self._wrong()
        streams.started()
        self._started, self._signals = True, fields[2]
        return self._returncode(self._attend(streams))

    def _returncode(self, result: "list[Any]") -> int:
        if len(result) > 4 and result[4] == "stopping":
            _say(f"{self._program()}: ended, because the daemon is stopping")
        return int(result[1])

    # Before the command runs.

    def _ask(self, frame: bytes, descriptors: "list[int]") -> "tuple[int, list[Any]]":
        """The type and the fields of the answer to this. Raises Failed."""
        for last in (False, True):
            self._socket = self._connected()
            self._buffer.clear()
            self._unsent = [(wire.hello(), [])]
            self._broken = self._greeted = self._written = False
            try:
                return self._answer((frame, descriptors))
            except _Again:
                if last:
                    break
        raise self._failed("the daemon closed the connection: nothing ran", BAD_CONFIGURATION)

    def _connected(self) -> _socket.socket:
        path = self._options.socket
        sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        sock.setblocking(False)
        while True:
            try:
                sock.connect(path)
                return sock
            except OSError as error:
                unset = f", or {SOCKET_VARIABLE} to be set" if path == DEFAULT_SOCKET else ""
                why = {
                    errno.ENOENT: f"no such socket: is the daemon running{unset}?",
                    errno.ECONNREFUSED: f"nobody listens on it: is the daemon running{unset}?",
                    errno.EACCES: "permission denied: is this user in the socket's group?",
                    errno.EAGAIN: "its queue of new connections stayed full",
                }.get(error.errno or 0, error.strerror or str(error))
                if error.errno != errno.EAGAIN or time.monotonic() >= (self._deadline or 0.0):
                    raise self._failed(f"{path}: {why}", BAD_CONFIGURATION) from None
            time.sleep(0.01)

    def _answer(self, request: "tuple[bytes, list[int]]") -> "tuple[int, list[Any]]":
        """Say hello, and once the daemon has done so the request; the answer to that. Raises Failed."""
        while True:
            while (message := self._message()) is not None:
                kind, *fields = message
                if kind == wire.FAILURE:
                    raise self._refused(fields)
                if kind != wire.HELLO:
                    return kind, fields
                if fields[0] != wire.VERSION:
                    what = f"the daemon speaks version {fields[0]} of the protocol"
                    raise self._failed(what, BAD_CONFIGURATION)
                # Not before: of a daemon that does not answer it is known then that it runs nothing, and the
                # streams do not lie in its queue. From here on the command's own deadline holds, if any.
                self._greeted = True
                self._unsent.append(request)
                # From here on a signal is for the command, which may run before that is known here.
                for number in CAUGHT if self._runs else ():
                    # Ignored already: nohup(1).
                    if _signal.getsignal(number) is not _signal.SIG_IGN:
                        _signal.signal(number, self._on_signal)
                timeout = self._options.timeout
                grace = fields[2] / 1000
                self._deadline = None if timeout is None else self._began + timeout + grace + SLACK
            self._send()
            events = select.POLLIN | (select.POLLOUT if self._unsent and not self._broken else 0)
            poll = select.poll()
            poll.register(self._socket, events)
            patience = self._patience()
            if self._greeted:
                patience = LOOK if patience is None else min(LOOK, patience)
            if poll.poll(patience):
                self._receive()
            elif self._caught:
                end(-self._caught[0])
            elif self._deadline is not None and time.monotonic() >= self._deadline:
                raise self._lost("the daemon did not answer in time")

    def _send(self) -> None:
        """Write what goes without waiting."""
        try:
            while self._unsent and not self._broken:
                data, descriptors = self._unsent[0]
                if descriptors:
                    rights = b"".join([one.to_bytes(4, sys.byteorder) for one in descriptors])
                    ancillary = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)]
                    sent = self._socket.sendmsg([data], ancillary)
                else:
                    sent = self._socket.send(data)
                if sent < len(data):
                    self._unsent[0] = (data[sent:], [])
                else:
                    del self._unsent[0]
                    self._written = self._runs and self._greeted
        except BlockingIOError:
            pass
        except OSError as error:
            if error.errno == errno.ETOOMANYREFS:
                # unix(7): the kernel passes none, and the daemon has heard nothing.
                raise self._refused(["", "busy", "too many descriptors of this user are under way"]) from None
            # The daemon takes no more. Its reason may be there to be read.
            self._broken = True
            self._deadline = time.monotonic() + SLACK

    def _receive(self) -> None:
        try:
            data = self._socket.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._broken = True
            raise self._lost("the daemon closed the connection")
        self._buffer += data

    def _message(self) -> "list[Any] | None":
        try:
            return wire.cut(self._buffer)
        except ValueError:
            raise self._wrong() from None

    def _patience(self) -> "float | None":
        """Milliseconds that the next wait may take, None for ever."""
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic()) * 1000

    # While it runs.

    def _attend(self, streams: Streams) -> "list[Any]":
        """Pass on signals and copy streams until the command has ended; the fields of its Result."""
        for number in self._caught:
            self._pass_on(number)
        # Most commands have ended before anybody could look for them: a fork costs as much as they take.
        due: float | None = time.monotonic() + STAND_IN_SECONDS
        signals: int | None = None
        while True:
            while (message := self._message()) is not None:
                kind, *fields = message
                if kind == wire.RESULT:
                    return fields
                raise self._refused(fields) if kind == wire.FAILURE else self._wrong()
            poll = select.poll()
            poll.register(self._socket, select.POLLIN)
            streams.register(poll)
            if signals is not None:
                poll.register(signals, select.POLLIN)
            patience = self._patience()
            if due is not None:
                left = max(0.0, due - time.monotonic()) * 1000
                patience = left if patience is None else min(patience, left)
            ready = poll.poll(patience)
            if due is not None and time.monotonic() >= due:
                due, signals = None, self._stand_in()
            elif not ready:
                raise self._lost("the daemon did not answer in time")
            for descriptor, _ in ready:
                if descriptor == signals:
                    for caught in (data := os.read(descriptor, 64)):
                        self._pass_on(caught)
                    # It was killed; why, SIGCHLD says.
                    signals = signals if data else None
                elif descriptor == self._socket.fileno():
                    self._receive()
                else:
                    streams.serve(descriptor)

    def _on_signal(self, number: int, _: object) -> None:
        if self._started:
            self._pass_on(number)
        else:
            self._caught.append(number)

    def _stand_in(self) -> int:
        """Begin to look like the command; the descriptor of the signals that it gets so."""
        stand_in = StandIn(self._options.argv)
        _signal.signal(_signal.SIGCHLD, lambda *_: self._pass_on(stand_in.killed_by()))
        # Killed before this: it was said to nobody.
        self._pass_on(stand_in.killed_by())
        return stand_in.signals

    def _pass_on(self, number: int) -> None:
        """Send this signal to the command, or end it where it may not be sent and would have ended us."""
        if number in (0, _signal.SIGCHLD):
            return
        if self._signals >> number - 1 & 1:
            message = wire.signal(number)
        elif number in _ENDING:
            message = wire.cancel()
        else:
            return
        try:
            self._socket.send(message)
        except OSError:
            # The command has ended, or the daemon; which one is read next.
            pass

    # What is said.

    def _program(self) -> str:
        return printable(self._options.argv[0][:80])

    def _failed(self, message: str, code: int, request_id: object = "", reason: str = "") -> Failed:
        request = f" (request {request_id})" if request_id else ""
        return Failed(f"{self._program()}: {printable(message)}{printable(request)}", code, reason)

    def _refused(self, fields: "list[Any]") -> Failed:
        """Make an error of this program of the daemon's Failure."""
        request_id, code, message = map(str, fields[:3])
        return self._failed(message, wire.EXIT_CODES.get(code, 70), request_id, code)

    def _lost(self, why: str) -> Exception:
        if self._started or self._written:
            return self._failed(f"{why}: the command may have run", OUTCOME_UNKNOWN)
        # Less than a whole request can never run.
        if self._broken:
            return _Again()
        return self._failed(f"{why}: nothing ran", BAD_CONFIGURATION)

    def _wrong(self) -> Failed:
        return self._failed("what answered does not speak the protocol", BAD_PROTOCOL)


def show(text: str) -> int:
    """Write to standard output; the exit code 0. Raises Failed."""
    try:
        os.write(1, text.encode())
    except OSError as error:
        raise Failed(f"standard output: {error.strerror}", NOT_COPIED) from None
    return 0


def _say(message: str) -> None:
    try:
        os.write(2, f"{NAME}: {message}\n".encode("utf-8", "backslashreplace"))
    except OSError:
        pass


def end(code: int) -> "NoReturn":
    """End as the command did, by its signal or with its code."""
    if code < 0:
        import resource

        # The core, if any, is the command's.
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        number = -code
        if number not in (_signal.SIGKILL, _signal.SIGSTOP):
            _signal.signal(number, _signal.SIG_DFL)
            _signal.pthread_sigmask(_signal.SIG_UNBLOCK, [number])
        os.kill(os.getpid(), number)
        code = 128 - code
    # Without the interpreter's own tidying up, which takes as long as its start.
    os._exit(code)
