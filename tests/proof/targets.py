"""What the fuzzer calls: each target gets any bytes, and raises if its one sentence does not hold."""

import contextlib
import fcntl
import json
import os
import random
import socket
from collections.abc import Callable, Iterable
from dataclasses import fields
from itertools import accumulate
from typing import Any, Final

import msgpack

from rootwrap_daemon.analysis.sudoers import read as sudoers_read
from rootwrap_daemon.analysis.sudoers import write as sudoers_write
from rootwrap_daemon.daemon.record import audit, lines, secrets
from rootwrap_daemon.daemon.run.command import canonical
from rootwrap_daemon.daemon.run.instance import Turns
from rootwrap_daemon.daemon.run.stdio import Stdio
from rootwrap_daemon.daemon.serve.connection import Closed, Connection, Share
from rootwrap_daemon.errors import BadRequest, InternalError, LocalProtocolError, RemoteProtocolError
from rootwrap_daemon.filters.finding import Severity
from rootwrap_daemon.filters.plan import ExecPlan
from rootwrap_daemon.filters.read import filter_file, options
from rootwrap_daemon.filters.ruleset import RuleSet
from rootwrap_daemon.filters.values import Match, Options, Request
from rootwrap_daemon.plain_data import from_plain, to_plain
from rootwrap_daemon.protocol.client_side import ClientExchange, decode_answer
from rootwrap_daemon.protocol.codec import HEADER, Decoder, decode_plainly, encode
from rootwrap_daemon.protocol.exchange import DaemonExchange, State
from rootwrap_daemon.protocol.messages import (
    ANSWERS,
    MAX_ANSWER_FRAME,
    MAX_HELLO_FRAME,
    MAX_REQUEST_FRAME,
    REQUESTS,
    VERSION,
    Answer,
    Cancel,
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
    Status,
    Verdict,
)
from rootwrap_daemon.protocol.messages import Request as Asked
from tests.audit_records import try_record, write_record
from tests.proof import made as making
from tests.proof import reference
from tests.proof.made import Source

Target = Callable[[bytes], None]

#: Name -> the function, whose docstring is what holds; and the modules whose coverage says how far it got.
TARGETS: Final[dict[str, tuple[Target, tuple[str, ...]]]] = {}
#: What to begin with.
SEEDS: Final[dict[str, list[bytes]]] = {}


def target(*modules: str, seeds: list[bytes] | None = None) -> Callable[[Target], Target]:
    """Register a target for these modules of the package."""

    def register(function: Target) -> Target:
        TARGETS[function.__name__] = function, modules
        SEEDS[function.__name__] = seeds or [
            random.Random(number).randbytes(20 * number) for number in range(1, 13)
        ]
        return function

    return register


# Frames.

_MESSAGES: Final[tuple[Message, ...]] = (
    Hello(VERSION, MAX_ANSWER_FRAME, 1000),
    Run((b"ip", b"link"), ((b"A", b"b"),), b"in", 1000),
    Run((b"true",)),
    Check((b"ip",), ()),
    Start((b"ip",), (), 6, None),
    Cancel(),
    Signal(15),
    Status(),
    Result("r-1", -9, b"out", b"err", "cancelled"),
    Failure("r-1", "denied", "no"),
    Verdict("r-1", True, "f"),
    Started("r-1", 7, 3),
    Report("r-1", b"{}"),
)


def _body(message: Any) -> bytes:
    return bytes(encode(message)[HEADER.size :])


def _outcome(call: Callable[[], object]) -> object:
    try:
        return call()
    except RemoteProtocolError as error:
        return type(error)


def _drained(decoder: Decoder[Any], pieces: list[bytes]) -> list[object]:
    found: list[object] = []
    for piece in pieces:
        decoder.feed(piece)
        while True:
            message = _outcome(decoder.next_message)
            if message is RemoteProtocolError:
                return [*found, message]
            if message is None:
                break
            found.append(message)
    return found


@target("protocol.codec", "protocol.messages", seeds=[b"\0\5" + encode(one) for one in _MESSAGES])
def frames(data: bytes) -> None:
    """Any bytes, cut anywhere, give the same messages and refusals as whole ones read value by value."""
    source = Source(data)
    kinds: Any = (REQUESTS, ANSWERS)[source.byte() & 1]
    size = 1 + source.byte()
    stream = source.rest()
    whole = _drained(Decoder(kinds, MAX_REQUEST_FRAME), [stream])
    cut = [stream[at : at + size] for at in range(0, len(stream), size)]
    assert _drained(Decoder(kinds, MAX_REQUEST_FRAME), cut) == whole
    for limit in (MAX_HELLO_FRAME, 20):
        short = _drained(Decoder(kinds, limit), [stream])
        assert short == whole[: len(short)] or short[-1] is RemoteProtocolError
    assert _outcome(lambda: decode_answer(stream, kinds)) == _outcome(lambda: decode_plainly(stream, kinds))
    for message in whole:
        if isinstance(message, tuple):
            assert decode_answer(_body(message), kinds) == message


@target("protocol.codec", "protocol.messages", seeds=[_body(one) for one in _MESSAGES])
def fields_of_messages(data: bytes) -> None:
    """Whatever values stand in a frame, a message that results is one that could be built, sent and run."""
    with contextlib.suppress(Exception):
        values = msgpack.unpackb(data, raw=False, strict_map_key=False)
        # What changed inside gets a right outside.
        data = msgpack.packb(values)
    for kinds in (REQUESTS, ANSWERS):
        message = _outcome(lambda kinds=kinds: decode_answer(data, kinds))  # type: ignore[misc]
        if not isinstance(message, tuple):
            continue
        assert _body(message)
        if isinstance(message, Run | Start | Check):
            assert message.argv and message.argv[0]
            assert all(type(word) is bytes and b"\0" not in word for word in message.argv)
            assert len(dict(message.env)) == len(message.env)
            assert not any(b"=" in name or not name or b"\0" in name + value for name, value in message.env)
            made = canonical(message, frozenset(), stdin=False)
            assert tuple(word.encode("utf-8", "surrogateescape") for word in made.argv) == message.argv


# Exchange.

_ASKS: Final = (Run((b"true",)), Start((b"true",), (), 0), Check((b"true",)), Status())
_SAYS: Final[tuple[Asked, ...]] = (*_ASKS, Cancel(), Signal(15), Hello(VERSION, 256))
#: Where the answer to each stands among these.
_RIGHT: Final[dict[type, int]] = {Run: 0, Start: 0, Check: 2, Status: 3}
_ANSWERS: Final[tuple[Answer, ...]] = (
    Result("r", 0, b"", b""),
    Failure("r", "denied", ""),
    Verdict("r", True, ""),
    Report("r", b""),
    Started("r", 1, 0),
    Hello(VERSION, 256),
)


@target("protocol.exchange")
def exchange(data: bytes) -> None:
    """A daemon hears one request at a time, gives each one answer at most, and none after its last word."""
    source, daemon = Source(data), DaemonExchange()
    asked: Message | None = None
    hello = greeted = started = broken = over = False
    late = [0, 0]
    while source.left:
        if source.byte() & 1:
            message = source.choose(_SAYS) if hello or source.number(7) == 7 else _SAYS[-1]
            if broken or over:
                # A connection reads no more.
                continue
            raw = source.some(8) if source.number(9) == 9 else encode(message)
            daemon.feed(raw)
            while True:
                try:
                    heard = daemon.next_message()
                except RemoteProtocolError:
                    broken = True
                    break
                if heard is None:
                    break
                assert isinstance(heard, Hello) != hello
                hello = True
                if isinstance(heard, Run | Start | Check | Status):
                    assert asked is None
                    asked, started = heard, False
                elif asked is None and isinstance(heard, Cancel | Signal):
                    late[isinstance(heard, Signal)] -= 1
                    assert min(late) >= 0
                elif isinstance(heard, Cancel | Signal):
                    assert isinstance(asked, Run | Start) and (isinstance(heard, Cancel) or started)
        else:
            answer = source.choose(_ANSWERS)
            if source.number(7) < 7:
                # Mostly what is right, or little of what may be said is seen.
                answer = _ANSWERS[-1] if not greeted else _ANSWERS[_RIGHT.get(type(asked), 1)]
                if greeted and asked is None:
                    continue
            try:
                daemon.send(answer)
            except LocalProtocolError:
                # As a session does: whoever says what may not be said says nothing any more.
                return
            assert not over
            if isinstance(answer, Hello):
                assert not greeted and not broken
                greeted = True
            elif isinstance(answer, Started):
                assert greeted and isinstance(asked, Start) and not started and not broken
                started = True
            elif isinstance(answer, Failure) and (asked is None or broken):
                over = True
            else:
                assert asked is not None and not broken
                assert greeted or isinstance(answer, Failure)
                right = {Run: Result, Start: Result, Check: Verdict, Status: Report}[type(asked)]
                assert isinstance(answer, (Failure, right))
                late = [int(isinstance(asked, Run | Start)), 16 * (isinstance(asked, Start) and started)]
                asked = None


@target("protocol.exchange")
def both_sides(data: bytes) -> None:
    """What one side may say the other takes, whenever it arrives."""
    source, client, daemon = Source(data), ClientExchange(), DaemonExchange()
    to_daemon: list[bytes] = []
    to_client: list[bytes] = []
    # A client cancels once a command, whatever its exchange would let it.
    cancelled = False
    signals = 0
    while source.left:
        match source.number(3):
            case 0:
                message = source.choose(_SAYS)
                if isinstance(message, Cancel):
                    if cancelled:
                        continue
                    cancelled = True
                elif isinstance(message, Signal):
                    signals += 1
                    if signals > 16:
                        continue
                kept = client.state
                try:
                    to_daemon.append(client.send(message))
                except LocalProtocolError:
                    client.state = kept
                    continue
                if isinstance(message, Run | Start):
                    cancelled, signals = False, 0
            case 1:
                kept = daemon.state
                try:
                    to_client.append(daemon.send(source.choose(_ANSWERS)))
                except LocalProtocolError:
                    daemon.state = kept
            case 2:
                # After its last word a daemon reads no more.
                if to_daemon and daemon.state is not State.ENDED:
                    daemon.feed(to_daemon.pop(0))
                    assert daemon.next_message() is not None
            case _:
                if to_client:
                    client.feed(to_client.pop(0))
                    assert client.next_message() is not None


# Filters.

_FILE: Final = b"""[Filters]
a: CommandFilter, a, root
b: ArgvFilter, ip, root, netns, [add, {netns}]..., {=x|y}
c: RegExpFilter, ls, root, ls, -?[a-z]{2},
   .*
d: EnvFilter, env, nobody, A=, LD_PRELOAD=x, cat
[a]
env = A, B={int=1-3}
timeout = none
"""


@target(
    "filters.read.filter_file",
    "filters.read.ini",
    "filters.read.options",
    "filters.read.argv_syntax",
    seeds=[_FILE],
)
def filter_text(data: bytes) -> None:
    """Any text gives filters and findings with a place in it; no filter that an error is about is used."""
    text = data.decode("utf-8", "replace")
    found = filter_file.read(text, "x")
    again = filter_file.read(text, "x")
    assert [(one.name, one.program) for one in found.filters] == [
        (one.name, one.program) for one in again.filters
    ]
    count = text.count("\n") + 1
    in_error: set[str] = set()
    whole = False
    for finding in found.findings:
        assert 1 <= finding.location.line <= count and finding.location.column >= 1
        assert finding.what and "\n" not in str(finding)
        if finding.severity is Severity.ERROR:
            in_error |= finding.filters
            whole = whole or not finding.filters
    names = [one.name.lower() for one in found.filters]
    assert len(names) == len(set(names))
    assert not whole or not names
    assert in_error.isdisjoint(names)
    RuleSet(found.filters).match(Request(("a", "b")))


_OPTION_LINES: Final = (
    *("env = A", "env = A, B={int}", "env = A={path=/x}", "set_env = A=1", "timeout = 5", "timeout = none"),
    *(
        "timeout = -1",
        "timeout = 5, 6",
        "max_output = 9",
        "stdin = no",
        "stdin = maybe",
        "cwd = /tmp",
        "cwd = /../x",
    ),
    *(
        "umask = 077",
        "umask = 999",
        "group = users",
        "group = 0",
        "capabilities = CAP_CHOWN",
        "capabilities = none",
    ),
    *(
        "capabilities =",
        "ambient = CAP_KILL",
        "no_new_privs = no",
        "limits = nofile=4",
        "limits = nofile=4, nofile=5",
    ),
    *("opens_paths = yes", "sanitize = secrets", "audit = no-argv", "audit = argv, no-argv", "secret = 1, 2"),
    *(
        "secret = 0",
        "target_user = root",
        "started_by = self",
        "namespaces = any",
        "signals = HUP",
        "on_stop = leave",
    ),
    *(
        "max_word = 10",
        "STDIN = no",
        "stdn = no",
        "timeout: 7",
        "env = LD_PRELOAD",
        "signals = none",
        "= 1",
        "x",
    ),
)
_DEFAULTS: Final = {one.name: getattr(Options(), one.name) for one in fields(Options)}


@target("filters.read.options", "filters.read.filter_file")
def filter_options(data: bytes) -> None:
    """A filter whose options are not understood exactly is left out; else each of them is one of its kind."""
    source = Source(data)
    one = making.made(source, 0)
    plain = reference.Made(one.name, one.kind, one.program, one.run_as, one.fields, one.tree)
    free = source.some(40).decode("utf-8", "replace").replace("\n", " ").replace("\r", " ").lstrip(" [\t")
    given = [source.choose((*_OPTION_LINES, free or "x")) for _ in range(source.number(3))]
    head = f"[Filters]\n{plain.written()}"
    text = "\n".join((head, f"[{one.name}]", *given)) + "\n"
    without = filter_file.read(head + "\n", "x").filters
    found = filter_file.read(text, "x")
    errors = [finding for finding in found.findings if finding.severity is Severity.ERROR]
    if not found.filters:
        assert errors
        return
    assert without and not errors
    meant = [line.strip() for line in given if line.strip() and line.strip()[0] not in "#;"]
    changed = {name for name, value in _DEFAULTS.items() if getattr(found.filters[0].options, name) != value}
    for line in meant:
        name = (
            line.replace(":", "=", 1).partition("=")[0].strip().lower() if "=" in line or ":" in line else ""
        )
        option = options.OPTIONS[name]
        assert one.kind in option.kinds, f"{name} of a {one.kind}"
    assert bool(changed) <= bool(meant)


@target("filters.argv", "filters.read.argv_syntax", "filters.argv_types")
def argv_syntax(data: bytes) -> None:
    """A pattern takes the words that a search through all its ways finds a way for, and no others."""
    source = Source(data)
    tree = tuple(source.several(lambda: making.node(source), 6))
    one = reference.Made("f", "ArgvFilter", "ip", "root", (), tree)
    loaded = filter_file.read(making.text_of([one]), "x").filters
    if not loaded:
        return
    rules = RuleSet(loaded)
    for _ in range(4):
        words = making.words_for(source, one)
        if words[0] != "ip":
            continue
        matched = rules.match(Request(words))
        assert isinstance(matched, Match) == reference.allows(one, words), (one.written(), words)


@target(
    *(
        "filters.ruleset",
        "filters.kinds",
        "filters.chains",
        "filters.argv",
        "filters.read.argv_syntax",
        "filters.base",
    ),
    "filters.argv_types",
)
def decide(data: bytes) -> None:
    """Nothing is allowed that slow rules, written apart, deny; what they allow, the same filter allows."""
    source = Source(data)
    wanted = [making.made(source, number) for number in range(1 + source.number(4))]
    loaded = filter_file.read(making.text_of(wanted), "x").filters
    names = {one.name for one in loaded}
    definitions = [one for one in wanted if one.name in names]
    rules = RuleSet(loaded)
    for _ in range(3):
        argv, env, stdin = making.request(source)
        if source.number(3):
            argv = making.words_for(source, source.choose(wanted))
            other = source.choose(wanted)
            if other.kind not in ("ChainingRegExpFilter", "IpNetnsExecFilter") and source.number(1):
                argv += making.words_for(source, other)
        said = rules.match(Request(argv, env, stdin))
        verdict = reference.judge(definitions, argv, env, stdin=stdin)
        expected = None
        if verdict.allowed is not None:
            outer, inner = verdict.allowed
            expected = f"{outer.name}+{inner.name}" if inner else outer.name
        got = said.name if isinstance(said, Match) else None
        assert got == expected, (got, expected, argv, env, stdin, making.text_of(definitions))


@target("filters.ruleset", "filters.variables", "filters.read.options")
def environment(data: bytes) -> None:
    """A variable comes from the filter, or from the request where the filter names it."""
    source = Source(data)
    one = making.made(source, 0)
    loaded = filter_file.read(making.text_of([one]), "x").filters
    raw = {source.choose(making.VARIABLES): source.choose(making.VALUES) for _ in range(source.number(3))}
    argv = making.words_for(source, one)
    try:
        message = Run(
            tuple(word.encode("utf-8", "surrogateescape") for word in argv),
            tuple((name.encode(), value.encode("utf-8", "surrogateescape")) for name, value in raw.items()),
        )
    except BadRequest:
        return
    asked = canonical(message, frozenset(), stdin=False)
    said = RuleSet(loaded).match(asked)
    if not isinstance(said, Match) or not isinstance(said.plan, ExecPlan):
        return
    set_by_filter, allowed = dict(one.set_env), dict(one.env)
    own = {field.partition("=")[0]: field.partition("=")[2] for field in one.fields if "=" in field}
    own = own if one.kind == "EnvFilter" else {}
    for name, value in said.plan.env:
        assert "\0" not in name + value and "=" not in name
        if name in set_by_filter:
            assert value == set_by_filter[name]
        elif name in own:
            assert f"{name}={value}" in argv and own[name] in ("", value)
        else:
            assert raw[name] == value and name in allowed
    assert set(set_by_filter) <= {name for name, _ in said.plan.env}


_LEAVES: Final[tuple[Any, ...]] = (
    None,
    True,
    -1,
    2**70,
    1.5,
    "",
    "x",
    "(",
    "a\0",
    "root",
    [],
    [[]],
    ["CommandFilter", {}],
    {},
    {"a": 1},
)


def _changed(source: Source, data: Any) -> Any:
    """The same plain data but for a value or two."""
    if source.number(15) == 15:
        return source.choose(_LEAVES)
    if isinstance(data, dict):
        return {name: _changed(source, one) for name, one in data.items() if source.number(30) < 30}
    if isinstance(data, list):
        found = [_changed(source, one) for one in data]
        return found + found[:1] if source.number(30) == 30 else found
    return data


@target("plain_data", "filters.values", "filters.base")
def handed_over(data: bytes) -> None:
    """Any plain data is a filter that gives the same plain data again and can be asked, or is refused."""
    source = Source(data)
    one = making.made(source, 0)
    for found in filter_file.read(making.text_of([one]), "x").filters:
        plain = to_plain(found)
        assert to_plain(from_plain(type(found), plain)) == plain
        try:
            built = from_plain(type(found), _changed(source, plain))
        except ValueError:
            continue
        assert to_plain(from_plain(type(found), to_plain(built))) == to_plain(built)
        RuleSet([built]).match(Request(making.words_for(source, one)))


# Descriptors.


def _ends(open_as: int | None = None) -> list[int]:
    """Both ends of a pipe; with flags, the first of them opened again so."""
    read, write = os.pipe()
    if open_as is not None:
        other = os.open(f"/proc/self/fd/{read}", open_as)
        os.close(read)
        read = other
    return [read, write]


#: Each gives one descriptor or more, and which of them are offered: ends of pipes, and what is none.
_DESCRIPTORS: Final[tuple[tuple[Callable[[], list[int]], slice], ...]] = (
    (_ends, slice(0, 1)),
    (_ends, slice(1, 2)),
    (_ends, slice(0, 2)),
    (lambda: _ends(os.O_PATH), slice(0, 1)),
    (lambda: _ends(os.O_RDWR), slice(0, 1)),
    (lambda: [one.detach() for one in socket.socketpair()], slice(0, 1)),
    (lambda: [os.memfd_create("pipe:[1]")], slice(0, 1)),
    (lambda: [os.open("/dev/null", os.O_RDWR)], slice(0, 1)),
    (lambda: [os.open("/", os.O_PATH)], slice(0, 1)),
    (lambda: [os.eventfd(0)], slice(0, 1)),
    (lambda: [os.pidfd_open(os.getpid())], slice(0, 1)),
)
_STARTS: Final = tuple(Start((b"cat",), (), slots) for slots in range(8))
_REPLIES: Final[dict[type, Answer]] = {
    Hello: Hello(VERSION, MAX_ANSWER_FRAME),
    Run: Result("r", 0, b"", b""),
    Start: Result("r", 0, b"", b""),
    Check: Verdict("r", True, ""),
    Status: Report("r", b""),
}


def _inodes(some: Iterable[int]) -> list[tuple[int, int]]:
    return [(status.st_ino, status.st_mode) for status in map(os.fstat, some)]


@target("daemon.serve.connection", "daemon.run.stdio")
def descriptors(data: bytes) -> None:
    """What comes with a Start is as many pipes as it says, of one write; all that came is closed again."""
    source, before = Source(data), set(os.listdir("/proc/self/fd"))
    talk: list[Message] = [Hello(VERSION, MAX_ANSWER_FRAME)] if source.number(9) else []
    talk += source.several(lambda: source.choose((*_STARTS, *_STARTS, *_SAYS)), 5)
    stream = b"".join(map(encode, talk))
    ours, theirs = socket.socketpair()
    turn = Turns(1).of(0)
    connection = Connection(ours, Share(lambda count: True, lambda count: None), turn, 5.0)
    # How much is written; and what lay beside each write.
    at = 0
    beside: list[list[tuple[int, int]]] = []

    def write() -> None:
        nonlocal at
        if at >= len(stream):
            theirs.shutdown(socket.SHUT_WR)
            return
        # At the beginning of a message, mostly.
        ends = [end for end in accumulate(map(len, map(encode, talk))) if end > at]
        end = at + 1 + source.number(60) if source.number(3) == 3 else source.choose(ends)
        made, offered = [], []
        for make, which in (
            source.several(lambda: source.choose(_DESCRIPTORS), 3) if source.byte() & 1 else []
        ):
            made += (new := make())
            offered += new[which]
        with contextlib.suppress(OSError):
            socket.send_fds(theirs, [stream[at:end]], offered)
        at = end
        beside.append(_inodes(offered))
        for one in made:
            os.close(one)

    def read(real: Callable[[], None] = connection._read) -> None:
        for _ in range(1 + source.number(2)):
            write()
        real()

    connection._read = read  # type: ignore[method-assign]
    heard = 0
    try:
        while True:
            message = connection.receive()
            assert message == talk[heard]
            heard += 1
            taken = connection.take_descriptors()
            if isinstance(message, Start):
                with Stdio(taken, message.slots) as stdio:
                    assert len(taken) == message.slots.bit_count()
                    assert not taken or _inodes(taken) in beside
                    assert all(os.readlink(f"/proc/self/fd/{one}").startswith("pipe:[") for one in taken)
                    with contextlib.suppress(RemoteProtocolError):
                        stdio.check(os.getuid())
                        modes = [end and fcntl.fcntl(end, fcntl.F_GETFL) & 3 for end in stdio.ends]
                        assert modes[0] in (None, os.O_RDONLY)
                        assert {*modes[1:]} <= {None, os.O_WRONLY}
            else:
                assert not taken or isinstance(message, Hello)
                connection._descriptors = taken
            if reply := _REPLIES.get(type(message)):
                connection.answer(reply)
    except (Closed, RemoteProtocolError):
        pass
    finally:
        connection.close()
        theirs.close()
    assert before.issuperset(os.listdir("/proc/self/fd"))


# Records.

_CANARY: Final = "Xq7SECRETcanaryZz"


@target("daemon.record.lines", "daemon.record.secrets")
def audit_lines(data: bytes) -> None:
    """A record is one line of JSON of at most 4096 bytes, shows no hidden word, and loses no short one."""
    source = Source(data)
    words = [
        source.choose(making.WORDS) * (1 + 30 * (source.number(9) == 9)) for _ in range(1 + source.number(20))
    ]
    words += [
        source.some(60).decode("utf-8", "surrogateescape").replace("\0", "") for _ in range(source.number(3))
    ]
    hidden: set[int] = set()
    for _ in range(source.number(3)):
        place = source.number(len(words))
        words.insert(place, _CANARY)
        hidden = {one + (one >= place) for one in hidden} | {place}
    for option in ("--password", "--token", "password", "-p"):
        if source.number(7) == 7:
            # By its own looks, but for the last: a word behind the name of a secret.
            words += [option, _CANARY]
            hidden |= {len(words) - 1} if option == "-p" else set()
    detail = source.some(300).decode("latin-1")
    record: dict[str, object] = {"time": "t", "event": "run", "argv": tuple(words), "detail": detail}
    line = lines.line(record, frozenset(hidden))
    assert len(line) <= lines.MAX_RECORD and line.endswith(b"\n") and line.count(b"\n") == 1
    assert line.isascii() and _CANARY.encode() not in line
    said = json.loads(line)
    assert said["event"] == "run"
    if "argv_words" in said:
        assert said["argv_words"] == len(words) and len(said["argv"]) <= len(words)
    else:
        assert len(said["argv"]) == len(words)
        for place, word in enumerate(words):
            # A word without a name of a secret anywhere in the argv is shown as it came.
            assert said["argv"][place] == word or place in hidden or secrets.is_suspect(tuple(words))
    short = lines.plain(tuple(words)) if not hidden else None
    if short is not None:
        assert json.loads(f'["{short}"]') == words


class _Failing:
    """A sink that takes what it is told to take."""

    is_log = True

    def __init__(self) -> None:
        self.taken: list[bytes] = []
        self.works = True

    def put(self, line: bytes, patience: float) -> None:
        if not self.works:
            raise OSError("no room")
        self.taken.append(line)

    def reopen(self) -> None:
        """There is nothing under a name."""

    def close(self) -> None:
        """There is nothing to close."""


@target("daemon.record.audit")
def audit_losses(data: bytes) -> None:
    """A record that must be written is, or nothing runs; others come later, all of them, in order."""
    source, sink = Source(data), _Failing()
    records = audit.Audit.__new__(audit.Audit)
    audit.Audit.__init__(records, "", required=True, owners=frozenset((0,)))
    own, records._sink = records._sink, sink
    own.close()
    expected: list[int] = []
    for number in range(min(source.left, 500)):
        match source.number(3):
            case 0:
                sink.works = not sink.works
            case 1:
                try:
                    write_record(records, "run", id=number)
                except InternalError:
                    assert not sink.works
                else:
                    expected.append(number)
            case _:
                try_record(records, "end", id=number)
                expected.append(number)
    sink.works = True
    records.flush()
    got = [json.loads(line)["id"] for line in sink.taken]
    assert sorted(got) == sorted(expected)
    runs = [number for number in got if b'"run"' in sink.taken[got.index(number)]]
    assert runs == sorted(runs)
    assert got == sorted(got)


# Sudoers.

_SUDOERS: Final = rb"""Cmnd_Alias A = /bin/ls, !/bin/cat /etc/*
zabbix ALL=(root) NOPASSWD: A, /usr/bin/id -u, /sbin/ip link set * up
Defaults:zabbix env_keep += "A B"
%wheel h = (ALL : ALL) sha256:aa /bin/x ""
"""


@target("analysis.sudoers.read", "analysis.sudoers.write", seeds=[_SUDOERS])
def sudoers(data: bytes) -> None:
    """Any text is rules or refused; each filter made of one allows its example and denies what is not it."""
    text = data.decode("utf-8", "replace")
    if "include" in text:
        return
    try:
        found = sudoers_read.read("sudoers", text)
    except sudoers_read.NotRead:
        return
    done = sudoers_write.translate(found, sudoers_write.users(found))
    made = sudoers_write.text(done, [])
    loaded = filter_file.read(made, "x")
    named = {one.name: one for one in loaded.filters}
    for one in done:
        assert one.definition is None or "\n" not in one.definition
        if one.definition is None or one.name not in named:
            continue
        alone = RuleSet([named[one.name]])
        assert isinstance(alone.match(Request(one.allowed)), Match), (one.definition, one.allowed)
        if one.denied:
            assert not isinstance(alone.match(Request(one.denied)), Match), (one.definition, one.denied)
