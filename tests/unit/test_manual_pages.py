"""The manual: a page for each program and each file format; those that are built are good troff."""

import configparser
import runpy
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = {
    name: (source, section)
    for source, name, _, _, section in runpy.run_path(str(ROOT / "doc/source/conf.py"))["man_pages"]
}
BUILT = sorted((ROOT / "doc/build/man").glob("*.[158]"))


def test_every_program_and_every_file_has_its_page() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    scripts = setup["options.entry_points"]["console_scripts"].strip().splitlines()
    programs = {line.partition("=")[0].strip() for line in scripts}
    assert programs <= set(PAGES)
    assert {name for name, (_, section) in PAGES.items() if section == 5} >= {
        "rootwrap-daemon.conf",
        "rootwrap-filters",
    }
    for source, _ in PAGES.values():
        assert (ROOT / f"doc/source/{source}.rst").is_file()


def test_help_names_pages_that_there_are() -> None:
    text = (ROOT / "rootwrap_daemon/cli/ctl.py").read_text()
    named = [part.partition("`")[0] for part in text.split("`man ")[1:]]
    assert named and set(named) <= set(PAGES)


@pytest.mark.skipif(not BUILT, reason="`make man` makes them")
def test_pages_that_are_built() -> None:
    assert {path.stem for path in BUILT} == set(PAGES)
    if shutil.which("groff") is None:
        pytest.skip("needs groff")
    for path in BUILT:
        done = subprocess.run(
            ["groff", "-t", "-man", "-ww", "-Tutf8", "-K", "utf8", path], capture_output=True, check=True
        )
        said = [line for line in done.stderr.decode().splitlines() if "cannot break" not in line]
        # What a table's column is too narrow for is no fault of the page.
        assert not [line for line in said if "adjust" not in line], path
        assert path.stem.encode() in done.stdout
