"""Faults that were found here once, each as the input that showed it."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from rootwrap_daemon import config
from rootwrap_daemon.daemon.record import audit
from rootwrap_daemon.daemon.record.lines import MAX_RECORD, line
from rootwrap_daemon.daemon.record.secrets import mask_words
from rootwrap_daemon.errors import ConfigurationError
from rootwrap_daemon.filters import ip, ruleset
from rootwrap_daemon.filters.read import filter_file
from rootwrap_daemon.filters.read.fault import Fault
from rootwrap_daemon.filters.read.patterns import compile_pattern
from rootwrap_daemon.filters.values import CAPABILITIES, Match
from rootwrap_daemon.policy import bind
from rootwrap_daemon.policy.bound import NotBound
from tests.audit_records import write_record
from tests.unit.filters.lines import match, rules
from tests.unit.policy.things import OWNERS, STRANGER, Host, directory, file


def matched(found: ruleset.RuleSet, *argv: str) -> Match:
    """The match for these words, which there must be."""
    answer = match(found, *argv)
    assert isinstance(answer, Match)
    return answer


def live(text: str) -> list[str]:
    """The filters that this file gives."""
    return [one.name for one in filter_file.read(text, "f").filters]


OPTION = "[Filters]\nenv: CommandFilter, cat, root\na: CommandFilter, cat, root\n[a]\n"


@pytest.mark.parametrize(
    "line",
    ["timeout =", "timeout 5", "timeout = \x015", "timeout = 5\r0", "env ="],
    ids=["empty", "no delimiter", "control character", "carriage return", "named like a filter"],
)
def test_fault_in_options_takes_out_the_filter_that_they_are_of(line: str) -> None:
    assert live(f"{OPTION}{line}\n") == ["env"]


@pytest.mark.parametrize("header", ["[old\x01]", "[old]\rx", "[old\u3000]"])
def test_nothing_below_a_refused_header_is_used(header: str) -> None:
    text = f"[Filters]\na: CommandFilter, cat, root\n{header}\nrm: CommandFilter, rm, root\n"
    # It may have had the options of any filter.
    assert live(text) == []
    found = filter_file.read(f"[Filters]\nk: KillFilter, root, sleep, -HUP\n{header}\n  , -9\n", "f")
    assert [one.literals for one in found.parsed] == [{1: ("-s", "-HUP")}]
    assert found.filters == ()


@pytest.mark.parametrize("character", ["\r", "\x01", "\u3000"])
def test_refused_continuation_takes_its_filter_out(character: str) -> None:
    assert live(f"[Filters]\nx: EnvFilter, env, root, A=, haproxy\n  , -f, .{character}*\n") == []


def test_first_pattern_that_takes_for_ever_is_a_finding() -> None:
    pattern = "(?:(?:a|aa|b)+)+(?!a)(?<!a)"
    found = filter_file.read(f"[Filters]\na: RegExpFilter, {'a' * 40}, root, {pattern}\n", "f")
    assert found.filters == ()
    assert found.findings


def test_default_section_is_one_finding() -> None:
    assert len(filter_file.read("[DEFAULT]\nx: CommandFilter, cat, root\n", "f").findings) == 1


@pytest.mark.parametrize(
    "text",
    ["(?#[)(?:foo){e}", r"(?#[)(?u:\w)", "[a[:alpha:]]", "[^a[:alpha:]]", "(?x)a#[\n(?:b){e}", r"a|\B"],
)
def test_pattern_that_engines_read_differently_is_refused(text: str) -> None:
    with pytest.raises(Fault):
        compile_pattern(text)


@pytest.mark.parametrize(
    "line",
    [
        "xfrm monitor file /etc/shadow",
        "x m f x",
        "route add 10.0.0.0/8 encap seg6local action End.BPF endpoint object-file e.o section s dev lo",
        "link add v link-netn /proc/1/ns/net type veth",
        "link add v ty /../x",
        "link help /../x",
        "-n= ns1 link",
        "link set lo netns ..",
        "link add a link-netns . type veth",
    ],
)
def test_ip_opens_no_file_and_loads_no_code(line: str) -> None:
    assert not ip.is_harmless(tuple(line.split()))


@pytest.mark.root
@pytest.mark.parametrize("words", [["cat"], ["nice", "cat"]])
def test_file_of_a_stranger_in_a_sticky_directory_is_not_read(tmp_path: Path, words: list[str]) -> None:
    sticky = directory(tmp_path / "sticky", 0o1777)
    file(sticky / "f", "x", owner=STRANGER)
    found = rules(f"r: ReadFileFilter, {sticky}/f", "n: ChainingRegExpFilter, nice, root, nice")
    with pytest.raises(NotBound):
        bind.bind(matched(found, *words, f"{sticky}/f"), Host()).close()


@pytest.mark.parametrize(
    "line",
    ["command_timeout = nan", "kill_grace = inf", "daemon_timeout =", "max_commands =", "max_output ="],
)
def test_number_that_is_none_is_refused(tmp_path: Path, line: str) -> None:
    path = tmp_path / "daemon.conf"
    path.write_text(f"[DEFAULT]\n{line}\n")
    with pytest.raises(ConfigurationError):
        config.load(str(path))[0]


@pytest.mark.parametrize(
    "values", [{"detail": "y" * 5000}, {"env": ["V" * 100] * 64}, {"filter": "f" * 9000}]
)
def test_record_that_is_too_long_stays_whole(tmp_path: Path, values: dict[str, Any]) -> None:
    log = audit.Audit(str(tmp_path / "log"), required=True, owners=OWNERS)
    write_record(log, "denied", argv=("x",), **values)
    log.close()
    data = (tmp_path / "log").read_bytes()
    assert len(data) <= MAX_RECORD
    assert json.loads(data)["event"] == "denied"


def test_sum_of_an_argv_gives_no_secret_away() -> None:
    argv = ("x", "--password", "1234", "y" * 5000)
    record = json.loads(line({"argv": argv}))
    assert record["argv_sha256"] != hashlib.sha256("\0".join(argv).encode()).hexdigest()
    masked = ("x", "***", "***", "***")
    assert record["argv_sha256"] == hashlib.sha256("\0".join(masked).encode()).hexdigest()


@pytest.mark.parametrize(
    "argv", [("password=hunter2 token=abc",), ("--password", "-hunter2"), (f"http://{'u' * 90}:hunter2@h",)]
)
def test_secret_in_an_odd_place_is_masked(argv: tuple[str, ...]) -> None:
    assert "hunter2" not in " ".join(mask_words(argv, MAX_RECORD))


def test_capabilities_have_the_numbers_of_the_kernel() -> None:
    from oslo_privsep import capabilities

    assert {name: number for number, name in enumerate(CAPABILITIES)} == capabilities.CAPS_BYNAME


def test_sum_of_a_huge_argv_leaves_out_what_may_be_secret() -> None:
    # Patterns over all of it would stop every other thread meanwhile: whole words are left out instead.
    argv = ("x" * 100_000, "--password", "1234", "y", "user:1234@h://" + "z" * 100_000)
    record = json.loads(line({"argv": argv}))
    assert record["argv_bytes"] == sum(map(len, argv)) + len(argv) - 1
    shown = "\0".join(("x" * 100_000, "***", "***", "***", "***"))
    assert record["argv_sha256"] == hashlib.sha256(shown.encode()).hexdigest()
