"""The demo, with its audit log kept, and with other filters if some are given.

Usage: recorded_demo.py AUDIT [FILTERS]: where to put the log; a file that takes the place of all filters.
"""

import shutil
import sys
from pathlib import Path
from subprocess import Popen

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from examples.demo import demo
from examples.demo.stage import Stage


def main() -> int:
    audit, *filters = sys.argv[1:]
    start = Stage.start_daemon

    def start_daemon(stage: Stage) -> "Popen[bytes]":
        if filters:
            for file in stage.filters.iterdir():
                file.unlink()
            shutil.copyfile(filters[0], stage.filters / "proposed.filters")
        # Undone in the opposite order: once the daemon has stopped, before its directory goes.
        stage._stack.callback(shutil.copyfile, stage.directory / "audit.jsonl", audit)
        return start(stage)

    setattr(Stage, "start_daemon", start_daemon)  # noqa: B010  # a plain assignment is an error to mypy
    return demo.main()


if __name__ == "__main__":
    sys.exit(main())
