"""The client for eventlet in a process that is not monkey-patched.

Promises: what `threads.Client` does, with greenthreads waiting in their hub instead of native threads.
The only module of the client that imports eventlet.
"""

import socket
from collections.abc import Sequence

import eventlet
from eventlet.green import select as green_select
from eventlet.green import socket as green_socket
from eventlet.green import threading as green_threading

from rootwrap_daemon.client import threads
from rootwrap_daemon.client.gate import Lock


class Client(threads.Client):
    """Runs commands through the daemon that listens on `path`; other greenthreads go on meanwhile.

    One client may be shared by native threads that each have a hub of their own. Who waits there for a
    connection that another thread gives back notices it up to a second later.
    """

    def _socket_class(self) -> type[socket.socket]:
        cls: type[socket.socket] = green_socket.socket
        return cls

    def _new_lock(self) -> Lock:
        lock: Lock = green_threading.Lock()
        return lock

    def _wait(self, readable: Sequence[int], writable: Sequence[int], timeout: float | None) -> Sequence[int]:
        readable, writable, _ = green_select.select(readable, writable, [], timeout)
        return [*readable, *writable]

    def _sleep(self, seconds: float) -> None:
        eventlet.sleep(seconds)
