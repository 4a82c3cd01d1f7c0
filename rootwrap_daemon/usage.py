"""Parse a command line; one that makes no sense ends the program with exit code 64 (EX_USAGE of sysexits.h).

Promises: the programs of this package agree on `--help`, `--version` and that exit code; an option that does
not exist is answered with the closest one that does.
"""

import argparse
import difflib
import sys
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from rootwrap_daemon.errors import Usage


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that takes no abbreviations: a script with one breaks with the next option."""

    def __init__(self, prog: str, description: str, **options: Any) -> None:
        super().__init__(
            prog=prog,
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
            **options,
        )
        self.add_argument("--version", action=_Version, nargs=0, help="show the version, and end")

    def parse_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: None = None
    ) -> argparse.Namespace:
        found, rest = self.parse_known_args(args, namespace)
        if rest:
            options = [name for action in self._actions for name in action.option_strings]
            self.error(f"{rest[0]} is not known here{did_you_mean(rest[0].partition('=')[0], options)}")
        return found

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(Usage.exit_code, f"{self.prog}: {message}\n")


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib import metadata

        sys.stdout.write(f"{parser.prog.split()[0]} {metadata.version('rootwrap-daemon')}\n")
        parser.exit()


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`: did you mean X?` for the known word that is closest, or nothing."""
    close = difflib.get_close_matches(word, sorted(known), n=1)
    return f": did you mean {close[0]}?" if close else ""
