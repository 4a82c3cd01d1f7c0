"""The second client of the demo: with the rights of the service, and no more, it asks for more.

    python -m examples.demo.attacker SCENE

SCENE is JSON with the fields of `Scene`. What came of each attempt goes to stdout, one JSON object a line.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from examples.netns_agent import privileges
from rootwrap_daemon.client import PIPE, Client
from rootwrap_daemon.errors import Error

NOT_SHOWN = "not shown here"
#: MiB to read of output without end: more than the daemon would collect.
STREAMED = 32


@dataclass(frozen=True, slots=True)
class Scene:
    """What the demo has set up. `one_uid`: everybody is the same user here; `stranger`: only say hello.

    `directory` is the attacker's own. `victim`: a process of root that calls itself dnsmasq and is not.
    `helper_is_dnsmasq`: False where a sleep stands in for it. `seconds`: a sleep that nobody else sleeps.
    """

    socket: str
    uid: int
    gid: int
    one_uid: bool
    stranger: bool
    directory: str
    namespace: str
    filter_file: str
    daemon: int
    victim: int
    helper: int
    helper_is_dnsmasq: bool
    seconds: str


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the demo's table. `filter`: the one that allows it, empty where none does."""

    asked: str
    expected: str
    happened: str
    filter: str = ""
    milliseconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Attempt:
    """A command for the daemon, and what must come of it: the code of an error, or `exit` with a number."""

    argv: tuple[str, ...]
    expected: str
    env: Mapping[str, str] | None = None
    input: str | None = None
    timeout: float = 10.0


def attempts(scene: Scene) -> Iterator[Attempt]:
    """What is asked of the daemon, in order."""
    own, ran = scene.directory, f"touch {scene.directory}/ran"
    inside = ("ip", "netns", "exec", scene.namespace)

    # First what is allowed: a daemon that denies everything would pass all the rest.
    yield Attempt(("ip", "-j", "netns", "list"), "exit 0")
    yield Attempt((*inside, "sleep", "0"), "exit 0")
    yield Attempt(("cat", "/etc/passwd"), "exit 0")

    # A shell, and its characters where no shell is.
    yield Attempt(("sh", "-c", ran), "denied")
    yield Attempt(("ip", "netns", "add", f"{scene.namespace};{ran}"), "denied")
    yield Attempt(("ip", "-n", f"$({ran})", "-j", "address", "show"), "denied")
    yield Attempt(("ip", "netns", "add", f"{scene.namespace}\n"), "denied")
    # A path that only ends in an allowed name.
    yield Attempt((f"{own}/ip", "-j", "netns", "list"), "denied")
    yield Attempt((*inside, f"{own}/sleep", "0"), "denied")
    yield Attempt(("cat", f"{own}/passwd"), "denied")
    # What runs commands inside ip.
    yield Attempt(("ip", "-batch", "-"), "denied", input=f"netns exec {scene.namespace} {ran}\n")
    yield Attempt(("ip", "-force", "-b", f"{own}/batch"), "denied")
    yield Attempt(("ip", "vrf", "exec", "default", *ran.split()), "denied")
    yield Attempt((*inside, "sh", "-c", ran), "denied")
    yield Attempt(("ip", "-l", "netns", "netns", "exec", scene.namespace, "sh", "-c", ran), "denied")
    yield Attempt((*inside, *inside, "sleep", "0"), "denied")
    # Things that are not the service's.
    yield Attempt(("ip", "netns", "delete", "other"), "denied")
    yield Attempt(("ip", "netns", "delete", f"../run/netns/{scene.namespace}"), "denied")
    yield Attempt(("ip", "link", "delete", "dev", "lo"), "denied")
    # Code brought along in the environment.
    preload = f"LD_PRELOAD={own}/evil.so"
    yield Attempt(("ip", "-j", "netns", "list"), "environment_denied", env={"LD_PRELOAD": f"{own}/evil.so"})
    yield Attempt(("env", preload, "ip", "-j", "netns", "list"), "denied")
    yield Attempt((*inside, "env", preload, "sleep", "0"), "denied")
    # Signals: the filter allows -HUP, to processes that run dnsmasq.
    if scene.helper_is_dnsmasq:
        yield Attempt(("kill", "-HUP", str(scene.helper)), "exit 0")
    # Where no dnsmasq is installed there is none to compare a process with.
    no_such = "denied" if scene.helper_is_dnsmasq else "executable_not_found"
    yield Attempt(("kill", "-HUP", str(scene.victim)), no_such)
    yield Attempt(("kill", "-HUP", str(scene.daemon)), no_such)
    yield Attempt(("kill", "-HUP", "1"), no_such)
    yield Attempt(("kill", "-9", str(scene.helper)), "denied")
    yield Attempt(("kill", "-HUP", "-1"), "denied")
    yield Attempt((*inside, "kill", "-HUP", str(scene.helper)), "denied")
    # What is allowed, without end.
    yield Attempt(("sleep", scene.seconds), "timeout", timeout=1.0)
    yield Attempt(("yes",), "output_limit")


def ask(client: Client, attempt: Attempt) -> Row:
    """Have it run, and name the filter that let it."""
    asked = " ".join(word.replace("\n", "\\n") for word in attempt.argv)
    if attempt.env:
        asked = f"{asked}, env {' '.join(f'{name}={value}' for name, value in attempt.env.items())}"
    if attempt.expected == "timeout":
        asked = f"{asked}, deadline {attempt.timeout:.0f} s"
    started = time.monotonic()
    try:
        done = client.run(attempt.argv, env=attempt.env, input=attempt.input, timeout=attempt.timeout)
        happened = f"exit {done.returncode}"
    except Error as error:
        happened = error.code
    milliseconds = 1000 * (time.monotonic() - started)
    return Row(asked, attempt.expected, happened, _filter(client, attempt), milliseconds)


def _filter(client: Client, attempt: Attempt) -> str:
    try:
        return client.allows(attempt.argv, attempt.env).filter
    except Error:
        return ""


def stream(client: Client) -> Row:
    """The same program without end, into a pipe of the client's own: as much as is wanted, then a signal."""
    started = time.monotonic()
    try:
        with client.popen(["yes"], stdout=PIPE) as process:
            count = len(process.stdout.read(STREAMED << 20)) >> 20 if process.stdout else 0
            process.terminate()
            happened = f"{count} MiB, {signal.Signals(-process.wait()).name}"
    except (Error, ValueError) as error:
        happened = getattr(error, "code", str(error))
    milliseconds = 1000 * (time.monotonic() - started)
    asked = f"yes, past the daemon: {STREAMED} MiB read, SIGTERM"
    return Row(
        asked, f"{STREAMED} MiB, SIGTERM", happened, _filter(client, Attempt(("yes",), "")), milliseconds
    )


def by_itself(scene: Scene) -> Iterator[Row]:
    """The same rights without the daemon: what the kernel says."""

    def make_a_link() -> None:
        words = ("ip", "link", "add", "name", "evil0", "type", "veth", "peer", "name", "evil1")
        subprocess.run(words, check=True, capture_output=True)

    def add_a_filter() -> None:
        with open(scene.filter_file, "a", encoding="utf-8") as file:
            file.write("all: CommandFilter, sh, root\n")

    yield _refused("no daemon: ip link add", make_a_link)
    # With one uid for everybody both belong to the attacker too.
    if scene.one_uid:
        yield Row("no daemon: write into its filter file", "refused", NOT_SHOWN)
        yield Row("no daemon: kill the daemon", "refused", NOT_SHOWN)
    else:
        yield _refused("no daemon: write into its filter file", add_a_filter)
        yield _refused("no daemon: kill the daemon", lambda: os.kill(scene.daemon, 9))


def _refused(asked: str, act: Callable[[], None]) -> Row:
    started = time.monotonic()
    try:
        act()
        happened = "done"
    except (OSError, subprocess.CalledProcessError):
        happened = "refused"
    return Row(asked, "refused", happened, "", 1000 * (time.monotonic() - started))


def lay_out(scene: Scene) -> None:
    """The attacker's own programs and links, under names that look right."""
    own = Path(scene.directory)
    for name in ("ip", "sleep"):
        (own / name).write_text(f"#!/bin/sh\ntouch {own}/ran\n")
        (own / name).chmod(0o755)
    (own / "batch").write_text(f"netns exec {scene.namespace} touch {own}/ran\n")
    (own / "passwd").symlink_to("/etc/shadow")


def main() -> None:
    """Play the part, as the user that the scene names."""
    scene = Scene(**json.loads(sys.argv[1]))
    privileges.drop(scene.uid, scene.gid)
    with Client(scene.socket) as client:
        if scene.stranger:
            row = ask(client, Attempt(("ip", "-j", "netns", "list"), "unauthorized"))
            print(json.dumps(asdict(replace(row, asked="another user of the service's group"))))
            return
        lay_out(scene)
        for row in by_itself(scene):
            print(json.dumps(asdict(row)))
        for attempt in attempts(scene):
            print(json.dumps(asdict(ask(client, attempt))))
        print(json.dumps(asdict(stream(client))))


if __name__ == "__main__":
    main()
