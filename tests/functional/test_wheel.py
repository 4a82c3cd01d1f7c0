"""The wheel of the whole distribution, as pip builds it in a checkout."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
BUILD = "import setuptools.build_meta as backend, sys; backend.build_wheel(sys.argv[1])"


def test_what_an_earlier_build_has_left_is_not_in_it(tmp_path: Path) -> None:
    """A module that a version has no more would be code of root's that nobody looks after."""
    for name in ("LICENSE", "README.rst", "pyproject.toml", "setup.cfg"):
        shutil.copy(CHECKOUT / name, tmp_path)
    for name in ("etc", "rootwrap_daemon"):
        shutil.copytree(CHECKOUT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    left = tmp_path / "build/lib/rootwrap_daemon"
    left.mkdir(parents=True)
    (left / "of_an_earlier_version.py").touch()
    kept = tmp_path / "build/green"
    kept.touch()
    subprocess.run(
        [sys.executable, "-c", BUILD, tmp_path / "dist"], cwd=tmp_path, check=True, capture_output=True
    )
    (wheel,) = (tmp_path / "dist").iterdir()
    with zipfile.ZipFile(wheel) as file:
        names = file.namelist()
    assert "rootwrap_daemon/daemon/main.py" in names
    assert [name for name in names if "earlier" in name] == []
    assert kept.exists()
