"""`rootwrapctl install` and `uninstall` below a directory: what they put, keep, and take away."""

import argparse
import configparser
import contextlib
import errno
import grp
import json
import os
import pwd
import re
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rootwrap_daemon import config
from rootwrap_daemon.cli import ctl, data_files, from_rootwrap
from rootwrap_daemon.cli.commands import install as install_command
from rootwrap_daemon.cli.installation import Placer
from rootwrap_daemon.errors import Usage

ROOT = Path(__file__).parents[3]
UNITS = "etc/systemd/system"


@pytest.fixture(autouse=True)
def plain_interpreter(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Python whose path can stand in a unit, wherever this checkout is."""
    if " " in sys.executable:
        wrapper = tmp_path_factory.mktemp("bin") / "python"
        wrapper.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
        wrapper.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(wrapper))


def test_a_path_with_a_space_cannot_stand_in_a_unit(
    system: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/opt/a b/bin/python")
    assert install(system) == 78
    assert "cannot stand in a unit" in capsys.readouterr().err


def test_what_a_package_has_is_not_put_again(system: Path) -> None:
    """A unit of another Python's, or of another version, is: /etc comes first."""
    assert install(system) == 0
    service, socket = (system / UNITS / f"rootwrap-daemon@.{kind}" for kind in ("service", "socket"))
    packaged = system / "usr/lib/systemd/system"
    packaged.mkdir(parents=True)
    (packaged / socket.name).write_text(socket.read_text())
    (packaged / service.name).write_text(service.read_text().replace(sys.executable, "/elsewhere/python"))
    assert uninstall(system) == 0
    assert install(system) == 0
    assert not socket.exists()
    assert service.exists()


@pytest.fixture
def system(tmp_path: Path) -> Path:
    """The root of a system with two users."""
    # A plain user's directories are what nobody else can change, too; pytest's own lie in /tmp.
    tmp_path.chmod(0o755)
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text(
        "netagent:x:990:991::/:/bin/false\nother:x:992:992::/:/bin/false\nlonely:x:993:993::/:/bin/false\n"
    )
    (tmp_path / "etc/group").write_text("agents:x:991:\nother:x:992:\n")
    return tmp_path


def install(system: Path, instance: str = "netagent", *more: str, user: str = "netagent") -> int:
    return ctl.main(["install", "--instance", instance, "--user", user, "--root", str(system), *more])


def uninstall(system: Path, instance: str = "netagent", *more: str) -> int:
    return ctl.main(["uninstall", "--instance", instance, "--root", str(system), *more])


def tree(system: Path) -> dict[str, str]:
    """Every path with its mode and content."""
    return {
        str(path.relative_to(system)): f"{path.lstat().st_mode:o} "
        + (path.read_text() if path.is_file() else "")
        for path in sorted(system.rglob("*"))
    }


def test_puts_and_takes_away_just_that(system: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = tree(system)
    assert install(system, "netagent", "--network-agent") == 0
    put = tree(system)
    unit = (system / UNITS / "rootwrap-daemon@.service").read_text()
    assert f"\nExecStart={sys.executable} -I -m rootwrap_daemon.daemon.main --config-file" in unit
    assert "SocketGroup=agents\n" in put[f"{UNITS}/rootwrap-daemon@netagent.socket.d/10-access.conf"]
    assert f"{UNITS}/rootwrap-daemon@netagent.service.d/50-network-agent.conf" in put
    assert "etc/sysusers.d/rootwrap-daemon.conf" in put and "etc/tmpfiles.d/rootwrap-daemon.conf" in put
    assert list((system / "etc/rootwrap-daemon/netagent.filters.d").iterdir()) == []
    assert all(text.startswith(("100644", "40755")) for text in put.values()), put
    settings = config.load(str(system / "etc/rootwrap-daemon/netagent.conf"))[0]
    assert settings.socket_path == "/run/rootwrap-daemon/netagent.sock"
    assert (settings.allowed_users, settings.allowed_groups) == (("netagent",), ())
    assert settings.filters_path == ("/etc/rootwrap-daemon/netagent.filters.d",)
    assert (settings.audit_file, settings.status_group) == (
        "/var/log/rootwrap-daemon/netagent.jsonl",
        "rootwrap-daemon",
    )
    assert "\nRuntimeDirectory=rootwrap-daemon/%i\n" in unit
    assert settings.state_dir == "/run/rootwrap-daemon/netagent"
    said = capsys.readouterr().out
    assert "enable rootwrap-daemon@netagent.socket" in said
    assert "Environment=ROOTWRAP_DAEMON_SOCKET=/run/rootwrap-daemon/netagent.sock\n" in said
    # Once more is no different.
    assert install(system, "netagent", "--network-agent") == 0
    assert tree(system) == put
    assert uninstall(system) == 0
    after = tree(system)
    assert after.keys() - before.keys() == {"var", "var/lib"}


def test_the_page_says_what_is_put(
    system: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    made = tmp_path_factory.mktemp("man") / "rootwrapctl.8"
    made.write_text(".TH rootwrapctl\n")
    monkeypatch.setattr(data_files, "manual_pages", lambda: [str(made)])
    page = (ROOT / "doc/source/user/service.rst").read_text()
    (listed,) = re.findall(r"``install`` puts these(.*?)\n\n``--dry-run``", page, re.DOTALL)
    named = {
        name
        for line in re.findall(r"^``/.*", listed, re.MULTILINE)
        for name in re.findall(r"``(\S+)``", line)
    }
    socket = "/etc/systemd/system/rootwrap-daemon@.socket"
    assert ".socket" in named, "it is named beside the service"
    named = {name.replace("NAME", "netagent") for name in named - {".socket"}} | {socket}
    assert install(system, "netagent", "--network-agent", "--with", "clock") == 0
    put = {f"/{path.relative_to(system)}" for path in (system / "etc").rglob("*") if path.is_file()}
    put -= {"/etc/passwd", "/etc/group"}
    there = put | {"/etc/rootwrap-daemon/netagent.filters.d/", "/usr/local/share/man/man*/"}
    assert named == there


def test_dry_run_touches_nothing_and_says_it_all(system: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = tree(system)
    assert install(system, "netagent", "--dry-run") == 0
    assert tree(system) == before
    told = capsys.readouterr().out
    install(system)
    assert told == capsys.readouterr().out.split("\nWhat to do next")[0]
    put = tree(system)
    assert uninstall(system, "netagent", "--dry-run") == 0
    assert tree(system) == put
    assert "remove" in capsys.readouterr().out


@pytest.mark.parametrize("renewed", [False, True])
def test_an_instance_that_may_run_is_restarted(renewed: bool, capsys: pytest.CaptureFixture[str]) -> None:
    """A drop-in that is put for it changes nothing of a daemon that runs."""
    args = argparse.Namespace(from_rootwrap=None, user="netagent")
    placer = Placer("/", print, dry=True)
    install_command._say_next("no-such", args, placer, sys.executable, 0, renewed=renewed)
    told = capsys.readouterr().out
    assert ("systemctl try-restart rootwrap-daemon@no-such.service" in told) is renewed
    assert "Write filters" in told


def test_what_is_done_is_no_next_step(
    system: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[bool] = []
    say_next = install_command._say_next

    def listen(*words: Any, renewed: bool) -> None:
        said.append(renewed)
        say_next(*words, renewed=renewed)

    monkeypatch.setattr(install_command, "_say_next", listen)
    assert install(system) == 0
    (system / "etc/rootwrap-daemon/netagent.filters.d/x.filters").write_text("[Filters]\n")
    capsys.readouterr()
    assert install(system) == 0
    assert "Write filters" not in capsys.readouterr().out
    assert install(system, "netagent", "--with", "clock") == 0
    assert said == [False, False, True]


def test_what_was_changed_is_neither_replaced_nor_removed(
    system: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    install(system)
    conf = system / "etc/rootwrap-daemon/netagent.conf"
    conf.write_text(conf.read_text() + "max_commands = 5\n")
    filters = system / "etc/rootwrap-daemon/netagent.filters.d/own.filters"
    filters.write_text("[Filters]\n")
    capsys.readouterr()
    install(system)
    assert "max_commands" in conf.read_text()
    assert f"keep  {conf}: not as it was put there" in capsys.readouterr().out
    uninstall(system)
    told = capsys.readouterr().out
    assert f"leave {conf}: it was changed since" in told and f"leave {filters.parent}/: not empty" in told
    assert conf.exists() and filters.exists()
    assert not (system / UNITS).exists()


def test_what_was_there_before_is_not_taken_away(system: Path) -> None:
    units = system / UNITS
    units.mkdir(parents=True)
    masked = units / "rootwrap-daemon@.socket"
    masked.symlink_to("/dev/null")
    own = units / "rootwrap-daemon@.service"
    own.write_text("[Service]\n")
    install(system)
    uninstall(system)
    assert masked.is_symlink() and own.read_text() == "[Service]\n"


def older(system: Path) -> tuple[Path, str]:
    """A unit as the version before put it, and what it is to become."""
    install(system)
    unit = system / UNITS / "rootwrap-daemon@.service"
    new = unit.read_text()
    record_file = system / "var/lib/rootwrap-daemon/installed.json"
    unit.write_text("# of the version before\n")
    record = json.loads(record_file.read_text())
    record["sums"][f"/{UNITS}/rootwrap-daemon@.service"] = _sum(unit)
    record_file.write_text(json.dumps(record))
    return unit, new


def test_an_older_version_is_renewed(system: Path) -> None:
    unit, new = older(system)
    install(system)
    assert unit.read_text() == new


@pytest.mark.parametrize("written", [False, True])
def test_a_renewal_that_was_cut_short_is_made_good(
    system: Path, monkeypatch: pytest.MonkeyPatch, written: bool
) -> None:
    """Whether it ended before the file was written or after: it is renewed, and taken away, later."""
    unit, new = older(system)
    write = Placer._write

    def fails(self: Placer, real: str, text: str) -> None:
        if real == str(unit) and not written:
            raise OSError(errno.ENOSPC, "no space")
        write(self, real, text)
        if real == str(unit):
            raise OSError(errno.EIO, "cut short")

    with monkeypatch.context() as patched:
        patched.setattr(Placer, "_write", fails)
        with contextlib.suppress(OSError, SystemExit):
            install(system)
    if written:
        # And by the next version.
        unit.write_text(new)
    install(system)
    assert unit.read_text() == new
    assert uninstall(system) == 0
    assert not unit.exists()


def _sum(path: Path) -> str:
    return subprocess.run(["sha256sum", path], capture_output=True, text=True, check=True).stdout.split()[0]


def test_instances_share_units(system: Path) -> None:
    install(system)
    install(system, "second", user="other")
    assert uninstall(system) == 0
    unit = system / UNITS / "rootwrap-daemon@.service"
    assert unit.exists() and (system / "etc/rootwrap-daemon/second.conf").exists()
    assert not (system / "etc/rootwrap-daemon/netagent.conf").exists()
    assert uninstall(system, "second") == 0
    assert not unit.exists()


@pytest.mark.parametrize("whose", ["ours", "theirs", "package", "changed", "gone"])
def test_the_group_is_taken_away_by_who_made_it(
    system: Path, capsys: pytest.CaptureFixture[str], whose: str
) -> None:
    group, ours = system / "etc/group", system / "etc/sysusers.d/rootwrap-daemon.conf"
    made = f"{group.read_text()}rootwrap-daemon:x:994:\n"
    if whose == "theirs":
        group.write_text(made)
    install(system)
    assert ours.exists() is (whose != "theirs")
    if whose != "gone":
        # As systemd-sysusers does.
        group.write_text(made)
    # Once more is no different.
    install(system)
    install(system, "other", user="other")
    assert ours.exists() is (whose != "theirs")
    if whose == "package":
        (system / "usr/lib/sysusers.d").mkdir(parents=True)
        (system / "usr/lib/sysusers.d" / ours.name).write_text(ours.read_text())
    if whose == "changed":
        ours.write_text(f"{ours.read_text()}m someone rootwrap-daemon\n")
    uninstall(system)
    assert "groupdel" not in capsys.readouterr().out
    uninstall(system, "other")
    told = f"What to do next:\n* groupdel --root {system} rootwrap-daemon\n"
    assert (told in capsys.readouterr().out) is (whose == "ours")


@pytest.mark.parametrize("name", ["rootwrap-daemon@.service", "installed.json"])
@pytest.mark.parametrize("killed", [False, True])
def test_what_was_cut_short_leaves_nothing(
    system: Path, monkeypatch: pytest.MonkeyPatch, name: str, killed: bool
) -> None:
    """Between the making of a file and its name: by Ctrl-C, and by SIGKILL, which leaves it for later."""
    before = tree(system)
    rename = os.rename

    def cut(old: str, new: str) -> None:
        # Of the record, not the first one: a directory was made by then.
        if new.endswith(f"/{name}") and "rootwrap-daemon@" in Path(old).read_text():
            if killed:
                os.kill(os.getpid(), signal.SIGKILL)
            raise KeyboardInterrupt
        rename(old, new)

    with monkeypatch.context() as patched:
        patched.setattr(os, "rename", cut)
        if killed:
            if (child := os.fork()) == 0:
                with contextlib.suppress(BaseException):
                    install(system)
                os._exit(1)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        else:
            assert install(system) == 130
    assert [path.name for path in system.rglob(".*.new")] == ([f".{name}.new"] if killed else [])
    assert uninstall(system) == 0
    assert tree(system).keys() - before.keys() <= {"var", "var/lib"}


@pytest.mark.parametrize("name", ["../x", "a b", "", "A", "a.sock", "%i", "-x"])
def test_names_are_checked(system: Path, name: str) -> None:
    assert ctl.main(["install", f"--instance={name}", "--user=netagent", "--root", str(system)]) == 64


@pytest.mark.parametrize("user", ["nobody-here", "x\ny", "0"])
def test_users_are_checked(system: Path, user: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = tree(system)
    assert install(system, user=user) == 64
    assert "user" in capsys.readouterr().err
    assert tree(system) == before


def test_a_group_without_a_name_is_a_number(system: Path) -> None:
    install(system, user="lonely")
    text = (system / UNITS / "rootwrap-daemon@netagent.socket.d/10-access.conf").read_text()
    assert "SocketGroup=993\n" in text


def test_a_link_out_of_the_root_is_not_followed(
    system: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    outside = tmp_path_factory.mktemp("outside")
    outside.chmod(0o755)
    (system / "etc/systemd").symlink_to(outside)
    assert install(system) == 78
    assert list(outside.iterdir()) == []


@pytest.mark.parametrize("link", ["etc/systemd", "etc", "var", "run"])
def test_nothing_is_taken_away_through_a_link_out_of_the_root(
    system: Path, tmp_path_factory: pytest.TempPathFactory, link: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever is root in there can move a directory out, and put a link in its place."""
    install(system)
    (system / "run/rootwrap-daemon/netagent").mkdir(parents=True)
    outside = tmp_path_factory.mktemp("outside") / "moved"
    (system / link).rename(outside)
    (system / link).symlink_to(outside)
    before = tree(outside)
    assert uninstall(system) != 0
    assert "out of" in capsys.readouterr().err
    assert tree(outside) == before


def test_what_listens_is_not_uninstalled(system: Path, capsys: pytest.CaptureFixture[str]) -> None:
    install(system)
    (system / "run/rootwrap-daemon").mkdir(parents=True)
    (system / "run/rootwrap-daemon/netagent.sock").touch()
    assert uninstall(system) == 78
    assert "systemctl disable --now" in capsys.readouterr().err
    assert uninstall(system, "never") == 78


def test_refuses_code_that_others_can_change(system: Path) -> None:
    """As a copy of the package that its group can write."""
    code = system / "code"
    code.mkdir(mode=0o755)
    subprocess.run(["cp", "-r", ROOT / "rootwrap_daemon", ROOT / "etc", code], check=True)
    venv = system / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    (site,) = venv.glob("lib/python*/site-packages")
    others = [entry for entry in sys.path if entry.endswith("site-packages")]
    (site / "here.pth").write_text("\n".join([str(code), *others]))

    def attempt() -> "subprocess.CompletedProcess[str]":
        arguments = ["--instance", "x", "--user", "netagent", "--root", str(system), "--dry-run"]
        return subprocess.run(
            [venv / "bin/python", "-m", "rootwrap_daemon.cli.ctl", "install", *arguments],
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
        )

    assert attempt().returncode == 0, attempt().stderr
    (code / "rootwrap_daemon/errors.py").chmod(0o664)
    done = attempt()
    assert done.returncode == 78
    assert "others can change the code of this daemon" in done.stderr and "errors.py" in done.stderr


@pytest.mark.root
def test_takes_over_what_it_can(tmp_path: Path) -> None:
    (tmp_path / "filters").mkdir()
    tmp_path.chmod(0o755)
    (tmp_path / "filters/a.filters").write_text(
        "[Filters]\na: CommandFilter, true, root\nb: NoSuchFilter, x, root\n"
    )
    old = tmp_path / "rootwrap.conf"
    old.write_text(
        f"[DEFAULT]\nfilters_path={tmp_path}/filters,\n  /nowhere\nexec_dirs=/usr/bin,/bin\nuse_syslog=True\n"
        "syslog_log_level=ERROR\n"
        "rlimit_nofile=1024\nstrange=1\n[xenapi]\nurl=x\n"
    )
    own = "/etc/rootwrap-daemon/x.filters.d"
    taken = from_rootwrap.take_over(str(old), own)
    assert taken.lines == (
        f"filters_path = {tmp_path}/filters,/nowhere,{own}",
        "exec_dirs = /usr/bin,/bin",
        "rlimit_nofile = 1024",
        "on_finding = skip",
    )
    assert [line.split(":")[0] for line in taken.missed] == [
        "use_syslog",
        "syslog_log_level",
        "strange",
        "[xenapi]",
    ]
    said: list[str] = []
    owner = "" if os.geteuid() == 0 else f"trusted_owners = {os.geteuid()}, 0\n"
    text = "[DEFAULT]\nallowed_users = root\n" + owner + "".join(f"{line}\n" for line in taken.lines)
    assert from_rootwrap.judge(text, own, said.append) == 1
    assert not any(own in line for line in said), "it is made after this"
    assert any(line.startswith("left out: ") and "NoSuchFilter" in line for line in said)


def test_a_file_without_filters_path(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    old = tmp_path / "rootwrap.conf"
    old.write_text("[DEFAULT]\nexec_dirs=/bin\n")
    assert "filters_path = /own" in from_rootwrap.take_over(str(old), "/own").lines


def test_users_of_this_host_are_asked_of_nss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """LDAP, systemd-userdb: what /etc/passwd does not have."""
    users = {"ldap": 4711, "lonely": 4712}

    def user(name: str) -> SimpleNamespace:
        return SimpleNamespace(pw_gid=users[name])

    def group(gid: int) -> SimpleNamespace:
        return SimpleNamespace(gr_name={4711: "staff"}[gid])

    monkeypatch.setattr(pwd, "getpwnam", user)
    monkeypatch.setattr(grp, "getgrgid", group)
    here = Placer("/", print, dry=True)
    assert install_command._group_of("ldap", here) == "staff"
    assert install_command._group_of("lonely", here) == "4712"
    with pytest.raises(Usage, match="there is no user 'nobody-here' here"):
        install_command._group_of("nobody-here", here)


def test_manual_pages_are_installed(
    system: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    made = tmp_path_factory.mktemp("man")
    made.chmod(0o755)
    for name in ("rootwrapctl.8", "rootwrap-filters.5"):
        (made / name).write_text(f'.TH "{name}"\n')
    pages = [str(path) for path in sorted(made.iterdir())]
    monkeypatch.setattr(data_files, "manual_pages", lambda: pages)
    assert install(system) == 0
    put = system / "usr/local/share/man/man5/rootwrap-filters.5"
    assert put.read_text() == '.TH "rootwrap-filters.5"\n'
    assert (system / "usr/local/share/man/man8/rootwrapctl.8").exists()
    assert uninstall(system) == 0
    assert not put.exists()


def test_the_package_brings_its_files() -> None:
    """setup.cfg names every file under etc/: a wheel has nothing else."""
    listed = (ROOT / "setup.cfg").read_text().split("[options.data_files]")[1].split("\n[")[0]
    named = [word for line in listed.splitlines() for word in line.split() if word.startswith("etc/")]
    listed_files = {path for pattern in named for path in ROOT.glob(pattern)}
    found = {path for path in (ROOT / "etc").rglob("*") if path.is_file()}
    assert len(found) >= 50
    assert found == listed_files


def test_what_the_package_brings_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where setup.cfg puts a file, the commands look for it; no folder is named twice in a row."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    put = {}
    for folder, patterns in setup["options.data_files"].items():
        for path in (path for pattern in patterns.split() for path in ROOT.glob(pattern)):
            if path.is_relative_to(ROOT / "etc"):
                put[str(path.relative_to(ROOT / "etc"))] = tmp_path / folder / path.name
    for name, path in put.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.setattr(data_files, "_files", lambda: ())
    assert {name: data_files.path(name) for name in put} == {name: str(path) for name, path in put.items()}
    assert not [path for path in put.values() if path.parent.name == path.parent.parent.name]
