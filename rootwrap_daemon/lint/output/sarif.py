"""Write findings as SARIF 2.1.0 (OASIS), which code-scanning services read.

Promises: one run, every rule that can be asked, each result with its rule, place and fix.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, TextIO
from urllib.parse import quote

from rootwrap_daemon.lint.finding import Edit, Finding, Severity
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
    place = finding.location
    text = f"{finding.problem.what}. {finding.why} Instead: {finding.problem.instead}."
    result: dict[str, Any] = {
        "ruleId": finding.rule,
        "ruleIndex": index,
        "level": _LEVELS[finding.severity],
        "message": {"text": text},
        "locations": [
            {
                "physicalLocation": {
                    "artifactLocation": {"uri": _uri(place.file)},
                    "region": {
                        "startLine": place.line,
                        "startColumn": place.column,
                        "endColumn": place.column + finding.problem.length,
                    },
                }
            }
        ],
    }
    if finding.problem.edits:
        change = {
            "artifactLocation": {"uri": _uri(place.file)},
            "replacements": [_replacement(edit) for edit in finding.problem.edits],
        }
        result["fixes"] = [{"description": {"text": finding.problem.instead}, "artifactChanges": [change]}]
    return result


def _replacement(edit: Edit) -> dict[str, Any]:
    place = edit.location
    region = {"startLine": place.line, "startColumn": place.column, "endColumn": place.column + len(edit.old)}
    return {"deletedRegion": region, "insertedContent": {"text": edit.new}}


def _uri(file: str) -> str:
    """A file:// URI of an absolute path, a relative reference of a relative one (RFC 3986)."""
    return Path(file).as_uri() if os.path.isabs(file) else quote(os.path.normpath(file))
