"""Print a bill of materials of what is installed, as CycloneDX 1.5 in JSON: `make sbom`.

It names the distributions that the program needs, with those that they need, and the programs in C that were
built, by their SHA-256. Built twice from the same it is the same, byte for byte.
"""

import hashlib
import json
import os
import re
import sys
import time
import uuid
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
NAME = "rootwrap-daemon"
NATIVE = ("rootwrap_daemon/daemon/run/become", "native/rootwrap-exec")


def normalized(name: str) -> str:
    """Return a distribution's name as an index has it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def needs(distribution: metadata.Distribution) -> list[str]:
    """Return what it needs here, without extras."""
    wanted = map(Requirement, distribution.requires or [])
    return sorted(
        {normalized(one.name) for one in wanted if one.marker is None or one.marker.evaluate({"extra": ""})}
    )


def closure(name: str) -> dict[str, metadata.Distribution]:
    """Return a distribution and all that it needs, by name. Raises PackageNotFoundError."""
    found: dict[str, metadata.Distribution] = {}
    pending = [name]
    while pending:
        one = pending.pop()
        if one not in found:
            found[one] = metadata.distribution(one)
            pending += needs(found[one])
    return dict(sorted(found.items()))


def reference(name: str, distribution: metadata.Distribution) -> str:
    """Return the package URL."""
    return f"pkg:pypi/{name}@{distribution.version}"


def component(name: str, distribution: metadata.Distribution) -> dict[str, Any]:
    """Describe a distribution."""
    about = distribution.metadata
    url = reference(name, distribution)
    described: dict[str, Any] = {
        "type": "application" if name == NAME else "library",
        "bom-ref": url,
        "name": name,
        "version": distribution.version,
        "purl": url,
    }
    said = str(about["License-Expression"] or about["License"] or "").strip()
    if said and "\n" not in said and len(said) < 100:
        described["licenses"] = [{"license": {"name": said}}]
    return described


def programs() -> Iterator[dict[str, Any]]:
    """Describe the programs in C that were built."""
    for path in NATIVE:
        if (ROOT / path).exists():
            digest = hashlib.sha256((ROOT / path).read_bytes()).hexdigest()
            yield {
                "type": "file",
                "bom-ref": f"file:{path}",
                "name": path,
                "hashes": [{"alg": "SHA-256", "content": digest}],
            }


def bill() -> dict[str, Any]:
    """Return the whole document."""
    found = closure(NAME)
    own = component(NAME, found[NAME])
    others = [component(name, one) for name, one in found.items() if name != NAME]
    files = list(programs())
    depends = [
        {
            "ref": reference(name, one),
            "dependsOn": [reference(other, found[other]) for other in needs(one)]
            + ([file["bom-ref"] for file in files] if name == NAME else []),
        }
        for name, one in found.items()
    ]
    seconds = int(os.environ.get("SOURCE_DATE_EPOCH", time.time()))
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds)),
            "component": own,
        },
        "components": others + files,
        "dependencies": depends,
    }
    # By its content, so that the same is named the same.
    name = json.dumps(document, sort_keys=True)
    return {**document, "serialNumber": uuid.uuid5(uuid.NAMESPACE_URL, name).urn}


if __name__ == "__main__":
    json.dump(bill(), sys.stdout, indent=2, sort_keys=True)
    sys.stdout.write("\n")
