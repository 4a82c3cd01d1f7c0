"""Hold a command that runs on pipes of this process, shaped like `asyncio.subprocess.Process`.

Promises: all in the loop that started it, and nothing that blocks it.
"""

import asyncio
import io
import math
from collections.abc import Sequence
from contextlib import suppress
from typing import Self

from rootwrap_daemon.client.pipes import Ends, drained, write_some
from rootwrap_daemon.client.process import Handle
from rootwrap_daemon.client.request import Connection, Running
from rootwrap_daemon.errors import BadRequest
from rootwrap_daemon.protocol.messages import Result


async def wait(readable: Sequence[int], writable: Sequence[int], timeout: float | None) -> Sequence[int]:
    """Those of the descriptors that can be read or written, after `timeout` seconds maybe none."""
    loop = asyncio.get_running_loop()
    event, ready = asyncio.Event(), set[int]()

    def note(descriptor: int) -> None:
        ready.add(descriptor)
        event.set()

    timer = None if timeout is None else loop.call_later(timeout, event.set)
    try:
        for one in readable:
            loop.add_reader(one, note, one)
        for one in writable:
            loop.add_writer(one, note, one)
        await event.wait()
    finally:
        for one in readable:
            loop.remove_reader(one)
        for one in writable:
            loop.remove_writer(one)
        if timer is not None:
            timer.cancel()
    return list(ready)


class Process(Handle):
    """A command that runs. `stdin` is a StreamWriter, `stdout` and `stderr` StreamReaders, where asked for.

    `close`, or leaving `async with` by an exception, ends the command.
    """

    def __init__(self, connection: Connection, running: Running) -> None:
        super().__init__(connection, running)
        self.stdin: asyncio.StreamWriter | None = None
        self.stdout: asyncio.StreamReader | None = None
        self.stderr: asyncio.StreamReader | None = None
        self._loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()
        self._reading: dict[asyncio.StreamReader, asyncio.ReadTransport] = {}
        # One look at the connection, from its first byte to its end, whoever waits.
        self._loop.add_reader(connection.sock, self._receive)
        left = running.patience()
        self._timer = None if math.isinf(left) else self._loop.call_later(left, self._give_up)
        self._settle()

    async def open(self, ends: Ends, output: Result | None, limit: int) -> None:
        """Make streams of our ends. `output`: that of a command that the daemon did itself. Once."""
        self._limit = limit
        self.stdin = await self._writer(ends)
        self.stdout = await self._reader(ends, 1, None if output is None else output.stdout)
        self.stderr = await self._reader(ends, 2, None if output is None else output.stderr)

    async def wait(self) -> int:
        """Wait for the end; the return code."""
        while (code := self._running.returncode()) is None:
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
            stdout, stderr = await asyncio.gather(*reading)
        finally:
            for task in (feeding, *reading):
                task.cancel()
        self._close_stdin()
        await self.wait()
        return stdout, stderr

    def close(self) -> None:
        """Close the pipes and let go of the command: if it still runs, the daemon ends it."""
        self._close_pipes()
        self._running.lost("its handle was closed")
        self._settle()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
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
        self._connection.close()
        if self._timer is not None:
            self._timer.cancel()
        self._ended.set()
        for reader, transport in self._reading.items():
            self._tell(reader, transport)

    def _tell(self, reader: asyncio.StreamReader, transport: asyncio.BaseTransport) -> None:
        """Fail a stream whose daemon is gone: nobody ends the command then, and with it the stream."""
        error = self._running.error() if self._running.is_lost else None
        if error is not None and not transport.is_closing():
            reader.set_exception(error)

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
                await wait((), [callers], None)
                rest = write_some(callers, rest)
            return None
        reader = asyncio.StreamReader(self._limit)
        if output is not None:
            reader.feed_data(output)
            reader.feed_eof()
            return reader
        ends.ours[number] = None
        transport, _ = await self._loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), io.FileIO(descriptor, "rb")
        )
        self._reading[reader] = transport
        self._tell(reader, transport)
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
    """Let the stream end with what is in the pipe now."""
    if not transport.is_closing():
        for data in drained(transport.get_extra_info("pipe").fileno()):
            reader.feed_data(data)
        transport.close()
