"""What is proposed for what was asked: types where words vary, words where they do not."""

import json
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootwrap_daemon.analysis import load
from rootwrap_daemon.analysis.audit_log import Record
from rootwrap_daemon.analysis.suggest.suggest import Proposal, Suggester
from rootwrap_daemon.filters.read import filter_file
from rootwrap_daemon.filters.ruleset import RuleSet
from rootwrap_daemon.filters.values import Match, Request


def _record(text: str | tuple[str, ...], code: str = "allowed", filter: str | None = "old") -> Record:
    argv = tuple(text.split()) if isinstance(text, str) else text
    return Record(argv, code, filter if code == "allowed" else None, "root", ())


def _propose(
    allowed: Iterable[str | tuple[str, ...]], denied: Iterable[str] = (), policy: str = "", **options: object
) -> Proposal:
    found = load.from_texts({"f": f"[Filters]\n{policy}\n"}) if policy else None
    records = [*map(_record, allowed), *(_record(text, "denied") for text in denied)]
    everything = bool(options.pop("everything", False))
    return Suggester(found, everything=everything, **options).propose(records)  # type: ignore[arg-type]


def _rules(proposal: Proposal) -> RuleSet:
    text = "\n".join(["[Filters]", *(line.text for line in (*proposal.lines, *proposal.kept)), ""])
    return RuleSet(filter_file.read(text, "f").filters)


def _allows(rules: RuleSet, argv: tuple[str, ...]) -> bool:
    return isinstance(rules.match(Request(argv)), Match)


@pytest.mark.parametrize(
    ("asked", "definitions"),
    [
        (["ip link show"], ["ip, root, link, show"]),
        (
            ["ip link set dev a up", "ip link set dev b down"],
            ["ip, root, link, set, dev, {ifname}, {=down|up}"],
        ),
        (["ip -n n1 addr add 10.0.0.1/8 dev a"], ["ip, root, -n, {netns}, addr, add, {cidr}, dev, {ifname}"]),
        (["ip netns add n1", "ip netns del n1"], ["ip, root, netns, {=add|del}, {netns}"]),
        (["ip netns list"], ["ip, root, netns, list"]),
        (["ip link set dev a netns add"], ["ip, root, link, set, dev, {ifname}, netns, add"]),
        (["ip link set dev a netns n1"], ["ip, root, link, set, dev, {ifname}, netns, {netns}"]),
        (["brctl addif br0 tap1", "brctl addif br0 tap2"], ["brctl, root, addif, br0, {=tap1|tap2}"]),
        ([f"brctl addbr br{n}" for n in range(9)], ["brctl, root, addbr, {name}"]),
        ([f"x -o{n}" for n in range(3)], [f"x, root, -o{n}" for n in range(3)]),
        (["x 1", "x 2"], ["x, root, {int}"]),
        (["x 10.0.0.1", "x fe80::1"], ["x, root, {ipv4}", "x, root, {ipv6}"]),
        (["x 52:54:00:12:34:56"], ["x, root, {mac}"]),
        (["x 01234567-89ab-cdef-0123-456789abcdef"], ["x, root, {uuid}"]),
        (
            ["chown nova /var/lib/nova/a", "chown nova /var/lib/nova/b"],
            ["chown, root, nova, {path=/var/lib/nova}"],
        ),
        (["chown nova /var/lib/a", "chown nova /etc/b"], ["chown, root, nova, {=/etc/b|/var/lib/a}"]),
        (["chown nova /etc/a", "chown nova /etc/b"], ["chown, root, nova, {=/etc/a|/etc/b}"]),
        (["yes"], ["yes, root"]),
        (["x a...", "x #b", "x c,d|{e}"], [r"x, root, {=\#b|a...|c\,d\|\{e\}}"]),
        (["add 1 x", "add 2 y"], ["add, root, {int}, {=x|y}"]),
        (["x a c", "x a d", "x b c", "x b d"], ["x, root, {=a|b}, {=c|d}"]),
        (["x a c", "x b d"], ["x, root, a, c", "x, root, b, d"]),
    ],
)
def test_lines(asked: list[str], definitions: list[str]) -> None:
    proposal = _propose(asked)
    assert sorted(line.definition for line in proposal.lines) == sorted(
        f"ArgvFilter, {one}" for one in definitions
    )
    assert not proposal.problems


def test_what_the_log_denies_stays_denied() -> None:
    allowed = ["ip netns add na-1", "ip netns add na-2", "ip link set dev na-u up"]
    denied = ["ip netns add other", "ip link set dev lo up", "ip link set dev na-u down"]
    proposal = _propose(allowed, denied)
    rules = _rules(proposal)
    assert all(_allows(rules, tuple(one.split())) for one in allowed)
    assert not any(_allows(rules, tuple(one.split())) for one in denied)
    assert any("ip netns add other" in note for line in proposal.lines for note in line.notes)
    assert [line.examples for line in proposal.denied]


def test_a_shape_that_crosses_into_what_was_denied_is_written_out() -> None:
    # Each word was seen in its place, only not together.
    proposal = _propose(["ip link set dev a mtu 1", "ip link set dev b mtu 2"], ["ip link set dev a mtu 2"])
    rules = _rules(proposal)
    assert _allows(rules, ("ip", "link", "set", "dev", "b", "mtu", "2"))
    assert not _allows(rules, ("ip", "link", "set", "dev", "a", "mtu", "2"))


def test_narrow_filters_are_kept_and_broad_ones_replaced() -> None:
    policy = """\
old: CommandFilter, ip, root
link: RegExpFilter, ip, root, ip, link, show
any: RegExpFilter, tc, root, tc, .*
hup: KillFilter, root, dnsmasq, -HUP
passwd: ReadFileFilter, /etc/passwd
[old]
timeout = 5"""
    records = [
        _record("ip addr show"),
        _record("ip link show", filter="link"),
        _record("tc qdisc", filter="any"),
        _record("kill -HUP 5", filter="hup"),
        _record("cat /etc/passwd", filter="passwd"),
    ]
    found = load.from_texts({"f": f"[Filters]\n{policy}\n"})
    proposal = Suggester(found, everything=False).propose(records)
    assert [line.definition for line in proposal.lines] == [
        "ArgvFilter, ip, root, addr, show",
        "ArgvFilter, tc, root, qdisc",
    ]
    assert [line.instead_of for line in proposal.lines] == ["old", "any"]
    assert proposal.lines[0].options == ("timeout = 5",)
    assert sorted(line.name for line in proposal.kept) == ["hup", "link", "passwd"]
    only = Suggester(found, everything=False, only=frozenset(("old",))).propose(records)
    assert [line.instead_of for line in only.lines] == ["old"]
    assert not only.kept


def test_chains_keep_their_outer_filter() -> None:
    policy = (
        "exec: IpNetnsExecFilter, ip, root\nall: CommandFilter, dnsmasq, root\n"
        "tag: EnvFilter, env, root, TAG=, dnsmasq\n"
    )
    records = [
        _record("ip netns exec n1 dnsmasq --port=0", filter="exec+all"),
        _record("ip netns exec n1 env TAG=5 dnsmasq --conf=/x,y a.b", filter="exec+tag"),
    ]
    proposal = Suggester(load.from_texts({"f": f"[Filters]\n{policy}"}), everything=False).propose(records)
    assert [line.name for line in proposal.kept] == ["exec"]
    assert [line.definition for line in proposal.lines] == [
        "ArgvFilter, dnsmasq, root, --port=0",
        r"EnvFilter, env, root, TAG=, dnsmasq, --conf=/x\x2cy, a\.b",
    ]
    rules = _rules(proposal)
    assert all(_allows(rules, record.argv) for record in records)
    assert not _allows(rules, tuple("ip netns exec n1 env TAG=5 dnsmasq --conf=/x,y axb".split()))


def test_a_variable_that_can_run_code_keeps_its_value() -> None:
    """Free, LVM_SYSTEM_DIR names a directory of the caller's, whose lvm.conf names programs."""
    asked = [
        "env LC_ALL=C LVM_SYSTEM_DIR=/etc/a lvs one",
        "env LC_ALL=de LVM_SYSTEM_DIR=/etc/a lvs one",
        "env LVM_SYSTEM_DIR=/etc/b LC_ALL=C lvs one",
    ]
    proposal = Suggester(None, everything=False).propose(map(_record, asked))
    assert [line.definition for line in proposal.lines] == [
        "EnvFilter, env, root, LC_ALL=, LVM_SYSTEM_DIR=/etc/a, lvs, one",
        "EnvFilter, env, root, LVM_SYSTEM_DIR=/etc/b, LC_ALL=, lvs, one",
    ]
    for value in ("", "/etc/a,b"):
        proposal = Suggester(None, everything=False).propose([_record(f"env LVM_SYSTEM_DIR={value} lvs one")])
        assert not proposal.lines
        assert "no filter can be written" in proposal.problems[0]


def test_a_variable_of_a_request_that_can_run_code_is_not_proposed() -> None:
    record = replace(_record("lvs one"), env=("LC_ALL", "LVM_SYSTEM_DIR"))
    proposal = Suggester(None, everything=False).propose([record])
    assert [line.options for line in proposal.lines] == [("env = LC_ALL",)]
    assert "`env = LVM_SYSTEM_DIR={=value}`" in proposal.problems[0]


def test_a_broad_chain_is_kept_with_a_warning() -> None:
    policy = "nice: ChainingRegExpFilter, nice, root, nice, .*, .*\nls: CommandFilter, ls, root"
    record = _record("nice -n 5 ls", filter="nice+ls")
    found = load.from_texts({"f": f"[Filters]\n{policy}\n"})
    (kept,) = Suggester(found, everything=False).propose([record]).kept
    assert kept.notes == ("broad: narrow its patterns by hand",)


def test_a_chain_is_known_without_a_policy() -> None:
    proposal = _propose(["ip netns exec n1 sysctl -w x"])
    assert [line.definition for line in (*proposal.lines, *proposal.kept)] == [
        "ArgvFilter, sysctl, root, -w, x",
        "IpNetnsExecFilter, ip, root",
    ]


def test_what_no_line_can_say_is_said() -> None:
    proposal = _propose([("x", ""), ("x", "a\n"), ("kill", "-9", "12")])
    assert len(proposal.problems) == 3
    assert not proposal.lines


def test_a_check_runs_as_the_filter_that_ran() -> None:
    records = [Record(("id",), "allowed", "x", "nobody", ()), Record(("id", "-u"), "allowed", "x", None, ())]
    proposal = Suggester(None, everything=False).propose(records)
    assert [line.definition for line in proposal.lines] == [
        "ArgvFilter, id, nobody",
        "ArgvFilter, id, nobody, -u",
    ]


def test_records_without_words_propose_nothing() -> None:
    proposal = _propose(["ls"], policy="old: CommandFilter, ls, root\n[old]\naudit = no-argv")
    assert not proposal.lines
    assert proposal.problems == ["old: its records do not show the words"]


def test_variables_that_were_asked_for_are_options() -> None:
    records = [Record(("ls",), "allowed", "x", "root", ("LANG", "TZ"))]
    (line,) = Suggester(None, everything=False).propose(records).lines
    assert line.options == ("env = LANG, TZ",)


_WORDS = st.sampled_from(
    "add del show -a --b=c 1 22 10.0.0.1 10.0.0.0/8 ::1 /etc/x /etc/y /var/lib/z eth0 lo dev name netns exec "
    "a,b {x} # a\\b [ ... x. | ;y".split()
) | st.text(alphabet="ab-.{}[]|,\\#; =é", min_size=1, max_size=5)


@given(
    st.lists(st.tuples(st.sampled_from(("ip", "x")), _WORDS, _WORDS, _WORDS), min_size=1, max_size=12),
    st.lists(st.tuples(st.sampled_from(("ip", "x")), _WORDS, _WORDS, _WORDS), max_size=6),
)
def test_covers_all_and_nothing_that_was_denied(
    asked: list[tuple[str, ...]], denied: list[tuple[str, ...]]
) -> None:
    denied = [argv for argv in denied if argv not in asked]
    records = [*map(_record, asked), *(_record(argv, "denied") for argv in denied)]
    proposal = Suggester(None, everything=False).propose(records)
    rules = _rules(proposal)
    said = " ".join(proposal.problems)
    assert all(_allows(rules, argv) or f"{' '.join(argv)!a}" in said for argv in asked)
    noted = [note for line in proposal.lines for note in line.notes if note.startswith("takes")]
    assert not noted
    assert not any(_allows(rules, argv) for argv in denied)
    # An option never comes from a type.
    options = ((*argv[:at], "-evil", *argv[at + 1 :]) for argv in asked for at in range(1, len(argv)))
    assert not any(_allows(rules, argv) for argv in options)


def test_a_name_that_a_client_made_up_moves_no_terminal(tmp_path: Path) -> None:
    log = tmp_path / "audit.jsonl"
    record = {
        "time": "2026-01-01T00:00:00+00:00",
        "event": "denied",
        "id": "a-1",
        "uid": 5,
        "code": "denied",
        "argv": ["\udcff\udc80", "x"],
    }
    log.write_text(json.dumps(record) + "\n")
    # In a process of its own: it gives up root.
    words = [sys.executable, "-m", "rootwrap_daemon.cli.ctl", "suggest", "-"]
    out = subprocess.run(words, stdin=log.open(), capture_output=True, text=True, check=True).stdout
    assert "ArgvFilter" in out
    assert all(char.isprintable() or char == "\n" for char in out)
