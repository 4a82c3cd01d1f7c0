"""How findings are shown: as text, on a terminal, as JSON, as GitHub's annotations and as SARIF."""

import io
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO

import jsonschema
import pytest

from rootwrap_daemon.filters.finding import Location
from rootwrap_daemon.lint.check import judge, known_rules
from rootwrap_daemon.lint.finding import Finding, Problem, Severity
from rootwrap_daemon.lint.output import report
from rootwrap_daemon.lint.output.sarif import sarif
from rootwrap_daemon.lint.subject import Subject, read_filters

SCHEMA = Path(__file__).parents[4] / "shared" / "sarif-schema-2.1.0.json"
NAME = "a b,c:100%.filters"
TEXT = """[Filters]
ip: RegExpFilter, ip, root, ip, netns, add|del
dd: CommandFilter, dd, root
ls: RegExpFilter, ls, root, ls, ^[a-z]+$
ls: RegExpFilter, ls, root, ls, ^[a-z]+$
"""
Format = Callable[[Sequence[Finding], int, TextIO], None]


def findings(text: str = TEXT, name: str = NAME) -> list[Finding]:
    return judge(Subject((read_filters(text, name),)))


def shown(form: Format, found: Sequence[Finding]) -> str:
    out = io.StringIO()
    form(found, 1, out)
    return out.getvalue()


def hostile() -> Finding:
    what = "\x1b[31m, a line\nbreak, 100%0A\r::error::made up"
    problem = Problem(Location("x\n::error::\x1b.filters", 1, 1), what, "mend")
    return Finding("RW100", Severity.ERROR, "why", problem, "text \x1b[2J")


def test_plain_has_a_line_that_compilers_write() -> None:
    lines = shown(report.plain, findings()).splitlines()
    heads = [line for line in lines if not line.startswith("    ")]
    assert heads[0].startswith(f"{NAME}:2:40: warning: RW306: add|del ")
    assert heads[-1] == "1 error, 2 warnings, 2 info in 1 file; --fix corrects 4"
    assert "    write (--fix): ip: RegExpFilter, ip, root, ip, netns, (add|del)" in lines
    assert not any("^^" in line or "\x1b" in line for line in lines)


def test_a_tally_has_the_worst_and_most_frequent_first() -> None:
    errors = [replace(hostile(), rule=rule) for rule in ("RW2", "RW1", "RW1")]
    info = [replace(hostile(), severity=Severity.INFO, rule="RW3")] * 4
    assert list(report.tally([*info, *errors], {"RW1": "one", "RW2": "two", "RW3": "three"})) == [
        "    2 errors   RW1  one",
        "    1 error    RW2  two",
        "    4 info     RW3  three",
    ]


def test_nothing_found() -> None:
    assert shown(report.plain, []) == "nothing found in 1 file\n"


@pytest.mark.parametrize("form", [report.plain, report.coloured])
def test_what_comes_from_a_file_does_not_move_the_cursor(form: Format) -> None:
    assert "\x1b" not in shown(form, [hostile()])
    assert "\\x1b[31m" in shown(form, [hostile()])


def test_carets_stand_below_what_is_meant() -> None:
    lines = shown(report.coloured, findings()).splitlines()
    place = lines.index("  | ip: RegExpFilter, ip, root, ip, netns, add|del")
    start = lines[place].index("add|del")
    assert lines[place + 1] == f"  |{' ' * (start - 3)}^^^^^^^"


def test_json() -> None:
    told = json.loads(shown(report.as_json, findings()))
    assert told["version"] == 1
    assert told["files"] == 1
    first = told["findings"][0]
    assert (first["rule"], first["severity"], first["file"]) == ("RW306", "warning", NAME)
    assert (first["line"], first["column"], first["length"], first["fixable"]) == (2, 40, 7, True)


# As GitHub's runner reads it (ActionCommand.cs): `::name key=value,key=value::data`.
_COMMAND = re.compile(r"::(?P<name>[^ :]+)(?: (?P<properties>.*?))?::(?P<data>.*)")


def annotations(text: str) -> list[tuple[str, dict[str, str], str]]:
    found = []
    for line in text.splitlines():
        command = _COMMAND.fullmatch(line)
        assert command, line
        pairs = dict(pair.split("=", 1) for pair in command["properties"].split(","))
        for escaped, meant in (("%3A", ":"), ("%2C", ","), ("%0D", "\r"), ("%0A", "\n"), ("%25", "%")):
            pairs = {name: value.replace(escaped, meant) for name, value in pairs.items()}
        data = command["data"].replace("%0D", "\r").replace("%0A", "\n").replace("%25", "%")
        found.append((command["name"], pairs, data))
    return found


def test_annotations_are_read_back() -> None:
    found = findings()
    read = annotations(shown(report.github, found))
    assert len(read) == len(found)
    for finding, (name, properties, data) in zip(found, read, strict=True):
        assert name == {"error": "error", "warning": "warning", "info": "notice"}[finding.severity.value]
        assert properties["file"] == NAME
        assert properties["line"] == str(finding.location.line)
        assert properties["col"] == str(finding.location.column)
        assert properties["title"] == finding.rule
        assert data.startswith(f"{finding.problem.what}\nwhy: {finding.why}\ninstead: ")


def test_annotations_cannot_be_forged_by_a_file() -> None:
    ((name, properties, data),) = annotations(shown(report.github, [hostile()]))
    assert name == "error"
    assert properties["file"] == "x\n::error::\x1b.filters"
    assert data.startswith(hostile().problem.what)


#: What of SARIF 2.1.0 is used here, written down from the standard (sections 3.13 to 3.57); nothing else may
#: be there. The published schema itself is under terms of OASIS, so it is no part of this repository.
_TEXT = {"type": "object", "required": ["text"], "properties": {"text": {"type": "string", "minLength": 1}}}
_LEVEL = {"enum": ["none", "note", "warning", "error"]}
_PLACE = {"type": "integer", "minimum": 1}
_REGION = {
    "type": "object",
    "required": ["startLine"],
    "additionalProperties": False,
    "properties": {"startLine": _PLACE, "startColumn": _PLACE, "endColumn": _PLACE},
}
_ARTIFACT = {
    "type": "object",
    "required": ["uri"],
    "additionalProperties": False,
    # A reference of RFC 3986: no blank, and nothing that would have to be escaped.
    "properties": {"uri": {"type": "string", "pattern": "^[A-Za-z0-9%/:._~!$&'()*+,;=@-]+$"}},
}


def _object(required: Sequence[str], **properties: object) -> dict[str, Any]:
    return {
        "type": "object",
        "required": list(required),
        "additionalProperties": False,
        "properties": properties,
    }


def _array(items: object, least: int = 0) -> dict[str, Any]:
    return {"type": "array", "items": items, "minItems": least}


_RULE = _object(
    ["id"],
    id={"type": "string"},
    shortDescription=_TEXT,
    fullDescription=_TEXT,
    defaultConfiguration=_object([], level=_LEVEL),
)
_CHANGE = _object(
    ["artifactLocation", "replacements"],
    artifactLocation=_ARTIFACT,
    replacements=_array(
        _object(
            ["deletedRegion"], deletedRegion=_REGION, insertedContent=_object([], text={"type": "string"})
        ),
        1,
    ),
)
_RESULT = _object(
    ["message"],
    ruleId={"type": "string"},
    ruleIndex={"type": "integer", "minimum": 0},
    level=_LEVEL,
    message=_TEXT,
    locations=_array(
        _object(
            ["physicalLocation"],
            physicalLocation=_object(["artifactLocation"], artifactLocation=_ARTIFACT, region=_REGION),
        )
    ),
    fixes=_array(_object(["artifactChanges"], description=_TEXT, artifactChanges=_array(_CHANGE, 1))),
)
_RUN = _object(
    ["tool"],
    tool=_object(
        ["driver"],
        driver=_object(["name"], name={"type": "string"}, version={"type": "string"}, rules=_array(_RULE)),
    ),
    columnKind={"enum": ["utf16CodeUnits", "unicodeCodePoints"]},
    results=_array(_RESULT),
)
USED = _object(
    ["version", "runs"],
    **{"$schema": {"type": "string"}, "version": {"const": "2.1.0"}, "runs": _array(_RUN, 1)},
)


def test_sarif_has_the_structure_of_the_standard() -> None:
    document = json.loads(shown(sarif, findings()))
    jsonschema.Draft7Validator(USED).validate(document)
    (run,) = document["runs"]
    listed = run["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in listed] == list(known_rules())
    for result in run["results"]:
        assert listed[result["ruleIndex"]]["id"] == result["ruleId"]
    assert any("fixes" in result for result in run["results"])
    assert {result["level"] for result in run["results"]} == {"error", "warning", "note"}


@pytest.mark.parametrize("path", [("results", "level"), ("results", "message"), ("tool", "driver")])
def test_the_structure_can_be_missed(path: tuple[str, str]) -> None:
    document = json.loads(shown(sarif, findings()))
    part = document["runs"][0][path[0]]
    (part[0] if isinstance(part, list) else part)[path[1]] = 7
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft7Validator(USED).validate(document)


@pytest.mark.skipif(not SCHEMA.is_file(), reason="../shared/sarif-schema-2.1.0.json is not here")
def test_sarif_validates_against_the_published_schema() -> None:
    schema = json.loads(SCHEMA.read_text())
    document = json.loads(shown(sarif, findings()))
    validator = jsonschema.validators.validator_for(schema)(schema)
    validator.validate(document)
    document["runs"][0]["results"][0]["level"] = "bad"
    assert not validator.is_valid(document)


def test_sarif_names_files_by_uris() -> None:
    for name, uri in (("/etc/a b.filters", "file:///etc/a%20b.filters"), ("./x,y.filters", "x%2Cy.filters")):
        document = json.loads(shown(sarif, findings(name=name)))
        location = document["runs"][0]["results"][0]["locations"][0]["physicalLocation"]
        assert location["artifactLocation"]["uri"] == uri


def test_why_is_said_once_a_rule() -> None:
    text = "[Filters]\na: CommandFilter, dd, root\nb: CommandFilter, dd, root\n"
    for form in (report.plain, report.coloured):
        out = shown(form, findings(text))
        assert out.count("why: ") == len({one.rule for one in findings(text)})


def test_concise_is_a_line_a_finding() -> None:
    lines = shown(report.concise, findings()).splitlines()
    assert len(lines) == len(findings())
    assert lines[0].startswith(f"{NAME}:2:40: warning: RW306: add|del ")
    assert lines[0].endswith(" [--fix]")


@pytest.mark.parametrize("form", [report.plain, report.coloured])
def test_what_to_do_is_said_once_for_findings_that_are_alike(form: Format) -> None:
    """Each keeps a line of its own, which editors read, and a definition to write."""
    dd, ls = "CommandFilter, dd, root", "RegExpFilter, ls, root, ls, a|b"
    found = findings(f"[Filters]\na: {dd}\nls: {ls}\nc: {dd}\n")
    lines = shown(form, [one for one in found if one.rule in ("RW301", "RW306")]).splitlines()
    kinds = re.compile(r".*: (RW\d+): |    (why|instead|write).*?: ")
    told = [match[1] or match[2] for line in lines if (match := kinds.match(line))]
    alike = ["RW301", "RW301", "why", "instead", "write", "write"]
    assert told == [*alike, "RW306", "why", "instead", "write"]
    assert [line.split(": ")[0] for line in lines if ": RW301: " in line] == [f"{NAME}:2:19", f"{NAME}:4:19"]
