"""`rootwrap-exec [--socket PATH] [--] COMMAND...`: in place of `sudo neutron-rootwrap FILE COMMAND...`.

Promises: the command's streams, end and signals are this process's; it ends when this process does.
Imports the standard library, msgpack and the client alone: an agent starts it for every command.
"""

import array
import fcntl
import os
import resource
import select
import signal
import stat
import sys
import termios
import threading
from contextlib import suppress
from typing import Final, NoReturn

from rootwrap_daemon.cli.exec.stand_in import CAUGHT, StandIn
from rootwrap_daemon.client import Client, DaemonUnavailable, Denied, Error
from rootwrap_daemon.client.process import Process
from rootwrap_daemon.openstack import socket_path

#: As oslo.rootwrap has them; 99 and 96 are the exit codes of Denied and ExecutableNotFound.
NO_COMMAND: Final = 98
BAD_CONFIGURATION: Final = 97

#: These are to end the command: where the policy does not give one, it is ended as if we were gone.
_ENDING: Final = frozenset({signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGKILL})
#: In the pipe of signals' numbers: the command's end.
_ENDED: Final = 0

_CHUNK: Final = 65536
_MODES: Final = (os.O_RDONLY, os.O_WRONLY, os.O_WRONLY)


def main() -> NoReturn:
    """Entry point of `rootwrap-exec`."""
    path, argv = _arguments(sys.argv[1:])
    _end(_run(path, argv))


def _arguments(words: list[str]) -> tuple[str, list[str]]:
    """The daemon's socket, and the command. By hand: argparse takes as long to import as all the rest."""
    path = None
    while words and words[0].startswith("-"):
        option, _, value = words.pop(0).partition("=")
        if option == "--":
            break
        if option == "--help":
            sys.stdout.write("usage: rootwrap-exec [--socket PATH] [--] COMMAND [ARGUMENT...]\n")
            sys.exit(0)
        if option != "--socket":
            _fail(f"unknown option {option}; a command that begins with - comes after --", BAD_CONFIGURATION)
        path = value or (words.pop(0) if words else "")
        if not path:
            _fail("--socket needs a path", BAD_CONFIGURATION)
    if not words:
        _fail("no command", NO_COMMAND)
    return path or socket_path(), words


def _run(path: str, argv: list[str]) -> int:
    """Run the command; its return code, or an exit code of ours, after saying why."""
    _fill_standard_streams()
    wakes, wake = os.pipe()
    os.set_blocking(wake, False)
    stand_in = StandIn(argv, wake)
    relays = Relays()
    # From here on a signal is for the command: it may run before we are told so.
    signal.set_wakeup_fd(wake)
    for number in CAUGHT:
        # Ignored already: nohup(1).
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda *_: None)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    try:
        ends = [relays.end(descriptor) for descriptor in range(3)]
        process = Client(path).popen(argv, stdin=ends[0], stdout=ends[1], stderr=ends[2])
        relays.started()
        stand_in.begin()
        threading.Thread(target=_await, args=(process, wake), daemon=True).start()
        _forward(process, wakes, stand_in)
        code = process.wait()
        relays.finish()
        return code
    except Error as error:
        relays.finish()
        # What it was told to use is not there: as good as a configuration that cannot be read.
        return _say(
            str(error), BAD_CONFIGURATION if isinstance(error, DaemonUnavailable) else error.exit_code
        )


def _fill_standard_streams() -> None:
    """Open /dev/null for those that are closed, or a pipe of ours would become one."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)


def _await(process: Process, wake: int) -> None:
    # Whoever asks afterwards is told what this was.
    with suppress(Error):
        process.wait()
    os.write(wake, bytes([_ENDED]))


def _forward(process: Process, wakes: int, stand_in: StandIn) -> None:
    """Pass signals on until the command has ended."""
    while True:
        for number in os.read(wakes, 64):
            if number == _ENDED:
                return
            if number == signal.SIGCHLD:
                # Whoever kills it with what cannot be caught means the command.
                if killer := stand_in.killed_by():
                    _send(process, killer)
            else:
                _send(process, number)


def _send(process: Process, number: int) -> None:
    try:
        process.send_signal(number)
    except Denied:
        if number in _ENDING:
            process.cancel()


class Relays:
    """Standard streams that cannot be passed, copied to and from pipes that can."""

    def __init__(self) -> None:
        self._outputs: list[tuple[threading.Thread, int]] = []
        self._theirs: list[int] = []
        self._ended, self._end = os.pipe()

    def end(self, descriptor: int) -> int | None:
        """What to pass for this standard stream: itself, a pipe that is copied, None for /dev/null."""
        status = os.fstat(descriptor)
        mode = _MODES[descriptor]
        if _is_null(status):
            return None
        if _is_passable(descriptor, status, mode):
            self._theirs.append(descriptor)
            return descriptor
        reader, writer = os.pipe()
        if mode == os.O_RDONLY:
            ours, theirs = writer, reader
            # Ends with the process: what it waits for may never come.
            threading.Thread(target=_copy_input, args=(writer,), daemon=True).start()
        else:
            ours, theirs = reader, writer
            thread = threading.Thread(target=self._copy_output, args=(ours, descriptor), daemon=True)
            thread.start()
            self._outputs.append((thread, theirs))
        self._theirs.append(theirs)
        return theirs

    def started(self) -> None:
        """The command has its ends: let go of ours, that whoever is at the other end sees its end, too."""
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in self._theirs:
            # Not standard error: we may have something to say yet.
            if descriptor != 2:
                os.dup2(null, descriptor, inheritable=False)
        os.close(null)

    def finish(self) -> None:
        """The command has ended: copy what it has written until now, and no more."""
        os.close(self._end)
        for thread, _ in self._outputs:
            thread.join()

    def _copy_output(self, reader: int, descriptor: int) -> None:
        poll = select.poll()
        poll.register(reader, select.POLLIN)
        poll.register(self._ended, select.POLLIN)
        while True:
            ready = {which for which, _ in poll.poll()}
            if reader in ready:
                data = os.read(reader, _CHUNK)
                if not data:
                    return
                if not _write(descriptor, data):
                    # Nobody reads it: then the command is to notice as well.
                    os.close(reader)
                    return
            if self._ended in ready:
                left = array.array("i", [0])
                fcntl.ioctl(reader, termios.FIONREAD, left)
                while left[0] > 0:
                    data = os.read(reader, min(left[0], _CHUNK))
                    if not _write(descriptor, data):
                        return
                    left[0] -= len(data)
                return


def _copy_input(writer: int) -> None:
    with suppress(OSError):
        while data := os.read(0, _CHUNK):
            if not _write(writer, data):
                break
    os.close(writer)


def _write(descriptor: int, data: bytes) -> bool:
    """Write it all; False if nobody takes it."""
    rest = memoryview(data)
    try:
        while rest:
            try:
                rest = rest[os.write(descriptor, rest) :]
            except BlockingIOError:
                # Somebody else who has it open wants it so.
                os.set_blocking(descriptor, True)
    except OSError:
        return False
    return True


def _is_null(status: os.stat_result) -> bool:
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == os.makedev(1, 3)


def _is_passable(descriptor: int, status: os.stat_result, mode: int) -> bool:
    """True for what the daemon takes: an anonymous pipe that this user made, open in one direction."""
    return (
        stat.S_ISFIFO(status.st_mode)
        and status.st_uid == os.geteuid()
        and os.readlink(f"/proc/self/fd/{descriptor}").startswith("pipe:[")
        and fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == mode
    )


def _end(code: int) -> NoReturn:
    """End as the command did, by its signal or with its code."""
    sys.stderr.flush()
    if code < 0:
        # The core, if any, is the command's.
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        number = -code
        if number not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [number])
        os.kill(os.getpid(), number)
        code = 128 - code
    # Not sys.exit: a thread may wait for input for ever.
    os._exit(code)


def _say(message: str, code: int) -> int:
    with suppress(OSError, ValueError):
        sys.stderr.write(f"rootwrap-exec: {message}\n")
    return code


def _fail(message: str, code: int) -> NoReturn:
    sys.exit(_say(message, code))
