"""The registry of rules: one function an id, whose docstring is its documentation and its tests.

Promises: a rule without an id of its own, a reason and examples of both sorts cannot be registered.
"""

import inspect
import re
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from rootwrap_daemon.lint.finding import Problem, Severity
from rootwrap_daemon.lint.subject import Subject

Function = Callable[[Subject], Iterator[Problem]]

#: How a docstring introduces an example that its rule finds, and one that it has nothing to say about.
FOUND: Final = "Found::"
FINE: Final = "Fine::"


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. `why`: why what it finds matters, in a sentence or two."""

    id: str
    severity: Severity
    title: str
    why: str
    function: Function
    found: tuple[str, ...]
    fine: tuple[str, ...]


#: Every rule by its id, in the order of the ids once all modules of rules are imported (see lint/check.py).
RULES: Final[dict[str, Rule]] = {}


def rule(identifier: str, severity: Severity) -> Callable[[Function], Function]:
    """Register a function as a rule. Raises ValueError for a docstring that is not one of a rule."""

    def register(function: Function) -> Function:
        paragraphs, found, fine = _read(inspect.cleandoc(function.__doc__ or ""))
        if identifier in RULES or len(paragraphs) < 2 or not found or not fine:
            raise ValueError(f"{identifier}: taken, or a docstring without reason, `{FOUND}` or `{FINE}`")
        title, why = paragraphs[0].removesuffix("."), " ".join(paragraphs[1:])
        RULES[identifier] = Rule(identifier, severity, title, why, function, found, fine)
        return function

    return register


def _read(doc: str) -> tuple[list[str], tuple[str, ...], tuple[str, ...]]:
    """Paragraphs of text, examples found, examples fine."""
    paragraphs: list[str] = []
    examples: dict[str, list[str]] = {FOUND: [], FINE: []}
    # An example is what stands indented below its introduction; blank lines belong to it.
    for part in re.split(r"\n\n(?=\S)", doc):
        head, _, rest = part.partition("\n\n")
        if head in examples:
            examples[head].append(textwrap.dedent(rest).strip("\n") + "\n")
        else:
            paragraphs.append(" ".join(part.split()))
    return paragraphs, tuple(examples[FOUND]), tuple(examples[FINE])
