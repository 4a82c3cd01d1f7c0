"""What changes from one policy to another: per filter, and per request in both directions."""

import re

import pytest

from rootwrap_daemon.analysis import diff, load
from rootwrap_daemon.analysis.diff import Direction, Kind
from rootwrap_daemon.analysis.load import Source
from rootwrap_daemon.filters.values import Request


def _policy(text: str) -> Source:
    return load.from_texts({"f": f"[Filters]\n{text}\n"})


OLD = """\
same: CommandFilter, ls, root
moved: CommandFilter, id, root
gone: CommandFilter, cat, root
wider: RegExpFilter, ip, root, ip, link, (up)
[same]
timeout = 5"""


@pytest.mark.parametrize(
    ("new", "expected"),
    [
        (OLD, []),
        (OLD.replace("same:   ", "same: ").replace("timeout = 5", "timeout=5"), []),
        (OLD.replace("gone: CommandFilter, cat, root\n", ""), [(Kind.REMOVED, "gone")]),
        (OLD.replace("[same]", "new: CommandFilter, tac, root\n[same]"), [(Kind.ADDED, "new")]),
        (OLD.replace("(up)", "(up|down)"), [(Kind.CHANGED, "wider")]),
        (OLD.replace("timeout = 5", "timeout = 6"), [(Kind.CHANGED, "same")]),
        (OLD.replace("moved:", "other:"), [(Kind.RENAMED, "moved -> other")]),
        (
            OLD.replace("moved: CommandFilter, id", "other: CommandFilter, tac"),
            [(Kind.ADDED, "other"), (Kind.REMOVED, "moved")],
        ),
    ],
)
def test_filters(new: str, expected: list[tuple[Kind, str]]) -> None:
    found = diff.changes(_policy(OLD), _policy(new))
    assert [(one.kind, one.name) for one in found] == expected


def test_an_escaped_comma_is_a_difference() -> None:
    old, new = (_policy(f"x: ArgvFilter, ls, root, {word}") for word in ("a,b", r"a\,b"))
    assert [one.kind for one in diff.changes(old, new)] == [Kind.CHANGED]


def test_requests_in_both_directions() -> None:
    old = _policy(
        "a: CommandFilter, ls, root\nb: RegExpFilter, ip, root, ip, up\nc: CommandFilter, id, root\n"
        "same: CommandFilter, cat, root"
    )
    new = _policy(
        "a: CommandFilter, ls, daemon\nb: RegExpFilter, ip, root, ip, down\nc: CommandFilter, id, root\n"
        "[c]\ntimeout = 9\n[Filters]\nsame: CommandFilter, cat, root"
    )
    words = ["ls x", "ip up", "ip down", "id", "cat x", "nothing", "ip up"]
    found = diff.shifts(old, new, [Request(tuple(one.split())) for one in words])
    assert [(one.direction, " ".join(one.argv), one.old, one.new) for one in found] == [
        (Direction.OTHERWISE, "ls x", "run_as root", "run_as daemon"),
        (Direction.DENIED, "ip up", "b, as root", "denied: no filter allows these words"),
        (Direction.ALLOWED, "ip down", "denied", "b, as root"),
        (Direction.OTHERWISE, "id", "timeout as the daemon has it", "timeout 9"),
    ]


def test_variables_count() -> None:
    old, new = _policy("a: CommandFilter, ls, root\n[a]\nenv = LANG"), _policy("a: CommandFilter, ls, root")
    request = Request(("ls",), (("LANG", "C"),))
    assert [one.direction for one in diff.shifts(old, new, [request])] == [Direction.DENIED]


#: What Python shows of a value, and nobody else.
_PYTHON = re.compile(r"[A-Za-z]\w*\(|<\w|\bNone\b|\bTrue\b|\bFalse\b|\binf\b|[{}\[\]]|\\x")


_LS = "x: CommandFilter, ls, root"


@pytest.mark.parametrize(
    ("old", "new", "argv", "said"),
    [
        (_LS, "x: CommandFilter, /bin/ls, root", "ls", "program /bin/ls"),
        ("x: ReadFileFilter, /etc/x", "x: CommandFilter, cat, root", "cat /etc/x", "kind runs a program"),
        ("x: PathFilter, ls, root, /var", _LS, "ls /var/x", "arguments /var/x beneath /var"),
        (f"{_LS}\n[x]\ntimeout = none", _LS, "ls", "timeout without limit"),
        (f"{_LS}\n[x]\ncapabilities = CAP_KILL, CAP_CHOWN", _LS, "ls", "capabilities CAP_CHOWN, CAP_KILL"),
        (f"{_LS}\n[x]\numask = 027", _LS, "ls", "umask 0027"),
        (f"{_LS}\n[x]\nsignals = TERM, HUP", _LS, "ls", "signals SIGHUP, SIGTERM"),
        (f"{_LS}\n[x]\nstdin = no", _LS, "ls", "stdin yes"),
        (f"{_LS}\n[x]\nset_env = A=b", _LS, "ls", "A b"),
        (f"{_LS}\n[x]\nlimits = nofile=9", _LS, "ls", "nofile 9"),
    ],
)
def test_a_difference_is_said_in_words(old: str, new: str, argv: str, said: str) -> None:
    found = list(diff.shifts(_policy(old), _policy(new), [Request(tuple(argv.split()))]))
    shown = [text for one in found for text in (one.old, one.new)]
    assert any(said in text for text in shown), shown
    assert not [text for text in shown if _PYTHON.search(text)]
