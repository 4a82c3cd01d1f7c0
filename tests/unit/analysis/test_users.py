"""Tools know for whom a filter is, and as whom its commands run."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from rootwrap_daemon.analysis import inventory, load
from rootwrap_daemon.analysis.explain import explain
from rootwrap_daemon.analysis.load import Source
from tests.prepared import CTL

FILTERS = """\
[DEFAULT]
users = daemon

[Filters]
id: ArgvFilter, id, nobody|root, -u
ls: ArgvFilter, ls, root, /
nice: ChainingRegExpFilter, nice, root|nobody, nice

[ls]
users = %games, no-such-user
"""


@pytest.fixture
def source() -> Source:
    return load.from_texts({"x.filters": FILTERS})


@pytest.mark.parametrize(
    ("words", "user", "asker", "why"),
    [
        ("id -u", None, None, ""),
        ("id -u", "root", "daemon", ""),
        ("id -u", None, "daemon", ""),
        ("id -u", "games", "daemon", "it runs as nobody or root, not as games"),
        ("id -u", None, "games", "it is for daemon alone"),
        ("ls /", None, "games", ""),
        ("ls /", None, "no-such-user", ""),
        ("ls /", None, "%games", ""),
        ("ls /", None, "daemon", "it is for %games, no-such-user alone"),
        ("nice id -u", "nobody", "daemon", ""),
        ("nice id -u", "games", "daemon", "no filter of the inner command can be used in a chain"),
    ],
)
def test_explain(source: Source, words: str, user: str | None, asker: str | None, why: str) -> None:
    found = explain(source, tuple(words.split()), user=user, asker=asker)
    if not why:
        assert found.code in ("allowed", "executable_not_found"), found
        return
    assert found.code == "denied"
    (trace,) = found.traces
    reasons = [trace.stopped, *(one.stopped for one in trace.inner)]
    assert any(reason in (why, "it runs as nobody or root, not as games") for reason in reasons), reasons


def test_what_runs_has_the_user(source: Source) -> None:
    for user, expected in ((None, "nobody"), ("nobody", "nobody"), ("root", "root")):
        found = explain(source, ("id", "-u"), user=user, asker="daemon")
        if os.geteuid() == 0:
            assert found.effect is not None
            assert found.effect.user == expected


def test_list(source: Source) -> None:
    def names(asker: str | None) -> list[str]:
        return [one.name for one in inventory.items(source, source.asker(asker))]

    assert names(None) == ["id", "ls", "nice"]
    assert names("daemon") == ["id", "nice"]
    assert names("games") == names("no-such-user") == ["ls"]
    assert names("nobody") == names("no-other-user") == []
    assert inventory.items(source, source.asker("daemon"))[0].run_as == "nobody|root"
    assert inventory.items(source, source.asker("daemon"))[0].options == ("users = daemon",)


def test_policy_tests(tmp_path: Path) -> None:
    (tmp_path / "x.filters").write_text(FILTERS)
    (tmp_path / "good.yaml").write_text(
        "filters: [x.filters]\n"
        "tests:\n"
        "  - {argv: [id, -u], user: daemon, run_as: root, expect: match}\n"
        "  - {argv: [id, -u], user: daemon, run_as: games, expect: deny}\n"
        "  - {argv: [id, -u], user: nobody, expect: deny}\n"
        '  - {argv: [ls, /], user: "%games", expect: match}\n'
    )
    (tmp_path / "bad.yaml").write_text(
        "filters: [x.filters]\ntests:\n  - {argv: [id, -u], user: nobody, expect: match}\n"
    )
    for name, code in (("good", 0), ("bad", 1)):
        done = CTL.run("test", f"{name}.yaml", cwd=tmp_path)
        assert done.returncode == code, done.stdout + done.stderr


def test_commands(tmp_path: Path) -> None:
    (tmp_path / "x.filters").write_text(FILTERS)

    def ctl(*words: str) -> "subprocess.CompletedProcess[str]":
        return CTL.run(*words)

    named = ("--filters", str(tmp_path))
    assert "it is for daemon alone" in ctl("explain", *named, "--user", "games", "id", "-u").stdout
    assert "not as games" in ctl("explain", *named, "--run-as", "games", "id", "-u").stdout
    listed = json.loads(ctl("list", *named, "--user", "daemon", "--json").stdout)
    assert [one["name"] for one in listed["filters"]] == ["id", "nice"]
