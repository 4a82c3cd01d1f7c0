"""Give the targets bytes that lead to code not yet reached: `make fuzz`.

With atheris (libFuzzer for Python) where it is installed, and clang's libFuzzer for the client in C; without
them, and for the real ip(8), seeds changed at random. Prints for each target the executions, what of its
modules was reached, and what failed; an input that failed is kept below build/fuzz/NAME, and belongs into
tests/proof/found/NAME, which the tests look at.
"""

import argparse
import importlib
import io
import random
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
#: What is no function in Python, but a module beside this one, imported late: atheris is blind for what is
#: imported before it takes over.
APART = ("native_client", "real_ip")
#: Bytes of an input.
LONGEST = 2048


def apart(name: str) -> Any:
    """Return the module of a target that is no function."""
    return importlib.import_module(f"tests.proof.{name}")


def mutated(source: random.Random, data: bytes) -> bytes:
    """The bytes with some of them changed, moved, left out or more."""
    changed = bytearray(data)
    for _ in range(1 + source.randrange(8)):
        at = source.randrange(len(changed) + 1)
        match source.randrange(5):
            case 0:
                changed[at : at + 1] = source.randbytes(1)
            case 1:
                del changed[at : at + 1 + source.randrange(4)]
            case 2:
                changed[at:at] = source.randbytes(1 + source.randrange(16))
            case 3:
                there = source.randrange(len(changed) + 1)
                changed[at:at] = changed[there : there + source.randrange(20)]
            case _:
                changed += source.randbytes(1 + source.randrange(40))
    return bytes(changed[:LONGEST])


def one(name: str, seconds: float, directory: Path) -> None:
    """Fuzz one target in this process; ends it."""
    if name in APART:
        raise SystemExit(apart(name).one(seconds, directory))
    try:
        import atheris  # type: ignore[import-not-found, import-untyped, unused-ignore]
    except ImportError:
        _without_guidance(name, seconds, directory)
        return
    with atheris.instrument_imports(include=["rootwrap_daemon"]):
        from tests.proof.targets import SEEDS, TARGETS
    corpus = directory / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(SEEDS[name]):
        (corpus / f"seed{number}").write_bytes(seed)
    words = [
        *(
            "fuzz",
            str(corpus),
            f"-max_total_time={int(seconds)}",
            "-print_final_stats=1",
            f"-max_len={LONGEST}",
        ),
        *(f"-artifact_prefix={directory}/", "-timeout=10", "-verbosity=1"),
    ]
    atheris.Setup(words, TARGETS[name][0])
    atheris.Fuzz()


def _without_guidance(name: str, seconds: float, directory: Path) -> None:
    from tests.proof.targets import SEEDS, TARGETS

    source = random.Random(time.time_ns())
    corpus = directory / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    count, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        data = mutated(source, source.choice(SEEDS[name]))
        try:
            TARGETS[name][0](data)
        except BaseException:
            (directory / "crash-random").write_bytes(data)
            raise
        if not count % 100:
            (corpus / f"random{count}").write_bytes(data)
        count += 1
    print(f"stat::number_of_executed_units: {count}", file=sys.stderr)


def replay(name: str, directory: Path) -> None:
    """Print what of a target's modules its corpus reaches: lines and branches; of C, lines."""
    if name in APART:
        print(f"{apart(name).reached(directory):.0f} %")
        return
    import coverage

    measured = coverage.Coverage(branch=True, source_pkgs=["rootwrap_daemon"], data_file=None)
    measured.start()
    from tests.proof.targets import TARGETS

    call, modules = TARGETS[name]
    for path in sorted((directory / "corpus").iterdir()):
        call(path.read_bytes())
    measured.stop()
    files = [str(ROOT / "rootwrap_daemon" / f"{module.replace('.', '/')}.py") for module in modules]
    print(f"{measured.report(include=files, file=io.StringIO()):.0f} %")


def fuzz(name: str, seconds: float) -> bool:
    """Fuzz one target in a process of its own, and print what came of it. False if it failed."""
    directory = ROOT / "build" / "fuzz" / name
    words = [sys.executable, "-m", "tests.proof.fuzz", "--seconds", str(seconds)]
    done = subprocess.run([*words, "--one", name], cwd=ROOT, capture_output=True, text=True, check=False)
    executions = re.search(r"number_of_executed_units:\s*(\d+)", done.stderr)
    reached = re.findall(r"cov: (\d+) ft: (\d+)", done.stderr)
    covered = subprocess.run(
        [*words, "--replay", name], cwd=ROOT, capture_output=True, text=True, check=False
    )
    failed = sorted(one.name for one in directory.iterdir() if one.is_file())
    print(
        f"{name:20} {executions[1] if executions else '?':>9} executions "
        f"{reached[-1][0] if reached else '-':>6} edges {covered.stdout.strip() or '?':>6} of its modules  "
        f"{'failed: ' + ' '.join(failed) if failed else 'held'}",
        flush=True,
    )
    if done.returncode:
        print((done.stdout + done.stderr).partition("Uncaught")[2].partition("==")[0] or done.stderr[-2000:])
    return not done.returncode and not failed


def main() -> int:
    """Fuzz all targets, or those named."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("targets", nargs="*")
    parser.add_argument("--seconds", type=float, default=60.0, help="for each target")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--replay", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        one(args.one, args.seconds, ROOT / "build" / "fuzz" / args.one)
        return 0
    if args.replay:
        replay(args.replay, ROOT / "build" / "fuzz" / args.replay)
        return 0
    from tests.proof.targets import TARGETS

    held = [fuzz(name, args.seconds) for name in args.targets or (*TARGETS, *APART)]
    return 0 if all(held) else 1


if __name__ == "__main__":
    raise SystemExit(main())
