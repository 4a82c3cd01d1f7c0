"""What services really run, by the filter files that they ship: allowed wherever oslo.rootwrap allows it."""

from collections.abc import Iterator
from functools import cache

import pytest

from tests.differential.argvs import Command, legitimate
from tests.differential.engines import CORPUS, WHY_SKIPPED, Oslo, Ours, reasons, same_host_everywhere, text_of

pytestmark = pytest.mark.skipif(not CORPUS.is_dir(), reason=WHY_SKIPPED)


@pytest.fixture(autouse=True)
def _same_host() -> Iterator[None]:
    with same_host_everywhere():
        yield


@cache
def engines(file: str) -> tuple[Ours, Oslo]:
    ours = Ours(text_of(file), file)
    return ours, Oslo(text_of(file))


@pytest.mark.parametrize("command", legitimate(), ids=lambda command: command.text[:60])
def test_legitimate(command: Command) -> None:
    ours, theirs = engines(command.file)
    assert theirs.first(command.argv), "oslo.rootwrap does not allow it: no legitimate command of this file"
    allowed = ours.ways(command.argv)
    if command.refused:
        assert not allowed, "allowed now: take the mark away"
        return
    assert allowed
    effects = [way.effect for way in theirs.ways(command.argv)]
    assert allowed[0].effect in effects, "allowed, but something else would run"


def test_there_are_enough_and_refusals_have_a_reason() -> None:
    assert len(set(legitimate())) >= 150
    for command in legitimate():
        if command.refused:
            print(f"refused ({command.refused}): {command.text}")
            assert command.refused in reasons() | {"open"}
