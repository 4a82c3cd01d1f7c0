"""Generated argv, judged by both engines: every difference is explained by exactly what it should be.

The same argv each time, of which each class explains some; `make fuzz` takes ten times as many.
DIFFERENTIAL_CASES=2000000 makes it longer, DIFFERENTIAL_SEED=1 another run.
"""

import os
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from configparser import MissingSectionHeaderError
from dataclasses import dataclass, field
from typing import Any, Final

import pytest

from tests.differential.argvs import Argv, Source, legitimate
from tests.differential.classes import OSLO_ALONE, OURS_ALONE
from tests.differential.engines import (
    CORPUS,
    MADE_UP,
    WHY_SKIPPED,
    Oslo,
    Ours,
    Way,
    filter_files,
    reasons,
    same_host_everywhere,
    text_of,
)

pytestmark = [pytest.mark.skipif(not CORPUS.is_dir(), reason=WHY_SKIPPED), pytest.mark.timeout(3600)]

#: About ten seconds.
DEFAULT_CASES: Final = 70_000
CASES: Final = int(os.environ.get("DIFFERENTIAL_CASES", DEFAULT_CASES))
SEED: Final = os.environ.get("DIFFERENTIAL_SEED", "0")


@pytest.fixture(autouse=True)
def _same_host() -> Iterator[None]:
    with same_host_everywhere():
        yield


@dataclass(slots=True)
class Pair:
    """Both engines over one file."""

    file: str
    ours: Ours
    theirs: Oslo

    def differences(self, argv: Argv) -> "Differences":
        theirs, ours = self.theirs.ways(argv), self.ours.ways(argv)
        # A check of our own reading: the first way is what match_filter says.
        assert self.theirs.first(argv) == (theirs[0].filter if theirs else None), (self.file, argv)
        them, us = ("allow" if allowed else "deny" for allowed in (theirs, ours))
        found = Differences(f"both {us}" if us == them else f"oslo.rootwrap {them}, we {us}")
        found.sort(theirs, {way.key for way in ours}, OSLO_ALONE)
        found.sort(ours, {way.key for way in theirs}, OURS_ALONE)
        common = [[way.key for way in ways if way.key in found.common] for ways in (theirs, ours)]
        if common[0] != common[1]:
            found.wrong.append(f"not in the same order: {common[0]} and {common[1]}")
        return found


@dataclass(slots=True)
class Differences:
    """What explains the ways that one engine has alone, what is wrong about it, and the verdict of both."""

    verdict: str
    counts: Counter[str] = field(default_factory=Counter)
    common: set[Any] = field(default_factory=set)
    wrong: list[str] = field(default_factory=list)

    def sort(self, ways: Sequence[Any], others: set[Any], classes: Sequence[Callable[[Any], bool]]) -> None:
        for way in ways:
            names = [one.__name__ for one in classes if one(way)]
            if way.key in others:
                self.common.add(way.key)
                self.wrong += [f"{name} explains what both allow: {shown(way)}" for name in names]
            else:
                self.counts.update(names)
                if not names:
                    self.wrong.append(f"unexplained: {type(way).__name__} {shown(way)}")


def shown(way: Way) -> str:
    return f"{way.filter}{f' + {way.leaf}' if way.leaf else ''} would run {way.effect}"


def pairs() -> Iterator[Pair]:
    for file in (*filter_files(), *MADE_UP):
        ours = Ours(text_of(file), file)
        try:
            yield Pair(file, ours, Oslo(text_of(file), ours.errors))
        except MissingSectionHeaderError:
            # oslo.rootwrap does not start with it: nothing to compare.
            assert not ours.file.filters


def minimal(argv: Argv, wrong: Callable[[Argv], bool]) -> Argv:
    """The same with fewer and shorter words, as long as it is still wrong."""
    for index in range(len(argv)):
        word = argv[index]
        shorter = [argv[:index] + argv[index + 1 :]]
        shorter += [(*argv[:index], word[: len(word) // 2], *argv[index + 1 :])] if len(word) > 1 else []
        shorter += [(*argv[:index], word[1:], *argv[index + 1 :])] if word else []
        for one in shorter:
            if one and wrong(one):
                return minimal(one, wrong)
    return argv


def report(pair: Pair, argv: Argv) -> str:
    least = minimal(argv, lambda one: bool(pair.differences(one).wrong))
    lines = [f"{pair.file}", f"  argv {least!r}", *(f"  {text}" for text in pair.differences(least).wrong)]
    names = {way.filter for way in (*pair.theirs.ways(least), *pair.ours.ways(least))}
    starts = tuple(f"{name}:" for name in names)
    lines += [f"  {line}" for line in text_of(pair.file).splitlines() if line.lower().startswith(starts)]
    # A word that has to be long is long enough to read without its middle.
    return re.sub(r"(.)\1{99,}", r"\1...\1", "\n".join(lines))


def test_every_difference_is_explained() -> None:
    # A file without a filter has only what oslo.rootwrap adds to every one.
    sources = [(pair, Source(pair.theirs)) for pair in pairs() if len(pair.theirs.filters) > 1]
    verdicts: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    wrong: list[str] = []
    for number in range(CASES):
        rng = random.Random(f"{SEED}/{number}")
        pair, source = rng.choice(sources if rng.random() < 0.9 else sources[-len(MADE_UP) :])
        argv = source.argv(rng)
        found = pair.differences(argv)
        verdicts[found.verdict] += 1
        counts += found.counts
        if found.wrong and len(wrong) < 10:
            wrong.append(report(pair, argv))
    classes = [one.__name__ for one in (*OSLO_ALONE, *OURS_ALONE)]
    print()
    for verdict, count in verdicts.most_common():
        print(f"{count:8} {verdict}")
    for name in classes:
        print(f"{counts[name]:8} {name}")
    assert not wrong, "\n\n".join(wrong)
    if CASES >= DEFAULT_CASES:
        assert [name for name in classes if not counts[name]] == [], "explain nothing: take them out"


def test_every_class_has_its_row_or_record() -> None:
    for one in (*OSLO_ALONE, *OURS_ALONE):
        reason = one.__name__.partition("_")[0].upper()
        assert one.__doc__
        assert reason == "OPEN" or reason in reasons() or reason.removeprefix("D") in reasons(), one.__name__


def test_a_verdict_that_is_wrong_is_noticed() -> None:
    """Each way this test could be blind: a filter that we have alone, or lack, or that lets more through."""
    file = next(file for file in filter_files() if "neutron__rootwrap.d__l3.filters@81dfa48466" in file)
    text = text_of(file)
    theirs = Oslo(text)

    def differences(ours: str, *argv: str) -> list[str]:
        return Pair(file, Ours(ours, file), theirs).differences(argv).wrong

    assert not differences(text, "ip", "-b", "-")
    assert differences(text + "\nextra: CommandFilter, extra, root\n", "extra")
    assert differences(text.replace("\narping:", "\n#arping:"), "arping", "10.0.0.1")
    assert differences(text.replace("ip: IpFilter,", "ip: CommandFilter,"), "ip", "-b", "-")
    for command in legitimate():
        if command.file == file:
            assert not differences(text, *command.argv)
            assert differences("[Filters]\n", *command.argv)
