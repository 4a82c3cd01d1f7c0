"""Keeps links up, with asyncio: streams `ip monitor`, and sets a link of its own up again when it goes down.

    python -m examples.asyncio_monitor --socket /run/rootwrap-daemon/rootwrap-daemon.sock [--prefix na-]

Runs as any user that the daemon answers, with the filters of `monitor.filters`; until SIGTERM or SIGINT.
"""

import argparse
import asyncio
import re
import signal

from rootwrap_daemon.client import PIPE
from rootwrap_daemon.client.aio import AsyncClient
from rootwrap_daemon.errors import Error

#: A line of `ip -o link show` and `ip -o monitor link`: index, name, flags. "Deleted" comes in front of some.
_LINE = re.compile(rb"\d+: ([^:@ ]+)[^<]*<([^>]*)>")
#: Seconds before the daemon is asked again after it went away.
_PAUSE = 1.0


def down(line: bytes, prefix: bytes) -> str | None:
    """The name of a link of ours that this line shows to be down."""
    match = _LINE.match(line)
    if match is None or not match[1].startswith(prefix) or b"UP" in match[2].split(b","):
        return None
    return match[1].decode()


class Monitor:
    """Watches and mends, through one client."""

    def __init__(self, client: AsyncClient, prefix: str) -> None:
        self._client = client
        self._prefix = prefix.encode()

    async def run(self) -> None:
        """Work until cancelled: that ends `ip monitor`, too."""
        while True:
            try:
                await self._watch()
                print("not watching: ip monitor ended", flush=True)
            except Error as error:
                # Nothing is lost: what is down then is seen at the next start.
                print(f"not watching: {error}", flush=True)
            await asyncio.sleep(_PAUSE)

    async def _watch(self) -> None:
        async with await self._client.popen(["ip", "-o", "monitor", "link"], stdout=PIPE) as process:
            if process.stdout is None:
                return
            print("watching", flush=True)
            # Only now: what changes meanwhile is in the stream.
            found = await self._client.run(["ip", "-o", "link", "show"], timeout=10, check=True)
            async with asyncio.TaskGroup() as group:
                for line in found.stdout.splitlines():
                    self._react(line, group)
                async for line in process.stdout:
                    self._react(line, group)

    def _react(self, line: bytes, group: asyncio.TaskGroup) -> None:
        name = down(line, self._prefix)
        if name is not None:
            # The stream is read on meanwhile.
            group.create_task(self._set_up(name))

    async def _set_up(self, name: str) -> None:
        try:
            await self._client.run(["ip", "link", "set", "dev", name, "up"], timeout=10, check=True)
        except Error as error:
            # Gone again, for example: one link's trouble is not the others'.
            print(f"{name}: {error}", flush=True)
        else:
            print(f"{name}: set up", flush=True)


async def main() -> None:
    """Run until told to stop."""
    parser = argparse.ArgumentParser(description="Keep links up.")
    parser.add_argument("--socket", default="/run/rootwrap-daemon/rootwrap-daemon.sock")
    parser.add_argument("--prefix", default="na-", help="of the names of the links to keep up")
    options = parser.parse_args()
    async with AsyncClient(options.socket) as client:
        task = asyncio.create_task(Monitor(client, options.prefix).run())
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        await asyncio.wait([task])
        if not task.cancelled():
            task.result()


if __name__ == "__main__":
    asyncio.run(main())
