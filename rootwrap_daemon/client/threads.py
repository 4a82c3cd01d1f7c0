"""Run commands for native threads, and for greenthreads of a process that eventlet has monkey-patched.

Promises: safe to share between threads; an abandoned call closes its connection, which ends the command. What
waits is looked up at each use: the process may be patched later than this module was imported.
"""

import os
import select
import threading
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any, Final, Literal, Self, TypeVar, Unpack, overload

from rootwrap_daemon.client.calls import CONNECT_SECONDS, Calls, Gate
from rootwrap_daemon.client.core import CompletedCommand, Decision, Environ, RunOptions, Word
from rootwrap_daemon.client.launch import Launcher
from rootwrap_daemon.client.pipes import Lock, Pipes, Stream
from rootwrap_daemon.client.process import Process

#: Seconds after which a caller that waits for a connection looks for itself: at first, and at most. It is
#: woken as a rule, but not out of another hub. Doubled each time, this costs little, and nobody waits twice
#: as long as needed.
_LOOK_FIRST: Final = 0.02
_LOOK_SECONDS: Final = 1.0
#: Seconds that one wait takes at most: poll(2) takes a C int of milliseconds.
_LONGEST: Final = 24 * 3600.0

T = TypeVar("T")


class Client:
    """Runs commands through the daemon that listens on `path`.

    At most `max_connections` commands at once, each on a connection of its own; further callers wait for one.
    Connections are made when needed and kept. A child made by fork begins without any. `connect_timeout`:
    seconds that connecting and the daemon's hello may take; what has a shorter `timeout` waits no longer than
    that for them, but at least one second.
    """

    def __init__(
        self,
        path: str | bytes | os.PathLike[str],
        max_connections: int = 128,
        *,
        connect_timeout: float = CONNECT_SECONDS,
    ) -> None:
        self._calls = Calls(path, max_connections, connect_timeout, self._waits, self._new_gate)

    @classmethod
    def launch(cls, argv: Sequence[str], max_connections: int = 128) -> Self:
        """A client of a daemon of its own, which `argv` starts, such as `sudo -n rootwrap-daemon ...`.

        For development and containers; the daemon ends with this client. A service that starts as root says
        `--peer-uid` there, of the user that it becomes then. Raises BadRequest or DaemonUnavailable; that the
        daemon refused to start shows at the first call.
        """
        client = cls(argv[0] if argv else "", max_connections)
        client._calls.launcher = Launcher(argv)
        return client

    @overload
    def run(
        self, argv: Sequence[Word], *, text: Literal[False] = False, **options: Unpack[RunOptions]
    ) -> CompletedCommand[bytes]: ...

    @overload
    def run(
        self, argv: Sequence[Word], *, text: Literal[True], **options: Unpack[RunOptions]
    ) -> CompletedCommand[str]: ...

    @overload
    def run(
        self, argv: Sequence[Word], *, text: bool, **options: Unpack[RunOptions]
    ) -> CompletedCommand[bytes] | CompletedCommand[str]: ...

    def run(
        self, argv: Sequence[Word], *, text: bool = False, **options: Unpack[RunOptions]
    ) -> CompletedCommand[bytes] | CompletedCommand[str]:
        """Run a command to its end, as `subprocess.run(argv, capture_output=True, ...)` does.

        Words, variables and `input` are bytes, or text that becomes UTF-8 (with surrogateescape).
        `text`: decode the output as UTF-8 (surrogateescape, so it never fails); line ends stay as they are.

        Options: `input` for its standard input, /dev/null without. `env`: variables beside those of the
        daemon. `timeout`: seconds from when a connection is free; the daemon enforces it. None: its own limit
        alone; not more than 0: CommandTimeout at once. `check`: raise CommandFailed if the return code is not
        0. `capture`: "daemon" collects the output up to a limit; "pipe" is for any amount: input and output
        do not go through the daemon. `user`: as whom, of those that the filter has; None for the first.

        Raises an Error of `rootwrap_daemon.errors`, whose `cmd` is `argv`. After any of them but
        OutcomeUnknown, CommandTimeout, OutputLimit, CommandFailed and InternalError the command did not run.
        """
        return now(self._calls.run(argv, options, text=text))

    def allows(
        self, argv: Sequence[Word], env: Environ | None = None, *, user: str | None = None
    ) -> Decision:
        """Would this command be allowed? Runs nothing. Raises an Error of `rootwrap_daemon.errors`."""
        return now(self._calls.allows(argv, env, user))

    def status(self) -> dict[str, Any]:
        """Return what the daemon says of itself; the reference describes it. Raises an Error, as Denied."""
        return now(self._calls.status())

    def popen(
        self,
        argv: Sequence[Word],
        *,
        stdin: Stream = None,
        stdout: Stream = None,
        stderr: Stream = None,
        env: Environ | None = None,
        timeout: float | None = None,
        user: str | None = None,
    ) -> Process:
        """Start a command as `subprocess.Popen` does; what it reads and writes never enters the daemon.

        `stdin`, `stdout`, `stderr`: PIPE, DEVNULL (as None), STDOUT for `stderr`, or an anonymous pipe that
        this user made; nothing else can be passed. Does not count against `max_connections`. Raises as `run`.
        """
        pipes = Pipes(stdin, stdout, stderr, self._wait)
        connection = None
        try:
            connection, running = now(self._calls.start(argv, env, timeout, pipes.theirs, user))
            if running.output is not None:
                pipes.fill(running.output.stdout, running.output.stderr)
        except BaseException:
            if connection is not None:
                connection.close()
            pipes.close()
            raise
        pipes.close_theirs()
        return Process(connection, running, pipes, self._wait, self._new_lock())

    def close(self) -> None:
        """Close what is idle and begin nothing more. Commands that run end as they would have."""
        now(self._calls.stopped())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # How this front end waits.

    async def _waits(
        self, readable: Sequence[int], writable: Sequence[int], timeout: float | None
    ) -> Sequence[int]:
        return self._wait(readable, writable, timeout)

    def _wait(self, readable: Sequence[int], writable: Sequence[int], timeout: float | None) -> Sequence[int]:
        return wait(readable, writable, timeout)

    def _new_gate(self) -> Gate:
        return _Gate(self._new_lock())

    def _new_lock(self) -> Lock:
        return threading.Lock()


def now(coroutine: Coroutine[object, None, T]) -> T:
    """Run a coroutine that never suspends, because what it awaits makes this thread or greenthread wait."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    raise RuntimeError("something was awaited that does not wait here")


def wait(readable: Sequence[int], writable: Sequence[int], timeout: float | None) -> Sequence[int]:
    """Those of the descriptors that can be read or written, after `timeout` seconds maybe none.

    Waits as a native thread does, or as eventlet does once it has patched the process.
    """
    new_poll: Callable[[], Any] | None = getattr(select, "poll", None)
    if new_poll is None:
        # eventlet takes away all that it cannot make green.
        from rootwrap_daemon.client import hub

        return hub.wait(readable, writable, timeout)
    poll = new_poll()
    for descriptor in readable:
        poll.register(descriptor, 5 if descriptor in writable else 1)
    for descriptor in writable:
        if descriptor not in readable:
            poll.register(descriptor, 4)
    return [one for one, _ in poll.poll(None if timeout is None else min(timeout, _LONGEST) * 1000)]


class _Gate:
    """A lock that another caller opens."""

    def __init__(self, lock: Lock) -> None:
        lock.acquire()
        self._lock = lock
        self._look = _LOOK_FIRST
        # A lock of eventlet's must not be released out of another native thread (eventlet.tpool): that would
        # switch to a greenthread of a foreign hub, which fails.
        native = type(lock).__module__ == "_thread"
        self._only_in = None if native else threading.get_native_id()

    async def wait(self) -> None:
        self._lock.acquire(True, self._look)
        self._look = min(2 * self._look, _LOOK_SECONDS)

    def open(self) -> None:
        if self._only_in in (None, threading.get_native_id()):
            # Open already: by who granted the connection, or closed the client.
            with suppress(RuntimeError):
                self._lock.release()
