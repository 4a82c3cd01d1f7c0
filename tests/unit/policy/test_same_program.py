"""A program by another path of the same file: what merged /usr and links of trusted owners make of one."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from rootwrap_daemon.filters.values import Request
from rootwrap_daemon.policy.policy import Allowed, judge
from rootwrap_daemon.policy.read.policy import other_paths, same_programs, with_paths
from tests.unit.policy.things import OWNERS, STRANGER, Host, directory, link, policy, program


@pytest.fixture
def merged(tmp_path: Path) -> Path:
    """As a distribution has it, with an alternative and a stranger's link beside."""
    for name in ("tool", "nice"):
        program((tmp_path / "usr" / name) if name != "tool" else directory(tmp_path / "usr") / name)
    link(tmp_path / "sbin", "usr")
    link(tmp_path / "usr/alternative", "tool")
    program(directory(tmp_path / "local") / "tool")
    directory(tmp_path / "links")
    link(tmp_path / "links/tool", "../usr/alternative")
    return tmp_path


def paths(merged: Path, path: str) -> set[str]:
    directories = [f"{merged}/{name}" for name in ("sbin", "usr", "local", "links")]
    found = other_paths(f"{merged}/{path}", directories, OWNERS)
    return {one.removeprefix(f"{merged}/") for one in found}


def test_other_paths(merged: Path) -> None:
    assert paths(merged, "sbin/tool") == {"usr/tool", "links/tool"}
    assert paths(merged, "usr/tool") == {"sbin/tool", "links/tool"}
    # The same file by another name may do something else: many programs look at their name.
    assert paths(merged, "usr/alternative") == {"sbin/alternative"}
    # The same bytes are not the same program.
    assert paths(merged, "local/tool") == set()
    assert paths(merged, "missing/tool") == set()


@pytest.mark.root
def test_no_path_of_a_stranger(merged: Path) -> None:
    os.lchown(merged / "links/tool", STRANGER, STRANGER)
    assert paths(merged, "usr/tool") == {"sbin/tool"}


LINES = {
    "command": ("c: CommandFilter, {sbin}/tool, root", "{usr}/tool x", "{sbin}/tool x"),
    "argv": ("c: ArgvFilter, {usr}/tool, root, x", "{sbin}/tool x", "{usr}/tool x"),
    "by path": ("c: RegExpFilter, {sbin}/tool, root, {sbin}/tool, x", "{usr}/tool x", "{sbin}/tool x"),
    "by name": ("c: RegExpFilter, {sbin}/tool, root, tool, x", "{usr}/tool x", "{sbin}/tool x"),
    "inner": (
        "n: ChainingRegExpFilter, {sbin}/nice, root, nice\nc: CommandFilter, {sbin}/tool, root",
        "{usr}/nice {usr}/tool x",
        "{sbin}/nice {sbin}/tool x",
    ),
    "of variables": ("c: EnvFilter, env, root, A=, {sbin}/tool, x", "env A=1 {usr}/tool x", "{sbin}/tool x"),
    "of variables, by name": ("c: EnvFilter, env, root, A=, tool, x", "env A=1 {usr}/tool x", None),
    "of variables, another": ("c: EnvFilter, env, root, A=, {sbin}/tool, x", "env A=1 {local}/tool x", None),
    "another": ("c: CommandFilter, {sbin}/tool, root", "{local}/tool x", None),
    "words": ("c: ArgvFilter, {sbin}/tool, root, x", "{usr}/tool y", None),
    "a bare name": ("c: CommandFilter, tool, root", "{usr}/tool x", None),
    "of a process": ("k: KillFilter, root, {sbin}/tool", "{usr}/tool 1", None),
}


@pytest.mark.parametrize(("lines", "asked", "runs"), LINES.values(), ids=LINES)
def test_what_runs_is_what_the_filter_names(merged: Path, lines: str, asked: str, runs: str | None) -> None:
    names = {name: f"{merged}/{name}" for name in ("usr", "sbin", "local")}
    exec_dirs = (names["usr"], names["sbin"])
    plain = policy(merged, *lines.format(**names).split("\n"), exec_dirs=exec_dirs)
    filters = with_paths(plain.filters, exec_dirs, OWNERS)
    found = replace(plain, filters=filters, same=same_programs(filters, exec_dirs, OWNERS))
    judged = judge(found, Request(tuple(asked.format(**names).split())))
    assert isinstance(judged, Allowed) == (runs is not None)
    if runs is not None and isinstance(judged, Allowed):
        with judged.bound as bound:
            assert " ".join(bound.argv) == runs.format(**names)  # type: ignore[union-attr]
    assert Host().owners == OWNERS
