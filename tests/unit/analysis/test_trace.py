"""Traces say what the filters say, word by word."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootwrap_daemon.analysis.trace import Trace, traces
from rootwrap_daemon.filters.read import filter_file
from rootwrap_daemon.filters.ruleset import RuleSet
from rootwrap_daemon.filters.values import Match, Request
from tests.unit.filters.lines import rules

SHARED = Path(__file__).parents[4] / "shared"

LINES = (
    "ls: CommandFilter, ls, root",
    "link: RegExpFilter, ip, root, ip, link, set, [a-z0-9]+, (up|down)",
    "chown: PathFilter, chown, root, pass, /var/lib/x",
    "hup: KillFilter, root, dnsmasq, -HUP, -9",
    "term: KillFilter, root, sleep",
    "passwd: ReadFileFilter, /etc/passwd",
    "env: EnvFilter, env, root, A=, B=1, ip, [a-z]+",
    "env_all: EnvFilter, env, root, A=, dnsmasq",
    "netns: IpNetnsExecFilter, ip, root",
    "nice: ChainingRegExpFilter, nice, root, nice, -n, [0-9]+",
    "never: ChainingFilter, nohup, root",
    "sub: ArgvFilter, ip, root, -n, {netns}, addr, {=add|del}, {cidr}, [dev, {ifname}]",
)


def _first(argv: str, *lines: str) -> Trace:
    return traces(rules(*(lines or LINES)).filters, Request(tuple(argv.split())))[0]


def _shown(trace: Trace) -> str:
    return " ".join(f"{step.place}{'+' if step.ok else '-'}{step.wanted}" for step in trace.steps)


@pytest.mark.parametrize(
    ("argv", "name", "stopped"),
    [
        ("ls -l", "ls", ""),
        ("ip link set eth0 up", "link", ""),
        ("ip link set eth0 sideways", "link", "word 4 is not (up|down)"),
        ("ip link set eth0", "link", "word 4 is missing: (up|down)"),
        ("ip link set eth0 up more", "link", "word 5 is one too many"),
        ("./ls", "ls", "the command must be ls"),
        ("chown -R /var/lib/x/a", "chown", "word 1 is not any word but an option"),
        ("chown me x/a", "chown", "word 2 is not a path beneath /var/lib/x"),
        ("kill -HUP 12", "hup", ""),
        ("kill -s HUP 12", "hup", ""),
        ("kill -15 12", "hup", "word 1 is not -HUP or -9"),
        ("kill -HUP 012", "hup", "word 2 is not the number of a process that runs dnsmasq"),
        ("kill -HUP", "hup", "word 2 is missing: the number of a process that runs dnsmasq"),
        ("kill 12", "term", ""),
        ("cat /etc/shadow", "passwd", "word 1 is not /etc/passwd"),
        ("env A=x B=1 ip link", "env", ""),
        ("env B=1 A=x ip link", "env", ""),
        ("env A=x B=2 ip link", "env", "word 2 is not B=1"),
        ("env A=x B=1 ip link set", "env", "word 5 is one too many"),
        ("env A=x dnsmasq --any thing", "env_all", ""),
        ("ip netns exec n ls -l", "netns", ""),
        ("ip netns exec ../n ls -l", "netns", "word 3 is not the name of a namespace"),
        ("ip netns exec n sh", "netns", "no filter allows the inner command 'sh'"),
        ("nice -n 5 kill -HUP 12", "nice", "no filter of the inner command can be used in a chain"),
        ("nice -n 5", "nice", "no command follows"),
        ("nohup ls", "never", "word 0 is not nothing: a ChainingFilter allows nothing"),
        ("ip -n n addr add 10.0.0.1/8", "sub", ""),
        ("ip -n n addr add 10.0.0.1/8 dev", "sub", "word 7 is missing: {ifname}"),
        ("ip -n n addr put 10.0.0.1/8 dev", "sub", "word 4 is not add or del"),
    ],
)
def test_nearest_filter_and_why(argv: str, name: str, stopped: str) -> None:
    found = _first(argv)
    assert (found.filter.name, found.stopped.replace("del or add", "add or del")) == (name, stopped)


def test_words_of_an_inner_command_keep_their_places() -> None:
    found = _first("nice -n 5 ip link set eth0 sideways")
    assert [step.place for step in found.steps] == [0, 1, 2]
    assert found.inner[0].stopped == "word 7 is not (up|down)"
    assert [step.place for step in found.inner[0].steps] == [3, 4, 5, 6, 7]


def test_the_nearer_stands_first() -> None:
    lines = (
        "far: RegExpFilter, ip, root, ip, route, show",
        "near: RegExpFilter, ip, root, ip, link, show",
        "nearer: RegExpFilter, ip, root, ip, link, list",
    )
    found = traces(rules(*lines).filters, Request(("ip", "link", "list")))
    assert [one.filter.name for one in found] == ["nearer", "near", "far"]


def test_ip_stops_at_the_word_that_matters() -> None:
    found = _first("ip -n ns1 netns exec x sh", "ip: IpFilter, ip, root")
    assert next(step.place for step in found.steps if not step.ok) == 4
    assert _first("ip -n ns1 link", "ip: IpFilter, ip, root").matches


def _agrees(filters: RuleSet, argv: tuple[str, ...]) -> bool:
    """Whether traces and match say the same of these words, filter by filter."""
    by_match = {found.filter for found in filters.matches(Request(argv)) if isinstance(found, Match)}
    found = traces(filters.filters, Request(argv))
    by_trace = {one.filter.name for one in found if one.matches}
    # Where the words match, each word does: the display is not at odds with the verdict.
    shown = all(step.ok for one in found if one.matches for step in one.steps)
    # What stops is one of the words, but where it is all of them or the inner command.
    whole = ("these words together", "no filter", "a chain inside", "the patterns")
    stopped = all(
        one.stopped.startswith(whole) or not all(step.ok for step in one.steps)
        for one in found
        if not one.matches
    )
    return by_match == by_trace and shown and stopped


@pytest.mark.skipif(not SHARED.exists(), reason="../shared is not here: it comes with the project")
def test_says_what_match_says_on_every_attack() -> None:
    compared, wrong = 0, []
    for line in (SHARED / "attacks" / "attacks.jsonl").read_text().splitlines():
        case = json.loads(line)
        words = case["argv"]
        if not isinstance(words, list) or not words or not all(isinstance(word, str) for word in words):
            continue
        filters = RuleSet(filter_file.read("[Filters]\n" + "\n".join(case["filters"]) + "\n", "f").filters)
        # Each beginning too, and with a word more: where things stop.
        for argv in (*(tuple(words[:count]) for count in range(1, len(words) + 1)), (*words, "x")):
            compared += 1
            if not _agrees(filters, argv):
                wrong.append((case["id"], argv))
    assert not wrong
    assert compared > 1500


PATTERNS = (
    "a, {int}, [b, {name}], c",
    "[a]..., {int}...",
    "{=a|b}..., [c, [{int}]]",
    "[a, {int}]..., b",
    "{path=/x}, [-v], {ip}...",
    "[{name}, -a]..., -b",
)


@given(
    st.sampled_from(PATTERNS),
    st.lists(st.sampled_from("a b c 1 22 -a -b -v /x/y 10.0.0.1".split()), max_size=6),
)
def test_says_what_an_argv_filter_says(pattern: str, words: list[str]) -> None:
    filters = rules(f"x: ArgvFilter, p, root, {pattern}", "n: ChainingRegExpFilter, n, root, n")
    assert _agrees(filters, ("p", *words))
    assert _agrees(filters, ("n", "p", *words))
