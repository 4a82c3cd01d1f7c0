"""The one table of what may be said when; daemon and client both drive it.

Promises: an illegal message is LocalProtocolError when we would send it and RemoteProtocolError when the
other side did; after that only the daemon's last word is legal. No I/O.
"""

import enum
from typing import Final

from rootwrap_daemon.errors import LocalProtocolError, RemoteProtocolError
from rootwrap_daemon.protocol.codec import Decoder, encode
from rootwrap_daemon.protocol.messages import (
    ANSWERS,
    MAX_ANSWER_FRAME,
    MAX_HELLO_FRAME,
    MAX_REQUEST_FRAME,
    REQUESTS,
    Answer,
    Cancel,
    Check,
    Failure,
    Hello,
    Report,
    Request,
    Result,
    Run,
    Signal,
    Start,
    Started,
    Status,
    Verdict,
)


class State(enum.Enum):
    """Where a connection stands."""

    NEW = enum.auto()  # the client has not said hello
    READY = enum.auto()  # nothing is asked
    RUNNING = enum.auto()  # a Run waits for its answer
    STARTING = enum.auto()  # a Start waits for its first answer
    STARTED = enum.auto()  # its command runs
    CHECKING = enum.auto()  # a Check waits for its answer
    ASKING = enum.auto()  # a Status waits for its answer
    BROKEN = enum.auto()  # somebody said what may not be said; the daemon may still say why
    ENDED = enum.auto()  # the last word was said


#: What the client may say, and where that leads. One command at a time: no Run while one is RUNNING.
_CLIENT_SAYS: Final[dict[tuple[State, type[Request]], State]] = {
    (State.NEW, Hello): State.READY,
    (State.READY, Run): State.RUNNING,
    (State.READY, Start): State.STARTING,
    (State.READY, Check): State.CHECKING,
    (State.READY, Status): State.ASKING,
    (State.RUNNING, Cancel): State.RUNNING,
    (State.STARTING, Cancel): State.STARTING,
    (State.STARTED, Cancel): State.STARTED,
    (State.STARTED, Signal): State.STARTED,
    # These can cross the answer that ends what they are about.
    (State.READY, Cancel): State.READY,
    (State.READY, Signal): State.READY,
}

#: What the daemon may say. Its hello may come at any time, once, before its first other answer but a Failure.
_DAEMON_SAYS: Final[dict[tuple[State, type[Answer]], State]] = {
    (State.NEW, Hello): State.NEW,
    (State.READY, Hello): State.READY,
    (State.RUNNING, Hello): State.RUNNING,
    (State.STARTING, Hello): State.STARTING,
    (State.CHECKING, Hello): State.CHECKING,
    (State.ASKING, Hello): State.ASKING,
    (State.RUNNING, Result): State.READY,
    (State.RUNNING, Failure): State.READY,
    (State.STARTING, Started): State.STARTED,
    # Nothing to start: the daemon did it itself.
    (State.STARTING, Result): State.READY,
    (State.STARTING, Failure): State.READY,
    (State.STARTED, Result): State.READY,
    (State.STARTED, Failure): State.READY,
    (State.CHECKING, Verdict): State.READY,
    (State.CHECKING, Failure): State.READY,
    (State.ASKING, Report): State.READY,
    (State.ASKING, Failure): State.READY,
    # Unasked, a Failure is the last word: unauthorized, busy, stopping, or what was wrong.
    (State.NEW, Failure): State.ENDED,
    (State.READY, Failure): State.ENDED,
    (State.BROKEN, Failure): State.ENDED,
}


class _Conversation:
    """What both sides keep: the state, and whether the daemon has said hello."""

    def __init__(self) -> None:
        self.state = State.NEW
        self._greeted = False

    def _client_says(self, message: Request) -> bool:
        after = _CLIENT_SAYS.get((self.state, type(message)))
        self.state = after or State.BROKEN
        return after is not None

    def _daemon_says(self, message: Answer) -> bool:
        after = _DAEMON_SAYS.get((self.state, type(message)))
        if isinstance(message, Hello):
            if self._greeted:
                after = None
            self._greeted = True
        elif not self._greeted and not isinstance(message, Failure):
            after = None
        self.state = after or State.BROKEN
        return after is not None


class ClientExchange(_Conversation):
    """The client's side of one connection.

    `max_frame`: bytes, the largest answer that this client takes (it says so in its Hello).
    """

    def __init__(self, max_frame: int = MAX_ANSWER_FRAME) -> None:
        super().__init__()
        self._decoder = Decoder(ANSWERS, max_frame)
        #: What the daemon said of itself, None until it did.
        self.hello: Hello | None = None

    @property
    def missing(self) -> int:
        """Bytes that the next `feed` should bring at least to get on."""
        return self._decoder.missing

    @property
    def partial(self) -> bool:
        """True while something is held that `next_message` has not given."""
        return self._decoder.partial

    def send(self, message: Request) -> bytes:
        """The bytes to write. Raises LocalProtocolError if this may not be said now."""
        before = self.state
        if not self._client_says(message):
            self.state = before
            raise LocalProtocolError(f"{type(message).__name__} in state {before.name}")
        return encode(message)

    def feed(self, data: bytes) -> None:
        """Take bytes from the daemon."""
        self._decoder.feed(data)

    def next_message(self) -> Answer | None:
        """The next answer, None if more bytes are needed. Raises RemoteProtocolError."""
        try:
            message = self._decoder.next_message()
        except RemoteProtocolError:
            self.state = State.BROKEN
            raise
        if message is None:
            return None
        before = self.state
        if not self._daemon_says(message):
            raise RemoteProtocolError(f"the daemon said {type(message).__name__} in state {before.name}")
        if isinstance(message, Hello):
            self.hello = message
        return message


class DaemonExchange(_Conversation):
    """The daemon's side of one connection."""

    def __init__(self) -> None:
        super().__init__()
        # Until somebody has said hello, no more than a hello is buffered for them.
        self._decoder = Decoder(REQUESTS, MAX_HELLO_FRAME)

    @property
    def missing(self) -> int:
        """Bytes that the next `feed` should bring at least to get on."""
        return self._decoder.missing

    @property
    def partial(self) -> bool:
        """True while an incomplete request is held: the time to complete it is bounded."""
        return self._decoder.partial

    def send(self, message: Answer) -> bytes:
        """The bytes to write. Raises LocalProtocolError if this may not be said now."""
        before = self.state
        if not self._daemon_says(message):
            self.state = before
            raise LocalProtocolError(f"{type(message).__name__} in state {before.name}")
        self._set_limit()
        return encode(message)

    def feed(self, data: bytes) -> None:
        """Take bytes from the client."""
        self._decoder.feed(data)

    def next_message(self) -> Request | None:
        """The next request, None if more bytes are needed. Raises RemoteProtocolError."""
        try:
            message = self._decoder.next_message()
        except RemoteProtocolError:
            self.state = State.BROKEN
            raise
        if message is None:
            return None
        before = self.state
        if not self._client_says(message):
            raise RemoteProtocolError(f"{type(message).__name__} in state {before.name}")
        self._set_limit()
        return message

    def _set_limit(self) -> None:
        # Only in READY may a large frame come; a Cancel or Signal needs no more than a hello.
        self._decoder.limit = MAX_REQUEST_FRAME if self.state is State.READY else MAX_HELLO_FRAME
