"""Define the messages of the protocol, their type numbers and their limits.

Promises: a message that exists is valid; whatever could not be sent or run cannot be built.
"""

from operator import itemgetter
from typing import Any, Final, Self, dataclass_transform

from rootwrap_daemon.errors import BY_CODE, BadRequest, TooLarge

#: The version that this code speaks. Raised when an old peer could misunderstand a new one.
VERSION: Final = 1

#: Bytes in one word or variable: MAX_ARG_STRLEN of execve(2), less its terminating NUL.
MAX_WORD_BYTES: Final = 128 * 1024 - 1
#: Bytes in argv and environment together, as execve(2) counts them: 2 MiB under the usual stack limit of
#: 8 MiB, less what the daemon adds.
MAX_ARGUMENT_BYTES: Final = 2 * 1024 * 1024 - 64 * 1024
#: Bytes that a word takes beside its own: its NUL, and a pointer to it.
WORD_OVERHEAD: Final = 9
#: Words in an argv: there is no other bound than their bytes.
MAX_WORDS: Final = MAX_ARGUMENT_BYTES // WORD_OVERHEAD
#: Variables in a request. The longest EnvFilter in the corpus has 4.
MAX_VARIABLES: Final = 64
#: Bytes of inline standard input: an `iptables-restore` of 100,000 rules is about 8 MiB.
MAX_INPUT_BYTES: Final = 16 * 1024 * 1024
#: Bytes of captured output that one answer may carry at most, whatever a daemon's configuration says.
MAX_OUTPUT_BYTES: Final = 1024 * 1024 * 1024
#: Seconds a request may ask for: a week. More is a unit mistake.
MAX_TIMEOUT: Final = 7 * 24 * 3600
#: Characters of an error message, filter name or request id.
MAX_TEXT: Final = 1024
#: The largest signal number of Linux (signal(7), SIGRTMAX).
MAX_SIGNAL: Final = 64
#: Bytes of a Report: thousands of running commands.
MAX_REPORT_BYTES: Final = 16 * 1024 * 1024
#: What a Start brings descriptors for, a bit each; they come in this order.
STDIN, STDOUT, STDERR = 1, 2, 4
#: Descriptors that one message can bring.
MAX_DESCRIPTORS: Final = 3
#: Bytes of msgpack framing around the payload of any message (headers of arrays and strings).
_OVERHEAD: Final = 64 * 1024

#: The largest frame a client may send, and the largest that the daemon may answer with.
MAX_REQUEST_FRAME: Final = MAX_ARGUMENT_BYTES + MAX_INPUT_BYTES + _OVERHEAD
MAX_ANSWER_FRAME: Final = MAX_OUTPUT_BYTES + _OVERHEAD
#: The largest frame before the hello: anybody on the socket may make the daemon buffer this much.
MAX_HELLO_FRAME: Final = 256


def check_word(word: bytes, what: str) -> None:
    """Refuse what execve(2) cannot take. Raises BadRequest or TooLarge."""
    if not isinstance(word, bytes):
        raise BadRequest(f"{what} must be bytes, not {type(word).__name__}")
    if b"\0" in word:
        raise BadRequest(f"{what} holds a NUL byte")
    if len(word) > MAX_WORD_BYTES:
        raise TooLarge(f"{what} is longer than {MAX_WORD_BYTES} bytes")


#: The types of the words of nearly all commands.
_BYTES: Final = {bytes}


def _check_command(message: "Run | Start | Check", timeout_ms: int | None = None) -> None:
    argv, env = message.argv, message.env
    if message.user is not None:
        _check_user(message.user)
    if timeout_ms is not None:
        _check_int(timeout_ms, "timeout_ms", 1, MAX_TIMEOUT * 1000)
    # Whatever their number, the words of a usual command are looked at without a loop.
    if type(argv) is tuple and env == () and set(map(type, argv)) == _BYTES and argv[0]:
        joined = b"\0".join(argv)
        if len(joined) <= MAX_WORD_BYTES and joined.count(b"\0") == len(argv) - 1 < MAX_WORDS:
            return
    if not isinstance(argv, tuple) or not argv:
        raise BadRequest("argv must have at least one word")
    if len(argv) > MAX_WORDS:
        raise TooLarge(f"argv has more than {MAX_WORDS} words")
    for index, word in enumerate(argv):
        check_word(word, f"argv[{index}]")
    if not argv[0]:
        raise BadRequest("the command, argv[0], is empty")
    if not isinstance(env, tuple):
        raise BadRequest("the environment must be a tuple of pairs")
    if len(env) > MAX_VARIABLES:
        raise TooLarge(f"more than {MAX_VARIABLES} variables")
    names: set[bytes] = set()
    for pair in env:
        if not isinstance(pair, tuple) or len(pair) != 2:
            raise BadRequest("each variable must be a pair of name and value")
        name, value = pair
        check_word(name, "a variable's name")
        check_word(value, "a variable's value")
        if not name or b"=" in name:
            raise BadRequest("a variable's name is empty or holds '='")
        if name in names:
            raise BadRequest("a variable is given twice")
        names.add(name)
    size = sum(map(len, argv)) + sum(len(name) + 1 + len(value) for name, value in env)
    if size + WORD_OVERHEAD * (len(argv) + len(env)) > MAX_ARGUMENT_BYTES:
        raise TooLarge(f"argv and environment are longer than {MAX_ARGUMENT_BYTES} bytes together")


def _check_user(user: str) -> None:
    """A name as filters have it: no number, which would be ambiguous. Raises BadRequest."""
    bare = user.removesuffix("$").replace("-", ".") if type(user) is str else ""
    good = bare.isascii() and bare[:1] != "." and bare.replace(".", "_").isidentifier()
    if not good or len(user) > MAX_TEXT:
        raise BadRequest("user must be a user's name, not a number, or be left out")


def _check_text(text: str, what: str) -> None:
    if type(text) is str and text.isascii() and len(text) <= MAX_TEXT:
        return
    if not isinstance(text, str) or len(text) > MAX_TEXT:
        raise BadRequest(f"{what} must be text of at most {MAX_TEXT} characters")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise BadRequest(f"{what} holds a surrogate, which UTF-8 does not have") from error


def _check_int(number: int, what: str, low: int, high: int) -> None:
    # bool is an int to Python; on the wire it is another type.
    if type(number) is not int or not low <= number <= high:
        raise BadRequest(f"{what} must be a whole number from {low} to {high}")


@dataclass_transform(frozen_default=True)
class Fields(tuple[Any, ...]):
    """A message: its fields in the order in which they travel, named by the annotations of its class.

    A tuple, because that is built, compared and packed in C: a frozen dataclass takes a millisecond for each
    class to be made, and ten times as long for each message.
    """

    __slots__ = ()
    #: The number of this kind of message, the first value of its array.
    TYPE = -1
    NAMES: "tuple[str, ...]" = ()
    #: True where the last field is left out of the array while it is None: older peers do not know it.
    GROWN = False
    CHECKED = True
    _defaults: "list[Any]" = []  # noqa: RUF012 - set anew for each class

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.NAMES = tuple(cls.__annotations__)
        cls.CHECKED = cls.check is not Fields.check
        cls._defaults = [cls.__dict__[name] for name in cls.NAMES if name in cls.__dict__]
        for index, name in enumerate(cls.NAMES):
            setattr(cls, name, property(itemgetter(index)))

    def __new__(cls, *values: Any, **named: Any) -> Self:
        """Raises BadRequest or TooLarge for values that the message must not have, TypeError for too few."""
        if named or len(values) != len(cls.NAMES):
            values = cls._completed(values, named)
        self = tuple.__new__(cls, values)
        if cls.CHECKED:
            self.check()
        return self

    @classmethod
    def _completed(cls, values: "tuple[Any, ...]", named: "dict[str, Any]") -> "tuple[Any, ...]":
        rest = cls.NAMES[len(values) :]
        defaults = dict(zip(reversed(cls.NAMES), reversed(cls._defaults), strict=False))
        given = {**{name: defaults[name] for name in rest if name in defaults}, **named}
        if len(values) > len(cls.NAMES) or set(given) != set(rest):
            raise TypeError(f"{cls.__name__} has the fields {', '.join(cls.NAMES)}")
        return (*values, *(given[name] for name in rest))

    def check(self) -> None:
        """Refuse values that the message must not have. Raises BadRequest or TooLarge."""

    def __bool__(self) -> bool:
        return True

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and tuple.__eq__(self, other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = tuple.__hash__

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={value!r}" for name, value in zip(self.NAMES, self, strict=True))
        return f"{type(self).__name__}({fields})"


class Hello(Fields):
    """The first message of both sides, sent without waiting for the other's.

    `max_frame`: bytes, the largest frame that the sender is ready to read.
    `grace_ms`: milliseconds that the daemon gives a command between SIGTERM and SIGKILL; 0 from a client.
    """

    __slots__ = ()
    TYPE = 0
    version: int
    max_frame: int
    grace_ms: int = 0

    def check(self) -> None:
        _check_int(self.version, "version", 1, 2**16 - 1)
        _check_int(self.max_frame, "max_frame", MAX_HELLO_FRAME, MAX_ANSWER_FRAME)
        _check_int(self.grace_ms, "grace_ms", 0, MAX_TIMEOUT * 1000)


class Run(Fields):
    """Run this command and answer once with all of its output.

    `stdin`: bytes for its standard input, None for /dev/null. `timeout_ms`: milliseconds, None for the
    daemon's own limit. `user`: as whom, of those that the filter has; None for the first.
    """

    __slots__ = ()
    TYPE = 1
    GROWN = True
    argv: tuple[bytes, ...]
    env: tuple[tuple[bytes, bytes], ...] = ()
    stdin: bytes | None = None
    timeout_ms: int | None = None
    user: str | None = None

    def check(self) -> None:
        _check_command(self, self.timeout_ms)
        if self.stdin is not None:
            if not isinstance(self.stdin, bytes):
                raise BadRequest("stdin must be bytes or nil")
            if len(self.stdin) > MAX_INPUT_BYTES:
                raise TooLarge(f"stdin is longer than {MAX_INPUT_BYTES} bytes")


class Start(Fields):
    """Run this command on descriptors that ride on the first byte of this message (SCM_RIGHTS, unix(7)).

    `slots`: STDIN, STDOUT, STDERR added up, one descriptor for each, in this order, which are anonymous pipes
    that the client's user made; the others are /dev/null. Answered by Started and then by a Result without
    output; by a Result alone where the command is one that the daemon does itself.
    """

    __slots__ = ()
    TYPE = 7
    GROWN = True
    argv: tuple[bytes, ...]
    env: tuple[tuple[bytes, bytes], ...]
    slots: int
    timeout_ms: int | None = None
    user: str | None = None

    def check(self) -> None:
        _check_command(self, self.timeout_ms)
        _check_int(self.slots, "slots", 0, STDIN + STDOUT + STDERR)


class Signal(Fields):
    """Send a signal to the main process of the started command. Without one, or not allowed: nothing."""

    __slots__ = ()
    TYPE = 8
    number: int

    def check(self) -> None:
        _check_int(self.number, "a signal's number", 1, MAX_SIGNAL)


class Status(Fields):
    """A question for the daemon's state. For root and the configured group."""

    __slots__ = ()
    TYPE = 9


class Check(Fields):
    """Would this command be allowed? Looks at filters and host as a run does; runs nothing."""

    __slots__ = ()
    TYPE = 2
    GROWN = True
    argv: tuple[bytes, ...]
    env: tuple[tuple[bytes, bytes], ...] = ()
    user: str | None = None

    def check(self) -> None:
        _check_command(self)


class Cancel(Fields):
    """End the running command; its result follows as it would have anyway. Without a command: nothing."""

    __slots__ = ()
    TYPE = 3


class Result(Fields):
    """The command ended by itself, or by a signal (`returncode` is then minus its number).

    `cause`: why it was ended, `cancelled`, `stopping` or `out_of_memory`; empty if it was not.
    """

    __slots__ = ()
    TYPE = 4
    request_id: str
    returncode: int
    stdout: bytes
    stderr: bytes
    cause: str = ""

    def check(self) -> None:
        _check_text(self.request_id, "request_id")
        _check_text(self.cause, "cause")
        _check_int(self.returncode, "returncode", -64, 255)
        # A bytearray is what the daemon collected: it is not copied to be sent.
        if not isinstance(self.stdout, bytes | bytearray) or not isinstance(self.stderr, bytes | bytearray):
            raise BadRequest("stdout and stderr must be bytes")


class Failure(Fields):
    """The one answer to a request without a result: a code of `errors.BY_CODE` and a text for the caller."""

    __slots__ = ()
    TYPE = 5
    request_id: str
    code: str
    message: str

    def check(self) -> None:
        _check_text(self.request_id, "request_id")
        _check_text(self.message, "message")
        if self.code not in BY_CODE:
            raise BadRequest("no such error code")


class Verdict(Fields):
    """The answer to a Check. `filter`: the name of the one that allows the command, empty if none does."""

    __slots__ = ()
    TYPE = 6
    request_id: str
    allowed: bool
    filter: str

    def check(self) -> None:
        _check_text(self.request_id, "request_id")
        _check_text(self.filter, "filter")
        if type(self.allowed) is not bool:
            raise BadRequest("allowed must be true or false")


class Started(Fields):
    """The command of a Start runs; what becomes of it follows.

    `pid`: of its main process, as the daemon sees it. `signals`: those that a Signal may name, signal N as
    bit N - 1.
    """

    __slots__ = ()
    TYPE = 10
    request_id: str
    pid: int
    signals: int

    def check(self) -> None:
        _check_text(self.request_id, "request_id")
        _check_int(self.pid, "pid", 1, 2**31 - 1)
        _check_int(self.signals, "signals", 0, 2**MAX_SIGNAL - 1)


class Report(Fields):
    """The answer to a Status. `report`: a JSON object, its fields documented in the reference."""

    __slots__ = ()
    TYPE = 11
    request_id: str
    report: bytes

    def check(self) -> None:
        _check_text(self.request_id, "request_id")
        if not isinstance(self.report, bytes):
            raise BadRequest("the report must be bytes")
        if len(self.report) > MAX_REPORT_BYTES:
            raise TooLarge(f"the report is longer than {MAX_REPORT_BYTES} bytes")


Request = Hello | Run | Start | Check | Status | Cancel | Signal
Answer = Hello | Started | Result | Failure | Verdict | Report
Message = Request | Answer

REQUESTS: Final[dict[int, type[Request]]] = {
    cls.TYPE: cls for cls in (Hello, Run, Start, Check, Status, Cancel, Signal)
}
ANSWERS: Final[dict[int, type[Answer]]] = {
    cls.TYPE: cls for cls in (Hello, Started, Result, Failure, Verdict, Report)
}
