"""The client for eventlet in a process that is not monkey-patched.

Promises: what `threads.Client` does, with greenthreads waiting in their hub instead of native threads.
The only module of the client that imports eventlet.
"""

import socket

import eventlet
from eventlet.green import socket as green_socket
from eventlet.green import threading as green_threading

from rootwrap_daemon.client import threads


class Client(threads.Client):
    """Runs commands through the daemon that listens on `path`; other greenthreads go on meanwhile.

    One client may be shared by native threads that each have a hub of their own. Who waits there for a
    connection that another thread gives back notices it up to a second later.
    """

    def _socket_class(self) -> type[socket.socket]:
        cls: type[socket.socket] = green_socket.socket
        return cls

    def _new_lock(self) -> threads.Lock:
        lock: threads.Lock = green_threading.Lock()
        return lock

    def _sleep(self, seconds: float) -> None:
        eventlet.sleep(seconds)
