"""Write the examples of translated filters as policy tests that need nothing of the host they run on."""

import re
from collections.abc import Sequence
from typing import Final

from rootwrap_daemon.analysis.sudoers.write import Translated, text
from rootwrap_daemon.filters.read import filter_file
from rootwrap_daemon.filters.ruleset import RuleSet
from rootwrap_daemon.filters.values import Match, Request

_BASE: Final = re.compile(r"\{path=([^}|]+)\}")


def tests(done: Sequence[Translated], filters: str) -> dict[str, object]:
    """Policy tests: each filter's example allowed, and the same with words more denied.

    A rule may take what another denies: then it is no denial of the file.
    """
    written = [one for one in done if one.definition is not None]
    rules = RuleSet(filter_file.read(text(written, ()), filters).filters)
    cases: list[dict[str, object]] = []
    for one in written:
        run_as = {"run_as": str(one.definition).split(", ")[2].partition("|")[0]}
        request = Request(one.allowed, user=run_as["run_as"])
        found = rules.match(request)
        if isinstance(found, Match):
            cases.append({"argv": list(one.allowed), **run_as, "expect": "allow", "filter": found.filter})
        if one.denied and not isinstance(rules.match(request._replace(argv=one.denied)), Match):
            cases.append({"argv": list(one.denied), **run_as, "expect": "deny"})
    return {"filters": [filters], **_setup(written), "tests": cases}


def _setup(written: Sequence[Translated]) -> dict[str, object]:
    """The directories of ``{path=BASE}`` with what the examples name in them, where the host has them or not.

    One that has a program of the filters stays the host's.
    """
    programs = [one.rule.command.path for one in written]
    bases = {
        base
        for one in written
        for base in _BASE.findall(str(one.definition))
        if not any(program.startswith(f"{base}/") for program in programs)
    }
    files = {
        word for one in written for word in one.allowed if any(word.startswith(f"{base}/") for base in bases)
    }
    if not bases:
        return {}
    return {"scratch": sorted(bases), "setup": [{"file": name} for name in sorted(files)]}
