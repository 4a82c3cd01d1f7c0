"""Messages for hypothesis to choose from, one plain one of each, and what is in a frame's body."""

from collections.abc import Mapping
from typing import Any, Final

from hypothesis import strategies as st

from rootwrap_daemon.errors import BY_CODE
from rootwrap_daemon.protocol import messages
from rootwrap_daemon.protocol.codec import decode

HELLO: Final = messages.Hello(messages.VERSION, messages.MAX_ANSWER_FRAME, 1000)
#: One of each, by the side that may say it.
ONE_REQUEST: Final[dict[str, messages.Request]] = {
    "Hello": HELLO,
    "Run": messages.Run((b"ip", b"link"), ((b"A", b"b"),), b"in", 1000),
    "Check": messages.Check((b"ip", b"link"), ((b"A", b"b"),)),
    "Cancel": messages.Cancel(),
    "Start": messages.Start((b"ip", b"monitor"), ((b"A", b"b"),), 6, None),
    "Signal": messages.Signal(15),
    "Status": messages.Status(),
}
ONE_ANSWER: Final[dict[str, messages.Answer]] = {
    "Hello": HELLO,
    "Result": messages.Result("r-1", -9, b"out\0\xff", b"err"),
    "Failure": messages.Failure("r-1", "denied", "no filter matched"),
    "Verdict": messages.Verdict("r-1", True, "ip"),
    "Started": messages.Started("r-1", 4711, 2**64 - 1),
    "Report": messages.Report("r-1", b"{}"),
}


def read(body: bytes, kinds: Mapping[int, type[Any]]) -> messages.Message:
    """The message in the body of one frame."""
    message: messages.Message = decode(memoryview(body), kinds)
    return message


words = st.binary(max_size=40).map(lambda word: word.replace(b"\0", b"?"))
names = words.map(lambda word: word.replace(b"=", b"?") or b"A")
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=messages.MAX_TEXT)
argvs = st.tuples(words.map(lambda word: word or b"x"), st.lists(words, max_size=10)).map(
    lambda pair: (pair[0], *pair[1])
)
environs = st.dictionaries(names, words, max_size=8).map(lambda env: tuple(env.items()))
users = st.none() | st.from_regex(r"[A-Za-z_][A-Za-z0-9_.-]{0,30}\$?", fullmatch=True)

hellos = st.builds(
    messages.Hello,
    st.integers(1, 2**16 - 1),
    st.integers(messages.MAX_HELLO_FRAME, messages.MAX_ANSWER_FRAME),
    st.integers(0, messages.MAX_TIMEOUT * 1000),
)
runs = st.builds(
    messages.Run,
    argvs,
    environs,
    st.none() | st.binary(max_size=2000),
    st.none() | st.integers(1, messages.MAX_TIMEOUT * 1000),
    users,
)
checks = st.builds(messages.Check, argvs, environs, users)
starts = st.builds(
    messages.Start,
    argvs,
    environs,
    st.integers(0, 7),
    st.none() | st.integers(1, messages.MAX_TIMEOUT * 1000),
    users,
)
signals = st.builds(messages.Signal, st.integers(1, messages.MAX_SIGNAL))
results = st.builds(
    messages.Result, texts, st.integers(-64, 255), st.binary(max_size=2000), st.binary(max_size=2000)
)
failures = st.builds(messages.Failure, texts, st.sampled_from(list(BY_CODE)), texts)
verdicts = st.builds(messages.Verdict, texts, st.booleans(), texts)

started = st.builds(
    messages.Started, texts, st.integers(1, 2**31 - 1), st.integers(0, 2**messages.MAX_SIGNAL - 1)
)
reports = st.builds(messages.Report, texts, st.binary(max_size=2000))

requests: st.SearchStrategy[messages.Request] = st.one_of(
    hellos, runs, starts, checks, signals, st.just(messages.Cancel()), st.just(messages.Status())
)
answers: st.SearchStrategy[messages.Answer] = st.one_of(hellos, started, results, failures, verdicts, reports)
