"""Compare the time of answers about names that are there, in a directory of root's alone, and that are not.

Each kind that takes a path is asked for both, in a random order; figures are microseconds of one judgement.
What differs by less than one distribution is wide tells nobody anything through a socket.
"""

import argparse
import random
import statistics
import tempfile
import time
from pathlib import Path

from rootwrap_daemon.filters.values import Request
from rootwrap_daemon.policy.policy import Allowed, judge
from tests.unit.policy.things import policy

#: Kind -> definition and words; {base} is beside {private}, in which {name} is there or not.
CASES = {
    "PathFilter": ("a: PathFilter, cat, root, {base}", "cat {private}/{name}"),
    "PathFilter, up": ("a: PathFilter, cat, root, {base}", "cat {base}/../private/{name}"),
    "{path}": ("a: ArgvFilter, cat, root, {{path={base}}}", "cat {private}/{name}"),
    "RegExpFilter": ("a: RegExpFilter, cat, root, cat, .*", "cat {private}/{name}"),
    "RegExpFilter, unknown program": ("a: RegExpFilter, true, root, true, .*", "true {private}/{name}"),
    "ReadFileFilter": ("a: ReadFileFilter, {base}/file", "cat {private}/{name}"),
    "EnvFilter": ("a: EnvFilter, env, root, A=, cat, .*", "env A=1 cat {private}/{name}"),
    "program": ("a: CommandFilter, cat, root", "{private}/{name}"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--answers", type=int, default=10_000, help="of each kind, for each of the two names")
    answers = parser.parse_args().answers
    print(f"{'kind':32} {'there: median':>14} {'p90':>7} {'missing: median':>16} {'p90':>7}  same answer")
    with tempfile.TemporaryDirectory() as directory:
        top = Path(directory)
        top.chmod(0o755)
        base, private = top / "base", top / "private"
        base.mkdir()
        private.mkdir(mode=0o700)
        for path in (base / "file", private / "there"):
            path.write_text("")
        names = {"base": base, "private": private}
        for kind, (line, words) in CASES.items():
            found = policy(top, line.format(**names))
            requests = {
                name: Request(tuple(words.format(**names, name=name).split())) for name in ("there", "gone0")
            }
            order = [*requests] * answers
            random.shuffle(order)
            times: dict[str, list[float]] = {name: [] for name in requests}
            verdicts: dict[str, set[str]] = {name: set() for name in requests}
            for name in order:
                start = time.perf_counter_ns()
                judged = judge(found, requests[name])
                times[name].append((time.perf_counter_ns() - start) / 1000)
                verdicts[name].add("allowed" if isinstance(judged, Allowed) else judged.error.__name__)
                if isinstance(judged, Allowed):
                    judged.bound.close()
            figures = []
            for name in requests:
                cuts = statistics.quantiles(times[name], n=10)
                figures += [f"{cuts[4]:.1f}", f"{cuts[8]:.1f}"]
            same = verdicts["there"] == verdicts["gone0"]
            print(f"{kind:32} {figures[0]:>14} {figures[1]:>7} {figures[2]:>16} {figures[3]:>7}  {same}")


if __name__ == "__main__":
    main()
