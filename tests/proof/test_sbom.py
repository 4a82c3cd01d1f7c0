"""The bill of materials is CycloneDX, whole, and the same each time."""

import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import jsonschema
import pytest

ROOT = Path(__file__).parents[2]

#: As much of the schema of CycloneDX 1.5 as is used.
COMPONENT: dict[str, Any] = {
    "type": "object",
    "required": ["type", "name", "bom-ref"],
    "additionalProperties": False,
    "properties": {
        "type": {"enum": ["application", "library", "file"]},
        "bom-ref": {"type": "string", "minLength": 1},
        "name": {"type": "string", "minLength": 1},
        "version": {"type": "string", "minLength": 1},
        "purl": {"type": "string", "pattern": r"^pkg:pypi/[a-z0-9-]+@[^@\s]+$"},
        "licenses": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["license"],
                "properties": {"license": {"type": "object", "required": ["name"]}},
            },
        },
        "hashes": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["alg", "content"],
                "properties": {"alg": {"const": "SHA-256"}, "content": {"pattern": "^[0-9a-f]{64}$"}},
            },
        },
    },
}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["bomFormat", "specVersion", "version"],
    "additionalProperties": False,
    "properties": {
        "bomFormat": {"const": "CycloneDX"},
        "specVersion": {"const": "1.5"},
        "serialNumber": {"pattern": "^urn:uuid:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"},
        "version": {"type": "integer", "minimum": 1},
        "metadata": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "timestamp": {"pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$"},
                "component": COMPONENT,
            },
        },
        "components": {"type": "array", "items": COMPONENT, "uniqueItems": True},
        "dependencies": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["ref"],
                "additionalProperties": False,
                "properties": {
                    "ref": {"type": "string"},
                    "dependsOn": {"type": "array", "items": {"type": "string"}, "uniqueItems": True},
                },
            },
        },
    },
}


def printed(**env: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "tests.proof.sbom"],
        cwd=ROOT,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


@pytest.fixture(scope="module")
def bill() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(printed(SOURCE_DATE_EPOCH="1"))
    return found


def test_it_follows_the_schema(bill: dict[str, Any]) -> None:
    jsonschema.validate(bill, SCHEMA)


def test_what_is_imported_is_named(bill: dict[str, Any]) -> None:
    named = {one["name"]: one.get("version") for one in bill["components"]}
    for name in ("msgpack", "regex", "oslo-config", "oslo-privsep", "cffi", "pyyaml"):
        assert named[name] == metadata.version(name)
    assert bill["metadata"]["component"]["name"] == "rootwrap-daemon"
    assert not {"pytest", "mypy"} & named.keys()


def test_each_reference_leads_somewhere(bill: dict[str, Any]) -> None:
    references = [one["bom-ref"] for one in [bill["metadata"]["component"], *bill["components"]]]
    assert len(references) == len(set(references))
    files = {one["bom-ref"] for one in bill["components"] if one["type"] == "file"}
    assert {one["ref"] for one in bill["dependencies"]} | files == set(references)
    reached = {other for one in bill["dependencies"] for other in one["dependsOn"]}
    assert reached == set(references) - {bill["metadata"]["component"]["bom-ref"]}


def test_it_is_the_same_each_time() -> None:
    assert printed(SOURCE_DATE_EPOCH="1") == printed(SOURCE_DATE_EPOCH="1", PYTHONHASHSEED="7")
