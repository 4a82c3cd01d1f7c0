"""What is asyncio's alone: cancelled tasks, streams, loops that end."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from rootwrap_daemon.client import PIPE, STDOUT, BadRequest, OutcomeUnknown
from rootwrap_daemon.client.aio import AsyncClient
from tests.processes import PATIENCE
from tests.real_daemon import Daemon, our_descriptors, wait_for


def play(daemon: Daemon, scenario: Callable[[AsyncClient], Awaitable[Any]]) -> Any:
    """In a loop that says what was never awaited or closed."""

    async def main() -> Any:
        async with AsyncClient(daemon.socket, connect_timeout=PATIENCE) as client:
            return await scenario(client)

    return asyncio.run(main(), debug=True)


def test_streams_are_asyncios(daemon: Daemon) -> None:
    async def scenario(client: AsyncClient) -> None:
        process = await client.popen(["cat"], stdin=PIPE, stdout=PIPE, stderr=STDOUT)
        assert isinstance(process.stdin, asyncio.StreamWriter)
        assert isinstance(process.stdout, asyncio.StreamReader)
        assert process.stderr is None
        process.stdin.writelines([b"one\n", b"two\n"])
        await process.stdin.drain()
        process.stdin.close()
        await process.stdin.wait_closed()
        assert [line async for line in process.stdout] == [b"one\n", b"two\n"]
        assert process.stdout.at_eof()
        assert await process.wait() == 0

    play(daemon, scenario)


def test_a_start_that_is_cancelled(daemon: Daemon) -> None:
    """At whatever point: nothing is left open here, and nothing runs on there."""

    async def scenario(client: AsyncClient) -> None:
        await client.run(["true"])
        before = our_descriptors()
        for rounds in range(40):
            task = asyncio.create_task(
                client.popen(["sleep", "1000"], stdin=PIPE, stdout=PIPE, stderr=PIPE, timeout=60)
            )
            for _ in range(rounds):
                await asyncio.sleep(0 if rounds % 2 else 0.0005)
            if task.done():
                (await task).close()
            elif task.cancel():
                with pytest.raises(asyncio.CancelledError):
                    await task
        # Transports close in the next rounds of the loop.
        async with asyncio.timeout(PATIENCE):
            while our_descriptors() > before:
                await asyncio.sleep(0.01)

    play(daemon, scenario)
    wait_for(lambda: not daemon.children())


def test_wait_can_be_cancelled_and_the_command_goes_on(daemon: Daemon) -> None:
    async def scenario(client: AsyncClient) -> None:
        async with await client.popen(["cat"], stdin=PIPE, stdout=PIPE) as process:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(process.wait(), 0.05)
            assert process.returncode is None
            assert await process.communicate(b"still here") == (b"still here", None)

    play(daemon, scenario)


def test_input_without_a_pipe(daemon: Daemon) -> None:
    async def scenario(client: AsyncClient) -> None:
        async with await client.popen(["true"]) as process:
            with pytest.raises(BadRequest, match="stdin=PIPE"):
                await process.communicate(b"x")

    play(daemon, scenario)


def test_a_client_outlives_its_loops(daemon: Daemon) -> None:
    client = AsyncClient(daemon.socket, max_connections=1, connect_timeout=PATIENCE)
    for _ in range(3):
        assert asyncio.run(client.run(["true"])).returncode == 0
    client.close()


def test_a_loop_that_ends_ends_its_commands(daemon: Daemon) -> None:
    async def scenario(client: AsyncClient) -> Any:
        return await client.popen(["sleep", "1000"])

    process = play(daemon, scenario)
    assert daemon.children()
    process.close()
    wait_for(lambda: not daemon.children())
    with pytest.raises(OutcomeUnknown):
        asyncio.run(process.wait())
