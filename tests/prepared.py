"""Run Python programs as forks of an interpreter that has imported what they import.

A start of Python takes 0.1 to 0.3 s of a processor with what rootwrapctl, a start of the daemon or a client
imports; a fork takes a few milliseconds. The fork becomes what `python -m MODULE WORDS...` is: the module
executes anew, with words, environment, directory and standard descriptors of its own, and the interpreter
ends as any does. Limits, the umask and what Python reads from its environment are those that the first start
of the program found: a test of those starts a real one, and so does at least one test of each program.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from rootwrap_daemon.cli import ctl

_SERVER = str(Path(__file__).with_name("fork_server.py"))


class Process:
    """A fork, which is no child of this process: of subprocess.Popen what such a one can have."""

    def __init__(self, words: Sequence[str], answers: socket.socket) -> None:
        self.args = words
        self.returncode: int | None = None
        self._answers = answers
        text, (self._pidfd,), _, _ = socket.recv_fds(answers, 100, 1)
        self.pid = int(text)

    def poll(self) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code, negative for a signal. Raises subprocess.TimeoutExpired after so many seconds."""
        if self.returncode is None:
            self._answers.settimeout(timeout)
            try:
                self.returncode = int(self._answers.recv(100))
            except (TimeoutError, BlockingIOError):
                raise subprocess.TimeoutExpired(self.args, timeout or 0) from None
            self._answers.close()
            os.close(self._pidfd)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Prepared:
    """A program that is started as forks; `preparations` are those of tests/fork_server.py.

    `options` are the interpreter's, `environ` is what it starts with: None is that of this process.
    """

    _servers: Final[list["subprocess.Popen[bytes]"]] = []
    _requests: socket.socket | None = None

    def __init__(
        self,
        module: str,
        *preparations: str,
        options: Sequence[str] = (),
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self.module = module
        self._preparations = (*preparations, module)
        self._options = options
        self._environ = environ

    def _server(self) -> socket.socket:
        if self._requests is None:
            self._requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                number = theirs.fileno()
                words = [sys.executable, *self._options, _SERVER, str(number), *self._preparations]
                self._servers.append(subprocess.Popen(words, pass_fds=[number], env=self._environ))
        return self._requests

    def start(
        self,
        words: Sequence[str],
        standard: Sequence[int],
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        uid: int | None = None,
    ) -> Process:
        """Start it with these words and three standard descriptors; None is what this process has."""
        argv = [self.module, *words]
        request = {"argv": argv, "env": dict(env or os.environ), "cwd": str(cwd or os.getcwd()), "uid": uid}
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            descriptors = [theirs.fileno(), *standard]
            socket.send_fds(self._server(), [json.dumps(request).encode()], descriptors)
        return Process(argv, ours)

    def run(
        self,
        *words: object,
        input: str = "",
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        uid: int | None = None,
        timeout: float = 60,
    ) -> "subprocess.CompletedProcess[str]":
        """Run it to its end, like subprocess.run; it reads and writes files. Raises TimeoutExpired."""
        with contextlib.ExitStack() as stack:
            files = [stack.enter_context(tempfile.TemporaryFile("w+")) for _ in range(3)]
            files[0].write(input)
            files[0].seek(0)
            standard = [file.fileno() for file in files]
            process = self.start([str(word) for word in words], standard, env, cwd, uid)
            try:
                code = process.wait(timeout)
            finally:
                process.kill()
            for file in files:
                file.seek(0)
            return subprocess.CompletedProcess(process.args, code, files[1].read(), files[2].read())

    @classmethod
    def end(cls) -> None:
        """End all servers; what they have started goes on."""
        for server in cls._servers:
            server.terminate()
            server.wait()


#: `rootwrapctl`.
CTL: Final = Prepared(
    "rootwrap_daemon.cli.ctl",
    *(f"rootwrap_daemon.cli.commands.{name.replace('-', '_')}" for name in ctl.COMMANDS),
)
