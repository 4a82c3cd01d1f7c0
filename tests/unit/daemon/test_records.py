"""daemon/record/records.py: every record of a request, from one value."""

import itertools
import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from rootwrap_daemon.daemon.record import records as module
from rootwrap_daemon.daemon.record.audit import Audit
from rootwrap_daemon.daemon.record.records import Records
from rootwrap_daemon.daemon.request import Peer
from rootwrap_daemon.errors import ExecutableNotFound
from rootwrap_daemon.filters.values import Options, Request, Shown
from rootwrap_daemon.policy.bound import BoundRead
from rootwrap_daemon.policy.policy import Allowed, Refused, judge
from tests.unit.policy import things

PEER = Peer(7, 4711, 47, ())


def written(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.log"


def all_of(audit: Audit, request: Request, shown: Shown, name: str) -> None:
    """Every record there is."""
    allowed = Allowed(name, Options(), BoundRead((), 0), shown)
    refused = Refused(ExecutableNotFound, "no", f"no {request.argv[-1]}", name, shown)
    records = Records(audit, PEER, request, 3)
    records.refuse("denied", refused)
    records.refuse("check", refused)
    records.busy()
    records.allow(allowed)
    records.begin(allowed, "root")
    records.end("ok", 0, (1, 2))
    records.end("timeout", -9, None)
    records.end("internal", None, None, f"why {request.argv[-1]}")


WORDS = ("ip", "a b", "", 'q"', "\\", "é", "\udcff", "\n", "\x7f", "~", "x" * 701, "password=hunter2", "<>&'")
REQUESTS = [
    *(Request(("cmd", *pair)) for pair in itertools.product(WORDS, WORDS)),
    *(Request(("cmd",) * count) for count in (1, 50, 400)),
    Request(("cmd", "x"), (("A", "secret"), ("B\n", "x"))),
]


def test_a_plain_record_is_as_any_other(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two ways to one line: bytes are the same, whichever is taken."""
    monkeypatch.setattr(Audit, "stamp", lambda self: "2026-01-01T00:00:00.000+00:00")
    monkeypatch.setattr(module, "monotonic", lambda: 5.0)
    monkeypatch.setattr("rootwrap_daemon.daemon.record.audit._BURST", 10**6)
    found: list[bytes] = []
    for quick in (True, False):
        if not quick:
            monkeypatch.setattr(module, "plain", lambda argv: None)
        monkeypatch.setattr(module, "new_request_id", map("id-{}".format, itertools.count()).__next__)
        path.unlink(missing_ok=True)
        audit = Audit(str(path), required=True, owners=things.OWNERS)
        for request, shown, name in itertools.product(
            REQUESTS, (Shown(), Shown(argv=False), Shown(secret=frozenset((2,)))), ("name", 'n"é')
        ):
            all_of(audit, request, shown, name)
        audit.close()
        found.append(path.read_bytes())
    assert found[0] == found[1]
    assert len(found[0].splitlines()) == len(REQUESTS) * 6 * 8


@pytest.mark.parametrize(
    "shown", [Shown(argv=False), Shown(secret=frozenset((1,))), Shown(secret=frozenset((1, 9)))]
)
def test_what_a_filter_hides_is_in_no_record(path: Path, shown: Shown) -> None:
    audit = Audit(str(path), required=True, owners=things.OWNERS)
    all_of(audit, Request(("cmd", "hunter2")), shown, "name")
    audit.close()
    assert len(written(path)) == 8
    assert b"hunter2" not in path.read_bytes()
    assert written(path)[4]["argv"] == (["cmd", "***"] if shown.argv else ["cmd"])


HIDES = "audit = no-argv"


@pytest.mark.parametrize(
    ("lines", "request_"),
    [
        pytest.param(
            ["a: CommandFilter, no-such-program, root", "[a]", HIDES],
            Request(("no-such-program", "hunter2")),
            id="no program",
        ),
        pytest.param(
            ["a: CommandFilter, cat, root", "[a]", HIDES, "stdin = no"],
            Request(("cat", "hunter2"), stdin=True),
            id="input",
        ),
        pytest.param(
            ["a: CommandFilter, cat, root", "[a]", HIDES],
            Request(("cat", "hunter2"), (("X", "1"),)),
            id="variable",
        ),
        pytest.param(
            ["a: PathFilter, cat, root, /etc", "[a]", HIDES],
            Request(("cat", "/root/hunter2")),
            id="another directory",
        ),
        pytest.param(
            [
                "a: CommandFilter, no-such-program, root",
                "b: RegExpFilter, no-such-program, root, no-such-program, .*",
                "[b]",
                HIDES,
            ],
            Request(("no-such-program", "hunter2")),
            id="the second of two",
        ),
    ],
)
def test_options_of_the_filter_hold_for_refusals(
    tmp_path: Path, path: Path, lines: list[str], request_: Request
) -> None:
    policy = things.policy(tmp_path, *lines)
    judged = judge(policy, request_)
    assert isinstance(judged, Refused)
    audit = Audit(str(path), required=True, owners=things.OWNERS)
    Records(audit, PEER, request_, policy.generation).refuse("denied", judged)
    audit.close()
    (record,) = written(path)
    assert record["argv"] == [request_.argv[0]]
    assert record["filter"] in ("a", "b")


@pytest.mark.parametrize(
    ("lines", "argv", "shown"),
    [
        pytest.param(
            ["a: ArgvFilter, cat, root, -u, {name}, {secret}"],
            ("cat", "-u", "x", "hunter2"),
            ["cat", "-u", "x", "***"],
            id="a type",
        ),
        pytest.param(
            ["a: ArgvFilter, cat, root, [-k, {secret}] ..."],
            ("cat", "-k", "hunter2", "-k", "hunter2"),
            ["cat", "-k", "***", "-k", "***"],
            id="a type, repeated",
        ),
        pytest.param(
            ["a: CommandFilter, cat, root", "[a]", "secret = 2, 3"],
            ("cat", "x", "hunter2", "hunter2", "y"),
            ["cat", "x", "***", "***", "y"],
            id="places",
        ),
        pytest.param(
            [
                "n: ChainingRegExpFilter, nice, root, nice, -n, [0-9]+",
                "a: ArgvFilter, cat, root, {name}, {secret}",
            ],
            ("nice", "-n", "5", "cat", "x", "hunter2"),
            ["nice", "-n", "5", "cat", "x", "***"],
            id="inside a chain",
        ),
        pytest.param(
            [
                "n: ChainingRegExpFilter, nice, root, nice, -n, [0-9]+",
                "a: CommandFilter, cat, root",
                *("[n]", "secret = 2", "[a]", "secret = 1"),
            ],
            ("nice", "-n", "5", "cat", "hunter2"),
            ["nice", "-n", "***", "cat", "***"],
            id="of both filters of a chain",
        ),
    ],
)
@pytest.mark.parametrize("allowed", [True, False])
def test_secret_words_are_in_no_record(
    tmp_path: Path, path: Path, lines: list[str], argv: tuple[str, ...], shown: list[str], allowed: bool
) -> None:
    """Neither of one that runs, nor of one that is refused for its input."""
    where = lines.index("[a]") + 1 if "[a]" in lines else len(lines)
    more = [] if allowed else (["stdin = no"] if "[a]" in lines else ["[a]", "stdin = no"])
    policy = things.policy(tmp_path, *lines[:where], *more, *lines[where:])
    request = Request(argv, stdin=True)
    judged = judge(policy, request)
    audit = Audit(str(path), required=True, owners=things.OWNERS)
    records = Records(audit, PEER, request, policy.generation)
    if isinstance(judged, Refused):
        assert not allowed
        records.refuse("denied", judged)
    else:
        assert allowed
        records.begin(judged, "root")
        records.end("internal", None, None, "hunter2 is wrong")
        records.allow(judged)
        judged.bound.close()
    audit.close()
    assert "hunter2" not in path.read_text()
    assert written(path)[0]["argv"] == shown


@pytest.mark.parametrize(
    ("argv", "shown"),
    [
        (("cat", "x", "y z", "hunter2"), ["cat", "***", "***", "***"]),
        (("nice", "-n", "5", "cat", "hunter2", "-q"), ["nice", "-n", "5", "cat", "***", "***"]),
        (("other", "x"), ["other", "x"]),
    ],
)
def test_a_slip_of_the_pen_does_not_give_a_secret_away(
    tmp_path: Path, path: Path, argv: tuple[str, ...], shown: list[str]
) -> None:
    """No filter allows these words, so none says which of them is the secret."""
    policy = things.policy(tmp_path, "a: ArgvFilter, cat, root, {name}, {secret}")
    judged = judge(policy, Request(argv))
    assert isinstance(judged, Refused)
    audit = Audit(str(path), required=True, owners=things.OWNERS)
    Records(audit, PEER, Request(argv), 1).refuse("denied", judged)
    audit.close()
    assert written(path)[0]["argv"] == shown


def test_a_filter_that_wants_refusals_alone(tmp_path: Path, path: Path) -> None:
    policy = things.policy(tmp_path, "a: CommandFilter, cat, root", "[a]", "audit = refusals, no-argv")
    audit = Audit(str(path), required=True, owners=things.OWNERS)
    for code in ("ok", "timeout", "ok"):
        request = Request(("cat", "x"))
        judged = judge(policy, request)
        assert isinstance(judged, Allowed)
        with judged.bound:
            records = Records(audit, PEER, request, 1)
            records.begin(judged, "root")
            records.end(code, 0, (1, 2))
    assert not path.read_bytes()
    assert audit.counters.snapshot() == {"run": {"run": 3}, "end": {"ok": 2, "timeout": 1}}
    request = Request(("cat", "x"), (("A", "1"),))
    refused = judge(policy, request)
    assert isinstance(refused, Refused)
    Records(audit, PEER, request, 1).refuse("denied", refused)
    audit.close()
    first, second = written(path)
    assert (first["event"], first["argv"]) == ("denied", ["cat"])
    assert {key: second[key] for key in ("event", "of", "uid", "filter", "count", "failed")} == {
        "event": "repeated",
        "of": "commands",
        "uid": PEER.uid,
        "filter": "a",
        "count": 3,
        "failed": 1,
    }


def test_a_word_that_looks_like_a_secret_is_in_no_reason(tmp_path: Path, path: Path) -> None:
    policy = things.policy(tmp_path, "a: RegExpFilter, realpath, root, realpath, --password=.*")
    request = Request(("realpath", "--password=/tmp/hunter2"))
    judged = judge(policy, request)
    assert isinstance(judged, Refused)
    assert "hunter2" in judged.detail
    audit = Audit(str(path), required=True, owners=things.OWNERS)
    Records(audit, PEER, request, 1).refuse("denied", judged)
    audit.close()
    assert "hunter2" not in path.read_text()


@pytest.mark.parametrize("word", ["/a/sécrét", "a=/b/hunter2:ro", "/a/b\\c d", "/a/x\ty\tz"])
def test_a_detail_that_has_a_part_of_a_hidden_word(path: Path, word: str) -> None:
    part = word.rpartition("/")[2].partition(":")[0]
    audit = Audit(str(path), required=True, owners=things.OWNERS)
    with closing(audit):
        for text in (f"the word '/a/{part}' is refused", f"the word {f'/a/{part}'!a} is refused"):
            refused = Refused(ExecutableNotFound, "no", text, "x", Shown(secret=frozenset({1})))
            Records(audit, PEER, Request(("cmd", word)), 3).refuse("denied", refused)
    assert [record["detail"] for record in written(path)] == ["***", "***"]
