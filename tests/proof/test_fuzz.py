"""Each target of `make fuzz` holds for what was found once and a little more, and sees what is broken."""

import random
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from rootwrap_daemon import plain_data
from rootwrap_daemon.analysis.sudoers import write
from rootwrap_daemon.daemon.record import audit, secrets
from rootwrap_daemon.daemon.serve import connection
from rootwrap_daemon.filters import argv, ruleset
from rootwrap_daemon.filters.read import filter_file, options
from rootwrap_daemon.protocol import codec, exchange, messages
from tests.proof.fuzz import APART, apart, mutated
from tests.proof.targets import SEEDS, TARGETS

ROOT = Path(__file__).parents[2]
FOUND = Path(__file__).parent / "found"
PAGE = ROOT / "doc/source/contributor/fuzzing.rst"
#: Inputs for each target; and within how many a breach is to be seen.
TIMES, PATIENCE = 150, 5000


@pytest.mark.parametrize("name", TARGETS)
def test_it_holds(name: str) -> None:
    call, modules = TARGETS[name]
    assert call.__doc__ and modules
    source = random.Random(f"fuzz {name}")
    call(b"")
    for seed in SEEDS[name]:
        call(seed)
    for _ in range(TIMES):
        call(mutated(source, source.choice(SEEDS[name])))


def test_nothing_is_imported_before_it_can_be_looked_at() -> None:
    """Else atheris is blind for it: its coverage is that of what it has instrumented."""
    words = "import sys, tests.proof.fuzz; print([one for one in sys.modules if one.startswith('rootwrap')])"
    done = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "[]\n"


def test_the_page_says_what_each_one_holds() -> None:
    page = " ".join(PAGE.read_text().split())
    holds = {name: call.__doc__ or "" for name, (call, _) in TARGETS.items()}
    holds |= {name: apart(name).HOLDS for name in APART}
    for name, sentence in holds.items():
        assert f"* - ``{name}`` - {sentence} -" in page
    assert page.count(" * - ``") == len(holds)


FILES = sorted(FOUND.glob("*/*"))


@pytest.mark.parametrize("path", FILES, ids=[f"{path.parent.name}-{path.name}" for path in FILES])
def test_what_was_found_once(path: Path) -> None:
    TARGETS[path.parent.name][0](path.read_bytes())


_read, _read_option, _match = filter_file.read, options.read, argv.Pattern.match


def _all_that_was_parsed(text: str, file: str) -> filter_file.FilterFile:
    found = _read(text, file)
    return replace(found, filters=found.parsed)


def _whatever_it_says(before, entry, kind, warn):  # type: ignore[no-untyped-def]
    try:
        return _read_option(before, entry, kind, warn)
    except Exception:
        return before


#: Target -> what is broken for it.
BREACHES: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "frames": lambda patch: patch.setattr(codec, "_READERS", {}),
    "fields_of_messages": lambda patch: patch.setattr(messages.Run, "CHECKED", False),
    "exchange": lambda patch: patch.setitem(
        exchange.CLIENT_SAYS, (exchange.State.RUNNING, messages.Run), exchange.State.RUNNING
    ),
    "both_sides": lambda patch: patch.setitem(exchange._LATE, exchange.State.RUNNING, (0, 0)),
    "filter_text": lambda patch: patch.setattr(filter_file, "read", _all_that_was_parsed),
    "filter_options": lambda patch: patch.setattr(options, "read", _whatever_it_says),
    "argv_syntax": lambda patch: patch.setattr(
        argv.Pattern, "match", lambda self, words: _match(self, words) or _match(self, words[:-1])
    ),
    "decide": lambda patch: patch.setattr(ruleset, "_refusal", lambda options, request: None),
    "environment": lambda patch: patch.setattr(ruleset, "_refusal", lambda options, request: None),
    "handed_over": lambda patch: patch.setattr(plain_data, "_checked", lambda data, right: data),
    "descriptors": lambda patch: patch.setattr(connection.Connection, "_check_descriptors", lambda *_: None),
    "audit_lines": lambda patch: patch.setattr(secrets, "mask_words", lambda argv, room, hidden: list(argv)),
    "audit_losses": lambda patch: patch.setattr(audit.Audit, "_write_kept", lambda self: self._kept.clear()),
    "sudoers": lambda patch: patch.setattr(write, "_STAR", "[A-Z]+"),
}


@pytest.mark.parametrize("name", TARGETS)
def test_a_breach_is_seen(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    BREACHES[name](monkeypatch)
    source = random.Random(f"breach {name}")
    with pytest.raises(Exception):  # noqa: B017, PT011 - an assertion, or what the breach leads to
        for _ in range(PATIENCE):
            TARGETS[name][0](mutated(source, source.choice((*SEEDS[name], source.randbytes(300)))))
