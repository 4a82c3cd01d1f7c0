"""plain_data.py: what comes back is equal to what was given; what is not whole does not come back."""

import enum
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgpack
import pytest

from rootwrap_daemon.filters.read import filter_file
from rootwrap_daemon.plain_data import from_plain, to_plain
from rootwrap_daemon.policy.policy import Policy
from tests.unit.daemon.test_handover import FILTERS
from tests.unit.policy import things


class Colour(enum.Enum):
    RED = "red"


@dataclass(frozen=True)
class Leaf:
    number: int

    def __post_init__(self) -> None:
        if self.number < 0:
            raise ValueError("below zero")


@dataclass(frozen=True)
class Other:
    text: str = ""


@dataclass(frozen=True)
class Unnamed:
    text: str = ""


@dataclass(frozen=True)
class Whole:
    one: Leaf
    many: tuple[Leaf | Other, ...] = ()
    pair: tuple[str, int] | None = None
    some: frozenset[str] = frozenset()
    by_name: Mapping[str, Leaf | None] = field(default_factory=dict)
    share: float = 0.0
    on: bool = False
    colour: Colour = Colour.RED
    word: Literal["a", "b"] = "a"
    data: bytes | None = None
    made: int = field(init=False, default=7)


WHOLE = Whole(
    Leaf(1),
    (Leaf(2), Other("x"), Other()),
    ("a", 1),
    frozenset("ab"),
    {"x": None, "y": Leaf(3)},
    float("inf"),
    True,
    Colour.RED,
    "b",
    b"\xff",
)


@pytest.mark.parametrize("value", [WHOLE, Whole(Leaf(0))])
def test_what_comes_back_is_equal(value: Whole) -> None:
    data = to_plain(value)
    assert from_plain(Whole, data) == value
    assert from_plain(Whole, msgpack.unpackb(msgpack.packb(data), use_list=False)) == value


def test_defaults_are_left_out() -> None:
    assert to_plain(Whole(Leaf(0))) == ["Whole", {"one": ["Leaf", {"number": 0}]}]


@pytest.mark.parametrize(
    "data",
    [
        None,
        7,
        "Whole",
        [],
        {},
        ["Whole"],
        ["Whole", {}],
        ["Whole", []],
        ["Leaf", {"number": 1}],
        ["Whole", {"one": None}],
        ["Whole", {"one": ["Other", {}]}],
        ["Whole", {"one": ["Leaf", {"number": True}]}],
        ["Whole", {"one": ["Leaf", {"number": "1"}]}],
        ["Whole", {"one": ["Leaf", {"number": -1}]}],
        ["Whole", {"one": ["Leaf", {"number": 1, "more": 1}]}],
        ["Whole", {"one": ["Leaf", {"number": 1}], "many": "ab"}],
        ["Whole", {"one": ["Leaf", {"number": 1}], "many": [["Unnamed", {}]]}],
        ["Whole", {"one": ["Leaf", {"number": 1}], "many": [["str", {}]]}],
        ["Whole", {"one": ["Leaf", {"number": 1}], "pair": ["a"]}],
        ["Whole", {"one": ["Leaf", {"number": 1}], "pair": ["a", 1, 2]}],
        ["Whole", {"one": ["Leaf", {"number": 1}], "some": [1]}],
        ["Whole", {"one": ["Leaf", {"number": 1}], "by_name": ["xy"]}],
        ["Whole", {"one": ["Leaf", {"number": 1}], "by_name": {"x": None}}],
        ["Whole", {"one": ["Leaf", {"number": 1}], "share": "1"}],
        ["Whole", {"one": ["Leaf", {"number": 1}], "on": 1}],
        ["Whole", {"one": ["Leaf", {"number": 1}], "colour": "blue"}],
        ["Whole", {"one": ["Leaf", {"number": 1}], "word": "c"}],
        ["Whole", {"one": ["Leaf", {"number": 1}], "word": []}],
        ["Whole", {"one": ["Leaf", {"number": 1}], "data": "x"}],
        ["Whole", {"one": ["Leaf", {"number": 1}], "made": 1}],
        [["Whole"], {"one": ["Leaf", {"number": 1}]}],
    ],
)
def test_what_is_not_whole_does_not_come_back(data: object) -> None:
    with pytest.raises(ValueError, match=r"."):
        from_plain(Whole, data)


def _places(data: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, one in items:
        yield from _places(one, (*path, key))


def _changed(data: Any, path: tuple[Any, ...], new: object) -> Any:
    if not path:
        return new
    copied = dict(data) if isinstance(data, dict) else list(data)
    copied[path[0]] = _changed(data[path[0]], path[1:], new)
    return copied


def test_a_policy_with_anything_else_in_any_place(tmp_path: Path) -> None:
    """It is refused, or it is a policy that is another, or the same: nothing else comes of it."""
    data = to_plain(things.policy(tmp_path, *FILTERS))
    places = list(_places(data))
    assert len(places) > 300
    chance = random.Random(1)
    refused = 0
    others: list[object] = [None, -1, 2**70, "", "\udcff(", b"", [], {}, [["Leaf", {}]], 1.5]
    for path in places:
        for new in (*others, chance.choice(places)):
            try:
                found = from_plain(Policy, _changed(data, path, new))
            except ValueError:
                refused += 1
            else:
                assert isinstance(found, Policy)
                assert from_plain(Policy, to_plain(found)) == found
    assert refused > len(places) * 5


def test_a_filter_without_a_user_is_refused() -> None:
    (found,) = filter_file.read("[Filters]\na: CommandFilter, a, root\n", "x").filters
    name, values = to_plain(found)  # type: ignore[misc]
    with pytest.raises(ValueError, match="without a user"):
        from_plain(type(found), [name, {**values, "run_as": []}])  # type: ignore[has-type]
