"""Which instance, policy, socket and log the arguments of a command mean."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from rootwrap_daemon import DEFAULT_SOCKET
from rootwrap_daemon.cli import arguments, ctl

Install = Callable[..., Path]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Make the configuration of an instance, as `rootwrapctl install` does."""
    monkeypatch.setattr(arguments, "CONFIG_DIR", str(tmp_path / "etc"))
    # This process has other tests to run.
    monkeypatch.setattr(arguments, "drop_privileges", lambda found: "")
    monkeypatch.delenv("ROOTWRAP_DAEMON_SOCKET", raising=False)

    def install(name: str, program: str = "ls", **options: str) -> Path:
        filters = tmp_path / f"etc/{name}.filters.d"
        filters.mkdir(parents=True)
        (filters / "x.filters").write_text(f"[Filters]\nx: RegExpFilter, {program}, root, {program}\n")
        options = {"filters_path": str(filters), "socket_path": f"{tmp_path}/{name}.sock", **options}
        lines = [f"{option} = {value}\n" for option, value in options.items()]
        path = tmp_path / f"etc/{name}.conf"
        path.write_text("[DEFAULT]\n" + "".join(lines))
        return path

    return install


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    try:
        code = ctl.main(list(words))
    except SystemExit as end:
        code = int(end.code or 0)
    shown = capsys.readouterr()
    return code, shown.out, shown.err


#: Commands that mean an instance, with what they need beside it.
COMMANDS = {
    "check": ["check"],
    "diff": ["diff", "NEW"],
    "suggest": ["suggest"],
    "status": ["status"],
    "metrics": ["metrics"],
    "audit": ["audit"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_an_instance_that_is_not_there(
    install: Install, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    install("neutron")
    code, out, err = run(capsys, *COMMANDS[command], "--instance", "neutrn")
    assert (code, out) == (2, "")
    assert "no instance neutrn is installed" in err and "did you mean neutron?" in err


@pytest.mark.parametrize("command", [name for name in COMMANDS if name not in ("suggest",)])
def test_several_instances_and_none_named(
    install: Install, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    install("neutron")
    install("nova")
    code, out, err = run(capsys, *COMMANDS[command])
    assert (code, out) == (64, "")
    assert "say which one with --instance: neutron, nova" in err


def test_the_only_instance_is_meant(
    install: Install, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    install("neutron", program="true")
    (tmp_path / "neutron.sock").touch()
    assert "in 2 files" in run(capsys, "check")[1]
    assert run(capsys, "status")[0] == 69
    assert f"{tmp_path}/neutron.sock" in run(capsys, "status")[2]


def test_the_variable_names_an_instance_by_its_socket(
    install: Install, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("neutron")
    install("nova")
    monkeypatch.setenv("ROOTWRAP_DAEMON_SOCKET", f"{tmp_path}/nova.sock")
    assert arguments.instance(None).name == "nova"
    assert f"{tmp_path}/nova.sock" in run(capsys, "status")[2]
    assert arguments.instance("neutron").name == "neutron"
    assert f"{tmp_path}/neutron.sock" in run(capsys, "status", "--instance", "neutron")[2]
    assert "/elsewhere" in run(capsys, "status", "--socket", "/elsewhere")[2]
    assert "/elsewhere" in run(capsys, "metrics", "--socket", "/elsewhere")[2]


def test_without_an_instance_the_default_socket_is_asked(
    install: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    assert DEFAULT_SOCKET in run(capsys, "status")[2]
    assert "no instance is installed" in run(capsys, "check")[2]


def test_an_instance_and_another_way_to_name_it(install: Install, capsys: pytest.CaptureFixture[str]) -> None:
    path = install("neutron")
    assert run(capsys, "check", "--instance", "neutron", "--config-file", str(path))[0] == 64
    assert run(capsys, "status", "--instance", "neutron", "--socket", "/x")[0] == 64
    assert run(capsys, "diff", "--instance", "neutron", str(path), str(path))[0] == 64


def test_the_log_of_an_instance(install: Install, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    install("neutron", audit_file=f"{tmp_path}/audit.log")
    install("nova", audit_file="journal", audit="best_effort")
    for number, name in enumerate(("audit.log.1", "audit.log")):
        record = {
            "event": "denied",
            "id": f"n{number}",
            "argv": ["rm", str(number)],
            "uid": 0,
            "code": "denied",
        }
        (tmp_path / name).write_text(json.dumps(record) + "\n")
    out = run(capsys, "audit", "--instance", "neutron")[1]
    assert "rm 0" in out and "rm 1" in out and "denied 2" in out
    assert "# rm" in run(capsys, "suggest", "--instance", "neutron")[1].replace("#   rm", "# rm")
    (source,) = arguments.instance("nova").logs()
    assert (source.name, source.unit) == ("journal", "rootwrap-daemon@nova.service")
    assert arguments.logs(["journal"], "nova") == [source]
    assert arguments.logs(["journal"])[0].unit is None


def test_instances_are_listed(install: Install, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run(capsys, "instances")[0] == 2
    install("neutron", allowed_users="root, nobody")
    code, out, _ = run(capsys, "instances")
    assert code == 0
    assert out.splitlines()[1].split() == [
        *("neutron", "no", f"{tmp_path}/neutron.sock"),
        *("root,", "nobody", "standard", "error"),
    ]
    install("broken", max_output="many")
    code, out, _ = run(capsys, "instances", "--json")
    assert code == 1
    broken, good = json.loads(out)
    assert "max_output" in broken["fault"]
    assert good["socket"] == f"{tmp_path}/neutron.sock"
