"""The pipes between this process and a command: which end is whose, and files over ours.

Promises: an end that was made here is closed once, whatever happens.
Imports the standard library and errors; how to wait is the front end's.
"""

import io
import os
import select
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final, Protocol

from rootwrap_daemon.errors import BadRequest

PIPE: Final = subprocess.PIPE
STDOUT: Final = subprocess.STDOUT
DEVNULL: Final = subprocess.DEVNULL

#: Bytes to read or write at once: the default capacity of a pipe (pipe(7)).
CHUNK: Final = 65536


class HasFileno(Protocol):
    """An open file."""

    def fileno(self) -> int:
        """Its descriptor."""


Stream = int | HasFileno | None


class Waiting(Protocol):
    """How a front end waits."""

    def __call__(
        self, readable: Sequence[int], writable: Sequence[int], timeout: float | None, /
    ) -> Sequence[int]:
        """Those of the descriptors that can be read or written, after `timeout` seconds maybe none."""


def wait(readable: Sequence[int], writable: Sequence[int], timeout: float | None) -> Sequence[int]:
    """Wait as a native thread does, or as eventlet does once it has patched the process."""
    if not hasattr(select, "poll"):
        # eventlet takes away all that it cannot make green.
        readable, writable, _ = select.select(readable, writable, [], timeout)
        return [*readable, *writable]
    poll = select.poll()
    for descriptor in readable:
        poll.register(descriptor, select.POLLIN)
    for descriptor in writable:
        poll.register(descriptor, select.POLLOUT)
    return [descriptor for descriptor, _ in poll.poll(None if timeout is None else timeout * 1000)]


class Reader(io.RawIOBase):
    """Our end of a pipe that the command writes to. `patient`: a read waits for something to be there."""

    def __init__(self, descriptor: int, wait: Waiting) -> None:
        self._descriptor = descriptor
        self._wait = wait
        self.patient = True
        self.ended = False

    def fileno(self) -> int:
        return self._descriptor

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int | None:
        if not self._wait([self._descriptor], [], None if self.patient else 0.0):
            return None
        data = os.read(self._descriptor, len(buffer))
        self.ended = not data
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            super().close()
            os.close(self._descriptor)


class Writer(io.RawIOBase):
    """Our end of the pipe that the command reads from."""

    def __init__(self, descriptor: int, wait: Waiting) -> None:
        self._descriptor = descriptor
        self._wait = wait
        os.set_blocking(descriptor, False)

    def fileno(self) -> int:
        return self._descriptor

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        while True:
            self._wait([], [self._descriptor], None)
            with suppress(BlockingIOError):
                return os.write(self._descriptor, data[:CHUNK])

    def close(self) -> None:
        if not self.closed:
            super().close()
            os.close(self._descriptor)


class Pipes:
    """What `stdin`, `stdout` and `stderr` of `popen` ask for.

    `theirs`: the command's ends, to be passed to the daemon and then closed where we made them.
    """

    def __init__(self, stdin: Stream, stdout: Stream, stderr: Stream, wait: Waiting) -> None:
        """Raises BadRequest or OSError."""
        self._made: list[int] = []
        self._wait = wait
        self.stdin: io.BufferedWriter | None = None
        self.stdout: io.BufferedReader | io.BytesIO | None = None
        self.stderr: io.BufferedReader | io.BytesIO | None = None
        if STDOUT in (stdin, stdout):
            raise BadRequest("STDOUT is for stderr alone")
        try:
            to_read = self._end(stdin, "stdin", reads=True)
            to_write = self._end(stdout, "stdout", reads=False)
            errors = to_write if stderr == STDOUT else self._end(stderr, "stderr", reads=False)
        except BaseException:
            self.abandon()
            raise
        self.theirs = (to_read, to_write, errors)

    def _end(self, wanted: Stream, name: str, *, reads: bool) -> int | None:
        if wanted is None or wanted == DEVNULL:
            return None
        if wanted == PIPE:
            read, write = os.pipe2(os.O_CLOEXEC)
            self._made.append(read if reads else write)
            if reads:
                self.stdin = io.BufferedWriter(Writer(write, self._wait))
            else:
                setattr(self, name, io.BufferedReader(Reader(read, self._wait)))
            return self._made[-1]
        if not isinstance(wanted, int):
            wanted = wanted.fileno()
        if isinstance(wanted, bool) or wanted < 0:
            raise BadRequest(f"{name} must be PIPE, DEVNULL, a descriptor or an open file")
        return wanted

    def close_theirs(self) -> None:
        """Close the command's ends that we made: it has its own now, or never will."""
        made, self._made = self._made, []
        for descriptor in made:
            os.close(descriptor)

    def abandon(self) -> None:
        """Close all that we made."""
        self.close_theirs()
        for stream in (self.stdin, self.stdout, self.stderr):
            if stream is not None:
                stream.close()

    def fill(self, stdout: bytes, stderr: bytes) -> None:
        """Put the output of what has ended already where it was wanted."""
        for name, end, data in (("stdout", self.theirs[1], stdout), ("stderr", self.theirs[2], stderr)):
            stream = getattr(self, name)
            if stream is not None:
                stream.close()
                setattr(self, name, io.BytesIO(data))
            elif end is not None and end not in self._made:
                rest = memoryview(data)
                while rest:
                    self._wait([], [end], None)
                    rest = rest[os.write(end, rest[: os.fpathconf(end, "PC_PIPE_BUF")]) :]
