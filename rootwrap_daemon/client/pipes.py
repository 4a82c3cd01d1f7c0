"""Make the pipes between this process and a command, and files over our ends.

Promises: an end that was made here is closed once, whatever happens. How to wait is the front end's.
"""

import array
import fcntl
import io
import os
import select
import subprocess
import termios
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, Protocol

from rootwrap_daemon.errors import BadRequest, Busy

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
    """The way in which a front end waits."""

    def __call__(
        self, readable: Sequence[int], writable: Sequence[int], timeout: float | None, /
    ) -> Sequence[int]:
        """Those of the descriptors that can be read or written, after `timeout` seconds maybe none."""


class Lock(Protocol):
    """A lock that another than its holder may release."""

    def acquire(self, blocking: bool = True, timeout: float = -1, /) -> object:
        """Take it; wait at most `timeout` seconds for that."""

    def release(self) -> object:
        """Let another take it."""


def drained(descriptor: int) -> Iterator[bytes]:
    """Yield what is in a pipe now, and no more: a background child may write for ever."""
    count = array.array("i", [0])
    fcntl.ioctl(descriptor, termios.FIONREAD, count)
    left = count[0]
    while left and (data := os.read(descriptor, min(left, CHUNK))):
        yield data
        left -= len(data)


class _End(io.RawIOBase):
    """Our end of a pipe."""

    _file: io.FileIO

    def fileno(self) -> int:
        return self._file.fileno()

    def close(self) -> None:
        super().close()
        self._file.close()


class Reader(_End):
    """Our end of a pipe that the command writes to. `patient`: a read waits for something to be there.

    `watch`: returns what waits for that, and is False where nothing will come, if anybody watches it.
    """

    def __init__(self, descriptor: int, wait: Waiting) -> None:
        self._file = io.FileIO(descriptor, "rb")
        self._wait = wait
        self.patient = True
        self.ended = False
        self.watch: Callable[[], Callable[[int], bool] | None] = lambda: None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int | None:
        watch = self.watch()
        if watch is None or not self.patient:
            if not self._wait([self.fileno()], [], None if self.patient else 0.0):
                return None
        elif not watch(self.fileno()):
            return 0
        count = self._file.readinto(buffer)
        self.ended = count == 0
        return count


class Writer(_End):
    """Our end of the pipe that the command reads from."""

    def __init__(self, descriptor: int, wait: Waiting) -> None:
        # Not `os.write`: eventlet's own tries for ever what fails with EPIPE.
        self._file = io.FileIO(descriptor, "wb")
        self._wait = wait
        os.set_blocking(descriptor, False)

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        while True:
            self._wait([], [self.fileno()], None)
            count = self.write_now(data)
            if count is not None:
                return count

    def write_now(self, data: "memoryview | bytes") -> int | None:
        """Write what goes without waiting; None if nothing does. Raises BrokenPipeError."""
        return self._file.write(data[:CHUNK])


class Ends:
    """Return the descriptors that `stdin`, `stdout` and `stderr` of `popen` stand for.

    `ours`: our ends of the pipes made here; who takes one over puts None in its place. `theirs`: the
    command's ends, to be passed to the daemon and then closed where we made them.
    """

    def __init__(self, stdin: Stream, stdout: Stream, stderr: Stream) -> None:
        """Raises BadRequest, and Busy where this process has no more descriptors."""
        self._made: list[int] = []
        self.ours: list[int | None] = [None, None, None]
        if STDOUT in (stdin, stdout):
            raise BadRequest("STDOUT is for stderr alone")
        try:
            to_read = self._end(0, stdin)
            to_write = self._end(1, stdout)
            errors = to_write if stderr == STDOUT else self._end(2, stderr)
        except BaseException:
            self.abandon()
            raise
        self.theirs = (to_read, to_write, errors)

    def _end(self, number: int, wanted: Stream) -> int | None:
        if wanted is None or wanted == DEVNULL:
            return None
        if wanted == PIPE:
            try:
                read, write = os.pipe2(os.O_CLOEXEC)
            except OSError as error:
                raise Busy(f"no pipe can be made: {error.strerror}") from error
            mine, its = (read, write) if number else (write, read)
            self.ours[number] = mine
            self._made.append(its)
            return its
        if not isinstance(wanted, int):
            wanted = wanted.fileno()
        if isinstance(wanted, bool) or wanted < 0:
            name = ("stdin", "stdout", "stderr")[number]
            raise BadRequest(f"{name} must be PIPE, DEVNULL, a descriptor or an open file")
        return wanted

    def callers(self, number: int) -> int | None:
        """The command's end, if it is the caller's own."""
        end = self.theirs[number]
        return None if end in self._made else end

    def close_theirs(self) -> None:
        """Close the command's ends that we made: it has its own now, or never will."""
        made, self._made = self._made, []
        for descriptor in made:
            os.close(descriptor)

    def abandon(self) -> None:
        """Close all that was made and not taken over."""
        self.close_theirs()
        ours, self.ours = self.ours, [None, None, None]
        for descriptor in ours:
            if descriptor is not None:
                os.close(descriptor)


def write_some(descriptor: int, data: memoryview) -> memoryview:
    """Write to a pipe that can be written without waiting, as much as that always takes. Returns the rest."""
    # Not `os.write`: see above. PIPE_BUF (pipe(7)) bytes fit into what poll(2) calls writable.
    count = io.FileIO(descriptor, "wb", closefd=False).write(data[: select.PIPE_BUF])
    return data[count or 0 :]


class Pipes(Ends):
    """`Ends` with files over ours that wait as the front end does."""

    def __init__(self, stdin: Stream, stdout: Stream, stderr: Stream, wait: Waiting) -> None:
        """Raises BadRequest, and Busy where this process has no more descriptors."""
        super().__init__(stdin, stdout, stderr)
        self._wait = wait
        to, out, err = self.ours
        self.ours = [None, None, None]
        self.stdin = None if to is None else io.BufferedWriter(Writer(to, wait))
        self.stdout = self._reader(out)
        self.stderr = self._reader(err)

    def _reader(self, descriptor: int | None) -> io.BufferedReader | io.BytesIO | None:
        return None if descriptor is None else io.BufferedReader(Reader(descriptor, self._wait))

    def close(self) -> None:
        """Close all that was made, the files too."""
        self.abandon()
        for stream in (self.stdin, self.stdout, self.stderr):
            if stream is not None:
                stream.close()

    def fill(self, stdout: bytes, stderr: bytes) -> None:
        """Put the output of what has ended already where it was wanted."""
        for number, name, data in ((1, "stdout", stdout), (2, "stderr", stderr)):
            stream, end = getattr(self, name), self.callers(number)
            if stream is not None:
                stream.close()
                setattr(self, name, io.BytesIO(data))
            elif end is not None:
                rest = memoryview(data)
                while rest:
                    self._wait([], [end], None)
                    rest = write_some(end, rest)


class Collected:
    """Our ends of a command's pipes while all that it writes is collected, and it is given all of `input`.

    `readable`, `writable`: those to wait for.
    """

    def __init__(self, ends: Ends, input: bytes) -> None:
        self._ends = ends
        self._input = memoryview(input)
        self._output: dict[int, list[bytes]] = {end: [] for end in ends.ours[1:] if end is not None}
        self.readable = list(self._output)
        self.writable = [end for end in ends.ours[:1] if end is not None]
        for end in self.writable:
            os.set_blocking(end, False)

    def serve(self, descriptor: int) -> None:
        """Read or write once what goes without waiting."""
        if descriptor in self._output:
            data = os.read(descriptor, CHUNK)
            self._output[descriptor].append(data)
            if not data:
                self.readable.remove(descriptor)
            return
        try:
            self._input = write_some(descriptor, self._input)
        except BrokenPipeError:
            # The command does not read all of its input; that is its own affair.
            self._input = self._input[:0]
        if not self._input:
            self.writable.clear()
            self._ends.ours[0] = None
            os.close(descriptor)

    def finish(self) -> tuple[bytes, bytes]:
        """All that was written until now to stdout and stderr."""
        for descriptor in self.readable:
            self._output[descriptor].extend(drained(descriptor))
        stdout, stderr = map(b"".join, self._output.values())
        return stdout, stderr
