"""Read what can be read: files and definitions that pages, docstrings and comments name exist."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator, Set
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "rootwrap_daemon"
MODULES = sorted(PACKAGE.rglob("*.py"))
PAGES = [*sorted(ROOT.glob("*.rst")), *sorted((ROOT / "doc" / "source").rglob("*.rst"))]
#: Where a path on a page begins; beside the page itself.
BASES = (ROOT, PACKAGE, PACKAGE / "daemon", ROOT / "tests", ROOT / "doc" / "source")
#: Made-up names, and those that nothing may have.
ELSEWHERE = {"NNNN-title.rst", "policy-tests/", "utils.py"}
#: Names of other programs.
FOREIGN = {
    "CompletedProcess",
    "MAX_ARG_STRLEN",
    "PATH_MAX",
    "create_subprocess_exec",
    "eventletutils",
    "start_joinable_thread",
}

modules = pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
pages = pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))


def _docstrings(module: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield ast.get_docstring(node) or ""


def _comments(module: Path) -> Iterator[str]:
    for token in tokenize.generate_tokens(io.StringIO(module.read_text()).readline):
        if token.type == tokenize.COMMENT:
            yield token.string


@cache
def _words() -> Set[str]:
    """FOREIGN, and the words of code, tests and what is installed, but for comments and docstrings."""
    found = set(FOREIGN)
    for base in ("rootwrap_daemon", "tests", "examples", "native", "etc"):
        for path in (ROOT / base).rglob("*"):
            found.update((path.stem, path.name))
            if path.suffix == ".py":
                for token in tokenize.generate_tokens(io.StringIO(path.read_text()).readline):
                    long = token.type == tokenize.STRING and token.string.endswith('"""')
                    if token.type != tokenize.COMMENT and not long:
                        found.update(re.findall(r"\w+", token.string))
            elif path.is_file() and path.suffix not in (".pyc", ".so"):
                found.update(re.findall(r"\w+", path.read_text(errors="replace")))
    for name in ("setup.cfg", "pyproject.toml", "Makefile"):
        found.update(re.findall(r"\w+", (ROOT / name).read_text()))
    return found


@cache
def _file_names() -> Set[str]:
    return {path.name for base in ("rootwrap_daemon", "tests", "doc") for path in (ROOT / base).rglob("*")}


def _exists(page: Path, name: str) -> bool:
    if any((base / name).exists() for base in (*BASES, page.parent)):
        return True
    return "/" not in name and name in _file_names()


def _missing_files(page: Path, text: str) -> list[str]:
    named = re.findall(r"``([\w.-]+(?:/[\w.-]+)*/)``", text)
    named += re.findall(r"``((?:[\w.-]+/)*[\w-]+\.(?:py|rst|c))(?:::\w+)?``", text)
    return [name for name in named if name not in ELSEWHERE and not _exists(page, name)]


def _is_known(name: str) -> bool:
    """A page may leave out how a function of the C library begins."""
    last = name.rpartition(".")[2]
    return last in _words() or any(word.endswith(f"_{last}") for word in _words())


def _missing_definitions(text: str) -> list[str]:
    """Of names that look like names: with an underscore, a capital within, or a dot."""
    named = re.findall(r"``([A-Za-z_][\w.]*)(?:\(\))?``", text)
    return [name for name in named if re.search(r"_|[a-z][A-Z]", name) and not _is_known(name)]


def _elsewhere(page: Path, text: str) -> list[str]:
    """Definitions that a page says to be in a file, with "in" or "::" between them, and that are not."""
    said = [(file, name) for name, file in re.findall(r"``(\w+)``\s+in\s+``([\w/]+\.py)``", text)]
    said += re.findall(r"``([\w/]+\.py)::(\w+)``", text)
    wrong = []
    for file, name in said:
        for path in (base / file for base in (*BASES, page.parent)):
            definition = rf"(?:def|class) {name}\b|^\s*{name}(?:: .+)? = |^\s*{name}: "
            if path.exists() and re.search(definition, path.read_text(), re.MULTILINE):
                break
        else:
            wrong.append(f"{file}::{name}")
    return wrong


@pages
def test_files_that_a_page_names(page: Path) -> None:
    assert _missing_files(page, page.read_text()) == []


@pages
def test_definitions_that_a_page_names(page: Path) -> None:
    assert _missing_definitions(page.read_text()) == []
    assert _elsewhere(page, page.read_text()) == []


@modules
def test_names_in_docstrings_and_comments(module: Path) -> None:
    texts = [*_docstrings(module), *_comments(module)]
    named = {name for text in texts for name in re.findall(r"(?<!`)`([A-Za-z_][\w.]*)(?:\(\))?`(?!`)", text)}
    unknown = {name for name in named if name.rpartition(".")[2] not in _words()}
    assert unknown == set()


@modules
def test_the_first_line_is_a_sentence(module: Path) -> None:
    """With a verb and its object, or a noun and what it does: no clause without a subject."""
    first = next(_docstrings(module)).partition("\n")[0]
    assert not re.match(r"(That|What|When|Where|Which|Who|Whom|Whose)\b", first), first


@modules
def test_no_docstring_lists_imports(module: Path) -> None:
    """`.importlinter` says what may be imported, and is checked; sentences are not."""
    said = [text for text in _docstrings(module) if re.search(r"(?:^|[.] )Imports? ", text, re.MULTILINE)]
    assert said == []


def test_what_does_not_exist_is_noticed(tmp_path: Path) -> None:
    page = tmp_path / "page.rst"
    text = "``serve/sesion.py`` ``servers/`` ``session.py`` ``daemon/serve/session.py`` ``tests/arch/``"
    assert _missing_files(page, text) == ["servers/", "serve/sesion.py"]
    made_up = "answer" + "_twice"
    assert _missing_definitions(f"``Session.{made_up}`` ``true`` ``Client.run``") == [f"Session.{made_up}"]
    assert _elsewhere(page, "``Session`` in ``serve/server.py``") == ["serve/server.py::Session"]
    assert _elsewhere(page, "``HANDLERS`` in\n``serve/session.py`` ``serve/session.py::Session``") == []
