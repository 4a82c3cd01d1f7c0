"""Nothing that others can change becomes code because a program finds it in a directory that it is given."""

import os
import shutil
import tarfile
from pathlib import Path

import pytest

from rootwrap_daemon.errors import Denied
from tests.real_daemon import Daemon, NewDaemon

AGENT = 61111

pytestmark = pytest.mark.root

#: The words of a filter and of the request, and options; `~` is a blank. AGENT is the agent's; MIXED, DEEP
#: and GOOD are root's: in one is a file of the agent's, in one a directory of his, in one nothing of others.
DENIED = [
    ("find AGENT -execdir ./x ;", ""),
    ("find AGENT -exec {} ;", "opens_paths = yes"),
    ("find AGENT -exec nice {} ;", ""),
    ("find AGENT -exec timeout 5 {} ;", ""),
    ("find AGENT -exec timeout 5 sh {} ;", ""),
    ("find AGENT -name x -exec nice env {} ;", "opens_paths = yes"),
    ("find MIXED -exec {} ;", ""),
    ("find MIXED -execdir sh {} ;", ""),
    ("find MIXED -exec sh {} ;", ""),
    ("find MIXED/ -okdir {} ;", ""),
    ("find DEEP -exec {} ;", ""),
    ("find DEEP -execdir ./x ;", ""),
    ("find DEEP -execdir sed -f x /etc/hostname ;", ""),
    ("find DEEP -exec sed -n -f {} /etc/hostname ;", ""),
    ("find DEEP -execdir tar --to-command=./x -xf ARCHIVE ;", ""),
    ("find . -name x -exec sh {} ;", "cwd = DEEP"),
    ("find -exec {} ;", "cwd = MIXED"),
    ("find . -path DEEP/* -exec sh {} ;", ""),
    ("timeout 5 find DEEP -exec {} ;", ""),
    ("env -C DEEP find . -exec {} ;", ""),
    ("run-parts MIXED", ""),
    ("run-parts MIXED/", ""),
    ("run-parts LINKED", ""),
    ("timeout 5 run-parts MIXED", ""),
    ("make -C MIXED", ""),
    ("make", "cwd = MIXED"),
    ("make -f Makefile", "cwd = DEEP"),
    ("env -C MIXED make", ""),
    ("sh -c run-parts~MIXED", ""),
    ("bash -ec cd~MIXED;make", ""),
    ("flock ARCHIVE -c make~-C~MIXED", ""),
    ("env -S run-parts~MIXED", ""),
    ("start-stop-daemon --start --chdir MIXED --exec /usr/bin/make", ""),
    ("script -qc /usr/bin/make~-C~MIXED /dev/null", ""),
    ("dnsmasq --test --conf-dir=MIXED", ""),
    ("dnsmasq --test -C /dev/null --conf-dir LINKED", ""),
    ("nft -c -I MIXED -f /dev/null", ""),
    ("git -C REPOSITORY commit --allow-empty -m x", ""),
    ("git commit --allow-empty -m x", "cwd = REPOSITORY"),
    ("tar -C MIXED --to-command=./x -xf ARCHIVE", ""),
    ("tar -C DEEP --to-command=sub/x -xf ARCHIVE", ""),
    ("tar -C AGENT --to-command=./x -xf ARCHIVE", ""),
    ("tar -C MIXED --to-command=timeout~5~./x -xf ARCHIVE", ""),
    ("tar -C MIXED --to-command=sh~x -xf ARCHIVE", ""),
    ("ldconfig -n MIXED", ""),
    ("install -s --strip-program=MIXED/x MIXED/x GOOD/made", ""),
    ("install -s --strip-program DEEP/sub/x ARCHIVE GOOD/made", ""),
    ("install -s --strip-program sub/x ARCHIVE GOOD/made", "cwd = DEEP"),
    ("rsync -a --read-batch=MIXED/x DEEP", ""),
    ("rsync -a --read-batch DEEP/sub/x DEEP", ""),
    ("rsync -aF AGENT GOOD", ""),
    ("rsync -a DEEP GOOD --filter=dir-merge~x", ""),
    # What a variable, or an option, says that code is in.
    ("env PYTHONPATH=MIXED id", ""),
    ("env A=1 LD_LIBRARY_PATH=/lib:DEEP id", ""),
    ("env CLASSPATH=none:sub:GOOD id", "cwd = DEEP"),
    ("sh -c NODE_PATH='MIXED'~id", ""),
    ("systemd-run --setenv=RUBYLIB=MIXED id", ""),
    ("id -u", "set_env = PYTHONPATH=MIXED"),
    ("id -g", "set_env = PERL5LIB=/usr/share/none:DEEP"),
    ("id -G", "set_env = GIT_EXEC_PATH=LINKED"),
    ("id -n", "set_env = PATH=/usr/bin:MIXED"),
    ("perl -I MIXED -e 1", "opens_paths = yes"),
    ("perl -wIDEEP -e 1", "opens_paths = yes"),
    ("perl -I GOOD MIXED/x", "opens_paths = yes"),
    ("perl -I GOOD DEEP/sub/x -e", "opens_paths = yes"),
    ("ruby -I MIXED -e 1", "opens_paths = yes"),
    ("node --require MIXED/x -e 1", "opens_paths = yes"),
    ("java -cp MIXED Main", "opens_paths = yes"),
    ("java -cp x:none Main", "cwd = MIXED\nopens_paths = yes"),
    ("java -javaagent:MIXED/x -version", "opens_paths = yes"),
    ("gcc -B MIXED --version", "opens_paths = yes"),
    ("gcc -BDEEP/ --version", "opens_paths = yes"),
    ("gcc -fplugin=MIXED/x --version", "opens_paths = yes"),
    ("gcc @MIXED/x --version", "opens_paths = yes"),
    ("dpkg -R -i MIXED", "opens_paths = yes"),
    ("dpkg --recursive --unpack DEEP", "opens_paths = yes"),
    ("apt-get -o Dir=MIXED check", "opens_paths = yes"),
    ("apt-get -c MIXED/x check", "opens_paths = yes"),
    ("mount -t fuse MIXED/x /mnt", ""),
    ("mount -tfuse MIXED/x#a /mnt", ""),
    ("mount -t fuse.MIXED/x a /mnt", ""),
    ("mount.fuse MIXED/x /mnt", "opens_paths = yes"),
    ("python3 -m x", "cwd = MIXED"),
    ("python3 -c pass", "cwd = DEEP"),
    ("env -C MIXED python3 -c pass", ""),
    ("env -C DEEP PYTHONPATH=sub id", ""),
    ("nice python3 -", "cwd = MIXED"),
    ("python3 -W ignore MIXED/own", "opens_paths = yes"),
    ("python3 GOOD/to_own", "opens_paths = yes"),
    ("python3 -W ignore MIXED/x", "opens_paths = yes"),
    ("sh +x MIXED/x", "opens_paths = yes"),
    ("sh MIXED/x -c", "opens_paths = yes"),
    ("gdb -batch -x MIXED/x", "opens_paths = yes"),
    ("/lib64/ld-linux-x86-64.so.2 --library-path MIXED /usr/bin/id", "opens_paths = yes"),
    ("/lib64/ld-linux-x86-64.so.2 --preload=MIXED/x /usr/bin/id", "opens_paths = yes"),
    ("busybox sh MIXED/x", "opens_paths = yes"),
    ("sh -c perl~-I~MIXED~-e~1", ""),
    ("bash -c cd~/;~nice~gcc~-B'MIXED'~--version", ""),
    ("sh -ec cd~MIXED~&&~python3~-c~pass", ""),
    ("flock ARCHIVE -c (java~-cp~DEEP~Main)", ""),
    ("env -S perl~-IMIXED~-e~1", ""),
    ("ip link set dev lo xdp obj MIXED/x", ""),
    ("ip link set dev lo xdpgeneric object DEEP/sub/x section a", ""),
    ("ip route add 192.0.2.0/24 encap bpf in pinned AGENT/x dev lo", ""),
    ("mount -T MIXED/x -a", ""),
    ("mount --fstab=DEEP/sub/x /mnt", ""),
    ("env JAVA_HOME=MIXED id", ""),
    ("id -ru", "set_env = GEM_PATH=/usr/share/none:DEEP"),
]
#: What has nothing of others in it, and what is only looked at or changed.
ALLOWED = [
    ("find GOOD -name x -exec {} ;", "", b"OWNED"),
    ("find GOOD -name x -execdir ./x ;", "", b"OWNED"),
    ("run-parts GOOD", "", b"OWNED"),
    ("tar -C GOOD --to-command=GOOD/x -xf ARCHIVE", "", b"OWNED"),
    ("sh -c run-parts~GOOD", "", b"OWNED"),
    ("sh -c ls~MIXED", "", b"x"),
    ("sh -c cd~MIXED;~perl~-I~GOOD~-e~1", "", b""),
    ("find DEEP -name x", "", b"/x"),
    ("find -L AGENT -name x", "", b"/x"),
    ("find DEEP -name x -exec cat {} ;", "", b"echo OWNED"),
    ("find AGENT -name x -exec sed -n s/a/b/ {} ;", "", b""),
    ("find DEEP -name x -exec chmod 0755 {} ;", "", b""),
    ("tar -C MIXED -I gzip -cf /dev/null x", "", b""),
    ("ldconfig -n GOOD", "", b""),
    ("rsync -aF --list-only GOOD", "", b"x"),
    ("rsync -a --list-only DEEP", "", b"x"),
    ("env PYTHONPATH=GOOD PATH=/usr/sbin:/usr/bin id", "", b"uid=0"),
    ("env PROJECT=MIXED id", "", b"uid=0"),
    ("id", "set_env = PERL5LIB=GOOD, HOME=/root, LABEL=MIXED", b"uid=0"),
    ("perl -I GOOD -e 1", "", b""),
    ("perl GOOD/perl MIXED/x", "opens_paths = yes", b""),
    ("gcc -B GOOD --version", "opens_paths = yes", b"gcc"),
    ("python3 -I MIXED/own", "opens_paths = yes", b"OWN"),
    ("python3 -B GOOD/own -c MIXED/x", "opens_paths = yes", b"OWN"),
    ("python3 -c print('OWN')", "cwd = GOOD", b"OWN"),
]


class Scene:
    """The directories, and a daemon that has a filter for each command."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon
        top = daemon.directory
        self.names = {one.upper(): top / one for one in ("agent", "mixed", "deep", "good", "linked")}
        for path in self.names.values():
            path.mkdir()
        self.names |= {"ARCHIVE": top / "archive.tar", "REPOSITORY": top / "repository"}
        agent, mixed, deep, good, linked, archive, repository = self.names.values()
        hook = repository / ".git/hooks/pre-commit"
        hook.parent.mkdir(parents=True)
        (deep / "sub").mkdir()
        (linked / "x").symlink_to(mixed / "x")
        for path in (agent / "x", mixed / "x", deep / "sub/x", good / "x", hook):
            path.write_text("#!/bin/sh\n# a\necho OWNED >&2\n")
            path.chmod(0o755)
        (mixed / "own").write_text("print('OWN')\n")
        shutil.copy(mixed / "own", good)
        (good / "perl").write_text("1;\n")
        (good / "to_own").symlink_to(mixed / "own")
        for path in (mixed / "Makefile", deep / "Makefile"):
            path.write_text("all:\n\t@echo OWNED >&2\n")
        shutil.make_archive(str(archive).removesuffix(".tar"), "tar", good)
        self.theirs: tuple[Path, ...] = (
            agent,
            agent / "x",
            mixed / "x",
            mixed / "Makefile",
            deep / "sub",
            deep / "sub/x",
            hook,
        )

    def give(self) -> None:
        """Let the agent have what is his."""
        for path in self.theirs:
            os.chown(path, AGENT, AGENT)

    def filled(self, text: str) -> str:
        for name, path in self.names.items():
            text = text.replace(name, str(path))
        return text

    def start(self, rows: list[tuple[str, str]]) -> None:
        """Start the daemon without what it refuses then."""
        lines = ["[Filters]"]
        for number, (words, _) in enumerate(rows):
            program, *rest = self.filled(words).split(" ")
            written = (
                word.replace(";", "\\;").replace("~", "\\ ").replace("{}", "{=\\{\\}}") for word in rest
            )
            lines.append(", ".join((f"x{number}: ArgvFilter, {program}, root", *written)))
        for number, (_, options) in enumerate(rows):
            lines += [f"[x{number}]", self.filled(options)] if options else []
        self.daemon.configure("\n".join([*lines, ""]), on_finding="skip")
        self.daemon.start()


def _there(rows: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return [row for row in rows if shutil.which(row[0].split(" ")[0])]


@pytest.fixture
def scene(new_daemon: NewDaemon) -> Scene:
    return Scene(new_daemon(start=False))


@pytest.mark.parametrize("half", [0, 1])
@pytest.mark.parametrize("before", [True, False])
def test_nothing_of_others_is_executed(scene: Scene, before: bool, half: int) -> None:
    """`before`: it is theirs before the filters are read, which then refuses some. Of more than a hundred
    denials not each has a record.
    """
    if before:
        scene.give()
    rows = _there(DENIED)[half::2]
    scene.start(rows)
    scene.give()
    with scene.daemon.client() as client:
        for words, _ in rows:
            with pytest.raises(Denied):
                done = client.run([word.replace("~", " ") for word in scene.filled(words).split(" ")])
                pytest.fail(f"{words}: {done.stderr!r}")
    ends = [(one["filter"], one["detail"]) for one in scene.daemon.audit()]
    refused = [f"test.filters:{number + 2}:1: error: " in scene.daemon.log for number in range(len(rows))]
    assert [name for name, _ in ends] == [None if one else f"x{n}" for n, one in enumerate(refused)]
    assert any(refused) is before
    # It is theirs that refuses it, and nothing else that may be wrong with the words.
    wanted = ("others can change", "others can make such a name", "for a path in it", "belongs to user")
    assert all(any(one in detail for one in wanted) for name, detail in ends if name), ends


def test_what_is_roots_alone_is_executed(scene: Scene) -> None:
    rows = _there([(words, options) for words, options, _ in ALLOWED])
    said = {words: output for words, _, output in ALLOWED}
    scene.give()
    scene.start(rows)
    with scene.daemon.client() as client:
        for words, _ in rows:
            done = client.run([word.replace("~", " ") for word in scene.filled(words).split(" ")], timeout=20)
            assert done.returncode == 0 and said[words] in done.stdout + done.stderr, (words, done)


def test_no_link_is_followed_where_others_made_it(scene: Scene) -> None:
    """Below a directory of root's that find(1) goes into, as below one of the agent's."""
    secret = scene.daemon.directory / "secret"
    secret.write_text("nobody else's\n")
    secret.chmod(0o600)
    (scene.names["DEEP"] / "sub/link").symlink_to(secret)
    asked = [f"find DEEP -name link -exec {command} {{}} ;" for command in ("chmod 0644", "cat")]
    scene.give()
    scene.start([(words, "") for words in asked])
    with scene.daemon.client() as client:
        for words in asked:
            done = client.run(scene.filled(words).split(" "))
            assert b"nobody" not in done.stdout and b"link" in done.stderr
    assert secret.stat().st_mode & 0o777 == 0o600


#: What goes on to the links that it finds: all that each would say of what is behind DEEP/sub/link.
LED = [
    "diff -r DEEP LINKED",
    "grep -R e DEEP",
    "grep -d recurse e DEEP/sub DEEP",
    "tar -chf - DEEP",
    "cat DEEP/sub/link",
]


def test_no_link_leads_a_program_out_of_a_directory(scene: Scene) -> None:
    """A directory of root's that has one of the agent's below it, as one of the agent's."""
    secret = scene.daemon.directory / "secret"
    secret.write_text("nobody else's\n")
    secret.chmod(0o600)
    (scene.names["DEEP"] / "sub/link").symlink_to(secret)
    (scene.names["LINKED"] / "sub").mkdir()
    (scene.names["LINKED"] / "sub/link").write_text("")
    scene.give()
    led = [*LED, "cp -rL DEEP GOOD", "find -L DEEP -type f", "find DEEP -type f"]
    scene.start([(words, "") for words in led])
    with scene.daemon.client() as client:
        found = {words: client.run(scene.filled(words).split(" "), timeout=20) for words in led}
    assert [words for words, done in found.items() if b"nobody" in done.stdout] == []
    assert not (scene.names["GOOD"] / "deep/sub/link").exists()
    assert b"sub/link" not in found["find -L DEEP -type f"].stdout
    # What nothing leads elsewhere is not kept from anything.
    assert found["find DEEP -type f"].returncode == 0 and b"sub/x" in found["find DEEP -type f"].stdout


def test_no_link_leads_what_is_unpacked_out_of_a_directory(scene: Scene) -> None:
    """A member's directories are looked up as its name has them, the agent's below one of root's, too."""
    top = scene.daemon.directory
    private, names = top / "private", scene.names
    private.mkdir(0o700)
    (names["DEEP"] / "sub/link").symlink_to(private)
    member = top / "made/sub/link/x"
    member.parent.mkdir(parents=True)
    member.write_text("root's\n")
    with tarfile.open(names["ARCHIVE"], "w") as archive:
        archive.add(member, "sub/link/x")
        archive.add(member, "sub/y")
    scene.give()
    words = "tar -xf ARCHIVE -C DEEP"
    scene.start([(words, "")])
    with scene.daemon.client() as client:
        done = client.run(scene.filled(words).split(" "))
    assert os.listdir(private) == [] and b"sub/link/x" in done.stderr
    assert (names["DEEP"] / "sub/y").read_text() == "root's\n"


@pytest.mark.parametrize(
    "words",
    [
        "chroot MIXED /x",
        "nice chroot DEEP /sub/x",
        "chroot MIXED nice ./x",
        "chroot TREE tool",
        "unshare -R TREE tool",
        "unshare --root=TREE /usr/bin/tool",
        "nsenter -rTREE tool",
    ],
)
def test_a_program_in_another_tree_is_looked_at_there(scene: Scene, words: str) -> None:
    tool = scene.daemon.directory / "tree/usr/bin/tool"
    tool.parent.mkdir(parents=True)
    shutil.copy(scene.names["MIXED"] / "x", tool)
    scene.names["TREE"], scene.theirs = scene.daemon.directory / "tree", (*scene.theirs, tool)
    scene.start([(words, "")])
    with scene.daemon.client() as client:
        # Nothing of others is there, and no shell: the script cannot be executed.
        assert client.run(scene.filled(words).split(" ")).returncode in (126, 127)
        scene.give()
        with pytest.raises(Denied):
            client.run(scene.filled(words).split(" "))
    assert "is refused: " in scene.daemon.audit()[-1]["detail"]


@pytest.mark.parametrize("words", ["chroot TREE link", "chroot TREE /usr/bin/link", "unshare -R TREE link"])
def test_a_link_in_another_tree_leads_elsewhere_there(scene: Scene, words: str) -> None:
    """To a file of others in it, where here is one of root's."""
    tree = scene.daemon.directory / "tree"
    tool = tree / "usr/bin/true"
    tool.parent.mkdir(parents=True)
    (tree / "usr/bin/link").symlink_to("/usr/bin/true")
    shutil.copy(scene.names["MIXED"] / "x", tool)
    scene.names["TREE"], scene.theirs = tree, (*scene.theirs, tool)
    scene.start([(words, "")])
    scene.give()
    with scene.daemon.client() as client, pytest.raises(Denied):
        client.run(scene.filled(words).split(" "))
    assert "a link leads elsewhere" in scene.daemon.audit()[-1]["detail"]
