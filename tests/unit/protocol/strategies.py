"""Messages for hypothesis to choose from, one plain one of each, and what is in a frame's body."""

from collections.abc import Mapping
from typing import Any, Final

from hypothesis import strategies as st

from rootwrap_daemon.errors import BY_CODE
from rootwrap_daemon.protocol.codec import decode
from rootwrap_daemon.protocol.messages import (
    MAX_ANSWER_FRAME,
    MAX_HELLO_FRAME,
    MAX_SIGNAL,
    MAX_TEXT,
    MAX_TIMEOUT,
    VERSION,
    Answer,
    Cancel,
    Check,
    Failure,
    Hello,
    Message,
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

HELLO: Final = Hello(VERSION, MAX_ANSWER_FRAME, 1000)
#: One of each, by the side that may say it.
ONE_REQUEST: Final[dict[str, Request]] = {
    "Hello": HELLO,
    "Run": Run((b"ip", b"link"), ((b"A", b"b"),), b"in", 1000),
    "Check": Check((b"ip", b"link"), ((b"A", b"b"),)),
    "Cancel": Cancel(),
    "Start": Start((b"ip", b"monitor"), ((b"A", b"b"),), 6, None),
    "Signal": Signal(15),
    "Status": Status(),
}
ONE_ANSWER: Final[dict[str, Answer]] = {
    "Hello": HELLO,
    "Result": Result("r-1", -9, b"out\0\xff", b"err"),
    "Failure": Failure("r-1", "denied", "no filter matched"),
    "Verdict": Verdict("r-1", True, "ip"),
    "Started": Started("r-1", 4711, 2**64 - 1),
    "Report": Report("r-1", b"{}"),
}


def read(body: bytes, kinds: Mapping[int, type[Any]]) -> Message:
    """The message in the body of one frame."""
    message: Message = decode(memoryview(body), kinds)
    return message


words = st.binary(max_size=40).map(lambda word: word.replace(b"\0", b"?"))
names = words.map(lambda word: word.replace(b"=", b"?") or b"A")
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=MAX_TEXT)
argvs = st.tuples(words.map(lambda word: word or b"x"), st.lists(words, max_size=10)).map(
    lambda pair: (pair[0], *pair[1])
)
environs = st.dictionaries(names, words, max_size=8).map(lambda env: tuple(env.items()))
users = st.none() | st.from_regex(r"[A-Za-z_][A-Za-z0-9_.-]{0,30}\$?", fullmatch=True)

hellos = st.builds(
    Hello,
    st.integers(1, 2**16 - 1),
    st.integers(MAX_HELLO_FRAME, MAX_ANSWER_FRAME),
    st.integers(0, MAX_TIMEOUT * 1000),
)
runs = st.builds(
    Run,
    argvs,
    environs,
    st.none() | st.binary(max_size=2000),
    st.none() | st.integers(1, MAX_TIMEOUT * 1000),
    users,
)
checks = st.builds(Check, argvs, environs, users)
starts = st.builds(
    Start, argvs, environs, st.integers(0, 7), st.none() | st.integers(1, MAX_TIMEOUT * 1000), users
)
signals = st.builds(Signal, st.integers(1, MAX_SIGNAL))
results = st.builds(Result, texts, st.integers(-64, 255), st.binary(max_size=2000), st.binary(max_size=2000))
failures = st.builds(Failure, texts, st.sampled_from(list(BY_CODE)), texts)
verdicts = st.builds(Verdict, texts, st.booleans(), texts)

started = st.builds(Started, texts, st.integers(1, 2**31 - 1), st.integers(0, 2**MAX_SIGNAL - 1))
reports = st.builds(Report, texts, st.binary(max_size=2000))

requests: st.SearchStrategy[Request] = st.one_of(
    hellos, runs, starts, checks, signals, st.just(Cancel()), st.just(Status())
)
answers: st.SearchStrategy[Answer] = st.one_of(hellos, started, results, failures, verdicts, reports)
