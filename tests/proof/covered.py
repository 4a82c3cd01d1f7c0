"""List what no test executes of the privileged code: `make coverage`, as root.

The daemon starts isolated, executes itself with an environment built from nothing, and so takes no variable
of coverage.py's. A virtual environment of this module's own has a .pth file which starts the measurement in
every interpreter; the program is not touched. What ends by SIGKILL tells nothing. Four tests fail under it,
which judge what an interpreter loads, which limits it has and which configuration it reads.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import threading
from pathlib import Path
from typing import Final

from coverage import Coverage

ROOT: Final = Path(__file__).parents[2]
#: Packages that run with privilege.
PACKAGES: Final = ("daemon", "filters", "policy", "protocol")
TESTS: Final = ("tests/unit", "tests/functional", "tests/security", "tests/proof/test_injected.py")
_WORKERS: Final = ("-n", "3")
#: Percent of lines and of branches.
LINES, BRANCHES = 97.0, 93.0
DATA: Final = ROOT / "build" / "coverage"

_CONFIG: Final = """\
[run]
branch = true
parallel = true
patch = _exit, fork
data_file = {data}/data
source = {source}
disable_warnings = no-data-collected, module-not-imported, couldnt-parse, already-imported

[report]
exclude_also =
    if TYPE_CHECKING:
    assert_never\\(
"""
#: Neither a variable nor a word of the program's own is changed.
_START: Final = """\
import _thread, os, sys, threading
from coverage import Coverage

measured = Coverage(config_file={config!r}, data_suffix=True, auto_data=True)


def saved(call):
    def first(*words):
        measured.save()
        call(*words)

    return first


def in_thread(function, words, start=_thread.start_new_thread):
    def traced(*words):
        # coverage.py knows the threads of `threading` alone.
        sys.settrace(threading.gettrace())
        function(*words)

    return start(traced, words)


os.execv, os.execve = saved(os.execv), saved(os.execve)
_thread.start_new_thread = in_thread
measured.start()
"""


def prepare() -> None:
    """Measure each interpreter of this virtual environment from now on."""
    shutil.rmtree(DATA, ignore_errors=True)
    DATA.mkdir(parents=True)
    # Daemons of other users write there, too.
    DATA.chmod(0o1777)
    config = DATA / "config"
    source = ", ".join(str(ROOT / "rootwrap_daemon" / one) for one in PACKAGES)
    config.write_text(_CONFIG.format(data=DATA, source=source))
    site = Path(sysconfig.get_path("purelib"))
    (site / "measured.py").write_text(_START.format(config=str(config)))
    (site / "measured.pth").write_text("import measured\n")


#: In an interpreter that is measured.
_TRACE = threading.gettrace()


def pytest_runtest_setup() -> None:
    """Go on behind a test with a trace function of its own; a hook of pytest."""
    if sys.gettrace() is None:
        sys.settrace(_TRACE)


def main() -> int:
    """Run the tests and report. 0 if enough is covered."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="Other words are pytest's.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--report", action="store_true", help="of what was measured before")
    parser.add_argument("--more", action="store_true", help="add to what was measured before")
    args, words = parser.parse_known_args()
    os.chdir(ROOT)
    if not args.report:
        if not args.more:
            prepare()
        environ = {**os.environ, "DAEMONS_END_BY": "SIGTERM"}
        words = words or [*_WORKERS, *TESTS]
        command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.proof.covered", *words]
        subprocess.run(command, check=False, env=environ)
    coverage = Coverage(config_file=str(DATA / "config"))
    coverage.combine([str(DATA)], keep=True)
    coverage.report(show_missing=True, skip_covered=True)
    coverage.json_report(outfile=str(DATA / "report.json"))
    totals = json.loads((DATA / "report.json").read_text())["totals"]
    line = 100 * totals["covered_lines"] / totals["num_statements"]
    branch = 100 * totals["covered_branches"] / totals["num_branches"]
    print(f"lines: {line:.1f} % of {totals['num_statements']}")
    print(f"branches: {branch:.1f} % of {totals['num_branches']}")
    return 0 if line >= LINES and branch >= BRANCHES else 1


if __name__ == "__main__":
    raise SystemExit(main())
