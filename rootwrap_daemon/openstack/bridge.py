"""Let unchanged users of oslo.rootwrap's daemon mode reach this daemon: `rootwrap-bridge`.

Promises: runs as the service, serves processes of its user alone, ends with its parent; executes and shuts
down, nothing else; reads no frame before its length is in bounds, unpickles none.
"""

import base64
import contextlib
import json
import os
import secrets
import select
import shutil
import signal
import socket
import stat
import struct
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from multiprocessing import AuthenticationError, connection
from typing import Any, Final

from rootwrap_daemon.client import Client
from rootwrap_daemon.errors import Denied, Error, ExecutableNotFound
from rootwrap_daemon.openstack import socket_path
from rootwrap_daemon.protocol.messages import MAX_REQUEST_FRAME
from rootwrap_daemon.usage import Parser

#: Before each message, as oslo.rootwrap has it: 8 bytes, big-endian.
_HEADER: Final = struct.Struct("!Q")
#: A byte of a request is at most 6 in JSON, as \u0000.
_MAX_REQUEST: Final = 6 * MAX_REQUEST_FRAME
#: What multiprocessing's own handshake allows.
_MAX_HANDSHAKE: Final = 256
_HANDSHAKE_SECONDS: Final = 10.0
#: Connections at once; further ones wait in the listen queue. A client of oslo.rootwrap's has one per thread.
_MAX_CONNECTIONS: Final = 256
#: Seconds to wait where the system has no more descriptors.
_BACK_OFF: Final = 0.1
#: The directory in that of temporary files, and the socket in it.
_PREFIX: Final = "rootwrap-bridge-"
_SOCKET: Final = "rootwrap.sock"
#: Seconds after which a directory where nobody listens is of one that was killed, not of one that begins.
_OLD: Final = 60.0
#: As oslo.rootwrap's client expects it.
_KEY_BYTES: Final = 32
#: What the one object that a manager has may be asked.
_EXPOSED: Final = ("run_one_command", "shutdown")


class _BadPeer(Exception):
    """Not what oslo.rootwrap's client says."""


class Channel:
    """Messages over a connection; also what multiprocessing's handshake needs."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def send_bytes(self, data: bytes) -> None:
        self._sock.sendall(_HEADER.pack(len(data)) + data)

    def recv_bytes(self, maxlength: int | None = None) -> bytes:
        (length,) = _HEADER.unpack(self._exactly(_HEADER.size))
        if length > (_MAX_HANDSHAKE if maxlength is None else maxlength):
            raise _BadPeer(f"a message of {length} bytes")
        return self._exactly(length)

    def send(self, kind: str, value: object) -> None:
        self.send_bytes(json.dumps([kind, value]).encode())

    def receive(self) -> tuple[str, list[Any]]:
        """Method and arguments. Raises EOFError at the end, _BadPeer for anything else."""
        try:
            request = json.loads(self.recv_bytes(_MAX_REQUEST), object_hook=_from_json)
        except (ValueError, RecursionError) as error:
            raise _BadPeer("no JSON") from error
        match request:
            case [None | str(), str(name), list(arguments), dict(named)] if not named:
                return name, arguments
        raise _BadPeer("no request")

    def _exactly(self, length: int) -> bytes:
        data = bytearray()
        while len(data) < length:
            piece = self._sock.recv(min(length - len(data), 1 << 16))
            if not piece:
                raise EOFError
            data += piece
        return bytes(data)


def _from_json(value: dict[str, Any]) -> Any:
    text = value.get("__bytes__")
    return base64.b64decode(text, validate=True) if isinstance(text, str) else value


class Bridge:
    """Serves one client program at `path`: each connection in a thread of its own."""

    def __init__(self, client: Client, path: str, key: bytes, stop: Callable[[], object]) -> None:
        self._client, self._key, self._stop = client, key, stop
        self.listener = socket.socket(socket.AF_UNIX)
        umask = os.umask(0o177)
        try:
            self.listener.bind(path)
        finally:
            os.umask(umask)
        self.listener.listen()
        self._lock = threading.Lock()
        self._serving: dict[threading.Thread, socket.socket] = {}

    @property
    def full(self) -> bool:
        """True while no further connection may be accepted."""
        return len(self._serving) >= _MAX_CONNECTIONS

    def accept(self) -> None:
        """Take the next connection, if its peer is of this process's user.

        Raises OSError, RuntimeError where the system has no more descriptors or threads.
        """
        sock, _ = self.listener.accept()
        credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        if struct.unpack("3i", credentials)[1] != os.geteuid():
            sock.close()
            return
        thread = threading.Thread(target=self._serve, args=(sock,), daemon=True)
        with self._lock:
            self._serving[thread] = sock
        try:
            thread.start()
        except RuntimeError:
            with self._lock:
                del self._serving[thread]
            sock.close()
            raise

    def finish(self) -> None:
        """Take no more; what runs comes to its end, and its answer leaves."""
        self.listener.close()
        with self._lock:
            left = dict(self._serving)
            for sock in left.values():
                # The thread that waits for a request wakes; the one that will answer still can.
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RD)
        for thread in left:
            thread.join()

    def _serve(self, sock: socket.socket) -> None:
        channel: Any = Channel(sock)
        try:
            sock.settimeout(_HANDSHAKE_SECONDS)
            connection.deliver_challenge(channel, self._key)
            connection.answer_challenge(channel, self._key)
            sock.settimeout(None)
            self._talk(channel)
        except (OSError, EOFError, AuthenticationError, _BadPeer):
            # Its end, or it is no client of ours: nobody to tell.
            pass
        finally:
            with self._lock:
                del self._serving[threading.current_thread()]
                sock.close()

    def _talk(self, channel: Channel) -> None:
        """The subset of a multiprocessing manager's calls that oslo.rootwrap's client makes."""
        name, arguments = channel.receive()
        match name, arguments:
            case "create", ["rootwrap"]:
                channel.send("#RETURN", ["rootwrap", _EXPOSED])
            case ("dummy", []) | (("incref" | "decref"), ["rootwrap"]):
                channel.send("#RETURN", None)
            case "accept_connection", [str()]:
                channel.send("#RETURN", None)
                while True:
                    self._call(channel, *channel.receive())
            case _:
                raise _BadPeer(f"the request {name!r}")

    def _call(self, channel: Channel, name: str, arguments: list[Any]) -> None:
        match name, arguments:
            case "run_one_command", [argv] | [argv, None]:
                channel.send(*self._run(argv, None))
            case "run_one_command", [argv, str() | bytes() as stdin]:
                channel.send(*self._run(argv, stdin))
            case "shutdown", []:
                channel.send("#RETURN", None)
                self._stop()
            case _:
                channel.send("#TRACEBACK", "bad_request: only run_one_command and shutdown can be called")

    def _run(self, argv: Any, stdin: str | bytes | None) -> tuple[str, object]:
        try:
            done = self._client.run(argv, input=stdin, text=True)
        except (Denied, ExecutableNotFound) as error:
            # In the band of exit codes, as that client's users know them.
            return "#RETURN", [error.exit_code, "", ""]
        except Error as error:
            return "#TRACEBACK", f"{error.code}: {error}"
        return "#RETURN", [done.returncode, done.stdout, done.stderr]


def serve(daemon: str) -> None:
    """Serve the parent process until it ends, closes our standard input, asks for it, or SIGTERM comes."""
    awake, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    _clear_up(tempfile.gettempdir())
    directory = tempfile.mkdtemp(prefix=_PREFIX)
    try:
        key = secrets.token_bytes(_KEY_BYTES)
        path = os.path.join(directory, _SOCKET)
        with Client(daemon) as client:
            bridge = Bridge(client, path, key, lambda: os.write(wake, b"\0"))
            # None in a pid namespace whose first process is this one.
            parent = [os.pidfd_open(os.getppid())] if os.getppid() else []
            ours = [0] if stat.S_ISFIFO(os.fstat(0).st_mode) else []
            sys.stdout.buffer.write(os.fsencode(path) + b"\n" + key)
            sys.stdout.buffer.flush()
            _let_go_of_output()
            if _accept_until(bridge, [awake, *parent, *ours]) == awake:
                os.read(awake, 4096)
                # Aside: where the parent ends meanwhile, nobody is left to be answered, and what runs ends
                # with this process's connections.
                threading.Thread(target=_finish, args=(bridge, wake), daemon=True).start()
                _first_of([awake, *parent])
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _clear_up(where: str) -> None:
    """Remove the directories of bridges of this user that were killed."""
    for entry in os.scandir(where):
        with contextlib.suppress(OSError):
            found = entry.stat(follow_symlinks=False)
            own = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()
            if not (own and entry.name.startswith(_PREFIX) and time.time() - found.st_mtime > _OLD):
                continue
            with socket.socket(socket.AF_UNIX) as probe:
                try:
                    probe.connect(os.path.join(entry.path, _SOCKET))
                except (ConnectionRefusedError, FileNotFoundError):
                    shutil.rmtree(entry.path)


def _finish(bridge: Bridge, wake: int) -> None:
    bridge.finish()
    os.write(wake, b"\0")


def _accept_until(bridge: Bridge, ends: Sequence[int]) -> int:
    """Accept connections until one of these descriptors has something to say: that one."""
    while True:
        listener = [] if bridge.full else [bridge.listener.fileno()]
        ready = _first_of([*ends, *listener], 1.0 if bridge.full else None)
        if ready in ends:
            return ready
        if ready in listener:
            try:
                bridge.accept()
            except (OSError, RuntimeError):
                # They wait in the listen queue until there is room; nothing but time tells of that.
                time.sleep(_BACK_OFF)


def _first_of(descriptors: Sequence[int], seconds: float | None = None) -> int:
    """The first of these that can be read, waiting for one; -1 if none could be after so long."""
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    ready = {descriptor for descriptor, _ in poll.poll(None if seconds is None else seconds * 1000)}
    return next((descriptor for descriptor in descriptors if descriptor in ready), -1)


def _let_go_of_output() -> None:
    """The client reads no more of it: more than a pipe's worth would stop us."""
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (1, 2):
        os.dup2(null, descriptor)
    os.close(null)


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of `rootwrap-bridge`."""
    what = "Answer oslo.rootwrap's client by asking rootwrap-daemon: for root_helper_daemon."
    parser = Parser("rootwrap-bridge", what)
    parser.add_argument("--socket", default=socket_path(), help="the daemon's (default: %(default)s)")
    serve(parser.parse_args(arguments).socket)
