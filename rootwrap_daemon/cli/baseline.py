"""Remember findings in a file, so that a later check reports only new ones.

Promises: a finding is known again by its file, its rule and the text of its line, wherever that line is now.
"""

import json
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from rootwrap_daemon.analysis import told
from rootwrap_daemon.errors import Unreadable
from rootwrap_daemon.lint.finding import Finding

_Key = tuple[str, str, str]


def _key(finding: Finding) -> _Key:
    # As it is named from here: a checkout may stand elsewhere.
    return os.path.relpath(finding.location.file), finding.rule, finding.text.strip()


@dataclass(frozen=True, slots=True)
class Baseline:
    """Count how often each finding was there."""

    known: Counter[_Key]

    @classmethod
    def of(cls, findings: Iterable[Finding]) -> Self:
        """The baseline that leaves all of these out."""
        return cls(Counter(map(_key, findings)))

    @classmethod
    def read(cls, path: str) -> Self:
        """Raises Unreadable."""
        hidden = False
        try:
            file, hidden = told.opened(path)
            with file:
                listed = json.load(file)["findings"]
            keys = [(str(one["file"]), str(one["rule"]), str(one["text"])) for one in listed]
            return cls(Counter(dict(zip(keys, (int(one["count"]) for one in listed), strict=True))))
        except OSError as error:
            raise Unreadable(f"{path}: {error.strerror}") from error
        except (ValueError, KeyError, TypeError) as error:
            if hidden:
                raise told.untold(path) from None
            raise Unreadable(f"{path}: no baseline: write one with --write-baseline") from error

    def write(self, path: str) -> None:
        """Replace the file, or write to what is none, as a terminal. Raises Unreadable, OSError."""
        told.check_target(path)
        listed = [
            {"file": file, "rule": rule, "text": text, "count": count}
            for (file, rule, text), count in sorted(self.known.items())
        ]
        is_file = os.path.isfile(path) or not os.path.exists(path)
        path = os.path.realpath(path) if is_file else path
        new = f"{path}.new" if is_file else path
        with open(new, "w", encoding="utf-8") as stream:
            json.dump({"version": 1, "findings": listed}, stream, indent=1)
            stream.write("\n")
        if is_file:
            os.replace(new, path)

    def new(self, findings: Iterable[Finding]) -> tuple[Finding, ...]:
        """Those that it does not list, or not so often."""
        left = self.known.copy()
        found = []
        for finding in findings:
            if left[_key(finding)] > 0:
                left[_key(finding)] -= 1
            else:
                found.append(finding)
        return tuple(found)
