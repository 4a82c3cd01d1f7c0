"""Judge filter files: what is wrong, why it matters, what to write instead."""

import argparse

from rootwrap_daemon.errors import InternalError

_EPILOG = "example:\n  rootwrapctl check --strict /etc/neutron/rootwrap.d"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.epilog = _EPILOG
    parser.add_argument("path", metavar="PATH", nargs="*", help="filter files, or directories of them")


def run(args: argparse.Namespace) -> int:
    raise InternalError(f"cannot judge {args.path} yet")
