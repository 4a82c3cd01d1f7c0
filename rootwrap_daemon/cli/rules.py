"""Show the rules that `check` judges by, with examples of each."""

import argparse

from rootwrap_daemon.errors import InternalError

_EPILOG = "example:\n  rootwrapctl rules RW301"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.epilog = _EPILOG
    parser.add_argument("id", metavar="ID", nargs="?", help="one rule, e.g. RW301; default: all")


def run(args: argparse.Namespace) -> int:
    raise InternalError(f"no rule {args.id} yet")
