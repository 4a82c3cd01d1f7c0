"""No command line and no daemon does the native `rootwrap-exec` harm; what would is seen."""

import os
import random
import shutil
from pathlib import Path

import pytest

from tests.proof.native_client import HARNESS, NATIVE, SANITIZED, SEEDS, ask, at_random, build, reached

TIMES = 20000


@pytest.fixture(autouse=True)
def _compiler() -> None:
    if shutil.which("cc"):
        return
    if os.environ.get("REQUIRE_NATIVE") == "1":
        pytest.fail("there is no C compiler, and REQUIRE_NATIVE=1", pytrace=False)
    pytest.skip("there is no C compiler")


def _inputs() -> list[bytes]:
    source = random.Random("native client")
    return [*SEEDS, *(at_random(source) for _ in range(TIMES))]


def test_it_holds(tmp_path: Path) -> None:
    """Under the address and undefined behaviour sanitizers: options, frames cut, changed and out of turn."""
    build(tmp_path / "alone", *SANITIZED, "-DALONE")
    inputs = _inputs()
    held, said = ask(tmp_path / "alone", inputs)
    assert held == len(inputs), (inputs[held], said)


@pytest.mark.parametrize(
    ("file", "text", "instead"),
    [
        ("msgpack.c", "reader->end - reader->at < width", "0"),
        ("msgpack.c", "reader->broken || size > (uint64_t)(reader->end - reader->at)", "0"),
        ("connection.c", "in->size < 4 + size", "0"),
        ("say.c", "(unsigned char)line[i] < ' ' || line[i] == 0x7f", "0"),
        ("main.c", "if (!daemon_side.greeted) {\n        if (type", "if (type == HELLO) {\n        if (type"),
        ("options.c", "options->variables == MAX_ENV", "0"),
    ],
)
def test_a_fault_is_seen(tmp_path: Path, file: str, text: str, instead: str) -> None:
    shutil.copytree(NATIVE / "exec", tmp_path / "native" / "exec")
    harness = tmp_path / "tests" / "proof" / "native" / HARNESS.name
    harness.parent.mkdir(parents=True)
    shutil.copy(HARNESS, harness)
    broken = tmp_path / "native" / "exec" / file
    whole = broken.read_text()
    assert whole.count(text) == 1
    broken.write_text(whole.replace(text, instead))
    build(tmp_path / "alone", *SANITIZED, "-DALONE", harness=harness)
    inputs = _inputs()
    held, said = ask(tmp_path / "alone", inputs)
    assert held < len(inputs)
    assert "ERROR: AddressSanitizer" in said or "runtime error" in said


def test_what_the_seeds_reach(tmp_path: Path) -> None:
    """So much that a fuzzer does not look for the first words by itself."""
    (tmp_path / "corpus").mkdir()
    for number, seed in enumerate(SEEDS):
        (tmp_path / "corpus" / str(number)).write_bytes(seed)
    assert reached(tmp_path) > 70
