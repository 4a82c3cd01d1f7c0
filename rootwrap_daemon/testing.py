"""Stand in for the daemon in an agent's own unit tests: scripted answers, with or without a socket.

    with FakeDaemon() as daemon:
        daemon.on(["ip", "netns", "list"], stdout="one\\n")
        assert Client(daemon.path).run(["ip", "netns", "list"], text=True).stdout == "one\\n"
    assert daemon.asked[0].argv == ("ip", "netns", "list")

Promises: requests are checked, sent and read as by the real client and daemon; what no script allows is
denied; nothing is run. Needs no privilege, and nothing that the client does not need.
"""

import array
import contextlib
import logging
import os
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import EllipsisType
from typing import Final, Literal, NoReturn, Self

from rootwrap_daemon.client import core
from rootwrap_daemon.client.calls import CONNECT_SECONDS, Calls
from rootwrap_daemon.client.core import Environ, Word
from rootwrap_daemon.client.threads import Client
from rootwrap_daemon.errors import BY_CODE, Error, InternalError, LocalProtocolError, RemoteProtocolError
from rootwrap_daemon.protocol import messages
from rootwrap_daemon.protocol.exchange import DaemonExchange

LOG = logging.getLogger(__name__)

#: Of a process that there is not.
_PID: Final = 2**31 - 1
#: Seconds that the end of a fake daemon waits for its threads.
_PATIENCE: Final = 30.0

#: Words of a command; `...` at the end stands for any further ones.
Pattern = Sequence[str | EllipsisType]


@dataclass(frozen=True, slots=True)
class Asked:
    """One request. `stdin`: None without input. `user`: as its caller named it. `timeout`: seconds."""

    kind: Literal["run", "popen", "check"]
    argv: tuple[str, ...]
    env: dict[str, str]
    stdin: bytes | None = None
    user: str | None = None
    timeout: float | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """The outcome of a command. `error`: the class of an error of `rootwrap_daemon.errors` instead."""

    returncode: int = 0
    stdout: str | bytes = b""
    stderr: str | bytes = b""
    error: type[Error] | None = None


@dataclass
class Script:
    """Replies to commands; the last one that was added and fits holds. `asked`: every request, in order."""

    asked: list[Asked] = field(default_factory=list)
    _replies: list[tuple[tuple[str | EllipsisType, ...], str | None, Callable[[Asked], Reply]]] = field(
        default_factory=list
    )

    def on(
        self,
        argv: Pattern,
        *,
        user: str | None = None,
        returncode: int = 0,
        stdout: str | bytes = b"",
        stderr: str | bytes = b"",
        error: type[Error] | None = None,
        call: Callable[[Asked], Reply] | None = None,
    ) -> None:
        """Answer a command so. `user`: only where the request names this one. `call` makes the Reply.

        Raises ValueError for an `error` that no daemon says, BadRequest for a command that no client asks.
        """
        if error is not None and BY_CODE.get(error.code) is not error:
            raise ValueError(f"{error.__name__} is none that a daemon says")
        reply = Reply(returncode, stdout, stderr, error)
        words = () if isinstance(argv, str | bytes) else tuple(argv)
        further = words[-1:] if words[-1:] == (...,) else ()
        if words != (...,):
            # As a client checks it: what it refuses would never be asked.
            checked = core.check_request(words[:-1] if further else argv, None, user)  # type: ignore[arg-type]
            words = (*map(os.fsdecode, checked.argv), *further)
        self._replies.append((words, user, call or (lambda asked: reply)))

    def answer(
        self, message: messages.Run | messages.Start | messages.Check, stdin: bytes | None = None
    ) -> core.Answer:
        """The answer to a request. Raises what `call` raises, and TypeError where it makes no Reply."""
        kinds: dict[type, Literal["run", "popen", "check"]] = {
            messages.Run: "run",
            messages.Start: "popen",
            messages.Check: "check",
        }
        timeout = None if isinstance(message, messages.Check) else message.timeout_ms
        asked = Asked(
            kinds[type(message)],
            tuple(map(os.fsdecode, message.argv)),
            {os.fsdecode(name): os.fsdecode(value) for name, value in message.env},
            message.stdin if isinstance(message, messages.Run) else stdin,
            message.user,
            None if timeout is None else timeout / 1000,
        )
        self.asked.append(asked)
        request_id = f"fake-{len(self.asked)}"
        call = next((call for argv, user, call in reversed(self._replies) if _fits(asked, argv, user)), None)
        if isinstance(message, messages.Check):
            return messages.Verdict(request_id, call is not None, "fake" if call else "")
        if call is None:
            return messages.Failure(request_id, "denied", "no filter allows this command")
        reply = call(asked)
        if not isinstance(reply, Reply):
            raise TypeError(f"call= for {asked.argv} must return a testing.Reply, not {type(reply).__name__}")
        if reply.error is not None:
            return messages.Failure(request_id, reply.error.code, "as the test says")
        return messages.Result(request_id, reply.returncode, _bytes(reply.stdout), _bytes(reply.stderr))


def _fits(asked: Asked, argv: tuple[str | EllipsisType, ...], user: str | None) -> bool:
    if user is not None and asked.user != user:
        return False
    if argv[-1:] == (...,):
        return asked.argv[: len(argv) - 1] == argv[:-1]
    return asked.argv == argv


def _bytes(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape")


class FakeClient(Script, Client):
    """Takes the place of `client.Client` without a socket, but for `popen`, which needs a FakeDaemon."""

    def __init__(self) -> None:
        Script.__init__(self)
        Client.__init__(self, "fake")
        self._calls = _Scripted(self)


class _Scripted(Calls):
    """The calls of a client, answered by a script."""

    def __init__(self, client: FakeClient) -> None:
        super().__init__("fake", 128, CONNECT_SECONDS, client._waits, client._new_gate)
        self._script: Script = client

    async def start(self, *_: object, **__: object) -> NoReturn:
        raise NotImplementedError("popen needs a FakeDaemon")

    async def _ask(self, request: core.Request, timeout: float | None) -> core.Answer:
        return self._answer(request)

    async def _run_on_pipes(
        self,
        argv: Sequence[Word],
        input: bytes | None,
        env: Environ | None,
        timeout: float | None,
        user: str | None,
    ) -> core.Answer:
        ends = (None if input is None else 0, 1, 2)
        return self._answer(core.start_request(argv, env, timeout, ends, user), input)

    def _answer(self, request: core.Request, stdin: bytes | None = None) -> core.Answer:
        if self.connections.pool.closed:
            raise LocalProtocolError("this client is closed")
        if isinstance(request, messages.Status):
            return messages.Report("fake", b"{}")
        return self._script.answer(request, stdin)


class FakeDaemon(Script):
    """Speaks the protocol on a socket at `path`, of its own if none is given, with a thread for a connection.

    After `stop` another may be made at the same `path`: so a client sees its daemon restart. It keeps no
    timeout and ends no command: a `call` that sleeps delays its answer alone.
    """

    def __init__(self, path: str | None = None) -> None:
        super().__init__()
        self._directory = tempfile.mkdtemp(prefix="rootwrap-fake-")
        self.path = path or f"{self._directory}/socket"
        #: What a `call` has raised, in a thread.
        self._raised: list[Exception] = []
        self._socks: list[socket.socket] = []
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(self.path)
        self._listener.listen(128)
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def stop(self) -> None:
        """End as a daemon does: nobody listens any more, and every connection is closed.

        Raises what the first `call` that failed has raised: its client has got an InternalError.
        """
        for one in (self._listener, *self._socks):
            # Closing alone wakes no thread that waits for it.
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(_PATIENCE)
        for one in (self._listener, *self._socks):
            one.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)
        shutil.rmtree(self._directory, ignore_errors=True)
        if self._raised:
            raise self._raised.pop(0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def answer(
        self, message: messages.Run | messages.Start | messages.Check, stdin: bytes | None = None
    ) -> core.Answer:
        """As of a Script; what `call` raises is raised by `stop`."""
        try:
            return super().answer(message, stdin)
        except Exception as error:
            LOG.exception("the test's answer failed")
            self._raised.append(error)
            return messages.Failure("fake", InternalError.code, f"the test's answer failed: {error!r}"[:250])

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                self._socks.append(sock)
                thread = threading.Thread(target=self._serve, args=(sock,), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _serve(self, sock: socket.socket) -> None:
        exchange, descriptors = DaemonExchange(), list[int]()
        try:
            while True:
                message = exchange.next_message()
                if isinstance(message, messages.Hello):
                    sock.sendall(
                        exchange.send(messages.Hello(messages.VERSION, messages.MAX_REQUEST_FRAME, 0))
                    )
                elif isinstance(message, messages.Start):
                    self._start(sock, exchange, message, descriptors)
                elif isinstance(message, messages.Run | messages.Check):
                    sock.sendall(exchange.send(self.answer(message)))
                elif isinstance(message, messages.Status):
                    sock.sendall(exchange.send(messages.Report("fake", b"{}")))
                elif not isinstance(message, messages.Cancel | messages.Signal):
                    room = socket.CMSG_SPACE(messages.MAX_DESCRIPTORS * array.array("i").itemsize)
                    data, ancillary, *_ = sock.recvmsg(65536, room)
                    for _, _, rights in ancillary:
                        descriptors += array.array("i", rights)
                    if not data:
                        return
                    exchange.feed(data)
        except (OSError, RemoteProtocolError):
            # A client that is gone, or does not speak the protocol, is no failure of the test's daemon.
            pass
        finally:
            _close(descriptors)
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def _start(
        self, sock: socket.socket, exchange: DaemonExchange, message: messages.Start, descriptors: list[int]
    ) -> None:
        slots = [slot for slot in (messages.STDIN, messages.STDOUT, messages.STDERR) if message.slots & slot]
        ends = dict(zip(slots, descriptors, strict=True))
        stdin = None
        if messages.STDIN in ends:
            # What it reads comes once the client knows that it runs.
            sock.sendall(exchange.send(messages.Started("fake", _PID, 0)))
            with open(os.dup(ends[messages.STDIN]), "rb") as file:
                stdin = file.read()
        answer = self.answer(message, stdin)
        if isinstance(answer, messages.Result):
            if messages.STDIN not in ends:
                sock.sendall(exchange.send(messages.Started("fake", _PID, 0)))
            for slot, data in ((messages.STDOUT, answer.stdout), (messages.STDERR, answer.stderr)):
                with contextlib.suppress(BrokenPipeError):
                    if slot in ends:
                        with open(os.dup(ends[slot]), "wb") as file:
                            file.write(data)
            answer = messages.Result(answer.request_id, answer.returncode, b"", b"")
        _close(descriptors)
        sock.sendall(exchange.send(answer))


def _close(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
    descriptors.clear()
