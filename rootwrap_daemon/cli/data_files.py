"""Find the files that come with the package under etc/: units, drop-ins, samples.

Promises: the text of a file that only root can change.
"""

import functools
import os
import sys
from importlib import metadata
from pathlib import Path
from typing import Final

from rootwrap_daemon.errors import ConfigurationError
from rootwrap_daemon.policy import host
from rootwrap_daemon.policy.read import owned

#: Where setup.cfg puts them, below the prefix of the installation.
_SHARE: Final = "share/rootwrap-daemon/"


@functools.cache
def _files() -> tuple[metadata.PackagePath, ...]:
    """Return the files of the installation by its own list; none in a distribution's package."""
    return tuple(metadata.distribution("rootwrap-daemon").files or ())


def path(name: str) -> str:
    """Return the path of `name`, relative to etc/ of the source: in an installation's share, or the checkout.

    What lies in rootwrap-daemon/ there lies in the share itself. Raises ConfigurationError.
    """
    shared = _SHARE + name.removeprefix("rootwrap-daemon/")
    listed = [file for file in _files() if str(file).endswith(shared)]
    # A distribution's package has moved what is listed, or lists nothing; a checkout has none.
    places = [*(Path(str(file.locate())) for file in listed), Path(sys.prefix) / shared]
    for found in (*places, Path(__file__).parents[2] / "etc" / name):
        if found.is_file():
            return os.path.realpath(found)
    raise ConfigurationError(f"this installation has no {name}: install rootwrap-daemon anew")


def has_manual() -> bool:
    """True if man(1) may find the pages: a distribution's package, which lists nothing, has them."""
    try:
        return not _files() or any("share/man/man" in str(one) for one in _files())
    except metadata.PackageNotFoundError:
        return False


def manual_pages() -> list[str]:
    """The paths of the manual pages that this installation has; none where nobody made them."""
    found = [os.path.realpath(str(one.locate())) for one in _files() if "share/man/man" in str(one)]
    # Where a distribution's package has moved them, they are where man(1) looks.
    made = (Path(__file__).parents[2] / "doc/build/man").glob("*.[158]")
    return sorted(filter(os.path.isfile, found) if found else map(str, made))


def text(name: str) -> str:
    """Its content. Raises ConfigurationError."""
    return read(path(name))


def read(where: str) -> str:
    """The content of the file with this path. Raises ConfigurationError."""
    try:
        owners = host.base_owners()
    except OSError as error:
        raise ConfigurationError(f"{error.filename}: {error.strerror}: is /proc mounted here?") from error
    try:
        with open(owned.open_owned(where, owners), encoding="utf-8") as file:
            return file.read()
    except (OSError, host.UntrustedPath) as error:
        raise ConfigurationError(f"{where}: {error}: it must be a file that only root can write") from error
