"""The client for asyncio.

Promises: what `threads.Client` does; nothing blocks the loop; a cancelled task ends its command.
Imports asyncio, the standard library and its neighbours. The only module beside `aio_process` that does.
"""

import asyncio
import os
import socket
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import Literal, Self, overload

from rootwrap_daemon.client import core
from rootwrap_daemon.client.aio_process import Process, ready
from rootwrap_daemon.client.connection import Connection
from rootwrap_daemon.client.core import CompletedCommand, Decision, Environ, Word
from rootwrap_daemon.client.held import Held
from rootwrap_daemon.client.launch import Launcher
from rootwrap_daemon.client.pipes import PIPE, Ends, Stream, wait
from rootwrap_daemon.client.pool import Turn
from rootwrap_daemon.client.request import Attempt, TryAgain, started
from rootwrap_daemon.errors import LocalProtocolError
from rootwrap_daemon.protocol.messages import Result

Capture = Literal["daemon", "pipe"]


class _Gate:
    """What one task waits at until it is opened, maybe out of another loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._event = asyncio.Event()

    async def wait(self) -> None:
        await self._event.wait()

    def open(self) -> None:
        # A closed loop: nobody waits in it.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._event.set)


class AsyncClient:
    """Runs commands through the daemon that listens on `path`; other tasks go on meanwhile.

    As with `rootwrap_daemon.client.Client`, at most `max_connections` commands run at once, each on a
    connection of its own; further tasks wait for one. Loops in several native threads may share a client.
    Cancelling a task ends its command. A child made by fork begins without connections, and needs a loop of
    its own.
    """

    def __init__(self, path: str | bytes | os.PathLike[str], max_connections: int = 128) -> None:
        self._path = os.fspath(path)
        self._held = Held(max_connections)
        self._gates: set[_Gate] = set()
        self._launcher: Launcher | None = None

    @classmethod
    def launch(cls, argv: Sequence[str], max_connections: int = 128) -> Self:
        """A client of a daemon of its own, as `threads.Client.launch`; `async with` waits for its end."""
        client = cls(argv[0] if argv else "", max_connections)
        client._launcher = Launcher(argv, wait, threading.Lock())
        return client

    @overload
    async def run(
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
    async def run(
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
    async def run(
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

    async def run(
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
        """Run a command to its end: arguments, result and errors are those of `threads.Client.run`."""
        if capture == "pipe":
            answer = await self._run_on_pipes(argv, core.input_bytes(input), env, timeout)
        else:
            answer = await self._ask(core.run_request(argv, input, env, timeout), timeout)
        return core.completed(argv, answer, timeout=timeout, check=check, text=text)

    async def _run_on_pipes(
        self, argv: Sequence[Word], input: bytes | None, env: Environ | None, timeout: float | None
    ) -> core.Answer:
        stdin = None if input is None else PIPE
        process = await self.popen(argv, stdin=stdin, stdout=PIPE, stderr=PIPE, env=env, timeout=timeout)
        async with process:
            stdout, stderr = await process.communicate(input)
            return Result("", await process.wait(), stdout or b"", stderr or b"")

    async def check(self, argv: Sequence[Word], env: Environ | None = None) -> Decision:
        """Would this command be allowed? Runs nothing. Raises an Error of `rootwrap_daemon.errors`."""
        return core.decided(argv, await self._ask(core.check_request(argv, env), None))

    async def popen(
        self,
        argv: Sequence[Word],
        *,
        stdin: Stream = None,
        stdout: Stream = None,
        stderr: Stream = None,
        env: Environ | None = None,
        timeout: float | None = None,
    ) -> Process:
        """Start a command as `asyncio.create_subprocess_exec` does; what it reads and writes never enters
        the daemon.

        `stdin`, `stdout`, `stderr`: PIPE, DEVNULL (as None), STDOUT for `stderr`, or an anonymous pipe that
        this user made; nothing else can be passed. Does not count against `max_connections`. Raises as `run`.
        """
        ends = Ends(stdin, stdout, stderr)
        turn: Turn[Connection] = Turn(lambda: None)
        process = None
        try:
            request = core.start_request(argv, env, timeout, ends.theirs)
            theirs = [end for end in ends.theirs if end is not None]
            connection, answer, _ = await self._exchange(turn, request, timeout, *theirs)
            running = started(connection.exchange, argv, answer, timeout, time.monotonic())
            process = Process(argv, timeout, connection, running)
            ends.close_theirs()
            await process.open(ends, answer if isinstance(answer, Result) else None)
            return process
        except BaseException:
            if process is not None:
                process.close()
            self._held.discard(turn)
            raise
        finally:
            ends.abandon()

    def close(self) -> None:
        """Close what is idle and begin nothing more. Commands that run end as they would have."""
        self._held.close()
        for gate in list(self._gates):
            gate.open()
        if self._launcher is not None:
            next(self._launcher.close(), None)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        if self._launcher is not None:
            for pause in self._launcher.close():
                await asyncio.sleep(pause)

    async def _ask(self, request: core.Request, timeout: float | None) -> core.Answer:
        # One and the same to the end: after a fork the child has another.
        pool = self._held.pool
        gate = _Gate()
        turn: Turn[Connection] = Turn(gate.open)
        keep = False
        try:
            self._gates.add(gate)
            pool.enter(turn)
            # Whoever closes the pool opens the gates afterwards, so none is missed.
            if not (turn.granted or pool.closed):
                await gate.wait()
            if pool.closed:
                raise LocalProtocolError("this client is closed")
            _, answer, keep = await self._exchange(turn, request, timeout)
            return answer
        finally:
            self._gates.discard(gate)
            if not keep:
                self._held.discard(turn)
            pool.leave(turn)
            if pool.closed:
                self._held.close()

    async def _exchange(
        self, turn: Turn[Connection], request: core.Request, timeout: float | None, *descriptors: int
    ) -> tuple[Connection, core.Answer, bool]:
        """Where the answer came from, itself, and whether the connection is good for another request."""
        connection = turn.connection
        if connection is None or not connection.usable(socket.socket):
            connection = await self._connect(turn)
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
                answer = await _converse(connection, attempt)
                return connection, answer, attempt.reusable(answer)
            except TryAgain:
                # A last attempt raises no TryAgain.
                last = True
            connection = await self._connect(turn)

    async def _connect(self, turn: Turn[Connection]) -> Connection:
        """Make a fresh connection for this turn, instead of the one it holds. Raises DaemonUnavailable."""
        self._held.discard(turn)
        made = None if self._launcher is None else await _handed_out(self._launcher)
        try:
            connection = Connection(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, made))
            self._held.hold(turn, connection)
            if made is not None:
                return connection
            deadline = time.monotonic() + core.CONNECT_SECONDS
            while not connection.try_to_connect(self._path, last=time.monotonic() >= deadline):
                await asyncio.sleep(core.CONNECT_PAUSE)
        except OSError as error:
            raise core.unreachable(self._path, error) from error
        return connection


async def _handed_out(launcher: Launcher) -> int:
    """The descriptor of a connection that the daemon made; a native thread waits its turn for that."""
    made = asyncio.get_running_loop().run_in_executor(None, launcher.connect)
    try:
        return await asyncio.shield(made)
    except asyncio.CancelledError:
        made.add_done_callback(_close_unwanted)
        raise


def _close_unwanted(made: asyncio.Future[int]) -> None:
    if not made.cancelled() and made.exception() is None:
        os.close(made.result())


async def _converse(connection: Connection, attempt: Attempt) -> core.Answer:
    """Say it, and wait for the answer. Raises what `attempt` raises."""
    sock = connection.sock
    sock.settimeout(0.0)
    while attempt.unwritten:
        if not connection.write(attempt):
            await ready(sock.fileno(), attempt.patience(time.monotonic()), to_write=True)
    answer = None
    while answer is None:
        await ready(sock.fileno(), attempt.patience(time.monotonic()))
        with suppress(BlockingIOError):
            answer = connection.read(attempt)
    return answer
