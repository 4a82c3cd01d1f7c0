#!/usr/bin/env python3
"""The whole of it on this machine, in less than a minute: daemon, service, breakage, attacker.

    .venv/bin/python examples/demo/demo.py

As root the service runs under a free uid of its own. As a plain user all of it happens in a user namespace.
Prints one table; exits with 0 only if every row of it is as expected. Leaves nothing behind.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from types import FrameType

# A script has only its own directory on the path.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from examples.demo.attacker import NOT_SHOWN, Row, Scene
from examples.demo.stage import (
    ENVIRONMENT,
    PATIENCE,
    ROOT,
    Failed,
    Stage,
    check_machine,
    enter_user_namespace,
    has_one_uid,
    ip,
    is_alive,
    is_running,
    stop,
    wait_for,
)

WANTED = """\
prefix: {prefix}
namespaces: [{left}, {right}]
veths:
  - - {{namespace: {left}, link: right0, addresses: [10.0.0.1/24]}}
    - {{namespace: {right}, link: left0, addresses: [{address}]}}
  - - {{link: {up}, addresses: [{network}.1/30]}}
    - {{namespace: {left}, link: up0, addresses: [{network}.2/30]}}
helpers:
  - {{namespace: {left}, argv: {helper}}}
"""
NOTHING_WANTED = "prefix: {prefix}\nnamespaces: []\n"


class Demo:
    """The acts of one run, and the rows of the table so far."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.rows: list[Row] = []
        #: As last seen: who looks again at once may miss one that goes into the background just then.
        self.helpers: list[int] = []
        self.address = "10.0.0.2/24"
        self.want(WANTED)
        self.daemon = stage.start_daemon()
        self.service = stage.start_service()

    def want(self, text: str) -> None:
        """Write down what the service shall see to."""
        stage = self.stage
        names = {name: getattr(stage, name) for name in ("prefix", "left", "right", "up", "network")}
        # JSON is YAML.
        text = text.format(**names, address=self.address, helper=json.dumps(stage.helper))
        (stage.directory / "wanted.yaml").write_text(text)

    def is_as_wanted(self) -> bool:
        """Whether everything is there, by the demo's own eyes."""
        stage = self.stage
        links = {
            f"{stage.left} right0 UP 10.0.0.1/24",
            f"{stage.right} left0 UP {self.address}",
            f"host {stage.up} UP {stage.network}.1/30",
            f"{stage.left} up0 UP {stage.network}.2/30",
        }
        self.helpers = stage.helpers()
        return stage.links() == links and len(self.helpers) == 1

    def answers(self) -> bool:
        """Whether the helper, a name server, takes connections."""
        with socket.socket() as probe:
            probe.settimeout(1)
            return probe.connect_ex((f"{self.stage.network}.2", 53)) == 0

    def act(self, asked: str, expected: str, reached: Callable[[], bool]) -> None:
        """Wait until something is so, and put down how long it took. Raises Failed."""

        def ended() -> bool:
            return self.service.poll() is not None

        started = time.monotonic()
        if not wait_for(lambda: ended() or reached()) or ended():
            last = self.stage.log("service")
            raise Failed(f"{asked}: not {expected} in {PATIENCE:.0f} s; the service's last words:\n{last}")
        self.rows.append(Row(asked, expected, expected, "", 1000 * (time.monotonic() - started)))

    def build(self) -> None:
        """The wanted state is reached."""
        stage = self.stage
        self.act("what the file wants", "reached", self.is_as_wanted)
        for line in sorted(stage.links()):
            place, name, state, addresses = line.split(maxsplit=3)
            say(f"    {place:<20}{name:<18}{state:<6}{addresses}")
        say(f"    {stage.left:<20}{stage.helper[0]}, pid {self.helpers[0]}")
        if stage.helper[0] == "dnsmasq":
            self.act(
                f"{stage.network}.2 port 53 from the host, through the veth pair", "answers", self.answers
            )

    def break_and_mend(self) -> None:
        """Others interfere; the service sees to it."""
        stage = self.stage
        ip("-n", stage.left, "address", "delete", "10.0.0.1/24", "dev", "right0", must=True)
        self.act("an address is deleted from outside", "mended", self.is_as_wanted)
        ip("-n", stage.left, "link", "delete", "dev", "up0", must=True)
        self.act("a veth pair is deleted from outside", "mended", self.is_as_wanted)
        ip("netns", "delete", stage.right, must=True)
        self.act("a whole namespace is deleted from outside", "mended", self.is_as_wanted)
        (before,) = self.helpers
        os.kill(before, signal.SIGKILL)
        self.act(
            "the helper is killed", "mended", lambda: self.is_as_wanted() and stage.helpers() != [before]
        )
        self.address = "10.0.0.3/24"
        self.want(WANTED)
        self.service.send_signal(signal.SIGHUP)
        self.act("the file wants another address; SIGHUP", "done", self.is_as_wanted)

    def attack(self) -> None:
        """A second client with the service's own rights."""
        stage = self.stage
        victim = stage.start_victim()
        scene = Scene(
            socket=f"{stage.directory}/socket",
            uid=stage.user,
            gid=stage.user,
            one_uid=stage.one_uid,
            stranger=False,
            directory=f"{stage.directory}/attacker",
            namespace=stage.left,
            filter_file=f"{stage.filters}/demo.filters",
            daemon=self.daemon.pid,
            victim=victim.pid,
            helper=stage.helpers()[0],
            helper_is_dnsmasq=stage.helper[0] == "dnsmasq",
            seconds=f"86{os.getpid()}",
        )
        stranger = replace(scene, uid=stage.stranger, stranger=True)
        if stage.one_uid:
            self.rows.append(Row("another user of the service's group", "unauthorized", NOT_SHOWN))
        else:
            self.rows += play(stranger)
        self.rows += play(scene)
        # The proof of what the answers say.
        traces = {
            "a command ran": (stage.directory / "attacker/ran").exists(),
            "the victim is gone": victim.poll() is not None,
            "the daemon is gone": self.daemon.poll() is not None,
            "the sleep goes on": is_running("sleep", scene.seconds),
        }
        found = ", ".join(what for what, is_so in traces.items() if is_so)
        self.rows.append(Row("traces of all that", "none", found or "none"))

    def take_down(self) -> None:
        """Nothing is wanted any more; then everybody stops."""
        stage = self.stage
        helpers = stage.helpers()
        self.want(NOTHING_WANTED)
        self.service.send_signal(signal.SIGHUP)

        def is_gone() -> bool:
            return not stage.namespaces() and not stage.links() and not any(map(is_alive, helpers))

        self.act("the file wants nothing; SIGHUP", "all removed", is_gone)
        for name, process in (("service", self.service), ("daemon", self.daemon)):
            started = time.monotonic()
            happened = f"exit {stop(process)}"
            milliseconds = 1000 * (time.monotonic() - started)
            self.rows.append(Row(f"SIGTERM to the {name}", "exit 0", happened, "", milliseconds))


def play(scene: Scene) -> list[Row]:
    """Let the attacker act; its rows, with short names for what has long ones. Raises Failed."""
    attacker = subprocess.run(
        [sys.executable, "-m", "examples.demo.attacker", json.dumps(asdict(scene))],
        cwd=ROOT,
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        start_new_session=True,
        check=False,
    )
    if attacker.returncode != 0:
        raise Failed(f"the attacker broke down:\n{attacker.stderr}")
    pids = {str(getattr(scene, name)): name.upper() for name in ("helper", "victim", "daemon")}
    rows = []
    for line in attacker.stdout.splitlines():
        row = Row(**json.loads(line))
        asked = row.asked.replace(scene.directory, "DIR").replace(scene.namespace, "NS")
        rows.append(replace(row, asked=" ".join(pids.get(word, word) for word in asked.split(" "))))
    return rows


def table(rows: list[Row]) -> bool:
    """Print the rows. Returns whether each is as expected."""
    widths = (60, 20, 20, 18)
    print("\n" + "".join(map(str.ljust, ("asked", "expected", "happened", "by filter"), widths)) + "     ms")
    good = True
    for row in rows:
        as_expected = row.happened in (row.expected, NOT_SHOWN)
        good = good and as_expected
        line = "".join(map(str.ljust, (row.asked, row.expected, row.happened, row.filter or "-"), widths))
        print(f"{line}{row.milliseconds:7.1f}{'' if as_expected else '  <-- NOT AS EXPECTED'}")
    print(
        "\nNS: the service's namespace. DIR: the attacker's directory. HELPER: the service's helper process."
    )
    print(
        "VICTIM: a process of root that calls itself dnsmasq and is not. No daemon: by the attacker itself."
    )
    return good


def perform(stack: contextlib.ExitStack) -> bool:
    """All acts. Returns whether everything was as expected."""
    started = time.monotonic()
    stage = Stage(stack)
    who = "uid 0 without capabilities, in a user namespace" if stage.one_uid else f"uid {stage.user}"
    say(f"The daemon runs as root, the service as {who}. The service makes what its file wants:")
    demo = Demo(stage)
    demo.build()
    say("Now it is broken from outside ...")
    demo.break_and_mend()
    say("... and an attacker has got hold of the service's rights.")
    demo.attack()
    demo.take_down()
    good = table(demo.rows)
    stall = json.loads((stage.directory / "report.json").read_text())["largest_stall_ms"]
    say(f"\nLargest stall of the service's hub: {stall} ms. All in {time.monotonic() - started:.0f} s.")
    say("Every row is as expected." if good else "NOT every row is as expected.")
    return good


def say(text: str) -> None:
    """Tell how far it is."""
    print(text, flush=True)


def interrupted(_number: int, _frame: FrameType | None) -> None:
    """The first Ctrl-C ends the demo; further ones do not keep it from cleaning up."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def main() -> int:
    """Returns the exit code."""
    os.umask(0o022)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupted)
    try:
        check_machine()
        if os.geteuid() != 0 or (has_one_uid() and "--in-namespace" not in sys.argv):
            enter_user_namespace(sys.executable, __file__, "--in-namespace")
        with contextlib.ExitStack() as stack:
            return 0 if perform(stack) else 1
    except Failed as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("demo: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
