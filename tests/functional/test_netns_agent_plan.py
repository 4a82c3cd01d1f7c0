"""examples/netns_agent: what its file may say, and that its plan leads where the file wants and ends."""

import ipaddress
import itertools
import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples.netns_agent.observed import Link, Observed, parse_links, parse_namespaces
from examples.netns_agent.reconcile import plan
from examples.netns_agent.wanted import End, Helper, Wanted, WantedError, load, parse
from rootwrap_daemon.filters import ruleset
from rootwrap_daemon.filters.read import filter_file
from rootwrap_daemon.filters.values import Match, Request

ROOT = Path(__file__).resolve().parents[2]
FILTERS = ROOT / "etc/rootwrap-daemon/filters.d/netns-agent.filters"

HEAD = "prefix: na-\nnamespaces: [na-a, na-b]\n"


def veths(first: str, second: str = "{namespace: na-b, link: x0}") -> str:
    return f"{HEAD}veths:\n  - [{first}, {second}]\n"


@pytest.mark.parametrize(
    ("text", "where", "what"),
    [
        ("", "", "empty"),
        ("a: [", ":1:5", "expected the node content"),
        ("- 1", ":1:1", "a table with"),
        ("prefix: na-", ":1:1", "'namespaces' is missing"),
        ("prefix: na\nnamespaces: []", ":1:9", "end with '-'"),
        ("prefix: na-\nprefix: nb-\nnamespaces: []", ":2:1", "given twice"),
        ("prefix: na-\nnamespaces: []\nbridges: []", ":3:1", "'bridges' is not known"),
        ("prefix: na-\nnamespaces: na-a", ":2:13", "a list is expected"),
        ("prefix: na-\nnamespaces: [nb-a]", ":2:14", "must begin with 'na-'"),
        ("prefix: na-\nnamespaces: ['na-../x']", ":2:14", "must begin with 'na-'"),
        ("prefix: na-\nnamespaces: ['na-a\n\n']", ":2:14", "must begin with 'na-'"),
        ("prefix: na-\nnamespaces: [na-a, na-a]", ":2:20", "wanted twice"),
        ("prefix: na-\nnamespaces: [[na-a]]", ":2:14", "a word is expected"),
        (f"{HEAD}veths:\n  - [{{namespace: na-a, link: x}}]", ":4:5", "two ends, not 1"),
        (veths("{link: na-x}", "{link: na-y}"), ":4:5", "must be in a namespace"),
        (veths("{namespace: na-c, link: x}"), ":4:18", "not one of the namespaces"),
        (veths("{link: eth0}"), ":4:13", "must begin with 'na-'"),
        (veths("{namespace: na-a, link: lo}"), ":4:30", "cannot be a link's name"),
        (veths("{namespace: na-a, link: a234567890123456}"), ":4:30", "cannot be a link's name"),
        (veths("{namespace: na-a, link: -x}"), ":4:30", "cannot be a link's name"),
        (veths("{namespace: na-b, link: x0}"), ":4:59", "twice in na-b"),
        (veths("{namespace: na-a, link: x, addresses: [10.0.0.1]}"), ":4:45", "lacks the length"),
        (veths("{namespace: na-a, link: x, addresses: [10.0.0.256/24]}"), ":4:45", "not an address"),
        (veths("{namespace: na-a, link: x, addresses: ['fe80::1/64']}"), ":4:45", "link-local"),
        (veths("{namespace: na-a, link: x, addresses: [10.0.0.1/24, 10.0.0.1/24]}"), ":4:58", "wanted twice"),
        (f"{HEAD}helpers:\n  - {{namespace: na-a, argv: []}}", ":4:29", "argv is empty"),
        (f"{HEAD}helpers:\n  - {{namespace: na-a, argv: [sleep, 600]}}", ":4:37", "write it in quotes"),
        (f"{HEAD}helpers:\n  - {{namespace: na-c, argv: [sleep]}}", ":4:17", "not one of the namespaces"),
    ],
)
def test_what_the_file_may_not_say(text: str, where: str, what: str) -> None:
    with pytest.raises(WantedError) as caught:
        parse(text, "wanted.yaml")
    assert str(caught.value).startswith(f"wanted.yaml{where}: ")
    assert what in str(caught.value)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "latin1.yaml").write_bytes(b"prefix: \xe9")
    for name in ("missing.yaml", "latin1.yaml"):
        with pytest.raises(WantedError, match=name):
            load(tmp_path / name)


def test_the_example_file() -> None:
    wanted = load(ROOT / "examples/netns_agent/wanted.yaml")
    first, second = wanted.veths
    assert wanted.namespaces == {"na-left", "na-right"}
    assert first[0] == End("na-left", "right0", frozenset({"10.0.0.1/24", "fd00:db8::1/64"}))
    assert second[0] == End(None, "na-up", frozenset({"198.18.0.1/30"}))
    assert [helper.argv[0] for helper in wanted.helpers] == ["dnsmasq"]


def test_what_ip_prints() -> None:
    output = [
        {
            "ifindex": 1,
            "ifname": "lo",
            "flags": ["LOOPBACK", "UP"],
            "addr_info": [address("127.0.0.1", 8, "host")],
        },
        {"ifindex": 2, "link_index": 7, "ifname": "x", "flags": [], "link_netnsid": 0, "addr_info": []},
        {
            "ifindex": 3,
            "link": "z",
            "ifname": "y",
            "flags": ["UP"],
            "addr_info": [address("fe80::1", 64, "link")],
        },
        {
            "ifindex": 4,
            "link": "y",
            "ifname": "z",
            "flags": [],
            "addr_info": [address("FD00:0::1", 64, "global")],
        },
        {"ifindex": 5, "link": None, "ifname": "sit0", "flags": [], "addr_info": []},
        {},
    ]
    assert parse_links(json.dumps(output).encode()) == {
        "lo": Link(1, None, True, frozenset({"127.0.0.1/8"})),
        "x": Link(2, 7),
        "y": Link(3, 4, True),
        "z": Link(4, 3, False, frozenset({"fd00::1/64"})),
        "sit0": Link(5),
    }
    assert parse_links(b"") == {}
    assert parse_namespaces(b'[{"name":"na-a","id":0},{"name":"other"}]') == ["na-a", "other"]
    assert parse_namespaces(b"") == []


def address(local: str, length: int, scope: str) -> dict[str, object]:
    return {"local": local, "prefixlen": length, "scope": scope}


class Kernel:
    """A model of what the commands do. An index is given out once, so that a peer is never mistaken."""

    def __init__(self) -> None:
        self.places: dict[str | None, dict[str, Link]] = {None: {"eth0": Link(1, None, True)}}
        self.indexes = itertools.count(2)

    def observe(self, prefix: str) -> Observed:
        return {
            place: links for place, links in self.places.items() if place is None or place.startswith(prefix)
        }

    def do(self, words: tuple[str, ...]) -> None:
        place: str | None = None
        if words[1] == "-n":
            place, words = words[2], words[2:]
        match words[1:]:
            case ("netns", "add", name):
                assert name not in self.places
                self.places[name] = {"lo": Link(next(self.indexes))}
            case ("netns", "delete", name):
                for link in list(self.places.pop(name).values()):
                    self._remove(link.peer)
            case (
                "link",
                "add",
                "name",
                first,
                *between,
                "type",
                "veth",
                "peer",
                "name",
                second,
                "netns",
                other,
            ):
                here = between[1] if between else None
                one, two = next(self.indexes), next(self.indexes)
                assert first not in self.places[here]
                assert second not in self.places[other]
                self.places[here][first], self.places[other][second] = Link(one, two), Link(two, one)
            case ("link", "delete", "dev", name):
                link = self.places[place].pop(name)
                self._remove(link.peer)
            case ("link", "set", "dev", name, "up"):
                self._change(place, name, up=True)
            case ("address", "add", address, "dev", name):
                self._change(place, name, add={address})
            case ("address", "delete", address, "dev", name):
                assert address in self.places[place][name].addresses
                self._change(place, name, remove={address})
            case _:
                raise AssertionError(words)

    def _remove(self, index: int | None) -> None:
        for links in self.places.values():
            for name in [name for name, link in links.items() if link.index == index]:
                del links[name]

    def _change(
        self,
        place: str | None,
        name: str,
        *,
        up: bool = False,
        add: set[str] | frozenset[str] = frozenset(),
        remove: set[str] | frozenset[str] = frozenset(),
    ) -> None:
        link = self.places[place][name]
        self.places[place][name] = Link(link.index, link.peer, link.up or up, link.addresses - remove | add)


NAMES = ["na-a", "na-b", "na-c"]
ADDRESSES = st.frozensets(
    st.integers(1, 4).map(lambda number: str(ipaddress.ip_interface(f"198.18.0.{number}/28"))), max_size=2
)


@st.composite
def wanteds(draw: st.DrawFn) -> Wanted:
    namespaces = draw(st.frozensets(st.sampled_from(NAMES)))
    places = st.sampled_from([None, *sorted(namespaces)])
    used: set[tuple[str | None, str]] = set()
    pairs = []
    for _ in range(draw(st.integers(0, 4)) if namespaces else 0):
        ends = []
        for place in (draw(st.sampled_from(sorted(namespaces))), draw(places)):
            link = ("na-" if place is None else "") + draw(st.sampled_from(["x", "y", "z"]))
            ends.append(End(place, link, draw(ADDRESSES)))
        keys = {(end.namespace, end.link) for end in ends}
        if len(keys) == 2 and not keys & used:
            used |= keys
            pairs.append((ends[0], ends[1]) if draw(st.booleans()) else (ends[1], ends[0]))
    return Wanted(
        "na-", namespaces, tuple(pairs), frozenset(Helper(name, ("sleep", "9")) for name in namespaces)
    )


@st.composite
def successors(draw: st.DrawFn, before: Wanted) -> Wanted:
    """Something else, or the same pairs with other addresses."""
    if draw(st.booleans()):
        return draw(wanteds())
    veths = tuple(
        (replace(first, addresses=draw(ADDRESSES)), replace(second, addresses=draw(ADDRESSES)))
        for first, second in before.veths
    )
    return replace(before, veths=veths)


def reach(kernel: Kernel, wanted: Wanted, data: st.DataObject) -> None:
    for stage in plan(wanted, kernel.observe(wanted.prefix)):
        assert stage
        # All of a stage is asked for at once: any order must do.
        for command in data.draw(st.permutations(stage)):
            kernel.do(command)


@st.composite
def breakages(draw: st.DrawFn, kernel: Kernel) -> None:
    """Somebody else deletes links and namespaces, and puts foreign addresses on links."""
    for _ in range(draw(st.integers(0, 4))):
        ends = [
            (place, name)
            for place, links in kernel.places.items()
            for name, link in links.items()
            if link.peer is not None and (place in NAMES or name.startswith("na-"))
        ]
        spaces = [place for place in kernel.places if place in NAMES]
        what = draw(st.sampled_from(["link", "address", "namespace"]))
        if what == "namespace" and spaces:
            kernel.do(("ip", "netns", "delete", draw(st.sampled_from(spaces))))
        elif ends:
            place, name = draw(st.sampled_from(ends))
            words = ("link", "delete") if what == "link" else ("address", "add", "192.0.2.1/24")
            kernel.do(("ip", *(("-n", place) if place else ()), *words, "dev", name))


@given(st.data(), wanteds())
def test_a_plan_leads_there_from_anywhere_and_then_there_is_nothing_to_do(
    data: st.DataObject, before: Wanted
) -> None:
    wanted = data.draw(successors(before))
    kernel = Kernel()
    kernel.do(("ip", "netns", "add", "other"))
    kernel.do(("ip", "link", "add", "name", "tap9", "type", "veth", "peer", "name", "x", "netns", "other"))
    foreign = (dict(kernel.places["other"]), kernel.places[None]["tap9"], kernel.places[None]["eth0"])
    reach(kernel, before, data)
    data.draw(breakages(kernel))

    reach(kernel, wanted, data)

    assert plan(wanted, kernel.observe(wanted.prefix)) == ()
    assert {place for place in kernel.places if place is not None} == wanted.namespaces | {"other"}
    assert all(kernel.places[name]["lo"].up for name in wanted.namespaces)
    for end in itertools.chain.from_iterable(wanted.veths):
        link = kernel.places[end.namespace][end.link]
        assert (link.up, link.addresses) == (True, end.addresses)
    assert sum(map(len, kernel.places.values())) == 4 + len(wanted.namespaces) + 2 * len(wanted.veths)
    assert (kernel.places["other"], kernel.places[None]["tap9"], kernel.places[None]["eth0"]) == foreign


@given(st.data(), wanteds())
def test_the_filters_allow_what_a_plan_asks(data: st.DataObject, before: Wanted) -> None:
    wanted = data.draw(successors(before))
    read = filter_file.read(FILTERS.read_text(), str(FILTERS))
    assert read.findings == ()
    rules = ruleset.RuleSet(read.filters)
    kernel = Kernel()
    for goal in (before, wanted):
        for stage in plan(goal, kernel.observe(goal.prefix)):
            for command in stage:
                assert isinstance(rules.match(Request(command)), Match), command
                kernel.do(command)


def test_a_link_of_another_kind_is_left_alone() -> None:
    wanted = Wanted("na-", frozenset({"na-a"}))
    observed = {None: {"na-tap": Link(3)}, "na-a": {"lo": Link(1, up=True), "tun0": Link(2)}}
    assert plan(wanted, observed) == ()


def test_ends_that_are_not_each_others_are_replaced() -> None:
    ends = (End("na-a", "x"), End("na-b", "y"))
    wanted = Wanted("na-", frozenset({"na-a", "na-b"}), (ends,))
    lo = Link(1, up=True)
    observed = {
        None: {},
        "na-a": {"lo": lo, "x": Link(2, 8, up=True)},
        "na-b": {"lo": lo, "y": Link(3, 9, up=True)},
    }
    assert plan(wanted, observed)[:2] == (
        (
            ("ip", "-n", "na-a", "link", "delete", "dev", "x"),
            ("ip", "-n", "na-b", "link", "delete", "dev", "y"),
        ),
        ((*"ip link add name x netns na-a type veth".split(), *"peer name y netns na-b".split()),),
    )
