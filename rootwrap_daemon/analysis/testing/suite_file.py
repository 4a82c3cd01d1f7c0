"""Read policy tests from a YAML file into a Suite.

Promises: nothing in a file is executed, and what is not understood is a problem with its place. The format:
doc/source/user/policy-tests.rst.
"""

import os
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Final, TypeVar

import yaml

from rootwrap_daemon.analysis import load, told
from rootwrap_daemon.analysis.testing.suite import ALLOW, DENY, EXPECTATIONS, MATCH, Plan, Step, Suite, Test
from rootwrap_daemon.errors import Unreadable
from rootwrap_daemon.filters.finding import Location

_Value = TypeVar("_Value")
_NO_WORDS: Final[tuple[str, ...]] = ()
_NOTHING: Final[tuple[yaml.Node, ...]] = ()


class Malformed(Unreadable):
    """A file of tests that cannot be used. The message: a problem each line, as `file:line:column: text`."""


def read(path: str) -> Suite:
    """Raises Malformed with all problems, or another Unreadable."""
    text, hidden = load.read_told(path)
    try:
        return _suite(path, text)
    except Malformed:
        if hidden:
            # Where its lines end, and what is in them, would be told.
            raise told.untold(path) from None
        raise


def _suite(path: str, text: str) -> Suite:
    reader = _Reader(path)
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else path
        raise Malformed(f"{place}: no YAML: {error.problem}") from error
    except (yaml.YAMLError, RecursionError) as error:
        raise Malformed(f"{path}: no YAML: {' '.join(str(error).split())}") from error
    if node is None:
        raise Malformed(f"{path}:1:1: an empty file: write `filters:` and `tests:`")
    suite = reader.suite(node)
    if reader.problems:
        raise Malformed("\n".join(reader.problems))
    return suite


class _Reader:
    """Nodes of YAML to values; a problem for each that is not as it must be, and a value in its place."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.problems: list[str] = []

    def suite(self, node: yaml.Node) -> Suite:
        parts = self.mapping(node, "filters config scratch setup tests".split())
        filters = self.of(parts, "filters", self.words, _NO_WORDS)
        config = self.of(parts, "config", self.text, None)
        moved = self.of(parts, "scratch", self.words, _NO_WORDS)
        if bool(filters) == (config is not None):
            self.problem(node, "write `filters:` or `config:`, one of the two")
        if config is not None and (moved or "setup" in parts):
            self.problem(node, "`scratch:` and `setup:` need `filters:`, not `config:`")
        for path in moved:
            if not path.startswith("/") or os.path.normpath(path) != path or path == "/":
                self.problem(parts["scratch"], f"{path!r} is not a plain absolute path below /")
        if "tests" not in parts:
            self.problem(node, "no `tests:`")
        return Suite(
            self.file,
            filters,
            config,
            moved,
            tuple(self.step(part, moved) for part in self.of(parts, "setup", self.items, _NOTHING)),
            tuple(self.test(part) for part in self.of(parts, "tests", self.items, _NOTHING)),
        )

    def step(self, node: yaml.Node, moved: tuple[str, ...]) -> Step:
        parts = self.mapping(node, "directory file link to text mode".split())
        kinds = [kind for kind in ("directory", "file", "link") if kind in parts]
        extra = {"directory": {"mode"}, "file": {"mode", "text"}, "link": {"to"}}
        if len(kinds) != 1 or parts.keys() - {kinds[0]} - extra[kinds[0]]:
            mend = "write `directory:`, `file:` (with `text:`) or `link:` with `to:`; `mode:` not for a link"
            self.problem(node, mend)
            return Step("directory", "/")
        kind = kinds[0]
        path = self.text(parts[kind])
        if not any(path == base or path.startswith(f"{base}/") for base in moved) or ".." in path.split("/"):
            self.problem(parts[kind], f"{path!r} is not beneath a directory of `scratch:`")
        if kind == "link" and "to" not in parts:
            self.problem(node, "a link needs `to:`")
        text = self.of(parts, "to" if kind == "link" else "text", self.text, "")
        mode = self.of(parts, "mode", self.text, None)
        if mode is not None and not re.fullmatch("0?[0-7]{3}", mode):
            self.problem(parts["mode"], f"{mode!r} is no octal mode: write e.g. 0644")
            mode = None
        return Step(kind, path, text, None if mode is None else int(mode, 8))

    def test(self, node: yaml.Node) -> Test:
        parts = self.mapping(node, "name argv env stdin user run_as expect filter plan".split())
        for needed in ("argv", "expect"):
            if needed not in parts:
                self.problem(node, f"a test without `{needed}:`")
        argv = self.of(parts, "argv", self.words, _NO_WORDS)
        if "argv" in parts and not argv:
            self.problem(parts["argv"], "no words: write e.g. [ip, link, show]")
        expect = self.of(parts, "expect", self.text, DENY)
        if expect not in EXPECTATIONS:
            self.problem(parts["expect"], f"{expect!r} is no verdict: write one of {', '.join(EXPECTATIONS)}")
        elif expect not in (ALLOW, MATCH):
            for part in parts.keys() & {"filter", "plan"}:
                self.problem(parts[part], f"`{part}:` is for what is allowed")
        if expect == MATCH and "plan" in parts:
            self.problem(parts["plan"], "`plan:` needs `expect: allow`: only then is there one")
        return Test(
            self.location(node),
            argv,
            expect,
            self.of(parts, "name", self.text, None),
            tuple(self.texts(parts["env"]).items()) if "env" in parts else (),
            self.of(parts, "stdin", self.truth, False),
            self.of(parts, "filter", self.text, None),
            self.of(parts, "plan", self.plan, None),
            self.of(parts, "user", self.text, None),
            self.of(parts, "run_as", self.text, None),
        )

    def plan(self, node: yaml.Node) -> Plan:
        parts = self.mapping(node, "argv user env cwd file".split())
        return Plan(
            self.of(parts, "argv", self.words, None),
            self.of(parts, "user", self.text, None),
            self.of(parts, "env", self.texts, None),
            self.of(parts, "cwd", self.text, None),
            self.of(parts, "file", self.text, None),
        )

    def location(self, node: yaml.Node) -> Location:
        return Location(self.file, node.start_mark.line + 1, node.start_mark.column + 1)

    def problem(self, node: yaml.Node, text: str) -> None:
        self.problems.append(f"{self.location(node)}: {text}")

    def of(
        self,
        parts: Mapping[str, yaml.Node],
        name: str,
        convert: Callable[[yaml.Node], _Value],
        default: _Value,
    ) -> _Value:
        return convert(parts[name]) if name in parts else default

    def mapping(self, node: yaml.Node, known: Iterable[str] | None) -> dict[str, yaml.Node]:
        """The values by their keys; `known`: those that there may be, None for any."""
        if not isinstance(node, yaml.MappingNode):
            wanted = f" with {', '.join(known)}" if known is not None else ""
            self.problem(node, f"not a mapping{wanted}")
            return {}
        found: dict[str, yaml.Node] = {}
        for key, value in node.value:
            name = self.text(key)
            if known is not None and name not in known:
                self.problem(key, f"{name!r} is not known here: write one of {', '.join(known)}")
            elif name in found:
                self.problem(key, f"{name!r} a second time")
            else:
                found[name] = value
        return found

    def items(self, node: yaml.Node) -> tuple[yaml.Node, ...]:
        if not isinstance(node, yaml.SequenceNode):
            self.problem(node, "not a list")
            return ()
        return tuple(node.value)

    def text(self, node: yaml.Node) -> str:
        """The characters of a scalar as they are written: 0644 and 1.10 are words, no numbers."""
        if not isinstance(node, yaml.ScalarNode):
            self.problem(node, "not a text")
            return ""
        if node.tag == "tag:yaml.org,2002:null" and node.style is None:
            self.problem(node, 'nothing: write "" for an empty text, and quote what YAML takes for nothing')
        return str(node.value)

    def words(self, node: yaml.Node) -> tuple[str, ...]:
        return tuple(map(self.text, self.items(node)))

    def texts(self, node: yaml.Node) -> dict[str, str]:
        return {name: self.text(value) for name, value in self.mapping(node, None).items()}

    def truth(self, node: yaml.Node) -> bool:
        if not isinstance(node, yaml.ScalarNode) or node.value not in ("true", "false"):
            self.problem(node, "neither true nor false")
            return False
        return bool(node.value == "true")
