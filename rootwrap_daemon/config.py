"""The daemon's options, declared once as data -> Settings.

Promises: configuration comes from the files given, whose faults are ConfigurationErrors; nothing of the
caller (environment, home directory, other files) is read. Imports oslo.config alone.
"""

import math
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Final

from oslo_config import cfg

from rootwrap_daemon.errors import ConfigurationError
from rootwrap_daemon.protocol.messages import MAX_DESCRIPTORS, MAX_OUTPUT_BYTES, MAX_TIMEOUT

#: What the default limits on connections and commands need, and what no program has too little of.
DEFAULT_NOFILE: Final = 8192

OPTS: Final[list[cfg.Opt]] = [
    cfg.ListOpt(
        "filters_path",
        default=["/etc/rootwrap-daemon/filters.d"],
        help="Directories of filter files (*.filters), in order. Absolute paths.",
    ),
    cfg.ListOpt(
        "exec_dirs",
        default=["/sbin", "/usr/sbin", "/bin", "/usr/bin"],
        help="Directories to look for programs in, and the PATH of every command. Absolute paths.",
    ),
    cfg.StrOpt(
        "on_finding",
        default="stop",
        choices=[
            ("stop", "The daemon does not start, or keeps the rules it has, when any filter has an error."),
            ("skip", "Filters with an error are left out, each logged: to move over from oslo.rootwrap."),
        ],
        help="What an error in a filter file does.",
    ),
    cfg.StrOpt(
        "socket_path",
        default="/run/rootwrap-daemon/rootwrap-daemon.sock",
        help="Where to listen: a Unix stream socket. Its directory must exist.",
    ),
    cfg.StrOpt("socket_mode", default="0660", help="Permissions of the socket, octal."),
    cfg.StrOpt("socket_group", help="Group of the socket: a name or number. Default: the daemon's own."),
    cfg.ListOpt(
        "allowed_users",
        default=["root"],
        help="Users (names or numbers) that may send requests, whatever the socket's permissions.",
    ),
    cfg.ListOpt("allowed_groups", default=[], help="Groups whose members may send requests."),
    cfg.ListOpt(
        "trusted_owners",
        default=["root"],
        help="Users that may own programs, filter files and their directories. None of them but root may be "
        "an allowed user.",
    ),
    cfg.ListOpt(
        "capabilities",
        help="The capabilities that the daemon keeps, e.g. CAP_NET_ADMIN; its commands get no others. "
        "Default: all that it was started with.",
    ),
    cfg.StrOpt(
        "audit_file",
        default="",
        help="File for the audit records, one JSON object a line, opened anew at SIGHUP; or `journal`: the "
        "systemd journal, as fields ROOTWRAP_*. Default: standard error.",
    ),
    cfg.StrOpt(
        "audit",
        default="required",
        choices=[
            ("required", "Nothing runs unless its record could be written before."),
            ("best_effort", "A record that cannot be written is only logged."),
        ],
        help="How much an audit record is worth.",
    ),
    cfg.StrOpt(
        "state_dir",
        default="",
        help="Directory, of this daemon alone, to note in which commands run: after a crash the next start "
        "ends those whose filter does not say `on_stop = leave`. Best below /run: a note is of use until the "
        "system starts again. Default: nothing is noted, and such commands run on.",
    ),
    cfg.StrOpt(
        "status_group",
        help="Group (name or number) whose members may ask for the status, beside root. Default: none.",
    ),
    cfg.IntOpt(
        "daemon_timeout",
        default=600,
        min=0,
        help="Seconds after which a connection without requests is closed; 0: never. "
        "(oslo.rootwrap's daemon ends itself then; this one is a service.)",
    ),
    cfg.IntOpt(
        "rlimit_nofile",
        default=DEFAULT_NOFILE,
        min=-1,
        help="Open files (soft limit) of the daemon and of every command; less than the default is raised to "
        "it, since oslo.rootwrap lowers its own limit for a reason that is gone. Where the hard limit is "
        "less, the limits on connections and commands shrink to fit.",
    ),
    cfg.IntOpt("max_connections", default=1024, min=1, max=65536, help="Connections in all."),
    cfg.IntOpt(
        "max_connections_per_user",
        default=512,
        min=1,
        help="Connections of one user; past it the user's oldest idle one makes room.",
    ),
    cfg.IntOpt("max_commands", default=360, min=1, max=65536, help="Commands running at once, in all."),
    cfg.IntOpt("max_commands_per_user", default=256, min=1, help="Commands of one user running at once."),
    cfg.IntOpt(
        "max_output",
        default=16 * 1024 * 1024,
        min=1,
        max=MAX_OUTPUT_BYTES,
        help="Bytes of stdout and stderr together that one command may have captured.",
    ),
    cfg.IntOpt(
        "max_buffered",
        default=256 * 1024 * 1024,
        min=1024 * 1024,
        help="Bytes of requests and output that the daemon holds in all.",
    ),
    cfg.FloatOpt(
        "command_timeout",
        default=3600.0,
        min=0.1,
        max=float(MAX_TIMEOUT),
        help="Seconds that a command may run; a request may ask for less.",
    ),
    cfg.ListOpt(
        "signals",
        # What programs take for a request. Not QUIT or ABRT, which leave a core file of root's memory, and
        # not STOP, which leaves a command that holds its locks.
        default=["HUP", "INT", "TERM", "KILL", "USR1", "USR2"],
        help="Signals that a client may send to a command that it started with descriptors of its own.",
    ),
    cfg.FloatOpt("kill_grace", default=5.0, min=0.0, max=600.0, help="Seconds between SIGTERM and SIGKILL."),
    cfg.FloatOpt(
        "drain_timeout",
        default=30.0,
        min=0.0,
        max=3600.0,
        help="Seconds that commands get to end by themselves when the daemon stops.",
    ),
    cfg.FloatOpt(
        "request_timeout",
        default=10.0,
        min=0.1,
        max=3600.0,
        help="Seconds that a client may take to say hello, to complete a request or to read an answer.",
    ),
]

#: The options of oslo.rootwrap's own log lines: oslo.log has the first two under the same names.
LOG_OPTS: Final[list[cfg.Opt]] = [
    cfg.StrOpt(
        "syslog_log_level",
        default="INFO",
        choices=["DEBUG", "INFO", "WARNING", "WARN", "ERROR", "CRITICAL"],
        ignore_case=True,
        help="The least severe lines that the daemon logs.",
    ),
]


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    """The options by group, for oslo-config-generator."""
    return [("DEFAULT", [*OPTS, *LOG_OPTS])]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The options as values; the help texts of OPTS say what each is, and its unit."""

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


def new_conf(
    config_file: str, register: Callable[[cfg.ConfigOpts], None], drop_ins: Sequence[str] = ()
) -> cfg.ConfigOpts:
    """A ConfigOpts that has read `config_file`, then `drop_ins`, and nothing else. Raises ConfigurationError.

    `register` adds the options of another library, which must be known before a file is read.
    """
    conf = cfg.ConfigOpts()
    register(conf)
    conf.register_opts(OPTS)
    conf.register_opts(LOG_OPTS)
    try:
        # Each argument closes a way in: $HOME/.rootwrap-daemon/, /etc/..., OS_DEFAULT__* variables.
        conf(
            args=[],
            project="rootwrap-daemon",
            default_config_files=[config_file, *drop_ins],
            default_config_dirs=[],
            use_env=False,
        )
    except (cfg.Error, OSError, ValueError) as error:
        raise ConfigurationError(f"{config_file}: {error}") from error
    return conf


def read_settings(conf: cfg.ConfigOpts) -> Settings:
    """The options of a file as Settings. Raises ConfigurationError that names the option."""
    values: dict[str, Any] = {}
    for field in fields(Settings):
        try:
            value = conf[field.name]
        except (cfg.Error, ValueError) as error:
            raise ConfigurationError(f"{field.name}: {error}") from error
        if value is None and field.name not in ("socket_group", "status_group", "capabilities"):
            raise ConfigurationError(f"{field.name} is empty: write a value, or take it out")
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigurationError(f"{field.name}: {value} is no number of seconds")
        values[field.name] = tuple(value) if isinstance(value, list) else value
    for name in ("filters_path", "exec_dirs"):
        for path in values[name]:
            if not _is_plain_absolute(path):
                raise ConfigurationError(f"{name}: {path!r} is not an absolute path without `..`: write one")
        if not values[name]:
            raise ConfigurationError(f"{name} is empty: name at least one directory")
    for name in ("socket_path", "audit_file", "state_dir"):
        named = name == "audit_file" and values[name] == "journal"
        if values[name] and not named and not _is_plain_absolute(values[name]):
            raise ConfigurationError(
                f"{name}: {values[name]!r} is not an absolute path without `..`: write one"
            )
    values["signals"] = frozenset(_signal(name) for name in values["signals"])
    mode = values["socket_mode"]
    if not mode.isascii() or not mode.isdigit() or set(mode) - set("01234567") or int(mode, 8) > 0o777:
        raise ConfigurationError(f"socket_mode: {mode!r} is not an octal mode: write e.g. 0660")
    values["socket_mode"] = int(mode, 8)
    values["rlimit_nofile"] = max(values["rlimit_nofile"], DEFAULT_NOFILE)
    return Settings(**values)


def _signal(name: str) -> int:
    try:
        return signal.Signals[f"SIG{name.removeprefix('SIG')}"].value
    except KeyError:
        raise ConfigurationError(f"signals: there is no {name!r}: write e.g. HUP, TERM") from None


#: Descriptors of one connection (with those that a client may have passed), of one running command (three
#: pipes, a pidfd, and four more while it is spawned), and of the daemon itself.
_PER_CONNECTION: Final = 1 + MAX_DESCRIPTORS
_PER_COMMAND: Final = 8
_OWN: Final = 64


def fit(settings: Settings, nofile: int) -> Settings:
    """The settings with connections and commands so bounded that `nofile` descriptors are enough."""
    room = nofile - _OWN
    wanted = settings.max_connections * _PER_CONNECTION + settings.max_commands * _PER_COMMAND
    if wanted <= room:
        return settings
    share = max(room, 0) / wanted
    return replace(
        settings,
        max_connections=max(1, int(settings.max_connections * share)),
        max_connections_per_user=max(1, int(settings.max_connections_per_user * share)),
        max_commands=max(1, int(settings.max_commands * share)),
        max_commands_per_user=max(1, int(settings.max_commands_per_user * share)),
    )


def _is_plain_absolute(path: str) -> bool:
    return (
        os.path.isabs(path)
        and ".." not in path.split("/")
        and path.isprintable()
        # A colon would split PATH; nothing that a service uses has one in its path.
        and ":" not in path
    )
