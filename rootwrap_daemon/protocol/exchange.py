"""Hold both sides to the one table of what may be said when.

Promises: an illegal message is LocalProtocolError when we would send it and RemoteProtocolError when the
other side did; after that only the daemon's last word is legal. No I/O.
"""

import enum
from typing import Any, Final, Generic, TypeVar

from rootwrap_daemon.errors import LocalProtocolError, RemoteProtocolError
from rootwrap_daemon.protocol import messages
from rootwrap_daemon.protocol.codec import Decoder, encode, encode_in_parts


class State(enum.Enum):
    """The state of a connection."""

    # Enum's own is written in Python, and the table is looked up with each message.
    __hash__ = object.__hash__

    NEW = enum.auto()  # the client has not said hello
    READY = enum.auto()  # nothing is asked
    RUNNING = enum.auto()  # a Run waits for its answer
    STARTING = enum.auto()  # a Start waits for its first answer
    STARTED = enum.auto()  # its command runs
    CHECKING = enum.auto()  # a Check waits for its answer
    ASKING = enum.auto()  # a Status waits for its answer
    BROKEN = enum.auto()  # somebody said what may not be said; the daemon may still say why
    ENDED = enum.auto()  # the last word was said


M = TypeVar("M", bound=messages.Message)
_Table = dict[tuple[State, type[M]], State]

#: What the client may say, and where that leads. One command at a time: no Run while one is RUNNING.
CLIENT_SAYS: Final[_Table[messages.Request]] = {
    (State.NEW, messages.Hello): State.READY,
    (State.READY, messages.Run): State.RUNNING,
    (State.READY, messages.Start): State.STARTING,
    (State.READY, messages.Check): State.CHECKING,
    (State.READY, messages.Status): State.ASKING,
    # When READY, these have crossed the answer that ends what they are about.
    **{
        (state, messages.Cancel): state
        for state in (State.READY, State.RUNNING, State.STARTING, State.STARTED)
    },
    **{(state, messages.Signal): state for state in (State.READY, State.STARTED)},
}

#: The daemon owes its first answer.
_ASKED: Final = (State.RUNNING, State.STARTING, State.CHECKING, State.ASKING)
#: What the daemon may say. Its hello may come at any time, once, before its first other answer but a Failure.
DAEMON_SAYS: Final[_Table[messages.Answer]] = {
    **{(state, messages.Hello): state for state in (State.NEW, State.READY, *_ASKED)},
    **{(state, messages.Failure): State.READY for state in (*_ASKED, State.STARTED)},
    (State.STARTING, messages.Started): State.STARTED,
    # STARTING, there was nothing to start: the daemon did it itself.
    **{(state, messages.Result): State.READY for state in (State.RUNNING, State.STARTING, State.STARTED)},
    (State.CHECKING, messages.Verdict): State.READY,
    (State.ASKING, messages.Report): State.READY,
    # Unasked, a Failure is the last word: unauthorized, busy, stopping, or what was wrong.
    **{(state, messages.Failure): State.ENDED for state in (State.NEW, State.READY, State.BROKEN)},
}


S = TypeVar("S", bound=messages.Message)
H = TypeVar("H", bound=messages.Message)


#: Cancels and Signals that can cross an answer which ends a command in this state. A client cancels once; the
#: number of its signals is its user's, so some are let pass.
_LATE: Final = {State.RUNNING: (1, 0), State.STARTING: (1, 0), State.STARTED: (1, 16)}


class Exchange(Generic[S, H]):
    """One side of a connection, which says messages of type S and hears those of type H."""

    def __init__(self, says: _Table[S], hears: _Table[H], decoder: Decoder[H]) -> None:
        self.state = State.NEW
        self._says = says
        self._hears = hears
        self._decoder = decoder
        #: What the daemon said of itself, None until it did.
        self.hello: messages.Hello | None = None
        # How many of each may still come that crossed the answer of the last command.
        self._late_cancels = self._late_signals = 0

    @property
    def missing(self) -> int:
        """Bytes that the next `feed` should bring at least to get on."""
        return self._decoder.missing

    @property
    def partial(self) -> bool:
        """True while something is held that `next_message` has not given."""
        return self._decoder.partial

    def send(self, message: S) -> bytes:
        """The bytes to write. Raises LocalProtocolError if this may not be said now."""
        self._say(message)
        return encode(message)

    def send_in_parts(self, message: S) -> list[bytes]:
        """As `send`: bytes to write one after the other."""
        self._say(message)
        return encode_in_parts(message)

    def _say(self, message: S) -> None:
        before = self.state
        if not self._goes_on(self._says, message):
            self.state = before
            raise LocalProtocolError(f"{type(message).__name__} in state {before.name}")

    def feed(self, data: bytes) -> None:
        """Take bytes from the other side."""
        self._decoder.feed(data)

    def next_message(self) -> H | None:
        """The next message of the other side, None if more bytes are needed. Raises RemoteProtocolError."""
        try:
            message = self._decoder.next_message()
        except RemoteProtocolError:
            self.state = State.BROKEN
            raise
        if message is not None:
            before = self.state
            if not self._goes_on(self._hears, message):
                raise RemoteProtocolError(f"{type(message).__name__} in state {before.name}")
        return message

    def _goes_on(self, table: _Table[Any], message: S | H) -> bool:
        """Take the step that this message means; False, and BROKEN, where it may not be said."""
        kind = type(message)
        before = self.state
        after = table.get((before, kind))
        if table is DAEMON_SAYS:
            if isinstance(message, messages.Hello):
                if self.hello is not None:
                    after = None
                self.hello = message
            elif self.hello is None and kind is not messages.Failure:
                after = None
            elif after is State.READY:
                self._late_cancels, self._late_signals = _LATE.get(before, (0, 0))
        elif before is State.READY and kind is messages.Cancel:
            self._late_cancels -= 1
            after = None if self._late_cancels < 0 else after
        elif before is State.READY and kind is messages.Signal:
            self._late_signals -= 1
            after = None if self._late_signals < 0 else after
        self.state = after or State.BROKEN
        return after is not None


class DaemonExchange(Exchange[messages.Answer, messages.Request]):
    """The daemon's side of one connection."""

    def __init__(self) -> None:
        # Until somebody has said hello, no more than a hello is buffered for them.
        decoder = Decoder(messages.REQUESTS, messages.MAX_HELLO_FRAME)
        super().__init__(DAEMON_SAYS, CLIENT_SAYS, decoder)

    def _goes_on(self, table: _Table[Any], message: messages.Answer | messages.Request) -> bool:
        if not super()._goes_on(table, message):
            return False
        # Only in READY may a large frame come; a Cancel or Signal needs no more than a hello.
        most = messages.MAX_REQUEST_FRAME if self.state is State.READY else messages.MAX_HELLO_FRAME
        self._decoder.limit = most
        return True
