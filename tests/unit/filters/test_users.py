"""Whom a filter is for, and as whom its commands run: `users`, and several users in `run_as`."""

import pytest

from rootwrap_daemon.filters.plan import ExecPlan, SignalPlan
from rootwrap_daemon.filters.values import Match, Request
from tests.unit.filters.lines import errors, read, rules

#: A filter of each kind that runs a command or sends a signal, with words that it allows.
KINDS = [
    ("x: CommandFilter, ls, games|root", "ls"),
    ("x: RegExpFilter, ls, games|root, ls, [a-z]+", "ls a"),
    ("x: PathFilter, ls, games|root, pass", "ls a"),
    ("x: IpFilter, ip, games|root", "ip link"),
    ("x: EnvFilter, env, games|root, A=, ls", "env A=1 ls"),
    ("x: ArgvFilter, ls, games|root, {name}", "ls a"),
    ("x: KillFilter, games|root, ls, -TERM", "kill -TERM 7"),
    ("x: ChainingRegExpFilter, nice, games|root, nice\nls: CommandFilter, ls, root|games", "nice ls"),
]


def asked(lines: str, words: str, user: str | None = None, *asker: str) -> list[tuple[str, str]]:
    """Which filters allow these words, and as whom."""
    found = rules(*lines.split("\n")).matches(
        Request(tuple(words.split()), (), False, user, frozenset(asker))
    )
    return [
        (one.name, one.plan.run_as)
        for one in found
        if isinstance(one, Match) and isinstance(one.plan, ExecPlan | SignalPlan)
    ]


@pytest.mark.parametrize(("lines", "words"), KINDS)
def test_the_user_named_of_those_in_the_list(lines: str, words: str) -> None:
    name = "x+ls" if "nice" in words else "x"
    assert asked(lines, words, "root") == [(name, "root")]
    assert asked(lines, words, "games") == [(name, "games")]
    assert asked(lines, words, "nobody") == []
    # Without one it is the first; in a chain the first of both must be the same.
    assert asked(lines, words) == ([] if "nice" in words else [("x", "games")])


def test_the_next_filter_is_asked() -> None:
    lines = "a: CommandFilter, ls, games\nb: RegExpFilter, ls, root|games, ls, x\nc: CommandFilter, ls, root"
    assert asked(lines, "ls x") == [("a", "games"), ("b", "root"), ("c", "root")]
    assert asked(lines, "ls x", "root") == [("b", "root"), ("c", "root")]
    assert asked(lines, "ls y", "games") == [("a", "games")]


def test_what_the_daemon_reads_itself_is_roots() -> None:
    found = rules("x: ReadFileFilter, /etc/x")
    assert isinstance(found.match(Request(("cat", "/etc/x"), user="root")), Match)
    assert not isinstance(found.match(Request(("cat", "/etc/x"), user="games")), Match)


def test_a_namespace_needs_root() -> None:
    lines = "ns: IpNetnsExecFilter, ip, root\nls: CommandFilter, ls, games|root"
    words = "ip netns exec n ls"
    assert asked(lines, words, "root") == [("ns+ls", "root")]
    assert asked(lines, words, "games") == asked(lines, words) == []
    assert errors(read("ns: IpNetnsExecFilter, ip, root|games"))


@pytest.mark.parametrize(
    "run_as", ["", "|", "root|", "|root", "root||games", "root|root", "0", "root|0", "root |games", "root|%x"]
)
def test_lists_that_are_none(run_as: str) -> None:
    assert errors(read(f"x: CommandFilter, ls, {run_as}"))


@pytest.mark.parametrize("kind", [*KINDS, ("x: ReadFileFilter, /etc/x", "cat /etc/x")])
def test_for_some_alone(kind: tuple[str, str]) -> None:
    lines, words = kind
    found = rules(*lines.split("\n"), "[x]", "users = zabbix, %backup")
    request = Request(tuple(words.split()), user="root")

    def allows(*asker: str) -> bool:
        return isinstance(found.match(request._replace(asker=frozenset(asker))), Match)

    assert allows("zabbix")
    assert allows("%backup", "other")
    # Nobody in particular, somebody else, a group's name as a user's.
    assert not allows()
    assert not allows("other", "%zabbix", "backup", "")


def test_of_a_chain_both_must_be_for_whoever_asks() -> None:
    lines = ["n: ChainingRegExpFilter, nice, root, nice", "ls: CommandFilter, ls, root"]
    for section in ("[n]", "[ls]"):
        text = "\n".join((*lines, section, "users = a"))
        assert asked(text, "nice ls", None, "a") == [("n+ls", "root")]
        assert asked(text, "nice ls", None, "b") == []


def test_for_a_whole_file() -> None:
    text = "\n".join(
        (
            *("a: CommandFilter, ls, root", "b: CommandFilter, cat, root", "c: CommandFilter, id, root"),
            *("[DEFAULT]", "users = zabbix", "[b]", "users = %backup", "[c]", "timeout = 3"),
        )
    )
    assert asked(text, "ls", None, "zabbix") == asked(text, "ls", None, "zabbix") == [("a", "root")]
    assert asked(text, "id", None, "zabbix") == [("c", "root")]
    assert not asked(text, "ls", None, "%backup")
    # What a filter's own section says stands instead.
    assert asked(text, "cat", None, "%backup") == [("b", "root")]
    assert not asked(text, "cat", None, "zabbix")


@pytest.mark.parametrize("above", [True, False])
@pytest.mark.parametrize(
    "lines",
    [
        ["users = 0"],
        ["users ="],
        ["users = a, a"],
        ["users = %"],
        ["users = a b"],
        ["users = a\x01"],
        ["users = a", "users = b"],
        ["users = a", "timeout = 3"],
        ["users"],
        ["ls: CommandFilter, ls, root"],
    ],
)
def test_what_cannot_be_read_for_a_file_takes_it_out(lines: list[str], above: bool) -> None:
    default, filters = ["[DEFAULT]", *lines], ["[Filters]", "x: CommandFilter, ls, root"]
    found = read(*(default + filters if above else filters + default))
    assert not found.filters
    assert errors(found)


@pytest.mark.parametrize("text", ["0", "%0", "%", "a b", "root|a", "*", "ALL", "!a", ""])
def test_names_alone(text: str) -> None:
    found = read("x: CommandFilter, ls, root", "y: CommandFilter, ls, root", "[x]", f"users = {text}")
    # ALL is a name as any other: there is no word for everybody.
    assert [one.name for one in found.filters] == (["x", "y"] if text == "ALL" else ["y"])
