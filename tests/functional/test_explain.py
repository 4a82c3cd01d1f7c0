"""What `rootwrapctl explain` says; that it agrees with the daemon is in tests/security/test_attacks.py."""

import os
from pathlib import Path

import pytest

from rootwrap_daemon.analysis import load
from rootwrap_daemon.analysis.explain import explain
from rootwrap_daemon.cli import arguments, ctl, output
from tests.real_daemon import Daemon, NewDaemon


@pytest.mark.root
def test_no_limit_in_time(new_daemon: NewDaemon) -> None:
    filters = "[Filters]\nip: CommandFilter, cat, root\n[ip]\ntimeout = {}\n"
    for value, shown, seconds in (("none", "limits: no limit in time, ", None), ("7", "limits: 7 s, ", 7)):
        daemon = new_daemon(filters.format(value), start=False)
        effect = explain(load.from_config(str(daemon.config)), ("cat",)).effect
        assert effect is not None
        assert effect.timeout == seconds
        assert [line.startswith(shown) for line in output.effect_lines(effect)][-1]


def test_says_what_would_run(daemon: Daemon) -> None:
    found = load.from_files([str(daemon.directory / "filters.d")])
    explained = explain(found, ("sh", "-c", "id"), (("GREETING", "hello"),))
    assert explained.allowed
    assert explained.filter == "sh"
    effect = explained.effect
    assert effect is not None
    assert effect.argv[1:] == ("-c", "id")
    assert effect.executable.endswith("/sh")
    assert effect.env["GREETING"] == "hello"
    assert (effect.user, effect.uid, effect.cwd) == ("root", 0, "/")
    denied = explain(found, ("sh", "-c", "id"), (("LD_PRELOAD", "/x"),))
    assert denied.code == "environment_denied"
    assert denied.obstacles == {"sh": "its options do not allow the variable LD_PRELOAD"}


def test_shows_what_options_add() -> None:
    text = """\
[Filters]
ls: CommandFilter, ls, root
[ls]
limits = nofile=64, cpu=5
umask = 077
cwd = /usr
timeout = 7
max_output = 99
no_new_privs = yes
capabilities = CAP_NET_ADMIN
set_env = TZ=UTC
"""
    effect = explain(load.from_texts({"f": text}), ("ls", "-l")).effect
    assert effect is not None
    # What sets the limits is not what would run.
    assert effect.argv == (effect.executable, "-l")
    assert effect.executable.endswith("/ls")
    assert effect.limits == {"nofile": 64, "cpu": 5}
    assert (effect.umask, effect.cwd, effect.timeout, effect.max_output) == ("077", "/usr", 7, 99)
    assert (effect.no_new_privs, effect.capabilities, effect.env["TZ"]) == (True, ("CAP_NET_ADMIN",), "UTC")


def test_shows_where_no_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    (tmp_path / "open" / "a").write_text("x")
    text = f"[Filters]\nchown: PathFilter, chown, root, root, {tmp_path}/open\n"
    explained = explain(load.from_texts({"f": text}), ("chown", "root", f"{tmp_path}/open/a"))
    assert explained.allowed
    assert explained.effect is not None
    assert explained.effect.argv[2] == f"{tmp_path}/open/a"
    assert explained.effect.nosymfollow == (f"{tmp_path}/open",)


def test_nothing_runs_and_nothing_is_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    filters = tmp_path / "x.filters"
    filters.write_text(f"[Filters]\ntouch: PathFilter, touch, root, {tmp_path}\n")
    before = sorted(tmp_path.iterdir())
    child = os.fork()
    if child == 0:
        code = ctl.main(["explain", "--filters", str(filters), "--", "touch", f"{tmp_path}/new"])
        os._exit(code)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) in (0, 1)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["--filters", "/nonexistent", "--", "ls"], 2, "/nonexistent"),
        (["--config-file", "/nonexistent", "--", "ls"], 2, "/nonexistent"),
        (["--env", "X", "--filters", "/", "--", "ls"], 64, "write NAME=VALUE"),
    ],
)
def test_what_cannot_be_read_is_said(
    capsys: pytest.CaptureFixture[str], words: list[str], code: int, text: str
) -> None:
    assert ctl.main(["explain", *words]) == code
    assert text in capsys.readouterr().err


def test_no_dashes_are_needed_and_the_wrong_word_is_marked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arguments, "drop_privileges", lambda found: "as nobody")
    path = tmp_path / "x.filters"
    path.write_text("[Filters]\nls: RegExpFilter, ls, root, ls, -l, -a, -n\n")
    assert ctl.main(["explain", "--filters", str(path), "ls", "-l", "-a", "-n"]) == 0
    capsys.readouterr()
    assert ctl.main(["explain", "--filters", str(path), "ls", "-l", "--json", "-x"]) == 1
    lines = capsys.readouterr().out.splitlines()
    place = lines.index("    ls -l --json -x")
    assert lines[place + 1] == "          ^^^^^^"
    assert sum("NO " in line for line in lines) == 1
    assert ctl.main(["explain", "--filters", str(path)]) == 64
    assert ctl.main(["explain", "--filters", str(path), "--", "-x"]) == 1


def test_a_missing_word_and_the_inner_word_of_a_chain_are_marked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arguments, "drop_privileges", lambda found: "as nobody")
    path = tmp_path / "x.filters"
    path.write_text("[Filters]\nip: IpNetnsExecFilter, ip, root\nls: RegExpFilter, ls, root, ls, -l\n")
    for words, marked in (
        (["ls"], "       ^"),
        (["ip", "netns", "exec", "n", "ls", "-x"], f"    {' ' * 19}^^"),
    ):
        assert ctl.main(["explain", "--filters", str(path), *words]) == 1
        lines = capsys.readouterr().out.splitlines()
        assert lines[lines.index(f"    {' '.join(words)}") + 1] == marked
