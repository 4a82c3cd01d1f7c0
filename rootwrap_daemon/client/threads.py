"""The client for native threads, and for greenthreads of a process that eventlet has monkey-patched.

Promises: safe to share between threads; an abandoned call closes its connection, which ends the command.
Imports the standard library, core and the protocol, and looks its primitives up at each use: they may be
patched later than this module was imported.
"""

import os
import socket
import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Final, Literal, Self, overload

from rootwrap_daemon.client import core
from rootwrap_daemon.client.connection import Connection
from rootwrap_daemon.client.core import CompletedCommand, Decision, Environ, Word
from rootwrap_daemon.client.gate import Gate, Lock
from rootwrap_daemon.client.held import Held
from rootwrap_daemon.client.launch import Launcher
from rootwrap_daemon.client.pipes import PIPE, Pipes, Stream, wait
from rootwrap_daemon.client.pool import Turn
from rootwrap_daemon.client.process import Process
from rootwrap_daemon.client.request import Attempt, TryAgain, started
from rootwrap_daemon.errors import LocalProtocolError
from rootwrap_daemon.protocol.messages import Result

#: Seconds after which a caller that waits for a connection looks for itself: at first, and at most. It is
#: woken as a rule, but not out of another hub, and not by `close`. Doubled each time, this costs little,
#: and nobody waits twice as long as needed.
_LOOK_FIRST: Final = 0.02
_LOOK_SECONDS: Final = 1.0


Capture = Literal["daemon", "pipe"]


class Client:
    """Runs commands through the daemon that listens on `path`.

    At most `max_connections` commands at once, each on a connection of its own; further callers wait for one.
    Connections are made when needed and kept. A child made by fork begins without any.
    """

    def __init__(self, path: str | bytes | os.PathLike[str], max_connections: int = 128) -> None:
        self._path = os.fspath(path)
        self._held = Held(max_connections)
        self._launcher: Launcher | None = None

    @classmethod
    def launch(cls, argv: Sequence[str], max_connections: int = 128) -> Self:
        """A client of a daemon of its own, which `argv` starts, such as `sudo -n rootwrap-daemon ...`.

        For development and containers; the daemon ends with this client. A service that starts as root says
        `--peer-uid` there, of the user that it becomes then. Raises BadRequest or DaemonUnavailable; that the
        daemon refused to start shows at the first call.
        """
        client = cls(argv[0] if argv else "", max_connections)
        client._launcher = Launcher(argv, client._wait, client._new_lock())
        return client

    @overload
    def run(
        self,
        argv: Sequence[Word],
        *,
        input: bytes | str | None = None,
        env: Environ | None = None,
        timeout: float | None = None,
        check: bool = False,
        text: Literal[False] = False,
        capture: Capture = "daemon",
    ) -> CompletedCommand[bytes]: ...

    @overload
    def run(
        self,
        argv: Sequence[Word],
        *,
        input: bytes | str | None = None,
        env: Environ | None = None,
        timeout: float | None = None,
        check: bool = False,
        text: Literal[True],
        capture: Capture = "daemon",
    ) -> CompletedCommand[str]: ...

    @overload
    def run(
        self,
        argv: Sequence[Word],
        *,
        input: bytes | str | None = None,
        env: Environ | None = None,
        timeout: float | None = None,
        check: bool = False,
        text: bool = False,
        capture: Capture = "daemon",
    ) -> CompletedCommand[bytes] | CompletedCommand[str]: ...

    def run(
        self,
        argv: Sequence[Word],
        *,
        input: bytes | str | None = None,
        env: Environ | None = None,
        timeout: float | None = None,
        check: bool = False,
        text: bool = False,
        capture: Capture = "daemon",
    ) -> CompletedCommand[bytes] | CompletedCommand[str]:
        """Run a command to its end, as `subprocess.run(argv, capture_output=True, ...)` does.

        Words, variables and `input` are bytes, or text that becomes UTF-8 (with surrogateescape).
        `timeout`: seconds from when a connection is free; the daemon enforces it. None: its own limit alone.
        `check`: raise CommandFailed if the return code is not 0.
        `text`: decode the output as UTF-8 (surrogateescape, so it never fails); line ends stay as they are.
        `capture`: "daemon" collects the output up to a limit; "pipe" is for any amount: input and output do
        not go through the daemon.

        Raises an Error of `rootwrap_daemon.errors`. After any of them but OutcomeUnknown, CommandTimeout,
        OutputLimit, CommandFailed and InternalError the command did not run.
        """
        if capture == "pipe":
            answer = self._run_on_pipes(argv, core.input_bytes(input), env, timeout)
        else:
            answer = self._ask(core.run_request(argv, input, env, timeout), timeout)
        return core.completed(argv, answer, timeout=timeout, check=check, text=text)

    def _run_on_pipes(
        self, argv: Sequence[Word], input: bytes | None, env: Environ | None, timeout: float | None
    ) -> core.Answer:
        stdin = None if input is None else PIPE
        with self.popen(argv, stdin=stdin, stdout=PIPE, stderr=PIPE, env=env, timeout=timeout) as process:
            return process.completed(input)

    def check(self, argv: Sequence[Word], env: Environ | None = None) -> Decision:
        """Would this command be allowed? Runs nothing. Raises an Error of `rootwrap_daemon.errors`."""
        return core.decided(argv, self._ask(core.check_request(argv, env), None))

    def popen(
        self,
        argv: Sequence[Word],
        *,
        stdin: Stream = None,
        stdout: Stream = None,
        stderr: Stream = None,
        env: Environ | None = None,
        timeout: float | None = None,
    ) -> Process:
        """Start a command as `subprocess.Popen` does; what it reads and writes never enters the daemon.

        `stdin`, `stdout`, `stderr`: PIPE, DEVNULL (as None), STDOUT for `stderr`, or an anonymous pipe that
        this user made; nothing else can be passed. Does not count against `max_connections`. Raises as `run`.
        """
        pipes = Pipes(stdin, stdout, stderr, self._wait)
        turn: Turn[Connection] = Turn(lambda: None)
        try:
            request = core.start_request(argv, env, timeout, pipes.theirs)
            theirs = [end for end in pipes.theirs if end is not None]
            connection, answer, _ = self._exchange(turn, request, timeout, *theirs)
            running = started(connection.exchange, argv, answer, timeout, time.monotonic())
            if isinstance(answer, Result):
                pipes.fill(answer.stdout, answer.stderr)
        except BaseException:
            self._held.discard(turn)
            pipes.abandon()
            raise
        pipes.close_theirs()
        return Process(argv, timeout, connection, running, pipes, self._wait, self._new_lock())

    def close(self) -> None:
        """Close what is idle and begin nothing more. Commands that run end as they would have."""
        self._held.close()
        if self._launcher is not None:
            for pause in self._launcher.close():
                self._sleep(pause)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _socket_class(self) -> type[socket.socket]:
        return socket.socket

    def _new_lock(self) -> Lock:
        return threading.Lock()

    def _sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def _wait(self, readable: Sequence[int], writable: Sequence[int], timeout: float | None) -> Sequence[int]:
        return wait(readable, writable, timeout)

    def _ask(self, request: core.Request, timeout: float | None) -> core.Answer:
        # One and the same to the end: after a fork the child has another.
        pool = self._held.pool
        gate = Gate(self._new_lock())
        turn: Turn[Connection] = Turn(gate.open)
        look = _LOOK_FIRST
        keep = False
        try:
            pool.enter(turn)
            while not (turn.granted or pool.closed):
                gate.wait(look)
                look = min(2 * look, _LOOK_SECONDS)
            if pool.closed:
                raise LocalProtocolError("this client is closed")
            _, answer, keep = self._exchange(turn, request, timeout)
            return answer
        finally:
            if not keep:
                self._held.discard(turn)
            pool.leave(turn)
            if pool.closed:
                self.close()

    def _exchange(
        self, turn: Turn[Connection], request: core.Request, timeout: float | None, *descriptors: int
    ) -> tuple[Connection, core.Answer, bool]:
        """Where the answer came from, itself, and whether the connection is good for another request."""
        connection = turn.connection
        if connection is None or not connection.usable(self._socket_class()):
            connection = self._connect(turn)
        last = False
        while True:
            attempt = Attempt(
                connection.exchange,
                request,
                timeout,
                last=last,
                now=time.monotonic(),
                descriptors=descriptors,
            )
            try:
                answer = connection.converse(attempt)
                return connection, answer, attempt.reusable(answer)
            except TryAgain:
                # A last attempt raises no TryAgain.
                last = True
            connection = self._connect(turn)

    def _connect(self, turn: Turn[Connection]) -> Connection:
        """Make a fresh connection for this turn, instead of the one it holds. Raises DaemonUnavailable."""
        self._held.discard(turn)
        made = None if self._launcher is None else self._launcher.connect()
        try:
            connection = Connection(self._socket_class()(socket.AF_UNIX, socket.SOCK_STREAM, 0, made))
            self._held.hold(turn, connection)
            if made is None:
                connection.connect(self._path, self._sleep)
        except OSError as error:
            raise core.unreachable(self._path, error) from error
        return connection
