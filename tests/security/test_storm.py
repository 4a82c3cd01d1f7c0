"""An agent that stops, kills and continues all that is its user's, while commands run as that user.

`ROOTWRAP_STORM` is the seconds of it, 3 by default; `ROOTWRAP_STORM_THREADS` is how many ask at once. More
than 12 need a machine that does nothing else: util-linux starts four programs where the shim starts one.
"""

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from rootwrap_daemon.client import PIPE
from rootwrap_daemon.errors import Error
from tests.real_daemon import Daemon, NewDaemon, wait_for, without_shim

pytestmark = pytest.mark.root

SECONDS = float(os.environ.get("ROOTWRAP_STORM", "3"))
#: One that no other test runs anything as: kill(-1) reaches all that it has on this host.
AGENT = "uucp"
OPTIONS = {
    "plain": "",
    "limits": "limits = nofile=100, core=0\n",
    "privileges": "no_new_privs = no\ngroup = daemon\n",
    "ambient": "ambient = CAP_NET_RAW\n",
    "variables": "umask = 0077\nset_env = A=b\n",
}
KILL = """
import os, signal, sys
while True:
    for name in ("SIGSTOP", "SIGSTOP", "SIGSTOP", "SIGKILL", "SIGSTOP", "SIGCONT"):
        for _ in range(50):
            try:
                os.kill(-1, signal.Signals[name])
            except ProcessLookupError:
                pass
"""
THREADS = int(os.environ.get("ROOTWRAP_STORM_THREADS", "12"))


class Watch:
    """Looks at the daemon's children, until it is stopped: who they are, and whose pipes they have."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon
        self.wrong: list[str] = []
        self.seen = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        own = os.readlink(f"/proc/{self.daemon.pid}/exe")
        while not self._stop.is_set():
            pipes: Counter[str] = Counter()
            for pid in self.daemon.children():
                with contextlib.suppress(OSError):
                    # In this order: a shim is executed before it changes its user.
                    uids = Path(f"/proc/{pid}/status").read_text().partition("Uid:")[2].split()[:4]
                    is_copy = os.readlink(f"/proc/{pid}/exe") == own
                    if is_copy and uids != ["0"] * 4:
                        self.wrong.append(f"{pid} is a copy of the daemon as {uids}")
                    self.seen += 1
                    if not is_copy:
                        names = os.listdir(f"/proc/{pid}/fd")
                        targets = {os.readlink(f"/proc/{pid}/fd/{one}") for one in names}
                        pipes.update(one for one in targets if one.startswith("pipe:"))
            self.wrong += [f"{pipe} is in {count} commands" for pipe, count in pipes.items() if count > 1]
            # Whoever reads /proc without a pause keeps both processors from starting processes.
            time.sleep(0.01)


@pytest.mark.parametrize("way", ["native", "tools"])
def test_deadlines_are_kept_and_nothing_stays(new_daemon: NewDaemon, way: str) -> None:
    if AGENT not in {entry.pw_name for entry in pwd.getpwall()}:
        pytest.skip(f"no user {AGENT} here")
    daemon = new_daemon(start=False)
    programs = daemon.directory / "bin"
    programs.mkdir(mode=0o755)
    lines = ["[Filters]\n"]
    for name, options in OPTIONS.items():
        shutil.copy("/bin/sleep", programs / name)
        lines.append(f"[Filters]\n{name}: CommandFilter, {name}, {AGENT}\n[{name}]\ntimeout = 1\n{options}")
    daemon.configure("".join(lines), exec_dirs=f"{programs}, /usr/bin, /bin", drain_timeout="1")
    if way == "tools":
        daemon.inside = without_shim()
    daemon.start()
    before, _ = daemon.figures()
    seen: Counter[str] = Counter()
    late: list[float] = []
    end = time.monotonic() + SECONDS

    def work(number: int) -> None:
        # On a busy machine a process that is being created may not run for seconds, and has a turn meanwhile.
        with daemon.client(connect_timeout=60) as client:
            for turn in range(number, 1_000_000):
                if time.monotonic() > end:
                    return
                name = list(OPTIONS)[turn % len(OPTIONS)]
                start = time.monotonic()
                try:
                    if turn % 3:
                        seen[str(client.run([name, "0.01"]).returncode)] += 1
                    else:
                        with client.popen([name, "0.01"], stdout=PIPE) as process:
                            seen[str(process.wait())] += 1
                except Error as error:
                    seen[error.code] += 1
                late.append(time.monotonic() - start)

    agent = pwd.getpwnam(AGENT)
    python = ["/usr/bin/python3", "-I", "-S", "-c", KILL]
    stormer = subprocess.Popen(python, user=agent.pw_uid, group=agent.pw_gid, extra_groups=[])
    threads = [threading.Thread(target=work, args=(number,)) for number in range(THREADS)]
    try:
        with Watch(daemon) as watch:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            # Still under the storm: whatever it stopped has been ended.
            wait_for(lambda: not daemon.children())
            wait_for(lambda: daemon.figures()[0] <= before)
            begun = time.monotonic()
            assert daemon.stop(signal.SIGTERM) == 0
            stopped = time.monotonic() - begun
    finally:
        stormer.kill()
        stormer.wait()
    slowest = max(record["milliseconds"] for record in daemon.audit() if record["event"] == "end")
    print(f"{way}: {dict(seen)}; longest {max(late):.2f} s, in the daemon {slowest / 1000:.2f} s;")
    print(f"stop {stopped:.2f} s; {watch.seen} looks")
    assert watch.wrong == []
    assert set(seen) <= {"0", "-9", "-15", "timeout"}
    events = Counter(record["event"] for record in daemon.audit())
    assert events["run"] == events["end"] == sum(seen.values())
