"""rootwrapctl itself: which module runs, how errors end, and what is imported meanwhile."""

import argparse
import importlib
import subprocess
import sys
from collections.abc import Callable
from types import ModuleType

import pytest

from rootwrap_daemon.cli import ctl, data_files
from rootwrap_daemon.errors import ConfigurationError, Denied, Usage

each_command = pytest.mark.parametrize("name", ctl.COMMANDS)


def _command(monkeypatch: pytest.MonkeyPatch, run: Callable[[argparse.Namespace], int]) -> None:
    """Make `check` a command that does just this."""
    module = ModuleType("made_up")
    module.__doc__, module.EPILOG = "Made up.", ""  # type: ignore[attr-defined]
    module.configure = lambda parser: parser.add_argument("--some-option")  # type: ignore[attr-defined]
    module.run = run  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "rootwrap_daemon.cli.commands.check", module)


@each_command
def test_a_command_is_a_module_of_its_name(name: str) -> None:
    module = importlib.import_module(f"rootwrap_daemon.cli.commands.{name.replace('-', '_')}")
    assert module.__doc__
    assert callable(module.configure)
    assert callable(module.run)


@each_command
def test_help_has_what_it_does_and_an_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        ctl.main([name, "--help"])
    assert end.value.code == 0
    shown = capsys.readouterr().out
    doc = importlib.import_module(f"rootwrap_daemon.cli.commands.{name.replace('-', '_')}").__doc__ or ""
    assert doc.partition("\n")[0] in " ".join(shown.split())
    assert f"rootwrapctl {name}" in shown.partition("example:")[2]


def test_the_overview_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        ctl.main(["--help"])
    assert end.value.code == 0
    shown = capsys.readouterr().out
    assert all(f"    {name}" in shown for name in ctl.COMMANDS)


@pytest.mark.parametrize(
    ("files", "named"),
    [((), True), (("x/ctl.py",), False), (("x/ctl.py", "../../share/man/man8/rootwrapctl.8"), True)],
)
def test_the_overview_names_manual_pages_that_there_are(
    files: tuple[str, ...],
    named: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A package of a distribution lists no files; pip lists them, and a checkout had none to install."""
    monkeypatch.setattr(data_files, "_files", lambda: files)
    with pytest.raises(SystemExit):
        ctl.main(["--help"])
    assert ("man rootwrapctl" in capsys.readouterr().out) == named


@pytest.mark.parametrize("words", [["chec"], ["--help-me"], ["nothing", "check"]])
def test_what_is_no_command_is_usage(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        ctl.main(words)
    assert end.value.code == Usage.exit_code
    assert "usage: rootwrapctl" in capsys.readouterr().err


def test_the_bare_name_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert ctl.main([]) == Usage.exit_code
    shown = capsys.readouterr()
    assert shown.out == ""
    assert all(f"    {name}" in shown.err for name in ctl.COMMANDS)


def test_options_are_not_abbreviated(monkeypatch: pytest.MonkeyPatch) -> None:
    _command(monkeypatch, lambda args: 0)
    assert ctl.main(["check", "--some-option", "x"]) == 0
    with pytest.raises(SystemExit) as end:
        ctl.main(["check", "--some", "x"])
    assert end.value.code == Usage.exit_code


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (Denied("no"), 99, "no"),
        (ConfigurationError("one\ntwo \x1b[31m"), 78, "one; two \\x1b[31m"),
        (FileNotFoundError(2, "No such file", "/x"), 2, "/x: No such file"),
    ],
)
def test_an_error_is_one_line_and_its_exit_code(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: Exception,
    code: int,
    line: str,
) -> None:
    def run(args: argparse.Namespace) -> int:
        raise error

    _command(monkeypatch, run)
    assert ctl.main(["check"]) == code
    assert capsys.readouterr().err == f"rootwrapctl: {line}\n"


def test_a_closed_pipe_is_quiet() -> None:
    program = (
        "import sys; from types import SimpleNamespace; from rootwrap_daemon.cli import ctl\n"
        "made = SimpleNamespace(EPILOG='', configure=lambda parser: None, run=lambda args: print(9))\n"
        "ctl.load = lambda name: made\n"
        "sys.exit(ctl.main(['check']))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    if process.stdout is None or process.stderr is None:
        pytest.fail("no pipes")
    process.stdout.close()
    complaint = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=60) == 141
    assert complaint == b""


def test_only_the_command_that_is_used_is_imported() -> None:
    program = (
        "import sys; from rootwrap_daemon.cli import ctl\n"
        "before = set(sys.modules)\n"
        "try: ctl.main(['rules', '--help'])\n"
        "except SystemExit: pass\n"
        "print('|', *sorted(name for name in sys.modules if name.startswith('rootwrap_daemon.')))\n"
        "print(*before, file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = done.stdout.rpartition("|")[2].split()
    assert "rootwrap_daemon.cli.commands.rules" in loaded
    assert "rootwrap_daemon.cli.commands.check" not in loaded
    before = done.stderr.split()
    assert not [name for name in before if name.startswith(("oslo", "rich", "regex", "msgpack"))]
