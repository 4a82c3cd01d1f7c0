"""Count what a request costs where no clock can be trusted: bytecodes, and moves between files.

    python -m tests.bench.bytecodes [-v]

Each figure is of a warm call, in the thread that makes it or serves it, the standard library included. They
are the same on a busy machine and on an idle one, and differ between versions of Python.
"""

import json
import os
import socket
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, Self

from rootwrap_daemon.client import Client
from rootwrap_daemon.daemon.record.audit import Audit
from rootwrap_daemon.daemon.request import Peer
from rootwrap_daemon.daemon.run.instance import Instance
from rootwrap_daemon.daemon.serve.session import Session
from rootwrap_daemon.policy import host
from tests.unit.policy import things

PACKAGE = str(Path(__file__).parents[2] / "rootwrap_daemon")
#: Calls before the one that is counted, so that nothing is done for the first time in it.
WARM = 5


class Bytecodes:
    """Counts the bytecodes of this thread while it is entered."""

    def __init__(self) -> None:
        self.count = 0

    def __enter__(self) -> Self:
        sys.settrace(self._trace)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)

    def _trace(self, frame: FrameType, event: str, _: Any) -> Any:
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        if event == "opcode":
            self.count += 1
        return self._trace


class Moves:
    """Follows calls and returns between the files of the package while it is entered."""

    def __init__(self) -> None:
        self.files: list[str] = []

    def __enter__(self) -> Self:
        sys.setprofile(self._profile)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def _profile(self, frame: FrameType, event: str, _: Any) -> None:
        if event not in ("call", "return"):
            return
        here: FrameType | None = frame if event == "call" else frame.f_back
        while here is not None and not here.f_code.co_filename.startswith(PACKAGE):
            here = here.f_back
        if here is not None:
            file = here.f_code.co_filename.removeprefix(PACKAGE).strip("/")
            if not self.files or self.files[-1] != file:
                self.files.append(file)


class Served:
    """A client, and the session that serves it in another thread of this process."""

    def __init__(self, directory: Path, *lines: str) -> None:
        """`lines`: filters beside that of `true`."""
        policy = things.policy(directory, "true: CommandFilter, true, root", *lines)
        audit = Audit(str(directory / "audit"), required=False, owners=host.base_owners())
        self._instance = Instance(policy, audit)
        (uid,) = policy.allowed_uids
        self._peer = Peer(os.getpid(), uid, min(policy.allowed_gids), ())
        self._path = str(directory / "socket")

    def session(self, connection: socket.socket) -> Session:
        """A session of the daemon's on its end of a connection."""
        return Session(self._instance, connection, self._peer)

    def call(self, work: Callable[[Client], object], serve: Callable[[Session], None]) -> None:
        """`work` with a client whose one connection is served by `serve`."""
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(self._path)
            listener.listen()

            def run() -> None:
                session = self.session(listener.accept()[0])
                try:
                    serve(session)
                finally:
                    session.close()

            thread = threading.Thread(target=run)
            thread.start()
            try:
                with Client(self._path, 1) as client:
                    work(client)
            finally:
                thread.join()
                os.unlink(self._path)


def of_client(served: Served, call: Callable[[Client], object], counter: Bytecodes | Moves) -> None:
    """Have the counter follow one warm call of the client."""

    def work(client: Client) -> None:
        for _ in range(WARM):
            call(client)
        with counter:
            call(client)

    served.call(work, Session.serve)


def of_daemon(served: Served, call: Callable[[Client], object]) -> int:
    """Bytecodes of one request in the session's thread: those of a long conversation less a short one's."""
    counts = []
    for calls in (WARM, 2 * WARM):
        counter = Bytecodes()

        def work(client: Client, calls: int = calls) -> None:
            for _ in range(calls):
                call(client)

        def serve(session: Session, counter: Bytecodes = counter) -> None:
            with counter:
                session.serve()

        served.call(work, serve)
        counts.append(counter.count)
    return (counts[1] - counts[0]) // WARM


def run(client: Client) -> None:
    """The shortest command."""
    client.run(["true"])


def allows(client: Client) -> None:
    """The question whether it would be allowed."""
    client.allows(["true"])


def figures() -> dict[str, int]:
    """All figures, by name."""
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        served = Served(Path(directory))
        found = {}
        for name, call in (("run", run), ("allows", allows)):
            counter = Bytecodes()
            of_client(served, call, counter)
            found[f"client, {name}"] = counter.count
            # The fewest: on a busy machine a command's end may wake its session more than once.
            found[f"daemon, {name}"] = min(of_daemon(served, call) for _ in range(5))
        moves = Moves()
        of_client(served, run, moves)
        if "-v" in sys.argv:
            print("\n".join(moves.files))
        return found | {"client, files": len(set(moves.files)), "client, moves": len(moves.files) - 1}


if __name__ == "__main__":
    print(json.dumps(figures(), indent=2))
