"""What shall be: a YAML file -> frozen values.

Promises: what `parse` returns can be made as it is; anything else is WantedError with file:line:column.
Imports PyYAML and the standard library.
"""

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, TypeVar

import yaml

T = TypeVar("T")

# The kernel's limit (IFNAMSIZ 16, with the NUL); the letters are those that the filters allow.
_LINK = re.compile(r"[a-z][a-z0-9-]{0,14}", re.ASCII)
# A namespace is a file's name; the last dash keeps the prefixes na-1- and na-12- apart.
_NAMESPACE = re.compile(r"[a-z][a-z0-9-]{0,62}", re.ASCII)
_PREFIX = re.compile(r"[a-z][a-z0-9-]{0,10}-", re.ASCII)


class WantedError(Exception):
    """The file cannot be used; the message says where and why."""


@dataclass(frozen=True, slots=True)
class End:
    """One end of a veth pair; `namespace` is None on the host. Addresses as `ip` prints them: 10.0.0.1/24."""

    namespace: str | None
    link: str
    addresses: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Helper:
    """A foreground command that shall run in a namespace."""

    namespace: str
    argv: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Wanted:
    """All that shall be. What begins with `prefix` and is not named here shall not be."""

    prefix: str
    namespaces: frozenset[str] = frozenset()
    veths: tuple[tuple[End, End], ...] = ()
    helpers: frozenset[Helper] = frozenset()


def load(path: Path) -> Wanted:
    """Read the file. Raises WantedError."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise WantedError(f"{path}: {error}") from error
    return parse(text, str(path))


def parse(text: str, name: str) -> Wanted:
    """The text of the file called `name` as a value. Raises WantedError."""
    try:
        # Nodes, not objects: a node knows its line, and a key given twice is still seen.
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
        raise WantedError(f"{where}: {error.problem}") from error
    except (yaml.YAMLError, RecursionError) as error:
        raise WantedError(f"{name}: {error}") from error
    if root is None:
        raise WantedError(f"{name}: the file is empty")
    return _Reader(name).wanted(root)


class _Reader:
    """Walks the nodes of one document."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._prefix = ""
        self._namespaces: frozenset[str] = frozenset()
        self._links: set[tuple[str | None, str]] = set()

    def wanted(self, node: yaml.Node) -> Wanted:
        table = self._table(node, {"prefix", "namespaces"}, {"veths", "helpers"})
        self._prefix = self._text(table["prefix"])
        if not _PREFIX.fullmatch(self._prefix):
            self._fail(table["prefix"], "the prefix must be a-z, 0-9 and '-', at most 12, and end with '-'")
        self._namespaces = self._set(table["namespaces"], self._own_namespace)
        veths = tuple(self._veth(item) for item in self._items(table.get("veths")))
        return Wanted(self._prefix, self._namespaces, veths, self._set(table.get("helpers"), self._helper))

    def _own_namespace(self, node: yaml.Node) -> str:
        name = self._text(node)
        if not _NAMESPACE.fullmatch(name) or not name.startswith(self._prefix) or name == self._prefix:
            self._fail(
                node, f"the namespace {name!r} must begin with {self._prefix!r} and be a-z, 0-9 and '-'"
            )
        return name

    def _namespace(self, node: yaml.Node) -> str:
        name = self._text(node)
        if name not in self._namespaces:
            self._fail(node, f"{name!r} is not one of the namespaces")
        return name

    def _veth(self, node: yaml.Node) -> tuple[End, End]:
        ends = [self._end(item) for item in self._items(node)]
        if len(ends) != 2:
            self._fail(node, f"a veth pair has two ends, not {len(ends)}")
        first, second = ends
        if first.namespace is None and second.namespace is None:
            self._fail(node, "one end at least must be in a namespace")
        return first, second

    def _end(self, node: yaml.Node) -> End:
        table = self._table(node, {"link"}, {"namespace", "addresses"})
        namespace = self._namespace(table["namespace"]) if "namespace" in table else None
        link = self._text(table["link"])
        if not _LINK.fullmatch(link) or link == "lo":
            self._fail(
                table["link"], f"{link!r} cannot be a link's name: a-z, 0-9 and '-', at most 15, not lo"
            )
        if namespace is None and not link.startswith(self._prefix):
            self._fail(table["link"], f"a link on the host must begin with {self._prefix!r}")
        if (namespace, link) in self._links:
            self._fail(table["link"], f"the link {link!r} is wanted twice in {namespace or 'the host'}")
        self._links.add((namespace, link))
        return End(namespace, link, self._set(table.get("addresses"), self._address))

    def _address(self, node: yaml.Node) -> str:
        text = self._text(node)
        try:
            address = ipaddress.ip_interface(text)
        except ValueError:
            self._fail(node, f"{text!r} is not an address")
        if "/" not in text:
            self._fail(node, f"{text!r} lacks the length of its network, as in 10.0.0.1/24")
        # The kernel gives links such addresses by itself, so these cannot be compared.
        if address.version == 6 and address.is_link_local:
            self._fail(node, f"{text!r} is link-local")
        return str(address)

    def _helper(self, node: yaml.Node) -> Helper:
        table = self._table(node, {"namespace", "argv"}, set())
        argv = tuple(self._text(item) for item in self._items(table["argv"]))
        if not argv:
            self._fail(table["argv"], "argv is empty")
        return Helper(self._namespace(table["namespace"]), argv)

    # What a node is.

    def _table(self, node: yaml.Node, required: set[str], optional: set[str]) -> dict[str, yaml.Node]:
        if not isinstance(node, yaml.MappingNode):
            self._fail(node, f"a table with {', '.join(sorted(required | optional))} is expected")
        table: dict[str, yaml.Node] = {}
        for key, value in node.value:
            name = self._text(key)
            if name not in required | optional:
                self._fail(key, f"{name!r} is not known; known are {', '.join(sorted(required | optional))}")
            if name in table:
                self._fail(key, f"{name!r} is given twice")
            table[name] = value
        for name in sorted(required - table.keys()):
            self._fail(node, f"{name!r} is missing")
        return table

    def _items(self, node: yaml.Node | None) -> list[yaml.Node]:
        if node is None:
            return []
        if not isinstance(node, yaml.SequenceNode):
            self._fail(node, "a list is expected")
        return list(node.value)

    def _text(self, node: yaml.Node) -> str:
        if not isinstance(node, yaml.ScalarNode):
            self._fail(node, "a word is expected")
        if node.tag != "tag:yaml.org,2002:str":
            self._fail(node, f"{node.value!r} is not text to YAML; write it in quotes")
        return str(node.value)

    def _set(self, node: yaml.Node | None, read: Callable[[yaml.Node], T]) -> frozenset[T]:
        values: set[T] = set()
        for item in self._items(node):
            value = read(item)
            if value in values:
                self._fail(item, "this is wanted twice")
            values.add(value)
        return frozenset(values)

    def _fail(self, node: yaml.Node | None, what: str) -> NoReturn:
        if node is None:
            raise WantedError(f"{self._name}: {what}")
        mark = node.start_mark
        raise WantedError(f"{self._name}:{mark.line + 1}:{mark.column + 1}: {what}")
