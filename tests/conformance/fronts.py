"""The front ends behind one face, so that one list of scenarios plays over all of them.

A scenario is a coroutine. What blocks a native thread or a greenthread never suspends it, so one `send` plays
it to its end; asyncio plays it as its own.
"""

import asyncio
import os
import signal
import threading
import time
import traceback
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Protocol

Play = Coroutine[Any, Any, Any]


#: A busy machine delays the hello of a daemon.
PATIENT = {"connect_timeout": 60.0}
#: Seconds between two looks at a file.
_LOOK = 0.01


class GivenUp(Exception):
    """The caller did not wait any longer."""


class Task(Protocol):
    """Something that goes on beside the scenario."""

    async def result(self) -> Any:
        """What it returned or raised."""

    def end(self) -> None:
        """It is not wanted any more. Native threads go on."""


class Front(Protocol):
    """One front end, and how callers of its kind wait."""

    #: False where nobody can be made to stop waiting from outside, but by a signal in the main thread.
    kills: bool

    #: `while_absent` makes the caller stop waiting, as its kind does, when there is a file at `path`.
    def client(self, path: str, **options: Any) -> Any: ...
    def play(self, scenario: Play) -> Any: ...
    def spawn(self, scenario: Play) -> Task: ...
    async def sleep(self, seconds: float) -> None: ...
    async def while_absent(self, path: str, scenario: Play) -> Any: ...
    def native(self, play: Callable[[], Play]) -> threading.Thread: ...
    def anew(self) -> None: ...


def drive(scenario: Play) -> Any:
    """Play what never suspends."""
    try:
        scenario.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("it suspended")


class Result:
    """What became of something in another thread."""

    def __init__(self) -> None:
        self._value: Any = None
        self._error: BaseException | None = None

    def take(self, play: Callable[[Play], Any], scenario: Play) -> None:
        try:
            self._value = play(scenario)
        except BaseException as error:
            self._error = error

    def get(self) -> Any:
        if self._error is not None:
            raise self._error
        return self._value


# Clients and processes of those that block.


class BlockingClient:
    def __init__(self, client: Any) -> None:
        self._client = client
        self.close = client.close

    async def run(self, *args: Any, **options: Any) -> Any:
        return self._client.run(*args, **options)

    async def allows(self, *args: Any, **options: Any) -> Any:
        return self._client.allows(*args, **options)

    async def popen(self, *args: Any, **options: Any) -> "BlockingProcess":
        return BlockingProcess(self._client.popen(*args, **options))


class BlockingProcess:
    def __init__(self, process: Any) -> None:
        self._process = process

    def __getattr__(self, name: str) -> Any:
        return getattr(self._process, name)

    async def write(self, data: bytes) -> None:
        self._process.stdin.write(data)
        self._process.stdin.flush()

    async def readline(self) -> Any:
        return self._process.stdout.readline()

    async def read(self) -> Any:
        return self._process.stdout.read()

    def end_of_input(self) -> None:
        self._process.stdin.close()

    async def wait(self) -> Any:
        return self._process.wait()

    async def communicate(self, input: bytes | None = None) -> Any:
        return self._process.communicate(input)

    async def __aenter__(self) -> "BlockingProcess":
        self._process.__enter__()
        return self

    async def __aexit__(self, *error: Any) -> None:
        self._process.__exit__(*error)


# And of asyncio.


class AsyncClient:
    def __init__(self, client: Any) -> None:
        self._client = client
        self.run, self.allows, self.close = client.run, client.allows, client.close

    async def popen(self, *args: Any, **options: Any) -> "AsyncProcess":
        return AsyncProcess(await self._client.popen(*args, **options))


class AsyncProcess:
    def __init__(self, process: Any) -> None:
        self._process = process

    def __getattr__(self, name: str) -> Any:
        return getattr(self._process, name)

    async def write(self, data: bytes) -> None:
        self._process.stdin.write(data)
        await self._process.stdin.drain()

    async def readline(self) -> Any:
        return await self._process.stdout.readline()

    async def read(self) -> Any:
        return await self._process.stdout.read()

    def end_of_input(self) -> None:
        self._process.stdin.close()

    async def __aenter__(self) -> "AsyncProcess":
        await self._process.__aenter__()
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self._process.__aexit__(*error)


# The four.


class Threads:
    """`client.Client` in native threads."""

    kills = False

    def __init__(self) -> None:
        from rootwrap_daemon.client import Client

        self._class: Any = Client

    def client(self, path: str, **options: Any) -> BlockingClient:
        return BlockingClient(self._class(path, **PATIENT | options))

    def play(self, scenario: Play) -> Any:
        return drive(scenario)

    def spawn(self, scenario: Play) -> Task:
        return _Thread(scenario)

    async def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    async def while_absent(self, path: str, scenario: Play) -> Any:
        def look(*_: object) -> None:
            if os.path.exists(path):
                raise GivenUp

        before = signal.signal(signal.SIGALRM, look)
        signal.setitimer(signal.ITIMER_REAL, _LOOK, _LOOK)
        try:
            return drive(scenario)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)

    def native(self, play: Callable[[], Play]) -> threading.Thread:
        return threading.Thread(target=lambda: drive(play()))

    def anew(self) -> None:
        pass


class _Thread:
    def __init__(self, scenario: Play) -> None:
        self._result = Result()
        self._thread = threading.Thread(target=self._result.take, args=(drive, scenario), daemon=True)
        self._thread.start()

    async def result(self) -> Any:
        self._thread.join()
        return self._result.get()

    def end(self) -> None:
        pass


class Green:
    """`client.green.Client`, nothing patched."""

    kills = True

    def __init__(self) -> None:
        import eventlet

        from rootwrap_daemon.client.green import Client

        self._class: Any = Client
        self._eventlet: Any = eventlet

    def client(self, path: str, **options: Any) -> BlockingClient:
        return BlockingClient(self._class(path, **PATIENT | options))

    def play(self, scenario: Play) -> Any:
        return drive(scenario)

    def spawn(self, scenario: Play) -> Task:
        return _Greenthread(self._eventlet, scenario)

    async def sleep(self, seconds: float) -> None:
        self._eventlet.sleep(seconds)

    async def while_absent(self, path: str, scenario: Play) -> Any:
        caller = self._eventlet.getcurrent()

        def look() -> None:
            while not os.path.exists(path):
                self._eventlet.sleep(_LOOK)
            caller.throw(GivenUp)

        watcher = self._eventlet.spawn(look)
        try:
            return drive(scenario)
        finally:
            watcher.kill()

    def native(self, play: Callable[[], Play]) -> threading.Thread:
        thread: threading.Thread = self._eventlet.patcher.original("threading").Thread(
            target=lambda: drive(play())
        )
        return thread

    def anew(self) -> None:
        # The parent's holds an epoll descriptor that both would share.
        self._eventlet.hubs.use_hub()


class Patched(Green):
    """`client.Client` in a process that eventlet has patched."""

    def __init__(self) -> None:
        import eventlet

        eventlet.monkey_patch()
        from rootwrap_daemon.client import Client

        self._class = Client
        self._eventlet = eventlet


class _Greenthread:
    def __init__(self, eventlet: Any, scenario: Play) -> None:
        # Not what `wait` gives: the hub prints what a greenthread raises.
        self._result = Result()
        self._thread = eventlet.spawn(self._result.take, drive, scenario)

    async def result(self) -> Any:
        self._thread.wait()
        return self._result.get()

    def end(self) -> None:
        self._thread.kill()


class Aio:
    """`client.aio.AsyncClient`."""

    kills = True

    def __init__(self) -> None:
        from rootwrap_daemon.client.aio import AsyncClient as Client

        self._class: Any = Client

    def client(self, path: str, **options: Any) -> AsyncClient:
        return AsyncClient(self._class(path, **PATIENT | options))

    def play(self, scenario: Play) -> Any:
        return asyncio.run(scenario)

    def spawn(self, scenario: Play) -> Task:
        return _AsyncTask(asyncio.get_running_loop().create_task(scenario))

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def while_absent(self, path: str, scenario: Play) -> Any:
        task = asyncio.get_running_loop().create_task(scenario)
        while not os.path.exists(path) and not task.done():
            await asyncio.sleep(_LOOK)
        task.cancel()
        try:
            return await task
        except asyncio.CancelledError as error:
            raise GivenUp from error

    def native(self, play: Callable[[], Play]) -> threading.Thread:
        return threading.Thread(target=lambda: asyncio.run(play()))

    def anew(self) -> None:
        pass


class _AsyncTask:
    def __init__(self, task: "asyncio.Task[Any]") -> None:
        self._task = task

    async def result(self) -> Any:
        return await self._task

    def end(self) -> None:
        self._task.cancel()


FRONTS: dict[str, Callable[[], Front]] = {"threads": Threads, "patched": Patched, "green": Green, "aio": Aio}


async def in_a_child(front: Front, play: Callable[[], Play]) -> int:
    """Play this in a child made by fork; its exit code."""
    pid = os.fork()
    if not pid:
        code = 1
        try:
            front.anew()
            front.play(play())
            code = 0
        except BaseException:
            traceback.print_exc()
        os._exit(code)
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        await front.sleep(0.02)


async def gather(front: Front, scenarios: list[Play]) -> list[Any]:
    """All of them at once; what each returned."""
    tasks = [front.spawn(scenario) for scenario in scenarios]
    return [await task.result() for task in tasks]


async def error_of(awaitable: Awaitable[Any], kind: type[BaseException]) -> Any:
    """The error that it raises, which is of exactly this class."""
    caught: BaseException | None = None
    value = None
    try:
        value = await awaitable
    except kind as error:
        caught = error
    assert type(caught) is kind, f"{caught!r}, {value!r}"
    return caught
