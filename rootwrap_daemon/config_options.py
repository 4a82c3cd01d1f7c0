"""Declare the options of a daemon's configuration, once, as data for oslo.config and its sample generator."""

from typing import Final

from oslo_config import cfg

from rootwrap_daemon import DEFAULT_SOCKET
from rootwrap_daemon.protocol.messages import MAX_OUTPUT_BYTES, MAX_TIMEOUT
from rootwrap_daemon.settings import DEFAULT_NOFILE

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
        default=DEFAULT_SOCKET,
        help="Where to listen: a Unix stream socket. Its directory must exist.",
    ),
    cfg.StrOpt("socket_mode", default="0660", help="Permissions of the socket, octal."),
    cfg.StrOpt("socket_group", help="Group of the socket: a name or number. Default: the daemon's own."),
    cfg.ListOpt(
        "allowed_users",
        default=["root"],
        help="Users (names or numbers) that may send requests, whatever the socket's permissions. One who is "
        "not known yet is looked for when somebody connects.",
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
        help="File for the audit records, one JSON object a line, opened anew when its name means another: "
        "a regular one, but with `audit = best_effort`; "
        "or `journal`: the systemd journal, as fields ROOTWRAP_*, which may drop some: only with `audit = "
        "best_effort`. Default: standard error.",
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
        "cgroups",
        default="auto",
        choices=[
            ("auto", "Where the service manager delegates one of v2 (Delegate=yes), with the native shim."),
            ("off", "Never: a command that is the first for a while starts some 10 ms earlier."),
        ],
        help="Control groups, one for each command: a deadline, a cancel or a stop ends all that it has "
        "started, and its end is recorded with the processor time of all of that.",
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
