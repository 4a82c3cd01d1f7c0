"""python -m examples.netns_agent --config wanted.yaml --socket /run/rootwrap-daemon.sock

Started as root it needs --user, and is that user before it connects to anything.
"""

import argparse
import contextlib
import json
import os
import sys
from pathlib import Path
from typing import IO

from oslo_config import cfg
from oslo_log import log

from rootwrap_daemon.client.green import Client

from . import privileges
from .service import Service
from .stall import StallWatch
from .wanted import WantedError, load

LOG = log.getLogger("examples.netns_agent")


def main() -> int:
    """Run the service. Returns the exit code."""
    options = _options()
    _log_to_stderr()
    # All that needs the files of a private directory is done now: after the drop they are out of reach.
    config, socket = options.config.resolve(), options.socket.resolve()
    watch = StallWatch()
    with contextlib.ExitStack() as stack:
        report = stack.enter_context(options.report.open("w")) if options.report else None
        os.chdir("/")
        if os.geteuid() == 0:
            if options.user is None:
                sys.exit("netns_agent: as root, say with --user UID:GID whom to become")
            privileges.drop(*options.user)
        try:
            wanted = load(config)
        except WantedError as error:
            sys.exit(f"netns_agent: {error}")
        LOG.info("Running as uid %d with what %s wants", os.getuid(), config)
        with Client(str(socket)) as client:
            Service(client, config, wanted, options.interval).run()
        _tell(watch, report)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m examples.netns_agent", description="Keeps network namespaces as a file wants them."
    )
    parser.add_argument("--config", type=Path, required=True, help="the YAML file of what is wanted")
    parser.add_argument("--socket", type=Path, required=True, help="where rootwrap-daemon listens")
    parser.add_argument("--interval", type=float, default=5.0, help="seconds between two looks (5)")
    parser.add_argument("--user", type=_user, metavar="UID:GID", help="whom to become, when started as root")
    parser.add_argument(
        "--report", type=Path, help="a file for the largest stall of the hub, as JSON, at the end"
    )
    return parser.parse_args()


def _user(text: str) -> tuple[int, int]:
    uid, separator, gid = text.partition(":")
    if not (separator and uid.isdecimal() and gid.isdecimal()):
        raise argparse.ArgumentTypeError("write two numbers, UID:GID")
    return int(uid), int(gid)


def _log_to_stderr() -> None:
    conf = cfg.ConfigOpts()
    log.register_options(conf)
    conf([], project="netns_agent", default_config_files=[], default_config_dirs=[])
    # There is one native thread and nothing is monkey-patched: the locks of logging need no fixing.
    log.setup(conf, "netns_agent", fix_eventlet=False)


def _tell(watch: StallWatch, report: IO[str] | None) -> None:
    milliseconds = round(1000 * watch.largest, 1)
    LOG.info("Stopped; the hub's largest stall was %s ms", milliseconds)
    if report is not None:
        json.dump({"largest_stall_ms": milliseconds}, report)


if __name__ == "__main__":
    sys.exit(main())
