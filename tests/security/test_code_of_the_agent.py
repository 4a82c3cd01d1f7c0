"""No file in a place where the agent can write becomes code: not by execve(2), not as a library."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from rootwrap_daemon.errors import Error
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
    ("env, root, LD_PRELOAD=AGENT/code.so, id", "env LD_PRELOAD=AGENT/code.so id"),
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
