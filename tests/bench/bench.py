"""Measure requests beside a local subprocess.run, C, and peers, in one run; ratios, for machines drift.

Run it with `make bench`. All ways of a table take turns in an order that is shuffled anew each round. What is
not installed is left out with a word. Ratios are to subprocess.run(["true"]), which is what an agent without
any barrier would do; `spawn` in C is the least that running a program costs, `floor` what is left of a
request behind our client when a daemon judges, records and limits nothing.
"""

import argparse
import contextlib
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from rootwrap_daemon.client import Client
from tests.bench import ways
from tests.bench.report import Table, as_json, as_svg
from tests.bench.ways import Absent, Call, local, our_daemon

MIB: Final = 1024 * 1024
C_SPAWN: Final = "spawn in C"
HUB: Final = Path(__file__).with_name("hub.py")

#: Programs that are all true(1), and what the filter of each adds. Without root the first alone.
KINDS: Final = {"plain": "root", "nobody": "nobody", "caps": "root", "limits": "root"}
FILTERS: Final = """\
[caps]
capabilities = CAP_NET_ADMIN
[limits]
limits = nofile=256, nproc=4096
"""


def interleave(table: Table, calls: dict[str, Call], rounds: int) -> None:
    """Milliseconds of single calls, in a new order each round."""
    spent: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        for _ in range(10):
            call()
    names = list(calls)
    for _ in range(rounds):
        random.shuffle(names)
        for name in names:
            start = time.perf_counter()
            own = calls[name]()
            seconds = own if isinstance(own, float) else time.perf_counter() - start
            spent[name].append(seconds * 1000)
    for name, values in spent.items():
        table.add(name, values, f"p99 {statistics.quantiles(values, n=100)[98]:.2f}")


def peers(directory: Path, stack: ExitStack) -> tuple[dict[str, Call], dict[str, str]]:
    """Those that are here; and of the others, why they are not."""
    found: dict[str, Call] = {}
    missing: dict[str, str] = {}
    for name, way in {
        C_SPAWN: ways.c_spawn,
        "floor in C": ways.floor,
        "oslo.rootwrap": ways.oslo_rootwrap,
        "oslo.privsep": ways.oslo_privsep,
        "sudo": ways.sudo,
    }.items():
        try:
            found[name] = stack.enter_context(way(directory))
        except Absent as absent:
            missing[name] = str(absent)
    return found, missing


def programs(directory: Path) -> dict[str, list[str]]:
    """A program for each kind of filter, and the filters."""
    root = os.geteuid() == 0
    lines, found = ["[Filters]\n"], {}
    for kind, user in KINDS.items():
        if root or kind == "plain":
            program = directory / f"true-{kind}"
            program.write_bytes(Path("/usr/bin/true").read_bytes())
            program.chmod(0o755)
            lines.append(f"{kind}: CommandFilter, {program}, {user}\n")
            found[kind] = [str(program)]
    lines.append("head: CommandFilter, head, root\n")
    filters = directory / "filters.d"
    filters.mkdir(mode=0o755)
    (filters / "bench.filters").write_text("".join(lines) + (FILTERS if root else ""))
    (filters / "bench.filters").chmod(0o644)
    return found


def one_after_the_other(
    client: Client, argvs: dict[str, list[str]], others: dict[str, Call], rounds: int
) -> Table:
    table = Table("One call after the other", "ms", less=True)
    plain = argvs["plain"]
    calls: dict[str, Call] = {
        "subprocess.run": local,
        "run, own identity": lambda: client.run(plain),
        'run, capture="pipe"': lambda: client.run(plain, capture="pipe"),
        "check": lambda: client.allows(plain),
    }
    for kind, name in {
        "nobody": "run, as nobody",
        "caps": "run, with capabilities",
        "limits": "run, with limits",
    }.items():
        if kind in argvs:
            calls[name] = lambda argv=argvs[kind]: client.run(argv)  # type: ignore[misc]
        else:
            table.absent[name] = "needs root"
    interleave(table, calls | others, rounds)
    return table


def side_by_side(
    client: Client, argvs: dict[str, list[str]], others: dict[str, Call], directory: Path, options: Any
) -> Table:
    """`options`: `callers` at once, `turns` of so many `seconds` each."""
    table = Table(f"{options.callers} callers", "calls/s", less=False)
    calls: dict[str, Call] = {"subprocess.run": local}
    for kind, argv in argvs.items():
        calls[f"run, {kind}"] = lambda argv=argv: client.run(argv)  # type: ignore[misc]
    calls |= others
    rates: dict[str, list[float]] = {name: [] for name in calls}
    names = list(calls)
    for _ in range(options.turns):
        random.shuffle(names)
        for name in names:
            if name == C_SPAWN:
                rates[name].append(ways.c_rate(directory, options.callers, options.seconds))
            else:
                rates[name].append(ways.rate(calls[name], options.callers, options.seconds))
    for name, values in rates.items():
        table.add(name, values)
    return table


def memory(pid: int, name: str) -> int:
    """KiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition(f"{name}:")[2].split()[0])


def large(client: Client, path: Path, rounds: int) -> Table:
    """100 MiB of output, and what the daemon's memory grows by."""
    table = Table("100 MiB of output", "s", less=True)
    make = ["head", "-c", str(100 * MIB), "/dev/zero"]
    calls: dict[str, Call] = {
        "subprocess.run": lambda: subprocess.run(make, capture_output=True, check=True),
        "captured": lambda: client.run(make),
        "passed": lambda: client.run(make, capture="pipe"),
    }
    pid = ways.pid_of(path)
    spent: dict[str, list[float]] = {name: [] for name in calls}
    grown = dict.fromkeys(calls, 0)
    names = list(calls)
    for _ in range(rounds):
        random.shuffle(names)
        for name in names:
            Path(f"/proc/{pid}/clear_refs").write_text("5")
            before = memory(pid, "VmRSS")
            start = time.perf_counter()
            calls[name]()
            spent[name].append(time.perf_counter() - start)
            grown[name] = max(grown[name], memory(pid, "VmHWM") - before)
    for name, values in spent.items():
        table.add(name, values, "" if name == "subprocess.run" else f"daemon + {grown[name] / 1024:.0f} MiB")
    return table


def many_filters(directory: Path, rounds: int) -> Table:
    """The same call under 10 filters and under 10,000."""
    table = Table("Filters of the policy", "ms", less=True)
    with ExitStack() as stack:
        calls: dict[str, Call] = {}
        for count in (10, 10_000):
            place = directory / f"filters-{count}"
            place.mkdir(mode=0o755)
            filters = place / "filters.d"
            filters.mkdir(mode=0o755)
            lines = [f"f{number}: CommandFilter, program-{number}, root\n" for number in range(count - 1)]
            (filters / "many.filters").write_text(
                "".join(["[Filters]\n", *lines, f"true: CommandFilter, {ways.TRUE[0]}, root\n"])
            )
            client = stack.enter_context(our_daemon(place, filters, "on_finding = skip\n"))
            calls[f"{count:,}"] = lambda client=client: client.run(ways.TRUE)  # type: ignore[misc]
        interleave(table, calls, rounds)
    return table


def stalls(path: Path) -> Table:
    """100 greenthreads that each run `sleep 0.2`: how long the hub stands still at most."""
    table = Table("Largest stall of an eventlet hub, 100 x sleep 0.2", "ms", less=True)
    for way in ("subprocess", "patched", "green"):
        values, totals = [], []
        for _ in range(3):
            command = [sys.executable, str(HUB), way, str(path)]
            report = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
            values.append(report["stall"] * 1000)
            totals.append(report["total"])
        table.add(way, values, f"all done after {statistics.median(totals):.2f} s")
    return table


def machine() -> dict[str, str]:
    model = Path("/proc/cpuinfo").read_text().partition("model name")[2].partition("\n")[0].lstrip("\t :")
    return {
        "processor": f"{os.cpu_count()} x {model or platform.machine()}",
        "kernel": f"Linux {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
    }


def main() -> None:
    """Print the tables; write JSON and SVG where that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=500, help="single calls of each way")
    parser.add_argument("--callers", type=int, default=16)
    parser.add_argument("--turns", type=int, default=5, help="turns of each way with several callers")
    parser.add_argument("--seconds", type=float, default=1.0, help="length of such a turn")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--svg", type=Path, help="write a plot of the ratios to this file")
    arguments = parser.parse_args()
    tables = []
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rootwrap-bench-")))
        directory.chmod(0o755)
        argvs = programs(directory)
        limits = f"max_output = {200 * MIB}\nmax_buffered = {1024 * MIB}\n"
        client = stack.enter_context(our_daemon(directory, directory / "filters.d", limits))

        def show(table: Table, **missing: str) -> None:
            table.absent.update(missing)
            print(table.text(), flush=True)
            tables.append(table)

        others, missing = peers(directory, stack)
        show(one_after_the_other(client, argvs, others, arguments.rounds), **missing)
        show(side_by_side(client, argvs, others, directory, arguments))
        show(large(client, directory / "socket", max(3, arguments.rounds // 100)))
        if os.geteuid() == 0:
            show(many_filters(directory, arguments.rounds))
        stall_daemon = directory / "stall"
        stall_daemon.mkdir(mode=0o755)
        (stall_daemon / "filters.d").mkdir(mode=0o755)
        (stall_daemon / "filters.d" / "f.filters").write_text(
            "[Filters]\ntrue: CommandFilter, true, root\nsleep: CommandFilter, sleep, root\n"
        )
        stack.enter_context(our_daemon(stall_daemon, stall_daemon / "filters.d"))
        show(stalls(stall_daemon / "socket"))
    figures = as_json(machine(), tables)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")
    if arguments.svg:
        arguments.svg.write_text(as_svg(machine(), tables))


if __name__ == "__main__":
    main()
