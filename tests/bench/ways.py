"""Start what a benchmark compares: local calls, our daemon, a floor in C, and peers.

Each way is a context that gives a call; where a peer is not installed, `Absent` says why.
"""

import contextlib
import os
import pwd
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rootwrap_daemon.client import Client

#: One call; what it returns, if anything, are its seconds by its own clock.
Call = Callable[[], object]

NATIVE = Path(__file__).with_name("native")
TRUE = ["/usr/bin/true"]


class Absent(Exception):
    """A peer, or what it needs, is not on this machine."""


@contextlib.contextmanager
def our_daemon(directory: Path, filters: Path, options: str = "") -> Iterator[Client]:
    """The daemon as an operator starts it, with audit records to a file, and further lines of options."""
    config, path = directory / "daemon.conf", directory / "socket"
    config.write_text(
        f"[DEFAULT]\nfilters_path = {filters}\nsocket_path = {path}\nallowed_users = {os.geteuid()}\n"
        f"trusted_owners = 0, {65534 if _in_namespace() else 0}\n"
        f"audit_file = {directory}/audit.jsonl\nsyslog_log_level = ERROR\n{options}"
    )
    config.chmod(0o644)
    command = [sys.executable, "-I", "-m", "rootwrap_daemon.daemon.main", "--config-file", str(config)]
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(command, stderr=log)
    with ended(process) as daemon:
        while not path.exists():
            if daemon.poll() is not None:
                raise SystemExit(f"the daemon did not start:\n{(directory / 'log').read_text()}")
            time.sleep(0.01)
        with Client(str(path)) as client:
            yield client


def _in_namespace() -> bool:
    return Path("/proc/self/uid_map").read_text().split() != ["0", "0", "4294967295"]


@contextlib.contextmanager
def ended(process: "subprocess.Popen[Any]") -> Iterator[Any]:
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def pid_of(path: Path) -> int:
    """Of the daemon that listens there."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(path))
        return int(struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0])


def compiled(directory: Path, name: str) -> str:
    """The path of a program of ours in C, made on the spot. Raises Absent."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise Absent("no C compiler")
    program = directory / name
    subprocess.run(
        [compiler, "-std=c17", "-O2", "-o", program, NATIVE / f"{name}.c", "-lpthread"], check=True
    )
    return str(program)


@contextlib.contextmanager
def c_spawn(directory: Path) -> Iterator[Call]:
    """posix_spawn(3) in C, by its own clock."""
    command = [compiled(directory, "spawn"), *TRUE]
    with ended(
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
    ) as process:
        say, hear = process.stdin, process.stdout

        def call() -> float:
            say.write(b"x")
            return int(hear.readline()) / 1e9

        yield call


@contextlib.contextmanager
def floor(directory: Path) -> Iterator[Call]:
    """A daemon in C that judges, records and limits nothing, behind our client."""
    path = directory / "floor.socket"
    with ended(subprocess.Popen([compiled(directory, "floor"), path])):
        while not path.exists():
            time.sleep(0.01)
        with Client(str(path)) as client:
            yield lambda: client.run(TRUE)


@contextlib.contextmanager
def oslo_rootwrap(directory: Path) -> Iterator[Call]:
    """oslo.rootwrap's daemon, started by its own client."""
    try:
        from oslo_rootwrap.client import Client as PeerClient
    except ImportError as error:
        raise Absent(str(error)) from error

    filters = directory / "oslo.d"
    filters.mkdir()
    user = pwd.getpwuid(os.geteuid()).pw_name
    (filters / "true.filters").write_text(f"[Filters]\ntrue: CommandFilter, {TRUE[0]}, {user}\n")
    config = directory / "rootwrap.conf"
    config.write_text(f"[DEFAULT]\nfilters_path={filters}\nexec_dirs=/usr/bin,/bin\nuse_syslog=False\n")
    start = "import sys; from oslo_rootwrap import cmd; sys.argv[0] = 'oslo-rootwrap-daemon'; cmd.daemon()"
    peer = PeerClient([sys.executable, "-c", start, str(config)])
    try:
        yield lambda: peer.execute(TRUE)
    finally:
        # The client itself ends its daemon only when it is collected.
        with contextlib.suppress(Exception):
            peer._proxy.shutdown()
        if peer._process is not None:
            peer._process.wait(10)


@contextlib.contextmanager
def oslo_privsep(directory: Path) -> Iterator[Call]:
    """oslo.privsep's daemon, made by fork as its own tests do, with a function that runs a program."""
    try:
        from oslo_privsep import priv_context
    except ImportError as error:
        raise Absent(str(error)) from error
    if os.geteuid() != 0:
        raise Absent("needs root")
    context = priv_context.PrivContext(
        __name__, cfg_section="rootwrap_daemon_bench", capabilities=[], pypath=f"{__name__}.PRIVSEP"
    )
    entry = context.entrypoint(run_true)
    # The daemon finds both by their names.
    globals().update(PRIVSEP=context, run_true=entry)
    context.set_client_mode(True)
    context.start(priv_context.Method.FORK)
    try:
        yield entry
    finally:
        context.stop()


def run_true() -> int:
    """For oslo.privsep, which calls functions by their names."""
    return subprocess.run(TRUE, capture_output=True, check=False).returncode


@contextlib.contextmanager
def sudo(directory: Path) -> Iterator[Call]:
    if shutil.which("sudo") is None:
        raise Absent("no sudo")
    command = ["sudo", "-n", *TRUE]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        raise Absent("sudo asks for a password here")
    yield lambda: subprocess.run(command, capture_output=True, check=False)


def local() -> object:
    """What every ratio is to."""
    return subprocess.run(TRUE, capture_output=True, check=False)


def rate(call: Call, callers: int, seconds: float) -> float:
    """Calls a second of so many threads."""
    counts = [0] * callers
    end = time.perf_counter() + seconds

    def work(index: int) -> None:
        while time.perf_counter() < end:
            call()
            counts[index] += 1

    threads = [threading.Thread(target=work, args=(index,)) for index in range(callers)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.perf_counter() - start)


def c_rate(directory: Path, callers: int, seconds: float) -> float:
    """Of the C program with so many threads. `directory`: where `c_spawn` compiled it."""
    command = [str(directory / "spawn"), *TRUE, str(callers), str(seconds)]
    return int(subprocess.run(command, capture_output=True, check=True).stdout) / seconds
