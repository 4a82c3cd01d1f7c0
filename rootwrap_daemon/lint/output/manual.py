"""Write the rules as text for a terminal, and as the page of the reference manual.

Promises: says what the docstrings of the rules say, and nothing else.
"""

import textwrap
from collections.abc import Iterable
from typing import Final

from rootwrap_daemon.escape import printable
from rootwrap_daemon.lint.rules import Rule

_HEAD: Final = """=====
Rules
=====

What ``rootwrapctl check`` looks for. ``rootwrapctl rules ID`` shows one; this page is made by ``rootwrapctl
rules --rst``. An error cannot be used or gives away more than it seems to, a warning is perhaps not what was
meant, an info is worth knowing.

To take a finding back, write a comment on a line of its own directly above the definition, with the reason::

    # rw: ignore RW301 only the backup host has this file
    dd: CommandFilter, dd, root

Several rules are separated by commas. Without a reason, for a rule that does not exist, or where it takes
nothing back, the comment is a finding itself. It cannot stand behind the definition: the format has comments
on lines of their own only, and what stands behind would be a part of the last field.
"""
_GROUPS: Final = {
    "RW1": "RW1xx: syntax",
    "RW2": "RW2xx: this host (``--host``, or with a configuration)",
    "RW3": "RW3xx: danger",
    "RW4": "RW4xx: upkeep",
}
_WIDTH: Final = 100


def text(rule: Rule) -> str:
    """One rule, for a terminal."""
    parts = [f"{rule.id} ({rule.severity.value}): {rule.title}", textwrap.fill(rule.why, _WIDTH)]
    for heading, examples in (("Found:", rule.found), ("Not found:", rule.fine)):
        parts += [f"{heading}\n\n{_example(example)}" for example in examples]
    return "\n\n".join(parts) + "\n"


def page(rules: Iterable[Rule]) -> str:
    """All rules, as reStructuredText."""
    parts = [_HEAD]
    group = ""
    for rule in rules:
        if rule.id[:3] != group:
            group = rule.id[:3]
            parts.append(_heading(_GROUPS[group], "="))
        title = rule.title.replace("`", "``").replace("\\", "\\\\")
        parts.append(_heading(f"{rule.id}: {title}", "-"))
        parts.append(textwrap.fill(f"*{rule.severity.value}* {rule.why}".replace("`", "``"), _WIDTH) + "\n")
        for heading, examples in (("Found::", rule.found), ("Not found::", rule.fine)):
            parts += [f"{heading}\n\n{_example(example)}\n" for example in examples]
    return "\n".join(parts)


def _heading(title: str, line: str) -> str:
    return f"{title}\n{line * len(title)}\n"


def _example(example: str) -> str:
    # What nobody could see is written as Python writes it.
    shown = printable(example, keep="\n")
    return textwrap.indent(shown.rstrip("\n"), "    ")
