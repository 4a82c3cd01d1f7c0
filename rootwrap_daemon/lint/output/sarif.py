"""Write findings as SARIF 2.1.0 (OASIS), which code-scanning services read.

Promises: one run, every rule that can be asked, each result with its rule, place and fix.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, TextIO
from urllib.parse import quote

from rootwrap_daemon.filters.finding import Location
from rootwrap_daemon.lint.finding import Finding, Severity
from rootwrap_daemon.lint.rules import RULES

_LEVELS: Final = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "note"}


def sarif(findings: Sequence[Finding], files: int, out: TextIO) -> None:
    """One JSON document."""
    from importlib import metadata

    names = sorted(RULES)
    driver = {
        "name": "rootwrapctl",
        "version": metadata.version("rootwrap-daemon"),
        "rules": [
            {
                "id": rule.id,
                "shortDescription": {"text": rule.title},
                "fullDescription": {"text": rule.why},
                "defaultConfiguration": {"level": _LEVELS[rule.severity]},
            }
            for _, rule in sorted(RULES.items())
        ],
    }
    run = {
        "tool": {"driver": driver},
        "columnKind": "unicodeCodePoints",
        "results": [_result(finding, names.index(finding.rule)) for finding in findings],
    }
    json.dump({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, out, indent=2)
    out.write("\n")


#: Where the schema is published; the document names it by this.
SCHEMA: Final = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"


def _result(finding: Finding, index: int) -> dict[str, Any]:
    problem = finding.problem
    text = f"{problem.what}. {finding.why} Instead: {problem.instead}."
    file = {"artifactLocation": {"uri": _uri(problem.location.file)}}
    result: dict[str, Any] = {
        "ruleId": finding.rule,
        "ruleIndex": index,
        "level": _LEVELS[finding.severity],
        "message": {"text": text},
        "locations": [{"physicalLocation": {**file, "region": _region(problem.location, problem.length)}}],
    }
    if problem.edits:
        replacements = [
            {"deletedRegion": _region(edit.location, len(edit.old)), "insertedContent": {"text": edit.new}}
            for edit in problem.edits
        ]
        change = {**file, "replacements": replacements}
        result["fixes"] = [{"description": {"text": problem.instead}, "artifactChanges": [change]}]
    return result


def _region(place: Location, length: int) -> dict[str, int]:
    return {"startLine": place.line, "startColumn": place.column, "endColumn": place.column + length}


def _uri(file: str) -> str:
    """A file:// URI of an absolute path, a relative reference of a relative one (RFC 3986)."""
    return Path(file).as_uri() if os.path.isabs(file) else quote(os.path.normpath(file))
