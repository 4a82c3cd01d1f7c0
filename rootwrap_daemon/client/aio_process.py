"""A command that runs on pipes of this process, shaped like `asyncio.subprocess.Process`.

Promises: all in the loop that started it, and nothing that blocks it.
Imports asyncio, the standard library and its neighbours.
"""

import array
import asyncio
import fcntl
import io
import math
import os
import termios
import time
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import Self

from rootwrap_daemon.client.connection import Connection
from rootwrap_daemon.client.core import Word
from rootwrap_daemon.client.pipes import CHUNK, Ends, write_some
from rootwrap_daemon.client.request import Running
from rootwrap_daemon.errors import BadRequest
from rootwrap_daemon.protocol.messages import Result


async def ready(descriptor: int, timeout: float | None, *, to_write: bool = False) -> None:
    """Wait until it can be read (or written), or for so many seconds; whichever it was, try."""
    loop = asyncio.get_running_loop()
    event = asyncio.Event()
    add, remove = (loop.add_writer, loop.remove_writer) if to_write else (loop.add_reader, loop.remove_reader)
    add(descriptor, event.set)
    timer = None if timeout is None else loop.call_later(timeout, event.set)
    try:
        await event.wait()
    finally:
        remove(descriptor)
        if timer is not None:
            timer.cancel()


class Process:
    """A command that runs. `stdin` is a StreamWriter, `stdout` and `stderr` StreamReaders, where asked for.

    `close`, or leaving `async with` by an exception, ends the command; so does the end of this process. What
    ended a command from outside is an Error of `rootwrap_daemon.errors` (CommandTimeout,
    OutcomeUnknown and the like) that `wait` and `communicate` raise, each time they are called.
    """

    def __init__(
        self, argv: Sequence[Word], timeout: float | None, connection: Connection, running: Running
    ) -> None:
        self.args = argv
        self.pid = running.pid
        self.stdin: asyncio.StreamWriter | None = None
        self.stdout: asyncio.StreamReader | None = None
        self.stderr: asyncio.StreamReader | None = None
        self._timeout = timeout
        self._connection = connection
        self._running = running
        self._loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()
        self._reading: dict[asyncio.StreamReader, asyncio.ReadTransport] = {}
        # One look at the connection, from its first byte to its end, whoever waits.
        self._loop.add_reader(connection.sock, self._receive)
        left = running.patience(time.monotonic())
        self._timer = None if math.isinf(left) else self._loop.call_later(left, self._give_up)
        self._settle()

    async def open(self, ends: Ends, output: Result | None) -> None:
        """Make streams of our ends. `output`: that of a command that the daemon did itself. Once."""
        self.stdin = await self._writer(ends)
        self.stdout = await self._reader(ends, 1, None if output is None else output.stdout)
        self.stderr = await self._reader(ends, 2, None if output is None else output.stderr)

    @property
    def returncode(self) -> int | None:
        """Of the main process, minus the number of a signal that ended it; None as long as none is known."""
        answer = self._running.answer
        return answer.returncode if isinstance(answer, Result) else None

    async def wait(self) -> int:
        """Wait for the end; the return code."""
        while (code := self._running.returncode(self.args, self._timeout)) is None:
            await self._ended.wait()
        return code

    async def communicate(self, input: bytes | None = None) -> tuple[bytes | None, bytes | None]:
        """Write the input, read all output, wait for the end; of what has no pipe None is returned.

        It is over when the main process has ended, whatever else keeps the pipes open.
        """
        if input and self.stdin is None:
            raise BadRequest("input needs stdin=PIPE")
        feeding = asyncio.ensure_future(self._feed(input or b""))
        reading = [asyncio.ensure_future(_all(stream)) for stream in (self.stdout, self.stderr)]
        try:
            await self._ended.wait()
            for reader, transport in self._reading.items():
                _drain(reader, transport)
            stdout, stderr = await reading[0], await reading[1]
        finally:
            for task in (feeding, *reading):
                task.cancel()
        self._close_stdin()
        await self.wait()
        return stdout, stderr

    def send_signal(self, number: int) -> None:
        """Send it to the main process, if that still runs. Raises Denied if the policy does not give it."""
        self._connection.say(self._running.signal(number))

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(15)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(9)

    def cancel(self) -> None:
        """End the command's whole process group: SIGTERM, and after the daemon's grace period SIGKILL."""
        self._connection.say(self._running.cancel())

    def close(self) -> None:
        """Close the pipes and let go of the command: if it still runs, the daemon ends it."""
        self._close_pipes()
        self._running.lost("its handle was closed")
        self._settle()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._close_pipes()
            if kind is None:
                await self.wait()
        finally:
            self.close()

    # The connection.

    def _receive(self) -> None:
        self._connection.hear(self._running)
        self._settle()

    def _give_up(self) -> None:
        self._running.lost("the daemon did not answer in time")
        self._settle()

    def _settle(self) -> None:
        """Let go of the connection once the last word was said."""
        if self._running.answer is None or self._ended.is_set():
            return
        self._loop.remove_reader(self._connection.sock)
        self._connection.sock.close()
        if self._timer is not None:
            self._timer.cancel()
        self._ended.set()

    # The pipes.

    async def _writer(self, ends: Ends) -> asyncio.StreamWriter | None:
        descriptor, ends.ours[0] = ends.ours[0], None
        if descriptor is None:
            return None
        # What makes `drain` and `wait_closed` work belongs to a reader, which stays empty.
        reader = asyncio.StreamReader()
        transport, protocol = await self._loop.connect_write_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), io.FileIO(descriptor, "wb")
        )
        return asyncio.StreamWriter(transport, protocol, reader, self._loop)

    async def _reader(self, ends: Ends, number: int, output: bytes | None) -> asyncio.StreamReader | None:
        descriptor = ends.ours[number]
        if descriptor is None:
            callers, rest = ends.callers(number), memoryview(output or b"")
            while rest and callers is not None:
                await ready(callers, None, to_write=True)
                rest = write_some(callers, rest)
            return None
        reader = asyncio.StreamReader()
        if output is not None:
            reader.feed_data(output)
            reader.feed_eof()
            return reader
        ends.ours[number] = None
        self._reading[reader], _ = await self._loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), io.FileIO(descriptor, "rb")
        )
        return reader

    async def _feed(self, data: bytes) -> None:
        if self.stdin is not None:
            # A command that does not read all of its input: that is its own affair.
            with suppress(BrokenPipeError, ConnectionResetError):
                self.stdin.write(data)
                await self.stdin.drain()
            self.stdin.close()

    def _close_stdin(self) -> None:
        if self.stdin is not None:
            self.stdin.close()
            # Closed, it would still write what it has. Without any, it may be beyond an abort.
            if self.stdin.transport.get_write_buffer_size():
                self.stdin.transport.abort()

    def _close_pipes(self) -> None:
        self._close_stdin()
        for transport in self._reading.values():
            transport.close()


async def _all(stream: asyncio.StreamReader | None) -> bytes | None:
    return None if stream is None else await stream.read()


def _drain(reader: asyncio.StreamReader, transport: asyncio.ReadTransport) -> None:
    """Let the stream end with what is in the pipe now: a background child may write for ever."""
    if transport.is_closing():
        return
    descriptor = transport.get_extra_info("pipe").fileno()
    count = array.array("i", [0])
    fcntl.ioctl(descriptor, termios.FIONREAD, count)
    left = count[0]
    while left and (data := os.read(descriptor, min(left, CHUNK))):
        reader.feed_data(data)
        left -= len(data)
    transport.close()
