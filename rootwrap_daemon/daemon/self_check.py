"""Check that this process can be trusted to go on: its interpreter, and who can change its code."""

import glob
import os
import sys

from rootwrap_daemon.errors import SelfCheckError
from rootwrap_daemon.policy import host


def check_code(owners: frozenset[int]) -> None:
    """Refuse to go on if anybody but `owners` can change code that this process has loaded or would load.

    Raises SelfCheckError.
    """
    paths = {sys.executable, *(entry for entry in sys.path if entry and os.path.exists(entry))}
    for entry in sys.path:
        # A line of a .pth file that begins with `import` is run: site(1).
        paths.update(glob.glob(f"{glob.escape(entry)}/*.pth"))
    for module in list(sys.modules.values()):
        for name in ("__file__", "__cached__"):
            path = getattr(module, name, None)
            if isinstance(path, str) and os.path.exists(path):
                paths.add(path)
    # Each directory is looked at once: nobody but `owners` can exchange one that was found to be theirs.
    seen = host.Seen()
    for path in sorted(paths):
        try:
            host.resolve_owned(os.path.abspath(path), owners, seen)
        except (host.UntrustedPath, OSError) as error:
            raise SelfCheckError(
                f"others can change the code of this daemon: {path}: {error}: "
                "install it where only root can write"
            ) from error


def can_be_made(directory: str) -> None:
    """Raise OSError if no file can be made in this directory: only a try can tell."""
    probe = os.path.join(directory, f".rootwrap-daemon-{os.getpid()}")
    os.close(os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    os.unlink(probe)


def capabilities() -> frozenset[int]:
    """The numbers of the capabilities that this process has: capabilities(7)."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:
        for line in file:
            if line.startswith("CapEff:"):
                bits = int(line.split()[1], 16)
                return frozenset(number for number in range(bits.bit_length()) if bits >> number & 1)
    return frozenset()


def check_interpreter() -> None:
    """Refuse an interpreter that would not take bytes for what they are. Raises SelfCheckError."""
    if sys.getfilesystemencoding() != "utf-8" or sys.getfilesystemencodeerrors() != "surrogateescape":
        raise SelfCheckError("file names are not UTF-8 here: start with LC_ALL=C.UTF-8 or python3 -X utf8")
