"""Run blocking work without stopping an eventlet hub, monkey-patched or not.

Promises: right in each native thread that has a hub of its own, where eventlet.tpool knows but one. Loads
eventlet only where the process has done so already.
"""

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import IO, Any, Final, TypeVar

from rootwrap_daemon import client

T = TypeVar("T")

_ABANDONED: Final = object()


def _native_lock() -> Any:
    patcher = sys.modules.get("eventlet.patcher")
    return threading.Lock() if patcher is None else patcher.original("threading").Lock()


#: eventlet makes its green and original modules by exchanging sys.modules for a moment: one thread at a time.
_LOADING: Final = _native_lock()


def _load(load: Callable[[], T]) -> T:
    with _LOADING:
        return load()


def in_hub() -> bool:
    """True if this native thread has a hub, which a blocking call would stop."""
    hubs = sys.modules.get("eventlet.hubs")
    # Not get_hub(), which makes one for every thread that asks.
    return hubs is not None and getattr(hubs._threadlocal, "hub", None) is not None


def aside(call: Callable[[], T], undo: Callable[[T], object] | None = None) -> T:
    """Return or raise what `call` does; where there is a hub it runs in a native thread of its own.

    A greenthread that is ended while it waits leaves the call to itself; `undo` gets what that returns.
    """
    if not in_hub():
        return call()
    from eventlet.hubs import trampoline

    # Not patched: a thread, not a greenthread.
    native_thread = _load(_native_thread)
    outcome: dict[int, Any] = {}
    reader, writer = os.pipe()

    def work() -> None:
        done: tuple[Any, BaseException | None]
        try:
            done = (call(), None)
        except BaseException as error:  # noqa: BLE001 - the caller gets it, whatever it is
            done = (None, error)
        # Who is first here decides: the call that returns, or the caller that is ended.
        if outcome.setdefault(0, done) is _ABANDONED:
            give_back(done)
        os.close(writer)
        # The traceback of an error has this frame, and the two would wait for the collector.
        del done

    def give_back(done: tuple[Any, BaseException | None]) -> None:
        if undo is not None and done[1] is None:
            undo(done[0])

    try:
        native_thread(target=work, daemon=True).start()
        trampoline(reader, read=True)
    except BaseException:
        done = outcome.setdefault(0, _ABANDONED)
        if done is not _ABANDONED:
            give_back(done)
        raise
    finally:
        os.close(reader)
    value, error = outcome.pop(0)
    try:
        if error is not None:
            raise error
    finally:
        # As above.
        del error
    result: T = value
    return result


def _native_thread() -> Any:
    from eventlet.patcher import original

    return original("threading").Thread


def _green_subprocess() -> tuple[Any, Any]:
    from eventlet.green import subprocess as green_subprocess
    from eventlet.greenio import GreenPipe

    return green_subprocess.Popen, GreenPipe


def _green_client() -> Any:
    from rootwrap_daemon.client.green import Client

    return Client


class Clients:
    """The client that is right where it is asked for, for the daemon at `path`; made when needed."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._made: dict[bool, client.Client] = {}

    def get(self) -> client.Client:
        """The green one where a hub runs beside sockets that are not patched."""
        green = in_hub() and not _sockets_are_patched()
        made = self._made.get(green)
        if made is None:
            # Two that come at once make two, of which one stays: it has no connection yet.
            kind: type[client.Client] = _load(_green_client) if green else client.Client
            made = self._made.setdefault(green, kind(self.path))
        return made


def _sockets_are_patched() -> bool:
    from eventlet.patcher import is_monkey_patched

    return bool(is_monkey_patched("socket"))


def start(argv: list[str], env: dict[str, str]) -> "subprocess.Popen[bytes]":
    """Start a local process with pipes for its standard streams, all of which leave the hub going.

    Starting takes as long as a fork; it is done aside. The pipes and the process's end are then waited for in
    the hub, which costs no thread: `ip monitor` may run for months.
    """
    popen: Any = subprocess.Popen
    opened: Callable[[int, str], IO[bytes]] = open
    if in_hub():
        popen, opened = _load(_green_subprocess)
    with contextlib.ExitStack() as cleanup:
        pipes = [os.pipe() for _ in range(3)]
        theirs = [pipes[0][0], pipes[1][1], pipes[2][1]]
        ours = [pipes[0][1], pipes[1][0], pipes[2][0]]
        for descriptor in ours:
            cleanup.callback(os.close, descriptor)

        def spawn() -> "subprocess.Popen[bytes]":
            try:
                done: subprocess.Popen[bytes] = popen(
                    argv, stdin=theirs[0], stdout=theirs[1], stderr=theirs[2], env=env
                )
                return done
            finally:
                for descriptor in theirs:
                    os.close(descriptor)

        process = aside(spawn, undo=lambda started: started.kill())
        cleanup.pop_all()
    process.stdin, process.stdout, process.stderr = (
        opened(descriptor, mode) for descriptor, mode in zip(ours, ("wb", "rb", "rb"), strict=True)
    )
    return process


if "eventlet" in sys.modules:
    # From 3.13 on, eventlet.green.threading cannot be imported first in another thread than the main one.
    _load(_green_subprocess)
