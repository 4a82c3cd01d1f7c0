"""List, show or copy ready filters for the usual jobs, with one's own names and paths filled in.

Promises: what it writes loads; no file is replaced.
"""

import argparse
import os
import re
import sys
from dataclasses import dataclass
from typing import Final

from rootwrap_daemon.analysis import told
from rootwrap_daemon.cli import arguments, data_files
from rootwrap_daemon.cli.tables import table
from rootwrap_daemon.errors import ConfigurationError, Usage
from rootwrap_daemon.filters.finding import Severity
from rootwrap_daemon.filters.read import filter_file
from rootwrap_daemon.usage import did_you_mean

EPILOG: Final = """\
example:
  rootwrapctl recipe
  rootwrapctl recipe units UNITS='nginx.service|haproxy.service'
  rootwrapctl recipe restic TREE=/srv --output /etc/rootwrap-daemon/backup.filters.d/restic.filters"""
_FOLDER: Final = "rootwrap-daemon/recipes"
#: How a recipe says what may be filled in, and with what it comes.
_VALUE: Final = re.compile(r"# ([A-Z_]+)=(\S+): (.+)")
#: Names and paths, or a choice of them; nothing that means something in a filter or in YAML.
_GOOD: Final = re.compile(r"[A-Za-z0-9/_][A-Za-z0-9/_@.:+-]*(\|[A-Za-z0-9/_][A-Za-z0-9/_@.:+-]*)*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Recipe:
    """A filter file and its policy tests. `values`: what may be filled in, with what stands there now."""

    name: str
    text: str
    tests: str

    @property
    def purpose(self) -> str:
        """Its first line."""
        return self.text.partition("\n")[0].removeprefix("# ")

    @property
    def values(self) -> dict[str, str]:
        found = (_VALUE.fullmatch(line) for line in self.text.splitlines())
        return {match[1]: match[2] for match in found if match}

    def filled(self, given: dict[str, str]) -> "Recipe":
        """The recipe with other values. Raises Usage."""
        text, tests = self.text, self.tests
        for name, value in given.items():
            if name not in self.values:
                raise Usage(f"{self.name} has no value {name}{did_you_mean(name, self.values)}")
            if not _GOOD.fullmatch(value):
                raise Usage(f"{name}={value}: write names or paths, with | between those of a choice")
            old, new = self.values[name].split("|"), value.split("|")
            if len(old) == 1 and len(new) > 1:
                raise Usage(f"{name}={value}: one value, no choice")
            text = _replaced(text, self.values[name], value)
            # A test has one of a choice.
            for place, word in enumerate(old):
                tests = _replaced(tests, word, new[min(place, len(new) - 1)])
        findings = filter_file.read(text, self.name).findings
        if errors := [one for one in findings if one.severity is Severity.ERROR]:
            raise Usage(f"with these values it does not load: {errors[0]}")
        return Recipe(self.name, text, tests)


def _replaced(text: str, old: str, new: str) -> str:
    """The text with whole words replaced."""
    return re.sub(rf"(?<![\w/.-]){re.escape(old)}(?![\w/-]|\.\w)", lambda _: new, text, flags=re.ASCII)


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", nargs="?", help="the recipe; without it, they are listed")
    parser.add_argument("values", metavar="VALUE=TEXT", nargs="*", help="what to fill in")
    parser.add_argument("--output", metavar="FILE", help="write the filters there; default: print")
    parser.add_argument("--tests", metavar="FILE", help="write its policy tests there; with --output")


def run(args: argparse.Namespace) -> int:
    if args.tests and not args.output:
        raise Usage("--tests names the filters that are tested: give --output, too")
    if args.name is None:
        rows = [(one.name, " ".join(one.values) or "-", one.purpose) for one in map(read, names())]
        print(*table(("recipe", "values", "for"), rows), sep="\n")
        return 0
    found = read(args.name).filled(dict(arguments.assignment(text, "NAME=TEXT") for text in args.values))
    if args.output is None:
        sys.stdout.write(found.text)
        return 0
    _write(args.output, found.text)
    if args.tests:
        filters = os.path.relpath(args.output, os.path.dirname(args.tests) or ".")
        _write(args.tests, found.tests.replace(f"[{found.name}.filters]", f"[{filters}]"))
    return 0


def names() -> list[str]:
    """The names of all recipes. Raises ConfigurationError."""
    folder = os.path.dirname(data_files.path(f"{_FOLDER}/units.filters"))
    return sorted(name.removesuffix(".filters") for name in os.listdir(folder) if name.endswith(".filters"))


def read(name: str) -> Recipe:
    """The recipe of that name. Raises Usage, ConfigurationError."""
    if name not in (known := names()):
        raise Usage(f"there is no recipe {name}{did_you_mean(name, known)}")
    return Recipe(*(name, *(data_files.text(f"{_FOLDER}/{name}.{end}") for end in ("filters", "yaml"))))


def _write(path: str, text: str) -> None:
    told.check_target(path)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    except FileExistsError:
        raise ConfigurationError(f"{path} is there already: it is not replaced") from None
    with open(descriptor, "w", encoding="utf-8") as file:
        os.fchmod(descriptor, 0o644)
        file.write(text)
