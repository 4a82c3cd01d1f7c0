"""Keep a child of `rootwrap-exec` that looks like the command, for who looks for that below its root helper.

Promises: it does nothing but wait; signals sent to it reach the command.
"""

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
else:
    # Without its enumerations, which take as long to load as all of this.
    import _signal

#: The fields of /proc/PID/stat after the name (proc(5)) that say where the words of a process lie.
_ARG_START, _ARG_END = 48 - 3, 49 - 3

#: The signals that are passed on to the command, as sudo does.
CAUGHT = (
    _signal.SIGHUP,
    _signal.SIGINT,
    _signal.SIGQUIT,
    _signal.SIGTERM,
    _signal.SIGUSR1,
    _signal.SIGUSR2,
    _signal.SIGALRM,
)


class StandIn:
    """Neutron's AsyncProcess looks for its command among the children of its root helper, and signals that.

    The command is the daemon's child. So this one says that it is it: of its words (/proc/PID/cmdline) those
    before the command's become one, as of a script and its interpreter. Signals that can be caught go to
    `signals`, as `signal.set_wakeup_fd` writes them. It ends with its parent.
    """

    def __init__(self, argv: "list[str]") -> None:
        self.signals, wake = os.pipe()
        os.set_blocking(wake, False)
        reader, self._alive = os.pipe()
        # Before the fork: no moment in which it could be told what it is not ready for.
        before = _signal.pthread_sigmask(_signal.SIG_BLOCK, CAUGHT)
        self.pid = os.fork()
        if self.pid == 0:
            try:
                _stand(reader, wake, len(_last_program(argv)), before)
            finally:
                os._exit(0)
        _signal.pthread_sigmask(_signal.SIG_SETMASK, before)
        os.close(reader)
        os.close(wake)

    def killed_by(self) -> int:
        """The number of the signal that ended it, 0 if none did."""
        try:
            found = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG)
        except ChildProcessError:
            return 0
        killed = found is not None and found.si_code in (os.CLD_KILLED, os.CLD_DUMPED)
        return found.si_status if found is not None and killed else 0


def _last_program(argv: "list[str]") -> "list[str]":
    """Return what `ip netns exec NAME` becomes by execve(2); other commands as they are."""
    is_ip = os.path.basename(argv[0]) == "ip"
    return argv[4:] if is_ip and argv[1:3] == ["netns", "exec"] and len(argv) > 4 else argv


def _stand(reader: int, wake: int, words: int, mask: "set[int | _signal.Signals]") -> None:
    # What a terminal sends to its foreground, the parent gets and passes on: once is enough.
    os.setsid()
    for number in CAUGHT:
        _signal.signal(number, lambda *_: None)
    _signal.set_wakeup_fd(wake)
    _signal.pthread_sigmask(_signal.SIG_SETMASK, mask)
    # Whoever waits for the end of a pipe must not wait for this process.
    for name in os.listdir("/proc/self/fd"):
        if int(name) not in (reader, wake):
            try:
                os.close(int(name))
            except OSError:
                pass
    try:
        _join_words_before(words)
    except OSError:
        pass
    while os.read(reader, 1):
        pass


def _join_words_before(last: int) -> None:
    """Make one word of all but the last so many words of this process."""
    with open("/proc/self/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
    start, end = int(fields[_ARG_START]), int(fields[_ARG_END])
    with open("/proc/self/mem", "r+b", buffering=0) as memory:
        memory.seek(start)
        words = memory.read(end - start).split(b"\0")[:-1]
        before = b" ".join(words[:-last])
        memory.seek(start)
        memory.write(before)
