"""The examples in the docstrings of rules, as files on this host."""

import re
from pathlib import Path

from rootwrap_daemon.analysis import audit_log
from rootwrap_daemon.analysis.subjects import Wanted, gather
from rootwrap_daemon.lint.check import judge
from rootwrap_daemon.lint.finding import Finding
from rootwrap_daemon.lint.knowledge import confinement
from rootwrap_daemon.lint.rules import Rule

ETC = Path(__file__).parents[3] / "etc"
#: How an example with several files names each: as head(1) does.
_FILE = re.compile(r"^==> (.+) <==\n", re.MULTILINE)


def scratch(directory: Path) -> None:
    """What the examples about a host speak of."""
    for name, mode in (("private", 0o755), ("shared", 0o777), ("open", 0o777)):
        (directory / name).mkdir()
        (directory / name).chmod(mode)
    (directory / "mixed").mkdir()
    (directory / "mixed/theirs").mkdir()
    (directory / "mixed/theirs").chmod(0o777)
    for name, mode in (("program", 0o755), ("writable", 0o777)):
        (directory / name).write_text("#!/bin/sh\n")
        (directory / name).chmod(mode)


def files_of(example: str) -> dict[str, str]:
    """Name -> text; without names, it is one filter file."""
    _, *parts = _FILE.split(example)
    if not parts:
        return {"x.filters": example if example.startswith("[") else f"[Filters]\n{example}"}
    return dict(zip(parts[::2], parts[1::2], strict=True))


def wanted(example: str, directory: Path, *, host: bool) -> Wanted:
    """The example's files below `directory`, and how to judge them."""
    scratch(directory)
    paths: list[str] = []
    config_file = used = None
    for name, text in files_of(example).items():
        name = name.removeprefix("config ")
        path = directory / (name if "/" in name else f"private/{name}")
        path.write_text(text.replace("/scratch/", f"{directory}/"))
        path.chmod(0o644)
        if name == "audit.jsonl":
            path = path.rename(directory / name)
            used = audit_log.used_filters([audit_log.Source(str(path))])
        elif "==> config " in example:
            config_file = str(path)
        else:
            paths.append(str(path if name.endswith(".conf") else path.parent))
    takes = confinement.taken([(ETC / "systemd/rootwrap-daemon@.service").read_text()]) if host else {}
    return Wanted(tuple(paths), config_file, host, used, takes=takes)


def findings_of(rule: Rule, example: str, directory: Path, rules: list[Rule]) -> list[Finding]:
    """What this rule finds in its example when these rules are asked."""
    subjects = gather(wanted(example, directory, host=rule.id.startswith("RW2")))
    return [one for subject in subjects for one in judge(subject, rules) if one.rule == rule.id]
