"""Check that nobody but trusted owners can change the code of this process."""

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
            # No command of an agent's has made the links of this installation: a checkout below /tmp will do.
            host.resolve_owned(os.path.abspath(path), owners, seen, below_sticky=True)
        except (host.UntrustedPath, OSError) as error:
            raise SelfCheckError(
                f"others can change the code of this daemon: {path}: {error}: "
                "install it where only root can write"
            ) from error
