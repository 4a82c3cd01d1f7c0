"""What systemd itself says of the units, without starting them."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.systemd.machine import refuse

UNITS = Path(__file__).parents[2] / "etc/systemd"
SERVICE, SOCKET = "rootwrap-daemon@x.service", "rootwrap-daemon@x.socket"
#: Directives that give a service mounts of its own, as systemd.exec(5) says.
OF_A_MOUNT_NAMESPACE = """
    BindPaths BindReadOnlyPaths DynamicUser ExecPaths InaccessiblePaths LoadCredential MountFlags NoExecPaths
    PrivateDevices PrivateIPC PrivateMounts PrivateTmp ProcSubset ProtectControlGroups ProtectHome
    ProtectKernelLogs ProtectKernelModules ProtectKernelTunables ProtectProc ProtectSystem ReadOnlyPaths
    ReadWritePaths RootDirectory RootImage SetCredential StateDirectory TemporaryFileSystem
""".split()


def exposure_limits() -> dict[str, float]:
    lines = (Path(__file__).parent / "exposure.txt").read_text().splitlines()
    words = [line.split() for line in lines if line and not line.startswith("#")]
    return {name: float(figure) for name, figure in words}


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """The units under names that need no instance, with a Python that is there."""
    if not shutil.which("systemd-analyze"):
        refuse("systemd-analyze is missing (Debian: systemd)")
    for name, source in (
        (SERVICE, "rootwrap-daemon@.service"),
        (SOCKET, "rootwrap-daemon@.socket"),
        ("example-agent.service", "example-agent.service"),
    ):
        # Any program that is there: the one that `rootwrapctl install` writes may not be, and have a space.
        text = (UNITS / source).read_text().replace("/usr/bin/python3", "/bin/sh")
        (tmp_path / name).write_text(text.replace("rootwrap-daemon@netagent", "rootwrap-daemon@x"))
    drop_in = tmp_path / f"{SERVICE}.d"
    drop_in.mkdir()
    shutil.copy(UNITS / "network-agent.conf", drop_in)
    return tmp_path


def analyze(*arguments: "str | Path") -> str:
    done = subprocess.run(
        ["systemd-analyze", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "SYSTEMD_PAGER": ""},
        check=False,
    )
    return f"{done.stdout}{'' if done.returncode == 0 else f'exit code {done.returncode}'}"


def test_verify_is_silent(units: Path) -> None:
    for name in (SERVICE, SOCKET, "example-agent.service"):
        assert analyze("verify", units / name) == ""


def test_verify_would_say_something(units: Path) -> None:
    with (units / f"{SERVICE}.d/network-agent.conf").open("a") as drop_in:
        drop_in.write("NoSuchDirective=yes\n")
    assert "NoSuchDirective" in analyze("verify", units / SERVICE)


@pytest.mark.parametrize("name", exposure_limits())
def test_exposure_does_not_rise(units: Path, name: str) -> None:
    unit = units / "example-agent.service"
    if name != "example-agent":
        # --offline reads no drop-ins beside the file; at the end of it they do the same.
        service, install = (units / SERVICE).read_text().split("[Install]")
        more = (UNITS / "network-agent.conf").read_text() if name.endswith("+network-agent") else ""
        unit = units / SERVICE
        unit.write_text(f"{service}\n{more}\n[Install]{install}")
    said = analyze("security", "--offline=yes", "--no-pager", unit)
    found = re.search(r"Overall exposure level for .*: ([0-9.]+) ", said)
    assert found, said
    assert float(found[1]) <= exposure_limits()[name], said


def test_agent_needs_next_to_nothing() -> None:
    assert exposure_limits()["example-agent"] <= 1.5
    text = (UNITS / "example-agent.service").read_text()
    assert "\nNoNewPrivileges=yes\n" in text and "\nUser=netagent\n" in text
    assert "\nCapabilityBoundingSet=\n" in text


@pytest.mark.parametrize("name", ["rootwrap-daemon@.service", "network-agent.conf"])
def test_no_mount_namespace(name: str) -> None:
    """`ip netns add` in one leaves an ordinary file on the host, and no error."""
    set_here = {line.partition("=")[0] for line in (UNITS / name).read_text().splitlines()}
    assert "CapabilityBoundingSet" in set_here
    assert not set_here.intersection(OF_A_MOUNT_NAMESPACE)


def test_every_directive_left_out_has_its_reason(units: Path) -> None:
    """What systemd's own analysis misses is set, or named in a comment."""
    text = (UNITS / "rootwrap-daemon@.service").read_text()
    said = analyze("security", "--offline=yes", "--no-pager", units / SERVICE)
    missed = {line.split()[1] for line in said.splitlines() if line.startswith("✗")}
    names = {re.split(r"[=/]", one)[0] for one in missed}
    # These come in parts, or with another: RootImage, DeviceAllow with DevicePolicy.
    names -= {"DeviceAllow"}
    assert len(names) > 10
    assert [name for name in sorted(names) if f"{name}=" not in text] == []
