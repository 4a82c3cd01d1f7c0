"""Every program of policy/behaviour.py at work below a directory of an attacker, and under attack.

A program that read a link and used the name that it found would be caught by the links that lie here, without
luck: reading links is what nosymfollow does not forbid.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest

from rootwrap_daemon.errors import Denied
from rootwrap_daemon.policy.behaviour import ANYTHING, OPENS, RESOLVES
from tests.real_daemon import SHIM, Daemon, daemons, wait_for, without_shim

AGENT = 61111
NETNS = f"rootwrap-places-{os.getpid()}"
#: Programs that execute the rest of their words.
WRAPPERS = frozenset("env flock ionice ip nice nohup prlimit setpriv setsid stdbuf taskset timeout".split())
SECRET = "SECRET of root\n"
TEXT = "a text\nof the agent\n"

pytestmark = pytest.mark.root


class Row(NamedTuple):
    """A command, and a shell's test of what it must have done.

    {f}: a file; {d}: a directory; {n}: a name that nothing has; {s}: a file that the command reads.
    """

    argv: str
    done: str = "true"
    stdin: bytes | None = None

    @property
    def program(self) -> str:
        return self.argv.split()[0]


READ = [
    *("cat {f}", "head -n 1 {f}", "tail -n 1 {f}", "tac {f}", "cut -c 1 {f}", "grep a {f}"),
    *("egrep a {f}", "fgrep a {f}", "nl {f}", "od {f}", "paste {f}", "fold {f}", "sort {f}"),
    *("uniq {f}", "wc {f}", "strings {f}", "cksum {f}", "sum {f}", "md5sum {f}", "sha1sum {f}"),
    *("sha224sum {f}", "sha256sum {f}", "sha384sum {f}", "sha512sum {f}", "shuf {f}", "file {f}"),
    *("cmp {f} {f}", "comm {f} {f}", "diff {f} {f}", "sed p {f}", "ls -l {d}", "ls -LR {d}"),
    *("dir {d}", "stat {f}", "du {d}", "du -L {d}", "df {d}", "test -f {f}", "[ -f {f} ]"),
    *("find {d} -name f", "find -L {d} -type f", "readlink -- {d}/link", "sync {f}", "sync -f {f}"),
    *("diff -r {d} {d}", "grep -r a {d}", "tar -cf - -C {d} .", "tar -chf - {d}", "gzip -c {f}"),
    *("xz -c {f}", "zstd -c {f}", "rsync -r --list-only {d}", "dnsmasq --test --conf-file= --addn-hosts={s}"),
    *("dd if={f} status=none", "nice cat {f}", "ionice cat {f}", "timeout 5 cat {f}"),
    *("lsattr {f}", "lsattr -R {d}"),
    *("nohup cat {f}", "setsid -w cat {f}", "stdbuf -o0 cat {f}", "taskset 1 cat {f}"),
    *("prlimit --nofile=100 cat {f}", "setpriv --no-new-privs cat {f}"),
]
ROWS = [
    *(Row(argv) for argv in READ),
    Row("flock {f} cat {f}"),
    Row("env A=1 cat {f}"),
    Row("ip netns exec NETNS cat {f}"),
    Row("cp -- {f} {d}", "test -s {d}/f"),
    Row("cp -t {d} -- {f}", "test -s {d}/f"),
    Row("cp -T {f} {n}", "test -s {n}"),
    Row("cp -a {d} {n}", "test -d {n}"),
    Row("cp -rL {d} {n}", "test -d {n}"),
    Row("mv {f} {d}", "test -s {d}/f"),
    Row("mv -T {f} {n}", "test -s {n}"),
    Row("ln {f} {n}", "test {f} -ef {n}"),
    Row("ln -s {f} {d}", 'test "$(readlink {d}/f)" = {f}'),
    Row("ln -sT {f} {n}", 'test "$(readlink {n})" = {f}'),
    Row("link {f} {n}", "test {f} -ef {n}"),
    Row("install -m 600 {f} {d}", "test -s {d}/f"),
    Row("install -D {f} {n}/x", "test -s {n}/x"),
    Row("tar -cf {n} -C {d} .", "test -s {n}"),
    Row("tar -xf {s} -C {d}", "test -s {d}/member"),
    Row("rsync -a {f} {d}", "test -s {d}/f"),
    Row("rsync -aL {d}/ {n}/", "test -d {n}"),
    Row("rsync -aK --inplace {f} {d}", "test -s {d}/f"),
    Row("tee {f}", "grep -q given {f}", b"given\n"),
    Row("tee -a {n}", "grep -q given {n}", b"given\n"),
    Row("dd of={f} conv=notrunc", "grep -q given {f}", b"given\n"),
    Row("chown 61112 {f}", "test $(stat -c %u {f}) = 61112"),
    Row("chown -R 61112 {d}", "test $(stat -c %u {d}/inner) = 61112"),
    Row("chown -RL 61112 {d}", "test $(stat -c %u {d}/inner) = 61112"),
    Row("chown -h 61112 {f}", "test $(stat -c %u {f}) = 61112"),
    Row("chgrp -R 61112 {d}", "test $(stat -c %g {d}/inner) = 61112"),
    Row("chmod 0601 {f}", "test $(stat -c %a {f}) = 601"),
    Row("chmod -R a+x {d}", "test -x {d}/inner"),
    Row("chattr +d {f}", "lsattr {f} | grep -q '^[^ ]*d'"),
    Row("chattr -R +d {d}", "lsattr {d}/inner | grep -q '^[^ ]*d'"),
    Row("rm {f}", "test ! -e {f}"),
    Row("rm -r {d}", "test ! -e {d}"),
    Row("unlink {f}", "test ! -e {f}"),
    Row("rmdir {d}/empty", "test ! -e {d}/empty"),
    Row("mkdir {n}", "test -d {n}"),
    Row("mkdir -p {n}/x/y", "test -d {n}/x/y"),
    Row("touch {f}", "test $(stat -c %Y {f}) -gt 1000"),
    Row("touch {n}", "test -e {n}"),
    Row("truncate -s 1 {f}", "test $(stat -c %s {f}) = 1"),
    Row("fallocate -l 4096 {f}", "test $(stat -c %s {f}) = 4096"),
    Row("shred -n 1 {f}", "! grep -q agent {f}"),
    Row("sed -i s/text/word/ {f}", "grep -q word {f}"),
    Row("sort -o {n} {f}", "test -s {n}"),
    Row("split {f} {n}", "test -s {n}aa"),
    Row("gzip {f}", "test -s {f}.gz"),
    Row("gzip -f {f}", "test -s {f}.gz"),
    Row("xz {f}", "test -s {f}.xz"),
    Row("zstd -q {f} -o {n}", "test -s {n}"),
    Row("patch {f} {s}", "grep -q word {f}"),
    Row("mkfifo {n}", "test -p {n}"),
    Row("mknod {n} p", "test -p {n}"),
    Row("mktemp -p {d}", "test $(ls {d} | wc -l) = 3"),
    Row("find {d} -name inner -delete", "test ! -e {d}/inner"),
]


def words(argv: str, place: Path) -> list[str]:
    """The words of a command with the names that it has in a place."""
    names = {"f": place / "f", "d": place / "d", "n": place / "n", "s": place / "s"}
    return argv.replace("NETNS", NETNS).format(**names).split()


def prepare(place: Path, row: Row) -> None:
    """Everything as ordinary use finds it, all of the agent's."""
    for name in (place, place / "d", place / "d/empty"):
        name.mkdir()
    (place / "f").write_text(TEXT)
    (place / "d/inner").write_text(TEXT)
    os.utime(place / "f", (1000, 1000))
    if "link" in row.argv:
        os.symlink("inner", place / "d/link")
    if row.program == "tar":
        (place / "member").write_text("x")
        subprocess.run(["tar", "-cf", place / "s", "-C", place, "member"], check=True)
        (place / "member").unlink()
    elif row.program == "patch":
        (place / "s").write_text("--- f\n+++ f\n@@ -1,2 +1,2 @@\n-a text\n+a word\n of the agent\n")
    elif row.program == "dnsmasq":
        (place / "s").write_text("port=0\n")
    for path in (place, *place.rglob("*")):
        os.lchown(path, AGENT, AGENT)


#: What the agent does before the command: each name that it uses may be a link to what is root's.
ATTACKS = {
    "file": 'rm -f f; ln -s "$OUT/secret" f; ln -sf "$OUT/secret" s',
    "new name": 'ln -s "$OUT/created" n; ln -sf "$OUT/created" f',
    "directory": 'rm -r d; ln -s "$OUT" d; ln -sfT "$OUT" n',
    "entries": "rm -rf d/inner d/empty; "
    'for i in f inner secret member empty 3 4 5 6; do ln -s "$OUT/secret" d/$i; done',
    "deep": 'rm -rf d/inner; ln -s "$OUT" d/inner; ln -s "$OUT" d/f; ln -s "$OUT" d/member',
    "chain": 'rm -r d f; ln -s / root; ln -s "root$OUT/secret" f; ln -s "root$OUT" d',
    "proc": 'rm -r d f; ln -s "/proc/self/root$OUT/secret" f; ln -s "/proc/self/root$OUT" d',
    "temporary": 'for i in sedAAAAAA f.gz f.xz naa; do ln -s "$OUT/secret" $i; done',
}


def filters(place: Path) -> Iterator[str]:
    """A filter for each row: a word that begins with a name is typed, another that has one is a pattern."""
    for index, row in enumerate(ROWS):
        program, *arguments = row.argv.split()
        if program in WRAPPERS:
            if program == "ip":
                yield f"r{index}: IpNetnsExecFilter, ip, root"
            else:
                outer = (re.sub(r"{.}", ".*", word) for word in arguments[: arguments.index("cat")])
                yield f"r{index}: ChainingRegExpFilter, {', '.join((program, 'root', program, *outer))}"
        elif program == "[" or any("{" in word for word in arguments if word[0] != "{"):
            patterns = (re.sub(r"{.}", ".*", word.replace("]", r"\]")) for word in arguments)
            yield f"r{index}: RegExpFilter, {', '.join((program, 'root', re.escape(program), *patterns))}"
        else:
            types = (
                f"{{path={place}}}" if word[:1] == "{" else re.sub(r"[][]", r"\\\g<0>", word)
                for word in arguments
            )
            yield f"r{index}: ArgvFilter, {', '.join((program, 'root', *types))}"


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with daemons() as new:
        found = new(start=False)
        place = found.directory / "agent"
        place.mkdir()
        os.chown(place, AGENT, AGENT)
        found.configure("\n".join(["[Filters]", *filters(place), ""]))
        found.start()
        subprocess.run(["ip", "netns", "add", NETNS], check=True)
        try:
            yield found
        finally:
            subprocess.run(["ip", "netns", "delete", NETNS], check=True)


@pytest.fixture
def place(daemon: Daemon) -> Iterator[Path]:
    found = daemon.directory / "agent" / "work"
    yield found
    shutil.rmtree(found)


@pytest.fixture
def outside(daemon: Daemon) -> Iterator[Path]:
    """What is root's alone."""
    found = daemon.directory / "outside"
    found.mkdir()
    (found / "secret").write_text(SECRET)
    (found / "secret").chmod(0o600)
    (found / "empty").mkdir()
    yield found
    shutil.rmtree(found)


def seen(directory: Path) -> dict[str, object]:
    """All that a command could have changed there."""
    found: dict[str, object] = {}
    for path in (directory, *sorted(directory.rglob("*"))):
        status = path.lstat()
        content = path.read_bytes() if path.is_file() else None
        found[str(path)] = (
            status.st_mode,
            status.st_uid,
            status.st_gid,
            status.st_nlink,
            status.st_mtime_ns,
            # Of its attributes, too: chattr(1).
            status.st_ctime_ns,
            content,
        )
    return found


def needs(row: Row, directory: Path) -> None:
    if shutil.which(row.program) is None:
        pytest.skip(f"{row.program} is not installed")
    if row.program in ("chattr", "lsattr"):
        tried = subprocess.run(["chattr", "-d", directory], capture_output=True, text=True, check=False)
        if tried.returncode:
            pytest.skip(tried.stderr)


@pytest.mark.parametrize("row", ROWS, ids=[row.argv for row in ROWS])
def test_ordinary_use(daemon: Daemon, place: Path, row: Row) -> None:
    needs(row, place.parent)
    prepare(place, row)
    with daemon.client() as client:
        done = client.run(words(row.argv, place), input=row.stdin)
    assert done.returncode == 0, done.stderr
    check = row.done.format(**{name: place / name for name in "fdns"})
    subprocess.run(["sh", "-ec", check], check=True)
    if row.argv in READ and "cat" in row.argv:
        assert done.stdout == TEXT.encode()


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
@pytest.mark.parametrize("row", ROWS, ids=[row.argv for row in ROWS])
def test_attack(daemon: Daemon, place: Path, outside: Path, row: Row, attack: str) -> None:
    needs(row, place.parent)
    prepare(place, row)
    subprocess.run(
        ["setpriv", f"--reuid={AGENT}", f"--regid={AGENT}", "--clear-groups", "sh", "-ec", attack],
        cwd=place,
        env={**os.environ, "OUT": str(outside)},
        check=True,
    )
    before = seen(outside)
    with daemon.client() as client:
        try:
            done = client.run(words(row.argv, place), input=row.stdin, timeout=60)
        except Denied:
            return
    assert seen(outside) == before
    assert SECRET.encode() not in done.stdout + done.stderr
    for path in place.rglob("*"):
        if path.is_file() and not path.is_symlink():
            assert SECRET.encode() not in path.read_bytes(), path


def test_the_attacks_would_find_a_program_that_resolves(daemon: Daemon, place: Path, outside: Path) -> None:
    """The table is worth what these tests can see: such a program, which its filter vouches for, is seen."""
    script = daemon.directory / "resolves"
    script.write_text('#!/bin/sh\ncat "$(readlink -f "$1")"\n')
    script.chmod(0o755)
    (daemon.directory / "filters.d/x.filters").write_text(
        f"[Filters]\nx: ArgvFilter, {script}, root, {{path={place.parent}}}\n[x]\nopens_paths = yes\n"
    )
    assert daemon.reload()
    prepare(place, ROWS[0])
    (place / "f").unlink()
    (place / "f").symlink_to(outside / "secret")
    with daemon.client() as client:
        assert client.run([str(script), str(place / "f")]).stdout == SECRET.encode()


def test_an_inner_command_sees_its_own_proc_and_sys(daemon: Daemon) -> None:
    """What the daemon would find below /proc and /sys is of its own namespaces."""
    (daemon.directory / "filters.d/proc.filters").write_text(
        "[Filters]\nd: ReadFileFilter, /proc/net/dev\np: PathFilter, cat, root, /proc/net\n"
        "s: PathFilter, cat, root, /proc/sys/net/ipv4/conf\nm: ReadFileFilter, /sys/class/net/only/mtu\n"
        f"l: ReadFileFilter, {daemon.directory}/mtab\n"
    )
    # As /etc/mtab is on most systems: the name of root's is one for what the reader has.
    (daemon.directory / "mtab").symlink_to("/proc/self/net/dev")
    assert daemon.reload()
    inside = ["ip", "netns", "exec", NETNS]
    subprocess.run(["ip", "-n", NETNS, "link", "add", "only", "type", "veth", "peer", "other"], check=True)
    for path in (
        "/proc/net/dev",
        "/proc/net/route",
        "/proc/sys/net/ipv4/conf/only/forwarding",
        "/sys/class/net/only/mtu",
        str(daemon.directory / "mtab"),
    ):
        wanted = subprocess.run([*inside, "cat", path], capture_output=True, check=True).stdout
        with daemon.client() as client:
            assert client.run([*inside, "cat", path]).stdout == wanted, path
    (daemon.directory / "filters.d/proc.filters").unlink()
    assert daemon.reload()


@pytest.mark.parametrize("way", ["native", "tools"])
def test_what_is_mounted_meanwhile_is_not_seen(way: str) -> None:
    """An agent can mount (fusermount(1)) while a command runs; nothing of that has nosymfollow.

    What is unmounted meanwhile is unmounted for the command, too: its device would be in use.
    """
    if way == "native" and not SHIM.exists():
        pytest.skip("run `make native` first")
    with daemons() as new:
        found = new(start=False)
        agent, script = found.directory / "agent", found.directory / "script"
        (agent / "x").mkdir(parents=True)
        os.chown(agent, AGENT, AGENT)
        script.write_text(
            '#!/bin/sh\n: > "$1/ready"; while [ ! -e "$1/go" ]; do sleep 0.02; done\n'
            'cat "$1/x/link"; ls "$1/x"; cat /proc/self/mountinfo\n'
        )
        script.chmod(0o755)
        lines = (f"x: ArgvFilter, {script}, root, {{path={agent}}}", "[x]", "opens_paths = yes")
        found.configure("\n".join(("[Filters]", *lines, "")))
        # As systemd has it: what is mounted on the host comes to every namespace that does not refuse it.
        found.inside = ["unshare", "--mount", "--propagation", "shared"]
        if way == "tools":
            found.inside = without_shim("shared")
        found.start()
        disk = found.directory / "disk"
        disk.mkdir()
        enter = ["nsenter", "-t", str(found.pid), "-m", "sh", "-ec"]
        subprocess.run([*enter, f"mount -t tmpfs none {disk}"], check=True)
        with found.client() as client, ThreadPoolExecutor() as pool:
            running = pool.submit(client.run, [str(script), str(agent)], timeout=60)
            wait_for((agent / "ready").exists)
            for command in (
                f"mount -t tmpfs none {agent}/x; ln -s /etc/hostname {agent}/x/link; cat {agent}/x/link",
                f"umount {disk}; : > {agent}/go",
            ):
                subprocess.run([*enter, command], check=True)
            done = running.result()
        assert b"No such file" in done.stderr
        # The place is there once, with its flag, and nothing is mounted below it.
        mounts = [line.split() for line in done.stdout.decode().splitlines()]
        below = [mount for mount in mounts if mount[4].startswith(str(agent)) and "nosymfollow" in mount[5]]
        assert [mount[4] for mount in below] == [str(agent)]
        assert not [mount for mount in mounts if mount[4] == str(disk)]


def test_every_program_of_the_table_was_seen_at_work() -> None:
    seen_at_work = {row.program for row in ROWS}
    assert seen_at_work == OPENS
    assert not OPENS & RESOLVES
    assert not ANYTHING & (OPENS | RESOLVES)
