"""What can be built can be sent, and nothing else can be built."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rootwrap_daemon.errors import BY_CODE, BadRequest, TooLarge
from rootwrap_daemon.protocol.codec import HEADER, encode
from rootwrap_daemon.protocol.messages import (
    ANSWERS,
    MAX_ANSWER_FRAME,
    MAX_ARGUMENT_BYTES,
    MAX_HELLO_FRAME,
    MAX_INPUT_BYTES,
    MAX_REQUEST_FRAME,
    MAX_TEXT,
    MAX_TIMEOUT,
    MAX_VARIABLES,
    MAX_WORD_BYTES,
    MAX_WORDS,
    REQUESTS,
    WORD_OVERHEAD,
    Check,
    Failure,
    Hello,
    Message,
    Report,
    Result,
    Run,
    Signal,
    Start,
    Started,
    Verdict,
)
from tests.unit.protocol.strategies import ONE_ANSWER, ONE_REQUEST, read

Build = Callable[..., Message]


def variables(count: int) -> tuple[tuple[bytes, bytes], ...]:
    return tuple((b"V%d" % number, b"") for number in range(count))


def words(size: int) -> tuple[bytes, ...]:
    """An argv of so many bytes in all, as execve(2) counts them."""
    full, rest = divmod(size, MAX_WORD_BYTES + WORD_OVERHEAD)
    return (b"x" * MAX_WORD_BYTES,) * full + (b"x" * (rest - WORD_OVERHEAD),)


#: (at the limit, one past it)
LENGTHS: dict[str, tuple[Callable[[], Message], Callable[[], Message]]] = {
    "words": (lambda: Check((b"x", *[b""] * (MAX_WORDS - 1))), lambda: Check((b"x", *[b""] * MAX_WORDS))),
    "word": (lambda: Check((b"x" * MAX_WORD_BYTES,)), lambda: Check((b"x" * (MAX_WORD_BYTES + 1),))),
    "variables": (
        lambda: Run((b"x",), variables(MAX_VARIABLES)),
        lambda: Run((b"x",), variables(MAX_VARIABLES + 1)),
    ),
    "name": (
        lambda: Run((b"x",), ((b"n" * MAX_WORD_BYTES, b""),)),
        lambda: Run((b"x",), ((b"n" * (MAX_WORD_BYTES + 1), b""),)),
    ),
    "value": (
        lambda: Run((b"x",), ((b"n", b"v" * MAX_WORD_BYTES),)),
        lambda: Run((b"x",), ((b"n", b"v" * (MAX_WORD_BYTES + 1)),)),
    ),
    "argv": (lambda: Check(words(MAX_ARGUMENT_BYTES)), lambda: Check(words(MAX_ARGUMENT_BYTES + 1))),
    "argv and environment": (
        lambda: Run(words(MAX_ARGUMENT_BYTES - 13), ((b"n", b"vv"),)),
        lambda: Run(words(MAX_ARGUMENT_BYTES - 12), ((b"n", b"vv"),)),
    ),
    "stdin": (
        lambda: Run((b"x",), (), b"x" * MAX_INPUT_BYTES),
        lambda: Run((b"x",), (), b"x" * (MAX_INPUT_BYTES + 1)),
    ),
}


@pytest.mark.parametrize("what", LENGTHS)
def test_lengths(what: str) -> None:
    at, past = LENGTHS[what]
    frame = encode(at())
    assert len(frame) - HEADER.size <= MAX_REQUEST_FRAME
    assert read(frame[HEADER.size :], REQUESTS) == at()
    with pytest.raises(TooLarge):
        past()


def test_a_client_gives_no_grace() -> None:
    assert Hello(1, 1024).grace_ms == 0


def test_the_largest_request_fits_into_a_frame() -> None:
    # Many short words have the most framing, few long ones the most bytes.
    for argv in (words(MAX_ARGUMENT_BYTES), (b"x", *[b""] * (MAX_WORDS - 1))):
        frame = encode(Run(argv, (), b"x" * MAX_INPUT_BYTES, MAX_TIMEOUT * 1000))
        assert len(frame) - HEADER.size <= MAX_REQUEST_FRAME


#: Build, the lowest and the highest number allowed.
NUMBERS: dict[str, tuple[Callable[[Any], Message], int, int]] = {
    "version": (lambda n: Hello(n, 1024), 1, 2**16 - 1),
    "max_frame": (lambda n: Hello(1, n), MAX_HELLO_FRAME, MAX_ANSWER_FRAME),
    "grace_ms": (lambda n: Hello(1, 1024, n), 0, MAX_TIMEOUT * 1000),
    "timeout_ms": (lambda n: Run((b"x",), (), None, n), 1, MAX_TIMEOUT * 1000),
    "slots": (lambda n: Start((b"x",), (), n), 0, 7),
    "a start's timeout_ms": (lambda n: Start((b"x",), (), 0, n), 1, MAX_TIMEOUT * 1000),
    "signal": (Signal, 1, 64),
    "pid": (lambda n: Started("r", n, 0), 1, 2**31 - 1),
    "signals": (lambda n: Started("r", 1, n), 0, 2**64 - 1),
    "returncode": (lambda n: Result("r", n, b"", b""), -64, 255),
}


@pytest.mark.parametrize("what", NUMBERS)
def test_numbers(what: str) -> None:
    build, low, high = NUMBERS[what]
    for number in (low, high):
        message = build(number)
        kinds: Any = REQUESTS if message.TYPE in REQUESTS else ANSWERS
        assert read(encode(message)[HEADER.size :], kinds) == message
    wrong: list[Any] = [low - 1, high + 1, float(low), True, str(low), b"1", 2**64]
    for number in wrong:
        with pytest.raises(BadRequest):
            build(number)


#: Build, for texts that may be empty.
TEXTS: dict[str, Callable[[Any], Message]] = {
    "a result's id": lambda text: Result(text, 0, b"", b""),
    "a start's id": lambda text: Started(text, 1, 0),
    "a report's id": lambda text: Report(text, b""),
    "a failure's id": lambda text: Failure(text, "denied", ""),
    "a failure's message": lambda text: Failure("r", "denied", text),
    "a verdict's id": lambda text: Verdict(text, True, ""),
    "a verdict's filter": lambda text: Verdict("r", True, text),
}


@pytest.mark.parametrize("what", TEXTS)
def test_texts(what: str) -> None:
    build = TEXTS[what]
    for text in ("", "\U0010ffff" * MAX_TEXT, "a\0b\n"):
        message = build(text)
        assert read(encode(message)[HEADER.size :], ANSWERS) == message
    wrong: list[Any] = ["x" * (MAX_TEXT + 1), b"x", None, 1, "\udcff", "\ud800"]
    for text in wrong:
        with pytest.raises(BadRequest):
            build(text)


@pytest.mark.parametrize("kind", [Run, Check])
@pytest.mark.parametrize(
    "argv",
    [
        (),
        [b"x"],
        b"x",
        "x",
        None,
        ("x",),
        (None,),
        (1,),
        (b"",),
        (b"x", b"a\0"),
        ((b"x",),),
        (bytearray(b"x"),),
    ],
    ids=repr,
)
def test_bad_argv(kind: Build, argv: Any) -> None:
    with pytest.raises(BadRequest):
        kind(argv)


@pytest.mark.parametrize("kind", [Run, Check])
@pytest.mark.parametrize(
    "env",
    [
        None,
        {b"A": b"b"},
        [(b"A", b"b")],
        (b"A",),
        (b"Ab",),
        ((b"A",),),
        ((b"A", b"b", b"c"),),
        ([b"A", b"b"],),
        ((b"", b"b"),),
        ((b"A=", b"b"),),
        ((b"=", b"b"),),
        ((b"A\0", b"b"),),
        ((b"A", b"\0"),),
        (("A", b"b"),),
        ((b"A", "b"),),
        ((b"A", None),),
        ((b"A", b"1"), (b"B", b"2"), (b"A", b"1")),
    ],
    ids=repr,
)
def test_bad_env(kind: Build, env: Any) -> None:
    with pytest.raises(BadRequest):
        kind((b"x",), env)


def test_odd_and_allowed() -> None:
    """Empty words and values, an '=' in a value, and bytes that are no text are nobody's business here."""
    Run((b"x", b"", b"\xff\n"), ((b"A", b""), (b"\xff", b"a=b")), b"\0")


@pytest.mark.parametrize("stdin", ["x", bytearray(b"x"), 1, ()])
def test_bad_stdin(stdin: Any) -> None:
    with pytest.raises(BadRequest):
        Run((b"x",), (), stdin)


@pytest.mark.parametrize("output", ["x", None, 1, ()])
def test_bad_output(output: Any) -> None:
    with pytest.raises(BadRequest):
        Result("r", 0, output, b"")
    with pytest.raises(BadRequest):
        Result("r", 0, b"", output)


@pytest.mark.parametrize("allowed", [0, 1, None, "yes"])
def test_bad_verdict(allowed: Any) -> None:
    with pytest.raises(BadRequest):
        Verdict("r", allowed, "")


@pytest.mark.parametrize("code", ["", "DENIED", "command_failed", "no such", None, 1, b"denied", ()])
def test_bad_code(code: Any) -> None:
    with pytest.raises(BadRequest):
        Failure("r", code, "")


@pytest.mark.parametrize("code", BY_CODE)
def test_each_code(code: str) -> None:
    failure = Failure("r", code, "")
    assert read(encode(failure)[HEADER.size :], ANSWERS) == failure


def test_type_numbers_are_forever() -> None:
    """They are on the wire: a daemon and a client of different releases meet."""
    both: dict[int, type[Message]] = {**REQUESTS, **ANSWERS}
    assert {number: kind.__name__ for number, kind in both.items()} == {
        0: "Hello",
        1: "Run",
        2: "Check",
        3: "Cancel",
        4: "Result",
        5: "Failure",
        6: "Verdict",
        7: "Start",
        8: "Signal",
        9: "Status",
        10: "Started",
        11: "Report",
    }
    assert set(REQUESTS) & set(ANSWERS) == {0}


EACH: list[Message] = [*ONE_REQUEST.values(), *ONE_ANSWER.values()]


@pytest.mark.parametrize("message", EACH, ids=lambda message: type(message).__name__)
def test_a_message_does_not_change(message: Message) -> None:
    for name in [*message.__slots__, "more"]:
        with pytest.raises((AttributeError, TypeError)):
            setattr(message, name, None)


def test_limits_are_those_of_the_page() -> None:
    """doc/source/reference/protocol.rst names them to whoever writes a client."""
    assert (MAX_WORD_BYTES, MAX_ARGUMENT_BYTES, WORD_OVERHEAD) == (131_071, 1984 * 1024, 9)
    assert (MAX_VARIABLES, MAX_INPUT_BYTES, MAX_HELLO_FRAME) == (64, 16 * 1024 * 1024, 256)
    assert (MAX_TIMEOUT * 1000, MAX_ANSWER_FRAME) == (604_800_000, 1_073_807_360)
    assert MAX_REQUEST_FRAME == (1984 + 16 * 1024 + 64) * 1024


def test_the_bytes_of_the_page() -> None:
    page = (Path(__file__).parents[3] / "doc/source/reference/protocol.rst").read_text(encoding="utf-8")
    shown = [
        bytes.fromhex(line)
        for line in re.findall(r"^    ((?:[0-9a-f]{2} +)+[0-9a-f]{2})$", page, re.MULTILINE)
    ]
    messages = (Hello(1, 2**20, 0), Run((b"id", b"-u"), (), None, None), Result("9c1f-1", 0, b"0\n", b"", ""))
    assert shown == [encode(message) for message in messages]
