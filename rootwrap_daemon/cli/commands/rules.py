"""Show the rules that `check` judges by, with examples of each."""

import argparse
from typing import Final

from rootwrap_daemon.errors import Usage
from rootwrap_daemon.lint.check import known_rules
from rootwrap_daemon.lint.output import manual

EPILOG: Final = "example:\n  rootwrapctl rules RW301"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("id", metavar="ID", nargs="?", help="one rule, e.g. RW301; default: all, a line each")
    parser.add_argument("--rst", action="store_true", help="all of them as the reference page of the manual")


def run(args: argparse.Namespace) -> int:
    rules = known_rules()
    if args.rst:
        print(manual.page(rules.values()), end="")
    elif args.id is None:
        for rule in rules.values():
            print(f"{rule.id}  {rule.severity.value:7}  {rule.title}")
    elif args.id.upper() in rules:
        print(manual.text(rules[args.id.upper()]), end="")
    else:
        raise Usage(f"there is no rule {args.id}: `rootwrapctl rules` lists them")
    return 0
