"""The client as a distribution of its own: its wheel, msgpack, and nothing else."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import msgpack
import pytest

from tests.real_daemon import Daemon

BUILD = Path(__file__).parents[2] / "packaging" / "build_client"
USE = """
import importlib.util, sys
from rootwrap_daemon.client import Client
from rootwrap_daemon.testing import FakeClient
with Client(sys.argv[1]) as client:
    print(client.run(["sh", "-c", "echo done"], text=True).stdout.strip())
print([name for name in sys.argv[2:] if importlib.util.find_spec(name)])
"""


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment that has the wheel and msgpack."""
    base = tmp_path_factory.mktemp("alone")
    subprocess.run(
        [BUILD, base / "wheel"], check=True, env={"PYTHON": sys.executable, "PATH": "/usr/bin:/bin"}
    )
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", base / "venv"], check=True)
    (wheel,) = (base / "wheel").iterdir()
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    pip += ["--python", str(base / "venv"), "install", "--no-index", "--no-deps", str(wheel)]
    subprocess.run(pip, check=True)
    (packages,) = (base / "venv" / "lib").glob("python*/site-packages")
    shutil.copytree(Path(msgpack.__file__).parent, packages / "msgpack")
    return base / "venv"


def test_it_runs_commands(alone: Path, daemon: Daemon) -> None:
    others = "eventlet oslo_config regex rich yaml rootwrap_daemon.daemon rootwrap_daemon.filters".split()
    done = subprocess.run(
        [alone / "bin/python", "-I", "-c", USE, daemon.socket, *others],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "done\n[]\n"


def test_its_programs(alone: Path, daemon: Daemon) -> None:
    env = {"ROOTWRAP_DAEMON_SOCKET": daemon.socket}
    for program in ("rootwrap-exec", "rootwrap-sudo"):
        done = subprocess.run(
            [alone / "bin" / program, "sh", "-c", "echo done"],
            capture_output=True,
            text=True,
            check=True,
            env=env,
        )
        assert done.stdout == "done\n"
    done = subprocess.run(
        [alone / "bin/rootwrap-exec", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("rootwrap-exec ")


def test_it_depends_on_msgpack_alone(alone: Path) -> None:
    (metadata,) = alone.glob("lib/python*/site-packages/rootwrap_client-*.dist-info/METADATA")
    needs = [line for line in metadata.read_text().splitlines() if line.startswith("Requires-Dist")]
    assert [one.partition(":")[2].split(">")[0].strip() for one in needs] == ["msgpack"]


def test_modes_are_the_same_whoever_builds(tmp_path: Path) -> None:
    """Of a checkout that was made with a umask of 077, and of one that its group may write."""
    checkout = BUILD.parents[1]
    for name in ("packaging", "rootwrap_daemon"):
        shutil.copytree(checkout / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("LICENSE", "setup.cfg"):
        shutil.copy(checkout / name, tmp_path)
    (tmp_path / "LICENSE").chmod(0o600)
    (tmp_path / "rootwrap_daemon/py.typed").chmod(0o664)
    environment = {"PYTHON": sys.executable, "PATH": "/usr/bin:/bin"}
    subprocess.run([tmp_path / "packaging/build_client", tmp_path / "wheel"], check=True, env=environment)
    (wheel,) = (tmp_path / "wheel").iterdir()
    with zipfile.ZipFile(wheel) as file:
        modes = {entry.filename: oct(entry.external_attr >> 16 & 0o777) for entry in file.infolist()}
        # What makes the wheel writes this one itself.
        (record,) = [name for name in modes if name.endswith("/RECORD")]
    assert {name for name, mode in modes.items() if mode != "0o644"} - {record} == set()
