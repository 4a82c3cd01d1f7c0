"""Pass the standard streams to the command: itself a pipe that may be passed, else one that is copied.

Promises: what cannot be copied is an error that is named; a file on standard input is given back as far as
the command has not read it; only as much waits in here as a pipe holds.
"""

import errno
import fcntl
import os
import select

_CHUNK = 65536
_NAMES = ("standard input", "standard output", "standard error")
_MODES = (os.O_RDONLY, os.O_WRONLY, os.O_WRONLY)
_S_IFMT, _S_IFIFO, _S_IFCHR, _S_IFREG, _S_IFBLK = 0o170000, 0o010000, 0o020000, 0o100000, 0o060000


class Streams:
    """The three streams, until the command has ended. `ends`: what is passed; `slots`: for which streams.

    `errors`: what went wrong in copying. `broken`: nobody reads an output any more.
    """

    def __init__(self, *, no_input: bool) -> None:
        self.ends: list[int] = []
        self.slots = 0
        self.errors: list[str] = []
        self.broken = False
        self._passed: list[int] = []
        self._outputs: dict[int, int] = {}
        #: Our end of the pipe that the command reads, None without one; what is to be written to it, ...
        self._input: int | None = None
        self._rest = b""
        #: ... and the command's own end, kept to see at its end what was not read of a file.
        self._unread: int | None = None
        for number in (1, 2) if no_input else (0, 1, 2):
            self._pass(number)

    def _pass(self, number: int) -> None:
        status = os.fstat(number)
        kind = status.st_mode & _S_IFMT
        mode = fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE
        # /dev/null, but for one that no output can be written to.
        if kind == _S_IFCHR and status.st_rdev == os.makedev(1, 3) and not (number and mode == os.O_RDONLY):
            return
        if kind == _S_IFIFO and _is_passable(number, status):
            self._passed.append(number)
            end = number
        else:
            reader, writer = os.pipe()
            if number == 0:
                end, self._input = reader, writer
                os.set_blocking(writer, False)
                if kind in (_S_IFREG, _S_IFBLK):
                    self._unread = os.dup(reader)
            else:
                end = writer
                self._outputs[reader] = number
                os.set_blocking(reader, False)
        self.ends.append(end)
        self.slots |= 1 << number

    def started(self) -> None:
        """The command has its ends: let go of ours, so that whoever is at the other end sees its end, too."""
        null = os.open(os.devnull, os.O_RDWR)
        for end in self.ends:
            if end > 2:
                os.close(end)
            # Not standard error: there may be something to say yet.
            elif end != 2:
                os.dup2(null, end, inheritable=False)
        os.close(null)

    def register(self, poll: "select.poll") -> None:
        """Have it wait for what is to be copied."""
        for reader in self._outputs:
            poll.register(reader, select.POLLIN)
        if self._input is not None:
            # What was read already is written before more is read.
            if self._rest:
                poll.register(self._input, select.POLLOUT)
            else:
                poll.register(0, select.POLLIN)

    def serve(self, descriptor: int) -> None:
        """Copy once from, or to, this one."""
        if descriptor in self._outputs:
            self._copy(descriptor)
        elif descriptor == 0:
            try:
                self._rest = os.read(0, _CHUNK)
            except OSError as error:
                self._failed(0, error)
                self._rest = b""
            if self._rest:
                self._write_input()
            else:
                self._end_input()
        else:
            self._write_input()

    def _write_input(self) -> None:
        assert self._input is not None  # noqa: S101 - for the type checker; it is what was waited for
        try:
            self._rest = self._rest[os.write(self._input, self._rest) :]
        except BlockingIOError:
            pass
        except BrokenPipeError:
            # The command does not read all of its input; that is its own affair.
            self._end_input()

    def _end_input(self) -> None:
        if self._input is not None:
            os.close(self._input)
            self._input = None

    def _copy(self, reader: int) -> int:
        """Write what can be read, once. Returns how much that was; closes what is over."""
        try:
            data = os.read(reader, _CHUNK)
        except BlockingIOError:
            return 0
        if not data or not self._write(self._outputs[reader], data):
            # Where nothing can be written, the command is to notice as well.
            os.close(reader)
            del self._outputs[reader]
        return len(data)

    def write(self, number: int, data: bytes) -> None:
        """Write what the daemon did itself."""
        if data and self.slots >> number & 1:
            self._write(number, data)

    def _write(self, number: int, data: bytes) -> bool:
        try:
            while data:
                try:
                    data = data[os.write(number, data) :]
                except BlockingIOError:
                    # Somebody else who has it open wants it so.
                    poll = select.poll()
                    poll.register(number, select.POLLOUT)
                    poll.poll()
        except OSError as error:
            self._failed(number, error)
            return False
        return True

    def _failed(self, number: int, error: OSError) -> None:
        if number and error.errno == errno.EPIPE:
            self.broken = True
        else:
            self.errors.append(f"{_NAMES[number]}: {error.strerror}")

    def finish(self) -> None:
        """The command has ended: copy what it has written until now, and give back what it has not read."""
        for reader in list(self._outputs):
            left = fcntl.fcntl(reader, fcntl.F_GETPIPE_SZ)
            # A child in the background may write for ever.
            while left > 0 and reader in self._outputs and (got := self._copy(reader)):
                left -= got
        if self._unread is not None:
            import array
            import termios

            count = array.array("i", [0])
            fcntl.ioctl(self._unread, termios.FIONREAD, count)
            left = count[0] + len(self._rest)
            if left:
                try:
                    os.lseek(0, -left, os.SEEK_CUR)
                except OSError as error:
                    self._failed(0, error)


def _is_passable(number: int, status: os.stat_result) -> bool:
    """True for what the daemon takes: an anonymous pipe that this user made, open in one direction."""
    return (
        status.st_uid == os.geteuid()
        and os.readlink(f"/proc/self/fd/{number}").startswith("pipe:[")
        and fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE == _MODES[number]
        and _is_one_user(status.st_uid)
    )


def _is_one_user(uid: int) -> bool:
    """False for the number that stands for all users whom a user namespace does not know.

    The daemon sees whose pipe it is, and does not take another user's (user_namespaces(7)).
    """
    with open("/proc/sys/kernel/overflowuid", "rb") as overflow:
        if int(overflow.read()) != uid:
            return True
    with open("/proc/self/uid_map", "rb") as maps:
        return maps.read().split() == [b"0", b"0", b"4294967295"]
