"""Hold a command that runs on pipes of this process, shaped like `subprocess.Popen`.

Promises: one reader of its connection at a time, whoever waits; the command ends with its handle.
"""

import io
import subprocess
import time
import weakref
from contextlib import suppress
from typing import Final, Self

from rootwrap_daemon.client.pipes import CHUNK, Lock, Pipes, Reader, Waiting, Writer, drained
from rootwrap_daemon.client.request import Connection, Running
from rootwrap_daemon.errors import BadRequest
from rootwrap_daemon.protocol.messages import Result

#: Seconds after which somebody who waits while another reads looks again: out of another hub nobody is woken.
_LOOK: Final = 0.5
#: Seconds that one wait may take: poll(2) takes a C int of milliseconds.
_LOOK_LONGEST: Final = 24 * 3600.0


class Handle:
    """A started command, as every front end has it. `args`: its argv. `pid`: of its main process.

    It ends when its handle does: by `close`, or with this process. What ended a command from outside is an
    Error of `rootwrap_daemon.errors` (CommandTimeout, OutcomeUnknown and the like) that each call which waits
    for its end raises.
    """

    def __init__(self, connection: Connection, running: Running) -> None:
        self.args = running.argv
        self.pid = running.pid
        self._connection = connection
        self._running = running

    @property
    def returncode(self) -> int | None:
        """Of the main process, minus the number of a signal that ended it; None as long as none is known."""
        answer = self._running.answer
        return answer.returncode if isinstance(answer, Result) else None

    @property
    def cause(self) -> str:
        """As that of a `CompletedCommand`; empty as long as it runs."""
        answer = self._running.answer
        return answer.cause if isinstance(answer, Result) else ""

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


class Process(Handle):
    """A command that runs. `stdin`, `stdout`, `stderr`: our ends of the pipes asked for, else None."""

    def __init__(
        self, connection: Connection, running: Running, pipes: Pipes, wait: Waiting, lock: Lock
    ) -> None:
        super().__init__(connection, running)
        self.stdin, self.stdout, self.stderr = pipes.stdin, pipes.stdout, pipes.stderr
        self._wait = wait
        self._lock = lock
        self._input: memoryview | None = None
        self._output: dict[io.BufferedReader, list[bytes]] = {}
        self._closed = False
        for _, raw in self._outputs():
            # Weak: a stream that is kept does not keep the command.
            raw.watch = weakref.WeakMethod(self._watch)

    def poll(self) -> int | None:
        """The return code, None while it runs."""
        self._look(0.0)
        return self._running.returncode()

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end; `timeout` seconds at most, then `subprocess.TimeoutExpired`, and it runs on."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while (code := self._running.returncode()) is None:
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
            self._look(left)
        return code

    def communicate(
        self, input: bytes | None = None, timeout: float | None = None
    ) -> tuple[bytes | None, bytes | None]:
        """Write the input, read all output, wait for the end; of what has no pipe None is returned.

        It is over when the main process has ended, whatever else keeps the pipes open. After a
        `subprocess.TimeoutExpired` it may be called again, and nothing is lost.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        if self._input is None:
            self._begin(input)
            for stream, raw in self._outputs():
                # What somebody who read before has left in the buffer.
                self._output[stream] = []
                self._read(stream, raw)
        while self._running.answer is None:
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
            self._serve(left)
        for stream, raw in self._outputs():
            self._output[stream].extend(drained(raw.fileno()))
        if self.stdin is not None:
            with suppress(BrokenPipeError):
                self.stdin.close()
        self.wait()
        return self._collected(self.stdout), self._collected(self.stderr)

    def close(self) -> None:
        """Close the pipes and let go of the command: if it still runs, the daemon ends it."""
        # First, so that whoever waits for one of the pipes comes back.
        self._closed = True
        self._running.lost("its handle was closed")
        self._connection.hang_up()
        if self._lock.acquire(False):
            self._release()
        self._close_pipes()

    def _close_pipes(self) -> None:
        for stream in (self.stdout, self.stderr, self.stdin):
            if stream is not None:
                # RuntimeError: another greenthread is inside it. Then it is closed with its last user.
                with suppress(BrokenPipeError, RuntimeError):
                    stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._close_pipes()
                self.wait()
        finally:
            self.close()

    # Waiting.

    def _look(self, timeout: float | None) -> None:
        """Take what the daemon says, unless another does so already; wait at most so long."""
        if self._running.answer is not None:
            return
        turn = _LOOK if timeout is None else min(_LOOK, timeout)
        if not self._lock.acquire(True, turn):
            return
        try:
            if self._running.answer is None:
                left = self._running.patience()
                wait = min(left, _LOOK_LONGEST if timeout is None else timeout)
                if self._wait([self._connection.sock.fileno()], [], wait):
                    self._connection.hear(self._running)
                elif wait == left:
                    self._running.lost("the daemon did not answer in time")
        finally:
            self._release()

    def _release(self) -> None:
        """Let another read the connection; once all is said, close it: nobody waits for it then."""
        if self._running.answer is not None:
            self._connection.close()
        self._lock.release()

    # The pipes.

    def _watch(self, descriptor: int) -> bool:
        """Wait until an output can be read. False where it is closed meanwhile.

        Raises OutcomeUnknown where the daemon is gone: nobody ends the command then, and with it the output.
        Where it said that it stops and leaves the command, the output goes on.
        """
        while self._running.answer is None:
            reads = self._lock.acquire(False)
            try:
                if self._running.answer is not None:
                    break
                sock = [self._connection.sock.fileno()] if reads else []
                patience = self._running.patience()
                most = min(patience, _LOOK_LONGEST if reads else _LOOK)
                ready = self._wait([descriptor, *sock], [], most)
                if not set(sock).isdisjoint(ready):
                    self._connection.hear(self._running)
                elif not ready and patience <= most:
                    self._running.lost("the daemon did not answer in time")
                if descriptor in ready:
                    return True
            finally:
                if reads:
                    self._release()
        if self._closed:
            return False
        if self._running.is_lost:
            self._running.check()
        return bool(self._wait([descriptor], [], None))

    def _begin(self, input: bytes | None) -> None:
        if input and self.stdin is None:
            raise BadRequest("input needs stdin=PIPE")
        self._input = memoryview(input or b"")
        if self.stdin is not None and not self.stdin.closed:
            with suppress(BrokenPipeError):
                self.stdin.flush()
            self._write(b"")

    def _serve(self, left: float | None) -> None:
        """Wait for one of the pipes, or for what the daemon says unless another waits for that already."""
        # Whoever holds it reads the connection; the pipes are ours in any case.
        reads = self._lock.acquire(False)
        try:
            if reads and self._running.answer is not None:
                return
            outputs = {raw.fileno(): (stream, raw) for stream, raw in self._outputs()}
            inputs = [self.stdin.fileno()] if self.stdin is not None and not self.stdin.closed else []
            sock = [self._connection.sock.fileno()] if reads else []
            patience = self._running.patience()
            most = min(patience, _LOOK_LONGEST if reads else _LOOK)
            ready = self._wait([*sock, *outputs], inputs, most if left is None else min(left, most))
            for descriptor in ready:
                if descriptor in outputs:
                    self._read(*outputs[descriptor])
                elif descriptor in sock:
                    self._connection.hear(self._running)
                else:
                    self._write((self._input or b"")[:CHUNK])
            if not ready and patience <= most:
                self._running.lost("the daemon did not answer in time")
        finally:
            if reads:
                self._release()

    def _write(self, data: "memoryview | bytes") -> None:
        if self.stdin is None or self._input is None or not isinstance(self.stdin.raw, Writer):
            return
        try:
            sent = self.stdin.raw.write_now(data) if data else 0
        except BrokenPipeError:
            # The command does not read all of its input; that is its own affair.
            sent = len(self._input)
        self._input = self._input[sent or 0 :]
        if not self._input:
            self.stdin.close()

    def _outputs(self) -> "list[tuple[io.BufferedReader, Reader]]":
        """The pipes that can still be read."""
        return [
            (stream, stream.raw)
            for stream in (self.stdout, self.stderr)
            if isinstance(stream, io.BufferedReader)
            and isinstance(stream.raw, Reader)
            and not stream.closed
            and not stream.raw.ended
        ]

    def _read(self, stream: io.BufferedReader, raw: Reader) -> None:
        """Take what there is, without waiting."""
        raw.patient = False
        try:
            self._output[stream].append(stream.read1(CHUNK))
        finally:
            raw.patient = True

    def _collected(self, stream: io.BufferedReader | io.BytesIO | None) -> bytes | None:
        if stream is None:
            return None
        if isinstance(stream, io.BytesIO):
            return stream.read()
        stream.close()
        return b"".join(self._output.get(stream, ()))
