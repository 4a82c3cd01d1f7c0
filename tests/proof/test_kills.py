"""Clients and daemons are killed at any instant: nothing runs twice, and nobody is told what is not so.

Each request writes a word of its own to a file, which is counted at the end. KILLS says how often somebody is
killed, KILLS_SEED when and who (`-rP` shows the figures).
"""

import contextlib
import os
import random
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Final

import pytest

from rootwrap_daemon.client import Client
from rootwrap_daemon.errors import Error
from tests.real_daemon import Daemon, NewDaemon, accepted, settle, wait_for

KILLS: Final = int(os.environ.get("KILLS", "25"))
SEED: Final = os.environ.get("KILLS_SEED", "1")
#: Errors that say that nothing ran.
NOTHING: Final = {"unavailable", "busy", "stopping", "denied", "unauthorized", "executable_not_found"}

pytestmark = pytest.mark.timeout(300 + 2 * KILLS)


def work(socket: str, name: str, counter: Path, ledger: Path) -> None:
    """Ask again and again, and note what is asked and what comes of it; until it is killed."""
    with ledger.open("ab", buffering=0) as notes, Client(socket, connect_timeout=60) as client:
        number = 0
        while True:
            number += 1
            word = f"{name}.{number}"
            notes.write(f"asked {word}\n".encode())
            try:
                done = client.run(["sh", "-c", f"echo {word} >> '{counter}'"], timeout=20)
                said = "ran" if done.returncode == 0 else f"code {done.returncode}"
            except Error as error:
                said = error.code
                # A daemon that is not there is asked again, but not as fast as that can be told.
                time.sleep(0.05)
            notes.write(f"{said} {word}\n".encode())


def started(daemon: Daemon, name: str, counter: Path, ledger: Path) -> int:
    """A process that does so."""
    pid = os.fork()
    if not pid:
        with contextlib.suppress(BaseException):
            work(daemon.socket, name, counter, ledger)
        os._exit(1)
    return pid


def test_nothing_runs_twice(new_daemon: NewDaemon, tmp_path: Path) -> None:
    daemon = new_daemon()
    counter, ledger = tmp_path / "counter", tmp_path / "ledger"
    source = random.Random(SEED)
    killed: Counter[str] = Counter()
    clients: list[int] = []
    try:
        # On a busy machine longer: until there was something to kill them at.
        while killed.total() < KILLS or ledger.read_bytes().count(b"ran ") <= KILLS:
            while len(clients) < 3:
                clients.append(started(daemon, f"{killed.total()}-{len(clients)}", counter, ledger))
            time.sleep(source.random() * 0.1)
            if source.random() < 0.06:
                daemon.restart(signal.SIGKILL)
                killed["daemon"] += 1
            else:
                pid = clients.pop(source.randrange(len(clients)))
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                killed["client"] += 1
    finally:
        for pid in clients:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    # The end of a command is recorded behind it, and its connection is closed behind that.
    accepted(daemon)
    settle(daemon)
    wait_for(lambda: daemon.children() == [])
    # What an earlier daemon left running writes its word and ends.
    time.sleep(0.2)
    ran = Counter(counter.read_text().split())
    said: dict[str, str] = {}
    for line in ledger.read_text().splitlines():
        what, _, word = line.rpartition(" ")
        said[word] = what
    codes = Counter(said.values())
    print(f"{dict(killed)} killed; {len(said)} requests: {dict(codes)}; {ran.total()} ran")
    assert [word for word, times in ran.items() if times > 1] == []
    assert [word for word, what in said.items() if what == "ran" and not ran[word]] == []
    assert [word for word, what in said.items() if what in NOTHING and ran[word]] == []
    assert set(ran) <= set(said)
    assert codes["ran"]
    # Each run that the last daemon recorded has its end.
    records = Counter(record["event"] for record in daemon.audit())
    assert 0 <= records["run"] - records["end"] <= 3 * killed["daemon"]
