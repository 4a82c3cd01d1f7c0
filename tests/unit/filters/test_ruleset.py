"""filters/ruleset.py: order, index, chains, option sections, environments, doubles; and matching is pure."""

import math
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rootwrap_daemon.filters.argv_types import Matcher
from rootwrap_daemon.filters.base import Filter
from rootwrap_daemon.filters.chains import chained
from rootwrap_daemon.filters.finding import Severity
from rootwrap_daemon.filters.patterns import Clock
from rootwrap_daemon.filters.plan import Beneath, ExecPlan, FixedPath, Plan, Program
from rootwrap_daemon.filters.read import filter_file
from rootwrap_daemon.filters.ruleset import RuleSet
from rootwrap_daemon.filters.values import Denied, Match, Options, Reason, Request
from tests.unit.filters.lines import FILE, errors, match, plan, read, rules

NICE = "n: ChainingRegExpFilter, /usr/bin/nice, root, nice, -n, -?\\d+"
NETNS = "x: IpNetnsExecFilter, ip, root"
CAT = "cat: CommandFilter, /bin/cat, root"
PATH = "p: PathFilter, chmod, root, pass, /srv"


def names(rules: RuleSet, *argv: str) -> list[str]:
    """Every filter that allows these words, in order."""
    return [found.name for found in rules.matches(Request(argv)) if isinstance(found, Match)]


# Order and index.


def test_the_order_is_that_of_the_lines() -> None:
    found = rules(
        "b: CommandFilter, ls, root", "a: CommandFilter, /bin/ls, daemon", "c: CommandFilter, ls, nobody"
    )
    assert names(found, "ls", "-l") == ["b", "a", "c"]
    assert names(found, "/bin/ls") == ["a"]
    assert match(found, "ls") == next(found.matches(Request(("ls",))))


def test_the_order_is_that_of_the_files() -> None:
    files = [read(f"{name}: CommandFilter, ls, root") for name in ("z", "a")]
    assert names(RuleSet([one for file in files for one in file.filters]), "ls") == ["z", "a"]


def test_a_match_says_where_its_filter_stands() -> None:
    found = match(rules("  ls: CommandFilter, ls, root", CAT), "ls")
    assert isinstance(found, Match)
    assert str(found.location) == f"{FILE}:2:3"
    assert (found.filter, found.leaf, found.name) == ("ls", None, "ls")


def test_denied_comes_last_and_always() -> None:
    found = list(rules(CAT).matches(Request(("cat",))))
    assert [type(one) for one in found] == [Match, Denied]
    assert list(rules(CAT).matches(Request(("ls",)))) == [Denied(Reason.PROGRAM)]
    assert list(RuleSet([]).matches(Request(("",)))) == [Denied(Reason.PROGRAM)]


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (Request(("ls", "-x")), Reason.WORDS),
        (Request(("ls", "-l"), user="nobody"), Reason.USER),
        (Request(("id",)), Reason.USER),
        (Request(("id", "-x"), asker=frozenset({"games"})), Reason.WORDS),
        (Request(("/usr/bin/rm",)), Reason.PROGRAM),
        (Request(("A=1", "ls")), Reason.PROGRAM),
        (Request(("FOO=1", "ls")), Reason.WORDS),
        (Request(("env", "FOO=2", "true")), Reason.WORDS),
    ],
)
def test_what_does_not_match(request_: Request, reason: Reason) -> None:
    """The record says whether it is the program, whoever asks, or the words."""
    lines = (
        "ls: RegExpFilter, ls, root, ls, -l",
        "id: ArgvFilter, id, root, -u",
        "e: EnvFilter, env, root, FOO=1, true",
    )
    found = rules(*lines, "[id]", "users = games")
    assert list(found.matches(request_)) == [Denied(reason)]


def test_only_filters_of_the_command_are_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    found = rules(*(f"f{number}: CommandFilter, prog{number}, root" for number in range(100)), CAT)
    asked: list[str] = []
    kind = type(found.filters[0])
    real = kind.match

    def spy(self: object, request: Request, clock: object) -> object:
        asked.append(getattr(self, "name", "?"))
        return real(self, request, clock)  # type: ignore[arg-type]

    monkeypatch.setattr(kind, "match", spy)
    assert isinstance(match(found, "prog7", "x"), Match)
    assert asked == ["f7"]


#: The definition of one of many filters of a command, words that only number 7 allows, how many are asked.
OF_ONE_COMMAND = {
    "PathFilter, chown, root, pass, /srv, word@": ("chown x /srv/x word7", 1),
    "RegExpFilter, x, root, x, [a-z]+, word@": ("x abc word7", 1),
    "ReadFileFilter, /etc/file@": ("cat /etc/file7", 1),
    "KillFilter, root, sleep, -@": ("kill -7 77", 1),
    "EnvFilter, env, root, A=value@, x": ("env A=value7 x", 1),
    "EnvFilter, env, root, A=value@, B=1, x": ("env A=value7 B=1 x", 1),
    "EnvFilter, env, root, A=, x@": ("env A=1 x7", 1),
    "EnvFilter, env, root, A=1, B=, x, [a-z]+@": ("env B=2 A=1 x y7", 60),
    "ArgvFilter, x, root, word@, {int}": ("x word7 7", 1),
    "ArgvFilter, x, root, {int}, {name}, word@": ("x 1 y word7", 1),
    "ArgvFilter, x, root, {int}, {=y|z}, {=a@|b@}, [c]": ("x 1 y b7", 1),
    "ArgvFilter, x, root, [{int}], word@": ("x word7", 60),
}


@pytest.mark.parametrize("definition", OF_ONE_COMMAND)
def test_only_filters_with_a_word_of_the_request_are_asked(
    monkeypatch: pytest.MonkeyPatch, definition: str
) -> None:
    words, count = OF_ONE_COMMAND[definition]
    found = rules(*(f"f{number}: {definition.replace('@', str(number))}" for number in range(1, 61)))
    kind = type(found.filters[0])
    real = kind.match
    asked: list[str] = []

    def spy(self: Filter, request: Request, clock: Clock) -> Plan | None:
        asked.append(self.name)
        return real(self, request, clock)

    monkeypatch.setattr(kind, "match", spy)
    assert names(found, *words.split()) == ["f7"]
    assert len(asked) == count


def test_max_word_is_the_longest_word_that_a_pattern_sees() -> None:
    found = rules("x: RegExpFilter, x, root, x, [a-z]+", "[x]", "max_word = 3")
    assert names(found, "x", "abc") == ["x"]
    assert names(found, "x", "abcd") == []


VERDICT_LINES = [
    CAT,
    NICE,
    NETNS,
    "ip: IpFilter, ip, root",
    "e: EnvFilter, env, root, FOO=, /bin/echo",
    "k: KillFilter, root, sleep, -9",
    "r: ReadFileFilter, /etc/x",
    "s: RegExpFilter, sleep, root, sleep, \\d+",
    "p: PathFilter, chown, root, pass, /srv",
    "t: CommandFilter, /bin/true, root",
]
VERDICT_REQUESTS = [
    *("cat", "cat /etc/x", "nice -n 5 cat", "ip netns exec a cat /etc/x", "ip link", "ip netns exec a sh"),
    *("env FOO=1 echo", "env true", "env FOO=1 true", "kill -9 12", "kill -9 1x", "sleep 1", "sleep x"),
    *("chown a /srv/x", "nice -n 5 env FOO=1 echo", "true", "FOO=1 echo", "nice -n 5 nice -n 5 cat", "ls"),
]


@settings(max_examples=40)
@given(st.permutations(VERDICT_LINES), st.permutations(VERDICT_REQUESTS))
def test_no_order_changes_a_verdict(lines: list[str], requests: list[str]) -> None:
    """Neither the order of the filters nor that of the requests."""
    shuffled, plain = rules(*lines), rules(*VERDICT_LINES)
    for request in requests:
        argv = tuple(request.split())
        assert set(names(shuffled, *argv)) == set(names(plain, *argv))


@given(st.sets(st.sampled_from(VERDICT_LINES)), st.sampled_from(VERDICT_REQUESTS))
def test_filters_of_other_commands_do_not_matter(others: set[str], request_line: str) -> None:
    argv = tuple(request_line.split())
    alone = rules(*VERDICT_LINES)
    noise = (f"noise{index}: {line.partition(': ')[2]}" for index, line in enumerate(sorted(others)))
    both = rules(*VERDICT_LINES, *noise)
    assert match(both, *argv) == match(alone, *argv)


def test_a_request_is_not_changed() -> None:
    request = Request(("env", "FOO=1", "echo", "x"), (("A", "b"),))
    found = rules(*VERDICT_LINES)
    for one in found.filters:
        list(RuleSet([one, *found.filters]).matches(request))
    assert request == Request(("env", "FOO=1", "echo", "x"), (("A", "b"),))


@pytest.mark.parametrize("lines", [0, 1], ids=["EnvFilter first", "EnvFilter last"])
def test_an_env_filter_changes_nothing_for_others(lines: int) -> None:
    both = ["e: EnvFilter, env, root, FOO=, /bin/echo", "t: CommandFilter, /bin/true, root"]
    found = rules(*(both if lines == 0 else reversed(both)))
    assert match(found, "env", "true") == Denied(Reason.WORDS)
    assert match(found, "env", "FOO=1", "true") == Denied(Reason.WORDS)
    assert names(found, "env", "FOO=1", "echo") == ["e"]
    assert names(found, "true") == ["t"]


# Chains.


@pytest.mark.parametrize(
    ("leaf", "inner", "arguments"),
    [
        pytest.param(CAT, ("cat", "x"), (Program("/bin/cat"), "x"), id="name"),
        pytest.param(CAT, ("/bin/cat",), (Program("/bin/cat"),), id="path"),
        pytest.param("c: CommandFilter, cat, root", ("cat",), (Program("cat"),), id="bare name"),
        pytest.param(
            "p: PathFilter, chown, root, a, /srv",
            ("chown", "a", "/srv/x"),
            (Program("chown"), "a", Beneath("/srv", "/srv/x")),
            id="PathFilter",
        ),
        pytest.param(
            "s: RegExpFilter, sleep, root, sleep, \\d+", ("sleep", "1"), (Program("sleep"), "1"), id="RegExp"
        ),
        pytest.param(
            "i: IpFilter, /sbin/ip, root", ("ip", "link"), (Program("/sbin/ip"), "link"), id="IpFilter"
        ),
        pytest.param(
            "r: ReadFileFilter, /etc/x",
            ("cat", "/etc/x"),
            (Program("cat"), FixedPath("/etc/x")),
            id="ReadFileFilter",
        ),
    ],
)
@pytest.mark.parametrize(
    ("chain", "words", "program"),
    [
        pytest.param(NICE, ("nice", "-n", "5"), "/usr/bin/nice", id="nice"),
        pytest.param(NETNS, ("ip", "netns", "exec", "ns1"), "ip", id="netns"),
        pytest.param(NETNS, ("ip", "net", "e", "ns1"), "ip", id="netns, short"),
    ],
)
def test_the_inner_word_becomes_the_leafs_program(
    chain: str,
    words: tuple[str, ...],
    program: str,
    leaf: str,
    inner: tuple[str, ...],
    arguments: tuple[object, ...],
) -> None:
    found = match(rules(chain, leaf), *words, *inner)
    assert isinstance(found, Match)
    free = len(arguments) - 1 if "CommandFilter" in leaf or "IpFilter" in leaf else 0
    assert found.plan == ExecPlan(Program(program), (*words[1:], *arguments), "root", free=free)  # type: ignore[arg-type]
    assert found.name == f"{chain[0]}+{leaf.partition(':')[0]}"


def test_an_env_leaf_brings_its_variables() -> None:
    found = rules(NETNS, "e: EnvFilter, env, root, FOO=, /bin/echo")
    assert plan(found, "ip", "netns", "exec", "a", "env", "FOO=1", "echo", "x") == ExecPlan(
        Program("ip"), ("netns", "exec", "a", Program("/bin/echo"), "x"), "root", (("FOO", "1"),)
    )


NETNS_CAT = "ip netns exec ns1 cat"


@pytest.mark.parametrize(
    ("lines", "refused"),
    [
        pytest.param(
            [NICE, CAT],
            [
                *(
                    "nice",
                    "nice -n",
                    "nice -n 5",
                    "nice -n 5 /tmp/cat",
                    "nice -n 5 ./cat",
                    "nice -n 5 /usr/bin/cat",
                ),
                *(
                    "nice -n 5 sh",
                    "nice -n x cat",
                    "nice -n 5 -n 5 cat",
                    "nice -n 5 --adjustment=1 cat",
                    "nice cat",
                ),
                *(
                    "/usr/bin/nice -n 5 cat",
                    "nice -n 5 cat/",
                    "nice -n 5 /bin/../tmp/cat",
                    "nice -n 5 nice -n 5 cat",
                ),
                *("nice -n \u0665 cat", "nice -n 5 //bin/cat", "nice -n 5 -n", "/tmp/nice -n 5 cat"),
            ],
            id="nice",
        ),
        pytest.param(
            [NETNS, CAT],
            [
                *("ip netns exec ns1", "ip netns exec", "ip netns exec ns1 /tmp/cat", "ip netns exec ns1 sh"),
                *(
                    "ip netns exec ../x cat",
                    "ip netns exec .. cat",
                    "ip netns exec /x cat",
                    "ip netns exec -all cat",
                ),
                *(
                    "ip -all netns exec cat",
                    "ip -s netns exec ns1 cat",
                    "ip n exec ns1 cat",
                    "ip netnss exec ns1 cat",
                ),
                *(
                    "ip netns add ns1 cat",
                    "ip netns execx ns1 cat",
                    "/sbin/ip netns exec ns1 cat",
                    "ip vrf exec d cat",
                ),
                *(
                    "ip netns exec ns1 ip netns exec ns2 cat",
                    "ip netns exec ns1 / cat",
                    "ip netns exec ns1 - cat",
                ),
            ],
            id="netns",
        ),
        pytest.param(
            [NETNS, NICE, "ip: IpFilter, ip, root", CAT],
            [
                *(
                    "nice -n 5 ip netns exec ns1 cat",
                    "ip netns exec ns1 nice -n 5 cat",
                    "ip netns exec ns1 ip -b -",
                ),
                *(
                    "ip netns exec ns1 ip -n netns netns exec ns1 sh",
                    "ip netns exec ns1 ip vrf exec default sh",
                ),
                "nice -n 5 ip netns exec ns1 sh",
            ],
            id="chain in a chain",
        ),
        pytest.param([NETNS, "c: CommandFilter, cat, nobody"], [NETNS_CAT], id="leaf of another user"),
        pytest.param(
            ["n: ChainingRegExpFilter, nice, nobody, nice", CAT, "r: ReadFileFilter, /etc/x"],
            ["nice cat", "nice cat /etc/x"],
            id="chain of another user",
        ),
        pytest.param(
            [NETNS, NICE, "k: KillFilter, root, sleep, -9"],
            ["ip netns exec ns1 kill -9 12", "nice -n 5 kill -9 12"],
            id="a signal needs no chain",
        ),
        pytest.param(
            [NETNS, NICE, "e: EnvFilter, env, root, FOO=, /bin/echo"],
            [
                *(
                    "nice -n 5 FOO=1 echo",
                    "nice -n 5 /tmp/env FOO=1 echo",
                    "ip netns exec ns1 /tmp/FOO=1 echo",
                ),
                *("ip netns exec ns1 env FOO=1 sh", "ip netns exec ns1 env LD_PRELOAD=x FOO=1 echo"),
            ],
            id="EnvFilter as a leaf",
        ),
        pytest.param(
            [NETNS, "r: ReadFileFilter, /etc/x"], ["ip netns exec ns1 cat /etc/shadow"], id="another file"
        ),
        pytest.param(["h: ChainingFilter, nohup, root", CAT], ["nohup", "nohup cat"], id="ChainingFilter"),
    ],
)
def test_chains_refuse(lines: list[str], refused: list[str]) -> None:
    found = rules(*lines)
    assert [line for line in refused if names(found, *line.split())] == []


@pytest.mark.parametrize("word", ["", "cat\n", " cat", "cat\x00"])
@pytest.mark.parametrize(
    "words", [("ip", "netns", "exec", "ns1"), ("nice", "-n", "5")], ids=["netns", "nice"]
)
def test_chains_take_no_strange_inner_word(words: tuple[str, ...], word: str) -> None:
    assert names(rules(NETNS, NICE, CAT), *words, word) == []


@pytest.mark.parametrize("namespace", ["", "ns1\n", "a b", "x" * 256, "ä", "a\x00"])
def test_chains_take_no_strange_namespace(namespace: str) -> None:
    assert names(rules(NETNS, CAT), "ip", "netns", "exec", namespace, "cat") == []


def test_a_user_of_a_chain_and_its_leaf() -> None:
    found = rules("n: ChainingRegExpFilter, nice, nobody, nice", "c: CommandFilter, cat, nobody")
    assert plan(found, "nice", "cat") == ExecPlan(Program("nice"), (Program("cat"),), "nobody")


def test_every_leaf_of_a_chain_in_order() -> None:
    found = rules(
        NICE,
        "c: CommandFilter, cat, daemon",
        "b: CommandFilter, cat, root",
        "a: CommandFilter, /bin/cat, root",
    )
    assert names(found, "nice", "-n", "5", "cat") == ["n+b", "n+a"]


# Option sections.


def options(*lines: str) -> filter_file.FilterFile:
    return read("a: CommandFilter, ls, root", "b: CommandFilter, cat, root", *lines)


def variables(*names: str) -> dict[str, Matcher | None]:
    """As `env` has them without a type."""
    return dict.fromkeys(names)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        pytest.param([], Options(), id="none"),
        pytest.param(["[a]"], Options(), id="nothing in it"),
        pytest.param(["[a]", "env = X"], Options(variables("X")), id="one name"),
        pytest.param(["[a]", "env = X, LC_ALL,", "  Y"], Options(variables("X", "Y", "LC_ALL")), id="names"),
        pytest.param(["[a]", "set_env = X=1, Y="], Options(set_env=(("X", "1"), ("Y", ""))), id="set_env"),
        pytest.param(["[a]", "timeout = 30"], Options(timeout=30), id="timeout"),
        pytest.param(["[a]", "timeout = none"], Options(timeout=math.inf), id="no timeout"),
        pytest.param(
            ["[a]", "signals = TERM, SIGHUP, 10"], Options(signals=frozenset({15, 1, 10})), id="signals"
        ),
        pytest.param(["[a]", "signals = 64, RTMIN"], Options(signals=frozenset({34, 64})), id="real-time"),
        pytest.param(["[a]", "signals = none"], Options(signals=frozenset()), id="no signal"),
        pytest.param(["[a]", "on_stop = leave"], Options(on_stop_leave=True), id="on_stop leave"),
        pytest.param(["[a]", "on_stop = end"], Options(), id="on_stop end"),
        pytest.param(["[a]", "MAX_OUTPUT: 5"], Options(max_output=5), id="max_output"),
        pytest.param(["[a]", "stdin = no"], Options(stdin=False), id="stdin"),
        pytest.param(["[a]", "cwd = /srv/x"], Options(cwd="/srv/x"), id="cwd"),
        pytest.param(["[a]", "umask = 0077"], Options(umask=0o077), id="umask"),
        pytest.param(["[a]", "group = adm"], Options(group="adm"), id="group"),
        pytest.param(["[a]", "no_new_privs = yes"], Options(no_new_privs=True), id="no_new_privs"),
        pytest.param(["[a]", "capabilities = none"], Options(capabilities=frozenset()), id="no capability"),
        pytest.param(
            ["[a]", "capabilities = CAP_KILL, CAP_CHOWN"],
            Options(capabilities=frozenset({"CAP_KILL", "CAP_CHOWN"})),
            id="capabilities",
        ),
        pytest.param(
            ["[a]", "limits = nofile=9, cpu=0"], Options(limits=(("cpu", 0), ("nofile", 9))), id="limits"
        ),
        pytest.param(["[a]", "sanitize = secrets"], Options(sanitize=True), id="sanitize"),
        pytest.param(["[a]", "audit = no-argv"], Options(audit_argv=False), id="audit"),
        pytest.param(
            ["[A]", "env = X", "[a]", "timeout = 3"], Options(variables("X"), timeout=3), id="two sections"
        ),
        pytest.param(["[b]", "env = X"], Options(), id="another filter's"),
    ],
)
def test_options(lines: list[str], expected: Options) -> None:
    read = options(*lines)
    assert not read.findings
    assert {one.name: one.options for one in read.filters}["a"] == expected


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["[k]", "target_user = nova"], Options(target_user="nova")),
        (["[k]", "started_by = self"], Options(started_by_us=True)),
        (["[p]", "opens_paths = yes"], Options(opens_paths=True)),
        (["[v]", "opens_paths = no"], Options()),
    ],
)
def test_options_of_some_kinds(lines: list[str], expected: Options) -> None:
    found = read("k: KillFilter, root, sleep", PATH, "v: ArgvFilter, rm, root, {path=/srv}", *lines)
    assert not found.findings
    assert {one.name: one.options for one in found.filters}[lines[0][1:-1]] == expected


def test_a_dangerous_variable_is_a_warning() -> None:
    found = options("[a]", "env = X, LD_PRELOAD")
    (warning,) = found.findings
    assert warning.severity is Severity.WARNING
    assert "LD_PRELOAD" in warning.what
    assert (warning.location.line, warning.location.column) == (5, 10)
    assert set(found.filters[0].options.env) == {"X", "LD_PRELOAD"}


@pytest.mark.parametrize(
    ("lines", "place", "what", "kept"),
    [
        pytest.param(["[c]", "env = X"], (4, 1), "not the name of a filter", [], id="no such filter"),
        pytest.param(["[filters]"], (4, 1), "not the name of a filter", [], id="[filters]"),
        pytest.param(["[ a ]", "env = X"], (4, 1), "not the name of a filter", [], id="blanks in the header"),
        pytest.param(["[a]", "capability = X"], (5, 1), "not an option", ["b"], id="unknown option"),
        pytest.param(["[a]", "env = X, 1Y"], (5, 7), "env: ", ["b"], id="no name"),
        pytest.param(["[a]", "env = X=1"], (5, 7), "env: ", ["b"], id="a value"),
        pytest.param(["[a]", "env = X,"], (5, 7), "env: ", ["b"], id="trailing comma"),
        pytest.param(["[a]", "env = Ä"], (5, 7), "env: ", ["b"], id="not ASCII"),
        pytest.param(["[a]", "env = *"], (5, 7), "env: ", ["b"], id="a wildcard"),
        pytest.param(["[a]", "env = X, X"], (5, 7), "env: ", ["b"], id="twice"),
        pytest.param(["[a]", "set_env = X"], (5, 11), "set_env: ", ["b"], id="no value"),
        pytest.param(["[a]", "set_env = 1X=1"], (5, 11), "set_env: ", ["b"], id="set_env, no name"),
        pytest.param(["[a]", "set_env = X=é"], (5, 11), "set_env: ", ["b"], id="set_env, not ASCII"),
        pytest.param(["[a]", "timeout = 0"], (5, 11), "timeout: ", ["b"], id="timeout 0"),
        pytest.param(["[a]", "timeout = -1"], (5, 11), "timeout: ", ["b"], id="timeout -1"),
        pytest.param(["[a]", "timeout = 1.5"], (5, 11), "timeout: ", ["b"], id="timeout 1.5"),
        pytest.param(["[a]", "timeout = ²"], (5, 11), "timeout: ", ["b"], id="timeout superscript"),
        pytest.param(["[a]", "timeout = 1, 2"], (5, 11), "timeout: ", ["b"], id="timeout twice"),
        pytest.param(["[a]", "timeout = " + "9" * 5000], (5, 11), "timeout: ", ["b"], id="timeout huge"),
        pytest.param(["[a]", "timeout = None"], (5, 11), "timeout: ", ["b"], id="timeout None"),
        pytest.param(["[a]", "timeout = inf"], (5, 11), "timeout: ", ["b"], id="timeout inf"),
        pytest.param(["[a]", "signals = 0"], (5, 11), "signals: ", ["b"], id="signal 0"),
        pytest.param(["[a]", "signals = 65"], (5, 11), "signals: ", ["b"], id="signal 65"),
        pytest.param(["[a]", "signals = 09"], (5, 11), "signals: ", ["b"], id="signal 09"),
        pytest.param(["[a]", "signals = -9"], (5, 11), "signals: ", ["b"], id="signal -9"),
        pytest.param(["[a]", "signals = ٩"], (5, 11), "signals: ", ["b"], id="signal, another script"),
        pytest.param(["[a]", "signals = term"], (5, 11), "signals: ", ["b"], id="signal, case"),
        pytest.param(["[a]", "signals = SIGSIGTERM"], (5, 11), "signals: ", ["b"], id="SIGSIGTERM"),
        pytest.param(["[a]", "signals = SIG"], (5, 11), "signals: ", ["b"], id="SIG"),
        pytest.param(["[a]", "signals = 15, none"], (5, 11), "signals: ", ["b"], id="signal and none"),
        pytest.param(["[a]", "on_stop = yes"], (5, 11), "on_stop: ", ["b"], id="on_stop"),
        pytest.param(["[a]", "stdin = no", "stdin = yes"], (6, 1), "a second time", ["b"], id="twice in one"),
        pytest.param(["[a]", "stdin = no", "[A]", "STDIN = no"], (7, 1), "a second time", ["b"], id="in two"),
        pytest.param(["[a]", "max_output = 1k"], (5, 14), "max_output: ", ["b"], id="max_output 1k"),
        pytest.param(["[a]", "max_output = 0"], (5, 14), "max_output: ", ["b"], id="max_output 0"),
        pytest.param(["[a]", "stdin = maybe"], (5, 9), "stdin: ", ["b"], id="stdin"),
        pytest.param(["[a]", "stdin = No"], (5, 9), "stdin: ", ["b"], id="stdin, case"),
        pytest.param(["[a]", "cwd = x"], (5, 7), "cwd: ", ["b"], id="cwd relative"),
        pytest.param(["[a]", "cwd = /x/.."], (5, 7), "cwd: ", ["b"], id="cwd .."),
        pytest.param(["[a]", "cwd = //x"], (5, 7), "cwd: ", ["b"], id="cwd //"),
        pytest.param(["[a]", "umask = 8"], (5, 9), "umask: ", ["b"], id="umask 8"),
        pytest.param(["[a]", "umask = 0o22"], (5, 9), "umask: ", ["b"], id="umask 0o22"),
        pytest.param(["[a]", "umask = 4755"], (5, 9), "umask: ", ["b"], id="umask 4755"),
        pytest.param(["[a]", "group = 0"], (5, 9), "group: ", ["b"], id="group 0"),
        pytest.param(["[k]", "target_user = -1"], (5, 15), "target_user: ", ["p"], id="target_user"),
        pytest.param(
            ["[a]", "capabilities = CAP_X"], (5, 16), "capabilities: ", ["b"], id="capability unknown"
        ),
        pytest.param(
            ["[a]", "capabilities = NET_ADMIN"], (5, 16), "capabilities: ", ["b"], id="capability without CAP"
        ),
        pytest.param(
            ["[a]", "capabilities = CAP_KILL, none"],
            (5, 16),
            "capabilities: ",
            ["b"],
            id="capability and none",
        ),
        pytest.param(["[a]", "limits = nofile"], (5, 10), "limits: ", ["b"], id="limit without a number"),
        pytest.param(["[a]", "limits = nofile=-1"], (5, 10), "limits: ", ["b"], id="limit -1"),
        pytest.param(["[a]", "limits = rss=1"], (5, 10), "limits: ", ["b"], id="limit unknown"),
        pytest.param(["[a]", "limits = cpu=1, cpu=2"], (5, 10), "limits: ", ["b"], id="limit twice"),
        pytest.param(["[p]", "opens_paths = 1"], (5, 15), "opens_paths: ", ["k"], id="opens_paths"),
        pytest.param(
            ["[a]", "OPENS_PATHS = yes"],
            (5, 1),
            "does nothing in a CommandFilter",
            ["b"],
            id="opens_paths, kind",
        ),
        pytest.param(
            ["[a]", "target_user = nova"], (5, 1), "does nothing in a CommandFilter", ["b"], id="target, kind"
        ),
        pytest.param(["[p]", "started_by = self"], (5, 1), "does nothing", ["k"], id="started_by, kind"),
        pytest.param(
            ["[k]", "opens_paths = no"],
            (5, 1),
            "does nothing in a KillFilter",
            ["p"],
            id="opens_paths, KillFilter",
        ),
        pytest.param(["[a]", "sanitize = yes"], (5, 12), "sanitize: ", ["b"], id="sanitize"),
        pytest.param(["[a]", "audit = none"], (5, 9), "audit: ", ["b"], id="audit"),
    ],
)
def test_bad_options(lines: list[str], place: tuple[int, int], what: str, kept: list[str]) -> None:
    ours = lines[0] in ("[k]", "[p]")
    found = read("k: KillFilter, root, sleep", PATH, *lines) if ours else options(*lines)
    (error,) = errors(found)
    assert what in error.what
    assert (error.location.line, error.location.column) == place
    assert [one.name for one in found.filters] == kept


CHAIN_OPTIONS = [NICE, CAT, "ls: CommandFilter, ls, root", "[n]", "timeout = 10", "max_output = 100"]


@pytest.mark.parametrize(
    ("lines", "argv", "expected"),
    [
        pytest.param(
            [], ("nice", "-n", "5", "cat"), Options(timeout=10, max_output=100), id="the chain's limits"
        ),
        pytest.param(
            ["[cat]", "env = C", "timeout = 5", "max_output = 200"],
            ("nice", "-n", "5", "cat"),
            Options(variables("C"), timeout=5, max_output=100),
            id="the smaller of each, the leaf's variables",
        ),
        pytest.param(
            ["[cat]", "stdin = no", "sanitize = secrets", "audit = no-argv", "limits = cpu=1"],
            ("nice", "-n", "5", "cat"),
            Options(
                timeout=10, max_output=100, stdin=False, sanitize=True, audit_argv=False, limits=(("cpu", 1),)
            ),
            id="what one forbids",
        ),
        pytest.param(
            ["max_memory = 100", "max_processes = 9", "[cat]", "max_memory = 200", "max_processes = 3"],
            ("nice", "-n", "5", "cat"),
            Options(timeout=10, max_output=100, max_memory=100, max_processes=3),
            id="the smaller of what a group may have",
        ),
        pytest.param(["[cat]", "timeout = 5"], ("cat",), Options(timeout=5), id="the leaf alone"),
        pytest.param(
            ["[cat]", "timeout = none", "max_output = 9"],
            ("nice", "-n", "5", "cat"),
            Options(timeout=10, max_output=9),
            id="some time is less than any",
        ),
        pytest.param(
            ["[n]", "signals = TERM, HUP", "on_stop = leave"],
            ("nice", "-n", "5", "cat"),
            Options(timeout=10, max_output=100, signals=frozenset({15, 1})),
            id="on_stop and signals of the chain",
        ),
        pytest.param(
            ["[cat]", "signals = HUP, 10", "on_stop = leave"],
            ("nice", "-n", "5", "cat"),
            Options(timeout=10, max_output=100, signals=frozenset({1, 10})),
            id="on_stop and signals of the leaf",
        ),
        pytest.param(
            ["[cat]", "signals = HUP, 10", "on_stop = leave", "[n]", "signals = 10, 12", "on_stop = leave"],
            ("nice", "-n", "5", "cat"),
            Options(timeout=10, max_output=100, signals=frozenset({10}), on_stop_leave=True),
            id="what both allow",
        ),
    ],
)
def test_options_of_a_chain(lines: list[str], argv: tuple[str, ...], expected: Options) -> None:
    found = match(rules(*CHAIN_OPTIONS, *lines), *argv)
    assert isinstance(found, Match)
    assert found.options == expected


@pytest.mark.parametrize(
    "line", ["group = adm", "capabilities = none", "cwd = /srv", "umask = 077", "no_new_privs = yes"]
)
def test_options_of_a_chain_that_contradict_each_other(line: str) -> None:
    words = ("nice", "-n", "5", "cat")
    assert match(rules(NICE, CAT, "[cat]", line), *words) == Denied(Reason.WORDS)
    assert match(rules(NICE, CAT, "[n]", line), *words) == Denied(Reason.WORDS)
    assert isinstance(match(rules(NICE, CAT, "[n]", line, "[cat]", line), *words), Match)


#: What a chain's outer filter cannot have, or what means its own words alone.
_NOT_OF_CHAINS = {
    *("env", "set_env", "max_word", "opens_paths", "secret", "users"),
    *("target_user", "started_by_us", "any_namespace"),
}
#: A value of each option that restricts, unlike its default.
_RESTRICTS: dict[str, Any] = {
    "timeout": 1,
    "max_output": 1,
    "stdin": False,
    "cwd": "/srv",
    "umask": 0o77,
    "group": "adm",
    "capabilities": frozenset(),
    "ambient": frozenset(),
    "no_new_privs": True,
    "limits": (("cpu", 1),),
    "max_memory": 1,
    "max_processes": 1,
    "sanitize": True,
    "audit_argv": False,
    "signals": frozenset(),
}


def test_no_restriction_of_a_chain_is_lost() -> None:
    names = {one.name for one in fields(Options)}
    # The last two widen: they hold where both filters say so.
    assert names == {*_NOT_OF_CHAINS, *_RESTRICTS, "audit_runs", "on_stop_leave"}
    for name, value in _RESTRICTS.items():
        found = chained(replace(Options(), **{name: value}), Options())
        assert found is None or getattr(found, name) == value, name
    widens: dict[str, Any] = {"audit_runs": False, "on_stop_leave": True}
    for name, wide in widens.items():
        found = chained(replace(Options(), **{name: wide}), Options())
        assert found is not None and getattr(found, name) is not wide, name


def test_input_needs_leave() -> None:
    found = rules("a: CommandFilter, ls, root", "[a]", "stdin = no")
    assert found.match(Request(("ls",), stdin=True)) == Denied(Reason.STDIN)
    assert isinstance(found.match(Request(("ls",))), Match)
    assert isinstance(rules("a: CommandFilter, ls, root").match(Request(("ls",), stdin=True)), Match)


def test_variables_that_are_set_stand_above_all() -> None:
    found = rules("e: EnvFilter, env, root, X=, ls", "[e]", "env = X, Y", "set_env = X=0, Z=3")
    matched = match(found, "env", "X=1", "ls", env=(("X", "2"), ("Y", "2")))
    assert isinstance(matched, Match)
    assert isinstance(matched.plan, ExecPlan)
    assert dict(matched.plan.env) == {"X": "0", "Y": "2", "Z": "3"}


# Environment.


ENV = [
    "a: CommandFilter, ls, root",
    "e: EnvFilter, env, root, X=, ls",
    "k: KillFilter, root, sleep",
    NICE,
    *("[a]", "env = X, Y", "[e]", "env = X, Y"),
]


@pytest.mark.parametrize(
    ("argv", "env", "expected"),
    [
        pytest.param("ls", {}, (), id="none"),
        pytest.param("ls", {"X": "1"}, (("X", "1"),), id="allowed"),
        pytest.param("ls", {"X": "", "Y": "a b=~"}, (("X", ""), ("Y", "a b=~")), id="printable ASCII"),
        pytest.param("ls", {"Z": "1"}, None, id="not named"),
        pytest.param("ls", {"X": "1", "LD_PRELOAD": "/x"}, None, id="one of two not named"),
        pytest.param("ls", {"x": "1"}, None, id="case"),
        pytest.param("ls", {"X": "a\nb"}, None, id="newline"),
        pytest.param("ls", {"X": "\x1b"}, None, id="escape"),
        pytest.param("ls", {"X": "\x7f"}, None, id="DEL"),
        pytest.param("ls", {"X": "é"}, None, id="not ASCII"),
        pytest.param("ls", {"X": "\udcff"}, None, id="no UTF-8"),
        pytest.param("env X=1 ls", {}, (("X", "1"),), id="EnvFilter"),
        pytest.param("env X=1 ls", {"X": "2", "Y": "3"}, (("X", "1"), ("Y", "3")), id="the words win"),
        pytest.param("nice -n 5 ls", {"X": "1"}, (("X", "1"),), id="the leaf's"),
        pytest.param("nice -n 5 ls", {"Z": "1"}, None, id="not the leaf's"),
        pytest.param("kill 12", {"X": "1"}, None, id="a signal"),
    ],
)
def test_environment(argv: str, env: dict[str, str], expected: tuple[tuple[str, str], ...] | None) -> None:
    found = match(rules(*ENV), *argv.split(), env=tuple(env.items()))
    if expected is None:
        assert found == Denied(Reason.ENVIRONMENT)
    else:
        assert isinstance(found, Match)
        assert isinstance(found.plan, ExecPlan)
        assert sorted(found.plan.env) == sorted(expected)


def test_the_next_filter_may_allow_the_variable() -> None:
    found = rules("a: CommandFilter, ls, root", "b: CommandFilter, ls, daemon", "[b]", "env = X")
    matched = match(found, "ls", env=(("X", "1"),))
    assert isinstance(matched, Match)
    assert matched.name == "b"


# Reasons.


@pytest.mark.parametrize(
    ("argv", "env", "reason"),
    [
        pytest.param(("cat",), {}, Reason.PROGRAM, id="no filter of the command"),
        pytest.param(("evil", "b"), {}, Reason.WORDS, id="no filter of the words"),
        pytest.param(("evil", "b"), {"X": "1"}, Reason.WORDS, id="words before environment"),
        pytest.param(("evil", "a"), {"X": "1"}, Reason.ENVIRONMENT, id="environment"),
        pytest.param(("evil", "a" * 80 + "!"), {}, Reason.TIME, id="time"),
    ],
)
def test_reasons(argv: tuple[str, ...], env: dict[str, str], reason: Reason) -> None:
    found = rules("e: RegExpFilter, evil, root, evil, (a|aa)+")
    assert found.match(Request(argv, tuple(env.items()))) == Denied(reason)


def test_no_filter_after_the_time_is_up() -> None:
    found = rules(
        "a: CommandFilter, x, root",
        "e: RegExpFilter, x, root, x, (a|aa)+",
        "b: RegExpFilter, x, root, x, a+!",
    )
    results = list(found.matches(Request(("x", "a" * 80 + "!"))))
    assert [one.name if isinstance(one, Match) else one.reason for one in results] == ["a", Reason.TIME]


# Templates.


@pytest.mark.parametrize(
    "line",
    [
        "x: CommandFilter, {{ bin }}/x, root",
        "x: CommandFilter, x, {{ user }}",
        "x: RegExpFilter, x, root, x, {{ name }}",
        "x: ArgvFilter, x, root, {{ name }}",
        "{% if x == 'y' %}",
        "{% endif %}",
        "{{ more }}",
        "{# note #}",
        "<% if x %>",
        "x: CommandFilter, <%= @bin %>/x, root",
        "[{{ name }}]",
    ],
)
def test_a_template_is_said_to_be_one(line: str) -> None:
    found = read(CAT, line)
    (error,) = errors(found)
    assert error.location.line == 3
    assert "a template that was not rendered" in error.what
    assert "not the template" in error.remedy
    # One that is about no filter may be about the options of any.
    assert [one.name for one in found.filters] == (["cat"] if error.filters else [])


def test_an_option_from_a_template() -> None:
    (error,) = errors(options("[a]", "timeout = {{ seconds }}"))
    assert "a template that was not rendered: timeout: " in error.what


def test_a_word_that_looks_like_a_template_is_a_warning() -> None:
    found = read("x: PathFilter, docker, root, ps, --format, {{.Names}}")
    (warning,) = found.findings
    assert (warning.severity, warning.location.column) == (Severity.WARNING, 44)
    assert "template" in warning.what
    assert names(RuleSet(found.filters), "docker", "ps", "--format", "{{.Names}}") == ["x"]


# Doubles.


def test_the_same_definition_twice_is_a_warning() -> None:
    found = read("a: CommandFilter, ls, root", "A = CommandFilter,ls,root")
    (finding,) = found.findings
    assert finding.severity is Severity.WARNING
    assert finding.location.line == 3
    assert [one.name for one in found.filters] == ["a"]


def test_another_definition_of_a_name_takes_both_out() -> None:
    found = read("a: CommandFilter, ls, root", "b: CommandFilter, ls, root", "A: CommandFilter, ls, nobody")
    (error,) = errors(found)
    assert error.location.line == 4
    assert error.filters == {"a"}
    assert "line 2" in error.what
    assert [one.name for one in found.filters] == ["b"]


def test_a_double_across_two_parts_of_the_section() -> None:
    found = read("a: CommandFilter, ls, root", "[a]", "env = X", "[Filters]", "a: CommandFilter, ls, nobody")
    assert [error.location.line for error in errors(found)] == [6]
    assert found.filters == ()


def test_exactly_the_filters_with_errors_are_left_out() -> None:
    found = read(
        "a: CommandFilter, ls, root",
        "b: CommandFilter, ls",
        "c: CommandFilter, cat,\n  root\n  x",
        "d: RegExpFilter, ls, root, ls, \x01",
        "e: CommandFilter, ls, root",
        "[e]",
        "timeout = x",
        "[Filters]",
        "f: CommandFilter, ls, root",
    )
    assert [one.name for one in found.filters] == ["a", "f"]
    assert {name for error in errors(found) for name in error.filters} == {"b", "c", "d", "e"}


def test_findings_stand_in_the_order_of_their_places() -> None:
    found = read("z: X, y", "a: CommandFilter", "[q]", "[Filters]", "b:", "c: CommandFilter, ls, 0")
    places = [finding.location for finding in found.findings]
    assert len(places) == 5
    assert places == sorted(places)


@pytest.mark.parametrize("kind", ["PathFilter, ip, root, a", "RegExpFilter, ip, root, ip"])
def test_an_error_in_an_option_that_is_used_by_its_value(kind: str) -> None:
    """`secret` is asked for its places, of which an error leaves none."""
    found = filter_file.read(f"[Filters]\na: {kind}\n[a]\nsecret = 0\n", "x")
    assert found.filters == ()
    assert [one.code for one in found.findings] == ["option"]


def test_another_path_of_a_program() -> None:
    """The words behind it are judged as behind its own."""
    own = rules("x: ArgvFilter, /usr/bin/tool, root, a, b", "y: CommandFilter, other, root").filters
    found = RuleSet(own, {"/usr/bin/tool": ("/bin/tool",), "other": ("/bin/other",)})
    for path in ("/bin/tool", "/usr/bin/tool", "tool"):
        done = found.match(Request((path, "a", "b")))
        assert isinstance(done, Match) and done.plan == ExecPlan(Program("/usr/bin/tool"), ("a", "b"), "root")
        assert isinstance(found.match(Request((path, "x", "b"))), Denied)
        assert isinstance(found.match(Request((path, "a"))), Denied)
