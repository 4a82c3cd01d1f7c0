"""Begin the daemon's process on its own terms, without the variables of whoever starts it.

Promises: of the environment only KEPT is left before another module is imported; libraries look for code to
load as they are imported (OPENSSL_CONF names some).
"""

import os
import sys
from collections.abc import MutableMapping
from typing import Final, NoReturn

#: What sudo(8), doas(1) and pkexec(1) say of the user who called them, who cannot change it.
CALLERS: Final = ("SUDO_UID", "DOAS_USER", "PKEXEC_UID")
#: What the service manager says: sd_listen_fds(3), sd_notify(3), sd_watchdog_enabled(3).
MANAGER: Final = (
    "LISTEN_PID",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "LISTEN_PIDFDID",
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
)
#: What it says of standard error: systemd.exec(5).
JOURNAL: Final = "JOURNAL_STREAM"
KEPT: Final = frozenset((*CALLERS, *MANAGER, JOURNAL))
#: What images of containers set, and what an isolated interpreter does not heed.
HARMLESS: Final = frozenset(("PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED"))
#: Those of the interpreter's own variables that `forget` has found.
DROPPED: Final[list[str]] = []
MODULE: Final = "rootwrap_daemon.daemon.main"


def forget(environ: MutableMapping[str, str]) -> None:
    """Take out all but KEPT. Where it is os.environ, getenv(3) does not find it either."""
    for name in sorted(environ.keys() - KEPT):
        del environ[name]
        if name.startswith("PYTHON"):
            DROPPED.append(name)


def console() -> NoReturn:
    """The console script: starts the daemon again in isolated mode, which the environment cannot reach."""
    if foreign := sorted(name for name in os.environ if name.startswith("PYTHON") and name not in HARMLESS):
        # By now sitecustomize, or whatever they name, has run in this process.
        sys.stderr.write(
            f"rootwrap-daemon: {', '.join(foreign)} set: start without, or with `python3 -I -m {MODULE}`\n"
        )
        sys.exit(78)  # EX_CONFIG of sysexits.h
    os.execv(sys.executable, [sys.executable, "-I", "-B", "-m", MODULE, *sys.argv[1:]])
