"""Real filter files: each loads whole, or findings say where, why and what to do; all of them are known."""

import configparser
import re
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from rootwrap_daemon.filters.finding import Finding, Severity
from rootwrap_daemon.filters.read import filter_file
from tests.differential.engines import CORPUS, WHY_SKIPPED, filter_files, text_of

pytestmark = pytest.mark.skipif(not CORPUS.is_dir(), reason=WHY_SKIPPED)

#: Every finding about every file, one a line as it is shown. What changes it belongs in the same change.
KNOWN = Path(__file__).with_name("findings.txt")


def findings() -> list[Finding]:
    return [finding for file in filter_files() for finding in filter_file.read(text_of(file), file).findings]


def is_error(finding: Finding) -> bool:
    return finding.severity is Severity.ERROR


def kind(finding: Finding) -> str:
    """What it says, without what is this file's own."""
    return re.sub(r"'[^']*'|^\S+(?= a second time)|\b[0-9]+\b|(?<=value of )\S+", "...", finding.what)


def test_findings_are_the_known_ones() -> None:
    found = [str(finding) for finding in findings()]
    known = KNOWN.read_text().splitlines()
    news = [f"+ {line}" for line in found if line not in known]
    gone = [f"- {line}" for line in known if line not in found]
    assert news + gone == []
    assert Counter(found) == Counter(known)


def test_findings_name_their_place_reason_and_mend() -> None:
    for finding in findings():
        place = finding.location
        lines = text_of(place.file).split("\n")
        assert 1 <= place.line <= len(lines), finding
        assert 1 <= place.column <= len(lines[place.line - 1]), finding
        assert not lines[place.line - 1].lstrip().startswith("#"), finding
        assert finding.what
        assert finding.remedy


@pytest.mark.parametrize("file", filter_files())
def test_every_definition_is_a_filter_or_an_error(file: str) -> None:
    """What oslo.rootwrap's parser sees is there, or something says why not."""
    theirs = configparser.RawConfigParser(strict=False)
    read = filter_file.read(text_of(file), file)
    ours = {one.name.lower() for one in read.filters}
    refused = {name for finding in read.findings if is_error(finding) for name in finding.filters}
    try:
        theirs.read_string(text_of(file))
    except configparser.MissingSectionHeaderError:
        assert any("before any section" in finding.what for finding in read.findings)
        assert not ours
    else:
        assert ours | refused == set(theirs.options("Filters"))
        assert ours.isdisjoint(refused)


def test_nothing_in_the_corpus_is_too_bad_to_read() -> None:
    """Configuration files and whatever else is there: findings, never an exception."""
    for path in sorted(CORPUS.rglob("*")):
        if path.is_file():
            filter_file.read(path.read_bytes().decode(errors="surrogateescape"), path.name)


def test_table() -> None:
    """How many load as they are, and why the others do not; shown by `pytest -s`."""
    files: dict[str, set[str]] = defaultdict(set)
    lines: Counter[str] = Counter()
    warned = set()
    for finding in findings():
        if is_error(finding):
            files[kind(finding)].add(finding.location.file)
            lines[kind(finding)] += 1
        else:
            warned.add(finding.location.file)
    bad = set().union(*files.values())
    whole = len(filter_files()) - len(bad)
    print(f"\n{'files':>5} {'lines':>5}")
    print(f"{len(filter_files()):5} {'':5} filter files")
    print(f"{whole:5} {'':5} load as they are, {len(warned - bad)} of them with warnings")
    print(f"{len(bad):5} {'':5} have an error:")
    for what, count in lines.most_common():
        print(f"{len(files[what]):5} {count:5}   {what}")
    assert whole > 0.8 * len(filter_files())
