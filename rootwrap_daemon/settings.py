"""Hold the daemon's options as values.

Promises: no oslo library is imported, so that policy/ and the process that serves can use it.
"""

from dataclasses import dataclass
from typing import Final

#: What the default limits on connections and commands need, and what no program has too little of.
DEFAULT_NOFILE: Final = 8192
#: Bytes of a configuration or filter file. The largest of the filter files known is 14 KiB.
MAX_FILE: Final = 4 * 1024 * 1024

#: What a daemon takes from its configuration once, when it starts; a reload does not change it.
AT_START: Final = (
    *"socket_path socket_mode socket_group capabilities audit_file audit state_dir cgroups".split(),
    "rlimit_nofile",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The options as values; the help texts in config_options.OPTS say what each is, and its unit."""

    filters_path: tuple[str, ...]
    exec_dirs: tuple[str, ...]
    on_finding: str
    socket_path: str
    socket_mode: int
    socket_group: str | None
    allowed_users: tuple[str, ...]
    allowed_groups: tuple[str, ...]
    trusted_owners: tuple[str, ...]
    capabilities: tuple[str, ...] | None
    audit_file: str
    audit: str
    state_dir: str
    cgroups: str
    status_group: str | None
    daemon_timeout: int
    rlimit_nofile: int
    max_connections: int
    max_connections_per_user: int
    max_commands: int
    max_commands_per_user: int
    max_output: int
    max_buffered: int
    command_timeout: float
    signals: frozenset[int]
    kill_grace: float
    drain_timeout: float
    request_timeout: float
