"""What RW350 to RW352 find is so, and what they propose is safe: archives and lists of an attacker."""

import io
import os
import shutil
import stat
import subprocess
import tarfile
from pathlib import Path

import pytest

from rootwrap_daemon.lint.check import judge
from rootwrap_daemon.lint.subject import Subject, read_filters
from rootwrap_daemon.policy import behaviour
from tests.real_daemon import NewDaemon

AGENT = 61111
SECRET = "root's alone"
pytestmark = pytest.mark.root


def archive(path: Path, outside: Path) -> None:
    """One with all that an archive can do to who unpacks it, and an ordinary file at its end."""
    with tarfile.open(path, "w") as made:
        for name, kind, target, mode in (
            ("setuid", tarfile.REGTYPE, "", 0o6755),
            ("device", tarfile.BLKTYPE, "", 0o666),
            ("link", tarfile.SYMTYPE, str(outside), 0o777),
            ("link/through", tarfile.REGTYPE, "", 0o644),
            ("hard", tarfile.LNKTYPE, str(outside / "file"), 0o644),
            ("../above", tarfile.REGTYPE, "", 0o644),
            (str(outside / "absolute"), tarfile.REGTYPE, "", 0o644),
            ("ordinary", tarfile.REGTYPE, "", 0o644),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.mode = kind, target, mode
            made.addfile(info, io.BytesIO())


@pytest.mark.parametrize("safe", [True, False])
def test_an_archive_of_an_attacker(new_daemon: NewDaemon, safe: bool) -> None:
    daemon = new_daemon(start=False)
    agent, outside = daemon.directory / "agent", daemon.directory / "outside"
    for directory in (agent, agent / "in", outside):
        directory.mkdir()
    (outside / "file").write_text(SECRET)
    before = sorted(os.listdir(outside)), (outside / "file").stat().st_nlink
    archive(agent / "a.tar", outside)
    for path in (agent, *agent.rglob("*")):
        os.chown(path, AGENT, AGENT)
    options = "--no-same-owner, --no-same-permissions, " if safe else ""
    kept = ("capabilities = CAP_DAC_OVERRIDE",) if safe else ()
    lines = (f"x: ArgvFilter, tar, root, {options}-xf, {{path={agent}}}, -C, {{path={agent}}}", "[x]", *kept)
    daemon.configure("\n".join(("[Filters]", *lines, "stdin = no", "")))
    daemon.start()
    words = options.replace(",", "").split()
    with daemon.client() as client:
        client.run(["tar", *words, "-xf", str(agent / "a.tar"), "-C", str(agent / "in")])
    assert (sorted(os.listdir(outside)), (outside / "file").stat().st_nlink) == before
    assert not (agent / "above").exists()
    made = {path.name: path.lstat() for path in (agent / "in").iterdir()}
    assert "ordinary" in made
    assert bool(made["setuid"].st_mode & (stat.S_ISUID | stat.S_ISGID)) != safe
    assert ("device" in made) != safe


@pytest.mark.parametrize(
    ("words", "dangerous"),
    [
        ("cp --preserve=mode agent/s made", True),
        ("cp agent/s made", False),
        ("cp -a agent/s made", False),
        ("rsync -p agent/s made", True),
        ("rsync -a agent/s made", False),
        ("cp -a --no-preserve=ownership agent/s made", True),
        ("cp -p --no-preserve=owner agent/s made", True),
        ("cp --preserve agent/s made", False),
        ("rsync -a --no-owner agent/s made", True),
        ("rsync -a --no-o agent/s made", True),
        ("rsync -a --chown=root:root agent/s made", True),
        ("rsync -a --usermap=*:root agent/s made", True),
        ("rsync -A agent/s made", True),
        ("rsync -rlpt agent/s made", True),
        ("rsync -rlt agent/s made", False),
        ("install agent/s made", False),
    ],
)
def test_a_set_user_id_file_of_an_attacker(tmp_path: Path, words: str, dangerous: bool) -> None:
    """The programs themselves: what is dangerous with which option."""
    if shutil.which(words.split(maxsplit=1)[0]) is None:
        pytest.skip(f"{words.split(maxsplit=1)[0]} is not installed")
    (tmp_path / "agent").mkdir()
    (tmp_path / "agent/s").write_text("x")
    os.chown(tmp_path / "agent/s", AGENT, AGENT)
    (tmp_path / "agent/s").chmod(0o4755)
    subprocess.run(words.split(), cwd=tmp_path, check=True)
    found = (tmp_path / "made").stat()
    assert (found.st_uid == 0 and bool(found.st_mode & stat.S_ISUID)) == dangerous
    program, *arguments = words.replace("agent/s", "{path=/srv/agent}").replace("made", "/srv/made").split()
    line = f"x: ArgvFilter, {program}, root, {', '.join(arguments)}"
    found_by = {one.rule for one in judge(Subject((read_filters(f"[Filters]\n{line}\n", "x.filters"),)))}
    assert ("RW350" in found_by) == dangerous


#: Programs of OBEYS -> words with which the file LIST has them say the name in it, or do what is in it.
SAID = {
    "awk": "awk -f LIST /dev/null",
    "chmod": "chmod -c --reference=LIST TARGET",
    "chgrp": "chgrp -c --reference=LIST TARGET",
    "chown": "chown -c --reference=LIST TARGET",
    "cksum": "cksum -a sha256 -c LIST",
    "date": "date -f LIST",
    "du": "du --files0-from=LIST",
    "file": "file -f LIST",
    "find": "find -files0-from LIST",
    "ip": "ip -batch LIST",
    "md5sum": "md5sum -c LIST",
    "rsync": "rsync --files-from=LIST / OUT",
    "sed": "sed -f LIST /dev/null",
    "sort": "sort --files0-from=LIST",
    "tar": "tar -cf /dev/null -T LIST",
    "wc": "wc --files0-from=LIST",
    "wget": "wget -i LIST",
    "xargs": "xargs -a LIST",
    "xz": "xz --files=LIST",
    "zstd": "zstd --filelist LIST",
}


@pytest.mark.parametrize("program", SAID)
def test_what_a_file_says_is_heard(tmp_path: Path, program: str) -> None:
    """As strace shows: the name in the file is looked up, or its words are told."""
    if shutil.which(program) is None or shutil.which("strace") is None:
        pytest.skip(f"{program} or strace is not installed")
    assert program in behaviour.OBEYS | behaviour.OBEYS_OPERANDS
    target = tmp_path / "target"
    target.write_text("x")
    target.chmod(0o600)
    text = f"{target}\n"
    if "sum" in program:
        text = f"SHA256 ({target}) = {'0' * 64}\n" if program == "cksum" else f"{'0' * 32}  {target}\n"
    (tmp_path / "list").write_text(text.removesuffix("\n") if "0-from" in SAID[program] else text)
    (tmp_path / "list").chmod(0o640)
    os.chown(tmp_path / "list", AGENT, AGENT)
    words = (
        SAID[program]
        .replace("LIST", str(tmp_path / "list"))
        .replace("TARGET", str(target))
        .replace("OUT", str(tmp_path / "out"))
        .split()
    )
    command = ["strace", "-f", "-s", "4096", "-o", str(tmp_path / "trace"), *words]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    if "--reference" in SAID[program]:
        assert "target" in done.stdout
        return
    calls = [line for line in (tmp_path / "trace").read_text().splitlines() if "list" not in line]
    if program == "rsync":
        # It goes into the directory first.
        assert (tmp_path / f"out{target}").exists()
        return
    assert str(target) in "".join(calls)[len(" ".join(words)) :] + done.stdout + done.stderr
