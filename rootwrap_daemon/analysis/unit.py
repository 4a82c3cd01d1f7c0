"""Read an instance's service: its unit and its drop-ins, as systemd.unit(5) looks for them.

Promises: asks no service manager, so it answers for a unit that does not run, too.
"""

import os
from pathlib import Path
from typing import Final

from rootwrap_daemon.lint.knowledge import confinement

#: Where units are, the first first.
_PLACES: Final = tuple(
    f"{place}/systemd/system" for place in ("/etc", "/run", "/usr/local/lib", "/usr/lib", "/lib")
)
#: The directory of configurations -> the name of an instance.
_CONFIGS: Final = "/etc/rootwrap-daemon"


def instance_of(config_file: str) -> str | None:
    """The instance that has this configuration, None if it is that of none."""
    directory, name = os.path.split(os.path.abspath(config_file))
    return name.removesuffix(".conf") if directory == _CONFIGS and name.endswith(".conf") else None


def taken_by(config_file: str) -> dict[str, tuple[str, ...]]:
    """As `taken`, of the instance that has this configuration; nothing where none has."""
    name = instance_of(config_file)
    return taken(name) if name else {}


def taken(instance: str, root: str = "") -> dict[str, tuple[str, ...]]:
    """Return what the unit of an instance takes from its commands. Raises OSError."""
    own, template = f"rootwrap-daemon@{instance}.service", "rootwrap-daemon@.service"
    places = [root + place for place in _PLACES]
    found = (f"{place}/{name}" for name in (own, template) for place in places)
    unit = next((path for path in found if os.path.isfile(path)), None)
    if unit is None:
        return {}
    # Of two drop-ins of one name, the one in the first place counts, and of one place the more special.
    drop_ins: dict[str, str] = {}
    for directory in [f"{place}/{name}.d" for name in (own, template, "service") for place in places]:
        for name in os.listdir(directory) if os.path.isdir(directory) else ():
            if name.endswith(".conf"):
                drop_ins.setdefault(name, f"{directory}/{name}")
    paths = (unit, *(path for _, path in sorted(drop_ins.items())))
    return confinement.taken(Path(path).read_text("utf-8", "surrogateescape") for path in paths)
