"""Paths in option clusters, scripts, variables, beside a directory and behind a chain lead nowhere else."""

import os
import subprocess
from pathlib import Path

import pytest

from rootwrap_daemon.errors import Denied, EnvironmentDenied, Error
from tests.real_daemon import Daemon, NewDaemon

AGENT = 61111
SECRET = "nobody else's\n"

pytestmark = pytest.mark.root


class Scene:
    """A directory of the agent's in which `out` is a link to a file of root's."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon
        self.agent = daemon.directory / "agent"
        self.private = daemon.directory / "private"
        self.private.mkdir(mode=0o700)
        self.target = self.private / "file"
        self.target.write_text(SECRET)
        self.agent.mkdir()
        os.symlink(self.target, self.agent / "out")
        os.lchown(self.agent / "out", AGENT, AGENT)
        os.chown(self.agent, AGENT, AGENT)

    def filled(self, text: str) -> str:
        return text.replace("AGENT", str(self.agent)).replace("BARE", str(self.agent)[1:])

    def ask(self, words: list[str]) -> bytes:
        """What the command says, or the error as the client has it."""
        with self.daemon.client() as client:
            try:
                done = client.run([self.filled(word) for word in words])
            except Error as error:
                return str(error).encode()
        return done.stdout + done.stderr


@pytest.fixture
def scene(new_daemon: NewDaemon) -> Scene:
    return Scene(new_daemon(start=False))


@pytest.mark.parametrize(
    ("filters", "words"),
    [
        ("sort, root, -uoBARE/out, /etc/hostname", "sort -uoBARE/out /etc/hostname"),
        ("tar, root, -cfBARE/out, -C, /etc, hostname", "tar -cfBARE/out -C /etc hostname"),
        ("sed, root, -n, s/a/b/wAGENT/out, /etc/passwd", "sed -n s/a/b/wAGENT/out /etc/passwd"),
        ("tar, root, -chf, -, -C, AGENT, out", "tar -chf - -C AGENT out"),
        ("env, root, -C, AGENT, tee, out", "env -C AGENT tee out"),
    ],
)
def test_in_words(scene: Scene, filters: str, words: str) -> None:
    # Blanks in a field are words' own; a sed script has none.
    scene.daemon.configure(scene.filled(f"[Filters]\nx: ArgvFilter, {filters}\n"), on_finding="skip")
    scene.daemon.start()
    said = scene.ask(words.split(" "))
    assert SECRET.encode() not in said
    assert scene.target.read_text() == SECRET


@pytest.mark.parametrize(
    ("filters", "words"),
    [
        ("tar, root, -C, {path=MIXED}, -chf, -, sub/x", "tar -C MIXED -chf - sub/x"),
        ("tar, root, -chCMIXED, -f, -, sub/x", "tar -chCMIXED -f - sub/x"),
        ("tar, root, --directory, {path=MIXED}, -chf, -, sub/x", "tar --directory MIXED -chf - sub/x"),
        ("tar, root, -C, BARE, -chf, -, sub/x", "tar -C BARE -chf - sub/x"),
        ("tar, root, -chCBARE, -f, -, sub/x", "tar -chCBARE -f - sub/x"),
        ("tar, root, --directory=BARE, -chf, -, sub/x", "tar --directory=BARE -chf - sub/x"),
        ("tar, root, -C, ABOVE, -C, mixed, -chf, -, sub/x", "tar -C ABOVE -C mixed -chf - sub/x"),
        ("tar, root, -C, {path=ABOVE}, -Cmixed, -chf, -, sub/x", "tar -C ABOVE -Cmixed -chf - sub/x"),
        ("tar, root, -C, ./BARE, -chf, -, sub/x", "tar -C ./BARE -chf - sub/x"),
        ("env, root, -C, {path=MIXED}, tee, sub/x", "env -C MIXED tee sub/x"),
        ("env, root, --chdir=MIXED, tee, sub/x", "env --chdir=MIXED tee sub/x"),
    ],
)
def test_beside_a_directory_of_both(scene: Scene, filters: str, words: str) -> None:
    """A directory of root's, however it is named, in which one is the agent's."""
    mixed = scene.daemon.directory / "mixed"
    mixed.mkdir()
    (scene.agent / "out").rename(scene.agent / "x")
    scene.agent.rename(mixed / "sub")

    def filled(text: str) -> str:
        text = text.replace("ABOVE", str(mixed.parent))
        return text.replace("MIXED", str(mixed)).replace("BARE", str(mixed)[1:])

    scene.daemon.configure(filled(f"[Filters]\nx: ArgvFilter, {filters}\n"))
    scene.daemon.start()
    said = scene.ask(filled(words).split(" "))
    assert SECRET.encode() not in said
    assert scene.target.read_text() == SECRET


@pytest.mark.parametrize(
    ("filters", "words"),
    [
        ("sed, root, -n, -f, {path=AGENT}, /etc/hostname", "sed -n -f AGENT/list /etc/hostname"),
        ("sed, root, -nfAGENT/list, /etc/hostname", "sed -nfAGENT/list /etc/hostname"),
        ("sed, root, --fi, {path=AGENT}, /etc/hostname", "sed --fi AGENT/list /etc/hostname"),
        ("ip, root, -bat, {path=AGENT}", "ip -bat AGENT/list"),
        ("ip, root, --batch, {path=AGENT}", "ip --batch AGENT/list"),
        (
            "tar, root, -I, sh\\ AGENT/list, -cf, /dev/null, /etc/hostname",
            "tar -I sh_AGENT/list -cf /dev/null /etc/hostname",
        ),
        (
            "split, root, --filter=sh\\ AGENT/list, /etc/hostname",
            "split --filter=sh_AGENT/list /etc/hostname",
        ),
        ("sed, root, -n, 1esh\\ AGENT/list, /etc/hostname", "sed -n 1esh_AGENT/list /etc/hostname"),
        (
            "sed, root, -n, --expr=1esh\\ AGENT/list, /etc/hostname",
            "sed -n --expr=1esh_AGENT/list /etc/hostname",
        ),
        ("rsync, root, -e, sh\\ AGENT/list, /etc/hostname, h:", "rsync -e sh_AGENT/list /etc/hostname h:"),
        ("dnsmasq, root, --test, --conf-file=AGENT/list", "dnsmasq --test --conf-file=AGENT/list"),
        ("tar, root, -cf, -, -T, {path=AGENT}", "tar -cf - -T AGENT/list"),
        ("tar, root, cfT, -, {path=AGENT}", "tar cfT - AGENT/list"),
        ("wc, root, --files0=AGENT/list", "wc --files0=AGENT/list"),
        ("find, root, -files0-from, {path=AGENT}", "find -files0-from AGENT/list"),
        ("md5sum, root, --quiet, -c, {path=AGENT}", "md5sum --quiet -c AGENT/list"),
        ("file, root, -f, {path=AGENT}", "file -f AGENT/list"),
        ("chmod, root, --ref, {path=AGENT}, {path=AGENT}", "chmod --ref AGENT/list AGENT/other"),
        (
            "rsync, root, --files-from, {path=AGENT}, /etc, {path=AGENT}",
            "rsync --files-from AGENT/list /etc AGENT",
        ),
    ],
)
def test_a_file_of_the_agents_says_nothing(scene: Scene, filters: str, words: str) -> None:
    """What a program reads as its script, options or names of files is no path in it."""
    # What a word alone says is refused at load.
    scene.daemon.configure(scene.filled(f"[Filters]\nx: ArgvFilter, {filters}\n"), on_finding="skip")
    scene.daemon.start()
    (scene.agent / "list").write_text(f"{scene.target}\n")
    with scene.daemon.client() as client, pytest.raises(Denied):
        client.run([word.replace("sh_", "sh ") for word in scene.filled(words).split(" ")])
    said = scene.daemon.log + (scene.daemon.directory / "audit.jsonl").read_text()
    assert "does what a file says" in said and "others can change" in said


@pytest.mark.parametrize(
    ("filters", "words"),
    [
        ("ArgvFilter, nice, root, losetup, -f, {path=AGENT}", "nice losetup -f AGENT/out"),
        ("RegExpFilter, setsid, root, setsid, -w, sh, AGENT/.*", "setsid -w sh AGENT/out"),
        ("ArgvFilter, ip, root, netn, ex, {name}, sh, {path=AGENT}", "ip netn ex x sh AGENT/out"),
        ("RegExpFilter, env, root, env, [A-Z_]+=[a-z/]+, id", "env PYTHONPATH=AGENT id"),
    ],
)
def test_a_program_behind_another_is_not_hidden(scene: Scene, filters: str, words: str) -> None:
    """Nothing looks at it where its words are no filter's of its own."""
    scene.daemon.configure(scene.filled(f"[Filters]\nx: {filters}\n"), on_finding="skip")
    scene.daemon.start()
    with scene.daemon.client() as client, pytest.raises(Denied):
        client.run(scene.filled(words).split(" "))


def test_a_mount_that_the_host_would_not_see(scene: Scene) -> None:
    lines = (
        "lock: ChainingRegExpFilter, flock, root, flock, AGENT/lock",
        "add: ArgvFilter, ip, root, netns, add, {netns}",
    )
    scene.daemon.configure(scene.filled("\n".join(["[Filters]", *lines, ""])))
    scene.daemon.start()
    with scene.daemon.client() as client, pytest.raises(Denied):
        client.run(["flock", str(scene.agent / "lock"), "ip", "netns", "add", f"rw-{os.getpid()}"])


def test_a_mount_that_the_command_would_not_see(scene: Scene) -> None:
    """It would do nothing there, and say nothing."""
    inner = scene.agent / "inner dir"
    inner.mkdir()
    lines = (
        "own: ArgvFilter, chown, root, -R, nobody, {path=AGENT}",
        "list: ArgvFilter, ls, root, {path=AGENT}",
    )
    scene.daemon.configure(scene.filled("\n".join(["[Filters]", *lines, ""])))
    scene.daemon.inside = ["unshare", "--mount", "--propagation", "private"]
    scene.daemon.start()
    with scene.daemon.client() as client:
        own, show = ["chown", "-R", "nobody", str(scene.agent)], ["ls", str(scene.agent)]
        client.run(own, check=True)
        inside = ["nsenter", "-t", str(scene.daemon.pid), "-m", "mount", "-t", "tmpfs", "none", str(inner)]
        subprocess.run(inside, check=True)
        with pytest.raises(Denied):
            client.run(own)
        client.run(show, check=True)


def test_in_a_variable(scene: Scene) -> None:
    script = scene.daemon.directory / "script"
    script.write_text('#!/bin/sh\necho hi > "$OUT"\n')
    script.chmod(0o755)
    lines = [
        f"set: ArgvFilter, {script}, root, a",
        f"env: EnvFilter, env, root, OUT=AGENT/out, {script}, b",
        "preload: ArgvFilter, id, root, -u",
        "[set]",
        "set_env = OUT=AGENT/out",
        "opens_paths = yes",
        "[env]",
        "opens_paths = yes",
        "[preload]",
        f"set_env = LD_PRELOAD={scene.daemon.directory}/later/x.so",
    ]
    # What is the agent's when filters are loaded is refused then.
    later = scene.daemon.directory / "later"
    later.mkdir()
    scene.daemon.configure(scene.filled("\n".join(["[Filters]", *lines, ""])))
    scene.daemon.start()
    os.chown(later, AGENT, AGENT)
    scene.ask([str(script), "a"])
    scene.ask(["env", "OUT=AGENT/out", str(script), "b"])
    assert scene.target.read_text() == SECRET
    with scene.daemon.client() as client, pytest.raises(Denied):
        client.run(["id", "-u"])


def test_what_a_leaf_says_of_paths_is_not_said_of_its_chain(scene: Scene) -> None:
    outer, leaf = (scene.daemon.directory / name for name in ("outer", "leaf"))
    for path, text in ((outer, 'exec "$@"'), (leaf, 'echo hi > "$1"')):
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
    lines = [
        f"o: ChainingRegExpFilter, {outer}, root, {outer}",
        f"l: ArgvFilter, {leaf}, root, {{path=AGENT}}",
        "[l]",
        "opens_paths = yes",
    ]
    scene.daemon.configure(scene.filled("\n".join(["[Filters]", *lines, ""])))
    scene.daemon.start()
    with scene.daemon.client() as client:
        with pytest.raises(Denied):
            client.run([str(outer), str(leaf), str(scene.agent / "out")])
        client.run([str(leaf), str(scene.agent / "new")], check=True)
    assert scene.target.read_text() == SECRET


@pytest.mark.parametrize(
    "copy", ["cp -dR STICKY/his STICKY/ours", "cp -P STICKY/his/out STICKY/link", "chown -R root STICKY/his"]
)
@pytest.mark.parametrize("where", ["ours/out", "link", "his/out"])
def test_links_that_root_was_made_to_make_in_a_sticky_directory(scene: Scene, copy: str, where: str) -> None:
    """They are root's then, and lead where the agent wanted."""
    sticky = scene.daemon.directory / "sticky"
    sticky.mkdir()
    sticky.chmod(0o1777)
    scene.agent.rename(sticky / "his")
    program, *words = copy.replace("STICKY", str(sticky)).split()
    typed = (f"{{path={sticky}}}" if word.startswith("/") else word for word in words)
    lines = (
        f"copy: ArgvFilter, {program}, root, {', '.join(typed)}",
        f"cat: RegExpFilter, cat, root, cat, {sticky}/.*",
    )
    scene.daemon.configure("\n".join(["[Filters]", *lines, ""]))
    scene.daemon.start()
    scene.ask([program, *words])
    assert SECRET.encode() not in scene.ask(["cat", str(sticky / where)])


def test_a_working_directory_in_a_place(scene: Scene) -> None:
    sticky = scene.daemon.directory / "sticky"
    own = sticky / "own"
    own.mkdir(parents=True)
    sticky.chmod(0o1777)
    sub = own / "sub"
    sub.symlink_to(scene.agent)
    (scene.agent / "in").write_text("x")
    text = f"[Filters]\nt: ArgvFilter, sort, root, -o, sub/out, {{path={sticky}}}\n[t]\ncwd = {own}\n"
    scene.daemon.configure(text)
    scene.daemon.start()
    scene.ask(["sort", "-o", "sub/out", str(sticky / "x")])
    assert scene.target.read_text() == SECRET


def test_the_secret_of_an_assignment_without_env(new_daemon: NewDaemon) -> None:
    daemon = new_daemon("[Filters]\ne: EnvFilter, env, root, AA=1, echo, [a-z0-9]+\n[e]\nsecret = 3\n")
    with daemon.client() as client:
        client.run(["AA=1", "echo", "hunter2x"], check=True)
        client.run(["env", "AA=1", "echo", "hunter2x"], check=True)
    assert "hunter2x" not in Path(daemon.directory / "audit.jsonl").read_text()


@pytest.mark.parametrize("name", ["LANGUAGE", "LC_ALL", "LANG", "TERM", "COLORTERM", "TZ"])
def test_a_value_that_names_a_file_of_the_agent(new_daemon: NewDaemon, name: str) -> None:
    # As texts of a translation, what is there would be formats of printf(3) in a process of root's.
    daemon = new_daemon(
        f"[Filters]\na: ArgvFilter, printenv, root, {name}\nb: ArgvFilter, printenv, root, {name}, -0\n"
        f"c: EnvFilter, env, root, {name}=, sh\n"
        f"[a]\nenv = {name}\n[b]\nenv = {name}={{any}}\n"
    )
    with daemon.client() as client:
        for value in ("../../tmp/l", "/tmp/l", ":/tmp/l", "a/../../l", *(() if name == "TZ" else ("a%s",))):
            for words in (["printenv", name], ["printenv", name, "-0"]):
                with pytest.raises(EnvironmentDenied):
                    client.run(words, env={name: value})
            with pytest.raises(Denied):
                client.run(["env", f"{name}={value}", "sh", "-c", f"echo ${name}"])
        value = "Europe/Berlin" if name == "TZ" else "de_DE.UTF-8@euro"
        assert client.run(["printenv", name], env={name: value}).stdout == value.encode() + b"\n"
        done = client.run(["env", f"{name}={value}", "sh", "-c", f"echo ${name}"])
        assert done.stdout == value.encode() + b"\n"
