"""Make a client's calls: a turn of the pool, a connection, an answer.

Promises: written once for all front ends, as coroutines that await only what the front end gives them to wait
with (in `threads` and `green` that waits itself, and the coroutine never suspends); an abandoned call closes
its connection, which ends the command.
"""

import math
import os
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

from rootwrap_daemon.client import core
from rootwrap_daemon.client.core import Answer, CompletedCommand, Decision, Environ, Request, RunOptions, Word
from rootwrap_daemon.client.pipes import PIPE, Collected, Ends
from rootwrap_daemon.client.pool import Connections, Pool, Turn
from rootwrap_daemon.client.request import Attempt, Connection, Running, TryAgain, Wait
from rootwrap_daemon.errors import Busy, Error, LocalProtocolError
from rootwrap_daemon.protocol.messages import Result, Started, Status

if TYPE_CHECKING:
    from rootwrap_daemon.client.launch import Launcher

#: Seconds that connecting and the daemon's hello may take together; less where a command has less, ...
CONNECT_SECONDS: Final = 10.0
#: ... but never so little that a daemon with much to do cannot keep it.
_CONNECT_LEAST: Final = 1.0
#: Seconds between two tries while the daemon's listen queue is full.
_CONNECT_PAUSE: Final = 0.01


class Gate(Protocol):
    """A gate at which one caller waits until it is granted a connection."""

    def open(self) -> None:
        """Let it go on; maybe out of another thread, and more than once."""

    async def wait(self) -> None:
        """Wait until it is opened, or until it is time to look again."""


class Calls:
    """All that one client asks of the daemon that listens on `path`, or that `launcher` has started."""

    def __init__(
        self,
        path: str | bytes | os.PathLike[str],
        max_connections: int,
        connect_timeout: float,
        wait: Wait,
        new_gate: Callable[[], Gate],
    ) -> None:
        """Raises BadRequest."""
        self._path = os.fspath(path)
        self.connections: Connections[Connection] = Connections(max_connections)
        self._connect_timeout = connect_timeout
        self._wait = wait
        self._new_gate = new_gate
        self.launcher: Launcher | None = None

    async def run(self, argv: Sequence[Word], options: RunOptions, *, text: bool) -> CompletedCommand[Any]:
        """Run a command to its end. Raises an Error, or TypeError."""
        input, env, user = options.get("input"), options.get("env"), options.get("user")
        timeout = options.get("timeout")
        try:
            if options:
                core.check_options(options)
            if options.get("capture") == "pipe":
                answer = await self._run_on_pipes(argv, core.input_bytes(input), env, timeout, user)
            else:
                answer = await self._ask(core.run_request(argv, input, env, timeout, user), timeout)
            return core.completed(argv, answer, check=options.get("check", False), text=text)
        except Error as error:
            core.about(error, argv, timeout, user)
            raise

    async def allows(self, argv: Sequence[Word], env: Environ | None, user: str | None) -> Decision:
        """Ask whether a command would be allowed. Raises an Error."""
        try:
            return core.decided(await self._ask(core.check_request(argv, env, user), None))
        except Error as error:
            core.about(error, argv, None, user)
            raise

    async def status(self) -> dict[str, Any]:
        """Return what the daemon says of itself. Raises an Error."""
        return core.reported(await self._ask(Status(), self._connect_timeout))

    async def start(
        self,
        argv: Sequence[Word],
        env: Environ | None,
        timeout: float | None,
        stdio: Sequence[int | None],
        user: str | None,
    ) -> tuple[Connection, Running]:
        """Start a command on these descriptors, over a connection of its own. Raises an Error."""
        turn: Turn[Connection] = Turn()
        try:
            request = core.start_request(argv, env, timeout, stdio, user)
            if self.connections.pool.closed:
                raise LocalProtocolError("this client is closed")
            descriptors = [end for end in stdio if end is not None]
            connection, answer, _ = await self._exchange(turn, request, timeout, descriptors)
            return connection, Running(connection.exchange, argv, answer, timeout)
        except BaseException as error:
            self.connections.discard(turn)
            if isinstance(error, Error):
                core.about(error, argv, timeout, user)
            raise

    def stop(self) -> None:
        """Close what is idle and begin nothing more. Commands that run end as they would have."""
        self.connections.close()
        if self.launcher is not None:
            self.launcher.hang_up()

    async def stopped(self) -> None:
        """As `stop`; then wait for the end of the daemon that was launched, if one was."""
        self.stop()
        if self.launcher is not None:
            await self.launcher.ended(self._wait)

    async def _ask(self, request: Request, timeout: float | None) -> Answer:
        """The answer, over a connection of the pool."""
        # One and the same to the end: after a fork the child has another.
        pool = self.connections.pool
        turn: Turn[Connection] = Turn()
        keep = False
        try:
            await self._enter(pool, turn)
            _, answer, keep = await self._exchange(turn, request, timeout)
            return answer
        finally:
            self._leave(pool, turn, keep)

    async def _run_on_pipes(
        self,
        argv: Sequence[Word],
        input: bytes | None,
        env: Environ | None,
        timeout: float | None,
        user: str | None,
    ) -> Answer:
        """As `_ask`, with pipes of this process that the command writes to."""
        pool = self.connections.pool
        turn: Turn[Connection] = Turn()
        keep = False
        ends = Ends(None if input is None else PIPE, PIPE, PIPE)
        try:
            request = core.start_request(argv, env, timeout, ends.theirs, user)
            await self._enter(pool, turn)
            descriptors = [end for end in ends.theirs if end is not None]
            connection, answer, keep = await self._exchange(turn, request, timeout, descriptors)
            if type(answer) is Started:
                keep = False
                ends.close_theirs()
                running = Running(connection.exchange, argv, answer, timeout)
                answer = await self._collected(connection, running, Collected(ends, input or b""))
                keep = type(answer) is Result and not connection.exchange.partial
            return answer
        finally:
            ends.abandon()
            self._leave(pool, turn, keep)

    async def _collected(self, connection: Connection, running: Running, pipes: Collected) -> Answer:
        """The answer of a started command, with what it wrote until it ended."""
        descriptor = connection.sock.fileno()
        while (answer := running.answer) is None:
            patience = running.patience()
            ready = await self._wait(
                [descriptor, *pipes.readable], pipes.writable, None if patience == math.inf else patience
            )
            for one in ready:
                if one == descriptor:
                    connection.hear(running)
                else:
                    pipes.serve(one)
            if not ready and not running.patience():
                running.lost("the daemon did not answer in time")
        if type(answer) is not Result:
            return answer
        return Result(answer.request_id, answer.returncode, *pipes.finish(), answer.cause)

    async def _enter(self, pool: Pool[Connection], turn: Turn[Connection]) -> None:
        """Wait until this turn may use one connection. Raises LocalProtocolError."""
        if not pool.enter_at_once(turn):
            gate = self._new_gate()
            turn.wake = gate.open
            pool.enter(turn)
            while not (turn.granted or pool.closed):
                await gate.wait()
        if pool.closed:
            raise LocalProtocolError("this client is closed")

    def _leave(self, pool: Pool[Connection], turn: Turn[Connection], keep: bool) -> None:
        if not keep:
            self.connections.discard(turn)
        pool.leave(turn)
        if pool.closed:
            self.connections.close()

    async def _exchange(
        self, turn: Turn[Connection], request: Request, timeout: float | None, descriptors: Sequence[int] = ()
    ) -> tuple[Connection, Answer, bool]:
        """Return the connection, its answer, and True if the connection is good for another request."""
        connection = turn.connection
        if connection is None or not connection.is_idle():
            connection = await self._connect(turn, timeout)
        last = False
        while True:
            attempt = Attempt(connection, request, timeout, descriptors, last=last)
            try:
                answer = await attempt.answer(self._wait)
                return connection, answer, attempt.reusable(answer)
            except TryAgain:
                # A last attempt raises no TryAgain.
                last = True
            connection = await self._connect(turn, timeout)

    async def _connect(self, turn: Turn[Connection], timeout: float | None) -> Connection:
        """Make a fresh connection for this turn, instead of the one it holds.

        Raises DaemonUnavailable, and Busy where this process has no more descriptors.
        """
        self.connections.discard(turn)
        seconds = self._connect_timeout
        if timeout is not None:
            seconds = min(seconds, max(timeout, _CONNECT_LEAST))
        deadline = time.monotonic() + seconds
        made = None if self.launcher is None else await self.launcher.connect(self._wait, deadline)
        try:
            connection = Connection(deadline, made)
        except OSError as error:
            raise Busy(f"no socket can be made: {error.strerror}") from error
        self.connections.hold(turn, connection)
        while made is None:
            try:
                connection.sock.connect(self._path)
                break
            except OSError as error:
                # EAGAIN, a full listen queue: blocking, the kernel would wait, and eventlet would spin.
                if not isinstance(error, BlockingIOError) or time.monotonic() >= deadline:
                    raise core.unreachable(self._path, error) from error
            await self._wait((), (), _CONNECT_PAUSE)
        return connection
