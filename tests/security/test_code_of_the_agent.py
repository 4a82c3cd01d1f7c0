"""No file in a place where the agent can write becomes code: not by execve(2), not as a library."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from rootwrap_daemon.errors import Denied, Error, ExecutableNotFound
from tests.real_daemon import Daemon, NewDaemon

AGENT = 61111

pytestmark = pytest.mark.root

#: The words after the program of a filter, and of a request; AGENT is the agent's directory.
WRAPPERS = [
    ("timeout, root, 5, {path=AGENT}", "timeout 5 AGENT/script"),
    ("nice, root, {path=AGENT}", "nice AGENT/script"),
    ("ionice, root, -c, 3, {path=AGENT}", "ionice -c 3 AGENT/script"),
    ("nohup, root, {path=AGENT}", "nohup AGENT/script"),
    ("stdbuf, root, -o0, {path=AGENT}", "stdbuf -o0 AGENT/script"),
    ("taskset, root, 1, {path=AGENT}", "taskset 1 AGENT/script"),
    ("prlimit, root, --nofile=99, {path=AGENT}", "prlimit --nofile=99 AGENT/script"),
    ("setpriv, root, --no-new-privs, {path=AGENT}", "setpriv --no-new-privs AGENT/script"),
    ("setsid, root, -w, {path=AGENT}", "setsid -w AGENT/script"),
    ("flock, root, AGENT/lock, AGENT/script", "flock AGENT/lock AGENT/script"),
    ("env, root, {path=AGENT}", "env AGENT/script"),
    ("find, root, {path=AGENT}, -exec, AGENT/script, \\\\;", "find AGENT -exec AGENT/script ;"),
    ("split, root, --filter=AGENT/script, /etc/hostname", "split --filter=AGENT/script /etc/hostname"),
    (
        "tar, root, -I, AGENT/script, -cf, /dev/null, /etc/hostname",
        "tar -I AGENT/script -cf /dev/null /etc/hostname",
    ),
    (
        "sort, root, -S, 16k, --compress-program=AGENT/script, /etc/services, {path=AGENT}",
        "sort -S 16k --compress-program=AGENT/script /etc/services AGENT/big",
    ),
    ("env, root, {any}, id", "env LD_PRELOAD=AGENT/code.so id"),
]


def own(agent: Path) -> None:
    """Everything in the directory is the agent's."""
    os.chown(agent, AGENT, AGENT)
    for path in agent.iterdir():
        os.lchown(path, AGENT, AGENT)


def test_what_becomes_a_program(new_daemon: NewDaemon) -> None:
    daemon: Daemon = new_daemon(start=False)
    agent = daemon.directory / "agent"
    agent.mkdir()
    (agent / "script").write_text("#!/bin/sh\necho OWNED >&2\n")
    (agent / "script").chmod(0o755)
    (agent / "big").write_text("x\n" * 20000)
    if shutil.which("cc"):
        source = b"#include <unistd.h>\n__attribute__((constructor)) static void owned(void)"
        source += b'{ if (write(2, "OWNED", 5)) _exit(0); }'
        compiler = ["cc", "-shared", "-fPIC", "-x", "c", "-", "-o", str(agent / "code.so")]
        subprocess.run(compiler, input=source, check=True)
    own(agent)
    lines = [f"x{index}: ArgvFilter, {words}" for index, (words, _) in enumerate(WRAPPERS)]
    daemon.configure("\n".join(["[Filters]", *lines, ""]).replace("AGENT", str(agent)))
    daemon.start()
    with daemon.client() as client:
        for _, words in WRAPPERS:
            try:
                done = client.run(words.replace("AGENT", str(agent)).split(" "), timeout=10)
            except Error:
                continue
            assert b"OWNED" not in done.stderr, words
            assert done.returncode != 0 or "LD_PRELOAD" in words, words


@pytest.mark.parametrize("interpreter", ["", "#!BIN/tool\n"])
def test_what_the_agent_makes_beside_a_script_of_root(new_daemon: NewDaemon, interpreter: str) -> None:
    """Python takes modules from the directory of a script; `interpreter`: of the program of the filter."""
    daemon = new_daemon(start=False)
    beside = daemon.directory / "sticky"
    beside.mkdir()
    script = beside / "tool"
    script.write_text(f"#!{os.path.realpath('/usr/bin/python3')}\nimport textwrap\n")
    script.chmod(0o755)
    program = script
    if interpreter:
        program = daemon.directory / "program"
        program.write_text(interpreter.replace("BIN", str(beside)))
        program.chmod(0o755)
    daemon.configure(f"[Filters]\nx: ArgvFilter, {program}, root\n")
    daemon.start()
    with daemon.client() as client:
        assert client.run([str(program)]).returncode == 0
        (beside / "textwrap.py").write_text("print('OWNED')\n")
        beside.chmod(0o1777)
        os.chown(beside / "textwrap.py", AGENT, AGENT)
        with pytest.raises(ExecutableNotFound):
            pytest.fail(str(client.run([str(program)])))


#: The words after the program of a filter, and of a request; BIN is a directory of root's in PATH, NAME a
#: file there that says RAN when it is executed, is read as a script, or shown.
IN_PATH = [
    ("timeout, root, 5, NAME", "timeout 5 NAME"),
    ("timeout, root, 5, BIN/NAME", "timeout 5 BIN/NAME"),
    ("nice, root, -n, 5, env, A=1, NAME", "nice -n 5 env A=1 NAME"),
    ("env, root, PATH=BIN/NAME.d, only-NAME", "env PATH=BIN/NAME.d only-NAME"),
    # A chain whose own words have another program before that of the inner command.
    ("CHAIN", "timeout 5 NAME true"),
    ("find, root, /etc/passwd, -exec, NAME, \\;", "find /etc/passwd -exec NAME ;"),
    ("sh, root, BIN/NAME", "sh BIN/NAME"),
    ("sh, root, -eo, nounset, BIN/NAME", "sh -eo nounset BIN/NAME"),
    ("nice, root, sh, {path=BIN}", "nice sh BIN/NAME"),
    ("sed, root, -n, -f, BIN/NAME.sed, /etc/passwd", "sed -n -f BIN/NAME.sed /etc/passwd"),
    (r"tar, root, -I, NAME\ -d, -cf, -, /etc/passwd", "tar -I NAME!-d -cf - /etc/passwd"),
    (r"split, root, --filter=NAME\ >&2, /etc/passwd", "split --filter=NAME!>&2 /etc/passwd"),
    ("sort, root, --files0-from=BIN/NAME.list", "sort --files0-from=BIN/NAME.list"),
    ("env, root, -C, BIN, ./NAME", "env -C BIN ./NAME"),
    ("env, root, -C, BIN/NAME.d, PATH=., only-NAME", "env -C BIN/NAME.d PATH=. only-NAME"),
    ("unshare, root, --wd=BIN, ./NAME", "unshare --wd=BIN ./NAME"),
    # Of these nothing is known.
    ("sh, root, -c, BIN/NAME", "sh -c BIN/NAME"),
    ("script, root, -qc, BIN/NAME, /dev/null", "script -qc BIN/NAME /dev/null"),
    ("start-stop-daemon, root, --start, --exec, BIN/NAME", "start-stop-daemon --start --exec BIN/NAME"),
]


def test_what_the_agent_can_change_in_a_directory_of_root(new_daemon: NewDaemon) -> None:
    """It is no code of root's because root has the directory: not by a name in PATH, not by its path."""
    daemon = new_daemon(start=False)
    directory = daemon.directory / "bin"
    lines = ["[Filters]", "true: ArgvFilter, true, root"]
    for name in ("mine", "theirs", "shared"):
        (directory / f"{name}.d").mkdir(mode=0o755, parents=True)
        (directory / name).write_text("#!/bin/sh\necho RAN\n")
        (directory / f"{name}.sed").write_text("1s/.*/RAN/p\n")
        (directory / f"{name}.list").write_text(f"{directory}/mine\0")
        (directory / f"by-{name}").write_text(f"#!/usr/bin/setsid {name}\n")
        shutil.copy(directory / name, directory / f"{name}.d" / f"only-{name}")
        lines.append(f"by-{name}: CommandFilter, by-{name}, root")
        chain = f"ChainingRegExpFilter, timeout, root, timeout, 5, {name}"
        rows = (
            f"{name}{index}: {chain if words == 'CHAIN' else f'ArgvFilter, {words}'}"
            for index, (words, _) in enumerate(IN_PATH)
        )
        lines += (row.replace("NAME", name).replace("BIN", str(directory)) for row in rows)
    for path in directory.rglob("*"):
        path.chmod(0o755)
    daemon.configure("\n".join([*lines, ""]), exec_dirs=f"{directory}, /usr/sbin, /usr/bin, /sbin, /bin")
    daemon.start()
    # What is so when filters are loaded is an error then, as far as their own words say it.
    for name, owner, mode in (("theirs", AGENT, 0o755), ("shared", 0, 0o775)):
        for path in filter(Path.is_file, directory.rglob(f"*{name}*")):
            os.chown(path, owner, AGENT)
            path.chmod(mode)
    with daemon.client() as client:
        for _, words in IN_PATH:
            argv = words.replace("BIN", str(directory)).split(" ")
            for name in ("mine", "theirs", "shared"):
                asked = [word.replace("NAME", name).replace("!", " ") for word in argv]
                if name == "mine":
                    done = client.run(asked, text=True, timeout=60)
                    assert "RAN" in done.stdout + done.stderr, (asked, done)
                    continue
                with pytest.raises(Denied):
                    client.run(asked, timeout=60)
        for name in ("mine", "theirs"):
            # Nobody reads what setsid(1) makes of the rest of such a line.
            with pytest.raises(ExecutableNotFound):
                client.run([f"by-{name}"], timeout=60)


@pytest.mark.parametrize("path", ["", ".", ":", "below", "/nowhere:below/"])
def test_a_path_of_directories_is_relative_to_where_the_command_stands(
    new_daemon: NewDaemon, path: str
) -> None:
    daemon = new_daemon(start=False)
    lines = ["[Filters]"]
    for name in ("mine", "theirs"):
        directory = daemon.directory / name
        (directory / "below").mkdir(mode=0o755, parents=True)
        for where in (directory, directory / "below"):
            (where / name).write_text("#!/bin/sh\necho RAN\n")
            (where / name).chmod(0o755)
        lines += [f"{name}: ArgvFilter, env, root, PATH={path}, {name}", f"[{name}]", f"cwd = {directory}"]
        lines.append("[Filters]")
    daemon.configure("\n".join([*lines, "true: ArgvFilter, true, root", ""]))
    daemon.start()
    for one in (daemon.directory / "theirs").rglob("theirs"):
        os.chown(one, AGENT, AGENT)
    with daemon.client() as client:
        assert client.run(["env", f"PATH={path}", "mine"], text=True).stdout == "RAN\n"
        with pytest.raises(Denied):
            client.run(["env", f"PATH={path}", "theirs"])
