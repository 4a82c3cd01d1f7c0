"""Read the command line of `rootwrap-exec`, and name its exit codes.

By hand: argparse takes as long to import as all the rest.
"""

import os

from rootwrap_daemon.openstack import socket_path

#: As oslo.rootwrap has them.
NO_COMMAND = 98
BAD_CONFIGURATION = 97
#: A stream could not be copied: EX_IOERR of sysexits.h. And what answered does not speak the protocol.
NOT_COPIED = 74
BAD_PROTOCOL = 76
#: It may have run: EX_TEMPFAIL.
OUTCOME_UNKNOWN = 75

MAX_TIMEOUT = 7 * 24 * 3600

HELP = """\
usage: rootwrap-exec [OPTION...] [--] COMMAND [ARGUMENT...]

Run COMMAND through rootwrap-daemon, with this process's standard streams, and end as it ends.

  --socket PATH        where the daemon listens (default: ROOTWRAP_DAEMON_SOCKET, or
                       /run/rootwrap-daemon/rootwrap-daemon.sock)
  --env NAME[=VALUE]   a variable for the command, where its filter allows it; NAME alone takes the value
                       that it has here, which is then on no command line. May be repeated
  --user NAME          run it as this user, of those that its filter has (default: the first)
  --timeout SECONDS    end the command after so long, with exit status 124; wait as long for a daemon
                       that does not answer (without this option 10 seconds)
  -n                   give the command no standard input
  --check              run nothing; exit with 0 if the command would be allowed, else with 99
  --version, --help    print that, and exit

exit status: that of the command, or its signal. If it did not run: 99 no filter allows it, 98 no command,
97 a wrong option or no daemon, 96 no such program, 124 the time was up; 74 if a stream could not be copied.

example: rootwrap-exec --timeout 30 --env PGPASSFILE -- ip netns list
"""


class Failed(Exception):
    """A failure: the line for standard error, the exit code, and the daemon's own code where it said one."""

    def __init__(self, message: str, code: int, reason: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason


class Options:
    """The command line."""

    def __init__(self, words: "list[str]") -> None:
        """Raises Failed."""
        self.socket = ""
        self.env: list[tuple[bytes, bytes]] = []
        self.timeout: float | None = None
        self.user: str | None = None
        self.no_input = self.check = False
        #: What is to be printed, and nothing else done.
        self.shown: str | None = None
        rest = list(words)
        while rest and rest[0].startswith("-"):
            option, equals, value = rest.pop(0).partition("=")
            if option == "--":
                break
            if option in ("--socket", "--env", "--timeout", "--user"):
                if not equals:
                    value = rest.pop(0) if rest else ""
                self._take(option, value)
            elif option == "-n" and not equals:
                self.no_input = True
            elif option == "--check" and not equals:
                self.check = True
            elif option in ("--help", "--version") and not equals:
                self.shown = HELP if option == "--help" else f"rootwrap-exec {version()}\n"
                return
            else:
                what = f"unknown option {option}; a command that begins with - comes after --"
                raise Failed(what, BAD_CONFIGURATION)
        if not rest:
            raise Failed("no command", NO_COMMAND)
        self.argv = rest
        self.socket = self.socket or socket_path()

    def _take(self, option: str, value: str) -> None:
        if option in ("--socket", "--user") and not value:
            raise Failed(f"{option} needs a {'path' if option == '--socket' else 'name'}", BAD_CONFIGURATION)
        if option == "--socket":
            self.socket = value
        elif option == "--user":
            self.user = value
        elif option == "--timeout":
            try:
                self.timeout = float(value)
            except ValueError:
                self.timeout = -1.0
            if not 0 < self.timeout <= MAX_TIMEOUT:
                what = f"not a number of seconds from 0.001 to {MAX_TIMEOUT}"
                raise Failed(f"--timeout {value}: {what}", BAD_CONFIGURATION)
        else:
            name, equals, rest = os.fsencode(value).partition(b"=")
            if not name:
                raise Failed("--env needs a name", BAD_CONFIGURATION)
            if not equals:
                if name not in os.environb:
                    what = f"there is no such variable here: write {value}=VALUE"
                    raise Failed(f"--env {value}: {what}", BAD_CONFIGURATION)
                rest = os.environb[name]
            self.env.append((name, rest))


def version() -> str:
    """The version of the distribution that this came with: the whole, or the client alone."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("rootwrap-daemon")
    except PackageNotFoundError:
        return version("rootwrap-client")


def printable(text: str) -> str:
    return "".join([char if char.isprintable() else ascii(char)[1:-1] for char in text])
