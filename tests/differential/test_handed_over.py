"""A policy as data, as the start hands it to what serves: equal to the one that was made of text."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import msgpack
import pytest

from rootwrap_daemon.filters.kinds import AnyFilter
from rootwrap_daemon.filters.read import filter_file
from rootwrap_daemon.filters.values import Request
from rootwrap_daemon.plain_data import from_plain, to_plain
from rootwrap_daemon.policy.policy import Policy
from tests.differential.argvs import legitimate
from tests.differential.engines import CORPUS, MADE_UP, WHY_SKIPPED, filter_files, text_of
from tests.unit.policy import things

ROOT = Path(__file__).parents[2]
SHIPPED = sorted(str(path) for path in (ROOT / "etc").rglob("*.filters"))
ATTACKS = ROOT.parent / "shared" / "attacks" / "attacks.jsonl"


@pytest.fixture
def empty(tmp_path: Path) -> Policy:
    return things.policy(tmp_path)


def handed_over(policy: Policy) -> Policy:
    data = msgpack.packb(to_plain(policy), unicode_errors="surrogateescape")
    return from_plain(Policy, msgpack.unpackb(data, use_list=False, unicode_errors="surrogateescape"))


def same(empty: Policy, filters: Iterable[AnyFilter], argvs: Iterable[tuple[str, ...]]) -> int:
    """Compare the two by value, and by all that either says of these words. How many it compared."""
    policy = replace(empty, filters=tuple(filters))
    other = handed_over(policy)
    assert other == policy
    assert other.ruleset is not policy.ruleset
    count = 0
    for argv in argvs:
        for stdin in (False, True):
            request = Request(argv, (("LANG", "C"), ("A", "1")) if stdin else (), stdin)
            assert list(other.ruleset.matches(request)) == list(policy.ruleset.matches(request))
            assert other.ruleset.shown(argv) == policy.ruleset.shown(argv)
        count += 1
    return count


@cache
def words() -> dict[str, list[tuple[str, ...]]]:
    found: dict[str, list[tuple[str, ...]]] = {}
    for command in legitimate():
        found.setdefault(command.file, []).append(command.argv)
    return found


def shipped() -> Iterator[tuple[AnyFilter, ...]]:
    for path in SHIPPED:
        yield filter_file.read(Path(path).read_text(), path).filters


@pytest.mark.skipif(not CORPUS.is_dir(), reason=WHY_SKIPPED)
def test_the_corpus(empty: Policy) -> None:
    every = [argv for argvs in words().values() for argv in argvs]
    filters, compared = 0, 0
    for file in (*filter_files(), *MADE_UP):
        # All that has no error of its own, as `on_finding = skip` leaves it.
        parsed = filter_file.read(text_of(file), file).parsed
        compared += same(empty, parsed, words().get(file, every[::20]))
        filters += len(parsed)
    assert (filters > 1000, compared > 1000) == (True, True), (filters, compared)


def test_what_is_shipped(empty: Policy) -> None:
    filters = [one for file in shipped() for one in file]
    assert len(filters) > 5
    assert same(empty, filters, [(min(one.commands), "x") for one in filters])


@pytest.mark.skipif(not ATTACKS.exists(), reason="../shared/attacks is not here: it comes with the project")
def test_attacks(empty: Policy) -> None:
    compared = 0
    for line in ATTACKS.read_text().splitlines():
        case = json.loads(line)
        argv = case["argv"]
        if isinstance(argv, list) and argv and all(isinstance(word, str) for word in argv):
            parsed = filter_file.read("\n".join(("[Filters]", *case["filters"], "")), "f").parsed
            compared += same(empty, parsed, [tuple(argv)])
    assert compared > 300


def test_users(empty: Policy) -> None:
    text = "[Filters]\na: CommandFilter, ls, games|root\nb: CommandFilter, id, root\n[b]\nusers = x, %y\n"
    policy = replace(
        empty, filters=filter_file.read(text, "f").filters, users={"x": (False, 7), "%y": (True, 8)}
    )
    other = handed_over(policy)
    assert other == policy
    assert [one.run_as for one in other.filters] == [("games", "root"), ("root",)]
    assert other.filters[1].options.users == {"x", "%y"}
