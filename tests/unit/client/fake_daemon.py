"""A daemon without privilege or commands: the real exchange over a real socket, with scripted answers."""

import contextlib
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Self

from rootwrap_daemon.protocol.codec import encode
from rootwrap_daemon.protocol.exchange import DaemonExchange
from rootwrap_daemon.protocol.messages import (
    MAX_REQUEST_FRAME,
    VERSION,
    Answer,
    Cancel,
    Check,
    Failure,
    Hello,
    Result,
    Run,
    Start,
    Verdict,
)

HELLO = Hello(VERSION, MAX_REQUEST_FRAME, 0)
#: Seconds after which a test that waits for the other side fails.
PATIENCE = 60


class Peer:
    """One connection, from the daemon's side. `number` counts them from 1."""

    def __init__(self, daemon: "FakeDaemon", sock: socket.socket, number: int) -> None:
        self.daemon = daemon
        self.sock = sock
        self.number = number
        self.exchange = DaemonExchange()

    def read(self) -> Run | Check | Start | None:
        """The next request; its hello is answered. None at the end of the connection."""
        while True:
            message = self.exchange.next_message()
            if isinstance(message, Hello):
                self.say(self.daemon.hello)
            elif isinstance(message, Run | Check | Start):
                self.daemon.requests.append((self.number, message))
                return message
            elif message is None:
                data = self.sock.recv(65536)
                if not data:
                    return None
                self.exchange.feed(data)
            else:
                assert isinstance(message, Cancel)

    def say(self, message: Answer) -> None:
        """What may be said now."""
        self.sock.sendall(self.exchange.send(message))

    def say_anyway(self, *messages: Answer) -> None:
        """What no correct daemon says now."""
        self.sock.sendall(b"".join(map(encode, messages)))

    def takes_no_more(self) -> None:
        """What the daemon does before it ends a connection: the client's writes fail from now on."""
        self.sock.shutdown(socket.SHUT_RD)

    def wait_for_end(self) -> None:
        """Until the client closes the connection."""
        while self.sock.recv(65536):
            pass

    def serve(self) -> None:
        """What a daemon does mostly. The command `wait` ends with the connection or by `daemon.go_on`."""
        while (request := self.read()) is not None:
            if isinstance(request, Run) and request.argv[0] == b"wait":
                self.daemon.wait_here(self)
            self.say(answer_to(request, f"r-{self.number}"))


def answer_to(request: Run | Check | Start, request_id: str) -> Answer:
    """`echo` says its words, `cat` its input, `env` its variables; a number is returned; else denied."""
    name, *words = request.argv
    if isinstance(request, Check):
        return Verdict(request_id, name == b"echo", "echo" if name == b"echo" else "")
    if name in (b"echo", b"wait"):
        return Result(request_id, 0, b" ".join(words), b"")
    if name == b"cat":
        return Result(request_id, 0, getattr(request, "stdin", None) or b"", b"")
    if name == b"env":
        return Result(request_id, 0, b"\n".join(b"=".join(pair) for pair in request.env), b"")
    if name.lstrip(b"-").isdigit():
        return Result(request_id, int(name), b"out \xff", b"err \xff")
    return Failure(request_id, "denied", "no filter matched")


class FakeDaemon:
    """Listens on `path`; a native thread for each connection runs `script`."""

    def __init__(
        self,
        path: Path,
        script: Callable[[Peer], None] = Peer.serve,
        *,
        hello: Hello = HELLO,
        backlog: int = 512,
    ) -> None:
        self.path = path
        self.script = script
        self.hello = hello
        #: Every Run and Check, with the number of its connection.
        self.requests: list[tuple[int, Run | Check | Start]] = []
        self.connections = 0
        #: Released once for each `wait` that began, and for each of those whose client went away.
        self.began, self.went = threading.Semaphore(0), threading.Semaphore(0)
        #: How many commands wait now, and did at most.
        self.running = self.most = 0
        self._go_on = threading.Event()
        self._lock = threading.Lock()
        self._socks: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen(backlog)
        self._accepting = self._thread(self._accept)

    @property
    def ran(self) -> int:
        """Requests that arrived whole."""
        return len(self.requests)

    def go_on(self) -> None:
        """Let all that wait, and will, end."""
        self._go_on.set()

    def wait_here(self, peer: Peer) -> None:
        """A command that runs until `go_on`, or until its client is gone."""
        with self._lock:
            self.running += 1
            self.most = max(self.most, self.running)
        self.began.release()
        # For who cannot wait for a semaphore of this process.
        (self.path.parent / "began").touch()
        peer.sock.settimeout(0.01)
        try:
            while not self._go_on.is_set():
                try:
                    gone = not peer.sock.recv(1, socket.MSG_PEEK)
                except TimeoutError:
                    gone = False
                except ConnectionResetError:
                    # It went without having read our hello.
                    gone = True
                if gone:
                    self.went.release()
                    return
        finally:
            peer.sock.settimeout(None)
            with self._lock:
                self.running -= 1

    def stop(self) -> None:
        """As a daemon that ends: nobody listens any more, and every connection is closed."""
        # Closing alone does not wake the thread that waits in accept.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join(PATIENCE)
        self._listener.close()
        self.path.unlink(missing_ok=True)
        self._go_on.set()
        for sock in self._socks:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()
        for sock in self._socks:
            sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _thread(self, target: Callable[..., None], *args: object) -> threading.Thread:
        thread = threading.Thread(target=target, args=args, daemon=True)
        thread.start()
        return thread

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                self._socks.append(sock)
                self.connections += 1
                self._threads.append(self._thread(self._serve, Peer(self, sock, self.connections)))

    def _serve(self, peer: Peer) -> None:
        # A client that is gone is no failure of the daemon.
        with contextlib.suppress(OSError):
            self.script(peer)
        with contextlib.suppress(OSError):
            peer.sock.shutdown(socket.SHUT_RDWR)
