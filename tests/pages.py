"""The code blocks of the pages, and what of them is a command for a shell."""

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = [
    path
    for path in [*ROOT.glob("*.rst"), *(ROOT / "doc/source").rglob("*.rst")]
    # Generated, each from what has tests; what was true when it was decided; how to work on the source.
    if path.name not in ("commands.rst", "errors.rst", "rules.rst", "CONTRIBUTING.rst")
    and path.parent.name not in ("decisions", "contributor")
]
#: First words of lines for a shell.
COMMANDS = frozenset(
    "apt-get cp examples/containers/tool-agent export install kubectl make pip podman python3 rm "
    "rootwrap-exec rootwrapctl setpriv sudo systemctl systemd-sysusers useradd".split()
)
_DIRECTIVE = re.compile(r"\s*\.\. (?:code-block|literalinclude|toctree|glossary)?::?")


@dataclass(frozen=True)
class Block:
    """A literal block. `language`: as the page says, empty where it does not."""

    page: str
    line: int
    language: str
    text: str

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def first(self) -> str:
        return self.text.partition("\n")[0].strip()

    @property
    def commands(self) -> list[str]:
        """The commands, with the lines that go on; none where a line is none."""
        joined = self.text.replace("\\\n", " ")
        found: list[str] = []
        for line in joined.splitlines():
            if found and found[-1].count("'") % 2:
                found[-1] += f"\n{line}"
            elif line.strip():
                found.append(line)
        words = [line.split()[0].rpartition("/bin/")[2] for line in found]
        return found if words and COMMANDS.issuperset(words) else []


def blocks(page: Path) -> Iterator[Block]:
    """Every literal block of a page."""
    lines = page.read_text().split("\n")
    name = str(page.relative_to(ROOT))
    for index, line in enumerate(lines):
        if not re.search(r"::(?: \w+)?$", line) or line.strip() in (".. toctree::", ".. glossary::"):
            continue
        margin = len(line) - len(line.lstrip())
        end = index + 1
        while end < len(lines) and (
            not lines[end].strip() or len(lines[end]) - len(lines[end].lstrip()) > margin
        ):
            end += 1
        text = textwrap.dedent("\n".join(lines[index + 1 : end])).strip("\n")
        # Options of a directive stand before its text.
        text = re.sub(r"\A(?::[\w-]+:.*\n)*\n*", "", text)
        if text.strip():
            yield Block(name, index + 1, line.partition(".. code-block:: ")[2], text)
