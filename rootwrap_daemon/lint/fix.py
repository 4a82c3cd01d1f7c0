"""Apply the edits of findings that change no verdict.

Promises: a file is replaced whole or not at all, and only if the same filters come out of it.
"""

import difflib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from rootwrap_daemon.lint.finding import Edit, Finding
from rootwrap_daemon.lint.subject import is_config, read_filters


def fix(findings: Iterable[Finding]) -> dict[str, int]:
    """Correct each file; return how many findings, by file. Raises OSError."""
    done = {}
    for file, _, after, count in _corrected(findings, {}):
        _replace(file, after)
        done[file] = count
    return done


def diff(findings: Iterable[Finding], texts: Mapping[str, str]) -> Iterator[str]:
    """The lines of a unified diff that `fix` would make. `texts`: those that are no files, by name."""
    for file, before, after, _ in _corrected(findings, texts):
        old, new = (text.splitlines(keepends=True) for text in (before, after))
        for line in difflib.unified_diff(old, new, file, file):
            yield line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n"


def _corrected(findings: Iterable[Finding], texts: Mapping[str, str]) -> Iterator[tuple[str, str, str, int]]:
    """Each file that can be corrected: its name, its text before and after, of how many findings."""
    by_file: dict[str, list[Finding]] = {}
    for finding in findings:
        if finding.problem.edits:
            by_file.setdefault(finding.location.file, []).append(finding)
    for file, fixable in by_file.items():
        # As bytes would be: no line end is changed on the way.
        before = texts[file] if file in texts else Path(file).read_bytes().decode()
        after, count = corrected(before, fixable)
        if count and _same_filters(before, after, file):
            yield file, before, after, count


def corrected(text: str, findings: Iterable[Finding]) -> tuple[str, int]:
    """The text with the edits of these findings, and of how many. What overlaps waits for the next time."""
    rows = text.split("\n")
    taken: list[Edit] = []
    count = 0
    for finding in findings:
        edits = finding.problem.edits
        if edits and all(
            _fits(rows, edit) and not any(_overlap(edit, other) for other in taken) for edit in edits
        ):
            taken += edits
            count += 1
    for edit in sorted(taken, key=lambda one: one.location, reverse=True):
        row, start = edit.location.line - 1, edit.location.column - 1
        if not edit.new and edit.old == rows[row].removesuffix("\r"):
            del rows[row]
        else:
            rows[row] = rows[row][:start] + edit.new + rows[row][start + len(edit.old) :]
    return "\n".join(rows), count


def _fits(rows: list[str], edit: Edit) -> bool:
    row, start = edit.location.line - 1, edit.location.column - 1
    return row < len(rows) and rows[row][start : start + len(edit.old)] == edit.old


def _overlap(one: Edit, other: Edit) -> bool:
    if one.location.line != other.location.line:
        return False
    first, second = sorted((one, other), key=lambda edit: edit.location)
    return second.location.column < first.location.column + max(1, len(first.old))


def _same_filters(before: str, after: str, file: str) -> bool:
    """True if the daemon reads filters of the same names from both."""
    if is_config(before, file):
        return is_config(after, file)
    old, new = ([one.name.lower() for one in read_filters(text, file).filters] for text in (before, after))
    return old == new


def _replace(file: str, text: str) -> None:
    path = os.path.realpath(file)
    status = os.stat(path)
    descriptor, temporary = tempfile.mkstemp(dir=os.path.dirname(path), prefix=".rootwrapctl-")
    try:
        with open(descriptor, "w", encoding="utf-8", newline="") as stream:
            stream.write(text)
        shutil.copymode(path, temporary)
        if (status.st_uid, status.st_gid) != (os.geteuid(), os.getegid()):
            os.chown(temporary, status.st_uid, status.st_gid)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
