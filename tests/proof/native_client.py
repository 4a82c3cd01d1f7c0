"""Build native/exec for a fuzzer, give it inputs, and say how much of it they reach.

`tests/proof/native/client.c` says what an input is and what must hold. clang has libFuzzer; any C compiler
has what runs inputs that others have made, with the sanitizers or with gcov(1).
"""

import random
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from rootwrap_daemon.protocol.codec import HEADER, encode
from rootwrap_daemon.protocol.messages import (
    VERSION,
    Answer,
    Failure,
    Hello,
    Report,
    Result,
    Started,
    Verdict,
)

HOLDS: Final = "Whatever its words and its daemon, rootwrap-exec ends with its own code or the command's."
NATIVE: Final = Path(__file__).parents[2] / "native"
HARNESS: Final = Path(__file__).parent / "native" / "client.c"
_FLAGS: Final = ("-std=c17", "-g", "-Wall", "-Wextra", "-Werror")
SANITIZED: Final = ("-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
#: Nothing is given back before a run is over by longjmp(3); and memory that was freed is kept for a while.
ENVIRONMENT: Final = {"ASAN_OPTIONS": "detect_leaks=0:handle_abort=1:quarantine_size_mb=8"}
#: Bytes of an input, and inputs that a program without libFuzzer is given at once.
LONGEST, AT_ONCE = 2048, 2000


_HELLO: Final = Hello(VERSION, 1 << 20, 5000)
_STARTED: Final = Started("r-1", 77, 0xFFFF)
ANSWERS: Final[tuple[Answer, ...]] = (
    Result("r-1", 0, b"out", b"err"),
    Result("r-1", -9, b"", b""),
    Result("r-1", 3, b"", b"", "stopping"),
    Failure("r-1", "denied", "no"),
    Failure("r-1", "environment_denied", "variables: A"),
    Failure("r-1", "executable_not_found", "x"),
    _STARTED,
    Verdict("r-1", True, "f"),
    Verdict("r-1", False, ""),
    Report("r-1", b"{}"),
)
LINES: Final = (
    *(b"true", b"--timeout\n3\n-n\n--\ntrue\na", b"--env\nA=b\n--user\nroot\n--socket=/x\ntrue", b"--help"),
    *(b"-u\nnobody\n-E\nA=b\n--\ntrue", b"--preserve-env=PATH,HOME\n-T\n3\ntrue", b"-k", b"-nA\n-g\nx\nid"),
    *(b"--version", b"-V", b"-s", b"A=\n", b"--env=A=\n"),
)


def _made(how: Sequence[int], line: bytes, said: bytes) -> bytes:
    return bytes(how) + len(line).to_bytes(2) + line + said


def _said(*answers: Answer) -> bytes:
    return b"".join(encode(one) for one in answers)


#: Each kind of answer, streams of each kind with pipes that hold something, and each command line.
SEEDS: Final = [
    *(_made((how, 0, 0, 0), b"true", _said(_HELLO, one)) for how in range(4) for one in ANSWERS),
    *(
        _made((held << 2, streams, 0, 0), b"true", _said(_HELLO, _STARTED, ANSWERS[0]))
        for held in range(4)
        for streams in (0b010100, 0b101010, 0b111111, 0b000001)
    ),
    *(_made((how, 0, 7, 15), line, _said(_HELLO, _STARTED, ANSWERS[1])) for how in (0, 1) for line in LINES),
    _made((0, 0, 0, 0), b"true", b""),
]


def at_random(source: random.Random) -> bytes:
    """An input of whole frames, most of which have the size that their heads say, whatever is in them."""
    # Here, because it is what runs this module.
    from tests.proof.fuzz import mutated

    line, said = source.choice(LINES), b""
    if not source.randrange(4):
        line = mutated(source, line) * source.choice((1, 1, 1, 70))
    hello = (_HELLO,) if source.randrange(9) else ()
    for answer in (*hello, *(source.choice(ANSWERS) for _ in range(source.randrange(4)))):
        body = encode(answer)[HEADER.size :]
        for _ in range(not source.randrange(3)):
            body = mutated(source, body)
        head = HEADER.pack(len(body)) if source.randrange(9) else source.randbytes(HEADER.size)
        said += head + body
    return _made(source.randbytes(4), line, said)


def build(program: Path, *flags: str, compiler: str = "cc", harness: Path = HARNESS) -> None:
    """Raises CalledProcessError if it cannot be built."""
    program.parent.mkdir(parents=True, exist_ok=True)
    words = [compiler, *_FLAGS, *flags, "-o", str(program), str(harness)]
    subprocess.run(words, check=True, cwd=program.parent)


def ask(program: Path, inputs: Iterable[bytes]) -> tuple[int, str]:
    """How many of the inputs held, up to the first that did not; and what was said of that one."""
    sized = b"".join(len(one).to_bytes(2) + one for one in inputs)
    done = subprocess.run([program], input=sized, capture_output=True, check=False, env=ENVIRONMENT)
    return len(done.stdout), done.stderr.decode("utf-8", "replace")


def one(seconds: float, directory: Path) -> int:
    """Fuzz for so long. Returns an exit code; what failed lies in the directory."""
    corpus = directory / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(SEEDS):
        (corpus / f"seed{number}").write_bytes(seed)
    program = directory / "bin" / "native_client"
    if shutil.which("clang"):
        build(program, *SANITIZED, "-fsanitize=fuzzer", compiler="clang")
        bounds = (f"-max_total_time={int(seconds)}", f"-max_len={LONGEST}", "-timeout=10", "-close_fd_mask=3")
        words = [*bounds, "-print_final_stats=1", f"-artifact_prefix={directory}/", str(corpus)]
        return subprocess.run([program, *words], env=ENVIRONMENT, check=False).returncode
    build(program, *SANITIZED, "-DALONE")
    source, count, end = random.Random(time.time_ns()), 0, time.monotonic() + seconds
    while time.monotonic() < end:
        inputs = [at_random(source) for _ in range(AT_ONCE)]
        held, said = ask(program, inputs)
        count += held
        if held < len(inputs):
            (directory / "crash-random").write_bytes(inputs[held])
            print(said, file=sys.stderr)
            return 1
    print(f"stat::number_of_executed_units: {count}", file=sys.stderr)
    return 0


def reached(directory: Path) -> float:
    """Percent of the lines of native/exec that the corpus reaches, by gcov(1)."""
    program = directory / "bin" / "counted"
    build(program, "-O0", "--coverage", "-DALONE")
    held, said = ask(program, [path.read_bytes() for path in sorted((directory / "corpus").iterdir())])
    assert held, said
    words = ["gcov", "--no-output", f"{program.name}-{HARNESS.stem}.gcda"]
    report = subprocess.run(words, cwd=program.parent, capture_output=True, text=True, check=True).stdout
    files = re.findall(
        r"^File '.*/native/exec/.*\.c'\nLines executed:([\d.]+)% of (\d+)", report, re.MULTILINE
    )
    return sum(float(percent) * int(lines) for percent, lines in files) / sum(
        int(lines) for _, lines in files
    )
