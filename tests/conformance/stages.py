"""What a scenario finds on its socket, set up in the process of the test."""

import os
import signal
import socket
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rootwrap_daemon.protocol.messages import Check, Failure, Hello, Run, Start
from tests.conformance.fronts import FRONTS
from tests.conformance.scenarios import Scenario
from tests.prepared import Prepared
from tests.real_daemon import FILTERS, ROOT, Daemon, NewDaemon, wait_for
from tests.unit.client.fake_daemon import FakeDaemon, Peer

#: A front end comes first, as in the program: it may have to patch what the scenarios import.
PLAYERS = {
    name: Prepared(
        "tests.conformance.play",
        f"tests.conformance.fronts:{front.__name__}",
        "tests.conformance.scenarios",
        options=("-W", "ignore"),
    )
    for name, front in FRONTS.items()
}
#: Nobody, where this process can become that.
OTHER = 65534
# In front: `cat` may be run with anything.
MORE = FILTERS.replace(
    "[Filters]\n",
    "[Filters]\nitself: ReadFileFilter, /etc/hostname\nnone: CommandFilter, no-such-program, root\n",
)


class Stage:
    """`path`: of the socket. `uid`: who the scenario plays as, None: as we do."""

    def __init__(self, path: str, uid: int | None = None, **does: Callable[[], object]) -> None:
        self.path = path
        self.uid = uid
        self.does = does


def play(front: str, scenario: Scenario, stage: Stage) -> None:
    """Play it in a process of its own. Fails if that fails, or says anything on stderr."""
    arguments = [front, scenario.name, stage.path, *([] if stage.uid is None else [str(stage.uid)])]
    its_input, to_it = os.pipe()
    from_it, its_output = os.pipe()
    with open(to_it, "w") as answers, open(from_it) as output, tempfile.TemporaryFile("w+") as noise:
        process = PLAYERS[front].start(arguments, [its_input, its_output, noise.fileno()])
        os.close(its_input)
        os.close(its_output)
        try:
            said = ""
            for said in output:
                if said.startswith("ask "):
                    stage.does[said.split()[1]]()
                    print("done", file=answers, flush=True)
            code = process.wait(60)
        finally:
            process.kill()
        noise.seek(0)
        heard = noise.read()
    assert (code, heard) == (0, ""), heard
    assert said == "end\n", said


def crash(daemon: Daemon) -> None:
    """Kill the daemon and what it leaves, and start it anew."""
    left = daemon.children()
    daemon.restart(signal.SIGKILL)
    for pid in left:
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)


def own_daemon(new: NewDaemon) -> Iterator[Stage]:
    daemon = new(MORE)
    left: list[int] = []

    def vanish() -> None:
        """Kill the daemon, and let go on what it leaves."""
        left.extend(map(os.pidfd_open, daemon.children()))
        daemon.restart(signal.SIGKILL)

    try:
        yield Stage(daemon.socket, restart=daemon.restart, crash=lambda: crash(daemon), vanish=vanish)
    finally:
        for pidfd in left:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            os.close(pidfd)
    wait_for(lambda: not daemon.children())


def nothing(new: NewDaemon) -> Iterator[Stage]:
    daemon = new(MORE, start=False)
    yield Stage(daemon.socket, start=daemon.start)


def not_our_group(new: NewDaemon) -> Iterator[Stage]:
    daemon = new(MORE, socket_mode="0600" if ROOT else "0000")
    assert stat.S_IMODE(os.stat(daemon.socket).st_mode) == (0o600 if ROOT else 0)
    yield Stage(daemon.socket, OTHER if ROOT else None)


def not_our_user(new: NewDaemon) -> Iterator[Stage]:
    daemon = new(MORE, socket_mode="0666", allowed_users="root" if ROOT else "12345")
    yield Stage(daemon.socket, OTHER if ROOT else None)


@contextmanager
def socket_at(path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))
        yield made


def a_dead_socket(directory: Path) -> Iterator[Stage]:
    with socket_at(directory / "socket") as made:
        yield Stage(made.getsockname())


def a_full_queue(directory: Path) -> Iterator[Stage]:
    with socket_at(directory / "socket") as listener, socket.socket(socket.AF_UNIX) as waiting:
        listener.listen(0)
        waiting.connect(listener.getsockname())
        yield Stage(listener.getsockname())


def fake(script: Callable[[Peer], None]) -> Callable[[Path], Iterator[Stage]]:
    def stage(directory: Path) -> Iterator[Stage]:
        with FakeDaemon(directory / "socket", script):
            yield Stage(str(directory / "socket"))

    return stage


def each_code(peer: Peer) -> None:
    """A failure with the code that the request names."""
    while (request := peer.read()) is not None:
        assert isinstance(request, Run | Check | Start)
        peer.say(Failure("r-1", request.argv[0].decode(), "why"))


def other_version(peer: Peer) -> None:
    peer.read()
    peer.say_anyway(Failure("", "unavailable", "this daemon speaks version 2 of the protocol"))


def other_hello(peer: Peer) -> None:
    peer.daemon.hello = Hello(2, 1 << 20, 0)
    peer.read()
    peer.wait_for_end()


def other_protocol(peer: Peer) -> None:
    peer.sock.recv(65536)
    peer.sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    peer.wait_for_end()


#: Those with a daemon of their own, and those without any.
DAEMONS: dict[str, Callable[[NewDaemon], Iterator[Stage]]] = {
    "own daemon": own_daemon,
    "nothing": nothing,
    "not our group": not_our_group,
    "not our user": not_our_user,
}
OTHERS: dict[str, Callable[[Path], Iterator[Stage]]] = {
    "a dead socket": a_dead_socket,
    "a full queue": a_full_queue,
    "every code": fake(each_code),
    "another version": fake(other_version),
    "another version, without a word": fake(other_hello),
    "another protocol": fake(other_protocol),
}
