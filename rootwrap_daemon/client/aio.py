"""Run commands for asyncio.

Promises: what `threads.Client` does; nothing blocks the loop; a cancelled task ends its command. The only
module beside `aio_process` that imports asyncio.
"""

import asyncio
import os
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Literal, Self, Unpack, overload

from rootwrap_daemon.client.aio_process import Process, wait
from rootwrap_daemon.client.calls import CONNECT_SECONDS, Calls
from rootwrap_daemon.client.core import CompletedCommand, Decision, Environ, RunOptions, Word
from rootwrap_daemon.client.launch import Launcher
from rootwrap_daemon.client.pipes import Ends, Stream


class AsyncClient:
    """Runs commands through the daemon that listens on `path`; other tasks go on meanwhile.

    As with `rootwrap_daemon.client.Client`, at most `max_connections` commands run at once, each on a
    connection of its own; further tasks wait for one. Loops in several native threads may share a client.
    Cancelling a task ends its command. A child made by fork begins without connections, and needs a loop of
    its own.
    """

    def __init__(
        self,
        path: str | bytes | os.PathLike[str],
        max_connections: int = 128,
        *,
        connect_timeout: float = CONNECT_SECONDS,
    ) -> None:
        self._calls = Calls(path, max_connections, connect_timeout, wait, _Gate)

    @classmethod
    def launch(cls, argv: Sequence[str], max_connections: int = 128) -> Self:
        """A client of a daemon of its own, as `threads.Client.launch`; `async with` waits for its end."""
        client = cls(argv[0] if argv else "", max_connections)
        client._calls.launcher = Launcher(argv)
        return client

    @overload
    async def run(
        self, argv: Sequence[Word], *, text: Literal[False] = False, **options: Unpack[RunOptions]
    ) -> CompletedCommand[bytes]: ...

    @overload
    async def run(
        self, argv: Sequence[Word], *, text: Literal[True], **options: Unpack[RunOptions]
    ) -> CompletedCommand[str]: ...

    @overload
    async def run(
        self, argv: Sequence[Word], *, text: bool, **options: Unpack[RunOptions]
    ) -> CompletedCommand[bytes] | CompletedCommand[str]: ...

    async def run(
        self, argv: Sequence[Word], *, text: bool = False, **options: Unpack[RunOptions]
    ) -> CompletedCommand[bytes] | CompletedCommand[str]:
        """Run a command to its end: arguments, result and errors are those of `threads.Client.run`."""
        return await self._calls.run(argv, options, text=text)

    async def allows(
        self, argv: Sequence[Word], env: Environ | None = None, *, user: str | None = None
    ) -> Decision:
        """Would this command be allowed? Runs nothing. Raises an Error of `rootwrap_daemon.errors`."""
        return await self._calls.allows(argv, env, user)

    async def status(self) -> dict[str, Any]:
        """Return what the daemon says of itself; the reference describes it. Raises an Error, as Denied."""
        return await self._calls.status()

    async def popen(
        self,
        argv: Sequence[Word],
        *,
        stdin: Stream = None,
        stdout: Stream = None,
        stderr: Stream = None,
        env: Environ | None = None,
        timeout: float | None = None,
        user: str | None = None,
        limit: int = 2**16,
    ) -> Process:
        """Start a command as `asyncio.create_subprocess_exec` does; what it reads and writes never enters
        the daemon.

        `stdin`, `stdout`, `stderr`: PIPE, DEVNULL (as None), STDOUT for `stderr`, or an anonymous pipe that
        this user made; nothing else can be passed. `limit`: bytes that a line of a stream may have, as there.
        Does not count against `max_connections`. Raises as `run`.
        """
        ends = Ends(stdin, stdout, stderr)
        process = None
        try:
            connection, running = await self._calls.start(argv, env, timeout, ends.theirs, user)
            process = Process(connection, running)
            ends.close_theirs()
            await process.open(ends, running.output, limit)
            return process
        except BaseException:
            if process is not None:
                process.close()
            raise
        finally:
            ends.abandon()

    def close(self) -> None:
        """Close what is idle and begin nothing more. Commands that run end as they would have."""
        self._calls.stop()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._calls.stopped()


class _Gate:
    """A gate at which one task waits until it is opened, perhaps from another loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._event = asyncio.Event()

    async def wait(self) -> None:
        await self._event.wait()

    def open(self) -> None:
        # A closed loop: nobody waits in it.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._event.set)
