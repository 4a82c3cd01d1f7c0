"""What `rootwrapctl check` proposes instead of a dangerous filter loads, passes --strict, and does the job.

Each form stands in a service's own directory, where the service can change every name.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from rootwrap_daemon.lint.knowledge.programs import PROGRAMS
from tests.prepared import CTL
from tests.real_daemon import NewDaemon

AGENT = 61111
pytestmark = pytest.mark.root

#: Program of a form -> the names for its paths, in their order, and a test of what must have been done.
JOBS: dict[str, tuple[list[str], str]] = {
    "tee": ([], 'grep -q given "$P/state"'),
    "dd": ([], 'test "$(stat -c %s "$P/disk")" = 67108864'),
    "cp": (["f", "d"], "test -s d/f"),
    "mv": (["f", "n"], "test -s n -a ! -e f"),
    "ln": (["f", "n"], "test -L n -a -s n"),
    "chmod": (["f"], 'test "$(stat -c %a f)" = 640'),
    "chown": (["f"], 'test "$(stat -c %U f)" = nobody'),
    "chgrp": (["f"], 'test "$(stat -c %G f)" = nogroup'),
    # Not every file system has the attribute; that the kernel was asked for this file is what counts.
    "chattr": (["f"], "true"),
    "touch": (["n"], "test -e n"),
    "mkdir": (["n/x"], "test -d n/x"),
    "rm": (["f"], "test ! -e f"),
    "rmdir": (["d"], "test ! -e d"),
    "unlink": (["f"], "test ! -e f"),
    "shred": (["f"], "! grep -q text f"),
    "truncate": (["f"], 'test "$(stat -c %s f)" = 1'),
    "find": (["d"], "true"),
    "readlink": (["l"], "true"),
    "stat": (["f"], "true"),
    "ls": (["d"], "true"),
    "du": (["d"], "true"),
    "file": (["f"], "true"),
    "md5sum": (["f"], "true"),
    "test": (["f"], "true"),
}
OF_A_SERVICE = re.compile("/var/lib/NAME|/run/NAME(?=/)")
FORMS = sorted({one.safer for one in PROGRAMS.values() if one.safer and OF_A_SERVICE.search(one.safer)})


def test_each_form_in_a_directory_of_a_service_has_a_job() -> None:
    assert {form.split(", ")[1] for form in FORMS} == set(JOBS)


@pytest.mark.parametrize("form", FORMS)
def test_a_form_does_the_job(new_daemon: NewDaemon, form: str) -> None:
    daemon = new_daemon(start=False)
    place = daemon.directory / "service"
    for directory in (place, place / "d"):
        directory.mkdir()
    for name in ("f", "state"):
        (place / name).write_text("text\n")
    (place / "l").symlink_to("f")
    for path in (place, *place.rglob("*")):
        os.lchown(path, AGENT, AGENT)
    kind, program, user, *words = OF_A_SERVICE.sub(str(place), form).split(", ")
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    words = [word.replace("NAME", "nogroup" if program == "chgrp" else "nobody") for word in words]
    daemon.configure(f"[Filters]\nx: {', '.join((kind, program, user, *words))}\n")
    check(daemon.config)
    daemon.start()
    names, done = JOBS[program]
    names = list(names)
    argv = [
        str(place / names.pop(0)) if word.startswith("{path=") else "1" if word == "{int}" else word
        for word in words
    ]
    with daemon.client() as client:
        ended = client.run([program, *argv], input=b"given\n" if program == "tee" else None)
    if program != "chattr":
        assert ended.returncode == 0, ended.stderr
    subprocess.run(["sh", "-c", done], cwd=place, env={**os.environ, "P": str(place)}, check=True)


def check(config: Path) -> None:
    """Nothing is found in it."""
    found = CTL.run("check", "--strict", "--config-file", config)
    assert found.returncode == 0, found.stdout + found.stderr
