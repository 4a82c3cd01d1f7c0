"""The pages show commands, options, filters and configurations that there are.

What they show is run by tests/functional/test_pages.py and tests/systemd/test_pages.py.
"""

import ast
import contextlib
import importlib
import importlib.util
import io
import re
import shlex
from pathlib import Path
from types import ModuleType

import pytest

from rootwrap_daemon import config_options
from rootwrap_daemon.cli import ctl
from rootwrap_daemon.filters.finding import Severity
from rootwrap_daemon.filters.read import filter_file
from rootwrap_daemon.lint.check import judge
from rootwrap_daemon.lint.finding import Severity as CheckSeverity
from rootwrap_daemon.lint.subject import Subject, read_filters
from tests.pages import blocks

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.rst").read_text()
MAN = ROOT / "doc/source/man/rootwrapctl.rst"
PAGES = [
    path
    for path in [*ROOT.glob("*.rst"), *(ROOT / "doc/source").rglob("*.rst")]
    # Made from the code; and what was true when it was decided.
    if path.name not in ("commands.rst", "errors.rst", "rules.rst") and path.parent.name != "decisions"
]

#: In a block with filters.
DEFINES = r"^\s*\[Filters\]|^\s*\w+\s*[:=]\s*\w+Filter, "
#: In a block of which the page says that it has errors; in the general form of a definition.
NOT_TO_LOAD = ("# error", "{netsn}", ": Kind,")


def in_pages(pattern: str) -> list[object]:
    return [
        pytest.param(block.text, id=block.place)
        for page in PAGES
        for block in blocks(page)
        if re.search(pattern, block.text, re.MULTILINE)
    ]


def commands() -> list[object]:
    """Lines of literal blocks, and inline literals, that call rootwrapctl."""
    found: list[object] = []
    for page in PAGES:
        text = page.read_text()
        for call in re.findall(r"(?:^    |``)(?:\S*/|sudo )?(rootwrapctl [a-z][^`\n]*)", text, re.MULTILINE):
            words = shlex.split(re.sub(r"\s[|>].*", "", call), comments=True)
            found.append(pytest.param(words[1:], id=f"{page.relative_to(ROOT)}: {' '.join(words)}"))
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_root_executes_nothing_of_a_directory_of_everybody(page: Path) -> None:
    """Whoever is there first chooses what /tmp/NAME is, and so what root starts from it."""
    lines = [line for block in blocks(page) for line in block.text.splitlines()]
    assert [line for line in lines if re.search(r"(^|venv |&& |; )/(var/)?tmp/", line.strip())] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_root_installs_nothing_by_a_name_that_anybody_can_register(page: Path) -> None:
    """An index gives what has this name there; a checkout or a file is what its reader has."""
    assert re.findall(r"pip install (?:-\S+ )*'?rootwrap[-_].*", page.read_text()) == []


def test_there_is_something_to_look_at() -> None:
    assert len(commands()) > 15
    assert len(in_pages(r"^\s*\[Filters\]")) > 3


@pytest.mark.parametrize("words", commands())
def test_a_command_that_is_shown_can_be_called(words: list[str]) -> None:
    if words[0] not in ctl.COMMANDS:
        pytest.fail(f"there is no rootwrapctl {words[0]}")
    # A command alone, in a sentence, names it; what it needs stands elsewhere.
    if len(words) == 1:
        return
    error = io.StringIO()
    try:
        with contextlib.redirect_stderr(error):
            ctl.parser_of(words[0]).parse_args(words[1:])
    except SystemExit:
        if "required" not in error.getvalue():
            pytest.fail(error.getvalue())


@pytest.mark.parametrize("name", ctl.COMMANDS)
def test_the_synopsis_has_the_options_of_each_command(name: str) -> None:
    text = MAN.read_text()
    synopsis = " ".join(text.partition("DESCRIPTION")[0].split())
    match = re.search(rf"\*\*rootwrapctl\*\* \*\*{name}\*\*([^|]*(?:\|(?! \*\*rootwrapctl)[^|]*)*)", synopsis)
    assert match, "the manual page has no synopsis of it"
    shown = set(re.findall(r"\*\*(--[a-z-]+)\*\*", match[1]))
    there = {
        option
        for action in ctl.parser_of(name)._actions
        for option in action.option_strings
        if option.startswith("--") and option not in ("--help", "--version")
    }
    assert shown == there


@pytest.mark.parametrize("text", in_pages(DEFINES))
def test_a_filter_that_is_shown_loads(text: str) -> None:
    whole = text
    if not re.search(r"^\[Filters\]", whole, re.MULTILINE):
        whole = f"[Filters]\n{whole}"
    errors = [one for one in filter_file.read(whole, "x").findings if one.severity is Severity.ERROR]
    if not any(sign in text for sign in NOT_TO_LOAD):
        assert not errors


def shown_filters() -> list[object]:
    """Filters on pages, each with the lines around it, and the files that come with the project."""
    found: list[object] = []
    for page in PAGES:
        lines = page.read_text().splitlines()
        for block in blocks(page):
            # An error on purpose has the sign that says so.
            if re.search(DEFINES, block.text, re.MULTILINE) and ": Kind," not in block.text:
                end = block.line + block.text.count("\n") + 12
                around = "\n".join(lines[max(0, block.line - 6) : end])
                found.append(pytest.param(block.text, around, id=block.place))
    for directory in ("etc", "examples", "packaging"):
        for path in sorted((ROOT / directory).rglob("*.filters")):
            found.append(pytest.param(path.read_text(), "", id=str(path.relative_to(ROOT))))
    return found


@pytest.mark.parametrize(("text", "around"), shown_filters())
def test_a_filter_that_is_shown_has_no_finding_that_is_not_spoken_of(text: str, around: str) -> None:
    """As `check --strict` has it: whoever copies a filter has its findings."""
    whole = text if re.search(r"^\[Filters\]", text, re.MULTILINE) else f"[Filters]\n{text}"
    found = judge(Subject((read_filters(whole, "x.filters"),)))
    said = [one for one in found if one.severity is not CheckSeverity.INFO and one.rule not in around]
    assert said == []


@pytest.mark.parametrize("text", in_pages(r"^\s*(socket_path|filters_path|allowed_users|audit_file) *="))
def test_an_option_that_is_shown_is_one(text: str) -> None:
    known = {option.name for option in (*config_options.OPTS, *config_options.LOG_OPTS)}
    for line in text.split("\n"):
        if match := re.match(r"\s*([a-z_]+) *= ", line):
            assert match[1] in known or match[1].startswith(("use_", "log_", "debug")), line


def tool(name: str) -> ModuleType:
    """A program of doc/, which is no package."""
    spec = importlib.util.spec_from_file_location(f"doc_{name}", ROOT / f"doc/{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_error_has_a_remedy() -> None:
    generate = tool("generate")
    assert {one.__name__ for one in generate.classes()} == set(generate.REMEDIES)
    page = generate.error_page()
    assert all(f"``{one.code}``" in page for one in generate.classes())


def test_every_command_is_on_the_page_of_commands() -> None:
    page = tool("generate").command_page()
    assert re.findall(r"usage: rootwrapctl (\S+)", page) == list(ctl.COMMANDS)


def test_pictures_are_what_is_drawn_now() -> None:
    drawn = tool("pictures").all_pictures()
    there = {path.name: path.read_text() for path in (ROOT / "doc/source/pictures").iterdir()}
    assert drawn == there, "draw them: .venv/bin/python doc/pictures.py"


def test_a_synopsis_fits_a_terminal() -> None:
    """man(1) does not wrap it: 80 columns, less those on the left."""
    pages = [path.read_text() for path in MAN.parent.glob("*.rst")]
    found = [re.sub(r"\*+([^*]+)\*+", r"\1", line[2:]) for page in pages for line in _line_blocks(page)]
    assert len(found) >= 30
    assert not [line for line in found if len(line) > 73]


def _line_blocks(page: str) -> list[str]:
    blocks = re.findall(r"^\| .*\n(?:^(?:\| |  ).*\n)*", page, re.MULTILINE)
    return [line for block in blocks for line in block.splitlines()]


def test_the_readme_is_short() -> None:
    assert README.count("\n") <= 200


def _target(page: Path, name: str) -> Path:
    top = ROOT / "doc/source" if name.startswith("/") else page.parent
    return top / f"{name.removeprefix('/')}.rst"


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_link_is_dead(page: Path) -> None:
    """Within the documentation: pages, pictures and files that README and pages lead to."""
    text = page.read_text()
    pages = re.findall(r":doc:`(?:[^`<]*<)?([^`>]+)>?`", text)
    files = re.findall(r"^\.\. (?:image|figure|literalinclude|include):: (\S+)", text, re.MULTILINE)
    made = {"commands", "errors", "rules"}
    dead = [one for one in pages if Path(one).name not in made and not _target(page, one).exists()]
    dead += [one for one in files if not (page.parent / one).exists()]
    # Sphinx takes a scheme of an address for one wherever it stands.
    dead += re.findall(r"(?<![`\w])file:\w\S*", text)
    assert dead == []
    cited = set(re.findall(r"\[(\d+)\]_", text))
    assert cited == set(re.findall(r"^\.\. \[(\d+)\]", text, re.MULTILINE))


def told() -> list[tuple[str, str]]:
    """Texts of the programs that somebody may read: constants that are no docstrings, with their module."""
    found = []
    for path in sorted((ROOT / "rootwrap_daemon").rglob("*.py")):
        tree = ast.parse(path.read_text())
        nodes = [node for node in ast.walk(tree) if not isinstance(node, ast.Expr)]
        for node in (child for parent in nodes for child in ast.iter_child_nodes(parent)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append((f"{path.relative_to(ROOT)}:{node.lineno}", node.value))
    for path in sorted((ROOT / "native").rglob("*.[ch]")):
        found += [(str(path.relative_to(ROOT)), text) for text in re.findall(r'"[^"\n]*"', path.read_text())]
    return found


def test_what_a_message_cites_is_where_it_is_read() -> None:
    """An installed host has no file of the source, no Makefile, and the manual pages that conf.py names."""
    assert len(told()) > 1000
    of_source = re.compile(r"README|CONTRIBUTING|\.rst\b|\bdoc/source|`make [a-z]")
    assert [one for one in told() if of_source.search(one[1])] == []
    pages = set(re.findall(r'^    \("[\w/-]+", "([\w.-]+)"', (ROOT / "doc/source/conf.py").read_text(), re.M))
    assert len(pages) > 5
    cited = {name for _, text in told() for name in re.findall(r"\bman (rootwrap[\w.-]*\w)", text)}
    assert cited and cited <= pages


DECISIONS = sorted((ROOT / "doc/source/contributor/decisions").glob("[0-9]*.rst"))[1:]


def _status(page: Path) -> dict[str, set[str]]:
    """Below the title: a word such as "Amends", and the names of the records that it is about."""
    head = page.read_text().partition("Context\n=======\n")[0]
    said: dict[str, set[str]] = {}
    for sentence in re.split(r"(?=Amended|Amends|Replaced|Replaces)", " ".join(head.split()))[1:]:
        said.setdefault(sentence.split()[0], set()).update(re.findall(r":doc:`([^`]+)`", sentence))
    return said


def test_decisions_that_change_one_another_say_so() -> None:
    said = {page.stem: _status(page) for page in DECISIONS}
    for word, answer in (("Amended", "Amends"), ("Replaced", "Replaces")):
        by_older = {(older, newer) for older, status in said.items() for newer in status.get(word, ())}
        by_newer = {(older, newer) for newer, status in said.items() for older in status.get(answer, ())}
        assert by_older == by_newer
        assert by_older
        assert all(older < newer for older, newer in by_older)


@pytest.mark.parametrize("page", DECISIONS, ids=lambda path: str(path.stem))
def test_a_decision_is_short_and_whole(page: Path) -> None:
    text = page.read_text()
    assert text.count("\n") <= 40
    assert re.findall(r"^(Context|Decision|Consequences|Alternatives)\n=+$", text, re.MULTILINE)[:2] == [
        "Context",
        "Decision",
    ]
    assert not re.search(
        r"(?i)\b(superseded|replaced|amended|anew) by\s+(:doc:|\d{4})", text.partition("\nContext\n")[2]
    )


def test_the_lines_around_a_title_are_as_long() -> None:
    """Sphinx takes a shorter one for an error."""
    short = []
    for page in sorted((ROOT / "doc/source").rglob("*.rst")):
        over, title, under, *_ = page.read_text().split("\n")
        if re.fullmatch(r"=+", over) and over == under and len(over) < len(title):
            short.append(page.name)
    assert short == []
